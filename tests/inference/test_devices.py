"""Individuals over devices; that draws are the same is in tests/statistical/test_devices.py."""

import jax
import numpy as np
import pytest

from nnmm_jax import InputError
from nnmm_jax.inference.build_arrays import DosageView, build_marker_matrix, marker_means
from nnmm_jax.inference.devices import Layout


def test_one_device_leaves_everything_as_it_is() -> None:
    tree = {"a": np.arange(3)}
    assert Layout().everywhere(tree) is tree


def test_layout__raises_without_the_devices() -> None:
    with pytest.raises(InputError, match=rf"at most the {jax.device_count()} that JAX sees"):
        Layout(jax.device_count() + 1)


@pytest.mark.parametrize("kind", ["counts", "centred", "whole"])
def test_padded_genotypes_multiply_as_without(monkeypatch, kind: str) -> None:
    room = 2**27 if kind == "centred" else 0
    monkeypatch.setattr("nnmm_jax.inference.build_arrays.CENTRED_BYTES", room)
    monkeypatch.setattr("nnmm_jax.inference.fixed_point.available", lambda: kind == "whole")
    least = 0 if kind == "whole" else -1
    genotypes = np.random.default_rng(0).integers(least, 3, (21, 40)).astype(np.int8)
    plain = build_marker_matrix(DosageView(genotypes, marker_means(genotypes)))
    assert plain.whole == (kind == "whole")
    # The count is not asked of JAX: nothing is laid out here.
    layout = object.__new__(Layout)
    object.__setattr__(layout, "count", 8)
    padded = layout._padded(plain)
    assert padded.codes.shape[1] == 24
    assert padded.n_records == 21
    effects = np.random.default_rng(1).normal(size=(2, plain.n_padded)).astype(np.float32)
    np.testing.assert_allclose(padded.predict(effects), plain.predict(effects), rtol=1e-6)
    values = np.random.default_rng(2).normal(size=(2, 21)).astype(np.float32)
    np.testing.assert_allclose(padded.project(values), plain.project(values), rtol=1e-6)
