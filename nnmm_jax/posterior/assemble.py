"""From what the sampler kept to a :class:`FitResult` in the user's units, with named dimensions."""

import numpy as np
import xarray as xr

from nnmm_jax.data.align import Dataset
from nnmm_jax.inference.collect import Moments
from nnmm_jax.inference.prepare import Prepared, Scaling
from nnmm_jax.inference.run import RunOutput

_DRAW = ("chain", "draw")
_TRAIT_DIMS = {  # quantities of one trait: the dimensions between (chain, draw) and trait
    **dict.fromkeys(("node_effect", "node_included"), ("node",)),
    "fixed_trait": ("term_trait",),
    **dict.fromkeys(
        (
            "var_residual_trait",
            "var_mediated",
            "var_direct",
            "var_genetic_trait",
            "var_node_effect",
            "h2_trait",
            "pi_node",
            "var_skip_effect",
            "pi_skip",
        ),
        (),
    ),
    **dict.fromkeys(("ebv_mediated", "ebv_direct", "epv", "y_mean", "y_pred"), ("individual",)),
}
_NODE_DIMS = {
    "fixed_omics": ("node", "term_omics"),
    **dict.fromkeys(
        ("var_residual_node", "var_genetic_node", "var_marker_effect", "h2_node", "pi_marker"),
        ("node",),
    ),
}


def _in_units(
    draws: dict[str, np.ndarray], scaling: Scaling, trait_rows: np.ndarray, linear: bool
) -> dict[str, np.ndarray]:
    """Undo the internal scaling of all draws."""
    out = {name: value.astype(np.float64) for name, value in draws.items()}
    node_sd, trait_sd = scaling.node_sd, scaling.trait_sd
    effects, shift = out["node_effect"], 0.0
    if linear:  # effects of z itself; otherwise of g(standardised z)
        effects = effects / node_sd
        shift = effects @ scaling.node_mean
    out["node_effect"] = trait_sd * effects
    fixed = out["fixed_trait"] / scaling.trait_terms
    epv_mean = out.pop("epv_mean")[..., None]
    out["y_mean"] = scaling.trait_mean + trait_sd * (
        out["epv"] + epv_mean + out["fixed_trait"] @ trait_rows
    )
    fixed[..., 0] -= shift
    out["fixed_trait"] = trait_sd * fixed
    out["fixed_trait"][..., 0] += scaling.trait_mean
    out["fixed_omics"] = node_sd[:, None] * out["fixed_omics"] / scaling.omics_terms
    out["fixed_omics"][..., 0] += scaling.node_mean
    for name in ("var_residual_node", "var_genetic_node", "var_marker_effect"):
        out[name] *= node_sd**2
    for name in (
        "var_residual_trait",
        "var_mediated",
        "var_direct",
        "var_genetic_trait",
        "var_node_effect",
        "var_skip_effect",
    ):
        if name in out:
            out[name] *= trait_sd**2
    for name in ("ebv_mediated", "ebv_direct", "epv"):
        if name in out:
            out[name] *= trait_sd
    return out


def _predictive(y_mean: np.ndarray, var_residual: np.ndarray, seed: int) -> np.ndarray:
    """Posterior predictive draws, each chain with its own stream."""
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
    mean, spread, pip = pool(sums.markers, effects_count)
    found: dict[str, tuple[tuple[str, ...], np.ndarray]] = {
        "marker_mean": (("node", "marker"), mean * sd),
        "marker_sd": (("node", "marker"), spread * sd),
        "marker_pip": (("node", "marker"), pip),
    }
    if sums.skip is not None:
        parts = pool(sums.skip, effects_count)
        for name, value, factor in zip(
            ("mean", "sd", "pip"), parts, (scaling.trait_sd, scaling.trait_sd, 1.0), strict=True
        ):
            found[f"skip_{name}"] = (("marker", "trait"), value.T * factor)
    z_mean, z_sd, _ = pool(sums.z, np.asarray(sums.z_count))
    found["omics_mean"] = (("individual", "node"), (z_mean * sd + scaling.node_mean[:, None]).T)
    found["omics_sd"] = (("individual", "node"), (z_sd * sd).T)
    return found


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
    draws = _in_units(output.draws, prepared.scaling, prepared.trait_rows, linear)
    draws["y_pred"] = _predictive(draws["y_mean"], draws["var_residual_trait"], seed)
    variables = {}
    for name, value in draws.items():
        if name in _NODE_DIMS:
            variables[name] = ((*_DRAW, *_NODE_DIMS[name]), _single(value))
        else:
            variables[name] = ((*_DRAW, *_TRAIT_DIMS[name], "trait"), _single(value[..., None]))
    n_chains, n_draws = output.stats["non_finite"].shape
    steps = {"chain": np.arange(n_chains), "draw": np.arange(n_draws)}
    names = {
        "individual": dataset.ids,
        "node": np.asarray(prepared.node_names, dtype=str),
        "marker": dataset.markers,
        "trait": np.asarray([dataset.trait]),
        "term_trait": np.asarray(prepared.trait_design.names),
        "term_omics": np.asarray(prepared.omics_design.names),
    }
    kept = _dataset({name: (_DRAW, value) for name, value in output.stats.items()}, steps)
    constant = {
        "omics_observed": (("individual", "node"), np.asarray(prepared.data.observed).T),
        "phenotype": (("individual", "trait"), dataset.phenotype[:, None]),
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
