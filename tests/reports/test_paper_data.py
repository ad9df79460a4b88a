import numpy as np
import pytest

from nnmm_jax.errors import InputError
from nnmm_jax.reports.paper_data import PaperSettings, simulate_paper

SIZE = {"individuals": 211, "test": 20, "markers": 200, "omics": 60}


@pytest.fixture(scope="module")
def simulated():
    return simulate_paper(PaperSettings(**SIZE), seed=4)


def test_variances_are_those_asked_for(simulated):
    omics = simulated.dataset.omics
    # 5 standard errors of the residual variance and its covariance with the genetic value
    assert np.mean(omics.var(axis=0)) == pytest.approx(2.0, abs=0.11)
    assert np.std(omics.mean(axis=0)) > 1.0  # not centred
    phenotype = simulated.dataset.phenotype
    assert simulated.var_residual / np.nanvar(phenotype) == pytest.approx(0.447, abs=0.15)
    assert np.var(simulated.ebv) / np.nanvar(phenotype) == pytest.approx(0.34, abs=0.12)


def test_the_youngest_have_no_phenotype_and_everybody_has_omics(simulated):
    np.testing.assert_array_equal(np.flatnonzero(simulated.test), np.arange(191, 211))
    np.testing.assert_array_equal(np.isnan(simulated.dataset.phenotype), simulated.test)
    assert np.isfinite(simulated.dataset.omics).all()
    assert simulated.relationship.shape == (211, 211)
    assert np.mean(np.diagonal(simulated.relationship)) == pytest.approx(1.0, abs=0.1)


def test_only_the_phenotype_differs_with_the_activation(simulated):
    sigmoid = simulate_paper(PaperSettings(**SIZE, activation="sigmoid"), seed=4)
    np.testing.assert_array_equal(sigmoid.dataset.omics, simulated.dataset.omics)
    np.testing.assert_array_equal(sigmoid.relationship, simulated.relationship)
    assert 0.5 < np.corrcoef(sigmoid.ebv, simulated.ebv)[0, 1] < 0.99


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"individuals": 59}, "individuals must be a whole number of at least 60, got 59"),
        ({"test": 2}, "test must be a whole number of at least 3, got 2"),
        ({"test": 106}, "test must be at most half of the 211 individuals, got 106"),
        ({"omics": 1}, "omics must be a whole number of at least 2, got 1"),
        ({"activation": "cosine"}, "cosine"),
    ],
)
def test_paper_settings__raises_on_impossible_values(changed, message):
    with pytest.raises(InputError, match=message):
        PaperSettings(**{**SIZE, **changed})
