"""Mechanics of sweeps: blocked = one by one, caches in step, seeds, chains, HMC's moves."""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import random
from numpyro.infer import MCMC
from scipy import stats

from nnmm_jax import BayesR, Group, Network, Pedigree, Relationship
from nnmm_jax.errors import InputError
from nnmm_jax.inference import build_arrays, noise
from nnmm_jax.inference.blocks import missing_hmc, mixed_model, random_terms, scale_move
from nnmm_jax.inference.blocks.effects import (
    SweepDraws,
    coordinate_sweep,
    draw_sweep,
    effect_conditional,
)
from nnmm_jax.inference.blocks.families import family_of
from nnmm_jax.inference.kernel import NNMMKernel
from nnmm_jax.inference.prepare import prepare
from nnmm_jax.inference.run import (
    RunSettings,
    chain_keys,
    compiled_piece,
    compiled_start,
    piece_size,
    run_chains,
)
from nnmm_jax.inference.state import EffectState
from nnmm_jax.inference.sweep import refreshed, sweep
from nnmm_jax.network.activations import ACTIVATIONS

RUN = RunSettings(warmup=6, samples=12, chains=2, seed=3, progress=False)


def run_sweeps(case, state, n_sweeps, warmup_iteration=0):
    """Sweeps without the kernel's refreshing of the cache."""

    def step(t, state):
        key = random.fold_in(random.key(7), t)
        return sweep(key, state, case.data, jnp.asarray(warmup_iteration), case.settings)[0]

    return jax.jit(lambda state: jax.lax.fori_loop(0, n_sweeps, step, state))(state)


def wide_case(toy, prior, **more):
    """One layer-1 term of 150 markers in several blocks."""
    return toy(sizes={"n": 30, "p": 150}, spectrum=0, marker_prior=prior, **more)


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize(
    ("prior", "sd"),
    [
        ("BayesC", None),
        ("BayesC", 0.5),
        ("BayesL", None),
        ("BayesB", None),
        (BayesR(mixture=(0, 0.1, 1)), 0.5),
    ],
)
def test_blocked_sweep_equals_marker_by_marker(toy, prior, sd, monkeypatch):
    monkeypatch.setattr(build_arrays, "ONE_BLOCK", 0)
    monkeypatch.setattr(build_arrays, "MARKER_BLOCK", 64)
    case = wide_case(toy, prior, latent=int(sd is not None), fixed_sd_omics=sd)
    state, arrays = case.state.omics[0], case.data.omics[0]
    term, effects, var_e = arrays.terms[0], state.terms[0], state.variance
    assert term.markers.n_blocks > 1
    response = np.asarray(
        state.residual + state.fixed @ arrays.design.matrix + state.term_values[0]
    )
    key = random.key(11)
    fixed, swept, residual = mixed_model._sweep(
        key, effects, jnp.asarray(response - state.term_values[0]), var_e, arrays, term
    )

    # The same, one marker after the other on the rows that the design leaves.
    dense = np.asarray(term.markers.predict(jnp.eye(term.markers.n_padded)))
    basis = np.asarray(arrays.design.basis)
    taken = np.asarray(arrays.taken(var_e))[:, None, None]  # 1 where fixed effects are flat
    assert (taken < 0.999).any() == (sd is not None)
    left = dense - taken * (dense @ basis.T @ basis)  # (response, marker, individual)
    key_coef, key_fixed = random.split(key)
    hyper = term.hyper
    draws = draw_sweep(
        key_coef,
        jnp.asarray((left * dense).sum(2)),
        var_e,
        family_of(hyper).slabs(effects, var_e, hyper),
        effects.weights if hyper.spike else None,
        mixed_model.allowed_effects(term).T,
    )
    naive = np.array(effects.coef)
    for j in range(term.markers.n_padded):
        naive[:, j] = 0.0
        rhs = ((response - naive @ dense) * left[:, j]).sum(axis=1)
        scores = np.r_[np.zeros((1, len(rhs))), draws.offset[..., j] + draws.slope[..., j] * rhs**2]
        values = np.r_[np.zeros((1, len(rhs))), rhs * draws.gain[..., j] + draws.noise[..., j]]
        naive[:, j] = np.take_along_axis(values, scores.argmax(0)[None], axis=0)[0]
    np.testing.assert_allclose(swept, naive, atol=1e-10)
    assert (0 < np.count_nonzero(naive) < 150 * len(naive)) == hyper.spike
    seen = (response - naive @ dense) @ basis.T
    conditional = mixed_model.fixed_conditional(jnp.asarray(seen), var_e, arrays)
    expected = noise.draw_normal(key_fixed, conditional)
    np.testing.assert_allclose(fixed, expected, atol=1e-10)
    np.testing.assert_allclose(residual, response - naive @ dense - fixed @ basis, atol=1e-10)


@pytest.mark.usefixtures("double")
def test_sweep_draws_are_the_conditional_solved_for_the_right_hand_side():
    """Included exactly when a logistic variate is below the log odds; then mean + sd * noise."""
    key, sizes = random.key(2), jnp.asarray([0.5, 3.0, 40.0])
    var_e, variance = jnp.asarray([0.7, 2.0]), jnp.asarray([0.1, 1.0])
    weights = jnp.asarray([[0.9, 0.1], [0.2, 0.8]])
    draws = draw_sweep(key, sizes, var_e, (variance[:, None],), weights)
    logit_u = -noise.logistic(random.split(key)[0], (1, 2, 3), jnp.float64)
    normal = noise.normal(random.split(key)[1], (1, 2, 3), jnp.float64)
    for rhs in (0.0, 0.5, -3.0, 10.0):
        expected = effect_conditional(
            jnp.asarray(rhs),
            sizes,
            var_e[:, None],
            variance[None, :, None],
            weights.T[..., None],
        )
        included = draws.offset + draws.slope * rhs**2 > 0
        np.testing.assert_array_equal(included, -logit_u < expected.log_odds)
        np.testing.assert_allclose(
            rhs * draws.gain + draws.noise, expected.mean + expected.sd * normal, rtol=1e-12
        )


@pytest.mark.usefixtures("double")
def test_components_are_chosen_with_their_probabilities():
    """Of a mixture of three, by Gumbel's rule, given one right-hand side."""
    weights, variances = jnp.asarray([[0.5, 0.2, 0.3]]), (0.05, 1.0)
    rhs, size, var_e, n = 2.5, 3.0, jnp.ones(1), 100_000
    draws = draw_sweep(
        random.key(1),
        jnp.full(n, size),
        var_e,
        tuple(jnp.full((1, 1), one) for one in variances),
        weights,
    )
    scores = np.asarray(draws.offset + draws.slope * rhs**2)[:, 0]
    chosen = np.where(scores.max(axis=0) > 0, 1 + scores.argmax(axis=0), 0)
    exact = effect_conditional(
        jnp.asarray(rhs), jnp.asarray(size), var_e, jnp.asarray(variances)[:, None], weights.T
    )
    expected = np.r_[1.0, np.exp(np.ravel(exact.log_odds))]
    expected /= expected.sum()
    counts = np.bincount(chosen, minlength=3)
    assert stats.chisquare(counts, n * expected).pvalue > 1e-4


def test_padding_never_enters():
    allowed = (jnp.arange(4) < 2)[None]
    weights = jnp.asarray([[1e-6, 1.0]])
    draws = draw_sweep(
        random.key(0), jnp.zeros(4), jnp.ones(1), (jnp.ones((1, 1)),), weights, allowed
    )
    new = coordinate_sweep(jnp.zeros((4, 4)), jnp.zeros((1, 4)), jnp.zeros((1, 4)), draws)
    assert np.count_nonzero(new[:, :2]) == 2
    assert np.count_nonzero(new[:, 2:]) == 0


def test_without_a_spike_every_effect_enters():
    draws = draw_sweep(random.key(0), jnp.ones(5), jnp.ones(1), (jnp.ones((1, 1)),), None)
    assert isinstance(draws, SweepDraws)
    assert np.all(draws.offset == np.inf)


RICH = {
    "sizes": {"n": 40, "p": 70, "rich": True},
    "skip_prior": "BayesB",
    "random_omics": [Pedigree(solver="cg"), Group("batch"), Relationship("K")],
    "random_trait": [Pedigree(), Group("pen"), Group("id")],
}


@pytest.mark.parametrize("x64", [False, True], ids=["float32", "float64"])
@pytest.mark.parametrize(
    "stated",
    [
        {"marker_prior": "BayesC", "skip_prior": "BayesC", "node_prior": "BayesC"},
        {"marker_prior": "RR-BLUP", "skip_prior": "RR-BLUP", "activation": "tanh", "latent": 1},
        {"marker_prior": "BayesL", "skip_prior": "BayesR", "node_prior": "BayesA"},
        RICH | {"activation": "tanh"},
    ],
    ids=["spikes", "joint draws", "own variances", "random terms"],
)
def test_running_caches_equal_recomputed(toy, stated, x64):
    with jax.enable_x64(x64):
        case = toy(**{"sizes": {"n": 40, "p": 70}} | stated)
        state = run_sweeps(case, case.state, 60)
        fresh = refreshed(state, case.data, case.settings.activation)
        scale = float(jnp.abs(state.z).max())
        for first, second in zip(jax.tree.leaves(state), jax.tree.leaves(fresh), strict=True):
            np.testing.assert_allclose(
                first, second, atol=200 * scale * float(jnp.finfo(state.z.dtype).eps)
            )
        assert float(jnp.abs(state.omics[0].residual - case.state.omics[0].residual).max()) > 0.1
        assert float(jnp.abs(state.trait.residual - case.state.trait.residual).max()) > 0.1


def test_a_piece_compiles_once(toy):
    """What a piece returns has the types of what it was given, in every kind of network."""
    case = toy(**RICH)
    kernel, start = compiled_start(case.settings, 2)
    state = start(chain_keys(0, 2), case.data)
    piece = compiled_piece(kernel, 2, 2)
    before = piece._cache_size()
    for _ in range(3):
        state, kept = piece(state, case.data)
    assert piece._cache_size() == before + 1
    assert (kept["stats"]["cg_failed"] == 0).all()
    assert (kept["stats"]["cg_iterations"] > 0).all()


def test_conjugate_gradients_that_do_not_converge_are_counted(toy, monkeypatch):
    monkeypatch.setattr(random_terms, "MAX_ITERATIONS", 2)
    case = toy(**RICH)
    _, info = random_terms.update_random(random.key(0), case.state.omics[0], case.data.omics[0])
    assert info["cg_iterations"] == 2
    assert info["cg_failed"] == case.state.z.shape[0]


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
    output = run_chains(prepared.data, prepared.activation, RUN)
    assert set(output.stats) == {"non_finite"}
    spread = output.sums.nodes["z"].m2[:, :, hidden]
    assert (spread > 0).all()
    assert (output.sums.nodes["z"].m2[:, :, ~hidden] == 0).all()


@pytest.mark.usefixtures("double")
def test_leapfrog_is_reversible_and_of_second_order(toy):
    case = toy(activation="tanh", latent=1)
    problem = missing_hmc.make_problem(
        case.state, case.data, case.data.informed_rows, case.settings.activation
    )
    activation = case.settings.activation
    rng = np.random.default_rng(0)
    start = jnp.where(problem.people.observed, 0.0, rng.normal(size=problem.people.z.shape))
    momentum = jnp.where(problem.people.observed, 0.0, rng.normal(size=problem.people.z.shape))

    def density(whitened):
        return missing_hmc.log_density(problem, whitened, activation)

    def likelihood(whitened):
        return missing_hmc.log_likelihood(problem, whitened, activation).sum()

    gradient = jax.grad(likelihood)

    def energy(position, momentum):
        return -density(position) + 0.5 * jnp.sum(momentum**2, axis=0)

    errors = []
    for step in (0.04, 0.02):
        sizes = jnp.full(start.shape[1], step)
        end, end_momentum = missing_hmc.leapfrog(gradient, start, momentum, sizes)
        back, back_momentum = missing_hmc.leapfrog(gradient, end, -end_momentum, sizes)
        np.testing.assert_allclose(back, start, atol=1e-12)
        np.testing.assert_allclose(-back_momentum, momentum, atol=1e-12)
        np.testing.assert_array_equal(end[problem.people.observed], 0.0)
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


def test_step_sizes_are_fixed_after_warmup(toy):
    """A chain that goes on adapting is none of a fixed distribution."""
    case = toy(activation="tanh")
    kernel = jax.jit(missing_hmc.kernel, static_argnums=3)
    during, _ = kernel(
        random.key(0), case.state, case.data, case.settings.activation, jnp.asarray(1)
    )
    after, info = kernel(random.key(1), during, case.data, case.settings.activation, jnp.asarray(0))
    assert (during.adapt.error != case.state.adapt.error).all()
    for first, second in zip(during.adapt, after.adapt, strict=True):
        np.testing.assert_array_equal(first, second)
    expected = jnp.exp(during.adapt.log_step_average).mean()
    assert info["step_size"] == pytest.approx(float(expected), rel=1e-6)


def test_poor_steps_are_counted_as_divergent(toy):
    case = toy(activation="relu")
    big = case.state.adapt._replace(log_step_average=jnp.full_like(case.state.adapt.error, 6.0))
    state = case.state._replace(
        adapt=big, trait=case.state.trait._replace(variance=jnp.asarray([1e-4]))
    )
    moved, info = missing_hmc.kernel(
        random.key(0), state, case.data, ACTIVATIONS["relu"], jnp.asarray(0)
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
    effects = EffectState(jnp.ones((3, 5)), jnp.ones(3), jnp.ones((3, 1)), None)
    names = ["df", "scale", "known", "family"]
    fields = (4.0 * jnp.ones(3), jnp.ones(3), False, "common")
    hyper = dataclasses.make_dataclass("Hyper", names)(*fields)
    moved, g, e = scale_move.scale_move(
        random.key(1), effects, genetic, residual, jnp.ones(3), hyper
    )
    np.testing.assert_allclose(g + e, genetic + residual, atol=1e-5)
    k = moved.coef[:, 0]
    np.testing.assert_allclose(moved.level, k**2, rtol=1e-5)
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
    first = run_chains(case.data, case.settings.activation, RUN)
    shown = run_chains(case.data, case.settings.activation, dataclasses.replace(RUN, progress=True))
    equal_draws(first, shown)
    assert "sampling" in capsys.readouterr().err
    other = run_chains(case.data, case.settings.activation, dataclasses.replace(RUN, seed=4))
    assert not np.allclose(first.draws["epv"], other.draws["epv"])
    assert not np.allclose(first.draws["epv"][0], first.draws["epv"][1])


@pytest.mark.usefixtures("double")
def test_chains_do_not_depend_on_how_many_run_or_for_how_long(toy):
    case = toy()
    first = run_chains(case.data, case.settings.activation, RUN)
    three = run_chains(case.data, case.settings.activation, dataclasses.replace(RUN, chains=3))
    equal_draws(first, three, slice(0, 2))
    one = run_chains(case.data, case.settings.activation, dataclasses.replace(RUN, chains=1))
    equal_draws(one, first, slice(0, 1))
    longer = run_chains(case.data, case.settings.activation, dataclasses.replace(RUN, samples=17))
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
    ours = run_chains(case.data, case.settings.activation, RUN)
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
            sign = np.where(case.data.latent & (state.chain.node_coef[0] < 0), -1.0, 1.0)[:, None]
            effects.append(sign * state.chain.omics[0].terms[0].coef[:, : case.data.n_markers])
            cells.append(sign * state.chain.z)
    sums = state.sums
    assert sums.nodes_count == len(cells) == 9
    np.testing.assert_allclose(sums.markers.mean, np.mean(effects, axis=0), atol=1e-12)
    np.testing.assert_allclose(sums.markers.m2 / 9, np.var(effects, axis=0), atol=1e-12)
    np.testing.assert_array_equal(sums.markers.nonzero, np.count_nonzero(effects, axis=0))
    np.testing.assert_allclose(sums.nodes["z"].mean, np.mean(cells, axis=0), atol=1e-12)


def test_latent_nodes_have_positive_effects(toy):
    case = toy(latent=2)
    output = run_chains(case.data, case.settings.activation, RUN)
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
