"""What a run says of the machine that it computes on."""

import pytest

from nnmm_jax.posterior import provenance
from nnmm_jax.posterior.provenance import header, hint


@pytest.fixture
def gpu(monkeypatch):
    found = {"platform": "gpu", "device": "NVIDIA H100", "precision": "float32"}
    monkeypatch.setattr(provenance, "machine", lambda: found)
    return found


@pytest.mark.parametrize(("quick", "said"), [(True, "a Pallas kernel"), (False, "XLA alone")])
def test_header_says_how_a_gpu_sweeps(gpu, quick, said):
    gpu["machine_code"] = quick
    assert header(4) == f"4 chains on NVIDIA H100, float32, sweeps by {said}"


@pytest.mark.usefixtures("gpu")
def test_small_data_are_for_the_cpu():
    assert "faster by the CPU (an estimate): set JAX_PLATFORMS=cpu" in hint(500, 1000, 4)
    assert hint(1055, 15_000, 1200) is None
    # Both grow with the markers, one alone with what there is to compute of each.
    assert hint(5000, 10_000, 20) is None
    assert hint(50, 10_000, 4) is not None


def test_nothing_is_said_on_a_cpu():
    assert hint(5, 10, 1) is None
