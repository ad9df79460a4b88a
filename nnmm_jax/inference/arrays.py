"""Arrays that a run reads and never changes, laid out for the sampler.

Inside the sampler the individual (or record) is the LAST axis (``(node, individual)``,
``(marker, individual)``): chains x nodes are then rows of one matrix, and every product with the
genotypes is one matrix product without a transposed copy.

Known residual weights v are taken care of here: everything of a layer (response, design, markers)
is multiplied by sqrt(v) of its record, after which residuals have one variance.
"""

import itertools
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
from jax import Array, lax

from nnmm_jax.inference import fixed_point
from nnmm_jax.network.activations import Units

MISSING_CODE = -1


def products(values: Array, rows: Array) -> Array:
    """Products (response, row) of values (response, record) with rows (row, record)."""
    # Not ``values @ rows.T``, which newer versions of XLA take eight times as long for, on a CPU,
    # where there is one response.
    return (rows @ values.T).T


def inner_products(values: Array, others: Array) -> Array:
    """Products (...,) of rows (..., k) with rows of the same shape."""
    # Not the sum of a product, which versions of XLA take up to ten times as long for, on a CPU.
    return jnp.einsum("...k,...k->...", values, others)


@partial(
    jax.tree_util.register_dataclass,
    data_fields=["codes", "means", "root"],
    meta_fields=["n_markers", "block_size", "n_idle", "whole"],
)
@dataclass(frozen=True)
class MarkerMatrix:
    """Centred genotypes, kept as int8 counts and centred one block at a time.

    Any other covariates with a common prior (the square root of a relationship matrix) take the
    same place as floats.

    Attributes
    ----------
    codes : (padded marker, individual) int8 counts with -1 = missing, or float centred values
        Padded with missing rows to a whole number of blocks.
    means : (padded marker,)
        Allele-dosage mean of each marker; missing genotypes are imputed by it.
    root : (individual,) or None
        Square roots of known residual weights, by which every row is multiplied.
    n_markers : int
        Number of markers without the padding.
    block_size : int
        Markers in a block.
    n_idle : int
        Columns of ``codes`` behind those of the individuals, so that devices divide their number.
    whole : bool
        Whether products are formed in whole numbers (:mod:`nnmm_jax.inference.fixed_point`): the
        counts then have no missing ones, and padding is a count and a mean of 0.
    """

    codes: Array
    means: Array
    root: Array | None
    n_markers: int
    block_size: int
    n_idle: int = 0
    whole: bool = False

    @property
    def n_blocks(self) -> int:
        """Number of blocks."""
        return self.n_padded // self.block_size

    @property
    def n_padded(self) -> int:
        """Number of rows of ``codes``."""
        return self.codes.shape[0]

    @property
    def n_records(self) -> int:
        """Number of individuals or records."""
        return self.codes.shape[1] - self.n_idle

    def block(self, index: Array | int) -> Array:
        """Return the centred dosages of one block, (marker in block, individual)."""
        codes = self._codes(index)
        if jnp.issubdtype(codes.dtype, jnp.integer):
            means = self._means(index)[:, None]
            codes = jnp.where(codes == MISSING_CODE, 0.0, codes.astype(means.dtype) - means)
        return codes if self.root is None else codes * self.root

    def block_products(self, values: Array, index: Array | int) -> Array:
        """Products (response, marker in block) of a block with values (response, individual)."""
        if not self.whole:
            return products(values, self.block(index))
        if self.root is not None:
            values = values * self.root
        total = jnp.sum(values, axis=-1, keepdims=True)
        return fixed_point.product(values, self._codes(index), 1) - total * self._means(index)

    def block_values(self, effects: Array, index: Array | int) -> Array:
        """Genetic values (response, individual) of effects (response, marker in block)."""
        if not self.whole:
            return effects @ self.block(index)
        values = fixed_point.product(effects, self._codes(index), 0)
        values = values - (effects @ self._means(index))[..., None]
        return values if self.root is None else values * self.root

    def _codes(self, index: Array | int) -> Array:
        start = index * self.block_size
        codes = lax.dynamic_slice_in_dim(self.codes, start, self.block_size, axis=0)
        return codes[:, : self.n_records] if self.n_idle else codes

    def _means(self, index: Array | int) -> Array:
        return lax.dynamic_slice_in_dim(self.means, index * self.block_size, self.block_size)

    @jax.jit  # outside a compiled sweep the loop would be compiled anew at every call
    def predict(self, effects: Array) -> Array:
        """Genetic values (node, individual) of marker effects (node, padded marker)."""

        def add(index: Array, total: Array) -> Array:
            part = lax.dynamic_slice_in_dim(
                effects, index * self.block_size, self.block_size, axis=-1
            )
            return total + self.block_values(part, index)

        shape = (*effects.shape[:-1], self.n_records)
        return lax.fori_loop(0, self.n_blocks, add, jnp.zeros(shape, effects.dtype))

    @jax.jit
    def project(self, values: Array) -> Array:
        """Products (node, padded marker) of every marker with values (node, individual)."""

        def add(index: Array, total: Array) -> Array:
            part = self.block_products(values, index)
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
    data_fields=["df", "scale", "shape", "rate", "counts", "weights", "factor"],
    meta_fields=["family", "multipliers", "known", "estimate_weights", "symbol"],
)
@dataclass(frozen=True)
class EffectHyper:
    """Resolved hyperparameters of one set of effects, one entry per response.

    An effect is zero or normal. Which variance it has is the family's affair, and so is what the
    one *level* of a response means:

    - ``common``: variance ``multiplier * level``, ``level ~ df * scale / chi2(df)``;
    - ``own``: ``variance_j ~ df * level / chi2(df)``, ``level ~ Gamma(shape, rate)``;
    - ``lasso``: variance ``tau2_j * residual variance``, ``tau2_j ~ Exponential(level / 2)``,
      ``level ~ Gamma(shape, rate)``.

    Attributes
    ----------
    df, scale, shape, rate : (response,)
        A level that is known is ``scale``.
    counts : (response, component)
        Dirichlet prior of the components' weights.
    weights : (response, component)
        Their values where they are known, prior expectations otherwise.
    factor : (response,)
        Reported level is ``factor`` times the level, before units (GBLUP: from the variance of
        marker effects to that of genetic values).
    family, multipliers, known, estimate_weights, symbol
        ``multipliers[0] == 0`` is the spike; ``symbol`` names the level in what is reported.
    """

    df: Array
    scale: Array
    shape: Array
    rate: Array
    counts: Array
    weights: Array
    factor: Array
    family: str
    multipliers: tuple[float, ...]
    known: bool
    estimate_weights: bool
    symbol: str

    @property
    def spike(self) -> bool:
        """Whether an effect may be zero."""
        return self.multipliers[0] == 0.0

    @property
    def slabs(self) -> tuple[float, ...]:
        """Multipliers of the components that are not zero."""
        return self.multipliers[1:] if self.spike else self.multipliers

    @property
    def normal(self) -> bool:
        """Whether all effects are normal with one variance, so that one joint draw is possible."""
        return self.family == "common" and self.multipliers == (1.0,)

    @property
    def mixture(self) -> bool:
        """Whether an effect that is not zero belongs to one of several components."""
        return len(self.slabs) > 1

    @property
    def own_variances(self) -> bool:
        """Whether every effect has a variance of its own."""
        return self.family != "common"


@partial(jax.tree_util.register_dataclass, data_fields=["df", "scale", "fixed"], meta_fields=[])
@dataclass(frozen=True)
class ResidualHyper:
    """Residual variance prior, ``variance ~ df * scale / chi2(df)``; not sampled where ``fixed``.

    Where ``fixed`` (known, or a latent node, whose scale is a convention) the variance is
    ``scale``. All (response,).
    """

    df: Array
    scale: Array
    fixed: Array


@partial(
    jax.tree_util.register_dataclass,
    data_fields=[
        "markers", "loadings", "grams", "spectrum", "spectrum_loadings", "hyper", "mask",
        "everyone", "columns", "incomplete",
    ],
    meta_fields=["name", "label", "polygenic", "are_markers"],
)  # fmt: skip
@dataclass(frozen=True)
class TermArrays:
    """Effects of markers, or of a relationship matrix's square root, on a batch of responses.

    Attributes
    ----------
    markers : MarkerMatrix
        Of the layer's records.
    loadings : (padded marker, fixed term)
        Products of the markers with the fixed design's basis.
    grams : (block, marker in block, marker in block) or None
        Cross-products within each block of what the fixed design leaves of the markers; where
        effects are updated one by one.
    spectrum : Spectrum or None
        Where effects are drawn jointly.
    spectrum_loadings : (fixed term, rank) or None
        Products of the design's basis with the eigenvectors.
    hyper : EffectHyper
    mask : (padded marker, response) bool or None
        True where an effect may differ from zero; ``None``: everywhere.
    everyone : MarkerMatrix or None
        Of all individuals, without weights; ``None`` where records are individuals.
    columns : (marker,) int or None
        Columns of the data set's markers that these are.
    name, label : str
        Of the site in the joint density, and in what is reported.
    polygenic, are_markers : bool
        Whether it is a random term (pedigree, relationship matrix); whether its effects are marker
        effects. A relationship matrix in the place of G is neither.
    incomplete : MarkerMatrix or None
        Of the individuals with a missing node, where sums stand for all others
        (:mod:`nnmm_jax.inference.blocks.complete`).
    """

    markers: MarkerMatrix
    loadings: Array
    grams: Array | None
    spectrum: Spectrum | None
    spectrum_loadings: Array | None
    hyper: EffectHyper
    mask: Array | None
    everyone: MarkerMatrix | None
    columns: Array | None
    name: str
    label: str
    polygenic: bool
    are_markers: bool
    incomplete: MarkerMatrix | None = None


@partial(
    jax.tree_util.register_dataclass,
    data_fields=[
        "level", "everyone", "owner", "part", "sire", "dam", "root_precision", "diagonal", "hyper",
    ],
    meta_fields=["name", "label", "genetic"],
)  # fmt: skip
@dataclass(frozen=True)
class RandomArrays:
    """Random effects whose precision is sparse: independent levels, or the animals of a pedigree.

    ``K^-1 = T' D^-1 T`` with ``(T u)_a = u_a - (u_sire + u_dam) / 2``; T is the identity for
    independent levels.

    Attributes
    ----------
    level : (record,) int
        Level of each record.
    everyone, owner, part : (all records,) int, int and float
        Level, individual and share in that individual of all records, those without a phenotype
        too: an individual's value is the mean over its records.
    sire, dam : (level,) int or None
        Rows of the parents; the number of levels where a parent is unknown.
    root_precision : (level,)
        Square roots of the diagonal of D^-1.
    diagonal : (level,)
        Diagonal of K^-1.
    hyper : EffectHyper
    name, label : str
        As in :class:`TermArrays`.
    genetic : bool
        Whether the term counts as breeding value.
    """

    level: Array
    everyone: Array
    owner: Array
    part: Array
    sire: Array | None
    dam: Array | None
    root_precision: Array
    diagonal: Array
    hyper: EffectHyper
    name: str
    label: str
    genetic: bool

    def individual_values(self, effects: Array, n: int) -> Array:
        """Values (response, individual) of effects (response, level) for all n individuals."""
        zero = jnp.zeros((effects.shape[0], n), effects.dtype)
        return zero.at[:, self.owner].add(self.part * effects[:, self.everyone])

    @property
    def n_levels(self) -> int:
        """Number of levels."""
        return self.root_precision.shape[0]


@partial(
    jax.tree_util.register_dataclass,
    data_fields=["design", "terms", "random", "root", "residual_hyper", "fixed_precision"],
    meta_fields=["name"],
)
@dataclass(frozen=True)
class LayerArrays:
    """Mixed model of a batch of responses on the same records.

    Attributes
    ----------
    design : FixedDesign
    terms : tuple of TermArrays
    random : tuple of RandomArrays
    root : (record,) or None
        Square roots of known residual weights.
    residual_hyper : ResidualHyper
    fixed_precision : (response,) or None
        Prior precision of every coordinate of the fixed effects in the design's basis; 0 where
        they are flat, ``None``: everywhere.
    name : str
        Of the block of nodes; empty for the trait, and where the middle layer is one block.
    """

    design: FixedDesign
    terms: tuple[TermArrays, ...]
    random: tuple[RandomArrays, ...]
    root: Array | None
    residual_hyper: ResidualHyper
    fixed_precision: Array | None = None
    name: str = ""

    @property
    def n_responses(self) -> int:
        """Number of responses."""
        return self.residual_hyper.df.shape[0]

    @property
    def suffix(self) -> str:
        """End of the names of what belongs to this block."""
        return f"_{self.name}" if self.name else ""

    def taken(self, var_e: Array) -> Array:
        """Share (response,) that fixed effects take of what their design sees: 1 if flat.

        With ``c`` the share and B the basis, fixed effects that are integrated out leave
        ``I - c B'B`` of a response.
        """
        if self.fixed_precision is None:
            return jnp.ones_like(var_e)
        return 1.0 / (1.0 + self.fixed_precision * var_e)

    def weighted(self, values: Array) -> Array:
        """Values (..., record) times the square roots of the weights."""
        return values if self.root is None else values * self.root

    def unweighted(self, values: Array) -> Array:
        """Undo :meth:`weighted`."""
        return values if self.root is None else values / self.root


@partial(
    jax.tree_util.register_dataclass,
    data_fields=[
        "omics", "trait", "z_start", "observed", "incomplete_rows", "informed_rows", "free_rows",
        "y", "y_rows", "y_precision", "node_hyper", "latent", "latent_rows", "units",
    ],
    meta_fields=["n_markers", "exchangeable", "mostly_missing", "one_record_each"],
)  # fmt: skip
@dataclass(frozen=True)
class ModelData:
    """Everything a sweep reads. Shapes: n individuals, L nodes, internal scale.

    Attributes
    ----------
    omics : tuple of LayerArrays
        Layer 1 -> 2, one for each block of nodes, a record for each individual. The nodes are in
        the order of the blocks; none without a middle layer.
    trait : LayerArrays
        Layer 2 -> 3, observed phenotype records; one response.
    z_start : (L, n)
        Observed omics; zero where missing.
    observed : (L, n) bool
    incomplete_rows, informed_rows, free_rows : int index arrays
        Individuals with a missing node: all of them; those with a phenotype; those without.
    y : (record,)
        Observed phenotypes, times the square roots of their weights.
    y_rows : (record,) int
        Their individuals.
    y_precision : (n,)
        Sum of the residual weights of an individual's records: 0 without a phenotype, their number
        where weights are not known.
    node_hyper : tuple of EffectHyper
        Of the node effects of every block, (1,) each; none where a function of all nodes takes the
        place of the sum of their effects.
    latent : (L,) bool
    latent_rows : tuple of int index arrays
        Latent nodes of every block, counted from its first node.
    units : Units
    n_markers : int
        Number of markers of the data set.
    exchangeable : tuple of tuple of int
        Sets of latent nodes that may swap places without a change of the density.
    mostly_missing : bool
        Whether half of the cells of nodes or more are missing.
    one_record_each : bool
        Whether the records are the individuals: one each, in their order.
    """

    omics: tuple[LayerArrays, ...]
    trait: LayerArrays
    z_start: Array
    observed: Array
    incomplete_rows: Array
    informed_rows: Array
    free_rows: Array
    y: Array
    y_rows: Array
    y_precision: Array
    node_hyper: tuple[EffectHyper, ...]
    latent: Array
    latent_rows: tuple[Array, ...]
    units: Units
    n_markers: int
    exchangeable: tuple[tuple[int, ...], ...]
    mostly_missing: bool
    one_record_each: bool

    def of_records(self, values: Array) -> Array:
        """Values (..., record) of the individuals of the records, from those of all individuals."""
        return values if self.one_record_each else values[..., self.y_rows]

    def by_individual(self, values: Array) -> Array:
        """Sums (individual,) over the records of an individual."""
        if self.one_record_each:
            return values
        return jnp.zeros(self.y_precision.shape, values.dtype).at[self.y_rows].add(values)

    @property
    def block_nodes(self) -> tuple[slice, ...]:
        """Nodes of every block."""
        ends = list(itertools.accumulate((block.n_responses for block in self.omics), initial=0))
        return tuple(slice(*both) for both in itertools.pairwise(ends))
