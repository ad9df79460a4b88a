"""The arrays of a run as shapes alone: what they would be, without their memory and their time."""

from dataclasses import dataclass
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from nnmm_jax.data.pedigree import Pedigree
from nnmm_jax.inference.arrays import MarkerMatrix, Spectrum
from nnmm_jax.inference.build_arrays import DosageView, layout_of
from nnmm_jax.inference.build_random import Layer
from nnmm_jax.inference.build_terms import TermBuilder


def shape_of(shape: tuple[int, ...], dtype: Any = None) -> Array:
    """An array that has a shape only."""
    found = jax.ShapeDtypeStruct(shape, jnp.result_type(float) if dtype is None else dtype)
    return cast(Array, found)


def shapes(tree: Any) -> Any:
    """The same tree of arrays, as shapes."""
    return jax.tree.map(lambda leaf: shape_of(leaf.shape, leaf.dtype), tree)


def bytes_of(tree: Any) -> int:
    """Bytes of a tree of arrays or shapes; what is there twice is counted once."""
    leaves = {id(leaf): leaf for leaf in jax.tree.leaves(tree)}.values()
    return sum(_size(leaf) for leaf in leaves)


def _size(leaf: Any) -> int:
    if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        return 16 * int(np.prod(leaf.shape))
    return int(np.prod(leaf.shape)) * int(leaf.dtype.itemsize)


@dataclass(frozen=True, eq=False)
class ShapeBuilder(TermBuilder):
    """Builds terms whose large arrays are shapes.

    Ranks are what they nearly always are: markers that are centred lose one, unless there are
    fewer markers than individuals. Values of small arrays, such as priors' scales, mean nothing.
    """

    def means(self) -> np.ndarray:
        """Mean dosage of each marker, as if all were alike."""
        return np.ones(self.dataset.genotypes.shape[1])

    def variances(self, dosages: DosageView) -> np.ndarray:
        """Variance of each marker, the same."""
        return np.ones(dosages.shape[1])

    def markers(self, dosages: DosageView, root: np.ndarray | None = None) -> MarkerMatrix:
        """Covariates of the layout that the sampler would have."""
        layout = layout_of(dosages)
        weights = None if root is None else shape_of(root.shape)
        return MarkerMatrix(
            shape_of(layout.shape, layout.dtype),
            shape_of(layout.shape[:1]),
            weights,
            dosages.shape[1],
            layout.block_size,
            whole=layout.whole,
        )

    def spectrum(self, dosages: DosageView, root: np.ndarray | None = None) -> Spectrum:
        """Spectrum of the usual rank."""
        n, p = dosages.shape
        centred = root is None and dosages.rows is None
        rank = min(n - 1 if centred else n, p)
        return Spectrum(shape_of((rank, n)), shape_of((rank,)))

    def square_root(self, matrix: np.ndarray) -> np.ndarray:
        """Square root of a relationship matrix that takes no memory."""
        return np.broadcast_to(1.0, matrix.shape)

    def root_spectrum(self, root: np.ndarray) -> Spectrum:
        """Spectrum of full rank."""
        return Spectrum(shape_of(root.T.shape), shape_of(root.shape[1:]))

    def pedigree_matrix(self, pedigree: Pedigree, rows: np.ndarray) -> np.ndarray:
        """Relationships that take no memory."""
        return np.broadcast_to(1.0, (len(rows), len(rows)))

    def products(
        self, layer: Layer, markers: MarkerMatrix, spectrum: Spectrum | None
    ) -> dict[str, Array | None]:
        """Products of covariates and eigenvectors with the fixed design, and with themselves."""
        terms, size = layer.design.basis.shape[0], markers.block_size
        grams = shape_of((markers.n_blocks, size, size))
        return {
            "loadings": shape_of((markers.n_padded, terms)),
            "grams": grams if spectrum is None else None,
            "spectrum_loadings": None
            if spectrum is None
            else shape_of((terms, spectrum.values.shape[0])),
        }
