"""Dosages of markers as they were given: checked, and held as int8 when they are counts."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from nnmm_jax.data.tables import IdForm, numeric_values
from nnmm_jax.errors import InputError, shortlist

MISSING_CODE = -1

# Markers are checked this many at a time, so that only a slice is ever held as float64.
MARKERS_PER_SLICE = 1024

# Columns of `Dosages.places`.
PLACE_COLUMNS = ("chromosome", "position", "counted", "other")


@dataclass(frozen=True, eq=False)
class Dosages:
    """Dosages of all markers of a file, or of an array in memory, with their names.

    Attributes
    ----------
    codes
        (individual, marker) copies of the counted allele, 0..2. As read: int8 with -1 for missing
        when every dosage is a whole number, else float32 with NaN for missing. One's own array may
        have any type of numbers; in integers -1 is missing, in decimals NaN.
    ids
        (individual,) text, each once.
    markers
        (marker,) text, each once.
    places
        One row a marker: ``chromosome`` and ``position`` (base pairs), ``counted`` and ``other``
        allele; None where the format does not have them.
    n_ignored
        Markers of the source that were not asked for.
    id_form
        How the ids of a table were written.

    Examples
    --------
    >>> import numpy as np
    >>> from nnmm_jax import Dosages
    >>> Dosages(np.array([[0, 2], [1, -1]]), ids=["a", "b"], markers=["m1", "m2"]).n_missing
    1
    """

    codes: np.ndarray
    ids: Sequence[str]
    markers: Sequence[str]
    places: pd.DataFrame | None = None
    n_ignored: int = 0
    id_form: IdForm = field(default_factory=IdForm)

    @property
    def n_missing(self) -> int:
        """Missing cells."""
        return int(missing_cells(np.asarray(self.codes)).sum())


def dosages_from_frame(frame: pd.DataFrame, source: str = "genotypes") -> np.ndarray:
    """Check dosages and hold them compactly, markers that do not vary too.

    Parameters
    ----------
    frame
        One row per individual with the id in the index, one column per marker, dosages 0..2,
        as :func:`nnmm_jax.data.read_table` gives it.
    source
        What the table is, for messages.

    Returns
    -------
    numpy.ndarray
        (individual, marker), as ``codes`` of :class:`Dosages`.

    Raises
    ------
    InputError
        A dosage is not a number, infinite or outside 0..2 (the message names marker and id); there
        are no markers.

    Examples
    --------
    >>> import pandas as pd
    >>> dosages_from_frame(pd.DataFrame({"m1": [1, 1], "m2": [2, None]}, index=["a", "b"]))
    array([[ 1,  2],
           [ 1, -1]], dtype=int8)
    """
    _check_markers(frame.shape[1], source)

    def values(part: slice) -> np.ndarray:
        return numeric_values(frame.iloc[:, part], source)

    return _checked(values, frame.index, frame.columns, source)


def checked_dosages(given: Dosages, source: str = "genotypes") -> Dosages:
    """Check dosages from memory and hold them compactly, in an array of their own.

    Parameters
    ----------
    given
        Array and names, see :class:`Dosages`.
    source
        What it is, for messages.

    Returns
    -------
    Dosages
        A copy; names are text without blanks around them.

    Raises
    ------
    InputError
        The array is not of numbers or not of the names' shape; a name is missing or repeated; a
        dosage is infinite or outside 0..2.

    Examples
    --------
    >>> import numpy as np
    >>> given = Dosages(np.array([[0.0, 2.0], [np.nan, 1.0]]), ids=[1, 2], markers=["m", "n"])
    >>> checked_dosages(given).codes
    array([[ 0,  2],
           [-1,  1]], dtype=int8)
    """
    codes = np.asarray(given.codes)
    ids = checked_names(given.ids, "id", "individual", source)
    markers = checked_names(given.markers, "name", "marker", source)
    if codes.shape != (len(ids), len(markers)) or codes.dtype.kind not in "iufb":
        raise InputError(
            f"{source}: expected numbers of shape {(len(ids), len(markers))}, as many as ids and "
            f"markers, found {codes.dtype} of shape {codes.shape}; check the array and its names"
        )
    _check_markers(len(markers), source)
    decimal = codes.dtype.kind == "f"

    def values(part: slice) -> np.ndarray:
        found = codes[:, part].astype(np.float64)
        if not decimal:
            found[found == MISSING_CODE] = np.nan
        if (infinite := np.isinf(found)).any():
            row, column = np.argwhere(infinite)[0]
            raise InputError(
                f"{source}: expected finite numbers, found {found[row, column]} in column "
                f"'{markers[part][column]}', id '{ids[row]}'; correct it or make it NaN"
            )
        return found

    return Dosages(_checked(values, ids, markers, source), ids, markers, given.places)


def checked_names(names: Sequence[Any], noun: str, owner: str, source: str) -> tuple[str, ...]:
    """Names of individuals or markers as text, each there and there once, or raise."""
    found = tuple("" if pd.isna(name) else str(name).strip() for name in names)
    if "" in found:
        raise InputError(
            f"{source}: expected the {noun} of every {owner}, found none for {owner} "
            f"{found.index('') + 1}; fill it in"
        )
    if len(set(found)) < len(found):
        repeated = [name for name, times in Counter(found).items() if times > 1]
        raise InputError(
            f"{source}: expected every {owner} once, found {shortlist(repeated)} more than once; "
            f"rename or remove {owner}s"
        )
    return found


def missing_cells(codes: np.ndarray) -> np.ndarray:
    """Where dosages are missing, in an array of codes."""
    return np.isnan(codes) if codes.dtype.kind == "f" else np.asarray(codes == MISSING_CODE)


def slices(markers: int) -> Iterator[slice]:
    """Some markers at a time."""
    for start in range(0, markers, MARKERS_PER_SLICE):
        yield slice(start, min(start + MARKERS_PER_SLICE, markers))


def compact(dosages: np.ndarray) -> np.ndarray:
    """int8 with -1 for missing if no dosage has a fraction, else float32 with NaN."""
    coded = np.where(np.isnan(dosages), MISSING_CODE, dosages)
    whole = coded.astype(np.int8)
    return whole if np.array_equal(whole, coded) else dosages.astype(np.float32)


def joined(parts: list[np.ndarray]) -> np.ndarray:
    """One array of compact slices, rows contiguous; float32 if any slice needs it."""
    dtype = np.result_type(*parts)
    shape = (len(parts[0]), sum(part.shape[1] for part in parts))
    found, start = np.empty(shape, dtype=dtype), 0
    for part in parts:
        target = found[:, start : start + part.shape[1]]
        target[:] = part
        if part.dtype != dtype:
            target[part == MISSING_CODE] = np.nan
        start += part.shape[1]
    return found


def check_range(
    dosages: np.ndarray, ids: Sequence[object], markers: Sequence[object], source: str
) -> None:
    """Raise unless all dosages that are not missing are from 0 to 2."""
    outside = (dosages < 0) | (dosages > 2)
    if not outside.any():
        return
    row, column = np.argwhere(outside)[0]
    value = dosages[row, column]
    remedy = "correct it, or leave the cell empty if it is missing"
    if value == -1:
        remedy = "add 1 to a coding of -1/0/1, or leave the cell empty if -1 means missing"
    raise InputError(
        f"{source}: expected dosages from 0 to 2, found {value:g} in column "
        f"'{markers[column]}', id '{ids[row]}'; {remedy}"
    )


def _check_markers(count: int, source: str) -> None:
    if not count:
        raise InputError(
            f"{source}: expected marker columns beside the ids, found none; check the table"
        )


def _checked(
    values: Callable[[slice], np.ndarray],
    ids: Sequence[object],
    markers: Sequence[object],
    source: str,
) -> np.ndarray:
    """Compact array of what `values` gives for some markers, NaN for missing."""
    parts = []
    for part in slices(len(markers)):
        dosages = values(part)
        check_range(dosages, ids, markers[part], source)
        parts.append(compact(dosages))
    return joined(parts)
