"""Marker effects: one joint draw under RR-BLUP, an exact blocked sweep under BayesC.

Both work on a residual (response, individual) and serve the middle layer and the skip connection.
"""

import jax.numpy as jnp
import numpyro.distributions as dist
from jax import Array, lax, random

from nnmm_jax.inference.arrays import EffectHyper, MarkerMatrix, ModelData, Spectrum
from nnmm_jax.inference.blocks.effects import (
    coordinate_sweep,
    draw_hyper,
    draw_sweep,
    variance_conditional,
)
from nnmm_jax.inference.state import EffectState, State


def joint_conditional(
    spectrum: Spectrum, projected: Array, var_e: Array, variance: Array
) -> dist.Normal:
    """Conditional of all genetic values under RR-BLUP, in the eigenvectors' coordinates.

    With ``M'M = V' diag(s) V`` over individuals and ``c = V g``, a priori ``c_i ~ N(0, s_i
    variance)`` and the data say ``projected_i ~ N(c_i, var_e)``, independently.

    Parameters
    ----------
    projected : (response, rank)
        V times the response without its fixed effects.
    var_e, variance : (response,)
    """
    prior = spectrum.values * variance[:, None]
    share = prior / (prior + var_e[:, None])
    return dist.Normal(share * projected, jnp.sqrt(share * var_e[:, None]))


def joint_variance_conditional(
    spectrum: Spectrum, coef: Array, hyper: EffectHyper
) -> dist.InverseGamma:
    """Conditional of the marker variance under RR-BLUP given the genetic values alone.

    Directions of the marker effects which the genotypes do not show are integrated out, so the
    count is the rank, not the number of markers.
    """
    scaled = jnp.sum(coef**2 / spectrum.values, axis=-1)
    return variance_conditional(hyper.df, hyper.scale, scaled, spectrum.values.shape[0])


def _joint_update(
    key: Array,
    effects: EffectState,
    residual: Array,
    var_e: Array,
    spectrum: Spectrum,
    hyper: EffectHyper,
) -> tuple[EffectState, Array]:
    key_coef, key_variance = random.split(key)
    projected = residual @ spectrum.vectors.T + effects.coef
    coef = joint_conditional(spectrum, projected, var_e, effects.variance).sample(key_coef)
    residual = residual - (coef - effects.coef) @ spectrum.vectors
    variance = joint_variance_conditional(spectrum, coef, hyper).sample(key_variance)
    return EffectState(coef, variance, effects.pi), residual


def _blocked_sweep(
    key: Array, effects: EffectState, residual: Array, var_e: Array, markers: MarkerMatrix
) -> tuple[Array, Array]:
    """Update all markers in order; same chain as marker by marker, in matrix products."""
    size = markers.block_size
    sum_squares = jnp.diagonal(markers.gram, axis1=1, axis2=2).reshape(-1)
    draws = draw_sweep(
        key, sum_squares, var_e, effects.variance, effects.pi, n_effects=markers.n_markers
    )

    def update(index: Array, carry: tuple[Array, Array]) -> tuple[Array, Array]:
        coef, residual = carry
        genotypes = markers.block(index)
        old = lax.dynamic_slice_in_dim(coef, index * size, size, axis=0)
        mine = [lax.dynamic_slice_in_dim(part, index * size, size, axis=0) for part in draws]
        gram = lax.dynamic_index_in_dim(markers.gram, index, keepdims=False)
        new = coordinate_sweep(gram, genotypes @ residual.T, old, type(draws)(*mine))
        residual = residual - (new - old).T @ genotypes
        return lax.dynamic_update_slice_in_dim(coef, new, index * size, axis=0), residual

    coef, residual = lax.fori_loop(0, markers.n_blocks, update, (effects.coef.T, residual))
    return coef.T, residual


def update_markers(
    key: Array,
    effects: EffectState,
    residual: Array,
    var_e: Array,
    markers: MarkerMatrix,
    spectrum: Spectrum | None,
    hyper: EffectHyper,
) -> tuple[EffectState, Array]:
    """Update marker effects, their variance and pi; return them and the new residual.

    Parameters
    ----------
    residual : (response, individual)
        Response minus everything, these effects included.
    var_e : (response,)
    """
    if spectrum is not None:
        return _joint_update(key, effects, residual, var_e, spectrum, hyper)
    key_coef, key_hyper = random.split(key)
    coef, residual = _blocked_sweep(key_coef, effects, residual, var_e, markers)
    effects = draw_hyper(key_hyper, coef, effects, hyper, markers.n_markers)
    return effects._replace(coef=coef), residual


def genetic_values(
    effects: EffectState, markers: MarkerMatrix, spectrum: Spectrum | None
) -> Array:
    """Genetic values (response, individual) of the individuals the state was updated on."""
    if spectrum is not None:
        return effects.coef @ spectrum.vectors
    return markers.predict(effects.coef)


def draw_marker_effects(
    key: Array, effects: EffectState, markers: MarkerMatrix, spectrum: Spectrum | None
) -> Array:
    """Marker effects (response, padded marker) of the current state.

    Under the joint draw they are drawn given the genetic values, by conditioning a prior draw on
    them (Matheron's rule); otherwise they are the state.
    """
    if spectrum is None:
        return effects.coef
    shape = (effects.variance.shape[0], markers.n_padded)
    start = jnp.sqrt(effects.variance)[:, None] * random.normal(key, shape, effects.coef.dtype)
    start = jnp.where(jnp.arange(markers.n_padded) < markers.n_markers, start, 0.0)
    missed = effects.coef - markers.predict(start) @ spectrum.vectors.T
    return start + markers.project((missed / spectrum.values) @ spectrum.vectors)


def kernel(key: Array, state: State, data: ModelData) -> tuple[State, dict[str, Array]]:
    """Gibbs block: marker effects on the middle layer, with their variances and pi."""
    markers, residual = update_markers(
        key,
        state.markers,
        state.residual,
        state.var_e,
        data.markers,
        data.spectrum,
        data.marker_hyper,
    )
    return state._replace(markers=markers, residual=residual), {}
