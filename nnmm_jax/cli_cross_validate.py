"""The command ``nnmm cross-validate``. Heavy imports are inside, as in :mod:`nnmm_jax.cli`."""

import argparse
import sys
from pathlib import Path
from typing import Any

from nnmm_jax.cli_flags import add_data_flags, add_network_flags, check_least, network_of, read_data
from nnmm_jax.cli_plan import add_sampler_flags
from nnmm_jax.errors import InputError
from nnmm_jax.folders import check_new_folder
from nnmm_jax.threads import use_threads


def add_cross_validate(commands: "argparse._SubParsersAction[Any]") -> None:
    """Add the command."""
    parser = commands.add_parser(
        "cross-validate",
        help="hide phenotypes, fit, and compare predictions with them",
        usage="nnmm cross-validate --genotypes G --omics O --phenotypes P --trait NAME [options]",
        description="Cross-validation: hide the phenotypes of one fold after the other, fit the "
        "network to the rest, and compare its predictions with what was hidden. Prints, by fold "
        "and on average, correlation, slope of observed on predicted, root mean squared error, log "
        "predictive density, coverage of 90% predictive intervals, and whether the fits have "
        "converged. Data and network have the flags of nnmm fit.",
        allow_abbrev=False,
    )
    add_data_flags(parser)
    folds = parser.add_argument_group("folds")
    folds.add_argument(
        "--folds",
        type=int,
        metavar="N",
        help="number of folds (default: 5; with --fold-column every label is a fold)",
    )
    folds.add_argument(
        "--fold-column",
        metavar="NAME",
        help="column of the phenotypes; individuals with the same value are hidden together. "
        "family, unless there is such a column: sire and dam of the pedigree",
    )
    folds.add_argument(
        "--repeats", type=int, default=1, metavar="N", help="how often to divide (default: 1)"
    )
    folds.add_argument(
        "--hide-omics",
        action="store_true",
        help="hide the omics of a fold too, so that genotypes alone predict",
    )
    output = parser.add_argument_group("output")
    output.add_argument("--out", metavar="DIR", type=Path, help="folder to make, with the tables")
    output.add_argument("--overwrite", action="store_true", help="replace earlier tables in DIR")
    output.add_argument("--quiet", action="store_true", help="say nothing of data and progress")
    add_network_flags(parser)
    add_sampler_flags(parser, keeps=False)
    parser.set_defaults(run=_cross_validate)


def _cross_validate(options: argparse.Namespace) -> None:
    check_least(options, warmup=0, samples=1, chains=1, latent=0, seed=0, folds=2, repeats=1)
    if options.threads is not None:
        use_threads(options.threads)
    if options.hide_omics and options.omics is None:
        raise InputError("--hide-omics: expected --omics to hide, found none; leave it out")
    if options.out is not None:
        check_new_folder(options.out, overwrite=options.overwrite)
    network = network_of(options)
    dataset = read_data(options, network)
    if not options.quiet:
        print("\n".join(dataset.report.lines()), file=sys.stderr)
    from nnmm_jax.reports.cross_validation import cross_validate

    found = cross_validate(
        dataset,
        network,
        folds=options.folds,
        by=options.fold_column,
        repeats=options.repeats,
        hide_omics=options.hide_omics,
        warmup=options.warmup,
        samples=options.samples,
        chains=options.chains,
        seed=options.seed,
        progress=not options.quiet,
        sampler=options.sampler,
        until_ess=options.until_ess,
        max_samples=options.max_samples,
    )
    if options.out is not None:
        found.write(options.out, overwrite=options.overwrite)
    print(found)
