import dataclasses
import inspect

import pytest

from nnmm_jax.errors import InputError
from nnmm_jax.network import parse
from nnmm_jax.network.priors import (
    GBLUP,
    PRIORS,
    RRBLUP,
    BayesA,
    BayesB,
    BayesC,
    BayesL,
    BayesR,
    Residual,
)
from nnmm_jax.network.terms import Group, Pedigree, Relationship


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("BayesC", BayesC()),
        ("rr-blup", RRBLUP()),
        ("RR-BLUP(share=0.3)", RRBLUP(share=0.3)),
        (" BayesC ( pi = 0.95 , df = 5 ) ", BayesC(pi=0.95, df=5.0)),
        ("BayesC()", BayesC()),
        ("BayesC(pi=None, pi_counts=(9, 1))", BayesC(pi_counts=(9.0, 1.0))),
        ("BayesA(scale=1e-3)", BayesA(scale=0.001)),
        ("BayesB(shape=2, rate=+4,)", BayesB(shape=2.0, rate=4.0)),
        ("BayesL(lambda2=400)", BayesL(lambda2=400.0)),
        ("BayesR(mixture=(0,0.01,0.1,1))", BayesR(mixture=(0.0, 0.01, 0.1, 1.0))),
        (
            "BayesR(mixture=[0, 1], weights=(0.9, 0.1))",
            BayesR(mixture=(0.0, 1.0), weights=(0.9, 0.1)),
        ),
        ("GBLUP(relationship=lines)", GBLUP(relationship="lines")),
        (
            "GBLUP(relationship='all lines', variance=2)",
            GBLUP(relationship="all lines", variance=2),
        ),
    ],
)
def test_parse_prior(text, expected):
    assert parse.parse_prior(text, flag="--marker-prior") == expected


@pytest.mark.parametrize("prior", PRIORS.values(), ids=list(PRIORS))
def test_every_default_can_be_written_out(prior):
    default = prior()
    values = {field.name: getattr(default, field.name) for field in dataclasses.fields(default)}
    text = ", ".join(f"{name}={value!r}" for name, value in values.items())
    assert parse.parse_prior(f"{prior.name}({text})", flag="--marker-prior") == default


@pytest.mark.parametrize(
    ("text", "fragments"),
    [
        ("BayesZ", ["unknown prior 'BayesZ'", *PRIORS]),
        ("none", ["unknown prior 'none'"]),
        ("", ["expected NAME or NAME(KEY=VALUE, ...), found ''"]),
        ("BayesC(pi=0.95", ["expected NAME or NAME(KEY=VALUE, ...), found 'BayesC(pi=0.95'"]),
        ("(pi=0.95)", ["expected NAME"]),
        ("BayesC(0.95)", ["expected KEY=VALUE", "'0.95'"]),
        ("BayesC(**{'pi': 0.5})", ["expected KEY=VALUE"]),
        ("BayesC(pi=0.5, pi=0.6)", ["every key once"]),
        ("BayesC(pi=0.5)(df=5)", ["expected KEY=VALUE", "'pi=0.5)(df=5'"]),
        ("BayesC(pi=)", ["expected KEY=VALUE", "'pi='"]),
        ("BayesC(p=0.95)", ["BayesC has the hyperparameters", "pi, pi_counts; found 'p'"]),
        (
            "RR-BLUP(pi=0.95)",
            ["RR-BLUP has the hyperparameters share, df, scale, variance;", "'pi'"],
        ),
        ("BayesC(pi=high)", ["BayesC, pi: expected a number, found high"]),
        ("BayesC(pi='0.9')", ["BayesC, pi: expected a number, found '0.9'"]),
        ("BayesC(pi=True)", ["BayesC, pi: expected a number, found True"]),
        ("BayesC(df=None)", ["BayesC, df: expected a number, found None"]),
        ("BayesC(df=1e999)", ["BayesC, df: expected a number"]),
        ("BayesC(pi=1+1)", ["BayesC, pi: expected a number, found 1 + 1"]),
        ("BayesC(pi=open('x'))", ["BayesC, pi: expected a number, found open('x')"]),
        ("BayesC(pi=2)", ["BayesC: pi, the probability of a zero effect", "2"]),
        ("BayesC(pi_counts=(1,))", ["pi_counts must be 2 positive numbers"]),
        ("BayesC(pi_counts=1)", ["BayesC, pi_counts: expected numbers such as (1, 2), found 1"]),
        ("BayesR(mixture=(0, 'a'))", ["BayesR, mixture: expected numbers such as (1, 2)"]),
        ("BayesR(mixture=(0.1, 1))", ["mixture must start at 0"]),
        ("GBLUP(relationship=3)", ["GBLUP, relationship: expected a name, found 3"]),
    ],
)
def test_parse_prior__raises_on_wrong_text(text, fragments):
    with pytest.raises(InputError, match=r"^--skip-prior: ") as caught:
        parse.parse_prior(text, flag="--skip-prior")
    for fragment in fragments:
        assert fragment in str(caught.value)


def test_nothing_is_executed(tmp_path):
    target = tmp_path / "made"
    text = f"BayesC(pi=__import__('pathlib').Path({str(target)!r}).touch())"
    with pytest.raises(InputError, match="expected a number"):
        parse.parse_prior(text, flag="--skip-prior")
    assert not target.exists()
    assert "eval(" not in inspect.getsource(parse).replace("literal_eval(", "")


def test_parse_priors():
    def parsed(*texts):
        return parse.parse_priors(texts, flag="--marker-prior")

    assert parsed("None") is None
    assert parsed("BayesC(pi=0.9)") == BayesC(pi=0.9)
    assert parsed("cis=BayesC(pi=0.9)") == {"cis": BayesC(pi=0.9)}
    assert parsed("chr 1 = RR-BLUP", "other=BayesR(mixture=(0, 1))") == {
        "chr 1": RRBLUP(),
        "other": BayesR(mixture=(0, 1)),
    }
    assert parsed("cis=BayesA", "trans= None ") == {"cis": BayesA(), "trans": None}


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (["BayesC", "RR-BLUP"], "expected one prior, or GROUP=PRIOR .*, found 'BayesC', 'RR-BLUP'"),
        (["cis=BayesC", "RR-BLUP"], "expected one prior, or GROUP=PRIOR"),
        (["none", "none"], "expected one prior"),
        (["cis=BayesC", "cis=RR-BLUP"], "expected every group once with its name, found 'cis=RR-"),
        (["=BayesC"], "expected every group once with its name, found '=BayesC'"),
        (
            ["cis=none", "trans=None"],
            "expected a prior for at least one group of markers, found none for 'cis', 'trans'; "
            "say none, without groups",
        ),
        (["cis=BayesC(p=1)"], "cis: BayesC has the hyperparameters .*; found 'p'"),
    ],
)
def test_parse_priors__raises_on_wrong_groups(texts, message):
    with pytest.raises(InputError, match=f"^--marker-prior:? ?{message}"):
        parse.parse_priors(texts, flag="--marker-prior")


def test_parse_residual():
    assert parse.parse_residual("df=5,scale=0.7", flag="f") == Residual(df=5.0, scale=0.7)
    assert parse.parse_residual("variance=40", flag="f") == Residual(variance=40.0)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("sigma=5", "the residual has the hyperparameters df, share, scale, variance; found 's"),
        ("5", "expected KEY=VALUE"),
        ("df=-1", "df must be positive"),
    ],
)
def test_parse_residual__raises_on_wrong_text(text, message):
    with pytest.raises(InputError, match=f"^--residual-omics: .*{message}"):
        parse.parse_residual(text, flag="--residual-omics")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("pedigree", Pedigree()),
        ("pedigree(variance=20, solver=cg)", Pedigree(variance=20.0, solver="cg")),
        ("G", Relationship("G")),
        ("dominance lines(share=0.1)", Relationship("dominance lines", share=0.1)),
        ("pen", Group("pen")),
        ("id(df=6)", Group("id", df=6.0)),
    ],
)
def test_parse_term(text, expected):
    known = {"G", "dominance lines"}
    assert parse.parse_term(text, flag="--random-trait", relationships=known) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("pen(column='x')", "Group has the hyperparameters share, df, scale, variance; found 'co"),
        ("pen(solver=cg)", "Group has the hyperparameters"),
        ("pedigree(solver=fast)", "solver must be auto, eigen or cg, got 'fast'"),
        ("pedigree(share=2)", "share must lie between 0 and 1"),
        ("pen(", r"expected NAME or NAME\(KEY=VALUE, ...\)"),
    ],
)
def test_parse_term__raises_on_wrong_text(text, message):
    with pytest.raises(InputError, match=f"^--random-trait: .*{message}"):
        parse.parse_term(text, flag="--random-trait")


def test_parse_term__raises_on_a_matrix_named_like_the_pedigree():
    with pytest.raises(InputError, match="'pedigree' is the pedigree and the name of a relation"):
        parse.parse_term("pedigree", flag="--random-trait", relationships=["pedigree"])


@pytest.mark.parametrize(
    ("term", "message"),
    [
        (Relationship("G"), "'G' is a relationship matrix and a column of the phenotypes"),
        (Pedigree(), "'pedigree' is the pedigree and a column of the phenotypes"),
    ],
)
def test_check_columns__raises_on_two_meanings(term, message):
    terms = [Group("pen"), term]
    parse.check_columns(terms, ["pen", "sex"], flag="--random-omics")
    with pytest.raises(InputError, match=f"^--random-omics: {message}; rename"):
        parse.check_columns(terms, ["pen", term.label], flag="--random-omics")


def test_check_columns__raises_on_an_unknown_column():
    parse.check_columns([Group("id")], ["pen"], flag="--random-trait")
    with pytest.raises(InputError, match=r"^--random-trait: .* \('pen'\), found 'pn'"):
        parse.check_columns([Group("pn")], ["pen"], flag="--random-trait")
