import importlib.util
import json
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import nnmm_jax
from nnmm_jax.reports.folder import TABLES

SCRIPTS = Path(__file__).parents[1] / "scripts"
SHORT = "--warmup 6 --samples 6 --chains 2".split()


def load_script(name):
    spec = importlib.util.spec_from_file_location(name, SCRIPTS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


demo = load_script("demo")


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
    assert "demo: warning: not converged" in printed.err
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


@pytest.mark.parametrize("name", ["demo", "test"])
def test_scripts_can_be_called(name):
    assert os.access(SCRIPTS / name, os.X_OK)
