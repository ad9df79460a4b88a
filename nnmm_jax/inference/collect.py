"""Running moments of what is too large to keep of every draw: marker effects, the middle layer.

Everything is still on the internal scale; :mod:`nnmm_jax.posterior.assemble` returns to units.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jax import Array, random

from nnmm_jax.inference.arrays import ModelData
from nnmm_jax.inference.quantities import NodeValues, align
from nnmm_jax.inference.snapshot import has_marker_effects, marker_effects, node_marker_effects
from nnmm_jax.inference.state import State
from nnmm_jax.inference.sweep import SweepSettings


class Moments(NamedTuple):
    """Running mean and sum of squared deviations (Welford); of effects, count of non-zero ones."""

    mean: Array
    m2: Array
    nonzero: Array | None


class Accumulators(NamedTuple):
    """Running moments of one chain; ``*_count`` is the number of states in them.

    ``nodes`` has the names of :class:`~nnmm_jax.inference.quantities.NodeValues`; ``markers`` and
    ``skip`` are (response, marker), ``None`` without such effects.
    """

    nodes_count: Array
    nodes: dict[str, Moments]
    effects_count: Array
    markers: Moments | None
    skip: Moments | None


def _empty(shape: tuple[int, ...], dtype: jnp.dtype) -> Moments:
    return Moments(jnp.zeros(shape, dtype), jnp.zeros(shape, dtype), jnp.zeros(shape, dtype))


def empty_accumulators(data: ModelData, *, combines: bool) -> Accumulators:
    """Accumulators with nothing in them.

    Parameters
    ----------
    combines : bool
        Whether a function of all nodes takes the place of the sum of their effects.
    """
    dtype = data.y.dtype
    n_nodes, zero = data.z_start.shape[0], jnp.zeros((), dtype)
    markers = has_marker_effects(*data.omics)
    of_nodes: dict[str, Moments] = {}
    if n_nodes:
        names = ("z", "genetic") if combines else ("z", "genetic", "mediated")
        of_nodes = {
            name: _empty(data.z_start.shape, dtype)._replace(nonzero=None) for name in names
        }
        if len(data.omics) > 1 and not combines:
            shape = (len(data.omics), data.z_start.shape[1])
            of_nodes["mediated_block"] = _empty(shape, dtype)._replace(nonzero=None)
    return Accumulators(
        zero,
        of_nodes,
        zero,
        _empty((n_nodes, data.n_markers), dtype) if markers else None,
        _empty((1, data.n_markers), dtype) if has_marker_effects(data.trait) else None,
    )


def update_moments(moments: Moments, count: Array, value: Array) -> Moments:
    """Add the ``count``-th value (counted from 1)."""
    delta = value - moments.mean
    mean = moments.mean + delta / count
    nonzero = moments.nonzero
    if nonzero is not None:
        nonzero = nonzero + (value != 0).astype(mean.dtype)
    return Moments(mean, moments.m2 + delta * (value - mean), nonzero)


def accumulate_effects(
    key: Array, state: State, data: ModelData, settings: SweepSettings, sums: Accumulators
) -> Accumulators:
    """Add marker and skip effects of this state to the moments."""
    key_markers, key_skip = random.split(key)
    count = sums.effects_count + 1
    sums = sums._replace(effects_count=count)
    if sums.markers is not None:
        effects = node_marker_effects(key_markers, state, data)
        effects = align(state, data, settings).signed(effects)
        sums = sums._replace(markers=update_moments(sums.markers, count, effects))
    if sums.skip is not None:
        skip = marker_effects(key_skip, state.trait, data.trait, data.n_markers)
        sums = sums._replace(skip=update_moments(sums.skip, count, skip))
    return sums


def accumulate_nodes(values: NodeValues | None, sums: Accumulators) -> Accumulators:
    """Add values of the nodes to the moments."""
    if values is None:
        return sums
    count = sums.nodes_count + 1
    found = values._asdict()
    nodes = {name: update_moments(one, count, found[name]) for name, one in sums.nodes.items()}
    return sums._replace(nodes_count=count, nodes=nodes)
