"""The GPU's kernel, as far as it goes without a GPU: its numbers are in test_sequential."""

import contextlib
import re
import warnings

import jax
import jax.numpy as jnp
import pytest

from nnmm_jax.inference import native, pallas_sweep, sequential
from nnmm_jax.inference.blocks import effects
from nnmm_jax.inference.blocks.effects import SweepDraws, coordinate_sweep

CALL = "__gpu$xla.gpu.triton"


@pytest.fixture
def gpu():
    """Have JAX write programs for an NVIDIA GPU, which nothing can run here."""
    try:
        from jax.sharding import AbstractDevice, AbstractMesh, use_abstract_mesh
    except ImportError:  # older ones assume such a GPU where there is none
        device = contextlib.nullcontext()
    else:
        there = AbstractDevice("NVIDIA H100", None, "cuda")
        device = use_abstract_mesh(AbstractMesh((), (), abstract_device=there))
    with device, warnings.catch_warnings():
        # JAX means to leave Triton out of Pallas one day; XLA's loop does without then.
        warnings.filterwarnings("ignore", "The Pallas Triton backend", DeprecationWarning)
        yield


def lowered(function, *arguments, platform="cuda"):
    anew = jax.jit(lambda *given: function(*given))  # not what was traced before
    return anew.trace(*arguments).lower(lowering_platforms=(platform,)).as_text()


@pytest.mark.usefixtures("gpu", "double")
@pytest.mark.parametrize(
    ("size", "components", "own", "dtype", "warps"),
    [(20, 1, False, jnp.float32, 1), (1000, 3, True, jnp.float64, 8)],
)
def test_triton_takes_it(size, components, own, dtype, warps, sweep_arrays):
    text = lowered(pallas_sweep.sweep, sweep_arrays(size, components, own, dtype))
    assert text.count(CALL) == 1
    assert re.search(rf"num_warps = {warps} ", text)


def sweep_of(arrays):
    of_effects = (arrays.offset, arrays.gain, arrays.noise)
    draws = SweepDraws(*(jnp.moveaxis(one, 1, 0) for one in of_effects), arrays.half_precision)
    return coordinate_sweep(arrays.gram, arrays.rhs, arrays.coef, draws)


@pytest.mark.usefixtures("gpu")
def test_it_is_for_gpus_alone(monkeypatch, sweep_arrays):
    """With a GPU there, its programs have the kernel and the CPU's have not."""
    arrays = sweep_arrays(40, 1, False, jnp.float32)
    assert CALL not in lowered(sweep_of, arrays)
    monkeypatch.setattr(pallas_sweep, "available", lambda: True)
    assert CALL in lowered(sweep_of, arrays)
    assert CALL not in lowered(sweep_of, arrays, platform="cpu")
    monkeypatch.setattr(native, "available", lambda: False)
    assert CALL not in lowered(sweep_of, arrays, platform="cpu")
    monkeypatch.setattr(pallas_sweep, "LARGEST", 39)  # more effects do not fit
    assert CALL not in lowered(sweep_of, arrays)


class Device:
    def __init__(self, version):
        self.client = self
        self.platform_version = version


@pytest.mark.parametrize(
    ("backend", "version", "switch", "expected"),
    [
        ("gpu", "PJRT C API\ncuda 12090", "1", True),
        ("gpu", "PJRT C API\ncuda 12090", "0", False),
        ("gpu", "PJRT C API\nrocm 60300", "1", False),
        ("cpu", "cpu", "1", False),
    ],
)
def test_where_it_is_available(monkeypatch, backend, version, switch, expected):
    monkeypatch.setattr(jax, "default_backend", lambda: backend)
    monkeypatch.setattr(jax, "devices", lambda: [Device(version)])
    monkeypatch.setenv(sequential.SWITCH, switch)
    pallas_sweep.available.cache_clear()
    try:
        assert pallas_sweep.available() is expected
        if backend == "gpu":
            assert effects.is_quick() is expected
    finally:
        pallas_sweep.available.cache_clear()


def test_a_jax_without_it(monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    monkeypatch.setattr(jax, "devices", lambda: [Device("cuda 12090")])
    monkeypatch.setattr(pallas_sweep, "find_spec", lambda name: None)
    pallas_sweep.available.cache_clear()
    try:
        assert not pallas_sweep.available()
    finally:
        pallas_sweep.available.cache_clear()
