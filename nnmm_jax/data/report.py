"""What a join of genotypes, omics and phenotypes kept, dropped and found missing."""

from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from nnmm_jax.errors import shortlist


@dataclass(frozen=True)
class Dropped:
    """Rows that were left out.

    Attributes
    ----------
    rows
        How many.
    first_ids
        The first five of their ids.
    reason
        Why they were left out.
    """

    rows: int
    first_ids: tuple[str, ...]
    reason: str = "not genotyped"


@dataclass(frozen=True)
class JoinReport:
    """Counts of a join; individuals are the genotyped ones.

    Attributes
    ----------
    trait
        The output trait.
    genotyped
        Individuals analysed.
    markers
        Markers that vary, the ones analysed.
    constant_markers, unobserved_markers
        Markers dropped: all their observed dosages equal, or none observed.
    missing_genotypes
        Missing cells of the analysed markers, to be replaced by the marker's mean.
    dropped_omics, dropped_phenotypes
        Rows of these tables whose id is not genotyped.
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

    @property
    def missing_genotypes_share(self) -> float:
        """Share of the analysed genotype cells that is missing, 0..1."""
        return self.missing_genotypes / (self.genotyped * self.markers)

    @property
    def missing_omics_share(self) -> float:
        """Share of the omics cells that is missing, 0..1; 0 without omics."""
        return self.missing_omics / max(1, self.genotyped * self.omics_columns)

    def recounted(self, omics: np.ndarray, phenotype: np.ndarray) -> "JoinReport":
        """The report with the counts of observed omics and phenotypes taken anew.

        Parameters
        ----------
        omics
            (individual, node), NaN for missing.
        phenotype
            (individual,), NaN for missing.

        Returns
        -------
        JoinReport
            All else unchanged.

        Examples
        --------
        >>> import numpy as np
        >>> report = JoinReport("y", 2, 5, 0, 0, 0, Dropped(0, ()), Dropped(0, ()))
        >>> report.recounted(np.array([[1.0], [np.nan]]), np.array([np.nan, np.nan])).candidates
        1
        """
        seen = ~np.isnan(omics)
        some, phenotyped = seen.any(axis=1), ~np.isnan(phenotype)
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
            f"individuals genotyped: {self.genotyped} (all are analysed)",
            f"  with omics: {self.omics_complete} complete, {self.omics_partial} partial, "
            f"{self.omics_none} none",
            f"  with phenotype '{self.trait}': {self.phenotyped}; with omics too: "
            f"{self.omics_and_phenotype}",
            f"  candidates with neither: {self.candidates}",
            f"markers: {self.markers}; dropped: {self.constant_markers} constant, "
            f"{self.unobserved_markers} without data",
            f"genotype cells missing, replaced by the marker's mean: {self.missing_genotypes} "
            f"({self.missing_genotypes_share:.2%})",
            f"omics: {self.omics_columns} columns; cells missing: {self.missing_omics} "
            f"({self.missing_omics_share:.2%})",
        ]
        for table, dropped in (
            ("omics", self.dropped_omics),
            ("phenotypes", self.dropped_phenotypes),
        ):
            if dropped.rows:
                more = ", ..." if dropped.rows > len(dropped.first_ids) else ""
                lines.append(
                    f"rows of {table} dropped, {dropped.reason}: {dropped.rows} "
                    f"({shortlist(dropped.first_ids)}{more})"
                )
        return lines

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
        return counts | {
            "missing_genotypes_share": self.missing_genotypes_share,
            "missing_omics_share": self.missing_omics_share,
        }
