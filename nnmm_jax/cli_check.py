"""The command ``nnmm check``. Heavy imports are inside, as in :mod:`nnmm_jax.cli`."""

import argparse
from typing import Any

from nnmm_jax.cli_flags import add_data_flags, read_tables


def add_check(commands: "argparse._SubParsersAction[Any]") -> None:
    """Add the command."""
    parser = commands.add_parser(
        "check",
        help="read the data, and print what a fit would use and leave out",
        usage="nnmm check --phenotypes P --trait NAME [--genotypes G] [--omics O] [options]",
        description="Read the tables as nnmm fit does, and print what a fit would use: counts, "
        "what quality control leaves out, and which ids have values in which table. Nothing is "
        "fitted or written.",
        allow_abbrev=False,
    )
    add_data_flags(parser)
    parser.add_argument("--quiet", action="store_true", help="print only errors")
    parser.set_defaults(run=_check)


def _check(options: argparse.Namespace) -> None:
    report = read_tables(options).report
    if options.quiet:
        return
    ids = report.ids
    notes = () if ids is None else ids.notes
    print("\n".join(line for line in report.lines() if line not in notes))
    if ids is not None:
        print("\nids (x: has values there)")
        print("\n".join(ids.lines()))
