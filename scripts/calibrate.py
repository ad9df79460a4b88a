"""Calibrate the sampler on data drawn from the prior, for many networks.

Called by scripts/calibrate, which installs the package first. Nothing is computed here that the
package does not offer. Exit codes: 0; 1 if a test fails or coverage is off; 2 wrong input; 130
interrupted.
"""

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from nnmm_jax.cli import Parser, run_command
from nnmm_jax.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

FILES = ("ranks.csv", "quantities.csv", "coverage.csv", "calibration.png", "coverage.png")
CHECKS = ("ranks", "geweke", "coverage")


def build_parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="scripts/calibrate",
        description="Draws parameters and data from the prior of many small networks. "
        "ranks: of the true values among posterior draws, which must be uniform (simulation-based "
        "calibration; chi-square and ECDF). geweke: chains that draw parameters and data in turn, "
        "which must stay at the prior (two-sample Kolmogorov-Smirnov). coverage: of 90%% intervals "
        "of EBV, missing omics and new phenotypes, 87%% to 93%%, by the share of omics missing. "
        "Exit code 1 if any test of ranks or geweke fails at the family-wise error rate, coverage "
        "is off, or draws are not independent enough to be ranked.",
        allow_abbrev=False,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument(
        "--out", type=Path, default=Path("calibration"), metavar="DIR", help="folder to make"
    )
    parser.add_argument("--checks", default=",".join(CHECKS), metavar="NAMES", help="to make")
    parser.add_argument(
        "--only", default="", metavar="TEXT", help="configurations whose name has this in it"
    )
    parser.add_argument(
        "--error-rate", type=float, default=0.01, metavar="P",
        help="family-wise, over all tests of a run (Holm 1979)",
    )  # fmt: skip
    parser.add_counts(
        (
            ("simulations", 256, "data sets of each configuration"),
            ("warmup", 300, "sweeps discarded"),
            ("draws", 99, "that ranks are taken among; plus 1 a multiple of 20"),
            ("thin", 20, "sweeps from draw to draw"),
            ("geweke-simulations", 1024, "chains of geweke"),
            ("rounds", 20, "sweeps of geweke, each followed by new data"),
            ("seed", 1, "of everything"),
        )
    )
    parser.add_argument("--list", action="store_true", help="print the configurations and stop")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    options = build_parser().parse_args(arguments)
    failures: list[str] = []
    code = run_command("calibrate", lambda options: failures.extend(run(options)), options)
    for failure in failures:
        print(f"calibrate: {failure}", file=sys.stderr)
    return code or int(bool(failures))


def run(options: argparse.Namespace) -> list[str]:
    """Simulate, write, print, and return what fails."""
    from nnmm_jax.folders import check_new_folder, new_folder
    from nnmm_jax.reports import calibration_run as library
    from nnmm_jax.reports.calibration import CalibrationSettings
    from nnmm_jax.reports.calibration_figure import coverage_figure, rank_figure

    if options.list:
        print("\n".join([*library.CONFIGURATIONS, *library.COVERAGE]))
        return []
    check_new_folder(options.out)
    checks = [word.strip() for word in options.checks.split(",")]
    for check in checks:
        if check not in CHECKS:
            raise InputError(f"--checks: expected some of {', '.join(CHECKS)}, found {check!r}")
    if not 0 < options.error_rate < 1:
        raise InputError(f"--error-rate: expected one between 0 and 1, found {options.error_rate}")
    shared = {"warmup": options.warmup, "draws": options.draws, "thin": options.thin}
    settings = CalibrationSettings(options.simulations, seed=options.seed, **shared)
    of_geweke = CalibrationSettings(options.geweke_simulations, seed=options.seed, **shared)
    began = time.perf_counter()
    found = library.run(checks, options.only, settings, of_geweke, options.rounds, report)
    table = library.judged(found.table, options.error_rate)
    with new_folder(options.out, owned=FILES.__contains__) as folder:
        found.ranks.to_csv(folder / "ranks.csv", index=False)
        table.to_csv(folder / "quantities.csv", index=False, float_format="%.5g")
        found.coverage.to_csv(folder / "coverage.csv", index=False, float_format="%.5g")
        if len(found.ranks):
            rank_figure(found.ranks, options.draws).savefig(folder / "calibration.png", dpi=110)
        if len(found.coverage):
            coverage_figure(found.coverage).savefig(folder / "coverage.png", dpi=110)
    print_tables(library.by_configuration(table), found.coverage, options.error_rate, len(table))
    print(f"results: {options.out} ({time.perf_counter() - began:.0f} s)")
    return library.failures(table, found.coverage)


def report(what: str, seconds: float) -> None:
    print(f"{what}: {seconds:.0f} s", file=sys.stderr)


def print_tables(
    table: "pd.DataFrame", coverage: "pd.DataFrame", error_rate: float, tests: int
) -> None:
    if len(table):
        print(table.to_string(index=False, float_format=lambda value: f"{value:.2g}"))
        print(
            f"p: the smallest p-value of {tests} tests, adjusted for all of them (Holm); one below "
            f"{error_rate:g} fails."
        )
    if len(coverage):
        print(coverage.to_string(index=False, float_format=lambda value: f"{value:.3f}"))


if __name__ == "__main__":
    sys.exit(main())
