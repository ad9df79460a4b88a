"""Join genotypes, omics and phenotypes by id: the only place where ids become row numbers."""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from nnmm_jax.data.checks import (
    check_node_names,
    check_omics,
    check_phenotype,
    checked_weights,
    column_values,
)
from nnmm_jax.data.connections import Connections, read_connections
from nnmm_jax.data.dataset import Dataset
from nnmm_jax.data.genotype_files import GenotypeSource
from nnmm_jax.data.groups import MarkerGroups, read_marker_groups
from nnmm_jax.data.individuals import Individuals, read_individuals
from nnmm_jax.data.joining import check_common, join_report
from nnmm_jax.data.pedigree import Pedigree
from nnmm_jax.data.quality import QualityControl, QualityCount, counted, outlying
from nnmm_jax.data.records import at_rows, individual_values, records_of
from nnmm_jax.data.relationships import Relationship
from nnmm_jax.data.tables import Source, label, numeric_values, read_table


def read_dataset(
    genotypes: GenotypeSource | None,
    omics: Source | None,
    phenotypes: Source,
    trait: str,
    *,
    id_column: str | None = None,
    pedigree: Source | Pedigree | None = None,
    relationships: Mapping[str, Source | Relationship] | None = None,
    weights: str | None = None,
    omics_weights: str | None = None,
    marker_groups: Source | None = None,
    connections: Source | None = None,
    quality: QualityControl | None = None,
    progress: bool = True,
) -> Dataset:
    """Read the tables and join them by id.

    All genotyped individuals are kept, in the order of the genotypes, also those with neither
    omics nor phenotype (candidates). Rows of omics and phenotypes of others are dropped and
    reported, and so are constant markers. An individual may have several rows of phenotypes.

    Parameters
    ----------
    genotypes
        Dosages 0..2 of markers; a file of PLINK, VCF, zarr or a table, or an object in memory, see
        :func:`nnmm_jax.data.read_dosages`. None if there is a pedigree or a relationship matrix:
        the individuals are then all animals of the pedigree, else the ids of the first matrix.
    omics
        Middle-layer measurements, one column per node, any cell may be missing; a file or a table,
        see :func:`nnmm_jax.data.read_table`. None when the middle layer is wholly latent.
    phenotypes
        The trait and whatever fixed effects and covariates the formulas use; any cell may be
        missing.
    trait
        Column of `phenotypes` to predict.
    id_column
        Name of the id column in all three; default the first column.
    pedigree
        Animal, sire and dam, see :func:`nnmm_jax.data.read_pedigree`; must hold every individual.
    relationships
        Relationship matrices by name, see :func:`nnmm_jax.data.read_relationship`, which also
        takes the inverse of one; each must hold every individual.
    weights
        Column of `phenotypes` with residual weights v, the residual variance being σ² / v: for
        means of records, their number.
    omics_weights
        The same for the omics, one value per individual.
    marker_groups
        Columns marker, group and optionally node, see :func:`nnmm_jax.data.read_marker_groups`.
    connections
        Columns marker and node, which markers each node sees, see
        :func:`nnmm_jax.data.read_connections` and :func:`nnmm_jax.cis_connections`; default all.
    quality
        What to leave out before the fit, counted in the report; default nothing but constant
        markers.
    progress
        Whether to show a bar on standard error while large genotypes are read.

    Returns
    -------
    Dataset
        Aligned arrays and the report of the join.

    Raises
    ------
    InputError
        A table cannot be used (see the functions that read them); no ids in common; an unknown
        trait, or one that is not numeric, not observed or constant; a column of omics with the
        same defects or with the name of the trait; weights that are unknown, missing or not
        positive; an individual that the pedigree or a matrix lacks.

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
    table = read_table(phenotypes, what="phenotypes", id_column=id_column, repeated_ids=True)
    source = label("phenotypes", phenotypes)
    observed_trait = column_values(table, trait, "the trait", source)
    omics_table = None
    if omics is not None:
        omics_table = read_table(omics, what="omics", id_column=id_column)
        check_node_names(omics_table, trait, label("omics", omics))
    people = read_individuals(
        genotypes, pedigree, relationships or {}, id_column, quality=quality, progress=progress
    )
    check_common(people, table.index, source)
    rows, record_rows = records_of(people.ids, table.index)
    phenotype = _take(observed_trait, rows)
    check_phenotype(phenotype, trait, f"{source}, {people.described}")
    names, values, of_omics = _joined_omics(omics_table, people, label("omics", omics), quality)
    connected = _connections(connections, people)
    used = [trait, *{column for column in (weights, omics_weights) if column is not None}]
    record_weights, row_weights = _weights(
        table.drop(columns=trait),
        rows,
        record_rows,
        phenotype,
        values,
        people,
        (weights, omics_weights),
        source,
    )
    return Dataset(
        ids=np.asarray(people.ids, dtype=str),
        markers=np.asarray(people.genotypes.markers, dtype=str),
        omics_names=names,
        trait=trait,
        genotypes=people.genotypes.codes,
        omics=values,
        phenotype=phenotype,
        covariates=at_rows(table.drop(columns=used), rows, people.ids[record_rows]),
        record_rows=record_rows,
        report=join_report(
            people, trait, omics_table, table, observed_trait, connected, of_omics
        ).recounted(values, phenotype, record_rows),
        weights=record_weights,
        omics_weights=row_weights,
        pedigree=people.pedigree,
        pedigree_rows=people.pedigree_rows,
        relationships=people.relationships,
        marker_groups=_groups(marker_groups, people, names),
        connections=connected,
    )


def _take(values: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """These rows of a numeric table, NaN where the row is -1."""
    taken = values[rows]
    taken[rows < 0] = np.nan
    return taken


def _joined_omics(
    table: pd.DataFrame | None, people: Individuals, source: str, quality: QualityControl | None
) -> tuple[np.ndarray, np.ndarray, tuple[QualityCount, ...]]:
    """Names of the nodes, (individual, node) measurements, and outliers among these."""
    if table is None:
        return np.empty(0, dtype=str), np.empty((len(people.ids), 0)), ()
    check_common(people, table.index, source)
    names = np.asarray(table.columns, dtype=str)
    values = _take(numeric_values(table, source), table.index.get_indexer(people.ids))
    counts: tuple[QualityCount, ...] = ()
    if quality is not None and (limit := quality.omics_outliers) is not None:
        counts = (_without_outliers(values, names, people, limit),)
    check_omics(values, names, f"{source}, {people.described}")
    return names, values, counts


def _without_outliers(
    values: np.ndarray, names: np.ndarray, people: Individuals, limit: float
) -> QualityCount:
    """Make outlying measurements missing, in place, and count them."""
    far = outlying(values, limit)
    values[far] = np.nan
    cells = [f"{names[column]} of {people.ids[row]}" for row, column in np.argwhere(far)]
    rule = f"more than {limit:g} standard deviations from the median, made missing"
    return counted("omics cells", rule, np.array(cells), np.ones(len(cells), dtype=bool))


def _weights(
    table: pd.DataFrame,
    rows: np.ndarray,
    record_rows: np.ndarray,
    phenotype: np.ndarray,
    omics: np.ndarray,
    people: Individuals,
    columns: tuple[str | None, str | None],
    source: str,
) -> tuple[np.ndarray | None, np.ndarray | None]:
    """Weights of the records and of the individuals' omics, from columns of the phenotypes."""
    of_records, of_omics = columns
    found: list[np.ndarray | None] = [None, None]
    if of_records is not None:
        values = _take(column_values(table, of_records, "the weights", source), rows)
        ids, needed = people.ids[record_rows], ~np.isnan(phenotype)
        found[0] = checked_weights(values, needed, ids, of_records, source)
    if of_omics is not None:
        values = _take(column_values(table, of_omics, "the weights of omics", source), rows)
        values = individual_values(values, record_rows, people.ids, of_omics, source)
        needed = ~np.isnan(omics).all(axis=1)
        found[1] = checked_weights(values, needed, people.ids, of_omics, source)
    return found[0], found[1]


def _groups(source: Source | None, people: Individuals, nodes: np.ndarray) -> MarkerGroups | None:
    if source is None:
        return None
    markers = people.genotypes
    return read_marker_groups(source, np.asarray(markers.markers), nodes, dropped=markers.dropped)


def _connections(source: Source | None, people: Individuals) -> Connections | None:
    if source is None:
        return None
    markers = people.genotypes
    return read_connections(source, np.asarray(markers.markers), dropped=markers.dropped)
