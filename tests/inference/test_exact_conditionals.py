"""Every block's conditional against differences of the joint log density, in float64.

For any two values a, b of what a block draws: log p(a | rest) - log p(b | rest) must equal
joint(a, rest) - joint(b, rest), to rounding (Grosse & Duvenaud, arXiv:1412.5218). What a block
integrates out is drawn with it here: given the rest it has a known distribution.
"""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest

from nnmm_jax import RRBLUP, BayesC
from nnmm_jax.inference.blocks import (
    missing_hmc,
    missing_linear,
    mixed_model,
    scale_move,
    trait,
    variances,
)
from nnmm_jax.inference.blocks.effects import effect_conditional
from nnmm_jax.inference.sweep import refreshed_residual
from nnmm_jax.network.activations import ACTIVATIONS

TOLERANCE = 1e-8
PRIORS = {
    "RR-BLUP": RRBLUP(df=5.0, share=0.4),
    "BayesC estimated": BayesC(pi_counts=(2.0, 3.0)),
    "BayesC fixed": BayesC(pi=0.3),
}
NETWORKS = [
    {"marker_prior": marker, "node_prior": node, "skip_prior": skip, "latent": latent}
    for marker, node, skip, latent in [
        ("RR-BLUP", "RR-BLUP", None, 0),
        ("RR-BLUP", "BayesC estimated", "RR-BLUP", 1),
        ("BayesC estimated", "RR-BLUP", "BayesC fixed", 2),
        ("BayesC fixed", "BayesC fixed", "BayesC estimated", 0),
    ]
]
MANY_MARKERS = {"n": 14, "p": 25}
pytestmark = pytest.mark.usefixtures("double")


def networks(**more):
    """One case a network, as keywords of the toy factory."""
    for stated in NETWORKS:
        named = {
            key: PRIORS.get(value, value) if isinstance(value, str) else value
            for key, value in stated.items()
        }
        yield pytest.param({**named, **more}, id="-".join(str(v) for v in stated.values()))


def check(toy, first, second, log_first, log_second):
    """Compare one difference of log densities; each point is (state, slabs)."""
    joint = toy.log_joint(*first) - toy.log_joint(*second)
    assert log_first - log_second == pytest.approx(joint, abs=TOLERANCE * max(1, abs(joint)))
    assert abs(joint) > 1e-3  # the two points differ where it matters


def normal(value, mean, sd):
    return float(jnp.sum(dist.Normal(mean, sd).log_prob(value)))


def slab_log_density(effects, arrays, slab):
    """Log density of marker slabs that the state integrates out, given the variance."""
    sd = jnp.sqrt(effects.variance)[:, None]
    if arrays is not None and arrays.spectrum is not None:
        markers = arrays.markers.predict(jnp.eye(arrays.markers.n_padded))
        dense = markers[: arrays.markers.n_markers]
        spectrum = arrays.spectrum
        back = spectrum.vectors.T / spectrum.values @ spectrum.vectors
        null = slab - slab @ dense @ back @ dense.T
        missing = arrays.markers.n_markers - spectrum.values.shape[0]
        quadratic = -0.5 * jnp.sum(null**2, axis=-1) / effects.variance
        return float(jnp.sum(quadratic - 0.5 * missing * jnp.log(effects.variance)))
    coef = effects.coef[:, : slab.shape[-1]]
    return float(jnp.sum(jnp.where(coef == 0, dist.Normal(0.0, sd).log_prob(slab), 0.0)))


@pytest.mark.parametrize("stated", list(networks()))
def test_variances_and_pi(toy, slabs, stated):
    # Joint draws integrate out the null space, which is there with more markers than individuals.
    sizes = MANY_MARKERS if stated["marker_prior"] == PRIORS["RR-BLUP"] else {}
    case = toy(sizes=sizes, activation="tanh", **stated)
    points = []
    for seed in (1, 2):
        drawn = variances.draw(
            jax.random.key(seed),
            variances.conditionals(case.state, case.data, case.settings.activate),
        )
        moved, _ = variances.kernel(
            jax.random.key(seed), case.state, case.data, case.settings.activate
        )
        rest = slabs(seed, case.data)
        wanted = variances.conditionals(case.state, case.data, case.settings.activate)
        free = ~np.asarray(case.data.residual_hyper.fixed)
        total = 0.0
        for name, conditional in wanted.items():
            log_prob = conditional.log_prob(drawn[name])
            total += float(jnp.sum(jnp.where(free, log_prob, 0.0) if name == "var_e" else log_prob))
        total += slab_log_density(moved.markers, case.data.omics, rest.marker)
        if case.settings.node_spike:
            total += slab_log_density(moved.nodes, None, rest.node)
        if moved.skip is not None:
            total += slab_log_density(moved.skip, case.data.skip, rest.skip)
        points.append(((moved, rest), total))
    (first, log_first), (second, log_second) = points
    check(case, first, second, log_first, log_second)


@pytest.mark.parametrize("sizes", [{}, MANY_MARKERS], ids=["n>p", "p>n"])
def test_fixed_and_marker_effects_jointly(toy, slabs, sizes):
    case = toy(sizes=sizes, marker_prior=PRIORS["RR-BLUP"])
    state, arrays, rest = case.state, case.data.omics, slabs(0, case.data)
    response = state.z
    fixed_conditional = mixed_model.marginal_fixed_system(
        arrays,
        response,
        response @ arrays.spectrum.vectors.T,
        state.var_e,
        state.markers.variance,
    ).conditional
    points = []
    for seed in (1, 2):
        rng = np.random.default_rng(seed)
        coordinates = jnp.asarray(rng.normal(size=fixed_conditional.mean.shape))
        coef = jnp.asarray(0.3 * rng.normal(size=state.markers.coef.shape))
        left = (response - coordinates @ arrays.design.basis) @ arrays.spectrum.vectors.T
        conditional = mixed_model.joint_conditional(
            arrays.spectrum, left, state.var_e, state.markers.variance
        )
        log = float(
            fixed_conditional.log_prob(coordinates).sum() + conditional.log_prob(coef).sum()
        )
        moved = state._replace(
            beta=coordinates @ arrays.design.to_terms, markers=state.markers._replace(coef=coef)
        )
        points.append(((moved, rest), log))
    (first, log_first), (second, log_second) = points
    check(case, first, second, log_first, log_second)


@pytest.mark.parametrize(
    ("prior", "marker"), [("BayesC estimated", 0), ("BayesC fixed", 4), ("BayesC estimated", 8)]
)
def test_one_marker_and_fixed_effects(toy, slabs, prior, marker):
    """A marker on every node with fixed effects integrated out, then the fixed effects."""
    case = toy(marker_prior=PRIORS[prior])
    state, arrays, rest = case.state, case.data.omics, slabs(0, case.data)
    genotype = arrays.markers.predict(jnp.eye(arrays.markers.n_padded))[marker]
    others = state.markers.coef.at[:, marker].set(0.0)
    left = state.z - arrays.markers.predict(others)
    leave_out = genotype - (genotype @ arrays.design.basis.T) @ arrays.design.basis
    gram = mixed_model.block_grams(arrays)[0, marker, marker]
    assert gram == pytest.approx(float(leave_out @ leave_out))
    conditional = effect_conditional(
        left @ leave_out, gram, state.var_e, state.markers.variance, state.markers.pi
    )
    points = []
    for values in ([0.0, 0.4, -0.2], [0.3, 0.0, 0.0]):
        value = jnp.asarray(values)
        nonzero = jax.nn.log_sigmoid(conditional.log_odds) + dist.Normal(
            conditional.mean, conditional.sd
        ).log_prob(value)
        slab_prior = dist.Normal(0.0, jnp.sqrt(state.markers.variance))
        zero = jax.nn.log_sigmoid(-conditional.log_odds) + slab_prior.log_prob(
            rest.marker[:, marker]
        )
        log = float(jnp.sum(jnp.where(value != 0, nonzero, zero)))
        coef = others.at[:, marker].set(value)
        seen = (state.z - arrays.markers.predict(coef)) @ arrays.design.basis.T
        coordinates = seen + jnp.asarray(np.random.default_rng(len(points)).normal(size=seen.shape))
        log += float(mixed_model.fixed_conditional(seen, state.var_e).log_prob(coordinates).sum())
        moved = state._replace(
            markers=state.markers._replace(coef=coef), beta=coordinates @ arrays.design.to_terms
        )
        points.append(((moved, rest), log))
    (first, log_first), (second, log_second) = points
    check(case, first, second, log_first, log_second)


def fixed_trait_log_density(case, state, coef, rng):
    """Draw the trait's fixed effects given node effects; return them and their log density."""
    data, activation = case.data, case.settings.activate
    system = trait.trait_system(state, data, activation)
    seen = (system.response - coef @ system.active) @ data.design_trait.basis.T
    coordinates = seen + jnp.asarray(rng.normal(size=seen.shape))
    conditional = mixed_model.fixed_conditional(seen[None], state.var_y[None])
    fixed = coordinates @ data.design_trait.to_terms
    return fixed, float(conditional.log_prob(coordinates[None]).sum())


WITH_AND_WITHOUT_SKIP = [
    *((activation, None) for activation in ACTIVATIONS),
    ("linear", PRIORS["RR-BLUP"]),
    ("tanh", PRIORS["BayesC fixed"]),
]


@pytest.mark.parametrize(("activation", "skip"), WITH_AND_WITHOUT_SKIP)
def test_node_and_fixed_effects_jointly(toy, slabs, activation, skip):
    case = toy(activation=activation, node_prior=PRIORS["RR-BLUP"], skip_prior=skip, latent=1)
    state, rest = case.state, slabs(0, case.data)
    system = trait.trait_system(state, case.data, case.settings.activate)
    conditional = trait.joint_system(state, system).conditional
    points = []
    for seed in (1, 2):
        rng = np.random.default_rng(seed)
        coef = jnp.asarray(rng.normal(size=conditional.mean.shape))
        fixed, log = fixed_trait_log_density(case, state, coef, rng)
        moved = state._replace(nodes=state.nodes._replace(coef=coef[None]), fixed=fixed)
        points.append(((moved, rest), log + float(conditional.log_prob(coef))))
    (first, log_first), (second, log_second) = points
    check(case, first, second, log_first, log_second)


@pytest.mark.parametrize(("activation", "node"), [("linear", 0), ("tanh", 2), ("relu", 1)])
def test_one_node_and_fixed_effects(toy, slabs, activation, node):
    case = toy(activation=activation, node_prior=PRIORS["BayesC estimated"])
    state, rest = case.state, slabs(0, case.data)
    system = trait.trait_system(state, case.data, case.settings.activate)
    others = state.nodes.coef[0].at[node].set(0.0)
    conditional = effect_conditional(
        system.rhs[node] - system.gram[node] @ others,
        system.gram[node, node],
        state.var_y,
        state.nodes.variance[0],
        state.nodes.pi[0],
    )
    points = []
    for value in (0.0, 0.7):
        coef = others.at[node].set(value)
        fixed, log = fixed_trait_log_density(case, state, coef, np.random.default_rng(5))
        if value:
            log += float(jax.nn.log_sigmoid(conditional.log_odds))
            log += normal(value, conditional.mean, conditional.sd)
        else:
            log += float(jax.nn.log_sigmoid(-conditional.log_odds))
            log += normal(rest.node[0, node], 0.0, jnp.sqrt(state.nodes.variance[0]))
        moved = state._replace(nodes=state.nodes._replace(coef=coef[None]), fixed=fixed)
        points.append(((moved, rest), log))
    (first, log_first), (second, log_second) = points
    check(case, first, second, log_first, log_second)


@pytest.mark.parametrize(("skip", "latent"), [(None, 0), (PRIORS["BayesC fixed"], 2)])
def test_missing_omics_of_a_linear_network(toy, slabs, skip, latent):
    case = toy(skip_prior=skip, latent=latent)
    state, data, rest = case.state, case.data, slabs(0, case.data)
    mean = state.z - state.residual
    left = missing_linear.phenotype_left(state, data)
    w = state.nodes.coef[0]
    points = []
    for seed in (1, 2):
        z = jnp.where(data.observed, state.z, np.random.default_rng(seed).normal(size=mean.shape))
        log = 0.0
        for i in np.asarray(data.incomplete_rows):
            missing = ~data.observed[:, i]
            known = left[i] - jnp.where(missing, 0.0, w) @ z[:, i]
            effects = w if data.y_observed[i] else jnp.zeros_like(w)
            conditional = missing_linear.individual_conditional(
                mean[:, i], state.var_e, missing, effects, known, state.var_y
            )
            log += float(conditional.log_prob(z[missing, i]))
        points.append(((state._replace(z=z), rest), log))
    (first, log_first), (second, log_second) = points
    check(case, first, second, log_first, log_second)


@pytest.mark.parametrize(
    ("activation", "skip"), [case for case in WITH_AND_WITHOUT_SKIP if case[0] != "linear"]
)
def test_density_that_hmc_follows(toy, slabs, activation, skip):
    case = toy(activation=activation, skip_prior=skip, latent=1)
    state, data, rest = case.state, case.data, slabs(0, case.data)
    rows = data.informed_rows
    problem = missing_hmc.make_problem(state, data, rows)
    points = []
    for seed in (1, 2):
        whitened = jnp.where(
            problem.observed, 0.0, np.random.default_rng(seed).normal(size=problem.z.shape)
        )
        z = missing_hmc.place(problem, whitened)
        log = missing_hmc.log_density(problem, whitened, case.settings.activate)
        moved = missing_linear.replace_rows(state, rows, z)
        assert jnp.array_equal(moved.z[data.observed], state.z[data.observed])
        points.append(((moved, rest), float(log.sum())))
    (first, log_first), (second, log_second) = points
    check(case, first, second, log_first, log_second)


@pytest.mark.parametrize(
    ("prior", "sizes"),
    [("RR-BLUP", MANY_MARKERS), ("RR-BLUP", {}), ("BayesC estimated", {}), ("BayesC fixed", {})],
)
def test_density_along_the_scale_orbit(toy, slabs, prior, sizes):
    """Joint density times the group's Jacobian k**(m + 2), for all nodes at once."""
    case = toy(sizes=sizes, marker_prior=PRIORS[prior])
    state, data = case.state, case.data
    rest = slabs(0, data)
    genetic = mixed_model.genetic_values(state.markers, data.omics)
    square = jnp.sum(genetic**2, axis=-1)
    cross = jnp.sum(genetic * state.residual, axis=-1) + square
    n_moved = jnp.full(square.shape, data.omics.markers.n_markers)
    points = []
    for log_k in (jnp.zeros(3), jnp.asarray([0.3, -0.5, 1.0])):
        k = jnp.exp(log_k)
        log = scale_move.log_density(
            log_k, state.markers, cross, square, state.var_e, data.omics.hyper
        )
        moved = state.markers._replace(
            coef=k[:, None] * state.markers.coef, variance=k**2 * state.markers.variance
        )
        # Every marker's slab moves along, so that k**m counts all of them.
        slab = rest._replace(marker=k[:, None] * rest.marker)
        jacobian = float(jnp.sum((n_moved + 2) * log_k))
        points.append(((state._replace(markers=moved), slab), float(log.sum()) - jacobian))
    (first, log_first), (second, log_second) = points
    check(case, first, second, log_first, log_second)


@pytest.mark.parametrize("prior", ["RR-BLUP", "BayesC estimated"])
def test_density_along_the_scale_orbit_of_node_effects(toy, slabs, prior):
    case = toy(activation="tanh", node_prior=PRIORS[prior])
    state, data, rest = case.state, case.data, slabs(0, case.data)
    fitted = state.nodes.coef @ case.settings.activate.function(state.z[:, data.y_rows])
    left = trait.trait_residual(state, data, case.settings.activate)
    square = jnp.sum(fitted**2, axis=-1)
    cross = jnp.sum(fitted * left, axis=-1) + square
    points = []
    for log_k in (jnp.zeros(1), jnp.asarray([0.4])):
        k = jnp.exp(log_k)
        log = scale_move.log_density(
            log_k, state.nodes, cross, square, state.var_y[None], data.node_hyper
        )
        nodes = state.nodes._replace(
            coef=k * state.nodes.coef, variance=k**2 * state.nodes.variance
        )
        jacobian = float((state.nodes.coef.size + 2) * log_k[0])
        point = (state._replace(nodes=nodes), rest._replace(node=k * rest.node))
        points.append((point, float(log.sum()) - jacobian))
    (first, log_first), (second, log_second) = points
    check(case, first, second, log_first, log_second)


def test_residual_cache_of_a_random_state_is_exact(toy):
    case = toy(skip_prior="RR-BLUP")
    fresh = refreshed_residual(case.state, case.data)
    np.testing.assert_allclose(case.state.residual, fresh, atol=1e-12)
