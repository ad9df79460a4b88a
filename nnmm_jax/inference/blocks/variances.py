"""All variances, their priors' levels and weights, in one block: independent given the effects.

One block also means one call of the gamma sampler, which compiles slowly.
"""

import itertools
from collections.abc import Iterator
from typing import TypeAlias

import jax.numpy as jnp
import numpyro.distributions as dist
from jax import Array, random

from nnmm_jax.inference import noise
from nnmm_jax.inference.arrays import (
    EffectHyper,
    LayerArrays,
    ModelData,
    TermArrays,
    inner_products,
)
from nnmm_jax.inference.blocks.families import (
    family_of,
    variance_conditional,
    weights_conditional,
    with_residual_terms,
)
from nnmm_jax.inference.blocks.mixed_model import allowed_effects
from nnmm_jax.inference.blocks.random_terms import contrasts
from nnmm_jax.inference.state import EffectState, LayerState, State

Conditional: TypeAlias = dist.InverseGamma | dist.Gamma | dist.Dirichlet


def joint_variance_conditional(
    effects: EffectState, values: Array, hyper: EffectHyper
) -> dist.InverseGamma:
    """Conditional of the marker variance under a joint draw, given the genetic values alone.

    Directions of the marker effects which the genotypes do not show are integrated out, so the
    count is the rank, not the number of markers.

    Parameters
    ----------
    values : (rank,)
        Eigenvalues of the spectrum.
    """
    scaled = inner_products(effects.coef, effects.coef / values)
    return variance_conditional(hyper.df, hyper.scale, scaled, values.shape[0])


def random_variance_conditional(
    effects: EffectState, scaled: Array, hyper: EffectHyper
) -> dist.InverseGamma:
    """Conditional of a random term's variance.

    Parameters
    ----------
    scaled : (response, level)
        The effects' independent contrasts.
    """
    squares = jnp.sum(scaled**2, axis=-1)
    return variance_conditional(hyper.df, hyper.scale, squares, scaled.shape[-1])


def residual_conditional(
    state: LayerState, arrays: LayerArrays, sets: list[tuple[EffectState, EffectHyper]]
) -> dist.InverseGamma:
    """Conditional of residual variances; effects of a lasso have a say in them."""
    hyper = arrays.residual_hyper
    squares = jnp.sum(state.residual**2, axis=-1) if state.sums is None else state.sums.left
    count = jnp.full(squares.shape, arrays.design.matrix.shape[-1], squares.dtype)
    squares, count = with_residual_terms(squares, count, sets)
    return variance_conditional(hyper.df, hyper.scale, squares, count)


def n_allowed(term: TermArrays, effects: EffectState) -> Array:
    """Number (response,) of a term's effects that may differ from zero."""
    allowed = jnp.sum(allowed_effects(term), axis=0)
    return jnp.broadcast_to(allowed, effects.level.shape)


def _effect_conditionals(
    name: str, effects: EffectState, hyper: EffectHyper, n_effects: Array
) -> dict[str, Conditional]:
    found: dict[str, Conditional] = {}
    if not hyper.known:
        found[f"level_{name}"] = family_of(hyper).level_conditional(effects, hyper)
    if hyper.estimate_weights:
        found[f"weights_{name}"] = weights_conditional(effects, hyper, n_effects)
    return found


def _layer_conditionals(
    name: str,
    state: LayerState,
    arrays: LayerArrays,
    more: list[tuple[EffectState, EffectHyper]],
) -> dict[str, Conditional]:
    found: dict[str, Conditional] = {}
    sets = list(more)
    for effects, term in zip(state.terms, arrays.terms, strict=True):
        sets.append((effects, term.hyper))
        if term.spectrum is None:
            count = n_allowed(term, effects)
            found |= _effect_conditionals(term.name, effects, term.hyper, count)
        elif not term.hyper.known:
            values = term.spectrum.values
            found[f"level_{term.name}"] = joint_variance_conditional(effects, values, term.hyper)
    for effects, group in zip(state.random, arrays.random, strict=True):
        if not group.hyper.known:
            scaled = contrasts(group, effects.coef)
            found[f"level_{group.name}"] = random_variance_conditional(effects, scaled, group.hyper)
    name = f"{name}{arrays.suffix}"
    found[name] = residual_conditional(state, arrays, sets)
    return found


def conditionals(state: State, data: ModelData) -> dict[str, Conditional]:
    """Conditionals of all variances, levels and weights, by the names of the joint's sites.

    Only phenotyped records count for the trait's residual variance.
    """
    found: dict[str, Conditional] = {}
    for layer, arrays in zip(state.omics, data.omics, strict=True):
        found |= _layer_conditionals("var_e", layer, arrays, [])
    nodes = list(zip(state.nodes, data.node_hyper, strict=True))
    for (effects, hyper), block in zip(nodes, data.omics, strict=False):
        n_nodes = jnp.full((1,), effects.coef.shape[-1])
        found |= _effect_conditionals(f"node{block.suffix}", effects, hyper, n_nodes)
    return found | _layer_conditionals("var_y", state.trait, data.trait, nodes)


def draw(key: Array, wanted: dict[str, Conditional]) -> dict[str, Array]:
    """Draw from gamma, inverse gamma and Dirichlet distributions with one call of the sampler."""
    shapes = [one.concentration for one in wanted.values()]
    flat = noise.gamma(key, jnp.concatenate([jnp.ravel(shape) for shape in shapes]))
    drawn, start = {}, 0
    for (name, one), shape in zip(wanted.items(), shapes, strict=True):
        value = flat[start : start + shape.size].reshape(shape.shape)
        start += shape.size
        if isinstance(one, dist.Dirichlet):
            drawn[name] = value / jnp.sum(value, axis=-1, keepdims=True)
        elif isinstance(one, dist.Gamma):
            drawn[name] = value / one.rate
        else:
            drawn[name] = one.rate / value
    return drawn


def _updated(
    key: Array,
    name: str,
    effects: EffectState,
    hyper: EffectHyper,
    var_e: Array,
    drawn: dict[str, Array],
) -> EffectState:
    """Set level and weights, then each effect's own variance given them."""
    effects = effects._replace(
        level=drawn.get(f"level_{name}", effects.level),
        weights=drawn.get(f"weights_{name}", effects.weights),
    )
    if not hyper.own_variances:
        return effects
    return effects._replace(own=family_of(hyper).draw_own(key, effects, var_e, hyper))


def _updated_layer(
    keys: Iterator[Array],
    name: str,
    state: LayerState,
    arrays: LayerArrays,
    drawn: dict[str, Array],
) -> LayerState:
    hyper = arrays.residual_hyper
    variance = jnp.where(hyper.fixed, hyper.scale, drawn[f"{name}{arrays.suffix}"])
    state = state._replace(variance=variance)
    terms = tuple(
        _updated(next(keys), term.name, effects, term.hyper, variance, drawn)
        for effects, term in zip(state.terms, arrays.terms, strict=True)
    )
    groups = tuple(
        effects._replace(level=drawn.get(f"level_{group.name}", effects.level))
        for effects, group in zip(state.random, arrays.random, strict=True)
    )
    return state._replace(terms=terms, random=groups)


def kernel(key: Array, state: State, data: ModelData) -> tuple[State, dict[str, Array]]:
    """Gibbs block: all variances, levels, weights, then each effect's own variance.

    A known or conventional residual variance (latent nodes) stays fixed.
    """
    drawn = draw(random.fold_in(key, 0), conditionals(state, data))
    keys = (random.fold_in(key, number) for number in itertools.count(1))
    omics = tuple(
        _updated_layer(keys, "var_e", layer, arrays, drawn)
        for layer, arrays in zip(state.omics, data.omics, strict=True)
    )
    trait = _updated_layer(keys, "var_y", state.trait, data.trait, drawn)
    blocks = zip(state.nodes, data.node_hyper, data.omics, strict=False)
    nodes = tuple(
        _updated(next(keys), f"node{block.suffix}", effects, hyper, trait.variance, drawn)
        for effects, hyper, block in blocks
    )
    return state._replace(omics=omics, trait=trait, nodes=nodes), {}
