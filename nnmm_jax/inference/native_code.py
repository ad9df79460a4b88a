"""Machine code of the sweep over effects, and of what XLA needs to call it. Needs numba.

Compiled once and kept on disk by numba, beside this file or in the user's cache folder.
"""

from typing import Any

import llvmlite.binding
import numba
import numpy as np
from llvmlite import ir
from numba import carray, cfunc, njit
from numba.core import cgutils, types
from numba.extending import intrinsic

# Byte offsets in the structures of XLA's C interface, xla/ffi/api/c_api.h, major version 0, which
# promises not to move them.
_FRAME_EXTENSION, _FRAME_STAGE, _FRAME_ARGUMENTS, _FRAME_RESULTS = 8, 32, 72, 112
_EXTENSION_TYPE, _EXTENSION_METADATA = 8, 24
_METADATA_MAJOR, _METADATA_MINOR, _METADATA_TRAITS = 24, 28, 32
_BUFFER_DATA, _BUFFER_EXTENTS = 24, 40
_ASKS_FOR_METADATA, _EXECUTE = 1, 3
# Effects that all responses go through before any goes on: their rows of the cross-products then
# stay in the processor's cache, and later effects hear of four changes at a time: nearly half of
# the time with 100 responses of 1,000 effects.
_TILE = 128
_VECTOR = 16
_LEAST = 4096  # effects of all responses for each thread: starting one takes some 20 microseconds


@intrinsic
def _pointer(typing_context: Any, address: Any) -> Any:
    """Take a whole number for an address."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.inttoptr(arguments[0], cgutils.voidptr_t)

    return types.voidptr(address), generate


def _alone(rhs: Any, gram: Any, j: int, change: Any, start: int, stop: int) -> None:
    """Let effects from start to stop feel one change."""
    # Views counted from 0: an index that might be negative would not be vectorised.
    left, row = rhs[start:stop], gram[j, start:stop]
    for i in range(left.shape[0]):
        left[i] -= row[i] * change


def _together(rhs: Any, gram: Any, changed: Any, change: Any, k: int, start: int) -> None:
    """Let effects from start on feel four changes, for one reading of what they have left."""
    left = rhs[start:]
    first, second = gram[changed[k], start:], gram[changed[k + 1], start:]
    third, fourth = gram[changed[k + 2], start:], gram[changed[k + 3], start:]
    a, b, c, d = change[k], change[k + 1], change[k + 2], change[k + 3]
    for i in range(left.shape[0]):
        left[i] -= (first[i] * a + second[i] * b) + (third[i] * c + fourth[i] * d)


def _response(
    gram: Any,
    extra: Any,
    share: Any,
    rhs: Any,
    coef: Any,
    offset: Any,
    gain: Any,
    noise: Any,
    half_precision: Any,
    new: Any,
    start: int,
    stop: int,
    changed: Any,
    change: Any,
) -> None:
    """Effects from start to stop of one response in order; ``rhs`` is changed, of later ones too.

    Shapes as in :class:`nnmm_jax.inference.sequential.SweepArrays`, without the response's axis.
    ``changed`` and ``change`` are room for those that change and by how much, and three more.
    """
    own_gram, count = extra.shape[0] > 0, 0
    for j in range(start, stop):
        square = gram[j, j]
        if own_gram:
            square += share * extra[j, j]
        old = coef[j]
        mine = rhs[j] + square * old
        power = mine * mine * half_precision
        best = power - power  # zeros of this precision
        value = best
        for k in range(offset.shape[0]):
            score = offset[k, j] + gain[k, j] * power
            if score > best:
                best = score
                value = mine * gain[k, j] + noise[k, j]
        new[j] = value
        if value != old:
            changed[count], change[count] = j, value - old
            # Felt by later effects only: earlier ones have had their turn. They are reached from
            # a whole vector on, so that none is left over.
            reached = j - j % _VECTOR
            _alone(rhs, gram, j, change[count], reached, stop)
            if own_gram:
                _alone(rhs, extra, j, share * change[count], reached, stop)
            count += 1
    if stop == rhs.shape[0]:
        return
    changed[count : count + 3], change[count : count + 3] = start, 0
    for k in range(0, count, 4):
        _together(rhs, gram, changed, change, k, stop)
        if own_gram:
            for i in range(k, k + 4):
                change[i] *= share
            _together(rhs, extra, changed, change, k, stop)


def _can_be_kept() -> bool:
    """Whether there is a folder that numba can write to."""
    try:
        njit(cache=True)(_response)
    except RuntimeError:
        return False
    return True


_KEEP = _can_be_kept()
_compiled = njit(cache=_KEEP)
_part_of = njit(cache=_KEEP, inline="always")
_alone, _together = _part_of(_alone), _part_of(_together)
_response = _compiled(_response)


@_compiled
def _word(address: int) -> int:
    return carray(_pointer(address), (1,), np.int64)[0]


@_compiled
def _number(address: int) -> int:
    return carray(_pointer(address), (1,), np.int32)[0]


@_compiled
def _write(address: int, value: int) -> None:
    carray(_pointer(address), (1,), np.int32)[0] = value


@_compiled
def _extent(buffer: int, axis: int) -> int:
    return _word(_word(buffer + _BUFFER_EXTENTS) + 8 * axis)


@_compiled
def _data(buffer: int) -> Any:
    return _pointer(_word(buffer + _BUFFER_DATA))


@_compiled
def _asked(frame: int, major: int, minor: int) -> bool:
    """Whether XLA asks for the sweep and not for something else, which is answered here."""
    extension = _word(frame + _FRAME_EXTENSION)
    if extension != 0 and _number(extension + _EXTENSION_TYPE) == _ASKS_FOR_METADATA:
        metadata = _word(extension + _EXTENSION_METADATA)
        _write(metadata + _METADATA_MAJOR, major)
        _write(metadata + _METADATA_MINOR, minor)
        _write(metadata + _METADATA_TRAITS, 0)
        return False
    return _number(frame + _FRAME_STAGE) == _EXECUTE


def _symbol(builder: Any, name: str) -> Any:
    """A function of one whole number that the linker is told of by its name."""
    word = ir.IntType(64)
    return cgutils.get_or_insert_function(builder.module, ir.FunctionType(word, [word]), name)


@intrinsic(prefer_literal=True)
def _address(typing_context: Any, name: Any) -> Any:
    """Address of a function that has such a name."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.ptrtoint(_symbol(builder, name.literal_value), ir.IntType(64))

    return types.int64(name), generate


@intrinsic(prefer_literal=True)
def _call(typing_context: Any, name: Any, argument: Any) -> Any:
    """Call it."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.call(_symbol(builder, name.literal_value), [arguments[1]])

    return types.int64(name, types.int64), generate


_start_thread: Any = types.ExternalFunction(
    "pthread_create", types.int32(types.intp, types.intp, types.intp, types.intp)
)
_join_thread: Any = types.ExternalFunction("pthread_join", types.int32(types.intp, types.intp))


def _can_start_threads() -> bool:
    return all(llvmlite.binding.address_of_symbol(f"pthread_{one}") for one in ("create", "join"))


def _compiled_part(name: str) -> Any:
    """Compile the sweep over some of the responses; its argument is where three words are.

    They are the address of XLA's call, the first response, and the one behind the last.
    """
    real = {"float32": numba.float32, "float64": numba.float64}[name]

    def part(words: int) -> int:
        frame, first, last = _word(words), _word(words + 8), _word(words + 16)
        arguments, results = _word(frame + _FRAME_ARGUMENTS), _word(frame + _FRAME_RESULTS)
        at_grams, at_extra, at_share = _word(arguments), _word(arguments + 8), _word(arguments + 16)
        at_rhs, at_coef = _word(arguments + 24), _word(arguments + 32)
        at_offset, at_gain = _word(arguments + 40), _word(arguments + 48)
        at_noise, at_precision = _word(arguments + 56), _word(arguments + 64)
        at_new, at_left = _word(results), _word(results + 8)
        groups, extra_size = _extent(at_grams, 0), _extent(at_extra, 1)
        responses, components, size = (
            _extent(at_offset, 0),
            _extent(at_offset, 1),
            _extent(at_offset, 2),
        )
        grams = carray(_data(at_grams), (groups, size, size), real)
        extra = carray(_data(at_extra), (groups, extra_size, extra_size), real)
        share = carray(_data(at_share), (responses,), real)
        rhs = carray(_data(at_rhs), (responses, size), real)
        coef = carray(_data(at_coef), (responses, size), real)
        offset = carray(_data(at_offset), (responses, components, size), real)
        gain = carray(_data(at_gain), (responses, components, size), real)
        noise = carray(_data(at_noise), (responses, components, size), real)
        precision = carray(_data(at_precision), (responses,), real)
        new = carray(_data(at_new), (responses, size), real)
        left = carray(_data(at_left), (responses, size), real)
        changed, change = np.empty(_TILE + 3, np.int64), np.empty(_TILE + 3, real)
        for one in range(first, last):
            left[one, :] = rhs[one]
        for group in range(groups):
            begin = max(first, group * responses // groups)
            end = min(last, (group + 1) * responses // groups)
            for start in range(0, size if begin < end else 0, _TILE):
                for one in range(begin, end):
                    _response(
                        grams[group],
                        extra[group],
                        share[one],
                        left[one],
                        coef[one],
                        offset[one],
                        gain[one],
                        noise[one],
                        precision[one],
                        new[one],
                        start,
                        min(start + _TILE, size),
                        changed,
                        change,
                    )
        return 0

    return cfunc(numba.int64(numba.int64), cache=_KEEP)(part)


def handler(name: str, major: int, minor: int, threads: int) -> tuple[Any, ...]:
    """Compile what XLA calls, for one precision.

    Parameters
    ----------
    name : str
        Of the precision: float32 or float64.
    major, minor : int
        Version of XLA's C interface.
    threads : int
        Over which responses are spread, where there is enough to do.

    Returns
    -------
    tuple
        numba's C function, whose ``address`` XLA may call, and what it calls: both as long as
        these objects live.
    """
    part = _compiled_part(name)
    symbol = f"nnmm_jax_sweep_part_{name}"
    llvmlite.binding.add_symbol(symbol, part.address)
    threads = threads if _can_start_threads() else 1

    def handle(frame: int) -> int:
        if not _asked(frame, major, minor):
            return 0
        at_offset = _word(_word(frame + _FRAME_ARGUMENTS) + 40)
        responses, size = _extent(at_offset, 0), _extent(at_offset, 2)
        parts = max(1, min(threads, responses, responses * size // _LEAST))
        words = np.empty((parts, 4), np.int64)  # a thread's own name, and what it is to do
        for number in range(parts):
            words[number, 0] = 0
            words[number, 1] = frame
            words[number, 2] = number * responses // parts
            words[number, 3] = (number + 1) * responses // parts
        base = words.ctypes.data
        for number in range(1, parts):
            place = base + 32 * number
            if _start_thread(place, 0, _address(symbol), place + 8) != 0:
                words[number, 1] = 0  # it did not start
        _call(symbol, base + 8)
        for number in range(1, parts):
            if words[number, 1] != 0:
                _join_thread(words[number, 0], 0)
            else:
                words[number, 1] = frame
                _call(symbol, base + 32 * number + 8)
        return 0

    return cfunc(numba.int64(numba.int64), cache=_KEEP)(handle), part
