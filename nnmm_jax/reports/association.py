"""Association of single markers with every response."""

import re

import numpy as np
import pandas as pd

from nnmm_jax.posterior.marker_draws import MarkerDraws
from nnmm_jax.posterior.result import FitResult
from nnmm_jax.reports.fdr import q_values

_LEVEL = re.compile(r"(?:var|scale|lambda2)_(marker|skip)_effect(_.*)?")


def marker_table(
    result: FitResult, draws: MarkerDraws, places: pd.DataFrame, spiked: dict[str, bool]
) -> pd.DataFrame:
    """Effects and inclusion probabilities of markers.

    Parameters
    ----------
    result : FitResult
    draws : MarkerDraws
        Of it.
    places : pandas.DataFrame
        Of the markers, in the order of the fit.
    spiked : dict of str to bool
        What :func:`may_be_zero` returned.

    Returns
    -------
    pandas.DataFrame
        response: a node, ``TRAIT (direct)`` for direct effects or ``TRAIT (total)`` for all paths
        together; marker, chromosome, position; mean, sd, pip of the effect of one more copy of the
        counted allele (of the total: from the draws of which the fit kept all effects); q_value,
        the expected share of false discoveries when all markers with at least this pip are taken
        for this response, NaN for the total and where effects cannot be 0.
    """
    moments = result.moments
    tables = []
    for response in draws.responses:
        if response in draws.nodes:
            one = moments.sel(node=response)
            values = [one[f"marker_{name}"].values for name in ("mean", "sd", "pip")]
        elif response.endswith(" (direct)"):
            one = moments.squeeze("trait")
            values = [one[f"skip_{name}"].values for name in ("mean", "sd", "pip")]
        else:
            effects = draws.effects(response)
            sd = effects.std(axis=0, ddof=1 if len(effects) > 1 else 0, dtype=np.float64)
            values = [effects.mean(axis=0, dtype=np.float64), sd, (effects != 0).mean(axis=0)]
        mean, sd, pip = values
        q_value = q_values(pip) if spiked[response] else np.full(len(pip), np.nan)
        table = places.assign(mean=mean, sd=sd, pip=pip, q_value=q_value)
        table.insert(0, "response", response)
        tables.append(table)
    return pd.concat(tables, ignore_index=True)


def may_be_zero(result: FitResult, draws: MarkerDraws) -> dict[str, bool]:
    """Whether the prior lets every effect of markers on a response be 0; by response.

    It does if each of its sets of effects has a probability of zero. Where it does not, inclusion
    probabilities say nothing; nor do they of all paths together, of which one or another is there
    in nearly every draw, however small.
    """
    posterior = result.posterior
    unspiked: set[str] = set()
    for name in map(str, posterior.data_vars):
        found = _LEVEL.fullmatch(name)
        if found is None or f"pi_{found[1]}{found[2] or ''}" in posterior:
            continue
        if found[1] == "skip":
            unspiked.add(f"{draws.trait} (direct)")
        else:
            dims = [str(dim) for dim in posterior[name].dims if str(dim).startswith("node")]
            unspiked |= set(posterior[dims[0]].values.astype(str).tolist())
    spiked = {response: response not in unspiked for response in draws.responses}
    if draws.nodes:
        spiked[f"{draws.trait} (total)"] = False
    return spiked
