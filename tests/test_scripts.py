import importlib.util
import json
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import nnmm_jax
from nnmm_jax.reports.agreement import compare_with_truth
from nnmm_jax.reports.folder import TABLES
from nnmm_jax.reports.identifiability import row as check_row
from nnmm_jax.reports.missing_grid import DIRECT, LATENT, NETWORK, grid_simulation
from nnmm_jax.reports.missing_patterns import WHOLE, Scenario, missing_cells

SCRIPTS = Path(__file__).parents[1] / "scripts"
SHORT = "--warmup 6 --samples 6 --chains 2".split()


def load_script(name):
    spec = importlib.util.spec_from_file_location(name, SCRIPTS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


demo = load_script("demo")
identifiability = load_script("identifiability")
missing_grid = load_script("missing_grid")
mixing = load_script("mixing")
warm_start = load_script("warm_start")


@pytest.fixture
def real_files(tmp_path):
    """A folder of small tables that nothing is known about."""
    rng = np.random.default_rng(2)
    folder = tmp_path / "farm"
    folder.mkdir()
    dosages = rng.integers(0, 3, (24, 8))
    omics = dosages @ rng.normal(size=(8, 2)) + rng.normal(size=(24, 2))
    index = pd.Index([f"cow{i}" for i in range(24)], name="id")
    pd.DataFrame(dosages, index, [f"snp{j}" for j in range(8)]).to_csv(folder / "genotypes.csv")
    pd.DataFrame(omics, index, ["liver", "milk"]).to_csv(folder / "omics.tsv", sep="\t")
    trait = pd.DataFrame({"fat": omics @ [1.0, 0.5] + rng.normal(size=24)}, index)
    trait.to_csv(folder / "phenotypes.csv")
    return folder


def assert_results(folder, chains, draws):
    names = {path.name for path in folder.iterdir()}
    assert {"posterior.nc", "run.json", "figures", *TABLES} == names
    assert list(folder.glob("figures/*.png"))
    sizes = nnmm_jax.load(folder).posterior.sizes
    assert (sizes["chain"], sizes["draw"]) == (chains, draws)


def test_demo_compares_a_simulation_with_its_truth(tmp_path, capsys):
    out = tmp_path / "deep" / "out"
    size = "--individuals 60 --markers 60 --seed 3".split()
    assert demo.main(["--out", str(out), *size, *SHORT]) == 0
    printed = capsys.readouterr()
    assert "individuals genotyped: 60" in printed.err
    assert "nnmm: warning: not converged" in printed.err
    lines = printed.out.splitlines()
    assert lines[0] == "in the 12 without phenotype:"
    for quantity in (
        "accuracy of EBV",
        "accuracy of EPV",
        "slope of true on estimated EBV",
        "90% interval",
        "h² of the trait",
        "worst R-hat",
        "smallest effective sample size",
        "seconds",
        "compilation",
    ):
        assert any(line.strip().startswith(quantity) for line in lines), quantity
    assert lines[-1] == f"results: {out}"
    assert_results(out, 2, 6)
    run = json.loads((out / "run.json").read_text(encoding="utf-8"))
    assert run["simulation"]["seed"] == 3
    assert run["settings"]["fixed_trait"] == "~ sex + batch"
    truth = nnmm_jax.simulate(
        nnmm_jax.SimulationSettings(**run["simulation"]["settings"]), seed=3
    ).truth["variances"]
    realised = truth.set_index("quantity").loc["h2_trait", "realised"]
    assert f"truth {realised:.3f}" in printed.out


def test_demo_fits_real_files_without_a_truth(real_files, tmp_path, capsys):
    out = tmp_path / "out"
    words = ["--data", str(real_files), "--trait", "fat", "--out", str(out), *SHORT]
    options = "--activation tanh --marker-prior RR-BLUP --node-prior BayesC --skip-prior none"
    assert demo.main([*words, *options.split()]) == 0
    printed = capsys.readouterr().out
    assert printed.count("in-sample fit, no validation") == 3
    assert "truth" not in printed
    assert "accuracy" not in printed
    assert_results(out, 2, 6)
    run = json.loads((out / "run.json").read_text(encoding="utf-8"))
    assert run["files"]["omics"] == str(real_files / "omics.tsv")
    settings = run["settings"]
    assert settings["activation"] == "tanh"
    assert settings["marker_prior"]["name"] == "RR-BLUP"
    assert settings["node_prior"]["name"] == "BayesC"
    assert settings["skip_prior"] is None
    assert settings["fixed_omics"] is None


@pytest.mark.parametrize(
    ("words", "fragments"),
    [
        (["--data", "{farm}"], ["--data and --trait"]),
        (["--trait", "fat"], ["--data and --trait"]),
        (["--data", "{tmp}/nowhere", "--trait", "fat"], ["nowhere"]),
        (["--data", "{tmp}", "--trait", "fat"], ["genotypes"]),
        (["--data", "{farm}", "--trait", "wool"], ["wool", "fat"]),
        (["--activation", "softmax"], ["softmax", "tanh"]),
        (["--marker-prior", "BayesZ"], ["BayesZ", "RR-BLUP"]),
        (["--node-prior", "lasso"], ["lasso", "RR-BLUP"]),
        (["--skip-prior", "lasso"], ["lasso", "RR-BLUP"]),
        (["--samples", "0"], ["samples", "0"]),
        (["--warmup", "-1"], ["warmup", "-1"]),
        (["--chains", "0"], ["chains", "0"]),
        (["--seed", "-3"], ["seed", "-3"]),
        (["--individuals", "0"], ["individuals"]),
    ],
)
def test_demo__refuses_in_one_line(real_files, tmp_path, capsys, words, fragments):
    before = sorted(tmp_path.rglob("*"))
    words = [word.format(farm=real_files, tmp=tmp_path) for word in words]
    assert demo.main(["--out", str(tmp_path / "out"), *words]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    lines = printed.err.splitlines()
    assert len(lines) == 1, printed.err
    assert lines[0].startswith("demo: error: ")
    for fragment in fragments:
        assert fragment in lines[0]
    assert sorted(tmp_path.rglob("*")) == before


def test_demo__refuses_a_folder_without_omics(real_files, tmp_path, capsys):
    (real_files / "omics.tsv").unlink()
    words = ["--data", str(real_files), "--trait", "fat", "--out", str(tmp_path / "out")]
    assert demo.main(words) == 2
    assert "expected a file omics.*" in capsys.readouterr().err


def test_demo__refuses_an_existing_folder(tmp_path, capsys):
    assert demo.main(["--out", str(tmp_path)]) == 2
    assert capsys.readouterr().err.startswith(f"demo: error: {tmp_path} exists")
    (tmp_path / "thesis.tex").write_text("mine")
    assert demo.main(["--out", str(tmp_path), "--overwrite"]) == 2
    assert "run.json" in capsys.readouterr().err


@pytest.mark.parametrize("words", [["--bogus"], ["--samples", "many"], ["--sample", "5"]])
def test_demo__wrong_flags_are_one_line(capsys, words):
    with pytest.raises(SystemExit, match="2"):
        demo.main(words)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("demo: error: ")


GRID_SIZE = {"individuals": 120, "test": 40, "markers": 36, "omics": 2}
GRID = [word for name, size in GRID_SIZE.items() for word in (f"--{name}", str(size))]


@pytest.mark.statistical  # slow: a fit for every scenario
def test_missing_grid_compares_every_scenario_with_ignoring_omics(tmp_path, capsys):
    out = tmp_path / "deep" / "grid"
    chosen = ["--training", "100", "--patterns", "blocks", "--seed", "3", "--out", str(out)]
    code = missing_grid.main([*GRID, *chosen, *SHORT])
    printed = capsys.readouterr()
    assert {path.name for path in out.iterdir()} == set(missing_grid.FILES)
    fits, grid = pd.read_csv(out / "fits.csv"), pd.read_csv(out / "grid.csv")
    columns = ["pattern", "training_missing", "test_missing", "model"]
    assert fits[columns].to_numpy().tolist() == [
        ["omics ignored", 100, 100, "GBLUP"],
        ["omics ignored", 100, 100, DIRECT],
        [WHOLE, 100, 0, NETWORK],
        [WHOLE, 100, 100, LATENT],
        ["blocks", 0, 100, NETWORK],
    ]
    assert (fits["individuals"] == 40).all()
    np.testing.assert_allclose(fits["cells_missing"], [100, 100, 100, 100, 25])
    ignored = {"marker_prior": None, "skip_prior": "RR-BLUP"}
    assert_row(fits.iloc[1], 0, ignored, Scenario(WHOLE, 100, 100))
    assert_row(fits.iloc[2], 1, {"marker_prior": "RR-BLUP"}, Scenario(WHOLE, 100, 0))
    assert_row(fits.iloc[3], 2, {"marker_prior": "RR-BLUP", "latent": 2}, Scenario(WHOLE, 100, 100))
    assert_row(fits.iloc[4], 3, {"marker_prior": "RR-BLUP"}, Scenario("blocks", 0, 100))
    differences = grid["accuracy_ebv"] - fits.loc[1, "accuracy_ebv"]
    np.testing.assert_allclose(grid["difference"], differences, atol=1e-6)
    errors = np.hypot(fits["accuracy_error"], fits.loc[1, "accuracy_error"])
    np.testing.assert_allclose(grid["difference_error"][2:], errors[2:], rtol=1e-5)
    worse = grid["difference"][2:] < -3 * grid["difference_error"][2:]
    assert (grid["verdict"][2:] == "WORSE").tolist() == worse.tolist()
    assert code == int(worse.any())
    assert printed.err.count("missing_grid: worse than ignoring omics: ") == worse.sum()
    lines = printed.out.splitlines()
    for line, (_, row) in zip(lines[1:6], grid.iterrows(), strict=True):
        assert line.strip().startswith(row["pattern"])
        assert f"{row['accuracy_ebv']:.3f}" in line
        assert f"{row['slope_epv']:.2f}" in line
    assert lines[-1].startswith(f"results: {out} (5 fits, ")


def assert_row(row, number, network, scenario):
    """The row's scores are those of a fit by hand."""
    simulated = nnmm_jax.simulate(grid_simulation(**GRID_SIZE), seed=3)
    tables = simulated.genotypes, simulated.omics, simulated.phenotypes
    if scenario.nothing_observed:
        data = nnmm_jax.read_dataset(tables[0], None, tables[2], "y")
    else:
        data = nnmm_jax.read_dataset(*tables, "y")
        test = np.isnan(data.phenotype)
        data = data.mask(omics=missing_cells(scenario, test, 2, seed=3))
    result = nnmm_jax.fit(
        data,
        nnmm_jax.Network(**network),
        warmup=6,
        samples=6,
        chains=2,
        seed=int(np.random.SeedSequence([3, 1, number]).generate_state(1)[0] >> 1),
        progress=False,
    )
    found = compare_with_truth(result, simulated.truth["individuals"]).loc["unphenotyped"]
    scores = [f"{score}_{kind}" for score in ("accuracy", "slope") for kind in ("ebv", "epv")]
    np.testing.assert_allclose(row[scores].astype(float), found[scores], rtol=1e-5)
    diagnostics = result.diagnostics().set_index("quantity").loc["h2_trait"]
    np.testing.assert_allclose(row[["r_hat", "ess"]].astype(float), diagnostics.iloc[:2], rtol=1e-5)


def test_missing_grid__says_which_scenario_is_worse(tmp_path, capsys, monkeypatch):
    about = {"training_missing": 100, "test_missing": 100, "replicate": 1, "cells_missing": 100.0}
    scores = {"slope_ebv": 1.0, "accuracy_epv": 0.5, "slope_epv": 1.0, "accuracy_error": 0.001}
    rows = [
        {"pattern": "omics ignored", "model": DIRECT, "accuracy_ebv": 0.8},
        {"pattern": WHOLE, "model": NETWORK, "accuracy_ebv": 0.88, "training_missing": 0},
        {"pattern": WHOLE, "model": NETWORK, "accuracy_ebv": 0.89, "training_missing": 50},
        {"pattern": WHOLE, "model": LATENT, "accuracy_ebv": 0.79},
    ]
    chains = {"r_hat": 1.0, "ess": 500.0, "seconds": 1.0}
    fits = pd.DataFrame([about | scores | chains | row for row in rows])
    monkeypatch.setattr("nnmm_jax.reports.missing_grid.fit_grid", lambda *_, **__: fits)
    assert missing_grid.main(["--out", str(tmp_path / "out")]) == 1
    printed = capsys.readouterr()
    (line,) = printed.err.splitlines()
    assert line == (
        "missing_grid: worse than ignoring omics: whole individuals, 100% of the training and 100% "
        "of the test individuals without omics: EBV accuracy 0.7900, difference -0.0100 ± 0.0014"
    )
    lines = printed.out.splitlines()
    assert lines[-3].startswith("A loss of more than 0.0042 would have been called worse")
    assert lines[-2] == (
        "test 100% missing: EBV accuracy changes by -0.0900 over the training axis, "
        "largest step -0.1000 (50 to 100%), largest rise 0.0100"
    )


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--test", "2"], "test must lie in 3..3531"),
        (["--markers", "5"], "markers must be a whole number >= 18"),
        (["--training", "0,200"], "training_missing must lie in 0..100, got 200"),
        (["--patterns", "stripes"], "unknown pattern 'stripes'"),
        (["--marker-prior", "Laplace"], "unknown prior 'Laplace'"),
        (["--replicates", "0"], "replicates must be a whole number of at least 1"),
        (["--chains", "1"], "chains must be a whole number of at least 2"),
        (["--samples", "0"], "samples must be a whole number of at least 1"),
    ],
)
def test_missing_grid__refuses_in_one_line(tmp_path, capsys, words, message):
    assert missing_grid.main(["--out", str(tmp_path / "out"), *words]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("missing_grid: error: ")
    assert message in line
    assert not (tmp_path / "out").exists()


def test_missing_grid__refuses_an_existing_folder(tmp_path, capsys):
    assert missing_grid.main(["--out", str(tmp_path)]) == 2
    assert capsys.readouterr().err.startswith(f"missing_grid: error: {tmp_path} exists")


def test_missing_grid__wrong_flag_is_one_line(capsys):
    with pytest.raises(SystemExit, match="2"):
        missing_grid.main(["--training", "half"])
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("missing_grid: error: argument --training: invalid percents value")


TINY = "--individuals 40 --markers 30 --latent 1 --iterations 60 --warmup 2 --samples 10".split()


def test_identifiability_checks_and_judges(tmp_path, capsys):
    out = tmp_path / "deep" / "latent"
    chosen = "--checks drift --activations linear".split()
    code = identifiability.main(["--out", str(out), *TINY, *chosen])
    printed = capsys.readouterr()
    assert {path.name for path in out.iterdir()} == set(identifiability.FILES)
    table = pd.read_csv(out / "identifiability.csv", keep_default_na=False)
    assert table["check"].tolist() == ["drift"] * 2
    fine = table["value"].between(0.95, 1.05)
    assert (table["verdict"] == np.where(fine, "ok", "MISSED")).all()
    assert code == int(not fine.all())
    assert printed.err.count("identifiability: missed: ") == (~fine).sum()
    assert printed.out.count("MISSED") == (~fine).sum()
    assert printed.out.splitlines()[-1].startswith(f"results: {out} (")


def test_identifiability_makes_each_check_that_is_asked_for(tmp_path, capsys, monkeypatch):
    library = "nnmm_jax.reports.identifiability"
    monkeypatch.setattr(
        f"{library}.equality",
        lambda _, settings: [check_row("equality", "x", "slope", 1.0, low=0.9)],
    )

    def starts(dataset, network, settings, label):
        assert (network.latent, settings.chains, settings.samples) == (1, 8, 30)
        value = 1.5 if network.activation == "tanh" else 1.0
        return [check_row("starts", label, "R-hat of h2_trait", value, high=1.02)]

    monkeypatch.setattr(f"{library}.starts", starts)
    words = ["--out", str(tmp_path / "out"), *TINY, "--checks", "equality,starts"]
    words += ["--start-samples", "30"]
    assert identifiability.main(words) == 1
    *_, line = capsys.readouterr().err.splitlines()
    assert line == "identifiability: missed: starts, tanh, 1 latent, R-hat of h2_trait: 1.5000"
    words[1] = str(tmp_path / "again")
    assert identifiability.main([*words, "--activations", "linear"]) == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--checks", "drift,sign"], "--checks: expected some of drift, equality, starts"),
        (["--activations", "softmax"], "softmax"),
        (["--iterations", "49"], "--iterations: expected at least 50, found 49"),
        (["--latent", "0"], "--latent: expected at least 1, found 0"),
        (["--samples", "0"], "samples must be a whole number of at least 1"),
        (["--markers", "1"], "markers must be a whole number >= 5"),
    ],
)
def test_identifiability__refuses_in_one_line(tmp_path, capsys, words, message):
    assert identifiability.main(["--out", str(tmp_path / "out"), *words]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("identifiability: error: ")
    assert message in line
    assert not (tmp_path / "out").exists()


SMALL = "--individuals 40 --markers 30 --warmup 20 --samples 40 --samplers hmc".split()


@pytest.mark.statistical  # slow: a fit for every row
def test_mixing_measures_the_block_and_the_sampler(tmp_path, capsys):
    out = tmp_path / "deep" / "mixing"
    code = mixing.main(["--out", str(out), *SMALL, "--dimensions", "3"])
    printed = capsys.readouterr()
    assert {path.name for path in out.iterdir()} == set(mixing.FILES)
    table = pd.read_csv(out / "mixing.csv", keep_default_na=False)
    assert table[["nodes", "sampler"]].to_numpy().tolist() == [[3, "hmc"]]
    assert (table.drop(columns=["sampler", "verdict"]) >= 0).to_numpy().all()
    data = nnmm_jax.simulate(
        nnmm_jax.SimulationSettings(
            individuals=40,
            markers=30,
            omics=3,
            activation="tanh",
            share_mediated=0.6,
            share_direct=0.0,
            without_omics=0.3,
            missing_cells=0.0,
            without_phenotype=0.0,
        ),
        seed=1,
    ).dataset()
    network = nnmm_jax.Network(activation="tanh", marker_prior="RR-BLUP")
    run = {"warmup": 20, "samples": 40, "chains": 2, "seed": 1, "progress": False}
    stats = nnmm_jax.fit(data, network, **run).sample_stats
    assert table["acceptance"][0] == pytest.approx(float(stats["accept_prob"].mean()), rel=1e-4)
    assert code == int(table["verdict"][0] == "MISSED")
    assert f"{table['alone_acceptance'][0]:.3f}" in printed.out
    assert printed.out.splitlines()[-1].startswith(f"results: {out} (")


def test_mixing__says_which_row_is_missed(tmp_path, capsys, monkeypatch):
    rows = [
        {"nodes": 10, "sampler": "hmc", "acceptance": 0.9, "verdict": "ok"},
        {"nodes": 10, "sampler": "nuts", "acceptance": 0.4, "verdict": "MISSED"},
    ]
    monkeypatch.setattr("nnmm_jax.reports.mixing.mixing", lambda *_: pd.DataFrame(rows))
    assert mixing.main(["--out", str(tmp_path / "out")]) == 1
    assert capsys.readouterr().err == "mixing: missed: nuts, 10 missing omics\n"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--dimensions", "0"], "dimensions: expected positive numbers of omics"),
        (["--samplers", "gibbs"], "samplers: expected some of hmc, nuts, complete, found 'gibbs'"),
        (["--missing", "1"], "missing must lie between 0 and 1"),
        (["--samples", "2"], "samples must be at least 8"),
    ],
)
def test_mixing__refuses_in_one_line(tmp_path, capsys, words, message):
    assert mixing.main(["--out", str(tmp_path / "out"), *words]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("mixing: error: ")
    assert message in line
    assert not (tmp_path / "out").exists()


def test_warm_start_writes_and_prints_what_it_measured(tmp_path, capsys, monkeypatch):
    asked = []

    def measured(settings, names):
        asked.append((settings.markers, names))
        numbers = dict.fromkeys(warm_start.FORMATS, 12.25)
        rows = [{"case": "RR-BLUP", "start": one, "slowest": "h2_trait"} for one in ("a", "b")]
        return pd.DataFrame([row | numbers for row in rows])

    monkeypatch.setattr("nnmm_jax.reports.warm_start.warm_start", measured)
    out = tmp_path / "out"
    assert warm_start.main(["--out", str(out), "--markers", "7", "--cases", "RR-BLUP;A"]) == 0
    assert asked == [(7, ["RR-BLUP", "A"])]
    assert pd.read_csv(out / "warm_start.csv")["enough"].tolist() == [12.25, 12.25]
    printed = capsys.readouterr().out
    assert printed.count("RR-BLUP") == 2
    assert printed.splitlines()[-1].startswith(f"results: {out} (")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--cases", "RR-BLUP;lasso"], "cases: expected some of BayesC, few causal; "),
        (["--samples", "10"], "samples must be at least 100"),
        (["--chains", "0"], "chains"),
    ],
)
def test_warm_start__refuses_in_one_line(tmp_path, capsys, words, message):
    assert warm_start.main(["--out", str(tmp_path / "out"), *words]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("warm_start: error: ")
    assert message in line
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("script", [identifiability, mixing, warm_start])
def test_checks_of_the_sampler__refuse_an_existing_folder(tmp_path, capsys, script):
    assert script.main(["--out", str(tmp_path)]) == 2
    assert f"error: {tmp_path} exists" in capsys.readouterr().err


NAMES = ["demo", "identifiability", "missing_grid", "mixing", "test", "warm_start"]


@pytest.mark.parametrize("name", NAMES)
def test_scripts_can_be_called(name):
    assert os.access(SCRIPTS / name, os.X_OK)
