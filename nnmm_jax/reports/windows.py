"""Windows of neighbouring markers: by their number, by distance on the map, or by linkage."""

import re
from dataclasses import dataclass

import numpy as np
import pandas as pd

from nnmm_jax.data.maps import MapSource, read_map
from nnmm_jax.data.tables import label
from nnmm_jax.errors import InputError, shortlist
from nnmm_jax.posterior.fit_genotypes import FitGenotypes
from nnmm_jax.posterior.result import FitResult

LEAST_R2 = 0.5  # between neighbours of a block of linkage disequilibrium, unless another is named
_DISTANCES = {"bp": 1.0, "kb": 1e3, "mb": 1e6, "cm": 1.0, "units": 1.0}
_FORMS = "'10 markers', '500 kb' or '1 Mb' (of a map in base pairs), '2 cM', '2 units', or 'LD 0.5'"


@dataclass(frozen=True)
class WindowRule:
    """How the genome is cut.

    Attributes
    ----------
    kind : str
        ``markers``, ``distance`` or ``LD``.
    size : float
        Number of markers, distance in units of the map, or the least r² between neighbours.
    text : str
        As it was asked for.
    """

    kind: str
    size: float
    text: str


def parse_window(text: str) -> WindowRule:
    """Read a rule such as ``10 markers``, ``1 Mb`` or ``LD``.

    Raises
    ------
    InputError
        If it is none of these, or its number is not possible.

    Examples
    --------
    >>> parse_window("500 kb").size
    500000.0
    """
    words = " ".join(text.split())
    if found := re.fullmatch(r"ld(?: ?([\d.]+))?", words.lower()):
        size = _number(found[1]) if found[1] else LEAST_R2
        if 0 < size < 1:
            return WindowRule("LD", size, f"LD {size:g}")
    elif found := re.fullmatch(r"([\d.]+(?:e\d+)?) ?(markers?|bp|kb|mb|cm|units?)", words.lower()):
        size, unit = _number(found[1]), found[2]
        if unit.startswith("marker") and size >= 1 and size == int(size):
            return WindowRule("markers", size, words)
        if not unit.startswith("marker") and size > 0:
            return WindowRule("distance", size * _DISTANCES.get(unit, 1.0), words)
    raise InputError(f"window: expected {_FORMS}, found {text!r}; say how large windows are")


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return float("nan")


@dataclass(frozen=True, eq=False)
class Windows:
    """Windows along the genome; none crosses the end of a chromosome.

    Attributes
    ----------
    order : (marker,) int
        Markers of the fit by chromosome and position.
    starts : (window,) int
        Where each window begins in that order.
    """

    order: np.ndarray
    starts: np.ndarray

    def __len__(self) -> int:
        """How many there are."""
        return len(self.starts)

    def members(self) -> list[np.ndarray]:
        """Markers of each window, in order."""
        return np.split(self.order, self.starts[1:])


def marker_places(
    result: FitResult, genotypes: FitGenotypes, marker_map: MapSource | None
) -> pd.DataFrame:
    """Where the markers of a fit are.

    Parameters
    ----------
    result : FitResult
    genotypes : FitGenotypes
        Their places are taken if there is no map.
    marker_map
        Columns ``marker``, ``chromosome`` and ``position``; or PLINK's bim, see
        :func:`nnmm_jax.data.maps.read_map`. Other markers are passed over.

    Returns
    -------
    pandas.DataFrame
        marker, chromosome (text), position; in the order of the fit.

    Raises
    ------
    InputError
        There is no map; it cannot be read, or lacks markers of the fit.
    """
    markers = result.constant_data["marker"].values.astype(str)
    if marker_map is None:
        if genotypes.places is None:
            raise InputError(
                "marker map: expected a table of marker, chromosome and position, found none, and "
                "the genotypes have no places; give it"
            )
        marker_map = genotypes.places.assign(marker=markers)
    table, positions = read_map(marker_map, "marker map", "marker", [["position"]])
    rows = table.index.get_indexer(pd.Index(markers, dtype=object))
    if (rows < 0).any():
        raise InputError(
            f"{label('marker map', marker_map)}: expected all {len(markers)} markers of the fit, "
            f"found none of {shortlist(markers[rows < 0])}; add them, for instance on a chromosome "
            "0"
        )
    chromosomes = table["chromosome"].to_numpy()[rows].astype(str)
    return pd.DataFrame(
        {"marker": markers, "chromosome": chromosomes, "position": positions[rows, 0]}
    )


def make_windows(rule: WindowRule, places: pd.DataFrame, genotypes: FitGenotypes) -> Windows:
    """Cut the genome.

    Parameters
    ----------
    rule : WindowRule
        By number: as many markers each, the last of a chromosome fewer. By distance: multiples of
        it from position 0 on, where there are markers. By LD: a window ends where the r² of two
        neighbours falls below the limit.
    places : pandas.DataFrame
        What :func:`marker_places` returned.
    genotypes : FitGenotypes
        Of the fit.

    Returns
    -------
    Windows

    Raises
    ------
    InputError
        If the distance exceeds every chromosome: then the map is in another unit.
    """
    rank = chromosome_ranks(places["chromosome"].to_numpy())
    position = places["position"].to_numpy()
    order = np.lexsort((position, rank))
    rank, position = rank[order], position[order]
    first = np.r_[True, rank[1:] != rank[:-1]]
    if rule.kind == "markers":
        since = np.arange(len(order)) - np.maximum.accumulate(
            np.where(first, np.arange(len(order)), 0)
        )
        begins = since % int(rule.size) == 0
    elif rule.kind == "distance":
        _check_distance(rule, rank, position)
        cell = np.floor(position / rule.size)
        begins = np.r_[True, cell[1:] != cell[:-1]]
    else:
        begins = np.r_[True, _neighbour_r2(genotypes, order) < rule.size]
    return Windows(order, np.flatnonzero(first | begins))


def chromosome_ranks(chromosomes: np.ndarray) -> np.ndarray:
    """Rank of each marker's chromosome: 2 before 10, numbers before names."""

    def key(name: str) -> tuple[object, ...]:
        parts = re.split(r"(\d+)", name)
        return tuple((0, int(one)) if one.isdigit() else (1, one) for one in parts if one)

    names = sorted(set(chromosomes.tolist()), key=key)
    return pd.Index(names, dtype=object).get_indexer(chromosomes)


def _check_distance(rule: WindowRule, rank: np.ndarray, position: np.ndarray) -> None:
    by_chromosome = pd.Series(position).groupby(rank)
    longest = float((by_chromosome.max() - by_chromosome.min()).max())
    if rule.size > longest:
        raise InputError(
            f"window: expected windows shorter than the longest chromosome, found {rule.text} and "
            f"chromosomes of at most {longest:g} in the unit of the map; say '{longest / 50:.2g} "
            "units' for windows in that unit, or correct the map"
        )


def _neighbour_r2(genotypes: FitGenotypes, order: np.ndarray, step: int = 1024) -> np.ndarray:
    """Squared correlation (marker - 1,) of the dosages of neighbours."""
    found = np.empty(len(order) - 1)
    for start in range(0, len(found), step):
        values = genotypes.centred(order[start : start + step + 1])
        norm = np.sqrt((values**2).sum(axis=0))
        products = (values[:, 1:] * values[:, :-1]).sum(axis=0)
        found[start : start + step] = (products / (norm[1:] * norm[:-1])) ** 2
    return found
