import numpy as np
import pandas as pd
import pytest

import nnmm_jax
from nnmm_jax.errors import InputError
from nnmm_jax.reports.missing_grid import chain_error, fit_grid, grid_simulation


def test_simulation_has_complete_omics_and_the_youngest_to_predict():
    simulated = nnmm_jax.simulate(grid_simulation(individuals=90, test=23, markers=36), seed=1)
    data = simulated.dataset()
    assert np.isfinite(data.omics).all()
    np.testing.assert_array_equal(np.flatnonzero(np.isnan(data.phenotype)), np.arange(67, 90))
    truth = simulated.truth["individuals"]
    np.testing.assert_array_equal(truth["ebv_direct"], 0.0)
    assert truth["fixed"].nunique() == 1  # the intercept
    assert (truth["generation"].to_numpy()[67:] == truth["generation"].max()).all()


def test_chain_error_is_that_of_the_accuracies_of_chains(make_result):
    result = make_result(chains=3, draws=20, individuals=40)
    ids = result.posterior["individual"].values
    rng = np.random.default_rng(1)
    truth = pd.DataFrame({"id": ids, "ebv": rng.normal(size=40)})
    test = np.isnan(result.constant_data["phenotype"].values[:, 0])
    estimated = result.posterior["ebv_mediated"].values[..., 0].mean(axis=1)
    one, two, three = (
        np.corrcoef(truth["ebv"][test], chain[test])[0, 1] for chain in estimated.astype(float)
    )
    mean = (one + two + three) / 3
    variance = ((one - mean) ** 2 + (two - mean) ** 2 + (three - mean) ** 2) / 2
    shuffled = truth.sample(frac=1, random_state=2)
    assert chain_error(result, shuffled) == pytest.approx(np.sqrt(variance / 3), rel=1e-4)


def test_chain_error_of_one_chain_is_not_defined(make_result):
    result = make_result(chains=1, draws=20)
    truth = pd.DataFrame({"id": result.posterior["individual"].values, "ebv": np.arange(30.0)})
    assert np.isnan(chain_error(result, truth))


@pytest.mark.parametrize("test", [2, 98])
def test_grid_simulation__raises_on_too_few_individuals(test):
    with pytest.raises(
        InputError, match=rf"test must lie in 3..97 for 100 individuals, got {test}"
    ):
        grid_simulation(individuals=100, test=test)


@pytest.mark.parametrize(
    ("changed", "network", "message"),
    [
        ({"replicates": 0}, {}, "replicates must be a whole number of at least 1, got 0"),
        ({"chains": 1}, {}, "chains must be a whole number of at least 2, got 1"),
        ({}, {"skip_prior": "RR-BLUP"}, "expected neither skip_prior nor latent nodes"),
        ({}, {"latent": 2}, "expected neither skip_prior nor latent nodes"),
    ],
)
def test_fit_grid__raises_on_unusable_settings(changed, network, message):
    with pytest.raises(InputError, match=message):
        fit_grid(grid_simulation(), nnmm_jax.Network(**network), seed=1, **changed)
