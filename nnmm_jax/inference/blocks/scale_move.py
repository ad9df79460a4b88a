"""Move the scale of a set of effects and of what governs them together.

Effects and their variance hold each other in place when the data say little: a Gibbs draw of the
variance given p effects moves it by a share of about sqrt(2 / p). Multiplying effects by k and
their variances by k**2 leaves their prior's shape alone and moves along exactly that ridge.
"""

import jax.numpy as jnp
from jax import Array, lax, random

from nnmm_jax.inference import noise
from nnmm_jax.inference.arrays import EffectHyper, inner_products
from nnmm_jax.inference.blocks.families import OrbitPrior, family_of
from nnmm_jax.inference.state import EffectState

N_STEPS = 4  # Metropolis steps on log k; each costs a few scalars per response


def log_density(
    log_k: Array, prior: OrbitPrior, cross: Array, square: Array, var_e: Array
) -> Array:
    """Log density (response,) of log k along the orbit, up to a constant.

    Liu & Sabatti (2000), Biometrika 87:353, theorem 1, for the group (effects, variances) ->
    (k effects, k**2 variances): the posterior at the moved point times the Jacobian of the group,
    integrated with its Haar measure d log k. For effects with one variance: the normal prior of m
    effects contributes k**-m, the inverse chi-square prior of the variance k**-(df + 2)
    exp(-df S / (2 k**2 variance)), the Jacobian k**(m + 2). Where effects have variances of their
    own, powers of k from these cancel likewise, and what governs the variances moves along: its
    scale S to k**2 S, or lambda squared to lambda**2 / k**2.

    Parameters
    ----------
    log_k : (response,)
    prior : OrbitPrior
        At k = 1.
    cross, square : (response,)
        Genetic values times the response without them, and squared.
    """
    k = jnp.exp(log_k)
    likelihood = (k * cross - 0.5 * k**2 * square) / var_e
    return likelihood + prior.slope * log_k - prior.weight * k**prior.power


def draw_scale(
    key: Array,
    effects: EffectState,
    cross: Array,
    square: Array,
    var_e: Array,
    hyper: EffectHyper,
) -> Array:
    """Draw k (response,), the factor of each response's effects.

    Parameters
    ----------
    cross, square : (response,)
        As in :func:`log_density`.
    """
    prior = family_of(hyper).orbit(effects, hyper)
    # Invariant along the orbit, so that proposals are symmetric: curvature at the likelihood's
    # peak, plus that of the prior.
    signal = jnp.where(square > 0, cross**2 / (jnp.where(square > 0, square, 1.0) * var_e), 0.0)
    step = 2.4 / jnp.sqrt(signal + prior.curvature)
    key_step, key_accept = random.split(key)
    steps = step * noise.normal(key_step, (N_STEPS, *step.shape), step.dtype)
    log_u = jnp.log(noise.uniform(key_accept, steps.shape, step.dtype))

    def density(log_k: Array) -> Array:
        return log_density(log_k, prior, cross, square, var_e)

    def move(log_k: Array, draws: tuple[Array, Array]) -> tuple[Array, None]:
        change, threshold = draws
        proposed = log_k + change
        accepted = threshold < density(proposed) - density(log_k)
        return jnp.where(accepted, proposed, log_k), None

    log_k, _ = lax.scan(move, jnp.zeros_like(step), (steps, log_u))
    return jnp.exp(log_k)


def scale_move(
    key: Array,
    effects: EffectState,
    genetic: Array,
    residual: Array,
    var_e: Array,
    hyper: EffectHyper,
) -> tuple[EffectState, Array, Array]:
    """Draw k for each response and scale effects, variances and genetic values.

    Nothing moves where what governs the effects is known.

    Parameters
    ----------
    genetic, residual : (response, record)
        Genetic values of the effects, and what is left of the response with them.

    Returns
    -------
    effects, genetic, residual
    """
    if hyper.known:
        return effects, genetic, residual
    square = jnp.sum(genetic**2, axis=-1)
    cross = inner_products(genetic, residual) + square
    k = draw_scale(key, effects, cross, square, var_e, hyper)
    change = (k - 1.0)[:, None] * genetic
    return family_of(hyper).scaled(effects, k), genetic + change, residual - change
