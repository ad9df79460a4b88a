"""Individuals ranked by breeding value, and how certain their ranks are."""

import numpy as np
import pandas as pd

from nnmm_jax.errors import InputError
from nnmm_jax.posterior.diagnostics import total_ebv
from nnmm_jax.posterior.result import FitResult
from nnmm_jax.reports.tables import breeding_values


def ranking(result: FitResult, top: float = 0.1, *, highest: bool = True) -> pd.DataFrame:
    """Individuals ranked by breeding value, and how certain their ranks are.

    Parameters
    ----------
    result : FitResult
        A fit of one trait.
    top : float
        Share of the individuals that counts as the top, at least one of them.
    highest : bool
        Whether the highest breeding values are the best; else the lowest.

    Returns
    -------
    pandas.DataFrame
        rank, by posterior mean EBV, 1 is the best; id; ebv, ebv_sd; p_top, the probability of being
        among the top share, that is the share of draws in which it is; expected_rank, the mean of
        its ranks in the draws, rank_q05, rank_q95; phenotyped. Best first.

    Raises
    ------
    InputError
        If ``top`` is not between 0 and 1.
    """
    if not 0 < top < 1:
        raise InputError(f"top: expected a share between 0 and 1, found {top!r}")
    draws = result.posterior.squeeze("trait")
    ebv = total_ebv(draws).transpose("chain", "draw", "individual")
    values = ebv.values.reshape(-1, ebv.sizes["individual"])
    ranks = np.empty(values.shape, np.int32)
    places = np.arange(1, values.shape[1] + 1, dtype=np.int32)
    for draw, value in zip(ranks, values, strict=True):
        draw[np.argsort(-value if highest else value, kind="stable")] = places
    count = max(1, round(top * values.shape[1]))
    low, high = np.quantile(ranks, (0.05, 0.95), axis=0)
    table = breeding_values(result)[["id", "ebv", "ebv_sd", "phenotyped"]].assign(
        p_top=(ranks <= count).mean(axis=0),
        expected_rank=ranks.mean(axis=0),
        rank_q05=low,
        rank_q95=high,
    )
    table = table.sort_values("ebv", ascending=not highest, ignore_index=True, kind="stable")
    table.insert(0, "rank", np.arange(1, len(table) + 1))
    first = ["rank", "id", "ebv", "ebv_sd", "p_top", "expected_rank", "rank_q05", "rank_q95"]
    return table[[*first, "phenotyped"]]
