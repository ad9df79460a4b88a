"""One sweep over all Gibbs blocks of one chain."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jax import Array, random

from nnmm_jax.inference.arrays import ModelData
from nnmm_jax.inference.blocks import (
    layer,
    missing_hmc,
    missing_linear,
    missing_prior,
    trait,
    variances,
)
from nnmm_jax.inference.state import State
from nnmm_jax.network.activations import Activation, activation_by_name


@dataclass(frozen=True)
class SweepSettings:
    """What is static about a sweep beside the arrays: part of the compiled program.

    Attributes
    ----------
    activation : str
    """

    activation: str

    @property
    def activate(self) -> Activation:
        """The activation itself."""
        return activation_by_name(self.activation)


def _missing(
    keys: dict[str, Array],
    state: State,
    data: ModelData,
    activation: Activation,
    warmup_iteration: Array,
) -> tuple[State, dict[str, Array]]:
    info: dict[str, Array] = {}
    if activation.linear:
        if data.incomplete_rows.shape[0]:
            state, _ = missing_linear.kernel(keys["missing"], state, data)
        return state, info
    if data.informed_rows.shape[0]:
        state, info = missing_hmc.kernel(keys["missing"], state, data, activation, warmup_iteration)
    if data.free_rows.shape[0]:
        state, _ = missing_prior.kernel(keys["unseen"], state, data)
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
    activation = settings.activate
    names = ("missing", "omics", "nodes", "trait", "variances", "unseen")
    keys = {name: random.fold_in(key, number) for number, name in enumerate(names)}
    info: dict[str, Array] = {}
    found: list[dict[str, Array]] = []
    if state.omics is not None and data.omics is not None:
        state, info = _missing(keys, state, data, activation, warmup_iteration)
        assert state.omics is not None
        omics, more = layer.kernel(keys["omics"], state.omics, data.omics)
        found.append(more)
        state, _ = trait.kernel(keys["nodes"], state._replace(omics=omics), data, activation)
    new, more = layer.kernel(
        keys["trait"], state.trait, data.trait, fixed_elsewhere=state.nodes is not None
    )
    found.append(more)
    state, _ = variances.kernel(keys["variances"], state._replace(trait=new), data)
    for name in sorted({name for one in found for name in one}):
        # A strong type to begin with: a weak one would have every piece compiled twice.
        info[name] = sum((one[name] for one in found if name in one), jnp.zeros((), jnp.int32))
    return state, {**info, "non_finite": count_non_finite(state)}


def refreshed(state: State, data: ModelData, activation: Activation) -> State:
    """Compute all caches (values of terms, residuals) from scratch."""
    if state.omics is not None and data.omics is not None:
        omics, explained = layer.fitted(state.omics, data.omics)
        residual = data.omics.weighted(state.z) - explained
        state = state._replace(omics=omics._replace(residual=residual))
    new, _ = layer.fitted(state.trait, data.trait)
    state = state._replace(trait=new)
    residual = trait.trait_residual(state, data, activation)
    return state._replace(trait=new._replace(residual=residual))


def count_non_finite(state: State) -> Array:
    """Count values of the state that are NaN or infinite."""
    return sum(
        (jnp.sum(~jnp.isfinite(leaf)) for leaf in jax.tree.leaves(state)), start=jnp.array(0)
    )
