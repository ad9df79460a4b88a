"""Layer 2 -> 3: fixed effects and node effects on the phenotype in one block, and the skip."""

from typing import NamedTuple

import jax.numpy as jnp
from jax import Array, random

from nnmm_jax.inference import noise
from nnmm_jax.inference.arrays import ModelData
from nnmm_jax.inference.blocks.effects import (
    coordinate_sweep,
    draw_sweep,
)
from nnmm_jax.inference.blocks.mixed_model import MixedState, fixed_conditional, update_mixed
from nnmm_jax.inference.blocks.scale_move import scale_move
from nnmm_jax.inference.state import State
from nnmm_jax.network.activations import Activation


def trait_residual(state: State, data: ModelData, activation: Activation) -> Array:
    """Phenotype minus everything that explains it, (phenotyped individual,)."""
    active = activation.function(state.z[:, data.y_rows])
    return (
        data.y
        - state.fixed @ data.design_trait.matrix
        - state.nodes.coef[0] @ active
        - state.direct
    )


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
    design = data.design_trait
    active = activation.function(state.z[:, data.y_rows])
    response = data.y - state.direct
    stacked = jnp.concatenate([active, response[None]])
    seen = design.basis @ stacked.T
    cross = active @ stacked.T - seen[:, :-1].T @ seen
    return TraitSystem(active, response, cross[:, :-1], cross[:, -1])


def joint_system(state: State, system: TraitSystem) -> noise.GaussianSystem:
    """Conditional of all node effects under a normal prior, fixed effects integrated out."""
    ridge = jnp.eye(system.gram.shape[0], dtype=system.gram.dtype) / state.nodes.variance[0]
    return noise.GaussianSystem(system.gram / state.var_y + ridge, system.rhs / state.var_y)


def _sweep_nodes(key: Array, state: State, system: TraitSystem) -> Array:
    old = state.nodes.coef.T
    draws = draw_sweep(
        key,
        jnp.diagonal(system.gram),
        state.var_y[None],
        state.nodes.variance,
        state.nodes.pi,
    )
    rhs = system.rhs[:, None] - system.gram @ old
    return coordinate_sweep(system.gram, rhs, old, draws)[:, 0]


def kernel(
    key: Array, state: State, data: ModelData, activation: Activation, spike: bool
) -> tuple[State, dict[str, Array]]:
    """Gibbs block: node effects with the fixed effects integrated out, fixed effects, then scale.

    Parameters
    ----------
    spike : bool
        Whether the node prior has a spike (one sweep over nodes) or not (one joint draw).
    """
    key_nodes, key_fixed, key_scale = random.split(key, 3)
    system = trait_system(state, data, activation)
    if spike:
        coef = _sweep_nodes(key_nodes, state, system)[None]
    else:
        coef = noise.draw_gaussian(key_nodes, joint_system(state, system), after=state.residual)[
            None
        ]
    fitted = coef @ system.active
    seen = (system.response - fitted) @ data.design_trait.basis.T
    coordinates = noise.draw_normal(key_fixed, fixed_conditional(seen, state.var_y[None]))
    left = system.response - fitted - coordinates @ data.design_trait.basis
    nodes, _, _ = scale_move(
        key_scale,
        state.nodes._replace(coef=coef),
        fitted,
        left,
        state.var_y[None],
        data.node_hyper,
    )
    return state._replace(nodes=nodes, fixed=coordinates[0] @ data.design_trait.to_terms), {}


def skip_kernel(
    key: Array, state: State, data: ModelData, activation: Activation
) -> tuple[State, dict[str, Array]]:
    """Gibbs block: fixed and marker effects straight on the phenotype."""
    assert state.skip is not None
    assert data.skip is not None
    residual = trait_residual(state, data, activation)[None]
    current = MixedState(state.skip, state.fixed[None], state.direct[None], residual)
    new = update_mixed(key, current, state.var_y[None], data.skip)
    return state._replace(skip=new.effects, fixed=new.fixed[0], direct=new.genetic[0]), {}
