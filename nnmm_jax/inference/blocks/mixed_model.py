"""Fixed effects and marker effects of a batch of responses.

Serves the middle layer (all nodes at once) and the skip connection (the phenotype). Fixed effects
have a flat prior and are integrated out, or marker effects are, whichever comes first, so that
confounding between the two (a batch that is also a family) does not slow the chain down.
"""

from typing import NamedTuple

import jax.numpy as jnp
import numpyro.distributions as dist
from jax import Array, lax, random

from nnmm_jax.inference import noise
from nnmm_jax.inference.arrays import MixedArrays, ModelData, Spectrum
from nnmm_jax.inference.blocks.effects import (
    SweepDraws,
    coordinate_sweep,
    draw_sweep,
)
from nnmm_jax.inference.blocks.scale_move import scale_move
from nnmm_jax.inference.state import EffectState, State


def joint_conditional(
    spectrum: Spectrum, projected: Array, var_e: Array, variance: Array
) -> dist.Normal:
    """Conditional of all genetic values under a normal prior, in the eigenvectors' coordinates.

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


def marginal_fixed_system(
    arrays: MixedArrays, response: Array, projected: Array, var_e: Array, variance: Array
) -> noise.GaussianSystem:
    """Conditional of the fixed effects with normal marker effects integrated out.

    Generalised least squares with covariance ``M'M variance + var_e I``, diagonal in the
    eigenvectors' coordinates.

    Parameters
    ----------
    response : (response, individual)
    projected : (response, rank)
        The same in the eigenvectors' coordinates.

    Returns
    -------
    GaussianSystem, (response, term)
        Of the coordinates in the design's basis.
    """
    assert arrays.spectrum is not None
    assert arrays.spectrum_loadings is not None
    loadings = arrays.spectrum_loadings
    total = arrays.spectrum.values * variance[:, None] + var_e[:, None]
    outside = jnp.eye(loadings.shape[0], dtype=loadings.dtype) - loadings @ loadings.T
    weighted = loadings[None] / total[:, None, :]
    precision = weighted @ loadings.T + outside / var_e[:, None, None]
    left = response @ arrays.design.basis.T - projected @ loadings.T
    rhs = jnp.einsum("ltr,lr->lt", weighted, projected) + left / var_e[:, None]
    return noise.GaussianSystem(precision, rhs)


def _draw_jointly(
    key: Array, effects: EffectState, response: Array, var_e: Array, arrays: MixedArrays
) -> tuple[Array, Array, Array]:
    """Fixed effects without the markers, then all genetic values given the fixed effects.

    Returns
    -------
    fixed effects in the design's basis, coefficients, residual
    """
    assert arrays.spectrum is not None
    assert arrays.spectrum_loadings is not None
    key_fixed, key_coef = random.split(key)
    projected = response @ arrays.spectrum.vectors.T
    system = marginal_fixed_system(arrays, response, projected, var_e, effects.variance)
    fixed = noise.draw_gaussian(key_fixed, system, after=response)
    # Projecting what is left of the response would be a second product with all eigenvectors.
    left = projected - fixed @ arrays.spectrum_loadings
    conditional = joint_conditional(arrays.spectrum, left, var_e, effects.variance)
    coef = noise.draw_normal(key_coef, conditional)
    residual = response - fixed @ arrays.design.basis - coef @ arrays.spectrum.vectors
    return fixed, coef, residual


def block_grams(arrays: MixedArrays) -> Array:
    """Cross-products (block, marker, marker) of what the design leaves of the genotypes."""
    blocks = arrays.loadings.reshape(*arrays.markers.gram.shape[:2], -1)
    return arrays.markers.gram - blocks @ jnp.swapaxes(blocks, 1, 2)


def _sweep(
    key: Array, effects: EffectState, residual: Array, var_e: Array, arrays: MixedArrays
) -> tuple[Array, Array, Array]:
    """All markers in order with the fixed effects integrated out, then the fixed effects.

    The same chain as marker by marker, in matrix products. Integrating out replaces genotypes by
    what the design leaves of them, which costs products with ``loadings`` only. ``residual`` is
    the response minus genetic values, fixed effects still in it.

    Returns
    -------
    fixed effects in the design's basis, coefficients, residual without anything
    """
    key_coef, key_fixed = random.split(key)
    markers, size = arrays.markers, arrays.markers.block_size
    gram = block_grams(arrays)
    # Rounding may leave a marker that the design explains with a sum of squares below zero.
    sum_squares = jnp.maximum(jnp.diagonal(gram, axis1=1, axis2=2).reshape(-1), 0.0)
    draws = draw_sweep(
        key_coef, sum_squares, var_e, effects.variance, effects.pi, n_effects=markers.n_markers
    )

    def update(index: Array, carry: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        coef, residual, seen = carry

        def mine(whole: Array) -> Array:
            return lax.dynamic_slice_in_dim(whole, index * size, size, axis=0)

        genotypes, loadings, old = markers.block(index), mine(arrays.loadings), mine(coef)
        new = coordinate_sweep(
            lax.dynamic_index_in_dim(gram, index, keepdims=False),
            genotypes @ residual.T - loadings @ seen,
            old,
            SweepDraws(*(mine(part) for part in draws)),
        )
        change = new - old
        return (
            lax.dynamic_update_slice_in_dim(coef, new, index * size, axis=0),
            residual - change.T @ genotypes,
            seen - loadings.T @ change,
        )

    start = (effects.coef.T, residual, arrays.design.basis @ residual.T)
    coef, residual, seen = lax.fori_loop(0, markers.n_blocks, update, start)
    fixed = noise.draw_normal(key_fixed, fixed_conditional(seen.T, var_e))
    return fixed, coef.T, residual - fixed @ arrays.design.basis


def fixed_conditional(seen: Array, var_e: Array) -> dist.Normal:
    """Conditional of the fixed effects, in the design's basis, given the marker effects.

    Parameters
    ----------
    seen : (response, term)
        Products of the basis with the response minus genetic values.
    """
    return dist.Normal(seen, jnp.sqrt(var_e)[:, None])


class MixedState(NamedTuple):
    """Fixed effects, marker effects and what they make of a batch of responses.

    ``fixed`` is (response, term), ``genetic`` and ``residual`` (response, individual).
    """

    effects: EffectState
    fixed: Array
    genetic: Array
    residual: Array


def update_mixed(key: Array, state: MixedState, var_e: Array, arrays: MixedArrays) -> MixedState:
    """Update fixed effects and marker effects, and the scale of the latter with their variance.

    Parameters
    ----------
    var_e : (response,)
        Residual variances.
    """
    key_draw, key_scale = random.split(key)
    effects = state.effects
    without_fixed = state.residual + state.fixed @ arrays.design.matrix
    response = without_fixed + state.genetic
    if arrays.spectrum is not None:
        coordinates, coef, residual = _draw_jointly(key_draw, effects, response, var_e, arrays)
    else:
        coordinates, coef, residual = _sweep(key_draw, effects, without_fixed, var_e, arrays)
    genetic = response - coordinates @ arrays.design.basis - residual
    effects, genetic, residual = scale_move(
        key_scale, effects._replace(coef=coef), genetic, residual, var_e, arrays.hyper
    )
    return MixedState(effects, coordinates @ arrays.design.to_terms, genetic, residual)


def genetic_values(effects: EffectState, arrays: MixedArrays) -> Array:
    """Genetic values (response, individual) of the individuals in ``arrays``."""
    if arrays.spectrum is not None:
        return effects.coef @ arrays.spectrum.vectors
    return arrays.markers.predict(effects.coef)


def draw_marker_effects(key: Array, effects: EffectState, arrays: MixedArrays) -> Array:
    """Marker effects (response, padded marker) of the current state.

    Under the joint draw they are drawn given the genetic values, by conditioning a prior draw on
    them (Matheron's rule); otherwise they are the state.
    """
    markers, spectrum = arrays.markers, arrays.spectrum
    if spectrum is None:
        return effects.coef
    shape = (effects.variance.shape[0], markers.n_padded)
    start = jnp.sqrt(effects.variance)[:, None] * noise.normal(key, shape, effects.coef.dtype)
    start = jnp.where(jnp.arange(markers.n_padded) < markers.n_markers, start, 0.0)
    missed = effects.coef - markers.predict(start) @ spectrum.vectors.T
    return start + markers.project((missed / spectrum.values) @ spectrum.vectors)


def kernel(key: Array, state: State, data: ModelData) -> tuple[State, dict[str, Array]]:
    """Gibbs block: fixed and marker effects on the middle layer."""
    genetic = state.z - state.beta @ data.omics.design.matrix - state.residual
    current = MixedState(state.markers, state.beta, genetic, state.residual)
    new = update_mixed(key, current, state.var_e, data.omics)
    return state._replace(markers=new.effects, beta=new.fixed, residual=new.residual), {}
