import dataclasses

import numpy as np
import pytest
from scipy import stats

import nnmm_jax as nm
from nnmm_jax.errors import InputError
from nnmm_jax.reports.prediction_plots import checks


def with_phenotypes(result, phenotype, share=None):
    constant = result.constant_data.copy()
    constant["phenotype"] = (("individual", "trait"), phenotype[:, None])
    if share is not None:
        constant["residual_share"] = (("individual",), share)
    return dataclasses.replace(result, constant_data=constant)


@pytest.fixture(scope="module")
def result(make_result):
    """Observed phenotypes are one of the replicated sets."""
    made = make_result(individuals=80, draws=300)
    return with_phenotypes(made, made.posterior["y_pred"].values[1, 7, :, 0].astype(float))


def test_statistics_are_those_of_the_observed_and_the_replicated(result):
    found = nm.predictive_checks(result)
    table = found.table.set_index("statistic")
    assert table.index.tolist() == ["mean", "sd", "skewness", "min", "max"]
    y = result.constant_data["phenotype"].values[:, 0]
    replicated = result.posterior["y_pred"].values[..., 0].reshape(1200, 80)
    assert table.loc["skewness", "observed"] == pytest.approx(stats.skew(y))
    assert table.loc["max", "mean"] == pytest.approx(replicated.max(axis=1).mean(), rel=1e-5)
    above = (replicated.std(axis=1, ddof=1) > y.std(ddof=1)).mean()
    assert table.loc["sd", "p"] == pytest.approx(above, abs=2 / 1200)
    assert len(found.replicated) == 1200


def test_data_that_the_fit_would_not_generate_have_extreme_p_values(result):
    y = result.constant_data["phenotype"].values[:, 0].copy()
    y[3] += 40.0
    found = nm.predictive_checks(with_phenotypes(result, y)).table.set_index("statistic")["p"]
    assert found["max"] == 0.0
    assert found["skewness"] == 0.0
    assert 0.01 < found["min"] < 0.99


def test_a_group_that_the_fit_leaves_out_stands_out(result):
    y = result.constant_data["phenotype"].values[:, 0].copy()
    ids = result.constant_data["individual"].values
    groups = {str(name): "late" if k < 15 else "early" for k, name in enumerate(ids)}
    y[:15] += 3.0
    found = nm.predictive_checks(with_phenotypes(result, y), groups)
    p = found.table.set_index("statistic")["p"]
    assert p["residual of late"] < 0.001
    assert p["residual of early"] > 0.001
    figure = checks(found)
    figure.canvas.draw()
    red = [axes for axes in figure.axes if axes.title.get_color() != "black"]
    titles = [axes.get_title(loc="left") for axes in figure.axes]
    assert len(titles) >= 7
    assert any("residual of late" in title for title in titles)
    assert len(red) < len(figure.axes)


def test_means_of_records_vary_less(result):
    y = result.constant_data["phenotype"].values[:, 0]
    usual = nm.predictive_checks(result).table.set_index("statistic")
    none = nm.predictive_checks(with_phenotypes(result, y, np.zeros(80))).table
    expected = result.posterior["y_mean"].values[..., 0].reshape(-1, 80).std(axis=1, ddof=1).mean()
    assert none.set_index("statistic").loc["sd", "mean"] == pytest.approx(expected, rel=1e-5)
    assert none.set_index("statistic").loc["sd", "mean"] < usual.loc["sd", "mean"]


def test_statistics_of_ones_own(result):
    found = nm.predictive_checks(result, statistics={"median": lambda y: np.median(y, axis=-1)})
    assert found.table["statistic"].tolist() == ["median"]
    assert 0.0 < found.table["p"].item() < 1.0


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        ({"id0000": "a"}, r"found none of 'id0001' \(79 in all\)"),
        ({f"id{k:04d}": str(k) for k in range(80)}, "at most 30, found 80"),
    ],
)
def test_predictive_checks__raises_on_groups_that_do_not_fit(result, groups, message):
    with pytest.raises(InputError, match=message):
        nm.predictive_checks(result, groups)
