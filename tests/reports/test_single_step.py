import numpy as np
import pytest

from nnmm_jax.errors import InputError
from nnmm_jax.reports.single_step import combined_relationship, omics_relationship, single_step

VARIANCES = {"h2_omics": 0.61, "share_omics": 0.55}


@pytest.fixture
def trial():
    """Phenotypes, complete omics and relationships; the last eight are to be predicted."""
    rng = np.random.default_rng(3)
    n, nodes = 40, 12
    markers = rng.normal(size=(n, 60))
    relationship = markers @ markers.T / 60 + 0.01 * np.eye(n)
    genetic = np.linalg.cholesky(relationship) @ rng.normal(size=(n, nodes))
    omics = 3.0 + genetic + rng.normal(size=(n, nodes))
    phenotype = 5.0 + omics @ rng.normal(size=nodes) + rng.normal(size=n)
    phenotype[-8:] = np.nan
    return phenotype, omics, relationship


def test_complete_omics_are_ridge_regression_and_then_gblup_of_every_feature(trial):
    phenotype, omics, relationship = trial
    n, nodes = omics.shape
    standard = (omics - omics.mean(axis=0)) / omics.std(axis=0, ddof=1)
    # the ridge on the diagonal is a feature of everybody's own
    features = np.hstack([standard / np.sqrt(nodes), 0.01 * np.eye(n)])
    seen = np.isfinite(phenotype)
    centred = features[seen] - features[seen].mean(axis=0)
    penalty = 0.45 / 0.55 * np.eye(features.shape[1])
    y = phenotype[seen] - phenotype[seen].mean()
    effects = np.linalg.solve(centred.T @ centred + penalty, centred.T @ y)

    # Henderson's equations of each feature: an intercept and breeding values
    top = np.concatenate([[n], np.ones(n)])
    bottom = np.eye(n) + 0.39 / 0.61 * np.linalg.inv(relationship)
    left = np.vstack([top, np.column_stack([np.ones(n), bottom])])
    solved = np.linalg.solve(left, np.vstack([features.sum(axis=0), features]))
    expected = solved[1:] @ effects

    found = single_step(phenotype, omics, relationship, **VARIANCES)
    np.testing.assert_allclose(found.ebv, expected, rtol=1e-8, atol=1e-9)


def test_missing_omics_are_the_mixed_model_equations_with_the_inverse(trial):
    phenotype, omics, relationship = trial
    n = len(phenotype)
    measured = np.ones(n, dtype=bool)
    measured[[0, 3, 4, 9, 20, 21, 22]] = False
    omics[~measured] = np.nan
    seen = np.isfinite(phenotype)
    expected = 0.61 * relationship + 0.39 * np.eye(n)
    kernel = omics_relationship(omics[measured])
    inverse = np.linalg.inv(expected)
    block = np.ix_(measured, measured)
    inverse[block] += np.linalg.inv(kernel) - np.linalg.inv(expected[block])
    design = np.column_stack([measured, ~measured]).astype(float)[seen]
    rows = np.eye(n)[seen]
    left = np.block(
        [
            [design.T @ design, design.T @ rows],
            [rows.T @ design, rows.T @ rows + 0.45 / 0.55 * inverse],
        ]
    )
    right = np.concatenate([design.T @ phenotype[seen], rows.T @ phenotype[seen]])
    found = single_step(phenotype, omics, relationship, **VARIANCES)
    solved = np.linalg.solve(left, right)
    np.testing.assert_allclose(found.omics_values, solved[2:], rtol=1e-6, atol=1e-8)


def test_inverse_of_the_combined_relationship_differs_for_the_measured_only(trial):
    _, omics, relationship = trial
    measured = np.arange(len(omics)) % 3 > 0
    kernel = omics_relationship(omics[measured])
    combined = combined_relationship(relationship, kernel, measured)
    block = np.ix_(measured, measured)
    np.testing.assert_array_equal(combined[block], kernel)
    np.testing.assert_allclose(combined, combined.T, atol=1e-12)
    expected = np.linalg.inv(relationship)
    change = np.linalg.inv(kernel) - np.linalg.inv(relationship[block])
    expected[block] += change
    scale = np.abs(change).max()
    np.testing.assert_allclose(np.linalg.inv(combined) / scale, expected / scale, atol=1e-8)


@pytest.mark.parametrize("every", [1, 2])
def test_combined_relationship_is_the_expected_one_where_the_observed_is(trial, every):
    relationship = trial[2]
    measured = np.arange(len(relationship)) % every == 0
    observed = relationship[np.ix_(measured, measured)]
    combined = combined_relationship(relationship, observed, measured)
    np.testing.assert_allclose(combined, relationship, atol=1e-12)


def test_omics_relationship_ignores_units_and_constants():
    omics = np.random.default_rng(1).normal(size=(9, 4))
    units = np.hstack([5.0 + omics * [1.0, 10.0, 0.1, 3.0], np.ones((9, 1))])
    kernel = omics_relationship(omics)
    np.testing.assert_allclose(omics_relationship(units), kernel, atol=1e-12)
    assert np.mean(np.diagonal(kernel)) == pytest.approx(8 / 9 + 1e-4)


@pytest.mark.parametrize("holes", [np.s_[3, 5], np.s_[1:]])
def test_single_step__raises_on_parts_of_omics(trial, holes):
    phenotype, omics, relationship = trial
    omics[holes] = np.nan
    with pytest.raises(InputError, match="expected all omics or none of every individual"):
        single_step(phenotype, omics, relationship, **VARIANCES)
