"""Manhattan figures: one panel a response, chromosomes in alternate shades."""

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from nnmm_jax.reports.canvas import BLUE, GREY, RED, notice, sheet, short, tidy
from nnmm_jax.reports.windows import chromosome_ranks

if TYPE_CHECKING:
    from nnmm_jax.reports.gwas import Gwas

MOST_PANELS = 10
_SHADES = (BLUE, "#6BAED6")
_NAMED = 3  # peaks with a name in a panel


def window_manhattan(found: "Gwas") -> Figure:
    """WPPA along the genome.

    Parameters
    ----------
    found : Gwas

    Returns
    -------
    matplotlib.figure.Figure
        The trait (by all paths, and directly) and nodes, up to ten panels in all: with more nodes
        those with the clearest peaks. The line is the least WPPA among the hits at the rate of
        false discoveries; panels without a hit have none. Peaks bear the name of their lead.
    """
    table = found.windows
    table = table.assign(at=(table["start"] + table["end"]) / 2, name=table["lead"])
    return _manhattan(
        table,
        found,
        "wppa",
        f"WPPA, windows of {found.window}: share of {found.draws} draws in which the window "
        f"explains more than {found.share:.2g} of the genetic variance",
        "WPPA",
    )


def marker_manhattan(found: "Gwas") -> Figure:
    """Inclusion probabilities of markers along the genome; panels as :func:`window_manhattan`.

    Parameters
    ----------
    found : Gwas

    Returns
    -------
    matplotlib.figure.Figure
        Only responses of which marker effects may be 0.
    """
    table = found.markers[found.markers["q_value"].notna()]
    if table.empty:
        return notice("effects of markers cannot be 0 with this prior, see the WPPA of windows")
    table = table.assign(at=table["position"], name=table["marker"])
    return _manhattan(table, found, "pip", "Inclusion probabilities of markers", "PIP")


def _manhattan(table: pd.DataFrame, found: "Gwas", column: str, title: str, ylabel: str) -> Figure:
    responses = _panels(table, found, column)
    figure = sheet(11.0, 1.0 + 1.45 * len(responses))
    panels = figure.subplots(len(responses), 1, sharex=True, squeeze=False)[:, 0]
    for axes, response in zip(panels, responses, strict=True):
        one = table[table["response"] == response]
        _panel(axes, one, column, found.fdr)
        tidy(axes, short(response, 60), "", ylabel)
    panels[-1].set_xlabel("chromosome", fontsize=9)
    left_out = table["response"].nunique() - len(responses)
    more = f"\n{left_out} responses with lower peaks are not shown" if left_out else ""
    figure.suptitle(f"{title}{more}", x=0.01, ha="left", fontsize=10)
    return figure


def _panels(table: pd.DataFrame, found: "Gwas", column: str) -> list[str]:
    """Responses to show: the trait, then nodes in their order, those with the clearest peaks."""
    peak = table.groupby("response", sort=False)[column].max()
    trait = [name for name in (f"{found.trait} (total)", f"{found.trait} (direct)") if name in peak]
    nodes = peak.drop(trait)
    kept = nodes.sort_values(ascending=False, kind="stable").index[: MOST_PANELS - len(trait)]
    return [*trait, *(name for name in nodes.index if name in set(kept))]


def _panel(axes: Axes, table: pd.DataFrame, column: str, fdr: float) -> None:
    rank = chromosome_ranks(table["chromosome"].to_numpy())
    x, ticks, names, ends = _along(rank, table)
    values = table[column].to_numpy()
    few = len(table) <= 400
    for shade in (0, 1):
        part = rank % 2 == shade
        axes.vlines(x[part], 0.0, values[part], color=_SHADES[shade], linewidth=1.2 if few else 0.6)
        axes.scatter(x[part], values[part], s=8 if few else 3, color=_SHADES[shade], zorder=3)
    hits = table["q_value"].to_numpy() <= fdr
    if hits.any():
        axes.axhline(values[hits].min(), color=RED, linewidth=0.9, linestyle="--")
        axes.annotate(
            f"FDR {fdr:.0%}", (1.0, values[hits].min()), (4, 0), ("axes fraction", "data"),
            textcoords="offset points", va="center", fontsize=7, color=RED, annotation_clip=False,
        )  # fmt: skip
    _name_peaks(axes, x, values, table["name"].to_numpy(), hits)
    for end in ends:
        axes.axvline(end, color=GREY, linewidth=0.4, alpha=0.5)
    axes.set_xticks(ticks, names)
    axes.set_xlim(0.0, ends[-1])
    axes.set_ylim(0.0, 1.12)
    axes.set_yticks([0.0, 0.5, 1.0])


def _along(
    rank: np.ndarray, table: pd.DataFrame
) -> tuple[np.ndarray, np.ndarray, list[str], np.ndarray]:
    """Places on the axis, ticks with names in the middle of chromosomes, and their ends."""
    at = table["at"].to_numpy(dtype=float)
    by = pd.Series(at).groupby(rank)
    low, length = by.min().to_numpy(), (by.max() - by.min()).to_numpy()
    width = np.maximum(length, length.max() * 0.02 or 1.0)
    gap = 0.01 * width.sum()
    starts = np.cumsum(np.r_[0.0, width + gap])
    names = table["chromosome"].groupby(rank, sort=True).first().tolist()
    ticks = starts[:-1] + gap / 2 + width / 2
    return starts[rank] + gap / 2 + at - low[rank], ticks, names, starts[1:]


def _name_peaks(
    axes: Axes, x: np.ndarray, values: np.ndarray, names: np.ndarray, hits: np.ndarray
) -> None:
    """Name the highest places that are not near another, hits only if there are any."""
    named: list[int] = []
    span = x.max() - x.min()
    for i in np.argsort(-values, kind="stable"):
        if len(named) == (_NAMED if hits.any() else 1) or (hits.any() and not hits[i]):
            break
        if values[i] == 0 or any(abs(x[i] - x[other]) < 0.12 * span for other in named):
            continue
        named.append(int(i))
        near_end = x[i] > x.min() + 0.88 * span
        axes.annotate(
            short(str(names[i]), 22), (x[i], values[i]), (-4 if near_end else 4, 3),
            textcoords="offset points", ha="right" if near_end else "left", va="bottom",
            fontsize=7,
        )  # fmt: skip
