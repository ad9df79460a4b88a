"""The move of a term's and the residual's variance with the term's values integrated out."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax, random
from scipy import stats

from nnmm_jax import RRBLUP, BayesL, Group, Network, Pedigree, Relationship
from nnmm_jax.inference.arrays import products
from nnmm_jax.inference.blocks import mixed_model
from nnmm_jax.inference.blocks.variance_ratio import ratio_move
from nnmm_jax.inference.prepare import prepare
from nnmm_jax.inference.start import start_state
from nnmm_jax.inference.sweep import SweepSettings, refreshed, sweep
from nnmm_jax.reports.benchmark import random_data

NORMAL = RRBLUP(df=5.0, share=0.2)
PLAIN = {"node_prior": NORMAL, "marker_prior": NORMAL}
RICH = PLAIN | {
    "sizes": {"rich": True},
    "skip_prior": NORMAL,
    "fixed_sd_omics": 0.8,
    "random_omics": [Group("batch"), Relationship("K")],
    "random_trait": [Pedigree(), Group("pen")],
}
LASSO = PLAIN | {"skip_prior": NORMAL, "node_prior": BayesL()}
pytestmark = pytest.mark.usefixtures("double")


def layer_of(part, place):
    return part.omics[0] if place == "omics" else part.trait


def ratio_of(case, place, number):
    """What the move of a term reads, and the term's part of the response in its coordinates."""
    state, arrays = layer_of(case.state, place), layer_of(case.data, place)
    left = state.residual + state.term_values[number]
    projected = products(left, arrays.terms[number].spectrum.vectors)
    nodes = list(zip(case.state.nodes, case.data.node_hyper, strict=True))
    sharing = nodes if place == "trait" else []
    return mixed_model.variance_ratio(state, arrays, number, projected, sharing), projected


@pytest.mark.parametrize(
    ("place", "number", "more"),
    [
        ("omics", 0, PLAIN | {"latent": 1, "activation": "tanh"}),
        ("omics", 1, RICH),
        ("trait", 0, RICH),
        ("trait", 0, LASSO),
    ],
)
def test_density_along_the_move(toy, slabs, place, number, more):
    """Joint x Jacobian of both variances = move x all values given the variances."""
    case = toy(**more)
    rest, state = slabs(0, case), layer_of(case.state, place)
    term = layer_of(case.data, place).terms[number]
    ratio, projected = ratio_of(case, place, number)
    start = jnp.log(state.terms[number].level / state.variance)
    logs, joints = [], []
    for seed in (1, 2):
        rng = np.random.default_rng(seed)
        x = start + rng.normal(size=start.shape)
        fixed = ratio.residual_hyper.fixed
        var_e = ratio.var_e * jnp.where(fixed, 1.0, ratio.total(x) / ratio.total(start))
        level = jnp.exp(x) * var_e
        conditional = mixed_model.joint_conditional(term.spectrum, projected, var_e, level)
        coef = conditional.loc + 0.3 * rng.normal(size=projected.shape)
        logs.append(float(ratio.log_density(x)[0].sum() + conditional.log_prob(coef).sum()))
        terms = list(state.terms)
        terms[number] = state.terms[number]._replace(coef=coef, level=level)
        moved = state._replace(terms=tuple(terms), variance=var_e)
        whole = case.state._replace(
            **({"omics": (moved,)} if place == "omics" else {"trait": moved})
        )
        jacobian = jnp.log(level) + jnp.where(fixed, 0.0, jnp.log(var_e))
        joints.append(case.log_joint(whole, rest) + float(jacobian.sum()))
    difference = joints[0] - joints[1]
    assert logs[0] - logs[1] == pytest.approx(difference, abs=1e-9 * max(1.0, *map(abs, joints)))
    assert abs(difference) > 1e-3  # the two points differ where it matters


@pytest.mark.parametrize("place", ["omics", "trait"])
def test_moves_end_at_their_density(toy, place):
    """From one start, by many moves, to the distribution that a grid gives."""
    case = toy(**PLAIN | {"skip_prior": NORMAL, "latent": 1, "activation": "tanh"})
    ratio, _ = ratio_of(case, place, 0)
    level = jnp.exp(2.0) * ratio.var_e
    b = ratio.total(jnp.full_like(level, 2.0)) / ratio.var_e

    def chain(key):
        def step(carry, key):
            level, var_e = carry
            return ratio_move(key, level, ratio._replace(var_e=var_e)), None

        return lax.scan(step, (level, ratio.var_e), random.split(key, 25))[0]

    levels, var_e = jax.jit(jax.vmap(chain))(random.split(random.key(1), 8000))
    x = np.log(levels / var_e)
    fixed = np.asarray(ratio.residual_hyper.fixed)
    kept = np.where(fixed, ratio.var_e / var_e, jax.vmap(ratio.total)(x) / var_e / b)
    np.testing.assert_allclose(kept, 1.0, rtol=1e-9)
    grid = np.linspace(-12.0, 12.0, 4001)
    logs = jax.vmap(lambda at: ratio.log_density(jnp.full_like(level, at))[0])(grid)
    for response in range(level.shape[0]):
        weights = np.exp(logs[:, response] - logs[:, response].max())
        assert max(weights[0], weights[-1]) < 1e-4
        cumulated = np.cumsum(weights) / weights.sum()
        exact = stats.ks_1samp(x[:, response], lambda at: np.interp(at, grid, cumulated))  # noqa: B023
        assert exact.pvalue > 1e-3


def test_known_variances_stay(toy):
    case = toy(**PLAIN | {"skip_prior": RRBLUP(variance=0.3)})
    old = case.state.trait
    new = mixed_model.update_term(random.key(1), old, case.data.trait, 0)
    assert not np.allclose(new.terms[0].coef, old.terms[0].coef)
    np.testing.assert_array_equal(new.terms[0].level, old.terms[0].level)
    np.testing.assert_array_equal(new.variance, old.variance)


@pytest.mark.parametrize("fixed_sd", [None, 0.5])
def test_trait_alone_keeps_its_caches(fixed_sd):
    """Its response never changes: nothing may be lost between that and what the state says."""
    network = Network(marker_prior=None, skip_prior=NORMAL, fixed_sd_trait=fixed_sd)
    prepared = prepare(random_data(30, 12, 0), network)
    data, settings = prepared.data, SweepSettings(prepared.activation)
    assert data.trait.terms[0].spectrum is not None
    start = start_state(random.key(1), data, settings.activation)

    def step(t, state):
        return sweep(random.fold_in(random.key(2), t), state, data, jnp.array(0), settings)[0]

    state = jax.jit(lambda state: lax.fori_loop(0, 20, step, state))(start)
    fresh = refreshed(state, data, settings.activation)
    for cached, exact in zip(jax.tree.leaves(state), jax.tree.leaves(fresh), strict=True):
        np.testing.assert_allclose(cached, exact, atol=1e-10)
    assert not np.allclose(state.trait.residual, start.trait.residual)
