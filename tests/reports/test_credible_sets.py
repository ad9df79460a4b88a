from itertools import combinations

import numpy as np
import pandas as pd
import pytest

from nnmm_jax.posterior.fit_genotypes import FitGenotypes
from nnmm_jax.posterior.marker_draws import MarkerDraws
from nnmm_jax.reports.credible_sets import COLUMNS, credible_sets
from nnmm_jax.reports.windows import make_windows, parse_window

N, MARKERS, SAMPLES = 200, 40, 100


@pytest.fixture
def genotypes():
    rng = np.random.default_rng(1)
    codes = rng.integers(0, 3, (N, MARKERS)).astype(np.int8)
    for marker in range(10, 16):  # a block around marker 12
        codes[:, marker] = np.where(rng.random(N) < 0.1, codes[:, marker], codes[:, 12])
    return FitGenotypes(codes, codes.mean(axis=0))


def sets_of(nonzero, genotypes, chromosomes=None):
    effects = nonzero.astype(np.float32)
    draws = MarkerDraws(
        np.zeros(SAMPLES), (), np.empty((SAMPLES, 0, MARKERS)), np.empty((SAMPLES, 0)), effects, "y"
    )
    places = pd.DataFrame(
        {
            "marker": [f"m{i}" for i in range(MARKERS)],
            "chromosome": ["1"] * MARKERS if chromosomes is None else chromosomes,
            "position": np.arange(MARKERS) * 10.0,
        }
    )
    windows = make_windows(parse_window("5 markers"), places, genotypes)
    return credible_sets(draws, genotypes, windows, places, {"y (direct)": True})


def spread(rng, *markers):
    """Draws in which one of some linked markers has the effect."""
    nonzero = np.zeros((SAMPLES, MARKERS), dtype=bool)
    nonzero[np.arange(SAMPLES), rng.choice(markers, SAMPLES)] = True
    return nonzero


def test_sets_are_the_smallest_that_cover_the_draws(genotypes):
    rng = np.random.default_rng(2)
    nonzero = spread(rng, 11, 11, 11, 12, 12, 13, 14, 15)
    table = sets_of(nonzero, genotypes)
    assert list(table.columns) == list(COLUMNS)
    (row,) = table.itertuples()
    block = range(10, 16)
    smallest = next(
        size
        for size in range(1, 7)
        if any(
            nonzero[:, list(some)].any(axis=1).mean() >= 0.95 for some in combinations(block, size)
        )
    )
    members = [int(name[1:]) for name in row.markers.split()]
    assert row.size == len(members) == smallest
    assert row.probability == nonzero[:, members].any(axis=1).mean() >= 0.95
    lead = int(np.argmax(nonzero.mean(axis=0)))
    assert row.lead == f"m{lead}"
    assert row.lead_probability == nonzero[:, lead].mean()
    correlation = np.corrcoef(genotypes.codes[:, members].T)
    assert row.least_r2 == pytest.approx((correlation**2).min())
    assert (row.start, row.end) == (min(members) * 10, max(members) * 10)


def test_two_loci_have_two_sets(genotypes):
    nonzero = spread(np.random.default_rng(3), 11, 12)
    nonzero[:, 30] = True
    table = sets_of(nonzero, genotypes)
    assert table["lead"].tolist() == ["m30", "m11"] or table["lead"].tolist() == ["m30", "m12"]
    assert table["set"].tolist() == [1, 2]
    assert table["size"].tolist() == [1, 2]


def test_an_effect_of_one_of_two_unlinked_markers_has_no_set(genotypes):
    assert len(sets_of(spread(np.random.default_rng(4), 2, 30), genotypes)) == 0


def test_a_set_does_not_cross_chromosomes(genotypes):
    nonzero = spread(np.random.default_rng(5), 11, 12)
    chromosomes = ["1"] * 12 + ["2"] * (MARKERS - 12)
    assert len(sets_of(nonzero, genotypes)) == 1
    assert len(sets_of(nonzero, genotypes, chromosomes)) == 0


def test_effects_everywhere_are_no_locus(genotypes):
    nonzero = np.random.default_rng(6).random((SAMPLES, MARKERS)) < 0.6
    assert len(sets_of(nonzero, genotypes)) == 0


def test_responses_that_cannot_be_zero_have_no_sets(make_case):
    found = make_case(bayesc=False)
    table = found.result.gwas(found.genotypes, found.map).credible_sets
    assert len(table) == 0
    assert list(table.columns) == list(COLUMNS)
