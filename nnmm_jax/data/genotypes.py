"""Markers to analyse: those that vary and pass quality control, of the individuals that do."""

from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from nnmm_jax.data.dosages import Dosages, dosages_from_frame, missing_cells, slices
from nnmm_jax.data.imputation import draw_missing
from nnmm_jax.data.quality import (
    QualityControl,
    QualityCount,
    call_rates_of_individuals,
    counted,
    duplicates,
    genotype_counts,
    hardy_weinberg_p,
)
from nnmm_jax.data.tables import IdForm
from nnmm_jax.errors import InputError


@dataclass(frozen=True)
class MarkerCoding:
    """How alleles of the analysed markers are counted: what hints at a coding that was not meant.

    Attributes
    ----------
    major
        Markers of which the more frequent allele is counted.
    without_two, without_zero
        Markers without an individual of two copies, or of none: all of them where presence is coded
        as 1, many where they are rare.
    """

    major: int = 0
    without_two: int = 0
    without_zero: int = 0


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
        Missing cells of these markers; those in `codes`, unless they have been drawn.
    constant
        Names of the markers dropped because all their observed dosages are equal.
    unobserved
        Names of the markers dropped because they have no observed dosage.
    failed
        Names of the markers that quality control dropped.
    failed_ids
        Individuals that quality control dropped.
    counts
        What each rule of quality control dropped.
    id_form
        How the ids of a table were written.
    drawn_seed
        Seed of the draws that have replaced missing cells; None where the mean does.
    coding
        How alleles are counted.
    """

    codes: np.ndarray
    ids: tuple[str, ...]
    markers: tuple[str, ...]
    n_missing: int
    constant: tuple[str, ...]
    unobserved: tuple[str, ...]
    failed: tuple[str, ...] = ()
    failed_ids: tuple[str, ...] = ()
    counts: tuple[QualityCount, ...] = ()
    id_form: IdForm = field(default_factory=IdForm)
    drawn_seed: int | None = None
    coding: MarkerCoding = MarkerCoding()

    @property
    def dropped(self) -> frozenset[str]:
        """Names of all markers that were dropped."""
        return frozenset({*self.constant, *self.unobserved, *self.failed})


@dataclass(frozen=True, eq=False)
class MarkerCounts:
    """What is counted of each marker.

    Attributes
    ----------
    missing
        (marker,) missing cells.
    low, high
        (marker,) smallest and largest dosage observed, NaN without any.
    frequency
        (marker,) of the counted allele, NaN without any.
    """

    missing: np.ndarray
    low: np.ndarray
    high: np.ndarray
    frequency: np.ndarray


def genotypes_from_frame(frame: pd.DataFrame, source: str = "genotypes") -> Genotypes:
    """Check dosages, drop markers that do not vary, and hold the others compactly.

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
    codes = dosages_from_frame(frame, source)
    ids = tuple(str(label) for label in frame.index)
    return genotypes_of(Dosages(codes, ids, tuple(np.asarray(frame.columns, dtype=str))), source)


def genotypes_of(
    dosages: Dosages, source: str = "genotypes", quality: QualityControl | None = None
) -> Genotypes:
    """Drop markers that do not vary, and what quality control does not let pass.

    Parameters
    ----------
    dosages
        As :func:`nnmm_jax.data.read_dosages` gives them. Their array is USED UP: what is kept is
        moved together in it, so that there is never a second one.
    source
        What they are, for messages.
    quality
        Rules; default none.

    Returns
    -------
    Genotypes
        The markers that vary, with the names of those that were dropped.

    Raises
    ------
    InputError
        No marker varies, or no individual or marker passes quality control.

    Examples
    --------
    >>> import numpy as np
    >>> codes = np.array([[0, 1, 2], [0, 1, -1], [1, 1, -1]], dtype=np.int8)
    >>> genotypes_of(Dosages(codes, ("a", "b", "c"), ("m1", "m2", "m3"))).markers
    ('m1',)
    """
    quality = QualityControl() if quality is None else quality
    codes, ids = dosages.codes, np.asarray(dosages.ids, dtype=str)
    names = np.asarray(dosages.markers, dtype=str)
    rows, of_ids = _passing_individuals(codes, ids, quality, source)
    counts = marker_counts(codes, rows)
    varies, observed = counts.low < counts.high, counts.missing < rows.sum()
    if not varies.any():
        raise InputError(
            f"{source}: expected markers that vary, found {len(varies)} marker(s) that are all "
            "constant or without data; check the table"
        )
    passes, of_markers = _passing_markers(codes, names, rows, varies, counts, quality)
    if not passes.any():
        found = "; ".join(count.line() for count in of_markers)
        raise InputError(
            f"{source}: expected markers that pass quality control, found none ({found}); choose "
            "other limits"
        )
    kept = keep_in_place(codes, rows, passes)
    seed = quality.seed if quality.missing_genotypes == "draw" else None
    if seed is not None:
        draw_missing(kept, seed)
    return Genotypes(
        codes=kept,
        ids=tuple(ids[rows].tolist()),
        markers=tuple(names[passes].tolist()),
        n_missing=int(counts.missing[passes].sum()),
        constant=tuple(names[observed & ~varies].tolist()),
        unobserved=tuple(names[~observed].tolist()),
        failed=tuple(names[varies & ~passes].tolist()),
        failed_ids=tuple(ids[~rows].tolist()),
        counts=(*of_ids, *of_markers),
        id_form=dosages.id_form,
        drawn_seed=seed,
        coding=MarkerCoding(
            major=int((counts.frequency[passes] > 0.5).sum()),
            without_two=int((counts.high[passes] <= 1).sum()),
            without_zero=int((counts.low[passes] >= 1).sum()),
        ),
    )


def _passing_individuals(
    codes: np.ndarray, ids: np.ndarray, quality: QualityControl, source: str
) -> tuple[np.ndarray, list[QualityCount]]:
    limit = quality.individual_call_rate
    if limit is None:
        return np.ones(len(ids), dtype=bool), []
    low = call_rates_of_individuals(codes) < limit
    if low.all():
        raise InputError(
            f"{source}: expected individuals with a call rate of at least {limit:g}, found none; "
            "choose a lower limit"
        )
    return ~low, [counted("individuals", f"call rate below {limit:g}", ids, low)]


def _passing_markers(
    codes: np.ndarray,
    names: np.ndarray,
    rows: np.ndarray,
    varies: np.ndarray,
    counts: MarkerCounts,
    quality: QualityControl,
) -> tuple[np.ndarray, list[QualityCount]]:
    """Markers that vary and pass, and what each rule drops of those that the earlier ones left."""
    passes, found = varies.copy(), []

    def drop(failing: np.ndarray, rule: str) -> None:
        found.append(counted("markers", rule, names, passes & failing))
        passes[failing] = False

    if (limit := quality.marker_call_rate) is not None:
        drop(1 - counts.missing / rows.sum() < limit, f"call rate below {limit:g}")
    if (limit := quality.minor_allele_frequency) is not None:
        rarer = np.fmin(counts.frequency, 1 - counts.frequency)
        drop(rarer < limit, f"minor allele frequency below {limit:g}")
    if (limit := quality.hardy_weinberg) is not None:
        p_values = hardy_weinberg_p(genotype_counts(codes, rows))
        drop(p_values < limit, f"Hardy-Weinberg p below {limit:g}")
    if quality.duplicate_markers:
        drop(duplicates(codes, rows, passes), "dosages of an earlier marker")
    return passes, found


def marker_counts(codes: np.ndarray, rows: np.ndarray | None = None) -> MarkerCounts:
    """Count some markers at a time.

    Parameters
    ----------
    codes
        (individual, marker), as ``codes`` of :class:`Dosages`.
    rows
        (individual,) bool, whom to count; default all.

    Returns
    -------
    MarkerCounts

    Examples
    --------
    >>> import numpy as np
    >>> found = marker_counts(np.array([[0, -1], [1, 2]], dtype=np.int8))
    >>> found.missing, found.frequency
    (array([0, 1]), array([0.25, 1.  ]))
    """
    count = codes.shape[1]
    found = MarkerCounts(np.zeros(count, dtype=np.int64), *np.full((3, count), np.nan))
    for part in slices(codes.shape[1]):
        block = codes[:, part] if rows is None or rows.all() else codes[rows, part]
        missing = missing_cells(block)
        found.missing[part] = missing.sum(axis=0)
        seen = len(block) - found.missing[part]
        some = seen > 0
        # 3 is above, and the code of missing in whole numbers below, all dosages.
        low = np.where(missing, block.dtype.type(3), block).min(axis=0)
        high = np.fmax.reduce(block, axis=0)
        total = np.where(missing, 0, block).sum(axis=0, dtype=np.float64)
        found.low[part] = np.where(some, low, np.nan)
        found.high[part] = np.where(some, high, np.nan)
        found.frequency[part] = np.where(some, total / np.maximum(2 * seen, 1), np.nan)
    return found


def keep_in_place(codes: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Rows and columns of an array, moved to its beginning; the array itself is used up.

    Parameters
    ----------
    codes
        (individual, marker), rows contiguous.
    rows, columns
        bool, what to keep.

    Returns
    -------
    numpy.ndarray
        In the memory of `codes`, unless less than half of it is kept.

    Examples
    --------
    >>> import numpy as np
    >>> codes = np.arange(6).reshape(2, 3)
    >>> keep_in_place(codes, np.array([True, True]), np.array([True, False, True]))
    array([[0, 2],
           [3, 5]])
    """
    if rows.all() and columns.all():
        return codes
    wanted, flat = np.flatnonzero(columns), codes.reshape(-1)
    width, count = len(wanted), int(rows.sum())
    # A row never lands behind where it came from, so that no row is lost before it is moved.
    for new, old in enumerate(np.flatnonzero(rows)):
        flat[new * width : (new + 1) * width] = codes[old, wanted]
    kept = flat[: count * width].reshape(count, width)
    return kept.copy() if 2 * kept.size < codes.size else kept
