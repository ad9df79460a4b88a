import os
import sys
from collections.abc import Callable

import numpy as np
import pytest
import xarray as xr

from nnmm_jax.posterior.result import FitResult

os.environ["NNMM_JAX_CACHE"] = "0"  # what is compiled is tested, not what was kept of it


def build_result(
    *,
    individuals: int = 30,
    nodes: int = 4,
    latent: int = 0,
    markers: int = 12,
    chains: int = 4,
    draws: int = 100,
    bayesc: bool = False,
    skip: bool = False,
    hmc: bool = False,
    layer: bool = True,
    terms: bool = False,
    groups: bool = False,
    seed: int = 0,
) -> FitResult:
    """A result of the right shape with independent draws; nothing has been fitted."""
    rng = np.random.default_rng(seed)
    ids = np.array([f"id{i:04d}" for i in range(individuals)])
    names = np.array(
        [f"omic_{i}" for i in range(nodes)] + [f"latent{i + 1}" for i in range(latent)]
    )
    width = len(names)
    sample = ("chain", "draw")

    def normal(*shape: int, scale: float = 1.0, loc: np.ndarray | float = 0.0) -> np.ndarray:
        return (rng.normal(size=(chains, draws, *shape)) * scale + loc).astype(np.float32)

    def positive(*shape: int, mean: np.ndarray | float) -> np.ndarray:
        return (mean * rng.gamma(50.0, 1 / 50.0, size=(chains, draws, *shape))).astype(np.float32)

    included = rng.random((chains, draws, width, 1)) < np.linspace(0.05, 0.99, width)[:, None]
    effect = normal(width, 1, scale=0.1, loc=np.cos(np.arange(width))[:, None])
    if bayesc:
        effect = np.where(included, effect, np.float32(0.0))
    value = np.sort(rng.normal(size=individuals))[rng.permutation(individuals)][:, None]
    mediated = normal(individuals, 1, scale=0.4, loc=value)
    mediated -= mediated.mean(axis=2, keepdims=True)
    direct = normal(individuals, 1, scale=0.1) if skip else np.zeros_like(mediated)
    epv = mediated + direct + normal(individuals, 1, scale=0.3)
    mean = epv + 50.0
    of_individuals = (*sample, "individual", "trait")
    posterior = {
        "node_effect": ((*sample, "node", "trait"), effect),
        "node_included": ((*sample, "node", "trait"), included if bayesc else included | True),
        "fixed_trait": ((*sample, "term_trait", "trait"), normal(2, 1)),
        "fixed_omics": ((*sample, "node", "term_omics"), normal(width, 1)),
        "var_residual_node": ((*sample, "node"), positive(width, mean=0.5)),
        "var_genetic_node": ((*sample, "node"), positive(width, mean=0.5)),
        "var_marker_effect": ((*sample, "node"), positive(width, mean=0.01)),
        "h2_node": (
            (*sample, "node"),
            rng.beta(30, 30 + 3 * np.arange(width), (chains, draws, width)),
        ),
        "var_residual_trait": ((*sample, "trait"), positive(1, mean=0.8)),
        "var_mediated": ((*sample, "trait"), mediated.var(axis=2)),
        "var_direct": ((*sample, "trait"), direct.var(axis=2)),
        "var_genetic_trait": ((*sample, "trait"), (mediated + direct).var(axis=2)),
        "var_node_effect": ((*sample, "trait"), positive(1, mean=0.3)),
        "h2_trait": ((*sample, "trait"), rng.beta(40, 50, (chains, draws, 1))),
        "ebv_mediated": (of_individuals, mediated),
        "epv": (of_individuals, epv),
        "y_mean": (of_individuals, mean),
        "y_pred": (of_individuals, mean + normal(individuals, 1, scale=0.9)),
    }
    marker_sd = np.full((width, markers), 0.1)
    marker_mean = rng.normal(size=(width, markers)) * rng.gamma(0.3, size=(width, markers)) * 0.2
    moments = {
        "marker_mean": (("node", "marker"), marker_mean),
        "marker_sd": (("node", "marker"), marker_sd),
        "marker_pip": (("node", "marker"), np.ones((width, markers))),
        "omics_mean": (("individual", "node"), rng.normal(size=(individuals, width)) + 10.0),
    }
    other = np.random.default_rng([seed, 1])  # what follows does not depend on these
    for name in ("node_ebv", "mediated_node"):
        of_nodes = ("individual", "node")
        moments[f"{name}_mean"] = (of_nodes, other.normal(size=(individuals, width)))
        moments[f"{name}_sd"] = (of_nodes, other.gamma(5.0, 0.1, (individuals, width)))
    if bayesc:
        posterior["pi_node"] = ((*sample, "trait"), rng.beta(2, 5, (chains, draws, 1)))
        posterior["pi_marker"] = ((*sample, "node"), rng.beta(90, 10, (chains, draws, width)))
        if skip:
            posterior["pi_skip"] = ((*sample, "trait"), rng.beta(9, 5, (chains, draws, 1)))
        moments["marker_pip"] = (("node", "marker"), np.tanh(np.abs(marker_mean) * 4))
    if skip:
        posterior["ebv_direct"] = (of_individuals, direct)
        posterior["var_skip_effect"] = ((*sample, "trait"), positive(1, mean=0.001))
        for name, values in (("mean", marker_mean), ("sd", marker_sd), ("pip", marker_sd * 0 + 1)):
            moments[f"skip_{name}"] = (("marker", "trait"), values[0][:, None])
    # Whole rows first, then scattered cells, then the latent columns.
    observed = (rng.random((individuals, 1)) > 0.3) & (rng.random((individuals, width)) > 0.05)
    observed[:, nodes:] = False
    moments["omics_sd"] = (("individual", "node"), np.where(observed, 0.0, 0.7))
    phenotype = 50.0 + value + rng.normal(size=(individuals, 1))
    phenotype[rng.random(individuals) < 0.2] = np.nan
    constant = {
        "omics_observed": (("individual", "node"), observed),
        "phenotype": (("individual", "trait"), phenotype),
        "latent": (("node",), np.arange(width) >= nodes),
    }
    stats = {"non_finite": (sample, np.zeros((chains, draws), dtype=int))}
    if hmc:
        stats["accept_prob"] = (sample, rng.uniform(0.7, 0.9, (chains, draws)))
        stats["diverging"] = (sample, np.zeros((chains, draws), dtype=int))
    coords = {
        "chain": np.arange(chains),
        "draw": np.arange(draws),
        "individual": ids,
        "node": names,
        "trait": ["y"],
        "marker": [f"snp{i}" for i in range(markers)],
        "term_trait": ["Intercept", "sex[M]"],
        "term_omics": ["Intercept"],
    }

    def dataset(variables: dict) -> xr.Dataset:
        used = {dim for dims, _ in variables.values() for dim in dims}
        return xr.Dataset(variables, {dim: coords[dim] for dim in coords if dim in used})

    run = {"settings": {"chains": chains, "samples": draws}, "seed": seed}
    if terms:  # a pedigree and pens in both layers
        polygenic = normal(individuals, 1, scale=0.3)
        posterior["ebv_polygenic"] = (of_individuals, polygenic)
        posterior["epv"] = (of_individuals, epv + polygenic)
        posterior["var_polygenic"] = ((*sample, "trait"), polygenic.var(axis=2))
        for label in ("pedigree", "pen"):
            posterior[f"var_random_trait_{label}"] = ((*sample, "trait"), positive(1, mean=0.2))
            posterior[f"var_random_node_{label}"] = ((*sample, "node"), positive(width, mean=0.1))
        run["settings"]["random_trait"] = [{"name": "Pedigree"}, {"name": "Group", "column": "pen"}]
        for name in ("cg_iterations", "cg_failed"):
            stats[name] = (sample, np.zeros((chains, draws), dtype=int))
    if groups:  # of markers: BayesR on cis, BayesL on trans
        weights = rng.dirichlet((5, 3, 2), (chains, draws, width))
        posterior["var_marker_effect_cis"] = ((*sample, "node"), positive(width, mean=0.01))
        posterior["pi_marker_cis"] = ((*sample, "node"), weights[..., 0])
        posterior["weights_marker_cis"] = ((*sample, "node", "component_marker"), weights)
        posterior["lambda2_marker_effect_trans"] = ((*sample, "node"), positive(width, mean=90.0))
    if not layer:  # the trait is fitted directly: nothing has nodes
        for part in (posterior, moments):
            for name in [name for name, (dims, _) in part.items() if "node" in dims]:
                del part[name]
        for name in [name for name in posterior if "_node" in name]:
            del posterior[name]
        constant["omics_observed"] = (("individual", "node"), np.empty((individuals, 0), bool))
        constant["latent"] = (("node",), np.empty(0, bool))
        coords["node"] = np.empty(0, str)
    groups = (posterior, stats, moments, constant, {"from_chain": (("sample",), np.arange(chains))})
    seen = np.isfinite(phenotype[:, 0])
    variance = posterior["var_residual_trait"][1]
    squares = (phenotype[seen, 0] - mean[..., seen, 0]) ** 2 / variance
    density = xr.Dataset(
        {"phenotype": ((*sample, "individual"), -0.5 * (squares + np.log(2 * np.pi * variance)))},
        {name: coords[name] for name in sample} | {"individual": ids[seen]},
        {"given_sampled_nodes": 0},
    )
    return FitResult(*(dataset(group) for group in groups), run, density)


@pytest.fixture(scope="module", autouse=True)
def _forget_compiled_code():
    """Drop compiled programs after each module: they add up to gigabytes."""
    yield
    if "jax" in sys.modules:
        sys.modules["jax"].clear_caches()


@pytest.fixture(scope="session")
def make_result() -> Callable[..., FitResult]:
    """Builder of synthetic results: sizes and parts, see its arguments."""
    return build_result
