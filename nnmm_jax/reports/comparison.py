"""Fits of the same data side by side."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from nnmm_jax.errors import InputError, shortlist
from nnmm_jax.posterior import arviz_compat
from nnmm_jax.posterior.elpd import K_LIMIT, Elpd
from nnmm_jax.posterior.result import FitResult


@dataclass(frozen=True, eq=False)
class Comparison:
    """Fits of the same phenotypes, the best predictions first.

    Attributes
    ----------
    table : pandas.DataFrame
        A row a fit: fit, its name; elpd_loo, its standard error se and p_loo, see
        :func:`nnmm_jax.posterior.elpd.loo`; elpd_diff to the best fit and se_diff, the standard
        error of the difference; weight of stacking; bad_k, the number of individuals with Pareto
        k above 0.7; h2 and h2_sd of the trait; r_hat (largest), ess (smallest), converged;
        seconds.
    loo : mapping of str to Elpd
    warnings : tuple of str
        What says that differences are not to be relied on, a line each.
    """

    table: pd.DataFrame
    loo: Mapping[str, Elpd]
    warnings: tuple[str, ...]

    def __str__(self) -> str:
        """Table and warnings."""
        shown = self.table.round({"elpd_loo": 1, "se": 1, "p_loo": 1, "elpd_diff": 1, "se_diff": 1,
                                  "weight": 2, "h2": 3, "h2_sd": 3, "r_hat": 3, "ess": 0,
                                  "seconds": 1})  # fmt: skip
        return "\n".join([shown.to_string(index=False), *self.warnings])


def compare(results: Mapping[str, FitResult]) -> Comparison:
    """Compare fits of the same phenotypes by PSIS-LOO.

    Parameters
    ----------
    results : mapping of str to FitResult
        Two or more, by name.

    Returns
    -------
    Comparison
        Prints as a table. A difference of a few se_diff or more tells fits apart; one below 4 is
        small whatever its error (Sivula, Magnusson & Vehtari 2020, arXiv:2008.10296).

    Raises
    ------
    InputError
        If there are fewer than two fits, or they are of different individuals or phenotypes.

    Examples
    --------
    >>> import nnmm_jax as nm
    >>> fits = {name: nm.load(name) for name in ("linear", "tanh")}  # doctest: +SKIP
    >>> print(nm.compare(fits))  # doctest: +SKIP
    """
    check_same_data(results)
    found = {name: result.loo() for name, result in results.items()}
    ranked = arviz_compat.compare({name: one.arviz for name, one in found.items()})
    rows = [
        {"fit": name, **_row(results[name], found[name]), **ranked.loc[name].to_dict()}
        for name in ranked.index
    ]
    order = ("fit", "elpd_loo", "se", "p_loo", "elpd_diff", "se_diff", "weight", "bad_k", "h2",
             "h2_sd", "r_hat", "ess", "converged", "seconds")  # fmt: skip
    table = pd.DataFrame(rows).rename(columns={"elpd": "elpd_loo"})[list(order)]
    return Comparison(table, found, tuple(_warnings(results, found)))


def _row(result: FitResult, loo: Elpd) -> dict[str, float | bool]:
    h2 = result.posterior["h2_trait"].values
    table = result.diagnostics()
    return {
        "p_loo": loo.p,
        "bad_k": loo.bad,
        "h2": float(h2.mean(dtype=np.float64)),
        "h2_sd": float(h2.std(dtype=np.float64)),
        "r_hat": float(table["r_hat"].max()),
        "ess": float(table[["ess_bulk", "ess_tail"]].min().min()),
        "converged": result.convergence_warning is None,
        "seconds": float(sum(result.run.get("seconds", {}).values())),
    }


def check_same_data(results: Mapping[str, FitResult]) -> None:
    """Refuse fits of different phenotypes: their densities are of different things.

    Raises
    ------
    InputError
        Names both fits and the first individual that differs.
    """
    if len(results) < 2:
        raise InputError(f"comparison: expected two fits or more, found {len(results)}")
    (first, known), *others = ((name, _phenotypes(one)) for name, one in results.items())
    for name, one in others:
        if one.name != known.name:
            raise InputError(
                f"comparison: expected fits of one trait, found '{known.name}' in {first} and "
                f"'{one.name}' in {name}; compare fits of the same data"
            )
        if len(apart := known.index.symmetric_difference(one.index)):
            raise InputError(
                f"comparison: expected phenotypes of the same individuals, found {len(known)} in "
                f"{first} and {len(one)} in {name}, with {shortlist(apart)} in one only; fit the "
                "same data"
            )
        same = np.isclose(known, one.reindex(known.index), rtol=1e-6, atol=0.0)
        if not same.all():
            where = known.index[~same][0]
            raise InputError(
                f"comparison: expected the same phenotypes, found {known[where]:g} of '{where}' in "
                f"{first} and {one[where]:g} in {name}; fit the same data"
            )


def _phenotypes(result: FitResult) -> pd.Series:
    trait = result.constant_data["phenotype"].squeeze("trait")
    name = str(result.posterior["trait"].values[0])
    return pd.Series(trait.values, trait["individual"].values, name=name).dropna()


def _warnings(results: Mapping[str, FitResult], loo: Mapping[str, Elpd]) -> list[str]:
    lines = [
        f"warning: {name}: {one.bad} of {len(one.pointwise)} Pareto k are above {K_LIMIT}; its "
        "elpd is too high, so cross-validate"
        for name, one in loo.items()
        if one.bad
    ]
    lines += [
        f"warning: {name}: missing nodes of {one.given_sampled_nodes} individuals are given, not "
        "integrated out"
        for name, one in loo.items()
        if one.given_sampled_nodes
    ]
    for name, result in results.items():
        if result.convergence_warning is not None:
            lines.append(f"warning: {name}: {result.convergence_warning}")
    return lines
