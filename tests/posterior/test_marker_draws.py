import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest

from nnmm_jax.errors import InputError
from nnmm_jax.posterior.fit_genotypes import read_fit_genotypes
from nnmm_jax.posterior.marker_draws import marker_draws


def draws_of(case, **options):
    genotypes = read_fit_genotypes(case.result, case.genotypes)
    return marker_draws(case.result, genotypes, **options)


def genetic_values(case):
    """Mean of the nodes given the genotype, (sample, node, individual), in units of the nodes."""
    codes = case.genotypes.codes.astype(float)
    codes[codes < 0] = np.nan
    centred = np.nan_to_num(codes - np.nanmean(codes, axis=0))
    found = case.result.parameters
    return found["node_base"].values[..., None] + found["marker_effect"].values @ centred.T


def standardised(case):
    """The same on the internal scale, with the residual sd (sample, node, 1)."""
    constant, found = case.result.constant_data, case.result.parameters
    mean, sd = (constant[f"node_{one}"].values[:, None] for one in ("mean", "sd"))
    residual = np.sqrt(found["var_residual_node"].values)[..., None] / sd
    return (genetic_values(case) - mean) / sd, residual


def test_slopes_of_a_linear_network_are_node_effects(make_case):
    case = make_case()
    draws = draws_of(case)
    np.testing.assert_array_equal(draws.slope, case.result.parameters["node_effect"].values)
    assert draws.responses == ("omic_0", "omic_1", "omic_2", "y (direct)", "y (total)")


def test_total_effects_are_sums_over_all_paths(make_case):
    case = make_case()
    draws, found = draws_of(case), case.result.parameters
    by_hand = found["skip_effect"].values.astype(float)
    for node in range(3):
        by_hand = by_hand + (
            found["marker_effect"].values[:, node] * found["node_effect"].values[:, node, None]
        )
    np.testing.assert_allclose(draws.effects("y (total)"), by_hand, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(
        draws.effects("omic_1"), found["marker_effect"].sel(node="omic_1").values
    )


def test_slopes_of_tanh_are_the_expected_derivative(make_case):
    case = make_case(activation="tanh", individuals=40)
    slope = draws_of(case).slope
    mean, sd = standardised(case)
    points, weights = np.polynomial.hermite_e.hermegauss(41)
    derivative = sum(
        weight / np.sqrt(2 * np.pi) / np.cosh(mean + sd * point) ** 2
        for point, weight in zip(points, weights, strict=True)
    ).mean(axis=2)
    by_unit = (
        case.result.parameters["node_effect"].values / case.result.constant_data["node_sd"].values
    )
    np.testing.assert_allclose(slope, by_unit * derivative, rtol=2e-3, atol=1e-5)


def test_slopes_of_a_function_of_all_nodes(make_case):
    def product(z):
        return z[0] * z[1] + 3.0 * z[2]

    case = make_case(activation="product", individuals=40)
    parameters = case.result.parameters.drop_vars("node_effect")
    result = dataclasses.replace(case.result, parameters=parameters)
    result.constant_data["node_order"] = (("node",), np.arange(3))
    slope = draws_of(case._replace(result=result), activation=product).slope
    values = genetic_values(case).mean(axis=2)
    by_hand = np.stack([values[:, 1], values[:, 0], np.full(len(values), 3.0)], axis=1)
    np.testing.assert_allclose(slope, by_hand, rtol=1e-3, atol=1e-3)


def test_latent_nodes_are_as_reported(make_case):
    case = make_case(latent=3)
    result = case.result
    parameters = result.parameters
    expected = draws_of(case)
    mixed = {name: parameters[name].values.copy() for name in ("marker_effect", "node_effect")}
    rng = np.random.default_rng(5)
    for sample in range(parameters.sizes["sample"]):
        order = np.r_[:3, 3 + rng.permutation(3)]
        sign = np.where(np.arange(6) < 3, 1.0, rng.choice([-1.0, 1.0], 6))
        mixed["node_effect"][sample] = sign * mixed["node_effect"][sample, order]
        mixed["marker_effect"][sample] = sign[:, None] * mixed["marker_effect"][sample, order]
    moved = parameters.assign(
        marker_effect=(("sample", "node", "marker"), mixed["marker_effect"]),
        node_effect=(("sample", "node"), mixed["node_effect"]),
    )
    found = draws_of(case._replace(result=dataclasses.replace(result, parameters=moved)))
    assert not np.array_equal(found.slope, mixed["node_effect"])
    np.testing.assert_allclose(found.slope, expected.slope, rtol=1e-6)
    effective = (expected.slope != 0)[..., None]  # of a node without effect nothing says which
    np.testing.assert_allclose(found.on_nodes * effective, expected.on_nodes * effective, rtol=1e-6)
    np.testing.assert_allclose(found.mediated, expected.mediated, rtol=1e-3, atol=1e-5)


def test_trait_without_a_middle_layer_has_direct_effects_only(make_case):
    draws = draws_of(make_case(layer=False))
    assert draws.responses == ("y (direct)",)
    assert draws.on_nodes.shape[1] == 0


def test_draws__raises_where_none_were_kept(make_case):
    case = make_case()
    bare = dataclasses.replace(case.result, parameters=case.result.parameters[["from_chain"]])
    with pytest.raises(InputError, match="the fit kept no marker effects"):
        draws_of(case._replace(result=bare))


def test_draws__raises_without_the_function_of_the_fit(make_case):
    with pytest.raises(InputError, match="expected the function uptake of the fit, found none"):
        draws_of(make_case(activation="uptake"))


def test_draws__raises_on_a_function_that_is_not_wanted(make_case):
    with pytest.raises(InputError, match="needs no function"):
        draws_of(make_case(), activation=jnp.tanh)
