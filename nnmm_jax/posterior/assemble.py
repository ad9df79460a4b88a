"""From what the sampler kept to a :class:`FitResult` in the user's units, with named dimensions."""

import numpy as np
import xarray as xr

from nnmm_jax.data.align import Dataset
from nnmm_jax.inference.collect import Moments
from nnmm_jax.inference.prepare import Prepared, Scaling
from nnmm_jax.inference.quantities import describe
from nnmm_jax.inference.run import RunOutput

_DRAW = ("chain", "draw")


def _in_units(
    draws: dict[str, np.ndarray], prepared: Prepared, linear: bool
) -> dict[str, np.ndarray]:
    """Undo the internal scaling of all draws."""
    scaling, data = prepared.scaling, prepared.data
    out = {name: value.astype(np.float64) for name, value in draws.items()}
    node_sd, trait_sd = scaling.node_sd, scaling.trait_sd
    explained = out["epv"] + out.pop("epv_mean")[..., None] + out.pop("group_value", 0.0)
    out["y_mean"] = explained + out["fixed_trait"] @ prepared.trait_rows
    out["fixed_trait"] = out["fixed_trait"] / scaling.trait_terms
    shift = 0.0
    if "node_effect" in out:
        if linear:  # effects of z itself; otherwise of g(standardised z)
            out["node_effect"] = out["node_effect"] / node_sd
            shift = out["node_effect"] @ scaling.node_mean
        out["fixed_omics"] = out["fixed_omics"] / scaling.omics_terms
    units: dict[str, float | np.ndarray] = {
        "none": 1.0,
        "trait": trait_sd,
        "trait2": trait_sd**2,
        "node": node_sd,
    }
    units["node2"] = node_sd**2
    described = describe(data)
    for name, value in out.items():
        quantity = described[name]
        factor = units[quantity.unit]
        if quantity.dims == ("node", "term_omics"):
            factor = node_sd[:, None]
        out[name] = value * factor
    out["y_mean"] += scaling.trait_mean
    out["fixed_trait"][..., 0] += scaling.trait_mean - trait_sd * shift
    if "fixed_omics" in out:
        out["fixed_omics"][..., 0] += scaling.node_mean
    return out


def _predictive(y_mean: np.ndarray, var_residual: np.ndarray, seed: int) -> np.ndarray:
    """Posterior predictive draws of a record of weight 1, each chain with its own stream."""
    noise = np.stack(
        [
            np.random.default_rng([seed, chain]).standard_normal(y_mean.shape[1:])
            for chain in range(y_mean.shape[0])
        ]
    )
    return y_mean + np.sqrt(var_residual)[..., None] * noise


def pool(moments: Moments, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean, sd and share of non-zero values over all chains, (chain, ...) in."""
    weights = counts.reshape(-1, *([1] * (moments.mean.ndim - 1)))
    total = counts.sum()
    mean = (weights * moments.mean.astype(np.float64)).sum(axis=0) / total
    between = weights * (moments.mean - mean) ** 2
    variance = (moments.m2.astype(np.float64) + between).sum(axis=0) / total
    return mean, np.sqrt(variance), moments.nonzero.sum(axis=0, dtype=np.float64) / total


def _moments(output: RunOutput, scaling: Scaling) -> dict[str, tuple[tuple[str, ...], np.ndarray]]:
    sums = output.sums
    sd = scaling.node_sd[:, None]
    effects_count = np.asarray(sums.effects_count)
    found: dict[str, tuple[tuple[str, ...], np.ndarray]] = {}
    if sums.markers is not None:
        mean, spread, pip = pool(sums.markers, effects_count)
        found["marker_mean"] = (("node", "marker"), mean * sd)
        found["marker_sd"] = (("node", "marker"), spread * sd)
        found["marker_pip"] = (("node", "marker"), pip)
    if sums.skip is not None:
        parts = pool(sums.skip, effects_count)
        for name, value, factor in zip(
            ("mean", "sd", "pip"), parts, (scaling.trait_sd, scaling.trait_sd, 1.0), strict=True
        ):
            found[f"skip_{name}"] = (("marker", "trait"), value.T * factor)
    if sums.z is not None:
        z_mean, z_sd, _ = pool(sums.z, np.asarray(sums.z_count))
        found["omics_mean"] = (("individual", "node"), (z_mean * sd + scaling.node_mean[:, None]).T)
        found["omics_sd"] = (("individual", "node"), (z_sd * sd).T)
    return found


def individual_means(dataset: Dataset) -> np.ndarray:
    """Mean (individual,) of the observed phenotype records of each individual, NaN without one."""
    seen = ~np.isnan(dataset.phenotype)
    rows, n = dataset.record_rows[seen], len(dataset.ids)
    count = np.bincount(rows, minlength=n)
    total = np.bincount(rows, dataset.phenotype[seen], minlength=n)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def _single(value: np.ndarray) -> np.ndarray:
    """Files hold single precision: more digits than any chain has."""
    return value.astype(np.float32) if value.dtype == np.float64 else value


def assemble(
    dataset: Dataset, prepared: Prepared, output: RunOutput, *, linear: bool, seed: int
) -> dict[str, xr.Dataset]:
    """Build the groups of a result.

    Parameters
    ----------
    dataset, prepared, output
        Of the same fit.
    linear : bool
        Whether the activation is linear.
    seed : int
        Of the run; predictive noise is drawn from it.

    Returns
    -------
    dict of Dataset
        posterior, sample_stats, moments, constant_data.
    """
    draws = _in_units(output.draws, prepared, linear)
    draws["y_pred"] = _predictive(draws["y_mean"], draws["var_residual_trait"], seed)
    described = describe(prepared.data)
    variables = {}
    for name, value in draws.items():
        dims, of_trait, _ = described[name]
        if of_trait:
            variables[name] = ((*_DRAW, *dims, "trait"), _single(value[..., None]))
        else:
            variables[name] = ((*_DRAW, *dims), _single(value))
    n_chains, n_draws = output.stats["non_finite"].shape
    steps = {"chain": np.arange(n_chains), "draw": np.arange(n_draws)}
    omics_design = prepared.omics_design
    names = {
        "individual": dataset.ids,
        "node": np.asarray(prepared.node_names, dtype=str),
        "marker": dataset.markers,
        "trait": np.asarray([dataset.trait]),
        "term_trait": np.asarray(prepared.trait_design.names),
        "term_omics": np.asarray([] if omics_design is None else omics_design.names, dtype=str),
    }
    kept = _dataset({name: (_DRAW, value) for name, value in output.stats.items()}, steps)
    constant = {
        "omics_observed": (("individual", "node"), np.asarray(prepared.data.observed).T),
        "phenotype": (("individual", "trait"), individual_means(dataset)[:, None]),
        "latent": (("node",), np.asarray(prepared.data.latent)),
    }
    moments = {
        name: (dims, _single(value))
        for name, (dims, value) in _moments(output, prepared.scaling).items()
    }
    return {
        "posterior": _dataset(variables, {**steps, **names}),
        "sample_stats": kept,
        "moments": _dataset(moments, names),
        "constant_data": _dataset(constant, names),
    }


def _dataset(
    variables: dict[str, tuple[tuple[str, ...], np.ndarray]], coords: dict[str, np.ndarray]
) -> xr.Dataset:
    """Dataset with the coordinates that its variables use."""
    used = {dim for dims, _ in variables.values() for dim in dims}
    return xr.Dataset(variables, {dim: value for dim, value in coords.items() if dim in used})
