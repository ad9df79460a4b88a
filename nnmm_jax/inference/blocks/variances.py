"""All variances and all pi, in one block: given effects and residuals they are independent.

One block also means one call of the gamma sampler, which is what compiles slowest in a sweep.
"""

from typing import TypeAlias

import jax.numpy as jnp
import numpyro.distributions as dist
from jax import Array, random

from nnmm_jax.inference.arrays import EffectHyper, MixedArrays, ModelData
from nnmm_jax.inference.blocks.effects import pi_conditional, variance_conditional
from nnmm_jax.inference.blocks.trait import trait_residual
from nnmm_jax.inference.state import EffectState, State
from nnmm_jax.network.activations import Activation

Conditional: TypeAlias = dist.InverseGamma | dist.Beta


def joint_variance_conditional(
    effects: EffectState, values: Array, hyper: EffectHyper
) -> dist.InverseGamma:
    """Conditional of the marker variance under a joint draw, given the genetic values alone.

    Directions of the marker effects which the genotypes do not show are integrated out, so the
    count is the rank, not the number of markers.

    Parameters
    ----------
    values : (rank,)
        Eigenvalues of the spectrum.
    """
    scaled = jnp.sum(effects.coef**2 / values, axis=-1)
    return variance_conditional(hyper.df, hyper.scale, scaled, values.shape[0])


def _effect_conditionals(
    name: str, effects: EffectState, hyper: EffectHyper, n_effects: int
) -> dict[str, Conditional]:
    """Conditionals of variance and pi given effects (response, effect).

    Only non-zero effects inform the variance: those that are zero are integrated out.
    """
    n_nonzero = jnp.sum(effects.coef != 0, axis=-1)
    sum_squares = jnp.sum(effects.coef**2, axis=-1)
    found: dict[str, Conditional] = {
        f"var_{name}": variance_conditional(hyper.df, hyper.scale, sum_squares, n_nonzero)
    }
    if hyper.estimate_pi:
        found[f"pi_{name}"] = pi_conditional(hyper, n_effects - n_nonzero, n_nonzero)
    return found


def _marker_conditionals(
    name: str, effects: EffectState, arrays: MixedArrays
) -> dict[str, Conditional]:
    if arrays.spectrum is not None:
        values = arrays.spectrum.values
        return {f"var_{name}": joint_variance_conditional(effects, values, arrays.hyper)}
    return _effect_conditionals(name, effects, arrays.hyper, arrays.markers.n_markers)


def conditionals(state: State, data: ModelData, activation: Activation) -> dict[str, Conditional]:
    """Conditionals of all variances and pi, by the names of the joint density's sites.

    Only phenotyped individuals count for the trait's residual variance.
    """
    found = _marker_conditionals("marker", state.markers, data.omics)
    hyper = data.residual_hyper
    found["var_e"] = variance_conditional(
        hyper.df, hyper.scale, jnp.sum(state.residual**2, axis=-1), state.residual.shape[-1]
    )
    n_nodes = state.nodes.coef.shape[-1]
    found |= _effect_conditionals("node", state.nodes, data.node_hyper, n_nodes)
    if state.skip is not None and data.skip is not None:
        found |= _marker_conditionals("skip", state.skip, data.skip)
    hyper = data.trait_hyper
    sum_squares = jnp.sum(trait_residual(state, data, activation) ** 2)
    found["var_y"] = variance_conditional(hyper.df, hyper.scale, sum_squares, data.y.shape[0])
    return found


def draw(key: Array, wanted: dict[str, Conditional]) -> dict[str, Array]:
    """Draw from inverse gamma and beta distributions with one call of the gamma sampler."""
    shapes: list[Array] = []
    for one in wanted.values():
        beta = isinstance(one, dist.Beta)
        shapes += [one.concentration1, one.concentration0] if beta else [one.concentration]
    flat = random.gamma(key, jnp.concatenate([jnp.ravel(shape) for shape in shapes]))
    parts = []
    for shape in shapes:
        parts.append(flat[: shape.size].reshape(shape.shape))
        flat = flat[shape.size :]
    values = iter(parts)
    drawn = {}
    for name, one in wanted.items():
        first = next(values)
        if isinstance(one, dist.Beta):
            drawn[name] = first / (first + next(values))
        else:
            drawn[name] = one.rate / first
    return drawn


def _updated(name: str, effects: EffectState, drawn: dict[str, Array]) -> EffectState:
    return EffectState(effects.coef, drawn[f"var_{name}"], drawn.get(f"pi_{name}", effects.pi))


def kernel(
    key: Array, state: State, data: ModelData, activation: Activation
) -> tuple[State, dict[str, Array]]:
    """Gibbs block: all variances and pi; a latent node's residual variance stays fixed."""
    drawn = draw(key, conditionals(state, data, activation))
    hyper = data.residual_hyper
    skip = None if state.skip is None else _updated("skip", state.skip, drawn)
    state = state._replace(
        markers=_updated("marker", state.markers, drawn),
        var_e=jnp.where(hyper.fixed, hyper.scale, drawn["var_e"]),
        nodes=_updated("node", state.nodes, drawn),
        skip=skip,
        var_y=drawn["var_y"],
    )
    return state, {}
