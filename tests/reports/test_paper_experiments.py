import importlib.util
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from nnmm_jax.api import fit
from nnmm_jax.errors import InputError
from nnmm_jax.reports import paper_experiments
from nnmm_jax.reports.agreement import correlation, slope
from nnmm_jax.reports.missing_patterns import WHOLE, Scenario, missing_cells
from nnmm_jax.reports.paper_data import RELATIONSHIP, PaperSettings, simulate_paper
from nnmm_jax.reports.paper_experiments import (
    first_experiment,
    read_paper_data,
    second_experiment,
    third_experiment,
)
from nnmm_jax.reports.paper_published import MODELS, PUBLISHED, SHARES, Chains
from nnmm_jax.reports.paper_verdict import misses, summarise
from nnmm_jax.reports.single_step import single_step

PATH = Path(__file__).parents[2] / "scripts" / "paper_experiments.py"
SIZE = {"individuals": 60, "test": 12, "markers": 40, "omics": 3}
SHORT = Chains(warmup=4, samples=6, chains=1)


@pytest.fixture
def script(monkeypatch):
    spec = importlib.util.spec_from_file_location("paper_experiments", PATH)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def fitted(monkeypatch):
    """Data and network of every fit, in place of the fit."""
    calls = []

    def record(dataset, network, true, test, chains, seeds):
        calls.append((dataset, network, true, test, seeds))
        scores = {"slope": 1.0, "ess": 10.0, "seconds": 1.0}
        return {"accuracy": 0.9 if network.activation == "sigmoid" else 0.8, **scores}

    monkeypatch.setattr(paper_experiments, "_network_scores", record)
    return calls


@pytest.fixture
def folder(tmp_path):
    """A small data set as that of the third experiment."""
    rng = np.random.default_rng(1)
    made = tmp_path / "paper"
    made.mkdir()
    index = pd.Index([f"pig{i}" for i in range(50)], name="id")
    dosages = rng.integers(0, 3, (50, 8))
    omics = dosages[:, :2] + rng.normal(size=(50, 2))
    pd.DataFrame(dosages, index, [f"snp{j}" for j in range(8)]).to_csv(made / "genotypes.csv")
    pd.DataFrame(omics, index, ["gene1", "gene2"]).to_csv(made / "omics.csv")
    trait = {"y": omics.sum(axis=1) + rng.normal(size=50), "bv_true": dosages[:, :2].sum(axis=1)}
    pd.DataFrame(trait, index).to_csv(made / "phenotypes.csv")
    return made


def fits_table(experiment, missing, first, second, slopes=1.0):
    """Fits of some replicates with given accuracies of both models."""
    rows = []
    for model, accuracies in zip(MODELS[experiment], (first, second), strict=True):
        rows += [
            {"replicate": number, "model": model, "accuracy": accuracy}
            for number, accuracy in enumerate(accuracies, start=1)
        ]
    about = {"experiment": experiment, "missing": missing, "slope": slopes, "seconds": 2.0}
    return pd.DataFrame(rows).assign(**about)


def test_published_means_have_a_place_for_every_share():
    assert {f"{share}%" for share in SHARES} == {key[1] for key in PUBLISHED if key[0] == 1}


def test_first_experiment_fits_both_models_to_the_same_holes(monkeypatch):
    made = []

    def keep(dataset, network, **options):
        made.append((dataset, network, fit(dataset, network, **options)))
        return made[-1][2]

    monkeypatch.setattr("nnmm_jax.api.fit", keep)
    settings = PaperSettings(**SIZE)
    rows = list(first_experiment(settings, [50], replicates=1, chains=SHORT, seed=3))
    assert [row["model"] for row in rows] == ["NN-GBLUP", "single step"]
    assert all(row["missing"] == "50%" and row["experiment"] == 1 for row in rows)

    data = simulate_paper(settings, seed=3)
    missing = missing_cells(Scenario(WHOLE, 50, 0), data.test, 3, seed=3)
    ((dataset, network, result),) = made
    np.testing.assert_array_equal(np.isnan(dataset.omics), missing)
    assert network.activation == "linear"
    assert result.posterior.sizes["draw"] == 6
    # the variances are the true ones in the user's units
    components = result.variance_components().set_index("component")["mean"]
    assert components["var_node_effect"] == pytest.approx(0.01)
    assert components["var_residual_trait"] == pytest.approx(data.var_residual)
    assert components["var_residual_node[omics1]"] == pytest.approx(0.78)
    assert components["var_marker_effect[omics1]"] == pytest.approx(1.22)
    true = data.ebv[data.test]
    estimated = result.breeding_values()["ebv"].to_numpy()[data.test]
    assert rows[0]["accuracy"] == pytest.approx(correlation(true, estimated))
    assert rows[0]["slope"] == pytest.approx(slope(true, estimated))
    omics = np.where(missing, np.nan, data.dataset.omics)
    variances = {"h2_omics": 0.61, "share_omics": 0.27 / 0.61 / 0.8}
    found = single_step(data.dataset.phenotype, omics, data.relationship, **variances)
    assert rows[1]["accuracy"] == pytest.approx(correlation(true, found.ebv[data.test]))


def test_first_experiment_can_estimate_variances(fitted):
    settings = PaperSettings(**SIZE)
    list(
        first_experiment(
            settings, [10, 99], replicates=2, chains=SHORT, seed=1, known_variances=False
        )
    )
    without = [int(np.isnan(dataset.omics).all(axis=1).sum()) for dataset, *_ in fitted]
    assert without == [5, 48, 5, 48]
    assert all(network.marker_prior.relationship == RELATIONSHIP for _, network, *_ in fitted)
    assert all(network.marker_prior.variance is None for _, network, *_ in fitted)
    assert len({tuple(seeds) for *_, seeds in fitted}) == 4


def test_second_experiment_has_both_patterns_and_both_activations(fitted):
    settings = PaperSettings(**SIZE, activation="sigmoid")
    rows = list(second_experiment(settings, replicates=2, chains=SHORT, seed=1))
    assert [network.activation for _, network, *_ in fitted] == ["sigmoid", "linear"] * 4
    assert not any(network.standardize for _, network, *_ in fitted)
    holes = [np.isnan(dataset.omics)[:48] for dataset, *_ in fitted]
    assert [int(hole.all(axis=1).sum()) for hole in holes[:2]] == [24, 24]
    assert [float(hole.mean()) for hole in holes] == [0.5] * 8
    np.testing.assert_array_equal(holes[2], holes[3])
    table = summarise(pd.DataFrame(rows))
    assert table["missing"].tolist() == ["50%", "50% of cells"]
    np.testing.assert_allclose(table["difference"], 0.1)
    assert misses(pd.DataFrame(rows)) == []


def test_third_experiment_hides_the_last_and_half_of_the_others(fitted, folder):
    dataset = read_paper_data(folder)
    rows = list(third_experiment(dataset, test=10, patterns=3, chains=SHORT, seed=1))
    assert [row["model"] for row in rows] == ["NN-BayesC", "NN-GBLUP"] * 3
    names = [network.marker_prior.name for _, network, *_ in fitted]
    assert names == ["BayesC", "GBLUP"] * 3
    patterns = set()
    for masked, _, true, test, _ in fitted:
        np.testing.assert_array_equal(np.flatnonzero(np.isnan(masked.phenotype)), range(40, 50))
        np.testing.assert_array_equal(np.flatnonzero(test), range(40, 50))
        without = np.isnan(masked.omics).all(axis=1)
        assert without[:40].sum() == 20
        assert not without[40:].any()
        np.testing.assert_array_equal(true, dataset.covariates["bv_true"])
        patterns.add(tuple(without))
    assert len(patterns) == 3


def test_third_experiment__raises_on_too_few_individuals_to_learn_from(folder):
    with pytest.raises(InputError, match=r"test must lie in 3..30 for 50 individuals, got 31"):
        next(third_experiment(read_paper_data(folder), test=31, patterns=1, chains=SHORT, seed=1))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda table: table.drop(columns="bv_true"), "expected a column bv_true"),
        (lambda table: table.assign(bv_true=np.nan), "expected a column bv_true"),
    ],
)
def test_read_paper_data__raises_on_data_without_truth(folder, change, message):
    path = folder / "phenotypes.csv"
    change(pd.read_csv(path)).to_csv(path, index=False)
    with pytest.raises(InputError, match=message):
        read_paper_data(folder)


def test_read_paper_data__raises_on_data_without_omics(folder):
    (folder / "omics.csv").unlink()
    with pytest.raises(InputError, match="found no omics"):
        read_paper_data(folder)


def test_summarise_has_means_paired_errors_and_published_values():
    fits = fits_table(1, "90%", [0.5, 0.6, 0.4], [0.4, 0.55, 0.34])
    (row,) = summarise(fits).to_dict("records")
    assert row["replicates"] == 3
    assert (row["published_a"], row["published_b"]) == (0.478, 0.448)
    assert row["accuracy_a"] == pytest.approx(0.5)
    assert row["error_a"] == pytest.approx(0.1 / np.sqrt(3))
    assert row["difference"] == pytest.approx(0.07)
    assert row["difference_error"] == pytest.approx(np.std([0.1, 0.05, 0.06], ddof=1) / 3**0.5)
    assert row["published_difference"] == pytest.approx(0.03)
    assert row["seconds"] == 12.0


HIGH, LOW = [0.60, 0.62, 0.58, 0.61], [0.50, 0.53, 0.49, 0.50]


@pytest.mark.parametrize(
    ("fits", "message"),
    [
        ([(1, "10%", LOW, LOW), (1, "99%", HIGH, LOW)], None),
        (
            [(1, "99%", LOW, LOW), (1, "10%", HIGH, LOW)],
            "NN-GBLUP is not ahead at 90% and more: +0.0000 ± 0.0000",
        ),
        (
            [(1, "10%", HIGH, LOW), (1, "99%", HIGH, LOW)],
            "the gap does not widen from 50% and less to 90% and more",
        ),
        ([(1, "30%", LOW, LOW), (1, "90%", LOW, LOW), (1, "95%", HIGH, LOW)], None),
        ([(1, "70%", LOW, LOW)], None),
        ([(1, "10%", LOW, HIGH), (1, "99%", HIGH, LOW)], "below the single-step approach at 10%"),
        ([(2, "50%", HIGH, LOW)], None),
        ([(2, "50%", LOW, LOW)], "sigmoid is not ahead of linear with 50% missing"),
        ([(3, "50%", [0.93, 0.92], [0.83, 0.84])], None),
        ([(3, "50%", [0.93, 0.91], [0.83, 0.84])], "accuracy of BayesC 0.9200, below 0.925"),
        ([(3, "50%", [0.93, 0.94], [0.93, 0.95])], "BayesC is not ahead of GBLUP"),
        ([(3, "50%", [0.93], [0.83])], None),
    ],
)
def test_misses_are_what_the_rules_say(fits, message):
    found = misses(pd.concat([fits_table(*one) for one in fits]))
    if message is None:
        assert found == []
    else:
        assert any(message in sentence for sentence in found)


@pytest.mark.parametrize(("slopes", "missed"), [(0.89, 1), (0.91, 0), (1.09, 0), (1.11, 1)])
def test_misses_look_at_the_slope(slopes, missed):
    found = misses(fits_table(3, "50%", [0.93, 0.94], [0.83, 0.85], slopes))
    assert len(found) == missed
    assert all("slope of BayesC" in sentence for sentence in found)


def test_script_prints_ours_beside_the_published(script, folder, tmp_path, capsys, fitted):
    out = tmp_path / "deep" / "out"
    size = "--individuals 60 --test 12 --markers 40 --omics 3 --replicates 2 --patterns 2".split()
    options = ["--out", str(out), "--data", str(folder), "--shares", "50", *size]
    assert script.main(options) == 1  # accuracies of 0.8 everywhere but with a sigmoid
    printed = capsys.readouterr()
    assert {path.name for path in out.iterdir()} == set(script.FILES)
    fits = pd.read_csv(out / "fits.csv")
    assert len(fits) == 4 + 8 + 4
    table = pd.read_csv(out / "experiment_2.csv")
    assert table["missing"].tolist() == ["50%", "50% of cells"]
    about = json.loads((out / "settings.json").read_text())
    assert about["omics"] == 3
    assert about["lengths"]["3"] == {"warmup": 500, "samples": 1500, "chains": 1}
    lines = printed.out.splitlines()
    sigmoid = next(line for line in lines if "of cells" in line and "sigmoid" in line)
    assert " ".join(sigmoid.split()) == (
        "2 50% of cells sigmoid 0.900 ± 0.000 0.484 1.00 ± 0.00 +0.1000 ± 0.0000 +0.079"
    )
    assert lines[-1].startswith(f"results: {out} (16 fits, ")
    assert "missed: experiment 3: accuracy of BayesC 0.8000, below 0.925" in printed.err
    assert "missed: experiment 2" not in printed.err


def test_script_skips_the_third_experiment_without_data(script, tmp_path, capsys):
    assert script.main(["--experiments", "3", "--out", str(tmp_path / "out")]) == 0
    assert "experiment 3 is skipped" in capsys.readouterr().out
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--experiments", "4"], "experiments must be of 1, 2, 3, got 4"),
        (["--replicates", "0"], "replicates must be at least 1, got 0"),
        (["--shares", "10,100"], "shares must lie in 0..99, got 100"),
        (["--omics", "1"], "omics must be a whole number of at least 2, got 1"),
        (["--samples", "0"], "samples must be a whole number of at least 1, got 0"),
        (["--data", "nowhere"], "data nowhere: expected a folder"),
    ],
)
def test_script__refuses_wrong_options(script, tmp_path, capsys, options, message):
    assert script.main([*options, "--out", str(tmp_path / "out")]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
