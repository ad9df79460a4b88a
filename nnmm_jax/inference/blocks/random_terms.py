"""Random terms with a sparse precision: groups and pedigrees, all of a layer in one joint draw.

The draw is one conjugate-gradient solve with a perturbed right-hand side (Papandreou & Yuille
2010; in animal breeding Garcia-Cortes & Sorensen 1996), fixed effects integrated out: nothing of
the size of levels x levels is ever formed.
"""

from typing import NamedTuple, Protocol, TypeAlias

import jax.numpy as jnp
from jax import Array, lax, random

from nnmm_jax.inference import noise
from nnmm_jax.inference.arrays import LayerArrays, RandomArrays, inner_products
from nnmm_jax.inference.blocks.mixed_model import fixed_conditional
from nnmm_jax.inference.blocks.scale_move import scale_move
from nnmm_jax.inference.state import EffectState, LayerState

MAX_ITERATIONS = 1000
Carry: TypeAlias = tuple[Array, Array, Array, Array, Array]


def tolerance(dtype: jnp.dtype) -> float:
    """Residual norm, relative to the right-hand side's, at which a solve stops."""
    return 1e-10 if dtype == jnp.float64 else 1e-5


def contrasts(term: RandomArrays, effects: Array) -> Array:
    """``D^-1/2 T u`` of effects (response, level): independent, of variance 1 relative to K."""
    if term.sire is not None:
        padded = jnp.pad(effects, ((0, 0), (0, 1)))
        effects = effects - 0.5 * (padded[:, term.sire] + padded[:, term.dam])
    return effects * term.root_precision


def contrasts_adjoint(term: RandomArrays, values: Array) -> Array:
    """``T' D^-1/2 v``."""
    values = values * term.root_precision
    if term.sire is None:
        return values
    padded = jnp.pad(values, ((0, 0), (0, 1)))
    padded = padded.at[:, term.sire].add(-0.5 * values).at[:, term.dam].add(-0.5 * values)
    return padded[:, :-1]


def record_values(term: RandomArrays, effects: Array, arrays: LayerArrays) -> Array:
    """Values (response, record) of effects (response, level)."""
    return arrays.weighted(effects[:, term.level])


def to_levels(term: RandomArrays, values: Array, arrays: LayerArrays) -> Array:
    """Sums (response, level) over records: the transpose of :func:`record_values`."""
    zero = jnp.zeros((values.shape[0], term.n_levels), values.dtype)
    return zero.at[:, term.level].add(arrays.weighted(values))


class LinearSystem(Protocol):
    """A positive definite matrix for each response, known by its products."""

    def apply(self, effects: Array) -> Array:
        """Matrix times effects (response, effect)."""

    def diagonal(self) -> Array:
        """Diagonal (response, effect), or about that: the preconditioner."""


class RandomSystem(NamedTuple):
    """Conditional of all random effects of a layer, concatenated, fixed effects integrated out.

    ``precision = W'(I - c BB')W / var_e + blockdiag(K^-1 / variance)``, B the fixed design's basis
    and c the share that fixed effects take, 1 where they are flat.

    Attributes
    ----------
    arrays : LayerArrays
    levels : tuple of (response,)
        Variances of the terms.
    var_e : (response,)
    """

    arrays: LayerArrays
    levels: tuple[Array, ...]
    var_e: Array

    def split(self, effects: Array) -> list[Array]:
        """Effects of each term."""
        parts, start = [], 0
        for term in self.arrays.random:
            parts.append(effects[:, start : start + term.n_levels])
            start += term.n_levels
        return parts

    def project(self, values: Array, *, root: bool = False) -> Array:
        """What the fixed effects leave of values (response, record): ``I - c BB'`` or its root."""
        basis, taken = self.arrays.design.basis, self.arrays.taken(self.var_e)[:, None]
        if root:
            taken = 1.0 - jnp.sqrt(1.0 - taken)
        return values - taken * (values @ basis.T) @ basis

    def fitted(self, effects: Array) -> Array:
        """Values (response, record) of all effects together."""
        pairs = zip(self.arrays.random, self.split(effects), strict=True)
        return sum((record_values(term, part, self.arrays) for term, part in pairs), jnp.array(0.0))

    def adjoint(self, values: Array) -> Array:
        """Transpose of :meth:`fitted`."""
        return jnp.concatenate(
            [to_levels(term, values, self.arrays) for term in self.arrays.random], axis=1
        )

    def apply(self, effects: Array) -> Array:
        """Precision times effects."""
        prior = [
            contrasts_adjoint(term, contrasts(term, part)) / level[:, None]
            for term, part, level in zip(
                self.arrays.random, self.split(effects), self.levels, strict=True
            )
        ]
        data = self.adjoint(self.project(self.fitted(effects)))
        return data / self.var_e[:, None] + jnp.concatenate(prior, axis=1)

    def rhs(self, response: Array) -> Array:
        """Precision times the conditional mean."""
        return self.adjoint(self.project(response)) / self.var_e[:, None]

    def perturb(self, record_noise: Array, level_noise: Array) -> Array:
        """Make noise with covariance ``precision`` from standard normal variates."""
        data = self.adjoint(self.project(record_noise, root=True)) / jnp.sqrt(self.var_e)[:, None]
        prior = [
            contrasts_adjoint(term, part) / jnp.sqrt(level)[:, None]
            for term, part, level in zip(
                self.arrays.random, self.split(level_noise), self.levels, strict=True
            )
        ]
        return data + jnp.concatenate(prior, axis=1)

    def diagonal(self) -> Array:
        """Diagonal of the precision without the fixed effects: the preconditioner."""
        root = self.arrays.root
        parts = []
        for term, level in zip(self.arrays.random, self.levels, strict=True):
            weights = jnp.ones_like(term.level, self.var_e.dtype) if root is None else root**2
            count = jnp.zeros(term.n_levels, self.var_e.dtype).at[term.level].add(weights)
            parts.append(count / self.var_e[:, None] + term.diagonal / level[:, None])
        return jnp.concatenate(parts, axis=1)


def solve(system: LinearSystem, rhs: Array) -> tuple[Array, Array, Array]:
    """Conjugate gradients, preconditioned by the diagonal, each response with its own steps.

    Returns
    -------
    solution (response, effect), iterations, number of responses that did not converge
    """
    inverse_diagonal = 1.0 / system.diagonal()
    target = tolerance(rhs.dtype) ** 2 * inner_products(rhs, inverse_diagonal * rhs)

    def unfinished(size: Array) -> Array:
        return ~(size <= target)

    def go_on(carry: Carry) -> Array:
        size, step = carry[3], carry[4]
        # A size that is not finite will not improve.
        return jnp.any(unfinished(size) & jnp.isfinite(size)) & (step < MAX_ITERATIONS)

    def advance(carry: Carry) -> Carry:
        solution, left, direction, size, step = carry
        image = system.apply(direction)
        curvature = inner_products(direction, image)
        moving = unfinished(size) & (curvature > 0)
        length = jnp.where(moving, size / jnp.where(moving, curvature, 1.0), 0.0)[:, None]
        solution = solution + length * direction
        left = left - length * image
        conditioned = inverse_diagonal * left
        new = inner_products(left, conditioned)
        ratio = jnp.where(size > 0, new / jnp.where(size > 0, size, 1.0), 0.0)[:, None]
        return solution, left, conditioned + ratio * direction, new, step + 1

    conditioned = inverse_diagonal * rhs
    start = (
        jnp.zeros_like(rhs), rhs, conditioned, inner_products(rhs, conditioned), jnp.array(0)
    )  # fmt: skip
    solution, _, _, size, steps = lax.while_loop(go_on, advance, start)
    return solution, steps, jnp.sum(unfinished(size))


def update_random(
    key: Array, state: LayerState, arrays: LayerArrays
) -> tuple[LayerState, dict[str, Array]]:
    """Draw the effects of all groups and pedigrees and the fixed effects, then move scales.

    Returns
    -------
    state, info
        ``info``: iterations of the solver, responses for which it did not converge.
    """
    key_records, key_levels, key_fixed, key_scale = random.split(key, 4)
    var_e, dtype = state.variance, state.residual.dtype
    system = RandomSystem(arrays, tuple(term.level for term in state.random), var_e)
    response = (
        state.residual
        + state.fixed @ arrays.design.matrix
        + sum(state.random_values, jnp.zeros((), dtype))
    )
    n_levels = sum(term.n_levels for term in arrays.random)
    perturbation = system.perturb(
        noise.normal(key_records, response.shape, dtype),
        noise.normal(key_levels, (response.shape[0], n_levels), dtype),
    )
    drawn, steps, failed = solve(system, system.rhs(response) + perturbation)
    parts = system.split(drawn)
    values = [record_values(t, part, arrays) for t, part in zip(arrays.random, parts, strict=True)]
    left = response - sum(values, jnp.zeros((), dtype))
    seen = left @ arrays.design.basis.T
    fixed = noise.draw_normal(key_fixed, fixed_conditional(seen, var_e, arrays))
    residual = left - fixed @ arrays.design.basis
    moved: list[EffectState] = []
    for number, term in enumerate(arrays.random):
        effects, values[number], residual = scale_move(
            random.fold_in(key_scale, number),
            state.random[number]._replace(coef=parts[number]),
            values[number],
            residual,
            var_e,
            term.hyper,
        )
        moved.append(effects)
    state = state._replace(
        fixed=fixed @ arrays.design.to_terms,
        random=tuple(moved),
        random_values=tuple(values),
        residual=residual,
    )
    return state, {"cg_iterations": steps, "cg_failed": failed}
