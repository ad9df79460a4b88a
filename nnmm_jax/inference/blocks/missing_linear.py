"""Missing middle layer of a linear network: an exact draw for every individual."""

import jax.numpy as jnp
import numpyro.distributions as dist
from jax import Array, random

from nnmm_jax.inference import noise
from nnmm_jax.inference.arrays import ModelData
from nnmm_jax.inference.state import State


def phenotype_left(state: State, data: ModelData) -> Array:
    """Phenotype minus fixed and direct effects, (individual,); zero where it is missing."""
    left = data.y - state.fixed @ data.design_trait.matrix - state.direct
    return jnp.zeros(data.y_observed.shape, left.dtype).at[data.y_rows].set(left)


def replace_rows(state: State, rows: Array, values: Array) -> State:
    """Return the state with ``z`` of some individuals replaced and the residual kept in step."""
    residual = state.residual.at[:, rows].add(values - state.z[:, rows])
    return state._replace(z=state.z.at[:, rows].set(values), residual=residual)


def individual_conditional(
    mean: Array, var_e: Array, missing: Array, effects: Array, left: Array, var_y: Array
) -> dist.MultivariateNormal:
    """Conditional of one individual's missing nodes, dense: the reference of the fast draw.

    Precision ``diag(1/var_e) + w w' / var_y`` on the missing nodes (model page, Missing data 2).

    Parameters
    ----------
    mean, var_e, missing, effects : (node,)
        Layer-1 mean, residual variances, which nodes are missing, node effects.
    left : scalar
        Phenotype minus fixed, direct and observed nodes' effects.
    """
    w = effects[missing]
    precision = jnp.diag(1.0 / var_e[missing]) + jnp.outer(w, w) / var_y
    rhs = mean[missing] / var_e[missing] + w * left / var_y
    return dist.MultivariateNormal(jnp.linalg.solve(precision, rhs), precision_matrix=precision)


def kernel(key: Array, state: State, data: ModelData) -> tuple[State, dict[str, Array]]:
    """Gibbs block: missing nodes of all individuals, by Matheron's rule in O(L) each.

    A draw from layer 1 and a phenotype simulated from it are conditioned on the phenotype that
    was observed: ``z + D w (y - y_simulated) / (w'D w + var_y)``, D the residual variances of the
    missing nodes. Without a phenotype the first draw stands.
    """
    key_z, key_y = random.split(key)
    rows = data.incomplete_rows
    z, observed = state.z[:, rows], data.observed[:, rows]
    effects = state.nodes.coef[0]
    mean = z - state.residual[:, rows]
    variance = jnp.where(observed, 0.0, state.var_e[:, None])
    start = mean + jnp.sqrt(variance) * noise.normal(key_z, z.shape, z.dtype)
    start = jnp.where(observed, z, start)
    simulated = effects @ start + jnp.sqrt(state.var_y) * noise.normal(key_y, rows.shape, z.dtype)
    direction = variance * effects[:, None]
    gain = data.y_observed[rows] / (effects @ direction + state.var_y)
    drawn = start + direction * (gain * (phenotype_left(state, data)[rows] - simulated))
    return replace_rows(state, rows, jnp.where(observed, z, drawn)), {}
