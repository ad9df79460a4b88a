"""The network run forward in every sample of the posterior: from dosages and omics to the trait.

Everything is on the internal scale, as in the sampler; individuals are the last axis but for the
dosages.
"""

from functools import partial
from typing import NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
from jax import Array, lax

from nnmm_jax.network.activations import Activation, Theta, Units

# Variables of ``FitResult.parameters``; those that a model does not have are absent.
Samples: TypeAlias = dict[str, Array]


class Forward(NamedTuple):
    """What one sample says of individuals, (individual,), not centred.

    Attributes
    ----------
    mediated, direct : Array
        Parts of the breeding value.
    total, variance : Array
        Expectation and variance, over the missing nodes, of what the nodes give.
    """

    mediated: Array
    direct: Array
    total: Array
    variance: Array


def forward(
    sample: Samples, noise: Array, dosages: Array, z: Array, units: Units, activation: Activation
) -> Forward:
    """Run the network of one sample forward.

    Parameters
    ----------
    sample : dict
        Without the axis sample.
    noise : (draw, node)
        Standard normal, for the variance over missing nodes where it has no formula.
    dosages : (individual, marker)
        Centred, missing ones 0.
    z : (node, individual)
        NaN where missing.
    units : Units
    activation : Activation
    """
    zero = jnp.zeros(dosages.shape[0], dosages.dtype)
    direct = dosages @ sample["skip_effect"] if "skip_effect" in sample else zero
    if "node_base" not in sample:
        return Forward(zero, direct, zero, zero)
    theta, w, mean, sd = _nodes_of(sample, dosages, activation)
    mediated = w @ activation.expected_features(mean, sd, theta, units)
    missing = jnp.isnan(z)
    centre, spread = jnp.where(missing, mean, z), jnp.where(missing, sd, 0.0)
    total = w @ activation.expected_features(centre, spread, theta, units)
    if activation.linear:
        return Forward(mediated, direct, total, w**2 @ spread**2)

    def add(draw: Array, squares: Array) -> Array:
        nodes = centre + spread * noise[draw][:, None]
        return squares + (w @ activation.features(nodes, theta, units) - total) ** 2

    variance = lax.fori_loop(0, noise.shape[0], add, zero) / noise.shape[0]
    return Forward(mediated, direct, total, variance)


class _Nodes(NamedTuple):
    """Theta, node effects, and mean (node, individual) and sd (node, 1) given the genotype."""

    theta: Theta
    effects: Array
    mean: Array
    sd: Array


def _nodes_of(sample: Samples, dosages: Array, activation: Activation) -> _Nodes:
    theta = {
        name.removeprefix("theta_"): value
        for name, value in sample.items()
        if name.startswith("theta_")
    }
    base = sample["node_base"][:, None]
    mean = jnp.broadcast_to(base, (base.shape[0], dosages.shape[0]))
    if "marker_effect" in sample:
        mean = mean + sample["marker_effect"] @ dosages.T
    effects = jnp.ones(1, mean.dtype) if activation.combines else sample["node_effect"]
    return _Nodes(theta, effects, mean, jnp.sqrt(sample["var_residual_node"])[:, None])


@partial(jax.jit, static_argnames="activation")
def slope_sums(samples: Samples, dosages: Array, units: Units, activation: Activation) -> Array:
    """Sum over individuals of the slopes (sample, node) of the expected trait.

    Parameters
    ----------
    samples, dosages, units, activation
        As for :func:`summaries`.

    Returns
    -------
    Array
        By how much the expectation of the trait, over the nodes' residuals, grows with the genetic
        value of each node, the others as they are. A node's effect times the number of individuals
        if the network is linear.
    """

    def of_sample(sample: Samples) -> Array:
        theta, w, mean, sd = _nodes_of(sample, dosages, activation)

        def total(mean: Array) -> Array:
            return jnp.sum(w @ activation.expected_features(mean, sd, theta, units))

        # Individuals do not depend on each other, so that one gradient has the slopes of all.
        return jnp.sum(jax.grad(total)(mean), axis=1)

    return lax.map(of_sample, samples)


class Summaries(NamedTuple):
    """Columns (individual,) of the table of predictions."""

    ebv: Array
    ebv_sd: Array
    ebv_mediated: Array
    ebv_direct: Array
    epv: Array
    epv_sd: Array
    y_pred: Array
    y_pred_sd: Array


@partial(jax.jit, static_argnames="activation")
def summaries(
    samples: Samples, noise: Array, dosages: Array, z: Array, units: Units, activation: Activation
) -> Summaries:
    """Means and sds (individual,) over all samples.

    Parameters
    ----------
    samples : dict of (sample, ...)
    noise : (sample, draw, node)
    dosages, z, units, activation
        As for :func:`forward`.

    Returns
    -------
    Summaries
        A variance is that of the expectations of the samples plus the mean of the variances within
        them.
    """
    every = jax.vmap(lambda sample, draws: forward(sample, draws, dosages, z, units, activation))
    found = every(samples, noise)
    mediated = found.mediated - samples["mediated_mean"][:, None]
    direct = found.direct - samples["direct_mean"][:, None]
    given = found.total + found.direct
    epv = given - samples["epv_mean"][:, None]
    y = given + samples["trait_base"][:, None]
    within = jnp.mean(found.variance, axis=0)
    residual = jnp.mean(samples["var_residual_trait"])

    def mean(draws: Array) -> Array:
        return jnp.mean(draws, axis=0)

    def sd(draws: Array, more: Array | float = 0.0) -> Array:
        return jnp.sqrt(jnp.var(draws, axis=0, ddof=1) + more)

    return Summaries(
        ebv=mean(mediated + direct),
        ebv_sd=sd(mediated + direct),
        ebv_mediated=mean(mediated),
        ebv_direct=mean(direct),
        epv=mean(epv),
        epv_sd=sd(epv, within),
        y_pred=mean(y),
        y_pred_sd=sd(y, within + residual),
    )
