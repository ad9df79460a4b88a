"""Join genotypes, omics and phenotypes by id: the only place where ids become row numbers."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeAlias

import numpy as np
import pandas as pd

from nnmm_jax.data.checks import (
    check_node_names,
    check_omics,
    check_phenotype,
    checked_mask,
    trait_values,
)
from nnmm_jax.data.genotypes import Genotypes, genotypes_from_frame
from nnmm_jax.data.report import Dropped, JoinReport
from nnmm_jax.data.tables import numeric_values, read_table
from nnmm_jax.errors import InputError, shortlist

Source: TypeAlias = str | Path | pd.DataFrame


@dataclass(frozen=True, eq=False)
class Dataset:
    """The three layers, row-aligned: all genotyped individuals, in the order of the genotypes.

    Attributes
    ----------
    ids
        (individual,) text.
    markers
        (marker,) text; markers that vary.
    omics_names
        (node,) text; observed nodes of the middle layer, none of them without omics.
    trait
        Name of the output trait.
    genotypes
        (individual, marker) dosages 0..2, not centred: int8 with -1 for missing when they are
        counts, else float32 with NaN for missing.
    omics
        (individual, node) float64 in the user's units, NaN for missing.
    phenotype
        (individual,) float64 in the user's units, NaN for missing.
    covariates
        The other columns of the phenotype table, one row per individual with the id in the index;
        missing where the individual is not in that table. Integers are nullable.
    report
        How many individuals were joined, what was dropped and why.
    """

    ids: np.ndarray
    markers: np.ndarray
    omics_names: np.ndarray
    trait: str
    genotypes: np.ndarray
    omics: np.ndarray
    phenotype: np.ndarray
    covariates: pd.DataFrame
    report: JoinReport

    def mask(
        self, *, phenotype: np.ndarray | None = None, omics: np.ndarray | None = None
    ) -> "Dataset":
        """Copy in which the chosen cells are missing, as for cross-validation.

        Parameters
        ----------
        phenotype
            (individual,) bool, True where the phenotype is to be hidden.
        omics
            (individual,) or (individual, node) bool, True where omics are to be hidden; the first
            hides all omics of an individual.

        Returns
        -------
        Dataset
            Shares everything that was not masked; the report counts what is left.

        Raises
        ------
        InputError
            A mask is not bool or not of the right shape, or it leaves the trait or a column of
            omics without values or without variation.

        Examples
        --------
        >>> import numpy as np
        >>> import pandas as pd
        >>> genotypes = pd.DataFrame({"id": list("abc"), "m": [0, 1, 2]})
        >>> phenotypes = pd.DataFrame({"id": list("abc"), "y": [1.0, 2.0, 4.0]})
        >>> dataset = read_dataset(genotypes, None, phenotypes, "y")
        >>> dataset.mask(phenotype=dataset.ids == "c").phenotype
        array([ 1.,  2., nan])
        """
        hidden_y, hidden_omics = self.phenotype, self.omics
        if phenotype is not None:
            hide = checked_mask("phenotype", phenotype, [self.phenotype.shape])
            hidden_y = np.where(hide, np.nan, self.phenotype)
            check_phenotype(hidden_y, self.trait, "phenotypes after masking")
        if omics is not None:
            hide = checked_mask("omics", omics, [self.ids.shape, self.omics.shape])
            hide = hide[:, None] if hide.ndim == 1 else hide
            hidden_omics = np.where(hide, np.nan, self.omics)
            check_omics(hidden_omics, self.omics_names, "omics after masking")
        counted = self.report.recounted(hidden_omics, hidden_y)
        return replace(self, omics=hidden_omics, phenotype=hidden_y, report=counted)


def read_dataset(
    genotypes: Source,
    omics: Source | None,
    phenotypes: Source,
    trait: str,
    *,
    id_column: str | None = None,
) -> Dataset:
    """Read the three tables and join them by id.

    All genotyped individuals are kept, in the order of the genotypes, also those with neither
    omics nor phenotype (candidates). Rows of omics and phenotypes without genotypes are dropped
    and reported, and so are constant markers.

    Parameters
    ----------
    genotypes
        Dosages 0..2, one column per marker; a file or a table, see
        :func:`nnmm_jax.data.read_table`.
    omics
        Middle-layer measurements, one column per node, any cell may be missing; None when the
        middle layer is wholly latent.
    phenotypes
        The trait and whatever fixed effects and covariates the formulas use; any cell may be
        missing.
    trait
        Column of `phenotypes` to predict.
    id_column
        Name of the id column in all three; default the first column.

    Returns
    -------
    Dataset
        Aligned arrays and the report of the join.

    Raises
    ------
    InputError
        A table cannot be used (see :func:`nnmm_jax.data.read_table` and
        :func:`nnmm_jax.data.genotypes_from_frame`); no ids in common; an unknown trait, or one
        that is not numeric, not observed or constant; a column of omics with the same defects or
        with the name of the trait.

    Examples
    --------
    >>> import pandas as pd
    >>> genotypes = pd.DataFrame({"id": ["a", "b", "c"], "m": [0, 1, 2]})
    >>> omics = pd.DataFrame({"id": ["c", "a"], "gene": [3.0, 1.0]})
    >>> phenotypes = pd.DataFrame({"id": ["b", "a", "x"], "y": [2.0, 1.5, 0.0]})
    >>> dataset = read_dataset(genotypes, omics, phenotypes, "y")
    >>> dataset.omics.ravel(), dataset.phenotype, dataset.report.dropped_phenotypes.first_ids
    (array([ 1., nan,  3.]), array([1.5, 2. , nan]), ('x',))
    """
    phenotype_table = read_table(phenotypes, what="phenotypes", id_column=id_column)
    phenotype_source = _label("phenotypes", phenotypes)
    observed_trait = trait_values(phenotype_table, trait, phenotype_source)
    omics_table = None
    if omics is not None:
        omics_table = read_table(omics, what="omics", id_column=id_column)
        check_node_names(omics_table, trait, _label("omics", omics))
    markers = genotypes_from_frame(
        read_table(genotypes, what="genotypes", id_column=id_column, small_integers=True),
        _label("genotypes", genotypes),
    )
    ids = pd.Index(markers.ids, dtype=object)
    row = _rows(ids, phenotype_table.index, "genotypes", phenotype_source)
    phenotype = _take(observed_trait, row)
    check_phenotype(phenotype, trait, f"{phenotype_source}, genotyped individuals")
    covariates = _with_room_for_holes(phenotype_table.drop(columns=trait)).reindex(ids)
    covariates.index.name = "id"
    names, values, dropped_omics = np.empty(0, dtype=str), np.empty((len(ids), 0)), Dropped(0, ())
    if omics_table is not None:
        source = _label("omics", omics)
        row = _rows(ids, omics_table.index, "genotypes", source)
        names = np.asarray(omics_table.columns, dtype=str)
        values = _take(numeric_values(omics_table, source), row)
        check_omics(values, names, f"{source}, genotyped individuals")
        dropped_omics = _not_genotyped(omics_table.index, ids)
    return Dataset(
        ids=np.asarray(markers.ids, dtype=str),
        markers=np.asarray(markers.markers, dtype=str),
        omics_names=names,
        trait=trait,
        genotypes=markers.codes,
        omics=values,
        phenotype=phenotype,
        covariates=covariates,
        report=_report(
            markers, trait, dropped_omics, _not_genotyped(phenotype_table.index, ids)
        ).recounted(values, phenotype),
    )


def _label(what: str, source: Source | None) -> str:
    return f"{what} {source}" if isinstance(source, str | Path) else what


def _rows(ids: pd.Index, table_ids: pd.Index, first: str, second: str) -> np.ndarray:
    """(individual,) row of each individual in the other table, -1 where it has none."""
    row = table_ids.get_indexer(ids)
    if (row < 0).all():
        raise InputError(
            f"{second}: expected ids that occur in the {first} ({shortlist(ids, 3)}), found none "
            f"in common ({shortlist(table_ids, 3)}); check the id columns"
        )
    return np.asarray(row)


def _take(values: np.ndarray, row: np.ndarray) -> np.ndarray:
    """Rows in the order of the individuals, NaN where an individual has none."""
    taken = values[row]
    taken[row < 0] = np.nan
    return taken


def _with_room_for_holes(table: pd.DataFrame) -> pd.DataFrame:
    """Nullable integers and booleans, so that a row without data does not turn 1 into 1.0."""
    types = {"i": "Int64", "u": "UInt64", "b": "boolean"}
    return table.astype({c: types[t.kind] for c, t in table.dtypes.items() if t.kind in types})


def _not_genotyped(table_ids: pd.Index, ids: pd.Index) -> Dropped:
    absent = table_ids[~table_ids.isin(ids)]
    return Dropped(len(absent), tuple(absent[:5]))


def _report(
    markers: Genotypes, trait: str, dropped_omics: Dropped, dropped_phenotypes: Dropped
) -> JoinReport:
    """The part that masking does not change; :meth:`JoinReport.recounted` fills in the rest."""
    return JoinReport(
        trait=trait,
        genotyped=len(markers.ids),
        markers=len(markers.markers),
        constant_markers=len(markers.constant),
        unobserved_markers=len(markers.unobserved),
        missing_genotypes=markers.n_missing,
        dropped_omics=dropped_omics,
        dropped_phenotypes=dropped_phenotypes,
    )
