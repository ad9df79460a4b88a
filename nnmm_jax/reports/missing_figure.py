"""The figure of the grid of missing omics: accuracy and slope against what is missing."""

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from nnmm_jax.reports.canvas import BLUE, GREY, ORANGE, sheet, tidy
from nnmm_jax.reports.missing_grid import DIRECT, IGNORED
from nnmm_jax.reports.missing_patterns import BLOCKS, CELLS, MIXTURE, RARE, WHOLE
from nnmm_jax.reports.missing_verdict import LIMIT

_COLOURS = {0: BLUE, 100: ORANGE}
_TEST = {0: "test omics measured", 100: "test omics missing"}
_STYLES = {"ebv": ("-", "o", "EBV"), "epv": ("--", "s", "EPV")}
_MARKERS = {CELLS: "X", BLOCKS: "P", RARE: "D", MIXTURE: "*"}


def grid_figure(judged: pd.DataFrame) -> Figure:
    """Draw accuracy and slope of EBV and EPV against the share of training omics that is missing.

    Parameters
    ----------
    judged : pandas.DataFrame
        What :func:`~nnmm_jax.reports.missing_verdict.judge` returned.

    Returns
    -------
    matplotlib.figure.Figure
        Lines are whole individuals without omics; single symbols are the other patterns, at their
        share of missing cells; grey is the direct model, for EBV with 3 errors to either side.
    """
    figure = sheet(11.0, 6.2)
    left, right = figure.subplots(1, 2)
    _panel(left, judged, "accuracy")
    _panel(right, judged, "slope")
    direct = judged[judged["model"] == DIRECT].iloc[0]
    half = LIMIT * direct["accuracy_error"]
    low, high = direct["accuracy_ebv"] - half, direct["accuracy_ebv"] + half
    left.axhspan(low, high, color=GREY, alpha=0.3, linewidth=0)
    right.axhline(1.0, color="black", linewidth=0.6)
    right.set_ylim(*_at_least(right.get_ylim(), 0.8, 1.2))
    for axes, title in (
        (left, "Accuracy (correlation with the truth)"),
        (right, "Slope of truth on estimate (ideal 1)"),
    ):
        axes.set_xticks(sorted(judged.loc[judged["pattern"] == WHOLE, "training_missing"].unique()))
        tidy(axes, title, "training omics missing (%)")
    figure.legend(
        *left.get_legend_handles_labels(),
        loc="outside lower center",
        ncols=4,
        frameon=False,
        fontsize=8,
    )
    return figure


def _panel(axes: Axes, judged: pd.DataFrame, score: str) -> None:
    for kind, (style, _, name) in _STYLES.items():
        for ignored in judged.loc[judged["model"] == DIRECT, f"{score}_{kind}"]:
            axes.axhline(
                ignored, color=GREY, linestyle=style, linewidth=1.5, label=f"{name}, {IGNORED}"
            )
    whole = judged[judged["pattern"] == WHOLE]
    for test_missing, line in whole.groupby("test_missing"):
        for kind, (style, marker, name) in _STYLES.items():
            axes.plot(
                line["cells_missing"],
                line[f"{score}_{kind}"],
                color=_COLOURS[test_missing],
                linestyle=style,
                marker=marker,
                markersize=5,
                label=f"{name}, {_TEST[test_missing]}",
            )
    for pattern, marker in _MARKERS.items():
        for _, row in judged[judged["pattern"] == pattern].iterrows():
            label = f"{pattern}, {_TEST[row['test_missing']]} (open: EPV)"
            for kind, face in (("ebv", "black"), ("epv", "white")):
                axes.plot(
                    row["cells_missing"],
                    row[f"{score}_{kind}"],
                    color="black",
                    linestyle="",
                    marker=marker,
                    markersize=8,
                    markerfacecolor=face,
                    label=label if kind == "ebv" else None,
                )


def _at_least(limits: tuple[float, float], low: float, high: float) -> tuple[float, float]:
    """Limits of an axis, widened where needed, so that small differences do not look large."""
    return min(limits[0], low), max(limits[1], high)
