"""Running moments of what is too large to keep of every draw: marker effects, the middle layer.

Everything is still on the internal scale; :mod:`nnmm_jax.posterior.assemble` returns to units.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jax import Array, random

from nnmm_jax.inference.arrays import LayerArrays, ModelData
from nnmm_jax.inference.blocks.mixed_model import draw_effects
from nnmm_jax.inference.quantities import node_signs
from nnmm_jax.inference.state import LayerState, State
from nnmm_jax.inference.sweep import SweepSettings


class Moments(NamedTuple):
    """Running mean, sum of squared deviations and count of non-zero values (Welford)."""

    mean: Array
    m2: Array
    nonzero: Array


class Accumulators(NamedTuple):
    """Running moments of one chain; ``*_count`` is the number of states in them.

    ``markers`` and ``skip`` are (response, marker), ``None`` without such effects.
    """

    z_count: Array
    z: Moments | None
    effects_count: Array
    markers: Moments | None
    skip: Moments | None


def _empty(shape: tuple[int, ...], dtype: jnp.dtype) -> Moments:
    return Moments(jnp.zeros(shape, dtype), jnp.zeros(shape, dtype), jnp.zeros(shape, dtype))


def has_marker_effects(arrays: LayerArrays | None) -> bool:
    """Whether a layer has effects of markers."""
    return arrays is not None and any(term.are_markers for term in arrays.terms)


def empty_accumulators(data: ModelData) -> Accumulators:
    """Accumulators with nothing in them."""
    dtype = data.y.dtype
    n_nodes, zero = data.z_start.shape[0], jnp.zeros((), dtype)
    markers = has_marker_effects(data.omics)
    return Accumulators(
        zero,
        _empty(data.z_start.shape, dtype) if n_nodes else None,
        zero,
        _empty((n_nodes, data.n_markers), dtype) if markers else None,
        _empty((1, data.n_markers), dtype) if has_marker_effects(data.trait) else None,
    )


def update_moments(moments: Moments, count: Array, value: Array) -> Moments:
    """Add the ``count``-th value (counted from 1)."""
    delta = value - moments.mean
    mean = moments.mean + delta / count
    return Moments(
        mean, moments.m2 + delta * (value - mean), moments.nonzero + (value != 0).astype(mean.dtype)
    )


def _marker_effects(key: Array, state: LayerState, arrays: LayerArrays, n_markers: int) -> Array:
    """Effects (response, marker) of all marker terms of a layer together."""
    total = jnp.zeros((state.variance.shape[0], n_markers), state.variance.dtype)
    for number, (effects, term) in enumerate(zip(state.terms, arrays.terms, strict=True)):
        if term.are_markers:
            drawn = draw_effects(random.fold_in(key, number), effects, term)
            drawn = drawn[:, : term.markers.n_markers]
            total = total + drawn if term.columns is None else total.at[:, term.columns].add(drawn)
    return total


def accumulate_effects(
    key: Array, state: State, data: ModelData, settings: SweepSettings, sums: Accumulators
) -> Accumulators:
    """Add marker and skip effects of this state to the moments."""
    key_markers, key_skip = random.split(key)
    count = sums.effects_count + 1
    sums = sums._replace(effects_count=count)
    if sums.markers is not None and state.omics is not None and data.omics is not None:
        effects = _marker_effects(key_markers, state.omics, data.omics, data.n_markers)
        effects = node_signs(state, data, settings)[:, None] * effects
        sums = sums._replace(markers=update_moments(sums.markers, count, effects))
    if sums.skip is not None:
        skip = _marker_effects(key_skip, state.trait, data.trait, data.n_markers)
        sums = sums._replace(skip=update_moments(sums.skip, count, skip))
    return sums


def accumulate_nodes(
    state: State, data: ModelData, settings: SweepSettings, sums: Accumulators
) -> Accumulators:
    """Add the middle layer of this state to the moments."""
    if sums.z is None:
        return sums
    count = sums.z_count + 1
    z = node_signs(state, data, settings)[:, None] * state.z
    return sums._replace(z_count=count, z=update_moments(sums.z, count, z))
