"""Move genetic values of all nodes together, missing omics integrated out: linear networks.

Of an individual without omics the phenotype knows only the sum of its nodes times their effects.
Its missing omics follow the genetic values of the nodes and these follow them, each node for
itself, so that breeding values creep the more the more nodes there are. Here the genetic values of
a block's nodes move by ``d_l x``, one ``x`` for each eigenvector of the relationships that they
share, with observed omics and phenotypes alone as the data: missing omics are integrated out, and
the block that draws them has to follow.

With node effects w and levels v (variances of the nodes' genetic values) the direction is
``d_l = w_l v_l / sqrt(sum w^2 v)``: the prior regression of node l's genetic value on the breeding
value ``sum w_l g_l``, which is what the move draws; what the regression leaves of every node is a
priori independent of it and stays. Fixed effects move along ``d_l = w_l var_l`` in the same way,
var the residual variances. Where v and var have one ratio in all nodes that which stays is of no
consequence, and breeding values are drawn from their conditional given node effects and variances
alone.
"""

from itertools import accumulate, pairwise
from typing import NamedTuple

import jax.numpy as jnp
from jax import Array, lax, random

from nnmm_jax.inference import noise
from nnmm_jax.inference.arrays import LayerArrays, ModelData
from nnmm_jax.inference.blocks.families import family_of
from nnmm_jax.inference.blocks.mediated_scale import Scale, ScalePrior, move_scale, scale_prior
from nnmm_jax.inference.blocks.missing_linear import PhenotypeInformation, phenotype_information
from nnmm_jax.inference.blocks.random_terms import solve
from nnmm_jax.inference.blocks.trait import without_nodes
from nnmm_jax.inference.state import LayerState, State
from nnmm_jax.network.activations import Activation

MAX_TURNS = 3  # of coordinates and scale; each costs a solve, which is little beside many nodes
NODES_A_TURN = 50  # so many nodes pay for another turn


class Way(NamedTuple):
    """One way in which the nodes of a block move together: node l by ``direction_l x @ vectors``.

    Attributes
    ----------
    vectors : (coordinate, individual)
        Weighted.
    direction : (node,)
    precision, slope : (coordinate,)
        The prior's log density at coordinates x is ``slope x - precision x^2 / 2``.
    """

    vectors: Array
    direction: Array
    precision: Array
    slope: Array


def _direction(effects: Array, variance: Array) -> Array:
    """``w v / sqrt(sum w^2 v)``; zero where all effects are."""
    total = jnp.sum(effects**2 * variance)
    return effects * variance / jnp.sqrt(jnp.where(total > 0, total, 1.0))


def block_ways(layer: LayerState, arrays: LayerArrays, effects: Array) -> tuple[Way, ...]:
    """Ways of a block: a term each with a joint draw of its effects, and the fixed effects.

    Parameters
    ----------
    effects : (node,)
        Of the block's nodes on the phenotype.
    """
    ways = []
    for state, term in zip(layer.terms, arrays.terms, strict=True):
        if term.spectrum is None:
            continue
        direction = _direction(effects, state.level)
        precision = 1.0 / term.spectrum.values
        slope = -precision * ((direction / state.level) @ state.coef)
        ways.append(Way(term.spectrum.vectors, direction, precision, slope))
    if not ways:
        return ()
    design, direction = arrays.design, _direction(effects, layer.variance)
    given = arrays.fixed_precision
    own = jnp.zeros_like(direction) if given is None else given
    coordinates = layer.fixed @ (design.matrix @ design.basis.T)
    precision = jnp.full(design.basis.shape[:1], jnp.sum(own * direction**2))
    return (*ways, Way(design.basis, direction, precision, -(own * direction) @ coordinates))


def semidefinite_root(matrix: Array) -> Array:
    """Root R (way, column, individual), ``R R' = matrix``, of matrices (way, way, individual).

    Cholesky's in the order of the ways; what has no variance left gets no column.
    """
    columns, left = [jnp.zeros((0, *matrix.shape[1:]), matrix.dtype)], matrix
    for number in range(matrix.shape[0]):
        pivot = left[number, number]
        real = pivot > 1e-6 * matrix[number, number]
        column = jnp.where(real, left[:, number] / jnp.sqrt(jnp.where(real, pivot, 1.0)), 0.0)
        column = column.at[:number].set(0.0)
        columns.append(column[None])
        left = left - column[:, None] * column[None]
    return jnp.swapaxes(jnp.concatenate(columns), 0, 1)


def split(ways: tuple[tuple[Way, ...], ...], coordinates: Array) -> list[list[Array]]:
    """Coordinates (1, coordinate) of every way of every block."""
    sizes = [way.precision.shape[0] for block in ways for way in block]
    bounds = iter(pairwise(accumulate(sizes, initial=0)))
    return [[coordinates[0, slice(*next(bounds))] for _ in block] for block in ways]


def way_values(ways: tuple[tuple[Way, ...], ...], coordinates: Array) -> list[Array]:
    """Values (way, individual) of every block; none of a block without ways."""
    n_individuals = next(way.vectors.shape[1] for block in ways for way in block)
    return [
        jnp.reshape(
            jnp.asarray([x @ way.vectors for x, way in zip(part, block, strict=True)]),
            (len(block), n_individuals),
        )
        for part, block in zip(split(ways, coordinates), ways, strict=True)
    ]


class MediatedSystem(NamedTuple):
    """Conditional of the coordinates of all ways, concatenated, missing omics integrated out.

    Everything about individuals is times the square roots of known residual weights.

    Attributes
    ----------
    ways : tuple of tuple of Way
        Of every block.
    observed : tuple of (way, way, individual)
        What observed omics say: information about the blocks' values ``x @ vectors``.
    roots : tuple of (way, column, individual)
        Its roots.
    seen : tuple of (way, individual)
        What the phenotype sees of these: slopes, divided by its standard deviation.
    score : tuple of (way, individual)
        Gradients of the log likelihood with respect to the values at coordinates 0.
    """

    ways: tuple[tuple[Way, ...], ...]
    observed: tuple[Array, ...]
    roots: tuple[Array, ...]
    seen: tuple[Array, ...]
    score: tuple[Array, ...]

    def values(self, coordinates: Array) -> list[Array]:
        """Values (way, individual) of every block."""
        return way_values(self.ways, coordinates)

    def adjoint(self, values: list[Array]) -> Array:
        """Transpose of :meth:`values`."""
        pairs = zip(self.ways, values, strict=True)
        return jnp.concatenate(
            [way.vectors @ row for ways, rows in pairs for way, row in zip(ways, rows, strict=True)]
        )[None]

    def _prior(self, name: str) -> Array:
        return jnp.concatenate([getattr(way, name) for ways in self.ways for way in ways])[None]

    def apply(self, coordinates: Array) -> Array:
        """Precision times coordinates."""
        values = self.values(coordinates)
        pull = sum(
            (jnp.sum(a * f, axis=0) for a, f in zip(self.seen, values, strict=True)), jnp.array(0.0)
        )
        image = [
            jnp.einsum("tui,ui->ti", information, f) + a * pull
            for information, a, f in zip(self.observed, self.seen, values, strict=True)
        ]
        return self.adjoint(image) + self._prior("precision") * coordinates

    def rhs(self) -> Array:
        """Precision times the conditional mean."""
        return self.adjoint(list(self.score)) + self._prior("slope")

    @property
    def noise_shapes(self) -> tuple[tuple[int, int], tuple[int, int]]:
        """Shapes of what :meth:`perturb` takes."""
        rows = sum(len(ways) for ways in self.ways)
        n_individuals = self.score[0].shape[1]
        n_coordinates = sum(way.precision.shape[0] for ways in self.ways for way in ways)
        return (1 + rows, n_individuals), (1, n_coordinates)

    def perturb(self, data_noise: Array, prior_noise: Array) -> Array:
        """Make noise with covariance ``precision`` from standard normal variates."""
        image, first = [], 1
        for root, a in zip(self.roots, self.seen, strict=True):
            own = data_noise[first : first + a.shape[0]]
            first += a.shape[0]
            image.append(a * data_noise[0] + jnp.einsum("tui,ui->ti", root, own))
        return self.adjoint(image) + jnp.sqrt(self._prior("precision")) * prior_noise

    def diagonal(self) -> Array:
        """Diagonal of the precision: the preconditioner. Of what nothing is known, 1."""
        parts = []
        for ways, information, a in zip(self.ways, self.observed, self.seen, strict=True):
            for number, way in enumerate(ways):
                weight = information[number, number] + a[number] ** 2
                parts.append(way.vectors**2 @ weight + way.precision)
        whole = jnp.concatenate(parts)[None]
        return jnp.where(whole > 0, whole, 1.0)


def applies(data: ModelData, activation: Activation) -> bool:
    """Whether the move is of use: a linear network, omics missing, and shared relationships.

    It is worth its solves where most omics are missing: it makes a sweep about twice as long, and
    with three tenths of the omics missing chains mix well without. Terms whose effects are drawn
    one by one, or given a sparse precision, stay where they are, and so do blocks that have no
    other.
    """
    terms = [term for block in data.omics for term in block.terms]
    shared = any(term.spectrum is not None for term in terms)
    return activation.linear and shared and data.mostly_missing


def n_turns(data: ModelData) -> int:
    """How often coordinates and scale take their turns in a sweep."""
    return min(1 + data.observed.shape[0] // NODES_A_TURN, MAX_TURNS)


class Problem(NamedTuple):
    """What is known of the coordinates and the scale, missing omics integrated out.

    Of an individual the phenotype is ``left ~ N(scales mean, scales^2 spread + unit var_y)`` given
    layer 1; the scales are those of blocks whose node effects have a known scale, 1, and of all
    others, k. Everything about individuals is times the square roots of known residual weights.

    Attributes
    ----------
    ways, observed, roots : tuples
        As in :class:`MediatedSystem`.
    score : tuple of (way, individual)
        What observed omics contribute to it.
    slopes : tuple of (way, individual)
        Of the phenotype's mean in the blocks' values; 0 without a phenotype.
    moving : tuple of bool
        Whether the scale of a block's node effects is not known.
    left, unit : (individual,)
    mean, spread : (2, individual)
        At coordinates 0.
    known : (individual,) bool
        Whether there is a phenotype.
    prior : ScalePrior
    """

    ways: tuple[tuple[Way, ...], ...]
    observed: tuple[Array, ...]
    roots: tuple[Array, ...]
    score: tuple[Array, ...]
    slopes: tuple[Array, ...]
    moving: tuple[bool, ...]
    left: Array
    unit: Array
    mean: Array
    spread: Array
    known: Array
    prior: ScalePrior

    def phenotype(self, scale: Scale) -> tuple[Array, Array]:
        """What the phenotype is above its mean at coordinates 0, and its variance."""
        scales = jnp.stack([jnp.ones_like(scale.log_k), jnp.exp(scale.log_k)])
        variance = scales**2 @ self.spread + self.unit * jnp.exp(scale.log_var_y)
        return self.left - scales @ self.mean, variance

    def system(self, scale: Scale) -> MediatedSystem:
        """Conditional of the coordinates."""
        surprise, variance = self.phenotype(scale)
        sd, k = jnp.sqrt(variance), jnp.exp(scale.log_k)
        seen = tuple(
            (k if moving else 1.0) * slopes / sd
            for slopes, moving in zip(self.slopes, self.moving, strict=True)
        )
        score = tuple(a + b * surprise / sd for a, b in zip(self.score, seen, strict=True))
        return MediatedSystem(self.ways, self.observed, self.roots, seen, score)

    def at(self, coordinates: Array) -> "Problem":
        """The same with the mean at other coordinates, for :meth:`log_density` alone."""
        values = way_values(self.ways, coordinates)
        shifts = [jnp.sum(a * f, axis=0) for a, f in zip(self.slopes, values, strict=True)]
        mean = self.mean
        for shift, moving in zip(shifts, self.moving, strict=True):
            mean = mean.at[int(moving)].add(shift)
        return self._replace(mean=mean)

    def log_density(self, scale: Scale) -> Array:
        """Log density of the scale at coordinates 0, up to a constant."""
        surprise, variance = self.phenotype(scale)
        each = -0.5 * (jnp.log(variance) + surprise**2 / variance)
        return jnp.sum(jnp.where(self.known, each, 0.0)) + self.prior.log_density(scale)


def within_individuals(
    phenotype: PhenotypeInformation, state: State, data: ModelData
) -> tuple[Array, Array]:
    """Squares and degrees of freedom of the differences of records of one individual."""
    each = without_nodes(state, data) - data.trait.weighted(data.of_records(phenotype.left))
    return jnp.sum(each**2), data.y.shape[0] - jnp.sum(phenotype.seen)


def make_problem(state: State, data: ModelData) -> Problem:
    """Gather what is known, at coordinates 0."""
    root = data.omics[0].root  # all blocks have the same records and weights
    phenotype = phenotype_information(state, data)
    left, var_y, known = phenotype
    square = jnp.ones_like(left) if root is None else root**2
    mean = spread = jnp.zeros((2, *left.shape), left.dtype)
    every, observed, score, slopes = [], [], [], []
    moving = tuple(not hyper.known for hyper in data.node_hyper)
    for number, (layer, arrays, nodes) in enumerate(
        zip(state.omics, data.omics, data.block_nodes, strict=True)
    ):
        effects, holes = state.nodes[number].coef[0], ~data.observed[nodes]
        ways = block_ways(layer, arrays, effects)
        shape = (len(ways), layer.variance.shape[0])
        directions = jnp.reshape(jnp.asarray([way.direction for way in ways]), shape)
        precise = directions / layer.variance
        pairs = jnp.reshape(precise[:, None] * directions[None], (shape[0] ** 2, shape[1]))
        every.append(ways)
        observed.append(jnp.reshape(pairs @ ~holes, (shape[0], shape[0], holes.shape[1])))
        score.append(precise @ jnp.where(holes, 0.0, layer.residual))
        slopes.append(jnp.where(known, (directions * effects) @ holes, 0.0))
        # Observed omics, and what is expected of missing ones.
        guess = arrays.weighted(state.z[nodes]) - jnp.where(holes, layer.residual, 0.0)
        mean = mean.at[int(moving[number])].add(effects @ guess)
        spread = spread.at[int(moving[number])].add((effects**2 * layer.variance) @ holes)
    return Problem(
        ways=tuple(every),
        observed=tuple(observed),
        roots=tuple(semidefinite_root(one) for one in observed),
        score=tuple(score),
        slopes=tuple(slopes),
        moving=moving,
        left=jnp.sqrt(square) * left,
        unit=square * var_y / state.trait.variance[0],
        mean=mean,
        spread=spread,
        known=known,
        prior=scale_prior(state, data, within_individuals(phenotype, state, data)),
    )


def moved(
    state: State, data: ModelData, problem: Problem, coordinates: Array, scale: Scale
) -> State:
    """The state with means and scales moved, omics as they are."""
    blocks = []
    parts, values = split(problem.ways, coordinates), way_values(problem.ways, coordinates)
    for layer, arrays, ways, xs, rows in zip(
        state.omics, data.omics, problem.ways, parts, values, strict=True
    ):
        blocks.append(_moved_layer(layer, arrays, ways, xs, rows) if ways else layer)
    k = jnp.exp(scale.log_k)[None]
    nodes = tuple(
        family_of(hyper).scaled(effects, k) if moving else effects
        for effects, hyper, moving in zip(state.nodes, data.node_hyper, problem.moving, strict=True)
    )
    trait = state.trait._replace(variance=jnp.exp(scale.log_var_y)[None])
    return state._replace(omics=tuple(blocks), nodes=nodes, trait=trait)


def _moved_layer(
    layer: LayerState, arrays: LayerArrays, ways: tuple[Way, ...], xs: list[Array], rows: Array
) -> LayerState:
    terms, values, number = list(layer.terms), list(layer.term_values), 0
    changes = [way.direction[:, None] * row for way, row in zip(ways, rows, strict=True)]
    for which, term in enumerate(arrays.terms):
        if term.spectrum is None:
            continue
        shift = ways[number].direction[:, None] * xs[number]
        terms[which] = terms[which]._replace(coef=terms[which].coef + shift)
        values[which] = values[which] + changes[number]
        number += 1
    return layer._replace(
        fixed=layer.fixed + ways[-1].direction[:, None] * (xs[-1] @ arrays.design.to_terms),
        terms=tuple(terms),
        term_values=tuple(values),
        residual=layer.residual - sum(changes[1:], changes[0]),
    )


def kernel(key: Array, state: State, data: ModelData) -> tuple[State, dict[str, Array]]:
    """Gibbs block: breeding values and means through the nodes and scales, by turns.

    Missing omics are integrated out and keep their values:
    :func:`~nnmm_jax.inference.blocks.missing_linear.kernel`, which draws them given all else, has
    to follow, and so has a block that refreshes the trait's residual.

    Returns
    -------
    state, info
        ``info``: iterations of the solver, and how often it did not converge.
    """
    problem, dtype = make_problem(state, data), state.z.dtype
    start = Scale(jnp.zeros((), dtype), jnp.log(state.trait.variance[0]))
    free = ~data.trait.residual_hyper.fixed[0]
    movable = jnp.stack([jnp.full_like(free, any(problem.moving)), free])

    def turn(scale: Scale, key: Array) -> tuple[Scale, tuple[Array, Array, Array]]:
        key_data, key_prior, key_scale = random.split(key, 3)
        system = problem.system(scale)
        of_data, of_prior = system.noise_shapes
        perturbation = system.perturb(
            noise.normal(key_data, of_data, dtype), noise.normal(key_prior, of_prior, dtype)
        )
        coordinates, steps, failed = solve(system, system.rhs() + perturbation)
        there = problem.at(coordinates)
        scale = move_scale(key_scale, scale, there.log_density, movable)
        return scale, (coordinates, steps, failed)

    scale, (coordinates, steps, failed) = lax.scan(turn, start, random.split(key, n_turns(data)))
    info = {"cg_iterations": jnp.sum(steps), "cg_failed": jnp.sum(failed)}
    return moved(state, data, problem, coordinates[-1], scale), info
