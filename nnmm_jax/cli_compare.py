"""The command ``nnmm compare``. Heavy imports are inside, as in :mod:`nnmm_jax.cli`."""

import argparse
from pathlib import Path
from typing import Any

from nnmm_jax.errors import InputError
from nnmm_jax.folders import check_new_file, replacing


def add_compare(commands: "argparse._SubParsersAction[Any]") -> None:
    """Add the command."""
    parser = commands.add_parser(
        "compare",
        help="put fits of the same data side by side",
        usage="nnmm compare DIR DIR... [--out FILE]",
        description="Compare fits of the same phenotypes, from the folders that nnmm fit wrote: "
        "expected log predictive density by leave-one-out cross-validation (PSIS-LOO), differences "
        "to the best with their standard errors, Pareto k that are too high, heritability, "
        "convergence, seconds.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "results", metavar="DIR", type=Path, nargs="+", help="folders that nnmm fit wrote"
    )
    parser.add_argument("--out", metavar="FILE", type=Path, help="csv file to write the table to")
    parser.add_argument("--overwrite", action="store_true", help="replace FILE if it is there")
    parser.set_defaults(run=_compare)


def _compare(options: argparse.Namespace) -> None:
    if len(options.results) < 2:
        raise InputError(f"expected two folders or more, found {options.results[0]} alone")
    if options.out is not None:
        if options.out.suffix != ".csv":
            raise InputError(f"--out {options.out}: expected a name that ends in .csv")
        check_new_file(options.out, overwrite=options.overwrite)
    names = [str(folder) for folder in options.results]
    if len(set(names)) < len(names):
        raise InputError("expected every folder once, found one twice; name each once")
    from nnmm_jax.posterior.result import load
    from nnmm_jax.reports.comparison import compare

    found = compare({name: load(name) for name in names})
    if options.out is not None:
        with replacing(options.out) as temporary:
            found.table.to_csv(temporary, index=False, float_format="%.7g")
    print(found)
