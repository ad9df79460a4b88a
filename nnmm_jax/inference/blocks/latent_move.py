"""Move latent nodes along with their means, their layer-1 residuals staying as they are.

Of a latent node nothing is observed, so that it follows its mean, and the mean follows it: Gibbs
draws of the one given the other creep. Moved together, with the residuals between the two kept,
only the phenotype and the priors have a say: the other half of an interweaving of both
parameterisations (Yu & Meng 2011, Journal of Computational and Graphical Statistics 20:531). The
node's effect and the trait's fixed effects are integrated out meanwhile.
"""

import math
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax, random
from jax.scipy.special import logsumexp

from nnmm_jax.inference import noise
from nnmm_jax.inference.arrays import EffectHyper, LayerArrays, ModelData
from nnmm_jax.inference.blocks.effects import (
    EffectConditional,
    chosen,
    draw_sweep,
    effect_conditional,
)
from nnmm_jax.inference.blocks.families import OrbitPrior, family_of
from nnmm_jax.inference.blocks.trait import active_records, parameters_of, without_terms
from nnmm_jax.inference.state import EffectState, LayerState, State
from nnmm_jax.network.activations import Activation

N_ROUNDS = 4  # Metropolis steps in each direction
# Their sizes are spread evenly in their logarithm between these, so that nothing has to be adapted:
# of a shift, in residual standard deviations of the node, or of the logarithm of a scale.
STEPS = (0.05, 1.5)


class Directions(NamedTuple):
    """Ways in which the means of a block's nodes may move.

    A move is a vector of coordinates: of shifts, and logarithms of the terms' scales.

    Attributes
    ----------
    shifts : (fixed term, individual)
        Directions of the layer's fixed effects, each with a mean square of 1.
    start : (node, fixed term)
        Where the fixed effects are along these.
    precision : (node,)
        Their prior precision along these.
    values : (term, node, individual)
        Of the terms whose scale may move.
    priors : OrbitPrior
        Of those terms, each (term, node).
    """

    shifts: Array
    start: Array
    precision: Array
    values: Array
    priors: OrbitPrior

    @property
    def size(self) -> int:
        """Number of coordinates."""
        return self.shifts.shape[0] + self.values.shape[0]

    def change(self, node: Array | int, at: Array) -> Array:
        """What a move adds to a node, (individual,)."""
        count = self.shifts.shape[0]
        return at[:count] @ self.shifts + jnp.expm1(at[count:]) @ self.values[:, node]

    def log_prior(self, node: Array | int, at: Array) -> Array:
        """Log density of a node's means, and the Jacobian of the move."""
        prior = jax.tree.map(lambda part: part[:, node], self.priors)
        count = self.shifts.shape[0]
        fixed, log_k = self.start[node] + at[:count], at[count:]
        scales = jnp.sum(prior.slope * log_k - prior.weight * jnp.exp(prior.power * log_k))
        return scales - 0.5 * self.precision[node] * jnp.sum(fixed**2)


def _movable(
    layer: LayerState, arrays: LayerArrays
) -> list[tuple[EffectState, EffectHyper, Array]]:
    """Terms of a layer whose scale is not known, with their values."""
    effects = (*layer.terms, *layer.random)
    hypers = [term.hyper for term in arrays.terms] + [term.hyper for term in arrays.random]
    values = (*layer.term_values, *layer.random_values)
    every = zip(effects, hypers, values, strict=True)
    return [one for one in every if not one[1].known]


def directions(layer: LayerState, arrays: LayerArrays) -> Directions:
    """Directions of a block."""
    design, given = arrays.design, arrays.fixed_precision
    length = math.sqrt(design.basis.shape[-1])
    precision = jnp.zeros_like(layer.variance) if given is None else given * length**2
    terms = _movable(layer, arrays)
    shape = (0, *layer.residual.shape)
    values = [arrays.unweighted(values) for _, _, values in terms]
    priors = [family_of(hyper).orbit(effects, hyper) for effects, hyper, _ in terms]
    stacked = [
        jnp.stack([jnp.broadcast_to(getattr(one, name), shape[1:2]) for one in priors])
        if priors
        else jnp.zeros(shape[:2])
        for name in OrbitPrior._fields
    ]
    return Directions(
        arrays.unweighted(design.basis) * length,
        layer.fixed @ (design.matrix @ design.basis.T) / length,
        precision,
        jnp.stack(values) if values else jnp.zeros(shape, layer.residual.dtype),
        OrbitPrior(*stacked),
    )


class NodeEffect(NamedTuple):
    """Prior of a node's effect, and the trait's residual variance (1,).

    ``variances`` are (component, 1); ``weights`` (1 + component, 1), or ``None`` without a spike.
    """

    variances: Array
    weights: Array | None
    var_y: Array

    def conditional(self, square: Array, product: Array) -> EffectConditional:
        """Conditional of the effect; without a spike the odds are those of Bayes factors.

        Parameters
        ----------
        square, product : scalar
            Of the activated node with itself, and with what all other nodes leave of the
            phenotype; fixed effects projected out.
        """
        even = jnp.ones((1 + self.variances.shape[0], 1), self.variances.dtype)
        weights = even if self.weights is None else self.weights
        return effect_conditional(product, square, self.var_y, self.variances, weights)

    def log_marginal(self, square: Array, product: Array) -> Array:
        """Log density of the phenotype with the effect integrated out, up to a constant."""
        odds = self.conditional(square, product).log_odds[:, 0]
        zero = jnp.full((1,), -jnp.inf if self.weights is None else 0.0, odds.dtype)
        return logsumexp(jnp.concatenate([zero, odds]))

    def draw(self, key: Array, square: Array, product: Array) -> Array:
        """Draw the effect."""
        weights = None if self.weights is None else self.weights.T
        draws = draw_sweep(key, square[None], self.var_y, tuple(self.variances[:, None]), weights)
        parts = (draws.offset, draws.slope, draws.gain, draws.noise)
        return chosen(product, *(part[:, 0, 0] for part in parts))


class Sums(NamedTuple):
    """Of an activated node with itself and with the phenotype, fixed effects projected out."""

    square: Array
    product: Array


class Trait(NamedTuple):
    """The nodes and their effects, as they change from node to node.

    Attributes
    ----------
    z : (node, individual)
    active : (feature, record)
        Weighted.
    coef : (feature,)
    left : (record,)
        What fixed effects and residual make up; nodes too where a function combines them. Weighted.
    """

    z: Array
    active: Array
    coef: Array
    left: Array


class Problem(NamedTuple):
    """A block of nodes, and all else that a move has to do with.

    Attributes
    ----------
    directions : Directions
    first : int
        The block's first node.
    variances, weights : (component, node) and (1 + component, 1)
        Prior of the node effects; ``None`` where a function of all nodes takes their place, and
        without a spike.
    state : State
    data : ModelData
    activation : Activation
    """

    directions: Directions
    first: int
    variances: Array | None
    weights: Array | None
    state: State
    data: ModelData
    activation: Activation

    def effect(self, node: Array | int) -> NodeEffect | None:
        """Prior of a node's effect."""
        if self.variances is None:
            return None
        variances = self.variances[:, node][:, None]
        return NodeEffect(variances, self.weights, self.state.trait.variance)

    def active_node(self, node: Array | int, at: Array, trait: Trait) -> tuple[Array, Array]:
        """A moved node (individual,) and what it gives to the phenotype (record,)."""
        data, theta = self.data, parameters_of(self.state, self.activation)
        row = self.first + node
        z = trait.z[row] + self.directions.change(node, at)
        value = self.activation.feature_of(trait.z, row, z, theta, data.units)
        return z, data.trait.weighted(data.of_records(value))

    def sums(self, node: Array | int, active: Array, trait: Trait) -> Sums:
        """Sums of an active node (record,)."""
        left = trait.left
        if self.variances is not None:
            row = self.first + node
            left = left + trait.coef[row] * trait.active[row]
        basis = self.data.trait.design.basis
        seen = basis @ active
        taken = self.data.trait.taken(self.state.trait.variance)[0]
        square = active @ active - taken * (seen @ seen)
        return Sums(square, active @ left - taken * (seen @ (basis @ left)))

    def log_density(self, node: Array | int, at: Array, trait: Trait) -> Array:
        """Log density of a move, up to a constant.

        Prior of the means, Jacobian, and the phenotype with the node's effect and the fixed
        effects integrated out.
        """
        _, active = self.active_node(node, at, trait)
        square, product = self.sums(node, active, trait)
        effect, prior = self.effect(node), self.directions.log_prior(node, at)
        if effect is None:
            return prior + (product - 0.5 * square) / self.state.trait.variance[0]
        return prior + effect.log_marginal(square, product)


def make_problem(state: State, data: ModelData, activation: Activation, number: int) -> Problem:
    """Gather what moves of the nodes of block ``number`` need."""
    variances = weights = None
    nodes = data.block_nodes[number]
    if data.node_hyper:
        effects, hyper = state.nodes[number], data.node_hyper[number]
        slabs = family_of(hyper).slabs(effects, state.trait.variance, hyper)
        shape = (1, nodes.stop - nodes.start)
        variances = jnp.concatenate([jnp.broadcast_to(slab, shape) for slab in slabs])
        weights = effects.weights.T if hyper.spike else None
    ways = directions(state.omics[number], data.omics[number])
    return Problem(ways, nodes.start, variances, weights, state, data, activation)


def begin(state: State, data: ModelData, activation: Activation) -> Trait:
    """Nodes and their effects before any of them moves."""
    active, coef = active_records(state, data, activation), state.node_coef[0]
    left = without_terms(state, data)
    if data.node_hyper:
        left = left - coef @ active
    return Trait(state.z, active, coef, left)


def move_node(problem: Problem, trait: Trait, draws: tuple[Array, Array]) -> tuple[Trait, Array]:
    """Move one node by Metropolis steps, then draw its effect.

    Parameters
    ----------
    draws : key and int
        The node counts from the block's first.

    Returns
    -------
    trait
    (coordinate,)
        Where the move ended.
    """
    key, node = draws
    key_size, key_step, key_accept, key_effect = random.split(key, 4)
    count, dtype = problem.directions.size, trait.z.dtype
    low, high = (math.log(step) for step in STEPS)
    rounds = N_ROUNDS * count
    sizes = jnp.exp(low + (high - low) * noise.uniform(key_size, (rounds,), dtype))
    lengths = sizes * noise.normal(key_step, (rounds,), dtype)
    steps = lengths[:, None] * jnp.asarray(np.tile(np.eye(count), (N_ROUNDS, 1)), dtype)
    thresholds = jnp.log(noise.uniform(key_accept, (rounds,), dtype))

    def step(
        carry: tuple[Array, Array], draws: tuple[Array, Array]
    ) -> tuple[tuple[Array, Array], None]:
        at, density = carry
        change, threshold = draws
        proposed = problem.log_density(node, at + change, trait)
        accepted = threshold < proposed - density
        return (jnp.where(accepted, at + change, at), jnp.where(accepted, proposed, density)), None

    start = jnp.zeros(count, dtype)
    begin = (start, problem.log_density(node, start, trait))
    (at, _), _ = lax.scan(step, begin, (steps, thresholds))
    z, active = problem.active_node(node, at, trait)
    row, effect = problem.first + node, problem.effect(node)
    if effect is None:
        return trait._replace(z=trait.z.at[row].set(z)), at
    new = effect.draw(key_effect, *problem.sums(node, active, trait))
    return Trait(
        trait.z.at[row].set(z),
        trait.active.at[row].set(active),
        trait.coef.at[row].set(new),
        trait.left + trait.coef[row] * trait.active[row] - new * active,
    ), at


def _moved_layer(layer: LayerState, arrays: LayerArrays, ways: Directions, at: Array) -> LayerState:
    """The layer at the ends (node, coordinate) of its nodes' moves."""
    count = ways.shifts.shape[0]
    length = math.sqrt(arrays.design.basis.shape[-1])
    fixed = layer.fixed + length * at[:, :count] @ arrays.design.to_terms
    scales = iter(jnp.exp(at[:, count:]).T)

    def scaled(
        every: tuple[EffectState, ...], values: tuple[Array, ...], hypers: list[EffectHyper]
    ) -> tuple[tuple[EffectState, ...], tuple[Array, ...]]:
        new = []
        for effects, value, hyper in zip(every, values, hypers, strict=True):
            if hyper.known:
                new.append((effects, value))
            else:
                k = next(scales)
                new.append((family_of(hyper).scaled(effects, k), k[:, None] * value))
        return tuple(one for one, _ in new), tuple(one for _, one in new)

    hypers = [[term.hyper for term in group] for group in (arrays.terms, arrays.random)]
    terms, term_values = scaled(layer.terms, layer.term_values, hypers[0])
    groups, random_values = scaled(layer.random, layer.random_values, hypers[1])
    return layer._replace(
        fixed=fixed,
        terms=terms,
        term_values=term_values,
        random=groups,
        random_values=random_values,
    )


def kernel(
    key: Array, state: State, data: ModelData, activation: Activation
) -> tuple[State, dict[str, Array]]:
    """Gibbs block: means and values of latent nodes given their residuals, node after node.

    Node effects are drawn as well. The trait's fixed effects are integrated out and keep their
    values, and so does the trait's residual: the block of the node effects or of theta, which
    starts by integrating them out too, has to follow.
    """
    trait = begin(state, data, activation)
    omics = list(state.omics)
    for number, latent in enumerate(data.latent_rows):
        if not latent.shape[0]:
            continue
        problem = make_problem(state, data, activation, number)
        if not problem.directions.size:
            continue
        keys = random.split(noise.of_block(key, number), latent.shape[0])
        trait, ends = lax.scan(partial(move_node, problem), trait, (keys, latent))
        at = jnp.zeros((omics[number].variance.shape[0], ends.shape[1]), ends.dtype)
        omics[number] = _moved_layer(
            omics[number], data.omics[number], problem.directions, at.at[latent].set(ends)
        )
    nodes = tuple(
        block._replace(coef=trait.coef[None, rows])
        for block, rows in zip(state.nodes, data.block_nodes, strict=False)
    )
    return state._replace(z=trait.z, omics=tuple(omics), nodes=nodes), {}
