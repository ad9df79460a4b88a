"""Long runs against posteriors that other means give: quadrature, enumeration, dense algebra.

Every comparison is a z-score on the Monte Carlo error from ArviZ's ESS. With the limit of 4.5 and
fewer than 300 scores in this file, a right sampler fails with probability below 0.002.
"""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr
from jax import random
from scipy import stats
from scipy.special import logsumexp

from nnmm_jax import RRBLUP, BayesC
from nnmm_jax.inference import noise
from nnmm_jax.inference.blocks import (
    layer,
    missing_hmc,
    missing_linear,
    missing_prior,
    variances,
)
from nnmm_jax.inference.noise import GaussianSystem, draw_gaussian
from nnmm_jax.inference.run import RunSettings, run_chains
from nnmm_jax.inference.sweep import sweep
from nnmm_jax.posterior.arviz_compat import ess_mean

LIMIT = 4.5
pytestmark = pytest.mark.usefixtures("double")


def z_scores(draws, expected):
    """Scores of posterior means; draws (chain, draw, ...), expected (...)."""
    draws = np.asarray(draws)
    dims = ["chain", "draw", *(f"d{k}" for k in range(draws.ndim - 2))]
    ess = ess_mean(xr.DataArray(draws, dims=dims)).values
    error = draws.std(axis=(0, 1)) / np.sqrt(ess)
    return (draws.mean(axis=(0, 1)) - expected) / error


def assert_agree(draws, expected):
    scores = z_scores(draws, expected)
    assert np.all(np.isfinite(scores))
    assert np.abs(scores).max() < LIMIT, scores


def log_inverse_chi2(variance, df, scale):
    return stats.invgamma.logpdf(variance, df / 2, scale=df * scale / 2)


def grid_posterior(design, covariates, response, effects_prior, residual_prior, targets):
    """Posterior means of a ridge regression with both variances unknown, by quadrature.

    Written from the dense marginal likelihood, with nothing of the package: response ~ N(X b +
    C'a, v_e), b flat, a ~ N(0, v_a). Returns means of v_a, v_e and of ``targets @ a``.
    """
    n = len(response)
    log_a, log_e = np.meshgrid(np.linspace(-9, 3, 90), np.linspace(-5, 3, 90), indexing="ij")
    weights, means = [], []
    for va, ve in zip(np.exp(log_a).ravel(), np.exp(log_e).ravel(), strict=True):
        cov = ve * np.eye(n) + va * covariates.T @ covariates
        inverse = np.linalg.inv(cov)
        information = design.T @ inverse @ design
        fixed = np.linalg.solve(information, design.T @ inverse @ response)
        left = response - design @ fixed
        log = -0.5 * (
            np.linalg.slogdet(cov)[1] + np.linalg.slogdet(information)[1] + left @ inverse @ left
        )
        log += log_inverse_chi2(va, *effects_prior) + log_inverse_chi2(ve, *residual_prior)
        weights.append(log + np.log(va) + np.log(ve))  # the grid is in log variances
        means.append([va, ve, *(targets @ (va * covariates @ inverse @ left))])
    weights = np.exp(np.array(weights) - logsumexp(weights))
    edge = weights.reshape(log_a.shape)
    assert max(edge[0].sum(), edge[-1].sum(), edge[:, 0].sum(), edge[:, -1].sum()) < 1e-4
    return weights @ np.array(means)


def test_all_observed_linear_network_equals_two_separate_regressions(toy):
    """Each layer against quadrature of its own regression, written without the package."""
    case = toy(
        sizes={"n": 30, "p": 12, "omics": 2, "holes": False},
        marker_prior=RRBLUP(),
        node_prior=RRBLUP(),
    )
    data = case.data
    run = RunSettings(warmup=200, samples=3000, chains=4, seed=5, progress=False)
    draws = run_chains(data, case.settings.activation, run).draws
    term = data.omics[0].terms[0]
    markers = np.asarray(term.markers.predict(jnp.eye(term.markers.n_padded)))[:12]
    hyper, residual = term.hyper, data.omics[0].residual_hyper
    for node in range(2):
        prior = (float(hyper.df[node]), float(hyper.scale[node]))
        noise = (float(residual.df[node]), float(residual.scale[node]))
        expected = grid_posterior(
            np.asarray(data.omics[0].design.matrix).T,
            markers,
            np.asarray(data.z_start[node]),
            prior,
            noise,
            np.zeros((1, 12)),
        )
        assert_agree(draws["var_marker_effect"][..., node], expected[0])
        assert_agree(draws["var_residual_node"][..., node], expected[1])
    expected = grid_posterior(
        np.asarray(data.trait.design.matrix).T,
        np.asarray(data.z_start),
        np.asarray(data.y),
        (float(data.node_hyper[0].df[0]), float(data.node_hyper[0].scale[0])),
        (float(data.trait.residual_hyper.df[0]), float(data.trait.residual_hyper.scale[0])),
        np.eye(2),
    )
    assert_agree(draws["var_residual_trait"], expected[1])
    assert_agree(draws["node_effect"], expected[2:])


def test_layers_of_complete_data_do_not_talk(toy):
    """With nothing missing, other phenotypes change no draw of layer 1."""
    case = toy(sizes={"holes": False})
    run = RunSettings(warmup=5, samples=20, chains=2, seed=5, progress=False)
    first = run_chains(case.data, case.settings.activation, run).draws
    other = dataclasses.replace(case.data, y=-2.0 * case.data.y[::-1])
    second = run_chains(other, case.settings.activation, run).draws
    for name in ("var_residual_node", "var_genetic_node", "fixed_omics", "h2_node"):
        np.testing.assert_array_equal(first[name], second[name])
    assert not np.allclose(first["node_effect"], second["node_effect"])


def test_inclusion_by_enumeration(toy, pinned):
    """BayesC with known variances and pi: all 2**p models of one node, fixed effects flat."""
    p, var_a, var_e = 6, 0.15, 0.6
    case = toy(sizes={"n": 20, "p": p, "omics": 1, "holes": False}, marker_prior=BayesC(pi=0.6))
    data = case.data
    omics = pinned_omics(data.omics[0], pinned, var_a)
    omics = dataclasses.replace(omics, residual_hyper=pinned(omics.residual_hyper, var_e))
    data = dataclasses.replace(data, omics=(omics,))
    known = case.state.omics[0]._replace(variance=jnp.full(1, var_e))
    kernel_state = case.state._replace(omics=(known,))

    def step(state, key):
        state, _ = sweep(key, state, data, jnp.asarray(0), case.settings)
        return state, state.omics[0].terms[0].coef[0, :p]

    keys = random.split(random.key(1), 4 * 6000).reshape(4, 6000)
    chains = jax.jit(jax.vmap(lambda one: jax.lax.scan(step, kernel_state, one)[1]))(keys)
    coef = np.asarray(chains)[:, 100:]

    matrix = data.omics[0].terms[0].markers
    markers = np.asarray(matrix.predict(jnp.eye(matrix.n_padded)))[:p]
    design, z = np.asarray(data.omics[0].design.matrix).T, np.asarray(data.z_start[0])
    logs, included, means = [], [], []
    for model in itertools.product([0, 1], repeat=p):
        use = np.array(model, bool)
        cov = var_e * np.eye(20) + var_a * markers[use].T @ markers[use]
        inverse = np.linalg.inv(cov)
        information = design.T @ inverse @ design
        left = z - design @ np.linalg.solve(information, design.T @ inverse @ z)
        logs.append(
            -0.5 * np.linalg.slogdet(cov)[1]
            - 0.5 * np.linalg.slogdet(information)[1]
            - 0.5 * left @ inverse @ left
            + use.sum() * np.log(0.4)
            + (~use).sum() * np.log(0.6)
        )
        included.append(use)
        means.append(use * (var_a * markers @ inverse @ left))
    weights = np.exp(np.array(logs) - logsumexp(logs))
    pip = weights @ np.array(included)
    assert 0.1 < pip.min()
    assert pip.max() < 0.999
    assert_agree((coef != 0).astype(float), pip)
    assert_agree(coef, weights @ np.array(means))


def pinned_omics(arrays, pinned, variance):
    """Layer whose one marker term has a known variance."""
    term = arrays.terms[0]
    return dataclasses.replace(
        arrays, terms=(dataclasses.replace(term, hyper=pinned(term.hyper, variance)),)
    )


def linear_toy(toy, pinned):
    """A network with all variances and node effects known: everything left is Gaussian.

    Node effects are large, so that the phenotype says much about missing omics.
    """
    case = toy(sizes={"n": 12, "p": 5, "omics": 2}, marker_prior=RRBLUP())
    data = case.data
    omics = pinned_omics(data.omics[0], pinned, 0.1)
    start = case.state.omics[0]
    state = case.state._replace(
        omics=(
            start._replace(
                variance=jnp.asarray([0.5, 0.8]),
                terms=(start.terms[0]._replace(level=jnp.full(2, 0.1)),),
            ),
        ),
        nodes=(case.state.nodes[0]._replace(coef=jnp.asarray([[1.2, -0.9]])),),
        trait=case.state.trait._replace(variance=jnp.asarray([0.3])),
    )
    return dataclasses.replace(data, omics=(omics,)), state


def test_missing_omics_posterior_equals_the_closed_form(toy, pinned):
    """Missing cells, marker effects and fixed effects of layer 1, given a known layer 2."""
    data, state = linear_toy(toy, pinned)

    def step(state, key):
        key_z, key_m = random.split(key)
        state, _ = missing_linear.kernel(key_z, state, data)
        omics, _ = layer.kernel(key_m, state.omics[0], data.omics[0])
        state = state._replace(omics=(omics,))
        return state, state.z

    keys = random.split(random.key(3), 4 * 8000).reshape(4, 8000)
    z = np.asarray(jax.jit(jax.vmap(lambda k: jax.lax.scan(step, state, k)[1]))(keys))[:, 200:]

    # Dense: vec(z) is Gaussian by layer 1 (flat effects as a large variance: 1e4 is exact to five
    # digits, 1e6 leaves one after cancellation), then conditioned on the observed cells and on the
    # phenotypes, which are linear in z.
    matrix = data.omics[0].terms[0].markers
    markers = np.asarray(matrix.predict(jnp.eye(matrix.n_padded)))[:5]
    design = np.asarray(data.omics[0].design.matrix)
    n = markers.shape[1]
    blocks = [
        0.1 * markers.T @ markers + 1e4 * design.T @ design + v * np.eye(n) for v in (0.5, 0.8)
    ]
    prior = np.zeros((2 * n, 2 * n))
    prior[:n, :n], prior[n:, n:] = blocks
    observed = np.asarray(data.observed).ravel()
    rows, w = np.asarray(data.y_rows), np.asarray(state.node_coef[0])
    through = np.zeros((len(rows), 2 * n))
    through[np.arange(len(rows)), rows], through[np.arange(len(rows)), n + rows] = w
    seen = np.r_[np.eye(2 * n)[observed], through]
    noise = np.r_[np.zeros(observed.sum()), np.full(len(rows), 0.3)]
    left = np.asarray(missing_linear.phenotype_information(state, data).left)[rows]
    values = np.r_[np.asarray(data.z_start).ravel()[observed], left]
    gain = prior @ seen.T @ np.linalg.inv(seen @ prior @ seen.T + np.diag(noise))
    mean = (gain @ values).reshape(2, n)
    variance = np.diag(prior - gain @ seen @ prior).reshape(2, n)
    missing = ~np.asarray(data.observed)
    assert missing.sum() >= 6
    assert_agree(z[..., missing], mean[missing])
    assert_agree((z[..., missing] - mean[missing]) ** 2, variance[missing])


def test_matheron_draw_has_the_dense_mean_and_covariance(toy, pinned):
    data, state = linear_toy(toy, pinned)
    keys = random.split(random.key(0), (1, 40_000))
    z = jax.jit(jax.vmap(jax.vmap(lambda k: missing_linear.kernel(k, state, data)[0].z)))(keys)
    everyone, w = jnp.arange(state.z.shape[1]), state.node_coef[0]
    mean, var_e = missing_linear.node_layer(state, data, everyone)
    left, var_y, seen = missing_linear.phenotype_information(state, data)
    both_missing = [i for i in np.asarray(data.informed_rows) if not data.observed[:, i].any()]
    assert both_missing
    for i in np.asarray(data.incomplete_rows):
        missing = ~data.observed[:, i]
        known = left[i] - jnp.where(missing, 0.0, w) @ state.z[:, i]
        effects = w if seen[i] else jnp.zeros_like(w)
        exact = missing_linear.individual_conditional(
            mean[:, i], var_e[:, i], missing, effects, known, var_y[i]
        )
        drawn = np.asarray(z[..., missing, i])
        centred = drawn - np.asarray(exact.mean)
        assert_agree(drawn, np.asarray(exact.mean))
        products = centred[..., :, None] * centred[..., None, :]
        assert_agree(products, np.asarray(exact.covariance_matrix))


@pytest.mark.parametrize("activation", ["tanh", "sigmoid", "relu", "leakyrelu"])
def test_hmc_samples_the_conditional(toy, activation):
    """Missing nodes of a nonlinear network against two-dimensional quadrature, strong signal."""
    case = toy(sizes={"n": 8, "p": 5, "omics": 2}, activation=activation)
    data, activate = case.data, case.settings.activation
    state = case.state._replace(
        nodes=(case.state.nodes[0]._replace(coef=jnp.asarray([[2.0, -1.5]])),),
        omics=(case.state.omics[0]._replace(variance=jnp.asarray([0.5, 1.5])),),
        trait=case.state.trait._replace(variance=jnp.asarray([0.2])),
    )

    def run(chain):
        def step(state, t):
            warmup = jnp.where(t < 400, t + 1, 0)
            key = random.fold_in(chain, t)
            state, info = missing_hmc.kernel(key, state, data, activate, warmup)
            state, _ = missing_prior.kernel(random.fold_in(key, 1), state, data)
            return state, (state.z, info["accept_prob"])

        return jax.lax.scan(step, state, jnp.arange(10_400))[1]

    # Several chains: one alone may misjudge how rarely it passes the kink of relu.
    z, accept = jax.jit(jax.vmap(run))(random.split(random.key(9), 6))
    z = np.asarray(z)[:, 400:]
    assert 0.6 < float(accept[:, 400:].mean()) < 1.0

    everyone, w = jnp.arange(state.z.shape[1]), np.asarray(state.node_coef[0])
    mean, variance = map(np.asarray, missing_linear.node_layer(state, data, everyone))
    sd = np.sqrt(variance)
    left, _, seen = map(np.asarray, missing_linear.phenotype_information(state, data))
    for i in np.asarray(data.incomplete_rows):
        missing = ~np.asarray(data.observed[:, i])
        axes = [
            np.linspace(mean[k, i] - 7 * sd[k, i], mean[k, i] + 7 * sd[k, i], 401)
            if missing[k]
            else np.asarray(data.z_start[k, i])[None]
            for k in range(2)
        ]
        grid = np.stack(np.meshgrid(*axes, indexing="ij"))
        log = np.zeros(grid.shape[1:])
        for k in np.flatnonzero(missing):
            log += stats.norm.logpdf(grid[k], mean[k, i], sd[k, i])
        if seen[i]:
            active = np.asarray(activate.function(jnp.asarray(grid), {}))
            log += stats.norm.logpdf(left[i], np.tensordot(w, active, 1), np.sqrt(0.2))
        weights = np.exp(log - logsumexp(log))
        for k in np.flatnonzero(missing):
            expected = (weights * grid[k]).sum()
            assert_agree(z[..., k, i], expected)
            assert_agree(z[..., k, i] ** 2, (weights * grid[k] ** 2).sum())


def test_one_gamma_call_draws_every_variance_and_pi(toy):
    case = toy(marker_prior="BayesB", node_prior="BayesC", skip_prior="BayesC")
    wanted = variances.conditionals(case.state, case.data)
    keys = random.split(random.key(4), 5000)
    drawn = jax.jit(jax.vmap(lambda key: variances.draw(key, wanted)))(keys)
    assert set(drawn) == set(wanted)
    for name, conditional in wanted.items():
        one = np.asarray(drawn[name].reshape(5000, -1)[:, 0])
        shapes = np.ravel(conditional.concentration)
        if name.startswith("weights"):
            law = stats.beta(shapes[0], shapes[1])
        elif name == "level_marker":
            law = stats.gamma(shapes[0], scale=1 / np.ravel(conditional.rate)[0])
        else:
            law = stats.invgamma(shapes[0], scale=np.ravel(conditional.rate)[0])
        assert stats.kstest(one, law.cdf).pvalue > 1e-5, name


def test_gaussian_draws_have_the_mean_and_covariance_of_their_system():
    rng = np.random.default_rng(0)
    root = rng.normal(size=(2, 3, 3))
    system = GaussianSystem(
        jnp.asarray(root @ np.swapaxes(root, 1, 2) + np.eye(3)),
        jnp.asarray(rng.normal(size=(2, 3))),
    )
    keys = random.split(random.key(1), (1, 40_000))
    drawn = np.asarray(
        jax.jit(jax.vmap(jax.vmap(lambda k: draw_gaussian(k, system, system.rhs))))(keys)
    )
    exact = system.conditional
    np.testing.assert_allclose(
        exact.mean, np.linalg.solve(system.precision, system.rhs[..., None])[..., 0]
    )
    centred = drawn - np.asarray(exact.mean)
    assert_agree(drawn, np.asarray(exact.mean))
    assert_agree(centred[..., :, None] * centred[..., None, :], np.linalg.inv(system.precision))


@pytest.mark.parametrize("shape", [0.2, 0.9, 1.0, 1.6, 7.0, 900.0])
def test_gamma_variates(shape):
    drawn = np.asarray(noise.gamma(random.key(3), jnp.full((50, 400), shape)))
    assert stats.kstest(drawn.ravel(), stats.gamma(shape).cdf).pvalue > 1e-4


def test_no_gamma_variate_is_lost():
    """Single precision, one key each: a proposal accepted here and rejected there left a NaN."""
    shapes = jnp.asarray([302.0, 650.0, 640.0, 3.0], jnp.float32)
    draw = jax.jit(jax.vmap(lambda key: noise.gamma(key, shapes)))
    for seed in range(4):
        assert np.isfinite(draw(random.split(random.key(seed), 250_000))).all()


def test_gamma_variates_of_wrong_shapes_are_nan():
    drawn = noise.gamma(random.key(3), jnp.asarray([1.0, 0.0, -1.0, jnp.nan, 2.0]))
    np.testing.assert_array_equal(np.isnan(drawn), [False, True, True, True, False])


@pytest.mark.parametrize(("mean", "shape"), [(0.5, 2.0), (3.0, 0.4), (1e4, 0.3), (1e9, 5.0)])
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_inverse_gaussian_variates(mean, shape, dtype):
    means, shapes = jnp.full(20_000, mean, dtype), jnp.full(20_000, shape, dtype)
    drawn = np.asarray(noise.inverse_gaussian(random.key(5), means, shapes), float)
    law = stats.invgauss(mean / shape, scale=shape)
    if mean / shape > 1e6:  # its limit: shape / chi2(1)
        law = stats.invgamma(0.5, scale=shape / 2)
    assert stats.kstest(drawn, law.cdf).pvalue > 1e-4
