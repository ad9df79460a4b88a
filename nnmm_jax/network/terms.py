"""Random terms of a layer: groups of individuals or records, pedigrees, relationship matrices."""

from dataclasses import dataclass
from typing import ClassVar, Literal

from nnmm_jax.errors import InputError
from nnmm_jax.network.priors import RRBLUP


@dataclass(frozen=True, kw_only=True)
class RandomTerm(RRBLUP):
    """Random effects ~ N(0, K variance), one variance per response.

    The prior of the variance is that of :class:`~nnmm_jax.RRBLUP`: ``df``, ``share`` or ``scale``,
    or a known ``variance``.
    """

    genetic: ClassVar[bool] = False

    @property
    def label(self) -> str:
        """Name of the term in what is reported."""
        raise NotImplementedError


@dataclass(frozen=True)
class Group(RandomTerm):
    """Independent effects of the levels of a column.

    Such as pens, herds or, for repeated records, the permanent environment of an individual.

    Attributes
    ----------
    column : str
        Column of the phenotype table; ``"id"`` for the individuals themselves.

    Examples
    --------
    >>> from nnmm_jax import Group
    >>> Group("pen", share=0.1).label
    'pen'
    """

    name: ClassVar[str] = "Group"

    column: str

    @property
    def label(self) -> str:
        """The column."""
        return self.column


@dataclass(frozen=True, kw_only=True)
class Pedigree(RandomTerm):
    """Additive genetic effects ~ N(0, A variance), A from the data set's pedigree.

    They count as breeding value.

    Attributes
    ----------
    solver : str
        ``"eigen"``: one joint draw through the eigenvectors of A among the individuals with
        records, ancestors integrated out. ``"cg"``: one joint draw of all animals (with all other
        groups and pedigrees of the layer) by a perturbed conjugate-gradient solve on A-inverse.
        ``"auto"``: eigen up to 2,000 individuals.

    Examples
    --------
    >>> from nnmm_jax import Pedigree
    >>> Pedigree(variance=20.0).label
    'pedigree'
    """

    name: ClassVar[str] = "Pedigree"
    genetic: ClassVar[bool] = True

    solver: Literal["auto", "eigen", "cg"] = "auto"

    def __post_init__(self) -> None:
        """Check the solver's name."""
        super().__post_init__()
        if self.solver not in ("auto", "eigen", "cg"):
            raise InputError(f"Pedigree: solver must be auto, eigen or cg, got {self.solver!r}")

    @property
    def label(self) -> str:
        """Always the same: a data set has one pedigree."""
        return "pedigree"


@dataclass(frozen=True)
class Relationship(RandomTerm):
    """Genetic effects ~ N(0, K variance), K a named relationship matrix of the data set.

    They count as breeding value.

    Attributes
    ----------
    matrix : str
        Name under which the matrix was given to ``read_dataset(relationships=...)``.

    Examples
    --------
    >>> from nnmm_jax import Relationship
    >>> Relationship("dominance", share=0.1).label
    'dominance'
    """

    name: ClassVar[str] = "Relationship"
    genetic: ClassVar[bool] = True

    matrix: str

    @property
    def label(self) -> str:
        """The matrix's name."""
        return self.matrix
