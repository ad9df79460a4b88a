"""Recovery of simulated breeding values by every kind of network, and of a function's parameters.

The kinds are those of the documentation of NN-MM: fully or partially connected, with an activation
or a user's function, each with an observed, a partly observed and a latent middle layer.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pandas as pd
import pytest
from scipy import stats

import nnmm_jax as nm

pytestmark = pytest.mark.statistical

N, GROUP, NODES = 500, 40, 3
LAYERS = ("observed", "partly observed", "latent")
CONNECTIONS = {"full": np.ones((NODES * GROUP, NODES), bool)}
CONNECTIONS["partial"] = np.kron(np.eye(NODES, dtype=bool), np.ones((GROUP, 1), bool))


def together(z):
    """A user's function of all nodes: two of them multiply."""
    return 4.0 * jax.nn.sigmoid(1.5 * z[0]) * (1.0 + 0.5 * jnp.tanh(z[1])) + 0.8 * z[2]


def activated(z):
    return jnp.tanh(z) @ jnp.array([1.5, -1.2, 0.8])


class Made(NamedTuple):
    """Tables, and the true breeding values: the expected value of the function given genotypes."""

    genotypes: pd.DataFrame
    omics: pd.DataFrame
    phenotypes: pd.DataFrame
    connections: pd.DataFrame
    ebv: np.ndarray


def make(seed: int, connected: np.ndarray, function: Callable, missing: float) -> Made:
    """Families of 10 (half of their alleles in common), nodes of variance 1 and h2 1/2."""
    rng = np.random.default_rng(seed)
    ids = pd.Index([f"i{k:03d}" for k in range(N)], name="id")
    markers = [f"snp{j}" for j in range(NODES * GROUP)]
    base = np.repeat(rng.integers(0, 2, (N // 10, len(markers))), 10, axis=0)
    dosages = base + rng.integers(0, 2, (N, len(markers)))
    effects = np.where(connected & (rng.random(connected.shape) < 0.3), 1.0, 0.0)
    genetic = (dosages - dosages.mean(0)) @ (effects * rng.normal(size=effects.shape))
    genetic *= np.sqrt(0.5) / genetic.std(0)
    z = genetic + np.sqrt(0.5) * rng.normal(size=genetic.shape)
    value = jax.vmap(function)
    true = np.asarray(value(jnp.asarray(z)))
    noise = np.sqrt(0.5) * rng.normal(size=(400, 1, NODES))
    ebv = np.asarray(jax.vmap(value)(jnp.asarray(genetic + noise))).mean(0)
    y = 10 + true + np.sqrt(0.4) * true.std() * rng.normal(size=N)
    hidden = rng.permutation(z.size)[: round(missing * z.size)]
    holes = z.copy()
    holes.flat[hidden] = np.nan
    rows, columns = np.nonzero(connected)
    names = [f"g{k}" for k in range(NODES)]
    return Made(
        pd.DataFrame(dosages, ids, markers),
        pd.DataFrame(holes, ids, names),
        pd.DataFrame({"y": y}, ids),
        pd.DataFrame({"marker": np.array(markers)[rows], "node": np.array(names)[columns]}),
        ebv - ebv.mean(),
    )


def fitted(made: Made, latent: bool, **network) -> pd.DataFrame:
    connections = made.connections if network.get("connections") == "map" else None
    if latent:
        network["latent"] = NODES
        if connections is not None:
            number = connections["node"].str.removeprefix("g").astype(int) + 1
            connections = connections.assign(node=[f"latent{k}" for k in number])
    data = nm.read_dataset(
        made.genotypes,
        None if latent else made.omics,
        made.phenotypes,
        "y",
        connections=connections,
    )
    result = nm.fit(data, nm.Network(**network), warmup=1000, samples=1000, seed=1, progress=False)
    assert int(result.sample_stats["non_finite"].sum()) == 0
    if "diverging" in result.sample_stats:
        assert int(result.sample_stats["diverging"].sum()) == 0
        assert float(result.sample_stats["accept_prob"].mean()) > 0.6
    return result.breeding_values()


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("function", [activated, together])
@pytest.mark.parametrize("kind", CONNECTIONS)
def test_breeding_values_of_every_kind_of_network(kind, function, layer):
    """Better than a direct fit with omics, as good without; not inflated; intervals that hold."""
    missing = 0.4 if layer == "partly observed" else 0.0
    made = make(1, CONNECTIONS[kind], function, missing)
    network = {"activation": "tanh" if function is activated else together}
    if kind == "partial":
        network["connections"] = "map"
    network["marker_prior"] = "RR-BLUP"
    if layer != "latent":
        network["standardize"] = False
    table = fitted(made, layer == "latent", **network)
    bare = nm.read_dataset(made.genotypes, None, made.phenotypes, "y")
    direct = nm.fit(bare, nm.Network(skip_prior="RR-BLUP"), seed=1, progress=False)

    def accuracy(one: pd.DataFrame) -> float:
        return float(np.corrcoef(one["ebv"], made.ebv)[0, 1])

    gain = accuracy(table) - accuracy(direct.breeding_values())
    # Latent nodes know no more than the direct fit, unless connections tell them apart.
    assert gain > (-0.03 if layer == "latent" else 0.02)
    slope = np.polyfit(table["ebv"], made.ebv, 1)[0]
    assert 0.85 < slope < 1.15 or layer == "latent"
    inside = np.abs(table["ebv"] - made.ebv) < stats.norm.ppf(0.95) * table["ebv_sd"]
    assert 0.75 < inside.mean() <= 1.0


def uptake(z, theta):
    """Michaelis-Menten: V z0 / (K + z1)."""
    return theta["V"] * z[0] / (theta["K"] + z[1])


def response(z, theta):
    """Dose and response: a logistic curve in the sum of two nodes."""
    return theta["top"] * jax.nn.sigmoid(theta["slope"] * (z[0] + z[1] - 10.0))


CURVES = {
    "uptake": (
        uptake,
        {"V": dist.LogNormal(2.0, 1.0), "K": dist.LogNormal(1.0, 1.0)},
        {"V": 10.0, "K": 3.0},
    ),
    "response": (
        response,
        {"top": dist.LogNormal(1.0, 1.0), "slope": dist.LogNormal(0.0, 0.7)},
        {"top": 6.0, "slope": 1.2},
    ),
}


@pytest.mark.parametrize("name", CURVES)
def test_parameters_lie_in_their_intervals_as_often_as_they_should(name):
    """90% intervals of theta over ten data sets of 300 individuals, 30% of cells missing."""
    function, priors, true = CURVES[name]
    inside = []
    for seed in range(10):
        rng = np.random.default_rng(seed)
        ids = pd.Index([f"i{k}" for k in range(300)], name="id")
        dosages = rng.integers(0, 3, (300, 40))
        genetic = (dosages - dosages.mean(0)) @ rng.normal(size=(40, 2))
        z = 5 + 0.7 * genetic / genetic.std(0) + 0.7 * rng.normal(size=(300, 2))
        y = np.asarray(jax.vmap(lambda one: function(one, true))(jnp.asarray(z)))
        y = 2 + y + rng.normal(size=300)
        # Whole rows and single cells, as many in every data set: nothing compiles anew.
        order = rng.permutation(300)
        z[order[:40]] = np.nan
        z[order[40:140], rng.integers(0, 2, 100)] = np.nan
        data = nm.read_dataset(
            pd.DataFrame(dosages, ids, [f"s{j}" for j in range(40)]),
            pd.DataFrame(z, ids, ["a", "b"]),
            pd.DataFrame({"y": y}, ids),
            "y",
        )
        network = nm.Network(activation=function, theta=priors, marker_prior="RR-BLUP")
        result = nm.fit(data, network, warmup=500, samples=1000, seed=seed, progress=False)
        for parameter, value in true.items():
            low, high = result.posterior[f"theta_{parameter}"].quantile([0.05, 0.95]).values
            inside.append(low < value < high)
    # Of 20 intervals 18 are expected; 14 or fewer have a probability of 0.011.
    assert sum(inside) > 14
