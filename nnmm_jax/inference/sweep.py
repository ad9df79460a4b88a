"""One sweep over all Gibbs blocks of one chain."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jax import Array, random

from nnmm_jax.inference import noise
from nnmm_jax.inference.arrays import ModelData
from nnmm_jax.inference.blocks import (
    latent_move,
    layer,
    mediated_move,
    missing_hmc,
    missing_linear,
    missing_prior,
    theta,
    trait,
    variances,
)
from nnmm_jax.inference.state import State
from nnmm_jax.network.activations import Activation

SOLVER = ("cg_iterations", "cg_failed")  # what is added up over all blocks that solve systems


@dataclass(frozen=True)
class SweepSettings:
    """What is static about a sweep beside the arrays: part of the compiled program.

    Attributes
    ----------
    activation : Activation
    nuts : bool
        Whether missing omics of a nonlinear network move by NUTS instead of HMC.
    warmup : int
        Sweeps of warm-up, by which NumPyro plans the adaptation of theta.
    """

    activation: Activation
    nuts: bool = False
    warmup: int = 0


def _missing(
    keys: dict[str, Array],
    state: State,
    data: ModelData,
    settings: SweepSettings,
    warmup_iteration: Array,
) -> tuple[State, dict[str, Array]]:
    info: dict[str, Array] = {}
    activation = settings.activation
    if activation.linear:
        if mediated_move.applies(data, activation):
            state, info = mediated_move.kernel(keys["mediated"], state, data)
        if data.incomplete_rows.shape[0]:
            state, _ = missing_linear.kernel(keys["missing"], state, data)
        return state, info
    if data.informed_rows.shape[0]:
        state, info = missing_hmc.kernel(
            keys["missing"], state, data, activation, warmup_iteration, nuts=settings.nuts
        )
    if data.free_rows.shape[0]:
        state, _ = missing_prior.kernel(keys["unseen"], state, data)
    return state, info


def _nodes(
    keys: dict[str, Array],
    state: State,
    data: ModelData,
    settings: SweepSettings,
    warmup_iteration: Array,
) -> tuple[State, dict[str, Array]]:
    """What leads from the nodes to the trait: effects, parameters, or neither."""
    activation = settings.activation
    info: dict[str, Array] = {}
    if data.node_hyper:
        state, info = trait.kernel(keys["nodes"], state, data, activation)
    if activation.parameters.priors:
        state, info = theta.kernel(
            keys["theta"], state, data, activation, warmup_iteration, settings.warmup
        )
    elif not data.node_hyper:  # the nodes have moved, and nothing else took notice
        residual = trait.trait_residual(state, data, activation)
        state = state._replace(trait=state.trait._replace(residual=residual))
    return state, info


def sweep(
    key: Array, state: State, data: ModelData, warmup_iteration: Array, settings: SweepSettings
) -> tuple[State, dict[str, Array]]:
    """Update everything once.

    Parameters
    ----------
    key : Array
        Of this chain and sweep.
    warmup_iteration : Array
        Counts from 1 during warm-up, 0 afterwards.

    Returns
    -------
    state, info
    """
    activation = settings.activation
    names = (
        "missing",
        "omics",
        "nodes",
        "trait",
        "variances",
        "unseen",
        "theta",
        "latent",
        "mediated",
    )
    keys = {name: random.fold_in(key, number) for number, name in enumerate(names)}
    info: dict[str, Array] = {}
    found: list[dict[str, Array]] = []
    if data.omics:
        state, info = _missing(keys, state, data, settings, warmup_iteration)
        found.append({name: info.pop(name) for name in SOLVER if name in info})
        blocks = []
        for number, (block, arrays) in enumerate(zip(state.omics, data.omics, strict=True)):
            new, more = layer.kernel(
                noise.of_block(keys["omics"], number),
                block,
                arrays,
                incomplete_rows=data.incomplete_rows,
            )
            blocks.append(new)
            found.append(more)
        state = state._replace(omics=tuple(blocks))
        if any(rows.shape[0] for rows in data.latent_rows):
            state, _ = latent_move.kernel(keys["latent"], state, data, activation)
        state, more = _nodes(keys, state, data, settings, warmup_iteration)
        info |= more
    new, more = layer.kernel(
        keys["trait"],
        state.trait,
        data.trait,
        fixed_elsewhere=bool(data.node_hyper or activation.parameters.priors),
        sharing=list(zip(state.nodes, data.node_hyper, strict=True)),
        whole=None if data.omics else data.y[None],
    )
    found.append(more)
    state, _ = variances.kernel(keys["variances"], state._replace(trait=new), data)
    for name in sorted({name for one in found for name in one}):
        # A strong type to begin with: a weak one would have every piece compiled twice.
        info[name] = sum((one[name] for one in found if name in one), jnp.zeros((), jnp.int32))
    return state, {**info, "non_finite": count_non_finite(state)}


def refreshed(state: State, data: ModelData, activation: Activation) -> State:
    """Compute all caches (values of terms, residuals) from scratch.

    Where sums stand for complete individuals every sweep does so by itself in layer 1.
    """
    blocks = []
    for block, arrays, nodes in zip(state.omics, data.omics, data.block_nodes, strict=True):
        if block.sums is not None:
            blocks.append(block)
            continue
        omics, explained = layer.fitted(block, arrays)
        blocks.append(omics._replace(residual=arrays.weighted(state.z[nodes]) - explained))
    state = state._replace(omics=tuple(blocks))
    new, _ = layer.fitted(state.trait, data.trait)
    state = state._replace(trait=new)
    residual = trait.trait_residual(state, data, activation)
    return state._replace(trait=new._replace(residual=residual))


def count_non_finite(state: State) -> Array:
    """Count values of the state that are NaN or infinite."""
    return sum(
        (jnp.sum(~jnp.isfinite(leaf)) for leaf in jax.tree.leaves(state)), start=jnp.array(0)
    )
