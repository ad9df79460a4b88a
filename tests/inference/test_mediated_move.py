"""The move of breeding values with missing omics integrated out: against the joint density."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import random
from scipy import stats

import nnmm_jax as nm
from nnmm_jax import GBLUP, RRBLUP, BayesB, BayesC, BayesL, Block, Group, Pedigree, Relationship
from nnmm_jax.inference.blocks import mediated_move, missing_linear, random_terms
from nnmm_jax.inference.blocks.mediated_scale import Scale
from nnmm_jax.inference.prepare import prepare
from nnmm_jax.inference.sweep import refreshed
from nnmm_jax.network.activations import ACTIVATIONS

NORMAL = RRBLUP(df=5.0, share=0.2)
PLAIN = {"node_prior": NORMAL, "marker_prior": NORMAL}
RICH = PLAIN | {
    "sizes": {"rich": True},
    "skip_prior": NORMAL,
    "fixed_sd_omics": 0.8,
    "fixed_sd_trait": 0.5,
    "random_omics": [Pedigree(solver="cg"), Group("batch"), Relationship("K")],
    "random_trait": [Pedigree(), Group("pen"), Group("id")],
}
BLOCKS = [
    Block("seen", ["m0"], marker_prior=NORMAL, node_prior=BayesC(pi=0.4, variance=0.2)),
    Block("swept", ["m1"], marker_prior="BayesA", node_prior=NORMAL),
    Block("rest", ["m2"], latent=1, fixed="~ sex", marker_prior=GBLUP(), node_prior=NORMAL),
]
CASES = {
    "plain": PLAIN,
    "known": PLAIN | {"marker_prior": RRBLUP(variance=0.03), "node_prior": RRBLUP(variance=0.1)},
    "one block with latent nodes": PLAIN | {"latent": 2},
    "spike": PLAIN | {"node_prior": BayesB(pi=0.4)},
    "laplace": PLAIN | {"node_prior": "BayesL", "skip_prior": BayesL()},
    "rich": RICH,
    "blocks": {"blocks": BLOCKS, "fixed_omics": None},
}
pytestmark = pytest.mark.usefixtures("double")


def check(found, difference):
    assert found == pytest.approx(difference, abs=1e-8 * max(1, abs(difference)))
    assert abs(difference) > 1e-3  # the two points differ where it matters


def dense(system):
    """Precision of all coordinates, column by column."""
    count = system.noise_shapes[1][1]
    apply = jax.jit(lambda x: system.apply(x[None])[0])
    return jnp.stack([apply(column) for column in jnp.eye(count)], axis=1)


def with_missing(state, data, rng):
    """The state with missing omics drawn given all else, nearly, and their log density."""
    everyone = jnp.arange(state.z.shape[1])
    mean, var_e = map(np.asarray, missing_linear.node_layer(state, data, everyone))
    left, var_y, seen = map(np.asarray, missing_linear.phenotype_information(state, data))
    w, z, log = np.asarray(state.node_coef[0]), np.array(state.z), 0.0
    for i in np.asarray(data.incomplete_rows):
        holes = ~np.asarray(data.observed)[:, i]
        mine, effects = mean[holes, i], w[holes] * seen[i]
        known = left[i] - w[~holes] @ z[~holes, i]
        precision = np.diag(1.0 / var_e[holes, i]) + np.outer(effects, effects) / var_y[i]
        rhs = mine / var_e[holes, i] + effects * known / var_y[i]
        covariance = np.linalg.inv(precision)
        conditional = stats.multivariate_normal(covariance @ rhs, covariance)
        z[holes, i] = conditional.mean + 0.3 * rng.normal(size=holes.sum())
        log += conditional.logpdf(z[holes, i])
    return state._replace(z=jnp.asarray(z)), log


def log_jacobian(case, scale):
    """Of effects and what governs them, and of the logarithm of the residual variance."""
    total = 0.0
    for effects, hyper in zip(case.state.nodes, case.data.node_hyper, strict=True):
        if hyper.known:
            continue
        lasso = hyper.family == "lasso"
        # Effects (k), own variances (k**2 each) and the level (k**2, or k**-2 of lambda2).
        power = effects.coef.shape[1] * (3 if hyper.own_variances else 1) + (-2 if lasso else 2)
        total += power * scale.log_k
    return total + scale.log_var_y


@pytest.mark.parametrize("name", CASES)
def test_move_and_missing_omics_jointly(toy, slabs, name):
    """Joint x Jacobian = scale x coordinates given the scale x missing omics given both.

    The first two have missing omics integrated out. Both densities of scale and coordinates are
    conditional, so that their product at two points is compared along a path: coordinates first.
    """
    case = toy(**CASES[name])
    data, rest = dataclasses.replace(case.data, mostly_missing=True), slabs(0, case)
    assert mediated_move.applies(data, case.settings.activation)
    problem = mediated_move.make_problem(case.state, data)
    start = Scale(jnp.zeros(()), jnp.log(case.state.trait.variance[0]))
    other = Scale(0.3 * any(problem.moving), start.log_var_y - 0.4)
    system = problem.system(other)
    precision, rhs = dense(system), system.rhs()[0]
    np.testing.assert_allclose(precision, precision.T, atol=1e-9 * float(precision.max()))
    mean = jnp.linalg.solve(precision, rhs)
    rng = np.random.default_rng(1)
    ways = [0.3 * rng.normal(size=mean.shape) for _ in range(2)]

    def joint(scale, coordinates):
        """Joint x Jacobian / missing omics."""
        state = mediated_move.moved(case.state, data, problem, coordinates[None], scale)
        fresh = refreshed(state, data, case.settings.activation)
        for cached, exact in zip(
            jax.tree.leaves(state.omics), jax.tree.leaves(fresh.omics), strict=True
        ):
            np.testing.assert_allclose(cached, exact, atol=1e-10)
        state, log = with_missing(state, data, rng)
        scaled = dict(rest)  # slabs that the state does not have scale with the others
        for block, moving in zip(data.omics, problem.moving, strict=True):
            scaled[f"node{block.suffix}"] = rest[f"node{block.suffix}"] * np.exp(
                scale.log_k if moving else 0.0
            )
        return case.log_joint(state, scaled) + float(log_jacobian(case, scale)) - log

    first, second = joint(other, mean + ways[0]), joint(other, mean + ways[1])
    of_coordinates = [-0.5 * float(away @ precision @ away) for away in ways]
    check(of_coordinates[0] - of_coordinates[1], first - second)
    there = problem.at((mean + ways[1])[None])
    of_scale = float(there.log_density(start) - there.log_density(other))
    check(of_scale, joint(start, mean + ways[1]) - second)


@pytest.mark.parametrize("name", CASES)
def test_perturbation_and_solver(toy, name):
    """Noise of the right covariance, exactly: it is linear in standard normal variates."""
    case = toy(**CASES[name])
    problem = mediated_move.make_problem(case.state, case.data)
    system = problem.system(Scale(jnp.asarray(0.2), jnp.asarray(-0.3)))
    of_data, of_prior = system.noise_shapes
    size = of_data[0] * of_data[1]

    def perturbation(noise):
        parts = noise[:size].reshape(of_data), noise[size:].reshape(of_prior)
        return system.perturb(*parts)[0]

    slopes = jax.jacobian(perturbation)(jnp.zeros(size + of_prior[1]))
    precision = dense(system)
    scale = float(precision.max())
    np.testing.assert_allclose(slopes @ slopes.T, precision, atol=1e-10 * scale)
    np.testing.assert_allclose(system.diagonal()[0], jnp.diagonal(precision), atol=1e-10 * scale)
    solved, _, failed = random_terms.solve(system, system.rhs())
    np.testing.assert_allclose(solved[0], jnp.linalg.solve(precision, system.rhs()[0]), atol=1e-7)
    assert failed == 0


def test_direction_leaves_what_is_independent_a_priori(toy):
    """Genetic values less the direction times the move's: uncorrelated with breeding values."""
    case = toy(**PLAIN)
    layer, effects = case.state.omics[0], case.state.node_coef[0]
    way = mediated_move.block_ways(layer, case.data.omics[0], effects)[0]
    level = layer.terms[0].level
    total = jnp.sum(effects**2 * level)
    # Of x = w'c / sqrt(total), whose variance is that of the eigenvector, and c - direction x.
    of_x = effects / jnp.sqrt(total)
    left = jnp.eye(len(effects)) - jnp.outer(way.direction, of_x)
    np.testing.assert_allclose(left @ jnp.diag(level) @ of_x, 0.0, atol=1e-12)
    assert float(of_x @ jnp.diag(level) @ of_x) == pytest.approx(1.0)


def test_nothing_moves_without_node_effects(toy):
    """All effects are zero at the start, and fixed effects are flat: nothing is known of them."""
    case = toy(**PLAIN)
    data, state = case.data, case.state
    nodes = tuple(one._replace(coef=jnp.zeros_like(one.coef)) for one in state.nodes)
    state = refreshed(state._replace(nodes=nodes), data, case.settings.activation)
    new, info = mediated_move.kernel(random.key(1), state, data)
    assert info["cg_failed"] == 0
    assert new.nodes[0].level != state.nodes[0].level
    for one, two in zip(jax.tree.leaves(state.omics), jax.tree.leaves(new.omics), strict=True):
        np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize(
    ("stated", "activation"),
    [
        (PLAIN | {"marker_prior": "BayesC"}, "linear"),
        (PLAIN, "tanh"),
    ],
    ids=["swept", "nonlinear"],
)
def test_where_it_is_of_no_use(toy, stated, activation):
    case = toy(activation=activation, **stated)
    data = dataclasses.replace(case.data, mostly_missing=True)
    assert not mediated_move.applies(data, ACTIVATIONS[activation])


@pytest.mark.parametrize(("hidden", "mostly"), [(0, False), (9, False), (10, True)])
def test_it_is_used_where_half_of_the_omics_are_missing(hidden, mostly):
    settings = nm.SimulationSettings(individuals=60, markers=20, omics=1, without_omics=0.0)
    dataset = nm.simulate(settings, seed=1).dataset()
    missing = np.zeros((60, 1), dtype=bool)
    missing[: 3 * hidden] = True
    data = prepare(dataset.mask(omics=missing), nm.Network(marker_prior="GBLUP")).data
    assert data.mostly_missing == mostly
    assert mediated_move.applies(data, ACTIVATIONS["linear"]) == mostly
