"""Fixed effects on the middle layer, all terms of a node in one draw."""

import jax.numpy as jnp
import numpyro.distributions as dist
from jax import Array

from nnmm_jax.inference.arrays import ModelData
from nnmm_jax.inference.state import State


def conditional(state: State, data: ModelData) -> dist.Normal:
    """Conditional of the fixed effects in the eigenvectors' coordinates of XX', independent there.

    Returns
    -------
    Normal, (node, term)
        Of ``beta @ rotation.T``; the prior N(0, fixed_variance I) is the same in any rotation.
    """
    design = data.design_omics
    rhs = (state.residual @ design.matrix.T) @ design.rotation.T
    rotated = state.beta @ design.rotation.T
    var_e = state.var_e[:, None]
    precision = design.values / var_e + 1.0 / data.fixed_variance
    mean = (rhs + design.values * rotated) / var_e / precision
    return dist.Normal(mean, 1.0 / jnp.sqrt(precision))


def kernel(key: Array, state: State, data: ModelData) -> tuple[State, dict[str, Array]]:
    """Gibbs block: fixed effects on the middle layer."""
    design = data.design_omics
    beta = conditional(state, data).sample(key) @ design.rotation
    residual = state.residual - (beta - state.beta) @ design.matrix
    return state._replace(beta=beta, residual=residual), {}
