"""The sequential part of a sweep over effects as machine code, compiled by numba, called by XLA.

Such a sweep is a chain of small steps: one comparison for an effect that stays what it is, one
vector update for an effect that changes. A loop of XLA's takes every step for all responses and
all effects of a block, and pays for starting it; machine code takes each response for itself and
skips what stays. Through XLA's foreign function interface a call costs a few microseconds.

Here is what JAX has to know; the machine code is in :mod:`nnmm_jax.inference.native_code`.
Without numba :func:`nnmm_jax.inference.blocks.effects.step_by_step` gives the same numbers up to
rounding.
"""

import ctypes
import re
from functools import lru_cache
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax import Array

from nnmm_jax.inference.sequential import batched_as_responses, switched_off
from nnmm_jax.threads import threads


def _interface_version() -> tuple[int, int] | None:
    """Version of XLA's C interface as its header states it; ``None`` without a header."""
    header = Path(jax.ffi.include_dir()) / "xla/ffi/api/c_api.h"
    if not header.is_file():
        return None
    text = header.read_text()
    found = [re.search(rf"#define XLA_FFI_API_{part} (\d+)", text) for part in ("MAJOR", "MINOR")]
    if not all(found):
        return None
    major, minor = (int(one.group(1)) for one in found if one)
    return major, minor


@lru_cache(maxsize=1)
def available() -> bool:
    """Whether the machine code can be used.

    It cannot without numba, with an interface of XLA's that is not the one described here, on a
    machine that is not a 64-bit one, or where the environment says ``NNMM_JAX_NATIVE=0``.
    """
    if switched_off() or ctypes.sizeof(ctypes.c_void_p) != 8:
        return False
    try:
        import numba  # noqa: F401
    except ImportError:
        return False
    version = _interface_version()
    return version is not None and version[0] == 0


_KEPT: list[Any] = []  # machine code must outlive every program that calls it


@lru_cache(maxsize=2)
def _target(dtype: np.dtype) -> str:
    """Name by which XLA knows the machine code for a precision."""
    name = f"nnmm_jax_sweep_{dtype.name}"
    from nnmm_jax.inference.native_code import handler

    version = _interface_version()
    assert version is not None
    compiled = handler(dtype.name, *version, threads())
    function = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_int64)(compiled[0].address)
    jax.ffi.register_ffi_target(name, jax.ffi.pycapsule(function), platform="cpu")
    _KEPT.extend((compiled, function))
    return name


def _call(grams: Array, extra: Array, *of_response: Array) -> Array:
    """As :func:`sweep` with (group, effect, effect) cross-products: responses in equal groups."""
    rhs = of_response[1]
    shape = jax.ShapeDtypeStruct(rhs.shape, rhs.dtype)
    name = _target(np.dtype(rhs.dtype))
    new, _ = jax.ffi.ffi_call(name, (shape, shape))(grams, extra, *of_response)
    return new


sweep = batched_as_responses(_call)
