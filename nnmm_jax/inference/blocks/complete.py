"""Individuals without missing omics: what they say about layer 1 comes down to sums.

Their nodes never change, so marker effects depend on them through products of the markers with
the nodes and with each other alone. Those of the markers with the nodes are formed once; a sweep
then goes through the genotypes of the incomplete individuals only. Draws are those of
:mod:`nnmm_jax.inference.blocks.mixed_model` up to rounding.
"""

from dataclasses import replace
from typing import NamedTuple

import jax.numpy as jnp
from jax import Array, random

from nnmm_jax.inference import noise
from nnmm_jax.inference.arrays import (
    LayerArrays,
    MarkerMatrix,
    ModelData,
    inner_products,
)
from nnmm_jax.inference.blocks.effects import coordinate_sweep
from nnmm_jax.inference.blocks.families import family_of
from nnmm_jax.inference.blocks.mixed_model import (
    fixed_conditional,
    sweep_draws,
    term_values,
    with_components,
)
from nnmm_jax.inference.blocks.scale_move import draw_scale
from nnmm_jax.inference.state import LayerState, RecordSums, State


def applies(data: ModelData) -> bool:
    """Whether the sums stand for complete individuals, as the arrays have been prepared for."""
    return any(_incomplete(block) is not None for block in data.omics)


def _incomplete(arrays: LayerArrays) -> MarkerMatrix | None:
    return arrays.terms[0].incomplete if len(arrays.terms) == 1 else None


def without_sums(data: ModelData) -> ModelData:
    """Return arrays for which no sums stand for anyone."""
    blocks = tuple(
        replace(block, terms=tuple(replace(term, incomplete=None) for term in block.terms))
        for block in data.omics
    )
    return replace(data, omics=blocks)


def summed(state: State, data: ModelData) -> State:
    """Return the state with sums in the place of what complete individuals have in layer 1."""
    if not applies(data):
        return state
    rows = data.incomplete_rows
    blocks = []
    for block, arrays, nodes in zip(state.omics, data.omics, data.block_nodes, strict=True):
        (term,) = arrays.terms
        assert term.grams is not None
        z = state.z[nodes].at[:, rows].set(0.0)
        sums = RecordSums(
            products=term.markers.project(z),
            seen=z @ arrays.design.basis.T,
            squares=inner_products(z, z),
            explained=block.terms[0].coef @ term.grams[0],
            left=inner_products(block.residual, block.residual),
        )
        blocks.append(
            block._replace(
                term_values=(block.term_values[0][:, rows],),
                residual=block.residual[:, rows],
                sums=sums,
            )
        )
    return state._replace(omics=tuple(blocks))


def whole(state: State, data: ModelData) -> State:
    """Undo :func:`summed`: genetic values and residuals of all individuals."""
    blocks = []
    for block, arrays, nodes in zip(state.omics, data.omics, data.block_nodes, strict=True):
        if block.sums is None:
            blocks.append(block)
            continue
        values = term_values(block.terms[0], arrays.terms[0])
        residual = state.z[nodes] - block.fixed @ arrays.design.matrix - values
        blocks.append(block._replace(term_values=(values,), residual=residual, sums=None))
    return state._replace(omics=tuple(blocks))


def stand_in(state: State) -> bool:
    """Whether sums stand for complete individuals in this state."""
    return any(block.sums is not None for block in state.omics)


class GeneticParts(NamedTuple):
    """What markers explain of the nodes of a block in everyone.

    Attributes
    ----------
    variance : (response,)
        Of the genetic values over individuals.
    weighted : (individual,)
        Sum of the genetic values, each times the weight of its node.
    """

    variance: Array
    weighted: Array


def genetic_parts(state: LayerState, arrays: LayerArrays, weights: Array) -> GeneticParts:
    """Return what markers explain, from the sums; ``weights`` are (response,)."""
    (effects,), (term,) = state.terms, arrays.terms
    assert state.sums is not None
    squares = _genetic_squares(effects.coef, state.sums.explained, effects.coef @ term.loadings)
    return GeneticParts(
        squares / term.markers.n_records,  # markers are centred, and so are their values
        term.markers.predict(weights[None] @ effects.coef)[0],
    )


def _genetic_squares(coef: Array, explained: Array, seen: Array) -> Array:
    """Sums of squares (response,) of genetic values, of which the design sees ``seen``."""
    return inner_products(coef, explained) + inner_products(seen, seen)


def update(key: Array, state: LayerState, arrays: LayerArrays, rows: Array) -> LayerState:
    """Update fixed effects and marker effects, and the scale of the latter.

    Parameters
    ----------
    rows : (incomplete individual,) int
    """
    sums, (term,), (effects,) = state.sums, arrays.terms, state.terms
    assert sums is not None
    assert term.grams is not None
    assert term.incomplete is not None
    key_draw, key_scale, key_own = random.split(key, 3)
    key_coef, key_fixed = random.split(key_draw)
    gram, loadings, var_e = term.grams[0], term.loadings, state.variance
    design, basis = arrays.design.matrix[:, rows], arrays.design.basis[:, rows]

    z = state.residual + state.term_values[0] + state.fixed @ design
    seen = sums.seen + z @ basis.T
    squares = sums.squares + inner_products(z, z) - inner_products(seen, seen)
    products = sums.products + term.incomplete.project(z) - seen @ loadings.T

    draws = sweep_draws(key_coef, effects, var_e, arrays, term)
    coef = coordinate_sweep(gram, products - sums.explained, effects.coef, draws)
    explained, genetic_seen = coef @ gram, coef @ loadings
    left, left_seen = products - explained, seen - genetic_seen
    fixed = noise.draw_normal(key_fixed, fixed_conditional(left_seen, var_e, arrays))
    left_seen = left_seen - fixed

    effects = with_components(key_own, effects._replace(coef=coef), var_e, term.hyper)
    square = _genetic_squares(coef, explained, genetic_seen)
    with_residual = inner_products(coef, left) + inner_products(genetic_seen, left_seen)
    unexplained = squares - inner_products(coef, products) - inner_products(coef, left)
    unexplained = unexplained + inner_products(left_seen, left_seen)
    if not term.hyper.known:
        k = draw_scale(key_scale, effects, with_residual + square, square, var_e, term.hyper)
        effects = family_of(term.hyper).scaled(effects, k)
        explained = k[:, None] * explained
        unexplained = unexplained - 2 * (k - 1) * with_residual + (k - 1) ** 2 * square
    # At most rounding errors are left where markers explain everything.
    unexplained = jnp.maximum(unexplained, 0.0)
    values = term.incomplete.predict(effects.coef)
    return state._replace(
        fixed=fixed @ arrays.design.to_terms,
        terms=(effects,),
        term_values=(values,),
        residual=z - fixed @ basis - values,
        sums=sums._replace(explained=explained, left=unexplained),
    )
