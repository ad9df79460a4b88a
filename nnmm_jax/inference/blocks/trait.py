"""Effects of the middle layer's nodes on the phenotype, with the phenotype's fixed effects."""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array, random

from nnmm_jax.inference import noise
from nnmm_jax.inference.arrays import EffectHyper, ModelData
from nnmm_jax.inference.blocks.effects import coordinate_sweep, draw_sweep
from nnmm_jax.inference.blocks.families import family_of
from nnmm_jax.inference.blocks.mixed_model import fixed_conditional, with_components
from nnmm_jax.inference.blocks.scale_move import scale_move
from nnmm_jax.inference.state import EffectState, State
from nnmm_jax.network.activations import NO_THETA, Activation, Theta


def parameters_of(state: State, activation: Activation) -> Theta:
    """Parameters of a user's function."""
    return NO_THETA if state.theta is None else activation.parameters.constrain(state.theta)


def active_records(state: State, data: ModelData, activation: Activation) -> Array:
    """Activated nodes (feature, record) of the phenotype records, weighted."""
    theta = parameters_of(state, activation)
    active = activation.features(state.z, theta, data.units)
    return data.trait.weighted(data.of_records(active))


def without_nodes(state: State, data: ModelData) -> Array:
    """Phenotype minus fixed effects and terms, nodes still in it, (record,), weighted."""
    trait = state.trait
    terms = sum((*trait.term_values, *trait.random_values), jnp.zeros_like(data.y))
    return jnp.reshape(data.y - trait.fixed @ data.trait.design.matrix - terms, data.y.shape)


def without_terms(state: State, data: ModelData) -> Array:
    """What fixed effects, nodes and residual make up of the phenotype, (record,), weighted."""
    return without_nodes(state, data) + (state.trait.fixed @ data.trait.design.matrix)[0]


def trait_residual(state: State, data: ModelData, activation: Activation) -> Array:
    """Phenotype minus everything that explains it, (1, record), weighted, from scratch."""
    left = without_nodes(state, data)[None]
    if not data.omics:
        return left
    return left - state.node_coef @ active_records(state, data, activation)


class TraitSystem(NamedTuple):
    """Normal equations of the node effects with the fixed effects integrated out.

    The density of node effects w is their prior times ``exp(-(w'gram w - 2 w'rhs) / (2 var_y))``.
    ``active`` are the activated nodes, ``response`` is what fixed and node effects explain.
    """

    active: Array
    response: Array
    gram: Array
    rhs: Array


def trait_system(state: State, data: ModelData, activation: Activation) -> TraitSystem:
    """Form the equations.

    Integrating the fixed effects out keeps the chain from creeping along the ridge between the
    intercept and activations that are not centred (sigmoid, relu).
    """
    design = data.trait.design
    active = active_records(state, data, activation)
    response = without_terms(state, data)
    seen, seen_response = design.basis @ active.T, design.basis @ response
    taken = data.trait.taken(state.trait.variance)[0]
    gram = active @ active.T - taken * (seen.T @ seen)
    rhs = active @ response - taken * (seen.T @ seen_response)
    return TraitSystem(active, response, gram, rhs)


def joint_system(
    state: State, system: TraitSystem, data: ModelData
) -> tuple[noise.GaussianSystem, np.ndarray]:
    """Conditional of the node effects that have no spike, fixed effects integrated out.

    Such effects are normal given their variances; all blocks without a spike are one draw.

    Returns
    -------
    GaussianSystem
    (effect,) int
        The nodes that it is about.
    """
    var_y = state.trait.variance
    own, ridge = [], []
    for effects, hyper, nodes in zip(state.nodes, data.node_hyper, data.block_nodes, strict=True):
        if not hyper.spike:
            (variance,) = family_of(hyper).slabs(effects, var_y, hyper)
            count = nodes.stop - nodes.start
            ridge.append(jnp.broadcast_to(1.0 / variance[0], (count,)))
            own.append(np.arange(nodes.start, nodes.stop))
    mine = np.concatenate(own)
    others = state.node_coef[0].at[mine].set(0.0)
    rhs = (system.rhs - system.gram @ others)[mine]
    gram = system.gram[mine][:, mine]
    precision = gram / var_y + jnp.diag(jnp.concatenate(ridge))
    return noise.GaussianSystem(precision, rhs / var_y), mine


def _sweep_nodes(
    key: Array,
    coef: Array,
    state: State,
    system: TraitSystem,
    block: tuple[EffectState, EffectHyper, slice],
) -> Array:
    """Effects (node,) of a block with a spike, one after the other, given all others (node,)."""
    effects, hyper, nodes = block
    var_y, gram = state.trait.variance, system.gram[nodes, nodes]
    draws = draw_sweep(
        key,
        jnp.diagonal(gram),
        var_y,
        family_of(hyper).slabs(effects, var_y, hyper),
        effects.weights,
    )
    rhs = (system.rhs - system.gram @ coef)[None, nodes]
    return coordinate_sweep(gram, rhs, coef[None, nodes], draws)[0]


def _draw_coef(key: Array, state: State, data: ModelData, system: TraitSystem) -> Array:
    """New effects (1, node) of all nodes."""
    key_joint, key_sweep = random.split(key)
    coef = state.node_coef[0]
    if not all(hyper.spike for hyper in data.node_hyper):
        equations, mine = joint_system(state, system, data)
        drawn = noise.draw_gaussian(key_joint, equations, after=state.omics[-1].residual)
        coef = coef.at[mine].set(drawn)
    blocks = zip(state.nodes, data.node_hyper, data.block_nodes, strict=True)
    for number, block in enumerate(blocks):
        if block[1].spike:
            new = _sweep_nodes(noise.of_block(key_sweep, number), coef, state, system, block)
            coef = coef.at[block[2]].set(new)
    return coef[None]


def draw_fixed(key: Array, response: Array, state: State, data: ModelData) -> tuple[Array, Array]:
    """Draw the trait's fixed effects given all else.

    Parameters
    ----------
    response : (1, record)
        What fixed effects and residual make up, weighted.

    Returns
    -------
    fixed effects (1, fixed term), residual (1, record)
    """
    design = data.trait.design
    conditional = fixed_conditional(response @ design.basis.T, state.trait.variance, data.trait)
    coordinates = noise.draw_normal(key, conditional)
    return coordinates @ design.to_terms, response - coordinates @ design.basis


def kernel(
    key: Array, state: State, data: ModelData, activation: Activation
) -> tuple[State, dict[str, Array]]:
    """Gibbs block: node effects with the fixed effects integrated out, fixed effects, then scale.

    Blocks with a spike are swept over their nodes, all others are one joint draw.
    """
    key_nodes, key_fixed, key_scale, key_own = random.split(key, 4)
    system = trait_system(state, data, activation)
    coef = _draw_coef(key_nodes, state, data, system)
    fixed, left = draw_fixed(key_fixed, system.response - coef @ system.active, state, data)
    var_y, moved = state.trait.variance, []
    for number, (effects, hyper, nodes) in enumerate(
        zip(state.nodes, data.node_hyper, data.block_nodes, strict=True)
    ):
        mine = coef[:, nodes]
        fitted = mine @ system.active[nodes]
        effects = with_components(
            noise.of_block(key_own, number), effects._replace(coef=mine), var_y, hyper
        )
        effects, _, left = scale_move(
            noise.of_block(key_scale, number), effects, fitted, left, var_y, hyper
        )
        moved.append(effects)
    trait = state.trait._replace(fixed=fixed, residual=left)
    return state._replace(nodes=tuple(moved), trait=trait), {}
