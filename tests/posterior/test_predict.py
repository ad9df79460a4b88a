"""Predictions against the fit's own draws, and against NumPy loops over the stored parameters."""

import dataclasses
import warnings

import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pandas as pd
import pytest

import nnmm_jax as nm
from nnmm_jax.data import read_dosages, write_dosages
from nnmm_jax.errors import InputError
from nnmm_jax.posterior import predict as module
from nnmm_jax.posterior.new_data import read_new_data

COLUMNS = "id ebv ebv_sd ebv_mediated ebv_direct epv epv_sd y_pred y_pred_sd".split()
FITTED = 60  # individuals of the fits; the others are new
SHORT = {"warmup": 100, "samples": 100, "seed": 3, "progress": False}


@pytest.fixture(scope="module")
def tables():
    """Complete tables of 80 individuals, some genotypes missing."""
    sizes = nm.SimulationSettings(
        individuals=80, markers=25, omics=3, without_omics=0, missing_cells=0, without_phenotype=0
    )
    data = nm.simulate(sizes, seed=5).dataset()
    index = pd.Index(data.ids, name="id")
    genotypes = pd.DataFrame(data.genotypes, index, data.markers).astype(float)
    genotypes = genotypes.mask(np.random.default_rng(1).random(genotypes.shape) < 0.05)
    omics = pd.DataFrame(100 + 3 * data.omics, index, ["leaf", "root", "seed"])
    return genotypes, omics, pd.DataFrame({"y": data.phenotype}, index)


def old(frames):
    return [frame.iloc[:FITTED] for frame in frames]


@pytest.fixture(scope="module")
def young(tables):
    """Genotypes of new individuals, and omics of some, one column and some cells missing."""
    genotypes, omics, _ = tables
    omics = omics[["seed", "leaf"]].iloc[FITTED + 10 :].copy()
    omics.iloc[:3, 0] = np.nan
    return genotypes.iloc[FITTED:], omics


# Hyperparameters that do not depend on which other individuals there are.
LINEAR = nm.Network(
    marker_prior=nm.RRBLUP(variance=0.2),
    node_prior=nm.RRBLUP(variance=1.0),
    skip_prior=nm.RRBLUP(variance=1.0),
)


@pytest.fixture(scope="module")
def linear(tables):
    return nm.fit(nm.read_dataset(*old(tables), "y"), LINEAR, chains=8, **SHORT)


@pytest.fixture(scope="module")
def bent(tables):
    """tanh, two blocks, a latent node, skip connection; half of the individuals without omics."""
    genotypes, omics, phenotypes = old(tables)
    blocks = [nm.Block("one", ["root", "leaf"]), nm.Block("two", latent=1, marker_prior="RR-BLUP")]
    network = nm.Network(activation="tanh", blocks=blocks, skip_prior="BayesC")
    data = nm.read_dataset(genotypes, omics.iloc[::2], phenotypes, "y")
    return nm.fit(data, network, chains=2, **SHORT)


def uptake(z, theta):
    return theta["V"] * z[0] / (theta["K"] + jnp.exp(z[1] / 100))


@pytest.fixture(scope="module")
def combined(tables):
    genotypes, omics, phenotypes = old(tables)
    priors = {"V": dist.LogNormal(0.0, 1.0), "K": dist.LogNormal(0.0, 1.0)}
    data = nm.read_dataset(genotypes, omics[["leaf", "root"]].iloc[::2], phenotypes, "y")
    network = nm.Network(activation=uptake, theta=priors, marker_prior="RR-BLUP")
    return nm.fit(data, network, chains=2, **SHORT)


def with_settings(result, **settings):
    run = {**result.run, "settings": {**result.run["settings"], **settings}}
    return dataclasses.replace(result, run=run)


def snapshots(result, name):
    """Draws (sample, individual) that belong to the stored parameter sets."""
    chosen = [result.parameters[f"from_{dim}"] for dim in ("chain", "draw")]
    return result.posterior[name].squeeze("trait").isel(chain=chosen[0], draw=chosen[1]).values


def test_own_individuals_have_the_fits_values_in_the_same_draws(linear, tables):
    genotypes, omics, _ = old(tables)
    found = linear.predict(genotypes, omics)
    assert list(found.columns) == COLUMNS
    assert list(found["id"]) == list(genotypes.index)
    mediated, direct, epv, y = (
        snapshots(linear, name) for name in ("ebv_mediated", "ebv_direct", "epv", "y_mean")
    )
    residual = linear.parameters["var_residual_trait"].values.mean()
    expected = {
        "ebv": (mediated + direct).mean(axis=0),
        "ebv_sd": (mediated + direct).std(axis=0, ddof=1),
        "ebv_mediated": mediated.mean(axis=0),
        "ebv_direct": direct.mean(axis=0),
        "epv": epv.mean(axis=0),
        "epv_sd": epv.std(axis=0, ddof=1),
        "y_pred": y.mean(axis=0),
        "y_pred_sd": np.sqrt(y.var(axis=0, ddof=1) + residual),
    }
    rounding = 1e-4 * linear.constant_data["trait_sd"].item()
    for name, values in expected.items():
        np.testing.assert_allclose(found[name], values, rtol=1e-4, atol=rounding, err_msg=name)


def test_breeding_values_of_nonlinear_networks_are_those_of_the_draws(bent, combined, tables):
    genotypes = tables[0].iloc[:FITTED]
    for result, given in ((bent, {}), (combined, {"activation": uptake})):
        found = result.predict(genotypes, **given)
        rounding = 3e-4 * result.constant_data["trait_sd"].item()
        expected = snapshots(result, "ebv_mediated").mean(axis=0)
        assert expected.std() > 100 * rounding
        np.testing.assert_allclose(found["ebv_mediated"], expected, atol=rounding)
    expected = snapshots(bent, "ebv_direct").mean(axis=0)
    np.testing.assert_allclose(
        bent.predict(genotypes)["ebv_direct"],
        expected,
        atol=1e-4 * bent.constant_data["trait_sd"].item(),
    )


def test_candidates_in_the_fit_have_the_same_predictions(linear, tables):
    """Posteriors are the same, whether the fit has the candidates or not: compare by chains."""
    genotypes, omics, phenotypes = tables
    data = nm.read_dataset(genotypes, omics.iloc[:FITTED], phenotypes.iloc[:FITTED], "y")
    whole = nm.fit(data, LINEAR, chains=8, **SHORT)
    draws = whole.posterior.squeeze("trait").isel(individual=slice(FITTED, None))
    refitted = {
        "ebv": (draws["ebv_mediated"] + draws["ebv_direct"]).mean("draw").values,
        "y_pred": draws["y_mean"].mean("draw").values,
    }
    chain = linear.parameters["from_chain"].values
    by_chain = [
        dataclasses.replace(linear, parameters=linear.parameters.isel(sample=chain == one))
        for one in range(8)
    ]
    predicted = [one.predict(genotypes.iloc[FITTED:]) for one in by_chain]
    for name, a in refitted.items():
        b = np.stack([table[name] for table in predicted])
        if name == "ebv":  # centred over other individuals
            a, b = (values - values.mean(axis=1, keepdims=True) for values in (a, b))
        error = np.sqrt((a.var(axis=0, ddof=1) + b.var(axis=0, ddof=1)) / 8)
        t = (a.mean(axis=0) - b.mean(axis=0)) / error
        assert np.abs(t).max() < 5, name
        # 14 degrees of freedom: t squared has mean 1.17
        assert (t**2).mean() < 3, name
        assert error.mean() < 0.3 * a.mean(axis=0).std(), name


def gauss(points):
    nodes, weights = np.polynomial.hermite_e.hermegauss(points)
    return nodes, weights / weights.sum()


def loops(result, genotypes, omics, value):
    """The table in double precision, and the variance within samples.

    ``value(parameters of a sample, node means, sds)`` gives mean and variance of what the nodes
    give, all in the user's units.
    """
    constant, p = result.constant_data, result.parameters
    means = constant["marker_dosage"].values
    draws = {name: values.values for name, values in p.data_vars.items()}
    names = [str(name) for name in constant["node"].values]
    rows = {"mediated": [], "direct": [], "total": [], "within": []}
    z = omics.reindex(index=genotypes.index, columns=names).to_numpy()
    for s in range(p.sizes["sample"]):
        one = {name: values[s].astype(float) for name, values in draws.items()}
        for parts in rows.values():
            parts.append([])
        for x, seen in zip(genotypes.to_numpy(), z, strict=True):
            centred = np.where(np.isnan(x), 0.0, x - means)
            at = one["node_base"] + one["marker_effect"] @ centred
            sd = np.sqrt(one["var_residual_node"])
            rows["mediated"][-1].append(value(one, at, sd)[0] - one["mediated_mean"])
            direct = centred @ one["skip_effect"] if "skip_effect" in one else 0.0
            rows["direct"][-1].append(direct - one["direct_mean"])
            missing = np.isnan(seen)
            total, within = value(one, np.where(missing, at, seen), np.where(missing, sd, 0.0))
            rows["total"][-1].append(total + direct)
            rows["within"][-1].append(within)
    rows = {name: np.array(parts) for name, parts in rows.items()}
    ebv = rows["mediated"] + rows["direct"]
    epv = rows["total"] - p["epv_mean"].values[:, None]
    y = rows["total"] + p["trait_base"].values[:, None]
    within, residual = rows["within"].mean(axis=0), p["var_residual_trait"].values.mean()
    table = {
        "ebv": ebv.mean(axis=0),
        "ebv_sd": ebv.std(axis=0, ddof=1),
        "ebv_mediated": rows["mediated"].mean(axis=0),
        "ebv_direct": rows["direct"].mean(axis=0),
        "epv": epv.mean(axis=0),
        "epv_sd": np.sqrt(epv.var(axis=0, ddof=1) + within),
        "y_pred": y.mean(axis=0),
        "y_pred_sd": np.sqrt(y.var(axis=0, ddof=1) + within + residual),
    }
    return table, within


def linear_value(result):
    mean = result.constant_data["node_mean"].values

    def value(one, at, sd):  # the intercept is that of centred nodes
        return one["node_effect"] @ (at - mean), (one["node_effect"] ** 2) @ sd**2

    return value


def tanh_value(result):
    mean, scale = (result.constant_data[f"node_{name}"].values for name in ("mean", "sd"))
    nodes, weights = gauss(80)

    def value(one, at, sd):
        g = np.tanh(((at - mean)[:, None] + sd[:, None] * nodes) / scale[:, None])
        first, second = g @ weights, g**2 @ weights
        w = one["node_effect"]
        return w @ first, w**2 @ (second - first**2)

    return value


def uptake_value(result):
    nodes, weights = gauss(30)

    def value(one, at, sd):
        z0, z1 = np.meshgrid(at[0] + sd[0] * nodes, at[1] + sd[1] * nodes, indexing="ij")
        f = one["theta_V"] * z0 / (one["theta_K"] + np.exp(z1 / 100))
        first = weights @ f @ weights
        return first, weights @ (f - first) ** 2 @ weights

    return value


@pytest.mark.parametrize("name", ["linear", "bent", "combined"])
def test_predictions_are_those_of_loops(name, young, request):
    result = request.getfixturevalue(name)
    genotypes, omics = young
    assert genotypes.isna().any(axis=None)
    values_of = {"linear": linear_value, "bent": tanh_value, "combined": uptake_value}
    value = values_of[name](result)
    given = {"activation": uptake} if name == "combined" else {}
    omics = omics[["leaf"]] if name == "combined" else omics
    found = result.predict(genotypes, omics, **given)
    expected, within = loops(result, genotypes, omics, value)
    rounding = 3e-4 * result.constant_data["trait_sd"].item()
    # Error of a variance from 1,000 normal draws; there is none in a linear network.
    error = 0.0 if name == "linear" else 5 * np.sqrt(2 / 1000) * within
    for column, values in expected.items():
        if column in ("epv_sd", "y_pred_sd"):
            difference = np.abs(found[column] ** 2 - values**2)
            assert (difference <= error + 2 * rounding * values).all(), column
        else:
            np.testing.assert_allclose(found[column], values, atol=rounding, err_msg=column)
    assert (within > 0).any()


def test_measured_omics_make_predictions_more_certain(bent, young):
    genotypes, omics = young
    without, with_omics = bent.predict(genotypes), bent.predict(genotypes, omics)
    pd.testing.assert_frame_equal(without.iloc[:10], with_omics.iloc[:10])
    assert (without["epv"][10:] != with_omics["epv"][10:]).all()
    pd.testing.assert_frame_equal(without.iloc[:, :5], with_omics.iloc[:, :5])


def test_a_users_elementwise_function_is_given_again(bent, young):
    def bend(z):
        return jnp.tanh(z)

    renamed = with_settings(bent, activation="bend")
    pd.testing.assert_frame_equal(
        renamed.predict(*young, activation=bend), bent.predict(*young), rtol=1e-4
    )


def test_chunks_and_company_change_nothing(bent, young, monkeypatch):
    genotypes, omics = young
    whole = bent.predict(genotypes, omics)
    alone = bent.predict(genotypes.iloc[[12]], omics)
    pd.testing.assert_frame_equal(
        alone, whole.iloc[[12]].reset_index(drop=True), rtol=1e-4, atol=1e-4
    )
    per_individual = bent.parameters.sizes["sample"] * (bent.parameters.sizes["node"] + 1)
    monkeypatch.setattr(module, "_CHUNK_NODES", 7 * per_individual)
    pd.testing.assert_frame_equal(bent.predict(genotypes, omics), whole, rtol=1e-4, atol=1e-4)


def test_seed_moves_only_the_part_that_is_sampled(bent, linear, young):
    first, again = bent.predict(*young, seed=1), bent.predict(*young, seed=1)
    pd.testing.assert_frame_equal(first, again)
    other = bent.predict(*young, seed=2)
    sampled = ["epv_sd", "y_pred_sd"]
    assert (first[sampled] != other[sampled]).any(axis=None)
    pd.testing.assert_frame_equal(first.drop(columns=sampled), other.drop(columns=sampled))
    pd.testing.assert_frame_equal(linear.predict(*young, seed=1), linear.predict(*young, seed=2))


@pytest.mark.parametrize("name", ["bent", "combined"])
def test_saved_results_predict_the_same(name, young, request, tmp_path):
    result = request.getfixturevalue(name)
    given = {"activation": uptake} if name == "combined" else {}
    result.save(tmp_path)
    pd.testing.assert_frame_equal(
        nm.load(tmp_path).predict(young[0], **given), result.predict(young[0], **given)
    )


def test_columns_rows_and_ids_of_the_tables(linear, young, tmp_path):
    genotypes, omics = young
    usual = linear.predict(genotypes, omics)
    shuffled = genotypes.iloc[:, ::-1].assign(new_marker=9)  # ignored, not even checked
    shuffled.to_csv(tmp_path / "genotypes.csv")
    stranger = pd.DataFrame([[101.0, 99.0]], ["stranger"], omics.columns)
    omics = pd.concat([stranger, omics.iloc[::-1]]).rename_axis("animal").reset_index()
    omics.insert(0, "seed", omics.pop("seed"))
    with pytest.raises(InputError, match="id column 'animal'"):
        linear.predict(tmp_path / "genotypes.csv", omics, id_column="animal")
    omics = omics.rename(columns={"animal": "id"})
    found = linear.predict(tmp_path / "genotypes.csv", omics, id_column="id")
    pd.testing.assert_frame_equal(found, usual)
    notes = read_new_data(linear, tmp_path / "genotypes.csv", omics, id_column="id").notes
    missing = int(genotypes.isna().sum().sum())
    assert notes == (
        "individuals to predict: 20, with 25 markers of the fit",
        "markers that the fit does not have, ignored: 1",
        f"missing genotypes, replaced by the mean of the fit: {missing}",
        "omics: 2 of 3 columns, 10 individuals; not genotyped, dropped: 1 ('stranger')",
    )


@pytest.mark.parametrize("ending", ["bed", "zarr"])
def test_other_formats_predict_the_same(linear, young, tmp_path, ending):
    dosages = read_dosages(young[0].iloc[:, ::-1])
    write_dosages(dosages, tmp_path / f"g.{ending}", "test")
    found = linear.predict(tmp_path / f"g.{ending}", young[1])
    pd.testing.assert_frame_equal(found, linear.predict(*young))


def test_counts_decimals_and_constant_markers(linear, young):
    genotypes = young[0].fillna(1.0)
    counts = linear.predict(genotypes.astype(int))
    decimals = linear.predict(genotypes + 1e-7 * (genotypes < 2))
    pd.testing.assert_frame_equal(counts, decimals, rtol=1e-4, atol=1e-4)
    one = linear.predict(genotypes.iloc[[4]].astype(int))  # every marker is constant
    pd.testing.assert_frame_equal(one, counts.iloc[[4]].reset_index(drop=True), atol=1e-4)


def test_without_a_middle_layer(linear, young):
    """As a fit of the trait on markers alone leaves it."""
    of_nodes = [name for name, values in linear.parameters.items() if "node" in values.dims]
    direct = dataclasses.replace(
        linear,
        parameters=linear.parameters.drop_vars(of_nodes).assign(
            mediated_mean=0.0 * linear.parameters["mediated_mean"]
        ),
        constant_data=linear.constant_data.isel(node=slice(0, 0)),
    )
    found = direct.predict(young[0])
    x = (young[0] - linear.constant_data["marker_dosage"].values).fillna(0.0).to_numpy()
    draws = linear.parameters["skip_effect"].values @ x.T
    np.testing.assert_allclose(found["ebv_direct"], draws.mean(axis=0), atol=1e-3)
    np.testing.assert_allclose(found["ebv_sd"], draws.std(axis=0, ddof=1), atol=1e-3)
    with pytest.raises(InputError, match="the fit has no omics; leave them out"):
        direct.predict(*young)


def spoilt(frame, row, column, value):
    frame = frame.copy().astype(object)
    frame.iloc[row, column] = value
    return frame


def test_predict__raises_on_wrong_genotypes(linear, young):
    genotypes = young[0]
    lacking = genotypes.columns[:7]
    with pytest.raises(
        InputError, match=rf"all 25 markers.*'{lacking[0]}'.*\(7 in all\); add them"
    ):
        linear.predict(genotypes.drop(columns=lacking))
    for value, message in ((3, "from 0 to 2, found 3"), ("AA", "numbers, found 'AA'")):
        with pytest.raises(InputError, match=rf"{message} in column '{genotypes.columns[2]}'"):
            linear.predict(spoilt(genotypes, 1, 2, value))
    with pytest.raises(InputError, match="every id once"):
        linear.predict(pd.concat([genotypes, genotypes.iloc[:1]]))
    with pytest.raises(InputError, match=r"genotypes nowhere\.csv"):
        linear.predict("nowhere.csv")


def test_predict__raises_on_wrong_omics(linear, bent, young):
    genotypes, omics = young
    for result, name in ((linear, "stem"), (linear, "y"), (bent, "two1")):
        with pytest.raises(InputError, match=f"columns of the fit's omics .*found '{name}'"):
            result.predict(genotypes, omics.assign(**{name: 1.0}))
    with pytest.raises(InputError, match=r"columns of the fit's omics .*found none"):
        linear.predict(genotypes, omics[[]].reset_index())
    with pytest.raises(InputError, match="omics: expected ids that occur in the genotypes"):
        linear.predict(genotypes, omics.rename(index=lambda name: f"{name}x"))
    with pytest.raises(InputError, match="finite numbers, found inf in column 'leaf'"):
        linear.predict(genotypes, spoilt(omics, 0, 1, np.inf))


def test_predict__raises_on_wrong_functions(linear, bent, combined, young):
    def other(z, theta):
        return z

    with pytest.raises(InputError, match="the fit's is tanh, which needs no function"):
        bent.predict(young[0], activation=jnp.tanh)
    with pytest.raises(InputError, match="the function uptake of the fit, found none; give it"):
        combined.predict(young[0])
    with pytest.raises(InputError, match="the function uptake of the fit, found other"):
        combined.predict(young[0], activation=other)
    other.__name__ = "uptake"
    with pytest.raises(InputError, match="expected a single value as in the fit, found a value"):
        combined.predict(young[0], activation=other)
    renamed = with_settings(linear, activation="log")
    with pytest.raises(InputError, match=r"activation log, nodes 'leaf'.*finite values"):
        renamed.predict(young[0], activation=jnp.log)  # of standardised values, half below zero


def test_a_function_is_not_taken_for_an_activation_of_its_name(young, bent):
    from nnmm_jax.api import _describe

    settings = _describe(nm.Network(activation=jnp.tanh))
    assert settings["activation"] == "tanh (function)"
    theirs = with_settings(bent, **{"activation": settings["activation"]})
    with pytest.raises(InputError, match=r"expected the function tanh \(function\)"):
        theirs.predict(young[0])
    pd.testing.assert_frame_equal(
        theirs.predict(young[0], activation=jnp.tanh), bent.predict(young[0]), rtol=1e-4
    )


def test_predict__raises_on_predictions_that_are_not_finite(bent, young):
    def root(z):
        return jnp.sqrt(z + 1.5)  # finite at the nodes' means

    renamed = with_settings(bent, activation="root")
    with pytest.raises(InputError, match=r"activation root: expected finite predictions.*in all"):
        renamed.predict(young[0], activation=root)


@pytest.mark.parametrize(
    ("settings", "name"),
    [
        ({"skip_prior": {"name": "GBLUP", "relationship": "K"}}, "skip_prior"),
        ({"marker_prior": {"name": "GBLUP", "relationship": "K"}}, "marker_prior"),
        (
            {"marker_prior": {"cis": None, "a": {"name": "GBLUP", "relationship": "K"}}},
            "marker_pri",
        ),
        ({"blocks": [{"marker_prior": {"name": "GBLUP", "relationship": "K"}}]}, "marker_prior"),
    ],
)
def test_predict__raises_on_relationships_in_place_of_markers(linear, young, settings, name):
    with pytest.raises(InputError, match=f"{name}.* GBLUP of the relationship matrix 'K', which"):
        with_settings(linear, **settings).predict(young[0])


def test_predict__raises_without_marker_effects(linear, young):
    names = {"marker_effect", "skip_effect"}
    without = dataclasses.replace(linear, parameters=linear.parameters.drop_vars(names))
    with pytest.raises(InputError, match="the fit has no marker effects"):
        without.predict(young[0])
    kept = linear.parameters[["from_chain", "from_draw"]]
    with pytest.raises(InputError, match="the fit kept no marker effects"):
        dataclasses.replace(linear, parameters=kept).predict(young[0])


def test_random_terms_are_warned_about(linear, young):
    trait = [{"name": "Pedigree"}, {"name": "Group", "column": "pen"}]
    block = {"marker_prior": None, "random": [{"name": "Relationship", "matrix": "K"}]}
    settings = {"random_trait": trait, "random_omics": [], "blocks": [block]}
    with pytest.warns(UserWarning, match="'K' of the omics and 'pedigree', 'pen' of the trait"):
        found = with_settings(linear, **settings).predict(young[0])
    with warnings.catch_warnings(action="error"):
        usual = linear.predict(young[0])
    pd.testing.assert_frame_equal(found, usual)
