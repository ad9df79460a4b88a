"""Quality control, each rule by choice: what is left out, what replaces missing genotypes."""

import hashlib
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from scipy.special import gammaln

from nnmm_jax.data.dosages import missing_cells, slices
from nnmm_jax.data.imputation import WAYS
from nnmm_jax.errors import InputError, shortlist

# Names that a report gives of what was dropped.
FIRST_NAMES = 5

# The median absolute deviation of a normal variable, in standard deviations.
MAD_OF_NORMAL = 0.6744897501960817


@dataclass(frozen=True)
class QualityControl:
    """What is left out before a fit; ``None`` (or False) for a rule that is not applied.

    Individuals are judged first, on all markers; then markers, on the individuals that stay, by the
    rules in the order below. Each marker is counted under the first rule that drops it.

    Attributes
    ----------
    individual_call_rate
        Least share of markers with a genotype, 0..1.
    marker_call_rate
        Least share of individuals with a genotype, 0..1.
    minor_allele_frequency
        Least frequency of the rarer allele, 0..0.5.
    hardy_weinberg
        Least p-value of the exact test of Hardy-Weinberg proportions, 0..1; not for inbred lines.
        Dosages with decimals are rounded for it.
    duplicate_markers
        Drop a marker whose dosages are those of an earlier one, with either allele counted.
    omics_outliers
        Omics values further from the median of their column than so many standard deviations become
        missing; the standard deviation is taken from the median absolute deviation.
    missing_genotypes
        What replaces missing genotypes of what is left: ``"mean"``, the mean of the marker, or
        ``"draw"``, one draw from its observed dosages, see
        :func:`nnmm_jax.data.imputation.draw_missing`.
    seed
        Of these draws.

    Raises
    ------
    InputError
        A limit is out of its range, or a choice unknown.

    References
    ----------
    Wigginton, Cutler & Abecasis 2005, Am. J. Hum. Genet. 76:887 (exact test).

    Examples
    --------
    >>> from nnmm_jax import QualityControl
    >>> QualityControl(marker_call_rate=0.9, minor_allele_frequency=0.01).hardy_weinberg is None
    True
    """

    individual_call_rate: float | None = None
    marker_call_rate: float | None = None
    minor_allele_frequency: float | None = None
    hardy_weinberg: float | None = None
    duplicate_markers: bool = False
    omics_outliers: float | None = None
    missing_genotypes: str = "mean"
    seed: int = 0

    def __post_init__(self) -> None:
        largest = {
            "individual_call_rate": 1.0,
            "marker_call_rate": 1.0,
            "minor_allele_frequency": 0.5,
            "hardy_weinberg": 1.0,
        }
        for name, limit in largest.items():
            value = getattr(self, name)
            if value is not None and not 0 <= value <= limit:
                raise InputError(
                    f"quality control: expected {name} from 0 to {limit:g}, found {value!r}; give "
                    "a share, not a percentage"
                )
        if self.omics_outliers is not None and not self.omics_outliers > 0:
            raise InputError(
                "quality control: expected omics_outliers above 0, found "
                f"{self.omics_outliers!r}; give a number of standard deviations, such as 6"
            )
        if self.missing_genotypes not in WAYS:
            raise InputError(
                f"quality control: expected missing_genotypes to be {' or '.join(WAYS)}, found "
                f"{self.missing_genotypes!r}"
            )
        if self.seed < 0:
            raise InputError(f"quality control: expected a seed of at least 0, found {self.seed}")


@dataclass(frozen=True)
class QualityCount:
    """What a rule left out.

    Attributes
    ----------
    what
        ``individuals``, ``markers`` or ``omics cells``.
    rule
        Why.
    dropped
        How many.
    first
        The first names, at most :data:`FIRST_NAMES`.
    """

    what: str
    rule: str
    dropped: int
    first: tuple[str, ...]

    def line(self) -> str:
        """The count for people.

        Returns
        -------
        str

        Examples
        --------
        >>> QualityCount("markers", "call rate below 0.9", 1, ("m7",)).line()
        "markers, call rate below 0.9: 1 ('m7')"
        """
        if not self.dropped:
            return f"{self.what}, {self.rule}: 0"
        more = ", ..." if self.dropped > len(self.first) else ""
        return f"{self.what}, {self.rule}: {self.dropped} ({shortlist(self.first)}{more})"

    def to_dict(self) -> dict[str, Any]:
        """The count for ``run.json``.

        Returns
        -------
        dict

        Examples
        --------
        >>> QualityCount("markers", "duplicates", 0, ()).to_dict()["dropped"]
        0
        """
        return asdict(self) | {"first": list(self.first)}


def counted(what: str, rule: str, names: np.ndarray, dropped: np.ndarray) -> QualityCount:
    """Count of what `dropped` marks.

    Parameters
    ----------
    what, rule
        As in :class:`QualityCount`.
    names, dropped
        Names, and bool of the same length.

    Returns
    -------
    QualityCount

    Examples
    --------
    >>> counted("markers", "rare", np.array(["a", "b"]), np.array([False, True])).first
    ('b',)
    """
    first = tuple(str(name) for name in names[dropped][:FIRST_NAMES])
    return QualityCount(what, rule, int(dropped.sum()), first)


def call_rates_of_individuals(codes: np.ndarray) -> np.ndarray:
    """Share of the markers with a genotype.

    Parameters
    ----------
    codes
        (individual, marker), as ``codes`` of :class:`nnmm_jax.Dosages`.

    Returns
    -------
    numpy.ndarray
        (individual,) 0..1.

    Examples
    --------
    >>> call_rates_of_individuals(np.array([[0, -1], [1, 2]], dtype=np.int8))
    array([0.5, 1. ])
    """
    missing = np.zeros(len(codes), dtype=np.int64)
    for part in slices(codes.shape[1]):
        missing += missing_cells(codes[:, part]).sum(axis=1)
    return np.asarray(1 - missing / codes.shape[1])


def hardy_weinberg_p(counts: np.ndarray) -> np.ndarray:
    """Exact test of Hardy-Weinberg proportions.

    Parameters
    ----------
    counts
        (marker, 3) individuals with 0, 1 and 2 copies of an allele.

    Returns
    -------
    numpy.ndarray
        (marker,) probability, given the allele counts, of a number of heterozygotes no more
        probable than the observed one; 1 without individuals.

    References
    ----------
    Wigginton, Cutler & Abecasis 2005, Am. J. Hum. Genet. 76:887.

    Examples
    --------
    >>> hardy_weinberg_p(np.array([[1, 0, 1], [25, 50, 25]])).round(4)
    array([0.3333, 1.    ])
    """
    distinct, rows = np.unique(np.asarray(counts), axis=0, return_inverse=True)
    log_factorial = gammaln(np.arange(int(distinct.sum(axis=1).max(initial=0)) + 1) + 1.0)
    return np.array([_exact_p(one, log_factorial) for one in distinct])[rows.ravel()]


def _exact_p(counts: np.ndarray, log_factorial: np.ndarray) -> float:
    low, heterozygotes, high = (int(count) for count in counts)
    rare = 2 * min(low, high) + heterozygotes
    possible = np.arange(rare % 2, rare + 1, 2)
    rare_homozygotes = (rare - possible) // 2
    common_homozygotes = low + heterozygotes + high - possible - rare_homozygotes
    weight = possible * np.log(2) - sum(
        log_factorial[some] for some in (possible, rare_homozygotes, common_homozygotes)
    )
    probability = np.exp(weight - weight.max())
    observed = probability[heterozygotes // 2]
    # Equal probabilities differ by rounding.
    return float(probability[probability <= observed * (1 + 1e-9)].sum() / probability.sum())


def genotype_counts(codes: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Individuals with 0, 1 and 2 copies.

    Parameters
    ----------
    codes
        (individual, marker), as ``codes`` of :class:`nnmm_jax.Dosages`; decimals are rounded.
    rows
        (individual,) bool, whom to count.

    Returns
    -------
    numpy.ndarray
        (marker, 3) int64.

    Examples
    --------
    >>> codes = np.array([[0, 2], [0, 2], [1, -1]], dtype=np.int8)
    >>> genotype_counts(codes, np.array([True, True, True])).tolist()
    [[2, 1, 0], [0, 0, 2]]
    """
    found = np.empty((codes.shape[1], 3), dtype=np.int64)
    for part in slices(codes.shape[1]):
        block = np.rint(codes[rows, part]) if codes.dtype.kind == "f" else codes[rows, part]
        for copies in range(3):
            found[part, copies] = (block == copies).sum(axis=0)
    return found


def duplicates(codes: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Which markers say the same as an earlier one.

    Parameters
    ----------
    codes
        (individual, marker), as ``codes`` of :class:`nnmm_jax.Dosages`.
    rows, columns
        bool, what to look at.

    Returns
    -------
    numpy.ndarray
        (marker,) bool; False where `columns` is.

    Examples
    --------
    >>> codes = np.array([[0, 2, 0], [1, 1, 0], [2, 0, 2]], dtype=np.int8)
    >>> duplicates(codes, np.array([True] * 3), np.array([True] * 3))
    array([False,  True, False])
    """
    found = np.zeros(codes.shape[1], dtype=bool)
    seen: set[bytes] = set()
    for part in slices(codes.shape[1]):
        for column, values in zip(
            np.flatnonzero(columns[part]) + part.start,
            np.ascontiguousarray(codes[rows, part][:, columns[part]].T),
            strict=True,
        ):
            key = _either_allele(values)
            found[column] = key in seen
            seen.add(key)
    return found


def _either_allele(values: np.ndarray) -> bytes:
    """The same bytes for dosages of a marker whichever of its alleles is counted."""
    missing = missing_cells(values)
    uneven = np.flatnonzero(~missing & (values != 1))
    if len(uneven) and values[uneven[0]] > 1:
        values = np.where(missing, values, 2 - values)
    # A digest in place of the column: the set stays small however many individuals there are.
    return hashlib.blake2b(values.tobytes(), digest_size=16).digest()


def outlying(omics: np.ndarray, limit: float) -> np.ndarray:
    """Values far from the median of their column.

    Parameters
    ----------
    omics
        (individual, node), NaN for missing.
    limit
        In standard deviations, see :class:`QualityControl`.

    Returns
    -------
    numpy.ndarray
        (individual, node) bool; nothing in a column of which half has one value.

    Examples
    --------
    >>> outlying(np.array([[1.0], [2.0], [3.0], [4.0], [99.0]]), 6.0).ravel()
    array([False, False, False, False,  True])
    """
    observed = ~np.isnan(omics)
    deviation = np.full(omics.shape, np.nan)
    for column in np.flatnonzero(observed.any(axis=0)):
        values = omics[observed[:, column], column]
        distance = np.abs(values - np.median(values))
        if (sd := np.median(distance) / MAD_OF_NORMAL) > 0:
            deviation[observed[:, column], column] = distance / sd
    return np.asarray(deviation > limit)
