"""Measure the warm-up that chains need from dispersed values and from a variational fit.

Called by scripts/warm_start, which installs the package first. Nothing is computed here that the
package does not offer. Exit codes: 0; 2 wrong input; 130 interrupted.
"""

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from nnmm_jax.cli import Parser, run_command

if TYPE_CHECKING:
    import pandas as pd

FILES = ("warm_start.csv",)
FORMATS = {
    "compilation": ("compiled", "{:.1f}"),
    "fit": ("fit", "{:.1f}"),
    "sweep": ("sweep", "{:.4f}"),
    "warmup": ("warm-up", "{:.0f}"),
    "ready": ("ready", "{:.1f}"),
    "discarded": ("best", "{:.0f}"),
    "ess": ("ESS", "{:.0f}"),
    "rate": ("per s", "{:.1f}"),
    "enough": ("400 ESS", "{:.1f}"),
}


def build_parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="scripts/warm_start",
        description="Simulated data: sweeps of warm-up that chains need from dispersed values and "
        "from draws of a variational fit (start='svi'), and effective draws a second of either.",
        allow_abbrev=False,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument(
        "--out", type=Path, default=Path("warm_start"), metavar="DIR", help="folder to make"
    )
    parser.add_argument("--cases", metavar="NAME;NAME;...", help="some of the cases")
    parser.add_counts(
        (
            ("individuals", 500, "simulated individuals"),
            ("markers", 1500, "simulated markers"),
            ("omics", 6, "simulated omics"),
            ("samples", 1000, "sweeps, of every chain"),
            ("chains", 4, "chains, run together"),
            ("seed", 1, "of the simulation and of the fits"),
        )
    )
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    return run_command("warm_start", run, build_parser().parse_args(arguments))


def run(options: argparse.Namespace) -> None:
    """Measure, write and print."""
    from nnmm_jax.folders import check_new_folder, new_folder

    check_new_folder(options.out)
    from nnmm_jax.reports.warm_start import CASES, WarmStartSettings, warm_start

    names = ("individuals", "markers", "omics", "samples", "chains", "seed")
    settings = WarmStartSettings(**{name: getattr(options, name) for name in names})
    cases = tuple(CASES) if options.cases is None else options.cases.split(";")
    began = time.perf_counter()
    table = warm_start(settings, cases)
    with new_folder(options.out, owned=FILES.__contains__) as folder:
        table.to_csv(folder / "warm_start.csv", index=False, float_format="%.7g")
    print_table(table)
    print(f"results: {options.out} ({time.perf_counter() - began:.0f} s)")


def print_table(table: "pd.DataFrame") -> None:
    """Print the rows, and what the columns are."""
    shown = table[["case", "start"]].copy()
    for name, (label, form) in FORMATS.items():
        shown[label] = [form.format(value) for value in table[name]]
    shown["slowest"] = table["slowest"]
    print(shown.to_string(index=False))
    print(
        "\ncompiled, fit: seconds of the variational fit, and seconds to compile it, which later "
        "fits\ndo not need. sweep: seconds, of all chains. warm-up: sweeps until all quantities "
        "are near their\nposterior means, slowest the last of them. ready: seconds until then. "
        "best: warm-up with which\nthe run has most effective draws. ESS: the smallest then. per "
        "s, 400 ESS: effective draws a\nsecond and seconds to 400 of them, the fit included."
    )


if __name__ == "__main__":
    sys.exit(main())
