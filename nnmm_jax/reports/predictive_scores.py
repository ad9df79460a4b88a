"""How well predictions agree with phenotypes that a fit has not seen."""

import numpy as np
import pandas as pd
from scipy.special import logsumexp
from scipy.stats import norm

from nnmm_jax.data.align import Dataset
from nnmm_jax.posterior.assemble import individual_means, residual_shares
from nnmm_jax.posterior.result import FitResult
from nnmm_jax.reports.agreement import correlation, slope

INTERVAL = 0.9  # probability of the predictive intervals
MEASURES = ("correlation", "slope", "rmse", "log_density", "coverage")
_TAILS = (0.5 - INTERVAL / 2, 0.5 + INTERVAL / 2)


def score_individuals(
    result: FitResult, dataset: Dataset, scored: np.ndarray, *, seed: int = 0
) -> pd.DataFrame:
    """Predictions of individuals whose phenotypes were hidden, beside these phenotypes.

    Parameters
    ----------
    result : FitResult
        A fit of one trait in which they were hidden.
    dataset : Dataset
        With these phenotypes.
    scored : (individual,) bool
        Individuals to judge.
    seed : int
        Of the predictive draws.

    Returns
    -------
    pandas.DataFrame
        id; observed, the mean of the individual's records; predicted, the posterior mean of its
        expectation; low and high, the ends of the 90% predictive interval of ``observed``;
        log_density, the logarithm of the predictive density there, the mean over draws of the
        normal density given the draw; below, the predictive probability of a smaller value, which
        is uniform over individuals where predictions are calibrated. Residual weights and the
        number of records are taken into account; where fixed effects differ between records, the
        expectation is the mean over all of them.
    """
    rows = np.flatnonzero(scored)
    observed, share = individual_means(dataset)[rows], residual_shares(dataset)[rows]
    draws = result.posterior.squeeze("trait")
    means = draws["y_mean"].isel(individual=rows).transpose("chain", "draw", "individual")
    mean = means.values.reshape(-1, len(rows)).astype(np.float64)
    variance = draws["var_residual_trait"].values.reshape(-1, 1).astype(np.float64) * share
    density = -0.5 * ((observed - mean) ** 2 / variance + np.log(2 * np.pi * variance))
    noise = np.random.default_rng(seed).standard_normal(mean.shape)
    low, high = np.quantile(mean + np.sqrt(variance) * noise, _TAILS, axis=0)
    below = norm.cdf((observed - mean) / np.sqrt(variance)).mean(axis=0)
    return pd.DataFrame(
        {
            "id": dataset.ids[rows],
            "observed": observed,
            "predicted": mean.mean(axis=0),
            "low": low,
            "high": high,
            "log_density": logsumexp(density, axis=0) - np.log(len(density)),
            "below": below,
        }
    )


def fold_scores(individuals: pd.DataFrame) -> dict[str, float]:
    """Compare the predictions of a fold with what was observed.

    Parameters
    ----------
    individuals : pandas.DataFrame
        What :func:`score_individuals` returned.

    Returns
    -------
    dict
        ``correlation`` of observed and predicted; ``slope`` of observed on predicted (1: no
        inflation; below 1: predictions too dispersed); both NaN for fewer than three individuals
        or where either does not vary; ``rmse``, the root of the mean squared error;
        ``log_density``, its mean over individuals; ``coverage``, the share of phenotypes inside
        the 90% predictive interval.

    Examples
    --------
    >>> import pandas as pd
    >>> from nnmm_jax.reports.predictive_scores import fold_scores
    >>> table = pd.DataFrame({"observed": [1.0, 2.0, 4.0], "predicted": [1.0, 2.0, 3.0]})
    >>> found = fold_scores(table.assign(low=0.0, high=3.5, log_density=-1.0))
    >>> {name: round(value, 2) for name, value in found.items()}
    {'correlation': 0.98, 'slope': 1.5, 'rmse': 0.58, 'log_density': -1.0, 'coverage': 0.67}
    """
    observed, predicted = (individuals[name].to_numpy() for name in ("observed", "predicted"))
    related = len(observed) > 2 and not np.isnan(correlation(observed, predicted))
    inside = (individuals["low"] <= observed) & (observed <= individuals["high"])
    return {
        "correlation": correlation(observed, predicted) if related else np.nan,
        "slope": slope(observed, predicted) if related else np.nan,
        "rmse": float(np.sqrt(np.mean((observed - predicted) ** 2))),
        "log_density": float(individuals["log_density"].mean()),
        "coverage": float(inside.mean()),
    }
