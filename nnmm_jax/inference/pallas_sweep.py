"""The sequential part of a sweep over effects as a kernel for GPUs, written in Pallas for Triton.

XLA's own loop launches several kernels a step, a few microseconds each, whatever their size. Here
one program takes a response through all effects of a block with its right-hand sides in registers.
It values all effects at once, as if nothing before them changed, finds the first that changes,
lets the later ones hear of it, and goes on from there: an effect that stays what it is, most of
them under a prior with a spike, costs no step. The numbers are those of a step an effect.
"""

from collections.abc import Callable
from functools import lru_cache, partial
from importlib.util import find_spec
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax

from nnmm_jax.inference.sequential import (
    SweepArrays,
    batched_as_responses,
    chosen,
    switched_off,
)

LARGEST = 4096  # effects in a block; more right-hand sides than that do not stay in registers
_WARP, _REGISTERS = 32, 8  # threads; 32-bit registers a thread is to use for one array
_MOST_WARPS = 16


@lru_cache(maxsize=1)
def available() -> bool:
    """Whether the kernel can be used.

    It cannot without an NVIDIA GPU, with a JAX that has no Pallas for Triton (which JAX means to
    leave out one day), or where the environment says ``NNMM_JAX_NATIVE=0``.
    """
    if switched_off() or jax.default_backend() != "gpu":
        return False
    # JAX says gpu for those of AMD too, where the kernel has never been compiled.
    version = getattr(jax.devices()[0].client, "platform_version", "")
    return "cuda" in version.lower() and find_spec("jax.experimental.pallas.triton") is not None


def _kernel(
    gram: Any,
    half_precision: Any,
    square: Any,
    rhs: Any,
    coef: Any,
    offset: Any,
    gain: Any,
    noise: Any,
    *of_own: Any,
) -> None:
    """One response: what it is given of each array, and last, where its new effects go."""
    from jax.experimental.pallas import triton

    *own, new = of_own  # cross-products of its own and their share, if there are any
    size, components = rhs.shape[0], offset.shape[0]
    lanes = jnp.arange(size, dtype=jnp.int32)
    start, old, squares = rhs[:], coef[:], square[:]
    offsets, gains, noises = (
        [whole[k] for k in range(components)] for whole in (offset, gain, noise)
    )
    slopes = [one * half_precision[...] for one in gains]

    def next_change(place: Array, left: Array, found: Array) -> tuple[Array, ...]:
        """Where the next change is (``size``: nowhere), the change, and new effects as found."""
        value = chosen(left + squares * old, offsets, slopes, gains, noises)
        change = value - old
        place = jnp.min(jnp.where((change != 0) & (lanes > place), lanes, size))
        here = lanes == place
        by = jnp.sum(jnp.where(here, change, jnp.zeros_like(change)))
        return place, by, left, jnp.where(here, value, found)

    def row(whole: Any, place: Array, later: Array) -> Array:
        return triton.load(whole.at[place], mask=later, other=0.0)

    def step(carry: tuple[Array, ...]) -> tuple[Array, ...]:
        place, change, left, found = carry
        later = lanes > place  # earlier effects have had their turn
        products = row(gram, place, later)
        if own:
            products = products + own[1][...] * row(own[0], place, later)
        return next_change(place, left - products * change, found)

    begin = next_change(jnp.int32(-1), start, old)
    new[:] = lax.while_loop(lambda carry: carry[0] < size, step, begin)[3]


def _blocks(shape: tuple[int, ...], rows: int) -> Any:
    """Part of an array that a response is given: its own, or that of its group of responses."""
    from jax.experimental import pallas

    each = rows // shape[0]  # responses in a group

    def index(response: Array) -> tuple[Any, ...]:
        return (lax.div(response, jnp.int32(each)), *[0] * (len(shape) - 1))

    return pallas.BlockSpec((None, *shape[1:]), index)


def _padded_call(interpret: bool, *arrays: Array) -> Array:
    """Call the kernel on arrays whose last axes are powers of 2."""
    from jax.experimental import pallas
    from jax.experimental.pallas import triton

    rhs = arrays[3]
    responses, width = rhs.shape
    warps = width * rhs.dtype.itemsize // (4 * _WARP * _REGISTERS)
    return pallas.pallas_call(
        _kernel,
        out_shape=jax.ShapeDtypeStruct(rhs.shape, rhs.dtype),
        grid=(responses,),
        in_specs=[_blocks(one.shape, responses) for one in arrays],
        out_specs=_blocks(rhs.shape, responses),
        compiler_params=triton.CompilerParams(
            num_warps=min(max(warps, 1), _MOST_WARPS), num_stages=1
        ),
        interpret=interpret,
        name="nnmm_jax_sweep",
    )(*arrays)


def _call(interpret: bool, grams: Array, extra: Array, *of_response: Array) -> Array:
    """As :func:`sweep` with (group, effect, effect) cross-products: responses in equal groups."""
    share, rhs, coef, offset, gain, noise, half_precision = of_response
    own = extra.shape[1] > 0
    each = rhs.shape[0] // grams.shape[0]
    square = jnp.repeat(jnp.diagonal(grams, axis1=1, axis2=2), each, axis=0)
    if own:
        more = jnp.diagonal(extra, axis1=1, axis2=2)
        square = square + share[:, None] * jnp.repeat(more, each, axis=0)
    size = rhs.shape[1]
    short = max(1 << (size - 1).bit_length(), _WARP) - size

    def padded(values: Array, axes: int = 1, filling: float = 0.0) -> Array:
        if not short:
            return values
        widths = [(0, 0)] * (values.ndim - axes) + [(0, short)] * axes
        return jnp.pad(values, widths, constant_values=filling)

    new = _padded_call(
        interpret,
        padded(grams, 2),
        half_precision,
        *map(padded, (square, rhs, coef)),
        padded(offset, filling=-jnp.inf),  # effects that only fill up stay zero
        padded(gain),
        padded(noise),
        *((padded(extra, 2), share) if own else ()),
    )
    return new[:, :size]


def make_sweep(*, interpret: bool = False) -> Callable[[SweepArrays], Array]:
    """Return the sweep as a function of its arrays.

    Parameters
    ----------
    interpret : bool
        Have the kernel's operations done by XLA, on any device: slowly, to see what it computes.

    Returns
    -------
    callable
        Takes :class:`~nnmm_jax.inference.sequential.SweepArrays`; returns the new effects
        (response, effect).
    """
    return batched_as_responses(partial(_call, interpret))


sweep = make_sweep()
