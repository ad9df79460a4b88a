"""Layer 2 -> 3: fixed effects and node effects on the phenotype in one block, and the skip."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, random

from nnmm_jax.inference.arrays import ModelData
from nnmm_jax.inference.blocks.effects import (
    coordinate_sweep,
    draw_hyper,
    draw_sweep,
    solve_normal,
)
from nnmm_jax.inference.blocks.markers import genetic_values, update_markers
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

    The density of node effects w is their prior times ``exp(-(w'gram w - 2 w'rhs) / (2 var_y))``;
    given them, fixed effects are N(fixed_solve(X (response - w active)), var_y fixed_gram^-1).
    """

    active: Array
    response: Array
    fixed_cholesky: Array
    gram: Array
    rhs: Array


def trait_system(state: State, data: ModelData, activation: Activation) -> TraitSystem:
    """Form the equations. Integrating the fixed effects out keeps the chain from creeping along
    the ridge between the intercept and activations that are not centred (sigmoid, relu).
    """
    design = data.design_trait
    active = activation.function(state.z[:, data.y_rows])
    response = data.y - state.direct
    ridge = state.var_y / data.fixed_variance
    fixed_gram = design.matrix @ design.matrix.T
    cholesky = jnp.linalg.cholesky(fixed_gram + ridge * jnp.eye(fixed_gram.shape[0]))
    stacked = jnp.concatenate([active, response[None]])
    half = jax.scipy.linalg.solve_triangular(cholesky, design.matrix @ stacked.T, lower=True)
    cross = active @ stacked.T - half[:, :-1].T @ half
    return TraitSystem(active, response, cholesky, cross[:, :-1], cross[:, -1])


def _draw_nodes_jointly(key: Array, state: State, system: TraitSystem) -> Array:
    ridge = state.var_y / state.nodes.variance[0]
    cholesky = jnp.linalg.cholesky(system.gram + ridge * jnp.eye(system.gram.shape[0]))
    noise = jnp.sqrt(state.var_y) * random.normal(key, system.rhs.shape, system.rhs.dtype)
    return solve_normal(cholesky, system.rhs, noise)


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
    """Gibbs block: (node effects, fixed effects), then the node effects' variance and pi.

    Parameters
    ----------
    spike : bool
        Whether the node prior has a spike (one sweep over nodes) or not (one joint draw).
    """
    key_nodes, key_fixed, key_hyper = random.split(key, 3)
    system = trait_system(state, data, activation)
    draw = _sweep_nodes if spike else _draw_nodes_jointly
    coef = draw(key_nodes, state, system)[None]
    noise = jnp.sqrt(state.var_y) * random.normal(key_fixed, state.fixed.shape, state.fixed.dtype)
    rhs = data.design_trait.matrix @ (system.response - coef[0] @ system.active)
    fixed = solve_normal(system.fixed_cholesky, rhs, noise)
    nodes = draw_hyper(key_hyper, coef, state.nodes, data.node_hyper, coef.shape[-1])
    return state._replace(nodes=nodes._replace(coef=coef), fixed=fixed), {}


def skip_kernel(
    key: Array, state: State, data: ModelData, activation: Activation
) -> tuple[State, dict[str, Array]]:
    """Gibbs block: marker effects straight on the phenotype, with their variance and pi."""
    assert state.skip is not None
    assert data.skip_markers is not None
    assert data.skip_hyper is not None
    skip, _ = update_markers(
        key,
        state.skip,
        trait_residual(state, data, activation)[None],
        state.var_y[None],
        data.skip_markers,
        data.skip_spectrum,
        data.skip_hyper,
    )
    direct = genetic_values(skip, data.skip_markers, data.skip_spectrum)[0]
    return state._replace(skip=skip, direct=direct), {}
