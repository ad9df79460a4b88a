"""Small sets of linked markers that hold an effect with high probability."""

from functools import lru_cache

import numpy as np
import pandas as pd

from nnmm_jax.posterior.fit_genotypes import FitGenotypes
from nnmm_jax.posterior.marker_draws import MarkerDraws
from nnmm_jax.reports.windows import Windows, chromosome_ranks

LEVEL = 0.95
LEAST_R2 = 0.25  # with the lead marker, of the markers of a locus
MAX_SIZE = 50  # a set of more markers says little of where the effect is
MAX_BACKGROUND = 0.5
_PART, _PARTS_KEPT = 256, 256  # markers whose linkage is computed together, and what is kept of it
REACH = 250  # markers on either side of the lead that are looked at
COLUMNS = (
    *("response", "set", "chromosome", "start", "end", "lead", "lead_probability", "size"),
    *("probability", "background", "least_r2", "markers"),
)


def credible_sets(
    draws: MarkerDraws,
    genotypes: FitGenotypes,
    windows: Windows,
    places: pd.DataFrame,
    spiked: dict[str, bool],
    *,
    level: float = LEVEL,
) -> pd.DataFrame:
    """Sets of linked markers that hold at least one non-zero effect with a probability.

    This is the definition of Wang et al. (2020, J. R. Stat. Soc. B 82:1273): a set holds an effect
    variable with at least the probability ``level``, here the share of draws in which a marker of
    the set has an effect other than 0. A locus is the marker that has one most often, and those of
    its chromosome whose r² with it is at least 0.25 (up to 250 markers away, not in an earlier
    locus). In a locus, markers enter the set one by one, each time the one with an effect in most
    of the draws that the set does not cover yet, until the level is reached: an approximation of
    the smallest such set, which cannot be found in reasonable time.

    Parameters
    ----------
    draws : MarkerDraws
    genotypes : FitGenotypes
    windows : Windows
        Of which only the order of the markers is used.
    places : pandas.DataFrame
        Of the markers, in the order of the fit.
    spiked : dict of str to bool
        Whether effects on a response may be 0. The others have no sets.
    level : float

    Returns
    -------
    pandas.DataFrame
        response; set, from 1; chromosome, start, end; lead, its marker that has an effect most
        often, and lead_probability; size; probability, that of the definition; background, the
        probability that as many markers would have if each had the average probability of the
        response and they were independent; least_r2, the smallest r² of two of its markers; markers
        in the order in which they entered, separated by blanks. Sets of more than 50 markers and
        those with a background above 0.5 are left out: these would arise without any signal.
    """
    rows: list[dict[str, object]] = []
    rank = chromosome_ranks(places["chromosome"].to_numpy())[windows.order]
    linkage = _Linkage(genotypes, windows.order)
    for response in draws.responses:
        if not spiked.get(response, False):
            continue
        nonzero = draws.effects(response)[:, windows.order] != 0
        found = _loci(nonzero, linkage, rank, level)
        average = float(nonzero.mean())
        for number, (members, probability) in enumerate(found, start=1):
            background = 1.0 - (1.0 - average) ** len(members)
            if background > MAX_BACKGROUND:
                continue
            rows.append(
                {
                    "response": response,
                    "set": number,
                    **_describe(members, nonzero, genotypes, windows.order, places),
                    "probability": probability,
                    "background": background,
                }
            )
    table = pd.DataFrame(rows, columns=list(COLUMNS))
    table["set"] = table.groupby("response", sort=False).cumcount() + 1
    return table


class _Linkage:
    """Squared correlations of markers with their neighbours, computed for some at a time.

    Parameters
    ----------
    genotypes : FitGenotypes
    order : (marker,) int
        Along the genome.
    """

    def __init__(self, genotypes: FitGenotypes, order: np.ndarray) -> None:
        self._genotypes, self._order = genotypes, order
        self._part = lru_cache(maxsize=_PARTS_KEPT)(self._compute)

    def with_marker(self, lead: int, near: np.ndarray) -> np.ndarray:
        """Of a place in the order with places at most ``REACH`` away."""
        part = lead // _PART
        values = self._part(part)
        start = max(0, part * _PART - REACH)
        return np.asarray(values[lead - part * _PART, near - start])

    def _compute(self, part: int) -> np.ndarray:
        """Of the markers of a part with those from ``REACH`` before to ``REACH`` after it."""
        first = part * _PART
        start, end = max(0, first - REACH), first + _PART + REACH
        values = self._genotypes.centred(self._order[start:end]).astype(np.float32)
        values /= np.sqrt((values**2).sum(axis=0))
        own = values[:, first - start : first - start + _PART]
        return np.asarray((own.T @ values) ** 2)


def _loci(
    nonzero: np.ndarray, linkage: _Linkage, rank: np.ndarray, level: float
) -> list[tuple[np.ndarray, float]]:
    """Sets as places in the order of the genome, with their probabilities; by lead."""
    pip = nonzero.mean(axis=0)
    free = np.ones(len(pip), dtype=bool)
    found = []
    # The lead is the likeliest of its set, so that less likely ones lead sets that are too large.
    for lead in np.argsort(-pip, kind="stable"):
        if pip[lead] < level / MAX_SIZE:
            break
        if not free[lead]:
            continue
        near = np.arange(max(0, lead - REACH), min(len(pip), lead + REACH + 1))
        near = near[free[near] & (rank[near] == rank[lead]) & (pip[near] > 0)]
        if pip[near].sum() < level:
            continue
        locus = near[linkage.with_marker(int(lead), near) >= LEAST_R2]
        members = _cover(nonzero[:, locus], level)
        if members is None:
            continue
        free[locus] = False
        if len(members) <= MAX_SIZE:
            chosen = locus[members]
            found.append((chosen, float(nonzero[:, chosen].any(axis=1).mean())))
    return found


def _cover(nonzero: np.ndarray, level: float) -> np.ndarray | None:
    """Columns, in the order of their choice, of which at least a share of the rows has one."""
    if nonzero.any(axis=1).mean() < level:
        return None
    open_rows = np.ones(len(nonzero), dtype=bool)
    chosen: list[int] = []
    while 1.0 - open_rows.mean() < level:
        chosen.append(int(np.argmax(nonzero[open_rows].sum(axis=0))))
        open_rows &= ~nonzero[:, chosen[-1]]
    return np.array(chosen)


def _describe(
    members: np.ndarray,
    nonzero: np.ndarray,
    genotypes: FitGenotypes,
    order: np.ndarray,
    places: pd.DataFrame,
) -> dict[str, object]:
    """Where a set is, its lead, and how its markers are linked."""
    rows = places.iloc[order[members]]
    correlation = np.corrcoef(genotypes.centred(order[members]), rowvar=False)
    probability = nonzero[:, members].mean(axis=0)
    lead = int(np.argmax(probability))
    return {
        "chromosome": rows["chromosome"].iloc[0],
        "start": rows["position"].min(),
        "end": rows["position"].max(),
        "lead": rows["marker"].iloc[lead],
        "lead_probability": probability[lead],
        "size": len(members),
        "least_r2": float(np.min(correlation**2)),
        "markers": " ".join(rows["marker"]),
    }
