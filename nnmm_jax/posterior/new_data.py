"""Genotypes and omics of individuals that a fit has not seen, laid out as its markers and nodes."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from nnmm_jax.data.dosages import Dosages
from nnmm_jax.data.genotype_files import GenotypeSource, read_dosages
from nnmm_jax.data.tables import Source, label, numeric_values, read_table
from nnmm_jax.errors import InputError, shortlist
from nnmm_jax.posterior.result import FitResult


@dataclass(frozen=True, eq=False)
class NewData:
    """Individuals to predict.

    Attributes
    ----------
    ids : (individual,)
        Text.
    genotypes : (individual, marker)
        Dosages of the fit's markers in its order: int8 with -1 for missing when they are counts,
        else float32 with NaN for missing.
    omics : (individual, node)
        float64 in the user's units, NaN where missing; latent nodes are missing.
    notes : tuple of str
        What was used and what was not, a line each.
    """

    ids: np.ndarray
    genotypes: np.ndarray
    omics: np.ndarray
    notes: tuple[str, ...]


def read_new_data(
    result: FitResult,
    genotypes: GenotypeSource,
    omics: Source | None = None,
    *,
    id_column: str | None = None,
) -> NewData:
    """Read tables of new individuals, and arrange them as the markers and nodes of a fit.

    Parameters
    ----------
    result : FitResult
        Says which markers and nodes there are.
    genotypes, omics
        As for :func:`nnmm_jax.read_dataset`; all markers of the fit must be there.
    id_column
        Name of the id column in both.

    Returns
    -------
    NewData
        All individuals of the genotypes, in their order.

    Raises
    ------
    InputError
        A table cannot be used; markers of the fit lack; omics have a column that is not in the fit,
        or no id in common with the genotypes.
    """
    dosages = read_fit_markers(result, genotypes, id_column=id_column)
    ids, codes = np.asarray(dosages.ids, dtype=str), dosages.codes
    notes = [f"individuals to predict: {len(codes)}, with {codes.shape[1]} markers of the fit"]
    if dosages.n_ignored:
        notes.append(f"markers that the fit does not have, ignored: {dosages.n_ignored}")
    if dosages.n_missing:
        notes.append(f"missing genotypes, replaced by the mean of the fit: {dosages.n_missing}")
    nodes = result.constant_data["node"].values.astype(str)
    values = np.full((len(ids), len(nodes)), np.nan)
    if omics is not None:
        names = nodes[~result.latent.values]
        columns, found, note = _omics(names, omics, ids, id_column)
        values[:, [nodes.tolist().index(column) for column in columns]] = found
        notes.append(note)
    return NewData(ids, codes, values, tuple(notes))


def read_fit_markers(
    result: FitResult, source: GenotypeSource, *, id_column: str | None = None
) -> Dosages:
    """Read genotypes of any individuals, and arrange them as the markers of a fit.

    Parameters
    ----------
    result : FitResult
        Says which markers there are.
    source, id_column
        As for :func:`read_new_data`.

    Returns
    -------
    Dosages
        Of the fit's markers, in its order; places are those of these markers too.

    Raises
    ------
    InputError
        The genotypes cannot be read, or markers of the fit lack.
    """
    name = label("genotypes", source)
    markers = result.constant_data["marker"].values.astype(str)
    dosages = read_dosages(source, id_column=id_column, only=set(markers))
    columns = pd.Index(dosages.markers, dtype=object)
    at = columns.get_indexer(pd.Index(markers, dtype=object))
    if (at < 0).any():
        raise InputError(
            f"{name}: expected all {len(markers)} markers of the fit, found none of "
            f"{shortlist(markers[at < 0])}; add them, with empty cells where they were not "
            "genotyped"
        )
    ignored = len(columns) - len(markers) + dosages.n_ignored
    codes, places = dosages.codes, dosages.places
    if not np.array_equal(at, np.arange(len(columns))):  # taking columns copies the array
        codes = codes[:, at]
        places = None if places is None else places.iloc[at].reset_index(drop=True)
    return Dosages(codes, dosages.ids, tuple(markers.tolist()), places, ignored)


def _omics(
    names: np.ndarray, source: Source, ids: np.ndarray, id_column: str | None
) -> tuple[list[str], np.ndarray, str]:
    """Columns, their values (individual, column), and what to say of them."""
    name = label("omics", source)
    if not len(names):
        raise InputError(f"{name}: the fit has no omics; leave them out")
    table = read_table(source, what="omics", id_column=id_column)
    unknown = [column for column in table.columns if column not in set(names)]
    if unknown or not table.shape[1]:
        raise InputError(
            f"{name}: expected columns of the fit's omics ({shortlist(names)}), found "
            f"{shortlist(unknown)}; correct or remove the others"
        )
    rows = table.index.get_indexer(ids)
    if (rows < 0).all():
        raise InputError(
            f"{name}: expected ids that occur in the genotypes ({shortlist(ids, 3)}), found none "
            f"in common ({shortlist(table.index, 3)}); check the id columns"
        )
    values = numeric_values(table, name)[rows]
    values[rows < 0] = np.nan
    dropped = table.index[~table.index.isin(ids)]
    note = f"omics: {table.shape[1]} of {len(names)} columns, {int((rows >= 0).sum())} individuals"
    if len(dropped):
        note += f"; not genotyped, dropped: {len(dropped)} ({shortlist(dropped)})"
    return [str(column) for column in table.columns], values, note
