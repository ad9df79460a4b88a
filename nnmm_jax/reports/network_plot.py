"""A picture of the fitted network: nodes with their heritability, arrows with their weights."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LinearSegmentedColormap, Normalize
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

from nnmm_jax.posterior.result import FitResult
from nnmm_jax.reports.canvas import BLUE, GREEN, GREY, RED, sheet, short, trait_name

MAX_NODES = 24  # more no longer fit as labelled circles
_LEFT, _MIDDLE, _RIGHT = 0.0, 1.0, 2.0
_HALF = 0.32  # width of a node
_HERITABLE = LinearSegmentedColormap.from_list("heritable", ["#F7F7F7", "#FDD49E", "#B35806"])


def node_weights(result: FitResult) -> np.ndarray:
    """Effect (node,) of one sd of a node on the trait, in sds of the observed trait.

    The sd is over individuals, of the node's posterior means, and that of the activated node is
    taken to be 1 where the activation is not linear, whose effects are of activated nodes.
    """
    effect = result.posterior["node_effect"].squeeze("trait").mean(("chain", "draw")).values
    trait_sd = np.nanstd(result.constant_data["phenotype"].values)
    if result.run.get("settings", {}).get("activation", "linear") != "linear":
        return np.asarray(effect / trait_sd)
    spread = result.moments["omics_mean"].std("individual").values
    return np.asarray(effect * spread / trait_sd)


def network(result: FitResult) -> Figure:
    """Draw the network: markers, nodes and trait, and what goes from one to the next.

    Parameters
    ----------
    result : FitResult
        A fit of one trait.

    Returns
    -------
    matplotlib.figure.Figure
        The colour of a node is its heritability, as is the width of the arrow that leads to it. The
        width of the arrow from it is the size of its effect per sd of the node, and the colour its
        sign. Of more than 24 nodes those with the largest effects are shown. Direct effects of
        markers, pedigree and relationships have an arrow of their own. Posterior means throughout.
    """
    draws = result.posterior
    names = draws["node"].values if "h2_node" in draws else np.empty(0, str)
    h2 = draws["h2_node"].mean(("chain", "draw")).values if len(names) else np.empty(0)
    has_effects = "node_effect" in draws and len(names) > 0
    weights = node_weights(result) if has_effects else np.full(len(names), np.nan)
    shown = np.arange(len(names))
    if len(names) > MAX_NODES:
        largest = np.argsort(-np.abs(np.nan_to_num(weights)), kind="stable")[:MAX_NODES]
        shown = np.sort(largest)
    inches = max(3.4, 1.6 + 0.34 * len(shown))
    figure = sheet(9.0, inches)
    axes = figure.add_subplot()
    inch = 1.6 / inches  # on the y axis
    places = np.linspace(1.0, 0.0, len(shown)) if len(shown) > 1 else np.full(len(shown), 0.5)
    _ends(axes, result, inch)
    scale = np.nanmax(np.abs(weights[shown]), initial=1e-12) if has_effects else 1.0
    height = 0.22 * inch
    for node, y in zip(shown, places, strict=True):
        _node(axes, str(names[node]), float(h2[node]), y, height)
        _arrow(axes, (_LEFT + 0.24, 0.5), (_MIDDLE - _HALF, y), GREY, 0.4 + 3 * float(h2[node]))
        _effect(axes, float(weights[node]), scale, y)
    _direct(axes, result, len(shown) > 0, inch)
    _legend(figure, axes, len(shown), len(names), has_effects)
    return figure


def _effect(axes: Axes, weight: float, scale: float, y: float) -> None:
    """Arrow from a node to the trait, with its weight in the node."""
    start, end = (_MIDDLE + _HALF, y), (_RIGHT - 0.245, 0.5)
    if np.isnan(weight):
        _arrow(axes, start, end, GREY, 1.0)
        return
    colour = BLUE if weight > 0 else RED
    _arrow(axes, start, end, colour, 0.3 + 3.5 * abs(weight) / scale)
    axes.text(
        _MIDDLE + _HALF - 0.02,
        y,
        f"{weight:+.2f}",
        fontsize=8,
        color=colour,
        ha="right",
        va="center",
        zorder=4,
        fontweight="bold",
    )


def _ends(axes: Axes, result: FitResult, inch: float) -> None:
    """Boxes of markers and trait."""
    draws = result.posterior
    count = result.moments.sizes.get("marker", 0)
    h2 = draws["h2_trait"].values
    low, high = np.quantile(h2, (0.05, 0.95))
    markers = f"markers\n{count:,}" if count else "relatives"
    _box(axes, _LEFT, markers, "#E6F2E9", 0.55 * inch)
    _box(
        axes,
        _RIGHT,
        f"{short(trait_name(result), 16)}\nh² {h2.mean():.2f}\n({low:.2f} to {high:.2f})",
        _HERITABLE(float(h2.mean())),
        0.55 * inch,
    )
    axes.set_xlim(-0.3, 2.32)
    axes.set_ylim(-0.5 * inch, 1.0 + 0.2 * inch)
    axes.set_axis_off()


def _box(axes: Axes, x: float, text: str, colour: str | tuple[float, ...], height: float) -> None:
    axes.add_patch(
        FancyBboxPatch(
            (x - 0.24, 0.5 - height / 2),
            0.48,
            height,
            boxstyle="round,pad=0.0,rounding_size=0.02",
            facecolor=colour,
            edgecolor="black",
            linewidth=0.8,
            zorder=3,
        )
    )
    axes.text(x, 0.5, text, ha="center", va="center", fontsize=9, zorder=4)


def _node(axes: Axes, name: str, h2: float, y: float, height: float) -> None:
    axes.add_patch(
        FancyBboxPatch(
            (_MIDDLE - _HALF, y - height / 2),
            2 * _HALF,
            height,
            boxstyle="round,pad=0.0,rounding_size=0.015",
            facecolor=_HERITABLE(h2),
            edgecolor="black",
            linewidth=0.6,
            zorder=3,
        )
    )
    start = _MIDDLE - _HALF + 0.02
    axes.text(start, y, short(name, 14), va="center", fontsize=8, zorder=4)
    axes.text(_MIDDLE + 0.03, y, f"h² {h2:.2f}", va="center", fontsize=8, zorder=4)


def _arrow(
    axes: Axes,
    start: tuple[float, float],
    end: tuple[float, float],
    colour: str,
    width: float,
) -> None:
    axes.add_patch(
        FancyArrowPatch(start, end, arrowstyle="-|>", mutation_scale=7 + width, color=colour,
                        linewidth=width, alpha=0.75, zorder=1, shrinkA=0, shrinkB=0)
    )  # fmt: skip


def _direct(axes: Axes, result: FitResult, has_nodes: bool, inch: float) -> None:
    """Arrow of what is genetic and goes past the nodes, with its share of the variance of EBV."""
    draws, parts = result.posterior, []
    for name, what in (("var_direct", "direct"), ("var_polygenic", "pedigree and relationships")):
        if name in draws and (draws[name] != 0).any():
            share = float((draws[name] / draws["var_genetic_trait"]).mean())
            parts.append(f"{what} {share:.2f}")
    if not parts:
        return
    y = -0.4 * inch if has_nodes else 0.5
    if has_nodes:
        path = [(_LEFT, 0.5), (_LEFT, y), (_RIGHT, y)]
        axes.plot(*zip(*path, strict=True), color=GREEN, linewidth=1.5, zorder=1)
        _arrow(axes, (_RIGHT, y), (_RIGHT, 0.5 - 0.28 * inch), GREEN, 1.5)
    else:
        _arrow(axes, (_LEFT + 0.25, y), (_RIGHT - 0.245, y), GREEN, 2.0)
    axes.text(
        (_LEFT + _RIGHT) / 2,
        y + 0.03 * inch,
        f"past the nodes, of the variance of EBV: {', '.join(parts)}"
        if has_nodes
        else f"share of the variance of EBV: {', '.join(parts)}",
        ha="center",
        va="bottom",
        fontsize=8,
        color=GREEN,
    )


def _legend(figure: Figure, axes: Axes, shown: int, count: int, has_effects: bool) -> None:
    if not count:
        axes.set_title("No middle layer: the trait is fitted directly", loc="left", fontsize=10)
        return
    which = f"{shown} of {count} nodes, those of largest effect" if shown < count else "all nodes"
    effect = (
        "numbers: sds of the trait per sd of the node (blue: positive)"
        if has_effects
        else "a function combines the nodes, which have no effects of their own"
    )
    axes.set_title(f"Network, {which}\n{effect}", loc="left", fontsize=10)
    bar = figure.colorbar(
        ScalarMappable(Normalize(0, 1), _HERITABLE), ax=axes, fraction=0.025, pad=0.01, shrink=0.7
    )
    bar.set_label("h²", fontsize=8)
    bar.ax.tick_params(labelsize=8)
