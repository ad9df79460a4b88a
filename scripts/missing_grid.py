"""Simulate data, hide omics in many ways, fit them all and compare with ignoring omics.

Called by scripts/missing_grid, which installs the package first. Nothing is computed here that the
package does not offer. Exit codes: 0; 1 if a scenario is worse than ignoring omics by the rule of
nnmm_jax.reports.missing_verdict.judge; 2 wrong input; 130 interrupted.
"""

import argparse
import dataclasses
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from nnmm_jax.cli import Parser, run_command
from nnmm_jax.reports.missing_patterns import OTHERS, TRAINING_MISSING

if TYPE_CHECKING:
    import pandas as pd

FILES = ("fits.csv", "grid.csv", "grid.png", "settings.json")


def build_parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="scripts/missing_grid",
        description="Simulated data whose genetic effects all go through the omics: 0 to 100% of "
        "the training individuals without omics, with the omics of all test individuals (the "
        "youngest, without phenotype) measured or missing; scattered cells, blocks, rare features "
        "and the mixture. Compares EBV and EPV with the truth, and every scenario with ignoring "
        "omics. Exit code 1 if one is worse than that by more than 3 Monte Carlo errors.",
        allow_abbrev=False,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument(
        "--out", type=Path, default=Path("missing_grid"), metavar="DIR", help="folder to make"
    )
    parser.add_argument(
        "--training",
        type=percents,
        default=",".join(map(str, TRAINING_MISSING)),
        metavar="P,P,...",
        help="percent of the training individuals without any omics",
    )
    parser.add_argument(
        "--patterns",
        default=",".join(OTHERS),
        metavar="NAME,...",
        help="other patterns of missing omics; none to leave them out",
    )
    parser.add_priors(
        (
            ("marker", "marker effects on nodes, and on the trait where omics are ignored"),
            ("node", "node effects on the trait"),
        )
    )
    parser.add_counts(
        (
            ("replicates", 1, "data sets, with seeds from --seed on"),
            ("individuals", 3534, "simulated individuals"),
            ("test", 534, "the youngest of them, to be predicted"),
            ("markers", 1000, "simulated markers"),
            ("omics", 10, "simulated omics"),
            ("warmup", 1000, "sweeps discarded"),
            ("samples", 2000, "sweeps kept, of every chain"),
            ("chains", 4, "chains, run together"),
            ("seed", 1, "of the simulation and of the fits"),
        )
    )
    return parser


def percents(text: str) -> list[int]:
    return [int(part) for part in text.split(",")]


def main(arguments: Sequence[str] | None = None) -> int:
    options = build_parser().parse_args(arguments)
    worse: list[str] = []
    code = run_command("missing_grid", lambda options: worse.extend(run(options)), options)
    for scenario in worse:
        print(f"missing_grid: worse than ignoring omics: {scenario}", file=sys.stderr)
    return code or int(bool(worse))


def run(options: argparse.Namespace) -> list[str]:
    """Fit, write, print, and return the scenarios that are worse than ignoring omics."""
    from nnmm_jax.folders import check_new_folder, new_folder

    check_new_folder(options.out)
    from nnmm_jax import Network
    from nnmm_jax.inference.run import RunSettings
    from nnmm_jax.reports.missing_figure import grid_figure
    from nnmm_jax.reports.missing_grid import fit_grid, grid_simulation
    from nnmm_jax.reports.missing_patterns import scenarios
    from nnmm_jax.reports.missing_verdict import WORSE, judge

    sampler = {name: getattr(options, name) for name in ("warmup", "samples", "chains", "seed")}
    # Wrong settings are found here, before data are made.
    RunSettings(**sampler)
    patterns = [] if options.patterns == "none" else options.patterns.split(",")
    grid = scenarios(options.training, patterns)
    network = Network(marker_prior=options.marker_prior, node_prior=options.node_prior)
    settings = grid_simulation(
        individuals=options.individuals,
        test=options.test,
        markers=options.markers,
        omics=options.omics,
    )
    began = time.perf_counter()
    fits = fit_grid(settings, network, grid, replicates=options.replicates, **sampler)
    seconds = time.perf_counter() - began
    judged = judge(fits)
    about = {
        "training": options.training,
        "patterns": patterns,
        "simulation": dataclasses.asdict(settings),
        "marker_prior": options.marker_prior,
        "node_prior": options.node_prior,
        "replicates": options.replicates,
        **sampler,
    }
    with new_folder(options.out, owned=FILES.__contains__) as folder:
        fits.to_csv(folder / "fits.csv", index=False, float_format="%.7g")
        judged.to_csv(folder / "grid.csv", index=False, float_format="%.7g")
        grid_figure(judged).savefig(folder / "grid.png", dpi=130)
        (folder / "settings.json").write_text(json.dumps(about, indent=2) + "\n")
    print_grid(judged)
    print_losses(judged)
    print(f"results: {options.out} ({len(fits)} fits, {seconds:.0f} s)")
    lost = judged[judged["verdict"] == WORSE]
    return [describe(row) for _, row in lost.iterrows()]


def describe(row: "pd.Series") -> str:
    return (
        f"{row['pattern']}, {row['training_missing']}% of the training and {row['test_missing']}% "
        f"of the test individuals without omics: EBV accuracy {row['accuracy_ebv']:.4f}, "
        f"difference {row['difference']:+.4f} ± {row['difference_error']:.4f}"
    )


def print_grid(judged: "pd.DataFrame") -> None:
    """Print a row for each scenario, after the two ways of ignoring omics."""
    shown = judged[
        ["pattern", "model", "training_missing", "test_missing", "cells_missing"]
    ].set_axis(["omics missing", "model", "train %", "test %", "cells %"], axis=1)
    shown["cells %"] = judged["cells_missing"].map("{:.1f}".format)
    for kind in ("ebv", "epv"):
        shown[f"{kind.upper()} acc."] = judged[f"accuracy_{kind}"].map("{:.3f}".format)
        shown[f"{kind.upper()} slope"] = judged[f"slope_{kind}"].map("{:.2f}".format)
    shown["difference ± error"] = [
        "" if error != error else f"{difference:+.4f} ± {error:.4f}"
        for difference, error in zip(judged["difference"], judged["difference_error"], strict=True)
    ]
    shown["verdict"] = judged["verdict"]
    shown["R-hat"] = judged["r_hat"].map("{:.3f}".format)
    shown["ESS"] = judged["ess"].map("{:.0f}".format)
    print(shown.replace("nan", "-").to_string(index=False))
    print(
        "In the test individuals. difference: EBV accuracy minus that of the direct model; error: "
        "of the chains,\nor over replicates if larger. Rule: WORSE unless difference >= -3 errors; "
        "better if difference > 3 errors.\nlatent NN-MM: with no cell left, latent nodes take the "
        "place of the omics: the same model.\nR-hat, ESS: of h2 of the trait."
    )


def print_losses(judged: "pd.DataFrame") -> None:
    """Print how small a loss was seen, and how accuracy changes along the training axis."""
    from nnmm_jax.reports.missing_verdict import LIMIT, steps

    seen = LIMIT * judged.loc[judged["verdict"] != "", "difference_error"].max()
    print(f"A loss of more than {seen:.4f} would have been called worse in every scenario.")
    for test_missing, line in steps(judged).groupby("test_missing"):
        largest = line.loc[line["change"].abs().idxmax()]
        print(
            f"test {test_missing}% missing: EBV accuracy changes by {line['change'].sum():+.4f} "
            f"over the training axis, largest step {largest['change']:+.4f} "
            f"({largest['start']:.0f} to {largest['end']:.0f}%), "
            f"largest rise {max(0.0, line['change'].max()):.4f}"
        )


if __name__ == "__main__":
    sys.exit(main())
