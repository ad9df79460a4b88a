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
from jax import Array, random

from nnmm_jax.inference import noise
from nnmm_jax.inference.arrays import LayerArrays, ModelData
from nnmm_jax.inference.blocks.missing_linear import phenotype_information
from nnmm_jax.inference.blocks.random_terms import solve
from nnmm_jax.inference.state import LayerState, State
from nnmm_jax.network.activations import Activation


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
    columns, left = [], matrix
    for number in range(matrix.shape[0]):
        pivot = left[number, number]
        real = pivot > 1e-6 * matrix[number, number]
        column = jnp.where(real, left[:, number] / jnp.sqrt(jnp.where(real, pivot, 1.0)), 0.0)
        column = column.at[:number].set(0.0)
        columns.append(column)
        left = left - column[:, None] * column[None]
    return jnp.stack(columns, axis=1)


class MediatedSystem(NamedTuple):
    """Conditional of the coordinates of all ways, concatenated, missing omics integrated out.

    Everything about individuals is times the square roots of known residual weights.

    Attributes
    ----------
    ways : tuple of tuple of Way
        Of every block.
    observed : tuple of (way, way, individual)
        What observed omics say: information about the blocks' values ``x @ vectors``.
    seen : tuple of (way, individual)
        What the phenotype sees of these: slopes, divided by its standard deviation.
    score : tuple of (way, individual)
        Gradients of the log likelihood with respect to the values at coordinates 0.
    """

    ways: tuple[tuple[Way, ...], ...]
    observed: tuple[Array, ...]
    seen: tuple[Array, ...]
    score: tuple[Array, ...]

    def split(self, coordinates: Array) -> list[list[Array]]:
        """Coordinates (1, coordinate) of every way of every block."""
        sizes = [way.precision.shape[0] for ways in self.ways for way in ways]
        bounds = iter(pairwise(accumulate(sizes, initial=0)))
        return [[coordinates[0, slice(*next(bounds))] for _ in ways] for ways in self.ways]

    def values(self, coordinates: Array) -> list[Array]:
        """Values (way, individual) of every block; none of a block without ways."""
        parts = self.split(coordinates)
        return [
            jnp.stack([x @ way.vectors for x, way in zip(part, ways, strict=True)])
            if ways
            else jnp.zeros_like(score)
            for part, ways, score in zip(parts, self.ways, self.score, strict=True)
        ]

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
        for information, a in zip(self.observed, self.seen, strict=True):
            own = data_noise[first : first + a.shape[0]]
            first += a.shape[0]
            luck = a * data_noise[0]
            if a.shape[0]:
                luck = luck + jnp.einsum("tui,ui->ti", semidefinite_root(information), own)
            image.append(luck)
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

    Terms whose effects are drawn one by one, or given a sparse precision, stay where they are, and
    so do blocks that have no other.
    """
    terms = [term for block in data.omics for term in block.terms]
    shared = any(term.spectrum is not None for term in terms)
    return activation.linear and shared and data.incomplete_rows.shape[0] > 0


def make_system(state: State, data: ModelData) -> MediatedSystem:
    """Gather what is known of the coordinates, at coordinates 0."""
    root = data.omics[0].root  # all blocks have the same records and weights
    effects = state.node_coef[0]
    missing = ~data.observed
    left, var_y, known = phenotype_information(state, data)
    scale = jnp.ones_like(left) if root is None else root
    # The phenotype less what it is expected to be given layer 1 and observed omics.
    guess = data.omics[0].weighted(state.z) - jnp.where(missing, state.node_residual, 0.0)
    surprise = scale * left - effects @ guess
    spread = scale**2 * var_y + (effects**2 * state.node_variance) @ missing
    sd = jnp.sqrt(spread)
    ways, observed, seen, score = [], [], [], []
    for layer, arrays, nodes in zip(state.omics, data.omics, data.block_nodes, strict=True):
        mine = block_ways(layer, arrays, effects[nodes])
        shape = (len(mine), layer.variance.shape[0])
        directions = jnp.reshape(jnp.asarray([way.direction for way in mine]), shape)
        precise = directions / layer.variance
        pairs = jnp.reshape(precise[:, None] * directions[None], (shape[0] ** 2, shape[1]))
        holes = missing[nodes]
        residual = jnp.where(holes, 0.0, layer.residual)
        slopes = jnp.where(known, (directions * effects[nodes]) @ holes / sd, 0.0)
        ways.append(mine)
        observed.append(jnp.reshape(pairs @ ~holes, (shape[0], *slopes.shape)))
        seen.append(slopes)
        score.append(precise @ residual + slopes * surprise / sd)
    return MediatedSystem(tuple(ways), tuple(observed), tuple(seen), tuple(score))


def moved(state: State, data: ModelData, system: MediatedSystem, coordinates: Array) -> State:
    """The state with the means of the nodes moved, omics as they are."""
    blocks = []
    parts, values = system.split(coordinates), system.values(coordinates)
    for layer, arrays, ways, xs, rows in zip(
        state.omics, data.omics, system.ways, parts, values, strict=True
    ):
        if not ways:
            blocks.append(layer)
            continue
        terms, term_values = list(layer.terms), list(layer.term_values)
        residual, number = layer.residual, 0
        changes = [way.direction[:, None] * row for way, row in zip(ways, rows, strict=True)]
        for which, term in enumerate(arrays.terms):
            if term.spectrum is None:
                continue
            shift = ways[number].direction[:, None] * xs[number]
            terms[which] = terms[which]._replace(coef=terms[which].coef + shift)
            term_values[which] = term_values[which] + changes[number]
            number += 1
        fixed = layer.fixed + ways[-1].direction[:, None] * (xs[-1] @ arrays.design.to_terms)
        blocks.append(
            layer._replace(
                fixed=fixed,
                terms=tuple(terms),
                term_values=tuple(term_values),
                residual=residual - sum(changes[1:], changes[0]),
            )
        )
    return state._replace(omics=tuple(blocks))


def kernel(key: Array, state: State, data: ModelData) -> tuple[State, dict[str, Array]]:
    """Gibbs block: breeding values and means through the nodes, missing omics integrated out.

    The omics keep their values: :func:`~nnmm_jax.inference.blocks.missing_linear.kernel`, which
    draws those that are missing given all else, has to follow.

    Returns
    -------
    state, info
        ``info``: iterations of the solver, and whether it did not converge.
    """
    key_data, key_prior = random.split(key)
    system, dtype = make_system(state, data), state.z.dtype
    of_data, of_prior = system.noise_shapes
    perturbation = system.perturb(
        noise.normal(key_data, of_data, dtype), noise.normal(key_prior, of_prior, dtype)
    )
    coordinates, steps, failed = solve(system, system.rhs() + perturbation)
    return moved(state, data, system, coordinates), {"cg_iterations": steps, "cg_failed": failed}
