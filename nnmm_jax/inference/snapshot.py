"""Whole parameter sets of some draws, marker effects included: what predictions need.

Marker effects of every draw would not fit; those of a few hundred do, and say as much.
"""

import jax.numpy as jnp
from jax import Array, random

from nnmm_jax.inference import noise
from nnmm_jax.inference.arrays import LayerArrays, ModelData
from nnmm_jax.inference.blocks.mixed_model import draw_effects
from nnmm_jax.inference.quantities import align, genetic_nodes
from nnmm_jax.inference.state import LayerState, State
from nnmm_jax.inference.sweep import SweepSettings

MAX_BYTES = 512 * 2**20  # of all marker effects kept
LEAST_COUNT = 20  # fewer draws would be no posterior


def marker_effects(key: Array, state: LayerState, arrays: LayerArrays, n_markers: int) -> Array:
    """Effects (response, marker) of all marker terms of a layer together."""
    total = jnp.zeros((state.variance.shape[0], n_markers), state.variance.dtype)
    for number, (effects, term) in enumerate(zip(state.terms, arrays.terms, strict=True)):
        if term.are_markers:
            drawn = draw_effects(random.fold_in(key, number), effects, term)
            drawn = drawn[:, : term.markers.n_markers]
            total = total + drawn if term.columns is None else total.at[:, term.columns].add(drawn)
    return total


def node_marker_effects(key: Array, state: State, data: ModelData) -> Array:
    """Effects (node, marker) on the nodes of all blocks, as they are in the state."""
    blocks = enumerate(zip(state.omics, data.omics, strict=True))
    return jnp.concatenate(
        [
            marker_effects(noise.of_block(key, number), block, arrays, data.n_markers)
            for number, (block, arrays) in blocks
        ]
    )


def has_marker_effects(*layers: LayerArrays) -> bool:
    """Whether any of some layers has effects of markers."""
    return any(term.are_markers for arrays in layers for term in arrays.terms)


def snapshot(key: Array, state: State, data: ModelData) -> dict[str, Array]:
    """Parameters of a state on the internal scale; latent nodes as they are, not aligned.

    Returns
    -------
    dict
        ``marker_effect`` (node, marker), ``node_base`` (node,): the mean over individuals of what
        fixed effects and groups give to a node; ``var_residual_node`` (node,); ``node_effect``
        (node,) unless a function combines the nodes; ``skip_effect`` (marker,); ``fixed_trait``
        (term_trait,); ``var_residual_trait`` ().
    """
    key_nodes, key_values, key_skip = random.split(key, 3)
    found = {
        "fixed_trait": state.trait.fixed[0],
        "var_residual_trait": state.trait.variance[0],
    }
    if data.omics:
        found["node_base"] = genetic_nodes(key_values, state, data).base[:, 0]
        found["var_residual_node"] = state.node_variance
        if state.nodes:
            found["node_effect"] = state.node_coef[0]
        if has_marker_effects(*data.omics):
            found["marker_effect"] = node_marker_effects(key_nodes, state, data)
    if has_marker_effects(data.trait):
        found["skip_effect"] = marker_effects(key_skip, state.trait, data.trait, data.n_markers)[0]
    return found


def sites(
    key: Array, state: State, data: ModelData, settings: SweepSettings, names: tuple[str, ...]
) -> dict[str, Array]:
    """Large sites of a state on the internal scale, latent nodes aligned as in all draws.

    Parameters
    ----------
    names : tuple of str
        Some of :data:`nnmm_jax.inference.run_settings.SITES`.

    Returns
    -------
    dict
        ``marker_effect`` (node, marker), ``skip_effect`` (marker,), ``omics`` (individual, node).
    """
    key_nodes, key_skip = random.split(key)
    found = {}
    if "marker_effect" in names:
        effects = node_marker_effects(key_nodes, state, data)
        found["marker_effect"] = align(state, data, settings).signed(effects)
    if "skip_effect" in names:
        found["skip_effect"] = marker_effects(key_skip, state.trait, data.trait, data.n_markers)[0]
    if "omics" in names:
        found["omics"] = align(state, data, settings).signed(state.z).T
    return found


def pieces_between(data: ModelData, chains: int, pieces: int) -> int | None:
    """How many pieces of a run to let pass between snapshots; ``None`` for no snapshots at all.

    As many are kept as fit into memory, up to one at the end of each piece.
    """
    layers = sum(block.n_responses for block in data.omics) + 1
    size = 4 * layers * data.n_markers * chains
    fit = MAX_BYTES // max(size, 1)
    kept = min(fit, pieces)
    if kept * chains < min(LEAST_COUNT, pieces * chains):
        return None
    return -(-pieces // kept)
