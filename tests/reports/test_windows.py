import numpy as np
import pandas as pd
import pytest

from nnmm_jax.errors import InputError
from nnmm_jax.posterior.fit_genotypes import FitGenotypes
from nnmm_jax.reports.windows import chromosome_ranks, make_windows, marker_places, parse_window

PLACES = pd.DataFrame(
    {
        "marker": list("abcdefg"),
        "chromosome": ["2", "10", "2", "2", "10", "10", "X"],
        "position": [30.0, 5.0, 10.0, 20.0, 99.0, 100.0, 1.0],
    }
)


def genotypes(codes):
    return FitGenotypes(codes, codes.mean(axis=0))


def names(windows):
    return ["".join(PLACES["marker"].to_numpy()[one]) for one in windows.members()]


RANDOM = genotypes(np.random.default_rng(0).integers(0, 3, (40, 7)).astype(np.int8))


@pytest.mark.parametrize(
    ("text", "kind", "size"),
    [
        ("10 markers", "markers", 10),
        ("1 marker", "markers", 1),
        (" 5   MARKERS ", "markers", 5),
        ("1 Mb", "distance", 1e6),
        ("1Mb", "distance", 1e6),
        ("250 kb", "distance", 250e3),
        ("1e5 bp", "distance", 1e5),
        ("2.5 cM", "distance", 2.5),
        ("3 units", "distance", 3),
        ("LD", "LD", 0.5),
        ("ld 0.8", "LD", 0.8),
    ],
)
def test_parse_window(text, kind, size):
    rule = parse_window(text)
    assert (rule.kind, rule.size) == (kind, size)


@pytest.mark.parametrize(
    "text", ["", "10", "0 markers", "1.5 markers", "0 kb", "LD 1.5", "LD 0", "1.2.3 kb", "ten kb"]
)
def test_parse_window__raises_on_other_words(text):
    with pytest.raises(InputError, match=r"window: expected '10 markers'.*found"):
        parse_window(text)


def test_windows_by_count_end_with_the_chromosome():
    assert names(make_windows(parse_window("2 markers"), PLACES, RANDOM)) == [
        "cd",
        "a",
        "be",
        "f",
        "g",
    ]


def test_windows_by_distance_are_multiples_of_it():
    windows = make_windows(parse_window("20 units"), PLACES, RANDOM)
    assert names(windows) == ["c", "da", "b", "e", "f", "g"]


def test_windows_by_distance__raises_on_another_unit():
    with pytest.raises(InputError, match="at most 95 in the unit of the map"):
        make_windows(parse_window("1 Mb"), PLACES, RANDOM)


def test_windows_by_linkage_break_between_neighbours_that_differ():
    codes = RANDOM.codes.copy()
    codes[:, 3], codes[:, 5] = codes[:, 2], 2 - codes[:, 4]  # c with d, and e with f mirrored
    windows = make_windows(parse_window("LD 0.9"), PLACES, genotypes(codes))
    assert names(windows) == ["cd", "a", "b", "ef", "g"]


def test_chromosomes_are_in_the_order_of_their_numbers():
    ranks = chromosome_ranks(np.array(["X", "10", "2", "chr3A", "chr1B", "2"]))
    assert ranks.tolist() == [5, 1, 0, 4, 3, 0] or ranks.tolist() == [2, 1, 0, 4, 3, 0]


def test_places_are_in_the_order_of_the_fit(make_case):
    case = make_case()
    found = marker_places(case.result, RANDOM, case.map.sample(frac=1, random_state=1))
    pd.testing.assert_frame_equal(found, case.map)


def test_places_come_from_the_genotypes_without_a_map(make_case):
    case = make_case()
    with_places = FitGenotypes(RANDOM.codes, RANDOM.means, case.map[["chromosome", "position"]])
    pd.testing.assert_frame_equal(marker_places(case.result, with_places, None), case.map)


def test_places__raises_on_markers_that_lack(make_case):
    case = make_case()
    with pytest.raises(InputError, match=r"all 24 markers of the fit, found none of 'snp3'; add"):
        marker_places(case.result, RANDOM, case.map.drop(index=3))


def test_places__raises_without_a_map(make_case):
    with pytest.raises(InputError, match=r"marker map: expected a table .* found none"):
        marker_places(make_case().result, RANDOM, None)
