"""From the user's data and network to arrays on the internal scale, priors resolved.

Internally the trait and (if the network says so) every omics column have mean 0 and variance 1
over their observed values, and fixed-effect columns have unit mean square: default priors then do
not depend on units, and single precision suffices.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np
from scipy.stats import norm

from nnmm_jax.data.align import Dataset
from nnmm_jax.data.design import Design, design_matrix
from nnmm_jax.errors import InputError
from nnmm_jax.inference.arrays import EffectHyper, FixedDesign, LayerArrays, ModelData
from nnmm_jax.inference.build_arrays import build_fixed_design
from nnmm_jax.inference.build_random import Layer
from nnmm_jax.inference.build_terms import MAX_SPECTRUM, TermBuilder
from nnmm_jax.inference.hyper import Responses, effect_hyper, residual_hyper, resolve_shares
from nnmm_jax.network.activations import Activation
from nnmm_jax.network.priors import GBLUP, Prior, Residual, as_prior
from nnmm_jax.network.spec import Network
from nnmm_jax.network.terms import RandomTerm


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

    ``trait_rows`` is the scaled fixed-effect design of the phenotype for ALL individuals, averaged
    over the records of each, (term, individual); the one in ``data`` has the observed records only.
    """

    data: ModelData
    scaling: Scaling
    node_names: tuple[str, ...]
    omics_design: Design | None
    trait_design: Design
    trait_rows: np.ndarray


def _scaled_design(
    design: Design, rows: np.ndarray | slice, root: np.ndarray | None
) -> tuple[FixedDesign, np.ndarray]:
    """Scale columns to unit mean square over all records; return the design of some of them."""
    factor = np.sqrt(np.mean(design.matrix**2, axis=0))
    factor = np.where(factor > 0, factor, 1.0)
    return build_fixed_design((design.matrix / factor)[rows], root), factor


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


def latent_names(network: Network) -> tuple[str, ...]:
    """Names of the latent nodes."""
    return tuple(f"latent{k + 1}" for k in range(network.latent))


def _check(dataset: Dataset, network: Network) -> None:
    if dataset.omics.shape[1] + network.latent == 0 and not (
        network.skip_prior is not None or network.random_trait
    ):
        raise InputError(
            "the network has no middle layer: give omics, or latent nodes (latent=K), or fit the "
            "trait directly with a skip_prior or random_trait"
        )
    if dataset.omics.shape[1] + network.latent == 0:
        _check_direct(network)
    latent = latent_names(network)
    taken = [name for name in latent if name in set(dataset.omics_names)]
    if taken:
        raise InputError(
            f"omics column {taken[0]!r} has the name of a latent node: rename it in the omics table"
        )


_OF_MIDDLE_LAYER = (
    "marker_prior", "node_prior", "activation", "fixed_omics", "random_omics", "residual_omics"
)  # fmt: skip


def _check_direct(network: Network) -> None:
    """Nothing was said of a middle layer that is not there."""
    usual = Network()
    said = [
        name
        for name in _OF_MIDDLE_LAYER
        if getattr(network, name) not in (getattr(usual, name), None)
    ]
    if said:
        raise InputError(
            f"{said[0]}: there are no omics and no latent nodes that it could be about; where the "
            "trait is fitted directly, marker effects have the skip_prior and random terms are "
            "random_trait"
        )


def _omics_layer(
    dataset: Dataset,
    network: Network,
    builder: TermBuilder,
    z: np.ndarray,
    latent: np.ndarray,
    node_sd: np.ndarray,
) -> tuple[LayerArrays, Design, np.ndarray]:
    """Layer 1 -> 2: arrays, design and its scaling."""
    observed = ~np.isnan(z)
    needed = observed.any(axis=0)
    root = None if dataset.omics_weights is None else np.sqrt(dataset.omics_weights)
    design = design_matrix(
        network.fixed_omics,
        dataset.individual_covariates,
        what="fixed effects of omics",
        needed=needed if needed.any() else None,
        varying=dataset.varying_columns,
    )
    fixed, factors = _scaled_design(design, slice(None), root)
    node_variance = np.ones(z.shape[0])
    if not network.standardize:
        node_variance[~latent] = np.nanvar(z[~latent], axis=1)
    priors = network.marker_priors
    shares, left = resolve_shares(
        [*priors.values(), *network.random_omics], network.residual_omics, "omics"
    )
    responses = Responses(node_variance, node_sd, left)
    names = (*(str(name) for name in dataset.omics_names), *latent_names(network))
    layer = Layer(
        "marker",
        np.arange(z.shape[1]),
        np.arange(z.shape[1]),
        needed,
        dataset.individual_covariates,
        root,
        fixed,
        responses,
        names,
    )
    arrays = _layer_arrays(
        builder, layer, priors, network.random_omics, shares, network.residual_omics, latent
    )
    return arrays, design, factors


def _layer_arrays(
    builder: TermBuilder,
    layer: Layer,
    priors: Mapping[str, Prior],
    random: Sequence[RandomTerm],
    shares: list[float],
    residual: Residual,
    latent: np.ndarray,
) -> LayerArrays:
    """Arrays of a layer; ``shares`` are those of the marker priors, then of the random terms."""
    terms = builder.marker_terms(layer, priors, dict(zip(priors, shares, strict=False)))
    dense, sparse = builder.random_terms(layer, tuple(random), shares[len(priors) :])
    root = None if layer.root is None else jnp.asarray(layer.root, jnp.result_type(float))
    hyper = residual_hyper(residual, layer.responses, latent)
    return LayerArrays(layer.design, (*terms, *dense), tuple(sparse), root, hyper)


def _trait_layer(
    dataset: Dataset,
    network: Network,
    builder: TermBuilder,
    records: np.ndarray,
    trait_sd: float,
    activated: float | None,
) -> tuple[LayerArrays, EffectHyper | None, Design, np.ndarray]:
    """Layer 2 -> 3: arrays, prior of the node effects, design and its scaling."""
    needed = np.zeros(len(dataset.phenotype), dtype=bool)
    needed[records] = True
    root = None if dataset.weights is None else np.sqrt(dataset.weights[records])
    design = design_matrix(
        network.fixed_trait,
        dataset.covariates,
        what="fixed effects of the trait",
        needed=needed,
    )
    fixed, factors = _scaled_design(design, records, root)
    node_prior = as_prior(network.node_prior)
    priors = network.skip_priors
    sets: list[Prior] = [] if activated is None else [node_prior]
    sets += [*priors.values(), *network.random_trait]
    shares, left = resolve_shares(sets, network.residual_trait, "trait")
    responses = Responses(np.ones(1), np.full(1, trait_sd), left)
    node_hyper = None
    if activated is not None:
        factor = activated if isinstance(node_prior, GBLUP) else 1.0
        node_hyper = effect_hyper(node_prior, responses, shares.pop(0), activated, factor)
    layer = Layer(
        "skip",
        records,
        dataset.record_rows,
        needed,
        dataset.covariates,
        root,
        fixed,
        responses,
        None,
    )
    latent = np.zeros(1, dtype=bool)
    arrays = _layer_arrays(
        builder, layer, priors, network.random_trait, shares, network.residual_trait, latent
    )
    return arrays, node_hyper, design, factors


def _mean_rows(matrix: np.ndarray, rows: np.ndarray, n: int) -> np.ndarray:
    """Means (individual, ...) of a matrix (record, ...) over the records of each individual."""
    total = np.zeros((n, *matrix.shape[1:]))
    np.add.at(total, rows, matrix)
    return total / np.bincount(rows, minlength=n)[:, None]


def prepare(dataset: Dataset, network: Network, *, max_spectrum: int = MAX_SPECTRUM) -> Prepared:
    """Build arrays and resolve priors.

    Parameters
    ----------
    dataset : Dataset
        Joined data.
    network : Network
        What to fit.
    max_spectrum : int
        Normal effects are drawn jointly where the eigenproblem is at most this large, otherwise
        one by one.

    Returns
    -------
    Prepared

    Raises
    ------
    InputError
        If the network explains the trait by nothing, or does not fit the data.
    """
    _check(dataset, network)
    dtype = jnp.result_type(float)
    builder = TermBuilder(dataset, max_spectrum)
    z, latent, node_mean, node_sd = _middle_layer(dataset, network)
    n = z.shape[1]
    records = np.flatnonzero(~np.isnan(dataset.phenotype))
    y, y_rows = dataset.phenotype[records], dataset.record_rows[records]
    trait_mean, trait_sd = float(y.mean()), float(y.std())

    omics, omics_design, omics_terms, activated = None, None, np.ones(0), None
    if len(z):
        omics, omics_design, omics_terms = _omics_layer(
            dataset, network, builder, z, latent, node_sd
        )
        activated = _activated_variance(z, latent, network.activate)
    trait, node_hyper, trait_design, trait_terms = _trait_layer(
        dataset, network, builder, records, trait_sd, activated
    )
    weights = np.ones(len(y)) if dataset.weights is None else dataset.weights[records]
    precision = np.bincount(y_rows, weights, minlength=n)
    observed = ~np.isnan(z)
    incomplete = ~observed.all(axis=0)
    data = ModelData(
        omics=omics,
        trait=trait,
        z_start=jnp.asarray(np.nan_to_num(z), dtype),
        observed=jnp.asarray(observed),
        incomplete_rows=jnp.asarray(np.flatnonzero(incomplete)),
        informed_rows=jnp.asarray(np.flatnonzero(incomplete & (precision > 0))),
        free_rows=jnp.asarray(np.flatnonzero(incomplete & (precision == 0))),
        y=jnp.asarray(np.sqrt(weights) * (y - trait_mean) / trait_sd, dtype),
        y_rows=jnp.asarray(y_rows),
        y_precision=jnp.asarray(precision, dtype),
        node_hyper=node_hyper,
        latent=jnp.asarray(latent),
        n_markers=dataset.genotypes.shape[1],
    )
    return Prepared(
        data,
        Scaling(node_mean, node_sd, trait_mean, trait_sd, omics_terms, trait_terms),
        (*(str(name) for name in dataset.omics_names), *latent_names(network)),
        omics_design,
        trait_design,
        _mean_rows(trait_design.matrix / trait_terms, dataset.record_rows, n).T,
    )
