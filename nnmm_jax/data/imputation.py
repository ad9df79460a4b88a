"""Missing genotypes drawn at random, where the mean of the marker is not wanted."""

import numpy as np

from nnmm_jax.data.dosages import missing_cells, slices

# How missing genotypes are replaced.
WAYS = ("mean", "draw")


def draw_missing(codes: np.ndarray, seed: int) -> None:
    """Replace missing dosages by draws from the observed ones of the same marker, in place.

    Each marker keeps its allele frequency and, other than with its mean, its variance on average;
    neither relatives nor neighbouring markers are made use of. The draws are those of one completed
    data set: what they are uncertain of is in no posterior.

    Parameters
    ----------
    codes
        (individual, marker), as ``codes`` of :class:`nnmm_jax.Dosages`; every marker has an
        observed dosage.
    seed
        Of the draws. Those of a marker depend on its place among the markers only.

    Examples
    --------
    >>> codes = np.array([[0, 2], [-1, 2], [0, -1]], dtype=np.int8)
    >>> draw_missing(codes, seed=1)
    >>> codes
    array([[0, 2],
           [0, 2],
           [0, 2]], dtype=int8)
    """
    for part in slices(codes.shape[1]):
        block = codes[:, part]
        missing = missing_cells(block)
        for column in np.flatnonzero(missing.any(axis=0)):
            rng = np.random.default_rng((seed, part.start + column))
            lacks = missing[:, column]
            block[lacks, column] = rng.choice(block[~lacks, column], int(lacks.sum()))
