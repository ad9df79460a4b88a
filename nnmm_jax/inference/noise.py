"""Random arrays, drawn flat and reshaped: the same numbers, compiled ten times faster.

XLA on a CPU takes about two seconds to compile threefry for a two-dimensional array and 0.2 s for
a flat one; a sweep has a dozen such calls.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpyro.distributions as dist
from jax import Array, lax, random
from jax.scipy.linalg import solve_triangular

_BLOCKS = 2**30  # subkeys of blocks, beyond those of terms within a block


def _flat(
    draw: Callable[..., Array], key: Array, shape: tuple[int, ...], dtype: jnp.dtype
) -> Array:
    # Both words of a threefry block are used: half the work of numbers that could be drawn apart.
    with jax.threefry_partitionable(False):
        return draw(key, (math.prod(shape),), dtype).reshape(shape)


def of_block(key: Array, number: int) -> Array:
    """Key of a block of nodes; the first has the key itself, as if there were no blocks."""
    return key if number == 0 else random.fold_in(key, _BLOCKS + number)


def normal(key: Array, shape: tuple[int, ...], dtype: jnp.dtype) -> Array:
    """Standard normal variates."""
    return _flat(random.normal, key, shape, dtype)


def logistic(key: Array, shape: tuple[int, ...], dtype: jnp.dtype) -> Array:
    """Standard logistic variates, the logits of uniform ones."""
    return _flat(random.logistic, key, shape, dtype)


def uniform(key: Array, shape: tuple[int, ...], dtype: jnp.dtype) -> Array:
    """Uniform variates on [0, 1)."""
    return _flat(random.uniform, key, shape, dtype)


def gumbel(key: Array, shape: tuple[int, ...], dtype: jnp.dtype) -> Array:
    """Standard Gumbel variates."""
    return _flat(random.gumbel, key, shape, dtype)


def gamma(key: Array, shape: Array) -> Array:
    """Gamma variates of rate 1, one for each entry of ``shape`` (Marsaglia & Tsang 2000).

    JAX's own sampler goes entry by entry on a CPU: eight times slower for 50,000 entries. A shape
    that is not a positive number gives NaN.
    """
    flat = jnp.ravel(shape)
    valid = flat > 0
    # Below 1 the method does not apply: gamma(a) = gamma(a + 1) * uniform ** (1 / a).
    low = flat < 1
    d = jnp.where(valid, flat + low, 1.0) - 1.0 / 3.0
    c = 1.0 / jnp.sqrt(9.0 * d)
    key_power, key_draw = random.split(key)

    # A value below 0 is still to come. Nothing else may say so: XLA computes a condition that is
    # used twice twice, rounded differently, and "done" without a value would be the outcome.
    def propose(carry: tuple[Array, Array]) -> tuple[Array, Array]:
        key, value = carry
        key, key_x, key_u = random.split(key, 3)
        x = random.normal(key_x, flat.shape, flat.dtype)
        v = (1.0 + c * x) ** 3
        safe = jnp.where(v > 0, v, 1.0)
        bound = 0.5 * x**2 + d - d * v + d * jnp.log(safe)
        log_u = jnp.log(random.uniform(key_u, flat.shape, flat.dtype))
        accepted = (value < 0) & (v > 0) & (log_u < bound)
        return key, jnp.where(accepted, d * v, value)

    start = (key_draw, jnp.where(valid, jnp.asarray(-1.0, flat.dtype), jnp.nan))
    _, value = lax.while_loop(lambda carry: jnp.any(carry[1] < 0), propose, start)
    u = 1.0 - random.uniform(key_power, flat.shape, flat.dtype)
    power = jnp.where(low & valid, jnp.exp(jnp.log(u) / jnp.where(valid, flat, 1.0)), 1.0)
    return (value * power).reshape(shape.shape)


def inverse_gaussian(key: Array, mean: Array, shape: Array) -> Array:
    """Inverse Gaussian variates (Michael, Schucany & Haas 1976), without cancellation.

    Parameters
    ----------
    mean, shape : arrays of one shape
        The mean may be many orders of magnitude above the shape, as for an effect close to zero.
    """
    key_y, key_u = random.split(key)
    y = normal(key_y, mean.shape, mean.dtype) ** 2
    t = 0.5 * mean * y / shape
    # The two roots are mean / factor and mean * factor; the usual formula for the smaller one
    # subtracts nearly equal numbers.
    factor = 1.0 + t + jnp.sqrt(t) * jnp.sqrt(t + 2.0)
    smaller = uniform(key_u, mean.shape, mean.dtype) * (1.0 + 1.0 / factor) <= 1.0
    return jnp.where(smaller, mean / factor, mean * factor)


def draw_normal(key: Array, conditional: dist.Normal) -> Array:
    """Draw from independent normal distributions."""
    mean = conditional.loc
    return mean + conditional.scale * normal(key, conditional.batch_shape, mean.dtype)


class GaussianSystem(NamedTuple):
    """Normal equations of a batch of Gaussian conditionals, N(precision^-1 rhs, precision^-1)."""

    precision: Array
    rhs: Array

    @property
    def conditional(self) -> dist.MultivariateNormal:
        """The distribution itself."""
        mean = jnp.linalg.solve(self.precision, self.rhs[..., None])[..., 0]
        return dist.MultivariateNormal(mean, precision_matrix=self.precision)


def draw_gaussian(key: Array, system: GaussianSystem, after: Array) -> Array:
    """Draw from Gaussian conditionals by one factorisation and two solves, each after the other.

    The order matters: jaxlib's batched factorisations and solves block a worker thread each until
    other workers have done their parts, so two of them side by side on a machine of two cores
    wait for each other for ever. Each here needs the one before, and the first needs ``after``.

    Parameters
    ----------
    after : Array
        Anything computed from the last such draw of the sweep: this one then waits for it.
    """
    # Zero times a float is not simplified away (it may be NaN), so the order is kept.
    cholesky = jnp.linalg.cholesky(system.precision + 0.0 * jnp.sum(after))
    half = solve_triangular(cholesky, system.rhs[..., None], lower=True)
    half = half + normal(key, system.rhs.shape, system.rhs.dtype)[..., None]
    return solve_triangular(cholesky, half, lower=True, trans=1)[..., 0]
