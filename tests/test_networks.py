"""Networks of every shape from tables to tables: Python and the command line."""

import numpy as np
import numpyro.distributions as dist
import pandas as pd
import pytest
import xarray as xr
from scipy.stats import norm

import nnmm_jax as nm
from nnmm_jax import cli
from nnmm_jax.posterior.fit_genotypes import read_fit_genotypes
from nnmm_jax.posterior.marker_draws import marker_draws

SHORT = {"warmup": 20, "samples": 30, "chains": 2, "seed": 1, "progress": False}
SIZES = nm.SimulationSettings(individuals=60, markers=40, omics=4)
FILE = """
import jax.numpy as jnp
import numpyro.distributions as dist

import nnmm_jax as nm

theta = {"V": dist.Normal(0.0, 5.0), "K": dist.LogNormal(0.0, 0.5)}


def uptake(z, theta):
    return theta["V"] * z[0] / (theta["K"] + jnp.exp(z[1]))




def wave(z):
    return jnp.sin(z)


network = nm.Network(
    blocks=[nm.Block("leaf", ["omics1", "omics2"], connections="map"), nm.Block("root")],
    activation="tanh",
)
number = 3
"""


@pytest.fixture(scope="module")
def simulated():
    return nm.simulate(SIZES, seed=1)


@pytest.fixture(scope="module")
def blocks(simulated):
    """A fit with measured blocks and a latent one."""
    network = nm.Network(
        activation="tanh",
        blocks=[
            nm.Block("leaf", ["omics3", "omics1"], node_prior="BayesC", fixed="~ sex"),
            nm.Block("root", random=[nm.Group("batch")]),
            nm.Block("hidden", [], latent=2, marker_prior="RR-BLUP"),
        ],
    )
    return nm.fit(simulated.dataset(), network, **SHORT)


def test_parts_of_breeding_values_add_up(blocks):
    nodes, parts, total = blocks.node_values(), blocks.block_values(), blocks.breeding_values()
    assert list(nodes["node"].unique()) == [
        *("omics3", "omics1", "omics2", "omics4", "hidden1", "hidden2")
    ]
    assert list(parts["block"].unique()) == ["leaf", "root", "hidden"]
    by_node = nodes.groupby("id", sort=False)["mediated"].sum()
    by_block = parts.groupby("id", sort=False)["mediated"].sum()
    scale = total["ebv_mediated"].std()
    np.testing.assert_allclose(by_node, total["ebv_mediated"], atol=1e-4 * scale)
    np.testing.assert_allclose(by_block, total["ebv_mediated"], atol=1e-4 * scale)
    assert (nodes["ebv_sd"] > 0).all()
    table = blocks.variance_components().set_index("component")
    for name in ("var_mediated_node[omics1]", "h2_mediated_node[omics1]", "h2_node[omics4]"):
        assert table.loc[name, "sd"] > 0
    ratio = blocks.posterior["var_mediated_block"] / blocks.posterior["h2_mediated_block"]
    trait = blocks.posterior["var_genetic_trait"] / blocks.posterior["h2_trait"]
    np.testing.assert_allclose(ratio.isel(block=1), trait, rtol=1e-4)


def test_names_of_blocks_are_in_what_is_reported(blocks):
    posterior = blocks.posterior
    assert posterior["fixed_omics_leaf"].dims[2:] == ("node_leaf", "term_omics_leaf")
    assert list(posterior["node_leaf"].values) == ["omics3", "omics1"]
    assert posterior["fixed_omics_leaf"].sizes["term_omics_leaf"] == 2
    assert posterior["fixed_omics_root"].sizes["term_omics_root"] == 1
    assert "var_random_node_root_batch" in posterior
    assert "pi_node_leaf" in posterior
    assert "pi_node_root" not in posterior


def test_latent_nodes_are_not_judged_and_the_summary_says_so(blocks):
    hidden = blocks.unidentified()
    for name in (
        *("node_effect[hidden1]", "var_node_effect_hidden", "fixed_trait[Intercept]"),
        *("var_marker_effect_hidden[hidden2]", "h2_node[hidden1]"),
    ):
        assert name in hidden
    judged = set(blocks.diagnostics()["quantity"])
    assert not judged & set(hidden)
    assert {"var_node_effect_leaf", "node_effect[omics1]", "var_mediated_block[hidden]"} <= judged
    assert {"fixed_omics_leaf[omics1, Intercept]", "pi_marker_root[omics2]"} <= judged
    summary = blocks.summary().set_index("quantity")
    assert not summary.loc["node_effect[hidden1]", "identified"]
    assert np.isnan(summary.loc["node_effect[hidden1]", "r_hat"])
    assert summary.loc["node_effect[omics1]", "identified"]
    assert np.isfinite(summary.loc["node_effect[omics1]", "r_hat"])


def test_draws_of_marker_effects_are_those_of_the_reported_draws(blocks, simulated):
    genotypes = read_fit_genotypes(blocks, simulated.dataset())
    draws = marker_draws(blocks, genotypes)
    chain, draw = (blocks.parameters[name].values for name in ("from_chain", "from_draw"))
    variances = blocks.posterior["var_genetic_node"].values[chain, draw]
    by_hand = (draws.on_nodes @ genotypes.centred(slice(None)).T).var(axis=2)
    np.testing.assert_allclose(by_hand, variances, rtol=2e-3)  # latent nodes are in their order
    effects = blocks.posterior["node_effect"].values[chain, draw, :, 0]
    np.testing.assert_array_equal(np.sign(draws.slope), np.sign(effects))  # tanh only rises


def test_results_of_blocks_survive_the_disk(blocks, tmp_path):
    blocks.save(tmp_path / "results")
    again = nm.load(tmp_path / "results")
    pd.testing.assert_frame_equal(again.block_values(), blocks.block_values())
    assert again.unidentified() == blocks.unidentified()


def test_an_elementwise_function_is_the_activation_of_that_name(simulated):
    """The same function by name and as a user's own leads to the same draws."""
    import jax.numpy as jnp

    data = simulated.dataset()
    named = nm.fit(data, nm.Network(activation="tanh"), **SHORT)
    own = nm.fit(data, nm.Network(activation=lambda z: jnp.tanh(z)), **SHORT)
    for name in ("h2_trait", "epv", "ebv_mediated"):
        np.testing.assert_allclose(own.posterior[name], named.posterior[name], rtol=2e-2, atol=0.05)


def test_a_function_of_all_nodes(simulated):
    def uptake(z, theta):
        return theta["V"] * z[0] / (2.0 + z[1] ** 2)

    network = nm.Network(activation=uptake, theta={"V": dist.Normal(0.0, 5.0)}, latent=1)
    result = nm.fit(simulated.dataset(), network, sampler="nuts", **SHORT)
    assert result.posterior["theta_V"].dims == ("chain", "draw")
    assert "node_effect" not in result.posterior
    assert "theta_V" in result.unidentified()  # there is a latent node
    assert result.node_values()["mediated"].isna().all()
    assert {"energy", "step_size", "theta_accept_prob"} <= set(result.sample_stats)
    assert result.run["settings"]["activation"] == "uptake"
    assert result.run["settings"]["sampler"] == "nuts"
    prior = nm.Model(simulated.dataset(), network).prior_predictive(20, seed=1)
    assert np.isfinite(prior.draws["h2_trait"]).all()


def test_the_density_of_phenotypes_is_in_the_units_of_the_trait(blocks):
    """Given sampled nodes it is the normal one of a draw's mean and residual variance."""
    density = blocks.log_likelihood
    ids = density["individual"]
    drawn = blocks.posterior.squeeze("trait", drop=True)
    y = blocks.constant_data["phenotype"].squeeze("trait", drop=True).sel(individual=ids)
    mean = drawn["y_mean"].sel(individual=ids)
    sd = np.sqrt(drawn["var_residual_trait"])
    expected = xr.apply_ufunc(norm.logpdf, y, mean, sd)
    found = density["phenotype"].transpose(*expected.dims)
    assert len(ids) == int(np.isfinite(blocks.constant_data["phenotype"]).sum())
    assert abs(np.log(blocks.constant_data["trait_sd"].item())) > 0.1  # a unit that shows
    np.testing.assert_allclose(found, expected, atol=2e-4)


@pytest.fixture
def files(simulated, tmp_path):
    simulated.write(tmp_path / "data")
    (tmp_path / "mine.py").write_text(FILE)
    connections = pd.DataFrame({"marker": ["m01", "m02"], "node": ["omics1", "omics2"]})
    connections.to_csv(tmp_path / "connections.csv", index=False)
    words = ["fit", "--trait", "y", "--out", str(tmp_path / "out"), "--quiet"]
    for name in ("genotypes.parquet", "omics.csv", "phenotypes.csv"):
        words += [f"--{name.split('.')[0]}", str(tmp_path / "data" / name)]
    for name, value in (("warmup", 6), ("samples", 6), ("chains", 2), ("seed", 1)):
        words += [f"--{name}", str(value)]
    return tmp_path, words


def test_cli_takes_a_function_of_a_file(files):
    folder, words = files
    assert cli.main([*words, "--activation", f"{folder / 'mine.py'}:uptake"]) == 0
    result = nm.load(folder / "out")
    assert {"theta_V", "theta_K"} <= set(result.posterior)
    assert result.run["files"]["code"] == f"{folder / 'mine.py'}:uptake"
    assert (folder / "out" / "node_values.csv").is_file()


def test_cli_takes_connections_and_a_network_of_a_file(files):
    folder, words = files
    words += ["--connections", str(folder / "connections.csv")]
    assert cli.main([*words, "--network", f"{folder / 'mine.py'}:network"]) == 0
    effects = nm.load(folder / "out").moments["marker_sd"]
    assert int((effects.sel(node="omics1") > 0).sum()) <= 1
    assert int((effects.sel(node="omics3") > 0).sum()) > 1
    assert cli.main([*words, "--overwrite", "--sampler", "nuts", "--activation", "tanh"]) == 0
    effects = nm.load(folder / "out").moments["marker_sd"]
    assert (effects.sel(node="omics3") == 0).all()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--activation", "FILE:nothing"], "expected 'nothing' there"),
        (["--activation", "nowhere.py:uptake"], "of a file that exists, found 'nowhere.py:uptake'"),
        (["--activation", "FILE:number"], "expected a function, found int"),
        (["--network", "FILE:number"], "expected a Network, found int"),
        (["--network", "FILE:network"], "no map of markers and nodes"),
        (["--network", "FILE:network", "--latent", "1"], "--latent: the network is that of"),
        (["--sampler", "gibbs"], "sampler: expected one of hmc, nuts, found 'gibbs'"),
        (["--activation", "BROKEN:f"], "ZeroDivisionError"),
    ],
)
def test_cli__refuses_code_that_cannot_be_used(files, capsys, flags, message):
    folder, words = files
    (folder / "broken.py").write_text("f = 1 / 0\n")
    known = {"FILE": folder / "mine.py", "BROKEN": folder / "broken.py"}
    for name, path in known.items():
        flags = [flag.replace(name, str(path)) for flag in flags]
    assert cli.main([*words, *flags]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not (folder / "out").exists()
