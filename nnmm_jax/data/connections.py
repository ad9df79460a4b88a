"""Which markers each node of the middle layer sees, where it does not see all of them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from nnmm_jax.data.checks import marker_rows
from nnmm_jax.data.maps import MapSource, read_map, texts_of
from nnmm_jax.data.tables import Source, label, read_table
from nnmm_jax.errors import InputError, shortlist


@dataclass(frozen=True, eq=False)
class Connections:
    """Markers that nodes of the middle layer are connected to.

    Attributes
    ----------
    nodes
        Names of the nodes, in the order of the table.
    markers
        For each of them, (connected marker,) int64 positions of its markers, ascending, each once.
    """

    nodes: tuple[str, ...]
    markers: tuple[np.ndarray, ...]

    @property
    def pairs(self) -> int:
        """How many pairs of marker and node are connected."""
        return sum(len(positions) for positions in self.markers)

    @property
    def connected_nodes(self) -> int:
        """How many nodes see a marker at all."""
        return sum(len(positions) > 0 for positions in self.markers)

    def mask(self, nodes: Sequence[str], n_markers: int) -> np.ndarray:
        """Which marker acts on which node.

        Parameters
        ----------
        nodes
            Names of all nodes of the network: the columns of the omics, then the latent nodes,
            which are called latent1, latent2 and so on.
        n_markers
            Number of markers analysed.

        Returns
        -------
        numpy.ndarray
            (marker, node) bool; all False for a node that is not in the table.

        Raises
        ------
        InputError
            A node of the table is not in the network; there is no connection at all.

        Examples
        --------
        >>> import numpy as np
        >>> connections = Connections(("g2", "latent1"), (np.array([0]), np.array([0, 1])))
        >>> connections.mask(["g1", "g2", "latent1"], 2)
        array([[False,  True,  True],
               [False, False,  True]])
        """
        columns = pd.Index(nodes, dtype=object).get_indexer(pd.Index(self.nodes, dtype=object))
        if (unknown := columns < 0).any():
            raise InputError(
                "connections: expected nodes that are columns of the omics or latent nodes "
                f"({shortlist(nodes)}), found {shortlist(np.array(self.nodes)[unknown])}; correct "
                "or remove them"
            )
        if not self.pairs:
            raise InputError(
                "connections: expected a marker for at least one node, found none (all their "
                "markers were dropped); connect others, or say that there are no marker effects"
            )
        connected = np.zeros((n_markers, len(nodes)), dtype=bool)
        for column, positions in zip(columns, self.markers, strict=True):
            connected[positions, column] = True
        return connected


def read_connections(
    source: Source,
    markers: np.ndarray,
    *,
    dropped: frozenset[str] = frozenset(),
) -> Connections:
    """Read which markers each node sees.

    Parameters
    ----------
    source
        Columns ``marker`` and ``node``, a row for each connection; a file or a table, see
        :func:`nnmm_jax.data.read_table`. A node in no row sees no marker.
    markers
        (marker,) names of the markers analysed.
    dropped
        Names of markers that were left out for want of variation; rows of these are passed over.

    Returns
    -------
    Connections
        Positions of the markers by node.

    Raises
    ------
    InputError
        The table lacks the columns; a marker is unknown; a marker or a node is missing.

    Examples
    --------
    >>> import pandas as pd
    >>> table = pd.DataFrame({"marker": ["m3", "m1", "m1"], "node": ["g2", "g2", "g1"]})
    >>> connections = read_connections(table, ["m1", "m2", "m3"])
    >>> connections.nodes, connections.markers
    (('g2', 'g1'), (array([0, 2]), array([0])))
    """
    name = label("connections", source)
    table = read_table(
        source, what="connections", id_column="marker", repeated_ids=True, text_columns=True
    )
    if "node" not in table.columns:
        raise InputError(
            f"{name}: expected the columns marker and node, found "
            f"{shortlist(['marker', *table.columns])}; rename the columns"
        )
    nodes = np.array(texts_of(table["node"]), dtype=object)
    if (empty := nodes == "").any():
        raise InputError(
            f"{name}: expected a node in every row, found none for marker "
            f"{shortlist(table.index[empty])}; fill it in or remove the rows"
        )
    rows = marker_rows(table.index, markers, dropped, name)
    codes, names = pd.factorize(nodes)
    pairs = pd.DataFrame({"node": codes, "row": rows})[rows >= 0].drop_duplicates()
    pairs = pairs.sort_values(["node", "row"])
    ends = np.cumsum(np.bincount(pairs["node"], minlength=len(names)))
    positions = np.split(pairs["row"].to_numpy(dtype=np.int64), ends[:-1])
    return Connections(tuple(str(node) for node in names), tuple(positions))


def cis_connections(marker_map: MapSource, node_map: MapSource, window: float) -> pd.DataFrame:
    """Connect every node to the markers near its own position, as cis-eQTL analyses do.

    Parameters
    ----------
    marker_map
        Columns ``marker``, ``chromosome`` and ``position``; a file or a table, see
        :func:`nnmm_jax.data.read_table`; or PLINK's bim file, or :class:`nnmm_jax.Dosages` with
        places.
    node_map
        Columns ``node``, ``chromosome`` and either ``position`` or ``start`` and ``end``, such as
        those of a gene; a file, a table, or AnnData, whose annotation of variables (``var``) has
        these columns. Chromosomes are compared as text: ``1`` and ``chr1`` are different ones.
    window
        Largest distance of a marker from the node's position, or from either end of its interval,
        in the unit of the maps (bp or cM), >= 0.

    Returns
    -------
    pandas.DataFrame
        Columns marker and node, for ``read_dataset(connections=...)``: nodes in the order of their
        map, the markers of each in the order of their positions. Nodes without a marker in their
        window are in no row.

    Raises
    ------
    InputError
        A map lacks columns; a marker or a node is there twice; a chromosome or a position is
        missing, or a position is not a number; an interval ends before it starts; the window is
        negative; no marker is in any window.

    Examples
    --------
    >>> import pandas as pd
    >>> markers = pd.DataFrame(
    ...     {"marker": ["m1", "m2", "m3"], "chromosome": [1, 1, 2], "position": [100, 900, 120]}
    ... )
    >>> nodes = pd.DataFrame({"node": ["g1"], "chromosome": ["1"], "start": [150], "end": [250]})
    >>> cis_connections(markers, nodes, window=50)
      marker node
    0     m1   g1
    """
    window = float(window)
    if not window >= 0:
        raise InputError(
            f"cis window: expected a distance >= 0 in the unit of the maps, found {window!r}"
        )
    markers, where = read_map(marker_map, "marker map", "marker", [["position"]])
    nodes, span = read_map(node_map, "node map", "node", [["position"], ["start", "end"]])
    if (backward := span[:, 0] > span[:, -1]).any():
        raise InputError(
            f"{label('node map', node_map)}: expected start <= end, found the opposite for "
            f"{shortlist(nodes.index[backward])}; correct them"
        )
    marker_rows, node_rows = _near(
        markers["chromosome"].to_numpy(),
        where[:, 0],
        nodes["chromosome"].to_numpy(),
        span[:, 0] - window,
        span[:, -1] + window,
    )
    if not marker_rows.size:
        raise InputError(
            f"cis window: expected a marker within {window:g} of a node, found none; check that "
            "both maps have the same unit and the same names of chromosomes (markers: "
            f"{shortlist(markers['chromosome'].unique(), 3)}; nodes: "
            f"{shortlist(nodes['chromosome'].unique(), 3)})"
        )
    return pd.DataFrame(
        {
            "marker": markers.index.to_numpy()[marker_rows],
            "node": nodes.index.to_numpy()[node_rows],
        }
    )


def _near(
    marker_chromosomes: np.ndarray,
    positions: np.ndarray,
    node_chromosomes: np.ndarray,
    low: np.ndarray,
    high: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Rows of markers and of nodes, for all markers with low <= position <= high."""
    codes, _ = pd.factorize(np.concatenate([marker_chromosomes, node_chromosomes]))
    of_markers, of_nodes = np.split(codes, [len(positions)])
    order = np.lexsort((positions, of_markers))
    of_markers, positions = of_markers[order], positions[order]
    first, last = np.zeros((2, len(low)), dtype=np.int64)
    for chromosome in np.unique(of_nodes):
        begin, end = np.searchsorted(of_markers, [chromosome, chromosome + 1])
        here = of_nodes == chromosome
        first[here] = begin + np.searchsorted(positions[begin:end], low[here], "left")
        last[here] = begin + np.searchsorted(positions[begin:end], high[here], "right")
    counts = last - first
    # Runs first..last, one after the other: each counts on from where the one before it stopped.
    step = np.repeat(first - np.cumsum(counts) + counts, counts)
    return order[step + np.arange(counts.sum())], np.repeat(np.arange(len(low)), counts)
