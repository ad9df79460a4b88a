"""Means and errors of the paper's experiments, and whether what the paper says is seen."""

import numpy as np
import pandas as pd

from nnmm_jax.reports.paper_published import (
    BAYESC_ACCURACY,
    BAYESC_SLOPE,
    FEW,
    LIMIT,
    LOSS,
    MANY,
    MODELS,
    PUBLISHED,
)


def summarise(fits: pd.DataFrame) -> pd.DataFrame:
    """Means over replicates beside the published ones.

    Parameters
    ----------
    fits : pandas.DataFrame
        Rows of :data:`~nnmm_jax.reports.paper_experiments.FITS`; both models of each replicate.

    Returns
    -------
    pandas.DataFrame
        One row for each experiment and share or pattern of missing omics: experiment, missing,
        replicates; for a the first and b the second model: model_a, accuracy_a, error_a (standard
        error over replicates), slope_a, slope_error_a, published_a and the same of b; difference
        of accuracies, its error (of the paired differences) and that of the published means;
        seconds, of all fits. NaN where nothing is published, and for errors of one replicate.

    Examples
    --------
    >>> fits = pd.DataFrame(
    ...     {
    ...         "experiment": 3,
    ...         "missing": "50%",
    ...         "replicate": [1, 1, 2, 2],
    ...         "model": ["NN-BayesC", "NN-GBLUP"] * 2,
    ...         "accuracy": [0.93, 0.84, 0.94, 0.83],
    ...         "slope": 1.0,
    ...         "seconds": 9.0,
    ...     }
    ... )
    >>> summarise(fits)[["accuracy_a", "published_a", "difference", "difference_error"]].round(3)
       accuracy_a  published_a  difference  difference_error
    0       0.935        0.933         0.1              0.01
    """
    rows = []
    for (experiment, missing), group in fits.groupby(["experiment", "missing"], sort=False):
        published = PUBLISHED.get((experiment, missing), (np.nan, np.nan))
        row: dict[str, object] = {
            "experiment": experiment,
            "missing": missing,
            "replicates": group["replicate"].nunique(),
        }
        for letter, model, value in zip("ab", MODELS[experiment], published, strict=True):
            mine = group[group["model"] == model]
            row[f"model_{letter}"] = model
            row[f"accuracy_{letter}"] = mine["accuracy"].mean()
            row[f"error_{letter}"] = mine["accuracy"].sem()
            row[f"slope_{letter}"] = mine["slope"].mean()
            row[f"slope_error_{letter}"] = mine["slope"].sem()
            row[f"published_{letter}"] = value
        difference = paired(group, experiment)
        row["difference"] = difference.mean()
        row["difference_error"] = difference.sem()
        row["published_difference"] = published[0] - published[1]
        row["seconds"] = group["seconds"].sum()
        rows.append(row)
    return pd.DataFrame(rows)


def paired(fits: pd.DataFrame, experiment: int) -> pd.Series:
    """Accuracy of the first minus that of the second model, by replicate."""
    by_model = fits.pivot(index="replicate", columns="model", values="accuracy")
    first, second = MODELS[experiment]
    return by_model[first] - by_model[second]


def misses(fits: pd.DataFrame) -> list[str]:
    """What of :data:`~nnmm_jax.reports.paper_published.RULES` does not hold, one sentence each.

    Parameters
    ----------
    fits : pandas.DataFrame
        As for :func:`summarise`.
    """
    table = summarise(fits)
    checks = {1: _first, 2: _second, 3: _third}
    return [
        f"experiment {number}: {sentence}"
        for number, part in table.groupby("experiment")
        for sentence in checks[int(number)](part, fits[fits["experiment"] == number])
    ]


def _first(table: pd.DataFrame, fits: pd.DataFrame) -> list[str]:
    found = [
        f"NN-GBLUP is below the single-step approach at {row['missing']}: {_shown(row)}"
        for _, row in table.iterrows()
        if row["difference"] < -LOSS * _known(row["difference_error"])
    ]
    share = fits["missing"].str.rstrip("%").astype(float)
    if not (share >= MANY).any():
        return found
    many = _gap(fits[share >= MANY])
    if not many.mean() > LIMIT * _known(many.sem()):
        found.append(f"NN-GBLUP is not ahead at {MANY}% and more: {_mean(many)}")
    if (share <= FEW).any():
        widening = many - _gap(fits[share <= FEW])
        if not widening.mean() > LIMIT * _known(widening.sem()):
            found.append(
                f"the gap does not widen from {FEW}% and less to {MANY}% and more: "
                f"{_mean(widening)}"
            )
    return found


def _gap(fits: pd.DataFrame) -> pd.Series:
    """Difference by replicate, mean over the shares."""
    gaps = {share: paired(part, 1) for share, part in fits.groupby("missing")}
    return pd.DataFrame(gaps).mean(axis=1)


def _mean(differences: pd.Series) -> str:
    return f"{differences.mean():+.4f} ± {differences.sem():.4f}"


def _second(table: pd.DataFrame, fits: pd.DataFrame) -> list[str]:
    return [
        f"sigmoid is not ahead of linear with {row['missing']} missing: {_shown(row)}"
        for _, row in table.iterrows()
        if not row["difference"] > LIMIT * _known(row["difference_error"])
    ]


def _third(table: pd.DataFrame, fits: pd.DataFrame) -> list[str]:
    found = []
    for _, row in table.iterrows():
        if not row["accuracy_a"] >= BAYESC_ACCURACY:
            found.append(f"accuracy of BayesC {row['accuracy_a']:.4f}, below {BAYESC_ACCURACY}")
        if not abs(row["slope_a"] - 1.0) <= BAYESC_SLOPE:
            found.append(f"slope of BayesC {row['slope_a']:.3f}, not within 1 ± {BAYESC_SLOPE}")
        if not row["difference"] > LIMIT * _known(row["difference_error"]):
            found.append(f"BayesC is not ahead of GBLUP: {_shown(row)}")
    return found


def _known(error: float) -> float:
    return 0.0 if np.isnan(error) else error


def _shown(row: pd.Series) -> str:
    return f"{row['difference']:+.4f} ± {row['difference_error']:.4f}"
