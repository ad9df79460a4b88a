"""The variational family: what stands for the posterior in ``method="svi"``.

Effects of markers and nodes have independent spike-and-slab factors: effect j is in component c
with probability phi_jc, where it is zero or N(m_jc, s_jc^2). Nothing discrete is relaxed. Given all
else the log likelihood of a linear network is quadratic in a set of effects, so its expectation
depends on their means and variances alone: noise of the same moments in their place, minus the
divergence of the factors from the prior in closed form, is an unbiased evidence lower bound
(Carbonetto & Stephens 2012, Bayesian Analysis 7:73, equations 8 and 9). Of a nonlinear network
this holds for observed omics; for missing ones, sums of many effects are taken for normal.

Where effects are drawn jointly by the sampler, factors are those of the eigenvectors' coordinates,
in which the posterior is nearly independent. Missing omics are the noise around what predicts
them, so that cells of which the phenotype says nothing are exact. Everything else has independent
normal factors on the real line.

The density is that of :mod:`nnmm_jax.network.joint`, everything on the internal scale.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
from jax import Array, lax, random
from numpyro import handlers
from numpyro.distributions.transforms import biject_to
from numpyro.infer.reparam import LocScaleReparam
from numpyro.infer.util import log_density
from numpyro.primitives import Messenger

from nnmm_jax.inference.arrays import EffectHyper, ModelData, RandomArrays, TermArrays
from nnmm_jax.inference.blocks.mixed_model import allowed_effects
from nnmm_jax.inference.blocks.random_terms import contrasts
from nnmm_jax.inference.prior_draw import state_of_sites
from nnmm_jax.inference.start import start_state
from nnmm_jax.inference.state import EffectState, State
from nnmm_jax.inference.sweep import refreshed
from nnmm_jax.network.activations import Activation
from nnmm_jax.network.joint import (
    SLAB_VARIANCES,
    Parts,
    level_of,
    model,
    term_values,
    weights_of,
)

_START_SD = 0.1  # of a site on the real line
_START_EFFECT_SD = 0.3  # of an effect, relative to its prior's
_TINY = 1e-20  # of a variance, whose square root needs a derivative


class EffectFactors(NamedTuple):
    """Factors of one set of effects.

    Attributes
    ----------
    logits : (response, effect, component)
        Log probabilities of the components, up to a constant; one without a choice.
    mean, log_sd : (slab, response, effect)
        Of each slab, relative to the scale of :class:`Family`.
    """

    logits: Array
    mean: Array
    log_sd: Array


class SiteFactors(NamedTuple):
    """Independent normal factors of a site on the real line."""

    mean: Array
    log_sd: Array


class Factors(NamedTuple):
    """All parameters of the family, by set of effects and by site."""

    sets: dict[str, EffectFactors]
    sites: dict[str, SiteFactors]


class Noise(NamedTuple):
    """Standard normal noise, by set of effects and by site."""

    sets: dict[str, Array]
    sites: dict[str, Array]


class Drawn(NamedTuple):
    """A draw from the family.

    Attributes
    ----------
    state : State
    log_ratio : ()
        Log of the joint density over the family's, up to a constant.
    """

    state: State
    log_ratio: Array


def noise_like(key: Array, factors: Factors) -> Noise:
    """Draw the noise of one evaluation of the bound."""
    places = {name: one.logits[..., 0] for name, one in factors.sets.items()}
    places |= {f" {name}": one.mean for name, one in factors.sites.items()}
    drawn = {
        name: random.normal(random.fold_in(key, number), place.shape, place.dtype)
        for number, (name, place) in enumerate(places.items())
    }
    return Noise(
        {name: drawn[name] for name in factors.sets},
        {name: drawn[f" {name}"] for name in factors.sites},
    )


class _Prior(NamedTuple):
    """Prior of a set of effects given what governs it."""

    log_weights: Array  # (response, component)
    variances: Array  # (slab, response, effect)


def _prior(name: str, n_effects: int, hyper: EffectHyper, var_e: Array) -> _Prior:
    level, weights = level_of(name, hyper), weights_of(name, hyper)
    one = jnp.ones((level.shape[0], n_effects), level.dtype)
    variance = SLAB_VARIANCES[hyper.family](name, level, one, var_e, hyper)
    slabs = jnp.asarray(hyper.slabs, variance.dtype)
    return _Prior(jnp.log(weights), slabs[:, None, None] * variance)


def moments(
    factors: EffectFactors, scale: Array, prior: _Prior, *, spike: bool
) -> tuple[Array, Array, Array]:
    """Mean, variance and divergence from the prior (response, effect) of spike-and-slab factors.

    Parameters
    ----------
    factors : EffectFactors
    scale : (slab, response, 1)
        Unit of the slabs' means and sds.
    prior : _Prior
    spike : bool
        Whether component 0 is the spike.
    """
    log_phi = jax.nn.log_softmax(factors.logits)
    phi = jnp.exp(log_phi)
    slab = jnp.moveaxis(phi[..., int(spike) :], -1, 0)
    mean, sd = scale * factors.mean, scale * jnp.exp(factors.log_sd)
    centre = jnp.sum(slab * mean, axis=0)
    variance = jnp.sum(slab * (sd**2 + (mean - centre) ** 2), axis=0)
    if spike:
        variance = variance + phi[..., 0] * centre**2
    ratio = sd**2 / prior.variances
    of_slabs = 0.5 * (ratio + mean**2 / prior.variances - 1.0 - jnp.log(ratio))
    of_choice = jnp.sum(phi * (log_phi - prior.log_weights[:, None, :]), axis=-1)
    return centre, variance, of_choice + jnp.sum(slab * of_slabs, axis=0)


# Effects (response, effect) of a set: (name, prior, hyper) -> effects.
_Sampled = Callable[[str, _Prior, EffectHyper], Array]


def _parts(sampled: _Sampled) -> Parts:
    """How effects are sampled, given what one set of them is."""

    def effects(name: str, n_effects: int, hyper: EffectHyper, var_e: Array) -> Array:
        return sampled(name, _prior(name, n_effects, hyper, var_e), hyper)

    def term(one: TermArrays, var_e: Array) -> Array:
        if one.spectrum is None:
            return term_values(one, effects(one.name, one.markers.n_markers, one.hyper, var_e))
        root = jnp.sqrt(one.spectrum.values)
        coef = root * effects(one.name, root.shape[0], one.hyper, var_e)
        return numpyro.deterministic(f"values_{one.name}", coef @ one.spectrum.vectors)

    return Parts(effects, term, _random)


def _random(term: RandomArrays) -> Array:
    """Effects of a random term, its prior without a matrix of levels x levels."""
    level = level_of(term.name, term.hyper)
    flat = dist.ImproperUniform(dist.constraints.real, (), (level.shape[0], term.n_levels))
    effects = numpyro.sample(f"effects_{term.name}", flat)
    prior = dist.Normal(0.0, jnp.sqrt(level)[:, None])
    numpyro.factor(f"prior_{term.name}", jnp.sum(prior.log_prob(contrasts(term, effects))))
    return effects


class _Guided(Messenger):  # type: ignore[misc]
    """Gives every site that is not a set of effects its value from the factors.

    ``held`` are sites of which some elements are not sampled: those stay, and count for nothing.
    """

    def __init__(
        self,
        fn: Callable[..., None],
        factors: dict[str, SiteFactors],
        noise: dict[str, Array],
        held: dict[str, np.ndarray],
    ) -> None:
        super().__init__(fn)
        self._factors, self._noise, self._held = factors, noise, held
        self.log_q: Array | float = 0.0  # of the site's value, in its own space

    def process_message(self, msg: dict[str, Any]) -> None:
        """Set the value of a site."""
        if msg["type"] != "sample" or msg["is_observed"]:
            return
        one, noise = self._factors[msg["name"]], self._noise[msg["name"]]
        x = one.mean + jnp.exp(one.log_sd) * noise
        # Without the derivative by the parameters themselves, which is zero on average: it would
        # only add noise where the family is right (Roeder, Wu & Duvenaud 2017).
        fixed = lax.stop_gradient(one)
        log_q = dist.Normal(fixed.mean, jnp.exp(fixed.log_sd)).log_prob(x)
        if msg["name"] in self._held:
            x = jnp.where(self._held[msg["name"]], 0.0, x)
            log_q = jnp.where(self._held[msg["name"]], 0.0, log_q)
        transform = biject_to(msg["fn"].support)
        msg["value"] = transform(x)
        jacobian = transform.log_abs_det_jacobian(x, msg["value"])
        self.log_q = self.log_q + jnp.sum(log_q) - jnp.sum(jacobian)


class _Starting(Messenger):  # type: ignore[misc]
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


class Family:
    """The family for one model: what it needs beside its parameters.

    Parameters
    ----------
    key : Array
        Of the start.
    data : ModelData
        Methods are given it again, so that compiled programs do not hold genotypes.
    activation : Activation

    Attributes
    ----------
    start : Factors
        Where to start.
    scales : dict of (slab, response, 1)
        Units of the slabs of every set.
    """

    def __init__(self, key: Array, data: ModelData, activation: Activation) -> None:
        self.activation = activation
        self._observed: Any = np.asarray(data.observed)  # indices must be known to the compiler
        self._missing = np.nonzero(~self._observed)
        layers = (*data.omics, data.trait)
        self._held = {
            f"{site}{one.suffix}": np.asarray(one.residual_hyper.fixed)
            for site, one in zip((*["var_e"] * len(data.omics), "var_y"), layers, strict=True)
            if bool(jnp.any(one.residual_hyper.fixed))
        }
        self._allowed = {
            term.name: allowed_effects(term).T[:, : term.markers.n_markers]
            for one in layers
            for term in one.terms
            if term.mask is not None
        }
        self.scales: dict[str, Array] = {}
        self.start = self._start(key, data)

    def _model(self, data: ModelData, parts: Parts) -> None:
        known = dataclasses.replace(data, observed=self._observed)
        with handlers.reparam(config={"z_missing": LocScaleReparam(0.0)}):
            model(known, self.activation, parts)

    def _start(self, key: Array, data: ModelData) -> Factors:
        key_state, key_nodes = random.split(key)
        sets: dict[str, EffectFactors] = {}

        def note(name: str, prior: _Prior, hyper: EffectHyper) -> Array:
            shape = prior.variances.shape
            self.scales[name] = jnp.sqrt(jnp.mean(prior.variances, axis=-1, keepdims=True))
            logits = jnp.broadcast_to(
                prior.log_weights[:, None, :], (*shape[1:], prior.log_weights.shape[-1])
            )
            mean = jnp.zeros(shape, prior.variances.dtype)
            if name.split("_")[0] == "node":  # latent nodes at zero would stay there
                mean = mean + 0.5 * random.normal(key_nodes, shape, mean.dtype)
            sets[name] = EffectFactors(
                logits, mean, jnp.full(shape, np.log(_START_EFFECT_SD), mean.dtype)
            )
            return jnp.zeros(shape[1:], mean.dtype)

        values = _values_of(start_state(key_state, data, self.activation), data, self.activation)
        starting = _Starting(self._model, values, {"z_missing_decentered"})
        handlers.seed(starting, key_state)(data, _parts(note))
        sites = dict(starting.found)
        for name, held in self._held.items():
            sites[name] = sites[name]._replace(mean=jnp.where(held, 0.0, sites[name].mean))
        return Factors(sets, sites)

    def bound(self, factors: Factors, noise: Noise, data: ModelData) -> Array:
        """Unbiased estimate of the evidence lower bound, up to a constant."""

        def sampled(name: str, prior: _Prior, hyper: EffectHyper) -> Array:
            of_set = moments(factors.sets[name], self.scales[name], prior, spike=hyper.spike)
            mean, variance, divergence = of_set
            if name in self._allowed:
                divergence = jnp.where(self._allowed[name], divergence, 0.0)
            numpyro.factor(f"divergence_{name}", -jnp.sum(divergence))
            return mean + jnp.sqrt(variance + _TINY) * noise.sets[name]

        guided = _Guided(self._model, factors.sites, noise.sites, self._held)
        log_joint, _ = log_density(guided, (data, _parts(sampled)), {}, {})
        return log_joint - guided.log_q

    def draw(self, key: Array, factors: Factors, data: ModelData) -> Drawn:
        """Draw a state from the family, effects with their components."""
        key_noise, key_sets, key_start = random.split(key, 3)
        noise = noise_like(key_noise, factors)

        def sampled(name: str, prior: _Prior, hyper: EffectHyper) -> Array:
            number = sorted(factors.sets).index(name)
            allowed = self._allowed.get(name)
            return _draw_set(
                random.fold_in(key_sets, number),
                name,
                (factors.sets[name], self.scales[name], prior),
                noise.sets[name],
                spike=hyper.spike,
                allowed=allowed,
            )

        guided = _Guided(self._model, factors.sites, noise.sites, self._held)
        log_joint, sites = log_density(guided, (data, _parts(sampled)), {}, {})
        values = {name: site.get("value") for name, site in sites.items()}
        z = data.z_start
        if data.omics:
            z = z.at[self._missing].set(values["z_missing"])
        start = start_state(key_start, data, self.activation)
        state = state_of_sites(values | {"z": z}, start, data, self.activation)
        return Drawn(refreshed(state, data, self.activation), log_joint - guided.log_q)


def _draw_set(
    key: Array,
    name: str,
    given: tuple[EffectFactors, Array, _Prior],
    noise: Array,
    *,
    spike: bool,
    allowed: Array | None,
) -> Array:
    """Draw components and slabs of a set; a slab that counts for nothing comes from the prior."""
    factors, scale, prior = given
    log_phi = jax.nn.log_softmax(factors.logits)
    component = random.categorical(key, log_phi)
    slab_of = jnp.maximum(component - int(spike), 0)[None]
    in_slab = jnp.logical_or(not spike, component > 0)

    def chosen(of_slabs: Array) -> Array:
        return jnp.take_along_axis(of_slabs, slab_of, axis=0)[0]

    variance = chosen(prior.variances)
    mean, sd = chosen(scale * factors.mean), chosen(scale * jnp.exp(factors.log_sd))
    slab = jnp.where(in_slab, mean + sd * noise, jnp.sqrt(variance) * noise)
    of_choice = jnp.take_along_axis(
        prior.log_weights[:, None, :] - log_phi, component[..., None], axis=-1
    )[..., 0]
    of_slab = dist.Normal(0.0, jnp.sqrt(variance)).log_prob(slab)
    of_slab = of_slab - dist.Normal(mean, sd).log_prob(slab)
    log_ratio = of_choice + jnp.where(in_slab, of_slab, 0.0)
    if allowed is not None:
        log_ratio = jnp.where(allowed, log_ratio, 0.0)
    numpyro.factor(f"ratio_{name}", jnp.sum(log_ratio))
    if spike:
        numpyro.deterministic(f"component_{name}", component)
    return jnp.where(in_slab, numpyro.deterministic(f"slab_{name}", slab), 0.0)


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
