"""Quantities kept of every draw, all of them identified or judged as such.

Everything is still on the internal scale; :mod:`nnmm_jax.posterior.assemble` returns to units.
:func:`describe` says what each quantity is: its dimensions and its unit.
"""

from typing import Literal, NamedTuple

import jax.numpy as jnp
from jax import Array, random

from nnmm_jax.inference import noise
from nnmm_jax.inference.arrays import EffectHyper, LayerArrays, ModelData, inner_products
from nnmm_jax.inference.blocks import complete
from nnmm_jax.inference.blocks.mixed_model import everyone_values
from nnmm_jax.inference.blocks.trait import parameters_of
from nnmm_jax.inference.pointwise import log_likelihood
from nnmm_jax.inference.state import EffectState, LayerState, State
from nnmm_jax.inference.sweep import SweepSettings
from nnmm_jax.network.activations import NO_THETA, Activation

Unit = Literal["none", "node", "node2", "trait", "trait2"]


class Quantity(NamedTuple):
    """Dimensions between (chain, draw) and trait, whether the trait is one more, and the unit."""

    dims: tuple[str, ...]
    of_trait: bool
    unit: Unit = "none"


class Alignment(NamedTuple):
    """Order and sign by which latent nodes are reported.

    Attributes
    ----------
    order : (node,) int or None
        Node of the state that comes first, second, ...; ``None``: as they are.
    signs : (node,)
        After that.
    """

    order: Array | None
    signs: Array

    def arranged(self, values: Array, nodes: slice = slice(None)) -> Array:
        """Values (node, ...) of all nodes, or of those of a block, in order; signs aside."""
        if self.order is None:
            return values
        return values[self.order[nodes] - (nodes.start or 0)]

    def signed(self, values: Array, nodes: slice = slice(None)) -> Array:
        """The same with signs."""
        values = self.arranged(values, nodes)
        return values * jnp.reshape(self.signs[nodes], (-1, *[1] * (values.ndim - 1)))


def align(state: State, data: ModelData, settings: SweepSettings) -> Alignment:
    """Say which latent node is which, and which way round.

    Where latent nodes are exchangeable the first is the one that explains most of the trait's
    variance in this draw. Where the activation is odd up to a constant the flipped node is equally
    probable: the sign makes the node's effect positive.
    """
    if not state.nodes:
        return Alignment(None, jnp.ones(data.latent.shape, state.z.dtype))
    w, order = state.node_coef[0], None
    if data.exchangeable:
        explained = w**2 * jnp.var(settings.activation.function(state.z, NO_THETA), axis=-1)
        order = jnp.arange(w.shape[0])
        for alike in data.exchangeable:
            places = jnp.asarray(alike)
            order = order.at[places].set(places[jnp.argsort(-explained[places])])
        w = w[order]
    flip = data.latent & (w < 0) & settings.activation.symmetric
    return Alignment(order, jnp.where(flip, -1.0, 1.0).astype(state.z.dtype))


def _centre(values: Array) -> Array:
    return values - jnp.mean(values)


def _centre_rows(values: Array) -> Array:
    return values - jnp.mean(values, axis=-1, keepdims=True)


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


def _describe_effects(
    place: str, label: str, hyper: EffectHyper, node: str = "node"
) -> dict[str, Quantity]:
    response = _RESPONSE[place]
    dims, of_trait = ((), True) if response == "trait" else ((node,), False)
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
    node = f"node{arrays.suffix}"
    for term in arrays.terms:
        if not term.polygenic:
            found |= _describe_effects(place, term.label, term.hyper, node)
    labels = [one.label for one in arrays.random]
    labels += [term.label for term in arrays.terms if term.polygenic]
    ending = _RESPONSE[place]
    for label in labels:
        of_trait = ending == "trait"
        found[f"var_random_{ending}_{label}"] = (
            Quantity((), True, "trait2") if of_trait else Quantity((node,), False, "node2")
        )
    if place == "marker":
        columns = f"term_omics{arrays.suffix}"
        found[f"fixed_omics{arrays.suffix}"] = Quantity((node, columns), False, "node")
    return found


def describe(data: ModelData, activation: Activation) -> dict[str, Quantity]:
    """Say what every quantity is that :func:`draw_quantities` may keep (and more)."""
    individual = ("individual",)
    found = {
        "node_effect": Quantity(("node",), True, "trait"),
        "node_included": Quantity(("node",), True),
        "fixed_trait": Quantity(("term_trait",), True, "trait"),
        **dict.fromkeys(
            ("var_residual_node", "var_genetic_node"), Quantity(("node",), False, "node2")
        ),
        "h2_node": Quantity(("node",), False),
        "var_mediated_node": Quantity(("node",), True, "trait2"),
        "h2_mediated_node": Quantity(("node",), True),
        "var_mediated_block": Quantity(("block",), True, "trait2"),
        "h2_mediated_block": Quantity(("block",), True),
        "h2_trait": Quantity((), True),
        "log_likelihood": Quantity(individual, True),
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
        **dict.fromkeys(("epv_mean", "mediated_mean", "direct_mean"), Quantity((), True, "trait")),
        **_describe_layer("skip", data.trait),
    }
    for block in data.omics:
        found |= _describe_layer("marker", block)
    for hyper, block in zip(data.node_hyper, data.omics, strict=False):
        found |= _describe_effects("node", block.name, hyper)
    for name, prior in activation.parameters.priors.items():
        axes = tuple(f"theta_{name}_{axis}" for axis in range(len(prior.shape())))
        found[f"theta_{name}"] = Quantity(axes, False)
    return found


class NodeValues(NamedTuple):
    """Values of the nodes in all individuals, aligned.

    Attributes
    ----------
    z : (node, individual)
        The middle layer itself.
    genetic : (node, individual)
        The node's own breeding value, centred.
    mediated : (node, individual) or None
        What the node gives to the trait's breeding value, centred; ``None`` where a function
        combines the nodes.
    mediated_block : (block, individual) or None
        The same of every block, where there are several.
    """

    z: Array
    genetic: Array
    mediated: Array | None
    mediated_block: Array | None


class _Middle(NamedTuple):
    """Middle layer of a draw: quantities, values, mediated and activated sums (individual,).

    The mediated sum is not centred.
    """

    draw: dict[str, Array]
    values: NodeValues | None
    mediated: Array
    total: Array


class GeneticNodes(NamedTuple):
    """Parts (node, individual) of the nodes of all blocks, and their base (node, 1).

    The base is what fixed effects and groups give on average over individuals.
    """

    genetic: Array
    other: Array
    residual: Array
    base: Array


def genetic_nodes(key: Array, state: State, data: ModelData) -> GeneticNodes:
    """Take the middle layer of a state apart."""
    parts = [
        layer_values(noise.of_block(key, number), block, arrays, state.z.shape[1])
        for number, (block, arrays) in enumerate(zip(state.omics, data.omics, strict=True))
    ]
    genetic = jnp.concatenate([part.markers + part.polygenic for part in parts])
    other = jnp.concatenate([part.other for part in parts])
    residual = data.omics[0].unweighted(state.node_residual)
    base = jnp.mean(state.z - residual - genetic, axis=-1, keepdims=True)
    return GeneticNodes(genetic, other, residual, base)


def _node_draws(key: Array, state: State, data: ModelData, settings: SweepSettings) -> _Middle:
    """Middle layer.

    Expected breeding values take each node's fixed effects and groups at their mean over
    individuals, so that they depend on the genotype alone, and the expectation over the node's
    residual.
    """
    activation = settings.activation
    theta, w = parameters_of(state, activation), state.node_coef[0]
    blocks = list(zip(state.omics, data.omics, data.block_nodes, strict=True))
    alignment = align(state, data, settings)
    if activation.linear and complete.stand_in(state):
        of_nodes = _nodes_from_sums(state, data, w)
    else:
        of_nodes = _nodes_of_everyone(key, state, data, activation, w)
    by_node = {
        "var_residual_node": state.node_variance,
        "var_genetic_node": of_nodes.var_genetic,
        "h2_node": of_nodes.var_genetic / of_nodes.var_whole,
    }
    draw = {name: alignment.arranged(value) for name, value in by_node.items()}
    for block, arrays, nodes in blocks:
        draw[f"fixed_omics{arrays.suffix}"] = alignment.signed(block.fixed, nodes)
        own = _layer_quantities("marker", block, arrays)
        draw |= {name: alignment.arranged(value, nodes) for name, value in own.items()}
    draw |= {f"theta_{name}": value for name, value in theta.items()}
    values = None
    if of_nodes.centred is not None:
        z = alignment.signed(state.z)
        values = NodeValues(z, alignment.signed(of_nodes.centred), None, None)
    if not activation.combines:
        draw["node_effect"] = alignment.signed(w)
        draw["node_included"] = alignment.arranged((w != 0).astype(w.dtype))
        draw["var_mediated_node"] = alignment.arranged(of_nodes.var_mediated)
        if len(blocks) > 1:
            draw["var_mediated_block"] = jnp.var(of_nodes.by_block, axis=-1)
        if values is not None and of_nodes.mediated is not None:
            values = values._replace(
                mediated=alignment.arranged(of_nodes.mediated),
                mediated_block=of_nodes.by_block if len(blocks) > 1 else None,
            )
    total = w @ activation.features(state.z, theta, data.units)
    return _Middle(draw, values, of_nodes.summed, total)


class _Nodes(NamedTuple):
    """What the nodes of a draw give, as they are in the state.

    Attributes
    ----------
    var_genetic, var_whole, var_mediated : (node,)
        Variances over individuals: of the node's breeding value, of the node without fixed
        effects, of what its breeding value gives to the trait's.
    summed : (individual,)
        What all nodes give to the trait's breeding value, not centred.
    by_block : (block, individual)
        The same of every block, centred.
    centred, mediated : (node, individual) or None
        As in :class:`NodeValues`; ``None`` where they would have to be formed for this alone.
    """

    var_genetic: Array
    var_whole: Array
    var_mediated: Array
    summed: Array
    by_block: Array
    centred: Array | None
    mediated: Array | None


def _nodes_of_everyone(
    key: Array, state: State, data: ModelData, activation: Activation, w: Array
) -> _Nodes:
    """From the values of all nodes in all individuals."""
    genetic, other, residual, base = genetic_nodes(key, state, data)
    centred = _centre_rows(genetic)
    var_genetic = inner_products(centred, centred) / centred.shape[-1]
    if activation.linear:  # the same as below, without going through all nodes again
        by_each, var_by_each = w[:, None] * centred, w**2 * var_genetic
        summed = w @ genetic + w @ base
    else:
        theta = parameters_of(state, activation)
        sd = jnp.sqrt(state.node_variance)[:, None]
        expected = activation.expected_features(genetic + base, sd, theta, data.units)
        by_each = _centre_rows(w[:, None] * expected)
        var_by_each, summed = jnp.var(by_each, axis=-1), w @ expected
    return _Nodes(
        var_genetic,
        jnp.var(genetic + other + residual, axis=-1),
        var_by_each,
        summed,
        jnp.stack([jnp.sum(by_each[nodes], axis=0) for nodes in data.block_nodes]),
        centred,
        by_each,
    )


def _nodes_from_sums(state: State, data: ModelData, w: Array) -> _Nodes:
    """The same of a linear network where sums stand for complete individuals."""
    found = [
        complete.genetic_parts(block, arrays, w[nodes])
        for block, arrays, nodes in zip(state.omics, data.omics, data.block_nodes, strict=True)
    ]
    fixed = [
        block.fixed @ arrays.design.matrix
        for block, arrays in zip(state.omics, data.omics, strict=True)
    ]
    base = jnp.concatenate([jnp.mean(one, axis=-1) for one in fixed])
    var_genetic = jnp.concatenate([one.variance for one in found])
    by_block = jnp.stack([one.weighted for one in found])
    return _Nodes(
        var_genetic,
        jnp.var(state.z - jnp.concatenate(fixed), axis=-1),
        w**2 * var_genetic,
        jnp.sum(by_block, axis=0) + w @ base,
        _centre_rows(by_block),
        None,
        None,
    )


def draw_quantities(
    key: Array, state: State, data: ModelData, settings: SweepSettings
) -> tuple[dict[str, Array], NodeValues | None]:
    """Quantities kept of every draw, and values of the nodes, on the internal scale."""
    key_nodes, key_trait = random.split(key)
    n = data.y_precision.shape[0]
    trait = state.trait
    zero = jnp.zeros((n,), data.y.dtype)
    draw, values, mediated, total = _Middle({}, None, zero, zero)
    if data.omics:
        draw, values, mediated, total = _node_draws(key_nodes, state, data, settings)
    means = {"mediated_mean": jnp.mean(mediated)}
    mediated = _centre(mediated)
    parts = layer_values(key_trait, trait, data.trait, n)
    means["direct_mean"] = jnp.mean(parts.markers[0])
    direct, polygenic = _centre(parts.markers[0]), _centre(parts.polygenic[0])
    total = total + parts.markers[0] + parts.polygenic[0]
    ebv = mediated + direct + polygenic
    other = sum(
        (one.level[0] for one, group in zip(trait.random, data.trait.random, strict=True)
         if not group.genetic),
        jnp.zeros((), data.y.dtype),
    )  # fmt: skip
    variance = jnp.var(total) + other + trait.variance[0]
    draw |= {
        "fixed_trait": trait.fixed[0],
        "var_residual_trait": trait.variance[0],
        "var_mediated": jnp.var(mediated),
        "var_direct": jnp.var(direct),
        "var_genetic_trait": jnp.var(ebv),
        "h2_trait": jnp.var(ebv) / variance,
        "ebv_mediated": mediated,
        "epv": _centre(total),
        "epv_mean": jnp.mean(total),
        "log_likelihood": log_likelihood(state, data, settings.activation),
        **means,
    }
    for part in ("node", "block"):
        if f"var_mediated_{part}" in draw:
            draw[f"h2_mediated_{part}"] = draw[f"var_mediated_{part}"] / variance
    of_trait = _layer_quantities("skip", trait, data.trait)
    for effects, hyper, block in zip(state.nodes, data.node_hyper, data.omics, strict=False):
        of_trait |= _effect_quantities("node", block.name, effects, hyper)
    draw |= {name: value[0] for name, value in of_trait.items()}
    if not all(term.polygenic for term in data.trait.terms):
        draw["ebv_direct"] = direct
    if has_polygenic(data.trait):
        draw["ebv_polygenic"] = polygenic
        draw["var_polygenic"] = jnp.var(polygenic)
    if any(not group.genetic for group in data.trait.random):
        draw["group_value"] = parts.other[0]
    return draw, values


def has_polygenic(arrays: LayerArrays) -> bool:
    """Whether a layer has genetic random terms."""
    terms = (term.polygenic for term in arrays.terms)
    return any(terms) or any(group.genetic for group in arrays.random)
