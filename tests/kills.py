"""Start a run again and again, and kill it at random moments, until it has ended by itself."""

import os
import random
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

import nnmm_jax as nm
from nnmm_jax.posterior.result import GROUPS

SCRIPT = Path(__file__).with_name("killed_run.py")
_LONGEST = 300.0  # seconds until a process has written something new, on a busy machine


def start(folder: Path, samples: int, cache: Path) -> subprocess.Popen:
    """Start the run, or go on with it; compiled programs are shared by all processes."""
    environment = os.environ | {
        "NNMM_JAX_CACHE": str(cache),
        "PYTHONPATH": os.pathsep.join([str(SCRIPT.parents[1]), os.environ.get("PYTHONPATH", "")]),
    }
    words = [sys.executable, str(SCRIPT), str(folder), str(samples)]
    return subprocess.Popen(words, env=environment, stderr=subprocess.PIPE, text=True)


def newest(folder: Path) -> int:
    """Sweeps of the newest checkpoint."""
    names = (file.stem for file in (folder / "run").glob("0*.json"))
    return max((int(name) for name in names), default=-1)


def killed(folder: Path, samples: int, cache: Path, kills: int, delay: float, seed: int) -> int:
    """Kill the run so many times, or until it ends; return how often it was.

    Half of the kills come within ``delay`` seconds after the process has written a checkpoint, so
    that the run goes on; the others at any time, also before it has begun.
    """
    chance, count = random.Random(seed), 0
    while count < kills:
        process, before = start(folder, samples, cache), newest(folder)
        until = time.monotonic() + chance.uniform(0.0, 10.0)
        waits = count % 2 == 0
        latest = time.monotonic() + _LONGEST
        while process.poll() is None and time.monotonic() < (latest if waits else until):
            if waits and newest(folder) > before:
                break
            time.sleep(0.01)
        if waits:
            time.sleep(chance.uniform(0.0, delay))
        process.kill()
        _, said = process.communicate()
        if process.returncode == 0:
            return count
        assert process.returncode == -9, said
        count += 1
    return count


def finish(folder: Path, samples: int, cache: Path) -> nm.FitResult:
    """Let the run go on to its end."""
    process = start(folder, samples, cache)
    _, said = process.communicate()
    assert process.returncode == 0, said
    return nm.load(folder / "result")


def assert_same(one: nm.FitResult, two: nm.FitResult) -> None:
    """Bit for bit."""
    for group in GROUPS:
        first, second = one.groups[group], two.groups[group]
        assert set(first.variables) == set(second.variables)
        for name, value in first.variables.items():
            np.testing.assert_array_equal(value.values, second[name].values, err_msg=str(name))
