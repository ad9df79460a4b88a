"""Products in whole numbers: as exact as single precision allows, and used where they may be."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import random

from nnmm_jax import BayesC, Network
from nnmm_jax.inference import build_arrays, fixed_point, sequential
from nnmm_jax.inference.blocks import layer
from nnmm_jax.inference.build_arrays import DosageView, build_marker_matrix, marker_means
from nnmm_jax.inference.prepare import prepare
from nnmm_jax.inference.start import start_state
from nnmm_jax.reports.benchmark import random_data

RNG = np.random.default_rng(0)
COUNTS = RNG.integers(0, 3, (40, 700)).astype(np.int8)
HALF_UNIT = 0.5 / (127 * 256**2)  # of the largest of a row


@pytest.fixture
def whole(monkeypatch):
    """As on a machine that forms these products faster than those of floats."""
    monkeypatch.setattr(fixed_point, "available", lambda: True)


def matrix(genotypes, root=None):
    return build_marker_matrix(DosageView(genotypes, marker_means(genotypes)), root)


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("spread", [0.0, 8.0], ids=["alike", "of-all-sizes"])
def test_products_are_within_half_a_unit_of_each_number(axis: int, spread: float) -> None:
    counts = COUNTS.T if axis == 0 else COUNTS
    shape = (3, 6, counts.shape[axis])
    size = np.exp(spread * RNG.normal(size=(3, 6, 1)))  # of rows
    values = (size * RNG.normal(size=shape)).astype(np.float32)
    found = jax.jit(jax.vmap(lambda one: fixed_point.product(one, counts, axis)))(values)
    exact = values.astype(float) @ (counts if axis == 0 else counts.T)
    largest = np.abs(values).max(axis=-1, keepdims=True)
    bound = HALF_UNIT * largest * counts.sum(axis=axis) + 3e-7 * np.abs(exact)
    assert (np.abs(found - exact) <= bound).all()
    # Not only bounded: the errors of so many numbers cancel.
    assert np.sqrt(np.mean(((found - exact) / largest) ** 2)) < 6e-6


def test_the_digits_of_extremes_are_digits() -> None:
    largest = np.exp(RNG.uniform(-30, 30, 20_000)).astype(np.float32)  # quotients round either way
    values = np.stack([largest, -largest, largest / 2, 0 * largest], axis=1)
    digits, unit = fixed_point._digits(jnp.asarray(values))
    high, middle, low = np.split(np.asarray(digits, float), 3)
    assert set(np.unique(high[:, 0])) <= {126.0, 127.0}
    assert set(np.unique(high[:, 1])) <= {-126.0, -127.0}
    found = (high * 256**2 + middle * 256 + low) * np.asarray(unit, float)
    assert (np.abs(found - values) <= 2 * HALF_UNIT * largest[:, None]).all()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_row_that_is_not_finite_stays_so_and_spoils_no_other(bad: float) -> None:
    values = RNG.normal(size=(3, 700)).astype(np.float32)
    values[1, 5] = bad
    found = np.asarray(fixed_point.product(values, COUNTS, 1))
    assert not np.isfinite(found[1]).any()
    assert np.isfinite(found[[0, 2]]).all()


@pytest.mark.parametrize("value", [0.0, 1e-36])
def test_rows_of_nearly_nothing_give_nearly_nothing(value: float) -> None:
    found = fixed_point.product(jnp.full((2, 700), value, jnp.float32), COUNTS, 1)
    np.testing.assert_allclose(found, 0.0, atol=1e-30)


def test_the_slope_is_that_of_the_product(whole) -> None:
    genotypes = COUNTS.T
    markers = matrix(genotypes)
    plain = dataclasses.replace(markers, whole=False)
    effects = RNG.normal(size=(2, markers.n_padded)).astype(np.float32)
    values = RNG.normal(size=(2, 700)).astype(np.float32)

    def loss(effects, values, markers):
        return jnp.sum(jnp.sin(markers.predict(effects))) + jnp.sum(markers.project(values) ** 2)

    for found, expected in zip(
        jax.grad(loss, (0, 1))(effects, values, markers),
        jax.grad(loss, (0, 1))(effects, values, plain),
        strict=True,
    ):
        scale = np.abs(expected).max()
        np.testing.assert_allclose(found / scale, expected / scale, atol=3e-6)


@pytest.mark.parametrize("weighted", [False, True])
def test_genotypes_multiply_as_floats_do(whole, monkeypatch, weighted: bool) -> None:
    monkeypatch.setattr(build_arrays, "ONE_BLOCK", 0)
    monkeypatch.setattr(build_arrays, "MARKER_BLOCK", 32)
    genotypes = np.array(COUNTS.T)
    root = RNG.uniform(0.5, 2.0, 700) if weighted else None
    markers = matrix(genotypes, root)
    assert markers.whole
    assert markers.codes.dtype == jnp.int8
    assert markers.n_padded == 64
    assert not np.asarray(markers.codes)[40:].any()
    dense = genotypes - genotypes.mean(axis=0)
    if weighted:
        dense = dense * root[:, None]
    values = RNG.normal(size=(4, 700)).astype(np.float32)
    found, expected = markers.project(values), values.astype(float) @ dense
    np.testing.assert_allclose(found[:, :40], expected, atol=1e-6 * np.abs(expected).max())
    np.testing.assert_array_equal(found[:, 40:], 0.0)
    effects = RNG.normal(size=(4, 64)).astype(np.float32)
    expected = effects[:, :40].astype(float) @ dense.T
    found = markers.predict(effects)
    np.testing.assert_allclose(found, expected, atol=1e-6 * np.abs(expected).max())


def test_only_complete_counts_in_single_precision_are_taken(whole) -> None:
    holes = np.array(COUNTS.T)
    assert matrix(holes).whole
    holes[3, 7] = -1
    assert not matrix(holes).whole
    assert not matrix(COUNTS.T.astype(np.float32)).whole
    assert fixed_point.fits(8_000_000, 2)
    assert not fixed_point.fits(9_000_000, 2)
    with jax.enable_x64(True):
        assert not matrix(np.array(COUNTS.T)).whole


def test_the_switch_turns_them_off(monkeypatch) -> None:
    fixed_point.available.cache_clear()
    monkeypatch.setenv(sequential.SWITCH, "0")
    try:
        assert not fixed_point.available()
        assert not matrix(np.array(COUNTS.T)).whole
    finally:
        fixed_point.available.cache_clear()


@pytest.mark.parametrize("room", [0, 2**27], ids=["blocks", "one-block"])
def test_a_sweep_gives_the_effects_that_floats_give(whole, monkeypatch, room: int) -> None:
    monkeypatch.setattr(build_arrays, "ONE_BLOCK", 1024 if room else 0)
    dataset = random_data(120, 80, 3)
    network = Network(marker_prior=BayesC(pi_counts=(1.0, 1.0)))
    made = prepare(dataset, network)
    assert made.data.omics[0].terms[0].markers.whole
    monkeypatch.setattr(fixed_point, "available", lambda: False)
    plain = prepare(dataset, network)
    assert not plain.data.omics[0].terms[0].markers.whole
    found = []
    for one in (made, plain):
        state = start_state(random.key(1), one.data, one.activation).omics[0]
        for number in range(5):
            state, _ = layer.kernel(random.key(number), state, one.data.omics[0])
        found.append(state)
    first, second = (one.terms[0].coef for one in found)
    assert (first != 0).any()
    np.testing.assert_allclose(first, second, atol=2e-4 * float(jnp.abs(second).max()))
    np.testing.assert_allclose(found[0].residual, found[1].residual, atol=1e-3)
