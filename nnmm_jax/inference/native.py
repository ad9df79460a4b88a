"""The sequential part of a sweep over effects as machine code, compiled by numba, called by XLA.

Such a sweep is a chain of small steps: one comparison for an effect that stays what it is, one
vector update for an effect that changes. A loop of XLA's takes every step for all responses and
all effects of a block, and pays for starting it; machine code takes each response for itself and
skips what stays. Through XLA's foreign function interface a call costs a few microseconds.

Here is what JAX has to know; the machine code is in :mod:`nnmm_jax.inference.native_code`.
Without numba, and on a GPU, :func:`nnmm_jax.inference.blocks.effects.step_by_step` gives the same
numbers up to rounding.
"""

import ctypes
import os
import re
from functools import lru_cache
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

SWITCH = "NNMM_JAX_NATIVE"  # environment variable; 0: do without


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
    if os.environ.get(SWITCH, "1") == "0" or ctypes.sizeof(ctypes.c_void_p) != 8:
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
    compiled = handler(dtype.name, *version)
    function = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_int64)(compiled.address)
    jax.ffi.register_ffi_target(name, jax.ffi.pycapsule(function), platform="cpu")
    _KEPT.extend((compiled, function))
    return name


@jax.custom_batching.custom_vmap
def _call(grams: Array, extra: Array, *of_response: Array) -> Array:
    """As :func:`sweep` with (group, effect, effect) cross-products: responses in equal groups."""
    rhs = of_response[1]
    shape = jax.ShapeDtypeStruct(rhs.shape, rhs.dtype)
    name = _target(np.dtype(rhs.dtype))
    new, _ = jax.ffi.ffi_call(name, (shape, shape))(grams, extra, *of_response)
    return new


@_call.def_vmap
def _batched_call(size: int, batched: list[bool], *arguments: Array) -> tuple[Array, bool]:
    """Chains are more responses of the same cross-products, or of as many sets of them."""

    def whole(values: Array, has_axis: bool) -> Array:
        spread = values if has_axis else jnp.broadcast_to(values, (size, *values.shape))
        return spread.reshape(size * spread.shape[1], *spread.shape[2:])

    shared = not (batched[0] or batched[1]) and arguments[0].shape[0] == 1
    first = arguments[:2] if shared else map(whole, arguments[:2], batched[:2])
    new = _call(*first, *map(whole, arguments[2:], batched[2:]))
    return new.reshape(size, new.shape[0] // size, new.shape[1]), True


def sweep(
    gram: Array,
    extra: Array,
    share: Array,
    rhs: Array,
    coef: Array,
    offset: Array,
    gain: Array,
    noise: Array,
    half_precision: Array,
) -> Array:
    """Update effects one after the other, exactly, on their cross-products alone.

    Parameters
    ----------
    gram : (effect, effect)
    extra : (effect, effect) or (0, 0)
        What a response adds to the cross-products, times its share.
    share : (response,)
    rhs : (response, effect)
        Products of the covariates with the current residual.
    coef : (response, effect)
        Current effects.
    offset, gain, noise : (response, component, effect)
        Of :class:`~nnmm_jax.inference.blocks.effects.SweepDraws`.
    half_precision : (response,)

    Returns
    -------
    (response, effect)
        New effects.
    """
    of_response = (share, rhs, coef, offset, gain, noise, half_precision)
    return _call(gram[None], extra[None], *of_response)
