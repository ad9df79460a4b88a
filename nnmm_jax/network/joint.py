"""The generative model, stated once, in NumPyro: the density every sampler block must respect.

It is written for reading and for tests, not for speed: marker effects are explicit, nothing is
integrated out, and every block of the sampler is compared with differences of its log density.
Everything is on the internal scale of :mod:`nnmm_jax.inference.prepare`.
"""

import jax.numpy as jnp
import numpyro
import numpyro.distributions as dist
from jax import Array

from nnmm_jax.inference.arrays import EffectHyper, MixedArrays, ModelData, ResidualHyper
from nnmm_jax.network.activations import Activation


def variance_prior(df: Array, scale: Array) -> dist.InverseGamma:
    """Scaled inverse chi-square: ``df * scale / chi2(df)``."""
    return dist.InverseGamma(df / 2, df * scale / 2)


def _effects(name: str, n_effects: int, hyper: EffectHyper, spike: bool) -> Array:
    """Sample one set of effects (response, effect) with their hyperparameters.

    Sites ``var_NAME`` (response,), ``pi_NAME`` (response,) when estimated, ``delta_NAME``
    (response, effect) with a spike, and ``slab_NAME`` (response, effect). The effect is
    ``delta * slab``; a slab whose delta is 0 has its prior and touches nothing else.
    """
    shape = (hyper.scale.shape[0], n_effects)
    variance = numpyro.sample(f"var_{name}", variance_prior(hyper.df, hyper.scale).to_event(1))
    sd = jnp.broadcast_to(jnp.sqrt(variance)[:, None], shape)
    slab = numpyro.sample(f"slab_{name}", dist.Normal(0.0, sd).to_event(2))
    if not spike:
        return slab
    pi = hyper.pi
    if hyper.estimate_pi:
        prior = dist.Beta(hyper.zero_count, hyper.nonzero_count).to_event(1)
        pi = numpyro.sample(f"pi_{name}", prior)
    nonzero = jnp.broadcast_to(1.0 - pi[:, None], shape)
    delta = numpyro.sample(f"delta_{name}", dist.BernoulliProbs(nonzero).to_event(2))
    return delta * slab


def _residual_variance(name: str, hyper: ResidualHyper) -> Array:
    """Sample residual variances; a fixed one is its scale and its site is ignored."""
    prior = variance_prior(hyper.df, hyper.scale).mask(~hyper.fixed).to_event(hyper.scale.ndim)
    return jnp.where(hyper.fixed, hyper.scale, numpyro.sample(name, prior))


def _marker_effects(name: str, arrays: MixedArrays, spike: bool) -> Array:
    """Marker effects, padded as the genotypes are."""
    effects = _effects(name, arrays.markers.n_markers, arrays.hyper, spike)
    padding = arrays.markers.n_padded - arrays.markers.n_markers
    return jnp.pad(effects, ((0, 0), (0, padding)))


def model(
    data: ModelData,
    activation: Activation,
    marker_spike: bool,
    node_spike: bool,
    skip_spike: bool = False,
) -> None:
    """Mixed-effect neural network (Zhao, Zeng & Cheng 2022, equations 1-3).

    Parameters
    ----------
    data : ModelData
        Arrays, masks and resolved hyperparameters; a phenotype or omics cell that is not marked
        as observed is not conditioned on.
    activation : Activation
    marker_spike, node_spike, skip_spike : bool
        Whether the prior of these effects has a spike at zero.

    Notes
    -----
    Fixed effects are flat. Sites: ``beta`` (L, q1); ``var_marker``, ``pi_marker``,
    ``delta_marker``, ``slab_marker``; ``var_e`` (L,); ``z_missing`` (cells,), ``z_observed``
    (cells,), both in row-major order of (node, individual); ``fixed`` (q2,); ``var_node``,
    ``pi_node``, ``delta_node``, ``slab_node``; the same with ``skip``; ``var_y``; ``y``.
    """
    n_nodes, _ = data.z_start.shape
    n_terms = data.omics.design.matrix.shape[0]
    flat = dist.ImproperUniform(dist.constraints.real, (), (n_nodes, n_terms))
    beta = numpyro.sample("beta", flat)
    alpha = _marker_effects("marker", data.omics, marker_spike)
    var_e = _residual_variance("var_e", data.residual_hyper)
    mean = beta @ data.omics.design.matrix + data.omics.markers.predict(alpha)
    sd = jnp.broadcast_to(jnp.sqrt(var_e)[:, None], mean.shape)

    missing, seen = jnp.nonzero(~data.observed), jnp.nonzero(data.observed)
    cells = dist.Normal(mean[missing], sd[missing]).to_event(1)
    z = data.z_start.at[missing].set(numpyro.sample("z_missing", cells))
    numpyro.sample(
        "z_observed", dist.Normal(mean[seen], sd[seen]).to_event(1), obs=data.z_start[seen]
    )

    n_fixed = data.design_trait.matrix.shape[0]
    fixed = numpyro.sample("fixed", dist.ImproperUniform(dist.constraints.real, (), (n_fixed,)))
    w = _effects("node", n_nodes, data.node_hyper, node_spike)[0]
    eta = fixed @ data.design_trait.matrix + w @ activation.function(z[:, data.y_rows])
    if data.skip is not None:
        skip = _marker_effects("skip", data.skip, skip_spike)
        eta = eta + data.skip.markers.predict(skip)[0]
    var_y = _residual_variance("var_y", data.trait_hyper)
    numpyro.sample("y", dist.Normal(eta, jnp.sqrt(var_y)).to_event(1), obs=data.y)
