"""Whether missing omics are worse than ignoring omics, and how smoothly accuracy falls."""

from typing import Any

import numpy as np
import pandas as pd

from nnmm_jax.reports.missing_grid import DIRECT, IGNORED, KEYS, SCORES
from nnmm_jax.reports.missing_patterns import WHOLE

LIMIT = 3.0  # errors
BETTER, EQUAL, WORSE = "better", "equal", "WORSE"


def judge(fits: pd.DataFrame) -> pd.DataFrame:
    """Means over replicates, and each scenario's difference from ignoring omics.

    The rule: a scenario is WORSE than ignoring omics unless its EBV accuracy, minus that of the
    direct model on the same data, is at least minus 3 errors; a difference that is not a number is
    worse. It is better if the difference exceeds 3 errors, and equal otherwise. The error is
    that of the chains (of both fits, combined as independent), or the standard error of the mean
    difference over replicates where that is larger. With one replicate the error therefore says
    nothing about other data sets: a difference beyond it holds for these data.

    Parameters
    ----------
    fits : pandas.DataFrame
        What :func:`fit_grid` returned.

    Returns
    -------
    pandas.DataFrame
        A row for each scenario and baseline, in the order of the fits: pattern, training_missing,
        test_missing, model; replicates; means of cells_missing, the scores and seconds;
        accuracy_error (of the chains, for the mean); accuracy_se (over replicates, NaN for one);
        difference and difference_error; verdict, empty for baselines; r_hat, the worst; ess, the
        smallest.
    """
    direct = fits[fits["model"] == DIRECT].set_index("replicate").loc[fits["replicate"]]
    paired = fits.assign(
        difference=fits["accuracy_ebv"] - direct["accuracy_ebv"].to_numpy(),
        both=np.hypot(fits["accuracy_error"], direct["accuracy_error"].to_numpy()),
    )
    grouped = paired.groupby(list(KEYS), sort=False)
    count = grouped.size()
    root = np.sqrt(count)
    found = grouped[["cells_missing", *SCORES]].mean()
    found.insert(0, "replicates", count)
    found["accuracy_error"] = _error_of_mean(grouped["accuracy_error"])
    found["accuracy_se"] = grouped["accuracy_ebv"].std() / root
    found["difference"] = grouped["difference"].mean()
    over_replicates = grouped["difference"].std() / root
    found["difference_error"] = np.fmax(_error_of_mean(grouped["both"]), over_replicates)
    found["verdict"] = [
        verdict(difference, error)
        for difference, error in zip(found["difference"], found["difference_error"], strict=True)
    ]
    found["r_hat"], found["ess"] = grouped["r_hat"].max(), grouped["ess"].min()
    found["seconds"] = grouped["seconds"].mean()
    found = found.reset_index()
    found.loc[found["pattern"] == IGNORED, "verdict"] = ""
    found.loc[found["model"] == DIRECT, "difference_error"] = np.nan
    return found


def _error_of_mean(errors: Any) -> pd.Series:
    """Error of the mean of independent estimates, from the error of each, by group."""
    mean: pd.Series = errors.agg(lambda one: np.sqrt(np.sum(one.to_numpy() ** 2)) / len(one))
    return mean


def verdict(difference: float, error: float) -> str:
    """Apply the rule of :func:`judge` to one difference.

    Examples
    --------
    >>> verdict(0.02, 0.002), verdict(-0.002, 0.001), verdict(-0.02, 0.001)
    ('better', 'equal', 'WORSE')
    >>> verdict(float("nan"), 0.001)
    'WORSE'
    """
    if not difference >= -LIMIT * error:
        return WORSE
    return BETTER if difference > LIMIT * error else EQUAL


def steps(judged: pd.DataFrame) -> pd.DataFrame:
    """Changes of the EBV accuracy from one share of training individuals to the next.

    Parameters
    ----------
    judged : pandas.DataFrame
        What :func:`judge` returned.

    Returns
    -------
    pandas.DataFrame
        A row a step of the whole-individual scenarios: test_missing, start, end (percent of
        training individuals without omics), change (negative: a fall).
    """
    rows = []
    whole = judged[judged["pattern"] == WHOLE]
    for test_missing, line in whole.groupby("test_missing"):
        line = line.sort_values("training_missing")
        shares, accuracies = line["training_missing"].tolist(), line["accuracy_ebv"].tolist()
        rows += [
            (test_missing, shares[i], shares[i + 1], accuracies[i + 1] - accuracies[i])
            for i in range(len(shares) - 1)
        ]
    return pd.DataFrame(rows, columns=["test_missing", "start", "end", "change"])
