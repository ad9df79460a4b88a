"""Quantities kept of every draw, all of them identified or judged as such.

Everything is still on the internal scale; :mod:`nnmm_jax.posterior.assemble` returns to units.
:func:`describe` says what each quantity is: its dimensions and its unit.
"""

from typing import Literal, NamedTuple

import jax.numpy as jnp
from jax import Array, random

from nnmm_jax.inference.arrays import EffectHyper, LayerArrays, ModelData
from nnmm_jax.inference.blocks.mixed_model import everyone_values
from nnmm_jax.inference.state import EffectState, LayerState, State
from nnmm_jax.inference.sweep import SweepSettings

Unit = Literal["none", "node", "node2", "trait", "trait2"]


class Quantity(NamedTuple):
    """Dimensions between (chain, draw) and trait, whether the trait is one more, and the unit."""

    dims: tuple[str, ...]
    of_trait: bool
    unit: Unit = "none"


def node_signs(state: State, data: ModelData, settings: SweepSettings) -> Array:
    """Sign (node,) by which a latent node is aligned: the one that makes its effect positive.

    Only where the activation is odd up to a constant is the flipped node equally probable.
    """
    assert state.nodes is not None
    flip = data.latent & (state.nodes.coef[0] < 0) & settings.activate.symmetric
    return jnp.where(flip, -1.0, 1.0).astype(state.z.dtype)


def _centre(values: Array) -> Array:
    return values - jnp.mean(values)


class LayerValues(NamedTuple):
    """Parts (response, individual) of what a layer explains, in all individuals.

    ``markers`` are marker terms, ``polygenic`` pedigrees and relationship matrices, ``other``
    groups.
    """

    markers: Array
    polygenic: Array
    other: Array


def layer_values(key: Array, state: LayerState, arrays: LayerArrays, n: int) -> LayerValues:
    """Values of a layer's terms for all individuals."""
    zero = jnp.zeros((state.variance.shape[0], n), state.variance.dtype)
    markers = polygenic = other = zero
    for number, term in enumerate(arrays.terms):
        value = everyone_values(
            random.fold_in(key, number),
            state.terms[number],
            state.term_values[number],
            term,
            arrays,
        )
        if term.polygenic:
            polygenic = polygenic + value
        else:
            markers = markers + value
    for effects, group in zip(state.random, arrays.random, strict=True):
        value = group.individual_values(effects.coef, n)
        if group.genetic:
            polygenic = polygenic + value
        else:
            other = other + value
    return LayerValues(markers, polygenic, other)


def _effect_names(place: str, label: str, hyper: EffectHyper) -> tuple[str, str, str]:
    """Names of level, probability of zero and weights of a set of effects."""
    tail = f"_{label}" if label else ""
    return f"{hyper.symbol}_{place}_effect{tail}", f"pi_{place}{tail}", f"weights_{place}{tail}"


def _effect_quantities(
    place: str, label: str, effects: EffectState, hyper: EffectHyper
) -> dict[str, Array]:
    level, pi, weights = _effect_names(place, label, hyper)
    found = {level: hyper.factor * effects.level}
    if hyper.spike:
        found[pi] = effects.weights[:, 0]
    if len(hyper.multipliers) > 2:
        found[weights] = effects.weights
    return found


def _layer_quantities(place: str, state: LayerState, arrays: LayerArrays) -> dict[str, Array]:
    """Levels and weights of all terms of a layer, (response, ...); place is marker or skip."""
    ending = _RESPONSE[place]
    found: dict[str, Array] = {}
    for effects, term in zip(state.terms, arrays.terms, strict=True):
        if term.polygenic:
            found[f"var_random_{ending}_{term.label}"] = term.hyper.factor * effects.level
        else:
            found |= _effect_quantities(place, term.label, effects, term.hyper)
    for effects, group in zip(state.random, arrays.random, strict=True):
        found[f"var_random_{ending}_{group.label}"] = effects.level
    return found


_RESPONSE = {"marker": "node", "skip": "trait", "node": "trait"}


def _describe_effects(place: str, label: str, hyper: EffectHyper) -> dict[str, Quantity]:
    response = _RESPONSE[place]
    dims, of_trait = ((), True) if response == "trait" else (("node",), False)
    level, pi, weights = _effect_names(place, label, hyper)
    component = weights.replace("weights", "component")  # groups may have other mixtures
    unit: Unit = "none" if hyper.symbol == "lambda2" else ("trait2" if of_trait else "node2")
    return {
        level: Quantity(dims, of_trait, unit),
        pi: Quantity(dims, of_trait),
        weights: Quantity((*dims, component), of_trait),
    }


def _describe_layer(place: str, arrays: LayerArrays) -> dict[str, Quantity]:
    found: dict[str, Quantity] = {}
    for term in arrays.terms:
        if not term.polygenic:
            found |= _describe_effects(place, term.label, term.hyper)
    labels = [one.label for one in arrays.random]
    labels += [term.label for term in arrays.terms if term.polygenic]
    ending = _RESPONSE[place]
    for label in labels:
        of_trait = ending == "trait"
        found[f"var_random_{ending}_{label}"] = (
            Quantity((), True, "trait2") if of_trait else Quantity(("node",), False, "node2")
        )
    return found


def describe(data: ModelData) -> dict[str, Quantity]:
    """Say what every quantity is that :func:`draw_quantities` may keep (and more)."""
    individual = ("individual",)
    found = {
        "node_effect": Quantity(("node",), True, "trait"),
        "node_included": Quantity(("node",), True),
        "fixed_omics": Quantity(("node", "term_omics"), False, "node"),
        "fixed_trait": Quantity(("term_trait",), True, "trait"),
        **dict.fromkeys(
            ("var_residual_node", "var_genetic_node"), Quantity(("node",), False, "node2")
        ),
        "h2_node": Quantity(("node",), False),
        "h2_trait": Quantity((), True),
        **dict.fromkeys(
            (
                "var_residual_trait",
                "var_mediated",
                "var_direct",
                "var_polygenic",
                "var_genetic_trait",
            ),
            Quantity((), True, "trait2"),
        ),
        **dict.fromkeys(
            (
                "ebv_mediated",
                "ebv_direct",
                "ebv_polygenic",
                "epv",
                "group_value",
                "y_mean",
                "y_pred",
            ),
            Quantity(individual, True, "trait"),
        ),
        "epv_mean": Quantity((), True, "trait"),
        **_describe_layer("skip", data.trait),
    }
    if data.omics is not None:
        found |= _describe_layer("marker", data.omics)
    if data.node_hyper is not None:
        found |= _describe_effects("node", "", data.node_hyper)
    return found


def _node_draws(
    key: Array, state: State, data: ModelData, settings: SweepSettings
) -> tuple[dict[str, Array], Array, Array]:
    """Quantities of the middle layer, and its mediated and activated sums (individual,).

    Expected breeding values take each node's fixed effects and groups at their mean over
    individuals, so that they depend on the genotype alone, and the expectation over the node's
    residual.
    """
    assert state.omics is not None
    assert state.nodes is not None
    assert data.omics is not None
    activation, omics = settings.activate, state.omics
    w = state.nodes.coef[0]
    parts = layer_values(key, omics, data.omics, state.z.shape[1])
    genetic = parts.markers + parts.polygenic
    residual = data.omics.unweighted(omics.residual)
    explained = state.z - residual - genetic
    base = jnp.mean(explained, axis=-1, keepdims=True)
    sd = jnp.sqrt(omics.variance)[:, None]
    mediated = _centre(w @ activation.expectation(genetic + base, sd))
    signs = node_signs(state, data, settings)
    var_genetic = jnp.var(genetic, axis=-1)
    draw = {
        "node_effect": signs * w,
        "node_included": (w != 0).astype(w.dtype),
        "fixed_omics": signs[:, None] * omics.fixed,
        "var_residual_node": omics.variance,
        "var_genetic_node": var_genetic,
        "h2_node": var_genetic / jnp.var(genetic + parts.other + residual, axis=-1),
        **_layer_quantities("marker", omics, data.omics),
    }
    return draw, mediated, w @ activation.function(state.z)


def draw_quantities(
    key: Array, state: State, data: ModelData, settings: SweepSettings
) -> dict[str, Array]:
    """Quantities kept of every draw, on the internal scale."""
    key_nodes, key_trait = random.split(key)
    n = data.y_precision.shape[0]
    trait = state.trait
    draw: dict[str, Array] = {}
    mediated = total = jnp.zeros((n,), data.y.dtype)
    if state.nodes is not None:
        draw, mediated, total = _node_draws(key_nodes, state, data, settings)
    parts = layer_values(key_trait, trait, data.trait, n)
    direct, polygenic = _centre(parts.markers[0]), _centre(parts.polygenic[0])
    total = total + parts.markers[0] + parts.polygenic[0]
    ebv = mediated + direct + polygenic
    other = sum(
        (one.level[0] for one, group in zip(trait.random, data.trait.random, strict=True)
         if not group.genetic),
        jnp.zeros((), data.y.dtype),
    )  # fmt: skip
    draw |= {
        "fixed_trait": trait.fixed[0],
        "var_residual_trait": trait.variance[0],
        "var_mediated": jnp.var(mediated),
        "var_direct": jnp.var(direct),
        "var_genetic_trait": jnp.var(ebv),
        "h2_trait": jnp.var(ebv) / (jnp.var(total) + other + trait.variance[0]),
        "ebv_mediated": mediated,
        "epv": _centre(total),
        "epv_mean": jnp.mean(total),
    }
    of_trait = _layer_quantities("skip", trait, data.trait)
    if state.nodes is not None and data.node_hyper is not None:
        of_trait |= _effect_quantities("node", "", state.nodes, data.node_hyper)
    draw |= {name: value[0] for name, value in of_trait.items()}
    if not all(term.polygenic for term in data.trait.terms):
        draw["ebv_direct"] = direct
    if has_polygenic(data.trait):
        draw["ebv_polygenic"] = polygenic
        draw["var_polygenic"] = jnp.var(polygenic)
    if any(not group.genetic for group in data.trait.random):
        draw["group_value"] = parts.other[0]
    return draw


def has_polygenic(arrays: LayerArrays) -> bool:
    """Whether a layer has genetic random terms."""
    terms = (term.polygenic for term in arrays.terms)
    return any(terms) or any(group.genetic for group in arrays.random)
