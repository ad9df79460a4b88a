"""Predictions of new individuals from the parameter sets that a fit kept, without refitting.

In every sample of the posterior the network is run forward: genotypes give the expectation of each
node, measured omics take the place of their nodes, and the nodes give the trait.
"""

import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np
import pandas as pd

from nnmm_jax.data.genotype_files import GenotypeSource
from nnmm_jax.data.tables import Source
from nnmm_jax.errors import InputError, shortlist
from nnmm_jax.inference.build_arrays import decoded
from nnmm_jax.network.activations import ACTIVATIONS, Activation, Units
from nnmm_jax.network.functions import activation_of_fit, function_name
from nnmm_jax.posterior.forward import Samples, Summaries, summaries
from nnmm_jax.posterior.new_data import NewData, read_new_data
from nnmm_jax.posterior.result import FitResult

_NOISE_DRAWS = 1000  # of missing nodes, over all samples: sds have a Monte Carlo error of 2%
_CHUNK_NODES = 2**23  # samples x nodes x individuals computed at a time
CHUNK_DOSAGES = 2**24  # individuals x markers decoded at a time


def predict(
    result: FitResult,
    genotypes: GenotypeSource,
    omics: Source | None = None,
    *,
    activation: Callable[..., Any] | None = None,
    id_column: str | None = None,
    seed: int = 0,
) -> pd.DataFrame:
    """Predict new individuals from genotypes alone, or from genotypes and some omics.

    Each sample of ``result.parameters`` predicts all individuals. Nodes that are missing (all
    latent ones, and every node without omics) are normal given the genotype. Means over them are
    the activation's own expectation, as for the EBV of a fit: exact for a linear network, closed
    form or quadrature for other elementwise functions, a fixed set of points for a function of all
    nodes. Nothing is sampled for means. Variances add up from three parts: between samples, of the
    missing nodes within a sample, and (``y_pred_sd``) the residual variance of the trait. Only the
    second is sampled, at 1,000 draws or more over all samples, unless the network is linear; the
    same draws serve all individuals, so that no prediction depends on who else is predicted.

    Parameters
    ----------
    result : FitResult
        A fit with marker effects.
    genotypes : str, Path, DataFrame or Dosages
        In any format of :func:`nnmm_jax.data.read_dosages`; dosages of the allele that was counted
        in the fit, which cannot be checked. All markers of the fit must be there; others are
        ignored. A missing genotype is the mean of the fit.
    omics : str, Path or DataFrame, optional
        Measured nodes in the units of the fit; any column, row or cell may be missing.
    activation : callable, optional
        The function of the fit, if it was fitted with a user's function: a result has only its
        name.
    id_column : str, optional
        Name of the id column in both tables; default the first column.
    seed : int
        Of the draws of missing nodes.

    Returns
    -------
    pandas.DataFrame
        id; ebv, ebv_sd, ebv_mediated, ebv_direct; epv, epv_sd; y_pred, y_pred_sd: as in
        :func:`nnmm_jax.reports.tables.breeding_values`, and centred as there over the individuals
        OF THE FIT, so that both tables can be compared. Fixed effects of trait and nodes are at
        their mean over the individuals of the fit; a known residual weight is 1.

    Warns
    -----
    UserWarning
        If the fit has random terms: for new individuals they are 0, the mean of their prior, and
        the sds do not have their variance.

    Raises
    ------
    InputError
        A table cannot be used (see :func:`nnmm_jax.posterior.new_data.read_new_data`); the fit has
        no marker effects or kept none; the function is not given, not wanted or gives numbers that
        are not finite.

    Examples
    --------
    >>> import nnmm_jax as nm
    >>> result = nm.load("results")  # doctest: +SKIP
    >>> result.predict("genotypes.csv", "omics.csv").nlargest(10, "ebv")  # doctest: +SKIP
    """
    check_predictable(result)
    found = activation_of(result, activation)
    new = read_new_data(result, genotypes, omics, id_column=id_column)
    if caution := random_terms_caution(result):
        warnings.warn(caution, stacklevel=2)
    return predictions(result, new, found, seed=seed)


def check_predictable(result: FitResult) -> None:
    """Refuse a fit that says nothing of individuals that it has not seen.

    Raises
    ------
    InputError
        If markers enter by a relationship matrix, there are no marker effects, or none were kept.
    """
    for name, prior in _marker_priors(result.run["settings"]):
        if prior.get("relationship") is not None:
            raise InputError(
                f"the fit's {name} is GBLUP of the relationship matrix '{prior['relationship']}', "
                "which has no marker effects to predict new individuals with; fit again with these "
                "individuals in the matrix"
            )
    if "trait_base" not in result.parameters:
        raise InputError(
            "the fit kept no marker effects, because those of a few samples would not fit into "
            "memory; fit again with these individuals among the genotypes"
        )
    if not {"marker_effect", "skip_effect"} & set(result.parameters):
        raise InputError(
            "the fit has no marker effects to predict new individuals with; fit again with these "
            "individuals in its tables"
        )


def _marker_priors(settings: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Priors of marker effects as they were stored, with the names of their settings."""
    of_nodes = [settings["marker_prior"], *(block["marker_prior"] for block in settings["blocks"])]
    named = [*(("marker_prior", one) for one in of_nodes), ("skip_prior", settings["skip_prior"])]
    for name, stored in named:
        groups = {"": stored} if stored is None or isinstance(stored.get("name"), str) else stored
        yield from ((name, prior) for prior in groups.values() if prior is not None)


def random_terms_caution(result: FitResult) -> str | None:
    """One line on the random terms of a fit, which new individuals do not have; None without."""
    settings = result.run["settings"]
    of_nodes = [*settings["random_omics"], *(t for b in settings["blocks"] for t in b["random"])]
    parts = [
        f"{shortlist(dict.fromkeys(map(_label, terms)))} of the {layer}"
        for layer, terms in (("omics", of_nodes), ("trait", settings["random_trait"]))
        if terms
    ]
    if not parts:
        return None
    return (
        "random terms are 0 for new individuals, the mean of their prior, and uncertainty leaves "
        "them out, so that ebv lacks what a pedigree or a relationship matrix would say: "
        f"{' and '.join(parts)}"
    )


def _label(term: Mapping[str, Any]) -> str:
    """Label of a stored random term: its column, its matrix, or the pedigree."""
    return str(term.get("column") or term.get("matrix") or "pedigree")


def activation_of(result: FitResult, function: Callable[..., Any] | None = None) -> Activation:
    """Return the activation of a fit, for which a user's function must be given.

    Raises
    ------
    InputError
        If a function is not given or not wanted, has another name than that of the fit, or cannot
        be used with the nodes and parameters of the fit.
    """
    name, parameters = result.run["settings"]["activation"], result.parameters
    if name in ACTIVATIONS:
        if function is not None:
            raise InputError(f"activation: the fit's is {name}, which needs no function; leave out")
        return ACTIVATIONS[name]
    found = None if function is None else function_name(function)
    if function is None or found != name:
        raise InputError(
            f"activation: expected the function {name} of the fit, found {found or 'none'}; give "
            "it, for a result has only its name"
        )
    units = parameters["node_base"].values[0][:, None].astype(np.float64)
    mean, sd = (result.constant_data[f"node_{what}"].values[:, None] for what in ("mean", "sd"))
    theta = {name: jnp.asarray(draws[0]) for name, draws in _theta(result).items()}
    names = [str(node) for node in result.constant_data["node"].values]
    activation = activation_of_fit(
        function,
        names,
        theta,
        values=(units - mean) / sd,
        units=units,
        order=result.constant_data["node_order"].values.tolist(),
    )
    if activation.combines == ("node_effect" in parameters):
        kinds = ("a single value", "a value for each node")
        expected, other = kinds if not activation.combines else kinds[::-1]
        raise InputError(f"activation {name}: expected {expected} as in the fit, found {other}")
    return activation


def _theta(result: FitResult) -> dict[str, np.ndarray]:
    """Draws (sample, ...) of the parameters of a user's function."""
    return {
        str(name).removeprefix("theta_"): draws.values
        for name, draws in result.parameters.items()
        if str(name).startswith("theta_")
    }


def internal_samples(result: FitResult, activation: Activation) -> tuple[Samples, Units]:
    """Parameters of all samples on the internal scale, and the units that were taken from them."""
    constant, stored = result.constant_data, result.parameters
    # Single precision, as they are stored: marker effects may be large.
    mean, sd = (constant[f"node_{one}"].values.astype(np.float32) for one in ("mean", "sd"))
    trait_mean, trait_sd = (
        constant[f"trait_{one}"].values.astype(np.float32) for one in ("mean", "sd")
    )
    scaling: dict[str, tuple[np.ndarray | float, np.ndarray]] = {
        "trait_base": (trait_mean, trait_sd),
        "var_residual_trait": (0.0, trait_sd**2),
        **dict.fromkeys(("mediated_mean", "direct_mean", "epv_mean"), (0.0, trait_sd)),
        "skip_effect": (0.0, trait_sd),
        "node_base": (mean, sd),
        "var_residual_node": (0.0, sd**2),
        "node_effect": (0.0, trait_sd / sd if activation.linear else trait_sd),
        "marker_effect": (0.0, sd[:, None]),
    }
    dtype = jnp.result_type(float)
    samples = {
        name: jnp.asarray((stored[name].values - shift) / divisor, dtype)
        for name, (shift, divisor) in scaling.items()
        if name in stored
    }
    samples |= {f"theta_{name}": jnp.asarray(draws) for name, draws in _theta(result).items()}
    return samples, Units(*(jnp.asarray(one, dtype) for one in (mean, sd, trait_sd[0])))


def predictions(
    result: FitResult, new: NewData, activation: Activation, *, seed: int = 0
) -> pd.DataFrame:
    """Predict individuals whose tables have been read; see :func:`predict`.

    Raises
    ------
    InputError
        If predictions are not finite.
    """
    constant = result.constant_data
    samples, units = internal_samples(result, activation)
    n_samples, n_nodes = result.parameters.sizes["sample"], new.omics.shape[1]
    shape = (n_samples, -(-_NOISE_DRAWS // n_samples), n_nodes)
    noise = jnp.asarray(np.random.default_rng(seed).standard_normal(shape), units.trait_sd.dtype)
    z = ((new.omics - constant["node_mean"].values) / constant["node_sd"].values).T
    means, n = constant["marker_dosage"].values, len(new.ids)
    size = min(_CHUNK_NODES // (n_samples * (n_nodes + 1)), CHUNK_DOSAGES // len(means), n)
    size, parts = max(size, 1), []
    for start in range(0, n, size):
        # Where fewer are left some come again: arrays of another size would be compiled anew.
        first = min(start, n - size)
        rows = slice(first, first + size)
        dosages = decoded(new.genotypes[rows], means).astype(noise.dtype)
        part = summaries(samples, noise, dosages, z[:, rows].astype(noise.dtype), units, activation)
        parts.append([np.asarray(column)[start - first :] for column in part])
    columns = (np.concatenate(column, dtype=float) for column in zip(*parts, strict=True))
    table = pd.DataFrame(dict(zip(Summaries._fields, columns, strict=True)))
    table *= constant["trait_sd"].item()
    table["y_pred"] += constant["trait_mean"].item()
    table.insert(0, "id", new.ids)
    wrong = ~np.isfinite(table.drop(columns="id").to_numpy()).all(axis=1)
    if wrong.any():
        advice = "check the units of the omics"
        if activation is not ACTIVATIONS.get(activation.name):
            advice += ", or guard the function, for instance with jnp.maximum"
        raise InputError(
            f"activation {activation.name}: expected finite predictions, found others for "
            f"{shortlist(new.ids[wrong])}; {advice}"
        )
    return table
