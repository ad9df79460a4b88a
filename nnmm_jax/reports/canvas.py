"""What the figures share: a blank sheet, colours, and effects with intervals for few or many nodes.

Figures are made without pyplot, so that importing or drawing changes no global state and needs no
display.
"""

from io import BytesIO

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LinearSegmentedColormap, Normalize
from matplotlib.figure import Figure

from nnmm_jax.posterior.result import FitResult

# Okabe and Ito: told apart by colour-blind readers.
BLUE, ORANGE, GREEN, RED, PURPLE = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7"
SKY, GREY = "#56B4E9", "#8C8C8C"
CHAIN_COLOURS = (BLUE, ORANGE, GREEN, PURPLE, RED, SKY, "#F0E442", "#000000")
INCLUSION = LinearSegmentedColormap.from_list("inclusion", ["#D9D9D9", "#7FB2D6", "#00335C"])
Z90 = 1.645  # half width of a 90% interval in standard deviations
MAX_ROWS = 40  # more nodes than this no longer fit as labelled rows
_MAX_TICKS = 14


class Sheet(Figure):
    """A figure that notebooks show: those of pyplot alone are known to them."""

    def _repr_png_(self) -> bytes:
        picture = BytesIO()
        self.savefig(picture, format="png", dpi=100)
        return picture.getvalue()


def sheet(width: float = 8.0, height: float = 5.0) -> Figure:
    """Return an empty figure of a size in inches."""
    return Sheet(figsize=(width, height), layout="constrained")


def tidy(axes: Axes, title: str = "", xlabel: str = "", ylabel: str = "") -> None:
    """Title to the left, labels, no box."""
    axes.set_title(title, loc="left", fontsize=10)
    axes.set_xlabel(xlabel, fontsize=9)
    axes.set_ylabel(ylabel, fontsize=9)
    axes.tick_params(labelsize=8)
    axes.spines[["top", "right"]].set_visible(False)


def say(axes: Axes, text: str) -> None:
    """Text in the middle of axes that have nothing to show."""
    axes.text(0.5, 0.5, text, transform=axes.transAxes, ha="center", fontsize=9)


def notice(text: str) -> Figure:
    """Return a figure that says why there is nothing to show."""
    figure = sheet(6.0, 1.6)
    axes = figure.add_subplot()
    axes.set_axis_off()
    say(axes, text)
    return figure


def trait_name(result: FitResult) -> str:
    """Name of the result's trait."""
    return str(result.posterior["trait"].values[0])


def short(name: str, length: int = 18) -> str:
    """Shorten a long name so that it fits beside an axis."""
    return name if len(name) <= length else f"{name[: length - 1]}…"


def interval(draws: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean, 5% and 95% quantile over the first two axes (chain, draw)."""
    low, high = np.quantile(draws, (0.05, 0.95), axis=(0, 1))
    return draws.mean(axis=(0, 1), dtype=np.float64), low, high


def nodes_with_intervals(
    names: np.ndarray,
    draws: np.ndarray,
    *,
    title: str,
    quantity: str,
    inclusion: np.ndarray | None = None,
) -> Figure:
    """One value a node with its 90% interval: labelled rows for few nodes, a profile for many.

    Parameters
    ----------
    names : (node,) array of str
        Nodes, in the order of the omics table, which is kept: neighbouring columns, such as
        wavelengths, often belong together.
    draws : (chain, draw, node) array
        Posterior draws.
    title, quantity : str
        Title of the figure and name of the value axis.
    inclusion : (node,) array, optional
        Probability of a non-zero effect, shown as colour.
    """
    mean, low, high = interval(draws)
    few = len(names) <= MAX_ROWS
    figure = sheet(7.5, 1.4 + 0.24 * len(names)) if few else sheet(10.0, 4.5)
    axes = figure.add_subplot()
    colours = [BLUE] * len(names) if inclusion is None else INCLUSION(inclusion)
    at = np.arange(len(names))
    if few:
        axes.axvline(0.0, color=GREY, linewidth=0.8)
        axes.hlines(at, low, high, color=colours, linewidth=2.0)
        axes.scatter(mean, at, c=colours, s=28, zorder=3)
        axes.set_yticks(at, [short(name) for name in names])
        axes.set_ylim(len(names) - 0.4, -0.6)
        tidy(axes, f"{title}: mean and 90% interval", quantity)
    else:
        axes.axhline(0.0, color=GREY, linewidth=0.8)
        axes.vlines(at, low, high, color=colours, linewidth=1.0)
        axes.scatter(at, mean, c=colours, s=9, zorder=3)
        _label_largest(axes, names, mean, low, high)
        axes.set_xlim(-1, len(names))
        sparse_ticks(axes, names)
        tidy(axes, f"{title}: mean and 90% interval", "node, in the order of the table", quantity)
    if inclusion is not None:
        bar = figure.colorbar(
            ScalarMappable(Normalize(0, 1), INCLUSION), ax=axes, fraction=0.04, pad=0.02
        )
        bar.set_label("probability of a non-zero effect", fontsize=8)
        bar.ax.tick_params(labelsize=8)
    return figure


def sparse_ticks(axes: Axes, names: np.ndarray) -> None:
    """Name at most 14 evenly spaced positions of the x axis."""
    at = np.unique(np.linspace(0, len(names) - 1, min(len(names), _MAX_TICKS)).round().astype(int))
    axes.set_xticks(at, [short(names[i], 14) for i in at], rotation=45, ha="right")


def _label_largest(
    axes: Axes, names: np.ndarray, mean: np.ndarray, low: np.ndarray, high: np.ndarray
) -> None:
    labelled: list[int] = []
    for i in np.argsort(-np.abs(mean)):
        if all(abs(i - other) > len(names) // 10 for other in labelled):  # no text on text
            labelled.append(int(i))
            above = mean[i] >= 0
            axes.annotate(
                short(names[i]),
                (i, high[i] if above else low[i]),
                (0, 3 if above else -3),
                textcoords="offset points",
                ha="center",
                va="bottom" if above else "top",
                fontsize=7,
            )
        if len(labelled) == 4:
            break
