"""Run the three experiments of the NN-MM paper and print ours beside the published accuracies.

Called by scripts/paper_experiments, which installs the package first. Nothing is computed here that
the package does not offer. Exit codes: 0; 1 if what the paper says is not seen, by the rules of
nnmm_jax.reports.paper_verdict; 2 wrong input; 130 interrupted.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nnmm_jax.cli import Parser, run_command
from nnmm_jax.errors import InputError
from nnmm_jax.folders import check_new_folder, new_folder
from nnmm_jax.reports.paper_published import LENGTHS, MODELS, RULES, SHARES, Chains

if TYPE_CHECKING:
    import pandas as pd

FILES = ("fits.csv", "experiment_1.csv", "experiment_2.csv", "experiment_3.csv", "settings.json")


def build_parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="scripts/paper_experiments",
        description="The experiments of Zhao, Zeng & Cheng 2022 (GENETICS 221, iyac034): 1, "
        "NN-GBLUP against the single-step approach of Christensen et al. 2021, by percent of the "
        "training individuals without omics; 2, a sigmoid against a linear network where the truth "
        "is a sigmoid; 3, BayesC against GBLUP on the paper's own data. For 1 and 2 data are "
        "simulated anew, so that levels differ from the published ones. Accuracy of breeding "
        "values in the youngest, who have no phenotype.",
        epilog=f"Exit code 1 where one of these does not hold, in experiment {RULES}. Sweeps "
        f"discarded and kept where not stated: {lengths_text()}.",
        allow_abbrev=False,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument(
        "--out", type=Path, default=Path("paper_experiments"), metavar="DIR", help="folder to make"
    )
    parser.add_argument(
        "--data",
        type=Path,
        default=argparse.SUPPRESS,
        metavar="DIR",
        help="the data set of experiment 3, with genotypes.*, omics.* and phenotypes.* (y, "
        "bv_true); without it that experiment is skipped",
    )
    parser.add_argument(
        "--experiments", type=numbers, default="1,2,3", metavar="N,N,...", help="which to run"
    )
    parser.add_argument(
        "--shares",
        type=numbers,
        default=",".join(map(str, SHARES)),
        metavar="P,P,...",
        help="percent of the training individuals without omics, in experiment 1",
    )
    parser.add_argument(
        "--variances",
        choices=("known", "estimated"),
        default="known",
        help="of the network in experiment 1: the true ones, as published, or estimated ones; the "
        "single-step approach always has the true ones",
    )
    parser.add_counts(
        (
            ("replicates", 10, "data sets of experiments 1 and 2, with seeds from --seed on"),
            ("patterns", 10, "missing patterns of experiment 3"),
            ("individuals", 1055, "simulated individuals"),
            ("test", 100, "the youngest, or last, individuals, to be predicted"),
            ("markers", 5000, "simulated markers"),
            ("omics", 1200, "simulated omics"),
            ("chains", 1, "chains, run together"),
            ("seed", 1, "of the simulation, the missing patterns and the fits"),
        )
    )
    parser.add_argument(
        "--selected",
        type=float,
        default=0.1,
        metavar="P",
        help="share of the males that become sires, by phenotype, in the simulated population; 1 "
        "for no selection (default: 0.1)",
    )
    for name, what in (("warmup", "discarded"), ("samples", "kept, of every chain")):
        parser.add_argument(
            f"--{name}", type=int, default=argparse.SUPPRESS, metavar="N", help=f"sweeps {what}"
        )
    return parser


def lengths_text() -> str:
    return ", ".join(
        f"{length.warmup} and {length.samples} in {number}" for number, length in LENGTHS.items()
    )


def numbers(text: str) -> list[int]:
    return [int(part) for part in text.split(",")]


def main(arguments: Sequence[str] | None = None) -> int:
    options = build_parser().parse_args(
        arguments, argparse.Namespace(data=None, warmup=None, samples=None)
    )
    missed: list[str] = []
    code = run_command("paper_experiments", lambda options: missed.extend(run(options)), options)
    for sentence in missed:
        print(f"paper_experiments: missed: {sentence}", file=sys.stderr)
    return code or int(bool(missed))


def run(options: argparse.Namespace) -> list[str]:
    """Fit, write, print, and return what was missed."""
    check_new_folder(options.out)
    parts = experiments(options)
    if 3 in options.experiments and options.data is None:
        print("experiment 3 is skipped: it needs the paper's own data set, see --data")
    if not parts:
        return []
    import pandas as pd

    from nnmm_jax.reports.paper_experiments import FITS
    from nnmm_jax.reports.paper_verdict import misses, summarise

    began = time.perf_counter()
    rows = []
    for part in parts.values():
        for row in part():
            rows.append(row)
            print(describe(row), file=sys.stderr, flush=True)
    fits = pd.DataFrame(rows, columns=list(FITS))
    table = summarise(fits)
    with new_folder(options.out, owned=FILES.__contains__) as folder:
        fits.to_csv(folder / "fits.csv", index=False, float_format="%.7g")
        for number, group in table.groupby("experiment"):
            path = folder / f"experiment_{number}.csv"
            group.to_csv(path, index=False, float_format="%.7g")
        about = {name: value for name, value in vars(options).items() if name != "out"}
        about["lengths"] = {number: vars(length) for number, length in lengths_of(options).items()}
        (folder / "settings.json").write_text(json.dumps(about, indent=2, default=str) + "\n")
    print_table(table)
    print(f"results: {options.out} ({len(fits)} fits, {time.perf_counter() - began:.0f} s)")
    return misses(fits)


def experiments(
    options: argparse.Namespace,
) -> dict[int, Callable[[], Iterator[dict[str, Any]]]]:
    """Experiments to run, by number; wrong settings are found here, before data are made."""
    from nnmm_jax.inference.run import RunSettings
    from nnmm_jax.reports import paper_experiments as paper
    from nnmm_jax.reports.paper_data import PaperSettings

    wanted = options.experiments
    if unknown := [number for number in wanted if number not in MODELS]:
        raise InputError(f"experiments must be of 1, 2, 3, got {unknown[0]}")
    for name in ("replicates", "patterns"):
        if getattr(options, name) < 1:
            raise InputError(f"{name} must be at least 1, got {getattr(options, name)}")
    if outside := [share for share in options.shares if not 0 <= share <= 99]:
        raise InputError(f"shares must lie in 0..99, got {outside[0]}")
    lengths = lengths_of(options)
    for length in lengths.values():
        RunSettings(**vars(length), seed=options.seed)
    names = ("individuals", "test", "markers", "omics", "selected")
    sizes = {name: getattr(options, name) for name in names}
    linear = PaperSettings(**sizes)
    sigmoid = PaperSettings(**sizes, activation="sigmoid")
    common: dict[str, Any] = {"seed": options.seed, "replicates": options.replicates}
    known = options.variances == "known"
    found: dict[int, Callable[[], Iterator[dict[str, Any]]]] = {}
    if 3 in wanted and options.data is not None:  # first: by far the shortest
        dataset = paper.read_paper_data(options.data)
        found[3] = lambda: paper.third_experiment(
            dataset,
            test=options.test,
            patterns=options.patterns,
            chains=lengths[3],
            seed=options.seed,
        )
    if 2 in wanted:
        found[2] = lambda: paper.second_experiment(sigmoid, chains=lengths[2], **common)
    if 1 in wanted:
        found[1] = lambda: paper.first_experiment(
            linear, options.shares, chains=lengths[1], known_variances=known, **common
        )
    return found


def lengths_of(options: argparse.Namespace) -> dict[int, Chains]:
    """Length of the fits of each experiment."""
    return {
        number: Chains(
            default.warmup if options.warmup is None else options.warmup,
            default.samples if options.samples is None else options.samples,
            options.chains,
        )
        for number, default in LENGTHS.items()
    }


def describe(row: dict[str, Any]) -> str:
    return (
        f"experiment {row['experiment']}, {row['missing']} missing, replicate {row['replicate']}, "
        f"{row['model']}: accuracy {row['accuracy']:.4f}, slope {row['slope']:.3f}, "
        f"{row['seconds']:.0f} s"
    )


def print_table(table: "pd.DataFrame") -> None:
    """Print two rows, one for each model, for each share or pattern of missing omics."""
    import pandas as pd

    rows = []
    for _, row in table.sort_values("experiment", kind="stable").iterrows():
        for letter in "ab":
            rows.append(
                {
                    "experiment": row["experiment"],
                    "omics missing": row["missing"],
                    "model": row[f"model_{letter}"],
                    "accuracy ± s.e.": pair(row, f"accuracy_{letter}", f"error_{letter}", ".3f"),
                    "published": f"{row[f'published_{letter}']:.3f}",
                    "slope ± s.e.": pair(row, f"slope_{letter}", f"slope_error_{letter}", ".2f"),
                    "difference ± s.e.": ""
                    if letter == "b"
                    else pair(row, "difference", "difference_error", "+.4f"),
                    "published ": "" if letter == "b" else f"{row['published_difference']:+.3f}",
                }
            )
    print(pd.DataFrame(rows).replace("nan", "-").to_string(index=False))
    print(
        "Accuracy: correlation of estimated and true breeding values in individuals without\n"
        "phenotype; mean over replicates and its standard error. slope: of true on estimated.\n"
        "published: means of 20 replicates (experiment 2: 10), GENETICS 221, iyac034."
    )


def pair(row: "pd.Series", value: str, error: str, form: str) -> str:
    """Value and error as text; of one replicate the value only."""
    shown = format(row[value], form)
    if row[error] != row[error]:
        return shown
    return f"{shown} ± {format(row[error], form.replace('+', ''))}"


if __name__ == "__main__":
    sys.exit(main())
