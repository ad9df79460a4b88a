"""What the priors imply before any response is seen: heritabilities and variances."""

import dataclasses
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import xarray as xr
from jax import Array, random
from numpyro import handlers

from nnmm_jax.inference.arrays import LayerArrays, ModelData
from nnmm_jax.inference.prepare import Prepared
from nnmm_jax.network.activations import Activation
from nnmm_jax.network.joint import model

_BATCH = 50  # draws at a time: bounds the memory


@dataclass(frozen=True, eq=False)
class PriorPredictive:
    """Draws from the priors.

    Attributes
    ----------
    draws : xarray.Dataset
        Dimension ``draw`` (and ``node``): ``h2_trait``, ``var_genetic_trait``, ``var_trait`` (all
        but fixed effects), ``h2_node``, ``var_genetic_node``, ``var_node``; variances relative to
        the observed variance of the response (with ``standardize=False``, of nodes as they are).
    """

    draws: xr.Dataset

    def summary(self) -> pd.DataFrame:
        """Quantiles of every quantity over draws.

        Returns
        -------
        pandas.DataFrame
            quantity, mean, q05, q25, q50, q75, q95.
        """
        rows = []
        for name, variable in self.draws.data_vars.items():
            values = variable.transpose("draw", ...).values.reshape(variable.sizes["draw"], -1)
            labels = [str(name)]
            if "node" in variable.dims:
                labels = [f"{name}[{node}]" for node in variable["node"].values]
            for label, column in zip(labels, values.T, strict=True):
                quantiles = np.quantile(column, (0.05, 0.25, 0.5, 0.75, 0.95))
                named = dict(zip(("q05", "q25", "q50", "q75", "q95"), quantiles, strict=True))
                rows.append({"quantity": label, "mean": column.mean(), **named})
        return pd.DataFrame(rows)

    def __str__(self) -> str:
        return str(self.summary().round(3).to_string(index=False))


def _unseen(data: ModelData) -> ModelData:
    """The same data with no omics cell observed."""
    return dataclasses.replace(data, observed=jnp.zeros_like(data.observed))


def _values(sites: dict[str, Any], arrays: LayerArrays) -> tuple[Array, Array]:
    """Genetic and other values (response, record) of a layer's terms, without weights."""
    zero = jnp.zeros((arrays.residual_hyper.df.shape[0], arrays.design.matrix.shape[1]))
    genetic = other = zero
    for term in arrays.terms:
        genetic = genetic + sites[f"values_{term.name}"]["value"]
    for group in arrays.random:
        value = sites[f"values_{group.name}"]["value"]
        genetic, other = (genetic + value, other) if group.genetic else (genetic, other + value)
    return arrays.unweighted(genetic), arrays.unweighted(other)


def _draw(key: Array, data: ModelData, activation: Activation) -> dict[str, Array]:
    """One draw of everything from the joint density, fixed effects at zero."""
    fixed = {"fixed_trait": jnp.zeros((1, data.trait.design.matrix.shape[0]))}
    for block in data.omics:
        shape = (block.n_responses, block.design.matrix.shape[0])
        fixed[f"fixed_omics{block.suffix}"] = jnp.zeros(shape)
    known = handlers.substitute(model, data=fixed)
    sites = handlers.trace(handlers.seed(known, key)).get_trace(data, activation)
    found: dict[str, Array] = {}
    mediated = total = jnp.zeros_like(data.y)
    if data.omics:
        genetic = jnp.concatenate([_values(sites, block)[0] for block in data.omics])
        z = sites["z_missing"]["value"].reshape(data.z_start.shape)
        var_e = jnp.concatenate(
            [
                jnp.broadcast_to(_variance(sites, "var_e", block), (block.n_responses,))
                for block in data.omics
            ]
        )
        names = activation.parameters.priors
        theta = {name: sites[f"theta_{name}"]["value"] for name in names}
        w, sd = sites["effects_node"]["value"], jnp.sqrt(var_e)[:, None]
        expected = activation.expected_features(genetic, sd, theta, data.units)
        mediated = (w @ expected)[0, data.y_rows]
        total = (w @ activation.features(z, theta, data.units))[0, data.y_rows]
        found["var_genetic_node"] = jnp.var(genetic, axis=-1)
        found["var_node"] = jnp.var(z, axis=-1)
        found["h2_node"] = found["var_genetic_node"] / found["var_node"]
    genetic, other = _values(sites, data.trait)
    ebv, whole = mediated + genetic[0], total + genetic[0] + other[0]
    found["var_genetic_trait"] = jnp.var(ebv)
    found["var_trait"] = jnp.var(whole) + _variance(sites, "var_y", data.trait)[0]
    found["h2_trait"] = found["var_genetic_trait"] / found["var_trait"]
    return found


def _variance(sites: dict[str, Any], name: str, arrays: LayerArrays) -> Array:
    hyper = arrays.residual_hyper
    return jnp.where(hyper.fixed, hyper.scale, sites[f"{name}{arrays.suffix}"]["value"])


def prior_predictive(prepared: Prepared, draws: int, seed: int) -> PriorPredictive:
    """Draw from the priors of a prepared model.

    Parameters
    ----------
    draws : int
        Number of draws.
    seed : int
        Of all random numbers.
    """
    data = _unseen(prepared.data)
    one = jax.jit(jax.vmap(lambda key: _draw(key, data, prepared.activation)))
    keys = random.split(random.key(seed), draws)
    parts = [one(keys[start : start + _BATCH]) for start in range(0, draws, _BATCH)]
    joined = {name: np.concatenate([np.asarray(part[name]) for part in parts]) for name in parts[0]}
    variables = {
        name: (("draw", "node") if name.endswith("node") else ("draw",), value)
        for name, value in joined.items()
    }
    coordinates = {"node": np.asarray(prepared.node_names, dtype=str)} if data.omics else {}
    return PriorPredictive(xr.Dataset(variables, coordinates))
