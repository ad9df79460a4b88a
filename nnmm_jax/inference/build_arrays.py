"""Lay genotypes and designs out for the sampler, on the host in double precision."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import scipy.linalg
from jax import Array, lax

from nnmm_jax.inference import fixed_point
from nnmm_jax.inference.arrays import MISSING_CODE, FixedDesign, MarkerMatrix, Spectrum
from nnmm_jax.inference.blocks.effects import GROUP

# Markers updated between two products with the residual: all if they are few, as then no product
# needs a copy of a part of the genotypes; otherwise so many that their cross-products stay near.
ONE_BLOCK, MARKER_BLOCK = 1024, 256
CENTRED_BYTES = 2**27  # genotypes are centred once for all if that takes at most this
RANK_TOLERANCE = 1e-9  # eigenvalues below this share of the largest count as zero
CHUNK = 1024  # markers decoded at a time
_ALIGNMENT = 64  # bytes, what XLA asks of memory that it did not allocate itself


@dataclass(frozen=True, eq=False)
class DosageView:
    """Some individuals' dosages of some markers, taken a few markers at a time.

    A copy of all of them, or all of them in double precision, would be the largest array of a fit.

    Attributes
    ----------
    genotypes : (individual, marker) int8 with -1 or float with NaN
    means : (marker,)
        Of all markers of ``genotypes``.
    rows, columns : int index arrays or None
        Individuals and markers; ``None``: all of them.
    """

    genotypes: np.ndarray
    means: np.ndarray
    rows: np.ndarray | None = None
    columns: np.ndarray | None = None

    @property
    def shape(self) -> tuple[int, int]:
        """Number of individuals and of markers."""
        n, p = self.genotypes.shape
        return (
            n if self.rows is None else len(self.rows),
            p if self.columns is None else len(self.columns),
        )

    @property
    def chosen_means(self) -> np.ndarray:
        """Means of the chosen markers."""
        return self.means if self.columns is None else self.means[self.columns]

    def chunks(self) -> Iterator[tuple[slice, np.ndarray]]:
        """Go through the markers: place of each chunk, and its genotypes as they are."""
        for part in marker_chunks(self.shape[1]):
            columns = part if self.columns is None else self.columns[part]
            values = self.genotypes[:, columns]
            yield part, values if self.rows is None else values[self.rows]

    def centred(self) -> Iterator[tuple[slice, np.ndarray]]:
        """The same, centred and in double precision."""
        means = self.chosen_means
        for part, values in self.chunks():
            yield part, decoded(values, means[part])


def marker_chunks(n_markers: int) -> Iterator[slice]:
    """Places of markers that are worked on at a time."""
    for start in range(0, n_markers, CHUNK):
        yield slice(start, min(start + CHUNK, n_markers))


def marker_means(genotypes: np.ndarray) -> np.ndarray:
    """Mean dosage of each marker over its observed genotypes, (individual, marker) in."""
    found = np.empty(genotypes.shape[1])
    for part in marker_chunks(genotypes.shape[1]):
        values = genotypes[:, part]
        if np.issubdtype(genotypes.dtype, np.integer):
            missing = (values == MISSING_CODE).sum(axis=0)
            total = values.sum(axis=0, dtype=np.int64) + missing
            found[part] = total / (genotypes.shape[0] - missing)
        else:
            found[part] = np.nanmean(values, axis=0, dtype=np.float64)
    return found


def decoded(genotypes: np.ndarray, means: np.ndarray) -> np.ndarray:
    """Centred dosages in double precision, missing ones 0."""
    missing = genotypes == MISSING_CODE if genotypes.dtype == np.int8 else np.isnan(genotypes)
    return np.asarray(np.where(missing, 0.0, genotypes - means))


def block_of(n_markers: int) -> int:
    """Size of the blocks of markers: blocks of like size, a multiple of what XLA's loop takes."""
    n_blocks = 1 if n_markers <= ONE_BLOCK else -(-n_markers // MARKER_BLOCK)
    return -(-n_markers // (n_blocks * GROUP)) * GROUP


@dataclass(frozen=True)
class MatrixLayout:
    """How genotypes are laid out for the sampler: what needs their size only.

    Attributes
    ----------
    shape : tuple of int
        (padded marker, individual)
    dtype : numpy.dtype
        int8 counts, or floats that are centred once for all, which saves doing so in every sweep,
        where there is room.
    block_size : int
    whole : bool
        Whether products are formed in whole numbers, as in
        :class:`~nnmm_jax.inference.arrays.MarkerMatrix`.
    """

    shape: tuple[int, int]
    dtype: np.dtype
    block_size: int
    whole: bool

    @property
    def counts(self) -> bool:
        """Whether they stay counts."""
        return self.dtype == np.int8


def layout_of(dosages: DosageView) -> MatrixLayout:
    """Choose how genotypes are laid out."""
    dtype = jnp.result_type(float)
    n, p = dosages.shape
    block_size = block_of(p)
    counts = np.issubdtype(dosages.genotypes.dtype, np.integer)
    whole = counts and dtype == jnp.float32 and fixed_point.available() and _complete(dosages)
    counts = whole or (counts and n * p * dtype.itemsize > CENTRED_BYTES)
    return MatrixLayout(
        (p + -p % block_size, n), np.dtype(np.int8) if counts else dtype, block_size, whole
    )


def _complete(dosages: DosageView) -> bool:
    """Whether no genotype is missing, and sums over all of them are whole numbers of 32 bits."""
    largest = 2
    for _, values in dosages.chunks():
        if 0 in dosages.genotypes.strides:  # sizes without data: one number seen as many
            break
        if values.min(initial=0) < 0:
            return False
        largest = max(largest, int(values.max(initial=0)))
    return fixed_point.fits(max(dosages.shape[0], block_of(dosages.shape[1])), largest)


def build_marker_matrix(dosages: DosageView, root: np.ndarray | None = None) -> MarkerMatrix:
    """Lay genotypes out for the sampler, see :class:`MatrixLayout`."""
    dtype = jnp.result_type(float)
    layout = layout_of(dosages)
    p = dosages.shape[1]
    codes = _aligned(layout)
    codes[p:] = MISSING_CODE if layout.counts and not layout.whole else 0
    for part, values in dosages.chunks() if layout.counts else dosages.centred():
        codes[part] = values.T
    return MarkerMatrix(
        # Nobody else writes to them, so that JAX may take the place instead of a copy.
        jax.device_put(codes, may_alias=True),
        jnp.asarray(np.pad(dosages.chosen_means, (0, len(codes) - p)), dtype),
        None if root is None else jnp.asarray(root, dtype),
        p,
        layout.block_size,
        whole=layout.whole,
    )


def _aligned(layout: MatrixLayout) -> np.ndarray:
    """An array, not filled, whose place in memory XLA on a CPU can use as it is."""
    size = math.prod(layout.shape) * layout.dtype.itemsize
    room = np.empty(size + _ALIGNMENT, np.uint8)
    start = -room.ctypes.data % _ALIGNMENT
    return room[start : start + size].view(layout.dtype).reshape(layout.shape)


@jax.jit
def build_grams(markers: MarkerMatrix, loadings: Array) -> Array:
    """Cross-products (block, marker, marker) of what the fixed design leaves of the markers."""
    size = markers.block_size

    def gram(index: Array) -> Array:
        block = markers.block(index)
        explained = lax.dynamic_slice_in_dim(loadings, index * size, size, axis=0)
        return block @ block.T - explained @ explained.T

    return lax.map(gram, jnp.arange(markers.n_blocks))


def build_spectrum(dosages: DosageView, root: np.ndarray | None = None) -> Spectrum:
    """Eigenvectors of the centred genotypes' cross-product, in double precision on the host."""
    dtype = jnp.result_type(float)
    n, p = dosages.shape
    weights = np.ones((n, 1)) if root is None else np.asarray(root)[:, None]
    if n <= p:
        cross = np.zeros((n, n))
        for _, values in dosages.centred():
            block = weights * values
            cross += block @ block.T
        values, vectors = scipy.linalg.eigh(cross)
        keep = values > RANK_TOLERANCE * values[-1]
        values, rows = values[keep], vectors[:, keep].T
    else:
        centred = np.empty((n, p))
        for part, values in dosages.centred():
            centred[:, part] = weights * values
        values, loadings = scipy.linalg.eigh(centred.T @ centred)
        keep = values > RANK_TOLERANCE * values[-1]
        values = values[keep]
        rows = (centred @ loadings[:, keep] / np.sqrt(values)).T
    return Spectrum(jnp.asarray(rows, dtype), jnp.asarray(values, dtype))


def spectrum_bytes(n: int, p: int) -> int:
    """Working memory of :func:`build_spectrum`, the result in single precision included."""
    if n <= p:  # cross-product, eigenvectors, the kept ones, and these in single precision
        return 32 * n * n
    return 24 * n * p + 24 * p * p  # the centred matrix, its products; three matrices as above


def decoding_bytes(n: int) -> int:
    """Working memory of :meth:`DosageView.centred`: counts, holes, differences, centred dosages."""
    return n * CHUNK * (1 + 1 + 8 + 8)


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
