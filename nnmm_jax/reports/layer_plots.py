"""Figures of the middle layer: effects of nodes and markers, heritability, what was missing."""

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from nnmm_jax.posterior.result import FitResult
from nnmm_jax.reports.canvas import (
    BLUE,
    nodes_with_intervals,
    notice,
    say,
    sheet,
    short,
    sparse_ticks,
    tidy,
    trait_name,
)

_MANHATTAN_PANELS = 10
_MAX_STRIPES = 600  # rows of a picture that can still be told apart
_MISSING, _OBSERVED = "#F4D9C6", BLUE
_NO_LAYER = "no middle layer: the trait was fitted directly"
_TOGETHER = "the nodes act together, through a function: they have no effects of their own"
_PRESENCE = LinearSegmentedColormap.from_list("presence", [_MISSING, _OBSERVED])


def node_effects(result: FitResult) -> Figure:
    """Effect of every node on the trait; see :func:`nnmm_jax.reports.tables.node_effects`."""
    if "node_effect" not in result.posterior:
        return notice(_TOGETHER if "h2_node" in result.posterior else _NO_LAYER)
    draws = result.posterior.squeeze("trait")
    pip = result.node_effects()["pip"].to_numpy()
    return nodes_with_intervals(
        draws["node"].values,
        draws["node_effect"].transpose("chain", "draw", "node").values,
        title=f"Effects of the nodes on {trait_name(result)}",
        quantity="effect on the trait",
        inclusion=None if (pip == 1.0).all() else pip,
    )


def node_heritability(result: FitResult) -> Figure:
    """Heritability of every node of the middle layer."""
    if "h2_node" not in result.posterior:
        return notice(_NO_LAYER)
    return nodes_with_intervals(
        result.posterior["node"].values,
        result.posterior["h2_node"].transpose("chain", "draw", "node").values,
        title="Heritability of the nodes",
        quantity="h²",
    )


def marker_effects(result: FitResult) -> Figure:
    """Marker effects along the genotype file, one panel a node (and one for direct effects).

    Parameters
    ----------
    result : FitResult
        A fit of one trait.

    Returns
    -------
    matplotlib.figure.Figure
        Inclusion probabilities with priors that have zeros, else absolute mean effects. With more
        than ten nodes, those whose effect on the trait is clearest, |mean| / sd; the first ten if
        nodes have no effects of their own.
    """
    moments = result.moments
    if "marker" not in moments.dims:
        return notice("no marker effects")
    tracks: dict[str, tuple[np.ndarray, bool]] = {}
    if "skip_mean" in moments:
        skip = moments.squeeze("trait")
        tracks[f"direct on {trait_name(result)}"] = _track(skip, "skip")
    nodes = moments["node"].values if "marker_mean" in moments else np.empty(0, str)
    effects = result.node_effects().set_index("node").reindex(nodes)
    clear = (effects["mean"].abs() / effects["sd"].replace(0.0, np.inf)).fillna(0.0).to_numpy()
    # A stable sort of the rounded ranks keeps the table's order among equals.
    shown = np.sort(np.argsort(-clear, kind="stable")[:_MANHATTAN_PANELS])
    for i in shown:
        tracks[str(nodes[i])] = _track(moments.isel(node=i), "marker")
    figure = sheet(10.0, 0.9 + 1.05 * len(tracks))
    panels = figure.subplots(len(tracks), 1, sharex=True, squeeze=False)[:, 0]
    markers = moments["marker"].values
    for axes, (name, (values, is_pip)) in zip(panels, tracks.items(), strict=True):
        _manhattan(axes, name, values, is_pip, markers)
    panels[-1].set_xlabel("marker, in the order of the genotype file", fontsize=9)
    if len(shown) < len(effects):
        figure.suptitle(
            f"Marker effects on {len(shown)} of {len(effects)} nodes (clearest effects on "
            f"{trait_name(result)})",
            x=0.01, ha="left", fontsize=10,
        )  # fmt: skip
    return figure


def missing_omics(result: FitResult) -> Figure:
    """Which omics cells and phenotypes were observed, individuals sorted by pattern.

    Parameters
    ----------
    result : FitResult
        A fit of one trait.

    Returns
    -------
    matplotlib.figure.Figure
        Left the omics, right the phenotype. With many individuals a row is an average of several.
        Latent nodes are not shown.
    """
    nodes = np.flatnonzero(~result.latent.values)
    observed = result.constant_data["omics_observed"].isel(node=nodes)
    omics = observed.transpose("individual", "node").values.astype(float)
    phenotyped = result.breeding_values()["phenotyped"].to_numpy(dtype=float)
    order = np.lexsort((*omics.T[::-1], -phenotyped, omics.sum(axis=1)))[::-1]
    figure = sheet(8.5, 5.0)
    left, right = figure.subplots(1, 2, width_ratios=(20, 1), sharey=True)
    _presence(left, omics[order])
    _presence(right, phenotyped[order, None])
    sparse_ticks(left, observed["node"].values)
    right.set_xticks([0], [short(trait_name(result), 14)], rotation=45, ha="right")
    share = 1.0 - omics.mean() if omics.size else 0.0
    without = int((omics.sum(axis=1) == 0).sum())
    tidy(
        left,
        f"Missing: {share:.1%} of the omics cells ({without} of {len(omics)} individuals have "
        f"none); {1.0 - phenotyped.mean():.1%} of the phenotypes",
        "",
        "individuals, sorted by pattern",
    )
    tidy(right)
    left.legend(
        handles=[Patch(color=_OBSERVED, label="observed"), Patch(color=_MISSING, label="missing")],
        loc="upper left",
        bbox_to_anchor=(0.0, -0.16),
        ncols=2,
        frameon=False,
        fontsize=8,
    )
    return figure


def _track(moments: xr.Dataset, name: str) -> tuple[np.ndarray, bool]:
    """Values of one Manhattan panel, and whether they are inclusion probabilities."""
    pip = moments[f"{name}_pip"].values
    if (pip == 1.0).all():  # a prior without zero effects
        return np.abs(moments[f"{name}_mean"].values), False
    return pip, True


def _manhattan(
    axes: Axes, name: str, values: np.ndarray, is_pip: bool, markers: np.ndarray
) -> None:
    axes.vlines(np.arange(len(values)), 0.0, values, color=BLUE, linewidth=0.7)
    top = int(np.argmax(values))
    near_right = top > 0.8 * len(values)
    axes.annotate(
        short(str(markers[top])),
        (top, values[top]),
        (-4 if near_right else 4, -2),
        textcoords="offset points",
        ha="right" if near_right else "left",
        va="center",
        fontsize=7,
    )
    axes.set_xlim(-0.01 * len(values), 1.01 * len(values))
    axes.set_ylim(0.0, 1.05 if is_pip else None)
    tidy(axes, short(name, 60), "", "PIP" if is_pip else "|effect|")


def _presence(axes: Axes, observed: np.ndarray) -> None:
    """Draw a picture of (individual, column), rows averaged where they outnumber the pixels."""
    starts = np.unique(np.linspace(0, len(observed), _MAX_STRIPES, endpoint=False).astype(int))
    counts = np.diff([*starts, len(observed)])
    stripes = np.add.reduceat(observed, starts, axis=0) / counts[:, None]
    extent = (-0.5, observed.shape[1] - 0.5, len(observed), 0)
    if not observed.shape[1]:
        say(axes, "no omics")
        return
    axes.imshow(
        stripes, aspect="auto", cmap=_PRESENCE, vmin=0, vmax=1, interpolation="none", extent=extent
    )
