import re

import numpy as np
import pandas as pd
import pytest

from nnmm_jax.data import MarkerGroups, read_marker_groups
from nnmm_jax.errors import InputError

MARKERS = np.array(["m1", "m2", "m3", "m4"])
NODES = np.array(["g1", "g2"])


def read(*rows: tuple, nodes: np.ndarray = NODES, **options: frozenset[str]) -> MarkerGroups:
    columns = ["marker", "group", "node"][: len(rows[0])]
    table = pd.DataFrame(list(rows), columns=columns, dtype=object)
    return read_marker_groups(table, MARKERS, nodes, **options)


CASES = {
    "all listed": ([("m4", "y"), ("m1", "x"), ("m2", "x"), ("m3", "y")], "yx", [1, 1, 0, 0]),
    "others": ([("m2", "x")], ["x", "other"], [1, 0, 1, 1]),
    "other by name": ([("m2", "other"), ("m1", "x")], ["other", "x"], [1, 0, 0, 0]),
    "said twice": ([("m2", "x"), ("m2", "x")], ["x", "other"], [1, 0, 1, 1]),
    "group of dropped markers only": ([("gone", "z"), ("m2", "x")], ["x", "other"], [1, 0, 1, 1]),
    "numbers": ([("m1", 1), ("m2", 1), ("m3", 2), ("m4", 2)], "12", [0, 0, 1, 1]),
    "empty nodes": ([("m2", "x", None), ("m1", "y", "")], ["x", "y", "other"], [1, 0, 2, 2]),
    "one node overrides": (
        [("m1", "x", None), ("m1", "y", "g2"), ("m2", "y", "g1"), ("m3", "x", None)],
        ["x", "y", "other"],
        [[0, 1], [1, 2], [0, 0], [2, 2]],
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_groups_of_markers(case: str) -> None:
    rows, names, codes = CASES[case]
    groups = read(*rows, dropped=frozenset({"gone"}))
    assert groups.names == tuple(names)
    np.testing.assert_array_equal(groups.codes, codes)
    assert groups.codes.dtype == np.int16
    by_node = np.asarray(codes).reshape(4, -1)
    for node in range(2):
        np.testing.assert_array_equal(
            groups.of_node(node), by_node[:, min(node, by_node.shape[1] - 1)]
        )


def test_groups_without_observed_nodes() -> None:
    assert read(("m1", "x"), nodes=np.empty(0, dtype=str)).codes.tolist() == [0, 1, 1, 1]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (
            [("m9", "x"), ("m8", "x"), ("m9", "x"), ("m1", "x")],
            "expected markers of the genotypes, found 2 other(s): 'm9', 'm8'; correct or remove",
        ),
        ([("m1", "x", "g3")], "expected nodes that are columns of the omics, found 'g3'"),
        ([("m1", None)], "expected a group in every row, found none for 'm1'"),
        ([("m1", "x"), ("m1", "y")], "expected one group for each marker, found 'x', 'y' for 'm1'"),
        (
            [("m1", "z", None), ("m1", "x", "g1"), ("m1", "y", "g1")],
            "expected one group for each marker for node 'g1', found 'x', 'y' for 'm1'",
        ),
    ],
)
def test_read_marker_groups__raises_on_bad_table(rows: list[tuple], message: str) -> None:
    with pytest.raises(InputError, match=re.escape(message)) as caught:
        read(*rows)
    assert str(caught.value).startswith("marker groups: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (["marker", "set"], "columns marker, group and, if need be, node, found 'marker', 'set'"),
        (["snp", "group"], "expected the id column 'marker', found the columns 'snp', 'group'"),
    ],
)
def test_read_marker_groups__raises_on_other_columns(columns: list[str], message: str) -> None:
    table = pd.DataFrame([["m1", "x"]], columns=columns)
    with pytest.raises(InputError, match=message):
        read_marker_groups(table, MARKERS, NODES)
