"""Machine code of the effect sweep: when it is used; its numbers are in test_sequential."""

import jax
import jax.numpy as jnp
import pytest

from nnmm_jax.inference import native, sequential
from nnmm_jax.inference.blocks.effects import SweepDraws, coordinate_sweep, is_quick

pytestmark = pytest.mark.skipif(not native.available(), reason="numba is not installed")


def test_the_switch_turns_it_off(monkeypatch, sweep_arrays):
    gram, _, _, rhs, coef, offset, gain, noise, half = sweep_arrays(8, 1, False, jnp.float32)
    draws = SweepDraws(*(jnp.moveaxis(one, 1, 0) for one in (offset, gain, noise)), half)

    def calls():
        traced = jax.make_jaxpr(lambda *given: coordinate_sweep(*given))(gram, rhs, coef, draws)
        return "ffi_call" in str(traced)

    assert calls()
    assert is_quick()
    native.available.cache_clear()
    monkeypatch.setenv(sequential.SWITCH, "0")
    try:
        assert not native.available()
        assert not is_quick()
        assert not calls()
    finally:
        native.available.cache_clear()
