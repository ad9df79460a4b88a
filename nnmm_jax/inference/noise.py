"""Random arrays, drawn flat and reshaped: the same numbers, compiled ten times faster.

XLA on a CPU takes about two seconds to compile threefry for a two-dimensional array and 0.2 s for
a flat one; a sweep has a dozen such calls.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
import numpyro.distributions as dist
from jax import Array, random
from jax.scipy.linalg import solve_triangular


def _flat(
    draw: Callable[..., Array], key: Array, shape: tuple[int, ...], dtype: jnp.dtype
) -> Array:
    return draw(key, (math.prod(shape),), dtype).reshape(shape)


def normal(key: Array, shape: tuple[int, ...], dtype: jnp.dtype) -> Array:
    """Standard normal variates."""
    return _flat(random.normal, key, shape, dtype)


def logistic(key: Array, shape: tuple[int, ...], dtype: jnp.dtype) -> Array:
    """Standard logistic variates, the logits of uniform ones."""
    return _flat(random.logistic, key, shape, dtype)


def uniform(key: Array, shape: tuple[int, ...], dtype: jnp.dtype) -> Array:
    """Uniform variates on [0, 1)."""
    return _flat(random.uniform, key, shape, dtype)


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
