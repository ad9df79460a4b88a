"""The joined data that a model is fitted to."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd

from nnmm_jax.data.checks import check_omics, check_phenotype, checked_mask
from nnmm_jax.data.connections import Connections
from nnmm_jax.data.groups import MarkerGroups
from nnmm_jax.data.pedigree import Pedigree
from nnmm_jax.data.records import by_individual
from nnmm_jax.data.report import JoinReport


@dataclass(frozen=True, eq=False)
class Dataset:
    """The three layers, row-aligned, with what is known of the individuals' relationships.

    Individuals are all genotyped ones, in the order of the genotypes; without genotypes those of
    the pedigree or of the first relationship matrix. A record is a row of the phenotype table;
    an individual without a row has one empty record. Records are in the order of the individuals,
    so that without repeated records they are the individuals.

    Attributes
    ----------
    ids
        (individual,) text.
    markers
        (marker,) text; markers that vary, none without genotypes.
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
        (record,) float64 in the user's units, NaN for missing.
    covariates
        The other columns of the phenotype table but weights, one row per record with the
        individual's id in the index; missing where the individual is not in that table. Integers
        are nullable.
    record_rows
        (record,) int64 row of each record's individual, ascending.
    report
        How many individuals were joined, what was dropped and why.
    weights
        (record,) float64 residual weights v of the trait, its residual variance being σ² / v; 1
        where the trait is missing and no weight is given. None for 1 throughout.
    omics_weights
        (individual,) float64, the same for all omics of an individual.
    pedigree
        Animals, among them all individuals.
    pedigree_rows
        (individual,) int64 rows of the individuals in the pedigree, None without one.
    relationships
        (individual, individual) float64 matrices by name.
    marker_groups
        Group of every marker.
    connections
        Which markers each node sees; None: every node sees all.
    """

    ids: np.ndarray
    markers: np.ndarray
    omics_names: np.ndarray
    trait: str
    genotypes: np.ndarray
    omics: np.ndarray
    phenotype: np.ndarray
    covariates: pd.DataFrame
    record_rows: np.ndarray
    report: JoinReport
    weights: np.ndarray | None = None
    omics_weights: np.ndarray | None = None
    pedigree: Pedigree | None = None
    pedigree_rows: np.ndarray | None = None
    relationships: Mapping[str, np.ndarray] = field(default_factory=dict)
    marker_groups: MarkerGroups | None = None
    connections: Connections | None = None

    @property
    def individual_covariates(self) -> pd.DataFrame:
        """Covariates with one row per individual, for the omics.

        The first value of an individual's records that is not missing. Columns that differ between
        the records of an individual are left out, see :attr:`varying_columns`.
        """
        return by_individual(self.covariates, self.record_rows)[0]

    @property
    def varying_columns(self) -> dict[str, str]:
        """Covariates that differ between the records of an individual, with the first such id."""
        return by_individual(self.covariates, self.record_rows)[1]

    def mask(
        self, *, phenotype: np.ndarray | None = None, omics: np.ndarray | None = None
    ) -> "Dataset":
        """Copy in which the chosen cells are missing, as for cross-validation.

        Parameters
        ----------
        phenotype
            (individual,) or (record,) bool, True where the phenotype is to be hidden; the first
            hides all records of an individual.
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
        >>> import pandas as pd
        >>> from nnmm_jax.data import read_dataset
        >>> genotypes = pd.DataFrame({"id": list("abc"), "m": [0, 1, 2]})
        >>> phenotypes = pd.DataFrame({"id": list("abcc"), "y": [1.0, 2.0, 4.0, 5.0]})
        >>> dataset = read_dataset(genotypes, None, phenotypes, "y")
        >>> dataset.mask(phenotype=dataset.ids == "c").phenotype
        array([ 1.,  2., nan, nan])
        """
        hidden_y, hidden_omics = self.phenotype, self.omics
        if phenotype is not None:
            # The same shape twice is one: then each individual has one record.
            shapes = list(dict.fromkeys([self.ids.shape, self.phenotype.shape]))
            hide = checked_mask("phenotype", phenotype, shapes)
            hide = hide[self.record_rows] if hide.shape == self.ids.shape else hide
            hidden_y = np.where(hide, np.nan, self.phenotype)
            check_phenotype(hidden_y, self.trait, "phenotypes after masking")
        if omics is not None:
            hide = checked_mask("omics", omics, [self.ids.shape, self.omics.shape])
            hide = hide[:, None] if hide.ndim == 1 else hide
            hidden_omics = np.where(hide, np.nan, self.omics)
            check_omics(hidden_omics, self.omics_names, "omics after masking")
        counted = self.report.recounted(hidden_omics, hidden_y, self.record_rows)
        return replace(self, omics=hidden_omics, phenotype=hidden_y, report=counted)
