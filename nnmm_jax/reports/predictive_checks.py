"""Posterior predictive checks: whether data that a fit generates look like those it has seen."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TypeAlias

import numpy as np
import pandas as pd
from scipy import stats

from nnmm_jax.errors import InputError
from nnmm_jax.posterior.result import FitResult

Statistic: TypeAlias = Callable[[np.ndarray], np.ndarray]

MAX_DRAWS = 2000  # evenly spaced over all chains
MAX_GROUPS = 30  # more are too many to look at one by one


def _skewness(values: np.ndarray) -> np.ndarray:
    return np.asarray(stats.skew(values, axis=-1))


STATISTICS: Mapping[str, Statistic] = MappingProxyType(
    {
        "mean": lambda values: values.mean(axis=-1),
        "sd": lambda values: values.std(axis=-1, ddof=1),
        "skewness": _skewness,
        "min": lambda values: values.min(axis=-1),
        "max": lambda values: values.max(axis=-1),
    }
)


@dataclass(frozen=True, eq=False)
class PredictiveChecks:
    """Statistics of the observed phenotypes among those of replicated ones.

    Attributes
    ----------
    table : pandas.DataFrame
        statistic; observed; mean, sd, q05, q95 of the replicated; p, the posterior predictive
        p-value: the share of draws in which the replicated statistic is above the observed one,
        ties counting half. Near 0 or 1 the fit does not generate such data; p-values of a right
        model crowd about 1/2. For groups, ``observed`` is the posterior mean.
    replicated : pandas.DataFrame
        A row for each draw, a column for each statistic.
    observed : pandas.DataFrame
        The same of the observed phenotypes: the same in every draw, but for groups.
    """

    table: pd.DataFrame
    replicated: pd.DataFrame
    observed: pd.DataFrame

    def __str__(self) -> str:
        """Table."""
        return self.table.to_string(index=False, float_format="{:.3f}".format)


def predictive_checks(
    result: FitResult,
    groups: pd.Series | Mapping[str, str] | None = None,
    *,
    statistics: Mapping[str, Statistic] = STATISTICS,
) -> PredictiveChecks:
    """Compare statistics of the observed phenotypes with those of replicated ones.

    Parameters
    ----------
    result : FitResult
        A fit of one trait. Replicated phenotypes are its predictive draws ``y_pred`` of the
        individuals with a phenotype, with the residual variance of the mean of their records.
    groups : pandas.Series or mapping, optional
        Group by id, such as a batch, a sex or a family. Adds the mean residual of each, that is,
        phenotype minus expectation in the same draw, which for the replicated ones is noise alone.
    statistics : mapping of str to callable
        What is computed of phenotypes (..., individual) along the last axis.

    Returns
    -------
    PredictiveChecks
        Prints as a table; :func:`nnmm_jax.reports.prediction_plots.predictive_checks` draws it.

    Raises
    ------
    InputError
        If groups lack a phenotyped individual, or there are more than 30.

    References
    ----------
    Gelman, Meng & Stern 1996, Statistica Sinica 6, 733.

    Examples
    --------
    >>> import nnmm_jax as nm
    >>> checks = nm.predictive_checks(nm.load("results"))  # doctest: +SKIP
    >>> checks.table.query("p < 0.01 or p > 0.99")  # doctest: +SKIP
    """
    y = result.constant_data["phenotype"].squeeze("trait")
    rows = np.flatnonzero(np.isfinite(y.values))
    ids, observed = y["individual"].values[rows], y.values[rows]
    draws = result.posterior.squeeze("trait").isel(individual=rows)
    mean, noisy = (_thinned(draws[name].transpose("chain", "draw", ...).values)
                   for name in ("y_mean", "y_pred"))  # fmt: skip
    share = result.constant_data.get("residual_share")
    noise = noisy - mean
    if share is not None:
        noise = noise * np.sqrt(share.values[rows])
    replicated = {name: np.asarray(of(mean + noise)) for name, of in statistics.items()}
    found = {
        name: np.full(len(mean), float(np.asarray(of(observed)))) for name, of in statistics.items()
    }
    if groups is not None:
        for name, members in _members(groups, ids).items():
            replicated[f"residual of {name}"] = noise[:, members].mean(axis=1)
            found[f"residual of {name}"] = (observed - mean)[:, members].mean(axis=1)
    return _checks(pd.DataFrame(replicated), pd.DataFrame(found))


def _thinned(values: np.ndarray) -> np.ndarray:
    """Draws (draw, individual) of all chains, at most 2,000."""
    flat = values.reshape(-1, values.shape[-1])
    return np.asarray(flat[:: -(-len(flat) // MAX_DRAWS)], dtype=np.float64)


def _members(groups: pd.Series | Mapping[str, str], ids: np.ndarray) -> dict[str, np.ndarray]:
    by_id = pd.Series(groups, dtype=object)
    by_id.index = by_id.index.astype(str)
    if by_id.index.has_duplicates:
        raise InputError(
            f"groups: expected every id once, found '{by_id.index[by_id.index.duplicated()][0]}' "
            "more than once"
        )
    labels = by_id.reindex(ids)
    if labels.isna().any():
        raise InputError(
            f"groups: expected a group of every individual with a phenotype, found none of "
            f"'{ids[labels.isna().to_numpy()][0]}' ({int(labels.isna().sum())} in all); add them"
        )
    names = labels.astype(str).to_numpy()
    every = np.unique(names)
    if len(every) > MAX_GROUPS:
        raise InputError(f"groups: expected at most {MAX_GROUPS}, found {len(every)}; join some")
    return {str(name): np.flatnonzero(names == name) for name in every}


def _checks(replicated: pd.DataFrame, observed: pd.DataFrame) -> PredictiveChecks:
    above = (replicated > observed).mean() + 0.5 * (replicated == observed).mean()
    table = pd.DataFrame(
        {
            "observed": observed.mean(),
            "mean": replicated.mean(),
            "sd": replicated.std(),
            "q05": replicated.quantile(0.05),
            "q95": replicated.quantile(0.95),
            "p": above,
        }
    )
    return PredictiveChecks(table.rename_axis("statistic").reset_index(), replicated, observed)
