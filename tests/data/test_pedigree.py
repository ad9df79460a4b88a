import os
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from nnmm_jax.data import Pedigree, read_pedigree
from nnmm_jax.errors import InputError

SHARED = Path(os.environ.get("NNMM_SHARED", Path(__file__).parents[3] / "shared"))


def table(*rows: tuple, columns: tuple[str, ...] = ("id", "sire", "dam")) -> pd.DataFrame:
    return pd.DataFrame(list(rows), columns=list(columns), dtype=object)


# Mrode & Thompson, Linear Models for the Prediction of Animal Breeding Values, example 2.1.
TEXTBOOK = table((3, 1, 2), (4, 1, None), (5, 4, 3), (6, 5, 2))
TEXTBOOK_A = [
    [1.0, 0.0, 0.5, 0.5, 0.5, 0.25],
    [0.0, 1.0, 0.5, 0.0, 0.25, 0.625],
    [0.5, 0.5, 1.0, 0.25, 0.625, 0.5625],
    [0.5, 0.0, 0.25, 1.0, 0.625, 0.3125],
    [0.5, 0.25, 0.625, 0.625, 1.125, 0.6875],
    [0.25, 0.625, 0.5625, 0.3125, 0.6875, 1.125],
]


def textbook() -> Pedigree:
    return read_pedigree(TEXTBOOK)


def test_textbook_example() -> None:
    pedigree = textbook()
    assert pedigree.ids.tolist() == ["1", "2", "3", "4", "5", "6"]
    np.testing.assert_array_equal(pedigree.sire, [-1, -1, 0, 0, 3, 4])
    np.testing.assert_array_equal(pedigree.dam, [-1, -1, 1, -1, 2, 1])
    assert pedigree.sire.dtype == pedigree.dam.dtype == np.int32
    np.testing.assert_array_equal(pedigree.inbreeding, [0, 0, 0, 0, 0.125, 0.125])
    np.testing.assert_array_equal(pedigree.mendelian, [1, 1, 0.5, 0.75, 0.5, 0.46875])
    np.testing.assert_array_equal(pedigree.relationship(np.arange(6)), TEXTBOOK_A)
    assert (pedigree.n_added, pedigree.n_founders, pedigree.n_both_sexes) == (2, 2, 0)


def test_inverse_is_that_of_the_relationship() -> None:
    product = textbook().inverse() @ np.asarray(TEXTBOOK_A)
    np.testing.assert_allclose(product, np.eye(6), rtol=0, atol=1e-14)


def test_rows_and_relationship_follow_the_ids_asked_for() -> None:
    pedigree = textbook()
    rows = pedigree.rows(np.array(["6", "2", "5"]))
    np.testing.assert_array_equal(rows, [5, 1, 4])
    expected = np.asarray(TEXTBOOK_A)[np.ix_(rows, rows)]
    np.testing.assert_array_equal(pedigree.relationship(rows), expected)


@pytest.mark.parametrize("seed", range(5))
def test_order_of_the_records_does_not_matter(seed: int) -> None:
    rng = np.random.default_rng(seed)
    records = [(f"a{i}", f"a{rng.integers(i)}", f"a{rng.integers(i)}") for i in range(1, 60)]
    expected = read_pedigree(table(*records))
    shuffled = read_pedigree(table(*records).sample(frac=1, random_state=seed))
    assert (shuffled.sire < np.arange(60)).all()
    assert (shuffled.dam < np.arange(60)).all()
    rows = shuffled.rows(expected.ids)
    np.testing.assert_array_equal(shuffled.inbreeding[rows], expected.inbreeding)
    assert shuffled.n_both_sexes == expected.n_both_sexes > 0


def test_an_order_with_parents_first_is_kept() -> None:
    records = [("z", None, None), ("b", "z", None), ("y", None, None), ("a", "b", "y")]
    assert read_pedigree(table(*records)).ids.tolist() == ["z", "b", "y", "a"]
    # d is needed by b and moves before it; the others stay.
    records = [("c", None, None), ("b", "d", "c"), ("e", None, None), ("d", "c", None)]
    assert read_pedigree(table(*records)).ids.tolist() == ["c", "d", "b", "e"]


@pytest.mark.parametrize("unknown", [None, np.nan, "", " ", "0", 0, ".", "NA", 0.0])
def test_unknown_parents_are_spelled_in_the_usual_ways(unknown: object) -> None:
    pedigree = read_pedigree(table(("a", unknown, unknown), ("b", "a", unknown)))
    assert pedigree.ids.tolist() == ["a", "b"]
    np.testing.assert_array_equal(pedigree.sire, [-1, 0])
    np.testing.assert_array_equal(pedigree.dam, [-1, -1])


@pytest.mark.parametrize(
    ("columns", "options"),
    [
        (("animal", "sire", "dam"), {}),
        (("animal", "SIRE", "Dam"), {}),
        (("animal", "Father", "MOTHER"), {}),
        (("animal", "p1", "p2"), {}),
        (("p1", "animal", "p2"), {"id_column": "animal"}),
        (("animal", "dam", "sire"), {}),
    ],
)
def test_columns_are_found_by_name_or_place(columns: tuple[str, ...], options: dict) -> None:
    values = {"animal": "kid", "sire": "he", "father": "he", "p1": "he"}
    row = tuple(values.get(name.lower(), "she") for name in columns)
    pedigree = read_pedigree(table(row, columns=columns), **options)
    assert pedigree.ids[pedigree.sire[2]] == "he"
    assert pedigree.ids[pedigree.dam[2]] == "she"


def test_ids_of_a_file_are_text(tmp_path: Path) -> None:
    path = tmp_path / "pedigree.csv"
    path.write_text("id,sire,dam,year\n010,007,0,1990\n11,010,.,1991\n")
    pedigree = read_pedigree(path)
    assert pedigree.ids.tolist() == ["007", "010", "11"]
    np.testing.assert_array_equal(pedigree.sire, [-1, 0, 1])


def test_integers_with_holes_are_ids() -> None:
    frame = pd.DataFrame({"id": [3, 4], "sire": [1.0, np.nan], "dam": [np.nan, 3.0]})
    pedigree = read_pedigree(frame)
    assert pedigree.ids.tolist() == ["1", "3", "4"]


def test_selfing_is_allowed_and_counted() -> None:
    pedigree = read_pedigree(table(("s1", "p", "p"), ("s2", "s1", "s1"), ("x", "s2", "p")))
    assert pedigree.ids.tolist() == ["p", "s1", "s2", "x"]
    np.testing.assert_array_equal(pedigree.inbreeding, [0, 0.5, 0.75, 0.5])
    np.testing.assert_array_equal(pedigree.mendelian, [1, 0.5, 0.25, 0.3125])
    assert pedigree.n_both_sexes == 2
    product = pedigree.inverse() @ pedigree.relationship(np.arange(4))
    np.testing.assert_allclose(product, np.eye(4), rtol=0, atol=1e-14)


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (table(("a", None, None), ("a", "b", None)), "every id once, found 'a' more than once"),
        (table(("a", "a", "b")), "other than the animal, found 'a' among its own parents"),
        (table(("b", None, None), ("a", "b", "a")), "found 'a' among its own parents"),
        (table(("a", "a", "a")), "found 'a' among its own parents"),
        (
            table(("x", "a", None), ("a", None, "b"), ("b", "c", None), ("c", "a", "y")),
            "found the loop 'a', 'b', 'c', each followed by a parent, the last by the first",
        ),
        (table(("0", None, None)), "expected ids of animals, found '0', which stands for an unk"),
        (table(("a", 1.5, None)), "expected ids of parents, found 1.5 in column 'sire', id 'a'"),
        (table(("a", "b"), columns=("id", "sire")), "columns animal, sire and dam, found 'sire'"),
        (
            table(("a", "b", "c"), columns=("id", "sire", "other")),
            "expected columns sire and dam, or father and mother, found 'sire', 'other'",
        ),
    ],
)
def test_read_pedigree__raises_on_bad_pedigree(frame: pd.DataFrame, message: str) -> None:
    with pytest.raises(InputError, match=re.escape(message)) as caught:
        read_pedigree(frame)
    assert str(caught.value).startswith("pedigree: expected ")
    assert "\n" not in str(caught.value)


def test_read_pedigree__raises_with_the_name_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "p.csv"
    path.write_text("id,sire,dam\na,a,\n")
    with pytest.raises(InputError, match=re.escape(f"pedigree {path}: expected parents")):
        read_pedigree(path)


def test_rows__raises_on_unknown_animals() -> None:
    with pytest.raises(InputError, match="found no record of 'x', 'y'"):
        textbook().rows(np.array(["1", "x", "y"]))


def test_inverse__raises_when_nothing_is_left_to_sample() -> None:
    # After 60 generations of selfing F is 1 in floating point.
    line = [(f"g{i}", f"g{i - 1}", f"g{i - 1}") for i in range(1, 60)]
    with pytest.raises(InputError, match="expected Mendelian sampling in every animal, found none"):
        read_pedigree(table(*line)).inverse()


def test_real_pedigree_of_pigs() -> None:
    path = SHARED / "data" / "pig_pic191" / "pedigree.csv"
    if not path.is_file():
        pytest.skip("data set pig_pic191 is not here; set NNMM_SHARED to its parent")
    pedigree = read_pedigree(path)
    assert len(pedigree.ids) == 6473
    assert (pedigree.sire < np.arange(6473)).all()
    assert (pedigree.dam < np.arange(6473)).all()
    rows = np.random.default_rng(1).choice(6473, 300, replace=False)
    block = pedigree.relationship(rows)
    np.testing.assert_allclose(np.diagonal(block), 1.0 + pedigree.inbreeding[rows], atol=1e-12)
    unit = np.zeros((6473, 5))
    unit[rows[:5], np.arange(5)] = 1.0
    # A⁻¹ times columns of A gives columns of the identity.
    columns = pedigree.relationship(np.arange(6473))[:, rows[:5]]
    np.testing.assert_allclose(pedigree.inverse() @ columns, unit, atol=1e-11)


@pytest.mark.parametrize("unknown", [None, 0])
def test_parents_that_pandas_wrote_as_decimals_are_the_animals(tmp_path, unknown):
    """Integer ids with holes become 1.0 in a file; no animal 1.0 is invented."""
    table = pd.DataFrame({"id": [1, 2, 3], "sire": [unknown, unknown, 1.0], "dam": [None, None, 2]})
    table = table.astype({"sire": float})
    table.to_csv(tmp_path / "pedigree.csv", index=False)
    assert "1.0" in (tmp_path / "pedigree.csv").read_text()
    pedigree = read_pedigree(tmp_path / "pedigree.csv")
    assert list(pedigree.ids) == ["1", "2", "3"]
    assert pedigree.n_added == 0
    assert (pedigree.sire[2], pedigree.dam[2]) == (0, 1)
    np.testing.assert_array_equal(pedigree.sire[:2], -1)
