"""What one chain carries from sweep to sweep. Immutable; every block returns a new one."""

from typing import NamedTuple

from jax import Array


class EffectState(NamedTuple):
    """One set of effects: of markers on nodes, of nodes on the phenotype, or of the skip.

    ``coef`` is (response, effect); with a :class:`~nnmm_jax.inference.arrays.Spectrum` it is
    (response, rank), the genetic values in the eigenvectors' coordinates. ``variance`` and ``pi``
    have one entry a response.
    """

    coef: Array
    variance: Array
    pi: Array


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
    residual : (node, individual)
        ``z`` minus fixed effects minus genetic values: the cache that all blocks share.
    beta : (node, fixed term)
    markers : EffectState
    var_e : (node,)
    fixed : (fixed term,)
        Fixed effects on the phenotype.
    nodes : EffectState
        ``coef`` is (1, node).
    skip : EffectState or None
    direct : (phenotyped individual,)
        Genetic values of the skip connection; zero without one.
    var_y : scalar
    adapt : AdaptState or None
    """

    z: Array
    residual: Array
    beta: Array
    markers: EffectState
    var_e: Array
    fixed: Array
    nodes: EffectState
    skip: EffectState | None
    direct: Array
    var_y: Array
    adapt: AdaptState | None
