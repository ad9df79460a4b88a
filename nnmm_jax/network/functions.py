"""A user's function as an activation: elementwise, or of all nodes of an individual together.

Which of the two it is shows in what it returns for the nodes of one individual: as many values as
there are nodes, each of its own node, or a single one.
"""

from collections.abc import Callable, Hashable, Mapping, Sequence
from functools import lru_cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from numpyro.distributions import Distribution
from scipy.stats import norm, qmc

from nnmm_jax.errors import InputError, shortlist
from nnmm_jax.network.activations import (
    ACTIVATIONS,
    NO_THETA,
    Activation,
    Theta,
    gauss_hermite_expectation,
)
from nnmm_jax.network.parameters import Parameters

Function = Callable[..., Any]
_MAX_GRID_NODES = 2
_GRID_POINTS = 9  # for each of at most two nodes
_TRIALS = 64  # values tried of every node
_SPREAD_POINTS = 128  # for more nodes; a power of two


def activation_of_function(
    function: Function,
    node_names: Sequence[str],
    theta: Mapping[str, Distribution] | None = None,
    *,
    values: np.ndarray | None = None,
    units: np.ndarray | None = None,
    order: Sequence[int] | None = None,
) -> Activation:
    """Make an activation of a user's function, which is tried out first.

    Parameters
    ----------
    function : callable
        ``f(z)`` or, with priors for theta, ``f(z, theta)``, in JAX operations: ``z`` (node,) are
        the nodes of one individual in the order of ``node_names``, ``theta`` a dict. It returns
        (node,), each value of its own node only, or a scalar.
    node_names : sequence of str
        Names of the nodes.
    theta : mapping of str to numpyro.distributions.Distribution, optional
        Priors of the parameters.
    values : (node, individual), optional
        Nodes, as they are activated, at which the function must be finite. Default: ones.
    units : (node, individual), optional
        The same in the user's units, for a function of all nodes. Default: ``values``.
    order : sequence of int, optional
        The node that the function gets first, second, ...; default: as they are.

    Raises
    ------
    InputError
        If the function fails, is not made of JAX operations, returns the wrong shape, lets a value
        depend on other nodes, or is not finite.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> import numpyro.distributions as dist
    >>> def uptake(z, theta):
    ...     return theta["V"] * z[0] / (theta["K"] + z[1])
    >>> priors = {"V": dist.LogNormal(0.0, 1.0), "K": dist.LogNormal(0.0, 1.0)}
    >>> activation_of_function(uptake, ["substrate", "inhibitor"], priors).combines
    True
    >>> activation_of_function(jnp.sin, ["gene1", "gene2"]).combines
    False
    """
    parameters = Parameters(theta or {})
    start = parameters.constrain(parameters.median())
    values = np.ones((len(node_names), 1)) if values is None else values
    units = values if units is None else units
    return _tried_out(function, node_names, start, parameters, values, units, order)


def activation_of_fit(
    function: Function,
    node_names: Sequence[str],
    theta: Theta,
    *,
    values: np.ndarray,
    units: np.ndarray,
    order: Sequence[int],
) -> Activation:
    """Make an activation of the function of a fit, of which draws of theta are known, not priors.

    Parameters
    ----------
    function, node_names, values, units, order
        As for :func:`activation_of_function`.
    theta : mapping of str to Array
        Some draw, with which the function is tried out; empty for a function ``f(z)``.

    Raises
    ------
    InputError
        As :func:`activation_of_function`.
    """
    return _tried_out(function, node_names, theta, Parameters(), values, units, order)


def function_name(function: Function) -> str:
    """Name by which a user's function is known, never that of a built-in activation."""
    whole = function.func if isinstance(function, partial) else function
    name = str(getattr(whole, "__name__", type(whole).__name__))
    return f"{name} (function)" if name in ACTIVATIONS else name


def _tried_out(
    function: Function,
    node_names: Sequence[str],
    start: Theta,
    parameters: Parameters,
    values: np.ndarray,
    units: np.ndarray,
    order: Sequence[int] | None,
) -> Activation:
    """Try a function out at a theta and at nodes, and say what it is."""
    places = tuple(range(len(node_names))) if order is None else tuple(int(k) for k in order)
    what = (
        f"activation {function_name(function)}, nodes {shortlist([node_names[k] for k in places])}"
    )
    if not _is_hashable(function):  # an object with fields, say; it cannot be looked up
        function = partial(function)
    one, count = _of_both(function, bool(start), places), len(node_names)
    combines = _tried(one, units[:, 0], start, count, what) == ()
    if not combines:
        _check_elementwise(one, start, count, what)
    values = units if combines else values
    made = _made(function, bool(start), tuple(parameters.priors.items()), places, combines)
    result = np.asarray(made.function(jnp.asarray(values), start))
    _check_finite(result, values, node_names, what, combines)
    if values.shape[1] > 1 and (result == result[..., :1]).all():
        raise InputError(
            f"{what}: expected values that differ between individuals, found {result.ravel()[0]} "
            "for all of them"
        )
    return made


def _is_hashable(thing: object) -> bool:
    return isinstance(thing, Hashable)


@lru_cache(maxsize=32)
def _made(
    function: Function,
    with_theta: bool,
    priors: tuple[tuple[str, Distribution], ...],
    places: tuple[int, ...],
    combines: bool,
) -> Activation:
    """One object for the same function and priors, for which programs are compiled once."""
    one, count = _of_both(function, with_theta, places), len(places)
    every = jax.vmap(one, in_axes=(1, None), out_axes=-1)
    if combines:
        expectation = _spread_expectation(every, count)
    else:
        expectation = gauss_hermite_expectation(every)
    return Activation(
        function_name(function),
        every,
        expectation,
        symmetric=not combines and not with_theta and _is_odd(every, count),
        combines=combines,
        parameters=Parameters(dict(priors)),
    )


def _of_both(
    function: Function, with_theta: bool, places: tuple[int, ...]
) -> Callable[[Array, Theta], Array]:
    """Function of nodes as they are, and theta; the user's has the nodes in an order of its own."""
    order = np.asarray(places)
    back, as_they_are = np.argsort(order), places == tuple(range(len(places)))

    def one(z: Array, theta: Theta) -> Array:
        z = z if as_they_are else z[order]
        value = jnp.asarray(function(z, dict(theta)) if with_theta else function(z))
        if not jnp.issubdtype(value.dtype, jnp.complexfloating):
            value = value.astype(jnp.result_type(float))  # a step may come as True and False
        return value[back] if value.shape == order.shape and not as_they_are else value

    return one


def _tried(
    one: Callable[[Array, Theta], Array], z: np.ndarray, theta: Theta, count: int, what: str
) -> tuple[int, ...]:
    """Shape of the result for one individual, (count,) or ()."""
    try:
        # NumPy's own array first: with JAX's an index beyond the last node would pass unnoticed.
        one(np.asarray(z), theta)  # type: ignore[arg-type]
        result = jax.eval_shape(one, jnp.asarray(z), theta)
    except jax.errors.JAXTypeError as error:
        first = str(error).splitlines()[0]
        raise InputError(
            f"{what}: expected JAX operations only (jax.numpy, jnp.where instead of if), found "
            f"{type(error).__name__}: {first}"
        ) from error
    except Exception as error:
        raise InputError(
            f"{what}: expected a function of z with shape ({count},)"
            f"{' and theta' if theta else ''}, but it failed with {type(error).__name__}: {error}"
        ) from error
    shape = result.shape
    if jnp.issubdtype(result.dtype, jnp.complexfloating):
        raise InputError(f"{what}: expected real numbers, found {result.dtype}")
    if shape not in ((count,), ()):
        raise InputError(
            f"{what}: expected one value for each node, shape ({count},), or a single one, shape "
            f"(), found shape {shape}"
        )
    return shape


def _check_finite(
    result: np.ndarray, values: np.ndarray, names: Sequence[str], what: str, combines: bool
) -> None:
    wrong = ~np.isfinite(result)
    if not wrong.any():
        return
    if combines:
        column = int(np.argmax(wrong))
        nodes = range(len(names))
    else:
        row, column = np.argwhere(wrong)[0]
        nodes = range(row, row + 1)
    at = [f"{names[k]} = {values[k, column]:.4g}" for k in nodes][:5]
    raise InputError(
        f"{what}: expected finite values where the sampler starts, found "
        f"{result[..., column].ravel()[0] if combines else result[row, column]} at "
        f"{', '.join(at)} ({int(wrong.sum())} of {wrong.size} values); guard it, for instance "
        "with jnp.maximum"
    )


def _check_elementwise(
    one: Callable[[Array, Theta], Array], theta: Theta, count: int, what: str
) -> None:
    """Replace single nodes by others: no other value may change."""
    rng = np.random.default_rng(0)
    base = 4.0 * rng.normal(size=(_TRIALS, count))
    every = jax.jit(jax.vmap(one, in_axes=(0, None)))
    before = np.asarray(every(jnp.asarray(base), theta))
    for column in range(min(count, 20)):
        moved = base.copy()
        moved[:, column] = 4.0 * rng.normal(size=_TRIALS)
        after = np.asarray(every(jnp.asarray(moved), theta))
        others = np.arange(count) != column
        if not np.array_equal(before[:, others], after[:, others], equal_nan=True):
            raise InputError(
                f"{what}: expected that each of the {count} values depends on its own node only; "
                "a function of all nodes together returns a single value"
            )


def _is_odd(every: Callable[[Array, Theta], Array], count: int) -> bool:
    """Whether g(-z) + g(z) is constant, as far as a grid can tell."""
    grid = jnp.broadcast_to(jnp.linspace(0.0, 3.0, 31), (count, 31))
    total = np.asarray(every(grid, NO_THETA) + every(-grid, NO_THETA))
    return bool(np.isfinite(total).all() and np.allclose(total, total[:, :1], atol=1e-5))


def _spread_expectation(
    every: Callable[[Array, Theta], Array], count: int
) -> Callable[[Array, Array, Theta], Array]:
    """Expectation of a function of all nodes.

    A product of Gauss-Hermite rules for up to two nodes, scrambled Sobol points with their mirror
    images for more: the same points for every individual and draw.
    """
    if count <= _MAX_GRID_NODES:
        nodes, weights = np.polynomial.hermite_e.hermegauss(_GRID_POINTS)
        grid = np.meshgrid(*[nodes] * count, indexing="ij")
        points = np.stack([axis.ravel() for axis in grid], axis=1)
        mass = np.meshgrid(*[weights / weights.sum()] * count, indexing="ij")
        share = np.prod([axis.ravel() for axis in mass], axis=0)
    else:
        uniform = qmc.Sobol(count, rng=np.random.default_rng(0)).random(_SPREAD_POINTS // 2)
        half = norm.ppf(np.clip(uniform, 1e-9, 1 - 1e-9))
        points = np.concatenate([half, -half])
        share = np.full(len(points), 1.0 / len(points))

    def expectation(mean: Array, sd: Array, theta: Theta) -> Array:
        at = jnp.asarray(points, mean.dtype)
        by = jnp.asarray(share, mean.dtype)

        def add(index: Array, total: Array) -> Array:
            return total + by[index] * every(mean + sd * at[index][:, None], theta)

        zero = jnp.zeros(mean.shape[1:], mean.dtype)
        return jax.lax.fori_loop(0, len(share), add, zero)

    return expectation
