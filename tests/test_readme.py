"""What the README shows must run, and what it says of files and options must be so."""

import dataclasses
import re
import shlex
from pathlib import Path

import pandas as pd
import pytest

import nnmm_jax
from nnmm_jax import cli
from nnmm_jax.inference.snapshot import LEAST_COUNT, MAX_BYTES
from nnmm_jax.network.priors import PRIORS, RRBLUP, BayesA
from nnmm_jax.posterior.forward import Summaries
from nnmm_jax.reports import credible_sets, cross_validation
from nnmm_jax.reports.folder import TABLES
from nnmm_jax.reports.gwas import TABLES as ASSOCIATION
from nnmm_jax.reports.gwas import WINDOW
from nnmm_jax.reports.paths import MOST_PATHS
from nnmm_jax.reports.windows import LEAST_R2

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
SMALL = "--individuals 60 --markers 60".split()
SHORT = {"warmup": 6, "samples": 6, "chains": 2, "progress": False}


def commands(text):
    """Commands of a shell block, as lists of words."""
    return [shlex.split(line) for line in text.replace("\\\n", " ").splitlines()]


def test_every_block_is_known():
    assert {language for language, _ in BLOCKS} == {"sh", "python"}
    heads = {words[0] for language, text in BLOCKS if language == "sh" for words in commands(text)}
    assert heads == {"nnmm", "pip", "scripts/demo", "scripts/test"}
    for script in heads - {"nnmm", "pip"}:
        assert (ROOT / script).is_file()


def test_code_runs_in_the_order_of_the_page(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    fit = nnmm_jax.Model.fit

    def short_fit(model, **options):
        return fit(model, **(options | SHORT))

    monkeypatch.setattr(nnmm_jax.Model, "fit", short_fit)
    validate = cross_validation.cross_validate

    def short_validation(dataset, network, **options):
        return validate(dataset, network, **(options | SHORT))

    monkeypatch.setattr(cross_validation, "cross_validate", short_validation)
    names = {}
    for language, text in BLOCKS:
        if language == "python":
            exec(compile(text, "README.md", "exec"), names)
            continue
        for words in commands(text):
            if words[0] == "nnmm":
                assert cli.main(words[1:] + SMALL * (words[1] == "simulate")) == 0
                made = set(Path("results/gwas").glob("*.csv"))  # gone with the results they are of
                assert bool(made) == (words[1] == "gwas")
    printed = capsys.readouterr().out
    assert "results: results" in printed
    assert "results: animal_model" in printed
    assert "predictions of 20 individuals" in printed
    assert "fits have not converged" in printed
    assert "Pareto k > 0.7" in printed
    assert "elpd_diff" in printed
    assert (tmp_path / "cross_validation" / "summary.csv").is_file()
    assert len(names["validated"].folds) == 5
    assert len(pd.read_csv("predictions.csv")) == 20
    assert "var_polygenic" in printed
    assert set(names["model"].network.marker_prior) == {"first", "rest"}
    assert "ebv_sd" in printed
    assert "h2_trait" in printed
    assert "convergence: not converged" in printed
    assert "windows at a posterior FDR of 0.05" in printed
    assert len(names["figures"]) == 2
    assert names["again"].run["seed"] == 1
    assert len(names["table"]) == names["hidden"].sum()
    assert names["table"]["observed"].notna().any()


@pytest.mark.parametrize("command", ["cross-validate", "compare"])
def test_flags_of_choosing_a_model_are_those_of_the_commands(command, capsys):
    section = README.split("## Choosing a model", 1)[1].split("\n## ", 1)[0]
    named = set(re.findall(r"`(--[a-z-]+)", section))
    with pytest.raises(SystemExit, match="0"):
        cli.main([command, "--help"])
    known = set(re.findall(r"--[a-z-]+", capsys.readouterr().out))
    assert command == "compare" or named <= known
    for fit in re.findall(rf"^nnmm {command}(.*)$", section, re.MULTILINE):
        assert set(re.findall(r"--[a-z-]+", fit)) <= known


def documented_columns(name):
    section = README.split(f"\n`{name}`", 1)[1]
    rows = re.search(r"\| column \| meaning \|\n\|---\|---\|\n((?:\|.*\n)+)", section).group(1)
    return [
        column for row in rows.splitlines() for column in re.findall(r"`(\w+)`", row.split("|")[1])
    ]


def test_columns_and_options_of_predictions(capsys):
    section = README.split("## Predicting new individuals", 1)[1].split("\n## ", 1)[0]
    named = section.split("The table has the columns", 1)[1].split("`breeding_values.csv`", 1)[0]
    assert tuple(re.findall(r"`(\w+)`", named)) == ("id", *Summaries._fields)
    with pytest.raises(SystemExit, match="0"):
        cli.main(["predict", "--help"])
    known = set(re.findall(r"--[a-z-]+", capsys.readouterr().out))
    assert set(re.findall(r"--[a-z]+", section)) <= known
    assert f"above {MAX_BYTES // 2**20} MB" in section
    assert f"({LEAST_COUNT} draws" in section


@pytest.mark.parametrize("name", ASSOCIATION)
def test_columns_are_those_of_the_association(make_case, name):
    case = make_case()
    table = getattr(case.result.gwas(case.genotypes, case.map), name)
    rows = re.search(rf"\| `{name}.csv` \| meaning \|\n\|---\|---\|\n((?:\|.*\n)+)", README).group(
        1
    )
    documented = [re.findall(r"`(\w+)`", row.split("|")[1]) for row in rows.splitlines()]
    assert {column for row in documented for column in row} == set(table.columns)


def test_limits_of_the_association():
    section = README.split("## Association", 1)[1].split("\n## ", 1)[0]
    for text in (
        f"(r² ≥ {credible_sets.LEAST_R2} with", f"{credible_sets.LEVEL} or more",
        f"sets above {credible_sets.MAX_BACKGROUND}, or of more than {credible_sets.MAX_SIZE} m",
        f"the {MOST_PATHS} clearest", f"windows are of `{WINDOW}`", f"`LD {LEAST_R2}`",
    ):  # fmt: skip
        assert text in section


def test_options_of_the_association_and_the_summary(capsys):
    for name, heading in (("gwas", "## Association"), ("summary", "`nnmm summary` prints")):
        section = README.split(heading, 1)[1].split("\n## ", 1)[0]
        with pytest.raises(SystemExit, match="0"):
            cli.main([name, "--help"])
        known = set(re.findall(r"--[a-z-]+", capsys.readouterr().out)) | {"--node-prior"}
        assert set(re.findall(r"--[a-z][a-z-]+", section)) <= known


@pytest.mark.parametrize("name", TABLES)
def test_columns_are_those_of_the_tables(make_result, name):
    table = TABLES[name](make_result(individuals=8, latent=1, bayesc=True, skip=True, hmc=True))
    assert documented_columns(name) == list(table.columns)


def test_components_are_all_defined(make_result):
    result = make_result(individuals=8, bayesc=True, skip=True, terms=True, groups=True)
    components = result.variance_components()["component"].str.replace(r"\[.*\]", "", regex=True)
    components = components.replace(
        {"_(pedigree|pen)$": "_TERM", "_(cis|trans)$": "", "^lambda2_": "var_"}, regex=True
    )
    section = README.split("### What is reported", 1)[1].split("\n## ", 1)[0]
    assert set(components) <= set(re.findall(r"`(\w+)(?:\[[l, k]+\])?`", section))


def hyperparameters(prior):
    return {field.name for field in dataclasses.fields(prior)}


def test_priors_and_hyperparameters_are_all_in_the_table():
    table = README.split("**Priors.**", 1)[1].split("\n\n", 2)[1]
    rows = dict(re.findall(r"^\| ([\w-]+) \|(.*)$", table, re.MULTILINE))
    assert set(rows) == {*PRIORS, "name"}
    shared = {  # what a row may leave to another
        "as RR-BLUP": hyperparameters(RRBLUP),
        "as BayesA": hyperparameters(BayesA),
        "π as BayesB": {"pi", "pi_counts"},
    }
    for name, prior in PRIORS.items():
        found = set(re.findall(r"`(\w+)`", rows[name]))
        for phrase, fields in shared.items():
            found |= fields if phrase in rows[name] else set()
        assert found == hyperparameters(prior), name


def test_options_and_defaults_are_those_of_the_command(capsys):
    with pytest.raises(SystemExit, match="0"):
        cli.main(["fit", "--help"])
    known = set(re.findall(r"--[a-z-]+", capsys.readouterr().out))
    table = README.split("| option | meaning | default |", 1)[1].split("\n\n", 1)[0]
    tables = {"--genotypes", "--omics", "--phenotypes", "--trait", "--help"}
    assert set(re.findall(r"--[a-z][a-z-]+", table)) == known - tables
    options = cli.build_parser().parse_args(
        "fit --genotypes g --phenotypes p --trait y --out d".split()
    )
    counts = f"{options.warmup}, {options.samples}, {options.chains}"
    assert f"| sweeps discarded, sweeps kept of every chain, chains | {counts} |" in table
    network = nnmm_jax.Network()
    for name, default in (
        ("activation", network.activation),
        ("marker-prior", network.marker_prior.name),
        ("node-prior", network.node_prior.name),
        ("latent", network.latent),
    ):
        row = re.search(rf"\| `--{name}` .*", table).group(0)
        assert row.endswith(f"| {default} |")


def test_links_lead_somewhere():
    sites = ("https://doi.org/", "https://github.com/reworkhow/")
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        assert target.startswith(sites) or (ROOT / target).is_file(), target
