"""The tables of a result, with the columns of the csv files that ``nnmm fit`` writes."""

import numpy as np
import pandas as pd
import xarray as xr

from nnmm_jax.posterior.diagnostics import components, of_nodes, scalars, total_ebv
from nnmm_jax.posterior.result import FitResult
from nnmm_jax.reports.shares import variance_shares

_SAMPLE = ("chain", "draw")


def breeding_values(result: FitResult) -> pd.DataFrame:
    """Breeding values and predictions of every individual, in genotype order.

    Parameters
    ----------
    result : FitResult
        A fit of one trait.

    Returns
    -------
    pandas.DataFrame
        id; ebv, ebv_sd, ebv_q05, ebv_q95 (mediated + direct + polygenic, centred over the
        individuals in every draw); reliability, 1 - PEV / genetic variance: PEV is the posterior
        variance of the EBV, the other the posterior mean of var_genetic_trait (NaN where that is
        0; below 0 for an individual of which less is known than of one drawn at random);
        ebv_mediated, ebv_direct (0 without a skip prior), ebv_polygenic (0 without pedigree or
        relationship term); epv, epv_sd (from observed or sampled omics); y_pred, the posterior
        mean of the fixed part + epv + group effects; y_pred_sd, the sd of posterior predictive
        draws, residual included; phenotyped. Units of the phenotype.
    """
    draws = result.posterior.squeeze("trait")
    ebv = total_ebv(draws)
    low, high = ebv.quantile((0.05, 0.95), _SAMPLE).values
    genetic = float(draws["var_genetic_trait"].mean(dtype=np.float64))
    parts = {
        name: _mean(draws[name]) if name in draws else 0.0
        for name in ("ebv_mediated", "ebv_direct", "ebv_polygenic")
    }
    return pd.DataFrame(
        {
            "id": draws["individual"].values,
            "ebv": _mean(ebv),
            "ebv_sd": _sd(ebv),
            "ebv_q05": low,
            "ebv_q95": high,
            "reliability": 1.0 - _sd(ebv) ** 2 / genetic if genetic > 0 else np.nan,
            **parts,
            "epv": _mean(draws["epv"]),
            "epv_sd": _sd(draws["epv"]),
            "y_pred": _mean(draws["y_mean"]),
            "y_pred_sd": _sd(draws["y_pred"]),
            "phenotyped": np.isfinite(result.constant_data["phenotype"].squeeze("trait").values),
        }
    )


def variance_components(result: FitResult) -> pd.DataFrame:
    """Variances, heritabilities and hyperparameters of the trait and of every node.

    Parameters
    ----------
    result : FitResult
        A fit.

    Returns
    -------
    pandas.DataFrame
        component (``h2_trait``, ``var_mediated``, ``h2_node[omic_1]``, ...), mean, sd, q05, q50,
        q95. pi is the probability of a ZERO effect. The scale of a latent node is a convention.
        Shares of the trait's variance follow ``h2_trait``, see
        :func:`nnmm_jax.reports.shares.variance_shares`.
    """
    rows = [
        {"component": component, **_describe(draws)}
        for name in components(result.posterior)
        for component, draws in _scalars(result, name)
    ]
    shares = [
        {"component": name, **_describe(draws)} for name, draws in variance_shares(result).items()
    ]
    return pd.DataFrame([*rows[:1], *shares, *rows[1:]])


def node_effects(result: FitResult) -> pd.DataFrame:
    """Effects of the nodes of the middle layer on the trait.

    Parameters
    ----------
    result : FitResult
        A fit of one trait.

    Returns
    -------
    pandas.DataFrame
        node, mean, sd (trait units per unit of the node, or of its activated value when the
        activation is not linear), pip (probability that the effect is not zero; 1 with priors
        without zeros). No rows without a middle layer.
    """
    if "node_effect" not in result.posterior:
        return _nothing("node", "mean", "sd", "pip")
    draws = result.posterior.squeeze("trait")
    effect = draws["node_effect"]
    pip = _mean(draws["node_included"]) if "node_included" in draws else 1.0
    return pd.DataFrame(
        {"node": draws["node"].values, "mean": _mean(effect), "sd": _sd(effect), "pip": pip}
    )


def node_values(result: FitResult) -> pd.DataFrame:
    """Breeding values of every node, and what each gives to the breeding value of the trait.

    Parameters
    ----------
    result : FitResult
        A fit of one trait.

    Returns
    -------
    pandas.DataFrame
        id; node; ebv, ebv_sd, the node's own breeding value in its own units; mediated,
        mediated_sd, the part of the trait's EBV that goes through the node, in units of the trait
        (NaN where a function of all nodes takes the place of their effects). All are centred over
        the individuals. No rows without a middle layer.
    """
    columns = {"ebv": "node_ebv", "mediated": "mediated_node"}
    return _long_values(result, "node", columns)


def block_values(result: FitResult) -> pd.DataFrame:
    """Parts of the trait's breeding values that go through the blocks of nodes.

    Parameters
    ----------
    result : FitResult
        A fit of one trait.

    Returns
    -------
    pandas.DataFrame
        id; block; mediated, mediated_sd, as in :func:`node_values`. No rows without named blocks.
    """
    return _long_values(result, "block", {"mediated": "mediated_block"})


def _long_values(result: FitResult, dim: str, columns: dict[str, str]) -> pd.DataFrame:
    """Moments (individual, dim) as a long table; column: name in the moments."""
    names = [f"{column}{end}" for column in columns for end in ("", "_sd")]
    if not any(f"{name}_mean" in result.moments for name in columns.values()):
        return _nothing("id", dim, *names)
    individuals, parts = result.moments["individual"].values, result.moments[dim].values
    table = {
        "id": np.repeat(individuals, len(parts)),
        dim: np.tile(parts, len(individuals)),
    }
    for column, name in columns.items():
        for end, moment in (("", "mean"), ("_sd", "sd")):
            found = result.moments.get(f"{name}_{moment}")
            table[f"{column}{end}"] = (
                np.full(len(table["id"]), np.nan)
                if found is None
                else found.transpose("individual", dim).values.ravel()
            )
    return pd.DataFrame(table)


def marker_effects(result: FitResult) -> pd.DataFrame:
    """Effects of one more copy of the counted allele, on every node and directly on the trait.

    Parameters
    ----------
    result : FitResult
        A fit of one trait.

    Returns
    -------
    pandas.DataFrame
        node, marker, mean, sd, pip (probability that the effect is not zero; 1 with priors
        without zeros). With a skip prior the direct effects follow, their node being the trait.
        No rows without marker effects.
    """
    tables = [
        _long_effects(result.moments, name, response)
        for name, response in (("marker", "node"), ("skip", "trait"))
        if f"{name}_mean" in result.moments
    ]
    if not tables:
        return _nothing("node", "marker", "mean", "sd", "pip")
    return pd.concat(tables, ignore_index=True)


def omics_imputed(result: FitResult) -> pd.DataFrame:
    """Posterior of the omics cells that were missing; latent nodes are not omics.

    Parameters
    ----------
    result : FitResult
        A fit.

    Returns
    -------
    pandas.DataFrame
        id, node, mean, sd (units of the omics column).
    """
    if "omics_mean" not in result.moments:
        return _nothing("id", "node", "mean", "sd")
    omics = result.moments.isel(node=np.flatnonzero(~result.latent.values))
    observed = result.constant_data["omics_observed"].sel(node=omics["node"])
    missing = ~observed.transpose("individual", "node").values.astype(bool)
    rows, columns = np.nonzero(missing)
    return pd.DataFrame(
        {
            "id": omics["individual"].values[rows],
            "node": omics["node"].values[columns],
            "mean": omics["omics_mean"].transpose("individual", "node").values[rows, columns],
            "sd": omics["omics_sd"].transpose("individual", "node").values[rows, columns],
        }
    )


def summary(result: FitResult) -> pd.DataFrame:
    """Trait-level scalars and node effects at a glance, with their diagnostics.

    Parameters
    ----------
    result : FitResult
        A fit.

    Returns
    -------
    pandas.DataFrame
        quantity, mean, sd, q05, q50, q95, r_hat, ess_bulk, ess_tail, identified. R-hat and ESS are
        NaN for what does not vary, and hidden for what the data do not identify: there
        ``identified`` is False.
    """
    posterior = result.posterior
    names = [name for name in components(posterior) if not of_nodes(posterior[name])]
    names += ["node_effect"] if "node_effect" in posterior else []
    rows = [
        {"quantity": quantity, **_describe(draws)}
        for name in names
        for quantity, draws in _scalars(result, name)
    ]
    table = pd.DataFrame(rows).merge(result.diagnostics(), on="quantity", how="left")
    return table.assign(identified=~table["quantity"].isin(result.unidentified()))


def _nothing(*columns: str) -> pd.DataFrame:
    """Return a table without rows; the columns that name things are text, the others numbers."""
    text = ("id", "node", "block", "marker")
    return pd.DataFrame({name: np.empty(0, object if name in text else float) for name in columns})


def _scalars(result: FitResult, name: str) -> list[tuple[str, np.ndarray]]:
    return list(scalars(result.posterior[name], result.posterior.sizes["trait"]))


def _describe(draws: np.ndarray) -> dict[str, float]:
    q05, q50, q95 = np.quantile(draws, (0.05, 0.5, 0.95))
    values = draws.astype(float)
    return {
        "mean": values.mean(),
        "sd": values.std(ddof=1),
        "q05": q05,
        "q50": q50,
        "q95": q95,
    }


def _mean(draws: xr.DataArray) -> np.ndarray:
    return np.asarray(draws.mean(_SAMPLE, dtype=np.float64).values)


def _sd(draws: xr.DataArray) -> np.ndarray:
    # Two passes in float64: float32 draws of a phenotype far from zero would cancel.
    return np.asarray(draws.astype(np.float64).std(_SAMPLE, ddof=1).values)


def _long_effects(moments: xr.Dataset, name: str, response: str) -> pd.DataFrame:
    columns = {
        column: moments[f"{name}_{column}"].transpose(response, "marker").values.ravel()
        for column in ("mean", "sd", "pip")
    }
    responses = moments[response].values
    markers = moments["marker"].values
    return pd.DataFrame(
        {
            "node": np.repeat(responses, len(markers)),
            "marker": np.tile(markers, len(responses)),
            **columns,
        }
    )
