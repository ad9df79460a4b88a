"""Paths from a marker over a node to the trait, and how much of a marker's effect they carry."""

import numpy as np
import pandas as pd

from nnmm_jax.posterior.marker_draws import MarkerDraws
from nnmm_jax.reports.fdr import q_values

MOST_PATHS = 100  # of a node
PATH_COLUMNS = (
    *("node", "marker", "chromosome", "position", "mean", "sd", "q05", "q95"),
    *("probability", "q_value", "lfsr", "s_value"),
)
SHARE_COLUMNS = (
    *("marker", "chromosome", "position", "mediated", "mediated_sd", "direct", "direct_sd"),
    *("total", "total_sd", "share_mediated", "share_q05", "share_q95"),
)


def path_table(
    draws: MarkerDraws,
    places: pd.DataFrame,
    spiked: dict[str, bool],
    *,
    most: int = MOST_PATHS,
) -> pd.DataFrame:
    """Effects of markers on the trait through one node.

    In each draw the effect is the product of the marker's effect on the node and the slope of the
    trait in that node. In a linear network the slope is the node's effect. Otherwise it is the
    derivative of the trait's expectation, over the nodes' residuals, by the genetic value of the
    node, averaged over the individuals of the fit, each at its own genetic values: the product is
    then the average effect through the node of one more copy of the allele.

    Parameters
    ----------
    draws : MarkerDraws
    places : pandas.DataFrame
        Of the markers, in the order of the fit.
    spiked : dict of str to bool
        Whether effects of markers on a node may be 0.
    most : int
        Paths of a node that are kept: those of the smallest lfsr and then the largest
        ``|mean| / sd``. Rates of false discoveries are over all its paths.

    Returns
    -------
    pandas.DataFrame
        node, marker, chromosome, position; mean, sd, q05, q95 of the product, in units of the
        trait; probability that both arrows are not zero, and q_value, the expected share of false
        discoveries when all paths of the node at least as probable are taken (NaN where effects of
        markers cannot be 0); lfsr, the probability that the product does not have the sign it
        mostly has, zeros included (local false sign rate: Stephens 2017, Biostatistics 18:275), and
        s_value, the mean of the lfsr among all paths of the node with at most this lfsr. The first
        pair needs priors with zeros for both arrows to judge both, the second does not.
    """
    tables = []
    for number, node in enumerate(draws.nodes):
        product = draws.on_nodes[:, number] * draws.slope[:, number, None]
        both = (product != 0).mean(axis=0)
        wrong = 1.0 - np.maximum((product > 0).mean(axis=0), (product < 0).mean(axis=0))
        mean, sd = product.mean(axis=0), _sd(product)
        clear = np.abs(mean) / np.where(sd > 0, sd, np.inf)
        top = np.lexsort((-clear, wrong))[:most]
        low, high = np.quantile(product[:, top], (0.05, 0.95), axis=0)
        may_be_zero = spiked.get(node, False)
        values = places.iloc[top].assign(
            node=node,
            mean=mean[top],
            sd=sd[top],
            q05=low,
            q95=high,
            probability=both[top],
            q_value=q_values(both)[top] if may_be_zero else np.nan,
            lfsr=wrong[top],
            s_value=q_values(1.0 - wrong)[top],
        )
        tables.append(values[both[top] > 0])
    if not tables:
        return pd.DataFrame(columns=list(PATH_COLUMNS))
    return pd.concat(tables, ignore_index=True)[list(PATH_COLUMNS)]


def mediation_table(draws: MarkerDraws, places: pd.DataFrame) -> pd.DataFrame:
    """What of each marker's effect on the trait goes through nodes, and what directly.

    Parameters
    ----------
    draws : MarkerDraws
    places : pandas.DataFrame
        Of the markers, in the order of the fit.

    Returns
    -------
    pandas.DataFrame
        marker, chromosome, position; mediated, direct and total effect of one more copy of the
        allele, posterior means and sds; share_mediated, mediated / total in a draw, as median
        with share_q05 and share_q95 over the draws in which the total is not 0 (below 0 or above 1
        where the two parts have opposite signs). No rows unless there are both parts.
    """
    if draws.direct is None or not draws.nodes:
        return pd.DataFrame(columns=list(SHARE_COLUMNS))
    parts = {"mediated": draws.mediated, "direct": draws.direct}
    parts["total"] = parts["mediated"] + parts["direct"]
    table = places.copy()
    for name, values in parts.items():
        table[name], table[f"{name}_sd"] = values.mean(axis=0), _sd(values)
    share = np.full(parts["total"].shape, np.nan)
    np.divide(parts["mediated"], parts["total"], out=share, where=parts["total"] != 0)
    some = np.flatnonzero(np.isfinite(share).any(axis=0))  # others have no quantiles
    names = ("share_q05", "share_mediated", "share_q95")
    quantiles = np.full((3, len(table)), np.nan)
    quantiles[:, some] = np.nanquantile(share[:, some], (0.05, 0.5, 0.95), axis=0)
    return table.assign(**dict(zip(names, quantiles, strict=True)))[list(SHARE_COLUMNS)]


def _sd(draws: np.ndarray) -> np.ndarray:
    """Over draws; 0 of a single one."""
    if len(draws) < 2:
        return np.zeros(draws.shape[1])
    return np.asarray(draws.std(axis=0, ddof=1, dtype=np.float64))
