"""When a run is long enough, and what is said of it."""

import dataclasses
import re

import numpy as np
import pandas as pd
import pytest

from nnmm_jax.posterior.stopping import closing_lines, reached

TABLE = pd.DataFrame(
    {
        "quantity": ["h2_trait", "pi_marker[a]", "ebv[x]"],
        "r_hat": [1.0, 1.009, 1.001],
        "ess_bulk": [900.0, 420.0, 800.0],
        "ess_tail": [800.0, 500.0, 401.0],
    }
)


def test_the_slowest_quantity_decides():
    found = reached(TABLE, 401.0, 1000)
    assert found.enough
    assert found.line == (
        "ESS 401 and R-hat 1.01 reached in 1000 samples of every chain: "
        "smallest ESS 401 of ebv[x], largest R-hat 1.009"
    )
    assert found.to_dict() == {
        "target": 401.0,
        "samples": 1000,
        "ess": 401.0,
        "slowest": "ebv[x]",
        "r_hat": 1.009,
        "enough": True,
    }
    assert not reached(TABLE, 401.5, 1000).enough


@pytest.mark.parametrize(
    ("column", "value", "fragment"),
    [
        ("r_hat", 1.011, "not reached in 1000 .* largest R-hat 1.011"),
        ("r_hat", np.nan, "not reached .* smallest ESS 800 of h2_trait, largest R-hat nan"),
        ("ess_tail", np.nan, "not reached .* smallest ESS nan of h2_trait"),
    ],
)
def test_chains_have_to_agree_and_everything_to_be_defined(column, value, fragment):
    table = TABLE.copy()
    table.loc[0, column] = value
    found = reached(table, 100.0, 1000)
    assert not found.enough
    assert re.search(fragment, found.line)


def test_nothing_to_judge_is_not_enough():
    assert not reached(TABLE.iloc[:0], 100.0, 1000).enough


def test_closing_lines(make_result):
    good = make_result(individuals=3, draws=500)
    assert good.convergence_warning is None
    assert closing_lines(good) == []
    there = reached(TABLE, 400.0, 1000)
    done = dataclasses.replace(good, run=good.run | {"until_ess": there.to_dict()})
    assert closing_lines(done) == [there.line]
    assert closing_lines(done, quiet=True) == []
    short = reached(TABLE, 4000.0, 1000)
    undone = dataclasses.replace(good, run=good.run | {"until_ess": short.to_dict()})
    assert closing_lines(undone, quiet=True) == [f"warning: {short.line}"]
    bad = make_result(individuals=3, draws=20)
    (line,) = closing_lines(bad, quiet=True)
    assert line.startswith("warning: not converged: ")
