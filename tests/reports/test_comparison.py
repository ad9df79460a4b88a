import dataclasses

import numpy as np
import pandas as pd
import pytest

import nnmm_jax as nm
from nnmm_jax.errors import InputError
from nnmm_jax.reports.prediction_plots import comparison, pareto_k


@pytest.fixture(scope="module")
def results(make_result):
    good = make_result(individuals=60)
    bad = good.log_likelihood.copy()
    count = bad.sizes["individual"]
    lost = np.random.default_rng(1).uniform(0.5, 1.5, count)
    bad["phenotype"] = bad["phenotype"] - lost
    return {"worse": dataclasses.replace(good, log_likelihood=bad), "better": good}, lost.sum()


def changed(result, **variables):
    constant = result.constant_data.copy(deep=True)
    for name, change in variables.items():
        constant[name] = (constant[name].dims, change(constant[name].values.copy()))
    return dataclasses.replace(result, constant_data=constant)


def test_the_best_comes_first_with_its_difference(results):
    fits, lost = results
    found = nm.compare(fits)
    table = found.table.set_index("fit")
    assert table.index.tolist() == ["better", "worse"]
    assert table.loc["worse", "elpd_diff"] == pytest.approx(-lost, rel=1e-3)
    assert table.loc["better", "elpd_diff"] == 0.0
    assert table.loc["better", "elpd_loo"] == pytest.approx(found.loo["better"].elpd, rel=1e-4)
    assert table.loc["better", "h2"] == pytest.approx(
        float(fits["better"].posterior["h2_trait"].mean())
    )
    assert table["bad_k"].tolist() == [found.loo[name].bad for name in table.index]
    assert table["converged"].dtype == bool
    assert "better" in str(found)


def test_what_makes_differences_doubtful_is_said(results):
    fits, _ = results
    stuck = fits["better"].posterior.copy(deep=True)
    stuck["h2_trait"][0] += 0.5
    sampled = fits["better"].log_likelihood.copy()
    sampled.attrs = {"given_sampled_nodes": 9}
    sampled["phenotype"] = sampled["phenotype"].copy()
    sampled["phenotype"][:, :, 4] = -np.abs(
        np.random.default_rng(2).standard_cauchy(sampled["phenotype"].shape[:2])
    )
    doubtful = dataclasses.replace(fits["better"], posterior=stuck, log_likelihood=sampled)
    found = nm.compare({"a": fits["better"], "b": doubtful})
    count = len(found.loo["b"].pointwise)
    assert f"warning: b: {found.loo['b'].bad} of {count} Pareto k are above 0.7" in str(found)
    assert found.loo["b"].bad >= 1
    assert "warning: b: missing nodes of 9 individuals are given" in str(found)
    assert "warning: b: not converged: R-hat" in str(found)
    title = comparison(found).axes[0].get_title(loc="left")
    assert "hollow" in title
    figure = pareto_k(found.loo["b"])
    figure.canvas.draw()
    k = found.loo["b"].pointwise.set_index("id")["pareto_k"]
    bad = k.fillna(np.inf).idxmax()
    assert bad in {text.get_text() for text in figure.axes[0].texts}


def test_compare__raises_on_one_fit(results):
    with pytest.raises(InputError, match="two fits or more, found 1"):
        nm.compare({"a": results[0]["better"]})


def test_compare__raises_on_other_phenotypes(results, make_result):
    fit = results[0]["better"]
    y = fit.constant_data["phenotype"].values[:, 0]
    seen = np.flatnonzero(np.isfinite(y))
    name = str(fit.constant_data["individual"].values[seen[2]])

    def hide(values):
        values[seen[2]] = np.nan
        return values

    def raise_one(values):
        values[seen[2]] += 1.0
        return values

    with pytest.raises(InputError, match=f"same individuals, found .* with '{name}' in one only"):
        nm.compare({"a": fit, "b": changed(fit, phenotype=hide)})
    with pytest.raises(InputError, match=f"the same phenotypes, found .* of '{name}' in a and"):
        nm.compare({"a": fit, "b": changed(fit, phenotype=raise_one)})
    posterior = fit.posterior.assign_coords(trait=["height"])
    with pytest.raises(InputError, match="found 'y' in a and 'height' in b"):
        nm.compare({"a": fit, "b": dataclasses.replace(fit, posterior=posterior)})


def test_small_differences_of_units_in_files_are_the_same(results):
    fit = results[0]["better"]
    rounded = changed(fit, phenotype=lambda values: values.astype(np.float32).astype(float))
    assert isinstance(nm.compare({"a": fit, "b": rounded}).table, pd.DataFrame)
