"""Parameters of a user's function: NumPyro's NUTS, fixed effects of the trait integrated out."""

from collections.abc import Callable
from functools import partial

import jax.numpy as jnp
from jax import Array, lax, random
from numpyro.infer.hmc_util import (
    HMCAdaptState,
    IntegratorState,
    build_tree,
    velocity_verlet,
    warmup_adapter,
)

from nnmm_jax.inference import noise
from nnmm_jax.inference.arrays import ModelData
from nnmm_jax.inference.blocks.trait import draw_fixed, without_terms
from nnmm_jax.inference.state import State
from nnmm_jax.network.activations import Activation

MAX_TREE_DEPTH = 8
FIRST_STEP = 0.1  # of unconstrained parameters, before adaptation


def log_density(flat: Array, state: State, data: ModelData, activation: Activation) -> Array:
    """Log density of unconstrained parameters, fixed effects of the trait integrated out.

    Given everything else but those; up to a constant.
    """
    theta = activation.parameters.constrain(flat)
    active = data.of_records(activation.features(state.z, theta, data.units))
    fitted = state.node_coef @ data.trait.weighted(active)
    response = without_terms(state, data)[None] - fitted
    basis, taken = data.trait.design.basis, data.trait.taken(state.trait.variance)[0]
    seen = response @ basis.T
    left = response - seen @ basis
    misfit = jnp.sum(left**2) + (1.0 - taken) * jnp.sum(seen**2)
    misfit = 0.5 * misfit / state.trait.variance[0]
    return activation.parameters.log_prior(flat) - misfit


def _kinetic(inverse_mass: Array, momentum: Array) -> Array:
    return 0.5 * momentum @ inverse_mass @ momentum


def _adapter(warmup: int) -> tuple[Callable[..., HMCAdaptState], Callable[..., HMCAdaptState]]:
    init, update = warmup_adapter(max(warmup, 1), dense_mass=True)
    return init, update


def init_adapt(flat: Array) -> HMCAdaptState:
    """Step size and mass matrix before warm-up."""
    start = IntegratorState(flat, flat, jnp.zeros(()), flat)
    init, _ = _adapter(1)
    return init(
        start, random.key(0), FIRST_STEP, jnp.eye(flat.shape[0], dtype=flat.dtype)
    )._replace(rng_key=None)


def kernel(
    key: Array,
    state: State,
    data: ModelData,
    activation: Activation,
    warmup_iteration: Array,
    warmup: int,
) -> tuple[State, dict[str, Array]]:
    """Gibbs block: parameters by one trajectory of NUTS, then the trait's fixed effects.

    Parameters
    ----------
    warmup_iteration : Array
        Counts from 1 during warm-up, when step size and mass matrix adapt; 0 afterwards.
    warmup : int
        Sweeps of warm-up.

    Returns
    -------
    state, info
        ``info``: acceptance probability and whether the trajectory diverged.
    """
    key_momentum, key_tree, key_fixed = random.split(key, 3)
    flat, adapt = state.theta, state.theta_adapt
    assert flat is not None
    assert adapt is not None
    potential = partial(_potential, state=state, data=data, activation=activation)
    init, update = velocity_verlet(potential, _kinetic)
    momentum = adapt.mass_matrix_sqrt @ noise.normal(key_momentum, flat.shape, flat.dtype)
    tree = build_tree(
        update,
        _kinetic,
        init(flat, momentum),
        adapt.inverse_mass_matrix,
        adapt.step_size,
        key_tree,
        max_tree_depth=MAX_TREE_DEPTH,
    )
    accept = tree.sum_accept_probs / jnp.maximum(tree.num_proposals, 1)
    accept = jnp.where(jnp.isnan(accept), 0.0, accept)
    end = IntegratorState(tree.z_proposal, tree.r_right, tree.z_proposal_pe, tree.z_proposal_grad)
    _, learn = _adapter(warmup)
    adapt = lax.cond(
        warmup_iteration > 0,
        lambda: learn(warmup_iteration - 1, accept, end, adapt),
        lambda: adapt,
    )
    state = state._replace(theta=tree.z_proposal, theta_adapt=adapt)
    theta = activation.parameters.constrain(tree.z_proposal)
    active = data.of_records(activation.features(state.z, theta, data.units))
    response = without_terms(state, data)[None] - state.node_coef @ data.trait.weighted(active)
    fixed, residual = draw_fixed(key_fixed, response, state, data)
    state = state._replace(trait=state.trait._replace(fixed=fixed, residual=residual))
    return state, {"theta_accept_prob": accept, "theta_diverging": tree.diverging.astype(jnp.int32)}


def _potential(flat: Array, state: State, data: ModelData, activation: Activation) -> Array:
    return -log_density(flat, state, data, activation)


def start(key: Array, activation: Activation, finite: Callable[[Array], Array]) -> Array:
    """Draw starting parameters from their priors, or take the priors' middle.

    Parameters
    ----------
    finite : callable
        Whether the function is finite at unconstrained parameters.
    """
    drawn = activation.parameters.sample(key)
    good = jnp.all(jnp.isfinite(drawn)) & finite(drawn)
    return jnp.where(good, drawn, activation.parameters.median().astype(drawn.dtype))
