"""The command ``nnmm summary``. Heavy imports are inside, as in :mod:`nnmm_jax.cli`."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nnmm_jax.cli_flags import check_least
from nnmm_jax.folders import check_new_folder

if TYPE_CHECKING:
    import pandas as pd

    from nnmm_jax.posterior.result import FitResult

_WORST = 5  # quantities that have converged least


def add_summary(commands: "argparse._SubParsersAction[Any]") -> None:
    """Add the command."""
    parser = commands.add_parser(
        "summary",
        help="print the main tables of the results of a fit",
        usage="nnmm summary DIR [--top SHARE] [--rows N] [--tables FOLDER]",
        description="Print whether a fit has converged, its variance components, the best "
        "individuals and the node effects, from the folder that nnmm fit wrote.",
        allow_abbrev=False,
    )
    parser.add_argument("results", metavar="DIR", type=Path, help="folder that nnmm fit wrote")
    parser.add_argument(
        "--top",
        type=float,
        default=0.1,
        metavar="SHARE",
        help="of the individuals; the probability of being among them is told (default: 0.1)",
    )
    parser.add_argument(
        "--lowest", action="store_true", help="the lowest breeding values are the best"
    )
    parser.add_argument(
        "--rows", type=int, default=10, metavar="N", help="individuals and nodes (default: 10)"
    )
    parser.add_argument(
        "--tables", type=Path, metavar="FOLDER", help="write all csv tables to a new folder"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace tables in FOLDER")
    parser.set_defaults(run=_summary)


def _summary(options: argparse.Namespace) -> None:
    check_least(options, rows=1)
    if options.tables is not None:
        check_new_folder(options.tables, overwrite=options.overwrite)
    from nnmm_jax.posterior.result import load
    from nnmm_jax.reports.folder import write_tables

    result = load(options.results)
    lines = _lines(result, options)
    if options.tables is not None:
        write_tables(result, options.tables, overwrite=options.overwrite)
        lines.append(f"tables: {options.tables}")
    print("\n".join(lines))


def _lines(result: "FitResult", options: argparse.Namespace) -> list[str]:
    ranking = result.ranking(options.top, highest=not options.lowest)
    table = result.diagnostics()
    r_hat, ess = table["r_hat"], table[["ess_bulk", "ess_tail"]].min(axis=1)
    # Undefined is worse than any number.
    bad = table.assign(ess=ess, rank=r_hat.fillna(float("inf"))).sort_values(
        ["rank", "ess"], ascending=[False, True], kind="stable"
    )
    lines = [
        "convergence: " + (result.convergence_warning or "no signs against it"),
        *_text(bad[["quantity", "r_hat", "ess_bulk", "ess_tail"]].head(_WORST)),
        "variance components",
        *_text(_components(result.variance_components(), options.rows)),
        f"individuals, the first {min(options.rows, len(ranking))} of {len(ranking)}; p_top: "
        f"probability of being among the top {options.top:.0%}",
        *_text(ranking.head(options.rows)),
    ]
    effects = result.node_effects()
    if len(effects):
        order = (effects["mean"].abs() / effects["sd"].where(effects["sd"] > 0)).fillna(0.0)
        clearest = effects.loc[order.sort_values(ascending=False, kind="stable").index]
        lines.append(f"node effects, clearest first (|mean| / sd), {len(effects)} in all")
        lines += _text(clearest.head(options.rows))
    return lines


def _components(table: "pd.DataFrame", rows: int) -> "pd.DataFrame":
    """Those of the trait, and of as many nodes as are asked for the heritability."""
    name = table["component"]
    of_trait = ~name.str.contains("[", regex=False)
    nodes = name.str.match(r"h2_(?:mediated_)?(?:node|block)\[")
    some = nodes & (nodes.groupby(name.str.split("[").str[0]).cumsum() <= rows)
    return table[of_trait | some]


def _text(table: "pd.DataFrame") -> list[str]:
    """A table as indented lines."""
    text = table.to_string(index=False, float_format="{:.4g}".format)
    return [f"  {line}" for line in text.splitlines()]
