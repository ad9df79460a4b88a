"""Window posterior probability of association.

The share of draws in which a window of markers explains more than a share of the genetic variance
(Fernando & Garrick 2013, Methods Mol. Biol. 1019:237; Fernando et al. 2017, Genet. Sel. Evol.
49:31). Genetic variance is that of the values of all markers together.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import xarray as xr

from nnmm_jax.posterior.arviz_compat import ess_mean
from nnmm_jax.posterior.fit_genotypes import FitGenotypes
from nnmm_jax.posterior.marker_draws import MarkerDraws
from nnmm_jax.reports.fdr import q_values
from nnmm_jax.reports.windows import Windows

_MARKERS = 512  # whose dosages are decoded at a time, or those of a window that has more
_AT_A_TIME = 2**25  # values of individuals in all draws of some responses, in single precision


def window_table(
    draws: MarkerDraws,
    genotypes: FitGenotypes,
    windows: Windows,
    places: pd.DataFrame,
    markers: pd.DataFrame,
    *,
    share: float | None = None,
) -> pd.DataFrame:
    """Association of windows with every response.

    Parameters
    ----------
    draws : MarkerDraws
    genotypes : FitGenotypes
    windows : Windows
    places : pandas.DataFrame
        Of the markers, in the order of the fit.
    markers : pandas.DataFrame
        Their pip and mean effect on each response.
    share : float, optional
        Of the genetic variance that a window is to exceed; default 1 / (number of windows).

    Returns
    -------
    pandas.DataFrame
        response; window, from 1 along the genome; chromosome, start, end, the positions of its
        first and last marker; markers, their number; lead, the one with the largest pip (of
        equals the largest absolute mean effect); variance_share, the posterior mean of the share
        of the genetic variance (covariances make shares of windows not add up to 1);
        wppa; wppa_error, its Monte Carlo standard error; q_value, the expected share of false
        discoveries among the windows of this response with at least this WPPA.
    """
    limit = 1.0 / len(windows) if share is None else share
    members = windows.members()
    place = pd.DataFrame(
        {
            "window": np.arange(1, len(members) + 1),
            "chromosome": [places["chromosome"].iloc[one[0]] for one in members],
            "start": [places["position"].iloc[one[0]] for one in members],
            "end": [places["position"].iloc[one[-1]] for one in members],
            "markers": [len(one) for one in members],
        }
    )
    tables = []
    samples, n = len(draws.chain), len(genotypes.codes)
    step = max(1, _AT_A_TIME // (samples * n))
    for start in range(0, len(draws.responses), step):
        responses = draws.responses[start : start + step]
        shares = variance_shares(draws, responses, genotypes, members)
        for response, one in zip(responses, shares, strict=True):
            exceeds = one > limit
            wppa = exceeds.mean(axis=0)
            table = place.assign(
                lead=_leads(markers[markers["response"] == response], windows),
                variance_share=one.mean(axis=0),
                wppa=wppa,
                wppa_error=_errors(exceeds, draws.chain),
                q_value=q_values(wppa),
            )
            table.insert(0, "response", response)
            tables.append(table)
    return pd.concat(tables, ignore_index=True)


def _leads(markers: pd.DataFrame, windows: Windows) -> np.ndarray:
    """Name of the first marker of each window by pip and absolute mean effect."""
    rows = markers.iloc[windows.order]
    of_window = np.repeat(
        np.arange(len(windows)), np.diff(np.r_[windows.starts, len(windows.order)])
    )
    order = np.lexsort((-rows["mean"].abs(), -rows["pip"], of_window))
    return rows["marker"].to_numpy()[order[windows.starts]]


def variance_shares(
    draws: MarkerDraws,
    responses: Sequence[str],
    genotypes: FitGenotypes,
    members: Sequence[np.ndarray],
) -> np.ndarray:
    """Share (response, sample, window) of the markers' genetic variance that each window explains.

    0 in draws in which no marker has an effect.

    Parameters
    ----------
    draws, genotypes
        Of one fit.
    responses
        Names of some of ``draws.responses``.
    members
        Markers of each window; together all markers.
    """
    ends = np.cumsum([len(one) for one in members])
    order = np.concatenate(members)
    effects = np.stack([draws.effects(one)[:, order] for one in responses]).astype(np.float32)
    flat = effects.reshape(-1, len(order))
    n = len(genotypes.codes)
    total = np.zeros((len(flat), n), np.float32)
    explained = np.empty((len(flat), len(members)))
    # Several windows at a time: products with few markers would mostly move memory.
    for some in np.split(np.arange(len(members)), np.flatnonzero(np.diff(ends // _MARKERS)) + 1):
        first, last = ends[some[0]] - len(members[some[0]]), ends[some[-1]]
        values = genotypes.centred(order[first:last]).astype(np.float32)
        total += flat[:, first:last] @ values.T
        for window in some:
            start, end = ends[window] - len(members[window]), ends[window]
            part, dosages = flat[:, start:end], values[:, start - first : end - first]
            # The cross-products of a window's markers are smaller than all values.
            cross = dosages.T @ dosages / n
            explained[:, window] = np.einsum("sj,sj->s", part @ cross, part)
    variance = total.var(axis=1, dtype=np.float64)[:, None]
    found = np.divide(explained, variance, out=np.zeros_like(explained), where=variance > 0)
    return found.reshape(*effects.shape[:2], len(members))


def _errors(exceeds: np.ndarray, chain: np.ndarray) -> np.ndarray:
    """Monte Carlo standard errors (window,) of shares of draws.

    From the effective number of draws where draws differ. Half a draw is added to either side, so
    that no error is 0 because all draws agree.
    """
    n = len(exceeds)
    count = exceeds.sum(axis=0)
    effective = np.full(len(count), float(n))
    varies = np.flatnonzero((count > 0) & (count < n))
    chains, kept = np.unique(chain, return_counts=True)
    if len(varies) and (kept == kept[0]).all():
        by_chain = np.stack([exceeds[chain == one] for one in chains])[..., varies]
        ess = ess_mean(xr.DataArray(by_chain.astype(float), dims=("chain", "draw", "window")))
        found = np.nan_to_num(ess.values, nan=float(n))
        effective[varies] = np.clip(found, 1.0, n)
    p = (count + 0.5) / (n + 1.0)
    return np.sqrt(p * (1.0 - p) / effective)
