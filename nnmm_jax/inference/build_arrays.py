"""Lay genotypes and designs out for the sampler, on the host in double precision."""

import jax
import jax.numpy as jnp
import numpy as np
import scipy.linalg
from jax import Array, lax

from nnmm_jax.inference.arrays import MISSING_CODE, FixedDesign, MarkerMatrix, Spectrum
from nnmm_jax.inference.blocks.effects import GROUP

# Markers updated between two products with the residual: all if they are few, as then no product
# needs a copy of a part of the genotypes; otherwise so many that their cross-products stay near.
ONE_BLOCK, MARKER_BLOCK = 1024, 256
CENTRED_BYTES = 2**27  # genotypes are centred once for all if that takes at most this
RANK_TOLERANCE = 1e-9  # eigenvalues below this share of the largest count as zero
CHUNK = 1024  # markers decoded at a time


def marker_means(genotypes: np.ndarray) -> np.ndarray:
    """Mean dosage of each marker over its observed genotypes, (individual, marker) in."""
    if np.issubdtype(genotypes.dtype, np.integer):
        missing = genotypes == MISSING_CODE
        total = genotypes.sum(axis=0, dtype=np.int64) + missing.sum(axis=0)
        return total / (genotypes.shape[0] - missing.sum(axis=0))
    return np.asarray(np.nanmean(genotypes, axis=0, dtype=np.float64))


def decoded(genotypes: np.ndarray, means: np.ndarray) -> np.ndarray:
    """Centred dosages in double precision, missing ones 0."""
    missing = genotypes == MISSING_CODE if genotypes.dtype == np.int8 else np.isnan(genotypes)
    return np.asarray(np.where(missing, 0.0, genotypes - means))


def block_of(n_markers: int) -> int:
    """Size of the blocks of markers: blocks of like size, a multiple of what XLA's loop takes."""
    n_blocks = 1 if n_markers <= ONE_BLOCK else -(-n_markers // MARKER_BLOCK)
    return -(-n_markers // (n_blocks * GROUP)) * GROUP


def build_marker_matrix(
    genotypes: np.ndarray,
    means: np.ndarray,
    root: np.ndarray | None = None,
) -> MarkerMatrix:
    """Lay genotypes (individual, marker; int8 with -1 or float with NaN) out for the sampler.

    Where there is room they are centred here, which saves doing so in every sweep; otherwise
    counts stay int8.
    """
    dtype = jnp.result_type(float)
    n, p = genotypes.shape
    block_size = block_of(p)
    padding = -p % block_size
    counts = np.issubdtype(genotypes.dtype, np.integer)
    if counts and genotypes.size * np.dtype(dtype).itemsize > CENTRED_BYTES:
        codes = np.full((p + padding, n), MISSING_CODE, np.int8)
        codes[:p] = genotypes.T
    else:
        codes = np.zeros((p + padding, n), dtype)
        codes[:p] = decoded(genotypes, means).T
    return MarkerMatrix(
        jnp.asarray(codes),
        jnp.asarray(np.pad(means, (0, padding)), dtype),
        None if root is None else jnp.asarray(root, dtype),
        p,
        block_size,
    )


@jax.jit
def build_grams(markers: MarkerMatrix, loadings: Array) -> Array:
    """Cross-products (block, marker, marker) of what the fixed design leaves of the markers."""
    size = markers.block_size

    def gram(index: Array) -> Array:
        block = markers.block(index)
        explained = lax.dynamic_slice_in_dim(loadings, index * size, size, axis=0)
        return block @ block.T - explained @ explained.T

    return lax.map(gram, jnp.arange(markers.n_blocks))


def build_spectrum(
    genotypes: np.ndarray, means: np.ndarray, root: np.ndarray | None = None
) -> Spectrum:
    """Eigenvectors of the centred genotypes' cross-product, in double precision on the host."""
    dtype = jnp.result_type(float)
    n, p = genotypes.shape
    weights = np.ones((n, 1)) if root is None else np.asarray(root)[:, None]

    def part(columns: slice) -> np.ndarray:
        return weights * decoded(genotypes[:, columns], means[columns])

    if n <= p:
        cross = np.zeros((n, n))
        for start in range(0, p, CHUNK):
            block = part(slice(start, start + CHUNK))
            cross += block @ block.T
        values, vectors = scipy.linalg.eigh(cross)
        keep = values > RANK_TOLERANCE * values[-1]
        values, rows = values[keep], vectors[:, keep].T
    else:
        centred = part(slice(None))
        values, loadings = scipy.linalg.eigh(centred.T @ centred)
        keep = values > RANK_TOLERANCE * values[-1]
        values = values[keep]
        rows = (centred @ loadings[:, keep] / np.sqrt(values)).T
    return Spectrum(jnp.asarray(rows, dtype), jnp.asarray(values, dtype))


def build_fixed_design(matrix: np.ndarray, root: np.ndarray | None = None) -> FixedDesign:
    """Lay a design matrix (record, term) out as (term, record) with its basis."""
    dtype = jnp.result_type(float)
    if root is not None:
        matrix = matrix * root[:, None]
    basis, triangle = np.linalg.qr(matrix)
    return FixedDesign(
        jnp.asarray(matrix.T, dtype),
        jnp.asarray(basis.T, dtype),
        jnp.asarray(np.linalg.inv(triangle).T, dtype),
    )
