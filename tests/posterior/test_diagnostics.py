import numpy as np
import pandas as pd
import pytest
import xarray as xr

from nnmm_jax.posterior import diagnostics as checks


def quantities(result):
    return set(result.diagnostics()["quantity"])


def test_diagnostics__columns_and_identified_quantities(make_result):
    table = make_result(nodes=2, individuals=3, skip=True).diagnostics()
    assert list(table.columns) == ["quantity", "r_hat", "ess_bulk", "ess_tail"]
    assert {
        "var_residual_trait",
        "var_direct",
        "h2_trait",
        "fixed_trait[Intercept]",
        "fixed_trait[sex[M]]",
        "node_effect[omic_0]",
        "fixed_omics[omic_1, Intercept]",
        "h2_node[omic_1]",
        "ebv[id0000]",
        "epv[id0002]",
    } <= set(table["quantity"])
    assert table.notna().all(axis=None)
    assert table["quantity"].is_unique


def test_diagnostics__nothing_of_latent_nodes(make_result):
    names = quantities(make_result(nodes=2, latent=2, individuals=3))
    assert not [name for name in names if "latent" in name]
    assert "node_effect[omic_1]" in names
    # The mean of a latent node and the trait's intercept can be exchanged.
    assert "fixed_trait[Intercept]" not in names
    assert "fixed_trait[sex[M]]" in names


def test_diagnostics__hyperparameters_but_not_those_shared_with_latent_nodes(make_result):
    def chosen(latent):
        result = make_result(nodes=2, latent=latent, individuals=3, bayesc=True, skip=True)
        return {name for name in quantities(result) if name.startswith(("pi_", "var_marker"))}

    of_markers = {
        f"{name}[omic_{i}]" for name in ("pi_marker", "var_marker_effect") for i in (0, 1)
    }
    assert chosen(0) == of_markers | {"pi_node", "pi_skip"}
    assert chosen(1) == of_markers | {"pi_skip"}


def test_diagnostics__groups_of_markers_and_random_terms_are_judged(make_result):
    names = quantities(make_result(nodes=1, latent=1, individuals=3, terms=True, groups=True))
    assert {
        "var_polygenic",
        "var_random_trait_pen",
        "var_random_node_pedigree[omic_0]",
        "var_marker_effect_cis[omic_0]",
        "lambda2_marker_effect_trans[omic_0]",
        "weights_marker_cis[omic_0, 1]",
    } <= names
    assert not [name for name in names if "latent" in name]


@pytest.mark.parametrize("symbol", ["var", "scale", "lambda2"])
def test_diagnostics__whatever_governs_node_effects_is_shared_with_latent_nodes(
    make_result, symbol
):
    def chosen(latent):
        result = make_result(nodes=1, latent=latent, individuals=3)
        variance = result.posterior["var_node_effect"]
        posterior = result.posterior.drop_vars("var_node_effect").assign(
            {
                f"{symbol}_node_effect": variance,
                "pi_node": variance,
                "weights_node": variance.expand_dims(component_node=3, axis=2),
            }
        )
        return {str(name) for name in checks.identified(posterior, result.latent)}

    governing = {f"{symbol}_node_effect", "pi_node", "weights_node"}
    assert chosen(0) - chosen(1) == governing


def test_diagnostics__parameters_of_a_function_unless_a_node_is_latent(make_result):
    def chosen(latent):
        result = make_result(nodes=2, latent=latent, individuals=3)
        posterior = result.posterior.assign(theta_V=result.posterior["h2_trait"])
        return {str(name) for name in checks.identified(posterior, result.latent)}

    assert "theta_V" in chosen(0)
    assert "theta_V" not in chosen(1)


def test_diagnostics__without_a_middle_layer(make_result):
    names = quantities(make_result(layer=False, individuals=3, skip=True, terms=True))
    assert {"h2_trait", "fixed_trait[Intercept]", "var_polygenic", "ebv[id0000]"} <= names
    assert not [name for name in names if "node" in name]


def test_diagnostics__leaves_out_what_never_varies(make_result):
    result = make_result(individuals=3)
    assert "var_direct" not in quantities(result)  # no skip prior: zero in every draw
    result.posterior["h2_trait"][:] = 0.5
    table = checks.diagnostics(result.posterior, result.latent)
    assert "h2_trait" not in set(table["quantity"])


def test_diagnostics__keeps_chains_stuck_at_different_values(make_result):
    result = make_result(individuals=3)
    result.posterior["h2_trait"][:] = np.linspace(0.1, 0.4, 4)[:, None, None]
    table = checks.diagnostics(result.posterior, result.latent).set_index("quantity")
    assert table.loc["h2_trait", "r_hat"] > 1000


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_diagnostics__not_finite_draws_give_nan(make_result, bad):
    result = make_result(individuals=3)
    result.posterior["h2_trait"][2, 7] = bad
    table = checks.diagnostics(result.posterior, result.latent).set_index("quantity")
    assert table.loc["h2_trait"].isna().all()
    assert table.drop(index="h2_trait").notna().all(axis=None)


def test_diagnostics__ebv_is_the_total(make_result):
    result = make_result(individuals=3, skip=True, terms=True)
    chosen = checks.identified(result.posterior, result.latent)
    total = result.posterior["ebv_mediated"] + result.posterior["ebv_direct"]
    total = total + result.posterior["ebv_polygenic"]
    np.testing.assert_array_equal(chosen["ebv"], total)


@pytest.mark.parametrize("count", [1, 2, 499, 500, 501, 776, 20_000])
def test_spaced_individuals(count):
    rows = checks.spaced_individuals(count)
    assert len(rows) == min(count, 500)
    assert rows[0] == 0
    assert rows[-1] == count - 1
    if count > 1:
        steps = np.diff(rows)
        assert steps.max() - steps.min() <= 1


def test_diagnostics__of_many_individuals_judges_500(make_result):
    result = make_result(individuals=600, nodes=1, chains=2, draws=4)
    names = [name for name in result.diagnostics()["quantity"] if name.startswith("ebv[")]
    assert len(names) == 500
    assert names[-1] == "ebv[id0599]"


def test_label_names_the_trait_only_among_several():
    where = {"node": "a", "trait": "y"}
    assert checks.label("node_effect", where, 1) == "node_effect[a]"
    assert checks.label("node_effect", where, 2) == "node_effect[a, y]"
    assert checks.label("h2_trait", {"trait": "y"}, 1) == "h2_trait"


GOOD = pd.DataFrame(
    {
        "quantity": ["h2_trait", "ebv[a]"],
        "r_hat": [1.0, 1.01],
        "ess_bulk": [900.0, 400.0],
        "ess_tail": [400.0, 800.0],
    }
)
FINE = xr.Dataset(
    {
        "accept_prob": (("chain", "draw"), np.full((2, 3), 0.6)),
        "diverging": (("chain", "draw"), np.zeros((2, 3), dtype=int)),
        "non_finite": (("chain", "draw"), np.zeros((2, 3), dtype=int)),
        "cg_failed": (("chain", "draw"), np.zeros((2, 3), dtype=int)),
    }
)


def test_no_warning_at_the_limits():
    assert checks.convergence_warning(GOOD, FINE) is None


@pytest.mark.parametrize(
    ("row", "column", "value", "expected"),
    [
        (1, "r_hat", 1.5, "R-hat 1.500 of ebv[a] (limit 1.01; 1 of 2 quantities above it)"),
        (0, "r_hat", np.inf, "R-hat inf of h2_trait (limit 1.01; 1 of 2 quantities above it)"),
        (0, "ess_bulk", 33.0, "ESS 33 of h2_trait (limit 400; 1 of 2 quantities below it)"),
        (1, "ess_tail", 12.0, "ESS 12 of ebv[a] (limit 400; 1 of 2 quantities below it)"),
    ],
)
def test_warning_names_the_worst_quantity(row, column, value, expected):
    table = GOOD.copy()
    table.loc[row, column] = value
    assert checks.convergence_warning(table, FINE) == f"not converged: {expected}"


def test_warning_without_r_hat():
    table = GOOD.assign(r_hat=np.nan)
    assert "R-hat is not defined" in checks.convergence_warning(table, FINE)


def test_warning_of_undefined_quantities():
    table = GOOD.copy()
    table.loc[1, ["r_hat", "ess_bulk", "ess_tail"]] = np.nan
    assert checks.convergence_warning(table, FINE) == (
        "not converged: 1 of 2 quantities with undefined R-hat or ESS, first ebv[a]"
    )


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("accept_prob", 0.1, "HMC acceptance 0.43 in chain 1 (limit 0.6)"),
        ("accept_prob", np.nan, "HMC acceptance nan in chain 1 (limit 0.6)"),
        ("diverging", 4, "4 divergent HMC moves of missing omics"),
        ("non_finite", 2, "2 non-finite values"),
        ("cg_failed", 3, "3 conjugate-gradient solves of random terms did not converge"),
    ],
)
def test_warning_of_the_sampler(name, value, expected):
    stats = FINE.copy(deep=True)
    stats[name][1, 2] = value
    assert checks.convergence_warning(GOOD, stats) == f"not converged: {expected}"


def test_warning_joins_all_problems_in_one_line():
    stats = FINE.copy(deep=True)
    stats["diverging"][0, 0] = 1
    warning = checks.convergence_warning(GOOD.assign(r_hat=1.2), stats)
    assert warning.count(";") == 2  # one inside the note on R-hat
    assert "\n" not in warning


def test_result_without_hmc_has_no_hmc_warning(make_result):
    result = make_result(individuals=3, nodes=1, draws=400)
    assert "accept_prob" not in result.sample_stats
    assert result.convergence_warning is None
