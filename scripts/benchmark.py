"""Measure the speed of the sampler and print tables.

Called by scripts/benchmark, which installs the package first. Nothing is computed here that the
package does not offer. Exit codes: 0, also where a figure is below what is asked, which the table
says; 2 wrong input; 130 interrupted.
"""

import argparse
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from nnmm_jax.cli import Parser, run_command
from nnmm_jax.errors import InputError
from nnmm_jax.threads import available_threads, use_threads

if TYPE_CHECKING:
    import pandas as pd

FORMATS = {
    "value": "{:,.0f}",
    "baseline_ms": "{:.2f}",
    "ours_ms": "{:.2f}",
    "times_faster": "{:.2f}",
    "kept_ms": "{:.2f}",
    "times_faster_kept": "{:.2f}",
    "times_bglr": "{:.1f}",
    "asked": "{:.1f}",
    "products_ms": "{:.2f}",
    "share_of_products": "{:.0%}",
    "compiled_s": "{:.1f}",
    "iteration_ms": "{:.2f}",
    "kernel_ms": "{:.2f}",
    "loop_ms": "{:.2f}",
    "cpu_ms": "{:.2f}",
    "spread": "{:.2f}",
    "loop_by_kernel": "{:.1f}",
    "cpu_by_gpu": "{:.2f}",
    "gflop": "{:.3g}",
    "gbyte": "{:.3g}",
    "share_of_roofline": "{:.1%}",
    "times_before": "{:.2f}",
    "iteration_s": "{:.2f}",
    "fastest_s": "{:.2f}",
    "threads_1_ms": "{:.2f}",
    "predicted_gb": "{:.2f}",
    "measured_gb": "{:.2f}",
    "ratio": "{:.2f}",
    "threads_ms": "{:.2f}",
    "speed_up": "{:.2f}",
    "samples": "{:.0f}",
    "chains": "{:.0f}",
}
PARTS = ("scale", "threads", "many-omics", "memory", "gpu")


def build_parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="scripts/benchmark",
        description="By default: whole iterations of the sampler beside one sweep of a "
        "marker-by-marker sampler compiled here (double precision, one trait a thread), in turns, "
        "as ratios of medians; and effective draws a second beside the same sampler.",
        allow_abbrev=False,
    )
    for name, what in (
        ("scale", "growth of an iteration's time with individuals, markers and omics instead"),
        ("threads", "speed-up from 1 thread to all instead"),
        ("many-omics", "1,055 individuals, 15,000 markers, 1,200 omics instead"),
        ("memory", "predicted and measured peak memory instead"),
        ("gpu", "a GPU beside the CPU by size, and beside its roofline, instead"),
    ):
        parser.add_argument(f"--{name}", action="store_true", help=what)
    parser.add_argument(
        "--repeats", type=int, default=5, metavar="N", help="of each measurement (default: 5)"
    )
    parser.add_argument("--out", type=Path, metavar="DIR", help="folder to make for csv and figure")
    parser.add_argument("--one", metavar="CASE", help=argparse.SUPPRESS)  # for --threads
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    options = build_parser().parse_args(arguments)
    return run_command("benchmark", run, options)


def run(options: argparse.Namespace) -> None:
    """Measure what is asked for, print it, and write it where there is a folder."""
    if options.one is not None:
        print(iteration_of(options.one, options.repeats))
        return
    chosen = [part for part in PARTS if getattr(options, part.replace("-", "_"))]
    if len(chosen) > 1:
        raise InputError(f"expected one of --{', --'.join(PARTS)}, found --{', --'.join(chosen)}")
    if options.repeats < 1:
        raise InputError(f"--repeats: expected at least 1, found {options.repeats}")
    from nnmm_jax.folders import check_new_folder, new_folder

    if options.out is not None:
        check_new_folder(options.out)
    if options.gpu:  # this process, which only asks for the GPU, is not to fill its memory
        os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    print(machine_line())
    began = time.perf_counter()
    measure: dict[str, Callable[[argparse.Namespace], dict[str, pd.DataFrame]]] = {
        "scale": scale,
        "threads": by_threads,
        "many-omics": many,
        "memory": memory,
        "gpu": on_gpu,
    }
    tables = measure[chosen[0]](options) if chosen else against_baseline(options)
    if options.out is not None:
        with new_folder(options.out, owned=lambda name: name.endswith((".csv", ".png"))) as folder:
            for name, table in tables.items():
                table.to_csv(folder / f"{name}.csv", index=False, float_format="%.7g")
            if "scale" in tables:
                from nnmm_jax.reports.benchmark_figure import growth_figure

                growth_figure(tables["scale"]).savefig(folder / "scale.png", dpi=150)
    print(f"{time.perf_counter() - began:.0f} s in all")


def machine_line() -> str:
    """Say where and with what the figures were measured."""
    from nnmm_jax.posterior.provenance import header, versions

    found = versions()
    return (
        f"{datetime.now(UTC):%Y-%m-%d}, {cpu_name()}, {header(1)}; Python {found['python']}, "
        f"jax {found['jax']}"
    )


def cpu_name() -> str:
    """Name of the processor, as the system says it."""
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def print_table(title: str, table: "pd.DataFrame") -> None:
    """Print with the formats of the columns."""
    shown = table.copy()
    for name in shown.columns:
        form = FORMATS.get(name, "{:.1f}")
        shown[name] = [_shown(value, form) for value in shown[name]]
    print(f"\n{title}\n{shown.to_string(index=False)}", flush=True)


def _shown(value: object, form: str) -> str:
    if value is None or value != value:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return value if isinstance(value, str) else form.format(value)


def against_baseline(options: argparse.Namespace) -> "dict[str, pd.DataFrame]":
    import pandas as pd

    from nnmm_jax.reports.benchmark import CASES, PER_DRAW, compare, effective

    table = pd.DataFrame([compare(case, repeats=options.repeats) for case in CASES])
    print_table(
        "BayesC, 3,534 individuals, 1,000 markers, 30% without omics: one whole iteration, "
        "milliseconds a chain,\nand one whose draw is kept with all that is reported of it, beside "
        "one sweep of the baseline over all traits\n(times_bglr: beside 3.0 ms a trait and thread, "
        "BGLR's sweep)",
        table,
    )
    draws = pd.DataFrame([effective(case) for case in PER_DRAW])
    if len(draws):
        print_table("effective draws a second of h2 and of EBVs (median), one trait", draws)
    return {"iterations": table, "effective": draws}


def scale(options: argparse.Namespace) -> "dict[str, pd.DataFrame]":
    import pandas as pd

    from nnmm_jax.reports.benchmark import growth, with_ratios

    table = with_ratios(pd.DataFrame(growth(repeats=options.repeats)))
    print_table("time of an iteration; times_before: relative to half the size", table)
    return {"scale": table}


def by_threads(options: argparse.Namespace) -> "dict[str, pd.DataFrame]":
    import pandas as pd

    from nnmm_jax.reports.benchmark import CASES

    rows = []
    for case in CASES[1:4:2]:
        times = [
            float(
                subprocess.run(
                    [sys.executable, __file__, "--one", f"{count}:{case.name}"],
                    capture_output=True,
                    text=True,
                    check=True,
                ).stdout
            )
            for count in (1, available_threads())
        ]
        rows.append(
            {
                "case": case.name,
                "threads_1_ms": times[0] * 1e3,
                "threads_ms": times[1] * 1e3,
                "speed_up": times[0] / times[1],
            }
        )
    table = pd.DataFrame(rows)
    print_table(f"an iteration with 1 thread and with {available_threads()}", table)
    return {"threads": table}


def iteration_of(one: str, repeats: int) -> float:
    """Seconds of an iteration of a case with a number of threads: ``COUNT:CASE``."""
    count, _, name = one.partition(":")
    use_threads(int(count))
    import numpy as np

    from nnmm_jax.reports.benchmark import CASES, SETTLING, Sampler

    case = next(case for case in CASES if case.name == name)
    ours = Sampler(case.data(), case, SETTLING, keeps=False)
    return float(np.median([ours.iteration() for _ in range(repeats)]))


def many(options: argparse.Namespace) -> "dict[str, pd.DataFrame]":
    import pandas as pd

    from nnmm_jax.reports.benchmark import MANY_OMICS, many_omics

    table = pd.DataFrame([many_omics(case, repeats=options.repeats) for case in MANY_OMICS])
    print_table("1,055 individuals, 15,000 markers, 1,200 omics, 30% without omics", table)
    return {"many_omics": table}


def memory(options: argparse.Namespace) -> "dict[str, pd.DataFrame]":
    from nnmm_jax.reports.benchmark_memory import LARGE, SETTINGS, memory_table

    table = memory_table([*SETTINGS, LARGE])
    print_table("peak memory, predicted and measured", table)
    return {"memory": table}


def on_gpu(options: argparse.Namespace) -> "dict[str, pd.DataFrame]":
    import jax
    import pandas as pd

    if jax.default_backend() != "gpu":
        raise InputError(
            f"--gpu: expected a GPU, found {jax.devices()[0].device_kind}; install jax[cuda12] or "
            "jax[cuda13] where there is an NVIDIA GPU"
        )
    from nnmm_jax.reports.benchmark_gpu import BY_SIZE, LARGE, RUNS, compared, crossing

    by_size, large = (
        pd.DataFrame([compared(case, repeats=options.repeats) for case in cases])
        for cases in (BY_SIZE, LARGE)
    )
    what = (
        f"one iteration by the kernel, by XLA's loop and on the CPU, medians of {RUNS} processes; "
        "what the products with\nthe genotypes need at least, and the share of the time that this "
        "takes at the rates measured on this GPU"
    )
    print_table(f"BayesC, 2,000 individuals, 1,000 markers; {what}", by_size)
    print(crossing(by_size["case"].tolist(), by_size["cpu_by_gpu"].tolist()))
    print_table("1,055 individuals, 15,000 markers, 1,200 omics, the same", large)
    return {"gpu_by_size": by_size, "gpu_large": large}


if __name__ == "__main__":
    sys.exit(main())
