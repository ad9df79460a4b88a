"""What is sequential in a sweep over effects: arrays, rule, and how chains become responses.

Three programs take these arrays and give the same numbers up to rounding: a loop of XLA's
(:func:`nnmm_jax.inference.blocks.effects.step_by_step`), machine code on a CPU
(:mod:`nnmm_jax.inference.native`), a kernel on a GPU (:mod:`nnmm_jax.inference.pallas_sweep`).
"""

import os
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

SWITCH = "NNMM_JAX_NATIVE"  # environment variable; 0: XLA's own loop alone


def switched_off() -> bool:
    """Whether the environment asks for XLA's own loop alone."""
    return os.environ.get(SWITCH, "1") == "0"


class SweepArrays(NamedTuple):
    """What a sweep over effects takes, one after the other, on their cross-products alone.

    Attributes
    ----------
    gram : (effect, effect)
        Cross-products that all responses share.
    extra : (effect, effect) or (0, 0)
        What a response adds to them, times its share.
    share : (response,)
    rhs : (response, effect)
        Products of the covariates with the current residual.
    coef : (response, effect)
        Current effects.
    offset, gain, noise : (response, component, effect)
        Of :class:`~nnmm_jax.inference.blocks.effects.SweepDraws`.
    half_precision : (response,)
        Half the inverse of the residual variance.
    """

    gram: Array
    extra: Array
    share: Array
    rhs: Array
    coef: Array
    offset: Array
    gain: Array
    noise: Array
    half_precision: Array


def chosen(
    rhs: Array,
    offset: Sequence[Array] | Array,
    slope: Sequence[Array] | Array,
    gain: Sequence[Array] | Array,
    noise: Sequence[Array] | Array,
) -> Array:
    """Value (...) of an effect that a sweep's draws, (...) for each component, give.

    Parameters
    ----------
    rhs : Array
        Product of the covariate with the residual that leaves out this effect.
    """
    square = rhs**2
    best, value = jnp.zeros_like(rhs), jnp.zeros_like(rhs)
    for k in range(len(offset)):
        score = offset[k] + slope[k] * square
        value = jnp.where(score > best, rhs * gain[k] + noise[k], value)
        best = jnp.maximum(score, best)
    return value


def batched_as_responses(call: Callable[..., Array]) -> Callable[[SweepArrays], Array]:
    """Make a function of one sweep from one of responses in equal groups.

    Under ``vmap``, chains are then more responses of the same cross-products, or of as many sets
    of them: a program that JAX cannot look into need not know of batches.

    Parameters
    ----------
    call : callable
        Takes ``gram`` and ``extra`` with a leading axis of groups and what else is in
        :class:`SweepArrays`; returns the new effects (response, effect).

    Returns
    -------
    callable
        Takes :class:`SweepArrays`; returns the new effects (response, effect).
    """
    many = jax.custom_batching.custom_vmap(call)

    @many.def_vmap
    def _batched(size: int, batched: list[bool], *arguments: Array) -> tuple[Array, bool]:
        def whole(values: Array, has_axis: bool) -> Array:
            spread = values if has_axis else jnp.broadcast_to(values, (size, *values.shape))
            return spread.reshape(size * spread.shape[1], *spread.shape[2:])

        shared = not (batched[0] or batched[1]) and arguments[0].shape[0] == 1
        first = arguments[:2] if shared else map(whole, arguments[:2], batched[:2])
        new = many(*first, *map(whole, arguments[2:], batched[2:]))
        return new.reshape(size, new.shape[0] // size, new.shape[1]), True

    def sweep(arrays: SweepArrays) -> Array:
        gram, extra, *of_response = arrays
        return many(gram[None], extra[None], *of_response)

    return sweep
