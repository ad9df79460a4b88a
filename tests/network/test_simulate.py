import json
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest

from nnmm_jax.data.align import read_dataset
from nnmm_jax.data.files import find_dataset_files
from nnmm_jax.errors import InputError
from nnmm_jax.network.activations import ACTIVATIONS
from nnmm_jax.network.simulate import SimulationSettings, simulate

SMALL = SimulationSettings(individuals=400, markers=200, omics=4, latent=1, activation="tanh")
TABLES = ("genotypes", "omics", "phenotypes", "map")


@pytest.fixture(scope="module")
def simulated():
    return simulate(SMALL, seed=1)


def centred(values):
    return values - values.mean(axis=0)


def genetic_values(simulated):
    """Centred values of the nodes and of the direct effects, from the tables alone."""
    effects = simulated.truth["marker_effects"].pivot(
        index="marker", columns="node", values="effect"
    )
    values = simulated.genotypes[effects.index] @ effects.fillna(0.0)
    return centred(values)


def fixed_values(simulated, response):
    table = simulated.truth["fixed_effects"].query("response == @response")
    total = 0.0
    for term, rows in table.groupby("term"):
        total = total + simulated.phenotypes[term].map(rows.set_index("level")["effect"])
    return total


def test_same_seed_gives_same_data(simulated):
    again = simulate(SMALL, seed=1)
    for name in TABLES:
        pd.testing.assert_frame_equal(getattr(simulated, name), getattr(again, name))
    for name, table in simulated.truth.items():
        pd.testing.assert_frame_equal(table, again.truth[name])
    other = simulate(SMALL, seed=2)
    assert not other.genotypes.equals(simulated.genotypes)
    assert not other.truth["individuals"].equals(simulated.truth["individuals"])


def test_missing_shares_leave_the_truth_as_it_is(simulated):
    other = simulate(
        replace(SMALL, without_omics=0.0, missing_cells=0.5, without_phenotype=0.5), seed=1
    )
    pd.testing.assert_frame_equal(other.genotypes, simulated.genotypes)
    pd.testing.assert_frame_equal(other.truth["omics"], simulated.truth["omics"])
    assert other.omics.isna().sum().sum() == 400 * 4 // 2


@pytest.mark.parametrize("seed", [-1, 1.5, True])
def test_simulate__raises_on_seed(seed):
    with pytest.raises(InputError, match="seed must be a whole number >= 0"):
        simulate(SMALL, seed=seed)


def test_missing_patterns_are_as_asked(simulated):
    assert len(simulated.omics) == 280
    assert list(simulated.omics.columns) == ["omics1", "omics2", "omics3", "omics4"]
    assert simulated.omics.isna().sum().sum() == round(0.05 * 280 * 4)
    assert simulated.omics.index.is_monotonic_increasing
    observed = simulated.omics.stack().dropna()
    truth = simulated.truth["omics"].set_index("id").stack().loc[observed.index]
    np.testing.assert_array_equal(observed, truth)

    phenotyped = simulated.phenotypes["y"].notna().to_numpy()
    individuals = simulated.truth["individuals"]
    assert phenotyped.sum() == 320
    np.testing.assert_array_equal(phenotyped, individuals["phenotyped"])
    generation = individuals["generation"]
    assert (generation[~phenotyped] == generation.max()).all()
    assert simulated.phenotypes[["sex", "batch"]].notna().all(axis=None)


def test_phenotype_is_the_sum_of_its_parts(simulated):
    truth = simulated.truth["individuals"].set_index("id")
    phenotype = simulated.phenotypes["y"].dropna()
    parts = truth["fixed"] + truth["epv"] + truth["residual"]
    np.testing.assert_allclose(phenotype, parts[phenotype.index])
    fixed = SMALL.trait_mean + fixed_values(simulated, "y")
    np.testing.assert_allclose(truth["fixed"], fixed)
    nodes = simulated.truth["omics"].set_index("id")
    effects = simulated.truth["node_effects"].set_index("node")["effect"]
    mediated = np.tanh(nodes) @ effects[nodes.columns]
    np.testing.assert_allclose(truth["epv"], mediated + truth["ebv_direct"])
    np.testing.assert_allclose(truth["ebv_direct"], genetic_values(simulated)["y"])
    np.testing.assert_allclose(truth["ebv"], truth["ebv_mediated"] + truth["ebv_direct"])


def test_nodes_are_fixed_plus_genetic_plus_residual(simulated):
    nodes = simulated.truth["omics"].set_index("id")
    genetic = genetic_values(simulated)
    for name in nodes:
        fixed = fixed_values(simulated, name)
        residual = nodes[name] - fixed - genetic[name]
        apart = nodes[name] - fixed
        h2 = np.var(genetic[name]) / np.var(apart)
        realised = simulated.truth["variances"].set_index("quantity").loc[f"h2_{name}", "realised"]
        np.testing.assert_allclose(h2, realised)
        # a residual is no function of sex: 4 standard errors of a difference of means of 200
        by_sex = residual.groupby(simulated.phenotypes["sex"]).mean()
        assert abs(by_sex["F"] - by_sex["M"]) < 4 * residual.std() * np.sqrt(2 / 200)


@pytest.mark.parametrize("activation", list(ACTIVATIONS))
def test_mediated_ebv_is_the_expectation_over_node_residuals(activation):
    # a genetic share of 1/2 and no fixed effects: residual variance 1/2 of every node
    settings = replace(
        SMALL, activation=activation, sex_effect_omics=0.0, batch_effect_sd_omics=0.0
    )
    simulated = simulate(settings, seed=3)
    names = settings.node_names
    genetic = genetic_values(simulated)[names].to_numpy()
    effects = simulated.truth["node_effects"]["effect"].to_numpy()
    expected = simulated.truth["individuals"]["ebv_mediated"].to_numpy()
    # trapezoidal rule: exact to about 1e-10 for smooth g, to spacing ** 2 for the kink of relu
    grid = np.linspace(-8, 8, 801)
    density = np.exp(-0.5 * grid**2) * (grid[1] - grid[0]) / np.sqrt(2 * np.pi)
    nodes = genetic[:, :, None] + np.sqrt(0.5) * grid
    with jax.enable_x64(True):
        activated = np.asarray(ACTIVATIONS[activation].function(jnp.asarray(nodes), {}))
    np.testing.assert_allclose(
        expected, centred(np.einsum("ilg,g,l->i", activated, density, effects)), atol=1e-3
    )


def test_linear_mediated_ebv_is_the_weighted_genetic_value():
    simulated = simulate(replace(SMALL, activation="linear"), seed=1)
    effects = simulated.truth["node_effects"].set_index("node")["effect"]
    expected = genetic_values(simulated)[effects.index] @ effects
    np.testing.assert_allclose(simulated.truth["individuals"]["ebv_mediated"], expected)


def test_variances_are_as_asked():
    # Mediated and direct variances are exact. The residual variances of trait and nodes are
    # sample variances of n = 1000 normal draws, relative sd sqrt(2 / n); 4 of them.
    settings = SimulationSettings(individuals=1000, markers=300, trait_sd=3.0)
    simulated = simulate(settings, seed=1)
    truth = simulated.truth["individuals"]
    np.testing.assert_allclose(np.var(truth["epv"] - truth["ebv_direct"]), 9 * 0.5)
    np.testing.assert_allclose(np.var(truth["ebv_direct"]), 9 * 0.1)
    tolerance = 4 * np.sqrt(2 / 1000)
    np.testing.assert_allclose(np.var(truth["residual"]), 9 * 0.4, rtol=tolerance)
    nodes = simulated.truth["omics"].set_index("id")
    genetic = genetic_values(simulated)
    for name in nodes:
        fixed = fixed_values(simulated, name)
        residual = np.var(nodes[name] - fixed - genetic[name])
        np.testing.assert_allclose(np.var(genetic[name]), residual, rtol=tolerance)


def test_trait_variance_is_as_asked_on_average():
    # Mediated and direct values are correlated by chance, with either sign: over 40 data sets the
    # mean is within 4 of its standard errors.
    settings = SimulationSettings(individuals=200, markers=100, trait_sd=2.0)
    realised = [
        simulate(settings, seed).truth["variances"].set_index("quantity")["realised"]
        for seed in range(40)
    ]
    total = np.array([table["variance_trait"] for table in realised])
    assert abs(total.mean() - 4.0) < 4 * total.std(ddof=1) / np.sqrt(40)
    shares = pd.DataFrame(realised)[["share_mediated", "share_direct", "share_residual"]]
    asked = np.array([0.5, 0.1, 0.4])
    # a ratio to a random total is biased by the order of the total's squared relative sd
    bias = (total.std() / 4.0) ** 2
    error = 4 * shares.std() / np.sqrt(40)
    assert (abs(shares.mean() - asked) < error + bias * asked).all()


def test_node_effects_are_scaled_to_the_mediated_share():
    settings = replace(SMALL, node_effects=(1.0, 0.0, -2.0, 0.0, 1.0))
    effects = simulate(settings, seed=1).truth["node_effects"]["effect"].to_numpy()
    np.testing.assert_allclose(effects / effects[0], settings.node_effects)


def test_effects_asked_to_be_absent_are_absent():
    settings = replace(
        SMALL,
        share_mediated=0.0,
        share_direct=0.0,
        h2_omics=0.0,
        sex_effect=0.0,
        batch_effect_sd=0.0,
    )
    simulated = simulate(settings, seed=1)
    truth = simulated.truth["individuals"]
    assert (truth[["ebv", "epv"]] == 0).all(axis=None)
    assert (truth["fixed"] == settings.trait_mean).all()
    assert simulated.truth["marker_effects"].empty


def test_dataset_joins_the_tables(simulated):
    dataset = simulated.dataset()
    np.testing.assert_array_equal(dataset.ids, simulated.genotypes.index)
    np.testing.assert_array_equal(dataset.genotypes, simulated.genotypes)
    np.testing.assert_array_equal(dataset.phenotype, simulated.phenotypes["y"])
    np.testing.assert_array_equal(dataset.omics, simulated.omics.reindex(dataset.ids))
    assert dataset.trait == "y"


def test_written_files_give_the_same_dataset(simulated, tmp_path):
    folder = simulated.write(tmp_path / "data")
    files = find_dataset_files(folder)
    read = read_dataset(files["genotypes"], files["omics"], files["phenotypes"], "y")
    dataset = simulated.dataset()
    for name in ("ids", "markers", "omics_names", "genotypes", "omics", "phenotype"):
        np.testing.assert_array_equal(getattr(read, name), getattr(dataset, name))
    for name, table in simulated.truth.items():
        written = pd.read_csv(folder / f"truth_{name}.csv")
        pd.testing.assert_frame_equal(written, table, check_dtype=False)
    about = json.loads((folder / "simulation.json").read_text())
    assert about["seed"] == 1
    assert SimulationSettings(**about["settings"]) == SMALL


def test_latent_network_has_no_omics_table(tmp_path):
    simulated = simulate(replace(SMALL, omics=0, latent=2), seed=1)
    folder = simulated.write(tmp_path / "data")
    assert not (folder / "omics.csv").exists()
    assert list(simulated.truth["node_effects"]["node"]) == ["latent1", "latent2"]
    assert simulated.dataset().omics.shape == (400, 0)


def test_write_overwrites_its_own_files_only(simulated, tmp_path):
    folder = simulated.write(tmp_path / "data")
    (folder / "notes.txt").write_text("mine")
    latent = simulate(replace(SMALL, omics=0), seed=1)
    with pytest.raises(InputError, match="exists: choose another folder"):
        latent.write(folder)
    assert (folder / "omics.csv").exists()
    latent.write(folder, overwrite=True)
    assert not (folder / "omics.csv").exists()
    assert (folder / "notes.txt").read_text() == "mine"
