"""Plant known faults in a copy of the package and see whether the tests catch them.

Called by scripts/mutants, which installs the package with its test tools first. The faults are in
mutants_table.py; the working tree is only read. Exit codes: 0 all are caught; 1 if one survives, if
its text is not in the package exactly once, if its tests do not run, or if they fail without a
fault; 2 wrong input; 130 interrupted.
"""

import argparse
import csv
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from mutants_table import MUTANTS, Mutant

from nnmm_jax.cli import Parser, run_command
from nnmm_jax.cli_flags import check_least
from nnmm_jax.errors import InputError, shortlist
from nnmm_jax.folders import check_new_file, replacing

ROOT = Path(__file__).resolve().parents[1]
COPIED = ("nnmm_jax", "tests", "scripts", "pyproject.toml")
CAUGHT, SURVIVED, STALE = "caught", "survived", "stale"
TIMED_OUT, NOT_RUN = "timed out", "not run"
_PASSED, _FAILED = 0, 1  # exit codes of pytest; all others mean that it could not do its work


@dataclass(frozen=True)
class Outcome:
    """What became of a mutant.

    Attributes
    ----------
    name : str
    verdict : str
        caught, survived, stale (its text is not in the file exactly once), not run (pytest could
        not run its tests), timed out.
    test : str
        The first test that failed.
    seconds : float
    said : str
        What the test said, in one line, or what pytest did.
    """

    name: str
    verdict: str
    test: str
    seconds: float
    said: str


def build_parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="scripts/mutants",
        description="Plants known faults of samplers, one at a time, in a copy of the package in "
        "a temporary folder, runs the tests that are meant to catch it, and says which test does. "
        "Before that the same tests run without a fault. Exit code 1 if a fault survives or is "
        "stale.",
        allow_abbrev=False,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--only", metavar="NAME,...", help="some faults instead of all")
    parser.add_argument("--list", action="store_true", help="list the faults and do nothing")
    parser.add_argument("--out", type=Path, metavar="FILE", help="csv file to write the table to")
    parser.add_argument("--overwrite", action="store_true", help="replace FILE if it is there")
    parser.add_counts(
        (
            ("jobs", 1, "faults at a time; a process takes up to 3 GB"),
            ("timeout", 600, "seconds for the tests of a fault"),
        )
    )
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    options = build_parser().parse_args(arguments)
    wrong: list[str] = []
    code = run_command("mutants", lambda options: wrong.extend(run(options)), options)
    for line in wrong:
        print(f"mutants: {line}", file=sys.stderr)
    return code or int(bool(wrong))


def run(options: argparse.Namespace) -> list[str]:
    """Plant, test, print and write; return a line for everything that is not as it should be."""
    check_least(options, jobs=1, timeout=1)
    chosen = choose(options.only)
    if options.list:
        for mutant in chosen:
            print(f"{mutant.name}: {mutant.what} ({mutant.file})")
        return []
    if options.out is not None:
        check_new_file(options.out, overwrite=options.overwrite)
    with tempfile.TemporaryDirectory(prefix="nnmm-mutants-") as scratch:
        workshop = Workshop(Path(scratch), options.timeout)
        began = time.perf_counter()
        failing = workshop.without_a_fault(chosen)
        if failing:
            return [f"fails without a fault: {test}" for test in failing]
        print(f"without a fault: all pass, {time.perf_counter() - began:.0f} s", flush=True)
        with ThreadPoolExecutor(options.jobs) as pool:
            outcomes = list(shown(pool.map(workshop.outcome, chosen)))
    caught = sum(one.verdict == CAUGHT for one in outcomes)
    print(f"{caught} of {len(outcomes)} faults caught, {time.perf_counter() - began:.0f} s in all")
    if options.out is not None:
        write(outcomes, options.out)
    return [f"{one.verdict}: {one.name} ({one.said})" for one in outcomes if one.verdict != CAUGHT]


def choose(names: str | None) -> list[Mutant]:
    """Return the mutants of some names, in the order of the table.

    Raises
    ------
    InputError
        If a name is unknown.
    """
    if names is None:
        return list(MUTANTS)
    wanted = set(names.split(","))
    if unknown := wanted - {mutant.name for mutant in MUTANTS}:
        raise InputError(
            f"--only: expected names that --list shows, found {shortlist(sorted(unknown))}"
        )
    return [mutant for mutant in MUTANTS if mutant.name in wanted]


def planted(mutant: Mutant, root: Path) -> str:
    """Text of the mutant's file with the fault.

    Raises
    ------
    InputError
        If the text to replace is not there exactly once: the table is stale.
    """
    text = (root / mutant.file).read_text(encoding="utf-8")
    if (count := text.count(mutant.old)) != 1:
        raise InputError(
            f"expected its text once in {mutant.file}, found it {count} times; "
            "mend scripts/mutants_table.py"
        )
    return text.replace(mutant.old, mutant.new)


@dataclass(frozen=True)
class Workshop:
    """A folder with a clean copy of the package, in which copies with faults are made and tested.

    Attributes
    ----------
    folder : Path
        Empty to begin with.
    timeout : float
        Seconds for the tests of a fault.
    """

    folder: Path
    timeout: float

    def without_a_fault(self, mutants: Iterable[Mutant]) -> list[str]:
        """Copy the package and run all tests without a fault; return those that do not pass.

        Compiled programs are kept: most of what a fault leaves as it is need not be compiled again.
        """
        clean = self.folder / "clean"
        clean.mkdir()
        for name in COPIED:
            source = ROOT / name
            if source.is_dir():
                ignored = shutil.ignore_patterns("__pycache__")
                shutil.copytree(source, clean / name, ignore=ignored)
            else:
                shutil.copy2(source, clean / name)
        tests = dict.fromkeys(test for mutant in mutants for test in mutant.tests)
        done = run_tests(clean, self._cache, list(tests))
        if done.returncode == _PASSED:
            return []
        return [test for test, _ in failures(done.stdout)] or [last_line(done)]

    @property
    def _cache(self) -> Path:
        return self.folder / "compiled"

    @contextmanager
    def _copy(self, name: str) -> Iterator[Path]:
        """Copies of the package and, as links, of compiled programs; both vanish afterwards."""
        copy = self.folder / name
        try:
            shutil.copytree(self.folder / "clean", copy)
            if self._cache.is_dir():
                shutil.copytree(self._cache, copy / "compiled", copy_function=os.link)
            yield copy
        finally:
            shutil.rmtree(copy, ignore_errors=True)

    def outcome(self, mutant: Mutant) -> Outcome:
        """Plant a fault in a copy of its own and run its tests until one fails."""
        began = time.perf_counter()
        test = ""
        with self._copy(mutant.name) as copy:
            try:
                (copy / mutant.file).write_text(planted(mutant, copy), encoding="utf-8")
                done = run_tests(copy, copy / "compiled", mutant.tests, "-x", timeout=self.timeout)
            except InputError as error:
                verdict, said = STALE, str(error)
            except subprocess.TimeoutExpired:
                verdict, said = TIMED_OUT, f"after {self.timeout:.0f} s"
            else:
                verdict = {_PASSED: SURVIVED, _FAILED: CAUGHT}.get(done.returncode, NOT_RUN)
                test, said = next(failures(done.stdout), ("", last_line(done)))
        return Outcome(mutant.name, verdict, test, time.perf_counter() - began, said)


def run_tests(
    root: Path, cache: Path, tests: Sequence[str], *more: str, timeout: float | None = None
) -> subprocess.CompletedProcess[str]:
    """Run tests of the copy in ``root``, with the package that is beside them.

    Raises
    ------
    subprocess.TimeoutExpired
        If they take longer than ``timeout`` seconds.
    """
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("PYTEST_")}
    settings = {
        "PYTHONPATH": str(root),
        "COLUMNS": "400",  # pytest cuts its summary off at the width of the terminal
        "JAX_COMPILATION_CACHE_DIR": str(cache),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
    }
    words = ["-q", "--no-header", "--tb=no", "-p", "no:cacheprovider", "-m", "", *more, *tests]
    return subprocess.run(
        [sys.executable, "-m", "pytest", *words],
        cwd=root,
        env=inherited | settings,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


def failures(output: str) -> Iterator[tuple[str, str]]:
    """Tests that failed and what they said, from pytest's summary."""
    for line in output.splitlines():
        word, _, rest = line.partition(" ")
        if word in ("FAILED", "ERROR"):
            test, _, said = rest.partition(" - ")
            yield test, said


def last_line(done: subprocess.CompletedProcess[str]) -> str:
    """Return the last thing that pytest said."""
    return (done.stdout.strip() or done.stderr.strip() or "pytest said nothing").splitlines()[-1]


def shown(outcomes: Iterable[Outcome]) -> Iterator[Outcome]:
    """Print outcomes as they come."""
    for one in outcomes:
        by = f" by {one.test}" if one.test else ""
        print(f"{one.verdict} {one.seconds:5.0f} s  {one.name}{by}", flush=True)
        yield one


def write(outcomes: Iterable[Outcome], file: Path) -> None:
    """Write a csv file with a row for each mutant, and what is wrong in it."""
    what = {mutant.name: {"what": mutant.what, "file": mutant.file} for mutant in MUTANTS}
    names = [field.name for field in fields(Outcome)]
    with replacing(file) as temporary, temporary.open("w", newline="", encoding="utf-8") as stream:
        table = csv.DictWriter(stream, ["name", "what", "file", *names[1:]], lineterminator="\n")
        table.writeheader()
        for one in outcomes:
            row = asdict(one) | {"seconds": f"{one.seconds:.1f}"}
            table.writerow(row | what[one.name])


if __name__ == "__main__":
    sys.exit(main())
