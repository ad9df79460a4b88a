"""From what the sampler kept to results, without a fit."""

import numpy as np
from scipy import stats

from nnmm_jax.posterior.assemble import _predictive


def test_predictive_draws_have_the_residual_variance():
    """Each draw its own; 4.5 Monte Carlo errors, as everywhere."""
    variance = np.array([[0.25, 4.0], [9.0, 0.01]])
    mean = np.arange(4.0).reshape(2, 2, 1) + np.zeros(20_000)
    drawn = _predictive(mean, variance, np.random.default_rng(1))
    noise = (drawn - mean) / np.sqrt(variance)[..., None]
    for one in noise.reshape(4, -1):
        assert stats.kstest(one, stats.norm.cdf).pvalue > 1e-5
    assert abs(np.corrcoef(noise.reshape(4, -1)) - np.eye(4)).max() < 4.5 / np.sqrt(20_000)
