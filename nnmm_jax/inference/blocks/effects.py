"""Effects updated one after the other: conditionals shared by markers and nodes."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax, random

from nnmm_jax.inference import native, noise, pallas_sweep
from nnmm_jax.inference.sequential import SweepArrays, chosen

GROUP = 32  # effects that XLA's own loop takes between two products


class EffectConditional(NamedTuple):
    """Conditional of one effect given all others.

    It is zero, or N(mean[k], sd[k]**2) for component k; ``log_odds[k]`` are the log odds of
    component k against zero. All (component, ...).
    """

    log_odds: Array
    mean: Array
    sd: Array


def effect_conditional(
    rhs: Array, sum_squares: Array, var_e: Array, variances: Array, weights: Array
) -> EffectConditional:
    """Conditional of one effect given all others (Habier et al. 2011; Erbe et al. 2012).

    Parameters
    ----------
    rhs : Array
        Product of the covariate with the residual that leaves out this effect.
    sum_squares : Array
        Sum of squares of the covariate.
    var_e : Array
        Residual variance.
    variances : (component, ...)
        Variances of the components that are not zero.
    weights : (1 + component, ...)
        Probabilities of all components, zero first.
    """
    shrink = 1.0 / (sum_squares + var_e / variances)
    log_bayes_factor = 0.5 * rhs**2 * shrink / var_e - 0.5 * jnp.log1p(
        sum_squares * variances / var_e
    )
    return EffectConditional(
        log_odds=jnp.log(weights[1:]) - jnp.log(weights[0]) + log_bayes_factor,
        mean=rhs * shrink,
        sd=jnp.sqrt(var_e * shrink),
    )


class SweepDraws(NamedTuple):
    """Random and constant part of a sweep, each (component, response, effect).

    Component k has the score ``offset + slope * rhs**2``; the one with the highest score wins if
    that is above 0, the score of zero, and the effect becomes ``rhs * gain + noise``. That is
    :func:`effect_conditional`, drawn by Gumbel's rule and solved for the only quantity which
    changes during the sweep. The slope is the gain times ``half_precision`` (response,), half the
    inverse of the residual variance.
    """

    offset: Array
    gain: Array
    noise: Array
    half_precision: Array

    @property
    def slope(self) -> Array:
        """Slopes of the scores."""
        return self.gain * self.half_precision[:, None]

    def part(self, start: Array, size: int) -> "SweepDraws":
        """Those of some effects that follow each other."""

        def some(whole: Array) -> Array:
            return lax.dynamic_slice_in_dim(whole, start, size, -1)

        parts = some(self.offset), some(self.gain), some(self.noise)
        return SweepDraws(*parts, self.half_precision)


def draw_sweep(
    key: Array,
    sum_squares: Array,
    var_e: Array,
    variances: tuple[Array, ...],
    weights: Array | None,
    allowed: Array | None = None,
) -> SweepDraws:
    """Draw all random numbers of one sweep.

    Parameters
    ----------
    key : Array
    sum_squares : (effect,) or (response, effect)
    var_e : (response,)
    variances : tuple of (response, 1 or effect)
        Of the components that are not zero.
    weights : (response, 1 + component) or None
        Probabilities of all components, zero first; ``None`` without a spike.
    allowed : (1 or response, effect) bool or None
        Effects that are not allowed (padding, masks) become zero.
    """
    key_include, key_noise = random.split(key)
    size = (len(variances), var_e.shape[0], sum_squares.shape[-1])
    half_precision, var_e = 0.5 / var_e, var_e[:, None]
    variance = jnp.stack([jnp.broadcast_to(one, size[1:]) for one in variances])
    gain = 1.0 / (sum_squares + var_e / variance)
    slab = jnp.sqrt(var_e * gain) * noise.normal(key_noise, size, gain.dtype)
    if weights is None:
        offset = jnp.full(size, jnp.inf, gain.dtype)
    else:
        # A difference of two Gumbel variates is logistic; with more components they share one.
        if size[0] == 1:
            luck = -noise.logistic(key_include, size, gain.dtype)
        else:
            gumbel = noise.gumbel(key_include, (size[0] + 1, *size[1:]), gain.dtype)
            luck = gumbel[1:] - gumbel[0]
        log_prior = jnp.log(weights[:, 1:]).T - jnp.log(weights[:, 0])
        offset = luck + log_prior[..., None] - 0.5 * jnp.log1p(sum_squares * variance / var_e)
    if allowed is not None:
        offset = jnp.where(allowed, offset, -jnp.inf)
    return SweepDraws(offset, gain, slab, half_precision)


class OwnGram(NamedTuple):
    """What a response adds to the cross-products that all share: ``share[response] * gram``."""

    gram: Array
    share: Array


def coordinate_sweep(
    gram: Array, rhs: Array, coef: Array, draws: SweepDraws, own_gram: OwnGram | None = None
) -> Array:
    """Update effects one after the other, exactly, on their cross-products alone.

    Machine code on a CPU (:mod:`nnmm_jax.inference.native`), a kernel on an NVIDIA GPU
    (:mod:`nnmm_jax.inference.pallas_sweep`), a loop of XLA's elsewhere.

    Parameters
    ----------
    gram : (effect, effect)
    rhs : (response, effect)
        Products of the covariates with the current residual.
    coef : (response, effect)
        Current effects.
    draws : SweepDraws
    own_gram : OwnGram, optional

    Returns
    -------
    (response, effect)
        New effects.
    """
    if own_gram is None:
        own_gram = OwnGram(jnp.zeros((0, 0), gram.dtype), jnp.zeros(rhs.shape[:1], gram.dtype))
    offset, gain, noise = (jnp.moveaxis(one, 0, 1) for one in draws[:3])
    extra, share = own_gram
    arrays = SweepArrays(gram, extra, share, rhs, coef, offset, gain, noise, draws.half_precision)
    quick: dict[str, Callable[[SweepArrays], Array]] = {}
    if native.available():
        quick["cpu"] = native.sweep
    if pallas_sweep.available() and rhs.shape[1] <= pallas_sweep.LARGEST:
        quick["cuda"] = pallas_sweep.sweep
    if not quick:
        return step_by_step(arrays)
    return lax.platform_dependent(arrays, default=step_by_step, **quick)


def is_quick() -> bool:
    """Whether sweeps on JAX's first device are more than :func:`step_by_step`."""
    if jax.default_backend() == "cpu":
        return native.available()
    return pallas_sweep.available()


def step_by_step(arrays: SweepArrays) -> Array:
    """:func:`coordinate_sweep` as a loop over the effects, all responses at once.

    In groups, between which the others hear of the changes in one product: a step then touches
    the right-hand sides of its own group only.
    """
    gram, extra, share, rhs, coef, offset, gain, noise, half_precision = arrays
    size = gram.shape[0]
    group = GROUP if size % GROUP == 0 else size
    # One array, one slice a step: loop overhead, not arithmetic, is what this loop costs.
    slope = gain * half_precision[:, None, None]
    packed = jnp.concatenate([coef[:, None], offset, slope, gain, noise], axis=1)
    constants = jnp.transpose(packed, (2, 1, 0))

    def part(whole: Array, start: Array, *axes: int) -> Array:
        for axis in axes if whole.shape[0] else ():
            whole = lax.dynamic_slice_in_dim(whole, start, group, axis)
        return whole

    def move(number: Array, carry: tuple[Array, Array]) -> tuple[Array, Array]:
        rhs, new = carry
        start = number * group
        mine, own_extra = part(gram, start, 0, 1), part(extra, start, 0, 1)

        def step(j: Array, carry: tuple[Array, Array]) -> tuple[Array, Array]:
            rhs, new = carry
            steps = lax.dynamic_index_in_dim(constants, start + j, keepdims=False)
            old, draws = steps[0], steps[1:].reshape(4, -1, steps.shape[-1])
            row = lax.dynamic_index_in_dim(mine, j, keepdims=False)[:, None]
            if extra.shape[0]:
                more = lax.dynamic_index_in_dim(own_extra, j, keepdims=False)
                row = row + more[:, None] * share
            square = lax.dynamic_index_in_dim(row, j, keepdims=False)
            own = lax.dynamic_index_in_dim(rhs, j, keepdims=False) + square * old
            value = chosen(own, *draws)
            rhs = rhs - row * (value - old)[None, :]
            return rhs, lax.dynamic_update_index_in_dim(new, value, j, axis=0)

        here = part(rhs, start, 0)
        _, values = lax.fori_loop(0, group, step, (here, jnp.zeros_like(here)))
        change = values - part(constants, start, 0)[:, 0]
        rhs = rhs - part(gram, start, 0).T @ change
        if extra.shape[0]:
            rhs = rhs - (part(extra, start, 0).T @ change) * share
        return rhs, lax.dynamic_update_slice_in_dim(new, values, start, axis=0)

    begin = (rhs.T, jnp.zeros_like(rhs.T))
    return lax.fori_loop(0, size // group, move, begin)[1].T
