"""Check on simulated data without omics that latent nodes stay identified.

Called by scripts/identifiability, which installs the package first. Nothing is computed here that
the package does not offer. Exit codes: 0; 1 if a limit of nnmm_jax.reports.identifiability is
missed; 2 wrong input; 130 interrupted.
"""

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nnmm_jax.cli import Parser, run_command
from nnmm_jax.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

FILES = ("identifiability.csv", "drift.png")
CHECKS = ("drift", "equality", "starts")
ACTIVATIONS = ("linear", "tanh")
START_CHAINS = 8


def build_parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="scripts/identifiability",
        description="Simulated data without omics. drift: one long chain of a latent network, "
        "linear and tanh; the spread of EBV in its last tenth within 5% of that in its first. "
        "equality: one latent linear node against BayesC of the phenotype, draws weighted to the "
        "same priors. starts: R-hat over 8 chains from very different starts. Exit code 1 if a "
        "limit is missed.",
        allow_abbrev=False,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument(
        "--out", type=Path, default=Path("identifiability"), metavar="DIR", help="folder to make"
    )
    parser.add_argument("--checks", default=",".join(CHECKS), metavar="NAMES", help="to make")
    parser.add_argument(
        "--activations",
        default=",".join(ACTIVATIONS),
        metavar="NAMES",
        help="of the networks of drift and starts",
    )
    parser.add_counts(
        (
            ("individuals", 300, "simulated individuals"),
            ("markers", 200, "simulated markers"),
            ("latent", 3, "latent nodes, but for equality, which has one"),
            ("iterations", 50_000, "sweeps kept of the chain of drift"),
            ("samples", 20_000, "sweeps kept of each of the 4 chains of equality"),
            (
                "start-samples",
                40_000,
                "sweeps kept of each of the 8 chains of starts (3 GB)",
            ),
            ("warmup", 5000, "sweeps discarded"),
            ("seed", 1, "of the simulation and of the fits"),
        )
    )
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    options = build_parser().parse_args(arguments)
    missed: list[str] = []
    code = run_command("identifiability", lambda options: missed.extend(run(options)), options)
    for miss in missed:
        print(f"identifiability: missed: {miss}", file=sys.stderr)
    return code or int(bool(missed))


def run(options: argparse.Namespace) -> list[str]:
    """Fit, write, print, and return what misses its limit."""
    from nnmm_jax.folders import check_new_folder, new_folder

    check_new_folder(options.out)
    checks = [word.strip() for word in options.checks.split(",")]
    for check in checks:
        if check not in CHECKS:
            raise InputError(f"--checks: expected some of {', '.join(CHECKS)}, found {check!r}")
    if options.iterations < 50:
        raise InputError(f"--iterations: expected at least 50, found {options.iterations}")
    if options.latent < 1:
        raise InputError(f"--latent: expected at least 1, found {options.latent}")
    from nnmm_jax import Network
    from nnmm_jax.inference.run import RunSettings
    from nnmm_jax.reports import identifiability as library
    from nnmm_jax.reports.identifiability_figure import drift_figure

    def settings(samples: int, chains: int) -> RunSettings:
        return RunSettings(options.warmup, samples, chains, options.seed, progress=False)

    # Wrong settings are found here, before data are made.
    long, equal = settings(options.iterations, 1), settings(options.samples, 4)
    spread = settings(options.start_samples, START_CHAINS)
    networks = {
        f"{name}, {options.latent} latent": Network(latent=options.latent, activation=name)
        for name in options.activations.split(",")
    }
    dataset = library.latent_data(
        individuals=options.individuals, markers=options.markers, seed=options.seed
    )
    began = time.perf_counter()
    rows: list[dict[str, Any]] = []
    traces = {}
    if "drift" in checks:
        for label, network in networks.items():
            found, traces[label] = library.drift(dataset, network, long, label)
            rows += found
            report(f"drift, {label}", began)
    if "equality" in checks:
        rows += library.equality(dataset, equal)
        report("equality", began)
    if "starts" in checks:
        for label, network in networks.items():
            rows += library.starts(dataset, network, spread, label)
            report(f"starts, {label}", began)
    table = library.table_of(rows)
    with new_folder(options.out, owned=FILES.__contains__) as folder:
        table.to_csv(folder / "identifiability.csv", index=False, float_format="%.7g")
        if traces:
            drift_figure(traces).savefig(folder / "drift.png", dpi=130)
    print_table(table)
    print(f"results: {options.out} ({time.perf_counter() - began:.0f} s)")
    lost = table[table["verdict"] == library.MISSED]
    return [
        f"{one['check']}, {one['model']}, {one['quantity']}: {one['value']:.4f}"
        for _, one in lost.iterrows()
    ]


def report(what: str, began: float) -> None:
    print(f"{what}: {time.perf_counter() - began:.0f} s", file=sys.stderr)


def print_table(table: "pd.DataFrame") -> None:
    shown = table.copy()
    for name in ("value", "error", "low", "high"):
        shown[name] = ["" if value != value else f"{value:.5g}" for value in table[name]]
    widths = {name: shown[name].str.len().max() for name in ("check", "model", "quantity")}
    for name, width in widths.items():
        shown[name] = shown[name].str.ljust(width)
    print(shown.to_string(index=False))
    print(
        "error: Monte Carlo, of the ratio of two tenths. Rows without limits are not judged: "
        "there the priors\nof the two models differ, so their posteriors do too."
    )


if __name__ == "__main__":
    sys.exit(main())
