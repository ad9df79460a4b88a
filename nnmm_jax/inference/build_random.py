"""Arrays of random terms with a sparse precision: groups, and pedigrees with all their animals."""

from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np
import pandas as pd

from nnmm_jax.data.align import Dataset
from nnmm_jax.errors import InputError, shortlist
from nnmm_jax.inference.arrays import FixedDesign, RandomArrays
from nnmm_jax.inference.hyper import Responses, effect_hyper
from nnmm_jax.network.terms import Group, RandomTerm


@dataclass(frozen=True, eq=False)
class Layer:
    """What the terms of one layer have in common.

    Attributes
    ----------
    place : str
        ``marker`` (layer 1 -> 2) or ``skip`` (2 -> 3): first part of the names of marker terms.
    block : str
        Name of the block of nodes, empty where there is one: second part of the names.
    records : (record,) int
        Which of all records of the data set have data, the layer's records.
    owner : (all records,) int
        Individual of each.
    needed : (all records,) bool
        Records where a random term's level must be known.
    covariates : DataFrame
        Of all records.
    root : (record,) or None
        Square roots of known residual weights.
    design : FixedDesign
    responses : Responses
    omics_columns : tuple of int or None
        Columns of the data set's omics which the responses are; ``None`` where one is not.
    connected : (marker, response) bool or None
        Which markers may act on which response; ``None``: all.
    """

    place: str
    block: str
    records: np.ndarray
    owner: np.ndarray
    needed: np.ndarray
    covariates: pd.DataFrame
    root: np.ndarray | None
    design: FixedDesign
    responses: Responses
    omics_columns: tuple[int, ...] | None
    connected: np.ndarray | None = None

    def label(self, *parts: str) -> str:
        """End of a name: the block and what else it is about."""
        return "_".join(part for part in (self.block, *parts) if part)

    def site(self, *parts: str) -> str:
        """Name of a site in the joint density."""
        return "_".join(part for part in (self.place, self.block, *parts) if part)

    @property
    def rows(self) -> np.ndarray:
        """Individual (record,) of each of the layer's records."""
        return np.asarray(self.owner[self.records])


def pedigree_term(
    dataset: Dataset, layer: Layer, term: RandomTerm, share: float, name: str
) -> RandomArrays:
    """Effects of all animals of the pedigree, by the factors of A-inverse."""
    pedigree, rows = dataset.pedigree, dataset.pedigree_rows
    assert pedigree is not None
    assert rows is not None
    dtype, m = jnp.result_type(float), len(pedigree.ids)
    full = pedigree.mendelian <= 0
    if full.any():
        raise InputError(
            f"Pedigree(): expected animals that vary given their parents, found none of it for "
            f"{shortlist(pedigree.ids[full])} (fully inbred parents); use Pedigree(solver='eigen')"
        )
    diagonal = float(np.mean(1.0 + pedigree.inbreeding[rows[layer.rows]]))
    inverse = 1.0 / pedigree.mendelian
    quarter = np.zeros(m + 1)
    for parent in (pedigree.sire, pedigree.dam):
        np.add.at(quarter, np.where(parent < 0, m, parent), 0.25 * inverse)
    selfed = (pedigree.sire == pedigree.dam) & (pedigree.sire >= 0)
    np.add.at(quarter, pedigree.sire[selfed], 0.5 * inverse[selfed])
    return RandomArrays(
        level=jnp.asarray(rows[layer.rows]),
        everyone=jnp.asarray(rows),
        owner=jnp.arange(len(rows)),
        part=jnp.ones(len(rows), dtype),
        sire=jnp.asarray(np.where(pedigree.sire < 0, m, pedigree.sire)),
        dam=jnp.asarray(np.where(pedigree.dam < 0, m, pedigree.dam)),
        root_precision=jnp.asarray(np.sqrt(inverse), dtype),
        diagonal=jnp.asarray(inverse + quarter[:m], dtype),
        hyper=effect_hyper(term, layer.responses, share, diagonal),
        name=name,
        label=layer.label(term.label),
        genetic=True,
    )


def group_term(
    dataset: Dataset, layer: Layer, term: Group, share: float, name: str
) -> RandomArrays:
    """Independent effects of the levels of a column."""
    everyone = _levels(dataset, layer, term)
    m, dtype = int(everyone.max()) + 1, jnp.result_type(float)
    return RandomArrays(
        level=jnp.asarray(everyone[layer.records]),
        everyone=jnp.asarray(everyone),
        owner=jnp.asarray(layer.owner),
        part=jnp.asarray(1.0 / np.bincount(layer.owner)[layer.owner], dtype),
        sire=None,
        dam=None,
        root_precision=jnp.ones(m, dtype),
        diagonal=jnp.ones(m, dtype),
        hyper=effect_hyper(term, layer.responses, share, 1.0),
        name=name,
        label=layer.label(term.label),
        genetic=False,
    )


def _levels(dataset: Dataset, layer: Layer, term: Group) -> np.ndarray:
    """Level of each of all records; those without data and without one get one of their own.

    Levels that only records without data have are drawn from the prior: predictions then hold
    their uncertainty.
    """
    varying = dataset.varying_columns
    if layer.place == "marker" and term.column in varying:
        raise InputError(
            f"Group({term.column!r}) of the omics: expected one value for each individual, found "
            f"different ones among the records of {varying[term.column]!r}; leave it out here, or "
            "make it constant within an individual"
        )
    if term.column == "id" and "id" not in layer.covariates.columns:
        values = pd.Series(dataset.ids[layer.owner])
    elif term.column in layer.covariates.columns:
        values = layer.covariates[term.column].reset_index(drop=True)
    else:
        raise InputError(
            f"Group({term.column!r}): expected a column of the phenotype table with one value "
            f"for each record, found {shortlist(list(layer.covariates.columns))}"
        )
    missing = values.isna().to_numpy()
    wrong = missing & layer.needed
    if wrong.any():
        ids = dataset.ids[layer.owner[wrong]]
        raise InputError(
            f"Group({term.column!r}): expected a value for every record with data, found none "
            f"for {shortlist(ids)}; fill it in or remove the records"
        )
    codes, levels = pd.factorize(values)
    codes = np.asarray(codes, dtype=int)
    codes[missing] = len(levels) + np.arange(missing.sum())
    return codes
