"""Blocks that do not depend on the prior of effects, against differences of the joint density.

The same idea as in ``test_prior_table.py``: node effects under every activation, random terms,
missing omics; without and with known residual weights and repeated records.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nnmm_jax import RRBLUP, BayesB, BayesC, Group, Pedigree, Relationship
from nnmm_jax.inference.blocks import (
    layer,
    missing_hmc,
    missing_linear,
    mixed_model,
    random_terms,
    scale_move,
    trait,
    variances,
)
from nnmm_jax.inference.blocks.families import family_of
from nnmm_jax.inference.sweep import refreshed
from nnmm_jax.network.activations import ACTIVATIONS

TOLERANCE = 1e-8
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
pytestmark = pytest.mark.usefixtures("double")


def layer_of(part, where):
    """First block of the omics, or the trait, of a state or of data."""
    return part.omics[0] if where == "omics" else part.trait


def put_layer(state, where, layer):
    """State with another first block of the omics, or another trait."""
    if where == "omics":
        return state._replace(omics=(layer, *state.omics[1:]))
    return state._replace(trait=layer)


def check(toy, first, second, log_first, log_second):
    """Compare one difference of log densities; each point is (state, slabs)."""
    joint = toy.log_joint(*first) - toy.log_joint(*second)
    assert log_first - log_second == pytest.approx(joint, abs=TOLERANCE * max(1, abs(joint)))
    assert abs(joint) > 1e-3  # the two points differ where it matters


def fixed_trait_log_density(case, state, coef, rng):
    """Draw the trait's fixed effects given node effects; return them and their log density."""
    data, activation = case.data, case.settings.activation
    system = trait.trait_system(state, data, activation)
    seen = (system.response - coef @ system.active) @ data.trait.design.basis.T
    coordinates = seen + jnp.asarray(rng.normal(size=seen.shape))
    conditional = mixed_model.fixed_conditional(seen[None], state.trait.variance, data.trait)
    fixed = coordinates @ data.trait.design.to_terms
    return fixed[None], float(conditional.log_prob(coordinates[None]).sum())


@pytest.mark.parametrize(
    ("activation", "more"),
    [*((name, {"latent": 1}) for name in ACTIVATIONS), ("linear", RICH), ("tanh", RICH)],
)
def test_node_and_fixed_effects_jointly(toy, slabs, activation, more):
    case = toy(activation=activation, **PLAIN | more)
    state, rest = case.state, slabs(0, case)
    system = trait.trait_system(state, case.data, case.settings.activation)
    conditional = trait.joint_system(state, system, case.data)[0].conditional
    points = []
    for seed in (1, 2):
        rng = np.random.default_rng(seed)
        coef = jnp.asarray(rng.normal(size=conditional.mean.shape))
        fixed, log = fixed_trait_log_density(case, state, coef, rng)
        moved = state._replace(
            nodes=(state.nodes[0]._replace(coef=coef[None]),),
            trait=state.trait._replace(fixed=fixed),
        )
        points.append(((moved, rest), log + float(conditional.log_prob(coef))))
    (first, log_first), (second, log_second) = points
    check(case, first, second, log_first, log_second)


@pytest.mark.parametrize("more", [{}, {"latent": 2, "skip_prior": BayesC(pi=0.3)}, RICH])
def test_missing_omics_of_a_linear_network(toy, slabs, more):
    case = toy(**PLAIN | more)
    state, data, rest = case.state, case.data, slabs(0, case)
    everyone = jnp.arange(state.z.shape[1])
    mean, var_e = missing_linear.node_layer(state, data, everyone)
    left, var_y, seen = missing_linear.phenotype_information(state, data)
    w = state.node_coef[0]
    points = []
    for seed in (1, 2):
        z = jnp.where(data.observed, state.z, np.random.default_rng(seed).normal(size=mean.shape))
        log = 0.0
        for i in np.asarray(data.incomplete_rows):
            missing = ~data.observed[:, i]
            known = left[i] - jnp.where(missing, 0.0, w) @ z[:, i]
            effects = w if seen[i] else jnp.zeros_like(w)
            conditional = missing_linear.individual_conditional(
                mean[:, i], var_e[:, i], missing, effects, known, var_y[i]
            )
            log += float(conditional.log_prob(z[missing, i]))
        points.append(((state._replace(z=z), rest), log))
    (first, log_first), (second, log_second) = points
    check(case, first, second, log_first, log_second)


@pytest.mark.parametrize(
    ("activation", "more"),
    [
        *((name, {"latent": 1}) for name in ACTIVATIONS if name != "linear"),
        ("tanh", {"skip_prior": BayesC(pi=0.3)}),
        ("tanh", RICH),
    ],
)
def test_density_that_hmc_follows(toy, slabs, activation, more):
    case = toy(activation=activation, **PLAIN | more)
    state, data, rest = case.state, case.data, slabs(0, case)
    rows = data.informed_rows
    problem = missing_hmc.make_problem(state, data, rows, case.settings.activation)
    points = []
    for seed in (1, 2):
        rng, people = np.random.default_rng(seed), problem.people
        whitened = jnp.where(people.observed, 0.0, rng.normal(size=people.z.shape))
        z = missing_hmc.place(problem, whitened)
        log = missing_hmc.log_density(problem, whitened, case.settings.activation)
        moved = missing_linear.replace_rows(state, data, rows, z)
        assert jnp.array_equal(moved.z[data.observed], state.z[data.observed])
        points.append(((moved, rest), float(log.sum())))
    (first, log_first), (second, log_second) = points
    check(case, first, second, log_first, log_second)


def random_system(state, arrays):
    """Conditional of the sparse random terms of a layer, and the response it is about."""
    system = random_terms.RandomSystem(
        arrays, tuple(one.level for one in state.random), state.variance
    )
    response = state.residual + state.fixed @ arrays.design.matrix + sum(state.random_values)
    return system, response


def dense_precision(system, n_responses, n_levels):
    """Precision matrices (response, effect, effect), column by column."""
    columns = [
        system.apply(jnp.zeros((n_responses, n_levels)).at[:, j].set(1.0)) for j in range(n_levels)
    ]
    return jnp.stack(columns, axis=-1)


@pytest.mark.parametrize("where", ["omics", "trait"])
def test_random_terms_and_fixed_effects_jointly(toy, slabs, where):
    """Groups and a sparse pedigree, several at once, against dense Cholesky and the joint."""
    case = toy(**RICH | {"random_trait": [Pedigree(solver="cg"), Group("pen"), Group("id")]})
    state, arrays = layer_of(case.state, where), layer_of(case.data, where)
    rest = slabs(0, case)
    system, response = random_system(state, arrays)
    n_responses, n_levels = response.shape[0], sum(term.n_levels for term in arrays.random)
    precision = dense_precision(system, n_responses, n_levels)
    np.testing.assert_allclose(precision, np.swapaxes(precision, 1, 2), atol=1e-10)

    # The perturbation has the precision as its covariance, exactly: it is linear in its noise.
    records = response.shape[1]
    size = records + n_levels

    def perturbation(noise):
        each = noise.reshape(n_responses, size)
        return system.perturb(each[:, :records], each[:, records:])

    slopes = jax.jacobian(perturbation)(jnp.zeros(n_responses * size))
    covariance = jnp.einsum("lam,lbm->lab", slopes, slopes)
    np.testing.assert_allclose(covariance, precision, atol=1e-9)

    # Conjugate gradients against dense Cholesky.
    rhs = system.rhs(response)
    solved, steps, failed = random_terms.solve(system, rhs)
    dense = jax.scipy.linalg.cho_solve((jnp.linalg.cholesky(precision), True), rhs[..., None])
    np.testing.assert_allclose(solved, dense[..., 0], atol=1e-8)
    assert failed == 0
    assert 3 < steps <= n_levels + 5

    points = []
    for seed in (1, 2):
        rng = np.random.default_rng(seed)
        drawn = solved + 0.3 * rng.normal(size=solved.shape)
        moved = drawn - solved
        log = -0.5 * float(jnp.einsum("la,lab,lb->", moved, precision, moved))
        left = response - system.fitted(drawn)
        seen = left @ arrays.design.basis.T
        coordinates = seen + rng.normal(size=seen.shape)
        conditional = mixed_model.fixed_conditional(seen, state.variance, arrays)
        log += float(conditional.log_prob(coordinates).sum())
        effects = tuple(
            one._replace(coef=part)
            for one, part in zip(state.random, system.split(drawn), strict=True)
        )
        new = state._replace(random=effects, fixed=coordinates @ arrays.design.to_terms)
        points.append(((put_layer(case.state, where, new), rest), log))
    (first, log_first), (second, log_second) = points
    check(case, first, second, log_first, log_second)


def test_variances_of_random_terms(toy, slabs):
    case = toy(**RICH | {"random_trait": [Pedigree(solver="cg"), Group("pen", variance=0.1)]})
    rest = slabs(0, case)
    wanted = variances.conditionals(case.state, case.data)
    assert "level_random_skip_pen" not in wanted
    chosen = {
        name: one
        for name, one in wanted.items()
        if name.startswith("level_random") and not name.endswith("K")
    }
    assert len(chosen) == 3
    points = []
    for seed in (1, 2):
        drawn = variances.draw(jax.random.key(seed), chosen)
        log = sum(float(jnp.sum(one.log_prob(drawn[name]))) for name, one in chosen.items())
        state = case.state
        for where in ("omics", "trait"):
            old, arrays = layer_of(state, where), layer_of(case.data, where)
            effects = tuple(
                one._replace(level=drawn.get(f"level_{group.name}", one.level))
                for one, group in zip(old.random, arrays.random, strict=True)
            )
            state = put_layer(state, where, old._replace(random=effects))
        points.append(((state, rest), log))
    (first, log_first), (second, log_second) = points
    check(case, first, second, log_first, log_second)


@pytest.mark.parametrize("number", [0, 1])
def test_density_along_the_scale_orbit_of_random_terms(toy, slabs, number):
    case = toy(**RICH)
    rest, state, arrays = slabs(0, case), case.state.omics[0], case.data.omics[0]
    effects, term, values = state.random[number], arrays.random[number], state.random_values[number]
    square = jnp.sum(values**2, axis=-1)
    cross = jnp.sum(values * state.residual, axis=-1) + square
    family, points = family_of(term.hyper), []
    for step in (0.0, 0.3):
        log_k = step * jnp.asarray([1.0, -1.0, 0.5])
        prior = family.orbit(effects, term.hyper)
        log = scale_move.log_density(log_k, prior, cross, square, state.variance)
        moved = family.scaled(effects, jnp.exp(log_k))
        replaced = (*state.random[:number], moved, *state.random[number + 1 :])
        point = put_layer(case.state, "omics", state._replace(random=replaced))
        jacobian = (term.n_levels + 2) * float(log_k.sum())
        points.append(((point, rest), float(log.sum()) - jacobian))
    (first, log_first), (second, log_second) = points
    check(case, first, second, log_first, log_second)


@pytest.mark.parametrize("place", ["omics", "trait"])
def test_relationship_and_weighted_marker_terms(toy, slabs, place):
    """Every dense term of a weighted layer with repeated records, jointly with fixed effects."""
    case = toy(**RICH)
    state, arrays, rest = layer_of(case.state, place), layer_of(case.data, place), slabs(0, case)
    assert len(arrays.terms) == 2
    for number, term in enumerate(arrays.terms):
        effects = state.terms[number]
        response = state.residual + state.fixed @ arrays.design.matrix + state.term_values[number]
        projected = response @ term.spectrum.vectors.T
        first_stage = mixed_model.marginal_fixed_system(
            arrays, term, response, projected, state.variance, effects.level
        ).conditional
        points = []
        for seed in (1, 2):
            rng = np.random.default_rng(seed)
            coordinates = first_stage.mean + rng.normal(size=first_stage.mean.shape)
            left = (response - coordinates @ arrays.design.basis) @ term.spectrum.vectors.T
            conditional = mixed_model.joint_conditional(
                term.spectrum, left, state.variance, effects.level
            )
            coef = conditional.loc + 0.3 * rng.normal(size=effects.coef.shape)
            log = first_stage.log_prob(coordinates).sum() + conditional.log_prob(coef).sum()
            terms = list(state.terms)
            terms[number] = effects._replace(coef=coef)
            new = state._replace(terms=tuple(terms), fixed=coordinates @ arrays.design.to_terms)
            points.append(((put_layer(case.state, place, new), rest), float(log)))
        (first, log_first), (second, log_second) = points
        check(case, first, second, log_first, log_second)


@pytest.mark.parametrize("sd", [None, 0.7])
def test_fixed_effects_alone(toy, slabs, sd):
    """A layer that has nothing but fixed effects."""
    case = toy(marker_prior=None, node_prior=NORMAL, fixed_sd_omics=sd)
    state, arrays, rest = case.state.omics[0], case.data.omics[0], slabs(0, case)
    without = state.residual + state.fixed @ arrays.design.matrix
    seen = without @ arrays.design.basis.T
    conditional = mixed_model.fixed_conditional(seen, state.variance, arrays)
    points = []
    for seed in (1, 2):
        coordinates = conditional.sample(jax.random.key(seed))
        new = state._replace(fixed=coordinates @ arrays.design.to_terms)
        log = float(conditional.log_prob(coordinates).sum())
        points.append(((put_layer(case.state, "omics", new), rest), log))
    (first, log_first), (second, log_second) = points
    check(case, first, second, log_first, log_second)
    moved, _ = layer.kernel(jax.random.key(1), state, arrays)
    assert not np.allclose(moved.fixed, state.fixed)
    np.testing.assert_allclose(
        moved.residual + moved.fixed @ arrays.design.matrix, without, atol=1e-12
    )


@pytest.mark.parametrize("more", [{"skip_prior": BayesB(), "activation": "relu"}, RICH])
def test_caches_of_a_random_state_are_exact(toy, more):
    case = toy(**PLAIN | more)
    fresh = refreshed(case.state, case.data, case.settings.activation)
    for first, second in zip(jax.tree.leaves(case.state), jax.tree.leaves(fresh), strict=True):
        np.testing.assert_allclose(first, second, atol=1e-12)
