"""JAX's own random numbers, compiled straight through instead of as a loop over the rounds.

On a CPU JAX compiles the twenty rounds of Threefry (Salmon et al. 2011, SC '11) as a loop whose
every step goes through memory, and so pays tens of microseconds for a draw or a subkey however
small: a third of a sweep over small data. The numbers here are the same, bit for bit.
"""

import math

import jax
import jax.numpy as jnp
from jax import Array, lax, random
from jax.extend.random import define_prng_impl

_ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))
_PARITY = 0x1BD11BDA


def straight(key: Array) -> Array:
    """Return the same Threefry key, whose draws and subkeys are compiled straight through."""
    return random.wrap_key_data(random.key_data(key), impl=_STRAIGHT)


def _rounds(key: Array, x: Array, y: Array) -> tuple[Array, Array]:
    """Threefry of two words of 32 bits, 20 rounds."""
    words = (key[0], key[1], key[0] ^ key[1] ^ jnp.uint32(_PARITY))
    x, y = x + words[0], y + words[1]
    for block in range(5):
        for turn in _ROTATIONS[block % 2]:
            x = x + y
            y = (y << jnp.uint32(turn)) | (y >> jnp.uint32(32 - turn))
            y = y ^ x
        x = x + words[(block + 1) % 3]
        y = y + words[(block + 2) % 3] + jnp.uint32(block + 1)
    return x, y


def _words(key: Array, count: int) -> Array:
    """So many words of 32 bits, both of each block of Threefry."""
    half = -(-count // 2)
    first = lax.iota(jnp.uint32, half)
    second = first + jnp.uint32(half)
    if count % 2:  # the last one is padding
        second = jnp.where(first == half - 1, jnp.uint32(0), second)
    return jnp.concatenate(_rounds(key, first, second))[:count]


def _apart(key: Array, count: int) -> tuple[Array, Array]:
    """So many blocks of Threefry, each of which depends on its number alone."""
    number = lax.iota(jnp.uint32, count)
    return _rounds(key, jnp.zeros_like(number), number)


def _bits(key: Array, bit_width: int, shape: tuple[int, ...]) -> Array:
    size = math.prod(shape)
    if _partitionable():
        high, low = _apart(key, size)
        if bit_width == 64:
            return _joined(high, low).reshape(shape)
        found = high ^ low
    elif bit_width == 64:
        return _joined(*jnp.split(_words(key, 2 * size), 2)).reshape(shape)
    else:
        found = _words(key, size)
    if bit_width != 32:
        raise NotImplementedError(f"random numbers of {bit_width} bits")
    return found.reshape(shape)


def _partitionable() -> bool:
    return bool(jax.config.jax_threefry_partitionable)  # type: ignore[attr-defined]


def _joined(high: Array, low: Array) -> Array:
    return (high.astype(jnp.uint64) << jnp.uint64(32)) | low.astype(jnp.uint64)


def _split(key: Array, shape: tuple[int, ...]) -> Array:
    if _partitionable():
        return jnp.stack(_apart(key, math.prod(shape)), axis=-1).reshape(*shape, 2)
    return _words(key, 2 * math.prod(shape)).reshape(*shape, 2)


def _fold_in(key: Array, data: Array | int) -> Array:
    return jnp.stack(_rounds(key, jnp.uint32(0), jnp.asarray(data, jnp.uint32)))


def _seed(seed: Array) -> Array:
    raise NotImplementedError("make the key with jax.random.key, then call straight")


_STRAIGHT = define_prng_impl(
    key_shape=(2,),
    seed=_seed,
    split=_split,
    random_bits=_bits,
    fold_in=_fold_in,
    name="straight_threefry",
    tag="stf",
)
