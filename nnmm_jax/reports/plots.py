"""Figures of a result: what was learnt about the trait and the individuals; all figures at once.

Every function takes a :class:`~nnmm_jax.posterior.result.FitResult` of one trait and returns a
``matplotlib.figure.Figure`` that belongs to nobody: save it or show it as you like.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType

import numpy as np
from matplotlib.figure import Figure

from nnmm_jax.posterior.result import FitResult
from nnmm_jax.reports.canvas import (
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    PURPLE,
    RED,
    SKY,
    Z90,
    interval,
    sheet,
    short,
    tidy,
    trait_name,
)
from nnmm_jax.reports.chain_plots import chains, convergence, forest
from nnmm_jax.reports.layer_plots import (
    marker_effects,
    missing_omics,
    node_effects,
    node_heritability,
)
from nnmm_jax.reports.network_plot import network
from nnmm_jax.reports.prediction_plots import checks_of_fit

_TOP = 20


def variance_shares(result: FitResult) -> Figure:
    """Shares of the trait's variance: genetic parts, other omics, groups, residual; and h2.

    Parameters
    ----------
    result : FitResult
        A fit of one trait.

    Returns
    -------
    matplotlib.figure.Figure
        Posterior mean and 90% interval. Shares are of var(EPV) + variances of groups + residual
        variance, so fixed effects are outside; h2 is the one of the variance table. Covariances
        make the parts overlap, so they need not add up to one.
    """
    draws = result.posterior.squeeze("trait")
    of_epv = draws["epv"].var("individual", dtype=np.float64)
    groups = sum(draws[name] for name in _group_variances(result))
    total = of_epv + groups + draws["var_residual_trait"]
    parts = {
        "genetic, through the nodes": draws["var_mediated"],
        "genetic, direct": draws.get("var_direct", 0.0),
        "genetic, pedigree and relationships": draws.get("var_polygenic", 0.0),
        "through the nodes, not genetic": (
            of_epv - draws["var_genetic_trait"] if "node" in draws.dims else 0.0
        ),
        "groups": groups,
        "residual": draws["var_residual_trait"],
    }
    shares = {"h²": draws["h2_trait"], **{name: part / total for name, part in parts.items()}}
    shown = {
        name: interval(share.transpose("chain", "draw").values)
        for name, share in shares.items()
        if (share != 0).any()
    }
    figure = sheet(7.5, 1.2 + 0.45 * len(shown))
    axes = figure.add_subplot()
    colours = dict(zip(shares, (GREY, BLUE, GREEN, PURPLE, ORANGE, SKY, RED), strict=True))
    for row, (name, (mean, low, high)) in enumerate(shown.items()):
        axes.barh(row, mean, color=colours[name], alpha=0.75, height=0.65)
        axes.hlines(row, low, high, color="black", linewidth=1.5)
        axes.text(float(max(high, mean)) + 0.012, row, f"{mean:.2f}", va="center", fontsize=8)
    axes.set_yticks(range(len(shown)), shown)
    axes.invert_yaxis()
    axes.axvline(0.0, color=GREY, linewidth=0.8)
    axes.set_xlim(right=max(1.0, axes.get_xlim()[1]))
    tidy(axes, f"Variance of {trait_name(result)}: mean and 90% interval", "share of the variance")
    return figure


def _group_variances(result: FitResult) -> list[str]:
    """Names of the variances of the trait's random terms that are not genetic."""
    terms = result.run.get("settings", {}).get("random_trait", ())
    return [f"var_random_trait_{term['column']}" for term in terms if "column" in term]


def breeding_values(result: FitResult) -> Figure:
    """Breeding values of all individuals in rank order, and the best by name.

    Parameters
    ----------
    result : FitResult
        A fit of one trait.

    Returns
    -------
    matplotlib.figure.Figure
        Mean and mean +- 1.645 sd; individuals without phenotype in their own colour.
    """
    table = result.breeding_values().sort_values("ebv", ascending=False, ignore_index=True)
    half = Z90 * table["ebv_sd"]
    figure = sheet(10.0, 4.8)
    left, right = figure.subplots(1, 2, width_ratios=(3, 2))
    left.fill_between(
        table.index, table["ebv"] - half, table["ebv"] + half, color="#DDDDDD", linewidth=0
    )
    for phenotyped, colour, name in ((True, BLUE, "phenotyped"), (False, ORANGE, "not phenotyped")):
        some = table[table["phenotyped"] == phenotyped]
        if len(some):
            left.scatter(
                some.index,
                some["ebv"],
                s=7,
                color=colour,
                linewidths=0,
                label=f"{name} ({len(some)})",
            )
    left.axhline(0.0, color=GREY, linewidth=0.8)
    left.legend(frameon=False, fontsize=8)
    tidy(left, f"EBV of {trait_name(result)}, with 90% intervals", "rank", "EBV")
    top = table.head(_TOP)
    colours = np.where(top["phenotyped"], BLUE, ORANGE)
    right.hlines(
        top.index, top["ebv"] - half.head(_TOP), top["ebv"] + half.head(_TOP), color=colours
    )
    right.scatter(top["ebv"], top.index, s=18, c=colours, zorder=3)
    right.set_yticks(top.index, [short(name) for name in top["id"]])
    right.invert_yaxis()
    tidy(right, f"the best {len(top)}", "EBV")
    return figure


def prediction(result: FitResult) -> Figure:
    """Observed phenotypes against the fitted values, with 90% predictive intervals.

    Parameters
    ----------
    result : FitResult
        A fit of one trait.

    Returns
    -------
    matplotlib.figure.Figure
        Phenotyped individuals only. Their phenotypes were used in the fit, so this checks the fit
        and is no validation.
    """
    table = result.breeding_values()
    observed = result.constant_data["phenotype"].squeeze("trait").values
    seen = table["phenotyped"].to_numpy()
    y, fitted = observed[seen], table["y_pred"].to_numpy()[seen]
    half = Z90 * table["y_pred_sd"].to_numpy()[seen]
    figure = sheet(5.8, 5.4)
    axes = figure.add_subplot()
    axes.hlines(y, fitted - half, fitted + half, color="#DDDDDD", linewidth=0.4)
    axes.scatter(fitted, y, s=9, color=BLUE, linewidths=0, zorder=3)
    ends = (min(y.min(), fitted.min()), max(y.max(), fitted.max()))
    axes.plot(ends, ends, color="black", linewidth=0.8, zorder=4)
    inside = np.mean(np.abs(y - fitted) <= half)
    varies = y.size > 2 and np.ptp(fitted) > 0
    correlation = f"correlation {np.corrcoef(y, fitted)[0, 1]:.2f}, " if varies else ""
    tidy(
        axes,
        f"Fit, not validation: {y.size} phenotyped individuals\n"
        f"{correlation}{inside:.0%} within the 90% predictive interval",
        f"fitted {trait_name(result)}",
        f"observed {trait_name(result)}",
    )
    return figure


FIGURES: Mapping[str, Callable[[FitResult], Figure]] = MappingProxyType(
    {
        "chains": chains,
        "convergence": convergence,
        "forest": forest,
        "network": network,
        "variance_shares": variance_shares,
        "breeding_values": breeding_values,
        "node_effects": node_effects,
        "node_heritability": node_heritability,
        "marker_effects": marker_effects,
        "prediction": prediction,
        "predictive_checks": checks_of_fit,
        "missing_omics": missing_omics,
    }
)


def save_figures(result: FitResult, folder: str | Path) -> list[Path]:
    """Draw every figure of :data:`FIGURES` into a folder, as ``<name>.png``.

    Parameters
    ----------
    result : FitResult
        A fit of one trait.
    folder : str or Path
        Created where needed.

    Returns
    -------
    list of Path
        The files written.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for name, draw in FIGURES.items():
        paths.append(folder / f"{name}.png")
        draw(result).savefig(paths[-1], dpi=130)
    return paths
