"""Arrays that a run reads and never changes, laid out for the sampler.

Inside the sampler the individual is the LAST axis (``(node, individual)``,
``(marker, individual)``): chains x nodes are then rows of one matrix, and every product with the
genotypes is one matrix product without a transposed copy.
"""

from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import scipy.linalg
from jax import Array, lax

MARKER_BLOCK = 64  # markers updated between two products with the residual; measured optimum 32-128
MISSING_CODE = -1
_RANK_TOLERANCE = 1e-9  # eigenvalues below this share of the largest count as zero


@partial(
    jax.tree_util.register_dataclass,
    data_fields=["codes", "means", "gram"],
    meta_fields=["n_markers"],
)
@dataclass(frozen=True)
class MarkerMatrix:
    """Centred genotypes, kept as int8 counts and centred one block at a time.

    Attributes
    ----------
    codes : (padded marker, individual) int8 counts with -1 = missing, or float centred dosages
        Padded with missing rows to a whole number of blocks.
    means : (padded marker,)
        Allele-dosage mean of each marker; missing genotypes are imputed by it.
    gram : (block, marker in block, marker in block)
        Cross-products of the centred markers within each block.
    n_markers : int
        Number of markers without the padding.
    """

    codes: Array
    means: Array
    gram: Array
    n_markers: int

    @property
    def n_blocks(self) -> int:
        """Number of blocks."""
        return self.gram.shape[0]

    @property
    def block_size(self) -> int:
        """Markers in a block."""
        return self.gram.shape[1]

    @property
    def n_padded(self) -> int:
        """Number of rows of ``codes``."""
        return self.codes.shape[0]

    def block(self, index: Array | int) -> Array:
        """Return the centred dosages of one block, (marker in block, individual)."""
        start = index * self.block_size
        codes = lax.dynamic_slice_in_dim(self.codes, start, self.block_size, axis=0)
        if not jnp.issubdtype(codes.dtype, jnp.integer):
            return codes
        means = lax.dynamic_slice_in_dim(self.means, start, self.block_size)[:, None]
        return jnp.where(codes == MISSING_CODE, 0.0, codes.astype(means.dtype) - means)

    def predict(self, effects: Array) -> Array:
        """Genetic values (node, individual) of marker effects (node, padded marker)."""

        def add(index: Array, total: Array) -> Array:
            part = lax.dynamic_slice_in_dim(
                effects, index * self.block_size, self.block_size, axis=-1
            )
            return total + part @ self.block(index)

        shape = (*effects.shape[:-1], self.codes.shape[1])
        return lax.fori_loop(0, self.n_blocks, add, jnp.zeros(shape, effects.dtype))

    def project(self, values: Array) -> Array:
        """Products (node, padded marker) of every marker with values (node, individual)."""

        def add(index: Array, total: Array) -> Array:
            part = values @ self.block(index).T
            return lax.dynamic_update_slice_in_dim(total, part, index * self.block_size, axis=-1)

        shape = (*values.shape[:-1], self.n_padded)
        return lax.fori_loop(0, self.n_blocks, add, jnp.zeros(shape, values.dtype))


@partial(jax.tree_util.register_dataclass, data_fields=["vectors", "values"], meta_fields=[])
@dataclass(frozen=True)
class Spectrum:
    """Eigenvectors (rank, individual) and eigenvalues (rank,) of M'M over individuals.

    Shared by all nodes, chains and iterations: it turns the joint draw of all marker effects
    under a normal prior into independent scalar draws.
    """

    vectors: Array
    values: Array


@partial(
    jax.tree_util.register_dataclass, data_fields=["matrix", "basis", "to_terms"], meta_fields=[]
)
@dataclass(frozen=True)
class FixedDesign:
    """Fixed-effect design of some individuals.

    Attributes
    ----------
    matrix : (term, individual)
    basis : (term, individual)
        Orthonormal rows that span the same space.
    to_terms : (term, term)
        Effects of the terms are ``coordinates in the basis @ to_terms``.
    """

    matrix: Array
    basis: Array
    to_terms: Array


@partial(
    jax.tree_util.register_dataclass,
    data_fields=["df", "scale", "zero_count", "nonzero_count", "pi"],
    meta_fields=["estimate_pi"],
)
@dataclass(frozen=True)
class EffectHyper:
    """Resolved hyperparameters of one set of effects, one entry per response.

    ``variance ~ df * scale / chi2(df)``; ``pi`` is the probability of a zero effect, fixed at
    ``pi`` or ~ Beta(zero_count, nonzero_count). A prior without a spike has ``pi = 0`` fixed.
    """

    df: Array
    scale: Array
    zero_count: Array
    nonzero_count: Array
    pi: Array
    estimate_pi: bool


@partial(jax.tree_util.register_dataclass, data_fields=["df", "scale", "fixed"], meta_fields=[])
@dataclass(frozen=True)
class ResidualHyper:
    """Residual variance prior, ``variance ~ df * scale / chi2(df)``; not sampled where ``fixed``.

    Where ``fixed`` (latent nodes, whose scale is a convention) the variance is ``scale``.
    """

    df: Array
    scale: Array
    fixed: Array


@partial(
    jax.tree_util.register_dataclass,
    data_fields=["design", "markers", "loadings", "spectrum", "spectrum_loadings", "hyper"],
    meta_fields=[],
)
@dataclass(frozen=True)
class MixedArrays:
    """Fixed effects and marker effects of a batch of responses on the same individuals.

    Attributes
    ----------
    design : FixedDesign
    markers : MarkerMatrix
    loadings : (padded marker, term)
        Products of the markers with the design's basis.
    spectrum : Spectrum or None
        Where the marker prior is drawn jointly.
    spectrum_loadings : (term, rank) or None
        Products of the design's basis with the eigenvectors.
    hyper : EffectHyper
    """

    design: FixedDesign
    markers: MarkerMatrix
    loadings: Array
    spectrum: Spectrum | None
    spectrum_loadings: Array | None
    hyper: EffectHyper


@partial(
    jax.tree_util.register_dataclass,
    data_fields=[
        "omics", "skip", "design_trait", "z_start", "observed", "incomplete_rows",
        "informed_rows", "free_rows", "y", "y_rows", "y_observed", "residual_hyper",
        "node_hyper", "trait_hyper", "latent",
    ],
    meta_fields=[],
)  # fmt: skip
@dataclass(frozen=True)
class ModelData:
    """Everything a sweep reads. Shapes: n individuals, L nodes, q fixed terms, on internal scale.

    Attributes
    ----------
    omics : MixedArrays
        Layer 1 -> 2, all individuals.
    skip : MixedArrays or None
        Skip connection, phenotyped individuals; its design is ``design_trait``.
    design_trait : FixedDesign
        Of the phenotyped individuals.
    z_start : (L, n)
        Observed omics; zero where missing.
    observed : (L, n) bool
    incomplete_rows, informed_rows, free_rows : int index arrays
        Individuals with a missing node: all of them; those with a phenotype; those without.
    y, y_rows, y_observed : (n_y,), (n_y,) int, (n,) bool
        Observed phenotypes, their individuals, and the mask of observed ones.
    residual_hyper, node_hyper, trait_hyper
        Priors of the nodes' residual variances, the node effects, the trait's residual variance.
    latent : (L,) bool
    """

    omics: MixedArrays
    skip: MixedArrays | None
    design_trait: FixedDesign
    z_start: Array
    observed: Array
    incomplete_rows: Array
    informed_rows: Array
    free_rows: Array
    y: Array
    y_rows: Array
    y_observed: Array
    residual_hyper: ResidualHyper
    node_hyper: EffectHyper
    trait_hyper: ResidualHyper
    latent: Array


def marker_means(genotypes: np.ndarray) -> np.ndarray:
    """Mean dosage of each marker over its observed genotypes, (individual, marker) in."""
    if np.issubdtype(genotypes.dtype, np.integer):
        missing = genotypes == MISSING_CODE
        total = genotypes.sum(axis=0, dtype=np.int64) + missing.sum(axis=0)
        return total / (genotypes.shape[0] - missing.sum(axis=0))
    return np.asarray(np.nanmean(genotypes, axis=0, dtype=np.float64))


def build_marker_matrix(
    genotypes: np.ndarray, means: np.ndarray, block_size: int = MARKER_BLOCK
) -> MarkerMatrix:
    """Lay genotypes (individual, marker; int8 with -1 or float with NaN) out for the sampler."""
    dtype = jnp.result_type(float)
    n, p = genotypes.shape
    padding = -p % block_size
    if np.issubdtype(genotypes.dtype, np.integer):
        codes = np.full((p + padding, n), MISSING_CODE, np.int8)
        codes[:p] = genotypes.T
    else:
        codes = np.zeros((p + padding, n), dtype)
        codes[:p] = np.nan_to_num(genotypes - means).T
    padded_means = jnp.asarray(np.pad(means, (0, padding)), dtype)
    n_blocks = (p + padding) // block_size
    bare = MarkerMatrix(
        jnp.asarray(codes), padded_means, jnp.zeros((n_blocks, block_size, block_size), dtype), p
    )
    gram = lax.map(lambda index: bare.block(index) @ bare.block(index).T, jnp.arange(n_blocks))
    return MarkerMatrix(bare.codes, padded_means, gram, p)


def build_spectrum(genotypes: np.ndarray, means: np.ndarray) -> Spectrum:
    """Eigenvectors of the centred genotypes' cross-product, in double precision on the host."""
    dtype = jnp.result_type(float)
    centred = genotypes - means.astype(np.float64)
    missing = genotypes == MISSING_CODE if genotypes.dtype == np.int8 else np.isnan(genotypes)
    centred[missing] = 0.0
    n, p = centred.shape
    if n <= p:
        values, vectors = scipy.linalg.eigh(centred @ centred.T)
        keep = values > _RANK_TOLERANCE * values[-1]
        values, rows = values[keep], vectors[:, keep].T
    else:
        values, loadings = scipy.linalg.eigh(centred.T @ centred)
        keep = values > _RANK_TOLERANCE * values[-1]
        values = values[keep]
        rows = (centred @ loadings[:, keep] / np.sqrt(values)).T
    return Spectrum(jnp.asarray(rows, dtype), jnp.asarray(values, dtype))


def build_fixed_design(matrix: np.ndarray) -> FixedDesign:
    """Lay a design matrix (individual, term) out as (term, individual) with its basis."""
    dtype = jnp.result_type(float)
    basis, triangle = np.linalg.qr(matrix)
    return FixedDesign(
        jnp.asarray(matrix.T, dtype),
        jnp.asarray(basis.T, dtype),
        jnp.asarray(np.linalg.inv(triangle).T, dtype),
    )


def build_mixed_arrays(
    genotypes: np.ndarray,
    means: np.ndarray,
    design: FixedDesign,
    hyper: EffectHyper,
    joint: bool,
) -> MixedArrays:
    """Bundle genotypes (individual, marker) and a fixed-effect design of the same individuals.

    Parameters
    ----------
    means : (marker,)
        Dosage means to centre by.
    joint : bool
        Whether marker effects are drawn jointly, which needs the spectrum.
    """
    markers = build_marker_matrix(genotypes, means)
    spectrum = build_spectrum(genotypes, means) if joint else None
    return MixedArrays(
        design=design,
        markers=markers,
        loadings=markers.project(design.basis).T,
        spectrum=spectrum,
        spectrum_loadings=None if spectrum is None else design.basis @ spectrum.vectors.T,
        hyper=hyper,
    )
