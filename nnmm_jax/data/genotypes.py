"""Marker dosages: checked, constant markers dropped, held as int8 when they are counts."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd

from nnmm_jax.data.tables import numeric_values
from nnmm_jax.errors import InputError

MISSING_CODE = -1

# Markers are checked this many at a time, so that only a slice is ever held as float64.
MARKERS_PER_SLICE = 1024


@dataclass(frozen=True, eq=False)
class Genotypes:
    """Dosages of the markers that vary.

    Attributes
    ----------
    codes
        (individual, marker): int8 with -1 for missing when every dosage is a whole number, else
        float32 with NaN for missing. Copies of the counted allele, 0..2, not centred.
    ids
        Individuals, in the order of the rows.
    markers
        Names of the columns of `codes`.
    n_missing
        Missing cells in `codes`.
    constant
        Names of the markers dropped because all their observed dosages are equal.
    unobserved
        Names of the markers dropped because they have no observed dosage.
    """

    codes: np.ndarray
    ids: tuple[str, ...]
    markers: tuple[str, ...]
    n_missing: int
    constant: tuple[str, ...]
    unobserved: tuple[str, ...]

    @property
    def dropped(self) -> frozenset[str]:
        """Names of all markers that were dropped."""
        return frozenset({*self.constant, *self.unobserved})


def genotypes_from_frame(frame: pd.DataFrame, source: str = "genotypes") -> Genotypes:
    """Check dosages and hold them compactly.

    Parameters
    ----------
    frame
        One row per individual with the id in the index, one column per marker, dosages 0..2,
        as :func:`nnmm_jax.data.read_table` gives it.
    source
        What the table is, for messages.

    Returns
    -------
    Genotypes
        The markers that vary, with the names of those that were dropped.

    Raises
    ------
    InputError
        A dosage is not a number, infinite or outside 0..2 (the message names marker and id); there
        are no markers, or none of them varies.

    Examples
    --------
    >>> import pandas as pd
    >>> frame = pd.DataFrame({"m1": [0, 1, 2], "m2": [1, 1, 1]}, index=["a", "b", "c"])
    >>> genotypes = genotypes_from_frame(frame)
    >>> genotypes.codes.ravel(), genotypes.constant
    (array([0, 1, 2], dtype=int8), ('m2',))
    """
    if not frame.shape[1]:
        raise InputError(
            f"{source}: expected marker columns beside the ids, found none; check the table"
        )
    slices: list[np.ndarray] = []
    varies, observed = np.zeros((2, frame.shape[1]), dtype=bool)
    n_missing = 0
    for part, dosages in _checked_slices(frame, source):
        missing = np.isnan(dosages)
        observed[part] = ~missing.all(axis=0)
        # fmin and fmax pass over NaN; a marker without data gives NaN, which is not below NaN.
        lowest, highest = np.fmin.reduce(dosages, axis=0), np.fmax.reduce(dosages, axis=0)
        varies[part] = lowest < highest
        n_missing += int(missing[:, varies[part]].sum())
        slices.append(_compact(dosages[:, varies[part]]))
    if not varies.any():
        raise InputError(
            f"{source}: expected markers that vary, found {frame.shape[1]} marker(s) that are all "
            "constant or without data; check the table"
        )
    names = np.asarray(frame.columns, dtype=str)
    return Genotypes(
        codes=_join(slices),
        ids=tuple(str(label) for label in frame.index),
        markers=tuple(names[varies].tolist()),
        n_missing=n_missing,
        constant=tuple(names[observed & ~varies].tolist()),
        unobserved=tuple(names[~observed].tolist()),
    )


def dosages_from_frame(frame: pd.DataFrame, source: str = "genotypes") -> np.ndarray:
    """Check dosages and hold them compactly, markers that do not vary too.

    Parameters
    ----------
    frame
        As for :func:`genotypes_from_frame`, at least one marker.
    source
        What the table is, for messages.

    Returns
    -------
    numpy.ndarray
        (individual, marker), as ``codes`` of :class:`Genotypes`.

    Raises
    ------
    InputError
        A dosage is not a number, infinite or outside 0..2; the message names marker and id.

    Examples
    --------
    >>> import pandas as pd
    >>> dosages_from_frame(pd.DataFrame({"m1": [1, 1], "m2": [2, None]}, index=["a", "b"]))
    array([[ 1,  2],
           [ 1, -1]], dtype=int8)
    """
    return _join([_compact(dosages) for _, dosages in _checked_slices(frame, source)])


def _checked_slices(frame: pd.DataFrame, source: str) -> Iterator[tuple[slice, np.ndarray]]:
    """Some markers at a time: their place, and their dosages with NaN for missing."""
    for start in range(0, frame.shape[1], MARKERS_PER_SLICE):
        part = slice(start, start + MARKERS_PER_SLICE)
        dosages = numeric_values(frame.iloc[:, part], source)
        _check_range(dosages, frame.iloc[:, part], source)
        yield part, dosages


def _check_range(dosages: np.ndarray, frame: pd.DataFrame, source: str) -> None:
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
        f"'{frame.columns[column]}', id '{frame.index[row]}'; {remedy}"
    )


def _compact(dosages: np.ndarray) -> np.ndarray:
    """int8 with -1 for missing if no dosage has a fraction, else float32 with NaN."""
    coded = np.where(np.isnan(dosages), MISSING_CODE, dosages)
    whole = coded.astype(np.int8)
    return whole if np.array_equal(whole, coded) else dosages.astype(np.float32)


def _join(slices: list[np.ndarray]) -> np.ndarray:
    """One array, rows contiguous; float32 if any slice needs it."""
    dtype = np.result_type(*slices)
    shape = (len(slices[0]), sum(part.shape[1] for part in slices))
    joined, start = np.empty(shape, dtype=dtype), 0
    for part in slices:
        target = joined[:, start : start + part.shape[1]]
        target[:] = part
        if part.dtype != dtype:
            target[part == MISSING_CODE] = np.nan
        start += part.shape[1]
    return joined
