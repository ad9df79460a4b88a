"""A state and data drawn from the joint density, for checks of calibration.

The NumPyro model is the one statement of the prior; what it draws is laid out here as the
sampler's state.
"""

import dataclasses
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array, random
from numpyro import handlers

from nnmm_jax.errors import InputError
from nnmm_jax.inference.arrays import EffectHyper, LayerArrays, ModelData, TermArrays
from nnmm_jax.inference.blocks.mixed_model import allowed_effects
from nnmm_jax.inference.start import start_state
from nnmm_jax.inference.state import EffectState, LayerState, State
from nnmm_jax.inference.sweep import refreshed
from nnmm_jax.network.activations import Activation
from nnmm_jax.network.joint import model

Sites = dict[str, Any]


class PriorDraw(NamedTuple):
    """Everything drawn from the joint density.

    Attributes
    ----------
    state : State
        The truth.
    z_start : (node, individual)
        Observed omics; zero where missing.
    y : (record,)
    """

    state: State
    z_start: Array
    y: Array

    def data(self, template: ModelData) -> ModelData:
        """The template with the drawn data in the place of its own."""
        return dataclasses.replace(template, z_start=self.z_start, y=self.y)


def check_proper(data: ModelData) -> None:
    """Refuse a model of which nothing can be drawn.

    Raises
    ------
    InputError
        If fixed effects are flat.
    """
    for arrays in (*data.omics, data.trait):
        given = arrays.fixed_precision
        if given is None or not bool(jnp.all(given > 0)):
            raise InputError(
                "draws from the prior need proper priors of all fixed effects, found flat ones: "
                "state fixed_sd_omics and fixed_sd_trait"
            )


def draw_prior(key: Array, data: ModelData, activation: Activation) -> PriorDraw:
    """Draw parameters, the middle layer and phenotypes from their joint density.

    Parameters
    ----------
    key : Array
    data : ModelData
        Genotypes, designs, hyperparameters, and which cells and records are observed. Its values
        are not used; all fixed effects need proper priors.
    activation : Activation
    """
    key_sites, key_y, key_start = random.split(key, 3)
    nothing: Any = np.zeros(data.observed.shape, dtype=bool)  # the model must be able to read it
    unseen = dataclasses.replace(data, observed=nothing)
    sites = handlers.trace(handlers.seed(model, key_sites)).get_trace(unseen, activation)
    y = sites["y"]["fn"].sample(key_y)
    values = {name: site.get("value") for name, site in sites.items()}
    z = jnp.zeros_like(data.z_start)
    if data.omics:
        z = values["z_missing"].reshape(z.shape)
    drawn = PriorDraw(start_state(key_start, data, activation), jnp.where(data.observed, z, 0.0), y)
    seen = drawn.data(data)
    state = state_of_sites(values | {"z": z}, drawn.state, data, activation)
    return drawn._replace(state=refreshed(state, seen, activation))


def state_of_sites(values: Sites, start: State, data: ModelData, activation: Activation) -> State:
    """Lay values of the NumPyro model's sites out as a state; its caches are still to be computed.

    Parameters
    ----------
    values : dict of str to Array
        Of all sites, deterministic ones too, and ``z``, the whole middle layer.
    start : State
        Any state of the model: what sites do not know, such as step sizes, comes from it.
    """
    omics = tuple(
        _layer(layer, arrays, values, "fixed_omics", "var_e")
        for layer, arrays in zip(start.omics, data.omics, strict=True)
    )
    nodes = tuple(
        _effects(effects, hyper, values, f"node{block.suffix}")
        for effects, hyper, block in zip(start.nodes, data.node_hyper, data.omics, strict=False)
    )
    trait = _layer(start.trait, data.trait, values, "fixed_trait", "var_y")
    theta = start.theta
    if theta is not None:
        named = {name: values[f"theta_{name}"] for name in activation.parameters.priors}
        theta = activation.parameters.unconstrain(named)
    return start._replace(z=values["z"], omics=omics, nodes=nodes, trait=trait, theta=theta)


def _layer(
    layer: LayerState, arrays: LayerArrays, values: Sites, fixed: str, variance: str
) -> LayerState:
    hyper = arrays.residual_hyper
    drawn = values[f"{variance}{arrays.suffix}"]
    terms = tuple(
        _term(effects, term, values)
        for effects, term in zip(layer.terms, arrays.terms, strict=True)
    )
    groups = tuple(
        effects._replace(
            coef=values[f"effects_{group.name}"],
            level=values.get(f"level_{group.name}", effects.level),
        )
        for effects, group in zip(layer.random, arrays.random, strict=True)
    )
    return layer._replace(
        fixed=values[f"{fixed}{arrays.suffix}"],
        terms=terms,
        random=groups,
        variance=jnp.where(hyper.fixed, hyper.scale, drawn),
    )


def _term(effects: EffectState, term: TermArrays, values: Sites) -> EffectState:
    """Effects of a term, padded, or genetic values in the eigenvectors' coordinates."""
    drawn = _effects(effects, term.hyper, values, term.name)
    if term.spectrum is not None:
        coef = values[f"values_{term.name}"] @ term.spectrum.vectors.T
        return drawn._replace(coef=coef)
    allowed = allowed_effects(term).T
    padding = ((0, 0), (0, term.markers.n_padded - term.markers.n_markers))
    own = drawn.own
    if own is not None:
        own = jnp.where(allowed, jnp.pad(own, padding), 0.0)
    return drawn._replace(coef=jnp.where(allowed, jnp.pad(drawn.coef, padding), 0.0), own=own)


def _effects(effects: EffectState, hyper: EffectHyper, values: Sites, name: str) -> EffectState:
    """One set of effects, without padding."""
    coef, own = values[f"slab_{name}"], None
    component = values.get(f"component_{name}")
    if component is not None:
        coef = jnp.where(component > 0, coef, 0.0)
    if hyper.own_variances:
        own = values[f"own_{name}"]
    elif hyper.mixture:
        assert component is not None
        own = jnp.asarray(hyper.multipliers, coef.dtype)[component]
    return EffectState(
        coef,
        values.get(f"level_{name}", effects.level),
        values.get(f"weights_{name}", effects.weights),
        own,
    )
