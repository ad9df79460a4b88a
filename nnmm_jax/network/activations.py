"""Activation functions of the middle layer and their expectations over the node residual.

An activation is one entry of :data:`ACTIVATIONS`, or made of a user's function by
:mod:`nnmm_jax.network.functions`; everything that depends on which one is used (sampler, expected
breeding value, simulator, command line) reads it from here.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.scipy.stats import norm

from nnmm_jax.errors import InputError
from nnmm_jax.network.parameters import Parameters

Theta: TypeAlias = Mapping[str, Array]
NO_THETA: Theta = MappingProxyType({})

LEAKY_SLOPE = 0.01  # slope of leaky relu below zero, as in the model page and NNMM.jl
_QUADRATURE_POINTS = 21  # tanh and sigmoid: relative error below 1e-4 for sd up to 3


class Units(NamedTuple):
    """User's units of the internal scale.

    Attributes
    ----------
    node_mean, node_sd : (node,)
        Of each node; 0 and 1 for latent nodes and without standardisation.
    trait_sd : scalar
    """

    node_mean: Array
    node_sd: Array
    trait_sd: Array


@dataclass(frozen=True, eq=False)
class Activation:
    """What becomes of the middle layer on its way to the phenotype.

    Attributes
    ----------
    name : str
        Name used in :class:`~nnmm_jax.Network` and on the command line.
    function : callable
        ``g(z, theta)`` of nodes (node, individual): elementwise, or, if it ``combines``, the one
        value (individual,) of all nodes, both in the user's units.
    expectation : callable
        ``E[g(mean + sd * u, theta)]`` with independent ``u ~ N(0, 1)``, for ``mean``
        (node, individual) and ``sd`` (node, 1): closed form where there is one, quadrature
        otherwise.
    symmetric : bool
        Whether ``g(-z) = constant - g(z)``: a latent node and its mirror image are then equally
        probable, and its sign is a convention.
    linear : bool
        Whether ``g`` is the identity, so that missing omics have a Gaussian conditional.
    combines : bool
        Whether one value takes the place of the whole sum of node effects.
    parameters : Parameters
        Theta and its priors; empty for most.
    alike : bool
        Whether ``g`` is the same for every node, so that it can be had of one node alone.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from nnmm_jax.network.activations import activation_by_name
    >>> relu = activation_by_name("relu")
    >>> round(float(relu.expectation(jnp.array(0.0), jnp.array(1.0), {})), 4)
    0.3989
    """

    name: str
    function: Callable[[Array, Theta], Array]
    expectation: Callable[[Array, Array, Theta], Array]
    symmetric: bool = False
    linear: bool = False
    combines: bool = False
    parameters: Parameters = field(default_factory=Parameters)
    alike: bool = False

    def features(self, z: Array, theta: Theta, units: Units) -> Array:
        """What node effects multiply, (node, individual) or, if it combines, (1, individual).

        Parameters
        ----------
        z : (node, individual)
            Internal scale, as is the value.
        """
        if not self.combines:
            return self.function(z, theta)
        value = self.function(units.node_mean[:, None] + units.node_sd[:, None] * z, theta)
        return value[None] / units.trait_sd

    def feature_of(
        self, z: Array, node: Array | int, value: Array, theta: Theta, units: Units
    ) -> Array:
        """What a node gives, (individual,), or all together if it combines, at another value.

        Parameters
        ----------
        z : (node, individual)
            Internal scale.
        node : int
        value : (individual,)
            In the place of that node's.
        """
        if self.alike:
            return self.function(value[None], theta)[0]
        features = self.features(z.at[node].set(value), theta, units)
        return features[0] if self.combines else features[node]

    def expected_features(self, mean: Array, sd: Array, theta: Theta, units: Units) -> Array:
        """Expectation of the features over normal nodes, independent given their means.

        Parameters
        ----------
        mean, sd : (node, individual) and (node, 1)
            Internal scale.
        """
        if not self.combines:
            return self.expectation(mean, sd, theta)
        location, scale = units.node_mean[:, None], units.node_sd[:, None]
        value = self.expectation(location + scale * mean, scale * sd, theta)
        return value[None] / units.trait_sd


def gauss_hermite_expectation(
    function: Callable[[Array, Theta], Array], points: int = _QUADRATURE_POINTS
) -> Callable[[Array, Array, Theta], Array]:
    """Return ``(mean, sd, theta) -> E[function(mean + sd * u, theta)]`` by quadrature.

    Parameters
    ----------
    function : callable
        Smooth elementwise function.
    points : int
        Number of quadrature points; a polynomial of degree ``2 * points - 1`` is exact.
    """
    nodes, weights = np.polynomial.hermite_e.hermegauss(points)
    weights = weights / weights.sum()

    def expectation(mean: Array, sd: Array, theta: Theta) -> Array:
        # A loop over few points keeps memory at the size of ``mean``; XLA fuses it.
        total = weights[0] * function(mean + sd * nodes[0], theta)
        for node, weight in zip(nodes[1:], weights[1:], strict=True):
            total = total + float(weight) * function(mean + sd * float(node), theta)
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


def _closed(
    name: str,
    function: Callable[[Array], Array],
    expectation: Callable[[Array, Array], Array],
    *,
    symmetric: bool = False,
    linear: bool = False,
) -> Activation:
    """Entry with a closed form."""
    return Activation(
        name,
        lambda z, theta: function(z),
        lambda mean, sd, theta: expectation(mean, sd),
        symmetric=symmetric,
        linear=linear,
        alike=True,
    )


def _smooth(name: str, function: Callable[[Array], Array]) -> Activation:
    """Entry with an odd function, up to a constant, by quadrature."""

    def of_theta(z: Array, theta: Theta) -> Array:
        return function(z)

    expectation = gauss_hermite_expectation(of_theta)
    return Activation(name, of_theta, expectation, symmetric=True, alike=True)


_ENTRIES = (
    _closed("linear", lambda z: z, lambda mean, sd: mean + 0.0 * sd, symmetric=True, linear=True),
    _smooth("tanh", jnp.tanh),
    _smooth("sigmoid", jax.nn.sigmoid),
    _closed("relu", jax.nn.relu, _relu_expectation),
    _closed("leakyrelu", _leaky, _leaky_expectation),
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
