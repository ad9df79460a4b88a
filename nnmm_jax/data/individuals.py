"""Who is analysed, and what ties them: genotypes, pedigree, relationship matrices."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from nnmm_jax.data.checks import check_known
from nnmm_jax.data.genotype_files import GenotypeSource, read_dosages
from nnmm_jax.data.genotypes import Genotypes, genotypes_of
from nnmm_jax.data.pedigree import Pedigree, read_pedigree
from nnmm_jax.data.quality import QualityControl
from nnmm_jax.data.relationships import Relationship, read_relationship
from nnmm_jax.data.report import PedigreeCounts
from nnmm_jax.data.tables import Source, label
from nnmm_jax.errors import InputError


@dataclass(frozen=True, eq=False)
class Individuals:
    """The individuals analysed.

    Attributes
    ----------
    genotypes
        Their dosages; no markers when there are no genotypes.
    origin
        What lists them: ``genotypes``, ``pedigree`` or ``relationship 'name'``.
    pedigree
        The pedigree, if given.
    pedigree_rows
        (individual,) rows in the pedigree, if given.
    relationships
        (individual, individual) matrices by name.
    """

    genotypes: Genotypes
    origin: str
    pedigree: Pedigree | None
    pedigree_rows: np.ndarray | None
    relationships: dict[str, np.ndarray]

    @property
    def ids(self) -> pd.Index:
        """(individual,) text."""
        return pd.Index(self.genotypes.ids, dtype=object)

    @property
    def described(self) -> str:
        """What they are, for messages."""
        genotyped = self.origin == "genotypes"
        return "genotyped individuals" if genotyped else f"individuals of the {self.origin}"

    @property
    def reason_for_dropping(self) -> str:
        """Why others are left out, for the report."""
        if self.genotypes.failed_ids:
            return "not genotyped or dropped by quality control"
        return "not genotyped" if self.origin == "genotypes" else f"not in the {self.origin}"

    @property
    def pedigree_counts(self) -> PedigreeCounts | None:
        """Counts of the pedigree, for the report."""
        if self.pedigree is None:
            return None
        return PedigreeCounts(
            animals=len(self.pedigree.ids),
            founders=self.pedigree.n_founders,
            added=self.pedigree.n_added,
            both_sexes=self.pedigree.n_both_sexes,
            inbred=int((self.pedigree.inbreeding > 0).sum()),
            mean_inbreeding=float(self.pedigree.inbreeding.mean()),
        )


def read_individuals(
    genotypes: GenotypeSource | None,
    pedigree: Source | Pedigree | None,
    relationships: Mapping[str, Source | Relationship],
    id_column: str | None,
    *,
    quality: QualityControl | None = None,
    progress: bool = False,
) -> Individuals:
    """Read genotypes, pedigree and relationship matrices, for :func:`read_dataset`.

    Parameters
    ----------
    genotypes, pedigree, relationships
        As for :func:`nnmm_jax.data.read_dataset`.
    id_column
        Name of the id column of the genotypes.
    quality
        Rules for genotypes.
    progress
        Whether to show a bar while large genotypes are read.

    Returns
    -------
    Individuals
        The genotyped ones, else the animals of the pedigree, else the ids of the first matrix.

    Raises
    ------
    InputError
        A table cannot be used; none is given; an individual is not in the pedigree or not in a
        matrix.

    Examples
    --------
    >>> import pandas as pd
    >>> pedigree = pd.DataFrame({"id": ["a"], "sire": ["s"], "dam": [None]})
    >>> people = read_individuals(None, pedigree, {}, None)
    >>> people.ids.tolist(), people.described
    (['s', 'a'], 'individuals of the pedigree')
    """
    if pedigree is not None and not isinstance(pedigree, Pedigree):
        pedigree = read_pedigree(pedigree)
    matrices = {
        name: replace(given, name=name)
        if isinstance(given, Relationship)
        else read_relationship(given, name=name)
        for name, given in relationships.items()
    }
    if genotypes is not None:
        origin = "genotypes"
        dosages = read_dosages(genotypes, id_column=id_column, progress=progress)
        coded = genotypes_of(dosages, label("genotypes", genotypes), quality)
    elif pedigree is not None:
        origin, coded = "pedigree", _no_genotypes(pedigree.ids)
    elif matrices:
        first = next(iter(matrices))
        origin, coded = f"relationship '{first}'", _no_genotypes(matrices[first].ids)
    else:
        raise InputError(
            "data: expected genotypes, a pedigree or a relationship matrix, found none of them; "
            "give at least one"
        )
    people = Individuals(coded, origin, pedigree, None, {})
    known = {} if pedigree is None else {"pedigree": pedigree.ids}
    known |= {f"relationship '{name}'": matrix.ids for name, matrix in matrices.items()}
    check_known(people.ids, people.described, known)
    return replace(
        people,
        pedigree_rows=None if pedigree is None else pedigree.rows(people.ids),
        relationships={name: matrix.among(people.ids) for name, matrix in matrices.items()},
    )


def _no_genotypes(ids: np.ndarray) -> Genotypes:
    return Genotypes(
        codes=np.empty((len(ids), 0), dtype=np.int8),
        ids=tuple(ids.tolist()),
        markers=(),
        n_missing=0,
        constant=(),
        unobserved=(),
    )
