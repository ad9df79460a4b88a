"""Dispersed starting values of a chain, so that R-hat can tell whether chains agree."""

import jax.numpy as jnp
from jax import Array, random

from nnmm_jax.inference import noise
from nnmm_jax.inference.arrays import EffectHyper, MixedArrays, ModelData
from nnmm_jax.inference.blocks.missing_hmc import init_adapt
from nnmm_jax.inference.state import EffectState, State

START_LOG_SD = 0.5  # sd of log variances around their prior means


def _variances(key: Array, df: Array, scale: Array) -> Array:
    mean = df * scale / (df - 2.0)
    return mean * jnp.exp(START_LOG_SD * noise.normal(key, scale.shape, scale.dtype))


def _effects(key: Array, hyper: EffectHyper, n_effects: int) -> EffectState:
    """All effects zero; the first update draws them."""
    coef = jnp.zeros((hyper.scale.shape[0], n_effects), hyper.scale.dtype)
    return EffectState(coef, _variances(key, hyper.df, hyper.scale), hyper.pi)


def _marker_effects(key: Array, arrays: MixedArrays) -> EffectState:
    spectrum = arrays.spectrum
    size = arrays.markers.n_padded if spectrum is None else spectrum.values.shape[0]
    return _effects(key, arrays.hyper, size)


def start_state(key: Array, data: ModelData, linear: bool) -> State:
    """Starting state of one chain.

    Missing omics and latent nodes start at standard normal noise, variances around their prior
    means, all effects at zero.
    """
    keys = random.split(key, 6)
    random_z = noise.normal(keys[0], data.z_start.shape, data.z_start.dtype)
    z = jnp.where(data.observed, data.z_start, random_z)
    residual_hyper = data.residual_hyper
    var_e = _variances(keys[1], residual_hyper.df, residual_hyper.scale)
    adapting = not linear and data.informed_rows.shape[0] > 0
    return State(
        z=z,
        residual=z,
        beta=jnp.zeros((z.shape[0], data.omics.design.matrix.shape[0]), z.dtype),
        markers=_marker_effects(keys[3], data.omics),
        var_e=jnp.where(residual_hyper.fixed, residual_hyper.scale, var_e),
        fixed=jnp.zeros((data.design_trait.matrix.shape[0],), z.dtype),
        nodes=_effects(keys[4], data.node_hyper, z.shape[0]),
        skip=None if data.skip is None else _marker_effects(keys[2], data.skip),
        direct=jnp.zeros_like(data.y),
        var_y=_variances(keys[5], data.trait_hyper.df, data.trait_hyper.scale),
        adapt=init_adapt(data.informed_rows.shape[0], z.dtype) if adapting else None,
    )
