"""Dispersed starting values of a chain, so that R-hat can tell whether chains agree."""

import jax.numpy as jnp
from jax import Array, random

from nnmm_jax.inference import noise
from nnmm_jax.inference.arrays import EffectHyper, LayerArrays, ModelData, ResidualHyper
from nnmm_jax.inference.blocks import theta as theta_block
from nnmm_jax.inference.blocks.families import family_of
from nnmm_jax.inference.blocks.layer import fitted
from nnmm_jax.inference.blocks.missing_hmc import init_adapt
from nnmm_jax.inference.blocks.mixed_model import allowed_effects
from nnmm_jax.inference.blocks.trait import trait_residual
from nnmm_jax.inference.state import EffectState, LayerState, State
from nnmm_jax.network.activations import Activation

START_LOG_SD = 0.5  # sd of log variances around their prior means


def _dispersed(key: Array, mean: Array) -> Array:
    return mean * jnp.exp(START_LOG_SD * noise.normal(key, mean.shape, mean.dtype))


def _effects(
    key: Array, hyper: EffectHyper, n_effects: int, allowed: Array | None = None
) -> EffectState:
    """All effects zero; the first update draws them.

    ``allowed`` is (effect, 1 or response).
    """
    shape = (hyper.scale.shape[0], n_effects)
    start = family_of(hyper).start(hyper)
    level = hyper.scale if hyper.known else _dispersed(key, start)
    own = None
    if hyper.family == "own":
        own = jnp.broadcast_to(level[:, None], shape)
    elif hyper.family == "lasso":
        own = jnp.broadcast_to(2.0 / level[:, None], shape)
    elif hyper.mixture:
        own = jnp.zeros(shape, level.dtype)
    if own is not None and allowed is not None:
        own = jnp.where(allowed.T, own, 0.0)
    return EffectState(jnp.zeros(shape, level.dtype), level, hyper.weights, own)


def _residual_variance(key: Array, hyper: ResidualHyper) -> Array:
    mean = jnp.where(hyper.df > 2, hyper.df / jnp.maximum(hyper.df - 2.0, 1e-3), 1.0) * hyper.scale
    return jnp.where(hyper.fixed, hyper.scale, _dispersed(key, mean))


def _layer(key: Array, arrays: LayerArrays, response: Array) -> LayerState:
    terms = []
    for number, term in enumerate(arrays.terms):
        key_term = random.fold_in(key, number)
        if term.spectrum is None:
            allowed = allowed_effects(term)
            terms.append(_effects(key_term, term.hyper, term.markers.n_padded, allowed))
        else:
            terms.append(_effects(key_term, term.hyper, term.spectrum.values.shape[0]))
    groups = tuple(
        _effects(random.fold_in(key, len(terms) + number), group.hyper, group.n_levels)
        for number, group in enumerate(arrays.random)
    )
    fixed = jnp.zeros((response.shape[0], arrays.design.matrix.shape[0]), response.dtype)
    last = random.fold_in(key, len(terms) + len(groups))
    variance = _residual_variance(last, arrays.residual_hyper)
    state = LayerState(fixed, tuple(terms), groups, (), (), response, variance)
    return fitted(state, arrays)[0]


def _start_theta(key: Array, z: Array, data: ModelData, activation: Activation) -> Array:
    def finite(flat: Array) -> Array:
        theta = activation.parameters.constrain(flat)
        return jnp.all(jnp.isfinite(activation.features(z, theta, data.units)))

    return theta_block.start(key, activation, finite)


def start_state(key: Array, data: ModelData, activation: Activation) -> State:
    """Starting state of one chain.

    Missing omics and latent nodes start at standard normal noise, parameters of a user's function
    at draws from their priors, variances around their prior means, all effects at zero.
    """
    keys = random.split(key, 5)
    random_z = noise.normal(keys[0], data.z_start.shape, data.z_start.dtype)
    z = jnp.where(data.observed, data.z_start, random_z)
    theta, theta_adapt = None, None
    if activation.parameters.priors:
        theta = _start_theta(keys[4], z, data, activation).astype(z.dtype)
        theta_adapt = theta_block.init_adapt(theta)
    omics = tuple(
        _layer(random.fold_in(keys[1], number), block, block.weighted(z[nodes]))
        for number, (block, nodes) in enumerate(zip(data.omics, data.block_nodes, strict=True))
    )
    nodes = tuple(
        _effects(random.fold_in(keys[2], number), hyper, block.n_responses)
        for number, (hyper, block) in enumerate(zip(data.node_hyper, data.omics, strict=False))
    )
    trait = _layer(keys[3], data.trait, data.y[None])
    n_informed = data.informed_rows.shape[0]
    adapting = not activation.linear and n_informed > 0
    adapt = init_adapt(n_informed, z.dtype) if adapting else None
    state = State(z, omics, nodes, theta, trait, adapt, theta_adapt)
    residual = trait_residual(state, data, activation)
    return state._replace(trait=trait._replace(residual=residual))
