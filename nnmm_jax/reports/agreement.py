"""How a fit agrees with the truth behind simulated data, or with the phenotypes it has seen.

Correlation alone hides wrong scales, so the slope of truth on estimate (1 when breeding values
are neither inflated nor deflated) and the coverage of intervals stand beside it.
"""

import numpy as np
import pandas as pd

from nnmm_jax.errors import InputError, shortlist
from nnmm_jax.posterior.diagnostics import total_ebv
from nnmm_jax.posterior.result import FitResult

_INTERVAL = (0.05, 0.95)


def compare_with_truth(result: FitResult, truth: pd.DataFrame) -> pd.DataFrame:
    """Compare breeding values with the true ones.

    Parameters
    ----------
    result : FitResult
        A fit of one trait to simulated data.
    truth : pandas.DataFrame
        Columns id, ebv and epv in the units of the phenotype, for instance
        ``simulated.truth["individuals"]``; true EBVs centred over the individuals of the result.

    Returns
    -------
    pandas.DataFrame
        A row for ``phenotyped`` and for ``unphenotyped`` individuals (index), where there are any:
        individuals; accuracy_ebv, accuracy_epv (correlations with the truth); slope_ebv,
        slope_epv (regressions of truth on estimate); coverage_ebv (share of true EBVs within the
        90% posterior interval). NaN where nothing varies.

    Raises
    ------
    InputError
        If the truth lacks a column or an individual of the result.

    Examples
    --------
    >>> import nnmm_jax
    >>> from nnmm_jax.reports.agreement import compare_with_truth
    >>> simulated = nnmm_jax.simulate(nnmm_jax.SimulationSettings(), seed=1)
    >>> result = nnmm_jax.fit(simulated.dataset())  # doctest: +SKIP
    >>> compare_with_truth(result, simulated.truth["individuals"])  # doctest: +SKIP
    """
    estimated = result.breeding_values()
    true = _aligned(truth, estimated["id"])
    draws = total_ebv(result.posterior.squeeze("trait"))
    low, high = draws.quantile(_INTERVAL, dim=("chain", "draw")).values
    inside = (low <= true["ebv"].to_numpy()) & (true["ebv"].to_numpy() <= high)
    rows = {}
    for group, phenotyped in (("phenotyped", True), ("unphenotyped", False)):
        chosen = estimated["phenotyped"].to_numpy() == phenotyped
        if not chosen.any():
            continue
        row: dict[str, float] = {"individuals": int(chosen.sum())}
        for name in ("ebv", "epv"):
            pair = true[name].to_numpy()[chosen], estimated[name].to_numpy()[chosen]
            row[f"accuracy_{name}"] = correlation(*pair)
            row[f"slope_{name}"] = slope(*pair)
        rows[group] = row | {"coverage_ebv": float(inside[chosen].mean())}
    columns = ["individuals", "accuracy_ebv", "accuracy_epv", "slope_ebv", "slope_epv"]
    return pd.DataFrame.from_dict(rows, orient="index", columns=[*columns, "coverage_ebv"])


def in_sample_fit(result: FitResult) -> dict[str, float]:
    """Correlate observed phenotypes with what the fit makes of the same individuals.

    The phenotypes were used in the fit, so these numbers say nothing about prediction.

    Parameters
    ----------
    result : FitResult
        A fit of one trait.

    Returns
    -------
    dict
        Correlation by column of the breeding values: ebv, epv, y_pred.
    """
    table = result.breeding_values()
    seen = table["phenotyped"].to_numpy()
    observed = result.constant_data["phenotype"].squeeze("trait").values[seen]
    return {
        name: correlation(observed, table[name].to_numpy()[seen])
        for name in ("ebv", "epv", "y_pred")
    }


def correlation(true: np.ndarray, estimated: np.ndarray) -> float:
    """Correlation of two vectors (n,); NaN where one does not vary.

    Examples
    --------
    >>> import numpy as np
    >>> from nnmm_jax.reports.agreement import correlation
    >>> round(correlation(np.array([1.0, 2.0, 3.0]), np.array([2.0, 4.0, 6.0])), 3)
    1.0
    """
    if np.ptp(true) == 0 or np.ptp(estimated) == 0:
        return float("nan")
    return float(np.corrcoef(true, estimated)[0, 1])


def slope(true: np.ndarray, estimated: np.ndarray) -> float:
    """Slope of the regression of truth on estimate, vectors (n,); NaN for constant estimates.

    Examples
    --------
    >>> import numpy as np
    >>> from nnmm_jax.reports.agreement import slope
    >>> round(slope(np.array([1.0, 2.0, 3.0]), np.array([10.0, 20.0, 30.0])), 3)
    0.1
    """
    if np.ptp(estimated) == 0:
        return float("nan")
    centred = estimated - estimated.mean()
    return float(centred @ true / (centred @ centred))


def _aligned(truth: pd.DataFrame, ids: pd.Series) -> pd.DataFrame:
    """Rows of the truth in the order of the ids."""
    if absent := [name for name in ("id", "ebv", "epv") if name not in truth]:
        raise InputError(f"truth: expected columns id, ebv and epv, found no {shortlist(absent)}")
    by_id = truth.set_index("id")
    if len(unknown := ids[~ids.isin(by_id.index)]):
        raise InputError(f"truth: expected every individual, found no {shortlist(unknown)}")
    return by_id.loc[ids]
