"""Toy problems for the sampler's tests, small enough for dense algebra."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from jax import random
from numpyro.infer.util import log_density

from nnmm_jax import Network
from nnmm_jax.api import sweep_settings
from nnmm_jax.data.align import Dataset, read_dataset
from nnmm_jax.inference.arrays import MixedArrays, ModelData
from nnmm_jax.inference.blocks.mixed_model import genetic_values
from nnmm_jax.inference.prepare import prepare
from nnmm_jax.inference.start import start_state
from nnmm_jax.inference.state import EffectState, State
from nnmm_jax.inference.sweep import SweepSettings, refreshed_residual
from nnmm_jax.network.joint import model


class Toy(NamedTuple):
    """Arrays, static settings and one random state of a small network."""

    data: ModelData
    settings: SweepSettings
    state: State

    def log_joint(self, state: State, slabs: "Slabs") -> float:
        """Log density of the NumPyro model at a state completed with what it integrates out."""
        sites = to_sites(state, self.data, self.settings, slabs)
        spikes = {f"{name}_spike": getattr(self.settings, f"{name}_spike") for name in NAMES}
        args = (self.data, self.settings.activate)
        return float(log_density(model, args, spikes, sites)[0])


NAMES = ("marker", "node", "skip")


class Slabs(NamedTuple):
    """Values of the slabs that a state does not hold: of zero effects, and of the null space."""

    marker: Any
    node: Any
    skip: Any


def draw_slabs(seed: int, data: ModelData) -> Slabs:
    rng = np.random.default_rng(seed)
    n_nodes, n_markers = data.z_start.shape[0], data.omics.markers.n_markers
    return Slabs(
        rng.normal(size=(n_nodes, n_markers)),
        rng.normal(size=(1, n_nodes)),
        rng.normal(size=(1, n_markers)),
    )


def dense_markers(arrays: MixedArrays) -> jax.Array:
    """Centred genotypes (marker, individual)."""
    identity = jnp.eye(arrays.markers.n_padded)
    return arrays.markers.predict(identity)[: arrays.markers.n_markers]


def explicit_effects(effects: EffectState, arrays: MixedArrays, slab: Any) -> jax.Array:
    """Marker effects of a joint state: the row-space part plus a chosen null-space part."""
    dense, spectrum = dense_markers(arrays), arrays.spectrum
    assert spectrum is not None
    back = spectrum.vectors.T / spectrum.values @ spectrum.vectors  # pseudo-inverse of M'M
    row_space = effects.coef @ spectrum.vectors @ back @ dense.T
    return row_space + slab - slab @ dense @ back @ dense.T


def to_sites(
    state: State, data: ModelData, settings: SweepSettings, slabs: Slabs
) -> dict[str, Any]:
    """Values of the joint model's sites at a state."""
    sites: dict[str, Any] = {
        "beta": state.beta,
        "var_e": state.var_e,
        "z_missing": state.z[jnp.nonzero(~data.observed)],
        "fixed": state.fixed,
        "var_y": state.var_y,
    }
    parts = {
        "marker": (state.markers, data.omics, slabs.marker, data.omics.hyper),
        "node": (state.nodes, None, slabs.node, data.node_hyper),
    }
    if state.skip is not None and data.skip is not None:
        parts["skip"] = (state.skip, data.skip, slabs.skip, data.skip.hyper)
    for name, (effects, arrays, slab, hyper) in parts.items():
        sites[f"var_{name}"] = effects.variance
        if hyper.estimate_pi:
            sites[f"pi_{name}"] = effects.pi
        if arrays is not None and arrays.spectrum is not None:
            sites[f"slab_{name}"] = explicit_effects(effects, arrays, slab)
            continue
        coef = effects.coef if arrays is None else effects.coef[:, : arrays.markers.n_markers]
        sites[f"slab_{name}"] = jnp.where(coef != 0, coef, slab)
        if getattr(settings, f"{name}_spike"):
            sites[f"delta_{name}"] = (coef != 0).astype(int)
        else:
            sites[f"slab_{name}"] = coef
    return sites


def random_effects(
    rng: np.random.Generator, effects: EffectState, spike: bool, estimate_pi: bool
) -> EffectState:
    """Random effects of the right shape, some of them zero where the prior has a spike."""
    coef = 0.3 * rng.normal(size=effects.coef.shape)
    pi = effects.pi
    if spike:
        coef = np.where(rng.random(coef.shape) < 0.4, 0.0, coef)
    if estimate_pi:
        pi = jnp.asarray(rng.uniform(0.2, 0.8, size=pi.shape))
    variance = rng.uniform(0.02, 0.2, size=effects.variance.shape)
    return EffectState(jnp.asarray(coef), jnp.asarray(variance), pi)


def random_state(seed: int, data: ModelData, settings: SweepSettings) -> State:
    """A state anywhere, with the caches that belong to it."""
    rng = np.random.default_rng(seed)
    state = start_state(random.key(seed), data, settings.activate.linear)
    markers = random_effects(
        rng, state.markers, settings.marker_spike, data.omics.hyper.estimate_pi
    )
    padding = jnp.arange(data.omics.markers.n_padded) >= data.omics.markers.n_markers
    if data.omics.spectrum is None:
        markers = markers._replace(coef=jnp.where(padding, 0.0, markers.coef))
    skip, direct = None, state.direct
    if state.skip is not None and data.skip is not None:
        skip = random_effects(rng, state.skip, settings.skip_spike, data.skip.hyper.estimate_pi)
        if data.skip.spectrum is None:
            skip = skip._replace(coef=jnp.where(padding, 0.0, skip.coef))
        direct = genetic_values(skip, data.skip)[0]
    state = state._replace(
        markers=markers,
        beta=jnp.asarray(rng.normal(size=state.beta.shape)),
        fixed=jnp.asarray(rng.normal(size=state.fixed.shape)),
        nodes=random_effects(rng, state.nodes, settings.node_spike, data.node_hyper.estimate_pi),
        skip=skip,
        direct=direct,
    )
    return state._replace(residual=refreshed_residual(state, data))


def toy_tables(
    seed: int = 0, n: int = 14, p: int = 9, omics: int = 3, holes: bool = True
) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Genotypes, omics and phenotypes with every kind of hole, and two covariates."""
    rng = np.random.default_rng(seed)
    ids = pd.Index([f"id{i}" for i in range(n)], name="id")
    genotypes = rng.integers(0, 3, size=(n, p)).astype(float)
    if holes:
        genotypes[rng.random((n, p)) < 0.05] = np.nan
    genotypes[0], genotypes[1] = 0, 2  # no marker is constant
    z = rng.normal(size=(n, omics)) + 0.4 * np.nan_to_num(genotypes) @ rng.normal(size=(p, omics))
    y = z @ rng.normal(size=omics) + rng.normal(size=n)
    if holes:
        z[rng.random((n, omics)) < 0.25] = np.nan
        z[:2] = np.nan
        y[[1, 4, 7]] = np.nan
    names = [f"m{j}" for j in range(omics)]
    phenotypes = pd.DataFrame(
        {"y": y, "sex": rng.choice(["f", "m"], n), "age": rng.normal(50, 5, n)}, index=ids
    )
    return (
        pd.DataFrame(genotypes, index=ids, columns=[f"snp{j}" for j in range(p)]),
        pd.DataFrame(z, index=ids, columns=names),
        phenotypes,
    )


def toy_dataset(**sizes: Any) -> Dataset:
    return read_dataset(*toy_tables(**sizes), "y")


@pytest.fixture
def dataset() -> Callable[..., Dataset]:
    """Factory of small data sets."""
    return toy_dataset


@pytest.fixture
def toy() -> Callable[..., Toy]:
    """Factory of small networks with a random state; float64 is up to the test."""

    def build(seed: int = 1, sizes: dict[str, Any] | None = None, **network: Any) -> Toy:
        stated = Network(**({"fixed_omics": "~ sex + age", "fixed_trait": "~ sex"} | network))
        prepared = prepare(toy_dataset(**(sizes or {})), stated)
        settings = sweep_settings(stated)
        return Toy(prepared.data, settings, random_state(seed, prepared.data, settings))

    return build


@pytest.fixture
def slabs() -> Callable[[int, ModelData], Slabs]:
    """Factory of what states integrate out."""
    return draw_slabs


@pytest.fixture
def pinned() -> Callable[[Any, Any], Any]:
    """Return a hyperparameter set whose variance is pinned at a value (enormous df)."""

    def pin(hyper: Any, value: Any) -> Any:
        return dataclasses.replace(
            hyper,
            df=jnp.full_like(hyper.df, 1e12),
            scale=jnp.broadcast_to(jnp.asarray(value, hyper.scale.dtype), hyper.scale.shape),
        )

    return pin


@pytest.fixture
def double() -> Any:
    """Double precision for one test."""
    with jax.enable_x64(True):
        yield
