"""From the user's data and network to arrays on the internal scale, priors resolved.

Internally the trait and (if the network says so) every omics column have mean 0 and variance 1
over their observed values, and fixed-effect columns have unit mean square: default priors then do
not depend on units, and single precision suffices.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import jax.numpy as jnp
import numpy as np

from nnmm_jax.data.align import Dataset
from nnmm_jax.data.design import Design, design_matrix
from nnmm_jax.errors import InputError
from nnmm_jax.inference.arrays import EffectHyper, FixedDesign, LayerArrays, ModelData
from nnmm_jax.inference.build_arrays import build_fixed_design
from nnmm_jax.inference.build_nodes import (
    Nodes,
    activated_variance,
    middle_layer,
    resolve_activation,
)
from nnmm_jax.inference.build_random import Layer
from nnmm_jax.inference.build_terms import MAX_SPECTRUM, TermBuilder
from nnmm_jax.inference.hyper import (
    Responses,
    effect_hyper,
    fixed_precision,
    residual_hyper,
    resolve_shares,
)
from nnmm_jax.network.activations import ACTIVATIONS, Activation, Units
from nnmm_jax.network.priors import GBLUP, Prior, Residual, as_prior
from nnmm_jax.network.spec import Network
from nnmm_jax.network.terms import RandomTerm

LEAST_INDIVIDUALS = 500  # below, products with genotypes are not what takes time
MOST_LEFT = 0.75  # of the work of these products, where sums stand for complete individuals


@dataclass(frozen=True, eq=False)
class Scaling:
    """How to return from the internal scale to the user's units.

    Attributes
    ----------
    node_mean, node_sd : (node,)
        0 and 1 for latent nodes and without standardisation.
    trait_mean, trait_sd : float
    omics_terms : tuple of (term,)
        What each column of the fixed-effect design of every block was divided by.
    trait_terms : (term,)
        The same for the trait.
    """

    node_mean: np.ndarray
    node_sd: np.ndarray
    trait_mean: float
    trait_sd: float
    omics_terms: tuple[np.ndarray, ...]
    trait_terms: np.ndarray


@dataclass(frozen=True, eq=False)
class Prepared:
    """A model ready to run: arrays, scaling, activation, names.

    ``trait_rows`` is the scaled fixed-effect design of the phenotype for ALL individuals, averaged
    over the records of each, (term, individual); the one in ``data`` has the observed records only.
    ``node_order`` is the order in which a user's function has the nodes.
    """

    data: ModelData
    scaling: Scaling
    activation: Activation
    node_names: tuple[str, ...]
    node_order: np.ndarray
    omics_designs: tuple[Design, ...]
    trait_design: Design
    trait_rows: np.ndarray


def _scaled_design(
    design: Design, rows: np.ndarray | slice, root: np.ndarray | None
) -> tuple[FixedDesign, np.ndarray]:
    """Scale columns to unit mean square over all records; return the design of some of them."""
    factor = np.sqrt(np.mean(design.matrix**2, axis=0))
    factor = np.where(factor > 0, factor, 1.0)
    return build_fixed_design((design.matrix / factor)[rows], root), factor


def _check(dataset: Dataset, network: Network) -> None:
    if dataset.omics.shape[1] + len(network.latent_names) == 0:
        if network.skip_prior is None and not network.random_trait:
            raise InputError(
                "the network has no middle layer: give omics, or latent nodes (latent=K), or fit "
                "the trait directly with a skip_prior or random_trait"
            )
        _check_direct(network)
    latent = network.latent_names
    taken = [name for name in latent if name in set(dataset.omics_names)]
    if taken:
        raise InputError(
            f"omics column {taken[0]!r} has the name of a latent node: rename it in the omics table"
        )
    partial = any(block.connections == "map" for block in network.all_blocks)
    if partial and dataset.connections is None:
        raise InputError(
            "connections='map': the data set has no map of markers and nodes; give "
            "read_dataset(connections=...)"
        )


_OF_MIDDLE_LAYER = (
    "marker_prior", "node_prior", "activation", "theta", "connections", "blocks", "fixed_omics",
    "random_omics", "residual_omics",
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


def _omics_block(
    dataset: Dataset, network: Network, builder: TermBuilder, nodes: Nodes, which: int
) -> tuple[LayerArrays, Design, np.ndarray]:
    """Layer 1 -> 2 of one block: arrays, design and its scaling."""
    block, rows = nodes.blocks[which]
    z, latent = nodes.z[rows], nodes.latent[rows]
    needed = (~np.isnan(z)).any(axis=0)
    root = None if dataset.omics_weights is None else np.sqrt(dataset.omics_weights)
    what = f" of {block.name}" if block.name else " of omics"
    design = design_matrix(
        block.fixed,
        dataset.individual_covariates,
        what=f"fixed effects{what}",
        needed=needed if needed.any() else None,
        varying=dataset.varying_columns,
    )
    fixed, factors = _scaled_design(design, slice(None), root)
    node_variance = np.ones(z.shape[0])
    if not network.standardize:
        node_variance[~latent] = np.nanvar(z[~latent], axis=1)
    priors = block.marker_priors
    shares, left = resolve_shares(
        [*priors.values(), *block.random], block.residual, what.removeprefix(" of ")
    )
    columns = tuple(int(column) for column in nodes.columns[rows])
    connected = None
    if block.connections == "map" and dataset.connections is not None and priors:
        whole = dataset.connections.mask(nodes.names, dataset.genotypes.shape[1])
        connected = whole[:, rows]
    layer = Layer(
        place="marker",
        block=block.name,
        records=np.arange(z.shape[1]),
        owner=np.arange(z.shape[1]),
        needed=needed,
        covariates=dataset.individual_covariates,
        root=root,
        design=fixed,
        responses=Responses(node_variance, nodes.sd[rows], left),
        omics_columns=None if latent.any() else columns,
        connected=connected,
    )
    arrays = _layer_arrays(
        builder,
        layer,
        priors,
        block.marker_groups,
        block.random,
        shares,
        block.residual,
        block.fixed_sd,
        latent,
    )
    return arrays, design, factors


def _exchangeable(
    nodes: Nodes, omics: Sequence[LayerArrays], activation: Activation
) -> tuple[tuple[int, ...], ...]:
    """Sets of latent nodes that see the same: of one block, with the same markers.

    A function of all nodes may tell them apart, and so may one that is different for every node.
    """
    if activation is not ACTIVATIONS.get(activation.name):
        return ()
    found: dict[tuple[int, bytes], list[int]] = {}
    for number, (block, (_, rows)) in enumerate(zip(omics, nodes.blocks, strict=True)):
        masks = [np.asarray(term.mask) for term in block.terms if term.mask is not None]
        for node in np.flatnonzero(nodes.latent[rows]):
            sees = b"".join(mask[:, node].tobytes() for mask in masks)
            found.setdefault((number, sees), []).append(int(rows.start + node))
    return tuple(tuple(one) for one in found.values() if len(one) > 1)


def _layer_arrays(
    builder: TermBuilder,
    layer: Layer,
    priors: Mapping[str, Prior],
    groups: Sequence[str],
    random: Sequence[RandomTerm],
    shares: list[float],
    residual: Residual,
    fixed_sd: float | None,
    latent: np.ndarray,
) -> LayerArrays:
    """Arrays of a layer; ``shares`` are those of the marker priors, then of the random terms.

    ``groups`` are all groups of markers, also those without a prior.
    """
    terms = builder.marker_terms(layer, priors, groups, dict(zip(priors, shares, strict=False)))
    dense, sparse = builder.random_terms(layer, tuple(random), shares[len(priors) :])
    root = None if layer.root is None else jnp.asarray(layer.root, jnp.result_type(float))
    hyper = residual_hyper(residual, layer.responses, latent)
    fixed = fixed_precision(fixed_sd, layer.responses, latent, len(layer.records))
    every = (*terms, *dense)
    return LayerArrays(layer.design, every, tuple(sparse), root, hyper, fixed, layer.block)


def _trait_layer(
    dataset: Dataset,
    network: Network,
    builder: TermBuilder,
    records: np.ndarray,
    trait_sd: float,
    nodes: Nodes,
    activation: Activation,
) -> tuple[LayerArrays, tuple[EffectHyper, ...], Design, np.ndarray]:
    """Layer 2 -> 3: arrays, priors of the node effects, design and its scaling."""
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
    of_nodes = _node_priors(nodes, activation)
    priors = network.skip_priors
    sets: list[Prior] = [*of_nodes, *priors.values(), *network.random_trait]
    shares, left = resolve_shares(sets, network.residual_trait, "trait")
    responses = Responses(np.ones(1), np.full(1, trait_sd), left)
    node_hyper = []
    if not activation.combines:
        for prior, share, (_, rows) in zip(of_nodes, shares, nodes.blocks, strict=False):
            total = activated_variance(nodes, rows, activation)
            factor = total if isinstance(prior, GBLUP) else 1.0
            node_hyper.append(effect_hyper(prior, responses, share, total, factor))
    shares = shares[len(of_nodes) :]
    layer = Layer(
        place="skip",
        block="",
        records=records,
        owner=dataset.record_rows,
        needed=needed,
        covariates=dataset.covariates,
        root=root,
        design=fixed,
        responses=responses,
        omics_columns=None,
    )
    latent = np.zeros(1, dtype=bool)
    arrays = _layer_arrays(
        builder,
        layer,
        priors,
        network.skip_groups,
        network.random_trait,
        shares,
        network.residual_trait,
        network.fixed_sd_trait,
        latent,
    )
    return arrays, tuple(node_hyper), design, factors


def _node_priors(nodes: Nodes, activation: Activation) -> list[Prior]:
    """Priors of the node effects of every block; a function of all nodes has a share like them."""
    priors = [as_prior(block.node_prior) for block, _ in nodes.blocks]
    if not activation.combines:
        return priors
    usual = Network().node_prior
    if any(prior != usual for prior in priors):
        raise InputError(
            f"node_prior: the function {activation.name} takes the place of the sum of node "
            "effects; leave it out"
        )
    return [as_prior(usual)]


def _mean_rows(matrix: np.ndarray, rows: np.ndarray, n: int) -> np.ndarray:
    """Means (individual, ...) of a matrix (record, ...) over the records of each individual."""
    total = np.zeros((n, *matrix.shape[1:]))
    np.add.at(total, rows, matrix)
    return total / np.bincount(rows, minlength=n)[:, None]


def prepare(
    dataset: Dataset,
    network: Network,
    *,
    max_spectrum: int = MAX_SPECTRUM,
    build: type[TermBuilder] = TermBuilder,
    activation: Activation | None = None,
) -> Prepared:
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
    build : type of TermBuilder
        Of the arrays themselves, or of their shapes alone
        (:class:`~nnmm_jax.inference.build_shapes.ShapeBuilder`).
    activation : Activation, optional
        That of the network where it is known already: programs are compiled for one.

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
    builder = build(dataset, max_spectrum)
    nodes = middle_layer(dataset, network)
    activation = resolve_activation(network, nodes) if activation is None else activation
    z, n = nodes.z, nodes.z.shape[1]
    records = np.flatnonzero(~np.isnan(dataset.phenotype))
    y, y_rows = dataset.phenotype[records], dataset.record_rows[records]
    trait_mean, trait_sd = float(y.mean()), float(y.std())

    blocks = [
        _omics_block(dataset, network, builder, nodes, which) for which in range(len(nodes.blocks))
    ]
    omics = tuple(arrays for arrays, _, _ in blocks)
    trait, node_hyper, trait_design, trait_terms = _trait_layer(
        dataset, network, builder, records, trait_sd, nodes, activation
    )
    _check_names(omics, trait)
    weights = np.ones(len(y)) if dataset.weights is None else dataset.weights[records]
    precision = np.bincount(y_rows, weights, minlength=n)
    observed = ~np.isnan(z)
    incomplete = ~observed.all(axis=0)
    data = ModelData(
        omics=_with_sums(omics, builder, nodes),
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
        latent=jnp.asarray(nodes.latent),
        latent_rows=tuple(
            jnp.asarray(np.flatnonzero(nodes.latent[rows])) for _, rows in nodes.blocks
        ),
        units=Units(*(jnp.asarray(one, dtype) for one in (nodes.mean, nodes.sd, trait_sd))),
        n_markers=dataset.genotypes.shape[1],
        exchangeable=_exchangeable(nodes, omics, activation),
        mostly_missing=_mostly(~observed),
        one_record_each=np.array_equal(y_rows, np.arange(n)),
    )
    scaling = Scaling(
        nodes.mean, nodes.sd, trait_mean, trait_sd, tuple(part[2] for part in blocks), trait_terms
    )
    return Prepared(
        data,
        scaling,
        activation,
        nodes.names,
        nodes.user_order,
        tuple(part[1] for part in blocks),
        trait_design,
        _mean_rows(trait_design.matrix / trait_terms, dataset.record_rows, n).T,
    )


def _mostly(missing: np.ndarray) -> bool:
    """Whether half of some cells are missing, or more."""
    return missing.size > 0 and bool(2 * missing.sum() >= missing.size)


def _with_sums(
    omics: tuple[LayerArrays, ...], builder: TermBuilder, nodes: Nodes
) -> tuple[LayerArrays, ...]:
    """Let sums stand for complete individuals in layer 1 where they can, and where that is less.

    They can where layer 1 is markers alone, swept in one block, with flat fixed effects and
    without weights, where no node is latent and fewer than half are missing. A sweep then goes
    through the cross-products of the markers and twice through the incomplete individuals, instead
    of twice through everyone.
    """
    missing = np.isnan(nodes.z)
    rows, n = np.flatnonzero(missing.any(axis=0)), missing.shape[1]
    if n < LEAST_INDIVIDUALS or nodes.latent.any() or _mostly(missing):
        return omics
    for block in omics:
        plain = block.root is None and block.fixed_precision is None and not block.random
        if not plain or len(block.terms) != 1:
            return omics
        (term,) = block.terms
        if term.grams is None or term.grams.shape[0] != 1 or not term.are_markers:
            return omics
        if term.markers.n_padded + 2 * len(rows) > MOST_LEFT * 2 * n:
            return omics
    return tuple(
        replace(block, terms=(replace(term, incomplete=builder.incomplete(term, rows)),))
        for block in omics
        for term in block.terms
    )


def _check_names(omics: Sequence[LayerArrays], trait: LayerArrays) -> None:
    """Blocks, groups and terms may have been named so that two things have one name."""
    names: list[str] = []
    for layer in (*omics, trait):
        names += [*(term.name for term in layer.terms), *(term.name for term in layer.random)]
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise InputError(
            f"blocks: expected names that differ together with those of groups and terms, found "
            f"{twice[0]!r} twice; rename a block"
        )
