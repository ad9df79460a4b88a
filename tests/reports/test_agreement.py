import numpy as np
import pandas as pd
import pytest

from nnmm_jax.errors import InputError
from nnmm_jax.posterior.diagnostics import total_ebv
from nnmm_jax.reports.agreement import compare_with_truth, correlation, in_sample_fit, slope


def truth_of(result, *, factor=1.0, shuffle=False):
    """A truth of which the estimates are exactly ``1 / factor`` times too large."""
    table = result.breeding_values()[["id", "ebv", "epv"]]
    table[["ebv", "epv"]] *= factor
    return table.sample(frac=1.0, random_state=1) if shuffle else table


@pytest.mark.parametrize("skip", [False, True])
def test_compare_with_truth_sees_scale_and_joins_by_id(make_result, skip):
    result = make_result(individuals=60, skip=skip)
    found = compare_with_truth(result, truth_of(result, factor=0.5, shuffle=True))
    assert list(found.index) == ["phenotyped", "unphenotyped"]
    assert found["individuals"].sum() == 60
    for name in ("ebv", "epv"):
        np.testing.assert_allclose(found[f"accuracy_{name}"], 1.0)
        np.testing.assert_allclose(found[f"slope_{name}"], 0.5)


def test_compare_with_truth_counts_what_the_intervals_hold(make_result):
    result = make_result(individuals=40)
    truth = truth_of(result)
    draws = total_ebv(result.posterior.squeeze("trait"))
    phenotyped = result.breeding_values()["phenotyped"].to_numpy()
    outside = np.flatnonzero(phenotyped)[:3]
    truth.loc[outside, "ebv"] = draws.max(("chain", "draw")).values[outside] + 1.0
    found = compare_with_truth(result, truth)
    assert found.loc["phenotyped", "coverage_ebv"] == 1 - 3 / phenotyped.sum()
    assert found.loc["unphenotyped", "coverage_ebv"] == 1.0


def test_compare_with_truth_leaves_out_an_empty_group(make_result):
    result = make_result()
    result.constant_data["phenotype"][:] = 1.0
    assert list(compare_with_truth(result, truth_of(result)).index) == ["phenotyped"]


def test_compare_with_truth__raises_on_absent_columns_and_individuals(make_result):
    result = make_result()
    truth = truth_of(result)
    with pytest.raises(InputError, match="truth: expected columns id, ebv and epv, found no 'epv'"):
        compare_with_truth(result, truth.drop(columns="epv"))
    with pytest.raises(InputError, match="every individual, found no 'id0000'"):
        compare_with_truth(result, truth[1:])


def test_in_sample_fit_is_about_the_phenotyped(make_result):
    result = make_result(individuals=50)
    table = result.breeding_values()
    seen = table["phenotyped"].to_numpy()
    # NaN elsewhere would spread if an unphenotyped individual were used
    observed = pd.Series(result.constant_data["phenotype"].values[:, 0])
    found = in_sample_fit(result)
    assert set(found) == {"ebv", "epv", "y_pred"}
    for name, value in found.items():
        assert value == pytest.approx(observed[seen].corr(table.loc[seen, name]))


def test_constant_estimates_have_no_correlation_and_no_slope():
    rising = np.arange(4.0)
    assert np.isnan(correlation(rising, np.ones(4)))
    assert np.isnan(correlation(np.ones(4), rising))
    assert np.isnan(slope(rising, np.ones(4)))
    assert slope(np.ones(4), rising) == 0.0
