"""Machine code and the GPU's kernel: the same numbers as XLA's own loop, whatever the batch."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nnmm_jax.inference import native, pallas_sweep
from nnmm_jax.inference.blocks.effects import GROUP, step_by_step
from nnmm_jax.inference.sequential import SweepArrays

N_CHAINS = 3
MACHINE_CODE, KERNEL = native.sweep, pallas_sweep.make_sweep(interpret=True)


def cases(**arguments):
    """Arguments of a test for each program; the kernel's need a second each to compile."""
    absent = pytest.mark.skipif(not native.available(), reason="numba is not installed")
    return [
        pytest.param(sweep, one, id=f"{name}-{one}", marks=marks)
        for name, sweep, marks in (("native", MACHINE_CODE, absent), ("kernel", KERNEL, ()))
        for one in arguments[name]
    ]


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize("own", [False, True])
@pytest.mark.parametrize("components", [1, 3])
@pytest.mark.parametrize(
    ("sweep", "size"), cases(native=[1, GROUP - 1, 5 * GROUP], kernel=[GROUP - 1, 2 * GROUP])
)
def test_equal_to_the_loop_of_xla(sweep, size, components, own, sweep_arrays):
    arrays = sweep_arrays(size, components, own, jnp.float64)
    new = jax.jit(sweep)(arrays)
    np.testing.assert_allclose(new, step_by_step(arrays), rtol=1e-9, atol=1e-12)
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
@pytest.mark.parametrize(("sweep", "own"), cases(native=[False, True], kernel=[True]))
def test_batched_like_any_function(sweep, axes, own, sweep_arrays):
    chains = [sweep_arrays(20, 2, own, jnp.float64, seed) for seed in range(N_CHAINS)]
    stacked = [jnp.stack(parts) for parts in zip(*chains, strict=True)]
    given = SweepArrays(
        *(all_of if axis == 0 else all_of[0] for all_of, axis in zip(stacked, axes, strict=True))
    )
    of_chains = SweepArrays(*axes)
    expected = jax.vmap(step_by_step, in_axes=(of_chains,))(given)
    new = jax.jit(jax.vmap(sweep, in_axes=(of_chains,)))(given)
    np.testing.assert_allclose(new, expected, rtol=1e-9, atol=1e-12)
    outer = SweepArrays(None, None, None, 0, *[None] * 5)
    twice = jax.vmap(jax.vmap(sweep, in_axes=(of_chains,)), in_axes=(outer,))
    both = jax.jit(twice)(given._replace(rhs=jnp.stack([given.rhs, 2.0 * given.rhs])))
    np.testing.assert_allclose(both[0], expected, rtol=1e-9, atol=1e-12)
    assert not np.allclose(both[1], expected)


@pytest.mark.skipif(not native.available(), reason="numba is not installed")
@pytest.mark.usefixtures("double")
@pytest.mark.parametrize("own", [False, True])
@pytest.mark.parametrize("chains", [None, 0], ids=["shared", "own-cross-products"])
def test_so_many_responses_that_threads_share_them(own, chains, sweep_arrays):
    """Where there are two CPUs, as a process whose CPUs are one has no second thread to test."""
    from nnmm_jax.inference.native_code import _LEAST

    parts = [sweep_arrays(5 * GROUP, 1, own, jnp.float64, seed) for seed in range(15)]
    stacked = [jnp.stack(one) for one in zip(*parts, strict=True)]
    of_chains = SweepArrays(chains, chains if own else None, *[0] * 7)
    given = SweepArrays(
        *(one if axis == 0 else one[0] for one, axis in zip(stacked, of_chains, strict=True))
    )
    assert given.rhs.size > 2 * _LEAST
    new = jax.jit(jax.vmap(MACHINE_CODE, in_axes=(of_chains,)))(given)
    expected = jax.vmap(step_by_step, in_axes=(of_chains,))(given)
    np.testing.assert_allclose(new, expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(("sweep", "size"), cases(native=[2 * GROUP], kernel=[2 * GROUP]))
def test_single_precision(sweep, size, sweep_arrays):
    arrays = sweep_arrays(size, 1, False, jnp.float32)
    new = jax.jit(sweep)(arrays)
    assert new.dtype == jnp.float32
    np.testing.assert_allclose(new, step_by_step(arrays), rtol=1e-3, atol=1e-4)
