"""Residual variances of the middle layer and of the phenotype."""

import jax.numpy as jnp
import numpyro.distributions as dist
from jax import Array

from nnmm_jax.inference.arrays import ModelData
from nnmm_jax.inference.blocks.effects import variance_conditional
from nnmm_jax.inference.blocks.trait import trait_residual
from nnmm_jax.inference.state import State
from nnmm_jax.network.activations import Activation


def node_conditional(state: State, data: ModelData) -> dist.InverseGamma:
    """Conditional of the nodes' residual variances, (node,)."""
    hyper = data.residual_hyper
    sum_squares = jnp.sum(state.residual**2, axis=-1)
    return variance_conditional(hyper.df, hyper.scale, sum_squares, state.residual.shape[-1])


def node_kernel(key: Array, state: State, data: ModelData) -> tuple[State, dict[str, Array]]:
    """Gibbs block: residual variances of the nodes; a latent node's stays where it is fixed."""
    hyper = data.residual_hyper
    drawn = node_conditional(state, data).sample(key)
    return state._replace(var_e=jnp.where(hyper.fixed, hyper.scale, drawn)), {}


def trait_conditional(
    state: State, data: ModelData, activation: Activation
) -> dist.InverseGamma:
    """Conditional of the phenotype's residual variance; only phenotyped individuals count."""
    hyper = data.trait_hyper
    residual = trait_residual(state, data, activation)
    return variance_conditional(hyper.df, hyper.scale, jnp.sum(residual**2), data.y.shape[0])


def trait_kernel(
    key: Array, state: State, data: ModelData, activation: Activation
) -> tuple[State, dict[str, Array]]:
    """Gibbs block: residual variance of the phenotype."""
    return state._replace(var_y=trait_conditional(state, data, activation).sample(key)), {}
