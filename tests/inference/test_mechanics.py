"""Mechanics of sweeps: blocked = one by one, caches in step, seeds, chains, HMC's moves."""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import random
from numpyro.infer import MCMC

from nnmm_jax import Network
from nnmm_jax.api import sweep_settings
from nnmm_jax.errors import InputError
from nnmm_jax.inference.arrays import build_fixed_design, build_mixed_arrays
from nnmm_jax.inference.blocks import missing_hmc, mixed_model, scale_move
from nnmm_jax.inference.blocks.effects import (
    SweepDraws,
    coordinate_sweep,
    draw_sweep,
    effect_conditional,
)
from nnmm_jax.inference.kernel import NNMMKernel
from nnmm_jax.inference.prepare import prepare
from nnmm_jax.inference.run import RunSettings, chain_keys, piece_size, run_chains
from nnmm_jax.inference.state import EffectState
from nnmm_jax.inference.sweep import refreshed_residual, sweep
from nnmm_jax.network.activations import activation_by_name

RUN = RunSettings(warmup=6, samples=12, chains=2, seed=3, progress=False)


def run_sweeps(case, state, n_sweeps, warmup_iteration=0):
    """Sweeps without the kernel's refreshing of the cache."""

    def step(t, state):
        key = random.fold_in(random.key(7), t)
        return sweep(key, state, case.data, jnp.asarray(warmup_iteration), case.settings)[0]

    return jax.jit(lambda state: jax.lax.fori_loop(0, n_sweeps, step, state))(state)


@pytest.mark.usefixtures("double")
def test_blocked_sweep_equals_marker_by_marker():
    rng = np.random.default_rng(0)
    genotypes = rng.integers(0, 3, size=(30, 150)).astype(np.int8)
    genotypes[rng.random(genotypes.shape) < 0.03] = -1
    design = build_fixed_design(np.c_[np.ones(30), rng.normal(size=30)])
    hyper = None  # the sweep does not read it
    means = np.where(genotypes == -1, np.nan, genotypes)
    arrays = build_mixed_arrays(genotypes, np.nanmean(means, axis=0), design, hyper, joint=False)
    assert arrays.markers.n_blocks > 1
    n_nodes, padded = 3, arrays.markers.n_padded
    coef = 0.2 * rng.normal(size=(n_nodes, padded)) * (rng.random((n_nodes, padded)) < 0.5)
    coef[:, 150:] = 0.0
    effects = EffectState(jnp.asarray(coef), jnp.full(n_nodes, 0.05), jnp.full(n_nodes, 0.6))
    var_e = jnp.asarray([0.5, 1.0, 2.0])
    response = rng.normal(size=(n_nodes, 30))
    genetic = mixed_model.genetic_values(effects, arrays)
    key = random.key(11)
    fixed, swept, residual = mixed_model._sweep(key, effects, response - genetic, var_e, arrays)

    # The same, one marker after the other on the rows that the design leaves.
    dense = np.asarray(arrays.markers.predict(jnp.eye(padded)))
    basis = np.asarray(design.basis)
    left = dense - dense @ basis.T @ basis
    key_coef, key_fixed = random.split(key)
    draws = draw_sweep(
        key_coef, (left**2).sum(1), var_e, effects.variance, effects.pi, n_effects=150
    )
    naive = coef.copy()
    for j in range(padded):
        naive[:, j] = 0.0
        rhs = (response - naive @ dense) @ left[j]
        value = rhs * draws.gain[j] + draws.noise[j]
        naive[:, j] = np.where(rhs**2 > draws.threshold[j], value, 0.0)
    np.testing.assert_allclose(swept, naive, atol=1e-10)
    assert 0 < np.count_nonzero(naive) < 450
    seen = (response - naive @ dense) @ basis.T
    expected = mixed_model.fixed_conditional(jnp.asarray(seen), var_e).sample(key_fixed)
    np.testing.assert_allclose(fixed, expected, atol=1e-10)
    np.testing.assert_allclose(residual, response - naive @ dense - fixed @ basis, atol=1e-10)


@pytest.mark.usefixtures("double")
def test_sweep_draws_are_the_conditional_solved_for_the_right_hand_side():
    """Included exactly when a logistic variate is below the log odds; then mean + sd * noise."""
    key, sizes = random.key(2), jnp.asarray([0.5, 3.0, 40.0])
    var_e, variance, pi = jnp.asarray([0.7, 2.0]), jnp.asarray([0.1, 1.0]), jnp.asarray([0.9, 0.2])
    draws = draw_sweep(key, sizes, var_e, variance, pi)
    logit_u = random.logistic(random.split(key)[0], (3, 2), jnp.float64)
    noise = random.normal(random.split(key)[1], (3, 2), jnp.float64)
    for rhs in (0.0, 0.5, -3.0, 10.0):
        expected = effect_conditional(jnp.asarray(rhs), sizes[:, None], var_e, variance, pi)
        np.testing.assert_array_equal(rhs**2 > draws.threshold, logit_u < expected.log_odds)
        np.testing.assert_allclose(
            rhs * draws.gain + draws.noise, expected.mean + expected.sd * noise, rtol=1e-12
        )


def test_padding_never_enters():
    draws = draw_sweep(
        random.key(0), jnp.zeros(4), jnp.ones(1), jnp.ones(1), jnp.full(1, 1e-6), n_effects=2
    )
    new = coordinate_sweep(jnp.zeros((4, 4)), jnp.zeros((4, 1)), jnp.zeros((4, 1)), draws)
    assert np.count_nonzero(new[:2]) == 2
    assert np.count_nonzero(new[2:]) == 0


def test_without_a_spike_every_effect_enters():
    draws = draw_sweep(random.key(0), jnp.ones(5), jnp.ones(1), jnp.ones(1), jnp.zeros(1))
    assert isinstance(draws, SweepDraws)
    assert np.all(draws.threshold == -np.inf)


@pytest.mark.parametrize("x64", [False, True], ids=["float32", "float64"])
@pytest.mark.parametrize(
    "stated",
    [
        {"marker_prior": "BayesC", "skip_prior": "BayesC", "node_prior": "BayesC"},
        {"marker_prior": "RR-BLUP", "skip_prior": "RR-BLUP", "activation": "tanh", "latent": 1},
    ],
    ids=["spikes", "joint draws"],
)
def test_running_residual_equals_recomputed(toy, stated, x64):
    with jax.enable_x64(x64):
        case = toy(sizes={"n": 40, "p": 70}, **stated)
        state = run_sweeps(case, case.state, 60)
        fresh = refreshed_residual(state, case.data)
        scale = float(jnp.abs(state.z).max())
        np.testing.assert_allclose(
            state.residual, fresh, atol=200 * scale * float(jnp.finfo(state.z.dtype).eps)
        )
        assert float(jnp.abs(state.residual - case.state.residual).max()) > 0.1


@pytest.mark.usefixtures("double")
def test_running_direct_values_equal_recomputed(toy):
    case = toy(skip_prior="BayesC", marker_prior="RR-BLUP")
    state = run_sweeps(case, case.state, 30)
    fresh = mixed_model.genetic_values(state.skip, case.data.skip)[0]
    np.testing.assert_allclose(state.direct, fresh, atol=1e-12)


@pytest.mark.parametrize("activation", ["linear", "tanh", "relu"])
def test_no_observed_cell_moves(toy, activation):
    case = toy(activation=activation, latent=1)
    state = run_sweeps(case, case.state, 20, warmup_iteration=3)
    observed = np.asarray(case.data.observed)
    np.testing.assert_array_equal(state.z[observed], case.state.z[observed])
    moved = np.asarray(state.z != case.state.z)[~observed]
    assert moved.all()


def test_omics_missing_only_where_the_phenotype_is(dataset):
    """Nothing is left for HMC to move; the others are drawn from layer 1."""
    data = dataset(holes=False)
    hidden = np.arange(len(data.ids)) < 4
    network = Network(activation="tanh")
    prepared = prepare(data.mask(phenotype=hidden, omics=hidden), network)
    settings = sweep_settings(network)
    output = run_chains(prepared.data, settings, RUN)
    assert set(output.stats) == {"non_finite"}
    spread = output.sums.z.m2[:, :, hidden]
    assert (spread > 0).all()
    assert (output.sums.z.m2[:, :, ~hidden] == 0).all()


@pytest.mark.usefixtures("double")
def test_leapfrog_is_reversible_and_of_second_order(toy):
    case = toy(activation="tanh", latent=1)
    problem = missing_hmc.make_problem(case.state, case.data, case.data.informed_rows)
    activation = case.settings.activate
    rng = np.random.default_rng(0)
    start = jnp.where(problem.observed, 0.0, rng.normal(size=problem.z.shape))
    momentum = jnp.where(problem.observed, 0.0, rng.normal(size=problem.z.shape))

    def density(whitened):
        return missing_hmc.log_density(problem, whitened, activation)

    gradient = jax.grad(lambda whitened: density(whitened).sum())

    def energy(position, momentum):
        return -density(position) + 0.5 * jnp.sum(momentum**2, axis=0)

    errors = []
    for step in (0.04, 0.02):
        sizes = jnp.full(start.shape[1], step)
        end, end_momentum = missing_hmc.leapfrog(gradient, start, momentum, sizes)
        back, back_momentum = missing_hmc.leapfrog(gradient, end, -end_momentum, sizes)
        np.testing.assert_allclose(back, start, atol=1e-12)
        np.testing.assert_allclose(-back_momentum, momentum, atol=1e-12)
        np.testing.assert_array_equal(end[problem.observed], 0.0)
        errors.append(jnp.abs(energy(end, end_momentum) - energy(start, momentum)).sum())
    # Six steps of half the size reach half as far: the error falls by 2**3 at least.
    assert errors[1] < errors[0] / 6
    assert errors[0] > 1e-8


def test_step_size_adapts_in_both_directions():
    adapt = missing_hmc.init_adapt(2, jnp.float32)
    for t in range(1, 200):
        stiff = jnp.where(jnp.exp(adapt.log_step[0]) > 0.05, 0.1, 0.95)
        accept = jnp.stack([stiff, jnp.float32(1.0)])
        adapt = missing_hmc.adapt_step(adapt, accept, jnp.asarray(t))
    steps = jnp.exp(adapt.log_step_average)
    assert 0.02 < steps[0] < 0.12
    assert steps[1] == pytest.approx(missing_hmc.MAX_STEP, rel=1e-5)


def test_poor_steps_are_counted_as_divergent(toy):
    case = toy(activation="relu")
    big = case.state.adapt._replace(log_step_average=jnp.full_like(case.state.adapt.error, 6.0))
    state = case.state._replace(adapt=big, var_y=jnp.asarray(1e-4))
    moved, info = missing_hmc.kernel(
        random.key(0), state, case.data, activation_by_name("relu"), jnp.asarray(0)
    )
    assert info["diverging"] > 0
    assert info["accept_prob"] < 0.5
    assert np.isfinite(moved.z).all()


def count_primitive(equation, name):
    """How often a primitive stands in an equation of a jaxpr, functions it calls included."""
    total = int(equation.primitive.name == name)
    for value in equation.params.values():
        inner = getattr(value, "jaxpr", value)
        total += sum(count_primitive(one, name) for one in getattr(inner, "eqns", ()))
    return total


def test_factorisations_of_a_sweep_wait_for_each_other(toy):
    """One a block, each made from what the one before led to: side by side they can deadlock."""
    case = toy(
        sizes={"holes": False}, marker_prior="RR-BLUP", node_prior="RR-BLUP", skip_prior="RR-BLUP"
    )
    keys = random.split(random.key(0), 2)
    states = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), case.state)

    def sweeps(state):
        return jax.vmap(lambda key, one: sweep(key, one, case.data, jnp.asarray(0), case.settings))(
            keys, state
        )[0]

    jaxpr = jax.make_jaxpr(sweeps)(states).jaxpr
    made_from: dict[object, int] = {}  # how many factorisations, one after the other, led here
    longest = total = 0
    for equation in jaxpr.eqns:
        depth = max((made_from.get(str(v), 0) for v in equation.invars), default=0)
        inside = count_primitive(equation, "cholesky")
        assert inside <= 1
        total += inside
        longest = max(longest, depth + inside)
        for variable in equation.outvars:
            made_from[str(variable)] = depth + inside
    assert total == 3  # omics, nodes, skip
    assert longest == total


def test_scale_move_keeps_the_sum_of_genetic_value_and_residual():
    rng = np.random.default_rng(0)
    genetic, residual = jnp.asarray(rng.normal(size=(2, 3, 40)))
    effects = EffectState(jnp.ones((3, 5)), jnp.ones(3), jnp.zeros(3))
    hyper = dataclasses.make_dataclass("Hyper", ["df", "scale"])(4.0 * jnp.ones(3), jnp.ones(3))
    moved, g, e = scale_move.scale_move(
        random.key(1), effects, genetic, residual, jnp.ones(3), hyper
    )
    np.testing.assert_allclose(g + e, genetic + residual, atol=1e-5)
    k = moved.coef[:, 0]
    np.testing.assert_allclose(moved.variance, k**2, rtol=1e-5)
    np.testing.assert_allclose(g, k[:, None] * genetic, rtol=1e-4, atol=1e-5)
    assert np.abs(np.asarray(k) - 1).max() > 0.01


def equal_draws(first, second, chains=slice(None)):
    for name, value in first.draws.items():
        np.testing.assert_allclose(
            value[chains], second.draws[name][chains], rtol=1e-9, atol=1e-9, err_msg=name
        )


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize("activation", ["linear", "tanh"])
def test_same_seed_same_draws_shown_or_not(toy, activation, capsys):
    case = toy(activation=activation)
    first = run_chains(case.data, case.settings, RUN)
    shown = run_chains(case.data, case.settings, dataclasses.replace(RUN, progress=True))
    equal_draws(first, shown)
    assert "sampling" in capsys.readouterr().err
    other = run_chains(case.data, case.settings, dataclasses.replace(RUN, seed=4))
    assert not np.allclose(first.draws["epv"], other.draws["epv"])
    assert not np.allclose(first.draws["epv"][0], first.draws["epv"][1])


@pytest.mark.usefixtures("double")
def test_chains_do_not_depend_on_how_many_run_or_for_how_long(toy):
    case = toy()
    first = run_chains(case.data, case.settings, RUN)
    three = run_chains(case.data, case.settings, dataclasses.replace(RUN, chains=3))
    equal_draws(first, three, slice(0, 2))
    one = run_chains(case.data, case.settings, dataclasses.replace(RUN, chains=1))
    equal_draws(one, first, slice(0, 1))
    longer = run_chains(case.data, case.settings, dataclasses.replace(RUN, samples=17))
    for name, value in first.draws.items():
        np.testing.assert_allclose(value, longer.draws[name][:, :12], rtol=1e-9, atol=1e-9)


@pytest.mark.usefixtures("double")
def test_numpyro_runs_the_kernel_like_any_other(toy):
    """MCMC alone, with its own warm-up, gives the draws that the package's run gives."""
    case = toy()
    mcmc = MCMC(
        NNMMKernel(case.settings),
        num_warmup=RUN.warmup,
        num_samples=RUN.samples,
        num_chains=RUN.chains,
        chain_method="vectorized",
        progress_bar=False,
    )
    mcmc.run(chain_keys(RUN.seed, RUN.chains), case.data)
    ours = run_chains(case.data, case.settings, RUN)
    for name, value in mcmc.get_samples(group_by_chain=True).items():
        np.testing.assert_allclose(value, ours.draws[name], rtol=1e-9, atol=1e-9, err_msg=name)


@pytest.mark.usefixtures("double")
def test_moments_are_those_of_the_draws(toy):
    """Running moments of a BayesC run against the effects collected one by one."""
    case = toy(marker_prior="BayesC", latent=1)
    kernel = NNMMKernel(case.settings)
    state = kernel.init(random.key(0), 3, None, (case.data,), {})
    step = jax.jit(lambda state, data: kernel.sample(state, (data,), {}))
    effects, cells = [], []
    for t in range(12):
        state = step(state, case.data)
        if t >= 3:
            sign = np.where(case.data.latent & (state.chain.nodes.coef[0] < 0), -1.0, 1.0)[:, None]
            effects.append(sign * state.chain.markers.coef[:, : case.data.omics.markers.n_markers])
            cells.append(sign * state.chain.z)
    sums = state.sums
    assert sums.z_count == len(cells) == 9
    np.testing.assert_allclose(sums.markers.mean, np.mean(effects, axis=0), atol=1e-12)
    np.testing.assert_allclose(sums.markers.m2 / 9, np.var(effects, axis=0), atol=1e-12)
    np.testing.assert_array_equal(sums.markers.nonzero, np.count_nonzero(effects, axis=0))
    np.testing.assert_allclose(sums.z.mean, np.mean(cells, axis=0), atol=1e-12)


def test_latent_nodes_have_positive_effects(toy):
    case = toy(latent=2)
    output = run_chains(case.data, case.settings, RUN)
    assert (output.draws["node_effect"][..., 3:] >= 0).all()
    assert (output.draws["node_effect"][..., :3] < 0).any()
    np.testing.assert_array_equal(np.ptp(output.draws["var_residual_node"][..., 3:]), 0.0)


@pytest.mark.parametrize(
    ("warmup", "samples"), [(1000, 1000), (0, 7), (500, 1500), (333, 1000), (1, 1), (64, 96)]
)
def test_pieces_are_neither_tiny_nor_huge(warmup, samples):
    size = piece_size(warmup, samples)
    assert 1 <= size <= 50
    n_pieces = -(-warmup // size) + -(-samples // size)
    assert n_pieces <= 2 + (warmup + samples) / 10


@pytest.mark.parametrize(
    ("name", "value"),
    [*itertools.product(["samples", "chains"], [0, -3, 2.5, "x"]), ("warmup", -1), ("seed", -1)],
)
def test_run_settings__raises_on_counts_that_are_not_counts(name, value):
    with pytest.raises(InputError, match=f"{name} must be a whole number"):
        RunSettings(**{name: value})
