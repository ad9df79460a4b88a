import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from jax import random
from scipy import stats

from nnmm_jax import RRBLUP, Network, Pedigree, Relationship, Residual, read_dataset
from nnmm_jax.errors import InputError
from nnmm_jax.inference import variational_fit
from nnmm_jax.inference.prepare import prepare
from nnmm_jax.inference.sweep import count_non_finite
from nnmm_jax.inference.variational import Family, Prior, _Set, noise_like
from nnmm_jax.inference.variational_begin import begin
from nnmm_jax.inference.variational_draws import compiled_states
from nnmm_jax.inference.variational_fit import compiled_steps, fit_quickly, fit_variational

DRAWS = 40_000
LIMIT = 4.5  # of a z-score: a false alarm in 150,000


@pytest.fixture
def factors():
    """Factors of four effects with a spike and two slabs, whose noise is correlated."""
    rng = np.random.default_rng(3)
    vectors = np.linalg.qr(rng.normal(size=(4, 4)))[0][:2]
    phi = rng.dirichlet((2, 2, 2), size=4).T[:, None]
    prior = Prior(
        jnp.log(jnp.array([[0.5, 0.3, 0.2]])),
        jnp.array([0.4, 0.4, 1.5])[:, None, None] * jnp.ones((3, 1, 4)),
        jnp.array([0.0, 1.0, 1.0])[:, None, None],
    )
    sd = rng.uniform(0.2, 1.0, (3, 1, 4))
    mean = rng.normal(size=(3, 1, 4))
    kept = jnp.array([[0.1, 0.6]])
    return _Set(jnp.log(phi), jnp.asarray(mean), jnp.asarray(sd), kept, jnp.asarray(vectors)), prior


def real_draws(factors, rng):
    """Components, slabs and effects drawn in NumPy, with the log of factors over prior."""
    one, prior = factors
    phi, mean, sd = np.exp(one.log_phi)[:, 0], np.asarray(one.mean)[:, 0], np.asarray(one.sd)[:, 0]
    vectors = np.asarray(one.vectors)
    covariance = np.eye(4) - vectors.T * (1 - np.asarray(one.kept)[0]) @ vectors
    e = rng.multivariate_normal(np.zeros(4), covariance, DRAWS)
    component = np.stack([rng.choice(3, DRAWS, p=phi[:, j]) for j in range(4)], axis=1)
    at = component, np.arange(4)
    slab = mean[at] + sd[at] * e
    log_q = np.log(phi[at]).sum(1) - np.log(sd[at]).sum(1)
    log_q += stats.multivariate_normal(np.zeros(4), covariance).logpdf(e)
    log_p = np.asarray(prior.log_weights)[0][component].sum(1)
    variance = np.asarray(prior.variances)[:, 0][at]
    log_p += stats.norm(0, np.sqrt(variance)).logpdf(slab).sum(1)
    return np.where(component > 0, slab, 0.0), log_q - log_p


def scores(draws, expected):
    """How many standard errors means of draws are from what is expected."""
    error = draws.std(axis=0) / np.sqrt(len(draws))
    return np.abs((draws.mean(axis=0) - expected) / error)


@pytest.mark.usefixtures("double")
def test_divergence_is_that_of_real_discrete_draws(factors):
    _, log_ratio = real_draws(factors, np.random.default_rng(1))
    by_effect, whole = factors[0].divergence(factors[1])
    assert scores(log_ratio, float(by_effect.sum() + whole)) < LIMIT


@pytest.mark.usefixtures("double")
def test_noise_has_the_moments_of_real_discrete_draws(factors):
    effects, _ = real_draws(factors, np.random.default_rng(2))
    noise = random.normal(random.key(1), (DRAWS, 2, 1, 4))
    one, prior = factors
    normal = np.asarray(jax.vmap(lambda each: one.moment_matched(prior, each))(noise))[:, 0]
    both = np.concatenate([effects, normal])
    sign = np.repeat([1.0, -1.0], DRAWS)[:, None]
    products = (both[:, :, None] * both[:, None, :]).reshape(len(both), -1)
    for values in (both, products):
        first, second = values[:DRAWS], values[DRAWS:]
        error = np.sqrt((first.var(axis=0) + second.var(axis=0)) / DRAWS)
        assert np.all(np.abs((sign * values).sum(axis=0) / DRAWS) < LIMIT * error)


@pytest.mark.usefixtures("double")
def test_bound_is_the_mean_log_ratio_of_draws(dataset):
    """Of a linear network with every kind of hole, effects of markers in two components."""
    network = Network(fixed_omics="~ sex", fixed_trait="~ sex", node_prior="BayesA")
    prepared = prepare(dataset(), network)
    family, inputs, (start, *_) = begin(random.key(1), prepared.data, prepared.activation)
    rng = np.random.default_rng(4)
    factors = jax.tree.map(lambda leaf: leaf + 0.3 * rng.normal(size=leaf.shape), start)

    @jax.jit
    def both(key):
        bound = family.bound(factors, noise_like(key, factors), inputs)
        return bound, family.draw(key, factors, inputs).log_ratio

    bounds, ratios = map(np.asarray, jax.lax.map(both, random.split(random.key(2), 4000)))
    error = np.sqrt((bounds.var() + ratios.var()) / len(bounds))
    assert abs(bounds.mean() - ratios.mean()) < LIMIT * error
    assert error < 1.0  # nats


@pytest.fixture
def direct():
    """Ridge regression of a trait, variances known: (data, network, genotypes, y, variances)."""
    rng = np.random.default_rng(5)
    n, p, effect, residual = 40, 25, 0.02, 0.5
    ids = pd.Index([f"id{i}" for i in range(n)], name="id")
    counts = rng.integers(0, 3, (n, p)).astype(float)
    genotypes = pd.DataFrame(counts, index=ids, columns=[f"s{j}" for j in range(p)])
    centred = counts - counts.mean(axis=0)
    y = centred @ rng.normal(0, np.sqrt(effect), p) + rng.normal(0, np.sqrt(residual), n) + 3
    data = read_dataset(genotypes, None, pd.DataFrame({"y": y}, index=ids), "y")
    network = Network(
        skip_prior=RRBLUP(variance=effect), residual_trait=Residual(variance=residual)
    )
    return data, network, centred, y, (effect, residual)


def test_optimum_is_the_ridge_solution(direct):
    data, network, centred, y, (effect, residual) = direct
    prepared = prepare(data, network)
    fitted = fit_variational(prepared.data, prepared.activation, seed=1)
    assert fitted.converged
    (name,) = fitted.factors.sets
    one, term = fitted.factors.sets[name], prepared.data.trait.terms[0]
    root = fitted.inputs.scales[name] * jnp.sqrt(term.spectrum.values)
    unit = prepared.scaling.trait_sd
    mean = np.asarray((root * one.mean)[0] @ term.spectrum.vectors)[0] * unit
    kernel = centred @ centred.T * effect
    inverse = np.linalg.inv(kernel + residual * np.eye(len(y)))
    inverse -= np.outer(inverse.sum(1), inverse.sum(1)) / inverse.sum()  # flat intercept
    values = kernel @ inverse @ y
    covariance = kernel - kernel @ inverse @ kernel
    assert np.abs(mean - values).max() < 0.01 * values.std()
    sd = np.asarray((root * jnp.exp(one.log_sd))[0, 0])[:, None] * np.asarray(term.spectrum.vectors)
    variances = (sd**2).sum(axis=0) * unit**2
    np.testing.assert_allclose(variances, np.diag(covariance), rtol=0.05)


def test_a_quick_fit_is_near_the_ridge_solution(direct):
    data, network, centred, y, (effect, residual) = direct
    prepared = prepare(data, network)
    fitted = fit_quickly(prepared.data, prepared.activation, seed=1)
    states = compiled_states(fitted.family)(
        random.split(random.key(2), 400), fitted.factors, fitted.inputs
    )
    kernel = centred @ centred.T * effect
    inverse = np.linalg.inv(kernel + residual * np.eye(len(y)))
    inverse -= np.outer(inverse.sum(1), inverse.sum(1)) / inverse.sum()  # flat intercept
    values = kernel @ inverse @ y
    found = np.asarray(states.trait.term_values[0]).mean(axis=0)[0] * prepared.scaling.trait_sd
    assert np.corrcoef(found, values)[0, 1] > 0.99
    assert abs(np.polyfit(values, found, 1)[0] - 1) < 0.1


def test_a_quick_fit_has_independent_factors(dataset):
    prepared = prepare(dataset(), Network(marker_prior="BayesC"))
    slow = begin(random.key(1), prepared.data, prepared.activation)
    quick = begin(random.key(1), prepared.data, prepared.activation, independent=True)
    assert all(one.shape[0] > 0 for one in slow.inputs.vectors.values())
    assert all(one.shape[0] == 0 for one in quick.inputs.vectors.values())


def test_fits_of_equal_families_share_their_programs(dataset):
    """Of other phenotypes, as in cross-validation; not where other cells are missing."""
    families = []
    for change in ("none", "trait", "omics"):
        prepared = prepare(dataset(), Network())
        data = prepared.data
        if change == "trait":
            data = dataclasses.replace(data, y=data.y + 1)
        if change == "omics":
            data = dataclasses.replace(data, observed=jnp.zeros_like(data.observed))
        families.append(Family.of(data, prepared.activation))
    first, same, other = (compiled_steps(one) for one in families)
    assert first is same
    assert first is not other
    assert np.array_equal(families[0].observed.values, prepared.data.observed)


def test_everything_a_mixed_model_can_ask_for(dataset):
    """Random terms, weights, repeated records, a user's relationships: draws are whole states."""
    network = Network(
        fixed_trait="~ sex",
        random_trait=(Pedigree(), Relationship("K")),
        skip_prior="BayesR",
        marker_prior="BayesB",
        node_prior="BayesL",
        activation="tanh",
        latent=1,
    )
    prepared = prepare(dataset(rich=True), network)
    family, inputs, (_, start) = begin(random.key(1), prepared.data, prepared.activation)
    drawn = jax.jit(family.draw)(random.key(3), start, inputs)
    assert np.isfinite(drawn.log_ratio)
    assert int(count_non_finite(drawn.state)) == 0


def test_fit__raises_on_a_bound_that_is_not_finite(direct, monkeypatch):
    data, network, *_ = direct
    prepared = prepare(data, network)
    monkeypatch.setattr(variational_fit, "WINDOW", 4)
    monkeypatch.setattr(variational_fit, "RATE", 1e30)
    with pytest.raises(InputError, match=r"^svi: expected a finite lower bound.* at step [234]"):
        fit_variational(prepared.data, prepared.activation, seed=1)
