"""Effects with a normal or spike-and-slab prior: conditionals shared by markers, nodes and skip."""

from typing import NamedTuple

import jax.numpy as jnp
import numpyro.distributions as dist
from jax import Array, lax, random

from nnmm_jax.inference import noise
from nnmm_jax.inference.arrays import EffectHyper


def variance_conditional(
    df: Array, scale: Array, sum_squares: Array, count: Array | int
) -> dist.InverseGamma:
    """Conditional of a variance with prior ``df * scale / chi2(df)``, given normal deviations.

    Parameters
    ----------
    df, scale : Array
        Of the prior.
    sum_squares, count : Array
        Sum and number of the squared deviations that the variance governs.
    """
    return dist.InverseGamma((df + count) / 2, (df * scale + sum_squares) / 2)


def pi_conditional(hyper: EffectHyper, n_zero: Array, n_nonzero: Array) -> dist.Beta:
    """Conditional of pi, the probability of a ZERO effect, given the counts of effects."""
    return dist.Beta(hyper.zero_count + n_zero, hyper.nonzero_count + n_nonzero)


class EffectConditional(NamedTuple):
    """Conditional of one effect: zero, or N(mean, sd**2) with log odds ``log_odds``."""

    log_odds: Array
    mean: Array
    sd: Array


def effect_conditional(
    rhs: Array, sum_squares: Array, var_e: Array, variance: Array, pi: Array
) -> EffectConditional:
    """Conditional of one effect given all others (Habier et al. 2011, BayesC).

    Parameters
    ----------
    rhs : Array
        Product of the covariate with the residual that leaves out this effect.
    sum_squares : Array
        Sum of squares of the covariate.
    var_e, variance, pi : Array
        Residual variance, variance of non-zero effects, probability of a zero effect.
    """
    shrink = 1.0 / (sum_squares + var_e / variance)
    log_bayes_factor = 0.5 * rhs**2 * shrink / var_e - 0.5 * jnp.log1p(
        sum_squares * variance / var_e
    )
    return EffectConditional(
        log_odds=jnp.log1p(-pi) - jnp.log(pi) + log_bayes_factor,
        mean=rhs * shrink,
        sd=jnp.sqrt(var_e * shrink),
    )


class SweepDraws(NamedTuple):
    """Random and constant part of a sweep, each (effect, response).

    An effect becomes ``rhs * gain + noise`` if ``rhs**2 > threshold``, else zero; that is
    :func:`effect_conditional` solved for the only quantity which changes during the sweep.
    """

    threshold: Array
    gain: Array
    noise: Array


def draw_sweep(
    key: Array,
    sum_squares: Array,
    var_e: Array,
    variance: Array,
    pi: Array,
    n_effects: int | None = None,
) -> SweepDraws:
    """Draw all random numbers of one sweep.

    Parameters
    ----------
    key : Array
    sum_squares : (effect,)
    var_e, variance, pi : (response,)
    n_effects : int or None
        Effects from this one on are padding and stay zero.
    """
    key_include, key_noise = random.split(key)
    shape = (sum_squares.shape[0], variance.shape[0])
    x2 = sum_squares[:, None]
    gain = 1.0 / (x2 + var_e / variance)
    logit_u = noise.logistic(key_include, shape, gain.dtype)
    slab = jnp.sqrt(var_e * gain) * noise.normal(key_noise, shape, gain.dtype)
    prior_log_odds = jnp.log1p(-pi) - jnp.log(pi)
    threshold = (2.0 * var_e / gain) * (
        logit_u - prior_log_odds + 0.5 * jnp.log1p(x2 * variance / var_e)
    )
    if n_effects is not None:
        padding = jnp.arange(shape[0]) >= n_effects
        threshold = jnp.where(padding[:, None], jnp.inf, threshold)
    return SweepDraws(threshold, gain, slab)


def coordinate_sweep(gram: Array, rhs: Array, coef: Array, draws: SweepDraws) -> Array:
    """Update effects one after the other, exactly, on their cross-products alone.

    Parameters
    ----------
    gram : (effect, effect)
    rhs : (effect, response)
        Products of the covariates with the current residual.
    coef : (effect, response)
        Current effects.
    draws : SweepDraws

    Returns
    -------
    (effect, response)
        New effects.
    """
    # One array, one slice a step: loop overhead, not arithmetic, is what this loop costs.
    packed = jnp.stack([coef, draws.threshold, draws.gain, draws.noise], axis=1)
    diagonal = jnp.diagonal(gram)

    def step(j: Array, carry: tuple[Array, Array]) -> tuple[Array, Array]:
        rhs, new = carry
        old, threshold, gain, noise = lax.dynamic_index_in_dim(packed, j, keepdims=False)
        own = lax.dynamic_index_in_dim(rhs, j, keepdims=False) + diagonal[j] * old
        value = jnp.where(own**2 > threshold, own * gain + noise, 0.0)
        row = lax.dynamic_index_in_dim(gram, j, keepdims=False)
        rhs = rhs - row[:, None] * (value - old)[None, :]
        return rhs, lax.dynamic_update_index_in_dim(new, value, j, axis=0)

    return lax.fori_loop(0, coef.shape[0], step, (rhs, jnp.zeros_like(coef)))[1]
