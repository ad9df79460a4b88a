"""Missing middle layer of a nonlinear network: Hamiltonian Monte Carlo, one problem a person.

Only missing nodes move. All individuals take their steps together, but each has its own step size
and its own acceptance. In coordinates whitened by layer 1 the prior is a standard normal, under
which Hamilton's equations are a rotation: it is followed exactly, and the phenotype kicks. The
error of a step then comes from the phenotype's one term alone, however many nodes are missing.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax, random
from numpyro.infer.hmc_util import IntegratorState, build_tree

from nnmm_jax.inference import noise
from nnmm_jax.inference.arrays import ModelData
from nnmm_jax.inference.blocks.missing_linear import (
    node_layer,
    phenotype_information,
    replace_rows,
)
from nnmm_jax.inference.blocks.trait import parameters_of
from nnmm_jax.inference.state import AdaptState, State
from nnmm_jax.network.activations import Activation, Theta, Units

N_LEAPFROG = 6
# Under the prior alone a quarter of its period 2 pi decorrelates fully, so a longer step is never
# useful however often it would be accepted.
MAX_STEP = 0.5 * math.pi / N_LEAPFROG
STEP_JITTER = 0.2  # relative; breaks the resonance of fixed-length trajectories
TARGET_ACCEPT = 0.8
DIVERGENCE = 1000.0  # energy error that counts as divergent, as in Stan and NumPyro
MAX_TREE_DEPTH = 6  # of NUTS: more steps than half a period of the prior takes
# Dual averaging constants of Hoffman & Gelman (2014), section 3.2.1.
_GAMMA, _T0, _KAPPA = 0.05, 10.0, 0.75


class People(NamedTuple):
    """The individuals to move, each (node, individual) or (individual,)."""

    z: Array
    mean: Array
    sd: Array
    observed: Array
    left: Array
    var_y: Array


class Problem(NamedTuple):
    """Individuals, and what is the same for all of them; ``effects`` are (feature,)."""

    people: People
    effects: Array
    theta: Theta
    units: Units


def make_problem(state: State, data: ModelData, rows: Array, activation: Activation) -> Problem:
    """Gather what the individuals' conditionals need."""
    layer = node_layer(state, data, rows)
    known = phenotype_information(state, data)
    people = People(
        z=state.z[:, rows],
        mean=layer.mean,
        sd=jnp.sqrt(layer.variance),
        observed=data.observed[:, rows],
        left=known.left[rows],
        var_y=known.variance[rows],
    )
    return Problem(people, state.node_coef[0], parameters_of(state, activation), data.units)


def place(problem: Problem, whitened: Array) -> Array:
    """Middle layer of whitened missing values; observed nodes are the data's."""
    people = problem.people
    return jnp.where(people.observed, people.z, people.mean + people.sd * whitened)


def log_likelihood(problem: Problem, whitened: Array, activation: Activation) -> Array:
    """Log density (individual,) of the phenotypes given whitened nodes, up to a constant."""
    active = activation.features(place(problem, whitened), problem.theta, problem.units)
    left, var_y = problem.people.left, problem.people.var_y
    return -0.5 * (left - problem.effects @ active) ** 2 / var_y


def log_density(problem: Problem, whitened: Array, activation: Activation) -> Array:
    """Log density (individual,) of whitened missing nodes, up to a constant.

    Whitened by layer 1: ``z = mean + sd * u``, whose own precision is then the identity. Entries
    of ``u`` that belong to observed nodes are held at zero (no momentum, no slope).
    """
    prior = -0.5 * jnp.sum(whitened**2, axis=0)
    return prior + log_likelihood(problem, whitened, activation)


def rotate(position: Array, momentum: Array, step: Array) -> tuple[Array, Array]:
    """Follow Hamilton's equations under the prior, a standard normal, for a time."""
    cos, sin = jnp.cos(step), jnp.sin(step)
    return cos * position + sin * momentum, cos * momentum - sin * position


def leapfrog(
    gradient: Callable[[Array], Array], position: Array, momentum: Array, step: Array
) -> tuple[Array, Array]:
    """Integrate ``N_LEAPFROG`` steps of Hamilton's equations with unit mass.

    A step is half a kick by the likelihood, an exact rotation by the prior, half a kick:
    Shahbaba et al. (2014), Statistics and Computing 24:339, section 2.

    Parameters
    ----------
    gradient : callable
        Slope of the log likelihood.
    """

    def move(_: Array, carry: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        position, momentum, slope = carry
        position, momentum = rotate(position, momentum + 0.5 * step * slope, step)
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


class Move(NamedTuple):
    """End (node, individual) of every individual's move, and how it went, each (individual,)."""

    end: Array
    accept: Array
    diverging: Array
    energy: Array


def hmc_move(
    key: Array, problem: Problem, start: Array, momentum: Array, step: Array, activation: Activation
) -> Move:
    """Trajectories of fixed number of steps, accepted or rejected individual by individual."""

    def density(whitened: Array) -> Array:
        return log_density(problem, whitened, activation)

    def total(whitened: Array) -> Array:
        return jnp.sum(log_likelihood(problem, whitened, activation))

    before = density(start)
    end, end_momentum = leapfrog(jax.grad(total), start, momentum, step)
    energy_error = density(end) - before - 0.5 * jnp.sum(end_momentum**2 - momentum**2, axis=0)
    energy_error = jnp.where(jnp.isnan(energy_error), -jnp.inf, energy_error)
    accept = jnp.minimum(1.0, jnp.exp(energy_error))
    accepted = noise.uniform(key, accept.shape, start.dtype) < accept
    energy = 0.5 * jnp.sum(momentum**2, axis=0) - before
    return Move(jnp.where(accepted, end, start), accept, energy_error < -DIVERGENCE, energy)


def nuts_move(
    key: Array, problem: Problem, start: Array, momentum: Array, step: Array, activation: Activation
) -> Move:
    """No-U-turn trajectories of NumPyro, each individual with a tree of its own."""

    def one(
        key: Array, mine: People, start: Array, momentum: Array, step: Array
    ) -> tuple[Array, ...]:
        column = problem._replace(people=People(*(leaf[..., None] for leaf in mine)))

        def likelihood(whitened: Array) -> Array:
            return log_likelihood(column, whitened[:, None], activation)[0]

        def at(position: Array, momentum: Array) -> IntegratorState:
            value, slope = jax.value_and_grad(likelihood)(position)
            return IntegratorState(position, momentum, 0.5 * position @ position - value, -slope)

        def update(step: Array, _: Array, state: tuple[Array, ...]) -> IntegratorState:
            position, momentum, _, slope = state  # NumPyro hands over a plain tuple
            new = at(*rotate(position, momentum - 0.5 * step * slope, step))
            return new._replace(r=new.r - 0.5 * step * new.z_grad)

        def kinetic(_: Array, momentum: Array) -> Array:
            return 0.5 * momentum @ momentum

        begin = at(start, momentum)
        mass = jnp.ones_like(start)
        tree = build_tree(update, kinetic, begin, mass, step, key, DIVERGENCE, MAX_TREE_DEPTH)
        accept = tree.sum_accept_probs / jnp.maximum(tree.num_proposals, 1)
        accept = jnp.where(jnp.isnan(accept), 0.0, accept)
        energy = begin.potential_energy + kinetic(mass, momentum)
        return tree.z_proposal, accept.astype(start.dtype), tree.diverging, energy

    keys = random.split(key, step.shape[0])
    batched = jax.vmap(one, in_axes=(0, -1, -1, -1, 0), out_axes=(-1, 0, 0, 0))
    return Move(*batched(keys, problem.people, start, momentum, step))


def kernel(
    key: Array,
    state: State,
    data: ModelData,
    activation: Activation,
    warmup_iteration: Array,
    *,
    nuts: bool = False,
) -> tuple[State, dict[str, Array]]:
    """Gibbs block: missing nodes of individuals with a phenotype.

    Parameters
    ----------
    warmup_iteration : Array
        Counts from 1 during warm-up, when step sizes adapt; 0 afterwards, when they are fixed.
    nuts : bool
        No-U-turn trajectories instead of ones of fixed length.

    Returns
    -------
    state, info
        ``info``: mean acceptance probability, count of divergent trajectories, total energy and
        mean step size.
    """
    key_momentum, key_jitter, key_accept = random.split(key, 3)
    adapt = state.adapt
    assert adapt is not None
    rows = data.informed_rows
    problem = make_problem(state, data, rows, activation)
    people = problem.people
    start = jnp.where(people.observed, 0.0, (people.z - people.mean) / people.sd)
    # Without momentum and slope observed entries stay at zero and add nothing to the energy.
    momentum = jnp.where(people.observed, 0.0, noise.normal(key_momentum, start.shape, start.dtype))
    adapting = warmup_iteration > 0
    log_step = jnp.where(adapting, adapt.log_step, adapt.log_step_average)
    jitter = 1.0 + STEP_JITTER * (2.0 * noise.uniform(key_jitter, rows.shape, start.dtype) - 1.0)
    move = nuts_move if nuts else hmc_move
    moved = move(key_accept, problem, start, momentum, jnp.exp(log_step) * jitter, activation)
    # Where nothing moved the values stay what they are to the last digit.
    values = jnp.where(jnp.all(moved.end == start, axis=0), people.z, place(problem, moved.end))
    state = replace_rows(state, data, rows, values)
    adapted = adapt_step(adapt, moved.accept, jnp.maximum(warmup_iteration, 1))
    state = state._replace(
        adapt=jax.tree.map(lambda new, old: jnp.where(adapting, new, old), adapted, adapt)
    )
    info = {
        "accept_prob": jnp.mean(moved.accept),
        "diverging": jnp.sum(moved.diverging),
        "energy": jnp.sum(moved.energy),
        "step_size": jnp.mean(jnp.exp(log_step)),
    }
    return state, info
