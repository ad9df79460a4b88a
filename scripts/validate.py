"""Cross-validate networks and baselines on a folder of real files and print one table.

Called by scripts/validate, which installs the package first. Nothing is computed here that the
package does not offer.
"""

import argparse
import dataclasses
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from nnmm_jax.cli import Parser, run_command
from nnmm_jax.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

    from nnmm_jax import Network
    from nnmm_jax.reports.validation import Method

COLUMNS = ("accuracy", "slope", "coverage", "width", "seconds", "R-hat", "ESS")


def build_parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="scripts/validate",
        description="Repeated K-fold cross-validation: phenotypes of a fold are hidden, once with "
        "its omics seen and once with them hidden too. Compares NN-MM, without and with a skip "
        "connection, with GBLUP on markers, ridge on omics and ridge on both. The network is "
        "linear with normal (RR-BLUP) priors everywhere unless options say otherwise: the same "
        "for every data set, not tuned to any.",
        allow_abbrev=False,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument(
        "--data",
        metavar="FOLDER",
        required=True,
        default=argparse.SUPPRESS,
        help="with genotypes.*, omics.* and phenotypes.*",
    )
    parser.add_argument(
        "--trait",
        metavar="NAME",
        required=True,
        default=argparse.SUPPRESS,
        help="column of the phenotypes",
    )
    parser.add_argument(
        "--activation",
        default="linear",
        metavar="NAME",
        help="linear, tanh, sigmoid, relu or leakyrelu",
    )
    parser.add_priors(
        (
            ("marker", "marker effects on nodes"),
            ("node", "node effects on the trait"),
            ("skip", "direct marker effects on the trait; none: only the network without them"),
        )
    )
    parser.add_counts(
        (
            ("folds", 5, "folds of a repeat"),
            ("repeats", 2, "times the folds are made anew"),
            ("warmup", 300, "sweeps discarded"),
            ("samples", 700, "sweeps kept, of every chain"),
            ("chains", 2, "chains, run together"),
            ("seed", 1, "of the folds and of the fits"),
        )
    )
    parser.add_argument(
        "--out",
        type=Path,
        metavar="CSV",
        default=argparse.SUPPRESS,
        help="file to make, one row a fit",
    )
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    options = build_parser().parse_args(arguments, argparse.Namespace(out=None))
    return run_command("validate", run, options)


def run(options: argparse.Namespace) -> None:
    if options.out is not None and options.out.exists():
        raise InputError(f"{options.out} exists already: choose another file for --out")
    if options.out is not None and not options.out.absolute().parent.is_dir():
        raise InputError(f"{options.out}: there is no such folder; make it first")
    methods = methods_of(options)
    from nnmm_jax import read_dataset
    from nnmm_jax.data.files import find_dataset_files
    from nnmm_jax.inference.run import RunSettings
    from nnmm_jax.reports.validation import cross_validate, summarise

    # Wrong settings are found here, before data are read.
    RunSettings(options.warmup, options.samples, options.chains, options.seed)
    files = find_dataset_files(options.data)
    dataset = read_dataset(files["genotypes"], files["omics"], files["phenotypes"], options.trait)
    print("\n".join(dataset.report.lines()), file=sys.stderr)
    began = time.perf_counter()
    table = cross_validate(
        dataset,
        methods,
        n_folds=options.folds,
        repeats=options.repeats,
        warmup=options.warmup,
        samples=options.samples,
        chains=options.chains,
        seed=options.seed,
    )
    if options.out is not None:
        table.to_csv(options.out, index=False)
    individuals = table.loc[table["repeat"] == 1].groupby("fold")["individuals"].first().sum()
    print(
        f"trait {options.trait}: {options.repeats} x {options.folds} folds of {individuals} "
        f"individuals, {time.perf_counter() - began:.0f} s"
    )
    print_table(summarise(table))


def methods_of(options: argparse.Namespace) -> "dict[str, Method]":
    from nnmm_jax import Network
    from nnmm_jax.reports.baselines import BASELINES

    network = Network(
        activation=options.activation,
        marker_prior=options.marker_prior,
        node_prior=options.node_prior,
    )
    methods: dict[str, Method] = {**BASELINES, network_name(network): network}
    if options.skip_prior.lower() != "none":
        skipping = dataclasses.replace(network, skip_prior=options.skip_prior)
        methods[network_name(skipping)] = skipping
    return methods


def network_name(network: "Network") -> str:
    return f"NN-MM, {network.activation}{'' if network.skip_prior is None else ', skip'}"


def print_table(summary: "pd.DataFrame") -> None:
    """Print accuracy ± standard error and the rest, a row for each method and scenario."""
    rows = [("", "method", *COLUMNS)]
    shown = ""
    for (method, scenario), found in summary.iterrows():
        sampled = found["r_hat"] == found["r_hat"]
        rows.append(
            (
                scenario if scenario != shown else "",
                method,
                f"{found['accuracy']:.3f} ± {found['accuracy_se']:.3f}",
                f"{found['slope']:.2f}",
                f"{found['coverage']:.3f}",
                f"{found['width']:.4g}",
                f"{found['seconds']:.1f}",
                f"{found['r_hat']:.3f}" if sampled else "-",
                f"{found['ess']:.0f}" if sampled else "-",
            )
        )
        shown = scenario
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        cells = [
            f"{cell:<{width}}" if column < 2 else f"{cell:>{width}}"
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        print("  ".join(cells).rstrip())
    print("accuracy ± standard error over folds; slope: ideal 1; coverage: ideal 0.9")


if __name__ == "__main__":
    sys.exit(main())
