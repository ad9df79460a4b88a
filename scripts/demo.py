"""Fit a network to simulated data (or to a folder of real files) and print what came out.

Called by scripts/demo, which installs the package first. Nothing is computed here that the package
does not offer.
"""

import argparse
import dataclasses
import math
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from nnmm_jax.cli import Parser, run_command
from nnmm_jax.errors import InputError

if TYPE_CHECKING:
    from nnmm_jax import Dataset, FitResult, Network
    from nnmm_jax.network.simulate import Simulated

Row = tuple[str, str, str]  # quantity, value, what to compare it with


def build_parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="scripts/demo",
        description="Simulate families with genotypes, omics and phenotypes, hide some of them, "
        "fit a network and compare it with the truth. With --data: fit real files.",
        allow_abbrev=False,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument(
        "--data",
        metavar="FOLDER",
        default=argparse.SUPPRESS,
        help="genotypes.*, omics.* and phenotypes.* to fit instead of simulated ones",
    )
    parser.add_argument(
        "--trait",
        metavar="NAME",
        default=argparse.SUPPRESS,
        help="column of the phenotypes, with --data",
    )
    parser.add_argument(
        "--out", type=Path, default=Path("demo_results"), metavar="DIR", help="folder to make"
    )
    parser.add_argument(
        "--overwrite", action="store_true", help="replace the results of an earlier fit"
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
            ("skip", "direct marker effects on the trait; none to leave them out"),
        )
    )
    parser.add_counts(
        (
            ("warmup", 1000, "sweeps discarded"),
            ("samples", 2000, "sweeps kept, of every chain"),
            ("chains", 4, "chains, run together"),
            ("seed", 1, "of the simulation and of the fit"),
            ("individuals", 800, "simulated individuals"),
            ("markers", 1200, "simulated markers"),
        )
    )
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    options = build_parser().parse_args(arguments, argparse.Namespace(data=None, trait=None))
    return run_command("demo", run, options)


def run(options: argparse.Namespace) -> None:
    from nnmm_jax.reports.folder import check_results_folder, write_results

    if (options.data is None) != (options.trait is None):
        raise InputError("--data and --trait go together: a folder of files and a column of them")
    check_results_folder(options.out, overwrite=options.overwrite)
    from nnmm_jax import fit
    from nnmm_jax.inference.run import RunSettings

    # Wrong settings are found here, before data are made or read.
    RunSettings(options.warmup, options.samples, options.chains, options.seed)
    network = network_of(options)
    began = time.perf_counter()
    dataset, simulated, source = get_data(options)
    seconds = {"data": time.perf_counter() - began}
    print("\n".join(dataset.report.lines()), file=sys.stderr)
    result = fit(
        dataset,
        network,
        warmup=options.warmup,
        samples=options.samples,
        chains=options.chains,
        seed=options.seed,
    )
    seconds |= result.run["seconds"]
    result = dataclasses.replace(result, run={**result.run, **source})
    written = time.perf_counter()
    write_results(result, options.out, overwrite=options.overwrite)
    seconds["results"] = time.perf_counter() - written
    agreement = fit_rows(result) if simulated is None else truth_rows(result, simulated)
    print_table([*agreement, *chain_rows(result), *time_rows(seconds)])
    print(f"results: {options.out}")


def network_of(options: argparse.Namespace) -> "Network":
    from nnmm_jax import Network

    # the simulator gives omics and trait the effects of sex and batch
    terms = "~ sex + batch" if options.data is None else None
    skip = options.skip_prior
    return Network(
        activation=options.activation,
        marker_prior=options.marker_prior,
        node_prior=options.node_prior,
        skip_prior=None if skip.lower() == "none" else skip,
        fixed_omics=terms,
        fixed_trait=terms,
    )


def get_data(options: argparse.Namespace) -> "tuple[Dataset, Simulated | None, dict[str, object]]":
    """Data to fit, the simulation behind them if any, and what run.json should say of them."""
    from nnmm_jax import SimulationSettings, read_dataset, simulate
    from nnmm_jax.data.files import find_dataset_files

    if options.data is None:
        settings = SimulationSettings(
            individuals=options.individuals,
            markers=options.markers,
            activation=options.activation,
        )
        simulated = simulate(settings, options.seed)
        about = {"settings": dataclasses.asdict(settings), "seed": options.seed}
        return simulated.dataset(), simulated, {"simulation": about}
    files = find_dataset_files(options.data)
    if files["omics"] is None:
        raise InputError(f"data {options.data}: expected a file omics.*, found none")
    dataset = read_dataset(files["genotypes"], files["omics"], files["phenotypes"], options.trait)
    return dataset, None, {"files": {name: str(path) for name, path in files.items()}}


def truth_rows(result: "FitResult", simulated: "Simulated") -> list[Row]:
    from nnmm_jax.reports.agreement import compare_with_truth

    found = compare_with_truth(result, simulated.truth["individuals"]).loc["unphenotyped"]
    variances = simulated.truth["variances"].set_index("quantity")["realised"]
    return [
        (f"in the {found['individuals']:.0f} without phenotype:", "", ""),
        ("  accuracy of EBV (correlation with the truth)", f"{found['accuracy_ebv']:.3f}", ""),
        ("  accuracy of EPV", f"{found['accuracy_epv']:.3f}", ""),
        ("  slope of true on estimated EBV", f"{found['slope_ebv']:.3f}", "ideal 1"),
        ("  true EBV within the 90% interval", f"{found['coverage_ebv']:.3f}", "ideal 0.9"),
        *h2_rows(result, f"truth {variances['h2_trait']:.3f}"),
    ]


def fit_rows(result: "FitResult") -> list[Row]:
    from nnmm_jax.reports.agreement import in_sample_fit

    found, note = in_sample_fit(result), "in-sample fit, no validation"
    return [
        ("correlation of observed phenotypes with", "", ""),
        ("  EBV", f"{found['ebv']:.3f}", note),
        ("  EPV", f"{found['epv']:.3f}", note),
        ("  predicted phenotype", f"{found['y_pred']:.3f}", note),
        *h2_rows(result, ""),
    ]


def h2_rows(result: "FitResult", note: str) -> list[Row]:
    h2 = result.variance_components().set_index("component").loc["h2_trait"]
    return [
        ("h² of the trait, posterior mean", f"{h2['mean']:.3f}", note),
        ("  90% interval", f"{h2['q05']:.3f} to {h2['q95']:.3f}", ""),
    ]


def chain_rows(result: "FitResult") -> list[Row]:
    from nnmm_jax.posterior.diagnostics import ESS_LIMIT, R_HAT_LIMIT

    table = result.diagnostics()
    r_hat, ess = table["r_hat"].max(), table[["ess_bulk", "ess_tail"]].min(axis=None)
    return [
        (f"worst R-hat of {len(table)} identified quantities", f"{r_hat:.3f}", f"< {R_HAT_LIMIT}"),
        ("  smallest effective sample size", f"{ess:.0f}", f"> {ESS_LIMIT:.0f}"),
    ]


def time_rows(seconds: dict[str, float]) -> list[Row]:
    names = {"data": "data", "setup": "set-up", "warmup": "warm-up", "results": "tables, figures"}
    rows = [(f"  {names.get(name, name)}", f"{value:.1f}", "") for name, value in seconds.items()]
    return [("seconds", f"{math.fsum(seconds.values()):.1f}", ""), *rows]


def print_table(rows: list[Row]) -> None:
    widths = [max(len(row[column]) for row in rows) for column in range(2)]
    for quantity, value, note in rows:
        print(f"{quantity:<{widths[0]}}  {value:>{widths[1]}}  {note}".rstrip())


if __name__ == "__main__":
    sys.exit(main())
