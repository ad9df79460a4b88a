"""A GPU beside the CPU of the same machine, by size, and beside what the GPU could do at best.

Every figure comes from a process of its own, in turns, so that no device waits for another.
"""

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd

from nnmm_jax.errors import InputError
from nnmm_jax.inference.arrays import ModelData
from nnmm_jax.inference.sequential import SWITCH
from nnmm_jax.inference.state import State
from nnmm_jax.reports.benchmark import MANY_OMICS, REPEATS, Case, Sampler, seconds

WAYS: dict[str, dict[str, str]] = {  # what is set in the environment
    "kernel": {},
    "loop": {SWITCH: "0"},
    "cpu": {"JAX_PLATFORMS": "cpu"},
}
BY_SIZE = tuple(
    Case(f"{omics} omics", 2000, 1000, omics, prior="BayesC") for omics in (1, 4, 16, 64, 256)
)
LARGE = MANY_OMICS
RUNS = 2
_CALL = "from nnmm_jax.reports.benchmark_gpu import child; child({!r}, {})"


def least_work(data: ModelData, state: State) -> tuple[float, float]:
    """Operations and bytes that one iteration of all chains cannot do without.

    Counted are the two products with the genotypes, or with the eigenvectors that stand for them,
    which are read twice, and one reading of the cross-products of the blocks (two, where sums stand
    for complete individuals: the genotypes are then those of the others). Everything else, the
    sequential part of a sweep among it, is what an iteration takes beyond them.
    """
    flops = moved = 0.0
    layers = [*zip(data.omics, state.omics, strict=True), (data.trait, state.trait)]
    for arrays, layer in layers:
        for term in arrays.terms:
            grams = 0 if term.grams is None else term.grams.nbytes
            if term.incomplete is not None:  # a third product, with the cross-products
                assert term.grams is not None
                matrix, grams = term.incomplete.codes, 2 * grams
                flops += 2.0 * term.grams.size * layer.variance.size
            else:
                matrix = term.markers.codes if term.spectrum is None else term.spectrum.vectors
            flops += 4.0 * matrix.size * layer.variance.size
            moved += 2.0 * matrix.nbytes + grams
    return flops, moved


def roofline(*, size: int = 4096) -> tuple[float, float]:
    """Operations and bytes a second that this device reaches: a product of matrices, a copy."""
    square = jnp.ones((size, size), jnp.result_type(float))
    product, copy = jax.jit(lambda x: x @ x), jax.jit(lambda x: x + 1)
    best = []
    for program in (product, copy):
        call = partial(program, square)
        seconds(call)  # compiles
        best.append(min(seconds(call) for _ in range(REPEATS)))
    return 2.0 * size**3 / best[0], 2.0 * square.nbytes / best[1]


def measured(case: Case, *, repeats: int = REPEATS, sweeps: int = 5) -> dict[str, Any]:
    """Time an iteration of a case here, and say how near it is to what the device can do.

    Returns
    -------
    dict
        ``iteration_ms`` of all chains (median), ``compiled_s``, ``gflop`` and ``gbyte`` of
        :func:`least_work`, ``share_of_roofline`` (the time that these take at the rates of
        :func:`roofline`, the longer of both, by the time of the iteration), ``device``.
    """
    ours = Sampler(case.data(), case, sweeps)
    time = float(np.median([ours.iteration() for _ in range(repeats)]))
    flops, moved = least_work(ours.prepared.data, ours.state.chain)
    most_flops, most_moved = roofline()
    return {
        "iteration_ms": time * 1e3,
        "compiled_s": ours.compiled,
        "gflop": flops / 1e9,
        "gbyte": moved / 1e9,
        "share_of_roofline": max(flops / most_flops, moved / most_moved) / time,
        "device": jax.devices()[0].device_kind,
    }


def child(case: str, repeats: int) -> None:
    """Measure and print, for :func:`in_process`."""
    print(json.dumps(measured(Case(**json.loads(case)), repeats=repeats)))


def in_process(case: Case, environment: Mapping[str, str], *, repeats: int) -> dict[str, Any]:
    """:func:`measured` in a process of its own.

    Raises
    ------
    InputError
        If it fails, with the last line that it wrote.
    """
    call = _CALL.format(json.dumps(asdict(case)), repeats)
    done = subprocess.run(
        [sys.executable, "-c", call],
        capture_output=True,
        text=True,
        check=False,
        # The last line of an error is then the error.
        env={**os.environ, "JAX_TRACEBACK_FILTERING": "off", **environment},
    )
    if done.returncode:
        said = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        raise InputError(f"--gpu: expected {case.name} to run, found: {said[-1]}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def compared(case: Case, *, repeats: int = REPEATS, runs: int = RUNS) -> dict[str, Any]:
    """Time a case by the kernel, by XLA's loop and on the CPU, in turns, each ``runs`` times.

    Returns
    -------
    dict
        Of every way the median of its runs in milliseconds, ``spread`` (the longest by the
        shortest run of one way, at most), ratios to the kernel, and of the kernel's run what
        :func:`measured` says.
    """
    found = pd.DataFrame(
        {"way": way, **in_process(case, WAYS[way], repeats=repeats)}
        for _ in range(runs)
        for way in WAYS
    )
    times = found.groupby("way")["iteration_ms"]
    median = times.median()
    kernel = found[found["way"] == "kernel"]
    return {
        "case": case.name,
        **{f"{way}_ms": median[way] for way in WAYS},
        "spread": (times.max() / times.min()).max(),
        "loop_by_kernel": median["loop"] / median["kernel"],
        "cpu_by_gpu": median["cpu"] / median["kernel"],
        **{name: kernel[name].median() for name in ("gflop", "gbyte", "share_of_roofline")},
        "compiled_s": kernel["compiled_s"].median(),
    }


def crossing(names: Sequence[str], cpu_by_gpu: Sequence[float]) -> str:
    """Say from which of the sizes, in order, the GPU is the faster one for good.

    Examples
    --------
    >>> crossing(["1 omics", "4 omics", "16 omics"], [0.4, 0.9, 3.0])
    'the GPU is faster than the CPU from 16 omics on, not yet with 4 omics'
    """
    slower = [number for number, ratio in enumerate(cpu_by_gpu) if ratio < 1.0]
    if not slower:
        return f"the GPU is faster than the CPU with all sizes, from {names[0]} on"
    if slower[-1] + 1 == len(names):
        return f"the CPU is faster than the GPU up to {names[-1]}, the largest size"
    last, first = names[slower[-1]], names[slower[-1] + 1]
    return f"the GPU is faster than the CPU from {first} on, not yet with {last}"
