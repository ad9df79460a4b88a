"""The generative model, stated once, in NumPyro: the density every sampler block must respect.

It is written for reading and for tests, not for speed: effects are explicit, nothing is
integrated out, and every block of the sampler is compared with differences of its log density.
Everything is on the internal scale of :mod:`nnmm_jax.inference.prepare`.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
from jax import Array

from nnmm_jax.inference.arrays import (
    EffectHyper,
    LayerArrays,
    ModelData,
    RandomArrays,
    ResidualHyper,
    TermArrays,
)
from nnmm_jax.inference.blocks.random_terms import contrasts
from nnmm_jax.network.activations import Activation


def variance_prior(df: Array, scale: Array) -> dist.InverseGamma:
    """Scaled inverse chi-square: ``df * scale / chi2(df)``."""
    return dist.InverseGamma(df / 2, df * scale / 2)


def level_of(name: str, hyper: EffectHyper) -> Array:
    """What governs a set of effects (response,): site ``level_NAME`` unless it is known."""
    if hyper.known:
        return hyper.scale
    if hyper.family == "common":
        return numpyro.sample(f"level_{name}", variance_prior(hyper.df, hyper.scale).to_event(1))
    return numpyro.sample(f"level_{name}", dist.Gamma(hyper.shape, hyper.rate).to_event(1))


def weights_of(name: str, hyper: EffectHyper) -> Array:
    """Probabilities of components (response, component): site ``weights_NAME`` when estimated."""
    if not hyper.estimate_weights:
        return hyper.weights
    return numpyro.sample(f"weights_{name}", dist.Dirichlet(hyper.counts).to_event(1))


def _common(name: str, level: Array, multiplier: Array, var_e: Array, hyper: EffectHyper) -> Array:
    return multiplier * level[:, None]


def _own(name: str, level: Array, multiplier: Array, var_e: Array, hyper: EffectHyper) -> Array:
    scale = jnp.broadcast_to(level[:, None], multiplier.shape)
    prior = variance_prior(hyper.df[:, None], scale).to_event(2)
    return numpyro.sample(f"own_{name}", prior)


def _lasso(name: str, level: Array, multiplier: Array, var_e: Array, hyper: EffectHyper) -> Array:
    rate = jnp.broadcast_to(level[:, None] / 2, multiplier.shape)
    tau2 = numpyro.sample(f"own_{name}", dist.Exponential(rate).to_event(2))
    return tau2 * var_e[:, None]


SLAB_VARIANCES: Mapping[str, Callable[[str, Array, Array, Array, EffectHyper], Array]] = (
    MappingProxyType({"common": _common, "own": _own, "lasso": _lasso})
)


def effects_of(name: str, n_effects: int, hyper: EffectHyper, var_e: Array) -> Array:
    """Sample one set of effects (response, effect) with what governs them.

    Sites ``level_NAME`` (response,), ``weights_NAME`` (response, component) when estimated,
    ``component_NAME`` (response, effect) with a spike, ``own_NAME`` (response, effect) for priors
    with a variance for each effect, and ``slab_NAME`` (response, effect). The effect is zero in
    component 0 of a spike, else the slab; a slab that counts for nothing has the prior of the first
    component that is not zero and touches nothing else.
    """
    shape = (hyper.scale.shape[0], n_effects)
    level = level_of(name, hyper)
    weights = weights_of(name, hyper)
    nonzero = jnp.ones(shape)
    multiplier = jnp.ones(shape)
    if hyper.spike:
        probabilities = jnp.broadcast_to(weights[:, None, :], (*shape, weights.shape[-1]))
        component = numpyro.sample(
            f"component_{name}", dist.CategoricalProbs(probabilities).to_event(2)
        )
        nonzero = component > 0
        multiplier = jnp.asarray(hyper.slabs)[jnp.maximum(component - 1, 0)]
    variance = SLAB_VARIANCES[hyper.family](name, level, multiplier, var_e, hyper)
    slab = numpyro.sample(f"slab_{name}", dist.Normal(0.0, jnp.sqrt(variance)).to_event(2))
    return nonzero * slab


def _residual_variance(name: str, hyper: ResidualHyper) -> Array:
    """Sample residual variances; a fixed one is its scale and its site is ignored."""
    prior = variance_prior(hyper.df, hyper.scale).mask(~hyper.fixed).to_event(1)
    return jnp.where(hyper.fixed, hyper.scale, numpyro.sample(name, prior))


def term_values(term: TermArrays, effects: Array) -> Array:
    """Values (response, record) of effects (response, marker), which are padded as genotypes are.

    Site ``values_NAME``.
    """
    padding = term.markers.n_padded - term.markers.n_markers
    effects = jnp.pad(effects, ((0, 0), (0, padding)))
    if term.mask is not None:
        effects = effects * term.mask.T
    return numpyro.deterministic(f"values_{term.name}", term.markers.predict(effects))


def _term(term: TermArrays, var_e: Array) -> Array:
    """Values (response, record) of a term."""
    return term_values(term, effects_of(term.name, term.markers.n_markers, term.hyper, var_e))


def _random(term: RandomArrays) -> Array:
    """Effects of a random term; site ``effects_NAME`` (response, level)."""
    level = level_of(term.name, term.hyper)
    factor = jax.vmap(lambda one: contrasts(term, one[None])[0])(jnp.eye(term.n_levels)).T
    precision = factor.T @ factor / level[:, None, None]
    prior = dist.MultivariateNormal(jnp.zeros(term.n_levels), precision_matrix=precision)
    return numpyro.sample(f"effects_{term.name}", prior.to_event(1))


class Parts(NamedTuple):
    """How effects are sampled: as the model says, or by what takes its place in an approximation.

    Attributes
    ----------
    effects : callable
        Effects (response, effect) of a set, as :func:`effects_of`.
    term : callable
        Values (response, record) of a term, given its arrays and the residual variances.
    random : callable
        Effects (response, level) of a random term.
    """

    effects: Callable[[str, int, EffectHyper, Array], Array] = effects_of
    term: Callable[[TermArrays, Array], Array] = _term
    random: Callable[[RandomArrays], Array] = _random


EXACT = Parts()


def _fixed_prior(arrays: LayerArrays) -> dist.Distribution:
    """Normal prior of fixed effects: independent coordinates in the design's basis.

    Responses with precision 0 have a flat prior.
    """
    matrix, given = arrays.design.matrix, arrays.fixed_precision
    assert given is not None
    n_terms = matrix.shape[0]
    normal = given > 0
    precision = jnp.where(normal, given, 1.0)[:, None, None] * (matrix @ matrix.T)
    prior = dist.MultivariateNormal(jnp.zeros(n_terms), precision_matrix=precision)
    return prior.mask(normal).to_event(1)


def _layer(
    fixed_site: str, variance_site: str, arrays: LayerArrays, parts: Parts
) -> tuple[Array, Array]:
    """What a layer explains (response, record), and its residual variances (response,)."""
    n_responses, n_terms = arrays.residual_hyper.df.shape[0], arrays.design.matrix.shape[0]
    flat = dist.ImproperUniform(dist.constraints.real, (), (n_responses, n_terms))
    variance = _residual_variance(f"{variance_site}{arrays.suffix}", arrays.residual_hyper)
    prior = flat if arrays.fixed_precision is None else _fixed_prior(arrays)
    mean = numpyro.sample(f"{fixed_site}{arrays.suffix}", prior) @ arrays.design.matrix
    for term in arrays.terms:
        mean = mean + parts.term(term, variance)
    for group in arrays.random:
        values = arrays.weighted(parts.random(group)[:, group.level])
        mean = mean + numpyro.deterministic(f"values_{group.name}", values)
    return mean, variance


def model(data: ModelData, activation: Activation, parts: Parts = EXACT) -> None:
    """Mixed-effect neural network (Zhao, Zeng & Cheng 2022, equations 1-3).

    Parameters
    ----------
    data : ModelData
        Arrays, masks and resolved hyperparameters; a phenotype or omics cell that is not marked
        as observed is not conditioned on.
    activation : Activation
    parts : Parts
        How effects are sampled; the default is the model.

    Notes
    -----
    Fixed effects are flat or normal. Sites: ``fixed_omics`` (L, q1), ``var_e`` (L,); those of every
    term of the layer, see :func:`effects_of`, for each block of nodes with the block's name behind;
    ``z_missing`` (cells,), ``z_observed`` (cells,), both in row-major order of (node, individual);
    ``theta_NAME`` of each parameter of a user's function; ``fixed_trait`` (1, q2), ``var_y`` (1,),
    those of every term and of ``node``; ``y``. With known residual weights, values are those times
    the square roots of the weights.
    """
    z = data.z_start
    if data.omics:
        layers = [_layer("fixed_omics", "var_e", block, parts) for block in data.omics]
        first = data.omics[0]
        mean = first.unweighted(jnp.concatenate([one for one, _ in layers]))
        var_e = jnp.concatenate([one for _, one in layers])
        precision = 1.0 if first.root is None else first.root**2
        sd = jnp.broadcast_to(jnp.sqrt(var_e[:, None] / precision), mean.shape)
        missing, seen = np.nonzero(~np.asarray(data.observed)), np.nonzero(data.observed)
        cells = dist.Normal(mean[missing], sd[missing]).to_event(1)
        z = z.at[missing].set(numpyro.sample("z_missing", cells))
        numpyro.sample("z_observed", dist.Normal(mean[seen], sd[seen]).to_event(1), obs=z[seen])
    eta, var_y = _layer("fixed_trait", "var_y", data.trait, parts)
    if data.omics:
        theta = {
            name: numpyro.sample(f"theta_{name}", prior)
            for name, prior in activation.parameters.priors.items()
        }
        active = activation.features(z, theta, data.units)[:, data.y_rows]
        w = jnp.ones((1, 1))
        if data.node_hyper:
            blocks = zip(data.omics, data.node_hyper, strict=True)
            w = jnp.concatenate(
                [parts.effects(f"node{b.suffix}", b.n_responses, h, var_y) for b, h in blocks],
                axis=1,
            )
        w = numpyro.deterministic("effects_node", w)
        eta = eta + w @ data.trait.weighted(active)
    numpyro.sample("y", dist.Normal(eta[0], jnp.sqrt(var_y)).to_event(1), obs=data.y)
