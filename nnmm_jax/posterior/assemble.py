"""From what the sampler kept to a :class:`FitResult` in the user's units, with named dimensions."""

import numpy as np
import xarray as xr

from nnmm_jax.data.align import Dataset
from nnmm_jax.inference.build_arrays import marker_means
from nnmm_jax.inference.collect import Moments
from nnmm_jax.inference.prepare import Prepared, Scaling
from nnmm_jax.inference.quantities import Quantity, describe
from nnmm_jax.inference.run import RunOutput

_DRAW = ("chain", "draw")
# Means over the individuals, by which breeding values of a draw are centred.
_MEANS = ("mediated_mean", "direct_mean", "epv_mean")


def _in_units(
    draws: dict[str, np.ndarray], prepared: Prepared, described: dict[str, Quantity]
) -> dict[str, np.ndarray]:
    """Undo the internal scaling of all draws."""
    scaling, data = prepared.scaling, prepared.data
    out = {name: value.astype(np.float64) for name, value in draws.items()}
    node_sd, trait_sd = scaling.node_sd, scaling.trait_sd
    explained = out["epv"] + out["epv_mean"][..., None] + out.pop("group_value", 0.0)
    for name in _MEANS:
        out.pop(name)
    out["y_mean"] = explained + out["fixed_trait"] @ prepared.trait_rows
    out["fixed_trait"] = out["fixed_trait"] / scaling.trait_terms
    shift = 0.0
    if "node_effect" in out:
        if prepared.activation.linear:  # effects of z itself; otherwise of g(standardised z)
            out["node_effect"] = out["node_effect"] / node_sd
            shift = out["node_effect"] @ scaling.node_mean
    of_trait = {"none": 1.0, "trait": trait_sd, "trait2": trait_sd**2}
    for name, value in out.items():
        dims, _, unit = described[name]
        if unit in of_trait:
            out[name] = value * of_trait[unit]
            continue
        sd = _of_nodes(node_sd, dims[0], prepared)
        out[name] = value * (sd**2 if unit == "node2" else sd).reshape(-1, *[1] * (len(dims) - 1))
    out["y_mean"] += scaling.trait_mean
    out["fixed_trait"][..., 0] += scaling.trait_mean - trait_sd * shift
    for block, terms in zip(data.omics, scaling.omics_terms, strict=True):
        name = f"fixed_omics{block.suffix}"
        out[name] = out[name] / terms
        out[name][..., 0] += _of_nodes(scaling.node_mean, f"node{block.suffix}", prepared)
    return out


def _of_nodes(values: np.ndarray, dim: str, prepared: Prepared) -> np.ndarray:
    """Those of (node,) values that belong to a dimension: of all nodes, or those of a block."""
    blocks = zip(prepared.data.omics, prepared.data.block_nodes, strict=True)
    rows = {f"node{block.suffix}": nodes for block, nodes in blocks}
    return values if dim == "node" else values[rows[dim]]


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
    if moments.nonzero is None:
        return mean, np.sqrt(variance), np.full(mean.shape, np.nan)
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
    for name, (called, dim, unit, shift) in {
        "z": ("omics", "node", sd, scaling.node_mean[:, None]),
        "genetic": ("node_ebv", "node", sd, 0.0),
        "mediated": ("mediated_node", "node", scaling.trait_sd, 0.0),
        "mediated_block": ("mediated_block", "block", scaling.trait_sd, 0.0),
    }.items():
        if name in sums.nodes:
            mean, spread, _ = pool(sums.nodes[name], np.asarray(sums.nodes_count))
            found[f"{called}_mean"] = (("individual", dim), (mean * unit + shift).T)
            found[f"{called}_sd"] = (("individual", dim), (spread * unit).T)
    return found


def individual_means(dataset: Dataset) -> np.ndarray:
    """Mean (individual,) of the observed phenotype records of each individual, NaN without one."""
    seen = ~np.isnan(dataset.phenotype)
    rows, n = dataset.record_rows[seen], len(dataset.ids)
    count = np.bincount(rows, minlength=n)
    total = np.bincount(rows, dataset.phenotype[seen], minlength=n)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def _parameters(
    dataset: Dataset, prepared: Prepared, output: RunOutput
) -> dict[str, tuple[tuple[str, ...], np.ndarray]]:
    """Whole parameter sets of some draws of all chains, in the user's units."""
    scaling, chains = prepared.scaling, output.stats["non_finite"].shape[0]
    node_sd, trait_sd = scaling.node_sd, scaling.trait_sd
    found: dict[str, tuple[tuple[str, ...], np.ndarray]] = {}

    def add(name: str, value: np.ndarray, *dims: str) -> None:
        whole = np.asarray(value, dtype=np.float64).reshape(-1, *value.shape[2:])
        found[name] = (("sample", *dims), _single(whole))

    def of_draws(name: str) -> np.ndarray:
        return np.asarray(output.draws[name][:, output.snapshot_draws])

    taken = output.snapshots
    sampled = np.repeat(np.arange(chains)[:, None], len(output.snapshot_draws), axis=1)
    found["from_chain"] = (("sample",), sampled.ravel())
    found["from_draw"] = (("sample",), np.tile(output.snapshot_draws, chains))
    if not taken:
        return found
    fixed = taken["fixed_trait"].astype(np.float64) @ prepared.trait_rows.mean(axis=1)
    add("trait_base", scaling.trait_mean + trait_sd * fixed)
    add("var_residual_trait", trait_sd**2 * taken["var_residual_trait"])
    for name in _MEANS:
        add(name, trait_sd * of_draws(name))
    if "skip_effect" in taken:
        add("skip_effect", trait_sd * taken["skip_effect"], "marker")
    if "node_base" in taken:
        add("node_base", scaling.node_mean + node_sd * taken["node_base"], "node")
        add("var_residual_node", node_sd**2 * taken["var_residual_node"], "node")
    if "marker_effect" in taken:
        add("marker_effect", node_sd[:, None] * taken["marker_effect"], "node", "marker")
    if "node_effect" in taken:
        unit = node_sd if prepared.activation.linear else 1.0
        add("node_effect", trait_sd / unit * taken["node_effect"], "node")
    for name in prepared.activation.parameters.priors:
        value = of_draws(f"theta_{name}")
        add(f"theta_{name}", value, *(f"theta_{name}_{axis}" for axis in range(value.ndim - 2)))
    return found


def _single(value: np.ndarray) -> np.ndarray:
    """Files hold single precision: more digits than any chain has."""
    return value.astype(np.float32) if value.dtype == np.float64 else value


def assemble(
    dataset: Dataset, prepared: Prepared, output: RunOutput, *, seed: int
) -> dict[str, xr.Dataset]:
    """Build the groups of a result.

    Parameters
    ----------
    dataset, prepared, output
        Of the same fit.
    seed : int
        Of the run; predictive noise is drawn from it.

    Returns
    -------
    dict of Dataset
        posterior, sample_stats, moments, constant_data, parameters.
    """
    described = describe(prepared.data, prepared.activation)
    draws = _in_units(output.draws, prepared, described)
    draws["y_pred"] = _predictive(draws["y_mean"], draws["var_residual_trait"], seed)
    variables = {}
    for name, value in draws.items():
        dims, of_trait, _ = described[name]
        if of_trait:
            variables[name] = ((*_DRAW, *dims, "trait"), _single(value[..., None]))
        else:
            variables[name] = ((*_DRAW, *dims), _single(value))
    n_chains, n_draws = output.stats["non_finite"].shape
    steps = {"chain": np.arange(n_chains), "draw": np.arange(n_draws)}
    node_names = np.asarray(prepared.node_names, dtype=str)
    names = {
        "individual": dataset.ids,
        "node": node_names,
        "block": np.asarray([block.name for block in prepared.data.omics], dtype=str),
        "marker": dataset.markers,
        "trait": np.asarray([dataset.trait]),
        "term_trait": np.asarray(prepared.trait_design.names),
    }
    blocks = zip(prepared.data.omics, prepared.omics_designs, strict=True)
    for block, design in blocks:
        dim = f"node{block.suffix}"
        names[dim] = _of_nodes(node_names, dim, prepared)
        names[f"term_omics{block.suffix}"] = np.asarray(design.names, dtype=str)
    parameters = _parameters(dataset, prepared, output)
    samples = {"sample": np.arange(next(iter(parameters.values()))[1].shape[0])}
    kept = _dataset({name: (_DRAW, value) for name, value in output.stats.items()}, steps)
    constant = {
        "omics_observed": (("individual", "node"), np.asarray(prepared.data.observed).T),
        "phenotype": (("individual", "trait"), individual_means(dataset)[:, None]),
        "latent": (("node",), np.asarray(prepared.data.latent)),
        "node_order": (("node",), prepared.node_order),
        "node_mean": (("node",), prepared.scaling.node_mean),
        "node_sd": (("node",), prepared.scaling.node_sd),
        "trait_mean": (("trait",), np.asarray([prepared.scaling.trait_mean])),
        "trait_sd": (("trait",), np.asarray([prepared.scaling.trait_sd])),
        "marker_dosage": (("marker",), marker_means(dataset.genotypes)),
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
        "parameters": _dataset(parameters, {**samples, **names}),
    }


def _dataset(
    variables: dict[str, tuple[tuple[str, ...], np.ndarray]], coords: dict[str, np.ndarray]
) -> xr.Dataset:
    """Dataset with the coordinates that its variables use."""
    used = {dim for dims, _ in variables.values() for dim in dims}
    return xr.Dataset(variables, {dim: value for dim, value in coords.items() if dim in used})
