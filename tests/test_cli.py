import inspect
import json
import shutil
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

import nnmm_jax
from nnmm_jax import cli, cli_flags, cli_predict
from nnmm_jax.network.activations import ACTIVATIONS
from nnmm_jax.network.priors import PRIORS

IDS = [f"id{i:02d}" for i in range(20)]


def build_tables():
    """Three small tables that can be fitted, as frames to be spoilt."""
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


@pytest.fixture
def tables():
    return build_tables()


def write(tables, folder):
    """Write the tables; return the flags of a short fit of them, by name."""
    flags = {"trait": "y", "out": str(folder / "out"), "warmup": 6, "samples": 6, "chains": 2}
    for name, table in tables.items():
        flags[name] = str(folder / f"{name}.csv")
        table.to_csv(flags[name])
    return flags


def command(flags, name="fit"):
    words = [name]
    for flag, value in flags.items():
        for one in value if isinstance(value, list) else [value]:
            words += [f"--{flag}"] if one is True else [f"--{flag}", str(one)]
    return words


def add_tables(flags, folder):
    """Write a pedigree, a relationship matrix, its inverse and marker groups; return the flags."""
    tables = {
        "pedigree": pd.DataFrame(
            {"id": IDS, "sire": [""] * 4 + IDS[:16], "dam": [""] * 4 + IDS[1:17]}
        ),
        "groups": pd.DataFrame({"marker": ["snp0", "snp1"], "group": ["cis", "cis"]}),
        "lines": pd.DataFrame(np.eye(20) + 0.5, pd.Index(IDS, name="id"), IDS).reset_index(),
    }
    tables["lines_inverse"] = pd.DataFrame(
        np.linalg.inv(np.eye(20) + 0.5), pd.Index(IDS, name="id"), IDS
    ).reset_index()
    for name, table in tables.items():
        table.to_csv(folder / f"{name}.csv", index=False)
    return flags | {
        "pedigree": folder / "pedigree.csv",
        "relationship": f"K={folder / 'lines.csv'}",
        "inverse-relationship": f"L = {folder / 'lines_inverse.csv'}",
        "marker-groups": folder / "groups.csv",
    }


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
        ("marker-prior", "BayesC(p=0.9)", ["--marker-prior: BayesC has", "pi, pi_counts", "'p'"]),
        ("marker-prior", ["BayesC", "BayesA"], ["--marker-prior", "GROUP=PRIOR"]),
        ("marker-prior", "GBLUP(relationship=K)", ["--marker-prior", "(none), found 'K'"]),
        ("skip-prior", ["cis=BayesC", "cis=BayesA"], ["--skip-prior", "cis=BayesA"]),
        ("node-prior", "BayesL(lambda2=-1)", ["--node-prior: BayesL: lambda2", "-1"]),
        ("residual-omics", "df=1", ["--residual-omics: Residual: df", "1"]),
        ("residual-trait", "sd=1", ["--residual-trait", "df, share, scale, variance", "'sd'"]),
        ("random-omics", "sex(share=2)", ["--random-omics: Group: share", "2"]),
        ("random-trait", ["sex", "sex(df=5)"], ["random_trait", "'sex' more than once"]),
        ("relationship", "K", ["--relationship: expected NAME=FILE, found 'K'"]),
        ("relationship", ["K=a.csv", "K=b.csv"], ["--relationship", "'K' more than once"]),
        ("relationship", "K=nowhere.csv", ["'K'", "nowhere.csv"]),
        ("inverse-relationship", "K=nowhere.csv", ["'K'", "nowhere.csv"]),
        ("pedigree", "nowhere.csv", ["pedigree", "nowhere.csv"]),
        ("marker-groups", "nowhere.csv", ["marker groups", "nowhere.csv"]),
        (
            "marker-prior",
            ["cis=none", "trans=none"],
            ["--marker-prior", "'cis', 'trans'; say none"],
        ),
        ("connections", "nowhere.csv", ["connections nowhere.csv"]),
        ("cis-window", 5, ["--marker-map, --node-map and --cis-window", "only --cis-window;"]),
        ("marker-map", "map.csv", ["a cis window", "found only --marker-map; add the others"]),
        ("weights", "heft", ["heft", "sex"]),
        ("omics-weights", "sex", ["sex"]),
        ("random-trait", "pen", ["--random-trait", "'sex'", "found 'pen'"]),
        ("samples", 0, ["--samples", "0"]),
        ("samples", -5, ["--samples", "-5"]),
        ("chains", 0, ["--chains", "0"]),
        ("chains", -1, ["--chains", "-1"]),
        ("warmup", -1, ["--warmup", "-1"]),
        ("until-ess", 0, ["until_ess", "above 0"]),
        ("max-samples", 100, ["max_samples", "until_ess"]),
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


@pytest.mark.parametrize(
    ("flag", "value", "fragments"),
    [
        ("random-trait", "sex", ["--random-trait", "'sex' is a relationship matrix and a column"]),
        ("random-omics", "pedigree", ["--random-omics", "'pedigree' is the pedigree and the name"]),
    ],
)
def test_fit__refuses_names_of_two_things(tables, tmp_path, capsys, flag, value, fragments):
    flags = add_tables(write(tables, tmp_path), tmp_path)
    matrix = tmp_path / "lines.csv"
    flags |= {"relationship": [f"sex={matrix}", f"pedigree={matrix}"], flag: value, "quiet": True}
    assert_refused(capsys, tmp_path, command(flags), *fragments)


@pytest.mark.parametrize(
    ("without", "more", "fragments"),
    [
        ("pedigree", {"marker-prior": "cis=BayesC"}, ["'cis', 'other'", "found 'cis'"]),
        ("pedigree", {}, ["--marker-groups: no prior uses them", "GROUP=PRIOR"]),
        ("marker-groups", {}, ["--pedigree: no term uses it", "--random-trait pedigree"]),
    ],
)
def test_fit__refuses_files_that_nothing_or_half_of_the_priors_use(
    tables, tmp_path, capsys, without, more, fragments
):
    flags = add_tables(write(tables, tmp_path), tmp_path) | more | {"quiet": True}
    del flags[without]
    assert_refused(capsys, tmp_path, command(flags), *fragments)


def add_maps(flags, folder):
    """Write a table of connections and maps of markers and nodes; return the flags of the maps."""
    tables = {
        "connections": pd.DataFrame({"marker": ["snp4", "snp0"], "node": ["leaf", "latent1"]}),
        "markers": pd.DataFrame(
            {"marker": [f"snp{j}" for j in range(6)], "chromosome": 1, "position": range(6)}
        ),
        "nodes": pd.DataFrame(
            {"node": ["leaf", "root"], "chromosome": [1, 1], "start": [0, 4], "end": [1, 4]}
        ),
    }
    for name, table in tables.items():
        table.to_csv(folder / f"{name}.csv", index=False)
    maps = {"marker-map": folder / "markers.csv", "node-map": folder / "nodes.csv"}
    return flags | maps | {"cis-window": 1.5}


def read_options(flags):
    """Options of a command, and the data that they stand for."""
    options = cli.build_parser().parse_args(command(flags))
    return options, cli_flags.read_data(options, cli_flags.network_of(options))


def test_connections_from_a_file(tables, tmp_path):
    flags = write(tables, tmp_path)
    add_maps(flags, tmp_path)
    options, data = read_options(flags | {"connections": tmp_path / "connections.csv"})
    assert data.connections.nodes == ("leaf", "latent1")
    assert [positions.tolist() for positions in data.connections.markers] == [[4], [0]]
    files = cli_flags.files_of(options)
    assert files["connections"] == str(tmp_path / "connections.csv")
    assert files["marker_map"] is files["node_map"] is files["cis_window"] is None


def test_connections_within_a_cis_window(tables, tmp_path):
    options, data = read_options(add_maps(write(tables, tmp_path), tmp_path))
    assert data.connections.nodes == ("leaf", "root")
    assert [one.tolist() for one in data.connections.markers] == [[0, 1, 2], [3, 4, 5]]
    files = cli_flags.files_of(options)
    assert files["marker_map"] == str(tmp_path / "markers.csv")
    assert files["node_map"] == str(tmp_path / "nodes.csv")
    assert files["cis_window"] == 1.5
    assert files["connections"] is None
    assert read_options(write(tables, tmp_path))[1].connections is None


@pytest.mark.parametrize(
    ("without", "more", "fragments"),
    [
        ([], {"connections": "c.csv"}, ["--connections", "--marker-map and --node-map and --cis"]),
        (["cis-window", "node-map"], {"connections": "c.csv"}, ["--connections", "--marker-map"]),
        (["cis-window"], {}, ["a cis window", "found only --marker-map and --node-map; add"]),
        (["node-map"], {}, ["a cis window", "found only --marker-map and --cis-window; add"]),
        (["marker-map", "cis-window"], {}, ["a cis window", "found only --node-map; add"]),
        ([], {"cis-window": -1}, ["cis window: expected a distance >= 0", "found -1.0"]),
        ([], {"cis-window": "nan"}, ["cis window: expected a distance >= 0", "found nan"]),
        ([], {"node-map": "nowhere.csv"}, ["node map nowhere.csv"]),
    ],
)
def test_fit__refuses_half_a_cis_window(tables, tmp_path, capsys, without, more, fragments):
    flags = add_maps(write(tables, tmp_path), tmp_path)
    flags = {name: value for name, value in flags.items() if name not in without} | more
    assert_refused(capsys, tmp_path, command(flags), *fragments)


@pytest.mark.parametrize(
    ("without", "more", "fragments"),
    [
        (["genotypes"], {}, ["--genotypes, --pedigree or --relationship"]),
        (["genotypes"], {"pedigree": "p.csv"}, ["--genotypes", "--marker-prior none"]),
        (["genotypes", "omics"], {"skip-prior": "none"}, ["--omics", "--skip-prior"]),
    ],
)
def test_fit__refuses_data_without_what_the_network_needs(
    tables, tmp_path, capsys, without, more, fragments
):
    flags = {k: v for k, v in write(tables, tmp_path).items() if k not in without} | more
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
        ([], f"required: {cli.COMMANDS}"),
        (["fit"], "--phenotypes, --trait, --out"),
        (["fit", "--sampels", "9"], "--phenotypes"),
        (["prior"], "--phenotypes, --trait"),
        (["simulate", "--out", "x", "--individual", "9"], "--individual"),
        (["fit", "--cis-window", "wide"], "--cis-window: invalid float value: 'wide'"),
        (["simulate", "--out", "x", "--markers", "many"], "--markers: invalid int value: 'many'"),
        (["predict"], "DIR, --genotypes, --out"),
        (["predict", "results", "--genotypes", "g.csv"], "--out"),
        (["forecast"], "forecast"),
    ],
)
def test_wrong_usage_is_one_line(capsys, words, fragment):
    with pytest.raises(SystemExit, match="2"):
        cli.main(words)
    (error,) = capsys.readouterr().err.splitlines()
    assert error.startswith("nnmm: error: ")
    assert fragment in error


def test_version(capsys):
    with pytest.raises(SystemExit, match="0"):
        cli.main(["--version"])
    assert capsys.readouterr().out == f"nnmm_jax {nnmm_jax.__version__}\n"


@pytest.mark.parametrize(
    "words",
    [
        ["--help"],
        ["fit", "--help"],
        ["fit", "--bogus"],
        ["predict", "--help"],
        ["prior", "--help"],
    ],
)
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
    for name in ("warmup", "samples", "chains", "seed", "until_ess", "max_samples"):
        assert getattr(options, name) == signature[name].default
    options.omics = "o"
    assert cli_flags.network_of(options) == nnmm_jax.Network()
    prior = cli.build_parser().parse_args("prior --phenotypes p --trait y".split())
    signature = inspect.signature(nnmm_jax.Model.prior_predictive).parameters
    for name in ("draws", "seed"):
        assert getattr(prior, name) == signature[name].default
    plan = cli.build_parser().parse_args(["plan"])
    signature = inspect.signature(nnmm_jax.Model.plan).parameters
    for name in ("warmup", "samples", "chains", "sampler", "until_ess", "max_samples"):
        assert getattr(plan, name) == signature[name].default
    for name, default, _ in cli.SIMULATION_FLAGS:
        assert getattr(nnmm_jax.SimulationSettings(), name) == default


@pytest.mark.parametrize("name", ["fit", "plan", "prior"])
def test_help_lists_every_activation_and_prior(capsys, name):
    with pytest.raises(SystemExit, match="0"):
        cli.main([name, "--help"])
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


def test_fit__goes_on_until_the_effective_sample_size(tables, tmp_path, capsys):
    limits = {"until-ess": "1e5", "max-samples": 10}
    flags = write(tables, tmp_path) | limits
    assert cli.main(command(flags)) == 0
    printed = capsys.readouterr().err
    assert printed.count("nnmm: warning: ESS 100000 and R-hat 1.01 not reached in 10 samples") == 1
    assert printed.count("nnmm: warning: not converged") == 1
    result = nnmm_jax.load(tmp_path / "out")
    assert result.posterior.sizes["draw"] == result.run["until_ess"]["samples"] == 10
    assert result.run["settings"]["max_samples"] == 10


def load_settings(folder):
    return json.loads((folder / "run.json").read_text(encoding="utf-8"))["settings"]


def test_fit__with_groups_terms_weights_and_repeated_records(tables, tmp_path, capsys):
    phenotypes = tables["phenotypes"].assign(pen=list("abcde") * 4, heft=2.0)
    again = phenotypes.iloc[[0, 0, 5]].assign(y=[0.5, 1.0, -1.0], heft=1.0)
    tables["phenotypes"] = pd.concat([phenotypes, again])
    flags = add_tables(write(tables, tmp_path), tmp_path) | {
        "marker-prior": ["cis=BayesR(mixture=(0, 0.1, 1))", "other=BayesB(pi=0.9)"],
        "node-prior": "BayesL",
        "skip-prior": "GBLUP(share=0.1)",
        "random-omics": ["L", "pedigree(share=0.1)"],
        "random-trait": ["K(variance=0.2)", "pen", "id"],
        "residual-trait": "df=5",
        "weights": "heft",
    }
    assert cli.main(command(flags)) == 0
    captured = capsys.readouterr()
    assert "records of 'y': 22; individuals with more than one: 2" in captured.err
    assert "19 phenotyped for y (22 records)" in captured.out
    settings = load_settings(tmp_path / "out")
    assert settings["marker_prior"]["cis"]["mixture"] == [0, 0.1, 1]
    assert settings["marker_prior"]["other"]["pi"] == 0.9
    assert [term["name"] for term in settings["random_trait"]] == ["Relationship", "Group", "Group"]
    assert settings["residual_trait"]["df"] == 5
    run = json.loads((tmp_path / "out" / "run.json").read_text(encoding="utf-8"))
    assert list(run["files"]["relationships"]) == ["K", "L"]
    components = pd.read_csv(tmp_path / "out" / "variance_components.csv")["component"]
    assert {
        "var_polygenic",
        "var_random_trait_K",
        "var_random_trait_pen",
        "var_random_node_L[leaf]",
        "var_random_node_pedigree[root]",
        "lambda2_node_effect",
        "weights_marker_cis[leaf, 2]",
        "scale_marker_effect_other[root]",
    } <= set(components)
    values = pd.read_csv(tmp_path / "out" / "breeding_values.csv")
    parts = values[["ebv_mediated", "ebv_direct", "ebv_polygenic"]]
    assert (parts.abs().max() > 0).all()
    np.testing.assert_allclose(values["ebv"], parts.sum(axis=1), atol=1e-5)


def test_fit__a_group_without_prior_has_no_effects(tables, tmp_path):
    flags = add_tables(write(tables, tmp_path), tmp_path)
    del flags["pedigree"]
    flags |= {"marker-prior": ["cis=RR-BLUP", "other=none"], "quiet": True}
    assert cli.main(command(flags)) == 0
    table = pd.read_csv(tmp_path / "out" / "marker_effects.csv")
    acting = table["marker"].isin(["snp0", "snp1"])
    assert (table.loc[acting, "mean"] != 0).all()
    assert (table.loc[~acting, ["mean", "sd", "pip"]] == 0).to_numpy().all()
    assert load_settings(tmp_path / "out")["marker_prior"]["other"] is None


def test_fit__a_pedigree_and_nothing_else(tables, tmp_path, capsys):
    flags = add_tables(write({"phenotypes": tables["phenotypes"]}, tmp_path), tmp_path)
    flags = {k: v for k, v in flags.items() if "relationship" not in k and k != "marker-groups"}
    flags |= {"random-trait": "pedigree", "fixed-trait": "~ sex"}
    assert cli.main(command(flags)) == 0
    assert "individuals, those of the pedigree: 20" in capsys.readouterr().err
    out = tmp_path / "out"
    values = pd.read_csv(out / "breeding_values.csv")
    np.testing.assert_allclose(values["ebv"], values["ebv_polygenic"], rtol=1e-5)
    assert list(values["id"]) == IDS
    for name in ("node_effects", "marker_effects", "omics_imputed"):
        assert pd.read_csv(out / f"{name}.csv").empty
    assert (out / "figures" / "variance_shares.png").is_file()
    assert "node" not in nnmm_jax.load(out).posterior.dims


def test_prior_prints_what_the_priors_imply(tables, tmp_path, capsys):
    flags = write(tables, tmp_path)
    data = {name: flags[name] for name in ("genotypes", "omics", "phenotypes", "trait")}
    words = command(data | {"skip-prior": "BayesA", "draws": 40, "seed": 3}, "prior")
    file = tmp_path / "prior.csv"
    assert cli.main([*words, "--out", str(file)]) == 0
    captured = capsys.readouterr()
    assert "individuals genotyped: 20" in captured.err
    table = pd.read_csv(file)
    assert list(table.columns) == ["quantity", "mean", "q05", "q25", "q50", "q75", "q95"]
    assert {"h2_trait", "h2_node[leaf]"} <= set(table["quantity"])
    assert captured.out.splitlines()[0].split() == list(table.columns)
    model = nnmm_jax.Model(
        nnmm_jax.read_dataset(*(flags[name] for name in data)),
        nnmm_jax.Network(skip_prior="BayesA"),
    )
    expected = model.prior_predictive(40, 3).summary()
    pd.testing.assert_frame_equal(table, expected, check_dtype=False, rtol=1e-5)


def test_prior__overwrites_a_file_only_when_told(tables, tmp_path, capsys):
    flags = write({"phenotypes": tables["phenotypes"]}, tmp_path)
    add_tables({}, tmp_path)
    words = ["prior", "--phenotypes", flags["phenotypes"], "--trait", "y", "--draws", "5"]
    words += ["--pedigree", str(tmp_path / "pedigree.csv"), "--random-trait", "pedigree"]
    file = tmp_path / "prior.csv"
    file.write_text("mine")
    assert_refused(capsys, tmp_path, [*words, "--out", str(file)], "prior.csv exists")
    assert file.read_text() == "mine"
    assert cli.main([*words, "--quiet", "--out", str(file), "--overwrite"]) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    assert "h2_trait" in captured.out
    assert "h2_trait" in set(pd.read_csv(file)["quantity"])


@pytest.mark.parametrize(
    ("flag", "value", "fragments"),
    [
        ("draws", 0, ["--draws", "0"]),
        ("seed", -1, ["--seed", "-1"]),
        ("out", "nowhere/prior.csv", ["nowhere/prior.csv"]),
        ("out", ".", ["--out ."]),
        ("skip-prior", "BayesZ", ["BayesZ"]),
    ],
)
def test_prior__refuses(tables, tmp_path, capsys, flag, value, fragments):
    flags = write(tables, tmp_path)
    data = {name: flags[name] for name in ("genotypes", "omics", "phenotypes", "trait")}
    assert_refused(capsys, tmp_path, command(data | {flag: value}, "prior"), *fragments)


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """Results of a short fit."""
    folder = tmp_path_factory.mktemp("fit")
    flags = write(build_tables(), folder) | {"skip-prior": "RR-BLUP", "quiet": True}
    assert cli.main(command(flags)) == 0
    return folder / "out"


@pytest.fixture
def fitted(results, tables, tmp_path):
    """A copy of these results, and flags that predict the same individuals."""
    shutil.copytree(results, tmp_path / "out")
    flags = write(tables, tmp_path)
    given = {name: flags[name] for name in ("genotypes", "omics")}
    return flags["out"], given | {"out": str(tmp_path / "predictions.csv")}


def predict_words(fitted, **flags):
    folder, given = fitted
    return [*command(given | flags, "predict"), folder]


def test_predict_writes_the_table(fitted, tables, tmp_path, capsys):
    tables["genotypes"].iloc[:5].assign(new=1).to_csv(fitted[1]["genotypes"])
    before = sorted(tmp_path.rglob("*"))
    assert cli.main(predict_words(fitted, **{"id-column": "id"})) == 0
    captured = capsys.readouterr()
    file = tmp_path / "predictions.csv"
    few, *notes = captured.err.splitlines()
    assert few.startswith("nnmm: warning: the fit kept 2 samples for predictions, too few for sds")
    assert captured.out.splitlines() == [f"predictions of 5 individuals, 2 samples each: {file}"]
    assert notes == [
        "individuals to predict: 5, with 6 markers of the fit",
        "markers that the fit does not have, ignored: 1",
        "omics: 2 of 2 columns, 5 individuals; not genotyped, dropped: 15 ('id05', 'id06', 'id07', "
        "'id08', 'id09', ... (15 in all))",
    ]
    assert sorted(tmp_path.rglob("*")) == sorted([*before, file])
    result = nnmm_jax.load(fitted[0])
    expected = result.predict(fitted[1]["genotypes"], fitted[1]["omics"])
    pd.testing.assert_frame_equal(pd.read_csv(file), expected, check_dtype=False, rtol=1e-5)
    of_fits = ("ebv_q05", "ebv_q95", "reliability", "ebv_polygenic", "phenotyped")
    usual = [name for name in result.breeding_values() if name not in of_fits]
    assert list(expected.columns) == usual


def test_predict__overwrites_only_when_told_and_is_quiet(fitted, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(cli_predict, "FEW_SAMPLES", 0)
    file = tmp_path / "predictions.csv"
    file.write_text("mine")
    assert_refused(capsys, tmp_path, predict_words(fitted), "predictions.csv exists")
    assert file.read_text() == "mine"
    assert cli.main(predict_words(fitted, quiet=True, overwrite=True)) == 0
    assert capsys.readouterr() == ("", "")
    assert len(pd.read_csv(file)) == len(IDS)


def test_predict__random_terms_are_one_warning(fitted, tmp_path, capsys):
    file = tmp_path / "out" / "run.json"
    run = json.loads(file.read_text())
    run["settings"]["random_trait"] = [{"name": "Group", "column": "pen"}]
    file.write_text(json.dumps(run))
    assert cli.main(predict_words(fitted, quiet=True)) == 0
    captured = capsys.readouterr()
    warning, _ = captured.err.splitlines()
    assert warning.startswith("nnmm: warning: random terms are 0 for new individuals")
    assert "'pen' of the trait" in warning


def test_predict__a_function_comes_from_a_file(fitted, tmp_path, capsys):
    file, function = tmp_path / "out" / "run.json", tmp_path / "functions.py"
    run = json.loads(file.read_text())
    run["settings"]["activation"] = "twice"
    file.write_text(json.dumps(run))
    function.write_text("def twice(z):\n    return 2 * z\n\n\ndef other(z):\n    return z\n")
    assert_refused(capsys, tmp_path, predict_words(fitted), "function twice", "found none")
    words = predict_words(fitted, activation=f"{function}:other")
    assert_refused(capsys, tmp_path, words, "function twice", "found other")
    assert cli.main(predict_words(fitted, activation=f"{function}:twice")) == 0
    assert np.isfinite(pd.read_csv(tmp_path / "predictions.csv")["ebv"]).all()


@pytest.mark.parametrize(
    ("flag", "value", "fragments"),
    [
        ("out", "predictions.parquet", ["--out", "a name that ends in .csv"]),
        ("seed", -1, ["--seed", "-1"]),
        ("out", "nowhere/p.csv", ["nowhere/p.csv"]),
        ("out", ".", ["--out ."]),
        ("genotypes", "nowhere.csv", ["genotypes nowhere.csv"]),
        ("omics", "nowhere.csv", ["omics nowhere.csv"]),
        ("id-column", "animal", ["'animal'"]),
        ("activation", "nowhere.py:f", ["--activation", "nowhere.py:f"]),
        ("activation", "tanh", ["--activation", "path/to/file.py:name"]),
    ],
)
def test_predict__refuses(fitted, tmp_path, capsys, flag, value, fragments):
    assert_refused(capsys, tmp_path, predict_words(fitted, **{flag: value}), *fragments)


def test_predict__refuses_what_is_no_result_or_lacks_markers(fitted, tables, tmp_path, capsys):
    words = [*predict_words(fitted)[:-1], str(tmp_path / "nowhere")]
    assert_refused(capsys, tmp_path, words, "nowhere: no run.json there")
    tables["genotypes"].drop(columns=["snp1", "snp4"]).to_csv(fitted[1]["genotypes"])
    assert_refused(capsys, tmp_path, predict_words(fitted), "all 6 markers", "'snp1', 'snp4'")


@pytest.fixture
def planned(monkeypatch):
    """Plans are made of sizes and settings, not compiled; returns what was asked for."""
    asked = []

    def plan(model, **length):
        asked.append((model, length))
        draws = 4 * model.dataset.genotypes.shape[0] * length["samples"] * length["chains"]
        return nnmm_jax.MemoryPlan({"sampling": {"draws": draws}}, available=2**30)

    monkeypatch.setattr(nnmm_jax.Model, "plan", plan)
    return asked


def test_plan_of_data(tmp_path, capsys, tables, planned):
    flags = write(tables, tmp_path)
    del flags["out"]
    assert cli.main(command(flags | {"activation": "tanh", "sampler": "nuts"}, "plan")) == 0
    ((model, length),) = planned
    assert model.dataset.genotypes.shape == (20, 6)
    assert model.network.activation == "tanh"
    assert (length["warmup"], length["chains"], length["sampler"]) == (6, 2, "nuts")
    said = capsys.readouterr()
    assert "memory: 0.00 GB at most, in the sampling" in said.out
    assert "individuals genotyped: 20" in said.err


def test_plan_of_sizes(capsys, planned):
    words = "plan --individuals 90 --markers 70 --omics 4 --without-omics 0.5 --skip-prior GBLUP"
    assert cli.main(words.split()) == 0
    ((model, length),) = planned
    data = model.dataset
    assert (data.genotypes.shape, data.omics.shape) == ((90, 70), (90, 4))
    assert np.isnan(data.omics[:, 0]).sum() == 45
    assert np.isnan(data.phenotype).sum() == 18
    assert length["samples"] == 1000
    assert capsys.readouterr().err == ""


def test_plan__ends_with_2_if_there_is_too_little_memory(capsys, planned):
    words = "plan --individuals 5000 --markers 70 --skip-prior GBLUP --samples 20000"
    assert cli.main(words.split()) == 2
    said = capsys.readouterr()
    assert "1.49 GB" in said.out  # the plan itself is shown
    assert said.err.startswith("nnmm: error: memory: expected a fit of at most 1.00 GB")
    assert "use fewer samples or chains" in said.err
    assert "Traceback" not in said.err


@pytest.mark.parametrize(
    ("words", "fragment"),
    [
        ("", "--phenotypes: expected it, or sizes"),
        ("--phenotypes p.csv", "--trait: expected it, or sizes"),
        ("--individuals 5", "--markers: expected it with the other sizes"),
        ("--individuals 5 --markers 5 --trait y", "--trait: expected data or sizes, found both"),
        ("--individuals 5 --markers 5 --omics o.csv", "--omics: expected the number of omics"),
        ("--individuals 1 --markers 5 --omics 2", "individuals: expected a whole number"),
        ("--individuals 9 --markers 5", "the middle layer is empty"),
        ("--individuals 9 --markers 5 --omics 1 --chains 0", "--chains must be at least 1"),
        ("--individuals 9 --markers 5 --omics 1 --sampler x", "sampler: expected one of hmc, nuts"),
    ],
)
def test_plan__ends_with_2_on_wrong_flags(capsys, planned, words, fragment):
    assert cli.main(["plan", *words.split()]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert fragment in said
    assert not planned
