"""The sequential part of a sweep over effects as machine code, compiled by numba, called by XLA.

Such a sweep is a chain of small steps: one comparison for an effect that stays what it is, one
vector update for an effect that changes. A loop of XLA's takes every step for all responses and
all effects of a block, and pays for starting it; machine code takes each response for itself and
skips what stays. Through XLA's foreign function interface a call costs a few microseconds.

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

# Byte offsets in the structures of XLA's C interface, xla/ffi/api/c_api.h, major version 0, which
# promises not to move them.
_FRAME_EXTENSION, _FRAME_STAGE, _FRAME_ARGUMENTS, _FRAME_RESULTS = 8, 32, 72, 112
_EXTENSION_TYPE, _EXTENSION_METADATA = 8, 24
_METADATA_MAJOR, _METADATA_MINOR, _METADATA_TRAITS = 24, 28, 32
_BUFFER_DATA, _BUFFER_EXTENTS = 24, 40
_ASKS_FOR_METADATA, _EXECUTE = 1, 3


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


def _handler(dtype: np.dtype) -> Any:
    """Compile what XLA calls, for one precision."""
    import numba
    from numba import carray, cfunc, njit
    from numba.core import cgutils, types
    from numba.extending import intrinsic

    version = _interface_version()
    assert version is not None
    major, minor = version
    real = numba.from_dtype(dtype)
    zero = dtype.type(0)

    @intrinsic
    def pointer(typing_context: Any, address: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            return builder.inttoptr(arguments[0], cgutils.voidptr_t)

        return types.voidptr(address), generate

    @njit
    def word(address: int) -> int:
        return carray(pointer(address), (1,), np.int64)[0]

    @njit
    def write(address: int, value: int) -> None:
        carray(pointer(address), (1,), np.int32)[0] = value

    @njit
    def number(address: int) -> int:
        return carray(pointer(address), (1,), np.int32)[0]

    @njit
    def extent(buffer: int, axis: int) -> int:
        return word(word(buffer + _BUFFER_EXTENTS) + 8 * axis)

    @njit
    def response(gram: Any, extra: Any, share: Any, rhs: Any, packed: Any, new: Any) -> None:
        """All effects of one response in order; ``rhs`` is changed."""
        size = rhs.shape[0]
        components = (packed.shape[0] - 1) // 4
        own_gram = extra.shape[0] > 0
        for j in range(size):
            square = gram[j, j]
            if own_gram:
                square += share * extra[j, j]
            old = packed[0, j]
            mine = rhs[j] + square * old
            power = mine * mine
            best, value = zero, zero
            for k in range(1, components + 1):
                score = packed[k, j] + packed[components + k, j] * power
                if score > best:
                    best = score
                    value = mine * packed[2 * components + k, j] + packed[3 * components + k, j]
            new[j] = value
            change = value - old
            if change != zero:  # felt by later effects only: earlier ones have had their turn
                # Views counted from 0: an index that might be negative would not be vectorised.
                left, row = rhs[j + 1 :], gram[j, j + 1 :]
                if own_gram:
                    more = extra[j, j + 1 :]
                    for i in range(left.shape[0]):
                        left[i] -= (row[i] + share * more[i]) * change
                else:
                    for i in range(left.shape[0]):
                        left[i] -= row[i] * change

    def handler(frame: int) -> int:
        extension = word(frame + _FRAME_EXTENSION)
        if extension != 0 and number(extension + _EXTENSION_TYPE) == _ASKS_FOR_METADATA:
            metadata = word(extension + _EXTENSION_METADATA)
            write(metadata + _METADATA_MAJOR, major)
            write(metadata + _METADATA_MINOR, minor)
            write(metadata + _METADATA_TRAITS, 0)
            return 0
        if number(frame + _FRAME_STAGE) != _EXECUTE:
            return 0
        arguments, results = word(frame + _FRAME_ARGUMENTS), word(frame + _FRAME_RESULTS)
        at_grams, at_extra, at_share = word(arguments), word(arguments + 8), word(arguments + 16)
        at_rhs, at_packed = word(arguments + 24), word(arguments + 32)
        at_new, at_left = word(results), word(results + 8)
        groups, size, extra_size = extent(at_grams, 0), extent(at_grams, 1), extent(at_extra, 1)
        responses, rows = extent(at_rhs, 0), extent(at_packed, 1)
        grams = carray(pointer(word(at_grams + _BUFFER_DATA)), (groups, size, size), real)
        extra = carray(
            pointer(word(at_extra + _BUFFER_DATA)), (groups, extra_size, extra_size), real
        )
        share = carray(pointer(word(at_share + _BUFFER_DATA)), (responses,), real)
        rhs = carray(pointer(word(at_rhs + _BUFFER_DATA)), (responses, size), real)
        packed = carray(pointer(word(at_packed + _BUFFER_DATA)), (responses, rows, size), real)
        new = carray(pointer(word(at_new + _BUFFER_DATA)), (responses, size), real)
        left = carray(pointer(word(at_left + _BUFFER_DATA)), (responses, size), real)
        for one in range(responses):
            group = one * groups // responses
            left[one, :] = rhs[one]
            response(grams[group], extra[group], share[one], left[one], packed[one], new[one])
        return 0

    return cfunc(numba.int64(numba.int64))(handler)


_KEPT: list[Any] = []  # machine code must outlive every program that calls it


@lru_cache(maxsize=2)
def _target(dtype: np.dtype) -> str:
    """Name by which XLA knows the machine code for a precision."""
    name = f"nnmm_jax_sweep_{dtype.name}"
    compiled = _handler(dtype)
    function = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_int64)(compiled.address)
    jax.ffi.register_ffi_target(name, jax.ffi.pycapsule(function), platform="cpu")
    _KEPT.extend((compiled, function))
    return name


@jax.custom_batching.custom_vmap
def _call(grams: Array, extra: Array, share: Array, rhs: Array, packed: Array) -> Array:
    """As :func:`sweep` with (group, effect, effect) cross-products: responses in equal groups."""
    shape = jax.ShapeDtypeStruct(rhs.shape, rhs.dtype)
    name = _target(np.dtype(rhs.dtype))
    new, _ = jax.ffi.ffi_call(name, (shape, shape))(grams, extra, share, rhs, packed)
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


def sweep(gram: Array, extra: Array, share: Array, rhs: Array, packed: Array) -> Array:
    """Update effects one after the other, exactly, on their cross-products alone.

    Parameters
    ----------
    gram : (effect, effect)
    extra : (effect, effect) or (0, 0)
        What a response adds to the cross-products, times its share.
    share : (response,)
    rhs : (response, effect)
        Products of the covariates with the current residual.
    packed : (response, 1 + 4 components, effect)
        Current effects, then offset, slope, gain and noise of
        :class:`~nnmm_jax.inference.blocks.effects.SweepDraws`.

    Returns
    -------
    (response, effect)
        New effects.
    """
    return _call(gram[None], extra[None], share, rhs, packed)
