"""Groups of markers, such as functional annotations, for all nodes or node by node."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from nnmm_jax.data.checks import marker_rows
from nnmm_jax.data.tables import read_table
from nnmm_jax.errors import InputError, shortlist

OTHER = "other"


@dataclass(frozen=True, eq=False)
class MarkerGroups:
    """Which group every marker belongs to.

    Attributes
    ----------
    names
        Names of the groups, in the order of the table; ``other``, if some markers are in no group
        of the table, comes last.
    codes
        (marker,) int16 positions in `names`, or (marker, node) where groups differ by node.
    """

    names: tuple[str, ...]
    codes: np.ndarray

    def of_node(self, node: int) -> np.ndarray:
        """Groups of the markers for one node.

        Parameters
        ----------
        node
            Position of the node.

        Returns
        -------
        numpy.ndarray
            (marker,) int16.

        Examples
        --------
        >>> import numpy as np
        >>> MarkerGroups(("a", "b"), np.array([[0, 1], [1, 1]], dtype=np.int16)).of_node(0)
        array([0, 1], dtype=int16)
        """
        return self.codes if self.codes.ndim == 1 else self.codes[:, node]


def read_marker_groups(
    source: str | Path | pd.DataFrame,
    markers: np.ndarray,
    nodes: np.ndarray,
    *,
    dropped: frozenset[str] = frozenset(),
) -> MarkerGroups:
    """Read which group every marker is in.

    Parameters
    ----------
    source
        Columns ``marker``, ``group`` and optionally ``node``; a file or a table, see
        :func:`nnmm_jax.data.read_table`. A row without node holds for all nodes, one with a node
        takes its place for that node. Markers in no row belong to the group ``other``.
    markers
        (marker,) names of the markers analysed.
    nodes
        (node,) names of the observed nodes.
    dropped
        Names of markers that were left out for want of variation; rows of these are passed over.

    Returns
    -------
    MarkerGroups
        Codes by marker, and by node if the table has nodes.

    Raises
    ------
    InputError
        The table lacks the columns; a marker or a node is unknown; a group is missing; a marker is
        in two groups for one node.

    Examples
    --------
    >>> import pandas as pd
    >>> table = pd.DataFrame(
    ...     {"marker": ["m1", "m2", "m1"], "group": ["x", "y", "y"], "node": [None, None, "g2"]}
    ... )
    >>> groups = read_marker_groups(table, ["m1", "m2", "m3"], ["g1", "g2"])
    >>> groups.names
    ('x', 'y', 'other')
    >>> groups.codes
    array([[0, 1],
           [1, 1],
           [2, 2]], dtype=int16)
    """
    name = f"marker groups {source}" if isinstance(source, str | Path) else "marker groups"
    table = _columns(source, name)
    row = marker_rows(table["marker"], markers, dropped, name)
    column = pd.Index(nodes, dtype=object).get_indexer(table["node"])
    general = (table["node"] == "").to_numpy()
    if (unknown_node := (column < 0) & ~general).any():
        raise InputError(
            f"{name}: expected nodes that are columns of the omics, found "
            f"{shortlist(table['node'][unknown_node].unique())}; correct them, or leave the node "
            "empty for all nodes"
        )
    _check_one_group(table, name)
    codes, names = pd.factorize(table["group"])
    grouped = np.full((len(markers), max(1, len(nodes))), -1, dtype=np.int16)
    grouped[row[general & (row >= 0)]] = codes[general & (row >= 0), None]
    special = ~general & (row >= 0)
    grouped[row[special], column[special]] = codes[special]
    return _with_other(grouped if special.any() else grouped[:, 0], [str(n) for n in names])


def _with_other(grouped: np.ndarray, names: list[str]) -> MarkerGroups:
    """Only groups that markers are in; those in none are in the last one, named other."""
    if (grouped < 0).any() and OTHER not in names:
        names = [*names, OTHER]
    filled = np.where(grouped < 0, names.index(OTHER) if OTHER in names else -1, grouped)
    used, codes = np.unique(filled, return_inverse=True)
    return MarkerGroups(
        tuple(names[code] for code in used), codes.reshape(grouped.shape).astype(np.int16)
    )


def _columns(source: str | Path | pd.DataFrame, name: str) -> pd.DataFrame:
    """Marker, group and node as text, "" for no node."""
    table = read_table(
        source, what="marker groups", id_column="marker", repeated_ids=True, text_columns=True
    )
    if "group" not in table.columns:
        raise InputError(
            f"{name}: expected the columns marker, group and, if need be, node, found "
            f"{shortlist(['marker', *table.columns])}; rename the columns"
        )
    if (empty := table["group"].isna().to_numpy()).any():
        raise InputError(
            f"{name}: expected a group in every row, found none for "
            f"{shortlist(table.index[empty])}; fill it in or remove the rows"
        )
    nodes = table["node"] if "node" in table.columns else pd.Series("", index=table.index)
    return pd.DataFrame(
        {
            "marker": table.index.to_numpy(),
            "group": [str(value).strip() for value in table["group"]],
            "node": ["" if pd.isna(value) else str(value).strip() for value in nodes],
        },
        dtype=object,
    )


def _check_one_group(table: pd.DataFrame, name: str) -> None:
    distinct = table.drop_duplicates()
    again = distinct.duplicated(["marker", "node"])
    if again.any():
        marker, _, node = distinct[again].iloc[0]
        both = distinct[(distinct["marker"] == marker) & (distinct["node"] == node)]["group"]
        place = f" for node '{node}'" if node else ""
        raise InputError(
            f"{name}: expected one group for each marker{place}, found {shortlist(both)} for "
            f"'{marker}'; keep one"
        )
