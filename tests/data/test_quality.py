import json
import re
from fractions import Fraction
from math import comb

import numpy as np
import pandas as pd
import pytest

from nnmm_jax import Dosages, QualityControl, read_dataset
from nnmm_jax.data import quality as rules
from nnmm_jax.data.dosages import MARKERS_PER_SLICE
from nnmm_jax.data.genotypes import genotypes_of, keep_in_place, marker_counts
from nnmm_jax.errors import InputError

IDS = tuple("abcdefghij")
#        call rate, frequency, Hardy-Weinberg and duplicates are each the fault of one marker
CODES = {
    "fine": [0, 1, 2, 1, 0, 1, 2, 1, 0, 1],
    "holes": [0, 1, 2, 1, -1, -1, -1, -1, -1, 1],
    "rare": [0, 0, 0, 0, 0, 0, 0, 0, 0, 1],
    "split": [0, 0, 0, 0, 0, 2, 2, 2, 2, 2],
    "again": [0, 1, 2, 1, 0, 1, 2, 1, 0, 1],
    "other": [2, 1, 0, 1, 2, 1, 0, 1, 2, 1],
    "same": [1, 1, 1, 1, 1, 1, 1, 1, 1, 1],
    "none": [-1] * 10,
    "last": [0, 2, 1, 1, 1, 1, 1, 2, 0, 1],
}
ALL = QualityControl(0.5, 0.9, 0.1, 0.01, True, 6.0)


def dosages(dtype: type = np.int8) -> Dosages:
    codes = np.array(list(CODES.values())).T
    if dtype is np.float32:
        codes = np.where(codes < 0, np.nan, codes)
    return Dosages(codes.astype(dtype), IDS, tuple(CODES))


@pytest.mark.parametrize("dtype", [np.int8, np.float32])
def test_each_rule_drops_its_marker(dtype: type) -> None:
    found = genotypes_of(dosages(dtype), quality=ALL)
    assert found.markers == ("fine", "last")
    assert found.constant == ("same",)
    assert found.unobserved == ("none",)
    assert found.failed == ("holes", "rare", "split", "again", "other")
    assert found.dropped == {*CODES} - {"fine", "last"}
    assert [(one.rule, one.dropped, one.first) for one in found.counts] == [
        ("call rate below 0.5", 0, ()),
        ("call rate below 0.9", 1, ("holes",)),
        ("minor allele frequency below 0.1", 1, ("rare",)),
        ("Hardy-Weinberg p below 0.01", 1, ("split",)),
        ("dosages of an earlier marker", 2, ("again", "other")),
    ]
    expected = np.array([CODES["fine"], CODES["last"]]).T
    np.testing.assert_array_equal(found.codes, expected)


def test_quality_control_does_not_depend_on_the_counted_allele() -> None:
    given = dosages()
    turned = np.where(given.codes < 0, given.codes, 2 - given.codes).astype(np.int8)
    found, other = (
        genotypes_of(Dosages(codes, IDS, tuple(CODES)), quality=ALL)
        for codes in (given.codes.copy(), turned)
    )
    assert other.failed == found.failed
    assert other.counts == found.counts


@pytest.mark.parametrize(
    ("rule", "dropped"),
    [
        (QualityControl(), ()),
        (QualityControl(marker_call_rate=0.5), ()),
        (QualityControl(marker_call_rate=0.51), ("holes",)),
        (QualityControl(minor_allele_frequency=0.05), ()),
        (QualityControl(minor_allele_frequency=0.051), ("rare",)),
        (QualityControl(duplicate_markers=True), ("again", "other")),
    ],
)
def test_rules_are_separate_and_limits_pass(rule: QualityControl, dropped: tuple) -> None:
    assert genotypes_of(dosages(), quality=rule).failed == dropped


def test_individuals_are_judged_first_and_markers_on_those_that_stay() -> None:
    codes = np.array([[0, 1, -1], [1, 1, 2], [2, 1, 1], [-1, 2, -1]], dtype=np.int8)
    given = Dosages(codes, ("a", "b", "c", "d"), ("m1", "m2", "m3"))
    found = genotypes_of(given, quality=QualityControl(individual_call_rate=0.5))
    assert found.ids == ("a", "b", "c")
    assert found.failed_ids == ("d",)
    assert found.markers == ("m1", "m3")  # m2 varies in d only
    assert found.constant == ("m2",)
    np.testing.assert_array_equal(found.codes, [[0, -1], [1, 2], [2, 1]])
    assert found.n_missing == 1
    assert found.counts[0].line() == "individuals, call rate below 0.5: 1 ('d')"


def exact_p(low: int, heterozygotes: int, high: int) -> Fraction:
    """By counting the ways to pair the alleles, in whole numbers."""
    n, rare = low + heterozygotes + high, 2 * low + heterozygotes
    ways = {}
    for het in range(rare % 2, min(rare, 2 * n - rare) + 1, 2):
        homozygous = (rare - het) // 2
        ways[het] = comb(n, het) * comb(n - het, homozygous) * 2**het
    total = sum(ways.values())
    assert total == comb(2 * n, rare)
    return Fraction(sum(w for w in ways.values() if w <= ways[heterozygotes]), total)


def test_hardy_weinberg_p_is_exact() -> None:
    counts = np.array([(a, b, 14 - a - b) for a in range(15) for b in range(15 - a)])
    expected = [float(exact_p(*map(int, one))) for one in counts]
    np.testing.assert_allclose(rules.hardy_weinberg_p(counts), expected, rtol=1e-10)


def test_hardy_weinberg_p_of_many_individuals() -> None:
    counts = np.array([[12_500, 25_000, 12_500], [25_000, 0, 25_000], [0, 0, 0], [40, 0, 0]])
    np.testing.assert_allclose(rules.hardy_weinberg_p(counts), [1, 0, 1, 1], atol=1e-300)


def test_outlying_values_are_far_from_the_median() -> None:
    values = np.random.default_rng(2).normal(10, 2, (1000, 3))
    values[7, 0], values[8, 1], values[9, 2] = 10 + 2 * 6.8, 10 - 2 * 6.8, 10 + 2 * 5
    values[10:20] = np.nan
    assert np.argwhere(rules.outlying(values, 6.0)).tolist() == [[7, 0], [8, 1]]
    assert not rules.outlying(np.array([[0.0], [0.0], [0.0], [5.0]]), 6.0).any()
    assert not rules.outlying(np.full((3, 1), np.nan), 6.0).any()


def test_marker_counts_and_keeping_go_by_slices() -> None:
    rng = np.random.default_rng(3)
    codes = rng.integers(-1, 3, (12, MARKERS_PER_SLICE + 40)).astype(np.int8)
    codes[:, 5] = -1
    rows, columns = rng.random(12) < 0.7, rng.random(codes.shape[1]) < 0.8
    values = np.where(codes < 0, np.nan, codes)[rows]
    seen = ~np.isnan(values)
    found = marker_counts(codes, rows)
    np.testing.assert_array_equal(found.missing, (~seen).sum(axis=0))
    some = seen.any(axis=0)
    np.testing.assert_array_equal(found.low[some], np.nanmin(values[:, some], axis=0))
    np.testing.assert_array_equal(found.high[some], np.nanmax(values[:, some], axis=0))
    np.testing.assert_allclose(found.frequency[some], np.nanmean(values[:, some], axis=0) / 2)
    assert np.isnan([found.low[5], found.high[5], found.frequency[5]]).all()
    before = codes.copy()
    kept = keep_in_place(codes, rows, columns)
    np.testing.assert_array_equal(kept, before[rows][:, columns])
    assert kept.flags.c_contiguous
    assert np.shares_memory(kept, codes)
    few = keep_in_place(before.copy(), rows, columns & (np.arange(len(columns)) < 9))
    assert few.base is None


def test_the_report_says_what_was_left_out() -> None:
    phenotypes = pd.DataFrame({"id": IDS, "y": np.arange(10.0)})
    omics = pd.DataFrame({"id": IDS, "g": [*np.arange(9.0), 500.0], "h": np.arange(10.0)})
    data = read_dataset(dosages(), omics, phenotypes, "y", quality=ALL)
    lines = data.report.lines()
    start = lines.index("left out by quality control:")
    assert lines[start + 1] == "  individuals, call rate below 0.5: 0"
    assert lines[start + 5] == "  markers, dosages of an earlier marker: 2 ('again', 'other')"
    assert lines[start + 6] == (
        "  omics cells, more than 6 standard deviations from the median, made missing: 1 ('g of j')"
    )
    assert np.isnan(data.omics[9, 0])
    assert data.report.missing_omics == 1
    stored = data.report.to_dict()
    assert json.loads(json.dumps(stored)) == stored
    assert stored["quality"][1] == {
        "what": "markers",
        "rule": "call rate below 0.9",
        "dropped": 1,
        "first": ["holes"],
    }
    groups = pd.DataFrame({"marker": ["rare", "fine"], "group": ["x", "x"]})
    grouped = read_dataset(
        dosages(), omics, phenotypes, "y", quality=ALL, marker_groups=groups, connections=None
    )
    assert grouped.marker_groups.names == ("x", "other")


def test_rows_of_dropped_individuals_are_counted_as_such() -> None:
    given = dosages()
    given.codes[4] = -1
    given.codes[4, 0] = 1
    phenotypes = pd.DataFrame({"id": IDS, "y": np.arange(10.0)})
    data = read_dataset(
        given, None, phenotypes, "y", quality=QualityControl(individual_call_rate=0.5)
    )
    assert "e" not in data.ids
    dropped = data.report.dropped_phenotypes
    assert (dropped.rows, dropped.first_ids) == (1, ("e",))
    assert dropped.reason == "not genotyped or dropped by quality control"


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        ({"marker_call_rate": 90}, "expected marker_call_rate from 0 to 1, found 90; give a share"),
        ({"individual_call_rate": -0.1}, "expected individual_call_rate from 0 to 1, found -0.1"),
        ({"minor_allele_frequency": 0.6}, "from 0 to 0.5, found 0.6"),
        ({"hardy_weinberg": float("nan")}, "expected hardy_weinberg from 0 to 1, found nan"),
        ({"omics_outliers": 0}, "expected omics_outliers above 0, found 0"),
    ],
)
def test_quality_control__raises_on_impossible_limits(limits: dict, message: str) -> None:
    with pytest.raises(InputError, match=re.escape(message)):
        QualityControl(**limits)


def test_genotypes_of__raises_when_nothing_passes() -> None:
    rare = Dosages(np.array([CODES["rare"]], dtype=np.int8).T, IDS, ("rare",))
    with pytest.raises(InputError, match=r"found none \(markers, minor .*: 1 \('rare'\)\); choose"):
        genotypes_of(rare, quality=QualityControl(minor_allele_frequency=0.1))
    empty = Dosages(np.array([[0, -1], [-1, 1]], dtype=np.int8), ("a", "b"), ("m", "n"))
    with pytest.raises(InputError, match=r"a call rate of at least 0\.6, found none"):
        genotypes_of(empty, quality=QualityControl(individual_call_rate=0.6))
