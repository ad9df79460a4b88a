"""From the user's data and network to arrays on the internal scale, priors resolved.

Internally the trait and (if the network says so) every omics column have mean 0 and variance 1
over their observed values, and fixed-effect columns have unit mean square: default priors then do
not depend on units, and single precision suffices.
"""

from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np
from scipy.stats import norm

from nnmm_jax.data.align import Dataset
from nnmm_jax.data.design import Design, design_matrix
from nnmm_jax.errors import InputError
from nnmm_jax.inference.arrays import (
    EffectHyper,
    FixedDesign,
    ModelData,
    ResidualHyper,
    build_fixed_design,
    build_mixed_arrays,
    marker_means,
)
from nnmm_jax.network.activations import Activation
from nnmm_jax.network.priors import Prior, as_prior
from nnmm_jax.network.spec import Network

MAX_SPECTRUM = 6000  # largest eigenproblem solved for a joint draw; beyond, markers are swept
_RESIDUAL_DF = 4.0


@dataclass(frozen=True, eq=False)
class Scaling:
    """How to return from the internal scale to the user's units.

    Attributes
    ----------
    node_mean, node_sd : (node,)
        0 and 1 for latent nodes and without standardisation.
    trait_mean, trait_sd : float
    omics_terms, trait_terms : (term,)
        What each column of the two fixed-effect designs was divided by.
    """

    node_mean: np.ndarray
    node_sd: np.ndarray
    trait_mean: float
    trait_sd: float
    omics_terms: np.ndarray
    trait_terms: np.ndarray


@dataclass(frozen=True, eq=False)
class Prepared:
    """A model ready to run: arrays, scaling, names.

    ``trait_rows`` is the scaled fixed-effect design of the phenotype for ALL individuals,
    (term, individual); the one in ``data`` has the phenotyped ones only.
    """

    data: ModelData
    scaling: Scaling
    node_names: tuple[str, ...]
    omics_design: Design
    trait_design: Design
    trait_rows: np.ndarray


def expected_variance(prior: Prior, share: float, response: np.ndarray, total: float) -> np.ndarray:
    """Prior mean of the effects' variance that gives them ``share`` of the response's variance.

    Model page, Priors: ``share * var(response) / ((1 - pi) * sum of the covariates' variances)``.
    """
    return share * response / (prior.expected_nonzero * total)


def _scale_of_mean(df: float, mean: np.ndarray) -> np.ndarray:
    """Scale S for which the mean of ``df * S / chi2(df)`` is ``mean``."""
    return mean * (df - 2.0) / df


def _effect_hyper(prior: Prior, mean: np.ndarray) -> EffectHyper:
    dtype = jnp.result_type(float)

    def full(value: float) -> jnp.ndarray:
        return jnp.full(mean.shape, value, dtype)

    zero, nonzero = prior.zero_counts or (1.0, 1.0)
    return EffectHyper(
        df=full(prior.df),
        scale=jnp.asarray(_scale_of_mean(prior.df, mean), dtype),
        zero_count=full(zero),
        nonzero_count=full(nonzero),
        pi=full(1.0 - prior.expected_nonzero),
        estimate_pi=prior.zero_counts is not None,
    )


def _residual_hyper(mean: np.ndarray, fixed: np.ndarray) -> ResidualHyper:
    """Residual prior with the given mean; a fixed variance is that mean itself."""
    dtype = jnp.result_type(float)
    scale = np.where(fixed, mean, _scale_of_mean(_RESIDUAL_DF, mean))
    return ResidualHyper(
        jnp.full(mean.shape, _RESIDUAL_DF, dtype), jnp.asarray(scale, dtype), jnp.asarray(fixed)
    )


def _scaled_design(design: Design, rows: np.ndarray | slice) -> tuple[FixedDesign, np.ndarray]:
    """Scale columns to unit mean square over all individuals; return the design of some rows."""
    factor = np.sqrt(np.mean(design.matrix**2, axis=0))
    factor = np.where(factor > 0, factor, 1.0)
    return build_fixed_design((design.matrix / factor)[rows]), factor


def marker_variance_sum(genotypes: np.ndarray, means: np.ndarray) -> float:
    """Sum of the markers' variances after imputation by the mean."""
    total = 0.0
    for start in range(0, genotypes.shape[1], 1024):
        part = genotypes[:, start : start + 1024]
        missing = part == -1 if part.dtype == np.int8 else np.isnan(part)
        centred = np.where(missing, 0.0, part - means[start : start + 1024])
        total += float(np.mean(centred**2, axis=0).sum())
    return total


def _middle_layer(
    dataset: Dataset, network: Network
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Standardised omics with latent columns added (node, individual), their mean and sd."""
    omics = dataset.omics
    n_omics = omics.shape[1]
    mean, sd = np.zeros(n_omics + network.latent), np.ones(n_omics + network.latent)
    if network.standardize and n_omics:
        mean[:n_omics], sd[:n_omics] = np.nanmean(omics, axis=0), np.nanstd(omics, axis=0)
    z = np.full((omics.shape[0], n_omics + network.latent), np.nan)
    z[:, :n_omics] = (omics - mean[:n_omics]) / sd[:n_omics]
    return z.T, np.arange(n_omics + network.latent) >= n_omics, mean, sd


def _activated_variance(z: np.ndarray, latent: np.ndarray, activation: Activation) -> float:
    """Sum over nodes of var(g(z)) over observed values; a latent node is N(0, 1) a priori."""
    active = np.where(np.isnan(z), np.nan, np.asarray(activation.function(np.nan_to_num(z))))
    total = float(np.nanvar(active[~latent], axis=1).sum()) if (~latent).any() else 0.0
    quantiles = norm.ppf((np.arange(2000) + 0.5) / 2000)
    return total + int(latent.sum()) * float(np.var(np.asarray(activation.function(quantiles))))


def _joint(prior: Prior, genotypes: np.ndarray) -> bool:
    """Whether effects with this prior are drawn jointly: normal, and the eigenproblem feasible."""
    return not prior.spike and min(genotypes.shape) <= MAX_SPECTRUM


def latent_names(network: Network) -> tuple[str, ...]:
    """Names of the latent nodes."""
    return tuple(f"latent{k + 1}" for k in range(network.latent))


def _check(dataset: Dataset, network: Network) -> None:
    if dataset.omics.shape[1] + network.latent == 0:
        raise InputError("the network has no middle layer: give omics, or latent nodes (latent=K)")
    latent = latent_names(network)
    taken = [name for name in latent if name in set(dataset.omics_names)]
    if taken:
        raise InputError(
            f"omics column {taken[0]!r} has the name of a latent node: rename it in the omics table"
        )


def prepare(dataset: Dataset, network: Network) -> Prepared:
    """Build arrays and resolve priors.

    Parameters
    ----------
    dataset : Dataset
        Joined tables.
    network : Network
        What to fit.

    Returns
    -------
    Prepared

    Raises
    ------
    InputError
        If the network has no node, or a formula does not fit the data.
    """
    _check(dataset, network)
    dtype = jnp.result_type(float)
    marker_prior, node_prior = as_prior(network.marker_prior), as_prior(network.node_prior)
    skip_prior = None if network.skip_prior is None else as_prior(network.skip_prior)

    z, latent, node_mean, node_sd = _middle_layer(dataset, network)
    observed = ~np.isnan(z)
    y_observed = ~np.isnan(dataset.phenotype)
    y_rows = np.flatnonzero(y_observed)
    y = dataset.phenotype[y_rows]
    trait_mean, trait_sd = float(y.mean()), float(y.std())

    covariates = dataset.covariates
    omics_design = design_matrix(
        network.fixed_omics, covariates, what="fixed effects of omics", needed=observed.any(axis=0)
    )
    trait_design = design_matrix(
        network.fixed_trait, covariates, what="fixed effects of the trait", needed=y_observed
    )
    x_omics, omics_terms = _scaled_design(omics_design, slice(None))
    x_trait, trait_terms = _scaled_design(trait_design, y_rows)

    means = marker_means(dataset.genotypes)
    variance_sum = marker_variance_sum(dataset.genotypes, means)
    node_variance = np.ones(z.shape[0])
    if not network.standardize:
        node_variance[~latent] = np.nanvar(z[~latent], axis=1)
    marker_mean = expected_variance(marker_prior, marker_prior.share, node_variance, variance_sum)
    omics = build_mixed_arrays(
        dataset.genotypes,
        means,
        x_omics,
        _effect_hyper(marker_prior, marker_mean),
        _joint(marker_prior, dataset.genotypes),
    )

    # Several sets of effects on the trait divide their shares, so that a residual is left.
    n_sets = 1 if skip_prior is None else 2
    activated = _activated_variance(z, latent, network.activate)
    one = np.ones(1)
    node_share = node_prior.share / n_sets
    node_mean_variance = expected_variance(node_prior, node_share, one, activated)
    skip, skip_share = None, 0.0
    if skip_prior is not None:
        skip_share = skip_prior.share / n_sets
        skip_mean = expected_variance(skip_prior, skip_share, one, variance_sum)
        genotypes = dataset.genotypes[y_rows]
        skip = build_mixed_arrays(
            genotypes,
            means,
            x_trait,
            _effect_hyper(skip_prior, skip_mean),
            _joint(skip_prior, genotypes),
        )

    incomplete = ~observed.all(axis=0)
    data = ModelData(
        omics=omics,
        skip=skip,
        design_trait=x_trait,
        z_start=jnp.asarray(np.nan_to_num(z), dtype),
        observed=jnp.asarray(observed),
        incomplete_rows=jnp.asarray(np.flatnonzero(incomplete)),
        informed_rows=jnp.asarray(np.flatnonzero(incomplete & y_observed)),
        free_rows=jnp.asarray(np.flatnonzero(incomplete & ~y_observed)),
        y=jnp.asarray((y - trait_mean) / trait_sd, dtype),
        y_rows=jnp.asarray(y_rows),
        y_observed=jnp.asarray(y_observed),
        residual_hyper=_residual_hyper((1.0 - marker_prior.share) * node_variance, latent),
        node_hyper=_effect_hyper(node_prior, node_mean_variance),
        trait_hyper=_residual_hyper(np.asarray(1.0 - node_share - skip_share), np.asarray(False)),
        latent=jnp.asarray(latent),
    )
    scaling = Scaling(node_mean, node_sd, trait_mean, trait_sd, omics_terms, trait_terms)
    names = (*(str(name) for name in dataset.omics_names), *latent_names(network))
    return Prepared(
        data, scaling, names, omics_design, trait_design, (trait_design.matrix / trait_terms).T
    )
