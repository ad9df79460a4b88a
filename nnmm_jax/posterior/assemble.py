"""From what the sampler kept to a :class:`FitResult` in the user's units, with named dimensions."""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import xarray as xr

from nnmm_jax.data.align import Dataset
from nnmm_jax.inference.build_arrays import marker_means
from nnmm_jax.inference.collect import Moments
from nnmm_jax.inference.pointwise import integrates_missing
from nnmm_jax.inference.prepare import Prepared, Scaling
from nnmm_jax.inference.quantities import Quantity, describe
from nnmm_jax.inference.run import RunOutput
from nnmm_jax.posterior.diagnostics import spaced_individuals

_DRAW = ("chain", "draw")
_AT_A_TIME = 2**20  # values in double precision: a whole array of draws would be far more
LOG_LIKELIHOOD = "log_likelihood"  # name of a draw, and of a group of results
# Means over the individuals, by which breeding values of a draw are centred.
_MEANS = ("mediated_mean", "direct_mean", "epv_mean")


def noise_streams(seed: int, chains: int) -> list[np.random.Generator]:
    """Random numbers of predictive draws, a stream for each chain."""
    return [np.random.default_rng([seed, chain]) for chain in range(chains)]


def in_units(
    draws: Mapping[str, np.ndarray],
    prepared: Prepared,
    described: Mapping[str, Quantity],
    noise: Sequence[np.random.Generator],
) -> dict[str, np.ndarray]:
    """Undo the internal scaling of draws, one quantity at a time.

    Parameters
    ----------
    draws : mapping of str to (chain, draw, ...)
        All draws, or those that follow others of which ``noise`` has been taken.
    prepared : Prepared
    described : mapping of str to Quantity
        What the draws are.
    noise : sequence of numpy.random.Generator
        Of :func:`noise_streams`; predictive draws take from it.

    Returns
    -------
    dict of str to (chain, draw, ...)
        Single precision.
    """
    draws = _reported(draws)
    large = _of_individual(described, draws)
    found = _small_in_units(
        {name: draws[name] for name in draws if name not in large}, prepared, described
    )
    variance = found["var_residual_trait"]
    found["var_residual_trait"] = _single(variance)
    found |= _of_individuals(draws, large, prepared, variance, noise)
    return {name: found[name] for name in (*draws, "y_mean", "y_pred") if name in found}


def _reported(draws: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """All but the log density of phenotypes, which is a group of its own."""
    return {name: value for name, value in draws.items() if name != LOG_LIKELIHOOD}


def _of_individual(described: Mapping[str, Quantity], names: Iterable[str]) -> list[str]:
    return [name for name in names if described[name].dims == ("individual",)]


def _small_in_units(
    draws: Mapping[str, np.ndarray], prepared: Prepared, described: Mapping[str, Quantity]
) -> dict[str, np.ndarray]:
    """All but values of individuals; the residual variance still in double precision."""
    scaling, data = prepared.scaling, prepared.data
    node_sd, trait_sd = scaling.node_sd, scaling.trait_sd
    fixed = {f"fixed_omics{block.suffix}" for block in data.omics}
    small = [name for name in draws if name not in {*_MEANS, *fixed}]
    of_trait = {"none": 1.0, "trait": trait_sd, "trait2": trait_sd**2}
    found: dict[str, np.ndarray] = {}
    shift: np.ndarray | float = 0.0
    for name in sorted(small, key="node_effect".__ne__):  # first the one that gives the shift
        value, (dims, _, unit) = draws[name].astype(np.float64), described[name]
        if name == "node_effect" and prepared.activation.linear:
            value = value / node_sd  # effects of z itself; otherwise of g(standardised z)
            shift = value @ scaling.node_mean
        if name == "fixed_trait":
            value = value / scaling.trait_terms
        if unit in of_trait:
            value = value * of_trait[unit]
        else:
            sd = _of_nodes(node_sd, dims[0], prepared)
            factor = sd**2 if unit == "node2" else sd
            value = value * factor.reshape(-1, *[1] * (len(dims) - 1))
        if name == "fixed_trait":
            value[..., 0] += scaling.trait_mean - trait_sd * shift
        found[name] = value if name == "var_residual_trait" else _single(value)
    for block, terms in zip(data.omics, scaling.omics_terms, strict=True):
        found[f"fixed_omics{block.suffix}"] = _fixed_omics(
            draws[f"fixed_omics{block.suffix}"], terms, f"node{block.suffix}", prepared
        )
    return found


def _fixed_omics(draws: np.ndarray, terms: np.ndarray, dim: str, prepared: Prepared) -> np.ndarray:
    """Fixed effects of a block's nodes in their units."""
    scaling = prepared.scaling
    value = draws.astype(np.float64) * _of_nodes(scaling.node_sd, dim, prepared)[:, None] / terms
    value[..., 0] += _of_nodes(scaling.node_mean, dim, prepared)
    return _single(value)


def _of_individuals(
    draws: Mapping[str, np.ndarray],
    names: Sequence[str],
    prepared: Prepared,
    var_residual: np.ndarray,
    noise: Sequence[np.random.Generator],
) -> dict[str, np.ndarray]:
    """Values of individuals in the trait's units, expected and predictive phenotypes among them.

    Predictive draws are those of a record of weight 1; each chain has its own stream. They are the
    largest arrays of a result, so that a few draws are worked on at a time.
    """
    scaling = prepared.scaling
    n_chains, n_draws, n = draws["epv"].shape
    kept = [name for name in names if name != "group_value"]
    found = {
        name: np.empty((n_chains, n_draws, n), np.float32) for name in (*kept, "y_mean", "y_pred")
    }
    step = max(1, _AT_A_TIME // n)
    for chain in range(n_chains):
        for start in range(0, n_draws, step):
            at = chain, slice(start, start + step)
            part = {name: draws[name][at].astype(np.float64) for name in names}
            explained = part["epv"] + draws["epv_mean"][at].astype(np.float64)[:, None]
            explained += part.get("group_value", 0.0)
            explained += draws["fixed_trait"][at].astype(np.float64) @ prepared.trait_rows
            y_mean = explained * scaling.trait_sd + scaling.trait_mean
            found["y_mean"][at] = y_mean
            found["y_pred"][at] = _predictive(y_mean, var_residual[at], noise[chain])
            for name in kept:
                found[name][at] = part[name] * scaling.trait_sd
    return found


def _of_nodes(values: np.ndarray, dim: str, prepared: Prepared) -> np.ndarray:
    """Those of (node,) values that belong to a dimension: of all nodes, or those of a block."""
    blocks = zip(prepared.data.omics, prepared.data.block_nodes, strict=True)
    rows = {f"node{block.suffix}": nodes for block, nodes in blocks}
    return values if dim == "node" else values[rows[dim]]


def _predictive(
    y_mean: np.ndarray, var_residual: np.ndarray, random: np.random.Generator
) -> np.ndarray:
    """Posterior predictive draws of a record of weight 1, (draw, individual)."""
    noise = random.standard_normal(y_mean.shape)
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


def _pooled(
    moments: Moments, counts: np.ndarray, unit: np.ndarray | float, shift: np.ndarray | float = 0.0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """:func:`pool`, times units and shifted, in single precision; some rows at a time."""
    rows, columns = moments.mean.shape[1:]
    units, shifts = np.broadcast_to(unit, (rows, 1)), np.broadcast_to(shift, (rows, 1))
    found = np.empty((3, rows, columns), np.float32)
    step = max(1, _AT_A_TIME // (columns * len(counts)))
    for start in range(0, rows, step):
        part = slice(start, start + step)
        nonzero = None if moments.nonzero is None else moments.nonzero[:, part]
        some = Moments(moments.mean[:, part], moments.m2[:, part], nonzero)
        mean, spread, pip = pool(some, counts)
        for room, value in zip(
            found, (mean * units[part] + shifts[part], spread * units[part], pip), strict=True
        ):
            room[part] = value
    return found[0], found[1], found[2]


def _moments(output: RunOutput, scaling: Scaling) -> dict[str, tuple[tuple[str, ...], np.ndarray]]:
    sums = output.sums
    sd = scaling.node_sd[:, None]
    effects_count = np.asarray(sums.effects_count)
    found: dict[str, tuple[tuple[str, ...], np.ndarray]] = {}
    parts = ("mean", "sd", "pip")
    if sums.markers is not None:
        for part, value in zip(parts, _pooled(sums.markers, effects_count, sd), strict=True):
            found[f"marker_{part}"] = (("node", "marker"), value)
    if sums.skip is not None:
        skip = _pooled(sums.skip, effects_count, scaling.trait_sd)
        for part, value in zip(parts, skip, strict=True):
            found[f"skip_{part}"] = (("marker", "trait"), value.T)
    of_nodes: dict[str, tuple[str, str, np.ndarray | float, np.ndarray | float]] = {
        "z": ("omics", "node", sd, scaling.node_mean[:, None]),
        "genetic": ("node_ebv", "node", sd, 0.0),
        "mediated": ("mediated_node", "node", scaling.trait_sd, 0.0),
        "mediated_block": ("mediated_block", "block", scaling.trait_sd, 0.0),
    }
    for name, (called, dim, unit, shift) in of_nodes.items():
        if name in sums.nodes:
            mean, spread, _ = _pooled(sums.nodes[name], np.asarray(sums.nodes_count), unit, shift)
            found[f"{called}_mean"] = (("individual", dim), mean.T)
            found[f"{called}_sd"] = (("individual", dim), spread.T)
    return found


def individual_means(dataset: Dataset) -> np.ndarray:
    """Mean (individual,) of the observed phenotype records of each individual, NaN without one."""
    seen = ~np.isnan(dataset.phenotype)
    rows, n = dataset.record_rows[seen], len(dataset.ids)
    count = np.bincount(rows, minlength=n)
    total = np.bincount(rows, dataset.phenotype[seen], minlength=n)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def residual_shares(dataset: Dataset) -> np.ndarray:
    """Variance (individual,) of the residual of these means, as a share of the residual variance.

    The records' residual variances are sigma2 / v; NaN without a record.
    """
    seen = ~np.isnan(dataset.phenotype)
    rows, n = dataset.record_rows[seen], len(dataset.ids)
    inverse = np.ones(len(rows)) if dataset.weights is None else 1.0 / dataset.weights[seen]
    count = np.bincount(rows, minlength=n)
    total = np.bincount(rows, inverse, minlength=n)
    return np.where(count > 0, total / np.maximum(count, 1) ** 2, np.nan)


def _parameters(
    dataset: Dataset, prepared: Prepared, output: RunOutput
) -> dict[str, tuple[tuple[str, ...], np.ndarray]]:
    """Whole parameter sets of some draws of all chains, in the user's units."""
    scaling, chains = prepared.scaling, len(np.asarray(output.sums.nodes_count))
    node_sd, trait_sd = scaling.node_sd, scaling.trait_sd
    found: dict[str, tuple[tuple[str, ...], np.ndarray]] = {}

    def add(
        name: str,
        value: np.ndarray,
        *dims: str,
        factor: np.ndarray | float = 1.0,
        shift: np.ndarray | float = 0.0,
    ) -> None:
        flat = value.reshape(-1, *value.shape[2:])
        whole = np.empty(flat.shape, np.float32)
        for sample, one in enumerate(flat):
            whole[sample] = shift + factor * one
        found[name] = (("sample", *dims), whole)

    taken = output.snapshots
    sampled = np.repeat(np.arange(chains)[:, None], len(output.snapshot_draws), axis=1)
    found["from_chain"] = (("sample",), sampled.ravel())
    found["from_draw"] = (("sample",), np.tile(output.snapshot_draws, chains))
    if not taken:
        return found
    fixed = taken["fixed_trait"].astype(np.float64) @ prepared.trait_rows.mean(axis=1)
    add("trait_base", fixed, factor=trait_sd, shift=scaling.trait_mean)
    add("var_residual_trait", taken["var_residual_trait"], factor=trait_sd**2)
    for name in _MEANS:
        add(name, taken[name], factor=trait_sd)
    if "skip_effect" in taken:
        add("skip_effect", taken["skip_effect"], "marker", factor=trait_sd)
    if "node_base" in taken:
        add("node_base", taken["node_base"], "node", factor=node_sd, shift=scaling.node_mean)
        add("var_residual_node", taken["var_residual_node"], "node", factor=node_sd**2)
    if "marker_effect" in taken:
        add("marker_effect", taken["marker_effect"], "node", "marker", factor=node_sd[:, None])
    if "node_effect" in taken:
        unit = node_sd if prepared.activation.linear else 1.0
        add("node_effect", taken["node_effect"], "node", factor=trait_sd / unit)
    for name in prepared.activation.parameters.priors:
        value = taken[f"theta_{name}"]
        add(f"theta_{name}", value, *(f"theta_{name}_{axis}" for axis in range(value.ndim - 2)))
    return found


def _single(value: np.ndarray) -> np.ndarray:
    """Files hold single precision: more digits than any chain has."""
    return value.astype(np.float32) if value.dtype == np.float64 else value


def assemble(
    dataset: Dataset, prepared: Prepared, output: RunOutput, *, seed: int
) -> dict[str, xr.Dataset]:
    """Build the groups of a result whose draws are in memory.

    Parameters
    ----------
    dataset, prepared, output
        Of the same fit.
    seed : int
        Of the run; predictive noise is drawn from it.

    Returns
    -------
    dict of Dataset
        posterior, sample_stats, moments, constant_data, parameters, log_likelihood.
    """
    described = describe(prepared.data, prepared.activation)
    n_chains, n_draws = output.stats["non_finite"].shape
    draws = in_units(output.draws, prepared, described, noise_streams(seed, n_chains))
    variables = {
        name: (draw_dims(described[name]), with_trait(value, described[name]))
        for name, value in draws.items()
    }
    steps = {"chain": np.arange(n_chains), "draw": np.arange(n_draws)}
    found = {
        "posterior": _dataset(variables, {**steps, **coordinates(dataset, prepared)}),
        "sample_stats": _dataset(
            {name: (_DRAW, value) for name, value in output.stats.items()}, steps
        ),
        LOG_LIKELIHOOD: _log_likelihood(dataset, prepared, output.draws, steps),
    }
    return found | assemble_rest(dataset, prepared, output)


def judged(dataset: Dataset, prepared: Prepared, output: RunOutput) -> xr.Dataset:
    """Those draws of a posterior that :mod:`nnmm_jax.posterior.diagnostics` judges.

    Parameters
    ----------
    dataset, prepared, output
        Of the same fit, its draws in memory.

    Returns
    -------
    Dataset
        As the posterior of :func:`assemble`, with values of some individuals only.
    """
    described = describe(prepared.data, prepared.activation)
    draws = _reported(output.draws)
    large = _of_individual(described, draws)
    small = {name: value for name, value in draws.items() if name not in large}
    found = _small_in_units(small, prepared, described)
    rows = spaced_individuals(len(dataset.ids))
    for name in (one for one in large if one != "group_value"):
        some = draws[name][:, :, rows].astype(np.float64)
        found[name] = (some * prepared.scaling.trait_sd).astype(np.float32)
    variables = {
        name: (draw_dims(described[name]), with_trait(_single(value), described[name]))
        for name, value in found.items()
    }
    names = coordinates(dataset, prepared)
    return _dataset(variables, names | {"individual": dataset.ids[rows]})


def draw_dims(quantity: Quantity) -> tuple[str, ...]:
    """Dimensions of the draws of a quantity."""
    return (*_DRAW, *quantity.dims, *(("trait",) if quantity.of_trait else ()))


def with_trait(value: np.ndarray, quantity: Quantity) -> np.ndarray:
    """Draws of a quantity with the axis of the trait, if it has one."""
    return value[..., None] if quantity.of_trait else value


def coordinates(dataset: Dataset, prepared: Prepared) -> dict[str, np.ndarray]:
    """Names along all dimensions but chain and draw."""
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
    return names


def assemble_rest(dataset: Dataset, prepared: Prepared, output: RunOutput) -> dict[str, xr.Dataset]:
    """Build the groups of a result that are no draws: moments, constant_data, parameters."""
    names = coordinates(dataset, prepared)
    parameters = _parameters(dataset, prepared, output)
    samples = {"sample": np.arange(next(iter(parameters.values()))[1].shape[0])}
    constant = {
        "omics_observed": (("individual", "node"), np.asarray(prepared.data.observed).T),
        "phenotype": (("individual", "trait"), individual_means(dataset)[:, None]),
        "residual_share": (("individual",), residual_shares(dataset)),
        "latent": (("node",), np.asarray(prepared.data.latent)),
        "node_order": (("node",), prepared.node_order),
        "node_mean": (("node",), prepared.scaling.node_mean),
        "node_sd": (("node",), prepared.scaling.node_sd),
        "trait_mean": (("trait",), np.asarray([prepared.scaling.trait_mean])),
        "trait_sd": (("trait",), np.asarray([prepared.scaling.trait_sd])),
        "marker_dosage": (("marker",), marker_means(dataset.genotypes)),
    }
    moments = _moments(output, prepared.scaling)
    return {
        "moments": _dataset(moments, names),
        "constant_data": _dataset(constant, names),
        "parameters": _dataset(parameters, {**samples, **names}),
    }


class Pointwise(NamedTuple):
    """How the log density of phenotypes comes from the internal scale to the trait's units.

    Attributes
    ----------
    rows : (phenotyped individual,)
    shift : (phenotyped individual,)
        Taken off: the log of the trait's unit, once for each record.
    attributes : dict
        Of the group: ``given_sampled_nodes``, individuals whose density is given sampled nodes.
    """

    rows: np.ndarray
    shift: np.ndarray
    attributes: dict[str, int]

    def in_units(self, values: np.ndarray) -> np.ndarray:
        """Turn draws (chain, draw, individual) into those of phenotyped individuals."""
        return _single(values[..., self.rows] - self.shift)


def pointwise(prepared: Prepared) -> Pointwise:
    """Say which individuals have a density of their phenotype, and in which units."""
    data = prepared.data
    count = np.bincount(np.asarray(data.y_rows), minlength=data.y_precision.shape[0])
    rows = np.flatnonzero(count)
    sampled = 0 if integrates_missing(prepared.activation) else data.informed_rows.shape[0]
    shift = count[rows] * np.log(prepared.scaling.trait_sd)
    return Pointwise(rows, shift, {"given_sampled_nodes": sampled})


def _log_likelihood(
    dataset: Dataset,
    prepared: Prepared,
    draws: Mapping[str, np.ndarray],
    steps: Mapping[str, np.ndarray],
) -> xr.Dataset:
    """Log density of the phenotyped individuals' records in the trait's units."""
    found = pointwise(prepared)
    return xr.Dataset(
        {"phenotype": ((*_DRAW, "individual"), found.in_units(draws[LOG_LIKELIHOOD]))},
        {**steps, "individual": dataset.ids[found.rows]},
        found.attributes,
    )


def _dataset(
    variables: dict[str, tuple[tuple[str, ...], np.ndarray]], coords: dict[str, np.ndarray]
) -> xr.Dataset:
    """Dataset with the coordinates that its variables use."""
    used = {dim for dims, _ in variables.values() for dim in dims}
    return xr.Dataset(variables, {dim: value for dim, value in coords.items() if dim in used})
