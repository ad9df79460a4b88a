"""Effects updated one after the other: conditionals shared by markers and nodes."""

from typing import NamedTuple

import jax.numpy as jnp
from jax import Array, lax, random

from nnmm_jax.inference import noise


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
    """Random and constant part of a sweep, each (component, effect, response).

    Component k has the score ``offset + slope * rhs**2``; the one with the highest score wins if
    that is above 0, the score of zero, and the effect becomes ``rhs * gain + noise``. That is
    :func:`effect_conditional`, drawn by Gumbel's rule and solved for the only quantity which
    changes during the sweep.
    """

    offset: Array
    slope: Array
    gain: Array
    noise: Array


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
    sum_squares : (effect,) or (effect, response)
    var_e : (response,)
    variances : tuple of (response, 1 or effect)
        Of the components that are not zero.
    weights : (response, 1 + component) or None
        Probabilities of all components, zero first; ``None`` without a spike.
    allowed : (effect, 1 or response) bool or None
        Effects that are not allowed (padding, masks) become zero.
    """
    key_include, key_noise = random.split(key)
    size = (len(variances), sum_squares.shape[0], var_e.shape[0])
    x2 = sum_squares[:, None] if sum_squares.ndim == 1 else sum_squares
    variance = jnp.stack([jnp.broadcast_to(one.T, size[1:]) for one in variances])
    gain = 1.0 / (x2 + var_e / variance)
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
        offset = luck + log_prior[:, None, :] - 0.5 * jnp.log1p(x2 * variance / var_e)
    if allowed is not None:
        offset = jnp.where(allowed, offset, -jnp.inf)
    return SweepDraws(offset, 0.5 * gain / var_e, gain, slab)


class OwnGram(NamedTuple):
    """What a response adds to the cross-products that all share: ``share[response] * gram``."""

    gram: Array
    share: Array


def coordinate_sweep(
    gram: Array, rhs: Array, coef: Array, draws: SweepDraws, own_gram: OwnGram | None = None
) -> Array:
    """Update effects one after the other, exactly, on their cross-products alone.

    Parameters
    ----------
    gram : (effect, effect)
    rhs : (effect, response)
        Products of the covariates with the current residual.
    coef : (effect, response)
        Current effects.
    draws : SweepDraws
    own_gram : OwnGram, optional

    Returns
    -------
    (effect, response)
        New effects.
    """
    # One array, one slice a step: loop overhead, not arithmetic, is what this loop costs. With one
    # component the score is above 0 where rhs**2 exceeds a threshold: one number less to carry.
    n_components = draws.gain.shape[0]
    if n_components == 1:
        parts = [-draws.offset / draws.slope, draws.gain, draws.noise]
    else:
        parts = list(draws)
    packed = jnp.stack([coef, *(one for part in parts for one in part)], axis=1)
    diagonal = jnp.diagonal(gram)

    def chosen(own: Array, rest: Array) -> Array:
        square = own**2
        if n_components == 1:
            threshold, gain, luck = rest
            return jnp.where(square > threshold, own * gain + luck, 0.0)
        offset, slope, gain, luck = rest.reshape(4, n_components, -1)
        best, value = jnp.zeros_like(own), jnp.zeros_like(own)
        for k in range(n_components):
            score = offset[k] + slope[k] * square
            value = jnp.where(score > best, own * gain[k] + luck[k], value)
            best = jnp.maximum(score, best)
        return value

    def step(j: Array, carry: tuple[Array, Array]) -> tuple[Array, Array]:
        rhs, new = carry
        constants = lax.dynamic_index_in_dim(packed, j, keepdims=False)
        old = constants[0]
        row = lax.dynamic_index_in_dim(gram, j, keepdims=False)[:, None]
        square = diagonal[j]
        if own_gram is not None:
            mine = lax.dynamic_index_in_dim(own_gram.gram, j, keepdims=False)
            row = row + mine[:, None] * own_gram.share
            square = row[j]
        own = lax.dynamic_index_in_dim(rhs, j, keepdims=False) + square * old
        value = chosen(own, constants[1:])
        rhs = rhs - row * (value - old)[None, :]
        return rhs, lax.dynamic_update_index_in_dim(new, value, j, axis=0)

    return lax.fori_loop(0, coef.shape[0], step, (rhs, jnp.zeros_like(coef)))[1]
