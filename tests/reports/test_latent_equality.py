import numpy as np
import pytest
import xarray as xr
from scipy import stats

from nnmm_jax.reports.latent_equality import (
    LATENT_RESIDUAL,
    DirectPriors,
    LatentPriors,
    prior_ratio,
    weighted_mean,
)

DIRECT = DirectPriors(5.0, 0.03, 5.0, 3.5, unit=0.01)


def test_latent_priors_have_the_same_means():
    priors = LatentPriors.of(DIRECT)
    assert priors.node * priors.effects == pytest.approx(DIRECT.mean_effects)
    assert priors.scale / 3 + priors.node * LATENT_RESIDUAL == pytest.approx(3.5 / 3)


def test_weights_turn_latent_priors_into_those_of_the_direct_fit():
    """On a grid: prior of the latent network times weights is the direct one, up to a constant."""
    priors = LatentPriors.of(DIRECT)
    w, var_y = np.meshgrid(np.linspace(0.3, 1.5, 7), np.linspace(0.2, 1.5, 7))
    weights = prior_ratio(DIRECT, w, var_y)
    own = stats.invgamma(2.5, scale=priors.scale / 2).pdf(var_y)
    # Jacobian of (w, var_y) -> (variance of effects, residual variance): 2 w v.
    latent = stats.norm(0, np.sqrt(priors.node)).pdf(w) * own / (2 * w * priors.effects)
    direct = stats.invgamma(2.5, scale=0.03 / 2).pdf(priors.effects * w**2)
    direct = direct * stats.invgamma(2.5, scale=3.5 / 2).pdf(var_y + LATENT_RESIDUAL * w**2)
    ratio = latent * weights / direct
    np.testing.assert_allclose(ratio, ratio[0, 0])
    assert weights.mean() == pytest.approx(1.0)


def test_weighted_mean_is_that_of_the_other_density():
    """Draws of N(0, 1), weighted into N(0.5, 1)."""
    draws = np.random.default_rng(1).normal(size=(4, 2500, 1))
    weights = np.exp(0.5 * draws[..., 0])
    mean, error = weighted_mean(
        xr.DataArray(draws, dims=("chain", "draw", "x")), weights / weights.mean()
    )
    assert error == pytest.approx(0.01 * np.exp(0.125) * np.sqrt(1.25), rel=0.15)
    assert abs(mean - 0.5) < 4 * error
