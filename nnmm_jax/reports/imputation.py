"""Are missing omics imputed well? Observed cells are hidden, and their imputations compared."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from nnmm_jax.data.align import Dataset
from nnmm_jax.errors import InputError, shortlist
from nnmm_jax.network.spec import Network
from nnmm_jax.posterior.result import FitResult
from nnmm_jax.reports.agreement import correlation, slope
from nnmm_jax.reports.canvas import BLUE, Z90, sheet, short, tidy

_PANELS = 12


@dataclass(frozen=True, eq=False)
class Imputation:
    """Imputed omics beside the values that were hidden from the fit, or are known otherwise.

    Attributes
    ----------
    cells : pandas.DataFrame
        A row a cell: id, node, value, mean and sd of its imputation.
    nodes : pandas.DataFrame
        A row a node: node, cells, correlation of value and imputed mean, slope of value on imputed
        mean (below 1: imputations too dispersed), rmse, coverage of the 90% interval mean +- 1.645
        sd. Correlation and slope are NaN for fewer than three cells.
    """

    cells: pd.DataFrame
    nodes: pd.DataFrame

    def __str__(self) -> str:
        """Table by node."""
        return self.nodes.to_string(index=False, float_format="{:.3f}".format)


def compare_imputed(result: FitResult, known: pd.DataFrame) -> Imputation:
    """Compare imputed omics with known values, such as those of a simulation.

    Parameters
    ----------
    result : FitResult
        A fit with missing omics.
    known : pandas.DataFrame
        Ids in the index, a column a node, in the units of the fit; NaN where nothing is known.
        Cells that the fit has seen are left out.

    Raises
    ------
    InputError
        If no missing cell has a known value.
    """
    long = known.rename_axis(index="id", columns="node").stack().dropna().rename("value")
    cells = result.omics_imputed().merge(long.reset_index(), on=["id", "node"])
    if cells.empty:
        raise InputError(
            f"imputed omics: expected known values of missing cells, found none in "
            f"{shortlist(known.columns)}; give values of cells that were missing in the fit"
        )
    rows = [{"node": node, **_scores(table)} for node, table in cells.groupby("node", sort=False)]
    return Imputation(cells[["id", "node", "value", "mean", "sd"]], pd.DataFrame(rows))


def _scores(table: pd.DataFrame) -> dict[str, float]:
    value, mean, sd = (table[name].to_numpy(float) for name in ("value", "mean", "sd"))
    some = len(value) > 2
    return {
        "cells": len(value),
        "correlation": correlation(value, mean) if some else np.nan,
        "slope": slope(value, mean) if some else np.nan,
        "rmse": float(np.sqrt(np.mean((value - mean) ** 2))),
        "coverage": float(np.mean(np.abs(value - mean) <= Z90 * sd)),
    }


def check_imputation(
    dataset: Dataset,
    network: Network | None = None,
    *,
    share: float = 0.1,
    whole: bool = False,
    seed: int = 0,
    **settings: Any,
) -> Imputation:
    """Hide some observed omics, fit, and compare what the fit imputes with them.

    Parameters
    ----------
    dataset : Dataset
        With omics.
    network : Network or None
        As in :func:`nnmm_jax.fit`.
    share : float
        Of the observed cells, or of the individuals with omics, that is hidden, at random.
    whole : bool
        Hide all omics of an individual instead of scattered cells.
    seed : int
        Of what is hidden, and of the fit.
    **settings
        Of the fit: warmup, samples, chains, ... as in :func:`nnmm_jax.fit`.

    Raises
    ------
    InputError
        If there are no omics, or the share is not between 0 and 1 or hides nothing or all of a
        column.

    Examples
    --------
    >>> import nnmm_jax as nm
    >>> data = nm.read_dataset("g.csv", "o.csv", "p.csv", "y")  # doctest: +SKIP
    >>> print(nm.check_imputation(data, share=0.05, seed=1))  # doctest: +SKIP
    """
    observed = ~np.isnan(dataset.omics)
    if not observed.any():
        raise InputError("imputation: expected omics to hide some of, found none")
    if not 0 < share < 1:
        raise InputError(f"share: expected a number between 0 and 1, found {share!r}")
    # Random numbers are for what is observed only: a caller who has hidden some by the same
    # generator and seed would else have hidden just what is picked.
    choices = observed.any(axis=1) if whole else observed
    picked = np.zeros_like(choices)
    picked[choices] = np.random.default_rng(seed).random(choices.sum()) < share
    hidden = observed & (picked[:, None] if whole else picked)
    if not hidden.any():
        raise InputError(f"share: expected cells to hide, found none at {share:g}; give more")
    from nnmm_jax.api import fit  # JAX is loaded here

    result = fit(dataset.mask(omics=hidden), network, seed=seed, **settings)
    values = np.where(hidden, dataset.omics, np.nan)
    return compare_imputed(result, pd.DataFrame(values, dataset.ids, dataset.omics_names))


def imputed_omics(found: Imputation) -> Figure:
    """Known values on imputed ones, a panel a node.

    Parameters
    ----------
    found : Imputation
        Of more than 12 nodes, every so manieth from the best to the worst imputed.

    Returns
    -------
    matplotlib.figure.Figure
        Means with 90% intervals, and the line of slope 1.
    """
    table = found.nodes.sort_values("correlation", ascending=False, kind="stable")
    rows = np.unique(np.linspace(0, len(table) - 1, min(len(table), _PANELS)).round().astype(int))
    shown = table.iloc[rows]
    wide = min(4, len(shown))
    high = -(-len(shown) // wide)
    figure = sheet(2.7 * wide + 0.4, 2.6 * high + 0.5)
    panels = figure.subplots(high, wide, squeeze=False).ravel()
    for axes, (_, row) in zip(panels, shown.iterrows(), strict=False):
        cells = found.cells[found.cells["node"] == row["node"]]
        mean, half = cells["mean"].to_numpy(float), Z90 * cells["sd"].to_numpy(float)
        value = cells["value"].to_numpy(float)
        axes.hlines(value, mean - half, mean + half, color="#D5DEE6", linewidth=0.6)
        axes.scatter(mean, value, s=8, color=BLUE, linewidths=0, zorder=3)
        ends = [min(mean.min(), value.min()), max(mean.max(), value.max())]
        axes.plot(ends, ends, color="black", linewidth=0.8, linestyle="--", zorder=4)
        tidy(
            axes,
            f"{short(str(row['node']), 20)}\nr {row['correlation']:.2f}, slope {row['slope']:.2f}, "
            f"{row['coverage']:.0%} in 90%",
        )
        axes.title.set_fontsize(8)
    for axes in panels[len(shown) :]:
        axes.set_axis_off()
    which = "" if len(shown) == len(table) else f", {len(shown)} of {len(table)} nodes, best first"
    figure.supxlabel("imputed, with 90% intervals", fontsize=9)
    figure.supylabel("hidden or true value", fontsize=9)
    figure.suptitle(f"Imputed omics{which}", x=0.01, ha="left", fontsize=10)
    return figure
