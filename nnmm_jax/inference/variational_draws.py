"""Draws from a fitted variational family, kept as those of chains are."""

import time
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax, random
from jax.stages import Wrapped
from tqdm.auto import tqdm

from nnmm_jax.inference.arrays import ModelData
from nnmm_jax.inference.compile_cache import keep_compiled
from nnmm_jax.inference.draws import MemoryDraws
from nnmm_jax.inference.kept_snapshots import Snapshots
from nnmm_jax.inference.kernel import KernelState, NNMMKernel
from nnmm_jax.inference.run import RunOutput, chain_keys, sweep_settings
from nnmm_jax.inference.run_settings import RunSettings
from nnmm_jax.inference.state import State
from nnmm_jax.inference.sweep import SweepSettings, count_non_finite
from nnmm_jax.inference.variational import Factors, Family, Inputs
from nnmm_jax.inference.variational_fit import WINDOW, Fitted, fit_quickly, fit_variational
from nnmm_jax.network.activations import Activation

_DRAW, _WARM = 2**31 - 6, 2**31 - 7  # subkeys, beside those of the kernel


class IndependentKernel(NNMMKernel):
    """Keeps what the sampler keeps, of independent draws in the place of sweeps.

    Parameters
    ----------
    settings : SweepSettings
    family : Family
    """

    def __init__(self, settings: SweepSettings, family: Family) -> None:
        super().__init__(settings)
        self._family = family

    def _stats(self, key: Array, chain: State, data: ModelData) -> dict[str, Array]:
        return {"non_finite": count_non_finite(chain), "log_ratio": jnp.zeros((), data.y.dtype)}

    def advance(
        self, state: KernelState, factors: Factors, inputs: Inputs
    ) -> tuple[KernelState, dict[str, dict[str, Array]]]:
        """Draw once for every chain (leading axis)."""
        t = state.i[0] + 1
        keys = jax.vmap(random.fold_in, in_axes=(0, None))(state.rng_key, t)

        def one(key: Array) -> tuple[State, dict[str, Array]]:
            drawn = self._family.draw(random.fold_in(key, _DRAW), factors, inputs)
            non_finite = count_non_finite(drawn.state)
            return drawn.state, {"non_finite": non_finite, "log_ratio": drawn.log_ratio}

        chain, stats = jax.vmap(one)(keys)
        draw, sums = self._keep(keys, chain, inputs.data, state.sums, t)
        new = KernelState(state.i + 1, state.rng_key, chain, draw, stats, sums)
        return new, {"draw": draw, "stats": stats}


@lru_cache(maxsize=16)
def compiled_draws(sweep: SweepSettings, family: Family, size: int) -> tuple[Wrapped, Wrapped]:
    """Return the start, ``(keys, data) -> state``, and a piece of so many draws of every chain.

    The piece is ``(state, factors, inputs) -> (state, kept)``. Both are the same for equal
    families, as :func:`nnmm_jax.inference.variational_fit.compiled_steps`.
    """
    kernel = IndependentKernel(sweep, family)

    def start(keys: Array, data: ModelData) -> KernelState:
        state: KernelState = kernel.init(keys, 0, None, (data,), {})
        return state

    def piece(state: KernelState, factors: Factors, inputs: Inputs) -> Any:
        state, kept = lax.scan(
            lambda at, _: kernel.advance(at, factors, inputs), state, None, length=size
        )
        return state, jax.tree.map(lambda leaf: jnp.moveaxis(leaf, 0, 1), kept)

    return jax.jit(start), jax.jit(piece)


@lru_cache(maxsize=16)
def compiled_states(family: Family) -> Wrapped:
    """Return ``(keys, factors, inputs) -> states``, one for every key."""

    def draw(keys: Array, factors: Factors, inputs: Inputs) -> State:
        def one(key: Array) -> State:
            drawn: State = family.draw(random.fold_in(key, _WARM), factors, inputs).state
            return drawn

        return jax.vmap(one)(keys)

    return jax.jit(draw)


def draw_variational(
    data: ModelData, activation: Activation, settings: RunSettings, fitted: Fitted
) -> RunOutput:
    """Draw ``samples`` times for each of ``chains`` streams of random numbers.

    Parameters
    ----------
    data : ModelData
    activation : Activation
    settings : RunSettings
    fitted : Fitted
        Of the same data.

    Returns
    -------
    RunOutput
        As of chains; ``stats`` has ``log_ratio``, the log of the joint density over the family's.
    """
    keep_compiled()
    began = time.perf_counter()
    size = max(one for one in range(1, 26) if settings.samples % one == 0)
    start, piece = compiled_draws(sweep_settings(activation, settings), fitted.family, size)
    keys = jnp.atleast_1d(chain_keys(settings.seed, settings.chains))
    state = start(keys, data)
    sink, snapshots = MemoryDraws(), Snapshots(data, settings.chains)
    pieces = settings.samples // size
    sink.expect(settings.samples)
    snapshots.plan(pieces)
    bar = tqdm(
        total=settings.samples, disable=not settings.progress, unit="draw", desc="variational draws"
    )
    with bar:
        for number in range(1, pieces + 1):
            state, collected = piece(state, fitted.factors, fitted.inputs)
            sink.append(collected)
            one = state if settings.chains > 1 else jax.tree.map(lambda leaf: leaf[0], state)
            snapshots.offer(one, number * size - 1)
            bar.update(size)
    sums = jax.tree.map(np.asarray, state.sums)
    found = sink.found()
    seconds = fitted.seconds | {"sampling": time.perf_counter() - began}
    return RunOutput(
        found["draw"],
        found["stats"],
        snapshots.joined(),
        snapshots.draws,
        sums,
        seconds,
        settings.samples,
    )


def run_variational(
    data: ModelData, activation: Activation, settings: RunSettings
) -> tuple[RunOutput, dict[str, Any]]:
    """Fit the family and draw from it.

    Returns
    -------
    output, record
        Draws, and what a result says of the fit: steps, whether the bound stopped rising, its
        trace.
    """
    fitted = fit_variational(data, activation, seed=settings.seed, progress=settings.progress)
    record = {
        "steps": len(fitted.bound),
        "converged": fitted.converged,
        "elbo": round(float(fitted.bound[-WINDOW:].mean()), 3),
        "trace": fitted.trace(),
    }
    return draw_variational(data, activation, settings, fitted), record


def variational_start(
    data: ModelData, activation: Activation, settings: RunSettings, seconds: dict[str, float]
) -> Callable[[State], State] | None:
    """Return what puts chains at draws from the family, ``None`` where they start elsewhere.

    It fits the family when it is called: a run that goes on from a checkpoint does not need it.

    Parameters
    ----------
    data : ModelData
    activation : Activation
    settings : RunSettings
    seconds : dict
        Then gets ``variational``, the optimisation, and ``variational_compilation``, the rest.
    """
    if settings.start != "svi":
        return None

    def change(states: State) -> State:
        began = time.perf_counter()
        fitted = fit_quickly(data, activation, seed=settings.seed)
        keys = jnp.atleast_1d(chain_keys(settings.seed, settings.chains))

        draw = compiled_states(fitted.family)
        drawn = jax.block_until_ready(draw(keys, fitted.factors, fitted.inputs))
        if settings.chains == 1:
            drawn = jax.tree.map(lambda leaf: leaf[0], drawn)
        seconds["variational"] = fitted.seconds["optimisation"]
        rest = time.perf_counter() - began - seconds["variational"]
        seconds["variational_compilation"] = rest
        # Step sizes are the chains' own.
        return drawn._replace(adapt=states.adapt, theta_adapt=states.theta_adapt)

    return change
