import numpy as np
import pandas as pd
import pytest

from nnmm_jax.reports.missing_grid import DIRECT, GBLUP, IGNORED, NETWORK
from nnmm_jax.reports.missing_patterns import BLOCKS, WHOLE
from nnmm_jax.reports.missing_verdict import BETTER, EQUAL, WORSE, judge, steps, verdict


def row(replicate, pattern, training, test, model, accuracy, error, **changed):
    scores = {"slope_ebv": 1.0, "accuracy_epv": 0.5, "slope_epv": 0.9, "cells_missing": training}
    about = {"pattern": pattern, "training_missing": training, "test_missing": test, "model": model}
    chains = {"r_hat": 1.01, "ess": 100.0, "seconds": 2.0}
    found = {"accuracy_ebv": accuracy, "accuracy_error": error, "replicate": replicate}
    return about | scores | chains | found | changed


def table(*replicates):
    """Fits of replicates, each given by the accuracies of direct model and three scenarios."""
    rows = []
    for replicate, (direct, first, last, block) in enumerate(replicates, start=1):
        rows += [
            row(replicate, IGNORED, 100, 100, GBLUP, 0.69, 0.0, r_hat=np.nan, ess=np.nan),
            row(replicate, IGNORED, 100, 100, DIRECT, direct, 0.003),
            row(replicate, WHOLE, 0, 100, NETWORK, first, 0.004, r_hat=1 + replicate / 10),
            row(replicate, WHOLE, 50, 100, NETWORK, last, 0.004, ess=100.0 / replicate),
            row(replicate, BLOCKS, 0, 100, NETWORK, block, 0.004),
        ]
    return pd.DataFrame(rows)


def test_one_data_set_is_judged_by_the_errors_of_the_chains():
    # sqrt(0.003² + 0.004²) is 0.005: the limit is 0.015 to either side
    judged = judge(table((0.7, 0.716, 0.684, 0.714)))
    assert judged["verdict"].tolist() == ["", "", BETTER, WORSE, EQUAL]
    np.testing.assert_allclose(judged["difference"], [-0.01, 0.0, 0.016, -0.016, 0.014], atol=1e-12)
    np.testing.assert_allclose(judged["difference_error"][2:], 0.005)
    assert judged["accuracy_se"].isna().all()


def test_replicates_count_where_they_differ_more_than_chains():
    judged = judge(table((0.7, 0.70, 0.71, 0.70), (0.8, 0.84, 0.81, 0.80)))
    first, last, block = judged.iloc[2], judged.iloc[3], judged.iloc[4]
    # differences 0 and 0.04: sd 0.0283, of the mean 0.02; chains alone 0.005 / sqrt(2)
    assert first["difference"] == pytest.approx(0.02)
    assert first["difference_error"] == pytest.approx(0.02)
    assert last["difference_error"] == pytest.approx(0.005 / np.sqrt(2))
    assert (first["verdict"], last["verdict"], block["verdict"]) == (EQUAL, EQUAL, EQUAL)
    assert first["accuracy_ebv"] == pytest.approx(0.77)
    assert first["accuracy_se"] == pytest.approx(0.07)
    assert first["accuracy_error"] == pytest.approx(0.004 / np.sqrt(2))
    assert (first["replicates"], first["r_hat"], last["ess"]) == (2, 1.2, 50.0)


def test_chains_of_all_replicates_can_find_a_worse_scenario():
    judged = judge(table((0.7, 0.7, 0.688, 0.7), (0.8, 0.8, 0.788, 0.8)))
    assert judged["verdict"].tolist() == ["", "", EQUAL, WORSE, EQUAL]


@pytest.mark.parametrize(
    ("difference", "error", "expected"),
    [
        (0.031, 0.01, BETTER),
        (0.03, 0.01, EQUAL),
        (-0.03, 0.01, EQUAL),
        (-0.031, 0.01, WORSE),
        (np.nan, 0.01, WORSE),
        (0.5, np.nan, WORSE),
    ],
)
def test_verdict(difference, error, expected):
    assert verdict(difference, error) == expected


def test_steps_follow_the_axis_whatever_the_order_of_the_rows():
    rows = [
        row(1, WHOLE, share, test, NETWORK, accuracy, 0.01)
        for share, test, accuracy in [
            (50, 0, 0.8),
            (0, 0, 0.9),
            (100, 0, 0.75),
            (100, 100, 0.7),
            (0, 100, 0.6),
        ]
    ]
    fits = pd.DataFrame([row(1, IGNORED, 100, 100, DIRECT, 0.7, 0.01), *rows])
    found = steps(judge(fits))
    assert found["test_missing"].tolist() == [0, 0, 100]
    assert found["start"].tolist() == [0, 50, 0]
    assert found["end"].tolist() == [50, 100, 100]
    np.testing.assert_allclose(found["change"], [-0.1, -0.05, 0.1])
