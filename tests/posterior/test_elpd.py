import warnings

import arviz
import numpy as np
import pytest
import xarray as xr
from scipy.stats import norm

from nnmm_jax.errors import InputError
from nnmm_jax.posterior import arviz_compat
from nnmm_jax.posterior.elpd import loo, waic

FIRST = arviz.__version__.startswith("0.")


def group(values, given=0):
    n_chains, n_draws, n = values.shape
    coords = {
        "chain": np.arange(n_chains),
        "draw": np.arange(n_draws),
        "individual": [f"i{k}" for k in range(n)],
    }
    return xr.Dataset(
        {"phenotype": (tuple(coords), values)}, coords, {"given_sampled_nodes": given}
    )


@pytest.fixture(scope="module")
def normal_mean():
    """y_i ~ N(mu, 1), mu flat: draws of mu, and the exact leave-one-out densities."""
    random = np.random.default_rng(2)
    y = random.normal(3.0, 1.0, 40)
    mu = y.mean() + random.normal(size=(4, 1000, 1)) / np.sqrt(40)
    others = (y.sum() - y) / 39
    exact = norm.logpdf(y, others, np.sqrt(1 + 1 / 39))
    return group(norm.logpdf(y, mu, 1.0)), exact


def test_loo_is_the_exact_one_of_a_normal_mean(normal_mean):
    likelihood, exact = normal_mean
    found = loo(likelihood)
    # 4,000 independent draws of weights of variance about 1/40 each: errors of a few thousandths.
    np.testing.assert_allclose(found.pointwise["elpd"], exact, atol=0.01)
    assert found.elpd == pytest.approx(found.pointwise["elpd"].sum())
    assert found.pointwise["id"].tolist()[:2] == ["i0", "i1"]
    assert found.bad == 0
    assert 0.5 < found.p < 1.6


def test_waic_comes_near_and_is_that_of_arviz(normal_mean):
    likelihood, exact = normal_mean
    found = waic(likelihood)
    assert found.elpd == pytest.approx(exact.sum(), abs=0.2)
    assert found.method == "WAIC"
    if FIRST:
        theirs = arviz.waic(arviz.InferenceData(log_likelihood=likelihood))
        assert found.elpd == pytest.approx(theirs.elpd_waic, rel=1e-4)
        assert found.se == pytest.approx(theirs.se, rel=1e-4)
        assert found.p == pytest.approx(theirs.p_waic, rel=1e-2)  # which divides by n


def test_high_pareto_k_are_counted_and_said():
    random = np.random.default_rng(4)
    values = random.normal(-1.0, 0.1, (4, 250, 20))
    values[..., 3] = -np.abs(random.standard_cauchy((4, 250)))
    found = loo(group(values, given=7))
    assert found.bad == 1
    k = found.pointwise["pareto_k"]  # ArviZ 1 leaves such a one undefined
    assert np.flatnonzero(~(k <= 0.7)).tolist() == [3]
    text = str(found)
    assert "Pareto k > 0.7: 1 of 20 individuals" in text
    assert "missing nodes of 7 individuals are given" in text


def test_single_precision_changes_little(normal_mean):
    likelihood, _ = normal_mean
    found = loo(likelihood.astype(np.float32))
    assert found.elpd == pytest.approx(loo(likelihood).elpd, abs=1e-3)


def test_loo__raises_without_a_log_likelihood():
    with pytest.raises(InputError, match="has no log likelihood"):
        loo(xr.Dataset())


def test_loo__raises_on_values_that_are_not_finite(normal_mean):
    values = normal_mean[0]["phenotype"].values.copy()
    values[0, 3, 5] = np.nan
    with pytest.raises(InputError, match="first of 'i5'"):
        loo(group(values))


def test_comparison_puts_the_best_first(normal_mean):
    likelihood, _ = normal_mean
    random = np.random.default_rng(1)
    values = likelihood["phenotype"].values
    # The same difference for all would have no standard error.
    worse = group(values - random.uniform(0.2, 0.8, values.shape[-1]))
    both = {"worse": loo(worse), "better": loo(likelihood)}
    table = arviz_compat.compare({name: one.arviz for name, one in both.items()})
    assert table.index.tolist() == ["better", "worse"]
    difference = both["worse"].pointwise["elpd"] - both["better"].pointwise["elpd"]
    assert table.loc["worse", "elpd_diff"] == pytest.approx(difference.sum(), abs=1e-3)
    spread = np.sqrt(len(difference)) * difference.std(ddof=0)
    assert table.loc["worse", "se_diff"] == pytest.approx(spread, rel=0.02)
    assert table.loc["better", "elpd_diff"] == 0.0
    assert table["weight"].sum() == pytest.approx(1.0)


def test_what_arviz_returned_can_be_plotted(normal_mean):
    from matplotlib import pyplot

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        arviz.plot_khat(loo(normal_mean[0]).arviz)
    pyplot.close("all")


def test_results_without_a_log_likelihood_still_load(make_result, tmp_path):
    import dataclasses

    from nnmm_jax.posterior.result import load

    old = dataclasses.replace(make_result(individuals=8), log_likelihood=xr.Dataset())
    old.save(tmp_path)
    again = load(tmp_path)
    assert "log_likelihood" not in again.groups
    with pytest.raises(InputError, match="fit again"):
        again.waic()
    kept = make_result(individuals=8)
    kept.save(tmp_path, overwrite=True)
    assert load(tmp_path).loo().elpd == pytest.approx(kept.loo().elpd)
    assert "log_likelihood" in load(tmp_path).groups
