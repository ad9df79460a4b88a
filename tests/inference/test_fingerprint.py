"""What makes a run another run."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pandas as pd
import pytest

import nnmm_jax as nm
from nnmm_jax.inference.fingerprint import digest, fingerprint
from nnmm_jax.inference.prepare import prepare
from nnmm_jax.inference.run_settings import RunSettings
from nnmm_jax.posterior.provenance import versions

SIZES = nm.SimulationSettings(individuals=40, markers=20, omics=2)
DATA = nm.simulate(SIZES, seed=1).dataset()


def of(dataset=DATA, network=None, described=None, settings=None, known=None):
    network = nm.Network() if network is None else network
    prepared = prepare(dataset, network)
    settings = RunSettings() if settings is None else settings
    return fingerprint(dataset, described or {}, prepared, settings, known or versions())


def changed(one, two):
    return {name for name in one if one[name] != two[name]}


def test_the_same_is_the_same():
    assert of() == of(nm.simulate(SIZES, seed=1).dataset())
    length = RunSettings(samples=7, until_ess=9.0, max_minutes=3.0, progress=False)
    assert of(settings=length) == of()


@pytest.mark.parametrize("name", ["genotypes", "omics", "phenotype", "ids", "markers"])
def test_every_part_of_the_data_counts(name):
    value = getattr(DATA, name).copy()
    value[-1] = value[0]
    other = dataclasses.replace(DATA, **{name: value})
    assert changed(of(other), of()) == {"data"}


def test_covariates_and_weights_count():
    table = DATA.covariates.copy()
    table.iloc[3, 0] = table.iloc[4, 0] if table.iloc[3, 0] != table.iloc[4, 0] else "x"
    assert changed(of(dataclasses.replace(DATA, covariates=table)), of()) == {"data"}
    weighted = dataclasses.replace(DATA, weights=np.ones(len(DATA.phenotype)))
    assert changed(of(weighted), of()) == {"data"}


def test_settings_and_versions_count():
    for name, value in {"seed": 3, "chains": 2, "warmup": 7, "sampler": "nuts", "thin": 2}.items():
        assert changed(of(settings=RunSettings(**{name: value})), of()) == {"settings"}
    assert changed(of(known=versions() | {"jax": "0.0"}), of()) == {"versions"}
    assert changed(of(described={"latent": 1}), of()) == {"network"}


def test_a_users_function_is_known_by_what_it_does():
    def made(power, offset):
        def saturation(z, theta):
            return theta["a"] * jnp.tanh(z[0] + offset) ** power

        return saturation

    def network(*arguments):
        return nm.Network(activation=made(*arguments), theta={"a": dist.Normal(0.0, 1.0)})

    one = of(network=network(2, 0.0))
    assert changed(one, of(network=network(2, 0.0))) == set()
    assert changed(one, of(network=network(3, 0.0))) == {"network"}
    assert changed(one, of(network=network(2, 0.5))) == {"network"}


def test_digests_tell_values_apart():
    values = [
        1, 1.0, True, "1", None, [1], [[1]], {"1": 1}, np.array([1]), np.array([1.0]),
        np.array([[1]]), np.array(["1"]), np.array(["1"], object), pd.DataFrame({"a": [1]}),
        pd.DataFrame({"a": [1]}, index=[1]), pd.DataFrame({"b": [1]}),
    ]  # fmt: skip
    assert len({digest(value) for value in values}) == len(values)
    with pytest.raises(TypeError, match="no digest of object"):
        digest(object())
