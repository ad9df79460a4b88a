"""Tables with an id column: read from csv, tsv, txt or parquet, or taken from memory."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeAlias, cast

import numpy as np
import pandas as pd

from nnmm_jax.data.files import SUFFIXES, column_names, read_file
from nnmm_jax.errors import InputError, shortlist

# Under which name the attributes of a table that was read say how its ids were written.
ID_FORM = "id_form"


@dataclass(frozen=True)
class IdForm:
    """How the ids of a table were written.

    Attributes
    ----------
    stripped
        Rows whose id had blanks around it.
    numbers
        Whether the ids were whole numbers.
    """

    stripped: int = 0
    numbers: bool = False


class LabelledArray(Protocol):
    """Two-dimensional array with names along both axes: ``xarray.DataArray``."""

    dims: Any
    coords: Any

    def to_pandas(self) -> Any:
        """Return it as a table."""


class AnnotatedData(Protocol):
    """Matrix of observations and variables: ``anndata.AnnData``."""

    obs_names: Any

    def to_df(self) -> pd.DataFrame:
        """Return it as a table."""


Source: TypeAlias = str | Path | pd.DataFrame | LabelledArray | AnnotatedData


def read_table(
    source: Source,
    *,
    what: str,
    id_column: str | None = None,
    small_integers: bool = False,
    repeated_ids: bool = False,
    text_columns: bool | tuple[str, ...] = (),
    endings: tuple[str, ...] = SUFFIXES,
) -> pd.DataFrame:
    """Read a table and make its ids the index.

    Parameters
    ----------
    source
        A csv (commas), tsv or txt (tabs; commas or blanks if the header has no tab), any of these
        with ``.gz``, a parquet file, or a table in memory: of pandas, a two-dimensional
        ``xarray.DataArray`` with coordinates, an ``anndata.AnnData`` (its X).
    what
        What the table is, for messages: ``"genotypes"``.
    id_column
        Name of the id column. Default: the first column, or the index of a table in memory when
        the index has a name or holds text.
    small_integers
        Try whole numbers of -128..127 first, as dosages are: a fraction of the memory.
    repeated_ids
        Let an id have several rows, as phenotypes with repeated records have.
    text_columns
        Columns of a csv, tsv or txt file to read as text, as ids are, so that ``007`` stays what
        it is; True for all.
    endings
        What may be given, for the message about a file that ends otherwise.

    Returns
    -------
    pandas.DataFrame
        One row per individual, or per record with `repeated_ids`; the index, named ``id``, holds
        the ids as text without blanks around them, so that ``1`` in one file and ``"1"`` in
        another are the same individual.
        Column names are text, dates too; integers with holes have pandas' nullable types.

    Raises
    ------
    InputError
        The file is missing, a folder, unreadable, empty or of an unknown kind; a column name or an
        id is repeated or missing; ids are decimal numbers.

    Examples
    --------
    >>> import pandas as pd
    >>> read_table(pd.DataFrame({"id": [1, 2], "y": [0.5, 0.7]}), what="phenotypes").loc["2", "y"]
    np.float64(0.7)
    """
    name = label(what, source)
    if isinstance(source, str | Path):
        path = Path(source)
        found = read_file(path, name, id_column, small_integers, text_columns, endings)
        frame = _index_as_column(found, id_column)
    else:
        frame = _index_as_column(_from_memory(source, name), id_column)
    frame.columns = pd.Index(column_names(list(frame.columns), name))
    return _with_ids(frame, name, id_column, repeated_ids)


def numeric_values(frame: pd.DataFrame, what: str) -> np.ndarray:
    """Values of a table as decimal numbers, missing cells as NaN.

    Parameters
    ----------
    frame
        Table with ids in the index, as :func:`read_table` gives it.
    what
        What the table is, for messages.

    Returns
    -------
    numpy.ndarray
        float64, of the frame's shape.

    Raises
    ------
    InputError
        A cell is not a number or infinite; the message names its column and id.

    Examples
    --------
    >>> import pandas as pd
    >>> numeric_values(pd.DataFrame({"y": ["1.5", None]}, index=["a", "b"]), "phenotypes")
    array([[1.5],
           [nan]])
    """
    replaced = {
        position: _numeric_column(frame.iloc[:, position], what)
        for position, dtype in enumerate(frame.dtypes)
        if not pd.api.types.is_numeric_dtype(dtype) or pd.api.types.is_complex_dtype(dtype)
    }
    if replaced:
        frame = pd.concat(
            [replaced.get(j, frame.iloc[:, j]) for j in range(frame.shape[1])], axis=1
        )
    values = np.asarray(frame.to_numpy(dtype=np.float64, na_value=np.nan))
    infinite = np.isinf(values)
    if infinite.any():
        row, column = np.argwhere(infinite)[0]
        raise InputError(
            f"{what}: expected finite numbers, found {values[row, column]} in column "
            f"'{frame.columns[column]}', id '{frame.index[row]}'; correct it or leave it empty"
        )
    return values


def _numeric_column(column: pd.Series, what: str) -> pd.Series:
    """Text that spells numbers as numbers; anything else is an error."""
    if not (
        pd.api.types.is_object_dtype(column.dtype)
        or pd.api.types.is_string_dtype(column.dtype)
        or isinstance(column.dtype, pd.CategoricalDtype)
    ):
        raise InputError(
            f"{what}: expected numbers in column '{column.name}', found {column.dtype}; "
            "remove the column or convert it to numbers"
        )
    numbers = pd.to_numeric(column.astype(object), errors="coerce").astype(np.float64)
    wrong = (numbers.isna() & column.notna()).to_numpy()
    if wrong.any():
        row = int(np.argmax(wrong))
        raise InputError(
            f"{what}: expected numbers, found '{column.iloc[row]}' in column '{column.name}', "
            f"id '{column.index[row]}'; correct it, leave it empty if it is missing, or remove "
            "the column"
        )
    return cast(pd.Series, numbers)


def label(what: str, source: object) -> str:
    """Name of a table for messages, with its path if it has one.

    Parameters
    ----------
    what
        What the table is.
    source
        Path or table.

    Returns
    -------
    str
        What the message begins with.

    Examples
    --------
    >>> label("omics", "omics.csv")
    'omics omics.csv'
    """
    return f"{what} {source}" if isinstance(source, str | Path) else what


def _from_memory(source: object, name: str) -> pd.DataFrame:
    """A table of pandas, whatever holds it."""
    if isinstance(source, pd.DataFrame):
        return source
    if hasattr(source, "obs_names") and hasattr(source, "to_df"):
        return cast(pd.DataFrame, source.to_df())
    if hasattr(source, "dims") and hasattr(source, "to_pandas"):
        dims = tuple(source.dims)
        if len(dims) != 2 or any(dim not in getattr(source, "coords", ()) for dim in dims):
            raise InputError(
                f"{name}: expected two dimensions with coordinates, individuals first, found "
                f"{shortlist(dims)}; give ids and names as coordinates of these"
            )
        return cast(pd.DataFrame, source.to_pandas())
    raise InputError(
        f"{name}: expected a path, a table of pandas, an xarray.DataArray or AnnData, found "
        f"{type(source).__name__}; name rows and columns, for instance by pandas.DataFrame(values, "
        "index=ids, columns=names)"
    )


def _index_as_column(frame: pd.DataFrame, id_column: str | None) -> pd.DataFrame:
    """A copy with the ids among the columns: pandas users often keep them in the index."""
    index = frame.index
    named = index.name is not None and index.name not in frame.columns
    if id_column is not None and id_column in frame.columns:
        return frame.reset_index(drop=True)
    if frame.shape[1] and str(frame.columns[0]).strip() == "id":
        return frame.reset_index(drop=True)
    if named or (not isinstance(index, pd.RangeIndex) and pd.api.types.is_string_dtype(index)):
        return frame.reset_index(names=index.name if named else "id")
    return frame.reset_index(drop=True)


def _with_ids(
    frame: pd.DataFrame, name: str, id_column: str | None, repeated_ids: bool
) -> pd.DataFrame:
    """Move the ids to the index, checked."""
    if not len(frame) or not frame.shape[1]:
        raise InputError(f"{name}: expected at least one row, found none; check the table")
    if id_column is not None and id_column not in frame.columns:
        raise InputError(
            f"{name}: expected the id column '{id_column}', found the columns "
            f"{shortlist(frame.columns)}; give one of these"
        )
    if id_column is None and "id" in frame.columns[1:]:
        raise InputError(
            f"{name}: expected ids in the first column, found '{frame.columns[0]}' there and a "
            "column 'id' elsewhere; move 'id' to the front or name the id column"
        )
    column = id_column if id_column is not None else frame.columns[0]
    ids = _ids_as_text(frame[column], name)
    repeated = [label for label, times in Counter(ids).items() if times > 1]
    if repeated and not repeated_ids:
        raise InputError(
            f"{name}: expected every id once, found {shortlist(repeated)} more than once in "
            f"column '{column}'; keep one row per id (only phenotypes may be recorded repeatedly)"
        )
    rest = frame.drop(columns=column)
    rest.index = pd.Index(ids, name="id", dtype=object)
    blanks = sum(str(value) != label for value, label in zip(frame[column], ids, strict=True))
    rest.attrs[ID_FORM] = IdForm(blanks, pd.api.types.is_integer_dtype(frame[column].dtype))
    return rest


def _ids_as_text(column: pd.Series, name: str) -> list[str]:
    ids = ["" if pd.isna(value) else str(value).strip() for value in column]
    if "" in ids:
        rows = [row for row, label in enumerate(ids, start=1) if not label]
        raise InputError(
            f"{name}: expected an id in every row, found none in column '{column.name}', data "
            f"row {shortlist(rows)}; fill in the ids or remove the rows"
        )
    # 1.0 and "1" would not meet; guessing which was meant could join the wrong rows.
    if any(isinstance(value, float | np.floating) for value in column):
        raise InputError(
            f"{name}: expected ids that are text or whole numbers, found decimal numbers in "
            f"column '{column.name}' ({shortlist(ids)}); convert them to whole numbers or text"
        )
    return ids
