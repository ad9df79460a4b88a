"""How well a fit would predict phenotypes that it has seen, had it not: PSIS-LOO and WAIC."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from scipy.special import logsumexp

from nnmm_jax.errors import InputError
from nnmm_jax.posterior import arviz_compat

K_LIMIT = 0.7  # Pareto k above which importance sampling is not to be relied on
WAIC_LIMIT = 0.4  # variance of a log density above which WAIC is not to be relied on
MAX_FOR_EFFICIENCY = 500  # individuals from whom the effective sample size is taken
_NAME = "phenotype"


@dataclass(frozen=True, eq=False)
class Elpd:
    """Expected log predictive density, the larger the better.

    Attributes
    ----------
    method : str
        ``"PSIS-LOO"`` or ``"WAIC"``.
    elpd, se : float
        Sum over the phenotyped individuals, in natural logarithms of densities in the trait's
        units, and its standard error.
    p : float
        Effective number of parameters.
    pointwise : pandas.DataFrame
        id, elpd, and what says whether it can be relied on: pareto_k of PSIS-LOO, or p_waic.
    bad : int
        Individuals with Pareto k above 0.7, or with p_waic above 0.4: there the number is too high.
    given_sampled_nodes : int
        Individuals whose missing nodes were not integrated out, see
        :func:`nnmm_jax.inference.pointwise.log_likelihood`.
    arviz : object
        What ArviZ returned; ``None`` for WAIC.
    """

    method: str
    elpd: float
    se: float
    p: float
    pointwise: pd.DataFrame
    bad: int
    given_sampled_nodes: int
    arviz: Any = field(default=None, repr=False)

    def __str__(self) -> str:
        """Estimate, and always how far it can be relied on."""
        limit = f"Pareto k > {K_LIMIT}" if self.method == "PSIS-LOO" else f"p_waic > {WAIC_LIMIT}"
        lines = [
            f"{self.method} of {len(self.pointwise)} individuals: elpd {self.elpd:.1f} "
            f"(se {self.se:.1f}), effective parameters {self.p:.1f}",
            f"{limit}: {self.bad} of {len(self.pointwise)} individuals"
            f"{'; their part is too optimistic, cross-validate instead' if self.bad else ''}",
        ]
        if self.given_sampled_nodes:
            lines.append(
                f"missing nodes of {self.given_sampled_nodes} individuals are given, not "
                "integrated out, as the network is not linear"
            )
        return "\n".join(lines)


def loo(log_likelihood: xr.Dataset) -> Elpd:
    """Leave-one-out cross-validation by Pareto-smoothed importance sampling, without refitting.

    An individual is left out with all its records. Its density given parameters is that of
    :func:`nnmm_jax.inference.pointwise.log_likelihood`: in a linear network its missing nodes are
    integrated out, because draws of them have seen the phenotype. Importance sampling would have
    to undo that, individual by individual; what it estimates is the same, but it fails (Pareto k
    is high) where the nodes that are missing explain much. That is what happens in a network that
    is not linear, where nodes are given. Random effects are given in all networks, so that a term
    with one level for each individual raises k too.

    Parameters
    ----------
    log_likelihood : xarray.Dataset
        Group of a :class:`~nnmm_jax.posterior.result.FitResult`.

    Returns
    -------
    Elpd
        ``print`` shows the estimate and how many Pareto k are above 0.7.

    Raises
    ------
    InputError
        If the result has no log likelihood, or it is not finite.

    References
    ----------
    Vehtari, Gelman & Gabry 2017, Statistics and Computing 27, 1413; Vehtari et al. 2024, Journal
    of Machine Learning Research 25(72).

    Examples
    --------
    >>> import numpy as np
    >>> import xarray as xr
    >>> from nnmm_jax.posterior.elpd import loo
    >>> draws = np.random.default_rng(1).normal(-1.0, 0.1, (4, 100, 3))
    >>> of = {"chain": range(4), "draw": range(100), "individual": ["a", "b", "c"]}
    >>> found = loo(xr.Dataset({"phenotype": (tuple(of), draws)}, of))
    >>> round(found.elpd, 1), found.bad
    (-3.0, 0)
    """
    values = _checked(log_likelihood)
    found = arviz_compat.loo(values, _efficiency(values))
    table = pd.DataFrame(
        {
            "id": values["individual"].values,
            "elpd": found.elpd_i,
            "pareto_k": found.pareto_k,
        }
    )
    bad = int((~(table["pareto_k"] <= K_LIMIT)).sum())  # one that is not defined is no good one
    given = _given(log_likelihood)
    return Elpd("PSIS-LOO", found.elpd, found.se, found.p, table, bad, given, found.arviz)


def waic(log_likelihood: xr.Dataset) -> Elpd:
    """Widely applicable information criterion, on the scale of elpd.

    ArviZ has it up to 0.23 only, having dropped it for PSIS-LOO, which says when it fails; so it
    is computed here. Missing nodes and random effects are as in :func:`loo`. There it only makes
    the estimate more or less precise that nodes are given; what WAIC estimates is another thing
    then.

    Parameters
    ----------
    log_likelihood : xarray.Dataset
        As for :func:`loo`.

    Returns
    -------
    Elpd
        ``print`` shows the estimate and how many p_waic are above 0.4.

    Raises
    ------
    InputError
        As :func:`loo`.

    References
    ----------
    Watanabe 2010, Journal of Machine Learning Research 11, 3571; Vehtari, Gelman & Gabry 2017,
    Statistics and Computing 27, 1413, equations 5, 11 and 13.
    """
    values = _checked(log_likelihood)
    flat = values.values.reshape(-1, values.shape[-1])
    p = flat.var(axis=0, ddof=1)
    each = logsumexp(flat, axis=0) - np.log(len(flat)) - p
    table = pd.DataFrame({"id": values["individual"].values, "elpd": each, "p_waic": p})
    se = float(np.sqrt(len(each) * each.var()))
    bad = int((p > WAIC_LIMIT).sum())
    given = _given(log_likelihood)
    return Elpd("WAIC", float(each.sum()), se, float(p.sum()), table, bad, given)


def _checked(log_likelihood: xr.Dataset) -> xr.DataArray:
    if _NAME not in log_likelihood:
        raise InputError(
            "the result has no log likelihood, as it is of an earlier version of the package; fit "
            "again"
        )
    values = log_likelihood[_NAME].astype(np.float64).transpose("chain", "draw", "individual")
    if (wrong := ~np.isfinite(values.values).all(axis=(0, 1))).any():
        first = str(values["individual"].values[wrong][0])
        raise InputError(
            f"log likelihood: expected finite values, found others, first of '{first}'; fit again"
        )
    return values


def _given(log_likelihood: xr.Dataset) -> int:
    return int(log_likelihood.attrs.get("given_sampled_nodes", 0))


def _efficiency(values: xr.DataArray) -> float:
    """Effective draws by draw of the densities, whose means the estimate is made of."""
    count = values.sizes["individual"]
    rows = np.unique(np.linspace(0, count - 1, min(count, MAX_FOR_EFFICIENCY)).round().astype(int))
    some = values.isel(individual=rows)
    densities = some.copy(data=np.exp(some.values - some.values.max(axis=(0, 1))))
    ess = arviz_compat.ess_mean(densities).values
    size = values.sizes["chain"] * values.sizes["draw"]
    efficiency = float(np.nanmean(ess)) / size if np.isfinite(ess).any() else 1.0
    return min(efficiency, 1.0)
