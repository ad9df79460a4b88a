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
from nnmm_jax.data.align import Dataset, read_dataset
from nnmm_jax.inference.arrays import EffectHyper, ModelData, TermArrays
from nnmm_jax.inference.blocks.effects import draw_sweep
from nnmm_jax.inference.blocks.mixed_model import allowed_effects
from nnmm_jax.inference.prepare import prepare
from nnmm_jax.inference.sequential import SweepArrays
from nnmm_jax.inference.start import start_state
from nnmm_jax.inference.state import EffectState, State
from nnmm_jax.inference.sweep import SweepSettings, refreshed
from nnmm_jax.network.activations import Activation
from nnmm_jax.network.joint import model

# What a state does not hold: values (response, effect) of slabs that count for nothing (of zero
# effects), or of the null space of a joint draw, by the name of the set of effects.
Slabs = dict[str, Any]


class EffectSet(NamedTuple):
    """One set of effects of a state with its arrays; ``term`` is None for the nodes."""

    name: str
    effects: EffectState
    hyper: EffectHyper
    term: TermArrays | None


class Toy(NamedTuple):
    """Arrays, static settings and one random state of a small network."""

    data: ModelData
    settings: SweepSettings
    state: State

    def log_joint(self, state: State, slabs: Slabs) -> float:
        """Log density of the NumPyro model at a state completed with what it integrates out."""
        sites = to_sites(state, self.data, slabs, self.settings.activation)
        return float(log_density(model, (self.data, self.settings.activation), {}, sites)[0])


def effect_sets(state: State, data: ModelData) -> list[EffectSet]:
    """All sets of effects except sparse random terms."""
    found = [
        EffectSet(f"node{block.suffix}", effects, hyper, None)
        for effects, hyper, block in zip(state.nodes, data.node_hyper, data.omics, strict=False)
    ]
    layers = [*zip(state.omics, data.omics, strict=True), (state.trait, data.trait)]
    for layer, arrays in layers:
        found += [
            EffectSet(term.name, effects, term.hyper, term)
            for effects, term in zip(layer.terms, arrays.terms, strict=True)
        ]
    return found


def set_size(one: EffectSet) -> tuple[int, int]:
    n_effects = one.effects.coef.shape[1] if one.term is None else one.term.markers.n_markers
    return one.effects.level.shape[0], n_effects


def draw_slabs(seed: int, case: Toy) -> Slabs:
    rng = np.random.default_rng(seed)
    return {
        one.name: rng.normal(size=set_size(one)).astype(case.data.y.dtype)
        for one in effect_sets(case.state, case.data)
    }


def dense_markers(term: TermArrays) -> jax.Array:
    """Centred genotypes (marker, record)."""
    identity = jnp.eye(term.markers.n_padded)
    return term.markers.predict(identity)[: term.markers.n_markers]


def explicit_effects(effects: EffectState, term: TermArrays, slab: Any) -> jax.Array:
    """Effects of a joint state: the row-space part plus a chosen null-space part."""
    dense, spectrum = dense_markers(term), term.spectrum
    assert spectrum is not None
    back = spectrum.vectors.T / spectrum.values @ spectrum.vectors  # pseudo-inverse of M'M
    row_space = effects.coef @ spectrum.vectors @ back @ dense.T
    return row_space + slab - slab @ dense @ back @ dense.T


def components(one: EffectSet) -> jax.Array:
    """Component (response, effect) of each effect."""
    n_effects = set_size(one)[1]
    nonzero = one.effects.coef[:, :n_effects] != 0
    if not one.hyper.mixture:
        return nonzero.astype(int)
    slabs = jnp.asarray(one.hyper.slabs, one.effects.own.dtype)
    return jnp.where(nonzero, 1 + jnp.searchsorted(slabs, one.effects.own[:, :n_effects]), 0)


def to_sites(state: State, data: ModelData, slabs: Slabs, activation: Activation) -> dict[str, Any]:
    """Values of the joint model's sites at a state."""
    sites: dict[str, Any] = {"fixed_trait": state.trait.fixed, "var_y": state.trait.variance}
    layers = [(state.trait, data.trait), *zip(state.omics, data.omics, strict=True)]
    for layer, arrays in layers[1:]:
        sites[f"fixed_omics{arrays.suffix}"] = layer.fixed
        sites[f"var_e{arrays.suffix}"] = layer.variance
    sites["z_missing"] = state.z[jnp.nonzero(~data.observed)]
    if state.theta is not None:
        theta = activation.parameters.constrain(state.theta)
        sites |= {f"theta_{name}": value for name, value in theta.items()}
    for layer, arrays in layers:
        for effects, group in zip(layer.random, arrays.random, strict=True):
            sites[f"effects_{group.name}"] = effects.coef
            sites[f"level_{group.name}"] = effects.level
    for one in effect_sets(state, data):
        name, effects, hyper, term = one
        sites[f"level_{name}"] = effects.level
        sites[f"weights_{name}"] = effects.weights
        if term is not None and term.spectrum is not None:
            sites[f"slab_{name}"] = explicit_effects(effects, term, slabs[name])
            continue
        n_effects = set_size(one)[1]
        coef = effects.coef[:, :n_effects]
        sites[f"slab_{name}"] = jnp.where(coef != 0, coef, slabs[name]) if hyper.spike else coef
        sites[f"component_{name}"] = components(one)
        if hyper.own_variances:
            sites[f"own_{name}"] = effects.own[:, :n_effects]
    return sites


def random_effects(
    rng: np.random.Generator, effects: EffectState, hyper: EffectHyper, allowed: Any = None
) -> EffectState:
    """Random effects of the right shape, some of them zero where the prior has a spike."""
    dtype = effects.coef.dtype
    coef = 0.3 * rng.normal(size=effects.coef.shape)
    if hyper.spike:
        coef = np.where(rng.random(coef.shape) < 0.4, 0.0, coef)
    if allowed is not None:
        coef = np.where(allowed, coef, 0.0)
    weights, level, own = effects.weights, effects.level, None
    if hyper.estimate_weights:
        weights = rng.dirichlet(5.0 * np.ones(weights.shape[1]), size=weights.shape[0])
    if not hyper.known:
        level = rng.uniform(0.02, 0.2, size=level.shape) * (50 if hyper.family == "lasso" else 1)
    if hyper.mixture:
        own = np.where(coef != 0, rng.choice(hyper.slabs, size=coef.shape), 0.0)
    elif hyper.own_variances:
        own = rng.uniform(0.02, 0.2, size=coef.shape)
        if allowed is not None:
            own = np.where(allowed, own, 0.0)
    return EffectState(
        jnp.asarray(coef, dtype),
        jnp.asarray(level, dtype),
        jnp.asarray(weights, dtype),
        None if own is None else jnp.asarray(own, dtype),
    )


def random_layer(rng: np.random.Generator, layer: Any, arrays: Any) -> Any:
    terms = []
    for effects, term in zip(layer.terms, arrays.terms, strict=True):
        allowed = None if term.spectrum is not None else np.asarray(allowed_effects(term)).T
        terms.append(random_effects(rng, effects, term.hyper, allowed))
    groups = [
        random_effects(rng, effects, group.hyper)
        for effects, group in zip(layer.random, arrays.random, strict=True)
    ]
    fixed = jnp.asarray(rng.normal(size=layer.fixed.shape), layer.fixed.dtype)
    return layer._replace(fixed=fixed, terms=tuple(terms), random=tuple(groups))


def random_state(seed: int, data: ModelData, settings: SweepSettings) -> State:
    """A state anywhere, with the caches that belong to it."""
    rng = np.random.default_rng(seed)
    state = start_state(random.key(seed), data, settings.activation)
    state = state._replace(
        omics=tuple(
            random_layer(rng, layer, arrays)
            for layer, arrays in zip(state.omics, data.omics, strict=True)
        ),
        nodes=tuple(
            random_effects(rng, effects, hyper)
            for effects, hyper in zip(state.nodes, data.node_hyper, strict=True)
        ),
    )
    state = state._replace(trait=random_layer(rng, state.trait, data.trait))
    return refreshed(state, data, settings.activation)


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


def toy_dataset(rich: bool = False, **sizes: Any) -> Dataset:
    """Data set of the toy tables; a rich one has all that a mixed model can ask for.

    That is: repeated records, known residual weights in both layers, pens, a pedigree with
    inbreeding and unknown parents, and a relationship matrix.
    """
    genotypes, omics, phenotypes = toy_tables(**sizes)
    if not rich:
        return read_dataset(genotypes, omics, phenotypes, "y")
    rng = np.random.default_rng(7)
    ids = list(genotypes.index)
    n = len(ids)
    again = phenotypes.iloc[[2, 2, 5, 6]].assign(y=rng.normal(size=4))
    phenotypes = pd.concat([phenotypes, again])
    phenotypes["pen"] = rng.choice(["a", "b", "c"], len(phenotypes))
    phenotypes["w"] = rng.uniform(0.5, 3.0, len(phenotypes))
    phenotypes["batch"] = [f"b{int(i[2:]) % 4}" for i in phenotypes.index]
    phenotypes["v"] = [0.5 + (int(i[2:]) % 5) / 2 for i in phenotypes.index]
    parents = [(None, None), (None, None)]
    for i in range(2, n):
        sire, dam = rng.choice(i, size=2, replace=i < 3)
        parents.append((ids[sire] if i % 4 else "old", ids[dam] if i % 5 else None))
    pedigree = pd.DataFrame(
        [(one, *both) for one, both in zip(ids, parents, strict=True)],
        columns=["id", "sire", "dam"],
    )
    root = rng.normal(size=(n, n + 3))
    kinship = pd.DataFrame(root @ root.T / n, index=ids, columns=ids)
    return read_dataset(
        genotypes,
        omics,
        phenotypes,
        "y",
        pedigree=pedigree,
        relationships={"K": kinship},
        weights="w",
        omics_weights="v",
    )


@pytest.fixture
def dataset() -> Callable[..., Dataset]:
    """Factory of small data sets."""
    return toy_dataset


@pytest.fixture
def toy() -> Callable[..., Toy]:
    """Factory of small networks with a random state; float64 is up to the test."""

    def build(
        seed: int = 1, sizes: dict[str, Any] | None = None, spectrum: int = 6000, **network: Any
    ) -> Toy:
        stated = Network(**({"fixed_omics": "~ sex", "fixed_trait": "~ sex"} | network))
        prepared = prepare(toy_dataset(**(sizes or {})), stated, max_spectrum=spectrum)
        settings = SweepSettings(prepared.activation)
        return Toy(prepared.data, settings, random_state(seed, prepared.data, settings))

    return build


@pytest.fixture
def slabs() -> Callable[[int, Toy], Slabs]:
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


@pytest.fixture
def sweep_arrays() -> Callable[..., SweepArrays]:
    """Factory of a sweep's arrays, with a good share of effects that are and become zero."""

    def build(size: int, components: int, own: bool, dtype: Any, seed: int = 0) -> SweepArrays:
        rng, count = np.random.default_rng(seed), 4
        rows, loadings = rng.normal(size=(size, 2 * size + 5)), rng.normal(size=(size, 2))
        gram = jnp.asarray(rows @ rows.T, dtype)
        extra = jnp.asarray(loadings @ loadings.T if own else np.zeros((0, 0)), dtype)
        share = jnp.asarray(rng.random(count), dtype)
        coef = rng.normal(size=(count, size)) * (rng.random((count, size)) < 0.5)
        rhs = rng.normal(size=(count, size)) * np.sqrt(size) * 3
        draws = draw_sweep(
            random.key(seed),
            jnp.diagonal(gram),
            jnp.ones(count, dtype),
            tuple(jnp.full((count, 1), 0.1**k, dtype) for k in range(components)),
            jnp.full((count, components + 1), 1.0 / (components + 1), dtype),
        )
        of_response = (jnp.moveaxis(one, 0, 1) for one in draws[:3])
        states = (jnp.asarray(one, dtype) for one in (rhs, coef))
        return SweepArrays(gram, extra, share, *states, *of_response, draws.half_precision)

    return build
