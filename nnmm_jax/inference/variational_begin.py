"""Where the variational fit starts, and what it needs of the data beside the parameters."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from jax import Array, random
from numpyro import handlers
from numpyro.distributions.transforms import biject_to
from numpyro.primitives import Messenger

from nnmm_jax.inference.arrays import EffectHyper, ModelData, TermArrays
from nnmm_jax.inference.blocks.mixed_model import allowed_effects
from nnmm_jax.inference.start import start_state
from nnmm_jax.inference.state import EffectState, State
from nnmm_jax.inference.variational import (
    TINY,
    EffectFactors,
    Factors,
    Family,
    Inputs,
    Prior,
    SiteFactors,
    parts_of,
)
from nnmm_jax.network.activations import Activation

_START_SD = 0.1  # of a site on the real line
_START_EFFECT_SD = 0.3  # of an effect, relative to its prior's
_FEW_ZEROS = 4.0  # by which a start without zeros lowers their log probabilities
_START_SHRINK = -2.0  # logit of c
# Markers or records above which effects are taken for independent: too large to decompose.
_MOST_VECTORS, _MOST_RECORDS = 2**27, 5000
_LEAST_VALUE = 1e-6  # relative eigenvalue that counts as more than none


class Beginning(NamedTuple):
    """What a variational fit begins with.

    Attributes
    ----------
    family : Family
    inputs : Inputs
    starts : tuple of Factors
        With the prior's share of zero effects and, where effects of markers may be zero, with
        nearly none. The bound has an optimum near each; the higher is the better.
    """

    family: Family
    inputs: Inputs
    starts: tuple[Factors, ...]


def begin(
    key: Array, data: ModelData, activation: Activation, *, independent: bool = False
) -> Beginning:
    """Return the family for a model, and where to start.

    Parameters
    ----------
    key : Array
        Of the start.
    data : ModelData
    activation : Activation
    independent : bool
        Whether effects of markers have independent factors: steps take half as long.
    """
    family = Family.of(data, activation)
    layers = (*data.omics, data.trait)
    terms = [term for one in layers for term in one.terms]
    allowed = {
        term.name: allowed_effects(term).T[:, : term.markers.n_markers]
        for term in terms
        if term.mask is not None
    }
    vectors = {
        term.name: _no_vectors(term) if independent else singular_vectors(term)
        for term in terms
        if term.mask is None and term.spectrum is None
    }
    start, scales = _start(family, key, data, vectors)
    # Effects of nodes are too few to have two optima.
    spiked = [
        name
        for name in start.sets
        if f"weights_{name}" in start.sites and not name.startswith("node")
    ]
    starts = (start, _without_zeros(start, spiked)) if spiked else (start,)
    return Beginning(family, Inputs(data, vectors, scales, allowed), starts)


class _Starting(Messenger):
    """Notes the factors of every site that is not a set of effects, around known values."""

    def __init__(self, fn: Callable[..., None], values: dict[str, Array], known: set[str]) -> None:
        super().__init__(fn)
        self._values, self._known = values, known
        self.found: dict[str, SiteFactors] = {}

    def process_message(self, msg: dict[str, Any]) -> None:
        """Set the value of a site, and note it."""
        if msg["type"] != "sample" or msg["is_observed"]:
            return
        transform = biject_to(msg["fn"].support)
        value = self._values.get(msg["name"])
        value = jnp.zeros(msg["fn"].shape()) if value is None else value
        x = jnp.asarray(transform.inv(value))
        sd = 1.0 if msg["name"] in self._known else _START_SD
        self.found[msg["name"]] = SiteFactors(x, jnp.full_like(x, np.log(sd)))
        msg["value"] = value


@partial(jax.jit, static_argnums=0)
def _start(
    family: Family, key: Array, data: ModelData, vectors: dict[str, Array]
) -> tuple[Factors, dict[str, Array]]:
    key_state, key_nodes = random.split(key)
    sets: dict[str, EffectFactors] = {}
    scales: dict[str, Array] = {}

    def note(name: str, prior: Prior, hyper: EffectHyper) -> Array:
        shape, dtype = prior.variances.shape, prior.variances.dtype
        scales[name] = jnp.sqrt(jnp.mean(prior.variances, axis=-1, keepdims=True))
        weights = prior.log_weights[:, None, :]
        mean = jnp.zeros(shape, dtype)
        if name.split("_")[0] == "node":  # latent nodes at zero would stay there
            mean = mean + 0.5 * random.normal(key_nodes, shape, dtype)
        log_sd = jnp.log(jnp.where(prior.counts > 0, _START_EFFECT_SD, 1.0))
        rank = vectors[name].shape[0] if name in vectors else 0
        sets[name] = EffectFactors(
            jnp.broadcast_to(weights, (*shape[1:], weights.shape[-1])),
            mean * prior.counts,
            jnp.broadcast_to(log_sd, shape).astype(dtype),
            jnp.full((shape[1], rank), _START_SHRINK, dtype),
        )
        return jnp.zeros(shape[1:], dtype)

    values = _values_of(start_state(key_state, data, family.activation), data, family.activation)
    starting = _Starting(family.model, values, {"z_missing_decentered"})
    handlers.seed(starting, key_state)(data, parts_of(note))
    sites = dict(starting.found)
    for name, held in family.held:
        sites[name] = sites[name]._replace(mean=jnp.where(held.values, 0.0, sites[name].mean))
    return Factors(sets, sites), scales


def _without_zeros(start: Factors, spiked: list[str]) -> Factors:
    """Take most of the probability from the spikes of some sets."""
    sets, sites = dict(start.sets), dict(start.sites)
    simplex = biject_to(dist.constraints.simplex)
    for name in spiked:
        one, site = sets[name], f"weights_{name}"
        sets[name] = one._replace(logits=one.logits.at[..., 0].add(-_FEW_ZEROS))
        weights = simplex(sites[site].mean)
        weights = weights.at[..., 0].multiply(np.exp(-_FEW_ZEROS))
        weights = weights / jnp.sum(weights, axis=-1, keepdims=True)
        sites[site] = sites[site]._replace(mean=simplex.inv(weights))
    return Factors(sets, sites)


def singular_vectors(term: TermArrays) -> Array:
    """Right singular vectors (rank, marker) of a term's genotypes; none where they are too large.

    Parameters
    ----------
    term : TermArrays
        Of markers.
    """
    markers = term.markers
    n_records, n_markers = markers.n_records, markers.n_markers
    if min(n_records, n_markers) * n_markers > _MOST_VECTORS or n_records > _MOST_RECORDS:
        return _no_vectors(term)
    identity = jnp.eye(markers.n_padded, dtype=term.loadings.dtype)
    dense = np.asarray(markers.predict(identity)[:n_markers], np.float64)
    if n_markers <= n_records:
        values, left = np.linalg.eigh(dense @ dense.T)
        found = left.T
    else:
        values, right = np.linalg.eigh(dense.T @ dense)
        found = right.T @ dense.T / np.sqrt(np.maximum(values, TINY))[:, None]
    kept = values > _LEAST_VALUE * values[-1]
    return jnp.asarray(found[kept], term.loadings.dtype)


def _no_vectors(term: TermArrays) -> Array:
    return jnp.zeros((0, term.markers.n_markers), term.loadings.dtype)


def _values_of(state: State, data: ModelData, activation: Activation) -> dict[str, Array]:
    """Values of sites at a starting state: of what governs effects, and of residuals."""
    found: dict[str, Array] = {}

    def add(name: str, effects: EffectState, hyper: EffectHyper, n_effects: int) -> None:
        found[f"level_{name}"] = effects.level
        found[f"weights_{name}"] = effects.weights
        if hyper.own_variances:
            start = effects.level if hyper.family == "own" else 2.0 / effects.level
            shape = (effects.level.shape[0], n_effects)
            found[f"own_{name}"] = jnp.broadcast_to(start[:, None], shape)

    for layer, arrays in (
        *zip(state.omics, data.omics, strict=True),
        (state.trait, data.trait),
    ):
        site = "var_y" if arrays is data.trait else "var_e"
        found[f"{site}{arrays.suffix}"] = layer.variance
        for effects, term in zip(layer.terms, arrays.terms, strict=True):
            add(term.name, effects, term.hyper, term.markers.n_markers)
        for effects, group in zip(layer.random, arrays.random, strict=True):
            found[f"level_{group.name}"] = effects.level
    for effects, hyper, block in zip(state.nodes, data.node_hyper, data.omics, strict=False):
        add(f"node{block.suffix}", effects, hyper, block.n_responses)
    if state.theta is not None:
        theta = activation.parameters.constrain(state.theta)
        found |= {f"theta_{name}": value for name, value in theta.items()}
    return found
