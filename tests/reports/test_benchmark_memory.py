"""The table of predicted and measured memory, without the fits."""

import json
import sys
from types import SimpleNamespace

import pytest

from nnmm_jax import InputError
from nnmm_jax.data.sizes import Sizes
from nnmm_jax.inference.memory_plan import GIB
from nnmm_jax.reports import benchmark_memory
from nnmm_jax.reports.benchmark_memory import SETTINGS, MemorySetting, memory_table

SETTING = MemorySetting("tiny", Sizes(20, 10, 2), network={"skip_prior": "GBLUP"})


def children(monkeypatch, **found):
    """Processes that answer at once: by job, what they print, or an error."""

    def run(command, **_):
        assert command[0] == sys.executable
        job = "plan" if "child('plan'" in command[-1] else "fit"
        answer = found[job]
        failed = isinstance(answer, str)
        return SimpleNamespace(
            returncode=int(failed),
            stdout="" if failed else "noise\n" + json.dumps(answer),
            stderr=f"Traceback\n{answer}\n" if failed else "",
        )

    monkeypatch.setattr(benchmark_memory.subprocess, "run", run)


@pytest.mark.parametrize(
    ("measured", "within"), [(1.5, False), (1.7, True), (2.5, True), (2.8, False)]
)
def test_table_compares(monkeypatch, measured, within):
    children(
        monkeypatch,
        plan={"bytes": 2 * GIB, "phase": "sampling"},
        fit={"bytes": measured * GIB, "seconds": {}},
    )
    row = memory_table([SETTING]).iloc[0]
    assert (row["setting"], row["phase"], row["predicted_gb"]) == ("tiny", "sampling", 2.0)
    assert row["ratio"] == pytest.approx(2.0 / measured)
    assert row["within"] == within


def test_table__raises_on_a_fit_that_fails(monkeypatch):
    children(monkeypatch, plan={"bytes": 1, "phase": "result"}, fit="MemoryError: no room")
    with pytest.raises(InputError, match="fit of 'tiny': MemoryError: no room"):
        memory_table([SETTING])


def test_settings_differ_in_name_and_are_small_enough_to_run():
    assert len({one.name for one in SETTINGS}) == len(SETTINGS) >= 6
    assert max(one.sizes.individuals * one.sizes.markers for one in SETTINGS) < 2e8
