"""The table: every prior in every place, each conditional against differences of the joint density.

For any two values a, b of what a block draws: log p(a | rest) - log p(b | rest) must equal
joint(a, rest) - joint(b, rest), to rounding (Grosse & Duvenaud, arXiv:1412.5218). What a block
integrates out is drawn with it here: given the rest it has a known distribution. Every row runs in
float64 and in float32; recovery of simulated effects, row by row, is in ``tests/statistical``.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest

from nnmm_jax import GBLUP, RRBLUP, BayesA, BayesB, BayesC, BayesL, BayesR
from nnmm_jax.inference.blocks import mixed_model, scale_move, trait, variances
from nnmm_jax.inference.blocks.effects import effect_conditional
from nnmm_jax.inference.blocks.families import (
    component_log_odds,
    family_of,
    inverse_tau2_conditional,
    own_variance_conditional,
)
from nnmm_jax.network.priors import PRIORS

MIXTURE = (0.0, 0.1, 0.5, 1.0)
ROWS = {
    "RR-BLUP": RRBLUP(df=5.0, share=0.4),
    "RR-BLUP known": RRBLUP(variance=0.05),
    "GBLUP": GBLUP(share=0.3),
    "BayesA": BayesA(df=5.0, shape=1.5),
    "BayesA S known": BayesA(scale=0.02),
    "BayesB": BayesB(pi_counts=(2.0, 3.0), rate=30.0),
    "BayesB pi known": BayesB(pi=0.3, df=3.0),
    "BayesC": BayesC(pi_counts=(2.0, 3.0)),
    "BayesC pi known": BayesC(pi=0.3, scale=0.05),
    "BayesL": BayesL(),
    "BayesL known": BayesL(lambda2=30.0),
    "BayesR": BayesR(mixture=MIXTURE, weight_counts=(2.0, 1.0, 1.5, 1.0)),
    "BayesR weights known": BayesR(mixture=MIXTURE, weights=(0.4, 0.3, 0.2, 0.1)),
}
PLACES = ("marker", "skip", "node")
TOLERANCE = {False: 2e-4, True: 1e-9}  # relative to the joint's largest parts, about 100

pytestmark = pytest.mark.parametrize("x64", [False, True], ids=["float32", "float64"])
rows = pytest.mark.parametrize("row", list(ROWS))
# Joint draws and one-by-one draws of the same prior are different blocks.
joint_rows = pytest.mark.parametrize("row", ["RR-BLUP", "RR-BLUP known", "GBLUP"])


def test_every_prior_has_a_row(x64):
    assert {type(prior) for prior in ROWS.values()} == set(PRIORS.values())


CASES: dict[tuple[str, bool, bool], Any] = {}


# Flat and normal fixed effects, each in both layers in turn.
FIXED = {False: {"fixed_sd_trait": 0.6}, True: {"fixed_sd_omics": 0.6}}


def build(toy, row, x64, joint=False):
    """A toy in which all three sets of effects have the row's prior; made once."""
    key = (row, x64, joint)
    if key not in CASES:
        stated = {f"{place}_prior": ROWS[row] for place in PLACES}
        stated |= FIXED[joint]
        sizes = {"n": 14, "p": 25, "omics": 2} if joint else {"n": 14, "p": 6, "omics": 3}
        spectrum = 100 if joint else 0
        CASES[key] = toy(sizes=sizes, spectrum=spectrum, activation="tanh", **stated)
    return CASES[key]


def get(state, place):
    if place == "node":
        return state.nodes[0]
    return (state.omics[0] if place == "marker" else state.trait).terms[0]


def put(state, place, effects, **layer):
    """State with other effects of the place, and other fields of its layer."""
    if place == "node":
        return state._replace(nodes=(effects,), trait=state.trait._replace(**layer))
    if place == "marker":
        return state._replace(omics=(state.omics[0]._replace(terms=(effects,), **layer),))
    return state._replace(trait=state.trait._replace(terms=(effects,), **layer))


def layer_of(case, place):
    if place == "marker":
        return case.state.omics[0], case.data.omics[0]
    return case.state.trait, case.data.trait


def hyper_of(case, place):
    return case.data.node_hyper[0] if place == "node" else layer_of(case, place)[1].terms[0].hyper


def check(case, points, x64):
    """Compare differences of log densities; points are ((state, slabs), log density)."""
    (first, log_first), (second, log_second) = points
    joints = [case.log_joint(*first), case.log_joint(*second)]
    scale = max(1.0, *(abs(one) for one in joints), abs(log_first), abs(log_second))
    difference = log_first - log_second
    assert np.isfinite(difference)
    assert difference == pytest.approx(joints[0] - joints[1], abs=TOLERANCE[x64] * scale)
    assert abs(difference) > 1e-3  # the two points differ where it matters


def dangling_log_density(effects, hyper, slab):
    """Log density of the slabs of zero effects, which only the joint density has."""
    if not hyper.spike:
        return 0.0
    n_effects = slab.shape[-1]
    coef = effects.coef[:, :n_effects]
    variance = hyper.slabs[0] * effects.level[:, None]
    if hyper.family == "own":
        variance = effects.own[:, :n_effects]
    log = dist.Normal(0.0, jnp.sqrt(variance)).log_prob(slab)
    return float(jnp.sum(jnp.where(coef == 0, log, 0.0)))


def null_log_density(effects, term, slab):
    """Log density of the part of the effects that a joint draw integrates out."""
    dense = term.markers.predict(jnp.eye(term.markers.n_padded))[: term.markers.n_markers]
    spectrum = term.spectrum
    back = spectrum.vectors.T / spectrum.values @ spectrum.vectors
    null = slab - slab @ dense @ back @ dense.T
    missing = term.markers.n_markers - spectrum.values.shape[0]
    quadratic = -0.5 * jnp.sum(null**2, axis=-1) / effects.level
    return float(jnp.sum(quadratic - 0.5 * missing * jnp.log(effects.level)))


def one_effect(effects, hyper, rhs, sum_squares, var_e, number, component, luck):
    """Move effect ``number`` of all responses to a value of a component; its log density."""
    slab_variances = family_of(hyper).slabs(effects, var_e, hyper)
    mine = [jnp.broadcast_to(v, effects.coef.shape)[:, number] for v in slab_variances]
    weights = effects.weights.T if hyper.spike else jnp.asarray([[1e-30], [1.0]], rhs.dtype)
    conditional = effect_conditional(rhs, sum_squares, var_e, jnp.stack(mine), weights)
    logs = jnp.concatenate([jnp.zeros_like(conditional.log_odds[:1]), conditional.log_odds])
    log_p = jax.nn.log_softmax(logs if hyper.spike else logs[1:], axis=0)
    own = effects.own
    if component == 0:
        value = jnp.zeros_like(rhs)
        log = log_p[0]
        if hyper.mixture:
            own = own.at[:, number].set(0.0)
    else:
        k = component - 1
        value = conditional.mean[k] + luck * conditional.sd[k]
        log = log_p[component if hyper.spike else k]
        log = log + dist.Normal(conditional.mean[k], conditional.sd[k]).log_prob(value)
        if hyper.mixture:
            own = own.at[:, number].set(hyper.slabs[k])
    return effects._replace(coef=effects.coef.at[:, number].set(value), own=own), float(log.sum())


def component_pairs(hyper):
    """Components whose values are compared: zero against each slab, or slab against itself."""
    return [(0, k) for k in range(1, len(hyper.multipliers))] if hyper.spike else [(1, 1)]


def fixed_log_density(arrays, var_e, seen, seed):
    """Draw fixed effects; coordinates as terms, their log density."""
    coordinates = seen + np.random.default_rng(seed).normal(size=seen.shape).astype(seen.dtype)
    conditional = mixed_model.fixed_conditional(seen, var_e, arrays)
    return coordinates @ arrays.design.to_terms, float(conditional.log_prob(coordinates).sum())


@rows
@pytest.mark.parametrize("place", ["marker", "skip"])
def test_one_marker_effect_and_fixed_effects(toy, slabs, row, place, x64):
    """One marker on every response with fixed effects integrated out, then the fixed effects."""
    with jax.enable_x64(x64):
        case = build(toy, row, x64)
        (layer, arrays), rest = layer_of(case, place), slabs(0, case)
        term, effects, var_e = arrays.terms[0], layer.terms[0], layer.variance
        assert term.spectrum is None
        response = layer.residual + layer.fixed @ arrays.design.matrix + layer.term_values[0]
        number, basis = 4, arrays.design.basis
        genotype = term.markers.predict(jnp.eye(term.markers.n_padded))[number]
        explained = arrays.taken(var_e)[:, None] * (genotype @ basis.T @ basis)
        left = genotype - explained
        sum_squares = jnp.sum(left * genotype, axis=1)
        others = effects.coef.at[:, number].set(0.0)
        without = response - term.markers.predict(others)
        for pair in component_pairs(term.hyper):
            points = []
            for seed, component in enumerate(pair):
                moved, log = one_effect(
                    effects, term.hyper, jnp.sum(without * left, axis=1), sum_squares, var_e,
                    number, component,
                    luck=0.7 - seed,
                )  # fmt: skip
                seen = (response - term.markers.predict(moved.coef)) @ basis.T
                fixed, more = fixed_log_density(arrays, var_e, seen, seed)
                log += more + dangling_log_density(moved, term.hyper, rest[term.name])
                points.append(((put(case.state, place, moved, fixed=fixed), rest), log))
            check(case, points, x64)


@joint_rows
@pytest.mark.parametrize("place", ["marker", "skip"])
def test_all_marker_effects_and_fixed_effects_jointly(toy, slabs, row, place, x64):
    with jax.enable_x64(x64):
        case = build(toy, row, x64, joint=True)
        (layer, arrays), rest = layer_of(case, place), slabs(0, case)
        term, effects, var_e = arrays.terms[0], layer.terms[0], layer.variance
        response = layer.residual + layer.fixed @ arrays.design.matrix + layer.term_values[0]
        projected = response @ term.spectrum.vectors.T
        fixed_conditional = mixed_model.marginal_fixed_system(
            arrays, term, response, projected, var_e, effects.level
        ).conditional
        points = []
        for seed in (1, 2):
            rng = np.random.default_rng(seed)
            shift = 0.5 * rng.normal(size=fixed_conditional.mean.shape).astype(response.dtype)
            coordinates = fixed_conditional.mean + shift
            left = (response - coordinates @ arrays.design.basis) @ term.spectrum.vectors.T
            conditional = mixed_model.joint_conditional(term.spectrum, left, var_e, effects.level)
            luck = rng.normal(size=effects.coef.shape).astype(response.dtype)
            coef = conditional.loc + conditional.scale * luck
            log = fixed_conditional.log_prob(coordinates).sum() + conditional.log_prob(coef).sum()
            moved = put(
                case.state,
                place,
                effects._replace(coef=coef),
                fixed=coordinates @ arrays.design.to_terms,
            )
            points.append(((moved, rest), float(log)))
        check(case, points, x64)


@rows
def test_node_effects_and_fixed_effects(toy, slabs, row, x64):
    """One node after the other with a spike, all of them jointly without."""
    with jax.enable_x64(x64):
        case = build(toy, row, x64)
        state, data, rest = case.state, case.data, slabs(0, case)
        hyper, effects, var_y = data.node_hyper[0], state.nodes[0], state.trait.variance
        system = trait.trait_system(state, data, case.settings.activation)

        def with_fixed(moved, seed):
            seen = (system.response - moved.coef @ system.active) @ data.trait.design.basis.T
            fixed, log = fixed_log_density(data.trait, var_y, seen, seed)
            log += dangling_log_density(moved, hyper, rest["node"])
            return put(state, "node", moved, fixed=fixed), log

        if not hyper.spike:
            conditional = trait.joint_system(state, system, data)[0].conditional
            points = []
            for seed in (1, 2):
                rng = np.random.default_rng(seed)
                coef = conditional.mean + 0.3 * rng.normal(size=conditional.mean.shape).astype(
                    conditional.mean.dtype
                )
                moved, more = with_fixed(effects._replace(coef=coef[None]), seed)
                points.append(((moved, rest), more + float(conditional.log_prob(coef))))
            check(case, points, x64)
            return
        others = effects.coef.at[:, 1].set(0.0)
        rhs = system.rhs[1] - others @ system.gram[1]
        for pair in component_pairs(hyper):
            points = []
            for seed, component in enumerate(pair):
                moved, log = one_effect(
                    effects, hyper, rhs, system.gram[1, 1], var_y, 1, component, luck=0.7 - seed
                )
                moved, more = with_fixed(moved, seed)
                points.append(((moved, rest), log + more))
            check(case, points, x64)


@rows
def test_levels_weights_and_residual_variances(toy, slabs, row, x64):
    """The block of variances, own variances of zero effects drawn from their prior with it."""
    with jax.enable_x64(x64):
        case = build(toy, row, x64)
        rest = slabs(0, case)
        wanted = variances.conditionals(case.state, case.data)
        points = []
        for seed in (1, 2):
            drawn = variances.draw(jax.random.key(seed), wanted)
            log = sum(float(jnp.sum(one.log_prob(drawn[name]))) for name, one in wanted.items())
            state = moved_by(case, drawn)
            for place in PLACES:
                hyper, effects = hyper_of(case, place), get(state, place)
                if hyper.family == "own":
                    coef = effects.coef[:, : rest[place].shape[-1]]
                    own, more = dangling_variances(effects, hyper, coef, seed)
                    effects = effects._replace(own=effects.own.at[:, : coef.shape[1]].set(own))
                    state, log = put(state, place, effects), log + more
                log += dangling_log_density(effects, hyper, rest[place])
            points.append(((state, rest), log))
        check(case, points, x64)


def moved_by(case, drawn):
    """State with the drawn levels, weights and residual variances."""

    def moved(name, effects):
        return effects._replace(
            level=drawn.get(f"level_{name}", effects.level),
            weights=drawn.get(f"weights_{name}", effects.weights),
        )

    state = case.state
    omics = state.omics[0]._replace(
        terms=(moved("marker", state.omics[0].terms[0]),), variance=drawn["var_e"]
    )
    new = state.trait._replace(
        terms=(moved("skip", state.trait.terms[0]),), variance=drawn["var_y"]
    )
    return state._replace(omics=(omics,), trait=new, nodes=(moved("node", state.nodes[0]),))


def dangling_variances(effects, hyper, coef, seed):
    """Own variances in which those of zero effects are drawn from their prior; its log density."""
    n_effects = coef.shape[-1]
    scale = jnp.broadcast_to(effects.level[:, None], coef.shape)
    prior = dist.InverseGamma(hyper.df[:, None] / 2, hyper.df[:, None] * scale / 2)
    fresh = prior.sample(jax.random.key(100 + seed))
    log = jnp.where(coef == 0, prior.log_prob(fresh), 0.0)
    return jnp.where(coef == 0, fresh, effects.own[:, :n_effects]), float(log.sum())


@pytest.mark.parametrize("row", [row for row in ROWS if row[:6] in ("BayesA", "BayesB", "BayesL")])
def test_own_variances(toy, slabs, row, x64):
    """Each effect's own variance given its level and all else."""
    with jax.enable_x64(x64):
        case = build(toy, row, x64)
        rest = slabs(0, case)
        points = []
        for seed in (1, 2):
            state, total = case.state, 0.0
            for place in PLACES:
                moved, log = with_own_variances(case, place, rest[place], seed)
                state, total = put(state, place, moved), total + log
            points.append(((state, rest), total))
        check(case, points, x64)


def with_own_variances(case, place, slab, seed):
    """Effects with other variances of their own, and the log density of these."""
    hyper, effects = hyper_of(case, place), get(case.state, place)
    n_effects, var_e = slab.shape[-1], layer_of(case, place)[0].variance
    draw = family_of(hyper).draw_own(jax.random.key(seed), effects, var_e, hyper)
    own, coef = draw[:, :n_effects], effects.coef[:, :n_effects]
    if hyper.family == "own":
        log = own_variance_conditional(effects, hyper).log_prob(draw)[:, :n_effects]
    else:
        mean, shape = inverse_tau2_conditional(effects, var_e)
        mean = mean[:, :n_effects]
        x = 1.0 / own  # density of 1 / x: times the Jacobian x**2
        log = 0.5 * jnp.log(shape / x**3) - shape * (x - mean) ** 2 / (2 * mean**2 * x)
        log = log + 2.0 * jnp.log(x)
    total = float(log.sum())
    if hyper.spike:  # a slab of a zero effect moves with its variance
        dangling = dist.Normal(0.0, jnp.sqrt(own)).log_prob(slab)
        total += float(jnp.sum(jnp.where(coef == 0, dangling, 0.0)))
    return effects._replace(own=effects.own.at[:, :n_effects].set(own)), total


@pytest.mark.parametrize("row", ["BayesR", "BayesR weights known"])
def test_components_of_a_mixture(toy, slabs, row, x64):
    with jax.enable_x64(x64):
        case = build(toy, row, x64)
        rest = slabs(0, case)
        points = []
        for seed in (1, 2):
            state, log = case.state, 0.0
            for place in PLACES:
                hyper, effects = hyper_of(case, place), get(case.state, place)
                key = jax.random.key(seed)
                own = family_of(hyper).draw_own(key, effects, effects.level, hyper)
                log_p = jax.nn.log_softmax(component_log_odds(effects, hyper), axis=0)
                chosen = jnp.searchsorted(jnp.asarray(hyper.slabs, own.dtype), own)
                taken = jnp.take_along_axis(log_p, jnp.minimum(chosen, 2)[None], axis=0)[0]
                log += float(jnp.sum(jnp.where(effects.coef != 0, taken, 0.0)))
                state = put(state, place, effects._replace(own=own))
            points.append(((state, rest), log))
        check(case, points, x64)


@pytest.mark.parametrize(
    ("row", "joint"), [*((row, False) for row in ROWS), ("RR-BLUP", True), ("GBLUP", True)]
)
def test_density_along_the_scale_orbit(toy, slabs, row, joint, x64):
    """Joint density times the Jacobian of the group: every coordinate counts its power of k."""
    with jax.enable_x64(x64):
        case = build(toy, row, x64, joint)
        if hyper_of(case, "node").known:
            layer, arrays = layer_of(case, "skip")
            effects, *_ = scale_move.scale_move(
                jax.random.key(0), layer.terms[0], layer.residual, layer.residual, layer.variance,
                arrays.terms[0].hyper,
            )  # fmt: skip
            assert effects is layer.terms[0]
            return
        rest = slabs(0, case)
        start = ((case.state, rest), sum(along_orbit(case, p, rest[p], 0.0)[2] for p in PLACES))
        for place in PLACES:  # one after the other: they move the same residual
            moved, slab, log = along_orbit(case, place, rest[place], 0.4)
            others = sum(along_orbit(case, p, rest[p], 0.0)[2] for p in PLACES if p != place)
            point = (put(case.state, place, moved), rest | {place: slab})
            check(case, [start, (point, log + others)], x64)


def along_orbit(case, place, slab, step):
    """Effects and slabs at a point of the orbit, and the density there without the Jacobian."""
    hyper, effects = hyper_of(case, place), get(case.state, place)
    layer, _ = layer_of(case, place)
    values = layer.term_values[0]
    if place == "node":
        active = trait.active_records(case.state, case.data, case.settings.activation)
        values = effects.coef @ active
    square = jnp.sum(values**2, axis=-1)
    cross = jnp.sum(values * layer.residual, axis=-1) + square
    family, n_effects = family_of(hyper), slab.shape[-1]
    log_k = step * jnp.cos(jnp.arange(square.shape[0], dtype=square.dtype))
    k = jnp.exp(log_k)
    prior = family.orbit(effects, hyper)
    log = scale_move.log_density(log_k, prior, cross, square, layer.variance)
    # Slabs (k), own variances (k**2 each) and the level (k**2, or k**-2 of lambda2).
    power = n_effects + (2 * n_effects if hyper.own_variances else 0)
    power += -2 if hyper.family == "lasso" else 2
    total = float(log.sum()) - power * float(log_k.sum())
    return family.scaled(effects, k), k[:, None] * slab, total


@joint_rows
def test_variance_of_effects_drawn_jointly(toy, slabs, row, x64):
    """Directions that the genotypes do not show are integrated out."""
    with jax.enable_x64(x64):
        case = build(toy, row, x64, joint=True)
        rest = slabs(0, case)
        wanted = variances.conditionals(case.state, case.data)
        assert ("level_marker" in wanted) == (row != "RR-BLUP known")
        points = []
        for seed in (1, 2):
            drawn = variances.draw(jax.random.key(seed), wanted)
            log = sum(float(jnp.sum(one.log_prob(drawn[name]))) for name, one in wanted.items())
            state = moved_by(case, drawn)
            for where, arrays in (("marker", case.data.omics[0]), ("skip", case.data.trait)):
                term = arrays.terms[0]
                if not term.hyper.known:
                    log += null_log_density(get(state, where), term, rest[where])
            points.append(((state, rest), log))
        check(case, points, x64)
