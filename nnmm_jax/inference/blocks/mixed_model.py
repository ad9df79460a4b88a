"""Fixed effects and marker effects of a batch of responses.

Serves both layers. Fixed effects have a flat or normal prior and are integrated out, or marker
effects are, whichever comes first, so that confounding between the two (a batch that is also a
family) does not slow the chain down.
"""

from collections.abc import Sequence
from typing import TypeVar

import jax.numpy as jnp
import numpyro.distributions as dist
from jax import Array, lax, random

from nnmm_jax.inference import noise
from nnmm_jax.inference.arrays import (
    EffectHyper,
    LayerArrays,
    MarkerMatrix,
    Spectrum,
    TermArrays,
    products,
)
from nnmm_jax.inference.blocks.effects import (
    OwnGram,
    SweepDraws,
    coordinate_sweep,
    draw_sweep,
)
from nnmm_jax.inference.blocks.families import family_of, with_residual_terms
from nnmm_jax.inference.blocks.scale_move import scale_move
from nnmm_jax.inference.blocks.variance_ratio import Ratio, ratio_move
from nnmm_jax.inference.state import EffectState, LayerState

T = TypeVar("T")


def joint_conditional(
    spectrum: Spectrum, projected: Array, var_e: Array, variance: Array
) -> dist.Normal:
    """Conditional of all genetic values under a normal prior, in the eigenvectors' coordinates.

    With ``M'M = V' diag(s) V`` over records and ``c = V g``, a priori ``c_i ~ N(0, s_i
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
    arrays: LayerArrays,
    term: TermArrays,
    response: Array,
    projected: Array,
    var_e: Array,
    variance: Array,
) -> noise.GaussianSystem:
    """Conditional of the fixed effects with the normal effects of a term integrated out.

    Generalised least squares with covariance ``M'M variance + var_e I``, diagonal in the
    eigenvectors' coordinates.

    Parameters
    ----------
    response : (response, record)
    projected : (response, rank)
        The same in the eigenvectors' coordinates.

    Returns
    -------
    GaussianSystem, (response, fixed term)
        Of the coordinates in the design's basis.
    """
    assert term.spectrum is not None
    assert term.spectrum_loadings is not None
    loadings = term.spectrum_loadings
    total = term.spectrum.values * variance[:, None] + var_e[:, None]
    outside = jnp.eye(loadings.shape[0], dtype=loadings.dtype) - loadings @ loadings.T
    weighted = loadings[None] / total[:, None, :]
    precision = weighted @ loadings.T + outside / var_e[:, None, None]
    if arrays.fixed_precision is not None:
        eye = jnp.eye(loadings.shape[0], dtype=loadings.dtype)
        precision = precision + arrays.fixed_precision[:, None, None] * eye
    left = response @ arrays.design.basis.T - projected @ loadings.T
    rhs = jnp.einsum("ltr,lr->lt", weighted, projected) + left / var_e[:, None]
    return noise.GaussianSystem(precision, rhs)


def variance_ratio(
    state: LayerState,
    arrays: LayerArrays,
    number: int,
    projected: Array,
    sharing: Sequence[tuple[EffectState, EffectHyper]] = (),
) -> Ratio:
    """What the data say about the variances of a term and the residual, its values integrated out.

    Parameters
    ----------
    number : int
        Of the term, which has a spectrum.
    projected : (response, rank)
        Residual and values of the term, in the eigenvectors' coordinates.
    sharing : sequence of (effects, hyper)
        Other effects, outside this layer, whose variances may be relative to the residual's.
    """
    term, squares = arrays.terms[number], projected**2
    assert term.spectrum is not None
    response = state.residual + state.term_values[number]
    # At most rounding errors are left where the eigenvectors span everything.
    left = jnp.maximum(jnp.sum(response**2, axis=-1) - jnp.sum(squares, axis=-1), 0.0)
    others = [
        (effects, other.hyper)
        for effects, other in zip(state.terms, arrays.terms, strict=True)
        if other is not term
    ]
    count = jnp.full_like(state.variance, response.shape[-1])
    outside, count = with_residual_terms(left, count, [*others, *sharing])
    return Ratio(
        term.spectrum.values, squares, outside, count, term.hyper, arrays.residual_hyper,
        state.variance,
    )  # fmt: skip


def _draw_jointly(
    key: Array,
    state: LayerState,
    arrays: LayerArrays,
    number: int,
    sharing: Sequence[tuple[EffectState, EffectHyper]],
    response: Array,
) -> tuple[LayerState, Array, Array, Array]:
    """Variances without fixed effects and markers, then these, then all genetic values.

    Fixed effects are drawn without the markers, all genetic values given the fixed effects.

    Returns
    -------
    state with new variances, fixed effects in the design's basis, coefficients, residual
    """
    term, effects = arrays.terms[number], state.terms[number]
    assert term.spectrum is not None
    assert term.spectrum_loadings is not None
    key_fixed, key_coef, key_ratio = random.split(key, 3)
    design = arrays.design
    projected = products(response, term.spectrum.vectors)
    level, var_e = effects.level, state.variance
    if not term.hyper.known:
        coordinates = state.fixed @ (design.matrix @ design.basis.T)
        left = projected - coordinates @ term.spectrum_loadings
        ratio = variance_ratio(state, arrays, number, left, sharing)
        level, var_e = ratio_move(key_ratio, level, ratio)
        effects = effects._replace(level=level)
        state = state._replace(variance=var_e, terms=_replaced(state.terms, number, effects))
    system = marginal_fixed_system(arrays, term, response, projected, var_e, level)
    fixed = noise.draw_gaussian(key_fixed, system, after=response)
    # Projecting what is left of the response would be a second product with all eigenvectors.
    left = projected - fixed @ term.spectrum_loadings
    conditional = joint_conditional(term.spectrum, left, var_e, level)
    coef = noise.draw_normal(key_coef, conditional)
    residual = response - fixed @ design.basis - coef @ term.spectrum.vectors
    return state, fixed, coef, residual


def allowed_effects(term: TermArrays) -> Array:
    """Effects (padded marker, 1 or response) that may differ from zero."""
    real = (jnp.arange(term.markers.n_padded) < term.markers.n_markers)[:, None]
    return real if term.mask is None else real & term.mask


def sweep_draws(
    key: Array, effects: EffectState, var_e: Array, arrays: LayerArrays, term: TermArrays
) -> SweepDraws:
    """Draw all random numbers of a sweep over a term's effects, fixed effects integrated out."""
    assert term.grams is not None
    # Rounding may leave a marker that the design explains with a sum of squares below zero.
    sum_squares = jnp.maximum(jnp.diagonal(term.grams, axis1=1, axis2=2).reshape(-1), 0.0)
    if arrays.fixed_precision is not None:
        # What fixed effects with a prior do not take, each response has for itself.
        explained = jnp.sum(term.loadings**2, axis=1)
        sum_squares = sum_squares + explained * (1.0 - arrays.taken(var_e)[:, None])
    return draw_sweep(
        key,
        sum_squares,
        var_e,
        family_of(term.hyper).slabs(effects, var_e, term.hyper),
        effects.weights if term.hyper.spike else None,
        allowed_effects(term).T,
    )


def _sweep(
    key: Array,
    effects: EffectState,
    residual: Array,
    var_e: Array,
    arrays: LayerArrays,
    term: TermArrays,
) -> tuple[Array, Array, Array]:
    """All markers in order with the fixed effects integrated out, then the fixed effects.

    The same chain as marker by marker, in matrix products. Integrating out replaces genotypes by
    what the design leaves of them, which costs products with ``loadings`` only. ``residual`` is
    the response minus genetic values, fixed effects still in it.

    Returns
    -------
    fixed effects in the design's basis, coefficients, residual without anything
    """
    assert term.grams is not None
    key_coef, key_fixed = random.split(key)
    markers, size = term.markers, term.markers.block_size
    taken, flat = arrays.taken(var_e)[:, None], arrays.fixed_precision is None
    draws = sweep_draws(key_coef, effects, var_e, arrays, term)

    def update(index: Array, carry: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        coef, residual, seen = carry

        def mine(whole: Array, axis: int = -1) -> Array:
            return lax.dynamic_slice_in_dim(whole, index * size, size, axis=axis)

        # Not from the carry, which would be copied as a whole: a block has not moved before.
        loadings, old = mine(term.loadings, 0), mine(effects.coef)
        new = coordinate_sweep(
            lax.dynamic_index_in_dim(term.grams, index, keepdims=False),
            markers.block_products(residual, index) - (seen if flat else taken * seen) @ loadings.T,
            old,
            draws.part(index * size, size),
            None if flat else OwnGram(loadings @ loadings.T, 1.0 - taken[:, 0]),
        )
        change = new - old
        return (
            lax.dynamic_update_slice_in_dim(coef, new, index * size, axis=-1),
            residual - markers.block_values(change, index),
            seen - change @ loadings,
        )

    start = (jnp.zeros_like(effects.coef), residual, residual @ arrays.design.basis.T)
    coef, residual, seen = lax.fori_loop(0, markers.n_blocks, update, start)
    fixed = noise.draw_normal(key_fixed, fixed_conditional(seen, var_e, arrays))
    return fixed, coef, residual - fixed @ arrays.design.basis


def fixed_conditional(seen: Array, var_e: Array, arrays: LayerArrays) -> dist.Normal:
    """Conditional of the fixed effects, in the design's basis, given everything else.

    Parameters
    ----------
    seen : (response, fixed term)
        Products of the basis with the response minus everything else.
    """
    taken = arrays.taken(var_e)
    return dist.Normal(taken[:, None] * seen, jnp.sqrt(taken * var_e)[:, None])


def with_components(
    key: Array, effects: EffectState, var_e: Array, hyper: EffectHyper
) -> EffectState:
    """Components of a mixture given new effects: the rest of the draw of the effects.

    The sweep drew each effect from the mixture, so its component follows from it alone.
    """
    if not hyper.mixture:
        return effects
    return effects._replace(own=family_of(hyper).draw_own(key, effects, var_e, hyper))


def update_term(
    key: Array,
    state: LayerState,
    arrays: LayerArrays,
    number: int,
    sharing: Sequence[tuple[EffectState, EffectHyper]] = (),
    whole: Array | None = None,
) -> LayerState:
    """Update fixed effects and the effects of one term, and the scale of the latter.

    Parameters
    ----------
    number : int
        Of the term. With a spectrum, its variance and the residual's move before.
    sharing : sequence of (effects, hyper)
        As in :func:`variance_ratio`.
    whole : (response, record) or None
        The layer's response where it never changes.
    """
    key_draw, key_scale, key_own = random.split(key, 3)
    term = arrays.terms[number]
    without_fixed = state.residual + state.fixed @ arrays.design.matrix
    response = without_fixed + state.term_values[number]
    if whole is not None and len(arrays.terms) == 1 and not arrays.random:
        response = whole  # XLA then projects it once, not in every sweep
    if term.spectrum is not None:
        state, coordinates, coef, residual = _draw_jointly(
            key_draw, state, arrays, number, sharing, response
        )
    else:
        coordinates, coef, residual = _sweep(
            key_draw, state.terms[number], without_fixed, state.variance, arrays, term
        )
    effects, var_e = state.terms[number], state.variance
    values = response - coordinates @ arrays.design.basis - residual
    effects = with_components(key_own, effects._replace(coef=coef), var_e, term.hyper)
    effects, values, residual = scale_move(key_scale, effects, values, residual, var_e, term.hyper)
    return state._replace(
        fixed=coordinates @ arrays.design.to_terms,
        terms=_replaced(state.terms, number, effects),
        term_values=_replaced(state.term_values, number, values),
        residual=residual,
    )


def _replaced(whole: tuple[T, ...], number: int, new: T) -> tuple[T, ...]:
    return (*whole[:number], new, *whole[number + 1 :])


def update_fixed(key: Array, state: LayerState, arrays: LayerArrays) -> LayerState:
    """Update the fixed effects given all else: for layers in which no other block does."""
    without_fixed = state.residual + state.fixed @ arrays.design.matrix
    seen = without_fixed @ arrays.design.basis.T
    fixed = noise.draw_normal(key, fixed_conditional(seen, state.variance, arrays))
    return state._replace(
        fixed=fixed @ arrays.design.to_terms, residual=without_fixed - fixed @ arrays.design.basis
    )


def term_values(effects: EffectState, term: TermArrays) -> Array:
    """Values (response, record) of a term, from its coefficients."""
    if term.spectrum is not None:
        return effects.coef @ term.spectrum.vectors
    return term.markers.predict(effects.coef)


def draw_effects(key: Array, effects: EffectState, term: TermArrays) -> Array:
    """Effects (response, padded marker) of the current state.

    Under the joint draw they are drawn given the genetic values, by conditioning a prior draw on
    them (Matheron's rule); otherwise they are the state.
    """
    markers, spectrum = term.markers, term.spectrum
    if spectrum is None:
        return effects.coef
    shape = (effects.level.shape[0], markers.n_padded)
    start = jnp.sqrt(effects.level)[:, None] * noise.normal(key, shape, effects.coef.dtype)
    start = jnp.where(allowed_effects(term).T, start, 0.0)
    missed = effects.coef - products(markers.predict(start), spectrum.vectors)
    return start + markers.project((missed / spectrum.values) @ spectrum.vectors)


def everyone_values(
    key: Array, effects: EffectState, values: Array, term: TermArrays, arrays: LayerArrays
) -> Array:
    """Values (response, individual) of a term for all individuals.

    Parameters
    ----------
    values : (response, record)
        Its values for the records.
    """
    everyone: MarkerMatrix | None = term.everyone
    if everyone is None:
        return arrays.unweighted(values)
    return everyone.predict(draw_effects(key, effects, term))
