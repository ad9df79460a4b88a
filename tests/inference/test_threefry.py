"""Random numbers that are compiled straight through are JAX's own, bit for bit."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import random

from nnmm_jax.inference.threefry import straight

DRAWS = (random.normal, random.uniform, random.logistic, random.gumbel)


@pytest.fixture(params=[False, True], ids=["both-words", "apart"], autouse=True)
def partitionable(request):
    with jax.threefry_partitionable(request.param):
        yield request.param


@pytest.mark.parametrize("shape", [(), (1,), (2,), (7,), (1001,), (3, 5)])
@pytest.mark.parametrize("wide", [False, True])
def test_draws_are_those_of_jax(shape, wide: bool) -> None:
    with jax.enable_x64(wide):
        key = random.fold_in(random.key(7), 2**31 + 5)
        for draw in DRAWS:
            dtype = jnp.float64 if wide else jnp.float32
            expected = draw(key, shape, dtype)
            np.testing.assert_array_equal(draw(straight(key), shape, dtype), expected)
            assert expected.dtype == dtype


def test_subkeys_are_those_of_jax() -> None:
    key = random.key(3)
    for number in (0, 1, 2**31 - 1, 2**32 - 1):
        found = random.key_data(random.fold_in(straight(key), number))
        np.testing.assert_array_equal(found, random.key_data(random.fold_in(key, number)))
    for shape in (2, 5, (2, 3)):
        found = random.key_data(random.split(straight(key), shape))
        np.testing.assert_array_equal(found, random.key_data(random.split(key, shape)))


def test_keys_of_chains_are_mapped_over_as_those_of_jax() -> None:
    keys = random.split(random.key(1), 4)

    def draw(key):
        one, other = random.split(random.fold_in(key, 9))
        return random.normal(one, (6,)), random.uniform(other)

    expected = jax.vmap(draw)(keys)
    for found, one in zip(jax.jit(jax.vmap(draw))(straight(keys)), expected, strict=True):
        np.testing.assert_array_equal(found, one)
