"""Products of allele counts with real numbers in whole numbers: exact, and several times as fast.

A row of numbers becomes whole numbers of 24 bits, relative to its largest, and these three digits
of 8 bits. Products of digits with counts are sums of whole numbers, which a processor with
instructions for matrices of bytes forms many times as fast as sums of floats, and without
rounding. What is left is the rounding of the numbers themselves, 2**-24 of the largest: less than
the rounding of sums in single precision. The counts stay bytes.
"""

from functools import lru_cache, partial
from pathlib import Path

import jax
import jax.numpy as jnp
from jax import Array, lax

from nnmm_jax.inference.sequential import switched_off

_DIGIT = 256  # digits are from -128 to 127
_LARGEST = 127 * _DIGIT**2  # some way below three digits of 127: quotients are rounded
_SMALLEST = 1e-30  # rows that are smaller are zero: their unit would not be a normal number
_SUM_LIMIT = 2**31  # of a sum of products
_INSTRUCTIONS = "amx_int8"
_PROCESSOR = Path("/proc/cpuinfo")


@lru_cache(maxsize=1)
def available() -> bool:
    """Whether this machine forms such products faster than those of floats.

    It has been measured on CPUs with AMX alone, with versions of jaxlib that use it (from 0.10).
    The environment variable ``NNMM_JAX_NATIVE=0`` switches them off.
    """
    if switched_off() or jax.default_backend() != "cpu" or not _PROCESSOR.is_file():
        return False
    if tuple(int(part) for part in jax.__version__.split(".")[:2]) < (0, 10):
        return False
    return _INSTRUCTIONS in _PROCESSOR.read_text().split()


def fits(counts: int, largest: int) -> bool:
    """Whether sums over so many counts up to the largest are whole numbers of 32 bits."""
    return counts * largest * (_DIGIT // 2) < _SUM_LIMIT


@partial(jax.custom_jvp, nondiff_argnums=(2,))
def product(values: Array, counts: Array, axis: int) -> Array:
    """Sum over the last axis of values and one axis of counts.

    Parameters
    ----------
    values : (row, k) float
    counts : (k, m) or (m, k) int8
        At least 0.
    axis : int
        The axis of k.

    Returns
    -------
    (row, m)
        NaN where a row of ``values`` is not finite.
    """
    digits, unit = _digits(values)
    sums = _dot(digits, counts, axis, jnp.int32).astype(values.dtype)
    high, middle, low = jnp.split(sums, 3, axis=-2)
    return (high * _DIGIT**2 + (middle * _DIGIT + low)) * unit


@product.defjvp
def _product_jvp(
    axis: int, primals: tuple[Array, Array], tangents: tuple[Array, Array]
) -> tuple[Array, Array]:
    # Rounding has no slope; the product that it stands for is linear.
    values, counts = primals
    change = tangents[0]
    slope = _dot(change, counts.astype(change.dtype), axis, change.dtype)
    return product(values, counts, axis), slope


def _dot(values: Array, counts: Array, axis: int, dtype: jnp.dtype) -> Array:
    axes = (((values.ndim - 1,), (axis,)), ((), ()))
    return lax.dot_general(values, counts, axes, preferred_element_type=dtype)


def _digits(values: Array) -> tuple[Array, Array]:
    """Digits (3 * row, k), all high ones first, and the unit (row, 1) of the lowest."""
    largest = jnp.max(jnp.abs(values), axis=-1, keepdims=True)
    unit = jnp.where(largest < _SMALLEST, 1.0, largest) / _LARGEST
    whole = jnp.round(values / unit).astype(jnp.int32)
    low = _lowest(whole)
    whole = (whole - low) // _DIGIT
    middle = _lowest(whole)
    high = (whole - middle) // _DIGIT
    digits = jnp.concatenate([high, middle, low], axis=-2)
    return digits.astype(jnp.int8), unit


def _lowest(whole: Array) -> Array:
    half = _DIGIT // 2
    return ((whole + half) & (_DIGIT - 1)) - half
