"""Fit the variational family: Adam (Kingma & Ba 2015) by optax on the evidence lower bound.

Each step uses noise and its negative: what is odd in the noise cancels (antithetic variates). The
rate stays until the bound stops rising, and then falls to nearly zero, which averages over steps.
Of several starts the one that ends at the highest bound is taken.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array, lax, random
from tqdm.auto import tqdm

from nnmm_jax.errors import InputError
from nnmm_jax.inference.arrays import ModelData
from nnmm_jax.inference.compile_cache import keep_compiled
from nnmm_jax.inference.variational import Factors, Family, Inputs, noise_like
from nnmm_jax.network.activations import Activation

RATE, LAST_RATE = 0.05, 0.0005
WINDOW = 250  # steps, in one compiled piece, over which the bound is averaged
TOLERANCE = 1e-4  # relative rise of the bound from window to window that counts as none
MOST_WINDOWS = 40  # at the first rate: 10,000 steps
SETTLING = 4  # windows in which the rate falls
_KEPT_POINTS = 200  # of the trace
_OPTIMIZER = optax.chain(optax.scale_by_adam(b1=0.9, b2=0.99), optax.clip(3.0))


@dataclass(frozen=True, eq=False)
class Fitted:
    """A fitted family.

    Attributes
    ----------
    family : Family
    factors : Factors
    bound : (step,)
        Estimates of the evidence lower bound, up to a constant, of every step.
    converged : bool
        Whether the bound stopped rising before the most steps were done.
    seconds : dict
        ``compilation`` and ``optimisation``.
    """

    family: Family
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
    """Where one start has led."""

    factors: Factors
    bound: np.ndarray
    converged: bool


# One window of steps: (position, key, rates) -> (position, bounds).
_Window = Callable[[_Position, Array, Array], tuple[_Position, Array]]


def _step(
    family: Family, inputs: Inputs, position: _Position, given: tuple[Array, Array]
) -> tuple[_Position, Array]:
    key, rate = given

    def loss(factors: Factors) -> Array:
        noise = noise_like(key, factors)
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
    family = Family(random.fold_in(key, 0), data, activation)
    inputs = family.inputs(data)

    @jax.jit
    def steps(position: _Position, key: Array, rates: Array, inputs: Inputs) -> Any:
        keys = random.split(key, WINDOW)
        return lax.scan(partial(_step, family, inputs), position, (keys, rates))

    first = _at(family.starts[0])
    rates = jnp.full(WINDOW, RATE, data.y.dtype)
    compiled = steps.lower(first, key, rates, inputs).compile()
    seconds = {"compilation": time.perf_counter() - began}

    def window(position: _Position, key: Array, rates: Array) -> tuple[_Position, Array]:
        result: tuple[_Position, Array] = compiled(position, key, rates, inputs)
        return result

    ends = [
        _climb(window, _at(start), random.fold_in(key, 1 + number), rates, progress=progress)
        for number, start in enumerate(family.starts)
    ]
    best = max(ends, key=lambda end: float(end.bound[-WINDOW:].mean()))
    seconds["optimisation"] = time.perf_counter() - began - seconds["compilation"]
    return Fitted(family, best.factors, best.bound, best.converged, seconds)


def _at(start: Factors) -> _Position:
    return _Position(start, _OPTIMIZER.init(start))


def _climb(
    window: _Window, position: _Position, key: Array, rates: Array, *, progress: bool
) -> _End:
    """Step until the bound stops rising, then let the rate fall."""
    found: list[np.ndarray] = []
    total = MOST_WINDOWS * WINDOW
    bar = tqdm(total=total, disable=not progress, unit="step", desc="variational fit")

    def advance(rates: Array) -> None:
        nonlocal position
        position, bounds = window(position, random.fold_in(key, len(found)), rates)
        found.append(np.asarray(bounds, np.float64))
        _check(found)
        bar.set_postfix(elbo=f"{found[-1].mean():.1f}", refresh=False)
        bar.update(WINDOW)

    converged = False
    with bar:
        while not converged and len(found) < MOST_WINDOWS:
            advance(rates)
            converged = _stopped_rising(found)
        bar.total = (len(found) + SETTLING) * WINDOW
        falling = jnp.geomspace(RATE, LAST_RATE, SETTLING * WINDOW, dtype=rates.dtype)
        for part in falling.reshape(SETTLING, WINDOW):
            advance(part)
    return _End(position.factors, np.concatenate(found), converged)


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
