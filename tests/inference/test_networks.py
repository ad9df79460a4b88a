"""Shapes of networks: blocks, partial connections, a user's functions, latent nodes in order.

As in ``test_exact_conditionals.py``, densities of the blocks of the sampler are compared with
differences of the joint density.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
from jax import random
from scipy import stats

from nnmm_jax import RRBLUP, BayesB, BayesC, Block, Group, InputError, Network, Pedigree
from nnmm_jax.data import Connections
from nnmm_jax.inference.blocks import missing_hmc, missing_linear, mixed_model, trait, variances
from nnmm_jax.inference.blocks import theta as theta_block
from nnmm_jax.inference.prepare import prepare
from nnmm_jax.inference.quantities import align, draw_quantities
from nnmm_jax.inference.run import RunSettings, run_chains
from nnmm_jax.inference.sweep import SweepSettings, refreshed, sweep
from nnmm_jax.network.functions import activation_of_function

TOLERANCE = 1e-8
NORMAL = RRBLUP(df=5.0, share=0.1)
RUN = RunSettings(warmup=10, samples=20, chains=2, seed=3, progress=False)


def uptake(z, theta):
    """Saturates in the first node; the second competes, in units of its own."""
    return theta["V"] * z[0] / (theta["K"] + jnp.exp(0.3 * z[1])) + theta["shift"] @ z[1:3]


THETA = {
    "V": dist.LogNormal(0.0, 0.5),
    "K": dist.Gamma(3.0, 2.0),
    "shift": dist.Normal(0.0, 1.0).expand([2]),
}


def bend(z, theta):
    """Elementwise, with a parameter."""
    return jnp.tanh(theta["slope"] * z)


def ratio(z):
    return jnp.sqrt(z[0] ** 2 / (z[0] ** 2 + z[1] ** 2 + 0.1))


BLOCKS = (
    Block("first", ["m1"], marker_prior=BayesC(pi=0.4), node_prior=NORMAL, fixed="~ sex"),
    Block("rest", marker_prior=NORMAL, node_prior=BayesB(pi=0.3, share=0.1)),
    Block("hidden", [], latent=2, marker_prior=NORMAL, node_prior=RRBLUP(share=0.2)),
)
SHAPES = {
    "blocks": {"blocks": BLOCKS, "fixed_omics": None},
    "function": {"activation": uptake, "theta": THETA, "latent": 1},
    "function without theta": {"activation": ratio, "skip_prior": NORMAL},
    "elementwise with theta": {
        "activation": bend,
        "theta": {"slope": dist.LogNormal(0.0, 0.5)},
        "node_prior": NORMAL,
    },
}
RICH = {
    "sizes": {"rich": True},
    "fixed_sd_trait": 0.5,
    "random_trait": [Pedigree(), Group("pen")],
}
double = pytest.mark.usefixtures("double")


def check(case, points):
    (first, log_first), (second, log_second) = points
    joint = case.log_joint(*first) - case.log_joint(*second)
    assert log_first - log_second == pytest.approx(joint, abs=TOLERANCE * max(1, abs(joint)))
    assert abs(joint) > 1e-3  # the two points differ where it matters


def with_fixed(case, state, response, rng):
    """State with the trait's fixed effects drawn given the rest, and their log density."""
    design = case.data.trait.design
    conditional = mixed_model.fixed_conditional(
        response @ design.basis.T, state.trait.variance, case.data.trait
    )
    coordinates = conditional.mean + 0.3 * jnp.asarray(rng.normal(size=conditional.mean.shape))
    moved = state._replace(trait=state.trait._replace(fixed=coordinates @ design.to_terms))
    return moved, float(conditional.log_prob(coordinates).sum())


@double
@pytest.mark.parametrize("rich", [{}, RICH], ids=["plain", "rich"])
@pytest.mark.parametrize("shape", ["function", "elementwise with theta"])
def test_density_of_theta_with_fixed_effects(toy, slabs, shape, rich):
    case = toy(**{"marker_prior": NORMAL} | SHAPES[shape] | rich)
    activation, rest, points = case.settings.activation, slabs(0, case), []
    for seed in (1, 2):
        rng = np.random.default_rng(seed)
        flat = jnp.asarray(rng.normal(size=activation.parameters.size))
        state = case.state._replace(theta=flat)
        log = float(theta_block.log_density(flat, case.state, case.data, activation))
        # The joint density is of theta itself, the block's of its unconstrained vector.
        log -= float(
            activation.parameters.log_prior(flat)
            - sum(
                prior.log_prob(activation.parameters.constrain(flat)[name]).sum()
                for name, prior in activation.parameters.priors.items()
            )
        )
        active = trait.active_records(state, case.data, activation)
        response = trait.without_nodes(state, case.data)
        response = response + state.trait.fixed @ case.data.trait.design.matrix
        state, more = with_fixed(case, state, response - state.node_coef @ active, rng)
        points.append(((state, rest), log + more))
    check(case, points)


@double
def test_caches_of_a_function_without_theta(toy):
    """Nothing but the nodes' moves changes what they give to the trait."""
    case = toy(**SHAPES["function without theta"])
    state, _ = sweep(random.key(1), case.state, case.data, jnp.asarray(0), case.settings)
    fresh = refreshed(state, case.data, case.settings.activation)
    for first, second in zip(jax.tree.leaves(state), jax.tree.leaves(fresh), strict=True):
        np.testing.assert_allclose(first, second, atol=1e-10)
    assert (state.z != case.state.z).any()


@double
@pytest.mark.parametrize("shape", SHAPES)
def test_density_that_hmc_follows(toy, slabs, shape):
    stated = SHAPES[shape] | {"sizes": {"rich": True}}
    stated |= {"activation": "tanh"} if shape == "blocks" else {"marker_prior": NORMAL}
    case = toy(**stated)
    state, data, rest = case.state, case.data, slabs(0, case)
    rows, activation, points = data.informed_rows, case.settings.activation, []
    problem = missing_hmc.make_problem(state, data, rows, activation)
    for seed in (1, 2):
        rng, people = np.random.default_rng(seed), problem.people
        whitened = jnp.where(people.observed, 0.0, rng.normal(size=people.z.shape))
        log = missing_hmc.log_density(problem, whitened, activation)
        moved = missing_linear.replace_rows(state, data, rows, missing_hmc.place(problem, whitened))
        points.append(((moved, rest), float(log.sum())))
    check(case, points)


@double
@pytest.mark.parametrize("activation", ["linear", "tanh"])
def test_node_effects_of_blocks(toy, slabs, activation):
    """All blocks without a spike jointly, given those with one."""
    case = toy(activation=activation, **SHAPES["blocks"])
    state, data, rest = case.state, case.data, slabs(0, case)
    system = trait.trait_system(state, data, case.settings.activation)
    equations, mine = trait.joint_system(state, system, data)
    assert list(mine) == [0, 3, 4]
    points = []
    for seed in (1, 2):
        rng = np.random.default_rng(seed)
        drawn = jnp.asarray(rng.normal(size=len(mine)))
        coef = state.node_coef[0].at[mine].set(drawn)
        nodes = tuple(
            one._replace(coef=coef[None, rows])
            for one, rows in zip(state.nodes, data.block_nodes, strict=True)
        )
        moved, log = with_fixed(
            case,
            state._replace(nodes=nodes),
            system.response - coef[None] @ system.active,
            rng,
        )
        log += float(equations.conditional.log_prob(drawn))
        points.append(((moved, rest), log))
    check(case, points)


@double
def test_variances_of_blocks(toy, slabs):
    case = toy(**SHAPES["blocks"])
    wanted = variances.conditionals(case.state, case.data)
    assert {"var_e_first", "var_e_rest", "var_e_hidden", "level_node_first", "var_y"} <= set(wanted)
    assert {"level_marker_first", "level_marker_rest"} <= set(wanted)
    rest, points = slabs(0, case), []
    chosen = {name: wanted[name] for name in ("var_e_first", "var_e_rest", "level_node_hidden")}
    for seed in (1, 2):
        drawn = variances.draw(random.key(seed), chosen)
        log = sum(float(jnp.sum(one.log_prob(drawn[name]))) for name, one in chosen.items())
        omics = tuple(
            block._replace(variance=drawn.get(f"var_e_{arrays.name}", block.variance))
            for block, arrays in zip(case.state.omics, case.data.omics, strict=True)
        )
        nodes = (
            *case.state.nodes[:2],
            case.state.nodes[2]._replace(level=drawn["level_node_hidden"]),
        )
        points.append(((case.state._replace(omics=omics, nodes=nodes), rest), log))
    check(case, points)


def test_blocks_have_their_own_fixed_terms_and_names(dataset):
    prepared = prepare(dataset(), Network(blocks=BLOCKS))
    assert prepared.node_names == ("m1", "m0", "m2", "hidden1", "hidden2")
    assert [design.matrix.shape[1] for design in prepared.omics_designs] == [2, 1, 1]
    np.testing.assert_array_equal(prepared.data.latent, [0, 0, 0, 1, 1])
    assert prepared.data.exchangeable == ((3, 4),)
    draws = run_chains(prepared.data, prepared.activation, RUN).draws
    assert draws["fixed_omics_first"].shape[2:] == (1, 2)
    assert draws["var_marker_effect_rest"].shape[2:] == (2,)
    assert draws["var_mediated_block"].shape[2:] == (3,)


@pytest.mark.parametrize(
    ("blocks", "message"),
    [
        ([Block("a", ["m0"])], r"every column of the omics in a block, found 'm1', 'm2'"),
        ([Block("a", ["zz"]), Block("b")], r"block 'a': expected columns of the omics .* 'zz'"),
        ([Block("a", ["m0"]), Block("b", ["m0"]), Block("c")], r"'m0' is in block 'a' already"),
        (
            [Block("a", [], latent=11), Block("a1", [], latent=1), Block("b")],
            "nodes of different names, found 'a11' twice",
        ),
    ],
)
def test_blocks__raise_on_columns_that_do_not_fit(dataset, blocks, message):
    with pytest.raises(InputError, match=message):
        prepare(dataset(), Network(blocks=blocks))


def partly(data, nodes, p):
    """Data set in which node k sees every third marker, from k on; the last one sees none."""
    markers = tuple(np.arange(k, p, 3) for k in range(len(nodes) - 1))
    return dataclasses.replace(data, connections=Connections(tuple(nodes[:-1]), markers))


@pytest.mark.parametrize("prior", ["RR-BLUP", "BayesC", "BayesA", "BayesR", "BayesL", "GBLUP"])
def test_effects_outside_the_connections_are_exactly_zero(dataset, prior):
    data = partly(dataset(), ["m0", "latent1", "m2", "m1"], 9)
    network = Network(connections="map", latent=1, marker_prior=prior, skip_prior="RR-BLUP")
    prepared = prepare(data, network)
    output = run_chains(prepared.data, prepared.activation, RUN)
    allowed = data.connections.mask(prepared.node_names, 9).T
    effects = output.sums.markers
    assert (np.asarray(effects.mean)[:, ~allowed] == 0).all()
    assert (np.asarray(effects.m2)[:, ~allowed] == 0).all()
    assert (np.asarray(effects.m2)[:, allowed] > 0).mean() > (0.9 if prior != "BayesC" else 0.5)
    assert (output.snapshots["marker_effect"][:, :, ~allowed] == 0).all()
    assert (output.snapshots["skip_effect"] != 0).all()
    lonely = list(prepared.node_names).index("m1")
    # Its genetic values are a difference of residuals: single precision, squared, is left of it.
    assert output.draws["h2_node"][..., lonely].max() < 1e-8
    for one in output.draws.values():
        assert np.isfinite(one).all()


def test_prior_share_counts_the_markers_that_a_node_sees(dataset):
    data = partly(dataset(), ["m0", "m1", "m2", "none"], 9)
    data = dataclasses.replace(
        data, connections=Connections(("m0", "m1"), (np.arange(2), np.arange(9)))
    )
    (block,) = prepare(data, Network(connections="map", marker_prior="RR-BLUP")).data.omics
    (term,) = block.terms
    hyper = term.hyper
    full = prepare(data, Network(marker_prior="RR-BLUP")).data.omics[0].terms[0]
    assert hyper.scale[1] == pytest.approx(float(full.hyper.scale[0]))
    dosages = np.nan_to_num(np.where(data.genotypes < 0, np.nan, data.genotypes))
    assert hyper.scale[0] > 2 * hyper.scale[1]
    assert dosages.shape[1] == 9


def test_connections__raise_without_a_map(dataset):
    with pytest.raises(InputError, match="no map of markers and nodes"):
        prepare(dataset(), Network(connections="map"))


@pytest.mark.parametrize("nuts", [False, True])
def test_a_function_of_all_nodes_moves_missing_cells_only(toy, nuts):
    case = toy(activation=uptake, theta=THETA, latent=1)
    settings = dataclasses.replace(case.settings, nuts=nuts, warmup=5)
    state = case.state
    for t in range(1, 8):
        state, info = sweep(
            random.key(t), state, case.data, jnp.asarray(t if t <= 5 else 0), settings
        )
        assert info["non_finite"] == 0
    seen = np.asarray(case.data.observed)
    np.testing.assert_array_equal(state.z[seen], case.state.z[seen])
    assert (np.asarray(state.z)[~seen] != np.asarray(case.state.z)[~seen]).all()
    assert (state.theta != case.state.theta).all()
    assert {"energy", "step_size", "theta_accept_prob", "theta_diverging"} <= set(info)


@double
@pytest.mark.parametrize("nuts", [False, True])
def test_moves_of_missing_nodes_have_the_right_distribution(toy, nuts):
    """Many moves of one person's two missing nodes against a grid over their density."""
    case = toy(activation=ratio, marker_prior=NORMAL, sizes={"omics": 2})
    problem = missing_hmc.make_problem(
        case.state, case.data, case.data.informed_rows, case.settings.activation
    )
    both = np.flatnonzero(~np.asarray(problem.people.observed).any(axis=0))[:1]
    many = 4000
    people = missing_hmc.People(*(jnp.repeat(one[..., both], many, -1) for one in problem.people))
    problem = problem._replace(people=people)
    # A phenotype within reach: from one that is not, chains take long to settle along a ridge.
    z = missing_hmc.place(problem, jnp.asarray([[0.7], [-0.7]]) * jnp.ones(many))
    active = case.settings.activation.features(z, problem.theta, problem.units)
    # What it says must bend the density whatever the toy's effects are, or any move would do.
    prior = missing_hmc.place(problem, random.normal(random.key(9), (2, many)))
    spread = jnp.var(
        problem.effects @ case.settings.activation.features(prior, problem.theta, problem.units)
    )
    problem = problem._replace(
        people=problem.people._replace(
            left=problem.effects @ active, var_y=jnp.full(many, 0.1 * spread)
        )
    )
    move = missing_hmc.nuts_move if nuts else missing_hmc.hmc_move

    @jax.jit
    def advance(key, position):
        key_momentum, key_move = random.split(key)
        momentum = random.normal(key_momentum, position.shape)
        step = jnp.full(position.shape[1], 0.2)
        return move(key_move, problem, position, momentum, step, case.settings.activation).end

    position = jnp.zeros((2, many))
    for t in range(60):
        position = advance(random.key(t), position)
    axis = np.linspace(-5, 5, 201)
    grid = np.stack([one.ravel() for one in np.meshgrid(axis, axis, indexing="ij")])
    one = missing_hmc.People(*(jnp.repeat(x[..., :1], grid.shape[1], -1) for x in problem.people))
    log = missing_hmc.log_density(
        problem._replace(people=one), jnp.asarray(grid), case.settings.activation
    )
    weights = np.exp(np.asarray(log) - np.asarray(log).max())
    weights /= weights.sum()
    for function in (lambda u: u[0], lambda u: u[1], lambda u: u[0] ** 2, lambda u: u[0] * u[1]):
        values = np.asarray(function(np.asarray(position)))
        expected = weights @ function(grid)
        z = (values.mean() - expected) / (values.std() / np.sqrt(many))
        assert abs(z) < stats.norm.ppf(1 - 1e-4)


@pytest.mark.parametrize("count", [2, 3])
def test_expectation_of_a_function_of_all_nodes(count):
    def product(z):
        return 1.0 + z[0] * z[1] + z[0] ** 2 - z[-1]

    made = activation_of_function(product, [f"g{k}" for k in range(count)])
    mean = jnp.asarray(np.random.default_rng(0).normal(size=(count, 5)))
    sd = jnp.linspace(0.5, 1.0, count)[:, None]
    expected = 1.0 + mean[0] * mean[1] + mean[0] ** 2 + sd[0] ** 2 - mean[-1]
    found = made.expectation(mean, sd, {})
    np.testing.assert_allclose(found, expected, atol=1e-5 if count == 2 else 0.05)


def test_latent_nodes_come_in_order_of_what_they_explain(toy):
    case = toy(latent=3, marker_prior=NORMAL)
    state = case.state._replace(
        nodes=(case.state.nodes[0]._replace(coef=jnp.asarray([[1.0, -1, 1, 0.1, -2.0, 0.5]])),)
    )
    alignment = align(state, case.data, case.settings)
    np.testing.assert_array_equal(alignment.order, [0, 1, 2, 4, 5, 3])
    np.testing.assert_array_equal(alignment.signs, [1, 1, 1, -1, 1, 1])
    draw, values = draw_quantities(random.key(0), state, case.data, case.settings)
    np.testing.assert_allclose(draw["node_effect"], [1, -1, 1, 2.0, 0.5, 0.1], rtol=1e-6)
    np.testing.assert_allclose(values.z[3], -state.z[4])
    w = state.node_coef[0]
    total = np.asarray(values.mediated).sum(axis=0)
    np.testing.assert_allclose(total, draw["ebv_mediated"], atol=1e-5)
    assert (np.diff(np.asarray(w[4:])) > 0).all()


@pytest.mark.parametrize(
    ("function", "theta", "message"),
    [
        (lambda z: z[:2], None, r"shape \(3,\), or a single one, shape \(\), found shape \(2,\)"),
        (lambda z: z[5], None, r"'m0', 'm1', 'm2': .*IndexError"),
        (lambda z: float(z[0]) if z[0] > 0 else 0.0, None, "expected JAX operations only"),
        (lambda z: z - z.mean(), None, "depends on its own node only"),
        (
            lambda z: jnp.log(-1.0 - z[0] ** 2),
            None,
            r"finite values where the sampler starts.*m0 =",
        ),
        (lambda z: jnp.where(z > 5, z.sum(), z), None, "depends on its own node only"),
        (lambda z: jnp.where(z[0] > 0, z, 0.0 * z), None, "depends on its own node only"),
        (lambda z: 0.0 * z, None, "differ between individuals, found 0.0 for all"),
        (lambda z: z * 1j, None, "expected real numbers, found complex"),
        (lambda z, theta: z[0], [dist.Normal()], "theta: expected a dict"),
        (lambda z, theta: z[0], {"a": dist.Delta(1.0)}, "a proper distribution with a variance"),
        (
            lambda z, theta: z[0],
            {"a": dist.ImproperUniform(dist.constraints.real, (), ())},
            "a proper distribution with a variance",
        ),
        (lambda z, theta: theta["no"] * z[0], {"a": dist.Normal()}, "KeyError"),
        (lambda z, theta: z[0], None, "TypeError"),
    ],
)
def test_a_function__raises_on_what_cannot_be_used(dataset, function, theta, message):
    with pytest.raises(InputError, match=message):
        prepare(dataset(), Network(activation=function, theta=theta))


def test_a_step_of_true_and_false_is_a_function(dataset):
    prepared = prepare(dataset(), Network(activation=lambda z: z > 0))
    np.testing.assert_array_equal(
        prepared.activation.function(jnp.asarray([[-1.0], [2.0], [0.5]]), {}), [[0.0], [1.0], [1.0]]
    )


def test_a_function_gets_omics_in_their_order_and_latent_nodes_last(dataset):
    """Blocks order the nodes inside; the function must not notice."""
    blocks = [Block("hidden", [], latent=1), Block("late", ["m2"]), Block("early")]
    whole = prepare(
        dataset(),
        Network(
            activation=lambda z: z[0] + 10 * z[1] + 100 * z[3], blocks=blocks, standardize=False
        ),
    )
    assert whole.node_names == ("hidden1", "m2", "m0", "m1")
    z = jnp.asarray([[1.0], [2.0], [3.0], [4.0]])
    np.testing.assert_allclose(whole.activation.function(z, {}), [3.0 + 40.0 + 100.0])
    each = prepare(dataset(), Network(activation=lambda z: z * jnp.arange(1.0, 5.0), blocks=blocks))
    np.testing.assert_allclose(each.activation.function(z, {})[:, 0], [4.0, 6.0, 3.0, 8.0])


def test_a_function_of_all_nodes__raises_on_a_prior_of_node_effects(dataset):
    with pytest.raises(InputError, match="node_prior: the function ratio takes the place"):
        prepare(dataset(), Network(activation=ratio, node_prior="BayesC"))


def test_settings_are_those_of_the_prepared_model(dataset):
    prepared = prepare(dataset(), Network(activation=jnp.sin))
    assert not prepared.activation.combines
    assert prepared.activation.symmetric
    assert SweepSettings(prepared.activation) == SweepSettings(prepared.activation)
