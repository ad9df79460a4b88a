"""The number of threads: said before the first computation, or refused."""

import subprocess
import sys

import pytest

from nnmm_jax import InputError, threads, use_threads

SCRIPT = """
import os
import nnmm_jax as nm
nm.use_threads(1)
import jax.numpy as jnp
jnp.ones(3).sum().block_until_ready()
nm.use_threads(1)
from nnmm_jax.posterior.provenance import header
print(header(2))
"""


@pytest.fixture(autouse=True)
def _restored(monkeypatch):
    monkeypatch.setenv("NPROC", "")


@pytest.mark.parametrize("count", [0, -1, 10**6, 1.5, True])
def test_use_threads__raises_on_other_counts(count):
    with pytest.raises(InputError, match="threads: expected a whole number from 1 to"):
        use_threads(count)


def test_use_threads__raises_after_the_first_computation(monkeypatch):
    monkeypatch.setattr(threads, "_has_computed", lambda: True)
    monkeypatch.setattr(threads, "available_threads", lambda: 4)
    with pytest.raises(InputError, match=r"started with 4 already; say use_threads\(2\) in a new"):
        use_threads(2)
    use_threads(4)


def test_one_thread_is_used_and_said():
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True, timeout=100
    )
    assert done.stdout.startswith("2 chains on 1 CPU thread, float32, sweeps by ")
