"""Activation functions of the middle layer and their expectations over the node residual.

An activation is one entry of :data:`ACTIVATIONS`; everything that depends on which one is used
(sampler, expected breeding value, simulator, command line) reads this table.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.scipy.stats import norm

from nnmm_jax.errors import InputError

LEAKY_SLOPE = 0.01  # slope of leaky relu below zero, as in the model page and NNMM.jl
_QUADRATURE_POINTS = 21  # tanh and sigmoid: relative error below 1e-4 for sd up to 3


@dataclass(frozen=True)
class Activation:
    """An elementwise function of the middle layer.

    Attributes
    ----------
    name : str
        Name used in :class:`~nnmm_jax.Network` and on the command line.
    function : callable
        ``g(z)``, elementwise on arrays of any shape.
    expectation : callable
        ``E[g(mean + sd * u)]`` with ``u ~ N(0, 1)``, elementwise on broadcastable arrays: closed
        form where there is one, Gauss-Hermite quadrature otherwise.
    symmetric : bool
        Whether ``g(-z) = constant - g(z)``: a latent node and its mirror image are then equally
        probable, and its sign is a convention.
    linear : bool
        Whether ``g`` is the identity, so that missing omics have a Gaussian conditional.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from nnmm_jax.network.activations import activation_by_name
    >>> relu = activation_by_name("relu")
    >>> round(float(relu.expectation(jnp.array(0.0), jnp.array(1.0))), 4)
    0.3989
    """

    name: str
    function: Callable[[Array], Array]
    expectation: Callable[[Array, Array], Array]
    symmetric: bool = False
    linear: bool = False


def gauss_hermite_expectation(
    function: Callable[[Array], Array], points: int = _QUADRATURE_POINTS
) -> Callable[[Array, Array], Array]:
    """Return ``(mean, sd) -> E[function(mean + sd * u)]`` by Gauss-Hermite quadrature.

    Parameters
    ----------
    function : callable
        Smooth elementwise function.
    points : int
        Number of quadrature points; a polynomial of degree ``2 * points - 1`` is exact.
    """
    nodes, weights = np.polynomial.hermite_e.hermegauss(points)
    weights = weights / weights.sum()

    def expectation(mean: Array, sd: Array) -> Array:
        # A loop over few points keeps memory at the size of ``mean``; XLA fuses it.
        total = weights[0] * function(mean + sd * nodes[0])
        for node, weight in zip(nodes[1:], weights[1:], strict=True):
            total = total + float(weight) * function(mean + sd * float(node))
        return total

    return expectation


def _relu_expectation(mean: Array, sd: Array) -> Array:
    """Mean of a rectified normal variable."""
    safe = jnp.where(sd > 0, sd, 1.0)
    value = mean * norm.cdf(mean / safe) + sd * norm.pdf(mean / safe)
    return jnp.where(sd > 0, value, jax.nn.relu(mean))


def _leaky(z: Array) -> Array:
    return jax.nn.leaky_relu(z, LEAKY_SLOPE)


def _leaky_expectation(mean: Array, sd: Array) -> Array:
    return LEAKY_SLOPE * mean + (1.0 - LEAKY_SLOPE) * _relu_expectation(mean, sd)


_ENTRIES = (
    Activation(
        "linear", lambda z: z, lambda mean, sd: mean + 0.0 * sd, symmetric=True, linear=True
    ),
    Activation("tanh", jnp.tanh, gauss_hermite_expectation(jnp.tanh), symmetric=True),
    Activation(
        "sigmoid", jax.nn.sigmoid, gauss_hermite_expectation(jax.nn.sigmoid), symmetric=True
    ),
    Activation("relu", jax.nn.relu, _relu_expectation),
    Activation("leakyrelu", _leaky, _leaky_expectation),
)

ACTIVATIONS: Mapping[str, Activation] = MappingProxyType({entry.name: entry for entry in _ENTRIES})


def activation_by_name(name: str) -> Activation:
    """Look an activation up.

    Raises
    ------
    InputError
        If the name is unknown; the message lists the choices.
    """
    try:
        return ACTIVATIONS[name.lower().replace("_", "").replace("-", "")]
    except KeyError:
        raise InputError(
            f"unknown activation {name!r}: choose one of {', '.join(ACTIVATIONS)}"
        ) from None
