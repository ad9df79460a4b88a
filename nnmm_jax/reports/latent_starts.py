"""Very different places where chains of a network with latent nodes may start."""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from nnmm_jax.inference.arrays import LayerArrays, ModelData
from nnmm_jax.inference.state import EffectState, LayerState, State
from nnmm_jax.inference.sweep import refreshed
from nnmm_jax.network.activations import Activation


class Start(NamedTuple):
    """Where a chain starts.

    Attributes
    ----------
    nodes : float or None
        Latent nodes at this multiple of the phenotype, with node effects of that sign that lead
        from the one to the other; 0: nodes and effects at zero; ``None``: as usual, nodes at
        standard normal noise and effects at zero.
    log_variance : float
        Added to the logarithm of every variance that is not known.
    """

    nodes: float | None
    log_variance: float


# Usual starts have log variances with an sd of 0.5 around the prior mean; these go far beyond.
STARTS = tuple(
    Start(nodes, log_variance) for nodes in (None, 0.0, 3.0, -3.0) for log_variance in (-2.0, 2.0)
)


def spread(
    chains: State, data: ModelData, activation: Activation, starts: Sequence[Start]
) -> State:
    """Move the starting states of chains to the given starts, in turn.

    Parameters
    ----------
    chains : State
        Leading axis chain.
    data, activation
        Of the model; one record an individual.
    starts : sequence of Start
        Chain c gets the start of number c, counted anew when they end.
    """
    count = chains.z.shape[0]
    taken = [starts[chain % len(starts)] for chain in range(count)]
    usual = jnp.asarray([start.nodes is None for start in taken])
    multiple = jnp.asarray([start.nodes or 0.0 for start in taken], chains.z.dtype)
    factor = jnp.exp(jnp.asarray([start.log_variance for start in taken], chains.z.dtype))
    y = jnp.zeros(chains.z.shape[-1], chains.z.dtype).at[data.y_rows].set(data.y)

    def one(state: State, usual: Array, multiple: Array, factor: Array) -> State:
        moved = data.latent & ~usual
        z = jnp.where(moved[:, None], multiple * y, state.z)
        effect = jnp.where(multiple == 0, 0.0, 1.0 / jnp.where(multiple == 0, 1.0, multiple))
        nodes = tuple(
            _scaled(block, factor, hyper.known)._replace(
                coef=jnp.where(moved[rows], effect / data.latent.shape[0], block.coef)
            )
            for block, hyper, rows in zip(
                state.nodes, data.node_hyper, data.block_nodes, strict=True
            )
        )
        omics = tuple(
            _layer(block, factor, arrays)
            for block, arrays in zip(state.omics, data.omics, strict=True)
        )
        trait = _layer(state.trait, factor, data.trait)
        return refreshed(
            state._replace(z=z, nodes=nodes, omics=omics, trait=trait), data, activation
        )

    return jax.jit(jax.vmap(one))(chains, usual, multiple, factor)


def _scaled(effects: EffectState, factor: Array, known: bool) -> EffectState:
    return effects if known else effects._replace(level=factor * effects.level)


def _layer(layer: LayerState, factor: Array, arrays: LayerArrays) -> LayerState:
    terms = tuple(
        _scaled(effects, factor, term.hyper.known)
        for effects, term in zip(layer.terms, arrays.terms, strict=True)
    )
    variance = jnp.where(arrays.residual_hyper.fixed, 1.0, factor) * layer.variance
    return layer._replace(terms=terms, variance=variance)
