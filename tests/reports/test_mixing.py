import jax
import jax.numpy as jnp
import numpy as np
import pytest

import nnmm_jax as nm
from nnmm_jax.errors import InputError
from nnmm_jax.inference.blocks.missing_hmc import N_LEAPFROG
from nnmm_jax.inference.prepare import prepare
from nnmm_jax.reports import mixing
from nnmm_jax.reports.mixing import COMPLETE, MISSED, OK, MixingSettings

SETTINGS = MixingSettings(individuals=40, markers=30, warmup=40, samples=400, chains=2)
FINE = {
    "sampler": "hmc",
    "alone_acceptance": 0.9,
    "acceptance": 0.9,
    "alone_divergences": 0,
    "divergences": 0,
    "alone_ess_cell": 500.0,
    "alone_ess_sum": 500.0,
}


@pytest.mark.parametrize(
    ("changed", "verdict"),
    [
        ({}, OK),
        ({"alone_acceptance": 0.59}, MISSED),
        ({"acceptance": 0.59}, MISSED),
        ({"alone_divergences": 1}, MISSED),
        ({"divergences": 1}, MISSED),
        ({"alone_ess_cell": 99.0}, MISSED),
        ({"alone_ess_sum": 99.0}, MISSED),
        ({"alone_ess_sum": float("nan")}, MISSED),
        ({"sampler": COMPLETE}, ""),
    ],
)
def test_rows_are_judged(changed, verdict):
    assert mixing.judge(FINE | changed) == verdict


def test_slow_chains_have_a_small_effective_size():
    rng = np.random.default_rng(1)
    slow = np.repeat(rng.normal(size=(2, 100, 3)), 20, axis=1)
    assert mixing.per_1000(slow).shape == (3,)
    assert (mixing.per_1000(slow) < 100).all()


@pytest.fixture(scope="module")
def prepared():
    dataset = mixing.mixing_data(SETTINGS, 4, SETTINGS.missing)
    return prepare(dataset, nm.Network(activation="tanh", marker_prior="RR-BLUP"))


def test_the_block_alone_moves_missing_cells_only(prepared):
    found = mixing.alone(prepared, SETTINGS, nuts=False)
    assert 0.6 < found["alone_acceptance"] <= 1
    assert 0 < found["alone_step"] * N_LEAPFROG <= np.pi / 2 + 1e-6
    assert found["alone_ess_cell"] > 100
    state = mixing.settled(prepared, SETTINGS, nuts=False)
    observed = np.asarray(prepared.data.observed)
    np.testing.assert_array_equal(
        np.asarray(state.z)[observed], np.asarray(prepared.data.z_start)[observed]
    )
    nodes, people = mixing.followed_cells(state, np.asarray(prepared.data.informed_rows))
    assert len(people) == 12  # of 40
    assert not observed[nodes, people].any()
    strongest = np.argmax(np.abs(np.asarray(state.node_coef[0])))
    assert (nodes[::2] == strongest).all()
    assert (nodes[1::2] != strongest).all()


def test_a_block_that_hardly_moves_is_flagged(prepared, monkeypatch):
    """Step sizes of a hundredth, as if adaptation had failed."""

    def shrunk(count, dtype):
        small = jnp.full((count,), np.log(2.6e-3), dtype)
        return mixing.missing_hmc.AdaptState(small, small, jnp.zeros_like(small))

    monkeypatch.setattr(mixing.missing_hmc, "init_adapt", shrunk)
    monkeypatch.setattr(mixing.missing_hmc, "adapt_step", lambda adapt, *_: adapt)
    jax.clear_caches()
    found = mixing.alone(prepared, SETTINGS, nuts=False)
    assert found["alone_ess_cell"] < mixing.ESS_LIMIT
    assert mixing.judge(FINE | found) == MISSED
    jax.clear_caches()


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"missing": 1.0}, "missing must lie between 0 and 1, got 1.0"),
        ({"samples": 7}, "samples must be at least 8, got 7"),
        ({"chains": 0}, "chains must be a whole number of at least 1"),
    ],
)
def test_settings__refuse_what_cannot_be_measured(changed, message):
    with pytest.raises(InputError, match=message):
        MixingSettings(**changed)


@pytest.mark.parametrize(
    ("dimensions", "samplers", "message"),
    [
        ([3], ["gibbs"], "found 'gibbs'"),
        ([3, 0], ["hmc"], "positive numbers"),
        ([], [], "positive"),
    ],
)
def test_mixing__refuses_unknown_samplers_and_dimensions(dimensions, samplers, message):
    with pytest.raises(InputError, match=message):
        mixing.mixing(SETTINGS, dimensions, samplers)
