"""The command ``nnmm predict``. Heavy imports are inside, as in :mod:`nnmm_jax.cli`."""

import argparse
import sys
from pathlib import Path
from typing import Any

from nnmm_jax.cli_flags import check_least
from nnmm_jax.errors import InputError
from nnmm_jax.folders import check_new_file, replacing

FEW_SAMPLES = 50  # sds of fewer have errors of more than a tenth


def add_predict(commands: "argparse._SubParsersAction[Any]") -> None:
    """Add the command."""
    parser = commands.add_parser(
        "predict",
        help="predict new individuals from the results of a fit",
        usage="nnmm predict DIR --genotypes G [--omics O] --out FILE [options]",
        description="Predict breeding values and phenotypes of new individuals, from genotypes "
        "alone or with some omics, by the folder of results that nnmm fit wrote. Nothing is fitted "
        "again.",
        allow_abbrev=False,
    )
    parser.add_argument("results", metavar="DIR", type=Path, help="folder that nnmm fit wrote")
    for name, value, needed, what in (
        ("genotypes", "G", True, "dosages of the fit's markers, of the same counted alleles"),
        ("omics", "O", False, "some of the fit's omics, holes allowed"),
        ("id-column", "NAME", False, "id column of both (default: the first column)"),
        ("activation", "FILE.py:NAME", False, "function of the fit, if it had one of yours"),
    ):
        parser.add_argument(f"--{name}", metavar=value, required=needed, help=what)
    parser.add_argument("--out", required=True, metavar="FILE", type=Path, help="csv file to write")
    parser.add_argument("--overwrite", action="store_true", help="replace FILE if it is there")
    parser.add_argument("--quiet", action="store_true", help="say nothing but errors and warnings")
    parser.add_argument(
        "--seed",
        type=int,
        default=0,
        metavar="S",
        help="of the draws of missing omics, for their part in the sds (default: 0)",
    )
    parser.set_defaults(run=_predict)


def _predict(options: argparse.Namespace) -> None:
    check_least(options, seed=0)
    if options.out.suffix != ".csv":
        raise InputError(f"--out {options.out}: expected a name that ends in .csv")
    check_new_file(options.out, overwrite=options.overwrite)
    from nnmm_jax.network.code_files import function_of_file
    from nnmm_jax.posterior.predict import (
        activation_of,
        check_predictable,
        predictions,
        random_terms_caution,
        read_new_data,
    )
    from nnmm_jax.posterior.result import load

    result = load(options.results)
    check_predictable(result)
    function = None if options.activation is None else function_of_file(options.activation)[0]
    activation = activation_of(result, function)
    new = read_new_data(result, options.genotypes, options.omics, id_column=options.id_column)
    table = predictions(result, new, activation, seed=options.seed)
    with replacing(options.out) as temporary:
        table.to_csv(temporary, index=False, float_format="%.7g")
    if caution := random_terms_caution(result):
        print(f"nnmm: warning: {caution}", file=sys.stderr)
    if (samples := result.parameters.sizes["sample"]) < FEW_SAMPLES:
        print(
            f"nnmm: warning: the fit kept {samples} samples for predictions, too few for sds: it "
            "keeps about every 25th draw of every chain, so fit with more --samples",
            file=sys.stderr,
        )
    if not options.quiet:
        print("\n".join(new.notes), file=sys.stderr)
        print(f"predictions of {len(table)} individuals, {samples} samples each: {options.out}")
