"""Missing middle layer of a linear network: an exact draw for every individual."""

from typing import NamedTuple

import jax.numpy as jnp
import numpyro.distributions as dist
from jax import Array, random

from nnmm_jax.inference import noise
from nnmm_jax.inference.arrays import ModelData
from nnmm_jax.inference.blocks.trait import without_nodes
from nnmm_jax.inference.state import State


class PhenotypeInformation(NamedTuple):
    """What phenotype records say about the nodes' sum: ``left ~ N(w'g(z), variance)``.

    An individual's records together are one normal observation of it; both (individual,). Where
    there is no record ``seen`` is False, ``left`` 0 and ``variance`` that of one record.
    """

    left: Array
    variance: Array
    seen: Array


def phenotype_information(state: State, data: ModelData) -> PhenotypeInformation:
    """Phenotypes without fixed effects and terms, averaged over records by weight."""
    weighted = data.trait.weighted(without_nodes(state, data))
    seen = data.y_precision > 0
    precision = jnp.where(seen, data.y_precision, 1.0)
    return PhenotypeInformation(
        data.by_individual(weighted) / precision, state.trait.variance[0] / precision, seen
    )


class NodeLayer(NamedTuple):
    """Distribution of the nodes given layer 1: mean and variance, each (node, individual)."""

    mean: Array
    variance: Array


def node_layer(state: State, data: ModelData, rows: Array) -> NodeLayer:
    """Layer-1 distribution of some individuals' nodes."""
    first = data.omics[0]  # all blocks have the same records and weights
    residual = state.node_residual[:, _places(state, data, rows)]
    if first.root is not None:
        residual = residual / first.root[rows]
    variance = jnp.broadcast_to(state.node_variance[:, None], residual.shape)
    if first.root is not None:
        variance = variance / first.root[rows] ** 2
    return NodeLayer(state.z[:, rows] - residual, variance)


def _places(state: State, data: ModelData, rows: Array) -> Array | slice:
    """Where residuals of layer 1 have some individuals: all of them, or the incomplete ones."""
    if state.omics[0].sums is None:
        return rows
    everyone = rows is data.incomplete_rows
    return slice(None) if everyone else jnp.searchsorted(data.incomplete_rows, rows)


def replace_rows(state: State, data: ModelData, rows: Array, values: Array) -> State:
    """Return the state with ``z`` of some individuals replaced and the residuals kept in step."""
    change = values - state.z[:, rows]
    if data.omics[0].root is not None:
        change = change * data.omics[0].root[rows]
    places = _places(state, data, rows)

    def added(residual: Array, change: Array) -> Array:
        if isinstance(places, slice):
            return residual + change
        return residual.at[:, places].add(change)

    blocks = tuple(
        block._replace(residual=added(block.residual, change[nodes]))
        for block, nodes in zip(state.omics, data.block_nodes, strict=True)
    )
    return state._replace(z=state.z.at[:, rows].set(values), omics=blocks)


def individual_conditional(
    mean: Array, var_e: Array, missing: Array, effects: Array, left: Array, var_y: Array
) -> dist.MultivariateNormal:
    """Conditional of one individual's missing nodes, dense: the reference of the fast draw.

    Precision ``diag(1/var_e) + w w' / var_y`` on the missing nodes (model page, Missing data 2).

    Parameters
    ----------
    mean, var_e, missing, effects : (node,)
        Layer-1 mean, residual variances, which nodes are missing, node effects.
    left, var_y : scalar
        Phenotype minus fixed, direct and observed nodes' effects, and its variance.
    """
    w = effects[missing]
    precision = jnp.diag(1.0 / var_e[missing]) + jnp.outer(w, w) / var_y
    rhs = mean[missing] / var_e[missing] + w * left / var_y
    return dist.MultivariateNormal(jnp.linalg.solve(precision, rhs), precision_matrix=precision)


def kernel(key: Array, state: State, data: ModelData) -> tuple[State, dict[str, Array]]:
    """Gibbs block: missing nodes of all individuals, by Matheron's rule in O(L) each.

    A draw from layer 1 and a phenotype simulated from it are conditioned on the phenotype that
    was observed: ``z + D w (y - y_simulated) / (w'D w + var_y)``, D the residual variances of the
    missing nodes. Without a phenotype the first draw stands.
    """
    key_z, key_y = random.split(key)
    rows = data.incomplete_rows
    z, observed = state.z[:, rows], data.observed[:, rows]
    effects = state.node_coef[0]
    layer = node_layer(state, data, rows)
    left, var_y, seen = (part[rows] for part in phenotype_information(state, data))
    variance = jnp.where(observed, 0.0, layer.variance)
    start = layer.mean + jnp.sqrt(variance) * noise.normal(key_z, z.shape, z.dtype)
    start = jnp.where(observed, z, start)
    simulated = effects @ start + jnp.sqrt(var_y) * noise.normal(key_y, rows.shape, z.dtype)
    direction = variance * effects[:, None]
    gain = seen / (effects @ direction + var_y)
    drawn = start + direction * (gain * (left - simulated))
    return replace_rows(state, data, rows, jnp.where(observed, z, drawn)), {}
