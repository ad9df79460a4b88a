"""Has the sampler converged? R-hat and ESS of the quantities that the data identify.

A latent node has neither scale nor sign of its own, and latent nodes may swap labels, so nothing
of a latent node is judged, nor what it shares its scale with: the trait's intercept, what governs
the node effects of its block (their variance, pi and the like) and parameters of a user's function.
All else that is reported is judged, pi and the variances of effects included: they mix worst.
"""

import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from nnmm_jax.posterior import arviz_compat

R_HAT_LIMIT = 1.01  # Vehtari et al. 2021
ESS_LIMIT = 400.0  # the same: 100 for each of four chains
PARETO_K_LIMIT = 0.7  # Vehtari et al. 2024; of variational fits Yao et al. 2018
ACCEPTANCE_LIMIT = 0.6  # below this, HMC steps of the missing omics are too long
MAX_INDIVIDUALS = 500

# First parts of the names of variances and of what governs effects; what follows says of what.
_COMPONENTS = ("theta_", "h2_", "var_", "scale_", "lambda2_", "pi_", "weights_")
_EFFECTS = ("node_effect", "fixed_trait", "fixed_omics")
# What governs node effects shares its scale with latent nodes; the name of a block may follow.
_OF_NODE_EFFECTS = re.compile(r"(?:(?:var|scale|lambda2)_node_effect|(?:pi|weights)_node)(_.*)?")
_EBV_PARTS = ("ebv_mediated", "ebv_direct", "ebv_polygenic")
_FIRST = (  # the order of reports; whatever is not here follows in alphabetical order
    *("h2_trait", "var_genetic_trait", "var_mediated", "var_direct", "var_polygenic"),
    *("var_residual_trait", "var_node_effect", "scale_node_effect", "lambda2_node_effect"),
    *("pi_node", "weights_node", "h2_node", "var_genetic_node", "var_residual_node"),
)


def components(posterior: xr.Dataset) -> list[str]:
    """Names of the variances, heritabilities and hyperparameters in a posterior.

    Those of the trait come before those of the nodes. Marker groups and random terms come along by
    the first part of their names.

    Parameters
    ----------
    posterior : xarray.Dataset
        Posterior of a :class:`~nnmm_jax.posterior.result.FitResult`.
    """

    def rank(name: str) -> tuple[bool, int, str]:
        first = _FIRST.index(name) if name in _FIRST else len(_FIRST)
        return of_nodes(posterior[name]), first, name

    names = [str(name) for name in posterior.data_vars]
    return sorted((name for name in names if name.startswith(_COMPONENTS)), key=rank)


def of_nodes(variable: xr.DataArray) -> bool:
    """Whether a variable has a value for each node of the middle layer or of a block of it."""
    return any(_is_node_dim(str(dim)) for dim in variable.dims)


def _is_node_dim(dim: str) -> bool:
    return dim == "node" or dim.startswith("node_")


def label(name: str, coordinates: dict[str, str], n_traits: int) -> str:
    """Name one scalar, such as ``node_effect[omic_3]``; a single trait goes without saying.

    Parameters
    ----------
    name : str
        Variable of the posterior.
    coordinates : dict of str to str
        Its coordinates by dimension.
    n_traits : int
        Number of traits in the result.
    """
    shown = [value for dim, value in coordinates.items() if not (dim == "trait" and n_traits == 1)]
    return f"{name}[{', '.join(shown)}]" if shown else name


def scalars(variable: xr.DataArray, n_traits: int) -> Iterator[tuple[str, np.ndarray]]:
    """Go through a variable's scalars as ``(label, draws)``, draws of shape (chain, draw)."""
    ordered = variable.transpose("chain", "draw", ...)
    dims = [str(dim) for dim in ordered.dims[2:]]
    values = np.asarray(ordered.values)
    for index in np.ndindex(*values.shape[2:]):
        at = {
            dim: str(ordered[dim].values[i]) if dim in ordered.coords else str(i)
            for dim, i in zip(dims, index, strict=True)
        }
        yield label(str(variable.name), at, n_traits), values[(..., *index)]


def identified(posterior: xr.Dataset, latent: xr.DataArray) -> xr.Dataset:
    """Select the variables, nodes and terms of the posterior that the data identify.

    Parameters
    ----------
    posterior : xarray.Dataset
        Posterior of a :class:`~nnmm_jax.posterior.result.FitResult`.
    latent : xarray.DataArray
        Booleans over ``node``: which nodes are latent.

    Returns
    -------
    xarray.Dataset
        Variances and hyperparameters (see :func:`components`), fixed and node effects, all of them
        without latent nodes, and ``ebv`` and ``epv`` of at most 500 individuals, evenly spaced in
        the order of the genotypes.
    """
    names = _judged(posterior)
    latent_nodes = set(latent["node"].values[latent.values]) if latent.values.any() else set()
    if latent_nodes:
        names = [name for name in names if not _shares_scale(name, posterior, latent_nodes)]
    chosen = posterior[names]
    for dim in [str(dim) for dim in chosen.dims if _is_node_dim(str(dim))]:
        observed = [node not in latent_nodes for node in chosen[dim].values]
        chosen = chosen.isel({dim: np.flatnonzero(observed)})
    if latent_nodes and "fixed_trait" in chosen:
        terms = chosen["term_trait"].values.astype(str)
        chosen = chosen.isel(term_trait=np.flatnonzero(terms != "Intercept"))
    rows = spaced_individuals(posterior.sizes["individual"])
    some = posterior.isel(individual=rows)
    return chosen.assign(ebv=total_ebv(some), epv=some["epv"])


def _judged(posterior: xr.Dataset) -> list[str]:
    """Names of all variables but values of individuals."""
    effects = [str(name) for name in posterior.data_vars if str(name).startswith(_EFFECTS)]
    return [*components(posterior), *effects]


def _shares_scale(name: str, posterior: xr.Dataset, latent_nodes: set[str]) -> bool:
    """Whether a variable of the trait has its scale from latent nodes."""
    if name.startswith("theta_"):
        return True
    found = _OF_NODE_EFFECTS.fullmatch(name)
    if found is None:
        return False
    return bool(latent_nodes & set(posterior[f"node{found[1] or ''}"].values))


def unidentified(posterior: xr.Dataset, latent: xr.DataArray) -> list[str]:
    """Name what the data do not identify, and so is not judged.

    Parameters
    ----------
    posterior, latent
        As in :func:`identified`.

    Returns
    -------
    list of str
        Such as ``node_effect[latent1]``; empty without latent nodes.
    """
    if not latent.values.any():
        return []
    n_traits = posterior.sizes["trait"]
    known = identified(posterior, latent)
    judged = {
        name
        for variable in known.drop_vars(["ebv", "epv"]).data_vars.values()
        for name, _ in scalars(variable, n_traits)
    }
    every = (name for one in _judged(posterior) for name, _ in scalars(posterior[one], n_traits))
    return [name for name in every if name not in judged]


def spaced_individuals(count: int) -> np.ndarray:
    """Row numbers of at most 500 individuals, evenly spaced, first and last among them."""
    return np.unique(np.linspace(0, count - 1, min(count, MAX_INDIVIDUALS)).round().astype(int))


def total_ebv(posterior: xr.Dataset) -> xr.DataArray:
    """EBV of each draw: mediated, plus direct and polygenic where the model has such terms."""
    first, *others = (posterior[name] for name in _EBV_PARTS if name in posterior)
    return sum(others, start=first)


def diagnostics(posterior: xr.Dataset, latent: xr.DataArray) -> pd.DataFrame:
    """R-hat and ESS of the identified quantities; constant quantities are left out.

    Parameters
    ----------
    posterior, latent
        As in :func:`identified`.

    Returns
    -------
    pandas.DataFrame
        Columns quantity, r_hat, ess_bulk, ess_tail. NaN where a draw is not finite, or where
        there are too few chains (R-hat needs two) or draws (four).
    """
    n_traits = posterior.sizes["trait"]
    names: list[str] = []
    kept: list[np.ndarray] = []
    for variable in identified(posterior, latent).data_vars.values():
        for name, draws in scalars(variable, n_traits):
            if (draws == draws[0, 0]).all():
                continue
            names.append(name)
            # ArviZ takes NaN for missing but computes on infinity: one meaning for both.
            kept.append(np.where(np.isfinite(draws), draws, np.nan))
    table = pd.DataFrame({"quantity": names})
    columns = ("r_hat", "ess_bulk", "ess_tail")
    if not kept:
        return no_diagnostics()
    stacked = xr.DataArray(np.stack(kept, axis=-1).astype(float), dims=("chain", "draw", "scalar"))
    # A NaN would be logged by ArviZ quantity by quantity; those rows are NaN by definition.
    finite = np.flatnonzero(~np.isnan(stacked.values).any(axis=(0, 1)))
    for column in columns:
        values = np.full(len(names), np.nan)
        values[finite] = getattr(arviz_compat, column)(stacked.isel(scalar=finite)).values
        table[column] = values
    return table


def no_diagnostics() -> pd.DataFrame:
    """Table of :func:`diagnostics` without rows."""
    columns = ("r_hat", "ess_bulk", "ess_tail")
    table = pd.DataFrame({"quantity": np.empty(0, object)})
    return table.assign(**dict.fromkeys(columns, np.empty(0)))


def variational_warning(record: Mapping[str, Any], sample_stats: xr.Dataset) -> str | None:
    """One line on what is wrong with a variational fit, ``None`` when nothing is.

    Parameters
    ----------
    record : mapping
        ``converged``, ``steps`` and ``pareto_k`` of the fit.
    sample_stats : xarray.Dataset
        ``non_finite`` (chain, draw) counts.

    Examples
    --------
    >>> import xarray as xr
    >>> from nnmm_jax.posterior.diagnostics import variational_warning
    >>> record = {"converged": False, "steps": 11000, "pareto_k": 0.4}
    >>> variational_warning(record, xr.Dataset())
    'variational fit: the lower bound was still rising after 11000 steps'
    """
    problems = []
    if not record["converged"]:
        problems.append(f"the lower bound was still rising after {record['steps']} steps")
    if (k := record["pareto_k"]) is None or not k <= PARETO_K_LIMIT:
        problems.append(
            f"Pareto k {math.nan if k is None else k:.2f} (limit {PARETO_K_LIMIT}): it is not close"
            " to the posterior everywhere, which means may survive and intervals do not; fit by "
            "MCMC for results"
        )
    if count := int(sample_stats.get("non_finite", xr.DataArray(0)).sum()):
        problems.append(f"{count} non-finite values")
    return f"variational fit: {'; '.join(problems)}" if problems else None


def convergence_warning(table: pd.DataFrame, sample_stats: xr.Dataset) -> str | None:
    """One line on what is wrong with the run, ``None`` when nothing is.

    Parameters
    ----------
    table : pandas.DataFrame
        What :func:`diagnostics` returned.
    sample_stats : xarray.Dataset
        ``non_finite`` (chain, draw) counts, with HMC ``accept_prob`` and ``diverging``, with
        conjugate gradients ``cg_failed``.

    Returns
    -------
    str or None
        Worst R-hat above 1.01, smallest ESS below 400, divergences, mean acceptance below 0.6,
        conjugate-gradient solves that did not converge, non-finite values; each with its number
        and the quantity it is about.

    Examples
    --------
    >>> import pandas as pd
    >>> import xarray as xr
    >>> from nnmm_jax.posterior.diagnostics import convergence_warning
    >>> table = pd.DataFrame(
    ...     {"quantity": ["h2_trait"], "r_hat": [1.2], "ess_bulk": [900.0], "ess_tail": [800.0]}
    ... )
    >>> convergence_warning(table, xr.Dataset())
    'not converged: R-hat 1.200 of h2_trait (limit 1.01; 1 of 1 quantities above it)'
    """
    problems = [*_chain_problems(table), *_sampler_problems(sample_stats)]
    return f"not converged: {'; '.join(problems)}" if problems else None


def _chain_problems(table: pd.DataFrame) -> list[str]:
    problems = []
    ess = table[["ess_bulk", "ess_tail"]].min(axis=1, skipna=False)
    undefined = ess.isna()
    if len(table) and table["r_hat"].isna().all():
        problems.append("R-hat is not defined (it needs 2 chains of 4 draws)")
    else:
        undefined |= table["r_hat"].isna()
    if undefined.any():
        problems.append(
            f"{undefined.sum()} of {len(table)} quantities with undefined R-hat or ESS, "
            f"first {table.loc[undefined.idxmax(), 'quantity']}"
        )
    if (high := table["r_hat"] > R_HAT_LIMIT).any():
        worst = table.loc[table["r_hat"].idxmax()]
        problems.append(
            f"R-hat {worst['r_hat']:.3f} of {worst['quantity']} "
            f"(limit {R_HAT_LIMIT}; {high.sum()} of {len(table)} quantities above it)"
        )
    if (low := ess < ESS_LIMIT).any():
        problems.append(
            f"ESS {ess.min():.0f} of {table.loc[ess.idxmin(), 'quantity']} "
            f"(limit {ESS_LIMIT:.0f}; {low.sum()} of {len(table)} quantities below it)"
        )
    return problems


def _sampler_problems(sample_stats: xr.Dataset) -> list[str]:
    problems = []
    if "diverging" in sample_stats and (count := int(sample_stats["diverging"].sum())):
        problems.append(f"{count} divergent HMC moves of missing omics")
    if "accept_prob" in sample_stats:
        by_chain = sample_stats["accept_prob"].mean("draw", skipna=False)
        if not (low := float(by_chain.values.min())) >= ACCEPTANCE_LIMIT:
            problems.append(
                f"HMC acceptance {low:.2f} in chain {int(np.argmin(by_chain.values))} "
                f"(limit {ACCEPTANCE_LIMIT})"
            )
    if "theta_diverging" in sample_stats and (count := int(sample_stats["theta_diverging"].sum())):
        problems.append(f"{count} divergent moves of theta")
    if "theta_accept_prob" in sample_stats:
        low = float(sample_stats["theta_accept_prob"].mean("draw").min())
        if not low >= ACCEPTANCE_LIMIT:
            problems.append(f"acceptance {low:.2f} of theta (limit {ACCEPTANCE_LIMIT})")
    if "cg_failed" in sample_stats and (count := int(sample_stats["cg_failed"].sum())):
        problems.append(f"{count} conjugate-gradient solves of random terms did not converge")
    if "non_finite" in sample_stats and (count := int(sample_stats["non_finite"].sum())):
        problems.append(f"{count} non-finite values")
    return problems
