"""The families of effect priors: which variance an effect has, and what governs it.

One entry of :data:`FAMILIES` for each ``family`` of
:class:`~nnmm_jax.inference.arrays.EffectHyper`. Everything in the sampler that depends on the
family asks here.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import NamedTuple

import jax.numpy as jnp
import numpyro.distributions as dist
from jax import Array

from nnmm_jax.inference import noise
from nnmm_jax.inference.arrays import EffectHyper
from nnmm_jax.inference.state import EffectState


class OrbitPrior(NamedTuple):
    """Log density of a prior along the scale orbit, ``slope * log k - weight * k**power``.

    ``curvature`` is minus its second derivative in log k at its mode.
    """

    slope: Array
    weight: Array
    power: float | Array
    curvature: Array


@dataclass(frozen=True)
class Family:
    """What a family of priors does.

    Attributes
    ----------
    slabs
        ``(effects, var_e, hyper) -> tuple`` of (response, 1 or effect) variances of an effect, one
        for each component that is not zero.
    level_conditional
        ``(effects, hyper) -> distribution`` of the level given effects and own variances; own
        variances of zero effects are integrated out.
    draw_own
        ``(key, effects, var_e, hyper) -> (response, effect)`` draw of ``own`` given all else: of
        variances after their level, of a mixture's components together with the effects.
    scaled
        ``(effects, k) -> effects`` at k along the scale orbit: effects times k, their variances
        times k squared.
    orbit
        ``(effects, hyper) -> OrbitPrior``: prior and Jacobian along that orbit.
    residual_terms
        ``(effects, hyper) -> (sum of squares, count)`` that effects add to the conditional of the
        residual variance; ``None``: nothing.
    start
        ``(hyper) -> (response,)`` level to start from.
    """

    slabs: Callable[[EffectState, Array, EffectHyper], tuple[Array, ...]]
    level_conditional: Callable[[EffectState, EffectHyper], dist.InverseGamma | dist.Gamma]
    draw_own: Callable[[Array, EffectState, Array, EffectHyper], Array]
    scaled: Callable[[EffectState, Array], EffectState]
    orbit: Callable[[EffectState, EffectHyper], OrbitPrior]
    residual_terms: Callable[[EffectState, EffectHyper], tuple[Array, Array]] | None
    start: Callable[[EffectHyper], Array]


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


def weights_conditional(
    effects: EffectState, hyper: EffectHyper, n_effects: Array
) -> dist.Dirichlet:
    """Conditional of the components' weights, given the effects' components.

    Parameters
    ----------
    n_effects : (response,)
        Number of effects that may differ from zero.
    """
    if len(hyper.slabs) > 1:
        assert effects.own is not None
        found = [jnp.sum(effects.own == _as(slab, effects.own), axis=-1) for slab in hyper.slabs]
    else:
        found = [jnp.sum(effects.coef != 0, axis=-1)]
    counts = jnp.stack([n_effects - sum(found), *found], axis=-1)
    return dist.Dirichlet(hyper.counts + counts)


def _as(value: float, like: Array) -> Array:
    return jnp.asarray(value, like.dtype)


# --- one variance for all effects of a response (times the multiplier of a mixture's component)


def _common_slabs(effects: EffectState, var_e: Array, hyper: EffectHyper) -> tuple[Array, ...]:
    return tuple(slab * effects.level[:, None] for slab in hyper.slabs)


def _common_level(effects: EffectState, hyper: EffectHyper) -> dist.InverseGamma:
    nonzero = effects.coef != 0
    squares = effects.coef**2
    if effects.own is not None:
        squares = jnp.where(nonzero, squares / jnp.where(nonzero, effects.own, 1.0), 0.0)
    return variance_conditional(
        hyper.df, hyper.scale, jnp.sum(squares, axis=-1), jnp.sum(nonzero, axis=-1)
    )


def component_log_odds(effects: EffectState, hyper: EffectHyper) -> Array:
    """Log probabilities (component, response, effect), up to a constant, of a non-zero effect."""
    logs = []
    for number, slab in enumerate(hyper.slabs, start=1):
        sd = jnp.sqrt(slab * effects.level)[:, None]
        weight = jnp.log(effects.weights[:, number])[:, None]
        logs.append(weight + dist.Normal(0.0, sd).log_prob(effects.coef))
    return jnp.stack(logs)


def _common_own(key: Array, effects: EffectState, var_e: Array, hyper: EffectHyper) -> Array:
    logs = component_log_odds(effects, hyper)
    chosen = jnp.argmax(logs + noise.gumbel(key, logs.shape, logs.dtype), axis=0)
    return jnp.where(effects.coef != 0, jnp.asarray(hyper.slabs, logs.dtype)[chosen], 0.0)


def _common_scaled(effects: EffectState, k: Array) -> EffectState:
    return effects._replace(coef=k[:, None] * effects.coef, level=k**2 * effects.level)


def _common_orbit(effects: EffectState, hyper: EffectHyper) -> OrbitPrior:
    return OrbitPrior(-hyper.df, 0.5 * hyper.df * hyper.scale / effects.level, -2.0, 2.0 * hyper.df)


def _common_start(hyper: EffectHyper) -> Array:
    return jnp.where(hyper.df > 2, hyper.df / jnp.maximum(hyper.df - 2.0, 1e-3), 1.0) * hyper.scale


# --- a variance for each effect, variance_j ~ df * level / chi2(df), level ~ Gamma


def _own_slabs(effects: EffectState, var_e: Array, hyper: EffectHyper) -> tuple[Array, ...]:
    assert effects.own is not None
    return (effects.own,)


def _own_level(effects: EffectState, hyper: EffectHyper) -> dist.Gamma:
    assert effects.own is not None
    nonzero = effects.coef != 0
    precisions = jnp.sum(jnp.where(nonzero, 1.0 / effects.own, 0.0), axis=-1)
    count = jnp.sum(nonzero, axis=-1)
    return dist.Gamma(
        hyper.shape + 0.5 * hyper.df * count, hyper.rate + 0.5 * hyper.df * precisions
    )


def own_variance_conditional(effects: EffectState, hyper: EffectHyper) -> dist.InverseGamma:
    """Conditional (response, effect) of the effects' own variances: the prior for zero effects."""
    nonzero = (effects.coef != 0).astype(effects.coef.dtype)
    scale = effects.level[:, None]
    return variance_conditional(hyper.df[:, None], scale, effects.coef**2, nonzero)


def _own_own(key: Array, effects: EffectState, var_e: Array, hyper: EffectHyper) -> Array:
    conditional = own_variance_conditional(effects, hyper)
    shape, rate = conditional.concentration, conditional.rate
    return jnp.broadcast_to(rate, shape.shape) / noise.gamma(key, shape)


def _own_scaled(effects: EffectState, k: Array) -> EffectState:
    assert effects.own is not None
    moved = _common_scaled(effects, k)
    return moved._replace(own=k[:, None] ** 2 * effects.own)


def _own_orbit(effects: EffectState, hyper: EffectHyper) -> OrbitPrior:
    return OrbitPrior(2.0 * hyper.shape, hyper.rate * effects.level, 2.0, 4.0 * hyper.shape)


def _gamma_mean(hyper: EffectHyper) -> Array:
    return hyper.scale if hyper.known else hyper.shape / hyper.rate


# --- Laplace: variance tau2_j * residual variance, tau2_j ~ Exponential(level / 2), level ~ Gamma


def _lasso_slabs(effects: EffectState, var_e: Array, hyper: EffectHyper) -> tuple[Array, ...]:
    assert effects.own is not None
    return (effects.own * var_e[:, None],)


def _lasso_level(effects: EffectState, hyper: EffectHyper) -> dist.Gamma:
    assert effects.own is not None
    # Padding and effects that are masked have own 0 and do not count.
    count = jnp.sum(effects.own > 0, axis=-1)
    return dist.Gamma(hyper.shape + count, hyper.rate + 0.5 * jnp.sum(effects.own, axis=-1))


def inverse_tau2_conditional(effects: EffectState, var_e: Array) -> tuple[Array, Array]:
    """Mean and shape of the inverse Gaussian conditional of 1 / tau2_j (Park & Casella 2008)."""
    squares = jnp.maximum(effects.coef**2, jnp.finfo(effects.coef.dtype).tiny)
    mean = jnp.sqrt(effects.level * var_e)[:, None] / jnp.sqrt(squares)
    return mean, effects.level[:, None]


def _lasso_own(key: Array, effects: EffectState, var_e: Array, hyper: EffectHyper) -> Array:
    mean, shape = inverse_tau2_conditional(effects, var_e)
    drawn = 1.0 / noise.inverse_gaussian(key, mean, jnp.broadcast_to(shape, mean.shape))
    assert effects.own is not None
    return jnp.where(effects.own > 0, drawn, 0.0)


def _lasso_scaled(effects: EffectState, k: Array) -> EffectState:
    moved = _own_scaled(effects, k)
    return moved._replace(level=effects.level / k**2)


def _lasso_orbit(effects: EffectState, hyper: EffectHyper) -> OrbitPrior:
    return OrbitPrior(-2.0 * hyper.shape, hyper.rate * effects.level, -2.0, 4.0 * hyper.shape)


def _lasso_residual(effects: EffectState, hyper: EffectHyper) -> tuple[Array, Array]:
    assert effects.own is not None
    counts = effects.own > 0
    scaled = jnp.where(counts, effects.coef**2 / jnp.where(counts, effects.own, 1.0), 0.0)
    return jnp.sum(scaled, axis=-1), jnp.sum(counts, axis=-1)


FAMILIES: Mapping[str, Family] = MappingProxyType(
    {
        "common": Family(
            _common_slabs,
            _common_level,
            _common_own,
            _common_scaled,
            _common_orbit,
            None,
            _common_start,
        ),
        "own": Family(_own_slabs, _own_level, _own_own, _own_scaled, _own_orbit, None, _gamma_mean),
        "lasso": Family(
            _lasso_slabs,
            _lasso_level,
            _lasso_own,
            _lasso_scaled,
            _lasso_orbit,
            _lasso_residual,
            _gamma_mean,
        ),
    }
)


def family_of(hyper: EffectHyper) -> Family:
    """The family of a set of effects."""
    return FAMILIES[hyper.family]


def with_residual_terms(
    squares: Array, count: Array, sets: Iterable[tuple[EffectState, EffectHyper]]
) -> tuple[Array, Array]:
    """Add what effects relative to the residual variance say about it (lasso).

    Parameters
    ----------
    squares, count : (response,)
        Sum and number of the squared deviations that the residual variance governs.
    """
    for effects, hyper in sets:
        extra = family_of(hyper).residual_terms
        if extra is not None:
            more, how_many = extra(effects, hyper)
            squares, count = squares + more, count + how_many
    return squares, count
