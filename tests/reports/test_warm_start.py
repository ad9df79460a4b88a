from types import SimpleNamespace

import numpy as np
import pytest
import xarray as xr

from nnmm_jax.errors import InputError
from nnmm_jax.inference.run_settings import STARTS
from nnmm_jax.reports import warm_start
from nnmm_jax.reports.warm_start import CASES, ENOUGH, WarmStartSettings

LENGTH = 400


def noise(seed, late=0, away=20.0):
    """White noise (chain, sweep) that begins somewhere else."""
    draws = np.random.default_rng(seed).normal(size=(4, LENGTH))
    draws[:, :late] += away
    return draws


def result(late, seconds):
    """Draws of two quantities; one of them arrives late."""
    dims = ("chain", "draw", "trait")
    values = {"h2_trait": (dims, noise(1, late)[..., None])}
    values["var_residual_trait"] = (dims, noise(2)[..., None])
    values["var_constant"] = (dims, np.ones((4, LENGTH, 1)))
    posterior = xr.Dataset(values, {"trait": ["y"]})
    return SimpleNamespace(posterior=posterior, run={"seconds": seconds})


@pytest.mark.parametrize("late", [0, 25, 100])
def test_warmup_is_where_the_draws_arrive(late):
    needed = warm_start.sweeps_needed(noise(1, late), [noise(1, late), noise(2)])
    assert abs(needed - late) <= 10


def test_warmup_is_at_most_half_the_run():
    never = noise(1) + np.linspace(0, 50, LENGTH)
    assert warm_start.sweeps_needed(never, [never]) == LENGTH // 2


def test_the_best_warmup_discards_what_has_not_arrived():
    draws = np.stack([noise(1, 95), noise(2)], axis=-1)
    warmup, ess = warm_start.best_warmup(draws)
    assert 95 <= warmup <= 120
    assert ess > 800
    assert ess > 4 * warm_start.best_warmup(draws[:, :150])[1]


def test_starts_are_compared_on_equal_terms():
    late = result(100, {"sampling": 8.0})
    soon = result(0, {"sampling": 4.0, "variational": 1.5, "variational_compilation": 9.0})
    dispersed, svi = warm_start.compare({"dispersed": late, "svi": soon})
    assert dispersed["slowest"] == "h2_trait"
    assert dispersed["sweep"] == svi["sweep"] == 6.0 / LENGTH
    assert (dispersed["fit"], svi["fit"], svi["compilation"]) == (0.0, 1.5, 9.0)
    assert svi["warmup"] < 10 < 90 < dispersed["warmup"]
    for row in (dispersed, svi):
        assert row["ready"] == pytest.approx(row["fit"] + row["warmup"] * row["sweep"])
        assert row["rate"] == pytest.approx(row["ess"] / (row["fit"] + 6.0))
        draws = row["discarded"] + (LENGTH - row["discarded"]) * ENOUGH / row["ess"]
        assert row["enough"] == pytest.approx(row["fit"] + draws * row["sweep"])


def test_both_starts_of_a_case_are_fitted():
    settings = WarmStartSettings(individuals=40, markers=30, omics=2, samples=100, chains=2)
    table = warm_start.warm_start(settings, ["BayesC, few causal"], progress=False)
    assert table["start"].tolist() == list(STARTS)
    assert (table["ess"] > 1).all()
    assert table.set_index("start")["fit"].gt(0).to_dict() == {"dispersed": False, "svi": True}


def test_cases__raise_on_unknown_ones():
    with pytest.raises(InputError, match=r"^cases: expected some of .*BayesC.*, found 'lasso'"):
        warm_start.warm_start(WarmStartSettings(), ["RR-BLUP", "lasso"])


def test_settings__raise_on_short_runs():
    with pytest.raises(InputError, match="samples must be at least 100, got 99"):
        WarmStartSettings(samples=99)


@pytest.mark.parametrize("name", CASES)
def test_every_case_can_be_simulated(name):
    assert WarmStartSettings(individuals=60).simulation(CASES[name]).individuals == 60
