"""Relationships from parents: inbreeding, and columns of the relationship matrix A = T D T'.

Animals are row numbers, parents before offspring, -1 for an unknown parent. T traces genes from
ancestors to offspring (its inverse is I - P, with one half in P for each parent), D is the diagonal
of Mendelian sampling variances. A parent may be both sire and dam, of one offspring too (selfing).
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp

# Relationships among the parents of one time may take this much; beyond it columns of A are made,
# which is slower and takes COLUMN_BYTES.
WINDOW_BYTES = 1_500_000_000
COLUMN_BYTES = 128_000_000

# Rows made at a time, so that their parts stay in the processor's cache.
ROWS_AT_ONCE = 32


def gene_flow(sire: np.ndarray, dam: np.ndarray, *, columns: int | None = None) -> sp.csr_array:
    """P: one half at each known parent of an animal, one at a parent that is both.

    Parameters
    ----------
    sire, dam
        (animal,) numbers of the parents' columns, -1 for unknown.
    columns
        How many columns; by default one per animal.

    Returns
    -------
    scipy.sparse.csr_array
        (animal, column) float64.

    Examples
    --------
    >>> import numpy as np
    >>> gene_flow(np.array([-1, 0, 1]), np.array([-1, -1, 1])).toarray()
    array([[0. , 0. , 0. ],
           [0.5, 0. , 0. ],
           [0. , 1. , 0. ]])
    """
    animals = np.arange(len(sire))
    rows = np.concatenate([animals[sire >= 0], animals[dam >= 0]])
    parents = np.concatenate([sire[sire >= 0], dam[dam >= 0]])
    shape = (len(sire), len(sire) if columns is None else columns)
    return sp.csr_array(sp.coo_array((np.full(len(rows), 0.5), (rows, parents)), shape=shape))


def mendelian_variance(sire: np.ndarray, dam: np.ndarray, inbreeding: np.ndarray) -> np.ndarray:
    """Diagonal of D: what an animal's parents leave open of its breeding value.

    Parameters
    ----------
    sire, dam
        (animal,) row numbers of the parents, -1 for unknown.
    inbreeding
        Coefficients F, at least of the parents.

    Returns
    -------
    numpy.ndarray
        (animal,) 1 without known parents, 3/4 - F/4 with one, 1/2 - (F_sire + F_dam)/4 with two,
        in units of the additive variance of the founders.

    Examples
    --------
    >>> import numpy as np
    >>> parents = np.array([-1, -1, 0, 2]), np.array([-1, -1, 1, -1])
    >>> mendelian_variance(*parents, np.zeros(4))
    array([1.  , 1.  , 0.5 , 0.75])
    """
    variance = np.ones(len(sire))
    for parent in (sire, dam):
        variance -= np.where(parent >= 0, 0.25 * (1.0 + inbreeding[parent]), 0.0)
    return variance


def generations(sire: np.ndarray, dam: np.ndarray) -> list[np.ndarray]:
    """Animals by level, each above its parents, so that a level can be worked on at once.

    Parameters
    ----------
    sire, dam
        (animal,) row numbers, parents before offspring.

    Returns
    -------
    list of numpy.ndarray
        Row numbers of the animals of each level. A founder is one level below its first offspring:
        it needs nobody, so that nothing has to be held for it before.

    Examples
    --------
    >>> import numpy as np
    >>> generations(np.array([-1, -1, -1, 0, 3]), np.array([-1, -1, -1, 1, 2]))
    [array([0, 1]), array([2, 3]), array([4])]
    """
    heights: list[int] = []
    for s, d in zip(sire.tolist(), dam.tolist(), strict=True):
        heights.append(1 + max(heights[s] if s >= 0 else -1, heights[d] if d >= 0 else -1))
    level = np.asarray(heights, dtype=np.int64)
    first_use = np.full(len(level), len(level))
    for parent in (sire, dam):
        np.minimum.at(first_use, parent[parent >= 0], level[parent >= 0])
    waiting = (level == 0) & (first_use < len(level))
    level[waiting] = first_use[waiting] - 1
    order = np.argsort(level, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(level[order])) + 1)


def inbreeding_coefficients(
    sire: np.ndarray, dam: np.ndarray, *, window_bytes: int = WINDOW_BYTES
) -> np.ndarray:
    """F of every animal, half the relationship of its parents.

    Relationships are kept only among animals that still have offspring to come. Time is in
    proportion to parents times the widest such window, memory to the square of the window; where
    that exceeds `window_bytes` columns of A for the rarer parent of each level take over.

    Parameters
    ----------
    sire, dam
        (animal,) row numbers, parents before offspring.
    window_bytes
        Memory for relationships among parents.

    Returns
    -------
    numpy.ndarray
        (animal,) float64; 0 for animals with an unknown parent.

    References
    ----------
    Emik & Terrill 1949, J. Hered. 40:51 (the tabular rule, here by level and with a window);
    Colleau 2002, Genet. Sel. Evol. 34:409 (columns of A).

    Examples
    --------
    >>> import numpy as np
    >>> inbreeding_coefficients(np.array([-1, -1, 0, 0, 3]), np.array([-1, -1, 1, 2, 2]))
    array([0.   , 0.   , 0.   , 0.25 , 0.375])
    """
    levels = generations(sire, dam)
    last_use = np.full(len(sire), -1)
    for number, members in enumerate(levels):
        for parent in (sire[members], dam[members]):
            last_use[parent[parent >= 0]] = number
    width, newcomers = _window_size(levels, last_use)
    if 8 * width * (width + newcomers) <= window_bytes:
        return _by_window(sire, dam, levels, last_use, width, newcomers)
    return _by_columns(sire, dam, levels)


def _window_size(levels: list[np.ndarray], last_use: np.ndarray) -> tuple[int, int]:
    """Most animals with offspring to come at any level, and most that any level adds."""
    added = np.array([(last_use[members] >= 0).sum() for members in levels])
    retired = np.bincount(last_use[last_use >= 0], minlength=len(levels))
    return int((np.cumsum(added) - np.cumsum(retired)).max(initial=0)), int(added.max())


def _by_window(
    sire: np.ndarray,
    dam: np.ndarray,
    levels: list[np.ndarray],
    last_use: np.ndarray,
    width: int,
    newcomers: int,
) -> np.ndarray:
    inbreeding = np.zeros(len(sire))
    # The last row and column stay zero: the relationship to an unknown parent.
    window = np.zeros((width + 1, width + 1))
    sums = np.empty((newcomers, width + 1))
    slot = np.full(len(sire) + 1, width)
    held = np.empty(0, dtype=np.int64)
    free = np.arange(width)
    for number, members in enumerate(levels):
        s, d = slot[sire[members]], slot[dam[members]]
        inbreeding[members] = 0.5 * window[s, d]
        is_parent = last_use[members] >= 0
        new, s, d = members[is_parent], s[is_parent], d[is_parent]
        for row in range(len(new)):
            np.add(window[s[row]], window[d[row]], out=sums[row])
        staying = last_use[held] > number
        free = np.sort(np.concatenate([slot[held[~staying]], free]))
        held = held[staying]
        slot[new], free = free[: len(new)], free[len(new) :]
        _admit(window, sums, slot[held], slot[new], s, d)
        window[slot[new], slot[new]] = 1.0 + inbreeding[new]
        held = np.concatenate([held, new])
    return inbreeding


def _admit(
    window: np.ndarray,
    sums: np.ndarray,
    held: np.ndarray,
    places: np.ndarray,
    sire: np.ndarray,
    dam: np.ndarray,
) -> None:
    """Put a level's parents at `places` in the window, except for the diagonal.

    `sums` holds their sires' rows plus their dams', half of which is their relationship to the
    animals of the window as it was; half the sum of its columns at the slots `sire` and `dam` is
    their relationship to each other.
    """
    first, second = np.arange(len(window)), np.arange(len(window))
    first[places], second[places] = sire, dam
    for start in range(0, len(places), ROWS_AT_ONCE):
        part = places[start : start + ROWS_AT_ONCE]
        for place, total in zip(part, sums[start:], strict=False):
            # Indices are in range; clipping is the fast way of not checking them.
            row = total.take(first, mode="clip")
            row += total.take(second, mode="clip")
            np.multiply(row, 0.25, out=window[place])
        window[np.ix_(held, part)] = window[np.ix_(part, held)].T


def _by_columns(sire: np.ndarray, dam: np.ndarray, levels: list[np.ndarray]) -> np.ndarray:
    """Level by level, columns of A for whichever parents of the level are fewer."""
    inbreeding, mendelian = np.zeros(len(sire)), np.ones(len(sire))
    steps: list[_Step] = []
    for members in levels:
        both = members[(sire[members] >= 0) & (dam[members] >= 0)]
        fewer, others = sorted((sire[both], dam[both]), key=lambda rows: len(np.unique(rows)))
        rows, column_of = np.unique(fewer, return_inverse=True)
        for start, columns in _columns(steps, mendelian, rows):
            inside = (column_of >= start) & (column_of < start + columns.shape[1])
            related = columns[others[inside], column_of[inside] - start]
            inbreeding[both[inside]] = 0.5 * related
        mendelian[members] = mendelian_variance(sire[members], dam[members], inbreeding)
        steps.append(_step(sire, dam, members))
    return inbreeding


@dataclass(frozen=True, eq=False)
class _Step:
    """How one level's animals get their genes: `flow` @ values of their `parents`."""

    members: np.ndarray
    parents: np.ndarray
    flow: sp.csr_array


def _step(sire: np.ndarray, dam: np.ndarray, members: np.ndarray) -> _Step:
    s, d = sire[members], dam[members]
    parents = np.unique(np.concatenate([s, d]))
    parents = parents[parents >= 0]
    place = np.full(len(sire) + 1, -1)
    place[parents] = np.arange(len(parents))
    flow = gene_flow(place[s], place[d], columns=len(parents))
    return _Step(members, parents, flow)


def _columns(
    steps: list[_Step], mendelian: np.ndarray, rows: np.ndarray
) -> Iterator[tuple[int, np.ndarray]]:
    """Columns of A = T D T', some at a time: back to the ancestors (T'), D, and forward (T)."""
    at_once = max(1, COLUMN_BYTES // (8 * len(mendelian) + 1))
    for start in range(0, len(rows), at_once):
        part = rows[start : start + at_once]
        values = np.zeros((len(mendelian), len(part)))
        values[part, np.arange(len(part))] = 1.0
        for step in reversed(steps):
            values[step.parents] += step.flow.T @ values[step.members]
        values *= mendelian[:, None]
        for step in steps:
            values[step.members] += step.flow @ values[step.parents]
        yield start, values


def relationship_among(
    sire: np.ndarray, dam: np.ndarray, mendelian: np.ndarray, rows: np.ndarray
) -> np.ndarray:
    """Block of A for some animals; only they and their ancestors take part.

    Parameters
    ----------
    sire, dam
        (animal,) row numbers, parents before offspring.
    mendelian
        (animal,) diagonal of D, see :func:`mendelian_variance`.
    rows
        (k,) row numbers, in any order.

    Returns
    -------
    numpy.ndarray
        (k, k) float64.

    Examples
    --------
    >>> import numpy as np
    >>> sire, dam = np.array([-1, -1, 0, 0]), np.array([-1, -1, 1, -1])
    >>> relationship_among(sire, dam, np.array([1, 1, 0.5, 0.75]), np.array([0, 2, 3]))
    array([[1.  , 0.5 , 0.5 ],
           [0.5 , 1.  , 0.25],
           [0.5 , 0.25, 1.  ]])
    """
    family = np.zeros(len(sire) + 1, dtype=bool)
    family[rows] = True
    # From the youngest back, so that an ancestor is marked before its own parents are.
    for animal in range(int(np.max(rows, initial=-1)), -1, -1):
        if family[animal]:
            family[sire[animal]] = family[dam[animal]] = True
    kept = np.flatnonzero(family[:-1])
    renumbered = np.full(len(sire) + 1, -1)
    renumbered[kept] = np.arange(len(kept))
    sire, dam, wanted = renumbered[sire[kept]], renumbered[dam[kept]], renumbered[rows]
    steps = [_step(sire, dam, members) for members in generations(sire, dam)]
    block = np.empty((len(wanted), len(wanted)))
    for start, columns in _columns(steps, mendelian[kept], wanted):
        block[:, start : start + columns.shape[1]] = columns[wanted]
    return block
