"""The only module that knows the two generations of ArviZ.

Python 3.11 resolves to arviz 0.23, whose container is ``InferenceData``; later Pythons resolve to
arviz 1.x, whose container is xarray's ``DataTree``. R-hat and ESS are ArviZ's own (rank
normalised, split chains: Vehtari et al. 2021, Bayesian Analysis 16:667).
"""

import warnings
from collections.abc import Callable, Mapping
from functools import cache
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import xarray as xr

# ArviZ 1.x takes the tail from its configured interval; named here, both generations agree.
_TAIL = (0.05, 0.95)
_MIN_DRAWS = 4  # fewer draws a chain: ArviZ defines neither R-hat nor ESS


@cache
def _arviz() -> ModuleType:
    # Imported late because it takes seconds; 0.23 announces the 1.x refactoring on each import.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        import arviz
    return arviz


def as_arviz(groups: Mapping[str, xr.Dataset]) -> Any:
    """Put datasets into the container of the installed ArviZ.

    Parameters
    ----------
    groups : mapping of str to xarray.Dataset
        Group names such as ``posterior`` and ``sample_stats``; the draws of those two have the
        dimensions ``(chain, draw, ...)``.

    Returns
    -------
    arviz.InferenceData or xarray.DataTree
        The first with arviz 0.x, the second with arviz 1.x.

    Examples
    --------
    >>> import numpy as np
    >>> import xarray as xr
    >>> from nnmm_jax.posterior.arviz_compat import as_arviz
    >>> draws = xr.Dataset({"h2": (("chain", "draw"), np.full((2, 5), 0.3))})
    >>> float(as_arviz({"posterior": draws})["posterior"]["h2"].mean().round(2))
    0.3
    """
    if _is_first_generation():
        return _arviz().InferenceData(**groups)
    return xr.DataTree.from_dict(dict(groups))


def r_hat(draws: xr.DataArray) -> xr.DataArray:
    """Rank-normalised split R-hat of each quantity (1 means that the chains agree).

    Parameters
    ----------
    draws : xarray.DataArray
        Dimensions ``chain`` and ``draw`` and any others.

    Returns
    -------
    xarray.DataArray
        The other dimensions; NaN where there are fewer than two chains or four draws, or where a
        draw is NaN.
    """
    return _apply(lambda data: _arviz().rhat(data), draws, min_chains=2)


def ess_bulk(draws: xr.DataArray) -> xr.DataArray:
    """Effective sample size of the bulk of the distribution; dimensions as in :func:`r_hat`."""
    return _apply(lambda data: _arviz().ess(data, method="bulk"), draws, min_chains=1)


def ess_mean(draws: xr.DataArray) -> xr.DataArray:
    """Effective sample size for the posterior mean: without the bulk's normalisation of ranks."""
    return _apply(lambda data: _arviz().ess(data, method="mean"), draws, min_chains=1)


def ess_tail(draws: xr.DataArray) -> xr.DataArray:
    """Smaller effective sample size of the 5% and 95% quantiles; as in :func:`r_hat`."""
    return _apply(lambda data: _arviz().ess(data, method="tail", prob=_TAIL), draws, min_chains=1)


def pareto_k(log_ratios: np.ndarray) -> float:
    """Shape of the tail of importance ratios: above 0.7 they, and the draws, are not to be trusted.

    Parameters
    ----------
    log_ratios : numpy.ndarray
        Log of the target's density over that of the draws.

    Returns
    -------
    float
        NaN where a ratio is not finite.

    References
    ----------
    Vehtari, Simpson, Gelman, Yao & Gabry 2024, JMLR 25:72; Yao, Vehtari, Simpson & Gelman 2018,
    ICML.

    Examples
    --------
    >>> import numpy as np
    >>> from nnmm_jax.posterior.arviz_compat import pareto_k
    >>> wide = np.random.default_rng(1).normal(size=2000) * 10
    >>> pareto_k(wide) > 0.7
    True
    """
    values = np.ravel(log_ratios).astype(float)
    if not np.isfinite(values).all():
        return float("nan")
    if _is_first_generation():
        return float(_arviz().psislw(values)[1])
    # It takes log likelihoods, as for leaving one out: the ratios' negatives.
    ratios = xr.DataArray(-values, dims="sample")
    return float(ratios.azstats.psislw(dim="sample")[1])


class PointwiseElpd(NamedTuple):
    """PSIS-LOO of ArviZ; ``elpd_i`` and ``pareto_k`` are (individual,)."""

    elpd: float
    se: float
    p: float
    elpd_i: np.ndarray
    pareto_k: np.ndarray
    arviz: Any


def loo(log_likelihood: xr.DataArray, efficiency: float) -> PointwiseElpd:
    """PSIS-LOO of a log likelihood (chain, draw, individual).

    Parameters
    ----------
    log_likelihood : xarray.DataArray
    efficiency : float
        Effective draws by draw.
    """
    container = as_arviz({"log_likelihood": log_likelihood.to_dataset(name="y")})
    with warnings.catch_warnings():  # what they say is in pareto_k, and always reported
        warnings.simplefilter("ignore", UserWarning)
        found = _arviz().loo(container, pointwise=True, var_name="y", reff=efficiency)
    if _is_first_generation():
        elpd, p, each = found["elpd_loo"], found["p_loo"], found["loo_i"]
    else:
        elpd, p, each = found.elpd, found.p, found.elpd_i
    values = np.asarray(each), np.asarray(found.pareto_k)
    return PointwiseElpd(float(elpd), float(found.se), float(p), *values, found)


def compare(elpds: Mapping[str, Any]) -> pd.DataFrame:
    """Compare what :func:`loo` found in ``arviz``, the best first.

    Returns
    -------
    pandas.DataFrame
        Index: the names. elpd, se, elpd_diff (to the best; 0 or below), se_diff, weight
        (stacking: Yao et al. 2018, Bayesian Analysis 13:917).
    """
    settings = {} if _is_first_generation() else {"round_to": "none"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        warnings.simplefilter("ignore", DeprecationWarning)  # of pandas, for how 0.23 uses it
        table = _arviz().compare(dict(elpds), **settings)
    table = table.rename(columns={"elpd_loo": "elpd", "dse": "se_diff"})
    # The sign is that of the generation.
    table["elpd_diff"] = 0.0 - table["elpd_diff"].astype(float).abs()
    return table[["elpd", "se", "elpd_diff", "se_diff", "weight"]].astype(float)


def _is_first_generation() -> bool:
    return int(_arviz().__version__.split(".")[0]) < 1


def _apply(
    statistic: Callable[[xr.Dataset], Any], draws: xr.DataArray, min_chains: int
) -> xr.DataArray:
    ordered = draws.transpose("chain", "draw", ...)
    if ordered.sizes["chain"] < min_chains or ordered.sizes["draw"] < _MIN_DRAWS:
        # ArviZ returns the same NaN, but logs a line for every single quantity.
        return xr.full_like(ordered.isel(chain=0, draw=0, drop=True), np.nan, dtype=float)
    with np.errstate(divide="ignore", invalid="ignore"):  # chains stuck at one value each
        result: xr.DataArray = statistic(ordered.to_dataset(name="quantity"))["quantity"]
    return result
