"""The comparison of a GPU with the CPU: what needs no GPU of it."""

import pandas as pd
import pytest
from jax import random

from nnmm_jax import InputError
from nnmm_jax.inference.prepare import prepare
from nnmm_jax.inference.sequential import SWITCH
from nnmm_jax.inference.start import start_state
from nnmm_jax.reports import benchmark_gpu
from nnmm_jax.reports.benchmark import Case
from nnmm_jax.reports.benchmark_gpu import WAYS, compared, crossing, in_process, least_work


def test_a_process_measures_and_counts():
    """Two products with 64 padded markers and 50 individuals for 2 nodes, in each of 2 chains."""
    case = Case("small", 50, 60, 2, chains=2)
    # Without products in whole numbers, for which some CPUs keep genotypes as bytes.
    found = in_process(case, {**WAYS["cpu"], SWITCH: "0"}, repeats=1)
    assert found["device"] == "cpu"
    assert found["gflop"] == pytest.approx(4 * 64 * 50 * 2 * 2 / 1e9)
    assert found["gbyte"] == pytest.approx((2 * 64 * 50 * 4 + 64 * 64 * 4) / 1e9)
    assert 0 < found["share_of_roofline"] < 1
    assert 0 < found["iteration_ms"] < found["compiled_s"] * 1e3


def test_work_where_sums_stand_for_complete_individuals():
    """180 of 600 individuals are incomplete; the third product is with the cross-products."""
    case = Case("sums", 600, 60, 2)
    prepared = prepare(case.data(), case.network)
    state = start_state(random.key(0), prepared.data, prepared.activation)
    flops, moved = least_work(prepared.data, state)
    assert flops == 2 * (2 * 64 * 180 + 64 * 64) * 2
    genotype = prepared.data.omics[0].terms[0].incomplete.codes.dtype.itemsize
    assert moved == 2 * (64 * 180 * genotype + 64 * 64 * 4)


def test_a_process__raises_on_what_does_not_run():
    with pytest.raises(InputError, match=r"--gpu: expected small to run, found: .*nowhere"):
        in_process(Case("small", 50, 60, 2), {"JAX_PLATFORMS": "nowhere"}, repeats=1)


def test_ways_are_compared_in_turns(monkeypatch):
    asked, factor = [], {"kernel": 1.0, "loop": 10.0, "cpu": 4.0}

    def fake(case, environment, *, repeats):
        way = next(way for way, given in WAYS.items() if given == environment)
        asked.append(way)
        time = factor[way] * (1.0 if len(asked) <= len(WAYS) else 1.5)
        rest = dict.fromkeys(("gflop", "gbyte", "share_of_roofline", "compiled_s"), factor[way])
        return {"iteration_ms": time, **rest}

    monkeypatch.setattr(benchmark_gpu, "in_process", fake)
    found = compared(Case("small"), repeats=3, runs=2)
    assert asked == [*WAYS, *WAYS]
    assert found["kernel_ms"] == pytest.approx(1.25)
    assert found["spread"] == pytest.approx(1.5)
    assert found["loop_by_kernel"] == pytest.approx(10.0)
    assert found["cpu_by_gpu"] == pytest.approx(4.0)
    assert pd.Series(found)["gflop"] == 1.0


@pytest.mark.parametrize(
    ("ratios", "said"),
    [
        ([2.0, 3.0, 4.0], "faster than the CPU with all sizes, from a on"),
        ([0.1, 0.2, 0.9], "the CPU is faster than the GPU up to c"),
        ([0.1, 2.0, 9.0], "from b on, not yet with a"),
        ([2.0, 0.5, 9.0], "from c on, not yet with b"),
    ],
)
def test_the_crossing_is_named(ratios, said):
    assert said in crossing(["a", "b", "c"], ratios)
