"""Missing middle layer of a nonlinear network: Hamiltonian Monte Carlo, one problem a person.

Only missing nodes move. All individuals take their leapfrog steps together, but each has its own
step size and its own acceptance.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax, random

from nnmm_jax.inference import noise
from nnmm_jax.inference.arrays import ModelData
from nnmm_jax.inference.blocks.missing_linear import (
    node_layer,
    phenotype_information,
    replace_rows,
)
from nnmm_jax.inference.state import AdaptState, State
from nnmm_jax.network.activations import Activation

N_LEAPFROG = 6
# In whitened coordinates the prior alone has period 2 pi: a quarter of it decorrelates fully, so
# a longer step is never useful however often it would be accepted.
MAX_STEP = 0.5 * math.pi / N_LEAPFROG
STEP_JITTER = 0.2  # relative; breaks the resonance of fixed-length trajectories
TARGET_ACCEPT = 0.8
DIVERGENCE = 1000.0  # energy error that counts as divergent, as in Stan and NumPyro
# Dual averaging constants of Hoffman & Gelman (2014), section 3.2.1.
_GAMMA, _T0, _KAPPA = 0.05, 10.0, 0.75


class Problem(NamedTuple):
    """The individuals to move, each (node, individual) or (individual,); effects (node,)."""

    z: Array
    mean: Array
    sd: Array
    observed: Array
    left: Array
    effects: Array
    var_y: Array


def make_problem(state: State, data: ModelData, rows: Array) -> Problem:
    """Gather what the individuals' conditionals need."""
    assert state.nodes is not None
    layer = node_layer(state, data, rows)
    known = phenotype_information(state, data)
    return Problem(
        z=state.z[:, rows],
        mean=layer.mean,
        sd=jnp.sqrt(layer.variance),
        observed=data.observed[:, rows],
        left=known.left[rows],
        effects=state.nodes.coef[0],
        var_y=known.variance[rows],
    )


def place(problem: Problem, whitened: Array) -> Array:
    """Middle layer of whitened missing values; observed nodes are the data's."""
    return jnp.where(problem.observed, problem.z, problem.mean + problem.sd * whitened)


def log_density(problem: Problem, whitened: Array, activation: Activation) -> Array:
    """Log density (individual,) of whitened missing nodes, up to a constant.

    Whitened by layer 1: ``z = mean + sd * u``, whose own precision is then the identity. Entries
    of ``u`` that belong to observed nodes are held at zero (no momentum, no slope).
    """
    error = problem.left - problem.effects @ activation.function(place(problem, whitened))
    return -0.5 * jnp.sum(whitened**2, axis=0) - 0.5 * error**2 / problem.var_y


def leapfrog(
    gradient: Callable[[Array], Array], position: Array, momentum: Array, step: Array
) -> tuple[Array, Array]:
    """Integrate ``N_LEAPFROG`` steps of Hamilton's equations with unit mass."""

    def move(_: Array, carry: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        position, momentum, slope = carry
        momentum = momentum + 0.5 * step * slope
        position = position + step * momentum
        slope = gradient(position)
        return position, momentum + 0.5 * step * slope, slope

    start = (position, momentum, gradient(position))
    position, momentum, _ = lax.fori_loop(0, N_LEAPFROG, move, start)
    return position, momentum


def init_adapt(n_individuals: int, dtype: jnp.dtype) -> AdaptState:
    """Start the step sizes at their ceiling."""
    start = jnp.full((n_individuals,), math.log(MAX_STEP), dtype)
    return AdaptState(start, start, jnp.zeros_like(start))


def adapt_step(adapt: AdaptState, accept: Array, iteration: Array) -> AdaptState:
    """One update of dual averaging; ``iteration`` counts from 1."""
    t = iteration.astype(accept.dtype)
    weight = 1.0 / (t + _T0)
    error = (1.0 - weight) * adapt.error + weight * (TARGET_ACCEPT - accept)
    log_step = jnp.minimum(math.log(MAX_STEP), math.log(MAX_STEP) - jnp.sqrt(t) / _GAMMA * error)
    forget = t**-_KAPPA
    average = forget * log_step + (1.0 - forget) * adapt.log_step_average
    return AdaptState(log_step, average, error)


def kernel(
    key: Array,
    state: State,
    data: ModelData,
    activation: Activation,
    warmup_iteration: Array,
) -> tuple[State, dict[str, Array]]:
    """Gibbs block: missing nodes of individuals with a phenotype.

    Parameters
    ----------
    warmup_iteration : Array
        Counts from 1 during warm-up, when step sizes adapt; 0 afterwards, when they are fixed.

    Returns
    -------
    state, info
        ``info``: mean acceptance probability and count of divergent trajectories.
    """
    key_momentum, key_jitter, key_accept = random.split(key, 3)
    adapt = state.adapt
    assert adapt is not None
    rows = data.informed_rows
    problem = make_problem(state, data, rows)
    start = jnp.where(problem.observed, 0.0, (problem.z - problem.mean) / problem.sd)
    # Without momentum and slope observed entries stay at zero and add nothing to the energy.
    momentum = jnp.where(
        problem.observed, 0.0, noise.normal(key_momentum, start.shape, start.dtype)
    )

    adapting = warmup_iteration > 0
    log_step = jnp.where(adapting, adapt.log_step, adapt.log_step_average)
    jitter = 1.0 + STEP_JITTER * (2.0 * noise.uniform(key_jitter, rows.shape, start.dtype) - 1.0)

    def density(whitened: Array) -> Array:
        return log_density(problem, whitened, activation)

    gradient = jax.grad(lambda whitened: jnp.sum(density(whitened)))
    end, end_momentum = leapfrog(gradient, start, momentum, jnp.exp(log_step) * jitter)
    energy_error = (
        density(end) - density(start) - 0.5 * jnp.sum(end_momentum**2 - momentum**2, axis=0)
    )
    energy_error = jnp.where(jnp.isnan(energy_error), -jnp.inf, energy_error)
    accept = jnp.minimum(1.0, jnp.exp(energy_error))
    accepted = noise.uniform(key_accept, rows.shape, start.dtype) < accept
    moved = jnp.where(accepted, place(problem, end), problem.z)
    state = replace_rows(state, data, rows, moved)

    adapted = adapt_step(adapt, accept, jnp.maximum(warmup_iteration, 1))
    state = state._replace(
        adapt=jax.tree.map(lambda new, old: jnp.where(adapting, new, old), adapted, adapt)
    )
    info = {"accept_prob": jnp.mean(accept), "diverging": jnp.sum(energy_error < -DIVERGENCE)}
    return state, info
