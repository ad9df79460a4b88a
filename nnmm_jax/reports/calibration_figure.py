"""Figures of calibration: ECDF of ranks, and coverage."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from scipy import stats

from nnmm_jax.reports.calibration_run import HIGH, LOW
from nnmm_jax.reports.canvas import BLUE, GREY, ORANGE, RED, sheet, tidy

_COLUMNS = 4
_BAND = 0.99


def rank_figure(ranks: pd.DataFrame, draws: int) -> Figure:
    """Draw the ECDF of the ranks of every quantity, less the uniform distribution's.

    Parameters
    ----------
    ranks : pandas.DataFrame
        configuration, quantity, rank.
    draws : int
        Ranks are 0 to ``draws``.

    Returns
    -------
    matplotlib.figure.Figure
        A panel a configuration, a line a quantity. Grey: simultaneous band that holds 99% of the
        lines of a calibrated sampler (Kolmogorov).
    """
    names = list(dict.fromkeys(ranks["configuration"]))
    rows = -(-len(names) // _COLUMNS)
    figure = sheet(3.4 * min(_COLUMNS, len(names)), 0.6 + 2.3 * rows)
    panels = figure.subplots(rows, min(_COLUMNS, len(names)), squeeze=False, sharex=True).ravel()
    grid = np.arange(draws + 1)
    uniform = (grid + 1) / (draws + 1)
    for axes, name in zip(panels, names, strict=False):
        part = ranks[ranks["configuration"] == name]
        for number, (_, of_one) in enumerate(part.groupby("quantity")):
            values = np.sort(of_one["rank"].to_numpy())
            ecdf = np.searchsorted(values, grid, side="right") / len(values)
            axes.plot(uniform, ecdf - uniform, color=BLUE, linewidth=0.5, alpha=0.5)
            if number == 0:
                band = stats.kstwo.ppf(_BAND, len(values))
                axes.fill_between([0, 1], -band, band, color=GREY, alpha=0.2, linewidth=0)
        tidy(axes, name, "", "")
        axes.title.set_fontsize(8)
    for axes in panels[len(names) :]:
        axes.set_visible(False)
    figure.supxlabel("rank of the truth among draws, as a share", fontsize=9)
    figure.supylabel("ECDF less uniform", fontsize=9)
    return figure


def coverage_figure(coverage: pd.DataFrame) -> Figure:
    """Draw the coverage of 90% intervals with two Monte Carlo errors, and its limits.

    Parameters
    ----------
    coverage : pandas.DataFrame
        configuration, values, coverage, error.
    """
    names = list(dict.fromkeys(coverage["configuration"]))
    kinds = list(dict.fromkeys(coverage["values"]))
    figure = sheet(8.0, 1.2 + 0.45 * len(names))
    axes = figure.subplots()
    for number, kind in enumerate(kinds):
        part = coverage[coverage["values"] == kind]
        at = np.array([names.index(name) for name in part["configuration"]], dtype=float)
        axes.errorbar(
            part["coverage"],
            at + 0.18 * (number - (len(kinds) - 1) / 2),
            xerr=2 * part["error"],
            fmt="o",
            markersize=4,
            color=(BLUE, ORANGE, RED)[number % 3],
            label={"ebv": "EBV", "missing": "missing omics", "phenotype": "new phenotypes"}.get(
                kind, kind
            ),
        )
    axes.axvline(0.9, color=GREY, linewidth=0.8)
    for limit in (LOW, HIGH):
        axes.axvline(limit, color=GREY, linewidth=0.8, linestyle="--")
    axes.set_yticks(range(len(names)), names, fontsize=8)
    axes.invert_yaxis()
    tidy(axes, "Coverage of 90% intervals", "share of true values inside", "")
    axes.legend(frameon=False, fontsize=8)
    return figure
