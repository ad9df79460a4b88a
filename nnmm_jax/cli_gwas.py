"""The command ``nnmm gwas``. Heavy imports are inside, as in :mod:`nnmm_jax.cli`."""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nnmm_jax.cli_predict import FEW_SAMPLES
from nnmm_jax.folders import check_new_folder

if TYPE_CHECKING:
    from nnmm_jax.reports.gwas import Gwas

_MOST_LINES = 10  # of a printed table


def add_gwas(commands: "argparse._SubParsersAction[Any]") -> None:
    """Add the command."""
    parser = commands.add_parser(
        "gwas",
        help="associate markers and windows of markers with nodes and trait",
        usage="nnmm gwas DIR --map FILE [--window SIZE] [--out FOLDER] [options]",
        description="Inclusion probabilities, window posterior probabilities of association, "
        "credible sets, and paths from marker over node to trait, with posterior rates of false "
        "discoveries, of the results that nnmm fit wrote. Nothing is fitted again.",
        allow_abbrev=False,
    )
    parser.add_argument("results", metavar="DIR", type=Path, help="folder that nnmm fit wrote")
    for name, value, what in (
        ("map", "FILE", "marker, chromosome, position, or PLINK's bim (default: the genotypes')"),
        ("genotypes", "G", "those of the fit (default: the file that the fit read)"),
        ("id-column", "NAME", "id column of a table of genotypes (default: as in the fit)"),
        ("activation", "FILE.py:NAME", "function of the fit, if it had one of yours"),
    ):
        parser.add_argument(f"--{name}", metavar=value, help=what)
    parser.add_argument(
        "--window",
        nargs="+",
        default=["10", "markers"],
        metavar="SIZE",
        help="'10 markers' (default); '500 kb' or '1 Mb' of a map in base pairs, '2 cM', '2 units' "
        "of the map; LD or 'LD 0.5': neighbours with at least this r2",
    )
    parser.add_argument(
        "--share",
        type=float,
        metavar="S",
        help="of the genetic variance that a window is to exceed (default: 1 / number of windows)",
    )
    parser.add_argument(
        "--fdr",
        type=float,
        default=0.05,
        metavar="Q",
        help="expected share of false discoveries among hits (default: 0.05)",
    )
    parser.add_argument(
        "--out", metavar="FOLDER", type=Path, help="folder to make (default: DIR/gwas)"
    )
    parser.add_argument(
        "--overwrite", action="store_true", help="replace an earlier association in FOLDER"
    )
    parser.add_argument("--quiet", action="store_true", help="say nothing but errors and warnings")
    parser.set_defaults(run=_gwas)


def _gwas(options: argparse.Namespace) -> None:
    from nnmm_jax.posterior.result import load
    from nnmm_jax.reports.folder import GWAS_FOLDER

    folder = options.results / GWAS_FOLDER if options.out is None else options.out
    result = load(options.results)
    check_new_folder(folder, overwrite=options.overwrite)
    from nnmm_jax.network.code_files import function_of_file

    function = None if options.activation is None else function_of_file(options.activation)[0]
    found = result.gwas(
        options.genotypes,
        options.map,
        window=" ".join(options.window),
        share=options.share,
        fdr=options.fdr,
        activation=function,
        id_column=options.id_column,
    )
    found.write(folder, overwrite=options.overwrite)
    if warning := result.convergence_warning:
        print(f"nnmm: warning: {warning}", file=sys.stderr)
    if found.draws < FEW_SAMPLES:
        print(
            f"nnmm: warning: the fit kept all marker effects of {found.draws} draws only, too few "
            "for probabilities near 0 or 1: it keeps about every 25th draw of every chain, so fit "
            "with more --samples",
            file=sys.stderr,
        )
    if not options.quiet:
        print("\n".join(_lines(found, folder)))


def _lines(found: "Gwas", folder: Path) -> list[str]:
    windows, hits = found.windows, found.hits()
    count = windows["window"].nunique()
    lines = [
        f"{count} windows of {found.window}; a window is to exceed {found.share:.3%} of the "
        f"genetic variance; {found.draws} draws, largest Monte Carlo error of a WPPA "
        f"{windows['wppa_error'].max():.3f}",
        f"windows at a posterior FDR of {found.fdr:g}: {len(hits)}",
    ]
    columns = ["response", "chromosome", "start", "end", "lead", "variance_share", "wppa"]
    lines += _text(hits.sort_values("wppa", ascending=False, kind="stable")[columns])
    markers = found.markers[found.markers["q_value"] <= found.fdr]
    lines.append(f"markers at a posterior FDR of {found.fdr:g}: {len(markers)}")
    columns = ["response", "marker", "chromosome", "position", "mean", "pip"]
    lines += _text(markers.sort_values("pip", ascending=False, kind="stable")[columns])
    paths = found.paths[found.paths["s_value"] <= found.fdr]
    lines.append(f"paths whose sign is known at a rate of {found.fdr:g}: {len(paths)}")
    columns = ["marker", "node", "mean", "q05", "q95", "probability", "lfsr"]
    lines += _text(paths.sort_values("lfsr", kind="stable")[columns])
    lines.append(f"credible sets: {len(found.credible_sets)}")
    return [*lines, f"tables and figures: {folder}"]


def _text(table: Any) -> list[str]:
    """First rows of a table as indented lines."""
    if not len(table):
        return []
    places = table.columns.intersection(["position", "start", "end"])
    shown = table.head(_MOST_LINES).assign(
        **{name: table[name].map("{:.10g}".format) for name in places}
    )
    text = shown.to_string(index=False, float_format="{:.4g}".format)
    return [f"  {line}" for line in text.splitlines()]
