"""Fit the variational family: Adam (Kingma & Ba 2015) by optax on the evidence lower bound.

Each step uses noise and its negative: what is odd in the noise cancels (antithetic variates). The
rate stays until the bound stops rising; what is left then is mostly the noise of the steps, which
hides how high an optimum is. It goes away as the rate falls to nearly zero, which averages over
steps. Of several starts the one that ends at the highest bound is taken.

Where chains start from it, the fit need not be good: from there to the posterior they take a few
dozen sweeps. :func:`fit_quickly` takes a fixed number of steps, each of a single noise, with
independent factors, and only from the prior's share of zero effects: a start without zeros may end
at an optimum with far too many effects, which chains leave slowly.
"""

import time
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array, lax, random
from jax.stages import Wrapped
from tqdm.auto import tqdm

from nnmm_jax.errors import InputError
from nnmm_jax.inference.arrays import ModelData
from nnmm_jax.inference.compile_cache import keep_compiled
from nnmm_jax.inference.variational import Factors, Family, Inputs, noise_like
from nnmm_jax.inference.variational_begin import begin
from nnmm_jax.network.activations import Activation

RATE, LAST_RATE = 0.1, 0.001
WINDOW = 100  # steps, in one compiled piece, over which the bound is averaged
TOLERANCE = 1e-4  # relative rise of the bound from window to window that counts as none
MOST_WINDOWS = 100  # at the first rate, from every start: 10,000 steps
SETTLING = 6  # windows in which the rate falls
# Of a fit to start chains from; the rate stays for the first half.
QUICK_STEPS, QUICK_RATE, QUICK_LAST_RATE = 100, 0.2, 0.01
_KEPT_POINTS = 200  # of the trace
_OPTIMIZER = optax.chain(optax.scale_by_adam(b1=0.9, b2=0.99), optax.clip(3.0))


@dataclass(frozen=True, eq=False)
class Fitted:
    """A fitted family.

    Attributes
    ----------
    family : Family
    inputs : Inputs
    factors : Factors
    bound : (step,)
        Estimates of the evidence lower bound, up to a constant, of every step.
    converged : bool
        Whether the bound stopped rising before the most steps were done.
    seconds : dict
        ``compilation`` and ``optimisation``.
    """

    family: Family
    inputs: Inputs
    factors: Factors
    bound: np.ndarray
    converged: bool
    seconds: dict[str, float]

    def trace(self) -> dict[str, list[float]]:
        """Averages of the bound over equal numbers of steps, at most 200 of them."""
        every = -(-len(self.bound) // _KEPT_POINTS)
        cut = len(self.bound) // every * every
        means = self.bound[:cut].reshape(-1, every).mean(axis=1)
        steps = np.arange(every, cut + 1, every)
        return {"step": steps.tolist(), "elbo": np.round(means, 3).tolist()}


class _Position(NamedTuple):
    factors: Factors
    optimizer: Any


class _End(NamedTuple):
    """Where a start has led."""

    position: _Position
    found: list[np.ndarray]  # of the bound, by window
    converged: bool


@lru_cache(maxsize=16)
def compiled_steps(family: Family, *, paired: bool = True) -> Wrapped:
    """Return ``(position, keys, rates, inputs) -> (position, bounds)``: a step for every key.

    The same for equal families: further fits in a process compile nothing anew where shapes agree.
    """

    def steps(position: _Position, keys: Array, rates: Array, inputs: Inputs) -> Any:
        return lax.scan(partial(_step, family, paired, inputs), position, (keys, rates))

    return jax.jit(steps)


def _step(
    family: Family,
    paired: bool,
    inputs: Inputs,
    position: _Position,
    given: tuple[Array, Array],
) -> tuple[_Position, Array]:
    key, rate = given

    def loss(factors: Factors) -> Array:
        noise = noise_like(key, factors)
        if not paired:
            return -family.bound(factors, noise, inputs)
        both = jax.tree.map(lambda one: jnp.stack([one, -one]), noise)
        bounds = jax.vmap(lambda one: family.bound(factors, one, inputs))(both)
        return -jnp.mean(bounds)

    value, gradient = jax.value_and_grad(loss)(position.factors)
    updates, optimizer = _OPTIMIZER.update(gradient, position.optimizer)
    updates = jax.tree.map(lambda one: -rate * one, updates)
    return _Position(optax.apply_updates(position.factors, updates), optimizer), -value


def fit_variational(
    data: ModelData, activation: Activation, *, seed: int, progress: bool = False
) -> Fitted:
    """Fit the family to the posterior.

    Parameters
    ----------
    data : ModelData
    activation : Activation
    seed : int
    progress : bool
        Whether to show a progress bar on standard error.

    Raises
    ------
    InputError
        If the bound is not finite: there is no such approximation of this posterior.
    """
    keep_compiled()
    began = time.perf_counter()
    key = random.key(seed)
    family, inputs, starts = begin(random.fold_in(key, 0), data, activation)
    steps = compiled_steps(family)
    rates = jnp.full(WINDOW, RATE, data.y.dtype)
    steps.lower(_at(starts[0]), random.split(key, WINDOW), rates, inputs).compile()
    seconds = {"compilation": time.perf_counter() - began}
    bar = tqdm(disable=not progress, unit="step", desc="variational fit")

    def advance(end: _End, key: Array, rates: Array) -> _End:
        keys = random.split(random.fold_in(key, len(end.found)), WINDOW)
        position, bounds = steps(end.position, keys, rates, inputs)
        found = [*end.found, np.asarray(bounds, np.float64)]
        _check(found)
        bar.set_postfix(elbo=f"{found[-1].mean():.1f}", refresh=False)
        bar.update(WINDOW)
        return _End(position, found, end.converged)

    falling = jnp.geomspace(RATE, LAST_RATE, SETTLING * WINDOW, dtype=rates.dtype)
    ends = []
    with bar:
        for number, start in enumerate(starts):
            end, key_start = _End(_at(start), [], False), random.fold_in(key, 1 + number)
            while not end.converged and len(end.found) < MOST_WINDOWS:
                end = advance(end, key_start, rates)
                end = end._replace(converged=_stopped_rising(end.found))
            for part in falling.reshape(SETTLING, WINDOW):
                end = advance(end, key_start, part)
            ends.append(end)
    best = max(ends, key=lambda end: float(end.found[-1].mean()))
    seconds["optimisation"] = time.perf_counter() - began - seconds["compilation"]
    bound = np.concatenate(best.found)
    return Fitted(family, inputs, best.position.factors, bound, best.converged, seconds)


def fit_quickly(data: ModelData, activation: Activation, *, seed: int) -> Fitted:
    """Fit the family with independent factors, in a few steps, for chains to start from.

    Parameters
    ----------
    data : ModelData
    activation : Activation
    seed : int

    Raises
    ------
    InputError
        If the bound is not finite.
    """
    keep_compiled()
    began = time.perf_counter()
    key = random.key(seed)
    family, inputs, (start, *_) = begin(random.fold_in(key, 0), data, activation, independent=True)
    half = QUICK_STEPS // 2
    falling = jnp.geomspace(QUICK_RATE, QUICK_LAST_RATE, QUICK_STEPS - half, dtype=data.y.dtype)
    rates = jnp.concatenate([jnp.full(half, QUICK_RATE, falling.dtype), falling])
    keys = random.split(random.fold_in(key, 1), QUICK_STEPS)
    steps = compiled_steps(family, paired=False)
    steps.lower(_at(start), keys, rates, inputs).compile()
    compiled = time.perf_counter()
    position, bounds = jax.block_until_ready(steps(_at(start), keys, rates, inputs))
    found = np.asarray(bounds, np.float64)
    _check([found])
    seconds = {"compilation": compiled - began, "optimisation": time.perf_counter() - compiled}
    return Fitted(family, inputs, position.factors, found, False, seconds)


def _at(start: Factors) -> _Position:
    return _Position(start, _OPTIMIZER.init(start))


def _stopped_rising(found: list[np.ndarray]) -> bool:
    """Whether the last window's mean is no higher than that of the one before, or hardly."""
    if len(found) < 2:
        return False
    before, last = found[-2].mean(), found[-1].mean()
    return bool(last - before < TOLERANCE * abs(last))


def _check(found: list[np.ndarray]) -> None:
    wrong = ~np.isfinite(found[-1])
    if wrong.any():
        step = sum(map(len, found[:-1])) + int(wrong.argmax()) + 1
        raise InputError(
            f"svi: expected a finite lower bound, found one that is not at step {step} "
            f"({int(wrong.sum())} of {wrong.size} steps); fit by MCMC, or state priors that are "
            "less wide"
        )
