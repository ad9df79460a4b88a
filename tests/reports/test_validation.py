import dataclasses
import importlib.util
from pathlib import Path

import jax
import numpy as np
import pandas as pd
import pytest
from jax.experimental.compilation_cache import compilation_cache

import nnmm_jax
from nnmm_jax.errors import InputError
from nnmm_jax.network.spec import Network
from nnmm_jax.reports.baselines import BASELINES
from nnmm_jax.reports.validation import (
    HIDDEN,
    SEEN,
    cross_validate,
    folds,
    predict_baseline,
    predict_network,
    scores,
    summarise,
)

SHORT = {"warmup": 6, "samples": 6, "chains": 2}
SCRIPT = Path(__file__).parents[2] / "scripts" / "validate.py"


def load_script():
    spec = importlib.util.spec_from_file_location("validate", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


validate = load_script()


@pytest.fixture(scope="module", autouse=True)
def compiled_once(tmp_path_factory):
    """Every fold here leaves arrays of the same shapes: each scenario is compiled only once."""
    compilation_cache.reset_cache()
    jax.config.update("jax_compilation_cache_dir", str(tmp_path_factory.mktemp("compiled")))
    yield
    jax.config.update("jax_compilation_cache_dir", None)
    compilation_cache.reset_cache()


@pytest.fixture(scope="module")
def simulated():
    settings = nnmm_jax.SimulationSettings(
        individuals=60,
        markers=60,
        omics=3,
        chromosomes=2,
        without_omics=0.0,
        missing_cells=0.0,
        without_phenotype=0.2,
    )
    return nnmm_jax.simulate(settings, seed=4)


@pytest.fixture(scope="module")
def dataset(simulated):
    return simulated.dataset()


@pytest.fixture(scope="module")
def table(dataset):
    methods = {
        "GBLUP on markers": BASELINES["GBLUP on markers"],
        "ridge on omics": BASELINES["ridge on omics"],
        "NN-MM": Network(marker_prior="RR-BLUP"),
    }
    return cross_validate(dataset, methods, n_folds=2, repeats=1, seed=7, progress=False, **SHORT)


def test_folds_divide_the_phenotyped():
    phenotyped = np.random.default_rng(0).random(53) < 0.7
    found = folds(phenotyped, n_folds=4, repeats=3, seed=9)
    assert [(fold.repeat, fold.number) for fold in found] == [
        (repeat, number) for repeat in (1, 2, 3) for number in (1, 2, 3, 4)
    ]
    for repeat in (1, 2, 3):
        parts = np.array([fold.hidden for fold in found if fold.repeat == repeat])
        np.testing.assert_array_equal(parts.sum(axis=0), phenotyped)
        assert np.ptp(parts.sum(axis=1)) <= 1


def test_folds_come_from_the_seed_and_the_repeat():
    everyone = np.ones(40, dtype=bool)

    def hidden(**settings):
        return np.array([fold.hidden for fold in folds(everyone, **settings)])

    np.testing.assert_array_equal(hidden(repeats=1, seed=3), hidden(repeats=2, seed=3)[:5])
    assert (hidden(repeats=2, seed=3)[:5] != hidden(repeats=2, seed=3)[5:]).any()
    assert (hidden(repeats=1, seed=3) != hidden(repeats=1, seed=4)).any()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"n_folds": 1}, "folds must be a whole number of at least 2, got 1"),
        ({"repeats": 0}, "repeats must be a whole number of at least 1, got 0"),
        ({"n_folds": True}, "folds must be a whole number of at least 2, got True"),
        ({"n_folds": 7}, "7 folds need at least 21 phenotyped individuals, 3 in each, found 20"),
    ],
)
def test_folds__raises_on_unusable_counts(settings, message):
    with pytest.raises(InputError, match=message):
        folds(np.ones(20, dtype=bool), seed=1, **settings)


def test_scores_of_numbers_by_hand():
    observed = np.array([1.0, 3.0, 2.0, 6.0])
    predicted = np.array([0.0, 2.0, 4.0, 6.0])
    found = scores(observed, predicted, predicted - 1.0, predicted + np.array([1, 1, 1, 2]))
    # deviations (-2, 0, -1, 3) and (-3, -1, 1, 3): products 14, squares 14 and 20
    assert found == pytest.approx(
        {
            "accuracy": 14 / np.sqrt(14 * 20),
            "slope": 14 / 20,
            "coverage": 3 / 4,
            "width": 9 / 4,
            "mse": (1 + 1 + 4 + 0) / 4,
        }
    )


def test_scores_of_a_constant_prediction_are_not_defined():
    found = scores(np.array([1.0, 2.0, 4.0]), np.full(3, 2.0), np.zeros(3), np.full(3, 3.0))
    assert np.isnan(found["accuracy"])
    assert np.isnan(found["slope"])
    assert found["coverage"] == pytest.approx(2 / 3)


def test_cross_validate_has_a_row_for_each_fit(table, dataset):
    counts = table.groupby(["scenario", "method"]).size()
    assert counts.to_dict() == {
        (SEEN, "GBLUP on markers"): 2,
        (SEEN, "ridge on omics"): 2,
        (SEEN, "NN-MM"): 2,
        (HIDDEN, "GBLUP on markers"): 2,
        (HIDDEN, "NN-MM"): 2,
    }
    one = table[(table["scenario"] == SEEN) & (table["method"] == "NN-MM")]
    assert one["individuals"].sum() == np.isfinite(dataset.phenotype).sum()
    assert np.isfinite(one[["accuracy", "slope", "r_hat", "ess", "seconds"]]).all(axis=None)
    assert table.loc[table["method"] == "ridge on omics", ["r_hat", "ess"]].isna().all(axis=None)


@pytest.fixture(scope="module")
def by_hand(dataset):
    """The second fold masked and fitted without cross_validate."""
    hidden = folds(np.isfinite(dataset.phenotype), n_folds=2, repeats=1, seed=7)[1].hidden
    masked = dataset.mask(phenotype=hidden, omics=hidden)
    seed = int(np.random.SeedSequence([7, 1, 2]).generate_state(1)[0] >> 1)
    network = Network(marker_prior="RR-BLUP")
    return hidden, masked, nnmm_jax.fit(masked, network, **SHORT, seed=seed, progress=False)


def test_cross_validate_hides_what_it_says(table, dataset, by_hand):
    hidden, masked, result = by_hand
    assert np.isnan(masked.omics[hidden]).all()
    for method, found in (
        ("NN-MM", predict_network(result)),
        ("GBLUP on markers", predict_baseline(BASELINES["GBLUP on markers"], masked)),
    ):
        rows = table[(table["scenario"] == HIDDEN) & (table["method"] == method)]
        row = rows.set_index("fold").loc[2]
        y, mean = dataset.phenotype[hidden], found.mean[hidden]
        expected = scores(y, mean, found.low[hidden], found.high[hidden])
        np.testing.assert_allclose(row[list(expected)].astype(float), list(expected.values()))


def test_network_prediction_is_that_of_the_tables(by_hand):
    result = by_hand[2]
    found = predict_network(result)
    np.testing.assert_allclose(found.mean, result.breeding_values()["y_pred"], rtol=1e-5)
    draws = result.posterior["y_pred"].values[..., 0].reshape(-1, len(found.mean))
    # 12 draws: the 5% quantile lies between the first and the second, the 95% one likewise
    np.testing.assert_array_equal((draws < found.low).sum(axis=0), 1)
    np.testing.assert_array_equal((draws > found.high).sum(axis=0), 1)


def test_summary_means_and_worst():
    table = pd.DataFrame(
        {
            "method": ["a", "a", "a", "a", "b", "b"],
            "scenario": [SEEN, HIDDEN, SEEN, HIDDEN, SEEN, SEEN],
            "accuracy": [0.5, 0.2, 0.7, 0.4, 0.1, 0.1],
            "slope": [1.0, 2.0, 3.0, 4.0, 5.0, 6.0],
            "coverage": 0.9,
            "width": 1.0,
            "mse": 1.0,
            "seconds": [1.0, 1.0, 3.0, 1.0, 1.0, 1.0],
            "r_hat": [1.0, 1.1, 1.2, 1.0, np.nan, np.nan],
            "ess": [10.0, 20.0, 5.0, 30.0, np.nan, np.nan],
        }
    )
    found = summarise(table)
    assert list(found.index) == [("a", SEEN), ("b", SEEN), ("a", HIDDEN)]
    row = found.loc[("a", SEEN)]
    assert row["accuracy"] == pytest.approx(0.6)
    assert row["accuracy_se"] == pytest.approx(0.1)
    assert (row["slope"], row["seconds"], row["r_hat"], row["ess"]) == (2.0, 2.0, 1.2, 5.0)
    assert np.isnan(found.loc[("b", SEEN), "r_hat"])


def test_cross_validate__raises_on_unknown_scenario(dataset):
    with pytest.raises(InputError, match="unknown scenario 'all': choose of omics seen"):
        cross_validate(dataset, BASELINES, scenarios=["all"], seed=1)


def test_cross_validate__raises_on_no_omics(dataset):
    genotypes = pd.DataFrame(dataset.genotypes, dataset.ids, dataset.markers)
    phenotypes = pd.DataFrame({"y": dataset.phenotype}, dataset.ids)
    without = nnmm_jax.read_dataset(genotypes, None, phenotypes, "y")
    with pytest.raises(InputError, match="expected omics, found none"):
        cross_validate(without, BASELINES, seed=1)


def test_cross_validate__raises_on_repeated_records(dataset):
    repeated = dataclasses.replace(
        dataset,
        phenotype=np.append(dataset.phenotype, 1.0),
        record_rows=np.append(dataset.record_rows, len(dataset.ids) - 1),
    )
    with pytest.raises(InputError, match=r"validation: repeated records .* are not supported"):
        cross_validate(repeated, {}, seed=1, progress=False)


def test_cross_validate__raises_on_baselines_of_absent_genotypes(dataset):
    none = dataclasses.replace(dataset, genotypes=np.empty((len(dataset.ids), 0), np.int8))
    with pytest.raises(InputError, match="a baseline on markers: data without markers"):
        cross_validate(none, BASELINES, seed=1, progress=False)


@pytest.fixture
def folder(simulated, tmp_path):
    simulated.write(tmp_path / "data")
    return tmp_path / "data"


def test_script_prints_one_table(folder, dataset, tmp_path, capsys, monkeypatch):
    short = "--folds 2 --repeats 1 --warmup 6 --samples 6 --skip-prior none".split()
    out = tmp_path / "fits.csv"
    flags = ["--data", str(folder), "--trait", dataset.trait, "--out", str(out)]
    assert validate.main([*flags, *short]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(f"trait {dataset.trait}: 1 x 2 folds of ")
    assert lines[1].split()[:3] == ["method", "accuracy", "slope"]
    names = ["GBLUP on markers", "ridge on omics", "ridge on both", "NN-MM, linear"]
    for line, name in zip(lines[2:8], [*names, names[0], names[3]], strict=True):
        assert name in line
        assert "±" in line
    assert lines[2].startswith(SEEN)
    assert lines[6].startswith(HIDDEN)
    assert len(pd.read_csv(out)) == 12


def test_script__keeps_an_existing_file(folder, dataset, tmp_path, capsys):
    out = tmp_path / "fits.csv"
    out.write_text("mine")
    flags = ["--data", str(folder), "--trait", dataset.trait, "--out", str(out)]
    assert validate.main(flags) == 2
    assert "exists already" in capsys.readouterr().err
    assert out.read_text() == "mine"


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--trait", "nothing"], "nothing"),
        (["--trait", "y", "--folds", "1"], "folds must be a whole number of at least 2"),
        (["--trait", "y", "--samples", "0"], "samples must be a whole number of at least 1"),
        (["--trait", "y", "--activation", "cosine"], "cosine"),
        (["--trait", "y", "--skip-prior", "Laplace"], "unknown prior 'Laplace'"),
        (["--trait", "y", "--out", "nowhere/fits.csv"], "there is no such folder"),
    ],
)
def test_script__one_line_on_wrong_input(folder, flags, message, capsys):
    assert validate.main(["--data", str(folder), *flags]) == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("validate: error: ")
    assert message in last


def test_script__one_line_on_wrong_flag(capsys):
    with pytest.raises(SystemExit, match="2"):
        validate.main(["--trait", "y"])
    assert capsys.readouterr().err.startswith("validate: error: the following arguments are")
