"""One sweep over all Gibbs blocks of one chain."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jax import Array, random

from nnmm_jax.inference.arrays import ModelData
from nnmm_jax.inference.blocks import (
    missing_hmc,
    missing_linear,
    missing_prior,
    mixed_model,
    trait,
    variances,
)
from nnmm_jax.inference.state import State
from nnmm_jax.network.activations import Activation, activation_by_name


@dataclass(frozen=True)
class SweepSettings:
    """What is static about a sweep: it selects blocks, and is part of the compiled program.

    Attributes
    ----------
    activation : str
    marker_spike, node_spike, skip_spike : bool
        Whether the prior has a spike at zero.
    """

    activation: str
    marker_spike: bool
    node_spike: bool
    skip_spike: bool = False

    @property
    def activate(self) -> Activation:
        """The activation itself."""
        return activation_by_name(self.activation)


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
    activation = settings.activate
    names = ("missing", "omics", "nodes", "skip", "variances", "unseen")
    keys = {name: random.fold_in(key, number) for number, name in enumerate(names)}
    info: dict[str, Array] = {}
    if activation.linear:
        if data.incomplete_rows.shape[0]:
            state, _ = missing_linear.kernel(keys["missing"], state, data)
    else:
        if data.informed_rows.shape[0]:
            state, info = missing_hmc.kernel(
                keys["missing"], state, data, activation, warmup_iteration
            )
        if data.free_rows.shape[0]:
            state, _ = missing_prior.kernel(keys["unseen"], state, data)
    state, _ = mixed_model.kernel(keys["omics"], state, data)
    state, _ = trait.kernel(keys["nodes"], state, data, activation, settings.node_spike)
    if state.skip is not None:
        state, _ = trait.skip_kernel(keys["skip"], state, data, activation)
    state, _ = variances.kernel(keys["variances"], state, data, activation)
    return state, {**info, "non_finite": count_non_finite(state)}


def refreshed_residual(state: State, data: ModelData) -> Array:
    """Compute the residual cache from scratch."""
    genetic = mixed_model.genetic_values(state.markers, data.omics)
    return state.z - state.beta @ data.omics.design.matrix - genetic


def count_non_finite(state: State) -> Array:
    """Count values of the state that are NaN or infinite."""
    return sum(
        (jnp.sum(~jnp.isfinite(leaf)) for leaf in jax.tree.leaves(state)), start=jnp.array(0)
    )
