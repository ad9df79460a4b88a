"""A data set of which only the sizes are known: for plans, and to try how long a fit takes."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from nnmm_jax.data.dataset import Dataset
from nnmm_jax.data.report import Dropped, JoinReport
from nnmm_jax.errors import InputError


@dataclass(frozen=True)
class Sizes:
    """Sizes of a data set with one record for each individual.

    Attributes
    ----------
    individuals, markers, omics : int
        There may be no markers or no omics.
    without_omics, without_phenotype : float
        Shares of the individuals without any omics, and without phenotype.

    Raises
    ------
    InputError
        If a count is too small or a share leaves fewer than two individuals with data.

    Examples
    --------
    >>> from nnmm_jax.data.sizes import Sizes
    >>> Sizes(20_000, 50_000, 20).dataset().genotypes.shape
    (20000, 50000)
    """

    individuals: int
    markers: int
    omics: int = 0
    without_omics: float = 0.3
    without_phenotype: float = 0.2

    def __post_init__(self) -> None:
        """Check the numbers."""
        for name, least in (("individuals", 2), ("markers", 0), ("omics", 0)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise InputError(
                    f"{name}: expected a whole number of at least {least}, found {value!r}"
                )
        for name in ("without_omics", "without_phenotype"):
            share = getattr(self, name)
            if not 0 <= share < 1 or round(self.individuals * (1 - share)) < 2:
                raise InputError(
                    f"{name}: expected a share from 0 to 1 that leaves two individuals, found "
                    f"{share!r}"
                )

    def dataset(self, *, filled: bool = False) -> Dataset:
        """A data set of these sizes; omics and phenotypes are noise.

        Parameters
        ----------
        filled : bool
            Whether genotypes are random counts; otherwise they are one number seen as many, which
            takes no memory and cannot be fitted.
        """
        random, n = np.random.default_rng(0), self.individuals
        genotypes = np.broadcast_to(np.int8(0), (n, self.markers))
        if filled:
            genotypes = random.integers(0, 3, (n, self.markers), np.int8)
        omics, phenotype = random.standard_normal((n, self.omics)), random.standard_normal(n)
        omics[random.permutation(n)[: round(n * self.without_omics)]] = np.nan
        phenotype[random.permutation(n)[: round(n * self.without_phenotype)]] = np.nan
        ids, rows = np.arange(n).astype(str), np.arange(n)
        nothing = Dropped(0, ())
        report = JoinReport("y", n, self.markers, 0, 0, 0, nothing, nothing)
        return Dataset(
            ids=ids,
            markers=np.arange(self.markers).astype(str),
            omics_names=np.array([f"omics{one + 1}" for one in range(self.omics)], dtype=str),
            trait="y",
            genotypes=genotypes,
            omics=omics,
            phenotype=phenotype,
            covariates=pd.DataFrame(index=pd.Index(ids, name="id")),
            record_rows=rows,
            report=report.recounted(omics, phenotype, rows),
        )
