"""The sampler as a NumPyro kernel: ``numpyro.infer.MCMC`` runs it like any other.

With ``chain_method="vectorized"`` all chains are rows of the same matrix products.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax, random
from numpyro.infer.mcmc import MCMCKernel

from nnmm_jax.inference.arrays import ModelData
from nnmm_jax.inference.blocks import complete
from nnmm_jax.inference.collect import (
    Accumulators,
    accumulate_effects,
    accumulate_nodes,
    empty_accumulators,
)
from nnmm_jax.inference.quantities import NodeValues, draw_quantities
from nnmm_jax.inference.start import start_state
from nnmm_jax.inference.state import State
from nnmm_jax.inference.sweep import SweepSettings, refreshed, sweep
from nnmm_jax.inference.threefry import straight

REFRESH_EVERY = 50  # sweeps between recomputations of the residual: float32 drift stays ~1e-6
NODES_EVERY = 10  # values of nodes where sums stand for people: they cost as much as the sweep
JOINT_EFFECTS_EVERY = 10  # marker effects of a joint draw cost more than the sweep itself

_START, _KEEP, _KEEP_EFFECTS = 2**31 - 1, 2**31 - 2, 2**31 - 3  # subkeys outside the sweep's own


class KernelState(NamedTuple):
    """What ``numpyro.infer.MCMC`` carries: leading axis chain, if chains are vectorised.

    Attributes
    ----------
    i : int
        Sweeps done.
    rng_key : key
        Of the chain; never advanced: sweep t uses ``fold_in(rng_key, t)``, so a run that is
        continued or cut into pieces gives the same draws.
    chain : State
    draw : dict
        Quantities of the last kept sweep, see :func:`draw_quantities`.
    stats : dict
        Acceptance, divergent trajectories, non-finite values of the last sweep.
    sums : Accumulators
    """

    i: Array
    rng_key: Array
    chain: State
    draw: dict[str, Array]
    stats: dict[str, Array]
    sums: Accumulators


class NNMMKernel(MCMCKernel):
    """HMC within Gibbs for mixed-effect neural networks.

    Parameters
    ----------
    settings : SweepSettings
        The activation. The arrays are the model's only argument, a
        :class:`~nnmm_jax.inference.arrays.ModelData`.

    Examples
    --------
    >>> from numpyro.infer import MCMC
    >>> from nnmm_jax.inference.kernel import NNMMKernel
    >>> from nnmm_jax.inference.sweep import SweepSettings
    >>> from nnmm_jax.network.activations import ACTIVATIONS
    >>> kernel = NNMMKernel(SweepSettings(ACTIVATIONS["linear"]))
    >>> mcmc = MCMC(kernel, num_warmup=5, num_samples=5, chain_method="vectorized",
    ...             num_chains=4, jit_model_args=True)  # then mcmc.run(key, data)
    """

    def __init__(self, settings: SweepSettings) -> None:
        self.settings = settings
        self._num_warmup = 0
        self._sample_fn: object = None  # MCMC asks for it to know whether init has run

    @property
    def sample_field(self) -> str:
        """Field of the state that holds the draws."""
        return "draw"

    @property
    def default_fields(self) -> tuple[str, ...]:
        """Fields that MCMC collects."""
        return ("draw", "stats")

    def init(
        self,
        rng_key: Array,
        num_warmup: int,
        init_params: None,
        model_args: tuple[ModelData],
        model_kwargs: Mapping[str, Any],
    ) -> KernelState:
        """Start the chains, one for each key."""
        self._num_warmup = num_warmup
        self._sample_fn = self.sample
        (data,) = model_args
        if rng_key.ndim == 0:
            return self._init_chain(rng_key, data)
        return jax.vmap(self._init_chain, in_axes=(0, None))(rng_key, data)

    def _init_chain(self, rng_key: Array, data: ModelData) -> KernelState:
        settings = self.settings
        chain = start_state(random.fold_in(rng_key, _START), data, settings.activation)
        chain = complete.summed(chain, data)
        stats_shape = jax.eval_shape(lambda: self._stats(rng_key, chain, data))
        draw_shape = jax.eval_shape(lambda: self._quantities(rng_key, chain, data)[0])

        def zeros(tree: Any) -> Any:
            return jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), tree)

        return KernelState(
            i=jnp.array(0),
            rng_key=rng_key,
            chain=chain,
            draw=zeros(draw_shape),
            stats=zeros(stats_shape),
            sums=empty_accumulators(data, combines=settings.activation.combines),
        )

    def _stats(self, key: Array, chain: State, data: ModelData) -> dict[str, Array]:
        """What is noted of a sweep; only its shapes are used."""
        return sweep(key, chain, data, jnp.array(0), self.settings)[1]

    def sample(
        self, state: KernelState, model_args: tuple[ModelData], model_kwargs: Mapping[str, Any]
    ) -> KernelState:
        """Advance all chains by one sweep."""
        (data,) = model_args
        if state.i.ndim == 0:
            one = jax.tree.map(lambda leaf: leaf[None], state)
            return jax.tree.map(lambda leaf: leaf[0], self._sample_chains(one, data))
        return self._sample_chains(state, data)

    def _sample_chains(self, state: KernelState, data: ModelData) -> KernelState:
        settings = self.settings
        t = state.i[0] + 1  # the same in all chains, so that the branches below stay branches
        keys = straight(jax.vmap(random.fold_in, in_axes=(0, None))(state.rng_key, t))
        warmup_iteration = jnp.where(t <= self._num_warmup, t, 0)
        chain, stats = jax.vmap(lambda key, one: sweep(key, one, data, warmup_iteration, settings))(
            keys, state.chain
        )
        chain = lax.cond(
            t % REFRESH_EVERY == 0,
            lambda: jax.vmap(lambda one: refreshed(one, data, settings.activation))(chain),
            lambda: chain,
        )
        kept = t - self._num_warmup
        draw, sums = lax.cond(
            kept > 0,
            lambda: self._keep(keys, chain, data, state.sums, kept),
            lambda: (state.draw, state.sums),
        )
        return KernelState(state.i + 1, state.rng_key, chain, draw, stats, sums)

    def _quantities(
        self, key: Array, state: State, data: ModelData
    ) -> tuple[dict[str, Array], NodeValues | None]:
        if not self.settings.activation.linear:  # expectations take the genetic values of everyone
            state = complete.whole(state, data)
        return draw_quantities(key, state, data, self.settings)

    def _keep(
        self, keys: Array, chain: State, data: ModelData, sums: Accumulators, kept: Array
    ) -> tuple[dict[str, Array], Accumulators]:
        settings = self.settings

        def keep(key: Array, one: State, sums: Accumulators) -> Any:
            draw, values = self._quantities(random.fold_in(key, _KEEP), one, data)
            return draw, sums if complete.stand_in(one) else accumulate_nodes(values, sums)

        def keep_nodes(key: Array, one: State, sums: Accumulators) -> Accumulators:
            everyone = complete.whole(one, data)
            key = random.fold_in(key, _KEEP)
            return accumulate_nodes(draw_quantities(key, everyone, data, settings)[1], sums)

        def keep_effects(key: Array, one: State, sums: Accumulators) -> Accumulators:
            key = random.fold_in(key, _KEEP_EFFECTS)
            return accumulate_effects(key, one, data, settings, sums)

        draw, sums = jax.vmap(keep)(keys, chain, sums)
        if complete.stand_in(chain):
            sums = lax.cond(
                (kept - 1) % NODES_EVERY == 0,
                lambda: jax.vmap(keep_nodes)(keys, chain, sums),
                lambda: sums,
            )
        layers = (*data.omics, data.trait)
        joint = any(term.spectrum is not None for arrays in layers for term in arrays.terms)
        every = JOINT_EFFECTS_EVERY if joint else 1
        if sums.markers is None and sums.skip is None:
            return draw, sums
        sums = lax.cond(
            (kept - 1) % every == 0,
            lambda: jax.vmap(keep_effects)(keys, chain, sums),
            lambda: sums,
        )
        return draw, sums
