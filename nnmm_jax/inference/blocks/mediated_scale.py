"""Move the scale of all node effects and the trait's residual variance, missing omics aside.

Missing omics that are drawn given node effects hold the two in place: the phenotype's residual is
what the omics left it. With missing omics integrated out their residuals and the trait's are one
variance, of which each may have any part that observed omics and priors allow.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array, lax, random

from nnmm_jax.inference import noise
from nnmm_jax.inference.arrays import ModelData
from nnmm_jax.inference.blocks.families import OrbitPrior, family_of, with_residual_terms
from nnmm_jax.inference.state import State

N_STEPS = 8  # Metropolis steps; each costs a few numbers per individual
# Their sizes are spread evenly in their logarithm between these, so that nothing has to be adapted.
STEPS = (0.02, 0.8)


class Scale(NamedTuple):
    """A scale, both scalars.

    Attributes
    ----------
    log_k : Array
        By whose exponential node effects whose scale is not known are multiplied.
    log_var_y : Array
    """

    log_k: Array
    log_var_y: Array


class ScalePrior(NamedTuple):
    """Prior of a scale, Jacobian included, and what of the phenotype does not depend on nodes.

    Attributes
    ----------
    orbits : tuple of OrbitPrior
        Of the sets of node effects that are scaled.
    degrees, squares : scalars
        The residual variance is inverse chi-square given the differences of records of one
        individual and the effects that share it.
    """

    orbits: tuple[OrbitPrior, ...]
    degrees: Array
    squares: Array

    def log_density(self, scale: Scale) -> Array:
        """Log density of (log k, log variance), up to a constant."""
        each = [
            one.slope * scale.log_k - one.weight * jnp.exp(one.power * scale.log_k)
            for one in self.orbits
        ]
        residual = self.degrees * scale.log_var_y + self.squares * jnp.exp(-scale.log_var_y)
        return sum((jnp.sum(one) for one in each), -0.5 * residual)


def scale_prior(state: State, data: ModelData, within: tuple[Array, Array]) -> ScalePrior:
    """Resolve the prior.

    Parameters
    ----------
    within : scalars
        Squares and degrees of freedom of the differences of records of one individual.
    """
    nodes = list(zip(state.nodes, data.node_hyper, strict=True))
    terms = [
        (effects, term.hyper)
        for effects, term in zip(state.trait.terms, data.trait.terms, strict=True)
    ]
    orbits = tuple(
        family_of(hyper).orbit(effects, hyper) for effects, hyper in nodes if not hyper.known
    )
    hyper = data.trait.residual_hyper
    squares, degrees = with_residual_terms(
        hyper.df * hyper.scale + within[0], hyper.df + within[1], [*nodes, *terms]
    )
    return ScalePrior(orbits, degrees[0], squares[0])


def move_scale(
    key: Array, scale: Scale, log_density: Callable[[Scale], Array], movable: Array
) -> Scale:
    """Move by Metropolis steps.

    Parameters
    ----------
    movable : (2,) bool
        Whether the scale of node effects may move, and the residual variance.
    """
    key_size, key_step, key_accept = random.split(key, 3)
    dtype = scale.log_k.dtype
    low, high = np.log(STEPS)
    sizes = jnp.exp(low + (high - low) * noise.uniform(key_size, (N_STEPS,), dtype))
    steps = sizes[:, None] * noise.normal(key_step, (N_STEPS, 2), dtype) * movable
    thresholds = jnp.log(noise.uniform(key_accept, (N_STEPS,), dtype))

    def step(
        carry: tuple[Scale, Array], draws: tuple[Array, Array]
    ) -> tuple[tuple[Scale, Array], None]:
        now, density = carry
        change, threshold = draws
        proposed = Scale(now.log_k + change[0], now.log_var_y + change[1])
        there = log_density(proposed)
        accepted = threshold < there - density
        return (
            Scale(
                jnp.where(accepted, proposed.log_k, now.log_k),
                jnp.where(accepted, proposed.log_var_y, now.log_var_y),
            ),
            jnp.where(accepted, there, density),
        ), None

    (scale, _), _ = lax.scan(step, (scale, log_density(scale)), (steps, thresholds))
    return scale
