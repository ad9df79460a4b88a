"""Missing middle layer of individuals without a phenotype: exact draws from layer 1."""

import jax.numpy as jnp
from jax import Array

from nnmm_jax.inference import noise
from nnmm_jax.inference.arrays import ModelData
from nnmm_jax.inference.blocks.missing_linear import node_layer, replace_rows
from nnmm_jax.inference.state import State


def kernel(key: Array, state: State, data: ModelData) -> tuple[State, dict[str, Array]]:
    """Gibbs block: missing nodes that only layer 1 knows about."""
    rows = data.free_rows
    z = state.z[:, rows]
    layer = node_layer(state, data, rows)
    drawn = layer.mean + jnp.sqrt(layer.variance) * noise.normal(key, z.shape, z.dtype)
    return replace_rows(state, data, rows, jnp.where(data.observed[:, rows], z, drawn)), {}
