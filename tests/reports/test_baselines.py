import dataclasses

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.stats import multivariate_normal

import nnmm_jax
from nnmm_jax.errors import InputError
from nnmm_jax.reports.baselines import (
    BASELINES,
    Baseline,
    fit_kernels,
    marker_kernel,
    omics_kernel,
    restricted_log_likelihood,
)


def random_kernel(rng, n, columns):
    loadings = rng.normal(size=(n, columns))
    product = loadings @ loadings.T
    return product / np.mean(np.diagonal(product))


@pytest.fixture
def trial():
    """Phenotypes from two kernels and a covariate, the last ten of them unknown."""
    rng = np.random.default_rng(5)
    n = 90
    kernels = [random_kernel(rng, n, 12), random_kernel(rng, n, 25)]
    design = np.column_stack([np.ones(n), rng.normal(size=n)])
    covariance = 2.0 * kernels[0] + 1.0 * kernels[1] + 1.5 * np.eye(n)
    y = design @ [10.0, 2.0] + np.linalg.cholesky(covariance) @ rng.normal(size=n)
    y[-10:] = np.nan
    return y, kernels, design


def dense_restricted(y, x, covariance):
    """Log density of error contrasts, up to what does not depend on the covariance."""
    inverse = np.linalg.inv(covariance)
    information = x.T @ inverse @ x
    left = y - x @ np.linalg.solve(information, x.T @ inverse @ y)
    logs = np.linalg.slogdet(covariance)[1] + np.linalg.slogdet(information)[1]
    n, q = x.shape
    return -0.5 * ((n - q) * np.log(2 * np.pi) + logs + left @ inverse @ left)


def test_restricted_likelihood_equals_error_contrasts(trial):
    y, (kernel, _), x = trial
    y, x, kernel = y[:80], x[:80], kernel[:80, :80]
    # Contrasts whose columns are an orthonormal basis of what the design leaves out: their
    # density is the restricted likelihood times the square root of det(X'X).
    contrasts = np.linalg.svd(x)[0][:, x.shape[1] :]
    for h2 in (0.1, 0.6, 0.95):
        shape = contrasts.T @ (h2 * kernel + (1 - h2) * np.eye(80)) @ contrasts
        values = contrasts.T @ y
        total = values @ np.linalg.solve(shape, values) / len(values)
        density = multivariate_normal(cov=total * shape).logpdf(values)
        expected = density - 0.5 * np.linalg.slogdet(x.T @ x)[1]
        found = restricted_log_likelihood(y, x, kernel, h2)
        np.testing.assert_allclose(found, expected, rtol=1e-9)


@pytest.mark.parametrize("n_kernels", [1, 2])
def test_variances_equal_a_dense_maximisation(trial, n_kernels):
    y, kernels, x = trial
    known = np.isfinite(y)
    parts = [kernel[np.ix_(known, known)] for kernel in kernels[:n_kernels]]
    parts.append(np.eye(known.sum()))

    def loss(log_variances):
        covariance = sum(
            np.exp(value) * part for value, part in zip(log_variances, parts, strict=True)
        )
        return -dense_restricted(y[known], x[known], covariance)

    best = minimize(loss, np.zeros(len(parts)), method="Nelder-Mead", options={"xatol": 1e-6})
    found = fit_kernels(y, kernels[:n_kernels], x)
    np.testing.assert_allclose(found.log_likelihood, -best.fun, atol=1e-4)
    genetic = [weight * found.var_genetic for weight in found.weights]
    np.testing.assert_allclose([*genetic, found.var_residual], np.exp(best.x), rtol=0.02)
    np.testing.assert_allclose(found.h2, sum(genetic) / (sum(genetic) + found.var_residual))


def test_prediction_equals_mixed_model_equations(trial):
    """Henderson's equations with everybody in them, and the variance from their inverse."""
    y, (kernel, _), x = trial
    known, n = np.isfinite(y), len(y)
    found = fit_kernels(y, [kernel], x)
    ridge = found.var_residual * np.linalg.inv(found.var_genetic * kernel + 1e-9 * np.eye(n))
    seen = np.diag(known.astype(float))
    left = np.block([[x.T @ seen @ x, x.T @ seen], [seen @ x, seen + ridge]])
    right = np.nan_to_num(y)
    solution = np.linalg.solve(left, np.concatenate([x.T @ right, right]))
    everyone = np.hstack([x, np.eye(n)])
    np.testing.assert_allclose(found.mean, everyone @ solution, rtol=1e-5)
    inverse = found.var_residual * np.linalg.inv(left)
    error = np.sum(everyone @ inverse * everyone, axis=1) + found.var_residual
    np.testing.assert_allclose(found.variance[~known], error[~known], rtol=1e-5)


def test_gblup_equals_ridge_regression_on_markers():
    sklearn = pytest.importorskip("sklearn.linear_model")
    rng = np.random.default_rng(2)
    dosages = rng.integers(0, 3, (70, 40)).astype(np.int8)
    y = dosages @ rng.normal(size=40) + 3.0 * rng.normal(size=70)
    shown = np.where(np.arange(70) < 60, y, np.nan)
    found = fit_kernels(shown, [marker_kernel(dosages)])
    centred = dosages - dosages.mean(axis=0)
    scale = np.mean(np.sum(centred**2, axis=1))
    ridge = sklearn.Ridge(alpha=scale * found.var_residual / found.var_genetic)
    ridge.fit(centred[:60], y[:60])
    np.testing.assert_allclose(found.mean, ridge.predict(centred), rtol=1e-6)


def test_groups_that_do_not_differ_give_the_mean():
    """Closed form where kinship explains nothing: mean of n values, variance s² (1 + 1/n)."""
    group = np.repeat(np.arange(12), 5)
    y = np.random.default_rng(1).normal(size=60)
    y -= np.array([y[group == one].mean() for one in group])
    y = np.append(y, np.nan)
    kernel = np.eye(61)
    kernel[:60, :60] = group[:, None] == group
    found = fit_kernels(y, [kernel])
    assert found.h2 < 1e-3
    np.testing.assert_allclose(found.mean[60], 0.0, atol=1e-9)
    np.testing.assert_allclose(found.variance[60], np.nanvar(y, ddof=1) * 61 / 60, rtol=1e-3)


def test_two_kernels_find_the_one_that_matters():
    rng = np.random.default_rng(8)
    true, other = random_kernel(rng, 200, 5), random_kernel(rng, 200, 5)
    y = np.linalg.cholesky(3 * true + np.eye(200)) @ rng.normal(size=200)
    weight, rest = fit_kernels(y, [true, other]).weights
    assert weight > 0.9
    assert weight + rest == 1.0


def test_marker_kernel_imputes_by_the_mean():
    dosages = np.array([[0, 2], [1, -1], [2, 0], [1, 1]], dtype=np.int8)
    floats = np.where(dosages == -1, np.nan, dosages).astype(np.float32)
    filled = np.where(dosages == -1, 1.0, dosages) - 1.0
    expected = filled @ filled.T / np.mean(np.sum(filled**2, axis=1))
    np.testing.assert_allclose(marker_kernel(dosages), expected)
    np.testing.assert_allclose(marker_kernel(floats), expected)


def test_omics_kernel_does_not_depend_on_units_and_knows_who_has_none():
    rng = np.random.default_rng(3)
    omics = rng.normal(size=(20, 4))
    omics[2, 1] = np.nan
    omics[5] = np.nan
    kernel = omics_kernel(omics)
    np.testing.assert_allclose(kernel, omics_kernel(100.0 * omics + 7.0), atol=1e-12)
    np.testing.assert_array_equal(kernel[5], np.eye(20)[5])
    assert np.mean(np.diagonal(kernel)) == pytest.approx(1.0)


def test_baselines_fit_a_dataset():
    sizes = nnmm_jax.SimulationSettings(individuals=60, markers=80, omics=3)
    dataset = nnmm_jax.simulate(sizes, seed=1).dataset()
    for baseline in BASELINES.values():
        found = baseline.fit(dataset)
        assert found.mean.shape == (60,)
        assert np.isfinite(found.mean).all()
        assert (found.variance > found.var_residual).all()
        assert len(found.weights) == len(baseline.kernels)


def test_fit_kernels__raises_on_three_kernels():
    with pytest.raises(InputError, match="one or two kernels, found 3"):
        fit_kernels(np.ones(3), [np.eye(3)] * 3)


def test_fit_kernels__raises_on_too_few_phenotypes():
    with pytest.raises(InputError, match="more phenotypes than the 1 fixed effects, found 1"):
        fit_kernels(np.array([1.0, np.nan]), [np.eye(2)])


@pytest.mark.parametrize("kernels", [(), ("pedigree",), ("markers", "markers")])
def test_baseline__raises_on_unusable_kernels(kernels):
    with pytest.raises(InputError, match="kernels must be 'markers', 'omics' or both"):
        Baseline(kernels)


@pytest.fixture
def small():
    sizes = nnmm_jax.SimulationSettings(individuals=60, markers=80, omics=3)
    return nnmm_jax.simulate(sizes, seed=1).dataset()


def test_fit__raises_on_repeated_records(small):
    rows = np.append(small.record_rows, 59)
    repeated = dataclasses.replace(
        small, phenotype=np.append(small.phenotype, 1.0), record_rows=rows
    )
    with pytest.raises(InputError, match=r"repeated records .* 61 records of 60 individuals"):
        BASELINES["ridge on omics"].fit(repeated)


@pytest.mark.parametrize(
    ("kernel", "field"), [("markers", "genotypes"), ("omics", "omics")], ids=["markers", "omics"]
)
def test_fit__raises_on_data_without_the_kernel(small, kernel, field):
    empty = dataclasses.replace(small, **{field: np.empty((60, 0))})
    with pytest.raises(InputError, match=f"data without {kernel} are not supported"):
        BASELINES["ridge on both"].fit(empty)
