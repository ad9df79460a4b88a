import json

import numpy as np
import pandas as pd
import pytest

from nnmm_jax import Dosages, QualityControl, read_dataset
from nnmm_jax.data import read_pedigree
from nnmm_jax.data.reconcile import near_misses
from nnmm_jax.errors import InputError


def tables() -> dict[str, object]:
    codes = np.array([[0, 2], [1, 1], [2, 0], [1, 0], [-1, -1], [0, 1]], dtype=np.int8)
    return {
        "genotypes": Dosages(codes, ["a", "b", "c", "d", "holes", "e"], ["m1", "m2"]),
        "omics": pd.DataFrame({"id": [" a", "c", "x", "d"], "g": [1.0, 2.0, 3.0, np.nan]}),
        "phenotypes": pd.DataFrame(
            {
                "id": ["a", "b ", "x", "d", "E", "b", "old"],
                "y": [1.0, 2.0, 3.0, np.nan, 5.0, 2.5, np.nan],
                "pen": ["p", "q", "q", "r", "p", None, "p"],
                "age": [1, 2, 3, 4, 5, 6, 7],
            }
        ),
        "pedigree": pd.DataFrame(
            {"id": ["a", "b", "c", "d", "e", "x"], "sire": "s", "dam": [None] * 6}
        ),
        "quality": QualityControl(individual_call_rate=0.5),
    }


def test_every_id_is_in_one_group_with_what_it_contributes() -> None:
    found = read_dataset(**tables(), trait="y").report.ids
    assert found.tables == ("genotypes", "omics", "phenotypes", "pedigree")
    reason = "not genotyped or dropped by quality control"
    assert {
        group.first: (group.tables, group.ids, group.contribution) for group in found.groups
    } == {
        "a": (
            ("genotypes", "omics", "phenotypes", "pedigree"),
            1,
            "effects on omics and of omics on the trait",
        ),
        "b": (
            ("genotypes", "phenotypes", "pedigree"),
            1,
            "effects on the trait; omics are sampled",
        ),
        "c": (("genotypes", "omics", "pedigree"), 1, "effects on omics; the trait is predicted"),
        "d": (("genotypes", "pedigree"), 2, "none: all is predicted (candidates)"),
        "holes": (("genotypes",), 1, "none: dropped by quality control"),
        "x": (
            ("omics", "phenotypes", "pedigree"),
            1,
            f"none: {reason}; relationships among the others",
        ),
        "E": (("phenotypes",), 1, f"none: {reason}"),
        "s": (("pedigree",), 1, "relationships among the others"),
        "old": ((), 1, f"none: {reason}, rows without values"),
    }
    assert sum(group.ids for group in found.groups) == 10
    assert json.loads(json.dumps(found.to_dict())) == found.to_dict()


def test_notes_say_what_was_done_and_what_does_not_meet() -> None:
    report = read_dataset(**tables(), trait="y").report
    assert report.ids.notes == (
        "ids of omics with blanks around them, read without these: 1",
        "ids of phenotypes with blanks around them, read without these: 1",
        "ids that differ in case or leading zeros only, not joined: 'E' of phenotypes and 'e', "
        "1 in all",
        "levels of 'pen' in records without 'y' only: 'r'",
    )
    assert report.lines()[-4:] == list(report.ids.notes)


def test_the_table_is_aligned() -> None:
    given = {"phenotypes": pd.DataFrame({"id": ["a", "b", "x"], "y": [1.0, 2.0, 3.0]})}
    genotypes = pd.DataFrame({"id": ["a", "b", "c"], "m": [0, 1, 2]})
    lines = read_dataset(genotypes, None, **given, trait="y").report.ids.lines()
    assert lines == [
        "genotypes  phenotypes  ids  first  contribution",
        "x          x             2  a      effects on the trait",
        "x          -             1  c      none: all is predicted (candidates)",
        "-          x             1  x      none: not genotyped",
    ]


def test_individuals_of_a_pedigree_are_analysed_without_genotypes() -> None:
    given = tables() | {"genotypes": None, "quality": None}
    given["pedigree"] = read_pedigree(given["pedigree"])
    found = read_dataset(**given, trait="y").report.ids
    assert found.tables == ("omics", "phenotypes", "pedigree")
    by_first = {group.first: (group.ids, group.contribution) for group in found.groups}
    assert by_first["a"] == (2, "effects on omics and of omics on the trait")  # and x
    assert by_first["E"] == (1, "none: not in the pedigree")


@pytest.mark.parametrize(
    ("one", "other", "near"),
    [
        ("A1", "a1", True),
        ("007", "7", True),
        ("id_010", "ID_10", True),
        ("5.0", "5", True),
        ("100", "1", False),
        ("a", "a", False),
        ("a1", "a2", False),
    ],
)
def test_near_misses(one: str, other: str, near: bool) -> None:
    assert near_misses([one], [other]) == ([(one, other)] if near else [])


def test_read_dataset__raises_with_a_hint_when_ids_look_alike() -> None:
    genotypes = pd.DataFrame({"id": ["ID01", "ID02"], "m": [0, 1]})
    phenotypes = pd.DataFrame({"id": ["id1", "id2"], "y": [0.0, 1.0]})
    with pytest.raises(InputError, match=r"write ids alike in all tables .'id1' is 'ID01' there"):
        read_dataset(genotypes, None, phenotypes, "y")
