"""Gibbs block of one layer's mixed model: marker terms one after the other, then random terms."""

from collections.abc import Sequence

import jax.numpy as jnp
from jax import Array, random

from nnmm_jax.inference.arrays import EffectHyper, LayerArrays
from nnmm_jax.inference.blocks import complete
from nnmm_jax.inference.blocks.mixed_model import term_values, update_fixed, update_term
from nnmm_jax.inference.blocks.random_terms import record_values, update_random
from nnmm_jax.inference.state import EffectState, LayerState


def kernel(
    key: Array,
    state: LayerState,
    arrays: LayerArrays,
    *,
    fixed_elsewhere: bool = False,
    sharing: Sequence[tuple[EffectState, EffectHyper]] = (),
    whole: Array | None = None,
    incomplete_rows: Array | None = None,
) -> tuple[LayerState, dict[str, Array]]:
    """Update fixed effects and all terms of a layer once.

    Parameters
    ----------
    fixed_elsewhere : bool
        Whether another block of the sweep updates the fixed effects too: they are not updated on
        their own then.
    sharing : sequence of (effects, hyper)
        Effects of nodes, whose variances may be relative to the residual's.
    whole : (response, record) or None
        The response where it never changes, weighted.
    incomplete_rows : (incomplete individual,) int or None
        Where sums may stand for the others.

    Returns
    -------
    state, info
    """
    info: dict[str, Array] = {}
    if state.sums is not None:
        assert incomplete_rows is not None
        return complete.update(random.fold_in(key, 0), state, arrays, incomplete_rows), info
    for number in range(len(arrays.terms)):
        state = update_term(random.fold_in(key, number), state, arrays, number, sharing, whole)
    key_random, key_fixed = random.split(random.fold_in(key, len(arrays.terms)))
    if arrays.random:
        state, info = update_random(key_random, state, arrays)
    if not (arrays.terms or arrays.random or fixed_elsewhere):
        state = update_fixed(key_fixed, state, arrays)
    return state, info


def fitted(state: LayerState, arrays: LayerArrays) -> tuple[LayerState, Array]:
    """Values of all terms from their coefficients, and all that the layer explains.

    Returns
    -------
    state
        With the values recomputed.
    (response, record)
        Fixed effects and terms together, weighted.
    """
    terms = tuple(
        term_values(effects, term) for effects, term in zip(state.terms, arrays.terms, strict=True)
    )
    groups = tuple(
        record_values(term, effects.coef, arrays)
        for effects, term in zip(state.random, arrays.random, strict=True)
    )
    explained = state.fixed @ arrays.design.matrix
    explained = sum((*terms, *groups), explained)
    return state._replace(term_values=terms, random_values=groups), jnp.asarray(explained)
