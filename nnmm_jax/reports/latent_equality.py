"""A latent linear node against the direct fit: priors that can be compared, and weights of draws.

The trait fitted through one latent linear node ``z = genetic value + residual`` is the direct
model in other parameters. With w the node's effect, v the known variance of marker effects on it
and r its fixed residual variance, marker effects on the trait have variance ``w^2 v`` and its
residual is ``var_y + w^2 r``. Only the priors of these two differ, so weighting the draws of the
latent network by the ratio of the priors gives draws of the direct model.
"""

from dataclasses import dataclass

import numpy as np
import xarray as xr

from nnmm_jax.posterior.arviz_compat import ess_mean

LATENT_RESIDUAL = 0.25  # residual variance of the latent node, relative to its genetic variance


@dataclass(frozen=True)
class DirectPriors:
    """Priors of a direct fit: variances are ``scale / chi2(df)``.

    Attributes
    ----------
    effects_df, effects_scale : float
        Of the variance of marker effects (GBLUP: of genetic values). The scale is the prior's S
        times its degrees of freedom.
    residual_df, residual_scale : float
        Of the residual variance, likewise.
    unit : float
        Variance of effects that gives genetic values a variance of about 1.

    Examples
    --------
    >>> DirectPriors(4.0, 0.01, 4.0, 1.0, unit=0.01).mean_effects
    0.005
    """

    effects_df: float
    effects_scale: float
    residual_df: float
    residual_scale: float
    unit: float

    @property
    def mean_effects(self) -> float:
        """Prior mean of the effects' variance: E of ``scale / chi2(df)``."""
        return self.effects_scale / (self.effects_df - 2.0)


@dataclass(frozen=True)
class LatentPriors:
    """Priors of the network with a latent node: what cannot be the direct fit's has its means.

    The genetic variance of the node is about 1 and its residual variance is fixed. The variance of
    the effects on the node is known and so is that of w: the genetic variance, w squared times the
    node's, then has the direct fit's prior mean. So has the residual variance, of which the node
    contributes a part.

    Attributes
    ----------
    effects : float
        Variance of effects on the node; GBLUP: of genetic values.
    node : float
        Variance of w.
    scale : float
        S of the trait's residual variance, times its degrees of freedom.
    """

    effects: float
    node: float
    scale: float

    @classmethod
    def of(cls, direct: DirectPriors) -> "LatentPriors":
        """Priors that match those of a direct fit."""
        node = direct.mean_effects / direct.unit
        of_node = node * LATENT_RESIDUAL * (direct.residual_df - 2.0)
        return cls(direct.unit, node, direct.residual_scale - of_node)


def prior_ratio(direct: DirectPriors, w: np.ndarray, var_y: np.ndarray) -> np.ndarray:
    """Weights, mean 1, that turn draws of the latent network into draws of the direct model.

    Parameters
    ----------
    direct : DirectPriors
        The latent network must have the :class:`LatentPriors` of these.
    w, var_y : (chain, draw)
        Draws of the node's effect and of the trait's own residual variance. Their priors are
        N(0, ``node``) and inverse chi-square.

    Returns
    -------
    (chain, draw)

    Examples
    --------
    >>> direct = DirectPriors(4.0, 0.01, 4.0, 1.0, unit=0.01)
    >>> prior_ratio(direct, np.array([0.5, 0.5]), np.array([0.4, 0.4]))
    array([1., 1.])
    """
    priors, square = LatentPriors.of(direct), w**2

    def inverse_chi2(variance: np.ndarray, df: float, scale: float) -> np.ndarray:
        return -(df / 2 + 1) * np.log(variance) - scale / (2 * variance)

    var_e = var_y + LATENT_RESIDUAL * square
    theirs = inverse_chi2(priors.effects * square, direct.effects_df, direct.effects_scale)
    theirs = theirs + inverse_chi2(var_e, direct.residual_df, direct.residual_scale)
    # The density of w squared is that of w over its absolute value.
    ours = -0.5 * np.log(square) - 0.5 * square / priors.node
    ours = ours + inverse_chi2(var_y, direct.residual_df, priors.scale)
    weights = np.exp(theirs - ours - (theirs - ours).max())
    return np.asarray(weights / weights.mean())


def mcse(draws: xr.DataArray) -> tuple[np.ndarray, np.ndarray]:
    """Monte Carlo standard error of the mean, and effective sample size.

    Parameters
    ----------
    draws : xarray.DataArray
        Dimensions ``chain``, ``draw`` and any others.
    """
    ess = np.asarray(ess_mean(draws))
    return np.asarray(draws.std(("chain", "draw"))) / np.sqrt(ess), ess


def weighted_mean(draws: xr.DataArray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean of weighted draws and its Monte Carlo standard error.

    Parameters
    ----------
    draws : xarray.DataArray
        Dimensions ``chain``, ``draw``, then others.
    weights : (chain, draw)
        With mean 1, as those of :func:`prior_ratio`.
    """
    weight = xr.DataArray(weights, dims=("chain", "draw"))
    mean = (weight * draws).mean(("chain", "draw"))
    return mean.to_numpy(), mcse(weight * (draws - mean))[0]
