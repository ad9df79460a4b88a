"""Effects of the middle layer's nodes on the phenotype, with the phenotype's fixed effects."""

from typing import NamedTuple

import jax.numpy as jnp
from jax import Array, random

from nnmm_jax.inference import noise
from nnmm_jax.inference.arrays import EffectHyper, ModelData
from nnmm_jax.inference.blocks.effects import coordinate_sweep, draw_sweep
from nnmm_jax.inference.blocks.families import family_of
from nnmm_jax.inference.blocks.mixed_model import fixed_conditional, with_components
from nnmm_jax.inference.blocks.scale_move import scale_move
from nnmm_jax.inference.state import State
from nnmm_jax.network.activations import Activation


def active_records(z: Array, data: ModelData, activation: Activation) -> Array:
    """Activated nodes (node, record) of the phenotype records, weighted."""
    return data.trait.weighted(activation.function(z[:, data.y_rows]))


def without_nodes(state: State, data: ModelData) -> Array:
    """Phenotype minus fixed effects and terms, nodes still in it, (record,), weighted."""
    trait = state.trait
    terms = sum((*trait.term_values, *trait.random_values), jnp.zeros_like(data.y))
    return jnp.reshape(data.y - trait.fixed @ data.trait.design.matrix - terms, data.y.shape)


def trait_residual(state: State, data: ModelData, activation: Activation) -> Array:
    """Phenotype minus everything that explains it, (1, record), weighted, from scratch."""
    left = without_nodes(state, data)[None]
    if state.nodes is None:
        return left
    return left - state.nodes.coef @ active_records(state.z, data, activation)


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
    active = active_records(state.z, data, activation)
    response = without_nodes(state, data) + (state.trait.fixed @ design.matrix)[0]
    stacked = jnp.concatenate([active, response[None]])
    seen = design.basis @ stacked.T
    cross = active @ stacked.T - seen[:, :-1].T @ seen
    return TraitSystem(active, response, cross[:, :-1], cross[:, -1])


def joint_system(state: State, system: TraitSystem, hyper: EffectHyper) -> noise.GaussianSystem:
    """Conditional of all node effects given their variances, fixed effects integrated out.

    For priors without a spike, whose effects are normal given their variances.
    """
    assert state.nodes is not None
    var_y = state.trait.variance
    (variance,) = family_of(hyper).slabs(state.nodes, var_y, hyper)
    ridge = jnp.diag(jnp.broadcast_to(1.0 / variance[0], system.rhs.shape))
    return noise.GaussianSystem(system.gram / var_y + ridge, system.rhs / var_y)


def _sweep_nodes(key: Array, state: State, system: TraitSystem, hyper: EffectHyper) -> Array:
    assert state.nodes is not None
    old, var_y = state.nodes.coef.T, state.trait.variance
    draws = draw_sweep(
        key,
        jnp.diagonal(system.gram),
        var_y,
        family_of(hyper).slabs(state.nodes, var_y, hyper),
        state.nodes.weights,
    )
    rhs = system.rhs[:, None] - system.gram @ old
    return coordinate_sweep(system.gram, rhs, old, draws)[:, 0]


def kernel(
    key: Array, state: State, data: ModelData, activation: Activation
) -> tuple[State, dict[str, Array]]:
    """Gibbs block: node effects with the fixed effects integrated out, fixed effects, then scale.

    With a spike one sweep over the nodes, otherwise one joint draw.
    """
    hyper, design, trait = data.node_hyper, data.trait.design, state.trait
    assert hyper is not None
    assert state.nodes is not None
    key_nodes, key_fixed, key_scale, key_own = random.split(key, 4)
    system = trait_system(state, data, activation)
    if hyper.spike:
        coef = _sweep_nodes(key_nodes, state, system, hyper)[None]
    else:
        after = state.omics.residual if state.omics is not None else data.y
        equations = joint_system(state, system, hyper)
        coef = noise.draw_gaussian(key_nodes, equations, after=after)[None]
    fitted = coef @ system.active
    seen = (system.response - fitted) @ design.basis.T
    coordinates = noise.draw_normal(key_fixed, fixed_conditional(seen, trait.variance))
    left = system.response - fitted - coordinates @ design.basis
    nodes = with_components(key_own, state.nodes._replace(coef=coef), trait.variance, hyper)
    nodes, _, residual = scale_move(key_scale, nodes, fitted, left, trait.variance, hyper)
    trait = trait._replace(fixed=coordinates @ design.to_terms, residual=residual)
    return state._replace(nodes=nodes, trait=trait), {}
