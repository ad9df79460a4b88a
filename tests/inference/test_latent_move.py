"""The move of latent nodes with their means: against the joint density, and by its effect."""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
from jax import random
from scipy import stats

from nnmm_jax import RRBLUP, BayesC, Block, Group, Pedigree, Relationship
from nnmm_jax.inference.blocks import latent_move, mixed_model, trait
from nnmm_jax.inference.sweep import refreshed
from nnmm_jax.network.activations import ACTIVATIONS

NORMAL = RRBLUP(df=5.0, share=0.2)


def bend(z, theta):
    """Elementwise, different for every node."""
    return jnp.tanh(theta["slope"] * z) + jnp.arange(z.shape[0]) * z


def ratio(z):
    """One value of all nodes."""
    return z[0] ** 2 / (1.0 + z[0] ** 2 + z[-1] ** 2)


SLOPE = {"slope": dist.LogNormal(0.0, 0.5)}
RICH = {
    "sizes": {"rich": True},
    "skip_prior": NORMAL,
    "fixed_sd_omics": 0.8,
    "fixed_sd_trait": 0.5,
    "random_omics": [Pedigree(solver="cg"), Group("batch"), Relationship("K")],
    "random_trait": [Group("pen")],
}
CASES = {
    **{name: {"activation": name, "latent": 2} for name in ACTIVATIONS},
    "own variances": {"activation": "tanh", "latent": 2, "marker_prior": "BayesA"},
    "laplace": {"activation": "tanh", "latent": 1, "marker_prior": "BayesL"},
    "all latent": {"activation": "tanh", "latent": 3, "sizes": {"omics": 1}},
    "function": {"activation": ratio, "latent": 1},
    "elementwise": {"activation": bend, "theta": SLOPE, "latent": 2},
    "spike": {"activation": "tanh", "latent": 2, "node_prior": BayesC(pi=0.3)},
    "rich": {"activation": "tanh", "latent": 2} | RICH,
    "blocks": {
        "activation": "tanh",
        "fixed_omics": None,
        "blocks": [
            Block("seen", ["m0", "m1"], latent=1, marker_prior=NORMAL, node_prior=NORMAL),
            Block("rest", ["m2"], latent=1, fixed="~ sex", node_prior=BayesC(pi=0.3)),
        ],
    },
}
pytestmark = pytest.mark.usefixtures("double")


def make(toy, name):
    """A case of the table."""
    stated = dict(CASES[name])
    if not callable(stated["activation"]) and "blocks" not in stated:
        stated = {"node_prior": NORMAL} | stated
    return toy(**stated)


def moved_point(problem, number, node, at, case, rest):
    """State and slabs at the end of a node's move, and the log Jacobian of its scales."""
    data, state = case.data, case.state
    z = state.z.at[problem.first + node].add(problem.directions.change(node, at))
    ends = jnp.zeros((state.omics[number].variance.shape[0], len(at))).at[node].set(at)
    blocks, arrays = list(state.omics), data.omics[number]
    blocks[number] = latent_move._moved_layer(blocks[number], arrays, problem.directions, ends)
    log_k, jacobian = list(at[problem.directions.shifts.shape[0] :]), 0.0
    for term in (*arrays.terms, *arrays.random):
        if term.hyper.known:
            continue
        step = float(log_k.pop(0))
        # Effects (k), own variances (k**2 each) and the level (k**2, or k**-2 of lambda2).
        count = term.n_levels if hasattr(term, "n_levels") else term.markers.n_markers
        power = count * (3 if term.hyper.own_variances else 1)
        jacobian += step * (power + (-2 if term.hyper.family == "lasso" else 2))
        if term.name in rest:  # slabs that the state does not have scale with the others
            scaled = rest[term.name].copy()
            scaled[node] *= np.exp(step)
            rest = rest | {term.name: scaled}
    assert not log_k
    return state._replace(z=z, omics=tuple(blocks)), rest, jacobian


def with_effect(state, row, value):
    """The state with another effect of a node."""
    coef = state.node_coef.at[0, row].set(value)
    ends = np.cumsum([one.coef.shape[1] for one in state.nodes])[:-1]
    parts = jnp.split(coef, ends, axis=1)
    nodes = tuple(one._replace(coef=part) for one, part in zip(state.nodes, parts, strict=True))
    return state._replace(nodes=nodes)


def with_fixed(state, case, rng):
    """The state with the trait's fixed effects drawn given all else, and their log density."""
    arrays, active = (
        case.data.trait,
        trait.active_records(state, case.data, case.settings.activation),
    )
    response = trait.without_nodes(state, case.data) + state.trait.fixed @ arrays.design.matrix
    seen = (response - state.node_coef @ active) @ arrays.design.basis.T
    conditional = mixed_model.fixed_conditional(seen, state.trait.variance, arrays)
    drawn = conditional.mean + 0.3 * rng.normal(size=seen.shape)
    moved = state.trait._replace(fixed=drawn @ arrays.design.to_terms)
    return state._replace(trait=moved), float(conditional.log_prob(drawn).sum())


def effect_drawn(problem, node, active, start, rng):
    """A value of the node's effect that is not zero, and its log density."""
    effect = problem.effect(node)
    found = effect.conditional(*problem.sums(node, active, start))
    mean, sd, odds = (part[0, 0] for part in (found.mean, found.sd, found.log_odds))
    value = mean + sd * rng.normal()
    log = dist.Normal(mean, sd).log_prob(value)
    return value, float(log + (0.0 if effect.weights is None else odds - jnp.logaddexp(0.0, odds)))


@pytest.mark.parametrize("name", CASES)
def test_density_along_a_move(toy, slabs, name):
    """Joint x Jacobian = move x node effect given the move x fixed effects given both."""
    case = make(toy, name)
    data, activation, rest = case.data, case.settings.activation, slabs(0, case)
    start = latent_move.begin(case.state, data, activation)
    for number, latent in enumerate(data.latent_rows):
        problem = latent_move.make_problem(case.state, data, activation, number)
        node, logs, joints = int(latent[-1]), [], []
        for seed in (1, 2):
            rng = np.random.default_rng(seed)
            at = jnp.asarray(0.4 * rng.normal(size=problem.directions.size))
            state, more_rest, jacobian = moved_point(problem, number, node, at, case, rest)
            log = float(problem.log_density(node, at, start))
            fresh = refreshed(state, data, activation)
            for cached, exact in zip(
                jax.tree.leaves(state.omics), jax.tree.leaves(fresh.omics), strict=True
            ):
                np.testing.assert_allclose(cached, exact, atol=1e-10)
            if problem.effect(node) is not None:
                _, moved = problem.active_node(node, at, start)
                value, more = effect_drawn(problem, node, moved, start, rng)
                state, log = with_effect(state, problem.first + node, value), log + more
            state, more = with_fixed(state, case, rng)
            logs.append(log + more)
            joints.append(case.log_joint(state, more_rest) + jacobian)
        difference = joints[0] - joints[1]
        scale = max(1.0, *map(abs, joints))
        assert logs[0] - logs[1] == pytest.approx(difference, abs=1e-9 * scale)
        assert abs(difference) > 1e-3  # the two points differ where it matters


@pytest.mark.parametrize("name", ["tanh", "rich", "blocks", "function"])
def test_only_latent_nodes_and_their_means_move(toy, name):
    case = make(toy, name)
    data, activation, old = case.data, case.settings.activation, case.state
    kernel = jax.jit(latent_move.kernel, static_argnums=3)
    new, _ = kernel(random.key(3), old, data, activation)
    fresh = refreshed(new, data, activation)
    for one, two in zip(jax.tree.leaves(new.omics), jax.tree.leaves(fresh.omics), strict=True):
        np.testing.assert_allclose(one, two, atol=1e-9)
    for one, two in zip(old.omics, new.omics, strict=True):
        np.testing.assert_array_equal(one.residual, two.residual)
    changed = (old.z != new.z).any(axis=1)
    np.testing.assert_array_equal(changed, data.latent)
    coefs = old.node_coef[0] != new.node_coef[0]
    assert not (coefs & ~data.latent[: coefs.shape[0]]).any()


def test_prior_is_left_as_it_is(toy):
    """Without a say of the phenotype: from the prior, moved often, to the prior.

    Node effects are known to be tiny, so that only priors of the mean and the Jacobian count.
    """
    tiny = RRBLUP(variance=1e-12)
    stated = {"activation": "tanh", "latent": 1, "fixed_omics": None, "sizes": {"omics": 1}}
    case = toy(**stated, marker_prior=NORMAL, node_prior=tiny)
    data, state = case.data, case.state
    (latent,), n = data.latent_rows, 4000
    node, term = int(latent[0]), data.omics[0].terms[0]
    assert term.spectrum is not None
    keys, rng = random.split(random.key(4), n), np.random.default_rng(5)
    df, scale = float(term.hyper.df[node]), float(term.hyper.scale[node])
    level = df * scale / rng.chisquare(df, n)
    coef = np.sqrt(level[:, None] * np.asarray(term.spectrum.values)) * rng.normal(
        size=(n, len(term.spectrum.values))
    )
    precision = float(data.omics[0].fixed_precision[node])
    to_terms = data.omics[0].design.to_terms
    fixed = rng.normal(size=(n, 1)) / np.sqrt(precision) @ to_terms

    def one(key, level, coef, fixed):
        omics = state.omics[0]
        effects = omics.terms[0]
        effects = effects._replace(
            coef=effects.coef.at[node].set(coef), level=effects.level.at[node].set(level)
        )
        omics = omics._replace(terms=(effects,), fixed=omics.fixed.at[node].set(fixed))
        begun = refreshed(state._replace(omics=(omics,)), data, case.settings.activation)
        moved, _ = latent_move.kernel(key, begun, data, case.settings.activation)
        moved = moved.omics[0]
        return moved.terms[0].level[node], moved.terms[0].coef[node, 0], moved.fixed[node, 0]

    found = jax.jit(jax.vmap(one))(keys, jnp.asarray(level), jnp.asarray(coef), jnp.asarray(fixed))
    before = (level, coef[:, 0], np.asarray(fixed)[:, 0])
    for old, new in zip(before, found, strict=True):
        assert np.mean(old != new) > 0.9
        assert stats.ks_2samp(old, new).pvalue > 1e-3


@pytest.mark.parametrize("name", ["tanh", "spike", "rich"])
def test_what_is_left_for_the_next_node_is_exact(toy, name):
    """Nodes take their turns on a running residual of the phenotype."""
    case = make(toy, name)
    data, activation = case.data, case.settings.activation
    problem = latent_move.make_problem(case.state, data, activation, 0)
    begun = now = latent_move.begin(case.state, data, activation)
    for number, node in enumerate(data.latent_rows[0]):
        now, _ = latent_move.move_node(problem, now, (random.key(number), node))
    response = begun.left + begun.coef @ begun.active
    np.testing.assert_allclose(now.left, response - now.coef @ now.active, atol=1e-10)
    features = activation.features(now.z, {}, data.units)[:, data.y_rows]
    np.testing.assert_allclose(now.active, data.trait.weighted(features), atol=1e-10)
    assert not np.allclose(now.left, begun.left)
