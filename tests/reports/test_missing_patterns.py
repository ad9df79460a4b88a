import numpy as np
import pytest

from nnmm_jax.errors import InputError
from nnmm_jax.reports.missing_patterns import (
    BLOCKS,
    CELLS,
    MIXTURE,
    OTHERS,
    RARE,
    TRAINING_MISSING,
    WHOLE,
    Scenario,
    missing_cells,
    scenarios,
)

TRAINING, TEST, NODES = 400, 100, 10
IS_TEST = np.arange(TRAINING + TEST) % 5 == 4


def holes(pattern, training_missing=0, test_missing=100, seed=3):
    scenario = Scenario(pattern, training_missing, test_missing)
    return missing_cells(scenario, IS_TEST, NODES, seed)


@pytest.mark.parametrize("share", TRAINING_MISSING)
@pytest.mark.parametrize("test_missing", [0, 100])
def test_whole_individuals_have_all_or_nothing(share, test_missing):
    missing = holes(WHOLE, share, test_missing)
    np.testing.assert_array_equal(missing.any(axis=1), missing.all(axis=1))
    assert missing[~IS_TEST, 0].sum() == TRAINING * share / 100
    assert missing[IS_TEST].mean() == test_missing / 100


def test_whole_individuals_are_nested():
    fewer, more = holes(WHOLE, 25), holes(WHOLE, 50)
    assert not (fewer & ~more).any()


@pytest.mark.parametrize("pattern", OTHERS)
def test_all_test_omics_are_missing_in_other_patterns(pattern):
    assert holes(pattern, 25 if pattern == MIXTURE else 0)[IS_TEST].all()


def test_cells_are_half_of_all():
    missing = holes(CELLS)[~IS_TEST]
    assert missing.sum() == missing.size // 2
    assert len(np.unique(missing.sum(axis=1))) > 3  # scattered: individuals differ


def test_blocks_are_the_same_omics_of_half_of_the_individuals():
    missing = holes(BLOCKS)[~IS_TEST]
    lacking = missing.any(axis=1)
    assert lacking.sum() == TRAINING // 2
    assert len(np.unique(missing[lacking], axis=0)) == 1
    assert missing[lacking][0].sum() == NODES // 2


def test_half_of_the_features_are_rare():
    shares = np.sort(holes(RARE)[~IS_TEST].mean(axis=0))
    np.testing.assert_array_equal(shares, [0.0] * 5 + [0.9] * 5)


def test_mixture_has_the_holes_of_all_patterns():
    together = holes(WHOLE, 25) | holes(CELLS) | holes(BLOCKS) | holes(RARE)
    np.testing.assert_array_equal(holes(MIXTURE, 25), together)


def test_holes_come_from_the_seed():
    np.testing.assert_array_equal(holes(CELLS, seed=1), holes(CELLS, seed=1))
    assert (holes(CELLS, seed=1) != holes(CELLS, seed=2)).any()


def test_grid_is_training_by_test_and_the_other_patterns():
    grid = scenarios()
    whole = {(one.training_missing, one.test_missing) for one in grid if one.pattern == WHOLE}
    assert whole == {(share, test) for share in TRAINING_MISSING for test in (0, 100)}
    assert [one.pattern for one in grid[len(whole) :]] == list(OTHERS)
    assert [one for one in grid if one.nothing_observed] == [Scenario(WHOLE, 100, 100)]
    assert scenarios([50, 0, 50], []) == [
        Scenario(WHOLE, share, test) for test in (0, 100) for share in (0, 50)
    ]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (("stripes", 0, 100), "unknown pattern 'stripes': choose of whole individuals"),
        ((WHOLE, 101, 0), r"training_missing must lie in 0..100, got 101"),
        ((BLOCKS, 10, 0), "blocks: training_missing must be 0, got 10"),
        ((MIXTURE, 0, 0), "mixture: training_missing must be 25, got 0"),
        ((WHOLE, 10, 50), "test_missing must be 0 or 100, got 50"),
    ],
)
def test_scenario__raises_on_impossible_values(values, message):
    with pytest.raises(InputError, match=message):
        Scenario(*values)
