"""Resolve priors: from what the user states to hyperparameters on the internal scale.

Model page, Priors: what is not given is set so that the prior mean of the variance that a set of
effects explains is its share of the variance of the response.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np
from jax import Array

from nnmm_jax.errors import InputError
from nnmm_jax.inference.arrays import EffectHyper, ResidualHyper
from nnmm_jax.network.priors import BayesA, BayesL, CommonVariance, Prior, Residual

DEFAULT_SHARE = 0.5  # of all sets of effects together
LEAST_RESIDUAL = 1e-6  # a smaller share of the residual is a rounding error of shares that sum to 1


@dataclass(frozen=True, eq=False)
class Responses:
    """Responses of a layer on the internal scale, each (response,).

    Attributes
    ----------
    variance
        Variance of each response.
    unit
        User's units in one internal unit: what the response was divided by.
    residual_share
        Share of the variance left to the residual a priori.
    """

    variance: np.ndarray
    unit: np.ndarray
    residual_share: float


def resolve_shares(
    priors: Sequence[Prior], residual: Residual, layer: str
) -> tuple[list[float], float]:
    """Shares of the sets of effects and of the residual.

    Sets without a stated share divide one half among them equally, counting all sets.

    Raises
    ------
    InputError
        If the shares leave nothing for the residual.
    """
    default = DEFAULT_SHARE / max(len(priors), 1)
    shares = [default if prior.share is None else prior.share for prior in priors]
    left = 1.0 - sum(shares)
    if left < LEAST_RESIDUAL:
        raise InputError(
            f"priors of the {layer}: expected shares of variance that leave some for the residual, "
            f"found a sum of {sum(shares):g} (sets without a share have {default:g}); lower them"
        )
    if residual.share is None:
        return shares, left
    stated = sum(prior.share for prior in priors if prior.share is not None) + residual.share
    if stated > 1.0 + LEAST_RESIDUAL:
        raise InputError(
            f"priors of the {layer}: expected shares of variance of at most 1 together, found a "
            f"sum of {stated:g} with the residual's {residual.share:g}; lower them"
        )
    return shares, residual.share


def _scale_of_mean(df: float, mean: np.ndarray) -> np.ndarray:
    """Scale S for which the mean of ``df * S / chi2(df)`` is ``mean``."""
    return mean * (df - 2.0) / df


def effect_hyper(
    prior: Prior,
    responses: Responses,
    share: float,
    total: float | np.ndarray,
    factor: float | np.ndarray = 1.0,
) -> EffectHyper:
    """Resolve the prior of one set of effects.

    Parameters
    ----------
    share : float
        Of the responses' variance.
    total : float or (response,)
        Sum of the covariates' variances.
    factor : float or (response,)
        The stated variance is ``factor`` times that of an effect (GBLUP).
    """
    dtype = jnp.result_type(float)
    shape, unit2 = responses.variance.shape, responses.unit**2
    target = share * responses.variance / (prior.expected_multiplier * total)
    df, gamma_shape, scale, rate, known = 4.0, 1.0, target, np.ones(shape), False
    if isinstance(prior, BayesL):
        gamma_shape = prior.shape
        # E[tau2] = 2 E[1 / lambda2] = 2 rate / (shape - 1), relative to the residual variance.
        ratio = share / (responses.residual_share * total)
        given = prior.rate if prior.rate is not None else (prior.shape - 1.0) * ratio / 2.0
        rate = np.broadcast_to(given, shape)
        known = prior.lambda2 is not None
        scale = np.full(shape, prior.lambda2 if prior.lambda2 is not None else 1.0)
    elif isinstance(prior, BayesA):
        df, gamma_shape, known = prior.df, prior.shape, prior.scale is not None
        scale = _scale_of_mean(df, target) if prior.scale is None else prior.scale / unit2
        rate = gamma_shape / scale if prior.rate is None else prior.rate * unit2
    else:
        assert isinstance(prior, CommonVariance)
        df, known = prior.df, prior.variance is not None
        given_value = prior.scale if prior.variance is None else prior.variance
        if given_value is None:
            scale = _scale_of_mean(df, target)
        else:
            scale = given_value / (factor * unit2)

    def full(value: float | np.ndarray) -> jnp.ndarray:
        return jnp.asarray(np.broadcast_to(value, shape), dtype)

    counts = prior.component_counts
    components = (*shape, len(prior.multipliers))
    return EffectHyper(
        df=full(df),
        scale=full(scale),
        shape=full(gamma_shape),
        rate=full(rate),
        counts=jnp.asarray(np.broadcast_to(counts or 1.0, components), dtype),
        weights=jnp.asarray(np.broadcast_to(prior.expected_weights, components), dtype),
        factor=full(factor),
        family=prior.family,
        multipliers=prior.multipliers,
        known=known,
        estimate_weights=counts is not None,
        symbol=prior.symbol,
    )


def residual_hyper(residual: Residual, responses: Responses, latent: np.ndarray) -> ResidualHyper:
    """Resolve the prior of the residual variances; a latent one is fixed at its prior mean.

    Parameters
    ----------
    latent : (response,) bool
    """
    dtype = jnp.result_type(float)
    unit2 = responses.unit**2
    mean = responses.residual_share * responses.variance
    if residual.variance is not None:
        value, fixed = residual.variance / unit2, np.ones(mean.shape, dtype=bool)
    else:
        given = residual.scale
        scale = _scale_of_mean(residual.df, mean) if given is None else given / unit2
        value, fixed = np.where(latent, mean, scale), np.asarray(latent)
    return ResidualHyper(
        jnp.full(mean.shape, residual.df, dtype), jnp.asarray(value, dtype), jnp.asarray(fixed)
    )


LATENT_FIXED_SD = 1.0  # of latent nodes, whose variance a priori is 1


def fixed_precision(
    sd: float | None, responses: Responses, latent: np.ndarray, n_records: int
) -> Array | None:
    """Prior precision (response,) of coordinates of the fixed effects in the design's basis.

    A latent node cannot have flat ones: far out, where the activation is level, the phenotype no
    longer objects, and the posterior would be improper.

    Parameters
    ----------
    sd : float or None
        A priori each coordinate contributes a mean square of ``sd**2`` times the variance of the
        response. ``None``: flat.
    latent : (response,) bool

    Returns
    -------
    Array or None
        0 where flat; ``None`` if all are.
    """
    if sd is None and not latent.any():
        return None
    usual = np.where(latent, LATENT_FIXED_SD, np.inf) if sd is None else sd
    variance = n_records * usual**2 * responses.variance
    return jnp.asarray(1.0 / variance, jnp.result_type(float))
