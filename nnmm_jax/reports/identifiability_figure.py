"""The figure of drift: spread of breeding values along a long chain."""

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure

from nnmm_jax.reports.canvas import BLUE, GREY, ORANGE, RED, sheet, tidy
from nnmm_jax.reports.identifiability import DRIFT

_BINS = 500


def drift_figure(traces: Mapping[str, np.ndarray]) -> Figure:
    """Draw the sd of EBV over individuals along each chain.

    Parameters
    ----------
    traces : mapping of str to (draw,) array
        Of each model, see :func:`~nnmm_jax.reports.identifiability.drift`.

    Returns
    -------
    matplotlib.figure.Figure
        A panel a model. Thin: 5% to 95% of the draws of each of 500 pieces; line: means of the
        tenths; dashed: 5% around the first of them.
    """
    figure = sheet(9.0, 0.8 + 2.4 * len(traces))
    panels = figure.subplots(len(traces), 1, squeeze=False, sharex=True)[:, 0]
    for axes, (label, trace) in zip(panels, traces.items(), strict=True):
        pieces = np.array_split(trace.astype(float), min(_BINS, len(trace)))
        ends = np.cumsum([len(piece) for piece in pieces])
        at = ends - 0.5 * np.array([len(piece) for piece in pieces])
        low, high = (np.array([np.quantile(piece, q) for piece in pieces]) for q in (0.05, 0.95))
        axes.fill_between(
            at,
            low,
            high,
            color=BLUE,
            alpha=0.35,
            linewidth=0,
            label="5% to 95% of neighbouring draws",
        )
        tenth = len(trace) // 10
        means = [trace[number * tenth : (number + 1) * tenth].mean() for number in range(10)]
        edges = tenth * np.arange(11)
        axes.stairs(
            means, edges, baseline=None, color=ORANGE, linewidth=2.0, label="means of tenths"
        )
        limits = [(1 - DRIFT) * means[0], (1 + DRIFT) * means[0]]
        axes.hlines(
            limits, 0, len(trace), color=RED, linestyle="--", linewidth=1.0, label="first ± 5%"
        )
        axes.axhline(means[0], color=GREY, linewidth=0.8)
        axes.set_ylim(0, 1.1 * max(high))
        tidy(axes, f"{label}: sd of EBV over individuals, in sd of the phenotype", "", "sd of EBV")
    panels[-1].set_xlabel("draw after warm-up", fontsize=9)
    figure.legend(
        *panels[0].get_legend_handles_labels(),
        loc="outside lower center",
        ncols=3,
        frameon=False,
        fontsize=8,
    )
    return figure
