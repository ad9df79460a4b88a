import atexit
import dataclasses
import os
import sys
import tempfile
from collections.abc import Callable
from importlib import metadata
from typing import NamedTuple

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from nnmm_jax.data.dosages import Dosages
from nnmm_jax.posterior.result import FitResult


def pytest_configure(config: pytest.Config) -> None:
    """Compile as little as possible: most of the time of the tests goes there.

    There is no compiled program at first, and each is compiled once in all processes. Unless
    statistical tests run too, XLA does not optimise: its work is then a quarter.
    """
    if "PYTEST_XDIST_WORKER" in os.environ:
        return  # its environment is that of its parent
    level = "xla_backend_optimization_level"
    given = os.environ.get("XLA_FLAGS", "")
    if config.option.markexpr == "not statistical" and level not in given:
        flags = f"{given} --{level}=0"
        version = tuple(int(part) for part in metadata.version("jaxlib").split(".")[:2])
        if version < (0, 12):  # later ones do not know it, and would stop there
            flags += " --xla_cpu_use_fusion_emitters=false"
        os.environ["XLA_FLAGS"] = flags
    folder = tempfile.TemporaryDirectory(prefix="nnmm_jax_compiled_")
    atexit.register(folder.cleanup)
    os.environ["NNMM_JAX_CACHE"] = folder.name


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


CHAINS, KEPT = 4, 10  # chains, and draws of each of which all marker effects are kept


class GwasCase(NamedTuple):
    """A result with draws of all marker effects, and the genotypes and map that go with it."""

    result: FitResult
    genotypes: Dosages
    map: pd.DataFrame


def build_case(
    *,
    skip: bool = True,
    layer: bool = True,
    bayesc: bool = True,
    latent: int = 0,
    activation: str = "linear",
    individuals: int = 60,
    markers: int = 24,
) -> GwasCase:
    """Sparse independent draws on two chromosomes; the first node has one effect in every draw."""
    rng = np.random.default_rng(3)
    result = build_result(
        individuals=individuals, nodes=3, latent=latent, markers=markers, bayesc=bayesc,
        skip=skip, layer=layer, draws=25 * KEPT,
    )  # fmt: skip
    codes = rng.integers(0, 3, (individuals, markers)).astype(np.int8)
    codes[:, 1::4] = codes[:, ::4]  # every fourth has a neighbour in linkage
    codes[::7, 1::4] = rng.integers(0, 3, codes[::7, 1::4].shape)
    codes[3, 5] = -1
    seen = np.where(codes < 0, np.nan, codes)
    nodes = result.constant_data.sizes["node"]
    samples, some = CHAINS * KEPT, rng.random

    def sparse(*shape: int) -> np.ndarray:
        values = rng.normal(size=(samples, *shape, markers))
        kept = some(values.shape) < 0.2 if bayesc else np.ones(values.shape, dtype=bool)
        return np.where(kept, values, 0.0).astype(np.float32)

    chain = np.repeat(np.arange(CHAINS), KEPT)
    draw = np.tile(np.arange(24, 25 * KEPT, 25), CHAINS)
    parts: dict[str, tuple[tuple[str, ...], np.ndarray]] = {
        "from_chain": (("sample",), chain),
        "from_draw": (("sample",), draw),
        "trait_base": (("sample",), np.zeros(samples, np.float32)),
    }
    constant = {
        "marker_dosage": (("marker",), np.nanmean(seen, axis=0)),
        "trait_mean": (("trait",), np.array([50.0])),
        "trait_sd": (("trait",), np.array([2.0])),
        "node_mean": (("node",), np.linspace(1.0, 2.0, nodes)),
        "node_sd": (("node",), np.linspace(0.5, 3.0, nodes)),
    }
    if layer:
        effect = sparse(nodes)
        effect[:, 0, 4] = 2.0 + rng.normal(size=samples) * 0.1
        of_draws = result.posterior["node_effect"].values[chain, draw, :, 0]
        parts |= {
            "marker_effect": (("sample", "node", "marker"), effect),
            "node_effect": (("sample", "node"), of_draws.astype(np.float32)),
            "node_base": (("sample", "node"), rng.normal(1.5, 0.3, (samples, nodes))),
            "var_residual_node": (("sample", "node"), rng.gamma(5.0, 0.1, (samples, nodes))),
        }
    if skip:
        parts["skip_effect"] = (("sample", "marker"), sparse())
    names = {name: result.moments[name].values for name in ("marker", "node") if name in
             result.moments.coords}  # fmt: skip
    names["marker"] = np.array([f"snp{i}" for i in range(markers)])
    parameters = xr.Dataset(parts, {key: names[key] for key in names if key != "node" or layer})
    term = {"name": "RR-BLUP"}
    settings = {
        "activation": activation, "marker_prior": term, "skip_prior": term, "blocks": [],
        "random_omics": [], "random_trait": [],
    }  # fmt: skip
    result = dataclasses.replace(
        result,
        parameters=parameters,
        constant_data=result.constant_data.assign(constant).assign_coords(marker=names["marker"]),
        run={**result.run, "settings": {**result.run["settings"], **settings}},
    )
    ids = tuple(result.posterior["individual"].values.tolist())
    places = pd.DataFrame(
        {
            "marker": names["marker"],
            "chromosome": np.where(np.arange(markers) < markers // 2, "2", "10"),
            "position": np.tile(np.arange(markers // 2) * 100.0, 2),
        }
    )
    return GwasCase(result, Dosages(codes, ids, tuple(names["marker"].tolist())), places)


@pytest.fixture(scope="module", autouse=True)
def _forget_compiled_code():
    """Drop compiled programs after each module: they add up to gigabytes."""
    yield
    if "jax" in sys.modules:
        sys.modules["jax"].clear_caches()


@pytest.fixture(scope="session")
def make_case() -> Callable[..., GwasCase]:
    """Builder of cases, see :func:`build_case`."""
    return build_case


@pytest.fixture(scope="session")
def make_result() -> Callable[..., FitResult]:
    """Builder of synthetic results: sizes and parts, see its arguments."""
    return build_result
