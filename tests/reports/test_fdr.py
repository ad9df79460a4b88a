import numpy as np

from nnmm_jax.reports.fdr import q_values


def test_q_values_are_the_mean_error_of_all_at_least_as_probable():
    rng = np.random.default_rng(1)
    probability = rng.integers(0, 20, 200) / 19
    expected = [np.mean(1 - probability[probability >= one]) for one in probability]
    np.testing.assert_allclose(q_values(probability), expected, atol=1e-12)


def test_q_values__what_is_not_judged_does_not_count():
    found = q_values(np.array([np.nan, 0.9, np.nan, 0.5]))
    np.testing.assert_allclose(found, [np.nan, 0.1, np.nan, 0.3])


def test_q_values_of_nothing():
    assert q_values(np.array([])).shape == (0,)


def test_q_values_hold_the_rate_of_probabilities_that_are_right():
    rng = np.random.default_rng(2)
    probability = rng.beta(0.3, 0.6, 40_000)
    true = rng.random(40_000) < probability
    for rate in (0.01, 0.05, 0.2):
        called = q_values(probability) <= rate
        sd = np.sqrt(rate * (1 - rate) / called.sum())
        assert abs((~true[called]).mean() - rate) < 4 * sd
