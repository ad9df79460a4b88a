"""What is kept of a state: draws of identified quantities, running moments of the large ones.

Everything is still on the internal scale; :mod:`nnmm_jax.posterior.assemble` returns to units.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jax import Array, random

from nnmm_jax.inference.arrays import ModelData
from nnmm_jax.inference.blocks.mixed_model import draw_marker_effects
from nnmm_jax.inference.state import State
from nnmm_jax.inference.sweep import SweepSettings


class Moments(NamedTuple):
    """Running mean, sum of squared deviations and count of non-zero values (Welford)."""

    mean: Array
    m2: Array
    nonzero: Array


class Accumulators(NamedTuple):
    """Running moments of one chain; ``*_count`` is the number of states in them."""

    z_count: Array
    z: Moments
    effects_count: Array
    markers: Moments
    skip: Moments | None


def _empty(shape: tuple[int, ...], dtype: jnp.dtype) -> Moments:
    return Moments(jnp.zeros(shape, dtype), jnp.zeros(shape, dtype), jnp.zeros(shape, dtype))


def empty_accumulators(data: ModelData) -> Accumulators:
    """Accumulators with nothing in them."""
    dtype = data.z_start.dtype
    n_nodes, n_markers = data.z_start.shape[0], data.omics.markers.n_markers
    zero = jnp.zeros((), dtype)
    skip = None if data.skip is None else _empty((1, n_markers), dtype)
    return Accumulators(
        zero,
        _empty(data.z_start.shape, dtype),
        zero,
        _empty((n_nodes, n_markers), dtype),
        skip,
    )


def update_moments(moments: Moments, count: Array, value: Array) -> Moments:
    """Add the ``count``-th value (counted from 1)."""
    delta = value - moments.mean
    mean = moments.mean + delta / count
    return Moments(
        mean, moments.m2 + delta * (value - mean), moments.nonzero + (value != 0).astype(mean.dtype)
    )


def node_signs(state: State, data: ModelData, settings: SweepSettings) -> Array:
    """Sign (node,) by which a latent node is aligned: the one that makes its effect positive.

    Only where the activation is odd up to a constant is the flipped node equally probable.
    """
    flip = data.latent & (state.nodes.coef[0] < 0) & settings.activate.symmetric
    return jnp.where(flip, -1.0, 1.0).astype(state.z.dtype)


def _centre(values: Array) -> Array:
    return values - jnp.mean(values)


def accumulate_effects(
    key: Array, state: State, data: ModelData, settings: SweepSettings, sums: Accumulators
) -> Accumulators:
    """Add marker and skip effects of this state to the moments."""
    key_markers, key_skip = random.split(key)
    count = sums.effects_count + 1
    effects = draw_marker_effects(key_markers, state.markers, data.omics)
    signs = node_signs(state, data, settings)[:, None]
    effects = signs * effects[:, : data.omics.markers.n_markers]
    sums = sums._replace(effects_count=count, markers=update_moments(sums.markers, count, effects))
    if sums.skip is None or data.skip is None or state.skip is None:
        return sums
    skip = draw_marker_effects(key_skip, state.skip, data.skip)
    skip = skip[:, : data.omics.markers.n_markers]
    return sums._replace(skip=update_moments(sums.skip, count, skip))


def accumulate_nodes(
    state: State, data: ModelData, settings: SweepSettings, sums: Accumulators
) -> Accumulators:
    """Add the middle layer of this state to the moments."""
    count = sums.z_count + 1
    z = node_signs(state, data, settings)[:, None] * state.z
    return sums._replace(z_count=count, z=update_moments(sums.z, count, z))


def draw_quantities(
    key: Array, state: State, data: ModelData, settings: SweepSettings
) -> dict[str, Array]:
    """Quantities kept of every draw, on the internal scale.

    Expected breeding values take each node's fixed effects at their mean over individuals, so
    that they depend on the genotype alone, and the expectation over the node's residual.
    """
    activation = settings.activate
    w = state.nodes.coef[0]
    explained = state.beta @ data.omics.design.matrix
    genetic = state.z - explained - state.residual
    base = jnp.mean(explained, axis=-1, keepdims=True)
    sd = jnp.sqrt(state.var_e)[:, None]
    mediated = _centre(w @ activation.expectation(genetic + base, sd))
    total = w @ activation.function(state.z)
    direct = jnp.zeros_like(mediated)
    if state.skip is not None and data.skip is not None:
        effects = draw_marker_effects(key, state.skip, data.skip)
        direct = _centre(data.omics.markers.predict(effects)[0])
    signs = node_signs(state, data, settings)
    var_genetic = jnp.var(genetic, axis=-1)
    draw = {
        "node_effect": signs * w,
        "node_included": (w != 0).astype(w.dtype),
        "fixed_trait": state.fixed,
        "fixed_omics": signs[:, None] * state.beta,
        "var_residual_node": state.var_e,
        "var_genetic_node": var_genetic,
        "var_marker_effect": state.markers.variance,
        "h2_node": var_genetic / jnp.var(genetic + state.residual, axis=-1),
        "var_residual_trait": state.var_y,
        "var_mediated": jnp.var(mediated),
        "var_direct": jnp.var(direct),
        "var_genetic_trait": jnp.var(mediated + direct),
        "var_node_effect": state.nodes.variance[0],
        "h2_trait": jnp.var(mediated + direct) / (jnp.var(total + direct) + state.var_y),
        "ebv_mediated": mediated,
        "epv": _centre(total + direct),
        "epv_mean": jnp.mean(total + direct),
    }
    if settings.marker_spike:
        draw["pi_marker"] = state.markers.pi
    if settings.node_spike:
        draw["pi_node"] = state.nodes.pi[0]
    if state.skip is not None:
        draw["ebv_direct"] = direct
        draw["var_skip_effect"] = state.skip.variance[0]
        if settings.skip_spike:
            draw["pi_skip"] = state.skip.pi[0]
    return draw
