"""Machine code of the effect sweep: the same numbers as XLA's own loop, whatever the batch."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import random

from nnmm_jax.inference import native
from nnmm_jax.inference.blocks.effects import (
    GROUP,
    SweepDraws,
    coordinate_sweep,
    draw_sweep,
    step_by_step,
)

pytestmark = pytest.mark.skipif(not native.available(), reason="numba is not installed")

N_CHAINS, N_RESPONSES = 3, 4
SIZES = [1, GROUP - 1, 3 * GROUP]


def problem(size, components, own, dtype, seed=0):
    """Arguments of a sweep with a good share of zeros: in the order of :func:`native.sweep`."""
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(size, 2 * size + 5))
    gram = jnp.asarray(rows @ rows.T, dtype)
    loadings = rng.normal(size=(size, 2))
    extra = jnp.asarray(loadings @ loadings.T if own else np.zeros((0, 0)), dtype)
    share = jnp.asarray(rng.random(N_RESPONSES), dtype)
    coef = rng.normal(size=(N_RESPONSES, size)) * (rng.random((N_RESPONSES, size)) < 0.5)
    rhs = jnp.asarray(rng.normal(size=(N_RESPONSES, size)) * np.sqrt(size) * 3, dtype)
    weights = jnp.full((N_RESPONSES, components + 1), 1.0 / (components + 1), dtype)
    variances = tuple(jnp.full((N_RESPONSES, 1), 0.1**k, dtype) for k in range(components))
    draws = draw_sweep(
        random.key(seed), jnp.diagonal(gram), jnp.ones(N_RESPONSES, dtype), variances, weights
    )
    of_response = (jnp.moveaxis(one, 0, 1) for one in draws[:3])
    coef = jnp.asarray(coef, dtype)
    return gram, extra, share, rhs, coef, *of_response, draws.half_precision


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize("own", [False, True])
@pytest.mark.parametrize("components", [1, 3])
@pytest.mark.parametrize("size", SIZES)
def test_equal_to_the_loop_of_xla(size, components, own):
    arguments = problem(size, components, own, jnp.float64)
    new = jax.jit(native.sweep)(*arguments)
    np.testing.assert_allclose(new, step_by_step(*arguments), rtol=1e-9, atol=1e-12)
    if size > 1:
        assert 0 < np.count_nonzero(new) < new.size


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize(
    "axes",
    [
        (None, None, *[0] * 7),  # chains: more responses
        (None, None, None, *[0] * 6),
        (0, None, *[0] * 7),  # cross-products of their own
        [0] * 9,
    ],
)
@pytest.mark.parametrize("own", [False, True])
def test_batched_like_any_function(axes, own):
    chains = [problem(20, 2, own, jnp.float64, seed) for seed in range(N_CHAINS)]
    stacked = [jnp.stack(parts) for parts in zip(*chains, strict=True)]
    given = [all_of if axis == 0 else all_of[0] for all_of, axis in zip(stacked, axes, strict=True)]
    new = jax.jit(jax.vmap(native.sweep, in_axes=axes))(*given)
    expected = jax.vmap(step_by_step, in_axes=axes)(*given)
    np.testing.assert_allclose(new, expected, rtol=1e-9, atol=1e-12)
    outer = (None, None, None, 0, *[None] * 5)
    twice = jax.vmap(jax.vmap(native.sweep, in_axes=axes), in_axes=outer)
    rhs = jnp.stack([given[3], 2.0 * given[3]])
    both = twice(*given[:3], rhs, *given[4:])
    np.testing.assert_allclose(both[0], expected, rtol=1e-9, atol=1e-12)
    assert not np.allclose(both[1], expected)


def test_single_precision():
    arguments = problem(2 * GROUP, 1, False, jnp.float32)
    new = jax.jit(native.sweep)(*arguments)
    assert new.dtype == jnp.float32
    np.testing.assert_allclose(new, step_by_step(*arguments), rtol=1e-3, atol=1e-4)


def test_the_switch_turns_it_off(monkeypatch):
    gram, _, _, rhs, coef, offset, gain, noise, half = problem(8, 1, False, jnp.float32)
    draws = SweepDraws(*(jnp.moveaxis(one, 1, 0) for one in (offset, gain, noise)), half)

    def calls():
        traced = jax.make_jaxpr(lambda *given: coordinate_sweep(*given))(gram, rhs, coef, draws)
        return "ffi_call" in str(traced)

    assert calls()
    native.available.cache_clear()
    monkeypatch.setenv(native.SWITCH, "0")
    try:
        assert not native.available()
        assert not calls()
    finally:
        native.available.cache_clear()
