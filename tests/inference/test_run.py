"""Runs that go on: the same draws, moments and snapshots as one run of that length."""

import dataclasses

import jax
import numpy as np
import pytest

from nnmm_jax.errors import InputError
from nnmm_jax.inference import kept_snapshots
from nnmm_jax.inference.run import RunSettings, run_chains

SHORT = RunSettings(
    warmup=20, samples=20, chains=2, seed=3, progress=False, until_ess=1.0, max_samples=60
)
WHOLE = RunSettings(warmup=20, samples=60, chains=2, seed=3, progress=False)


def assert_same(first, second):
    """Bit for bit."""
    for group in ("draws", "stats", "snapshots"):
        one, two = getattr(first, group), getattr(second, group)
        assert set(one) == set(two)
        for name, value in one.items():
            np.testing.assert_array_equal(value, two[name], err_msg=name)
    np.testing.assert_array_equal(first.snapshot_draws, second.snapshot_draws)
    for one, two in zip(jax.tree.leaves(first.sums), jax.tree.leaves(second.sums), strict=True):
        np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize("activation", ["linear", "tanh"])
def test_a_run_that_goes_on_is_one_run_of_its_length(toy, activation, capsys):
    case = toy(activation=activation, marker_prior="BayesC", skip_prior="RR-BLUP", latent=1)
    lengths = []

    def enough(output):
        lengths.append(output.draws["epv"].shape[1])
        return False

    shown = dataclasses.replace(SHORT, progress=True)
    longer = run_chains(case.data, case.settings.activation, shown, enough=enough)
    assert lengths == [20, 40]  # at the limit there is nothing to ask
    assert "80/80" in capsys.readouterr().err
    whole = run_chains(case.data, case.settings.activation, WHOLE)
    assert whole.draws["epv"].shape[1] == whole.sums.nodes_count[0] == 60
    assert len(whole.snapshot_draws) > 2
    assert_same(longer, whole)


def test_a_run_ends_when_it_is_long_enough(toy):
    case = toy()
    output = run_chains(
        case.data,
        case.settings.activation,
        dataclasses.replace(SHORT, max_samples=None),
        enough=lambda output: output.draws["epv"].shape[1] >= 40,
    )
    assert output.draws["epv"].shape[1] == output.stats["non_finite"].shape[1] == 40
    assert (output.sums.nodes_count == 40).all()
    assert set(output.seconds) == {"compilation", "warmup", "sampling"}


def test_a_longer_run_keeps_no_more_snapshots_than_fit(monkeypatch):
    """Those that stay are evenly spaced, whenever it was known how long the run would be."""
    monkeypatch.setattr(
        kept_snapshots,
        "_compiled_snapshot",
        lambda chains, layout: lambda state, data: {"a": np.ones(2)},
    )
    monkeypatch.setattr(
        kept_snapshots, "pieces_between", lambda data, chains, pieces: -(-pieces // 4)
    )
    snapshots = kept_snapshots.Snapshots(None, 2)
    for stretch in range(1, 4):
        snapshots.plan(4 * stretch)
        for piece in range(4):
            snapshots.offer(None, 10 * (4 * (stretch - 1) + piece) + 9)
        assert len(snapshots.draws) <= 4
    np.testing.assert_array_equal(snapshots.draws, [39, 79, 119])
    assert snapshots.joined()["a"].shape == (2, 3)
    monkeypatch.setattr(kept_snapshots, "pieces_between", lambda data, chains, pieces: None)
    snapshots.plan(20)
    assert not snapshots.joined()
    assert not len(snapshots.draws)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"until_ess": None}, "max_samples: expected until_ess with it"),
        ({"until_ess": 0.0}, "until_ess: expected a number above 0, found 0.0"),
        ({"until_ess": float("nan")}, "until_ess: expected a number above 0, found nan"),
        ({"until_ess": "400"}, "until_ess: expected a number above 0, found '400'"),
        ({"until_ess": True}, "until_ess: expected a number above 0, found True"),
        ({"chains": 1}, "expected 2 chains or more, which R-hat needs, found 1"),
        ({"max_samples": 19}, "expected at least the 20 samples that come first, found 19"),
        ({"max_samples": 60.0}, "max_samples must be a whole number, got 60.0"),
    ],
)
def test_run_settings__raises_on_limits_that_do_not_fit(changed, message):
    with pytest.raises(InputError, match=message):
        dataclasses.replace(SHORT, **changed)


def test_limits_of_runs():
    assert WHOLE.limit == 60
    assert SHORT.limit == 60
    assert dataclasses.replace(SHORT, max_samples=None).limit == 200
