"""Measure how well missing omics mix as their number grows.

Called by scripts/mixing, which installs the package first. Nothing is computed here that the
package does not offer. Exit codes: 0; 1 if a row misses the rule of nnmm_jax.reports.mixing.judge;
2 wrong input; 130 interrupted.
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

FILES = ("mixing.csv",)
FORMATS = {
    "alone_acceptance": ("accept.", "{:.3f}"),
    "alone_step": ("step", "{:.3f}"),
    "alone_divergences": ("div.", "{:.0f}"),
    "alone_ess_cell": ("ESS cell", "{:.0f}"),
    "alone_ess_sum": ("ESS sum", "{:.0f}"),
    "alone_rate": ("per s", "{:.0f}"),
    "acceptance": ("accept.", "{:.3f}"),
    "step": ("step", "{:.3f}"),
    "divergences": ("div.", "{:.0f}"),
    "ess_epv_missing": ("ESS EPV", "{:.0f}"),
    "ess_epv_measured": ("ESS EPV, measured", "{:.0f}"),
    "ess_h2": ("ESS h2", "{:.0f}"),
    "ess_residual": ("ESS var_e", "{:.0f}"),
    "rate": ("per s", "{:.0f}"),
}


def build_parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="scripts/mixing",
        description="Simulated data with a tanh network, some individuals without any omics: "
        "acceptance, step size, divergences and effective sample size per 1000 draws by the "
        "number of missing omics; of the block that moves them, alone, and of the whole sampler. "
        "Exit code 1 where acceptance is below 0.6, a trajectory diverges or the block alone "
        "gives less than 100.",
        allow_abbrev=False,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument(
        "--out", type=Path, default=Path("mixing"), metavar="DIR", help="folder to make"
    )
    parser.add_argument(
        "--dimensions",
        type=counts,
        default="10,100,1000",
        metavar="N,N,...",
        help="numbers of omics",
    )
    parser.add_argument(
        "--samplers",
        default="hmc,nuts,complete",
        metavar="NAME,...",
        help="of missing omics; complete: nothing is missing",
    )
    parser.add_argument(
        "--missing", type=float, default=0.3, metavar="SHARE", help="individuals without omics"
    )
    parser.add_counts(
        (
            ("individuals", 200, "simulated individuals"),
            ("markers", 200, "simulated markers"),
            ("warmup", 500, "sweeps discarded"),
            ("samples", 2000, "sweeps kept, of every chain"),
            ("chains", 2, "chains, run together"),
            ("seed", 1, "of the simulation and of the fits"),
        )
    )
    return parser


def counts(text: str) -> list[int]:
    return [int(part) for part in text.split(",")]


def main(arguments: Sequence[str] | None = None) -> int:
    options = build_parser().parse_args(arguments)
    missed: list[str] = []
    code = run_command("mixing", lambda options: missed.extend(run(options)), options)
    for miss in missed:
        print(f"mixing: missed: {miss}", file=sys.stderr)
    return code or int(bool(missed))


def run(options: argparse.Namespace) -> list[str]:
    """Measure, write, print, and return what misses its limit."""
    from nnmm_jax.folders import check_new_folder, new_folder

    check_new_folder(options.out)
    from nnmm_jax.reports.mixing import MISSED, MixingSettings, mixing

    names = ("individuals", "markers", "missing", "warmup", "samples", "chains", "seed")
    settings = MixingSettings(**{name: getattr(options, name) for name in names})
    began = time.perf_counter()
    table = mixing(settings, options.dimensions, options.samplers.split(","))
    with new_folder(options.out, owned=FILES.__contains__) as folder:
        table.to_csv(folder / "mixing.csv", index=False, float_format="%.7g")
    print_tables(table)
    print(f"results: {options.out} ({time.perf_counter() - began:.0f} s)")
    lost = table[table["verdict"] == MISSED]
    return [f"{one['sampler']}, {one['nodes']} missing omics" for _, one in lost.iterrows()]


def print_tables(table: "pd.DataFrame") -> None:
    """Print the block alone, then the whole sampler."""
    first = table[["nodes", "sampler"]]
    alone = [name for name in FORMATS if name in table and name.startswith("alone_")]
    rest = [name for name in FORMATS if name in table and name not in alone]
    for title, names in (("missing omics alone, all else fixed", alone), ("whole sampler", rest)):
        shown = first.copy()
        for name in names:
            label, form = FORMATS[name]
            shown[label] = ["-" if value != value else form.format(value) for value in table[name]]
        shown["verdict"] = table["verdict"]
        print(f"{title}:\n{shown.to_string(index=False)}\n")
    print(
        "ESS: per 1000 draws; the smallest of the cells and sums, the median of the EPV of "
        "individuals\nwithout and with omics. sum: of node effects times activated nodes. "
        "per s: sweeps of all chains together.\ncomplete: no omics missing, to compare."
    )


if __name__ == "__main__":
    sys.exit(main())
