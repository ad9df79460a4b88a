"""Relationship matrices that the user gives: square tables or triplets, checked, as one array."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import scipy.linalg
import scipy.sparse.linalg

from nnmm_jax.data.tables import numeric_values, read_table
from nnmm_jax.errors import InputError, shortlist

# Eigenvalues and differences across the diagonal below this share of the largest are rounding.
ROUNDING = 1e-6

# An inverse is not taken when the reciprocal condition number is below this.
SINGULAR = 1e-12


@dataclass(frozen=True, eq=False)
class Relationship:
    """Covariance among the levels of a random term, known up to its variance.

    Attributes
    ----------
    ids
        (level,) text.
    matrix
        (level, level) float64, symmetric, positive semi-definite.
    name
        What to call it in messages.
    """

    ids: np.ndarray
    matrix: np.ndarray
    name: str = "relationship"

    def among(self, ids: np.ndarray) -> np.ndarray:
        """Rows and columns of some ids, in their order.

        Parameters
        ----------
        ids
            (n,) text.

        Returns
        -------
        numpy.ndarray
            (n, n) float64.

        Raises
        ------
        InputError
            The matrix lacks some of the ids; names them.

        Examples
        --------
        >>> import pandas as pd
        >>> table = pd.DataFrame({"id": ["a", "b"], "a": [1.0, 0.2], "b": [0.2, 1.1]})
        >>> read_relationship(table, name="lines").among(["b", "a"])
        array([[1.1, 0.2],
               [0.2, 1. ]])
        """
        wanted = pd.Index(ids, dtype=object)
        rows = pd.Index(self.ids, dtype=object).get_indexer(wanted)
        if (rows < 0).any():
            raise InputError(
                f"{_label(self.name)}: expected every individual, found no row of "
                f"{shortlist(wanted[rows < 0])}; add them"
            )
        return np.asarray(self.matrix[np.ix_(rows, rows)])


def read_relationship(
    source: str | Path | pd.DataFrame, *, inverse: bool = False, name: str
) -> Relationship:
    """Read a relationship matrix.

    Parameters
    ----------
    source
        A square table with ids in the first column and in the header, in any order; a table of
        triplets with the columns ``id1``, ``id2`` and ``value``, one triangle or both, in which
        pairs that are not listed have 0; or a table in memory with ids in index and columns. Files
        as for :func:`nnmm_jax.data.read_table`.
    inverse
        The table is the inverse, as of ASReml's ``.giv``, and is inverted.
    name
        What to call the matrix in messages.

    Returns
    -------
    Relationship
        Ids in the order of the rows.

    Raises
    ------
    InputError
        The table cannot be used; is not square; has other ids in the header than in the rows; is
        not symmetric, not finite or not positive semi-definite; its inverse is singular.

    Examples
    --------
    >>> import pandas as pd
    >>> triplets = pd.DataFrame(
    ...     {"id1": ["a", "b", "b"], "id2": ["a", "a", "b"], "value": [2.0, 0.0, 4.0]}
    ... )
    >>> read_relationship(triplets, inverse=True, name="lines").matrix
    array([[0.5 , 0.  ],
           [0.  , 0.25]])
    """
    label = _label(name) + (f" {source}" if isinstance(source, str | Path) else "")
    table = _table(source, label)
    is_triplets = [str(column).lower() for column in table.columns] == ["id2", "value"]
    ids, matrix = (_from_triplets if is_triplets else _from_square)(table, label)
    matrix = _symmetric(matrix, ids, label)
    if inverse:
        matrix = _inverted(matrix, label)
    else:
        _check_semidefinite(matrix, label)
    return Relationship(np.asarray(ids, dtype=str), matrix, name)


def _label(name: str) -> str:
    return f"relationship '{name}'"


def _table(source: str | Path | pd.DataFrame, label: str) -> pd.DataFrame:
    """Ids in the index; a table in memory may have them there though they are numbers."""
    if isinstance(source, pd.DataFrame):
        index, columns = source.index.astype(str), source.columns.astype(str)
        if len(index) == len(columns) and set(index) == set(columns):
            source = source.set_axis(index, axis=0).set_axis(columns, axis=1).rename_axis("id")
    what = label if isinstance(source, pd.DataFrame) else label.removesuffix(f" {source}")
    return read_table(source, what=what, repeated_ids=True, text_columns=("id2", "ID2"))


def _from_square(table: pd.DataFrame, label: str) -> tuple[pd.Index, np.ndarray]:
    ids = table.index
    if not ids.is_unique:
        raise InputError(
            f"{label}: expected every id once, found {shortlist(ids[ids.duplicated()].unique())} "
            "more than once; keep one row per id, or name the columns of triplets id1, id2, value"
        )
    if table.shape[0] != table.shape[1]:
        raise InputError(
            f"{label}: expected a square table, or columns id1, id2 and value, found "
            f"{table.shape[0]} rows and {table.shape[1]} columns beside the ids; check the table"
        )
    if len(absent := ids.difference(table.columns)):
        raise InputError(
            f"{label}: expected the same ids in the header as in the rows, found no column of "
            f"{shortlist(absent)}; check the header"
        )
    return ids, numeric_values(table[list(ids)], label)


def _from_triplets(table: pd.DataFrame, label: str) -> tuple[pd.Index, np.ndarray]:
    first, second = table.index, table.iloc[:, 0].astype(object)
    if second.isna().any():
        raise InputError(
            f"{label}: expected two ids in every row, found none in column "
            f"'{table.columns[0]}' beside {shortlist(first[second.isna()])}; fill it in"
        )
    values = numeric_values(table.iloc[:, [1]], label)[:, 0]
    labels = [*first, *(str(value).strip() for value in second)]
    codes, ids = pd.factorize(np.asarray(labels, dtype=object))
    row, column = codes[: len(first)], codes[len(first) :]
    matrix = np.zeros((len(ids), len(ids)))
    listed = np.zeros(matrix.shape, dtype=bool)
    matrix[row, column], listed[row, column] = values, True
    conflict = matrix[row, column] != values
    if (conflict & ~np.isnan(values)).any():
        at = int(np.argmax(conflict & ~np.isnan(values)))
        raise InputError(
            f"{label}: expected one value for each pair, found {values[at]:g} and "
            f"{matrix[row[at], column[at]]:g} for '{ids[row[at]]}' and '{ids[column[at]]}'; "
            "keep one of them"
        )
    if len(absent := ids[~np.diagonal(listed)]):
        raise InputError(
            f"{label}: expected the value of every id with itself, found none for "
            f"{shortlist(absent)}; add these rows"
        )
    return pd.Index(ids), np.where(listed, matrix, matrix.T)


def _symmetric(matrix: np.ndarray, ids: pd.Index, label: str) -> np.ndarray:
    if np.isnan(matrix).any():
        row, column = np.argwhere(np.isnan(matrix))[0]
        raise InputError(
            f"{label}: expected a value for every pair, found none for '{ids[row]}' and "
            f"'{ids[column]}'; fill it in"
        )
    difference = np.abs(matrix - matrix.T)
    if difference.max() > ROUNDING * np.abs(matrix).max():
        row, column = np.unravel_index(np.argmax(difference), matrix.shape)
        raise InputError(
            f"{label}: expected a symmetric matrix, found {matrix[row, column]:g} for "
            f"'{ids[row]}' and '{ids[column]}' but {matrix[column, row]:g} the other way round; "
            "correct it"
        )
    return 0.5 * (matrix + matrix.T)


def _check_semidefinite(matrix: np.ndarray, label: str) -> None:
    largest = _largest_eigenvalue(matrix)
    try:
        # Far cheaper than the smallest eigenvalue, which is then needed for the message only.
        scipy.linalg.cholesky(matrix + ROUNDING * largest * np.eye(len(matrix)), lower=True)
    except np.linalg.LinAlgError:
        smallest = scipy.linalg.eigvalsh(matrix, subset_by_index=[0, 0])[0]
        raise InputError(
            f"{label}: expected a positive semi-definite matrix, found the eigenvalue "
            f"{smallest:.4g} beside the largest {largest:.4g}; bend the matrix or remove "
            "individuals"
        ) from None


def _largest_eigenvalue(matrix: np.ndarray) -> float:
    if len(matrix) < 50:
        return float(np.linalg.eigvalsh(matrix)[-1])
    start = np.ones(len(matrix))
    return float(scipy.sparse.linalg.eigsh(matrix, k=1, which="LA", v0=start)[0][0])


def _inverted(matrix: np.ndarray, label: str) -> np.ndarray:
    try:
        factor = scipy.linalg.cholesky(matrix, lower=True)
        share, _ = scipy.linalg.lapack.dpocon(factor, np.linalg.norm(matrix, 1), uplo="L")
    except np.linalg.LinAlgError:
        share = 0.0
    if share < SINGULAR:
        raise InputError(
            f"{label}: expected the inverse of a relationship matrix, positive definite, found a "
            f"matrix that cannot be inverted (reciprocal condition number {share:.1g}); give the "
            "relationship matrix itself"
        )
    inverse = scipy.linalg.cho_solve((factor, True), np.eye(len(matrix)))
    return np.asarray(0.5 * (inverse + inverse.T))
