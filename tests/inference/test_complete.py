"""Sums in the place of complete individuals: the same draws as with everyone."""

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from jax import random

import nnmm_jax as nm
from nnmm_jax import BayesC, BayesR, Block, Group, Network
from nnmm_jax.inference import fixed_point, kernel
from nnmm_jax.inference import prepare as preparing
from nnmm_jax.inference.blocks import complete
from nnmm_jax.inference.build_shapes import ShapeBuilder, shapes
from nnmm_jax.inference.devices import Layout
from nnmm_jax.inference.prepare import prepare
from nnmm_jax.inference.quantities import draw_quantities
from nnmm_jax.inference.run import chain_keys, compiled_piece, compiled_start
from nnmm_jax.inference.start import start_state
from nnmm_jax.inference.sweep import SweepSettings, refreshed, sweep
from nnmm_jax.reports.benchmark import random_data

N_SWEEPS = 6
SPIKE = BayesC(pi_counts=(1.0, 1.0))
BLOCKS = (
    Block("first", ["m1"], marker_prior=SPIKE, fixed="~ sex + age"),
    Block("rest", marker_prior="BayesL", node_prior=SPIKE),
)
NETWORKS = {
    "BayesC": {"marker_prior": SPIKE},
    "BayesB": {"marker_prior": "BayesB", "fixed_omics": "~ sex + age"},
    "BayesL": {"marker_prior": "BayesL"},
    "BayesR": {"marker_prior": BayesR(), "skip_prior": SPIKE},
    "known": {"marker_prior": BayesC(variance=0.1, pi=0.5)},
    "RR-BLUP": {"marker_prior": "RR-BLUP", "standardize": False},
    "blocks": {"blocks": BLOCKS},
    "tanh": {"marker_prior": SPIKE, "activation": "tanh"},
}


@pytest.fixture
def small(monkeypatch):
    """Sums are used however small the data, and markers are swept, whatever their prior."""
    monkeypatch.setattr(preparing, "LEAST_INDIVIDUALS", 0)
    monkeypatch.setattr(preparing, "MOST_LEFT", 100.0)


def prepared_of(dataset, holes=True, **network):
    """A network for data with every kind of hole: individuals that lack some or all nodes."""
    return prepare(dataset(holes=holes), Network(**network), max_spectrum=0)


def both(prepared):
    """A starting state, with everyone and with sums."""
    state = start_state(random.key(3), prepared.data, prepared.activation)
    return state, complete.summed(state, prepared.data)


def swept(prepared, state, count=N_SWEEPS):
    settings = SweepSettings(prepared.activation)
    one = jax.jit(lambda key, state: sweep(key, state, prepared.data, jnp.array(0), settings)[0])
    for number in range(count):
        state = one(random.key(number), state)
    return state


def assert_same(found, expected, tolerance):
    pairs = zip(jax.tree_util.tree_leaves_with_path(found), jax.tree.leaves(expected), strict=True)
    for (path, one), other in pairs:
        limit = tolerance * max(1.0, float(jnp.abs(other).max(initial=0.0)))
        np.testing.assert_allclose(one, other, rtol=0, atol=limit, err_msg=str(path))


@pytest.mark.usefixtures("double", "small")
@pytest.mark.parametrize("holes", [True, False], ids=["holes", "complete"])
@pytest.mark.parametrize("name", NETWORKS)
def test_sweeps_are_those_of_everyone(dataset, name, holes):
    prepared = prepared_of(dataset, holes, **NETWORKS[name])
    assert complete.applies(prepared.data)
    everyone, sums = (swept(prepared, state) for state in both(prepared))
    assert sums.omics[0].residual.shape[1] == (len(prepared.data.incomplete_rows))
    assert sums.omics[0].residual.shape[1] < everyone.omics[0].residual.shape[1]
    whole = complete.whole(sums, prepared.data)
    assert_same(whole, everyone, 1e-9)
    for with_sums, without in zip(sums.omics, everyone.omics, strict=True):
        squares = jnp.sum(without.residual**2, axis=1)
        np.testing.assert_allclose(with_sums.sums.left, squares, rtol=1e-9)
    assert any((one.terms[0].coef != 0).any() for one in whole.omics)
    # What every sweep forms anew has not drifted either.
    fresh = refreshed(everyone, prepared.data, prepared.activation)
    assert_same(whole, fresh, 1e-9)


@pytest.mark.usefixtures("double", "small")
@pytest.mark.parametrize("name", ["BayesC", "BayesB", "blocks"])
def test_quantities_from_sums_are_those_of_everyone(dataset, name):
    prepared = prepared_of(dataset, **NETWORKS[name])
    data, settings = prepared.data, SweepSettings(prepared.activation)
    sums = swept(prepared, both(prepared)[1])
    found, nothing = draw_quantities(random.key(1), sums, data, settings)
    expected, values = draw_quantities(random.key(1), complete.whole(sums, data), data, settings)
    assert nothing is None
    assert values is not None
    assert found.keys() == expected.keys()
    for quantity, value in expected.items():
        np.testing.assert_allclose(found[quantity], value, rtol=1e-8, atol=1e-9, err_msg=quantity)
    assert (expected["var_genetic_node"] > 0).any()


@pytest.mark.usefixtures("small")
def test_single_precision_loses_little(dataset):
    prepared = prepared_of(dataset, **NETWORKS["BayesC"])
    everyone, sums = (swept(prepared, state, 3) for state in both(prepared))
    assert_same(complete.whole(sums, prepared.data), everyone, 1e-4)


@pytest.mark.usefixtures("small")
def test_products_in_whole_numbers(monkeypatch):
    monkeypatch.setattr(fixed_point, "available", lambda: True)
    prepared = prepare(random_data(200, 60, 3), Network(marker_prior=SPIKE))
    assert prepared.data.omics[0].terms[0].incomplete.whole
    everyone, sums = (swept(prepared, state, 3) for state in both(prepared))
    assert_same(complete.whole(sums, prepared.data), everyone, 1e-3)


@pytest.mark.parametrize(
    ("network", "rich"),
    [
        ({"latent": 1}, False),
        ({"fixed_sd_omics": 0.5}, False),
        ({"random_omics": [Group("batch")]}, True),
        ({"marker_prior": "GBLUP"}, False),
        ({"marker_prior": None}, False),
        ({}, True),  # weights
    ],
    ids=["latent", "prior-of-fixed", "random", "joint", "no-markers", "weights"],
)
@pytest.mark.usefixtures("small")
def test_only_plain_layers_have_sums(dataset, network, rich):
    usual = {"marker_prior": SPIKE} | ({"fixed_omics": "~ 1"} if rich else {})
    prepared = prepare(dataset(rich=rich), Network(**usual | network))
    assert not complete.applies(prepared.data)
    state, same = both(prepared)
    assert same is state


def test_sums_are_for_many_people_of_whom_few_are_incomplete(dataset, monkeypatch):
    network = Network(marker_prior=SPIKE)
    data = dataset()
    monkeypatch.setattr(preparing, "LEAST_INDIVIDUALS", 15)
    monkeypatch.setattr(preparing, "MOST_LEFT", 100.0)
    assert not complete.applies(prepare(data, network).data)
    monkeypatch.setattr(preparing, "LEAST_INDIVIDUALS", 14)
    assert complete.applies(prepare(data, network).data)
    incomplete = len(prepare(data, network).data.incomplete_rows)
    share = (32 + 2 * incomplete) / (2 * 14)  # markers with their padding
    monkeypatch.setattr(preparing, "MOST_LEFT", share - 0.01)
    assert not complete.applies(prepare(data, network).data)
    monkeypatch.setattr(preparing, "MOST_LEFT", share + 0.01)
    assert complete.applies(prepare(data, network).data)


@pytest.mark.usefixtures("small")
def test_shapes_are_those_of_the_arrays(dataset):
    data, network = dataset(), Network(marker_prior=SPIKE)
    arrays = prepare(data, network).data
    assert complete.applies(arrays)
    planned = prepare(data, network, build=ShapeBuilder).data
    found, expected = (
        jax.tree.map(lambda one: (one.shape, one.dtype), shapes(tree)) for tree in (planned, arrays)
    )
    assert jax.tree.leaves(found) == jax.tree.leaves(expected)


@pytest.mark.usefixtures("small")
def test_values_of_nodes_are_of_every_tenth_draw(dataset):
    prepared = prepared_of(dataset, **NETWORKS["BayesC"])
    numpyro_kernel, start = compiled_start(SweepSettings(prepared.activation), 0)
    state = start(chain_keys(1, 2), prepared.data)
    assert state.chain.omics[0].sums is not None
    piece = compiled_piece(numpyro_kernel, 2, 1)
    z = []
    for _ in range(2 * kernel.NODES_EVERY):
        state, _ = piece(state, prepared.data)
        z.append(np.asarray(state.chain.z))
    np.testing.assert_array_equal(state.sums.nodes_count, 2.0)
    np.testing.assert_array_equal(state.sums.effects_count, 2.0 * kernel.NODES_EVERY)
    expected = (z[0] + z[kernel.NODES_EVERY]) / 2
    np.testing.assert_allclose(state.sums.nodes["z"].mean, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("start", ["dispersed", "svi"])
def test_a_fit_has_the_draws_of_one_without_sums(dataset, monkeypatch, start):
    data, network = dataset(), Network(marker_prior=SPIKE)
    settings = {"warmup": 5, "samples": 20, "chains": 2, "seed": 4, "progress": False}
    results = []
    for least in (0, 10**6):
        monkeypatch.setattr(preparing, "LEAST_INDIVIDUALS", least)
        monkeypatch.setattr(preparing, "MOST_LEFT", 100.0)
        results.append(nm.fit(data, network, start=start, **settings))
    found, expected = (one.posterior for one in results)
    for name in ("ebv_mediated", "h2_trait", "h2_node", "var_genetic_node"):
        first, other = (one[name].isel(draw=slice(5)) for one in (found, expected))
        np.testing.assert_allclose(first, other, rtol=2e-2, atol=2e-3, err_msg=name)
    with_sums, without = (one.parameters for one in results)
    assert set(with_sums) == set(without)


@pytest.mark.usefixtures("small")
def test_devices_go_without(dataset):
    prepared = prepared_of(dataset, **NETWORKS["BayesC"])
    assert complete.applies(prepared.data)
    assert Layout(1).spread(prepared.data) is prepared.data
    assert not complete.applies(complete.without_sums(prepared.data))


@pytest.mark.usefixtures("small")
def test_a_run_that_goes_on_has_the_draws_of_one(dataset, tmp_path):
    data, network = dataset(), Network(marker_prior=SPIKE)
    settings = {"warmup": 10, "chains": 2, "seed": 4, "progress": False}
    whole = nm.fit(data, network, samples=40, checkpoint=tmp_path / "whole", **settings)
    nm.fit(data, network, samples=20, checkpoint=tmp_path / "part", **settings)
    longer = nm.resume(tmp_path / "part", data, network, samples=40, progress=False)
    for name in ("ebv_mediated", "h2_node"):
        np.testing.assert_array_equal(longer.posterior[name], whole.posterior[name])
    pd.testing.assert_frame_equal(longer.omics_imputed(), whole.omics_imputed())
