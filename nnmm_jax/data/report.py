"""What a join of genotypes, omics and phenotypes kept, dropped and found missing."""

from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from nnmm_jax.data.genotypes import MarkerCoding
from nnmm_jax.data.quality import QualityCount
from nnmm_jax.data.reconcile import Reconciliation
from nnmm_jax.errors import shortlist

# Ids of dropped rows that a report names.
FIRST_IDS = 5


@dataclass(frozen=True)
class Dropped:
    """Rows that were left out.

    Attributes
    ----------
    rows
        How many.
    first_ids
        The first of their ids, at most :data:`FIRST_IDS`, each once.
    reason
        Why they were left out.
    """

    rows: int
    first_ids: tuple[str, ...]
    reason: str = "not genotyped"


@dataclass(frozen=True)
class PedigreeCounts:
    """What a pedigree holds.

    Attributes
    ----------
    animals, founders
        All, and those without known parents.
    added
        Founders that occur as parents only.
    both_sexes
        Animals used both as a sire and as a dam.
    inbred
        Animals with an inbreeding coefficient above 0.
    mean_inbreeding
        Over all animals.
    """

    animals: int
    founders: int
    added: int
    both_sexes: int
    inbred: int
    mean_inbreeding: float


@dataclass(frozen=True)
class JoinReport:
    """Counts of a join; individuals are the genotyped ones, if there are genotypes.

    Attributes
    ----------
    trait
        The output trait.
    genotyped
        Individuals analysed: the genotyped ones, or without genotypes those of `individuals_from`.
    markers
        Markers that vary, the ones analysed.
    constant_markers, unobserved_markers
        Markers dropped: all their observed dosages equal, or none observed.
    missing_genotypes
        Missing cells of the analysed markers, which are replaced.
    genotypes_drawn_seed
        Seed of the draws from the marker's observed dosages that replace them; None where the mean
        of the marker does.
    coding
        How alleles of the analysed markers are counted.
    dropped_omics, dropped_phenotypes
        Rows of these tables whose id is not among the individuals.
    omics_columns
        Observed nodes.
    omics_complete, omics_partial, omics_none
        Individuals with all, some or none of the omics observed.
    missing_omics
        Missing cells of the omics, individuals without omics included.
    phenotyped
        Individuals with an observed trait.
    omics_and_phenotype
        Individuals with an observed trait and at least one of the omics.
    candidates
        Individuals with neither.
    records, repeatedly_phenotyped
        Observed values of the trait, and individuals with more than one of them.
    individuals_from
        What lists the individuals: ``genotypes``, ``pedigree`` or ``relationship 'name'``.
    pedigree
        Counts of the pedigree, if there is one.
    connections, connected_nodes
        Pairs of an analysed marker and a node that sees it, and nodes that see any; None where
        nothing is said of connections and every node sees all markers.
    quality
        What each rule of quality control left out; empty without rules.
    ids
        Ids of all tables side by side.
    """

    trait: str
    genotyped: int
    markers: int
    constant_markers: int
    unobserved_markers: int
    missing_genotypes: int
    dropped_omics: Dropped
    dropped_phenotypes: Dropped
    omics_columns: int = 0
    omics_complete: int = 0
    omics_partial: int = 0
    omics_none: int = 0
    missing_omics: int = 0
    phenotyped: int = 0
    omics_and_phenotype: int = 0
    candidates: int = 0
    records: int = 0
    repeatedly_phenotyped: int = 0
    genotypes_drawn_seed: int | None = None
    coding: MarkerCoding = MarkerCoding()
    individuals_from: str = "genotypes"
    pedigree: PedigreeCounts | None = None
    connections: int | None = None
    connected_nodes: int | None = None
    quality: tuple[QualityCount, ...] = ()
    ids: Reconciliation | None = None

    @property
    def missing_genotypes_share(self) -> float:
        """Share of the analysed genotype cells that is missing, 0..1; 0 without genotypes."""
        return self.missing_genotypes / max(1, self.genotyped * self.markers)

    @property
    def missing_omics_share(self) -> float:
        """Share of the omics cells that is missing, 0..1; 0 without omics."""
        return self.missing_omics / max(1, self.genotyped * self.omics_columns)

    def recounted(
        self, omics: np.ndarray, phenotype: np.ndarray, record_rows: np.ndarray
    ) -> "JoinReport":
        """The report with the counts of observed omics and phenotypes taken anew.

        Parameters
        ----------
        omics
            (individual, node), NaN for missing.
        phenotype
            (record,), NaN for missing.
        record_rows
            (record,) individual of each record.

        Returns
        -------
        JoinReport
            All else unchanged.

        Examples
        --------
        >>> import numpy as np
        >>> report = JoinReport("y", 2, 5, 0, 0, 0, Dropped(0, ()), Dropped(0, ()))
        >>> omics, phenotype = np.array([[np.nan], [np.nan]]), np.array([1.0, 2.0, np.nan])
        >>> report = report.recounted(omics, phenotype, np.array([0, 0, 1]))
        >>> report.candidates, report.records, report.repeatedly_phenotyped
        (1, 2, 1)
        """
        seen = ~np.isnan(omics)
        times = np.bincount(record_rows[~np.isnan(phenotype)], minlength=len(omics))
        some, phenotyped = seen.any(axis=1), times > 0
        complete = some & seen.all(axis=1)
        return replace(
            self,
            omics_columns=omics.shape[1],
            omics_complete=int(complete.sum()),
            omics_partial=int((some & ~complete).sum()),
            omics_none=int((~some).sum()),
            missing_omics=int((~seen).sum()),
            phenotyped=int(phenotyped.sum()),
            omics_and_phenotype=int((phenotyped & some).sum()),
            candidates=int((~phenotyped & ~some).sum()),
            records=int(times.sum()),
            repeatedly_phenotyped=int((times > 1).sum()),
        )

    def lines(self) -> list[str]:
        """The report for people.

        Returns
        -------
        list of str
            One statement a line.

        Examples
        --------
        >>> JoinReport("y", 2, 5, 1, 0, 0, Dropped(0, ()), Dropped(1, ("x",))).lines()[0]
        'individuals genotyped: 2 (all are analysed)'
        """
        lines = [
            f"individuals genotyped: {self.genotyped} (all are analysed)"
            if self.markers
            else f"individuals, those of the {self.individuals_from}: {self.genotyped}",
            f"  with omics: {self.omics_complete} complete, {self.omics_partial} partial, "
            f"{self.omics_none} none",
            f"  with phenotype '{self.trait}': {self.phenotyped}; with omics too: "
            f"{self.omics_and_phenotype}",
        ]
        if self.repeatedly_phenotyped:
            lines.append(
                f"  records of '{self.trait}': {self.records}; individuals with more than one: "
                f"{self.repeatedly_phenotyped}"
            )
        lines.append(f"  candidates with neither: {self.candidates}")
        if self.pedigree is not None:
            lines.extend(_pedigree_lines(self.pedigree))
        if self.markers:
            replacement = "the marker's mean"
            if self.genotypes_drawn_seed is not None:
                replacement = "draws from the marker's observed dosages"
            lines += [
                f"markers: {self.markers}; dropped: {self.constant_markers} constant, "
                f"{self.unobserved_markers} without data",
                f"genotype cells missing, replaced by {replacement}: "
                f"{self.missing_genotypes} ({self.missing_genotypes_share:.2%})",
                f"markers that count the more frequent allele: {self.coding.major}; where nobody "
                f"has two copies: {self.coding.without_two}, nobody none: "
                f"{self.coding.without_zero}",
            ]
        if self.quality:
            lines += ["left out by quality control:", *(f"  {one.line()}" for one in self.quality)]
        lines.append(
            f"omics: {self.omics_columns} columns; cells missing: {self.missing_omics} "
            f"({self.missing_omics_share:.2%})"
        )
        if self.connections is not None:
            lines.append(
                f"connections: {self.connections} of a marker and a node; nodes with any: "
                f"{self.connected_nodes}"
            )
        for table, dropped in (
            ("omics", self.dropped_omics),
            ("phenotypes", self.dropped_phenotypes),
        ):
            if dropped.rows:
                more = ", ..." if dropped.rows > len(dropped.first_ids) == FIRST_IDS else ""
                lines.append(
                    f"rows of {table} dropped, {dropped.reason}: {dropped.rows} "
                    f"({shortlist(dropped.first_ids)}{more})"
                )
        return lines if self.ids is None else [*lines, *self.ids.notes]

    def to_dict(self) -> dict[str, Any]:
        """The report for ``run.json``.

        Returns
        -------
        dict
            Attributes and shares; plain numbers, text, lists and dicts.

        Examples
        --------
        >>> JoinReport("y", 2, 5, 1, 0, 1, Dropped(0, ()), Dropped(0, ())).to_dict()[
        ...     "missing_genotypes_share"
        ... ]
        0.1
        """
        counts = asdict(self)
        for key in ("dropped_omics", "dropped_phenotypes"):
            counts[key]["first_ids"] = list(counts[key]["first_ids"])
        counts["ids"] = None if self.ids is None else self.ids.to_dict()
        counts["quality"] = [one.to_dict() for one in self.quality]
        return counts | {
            "missing_genotypes_share": self.missing_genotypes_share,
            "missing_omics_share": self.missing_omics_share,
        }


def _pedigree_lines(counts: PedigreeCounts) -> list[str]:
    lines = [
        f"pedigree: {counts.animals} animals, {counts.founders} without known parents "
        f"({counts.added} of these listed as parents only)",
        f"  inbred: {counts.inbred}; mean inbreeding of all: {counts.mean_inbreeding:.4f}",
    ]
    if counts.both_sexes:
        lines.append(f"  both sire and dam: {counts.both_sexes}")
    return lines
