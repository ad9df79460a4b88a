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
    assert np.mean(omics.var(axis=0)) == pytest.approx(2.0, abs=0.25)  # plus drift
    assert np.std(omics.mean(axis=0)) > 1.0  # not centred
    # 60 effects of variance .01 on nodes of variance 2, of the omics' share .553
    assert simulated.var_residual == pytest.approx(1.2 * 0.447 / 0.553, rel=0.5)


def test_breeding_values_rise_by_selection():
    def rise(selected):
        data = simulate_paper(PaperSettings(**SIZE | {"selected": selected}), seed=4)
        generations = np.array_split(data.ebv[11:], 10)
        within = np.mean([np.std(one) for one in generations])
        return (np.mean(generations[-1]) - np.mean(generations[0])) / 9 / within

    assert 0.25 < rise(0.1) < 0.65  # published: 0.44
    assert abs(rise(1.0)) < 0.15


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
        ({"selected": 0.0}, r"selected must lie in \(0, 1\], got 0.0"),
        ({"omics": 1}, "omics must be a whole number of at least 2, got 1"),
        ({"activation": "cosine"}, "cosine"),
    ],
)
def test_paper_settings__raises_on_impossible_values(changed, message):
    with pytest.raises(InputError, match=message):
        PaperSettings(**{**SIZE, **changed})
