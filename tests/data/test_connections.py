import re
import tracemalloc
import types
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from nnmm_jax import Dosages
from nnmm_jax.data import Connections, cis_connections, read_connections, write_dosages
from nnmm_jax.errors import InputError

MARKERS = np.array(["m1", "m2", "m3", "m4"])
NODES = ["g1", "g2", "latent1"]


def read(*rows: tuple, **options: frozenset[str]) -> Connections:
    table = pd.DataFrame(list(rows), columns=["marker", "node"], dtype=object)
    return read_connections(table, MARKERS, **options)


def test_connections_of_nodes() -> None:
    rows = [("m4", "latent1"), ("m3", "g1"), ("m1", "latent1"), ("gone", "g1"), ("m4", "latent1")]
    connections = read(*rows, dropped=frozenset({"gone"}))
    assert connections.nodes == ("latent1", "g1")
    assert [positions.tolist() for positions in connections.markers] == [[0, 3], [2]]
    assert all(positions.dtype == np.int64 for positions in connections.markers)
    assert (connections.pairs, connections.connected_nodes) == (3, 2)
    mask = connections.mask(NODES, 4)
    assert mask.dtype == np.bool_
    np.testing.assert_array_equal(mask, [[0, 0, 1], [0, 0, 0], [1, 0, 0], [0, 0, 1]])


def test_names_are_text(tmp_path: Path) -> None:
    path = tmp_path / "connections.csv"
    path.write_text("marker,node\n007, 1 \n7,1\n")
    connections = read_connections(path, np.array(["7", "007"]))
    assert connections.nodes == ("1",)
    np.testing.assert_array_equal(connections.mask(["2", "1"], 2), [[False, True]] * 2)
    table = pd.DataFrame({"node": [1, 2], "marker": [7, 8]})
    assert read_connections(table, np.array(["7", "8"])).nodes == ("1", "2")


def test_a_node_with_dropped_markers_only_sees_no_marker() -> None:
    connections = read(("gone", "g2"), ("m1", "g1"), dropped=frozenset({"gone"}))
    assert connections.nodes == ("g2", "g1")
    assert (connections.pairs, connections.connected_nodes) == (1, 1)
    np.testing.assert_array_equal(connections.mask(NODES, 4).sum(axis=0), [1, 0, 0])


def test_mask__raises_on_unknown_nodes() -> None:
    connections = read(("m1", "g3"), ("m1", "g1"), ("m1", "g9"))
    message = (
        "connections: expected nodes that are columns of the omics or latent nodes "
        "('g1', 'g2', 'latent1'), found 'g3', 'g9'; correct"
    )
    with pytest.raises(InputError, match=re.escape(message)):
        connections.mask(NODES, 4)


def test_mask__raises_without_any_connection() -> None:
    connections = read(("gone", "g2"), dropped=frozenset({"gone"}))
    with pytest.raises(InputError, match=r"^connections: expected a marker for at least one node"):
        connections.mask(NODES, 4)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (
            [("m9", "g1"), ("m8", "g1"), ("m9", "g2"), ("m1", "g1")],
            "expected markers of the genotypes, found 2 other(s): 'm9', 'm8'; correct or remove",
        ),
        ([("m1", None)], "expected a node in every row, found none for marker 'm1'; fill"),
        ([("m1", "g1"), ("m2", " ")], "expected a node in every row, found none for marker 'm2'"),
        ([("m1", "g1"), (None, "g1")], "expected an id in every row, found none in column 'marker"),
    ],
)
def test_read_connections__raises_on_bad_table(rows: list[tuple], message: str) -> None:
    with pytest.raises(InputError, match=re.escape(message)) as caught:
        read(*rows)
    assert str(caught.value).startswith("connections: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (["marker", "gene"], "expected the columns marker and node, found 'marker', 'gene'"),
        (["snp", "node"], "expected the id column 'marker', found the columns 'snp', 'node'"),
    ],
)
def test_read_connections__raises_on_other_columns(columns: list[str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_connections(pd.DataFrame([["m1", "x"]], columns=columns), MARKERS)


def marker_map(**change: object) -> pd.DataFrame:
    table = {
        "marker": ["a", "b", "c", "d", "e"],
        "chromosome": [1, 1, 2, 1, 2],
        "position": [50.0, 10.0, 10.0, 30.0, 20.0],
    }
    return pd.DataFrame(table | change)


def node_map(**change: object) -> pd.DataFrame:
    table = {"node": ["g2", "g1", "far"], "chromosome": ["2", "1", "X"], "position": [14, 31, 14]}
    return pd.DataFrame(table | change)


def pairs(table: pd.DataFrame) -> list[str]:
    return [f"{marker}-{node}" for marker, node in zip(table["marker"], table["node"], strict=True)]


@pytest.mark.parametrize(
    ("window", "expected"),
    [
        (1, ["d-g1"]),
        (4, ["c-g2", "d-g1"]),
        (19, ["c-g2", "e-g2", "d-g1", "a-g1"]),  # a window reaches as far as its edge
        (21, ["c-g2", "e-g2", "b-g1", "d-g1", "a-g1"]),
        (np.inf, ["c-g2", "e-g2", "b-g1", "d-g1", "a-g1"]),
    ],
)
def test_cis_window_around_a_position(window: float, expected: list[str]) -> None:
    found = cis_connections(marker_map(), node_map(), window)
    assert list(found.columns) == ["marker", "node"]
    assert pairs(found) == expected


@pytest.mark.parametrize(
    ("window", "expected"), [(0, ["d-g1", "a-g1"]), (5, ["e-g2", "d-g1", "a-g1"])]
)
def test_cis_window_around_an_interval(window: float, expected: list[str]) -> None:
    nodes = node_map(start=[25, 30, 0], end=[25, 50, 99]).drop(columns="position")
    assert pairs(cis_connections(marker_map(), nodes, window)) == expected


@pytest.mark.parametrize(
    "chromosomes",
    [[1, 1, 2, 1, 2], ["1", "1", "2", " 1", "2"], [1.0, 1.0, 2.0, 1.0, 2.0], ["1.0", 1, 2.0, 1, 2]],
)
def test_chromosomes_are_compared_as_text(chromosomes: list, tmp_path: Path) -> None:
    markers = marker_map(chromosome=pd.Series(chromosomes, dtype=object))
    expected = ["c-g2", "d-g1"]
    assert pairs(cis_connections(markers, node_map(), 4)) == expected
    files = [tmp_path / "markers.csv", tmp_path / "nodes.parquet"]
    markers.to_csv(files[0], index=False)
    node_map().to_parquet(files[1], index=False)
    assert pairs(cis_connections(*files, 4)) == expected


def test_chromosomes_with_other_names_are_others() -> None:
    markers = marker_map(chromosome=["chr1", "01", "2", "10", "2"])
    assert pairs(cis_connections(markers, node_map(), 1000)) == ["c-g2", "e-g2"]


def test_cis_connections_agree_with_a_dense_comparison() -> None:
    rng = np.random.default_rng(3)
    markers = pd.DataFrame(
        {"chromosome": rng.integers(1, 6, 300), "position": rng.integers(0, 200, 300)}
    )
    markers.insert(0, "marker", [f"m{j}" for j in range(300)])
    nodes = pd.DataFrame({"chromosome": rng.integers(1, 8, 90), "start": rng.integers(0, 200, 90)})
    nodes["end"] = nodes["start"] + rng.integers(0, 9, 90)
    nodes.insert(0, "node", [f"g{j}" for j in range(90)])
    where = markers["position"].to_numpy()[:, None]
    near = (
        (markers["chromosome"].to_numpy()[:, None] == nodes["chromosome"].to_numpy())
        & (where >= nodes["start"].to_numpy() - 7)
        & (where <= nodes["end"].to_numpy() + 7)
    )
    found = cis_connections(markers, nodes, 7)
    assert len(found) == near.sum()
    names = [name for name in nodes["node"] if name in set(found["node"])]
    assert list(found["node"].unique()) == names
    connections = read_connections(found, markers["marker"].to_numpy())
    np.testing.assert_array_equal(connections.mask(list(nodes["node"]), 300), near)


def test_large_maps_are_not_compared_cell_by_cell() -> None:
    """All pairs would be 10^9 bytes at the least."""
    rng = np.random.default_rng(4)
    markers = pd.DataFrame(
        {
            "marker": [f"m{j}" for j in range(50_000)],
            "chromosome": rng.integers(1, 31, 50_000),
            "position": rng.integers(0, 100_000_000, 50_000),
        }
    )
    nodes = pd.DataFrame(
        {
            "node": [f"g{j}" for j in range(20_000)],
            "chromosome": rng.integers(1, 31, 20_000),
            "position": rng.integers(0, 100_000_000, 20_000),
        }
    )
    tracemalloc.start()
    try:
        found = cis_connections(markers, nodes, 500_000)
        connections = read_connections(found, markers["marker"].to_numpy())
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 2e8
    assert connections.pairs == pytest.approx(20_000 * 50_000 / 30 / 100, rel=0.05)


@pytest.mark.parametrize(
    ("markers", "nodes", "message"),
    [
        (
            marker_map().drop(columns="chromosome"),
            node_map(),
            "marker map: expected the columns marker, chromosome and position, found 'marker', 'p",
        ),
        (
            marker_map().drop(columns="position"),
            node_map(),
            "marker map: expected the columns marker, chromosome and position, found 'marker', 'c",
        ),
        (
            marker_map(),
            node_map().rename(columns={"position": "start"}),
            "node map: expected the columns node, chromosome and position or start and end, found ",
        ),
        (
            marker_map(),
            node_map(start=1, end=2),
            "node map: expected the columns node, chromosome and position or start and end (either",
        ),
        (marker_map().rename(columns={"marker": "snp"}), node_map(), "the id column 'marker'"),
        (
            marker_map(position=[1, "2 Mb", 3, 4, 5]),
            node_map(),
            "marker map: expected numbers, found '2 Mb' in column 'position', id 'b'",
        ),
        (
            marker_map(position=[1, np.inf, 3, 4, 5]),
            node_map(),
            "marker map: expected finite numbers",
        ),
        (
            marker_map(position=[1, None, 3, 4, None]),
            node_map(),
            "marker map: expected the position in every row, found none for 'b', 'e'; fill it in",
        ),
        (
            marker_map(),
            node_map(start=[1, 2, 3], end=[1, None, 3]).drop(columns="position"),
            "node map: expected the end in every row, found none for 'g1'",
        ),
        (
            marker_map(),
            node_map(chromosome=[2, None, 1]),
            "node map: expected the chromosome in every row, found none for 'g1'",
        ),
        (
            marker_map(),
            node_map(start=[1, 3, 3], end=[1, 2, 3]).drop(columns="position"),
            "node map: expected start <= end, found the opposite for 'g1'; correct",
        ),
        (
            marker_map(marker=["a", "b", "a", "d", "e"]),
            node_map(),
            "marker map: expected every id once, found 'a' more than once in column 'marker'",
        ),
        (
            marker_map(),
            node_map(node=["g1", "g1", "g2"]),
            "node map: expected every id once, found 'g1' more than once in column 'node'",
        ),
        (
            marker_map(),
            node_map(chromosome=["chr2", "chr1", "X"]),
            "cis window: expected a marker within 0.5 of a node, found none; check that both maps "
            "have the same unit and the same names of chromosomes (markers: '1', '2'; nodes: 'chr2'"
            ", 'chr1', 'X')",
        ),
        (marker_map(), node_map(), "cis window: expected a marker within 0.5 of a node"),
    ],
)
def test_cis_connections__raises_on_bad_maps(
    markers: pd.DataFrame, nodes: pd.DataFrame, message: str
) -> None:
    with pytest.raises(InputError, match=re.escape(message)) as caught:
        cis_connections(markers, nodes, 0.5)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("window", [-1, np.nan])
def test_cis_connections__raises_on_a_window_below_0(window: float) -> None:
    with pytest.raises(InputError, match=r"^cis window: expected a distance >= 0 in the unit"):
        cis_connections(marker_map(), node_map(), window)


def test_cis_connections__names_the_file(tmp_path: Path) -> None:
    path = tmp_path / "markers.csv"
    marker_map(position=[1, 2, 3, 4, None]).to_csv(path, index=False)
    with pytest.raises(InputError, match=f"^marker map {re.escape(str(path))}: .* for 'e'"):
        cis_connections(path, node_map(), 1)


def test_maps_may_come_with_genotypes_and_annotated_data(tmp_path: Path) -> None:
    markers = marker_map(position=[50, 10, 10, 30, 20])
    expected = cis_connections(markers, node_map(), 1)
    assert len(expected)
    places = markers[["chromosome", "position"]].assign(counted="G", other="A")
    codes = np.tile(np.array([[0], [1]], dtype=np.int8), (1, len(markers)))
    dosages = Dosages(codes, ("i", "j"), tuple(markers["marker"]), places)
    write_dosages(dosages, tmp_path / "g.bed", "test")
    nodes = types.SimpleNamespace(obs_names=["i"], var=node_map().set_index("node"))
    for source in (dosages, tmp_path / "g.bim", str(tmp_path / "g.bed")):
        pd.testing.assert_frame_equal(cis_connections(source, nodes, 1), expected)


def test_cis_connections__raises_without_places(tmp_path: Path) -> None:
    codes = np.zeros((1, 1), dtype=np.int8)
    with pytest.raises(InputError, match="marker map: expected dosages with places, found none"):
        cis_connections(Dosages(codes, ("i",), ("m",)), node_map(), 1)
    with pytest.raises(InputError, match=r"g\.bed: expected a file, found nothing there"):
        cis_connections(tmp_path / "g.bed", node_map(), 1)
