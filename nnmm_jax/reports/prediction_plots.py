"""Figures of predictions: cross-validation, predictive checks, comparison of fits, Pareto k."""

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from nnmm_jax.posterior.elpd import K_LIMIT, Elpd
from nnmm_jax.posterior.result import FitResult
from nnmm_jax.reports.canvas import BLUE, GREY, ORANGE, RED, notice, say, sheet, short, tidy
from nnmm_jax.reports.predictive_checks import PredictiveChecks, predictive_checks

if TYPE_CHECKING:
    from nnmm_jax.reports.comparison import Comparison
    from nnmm_jax.reports.cross_validation import CrossValidation

_LEVELS = np.linspace(0.05, 0.95, 19)
_COLUMNS = 5
_MAX_CHECKS = 20


def cross_validation(found: "CrossValidation") -> Figure:
    """Inflation and calibration of predictions of phenotypes that were hidden.

    Parameters
    ----------
    found : CrossValidation

    Returns
    -------
    matplotlib.figure.Figure
        Left: observed on predicted, with the regression line of all folds together (its slope is
        not the mean of the slopes by fold, which the title has) and the line of slope 1. Right: how
        many phenotypes are inside central predictive intervals of every probability; the band
        holds 95% of what independent calibrated predictions would give.
    """
    table, scores = found.individuals, found.summary()
    figure = sheet(10.0, 4.8)
    left, right = figure.subplots(1, 2)
    predicted, observed = table["predicted"].to_numpy(), table["observed"].to_numpy()
    left.scatter(predicted, observed, s=8, color=BLUE, linewidths=0, alpha=0.6)
    ends = np.array([predicted.min(), predicted.max()])
    left.plot(ends, ends, color="black", linewidth=0.9, linestyle="--", label="slope 1")
    if np.ptp(predicted) > 0:
        slope, base = np.polyfit(predicted, observed, 1)
        left.plot(ends, base + slope * ends, color=ORANGE, linewidth=1.8, label="regression")
    left.legend(frameon=False, fontsize=8)
    tidy(
        left,
        f"{len(table)} hidden phenotypes\ncorrelation {_value(scores, 'correlation')}, "
        f"slope {_value(scores, 'slope')}",
        "predicted",
        "observed",
    )
    _coverage(right, table["below"].to_numpy())
    return figure


def _value(scores: "object", measure: str) -> str:
    mean, se = scores.loc[measure, ["mean", "se"]]  # type: ignore[attr-defined]
    return f"{mean:.2f} (se {se:.2f})" if np.isfinite(se) else f"{mean:.2f}"


def _coverage(axes: Axes, below: np.ndarray) -> None:
    """Share of observations inside central intervals, against their probability."""
    inside = [(np.abs(below - 0.5) <= level / 2).mean() for level in _LEVELS]
    half = 1.96 * np.sqrt(_LEVELS * (1 - _LEVELS) / len(below))
    axes.fill_between(_LEVELS, _LEVELS - half, _LEVELS + half, color="#E3E3E3", linewidth=0)
    axes.plot((0, 1), (0, 1), color="black", linewidth=0.9, linestyle="--")
    axes.plot(_LEVELS, inside, color=BLUE, marker="o", markersize=4, linewidth=1.2)
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1)
    tidy(
        axes,
        "Calibration of predictive intervals\n(below the line they are too narrow)",
        "probability of the central predictive interval",
        "share of phenotypes inside",
    )


def checks(found: PredictiveChecks) -> Figure:
    """Statistics of replicated phenotypes as histograms, the observed ones as a line.

    Parameters
    ----------
    found : PredictiveChecks
        The first 20 statistics are shown.

    Returns
    -------
    matplotlib.figure.Figure
        Red where the posterior predictive p-value is below 0.01 or above 0.99.
    """
    rows = found.table.head(_MAX_CHECKS)
    wide = min(_COLUMNS, max(len(rows), 1))
    high = -(-max(len(rows), 1) // wide)
    figure = sheet(2.2 * wide + 0.6, 2.1 * high + 0.5)
    panels = figure.subplots(high, wide, squeeze=False).ravel()
    for axes, row in zip(panels, rows.itertuples(), strict=False):
        name = str(row.statistic)
        odd = not 0.01 <= float(str(row.p)) <= 0.99
        axes.hist(found.replicated[name], bins=30, color="#C9D8E6", linewidth=0)
        axes.axvline(found.observed[name].mean(), color=RED if odd else BLUE, linewidth=2.0)
        axes.set_yticks([])
        axes.locator_params(axis="x", nbins=4)
        tidy(axes, f"{short(name, 24)}\np = {float(str(row.p)):.3f}")
        axes.spines["left"].set_visible(False)
        if odd:
            axes.title.set_color(RED)
    for axes in panels[len(rows) :]:
        axes.set_axis_off()
    figure.suptitle(
        "Replicated phenotypes (bars) and the observed (line)", x=0.01, ha="left", fontsize=10
    )
    return figure


def checks_of_fit(result: FitResult) -> Figure:
    """Draw :func:`checks` of a fit, without groups."""
    if np.isfinite(result.constant_data["phenotype"].values).sum() < 3:
        return notice("fewer than three phenotypes: nothing to check")
    return checks(predictive_checks(result))


def comparison(found: "Comparison") -> Figure:
    """Differences of elpd to the best fit, with their standard errors.

    Parameters
    ----------
    found : Comparison

    Returns
    -------
    matplotlib.figure.Figure
        Hollow where Pareto k are above 0.7, or chains have not converged.
    """
    table = found.table
    figure = sheet(7.5, 1.3 + 0.42 * len(table))
    axes = figure.add_subplot()
    at = np.arange(len(table))
    sure = (table["bad_k"] == 0) & table["converged"].astype(bool)
    difference, half = table["elpd_diff"], table["se_diff"]
    axes.axvline(0.0, color=GREY, linewidth=0.8)
    axes.hlines(at, difference - half, difference + half, color=BLUE, linewidth=1.6)
    axes.scatter(difference, at, s=42, zorder=3, linewidths=1.4, edgecolors=BLUE,
                 c=np.where(sure, BLUE, "white"))  # fmt: skip
    axes.set_yticks(at, [short(str(name), 40) for name in table["fit"]])
    axes.set_ylim(len(table) - 0.5, -0.5)
    note = "" if sure.all() else "; hollow: Pareto k > 0.7, or chains not converged"
    tidy(axes, f"Leave-one-out prediction{note}", "elpd, difference to the best, with its se")
    return figure


def pareto_k(found: Elpd) -> Figure:
    """Pareto k of every individual, in the order of the data.

    Parameters
    ----------
    found : Elpd
        Of ``FitResult.loo``.

    Returns
    -------
    matplotlib.figure.Figure
        Red above 0.7, the worst ones by name; those that are not defined are at the top.
    """
    figure = sheet(8.0, 3.6)
    axes = figure.add_subplot()
    if "pareto_k" not in found.pointwise:
        say(axes, "WAIC has no Pareto k")
        return figure
    k = found.pointwise["pareto_k"].to_numpy()
    k = np.where(np.isfinite(k), k, max(1.0, k[np.isfinite(k)].max(initial=0.0)))
    axes.scatter(np.arange(len(k)), k, s=9, linewidths=0, c=np.where(k > K_LIMIT, RED, BLUE))
    axes.axhline(K_LIMIT, color=GREY, linestyle="--", linewidth=1.0)
    for row in np.argsort(-k)[:3]:
        if k[row] > K_LIMIT:
            axes.annotate(short(str(found.pointwise["id"][row])), (row, k[row]), (4, 0),
                          textcoords="offset points", fontsize=7, va="center")  # fmt: skip
    tidy(
        axes,
        f"{found.bad} of {len(k)} Pareto k above {K_LIMIT}",
        "individual, in the order of the data",
        "Pareto k",
    )
    return figure
