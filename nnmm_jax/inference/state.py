"""What one chain carries from sweep to sweep. Immutable; every block returns a new one."""

from typing import NamedTuple

import jax.numpy as jnp
from jax import Array
from numpyro.infer.hmc_util import HMCAdaptState


class EffectState(NamedTuple):
    """One set of effects: of markers, of nodes on the phenotype, or of random levels.

    Attributes
    ----------
    coef : (response, effect)
        With a :class:`~nnmm_jax.inference.arrays.Spectrum` it is (response, rank), the genetic
        values in the eigenvectors' coordinates.
    level : (response,)
        What governs the effects, see :class:`~nnmm_jax.inference.arrays.EffectHyper`: their
        variance, the scale of their variances, or lambda squared.
    weights : (response, component)
        Probabilities of the components of the prior, zero first where there is a spike.
    own : (response, effect) or None
        What each effect has for itself: its variance (family own), tau squared (lasso), or the
        multiplier of its component of a mixture (0 for a zero effect).
    """

    coef: Array
    level: Array
    weights: Array
    own: Array | None


class RecordSums(NamedTuple):
    """What individuals whose nodes are complete come down to in layer 1.

    Attributes
    ----------
    products : (response, padded marker)
        Of the markers with the nodes of the complete individuals.
    seen : (response, fixed term)
        Of the fixed design's basis with them.
    squares : (response,)
        Sums of their squares.
    explained : (response, padded marker)
        Products of what the design leaves of the markers with the genetic values of everyone.
    left : (response,)
        Sums of squares of everyone's residuals.
    """

    products: Array
    seen: Array
    squares: Array
    explained: Array
    left: Array


class LayerState(NamedTuple):
    """Mixed model of one layer; everything is times the square roots of known residual weights.

    Attributes
    ----------
    fixed : (response, fixed term)
    terms, random : tuples of EffectState
        One for each term of :class:`~nnmm_jax.inference.arrays.LayerArrays`.
    term_values, random_values : tuples of (response, record)
        What each term contributes.
    residual : (response, record)
        Response minus everything that explains it: the cache that all blocks share.
    variance : (response,)
        Residual variances.
    sums : RecordSums or None
        Where they stand for the complete individuals: the records are then the incomplete ones.
    """

    fixed: Array
    terms: tuple[EffectState, ...]
    random: tuple[EffectState, ...]
    term_values: tuple[Array, ...]
    random_values: tuple[Array, ...]
    residual: Array
    variance: Array
    sums: RecordSums | None = None


class AdaptState(NamedTuple):
    """Dual averaging of the HMC step, one entry an individual (Hoffman & Gelman 2014, eq. 6)."""

    log_step: Array
    log_step_average: Array
    error: Array


class State(NamedTuple):
    """State of one chain on the internal scale.

    Attributes
    ----------
    z : (node, individual)
        Middle layer, completed.
    omics : tuple of LayerState
        Layer 1 -> 2, one for each block of nodes.
    nodes : tuple of EffectState
        Effects of the activated nodes of each block on the phenotype, ``coef`` (1, node).
    theta : (parameter,) or None
        Unconstrained parameters of a user's function.
    trait : LayerState
        Layer 2 -> 3; its residual is also without the nodes' effects.
    adapt : AdaptState or None
    theta_adapt : HMCAdaptState or None
        NumPyro's warm-up of step size and mass matrix.
    """

    z: Array
    omics: tuple[LayerState, ...]
    nodes: tuple[EffectState, ...]
    theta: Array | None
    trait: LayerState
    adapt: AdaptState | None
    theta_adapt: HMCAdaptState | None

    @property
    def node_residual(self) -> Array:
        """Residuals (node, individual) of all blocks, weighted."""
        return jnp.concatenate([block.residual for block in self.omics])

    @property
    def node_variance(self) -> Array:
        """Residual variances (node,) of all blocks."""
        return jnp.concatenate([block.variance for block in self.omics])

    @property
    def node_coef(self) -> Array:
        """Effects (1, feature) of what the nodes give; 1 where they are combined by a function."""
        if not self.nodes:
            return jnp.ones((1, 1), self.z.dtype)
        return jnp.concatenate([block.coef for block in self.nodes], axis=1)
