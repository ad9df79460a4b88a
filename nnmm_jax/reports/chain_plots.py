"""Figures of the sampler: whether the chains agree, and whether they are long enough."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator
from scipy import stats

from nnmm_jax.posterior.diagnostics import ESS_LIMIT, R_HAT_LIMIT, identified, scalars
from nnmm_jax.posterior.result import FitResult
from nnmm_jax.reports.canvas import BLUE, CHAIN_COLOURS, GREY, RED, say, sheet, short, tidy

_TRACED = ("var_residual_trait", "h2_trait", "var_mediated", "var_direct", "var_random_trait_")
_TRACED_NODES = 2
_MAX_POINTS = 400
_BINS = 20
_FOREST_ROWS = 25


def chains(result: FitResult) -> Figure:
    """Trace and rank histogram of variance components and of the clearest node effects.

    Parameters
    ----------
    result : FitResult
        A fit.

    Returns
    -------
    matplotlib.figure.Figure
        One row a quantity. Right: how often each chain takes a rank among all draws, relative to
        the uniform expectation; the band holds 95% of independent draws.
    """
    rows = _traced(result)
    figure = sheet(10.0, 0.8 + 1.5 * max(len(rows), 1))
    panels = figure.subplots(max(len(rows), 1), 2, squeeze=False, width_ratios=(3, 2))
    if not rows:
        say(panels[0, 0], "no quantity varies")
    for (name, draws), (left, right) in zip(rows, panels, strict=False):
        _trace(left, name, draws)
        _ranks(right, draws)
    panels[-1, 0].set_xlabel("draw", fontsize=9)
    panels[-1, 1].set_xlabel("rank among all draws", fontsize=9)
    panels[0, 1].set_title("share of ranks, relative to uniform", loc="left", fontsize=9)
    return figure


def convergence(result: FitResult) -> Figure:
    """R-hat and ESS of every identified quantity, grouped by variable.

    Parameters
    ----------
    result : FitResult
        A fit.

    Returns
    -------
    matplotlib.figure.Figure
        One dot a quantity; red beyond the limit; the worst one is named in the title.
    """
    table = result.diagnostics()
    table["ess"] = table[["ess_bulk", "ess_tail"]].min(axis=1)
    table["variable"] = table["quantity"].astype(str).str.split("[", n=1).str[0]
    variables = list(dict.fromkeys(table["variable"]))
    figure = sheet(10.0, 1.6 + 0.38 * max(len(variables), 2))
    left, right = figure.subplots(1, 2, sharey=True)
    _dots(left, table, variables, "r_hat", high_is_bad=True)
    _dots(right, table, variables, "ess", high_is_bad=False)
    left.axvline(R_HAT_LIMIT, color=GREY, linestyle="--", linewidth=1.0)
    right.axvline(ESS_LIMIT, color=GREY, linestyle="--", linewidth=1.0)
    right.set_xscale("log")
    right.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 4.0)))
    right.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    right.xaxis.set_minor_locator(NullLocator())
    left.set_yticks(range(len(variables)), variables)
    left.set_ylim(len(variables) - 0.4, -0.6)
    tidy(left, _title(table, "r_hat", high_is_bad=True), f"R-hat (limit {R_HAT_LIMIT})")
    tidy(
        right,
        _title(table, "ess", high_is_bad=False),
        f"ESS, smaller of bulk and tail (limit {ESS_LIMIT:.0f})",
    )
    return figure


def forest(result: FitResult) -> Figure:
    """Every chain's mean and 90% interval of shares of variance and node effects.

    Parameters
    ----------
    result : FitResult
        A fit.

    Returns
    -------
    matplotlib.figure.Figure
        One row a quantity, one line a chain, so that chains that disagree stand out, and names in
        red where R-hat is above its limit. Left, on one axis, what lies between 0 and 1: h2,
        shares, pi. Right node effects in posterior sds from 0. At most 25 rows each, with many
        nodes those with the clearest effects.
    """
    chosen = identified(result.posterior, result.latent)
    n_traits = result.posterior.sizes["trait"]
    shares = [name for name in chosen.data_vars if str(name).startswith(("h2_", "pi_"))]
    left = [row for name in shares for row in scalars(chosen[name], n_traits)]
    right = list(scalars(chosen["node_effect"], n_traits)) if "node_effect" in chosen else []
    kept = _clearest(right)
    table = result.diagnostics().set_index("quantity")["r_hat"]
    panels = [(_varying(left)[:_FOREST_ROWS], "share"), (kept, "posterior sds from 0")]
    panels = [(rows, label) for rows, label in panels if rows]
    high = max([len(rows) for rows, _ in panels], default=2)
    figure = sheet(10.0, 1.2 + 0.3 * high)
    if not panels:
        say(figure.add_subplot(), "no share varies, and there are no node effects")
        return figure
    for axes, (rows, label) in zip(
        figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True
    ):
        scaled = label != "share"
        for place, (_, draws) in enumerate(rows):
            unit = float(draws.std(dtype=np.float64)) if scaled else 1.0
            _forest_row(axes, place, draws / (unit or 1.0))
        axes.set_yticks(range(len(rows)), [short(name, 34) for name, _ in rows])
        for tick, (name, _) in zip(axes.get_yticklabels(), rows, strict=True):
            if table.get(name, 1.0) > R_HAT_LIMIT:
                tick.set_color(RED)
        axes.set_ylim(high - 0.4, -0.6)
        title = "Node effects" if scaled else "Shares, 90% interval of each chain"
        tidy(axes, f"{title}\n(red names: R-hat above {R_HAT_LIMIT})", label)
        if not scaled:
            axes.set_xlim(0.0, 1.0)
        else:
            axes.axvline(0.0, color=GREY, linewidth=0.8, zorder=0)
    return figure


def _forest_row(axes: Axes, place: int, draws: np.ndarray) -> None:
    """One line and dot a chain, side by side within a row."""
    n_chains = len(draws)
    offsets = (np.arange(n_chains) - (n_chains - 1) / 2) * min(0.14, 0.7 / n_chains)
    for chain, (values, offset) in enumerate(zip(draws, offsets, strict=True)):
        low, high = np.quantile(values, (0.05, 0.95))
        axes.hlines(place + offset, low, high, color=_colour(chain), linewidth=1.2)
        axes.scatter(values.mean(), place + offset, color=_colour(chain), s=8, zorder=3)


def _varying(rows: list[tuple[str, np.ndarray]]) -> list[tuple[str, np.ndarray]]:
    return [(name, draws) for name, draws in rows if np.ptp(draws) > 0]


def _clearest(rows: list[tuple[str, np.ndarray]]) -> list[tuple[str, np.ndarray]]:
    """Those whose mean is furthest from 0 in sds, in the order given."""
    rows = _varying(rows)
    clear = [abs(draws.mean()) / draws.std() for _, draws in rows]
    shown = np.sort(np.argsort(-np.asarray(clear), kind="stable")[:_FOREST_ROWS])
    return [rows[i] for i in shown]


def _traced(result: FitResult) -> list[tuple[str, np.ndarray]]:
    chosen = identified(result.posterior, result.latent)
    n_traits = result.posterior.sizes["trait"]
    names = [name for first in _TRACED for name in chosen if str(name).startswith(first)]
    rows = [row for name in names for row in scalars(chosen[name], n_traits)]
    effects = list(scalars(chosen["node_effect"], n_traits)) if "node_effect" in chosen else []
    effects.sort(key=lambda row: -abs(row[1].mean()) / (row[1].std() or np.inf))
    rows += effects[:_TRACED_NODES]
    return [(name, draws) for name, draws in rows if np.ptp(draws) > 0]


def _trace(axes: Axes, name: str, draws: np.ndarray) -> None:
    step = -(-draws.shape[1] // _MAX_POINTS)
    at = np.arange(0, draws.shape[1], step)
    for chain, values in enumerate(draws):
        axes.plot(at, values[::step], color=_colour(chain), linewidth=0.6, alpha=0.8)
    tidy(axes, short(name, 50))


def _ranks(axes: Axes, draws: np.ndarray) -> None:
    n_chains, n_draws = draws.shape
    # Ties (zeros of a spike-and-slab prior) are broken at random, or one bin would hold them all.
    order = np.random.default_rng(0).permutation(draws.size)
    ranks = np.empty(draws.shape)
    ranks.flat[order] = stats.rankdata(draws.ravel()[order], method="ordinal")
    edges = np.linspace(0.5, draws.size + 0.5, _BINS + 1)
    expected = n_draws / _BINS
    band = stats.binom.ppf((0.025, 0.975), n_draws, 1 / _BINS) / expected
    axes.axhspan(*band, color="#EEEEEE", linewidth=0)
    axes.axhline(1.0, color=GREY, linewidth=0.8)
    for chain in range(n_chains):
        counts, _ = np.histogram(ranks[chain], edges)
        axes.stairs(counts / expected, edges, baseline=None, color=_colour(chain), linewidth=1.0)
    axes.set_ylim(bottom=0)
    tidy(axes)


def _dots(
    axes: Axes, table: pd.DataFrame, variables: list[str], column: str, high_is_bad: bool
) -> None:
    shown = table[np.isfinite(table[column])]
    if shown.empty:
        say(axes, "not defined (two chains and four draws are needed)")
        return
    row = shown["variable"].map({name: i for i, name in enumerate(variables)}).to_numpy()
    values = shown[column].to_numpy()
    bad = values > R_HAT_LIMIT if high_is_bad else values < ESS_LIMIT
    # Golden-ratio spread within a row: even, and the same in every drawing of the same result.
    place = shown.groupby("variable", sort=False).cumcount().to_numpy()
    spread = ((0.5 + place * 0.6180339887) % 1.0 - 0.5) * 0.5
    axes.scatter(values, row + spread, s=9, c=np.where(bad, RED, BLUE), alpha=0.6, linewidths=0)


def _title(table: pd.DataFrame, column: str, high_is_bad: bool) -> str:
    shown = table[np.isfinite(table[column])]
    if shown.empty:
        return ""
    values = shown[column]
    bad = values > R_HAT_LIMIT if high_is_bad else values < ESS_LIMIT
    worst = shown.loc[values.idxmax() if high_is_bad else values.idxmin()]
    extreme = (
        f"largest R-hat {worst[column]:.3f}" if high_is_bad else f"smallest ESS {worst[column]:.0f}"
    )
    undefined = f", {len(table) - len(shown)} undefined" if len(shown) < len(table) else ""
    return (
        f"{extreme}: {short(worst['quantity'], 36)}\n"
        f"{bad.sum()} of {len(table)} quantities beyond the limit{undefined}"
    )


def _colour(chain: int) -> str:
    return CHAIN_COLOURS[chain % len(CHAIN_COLOURS)]
