import inspect
import json
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

import nnmm_jax
from nnmm_jax import cli
from nnmm_jax.network.activations import ACTIVATIONS
from nnmm_jax.network.priors import PRIORS

IDS = [f"id{i:02d}" for i in range(20)]


@pytest.fixture
def tables(tmp_path):
    """Three small tables that can be fitted, as frames to be spoilt, and a way to write them."""
    rng = np.random.default_rng(4)
    dosages = rng.integers(0, 3, (20, 6))
    omics = dosages @ rng.normal(size=(6, 2)) + rng.normal(size=(20, 2))
    trait = omics @ [1.0, -0.5] + rng.normal(size=20)
    omics[3:6] = np.nan
    index = pd.Index(IDS, name="id")
    frames = {
        "genotypes": pd.DataFrame(dosages, index, [f"snp{j}" for j in range(6)]).astype(object),
        "omics": pd.DataFrame(omics, index, ["leaf", "root"]).astype(object),
        "phenotypes": pd.DataFrame({"y": trait, "z": np.nan, "sex": ["F", "M"] * 10}, index),
    }
    frames["phenotypes"] = frames["phenotypes"].astype(object)
    frames["phenotypes"].loc["id19", "y"] = np.nan
    return frames


def write(tables, folder):
    """Write the tables; return the flags of a short fit of them, by name."""
    flags = {"trait": "y", "out": str(folder / "out"), "warmup": 6, "samples": 6, "chains": 2}
    for name, table in tables.items():
        flags[name] = str(folder / f"{name}.csv")
        table.to_csv(flags[name])
    return flags


def command(flags):
    words = ["fit"]
    for name, value in flags.items():
        words += [f"--{name}"] if value is True else [f"--{name}", str(value)]
    return words


def assert_refused(capsys, folder, words, *fragments):
    before = sorted(folder.rglob("*"))
    assert cli.main(words) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    lines = captured.err.splitlines()
    assert len(lines) == 1, captured.err
    assert lines[0].startswith("nnmm: error: ")
    for fragment in fragments:
        assert fragment in lines[0]
    assert sorted(folder.rglob("*")) == before


@pytest.mark.parametrize(
    ("flag", "value", "fragments"),
    [
        ("trait", "yield", ["yield", "y"]),
        ("trait", "z", ["z"]),
        ("trait", "sex", ["sex"]),
        ("activation", "softmax", ["softmax", *ACTIVATIONS]),
        ("marker-prior", "BayesZ", ["BayesZ", *PRIORS]),
        ("node-prior", "lasso", ["lasso", *PRIORS]),
        ("skip-prior", "lasso", ["lasso", *PRIORS]),
        ("samples", 0, ["--samples", "0"]),
        ("samples", -5, ["--samples", "-5"]),
        ("chains", 0, ["--chains", "0"]),
        ("chains", -1, ["--chains", "-1"]),
        ("warmup", -1, ["--warmup", "-1"]),
        ("latent", -2, ["--latent", "-2"]),
        ("seed", -3, ["--seed", "-3"]),
        ("id-column", "animal", ["animal"]),
        ("genotypes", "nowhere.csv", ["nowhere.csv"]),
        ("omics", "nowhere.parquet", ["nowhere.parquet"]),
        ("phenotypes", ".", ["phenotypes"]),
    ],
)
def test_fit__refuses_wrong_flags(tables, tmp_path, capsys, flag, value, fragments):
    flags = write(tables, tmp_path) | {flag: value}
    assert_refused(capsys, tmp_path, command(flags), *fragments)


@pytest.mark.parametrize(
    ("flag", "value", "fragments"),
    [("fixed-trait", "~ age", ["age", "sex"]), ("fixed-omics", "y ~ sex", ["y ~ sex"])],
)
def test_fit__refuses_wrong_formulas(tables, tmp_path, capsys, flag, value, fragments):
    # Found after the join, whose report would come first.
    flags = write(tables, tmp_path) | {flag: value, "quiet": True}
    assert_refused(capsys, tmp_path, command(flags), *fragments)


def repeat_first_row(table):
    return pd.concat([table, table.iloc[[0]]])


def put(row, column, value):
    def spoil(table):
        table.loc[row, column] = value
        return table

    return spoil


@pytest.mark.parametrize(
    ("name", "spoil", "fragments"),
    [
        ("genotypes", repeat_first_row, ["genotypes.csv", "id00"]),
        ("omics", repeat_first_row, ["omics.csv", "id00"]),
        ("phenotypes", repeat_first_row, ["phenotypes.csv", "id00"]),
        ("omics", lambda table: table.rename(index=str.upper), ["omics"]),
        ("phenotypes", lambda table: table.rename(index=str.upper), ["phenotypes"]),
        ("genotypes", put("id07", "snp3", "AA"), ["genotypes.csv", "snp3", "id07"]),
        ("genotypes", put("id07", "snp3", 3), ["genotypes.csv", "snp3", "id07", "3"]),
        ("genotypes", put("id07", "snp3", -0.5), ["genotypes.csv", "snp3", "id07", "-0.5"]),
        ("genotypes", put("id07", "snp3", "inf"), ["genotypes.csv", "snp3", "id07"]),
        ("omics", put("id02", "root", "inf"), ["omics.csv", "root", "id02"]),
        ("omics", put("id02", "root", "high"), ["omics.csv", "root"]),
        ("omics", lambda table: table.assign(root=np.nan), ["omics.csv", "root"]),
        ("phenotypes", put("id02", "y", "inf"), ["phenotypes.csv", "y", "id02"]),
        ("phenotypes", put("id02", "y", "tall"), ["phenotypes.csv", "y"]),
    ],
)
def test_fit__refuses_wrong_tables(tables, tmp_path, capsys, name, spoil, fragments):
    flags = write(tables | {name: spoil(tables[name])}, tmp_path)
    assert_refused(capsys, tmp_path, command(flags), *fragments)


def test_fit__refuses_an_empty_middle_layer(tables, tmp_path, capsys):
    flags = write(tables, tmp_path)
    del flags["omics"]
    assert_refused(capsys, tmp_path, command(flags), "--omics", "--latent")


def test_fit__refuses_an_existing_folder_before_reading(tables, tmp_path, capsys):
    flags = write(tables, tmp_path) | {"genotypes": "nowhere.csv"}
    (tmp_path / "out").mkdir()
    assert_refused(capsys, tmp_path, command(flags), "out exists")


def test_fit__overwrites_only_results(tables, tmp_path, capsys):
    flags = write(tables, tmp_path) | {"overwrite": True}
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.tex").write_text("mine")
    assert_refused(capsys, tmp_path, command(flags), "out", "run.json")


@pytest.mark.parametrize(
    ("words", "fragment"),
    [
        ([], "required: {fit,simulate}"),
        (["fit"], "--genotypes, --phenotypes, --trait, --out"),
        (["fit", "--sampels", "9"], "--genotypes"),
        (["simulate", "--out", "x", "--individual", "9"], "--individual"),
        (["simulate", "--out", "x", "--markers", "many"], "--markers: invalid int value: 'many'"),
        (["predict"], "predict"),
    ],
)
def test_wrong_usage_is_one_line_after_the_usage(capsys, words, fragment):
    with pytest.raises(SystemExit, match="2"):
        cli.main(words)
    usage, error = capsys.readouterr().err.splitlines()
    assert usage.startswith("usage: nnmm")
    assert error.startswith("nnmm: error: ")
    assert fragment in error


def test_version(capsys):
    with pytest.raises(SystemExit, match="0"):
        cli.main(["--version"])
    assert capsys.readouterr().out == f"nnmm_jax {nnmm_jax.__version__}\n"


@pytest.mark.parametrize("words", [["--help"], ["fit", "--help"], ["fit", "--bogus"]])
def test_help_and_wrong_flags_load_nothing_heavy(words):
    program = (
        "import sys\n"
        "from nnmm_jax.cli import main\n"
        "try:\n"
        f"    main({words!r})\n"
        "except SystemExit:\n"
        "    pass\n"
        "print(sorted({'jax', 'numpy', 'pandas', 'arviz', 'matplotlib'} & set(sys.modules)))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "[]"


def test_defaults_are_those_of_the_package():
    options = cli.build_parser().parse_args(
        "fit --genotypes g --phenotypes p --trait y --out d".split()
    )
    signature = inspect.signature(nnmm_jax.fit).parameters
    for name in ("warmup", "samples", "chains", "seed"):
        assert getattr(options, name) == signature[name].default
    network = nnmm_jax.Network()
    assert options.activation == network.activation
    assert options.marker_prior == network.marker_prior.name
    assert options.node_prior == network.node_prior.name
    assert options.skip_prior is network.skip_prior
    assert options.latent == network.latent
    assert options.no_standardize is not network.standardize
    for name, default, _ in cli.SIMULATION_FLAGS:
        assert getattr(nnmm_jax.SimulationSettings(), name) == default


def test_help_lists_every_activation_and_prior(capsys):
    with pytest.raises(SystemExit, match="0"):
        cli.main(["fit", "--help"])
    text = " ".join(capsys.readouterr().out.split())
    for name in (*ACTIVATIONS, *PRIORS):
        assert name in text


def test_simulate_writes_a_data_set(tmp_path, capsys):
    size = "--individuals 60 --markers 50 --chromosomes 2 --omics 3".split()
    words = ["simulate", "--out", str(tmp_path / "data"), "--seed", "5", *size]
    assert cli.main(words) == 0
    assert "60 individuals, 50 markers, 3 omics, seed 5" in capsys.readouterr().out
    genotypes = pd.read_parquet(tmp_path / "data" / "genotypes.parquet")
    assert genotypes.shape == (60, 50)
    expected = nnmm_jax.simulate(
        nnmm_jax.SimulationSettings(individuals=60, markers=50, chromosomes=2, omics=3), 5
    )
    assert (genotypes.to_numpy() == expected.genotypes.to_numpy()).all()


@pytest.mark.parametrize(
    ("words", "fragment"),
    [
        (["--out", "{}"], "exists"),
        (["--out", "{}/new", "--seed", "-1"], "-1"),
        (["--out", "{}/new", "--individuals", "0"], "individuals"),
        (["--out", "{}/new", "--missing-cells", "2"], "missing_cells"),
    ],
)
def test_simulate__refuses(tmp_path, capsys, words, fragment):
    words = ["simulate", *(word.format(tmp_path) for word in words)]
    assert_refused(capsys, tmp_path, words, fragment)


def test_fit_writes_the_results(tables, tmp_path, capsys):
    flags = write(tables, tmp_path) | {"fixed-trait": "~ sex", "seed": 1}
    tables["genotypes"]["flat"] = 1  # constant: dropped with a count
    tables["genotypes"].to_csv(flags["genotypes"])
    assert cli.main(command(flags)) == 0
    captured = capsys.readouterr()
    assert "dropped: 1 constant" in captured.err
    assert "nnmm: warning: not converged" in captured.err
    assert "h2 of y" in captured.out
    assert captured.out.splitlines()[-1] == f"results: {tmp_path / 'out'}"
    result = nnmm_jax.load(tmp_path / "out")
    assert result.posterior.sizes["draw"] == 6
    assert result.posterior.sizes["chain"] == 2
    run = json.loads((tmp_path / "out" / "run.json").read_text(encoding="utf-8"))
    assert run["seed"] == 1
    assert run["files"]["omics"] == flags["omics"]
    assert set(run["seconds"]) == {"setup", "compilation", "warmup", "sampling"}
    table = pd.read_csv(tmp_path / "out" / "breeding_values.csv")
    assert list(table["id"]) == IDS
    assert list(table.loc[~table["phenotyped"], "id"]) == ["id19"]
    imputed = pd.read_csv(tmp_path / "out" / "omics_imputed.csv")
    assert sorted(set(imputed["id"])) == ["id03", "id04", "id05"]


def test_fit__quiet_says_only_warnings_and_overwrites(tables, tmp_path, capsys, make_result):
    make_result(individuals=3).save(tmp_path / "out")
    (tmp_path / "out" / "notes.txt").write_text("mine")
    flags = write(tables, tmp_path) | {"quiet": True, "overwrite": True, "latent": 1}
    del flags["omics"]
    assert cli.main(command(flags)) == 0
    captured = capsys.readouterr()
    assert captured.out == ""
    assert len(captured.err.splitlines()) == 1
    assert captured.err.startswith("nnmm: warning: not converged")
    result = nnmm_jax.load(tmp_path / "out")
    assert list(result.posterior["individual"].values) == IDS
    assert list(result.posterior["node"].values) == ["latent1"]
    assert (tmp_path / "out" / "notes.txt").read_text() == "mine"
    assert sorted(path.name for path in tmp_path.iterdir() if path.suffix != ".csv") == ["out"]
