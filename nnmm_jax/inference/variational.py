"""The variational family: what stands for the posterior in ``method="svi"``.

Effects of markers and nodes have spike-and-slab factors: effect j is in component c with
probability phi_jc, where it is zero or m_jc + s_jc e_j, with e a normal vector. Nothing discrete
is relaxed. Given all else the log likelihood of a linear network is quadratic in a set of effects,
so its expectation depends on their means and covariances alone: noise of the same moments in their
place, minus the divergence of the factors from the prior in closed form, is an unbiased evidence
lower bound (Carbonetto & Stephens 2012, Bayesian Analysis 7:73, equations 8 and 9, for independent
e). Of a nonlinear network this holds for observed omics; for missing ones, sums of many effects
are taken for normal.

Independent e make markers in linkage disequilibrium look far more certain than they are, and the
bound then prefers too few of them. So e has covariance ``I - V' diag(c) V``, V the right singular
vectors of the genotypes and every c between 0 and 1: the form that the posterior has where all
effects are normal.

Where effects are drawn jointly by the sampler, factors are those of the eigenvectors' coordinates,
in which the posterior is nearly independent. Missing omics are the noise around what predicts
them, so that cells of which the phenotype says nothing are exact. Everything else has independent
normal factors on the real line.

The density is that of :mod:`nnmm_jax.network.joint`, everything on the internal scale.
"""

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass
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
from nnmm_jax.inference.blocks.random_terms import contrasts
from nnmm_jax.inference.prior_draw import state_of_sites
from nnmm_jax.inference.start import start_state
from nnmm_jax.inference.state import State
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

TINY = 1e-20  # of a variance, whose square root needs a derivative


class EffectFactors(NamedTuple):
    """Factors of one set of effects.

    Attributes
    ----------
    logits : (response, effect, component)
        Log probabilities of the components, up to a constant; one without a choice.
    mean, log_sd : (component, response, effect)
        Of the slab, relative to the scale of :class:`Family`; in a spike it counts for nothing.
    shrink : (response, rank)
        Logits of c.
    """

    logits: Array
    mean: Array
    log_sd: Array
    shrink: Array


class SiteFactors(NamedTuple):
    """Independent normal factors of a site on the real line."""

    mean: Array
    log_sd: Array


class Factors(NamedTuple):
    """All parameters of the family, by set of effects and by site."""

    sets: dict[str, EffectFactors]
    sites: dict[str, SiteFactors]


class Noise(NamedTuple):
    """Standard normal noise, by set of effects (2, response, effect) and by site."""

    sets: dict[str, Array]
    sites: dict[str, Array]


class Inputs(NamedTuple):
    """What is not to be a constant of compiled programs.

    Attributes
    ----------
    data : ModelData
    vectors : dict of (rank, effect)
        V of every set of effects that has one.
    scales : dict of (component, response, 1)
        Units of the slabs of every set.
    allowed : dict of (response, effect)
        Which effects there are, of sets where some are not.
    """

    data: ModelData
    vectors: dict[str, Array]
    scales: dict[str, Array]
    allowed: dict[str, Array]


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

    def normal(number: int, like: Array, *more: int) -> Array:
        return random.normal(random.fold_in(key, number), (*more, *like.shape), like.dtype)

    sets = {
        name: normal(number, one.logits[..., 0], 2)
        for number, (name, one) in enumerate(factors.sets.items())
    }
    sites = {
        name: normal(number, one.mean)
        for number, (name, one) in enumerate(factors.sites.items(), start=len(sets))
    }
    return Noise(sets, sites)


class Prior(NamedTuple):
    """Prior of a set of effects given what governs it."""

    log_weights: Array  # (response, component)
    variances: Array  # (component, response, effect); of a spike, that of the slab it hides
    counts: Array  # (component, 1, 1): 0 of a spike, else 1


def prior_of(name: str, n_effects: int, hyper: EffectHyper, var_e: Array) -> Prior:
    """Sample what governs a set of effects, and return their prior given it."""
    level, weights = level_of(name, hyper), weights_of(name, hyper)
    one = jnp.ones((level.shape[0], n_effects), level.dtype)
    variance = SLAB_VARIANCES[hyper.family](name, level, one, var_e, hyper)
    slabs = (hyper.slabs[0], *hyper.slabs) if hyper.spike else hyper.slabs
    multipliers = jnp.asarray(slabs, variance.dtype)[:, None, None]
    counts = jnp.ones_like(multipliers).at[0].set(0.0 if hyper.spike else 1.0)
    return Prior(jnp.log(weights), multipliers * variance, counts)


class _Set(NamedTuple):
    """Factors of a set of effects, in the units of the effects.

    Attributes
    ----------
    log_phi, mean, sd : (component, response, effect)
    kept : (response, rank)
        1 - c.
    vectors : (rank, effect)
        V.
    """

    log_phi: Array
    mean: Array
    sd: Array
    kept: Array
    vectors: Array

    def correlated(self, noise: Array) -> Array:
        """Turn standard normal noise (response, effect) into e."""
        along = noise @ self.vectors.T
        return noise - (along * (1.0 - jnp.sqrt(self.kept))) @ self.vectors

    def moment_matched(self, prior: Prior, noise: Array) -> Array:
        """Normal effects (response, effect) of the same means and covariances."""
        phi = jnp.exp(self.log_phi)
        mean, sd = prior.counts * self.mean, prior.counts * self.sd
        centre, common = jnp.sum(phi * mean, axis=0), jnp.sum(phi * sd, axis=0)
        own = jnp.sum(phi * ((mean - centre) ** 2 + self.share * (sd - common) ** 2), axis=0)
        return centre + common * self.correlated(noise[0]) + jnp.sqrt(own + TINY) * noise[1]

    @property
    def share(self) -> Array:
        """Variances (response, effect) of e."""
        return 1.0 - (1.0 - self.kept) @ self.vectors**2

    def divergence(self, prior: Prior) -> tuple[Array, Array]:
        """Divergence from the prior: by effect (response, effect), and of e's covariance."""
        phi = jnp.exp(self.log_phi)
        log_weights = jnp.moveaxis(prior.log_weights, -1, 0)[..., None]
        squares = (self.share * self.sd**2 + self.mean**2) / prior.variances
        of_slab = 0.5 * (squares - 1.0 - jnp.log(self.sd**2 / prior.variances))
        by_effect = jnp.sum(phi * (self.log_phi - log_weights + of_slab), axis=0)
        return by_effect, -0.5 * jnp.sum(jnp.log(self.kept))

    def draw(self, key: Array, prior: Prior, noise: Array) -> tuple[Array, Array, Array]:
        """Draw components and slabs (response, effect).

        The last is the log of prior over factors, (response, effect) without the factors'
        normalisation of e, which is half the sum of the logs of ``kept``.
        """
        component = random.categorical(key, self.log_phi, axis=0)

        def chosen(values: Array) -> Array:
            return jnp.take_along_axis(values, component[None], axis=0)[0]

        sd, variance = chosen(self.sd), chosen(prior.variances)
        slab = chosen(self.mean) + sd * self.correlated(noise[0])
        log_weights = jnp.moveaxis(prior.log_weights, -1, 0)[..., None]
        log_weights = jnp.broadcast_to(log_weights, self.log_phi.shape)
        log_ratio = chosen(log_weights - self.log_phi) + jnp.log(sd)
        log_ratio = log_ratio + 0.5 * (noise[0] ** 2 - slab**2 / variance - jnp.log(variance))
        return component, slab, log_ratio


# Effects (response, effect) of a set: (name, prior, hyper) -> effects.
_Sampled = Callable[[str, Prior, EffectHyper], Array]


def parts_of(sampled: _Sampled) -> Parts:
    """How effects are sampled, given what one set of them is."""

    def effects(name: str, n_effects: int, hyper: EffectHyper, var_e: Array) -> Array:
        return sampled(name, prior_of(name, n_effects, hyper, var_e), hyper)

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


class _Guided(Messenger):
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


@dataclass(frozen=True)
class Mask:
    """Booleans of any shape that programs are compiled for: equal ones are equal.

    Attributes
    ----------
    shape : tuple of int
    packed : bytes

    Examples
    --------
    >>> Mask.of(np.array([True, False])) == Mask.of(np.array([True, False]))
    True
    """

    shape: tuple[int, ...]
    packed: bytes

    @classmethod
    def of(cls, values: Any) -> "Mask":
        """Take an array of booleans."""
        found = np.asarray(values, bool)
        return cls(found.shape, np.packbits(found).tobytes())

    @property
    def values(self) -> np.ndarray:
        """The booleans."""
        bits = np.frombuffer(self.packed, np.uint8)
        return np.unpackbits(bits, count=math.prod(self.shape)).astype(bool).reshape(self.shape)


@dataclass(frozen=True)
class Family:
    """The family for one model: what programs are compiled for. Equal ones share their programs.

    Attributes
    ----------
    activation : Activation
    observed : Mask
        Of the middle layer (node, individual): indices must be known to the compiler.
    held : tuple of (str, Mask)
        Sites of residual variances of which some are known, and which those are.
    """

    activation: Activation
    observed: Mask
    held: tuple[tuple[str, Mask], ...]

    @classmethod
    def of(cls, data: ModelData, activation: Activation) -> "Family":
        """Return the family for a model."""
        layers = (*data.omics, data.trait)
        held = tuple(
            (f"{site}{one.suffix}", Mask.of(one.residual_hyper.fixed))
            for site, one in zip((*["var_e"] * len(data.omics), "var_y"), layers, strict=True)
            if bool(jnp.any(one.residual_hyper.fixed))
        )
        return cls(activation, Mask.of(data.observed), held)

    def model(self, data: ModelData, parts: Parts) -> None:
        """State the joint density, missing omics as noise around what predicts them."""
        known: Any = self.observed.values
        with handlers.reparam(config={"z_missing": LocScaleReparam(0.0)}):
            model(dataclasses.replace(data, observed=known), self.activation, parts)

    def _guided(self, factors: Factors, noise: Noise) -> "_Guided":
        held = {name: mask.values for name, mask in self.held}
        return _Guided(self.model, factors.sites, noise.sites, held)

    def _set(self, name: str, factors: Factors, inputs: Inputs, prior: Prior) -> _Set:
        one, scale = factors.sets[name], inputs.scales[name]
        return _Set(
            jnp.moveaxis(jax.nn.log_softmax(one.logits), -1, 0),
            prior.counts * scale * one.mean,
            jnp.where(prior.counts > 0, scale * jnp.exp(one.log_sd), jnp.sqrt(prior.variances)),
            jax.nn.sigmoid(-one.shrink),
            inputs.vectors.get(name, jnp.zeros((0, one.mean.shape[-1]), one.mean.dtype)),
        )

    def bound(self, factors: Factors, noise: Noise, inputs: Inputs) -> Array:
        """Unbiased estimate of the evidence lower bound, up to a constant."""

        def sampled(name: str, prior: Prior, hyper: EffectHyper) -> Array:
            of_set = self._set(name, factors, inputs, prior)
            divergence, whole = of_set.divergence(prior)
            if name in inputs.allowed:
                divergence = jnp.where(inputs.allowed[name], divergence, 0.0)
            numpyro.factor(f"divergence_{name}", -jnp.sum(divergence) - whole)
            return of_set.moment_matched(prior, noise.sets[name])

        guided = self._guided(factors, noise)
        log_joint, _ = log_density(guided, (inputs.data, parts_of(sampled)), {}, {})
        return log_joint - guided.log_q

    def draw(self, key: Array, factors: Factors, inputs: Inputs) -> Drawn:
        """Draw a state from the family, effects with their components."""
        data = inputs.data
        key_noise, key_sets, key_start = random.split(key, 3)
        noise = noise_like(key_noise, factors)

        def sampled(name: str, prior: Prior, hyper: EffectHyper) -> Array:
            of_set = self._set(name, factors, inputs, prior)
            key_set = random.fold_in(key_sets, sorted(factors.sets).index(name))
            component, slab, log_ratio = of_set.draw(key_set, prior, noise.sets[name])
            if name in inputs.allowed:
                log_ratio = jnp.where(inputs.allowed[name], log_ratio, 0.0)
            whole = 0.5 * jnp.sum(jnp.log(of_set.kept))
            numpyro.factor(f"ratio_{name}", jnp.sum(log_ratio) + whole)
            if hyper.spike:
                numpyro.deterministic(f"component_{name}", component)
            slab = numpyro.deterministic(f"slab_{name}", slab)
            return jnp.where(component > 0, slab, 0.0) if hyper.spike else slab

        guided = self._guided(factors, noise)
        log_joint, sites = log_density(guided, (data, parts_of(sampled)), {}, {})
        values = {name: site.get("value") for name, site in sites.items()}
        z = data.z_start
        if data.omics:
            z = z.at[np.nonzero(~self.observed.values)].set(values["z_missing"])
        start = start_state(key_start, data, self.activation)
        state = state_of_sites(values | {"z": z}, start, data, self.activation)
        return Drawn(refreshed(state, data, self.activation), log_joint - guided.log_q)
