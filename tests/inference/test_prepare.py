"""Internal scale, resolved priors, and the arrays that sweeps read."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest

from nnmm_jax import RRBLUP, BayesC, InputError, Network, read_dataset
from nnmm_jax.inference import build_arrays
from nnmm_jax.inference.build_arrays import (
    DosageView,
    build_grams,
    build_marker_matrix,
    build_spectrum,
    marker_means,
)
from nnmm_jax.inference.build_terms import marker_variances
from nnmm_jax.inference.prepare import prepare

pytestmark = pytest.mark.usefixtures("double")


def genotypes_with_holes(dtype):
    rng = np.random.default_rng(0)
    counts = rng.integers(0, 3, size=(20, 70))
    holes = rng.random(counts.shape) < 0.1
    if dtype == np.int8:
        return np.where(holes, -1, counts).astype(np.int8)
    return np.where(holes, np.nan, counts + 0.25 * (counts < 2)).astype(np.float32)


def centred(genotypes):
    values = np.where(genotypes == -1, np.nan, genotypes).astype(float)
    return np.nan_to_num(values - np.nanmean(values, axis=0))


@pytest.mark.parametrize(("dtype", "room"), [(np.int8, 0), (np.int8, 2**27), (np.float32, 0)])
def test_marker_matrix_imputes_by_the_mean_and_multiplies(dtype, room, monkeypatch):
    monkeypatch.setattr(build_arrays, "ONE_BLOCK", 0)
    monkeypatch.setattr(build_arrays, "MARKER_BLOCK", 32)
    monkeypatch.setattr(build_arrays, "CENTRED_BYTES", room)
    genotypes = genotypes_with_holes(dtype)
    dense = centred(genotypes)
    markers = build_marker_matrix(DosageView(genotypes, marker_means(genotypes)))
    kept = dtype == np.int8 and not room
    assert markers.codes.dtype == (jnp.int8 if kept else jnp.float64)
    assert (markers.n_blocks, markers.n_padded, markers.n_markers) == (3, 96, 70)
    effects = np.random.default_rng(1).normal(size=(4, 96))
    tolerance = {"rtol": 1e-5, "atol": 1e-5}
    np.testing.assert_allclose(markers.predict(effects), effects[:, :70] @ dense.T, **tolerance)
    values = np.random.default_rng(2).normal(size=(4, 20))
    np.testing.assert_allclose(markers.project(values)[:, :70], values @ dense, **tolerance)
    grams = build_grams(markers, jnp.zeros((96, 1)))
    np.testing.assert_allclose(grams[1], dense[:, 32:64].T @ dense[:, 32:64], **tolerance)
    assert marker_variances(DosageView(genotypes, marker_means(genotypes))).sum() == pytest.approx(
        (dense**2).mean(axis=0).sum(), rel=1e-5
    )


def test_some_individuals_and_markers_are_laid_out_as_if_they_were_all(monkeypatch):
    monkeypatch.setattr(build_arrays, "CHUNK", 16)
    genotypes = genotypes_with_holes(np.int8)
    means, rows, columns = marker_means(genotypes), np.array([7, 2, 11]), np.arange(60, 3, -1)
    some = DosageView(genotypes, means, rows, columns)
    whole = DosageView(genotypes[np.ix_(rows, columns)], means[columns])
    assert some.shape == whole.shape == (3, 57)
    for one, other in zip(
        jax.tree.leaves(build_marker_matrix(some)),
        jax.tree.leaves(build_marker_matrix(whole)),
        strict=True,
    ):
        np.testing.assert_array_equal(one, other)
    dense = centred(genotypes)[np.ix_(rows, columns)]
    found = np.concatenate([values for _, values in some.centred()], axis=1)
    np.testing.assert_allclose(found, dense, atol=1e-12)


@pytest.mark.parametrize("n_markers", [8, 70])
def test_spectrum_rebuilds_the_relationship(n_markers):
    genotypes = genotypes_with_holes(np.int8)[:, :n_markers]
    dense = centred(genotypes)
    spectrum = build_spectrum(DosageView(genotypes, marker_means(genotypes)))
    rebuilt = spectrum.vectors.T * spectrum.values @ spectrum.vectors
    np.testing.assert_allclose(rebuilt, dense @ dense.T, atol=1e-9)
    rank = np.linalg.matrix_rank(dense)
    assert spectrum.values.shape == (rank,)
    np.testing.assert_allclose(spectrum.vectors @ spectrum.vectors.T, np.eye(rank), atol=1e-9)


def test_as_many_records_as_individuals_may_be_of_some_of_them():
    ids = pd.Index([f"i{k}" for k in range(6)], name="id")
    genotypes = pd.DataFrame(genotypes_with_holes(np.int8)[:6].clip(0), index=ids)
    genotypes.columns = [f"m{k}" for k in range(genotypes.shape[1])]
    omics = pd.DataFrame({"a": np.arange(6.0) ** 2}, index=ids)
    records = np.array([0, 0, 2, 3, 4, 5])
    each = pd.DataFrame({"y": np.arange(6.0) ** 3}, index=ids)
    some = each.set_axis(ids[records])
    network = Network(marker_prior=RRBLUP())
    one = prepare(read_dataset(genotypes, omics, each, "y"), network).data
    other = prepare(read_dataset(genotypes, omics, some, "y"), network).data
    assert one.one_record_each
    assert not other.one_record_each
    values = jnp.arange(6.0)
    np.testing.assert_array_equal(one.of_records(values), values)
    np.testing.assert_array_equal(one.by_individual(values), values)
    np.testing.assert_array_equal(other.of_records(values), records)
    np.testing.assert_array_equal(other.by_individual(values), [1.0, 0.0, 2.0, 3.0, 4.0, 5.0])


@pytest.mark.parametrize("prior", [RRBLUP(share=0.3), BayesC(pi=0.9), BayesC(pi_counts=(3, 1))])
def test_prior_means_give_the_stated_shares(dataset, prior):
    """Simulated from the prior mean of the variance, effects explain the stated share."""
    share = 0.5 if prior.share is None else prior.share
    data = dataset(n=40, p=30)
    prepared = prepare(data, Network(marker_prior=prior, skip_prior=RRBLUP(), node_prior=prior))
    hyper = prepared.data.omics[0].terms[0].hyper
    mean = hyper.df * hyper.scale / (hyper.df - 2)
    variance_sum = (centred(data.genotypes) ** 2).mean(axis=0).sum()
    explained = mean * prior.expected_multiplier * variance_sum
    np.testing.assert_allclose(explained, share, rtol=1e-6)
    residual = prepared.data.omics[0].residual_hyper
    np.testing.assert_allclose(
        residual.df * residual.scale / (residual.df - 2), 1 - share, rtol=1e-6
    )
    # On the trait there are two sets of effects: those without a stated share get 1/4 each.
    share = 0.25 if prior.share is None else prior.share
    trait = prepared.data.trait.residual_hyper
    assert trait.df * trait.scale / (trait.df - 2) == pytest.approx(1 - share - 0.25)
    nodes = prepared.data.node_hyper[0]
    explained = nodes.df * nodes.scale / (nodes.df - 2) * prior.expected_multiplier * 3
    np.testing.assert_allclose(explained, share, rtol=1e-6)


def test_internal_scale_does_not_depend_on_units(dataset):
    data = dataset()
    other = dataclasses.replace(
        data, omics=data.omics * [1e4, 1e-3, 5] + [7, -2, 1e3], phenotype=300 * data.phenotype - 50
    )
    for activation in ("linear", "relu"):
        one = prepare(data, Network(activation=activation, fixed_trait="~ age"))
        two = prepare(other, Network(activation=activation, fixed_trait="~ age"))
        same = dataclasses.replace(two.data, units=one.data.units)
        for first, second in zip(jax.tree.leaves(one.data), jax.tree.leaves(same), strict=True):
            np.testing.assert_allclose(first, second, rtol=1e-8, atol=1e-8)
    assert two.scaling.trait_sd == pytest.approx(300 * one.scaling.trait_sd)


def test_latent_nodes_have_a_fixed_scale(dataset):
    prepared = prepare(dataset(), Network(latent=2))
    residual = prepared.data.omics[0].residual_hyper
    np.testing.assert_array_equal(residual.fixed, [False] * 3 + [True] * 2)
    np.testing.assert_array_equal(residual.scale[3:], 0.5)
    assert prepared.node_names[3:] == ("latent1", "latent2")
    assert not prepared.data.observed[3:].any()


def test_without_standardisation_omics_keep_their_units(dataset):
    data = dataset()
    prepared = prepare(data, Network(standardize=False))
    np.testing.assert_allclose(prepared.data.z_start.T, np.nan_to_num(data.omics))
    hyper = prepared.data.omics[0].residual_hyper
    np.testing.assert_allclose(
        hyper.df * hyper.scale / (hyper.df - 2), 0.5 * np.nanvar(data.omics, axis=0)
    )


def test_rows_by_what_is_missing(dataset):
    data = dataset()
    arrays = prepare(data, Network()).data
    holes = np.isnan(data.omics).any(axis=1)
    seen = ~np.isnan(data.phenotype)
    np.testing.assert_array_equal(arrays.incomplete_rows, np.flatnonzero(holes))
    np.testing.assert_array_equal(arrays.informed_rows, np.flatnonzero(holes & seen))
    np.testing.assert_array_equal(arrays.free_rows, np.flatnonzero(holes & ~seen))
    np.testing.assert_array_equal(arrays.y_rows, np.flatnonzero(seen))


def test_prepare__raises_without_a_middle_layer(dataset):
    data = dataset()
    empty = dataclasses.replace(data, omics=data.omics[:, :0], omics_names=data.omics_names[:0])
    with pytest.raises(InputError, match="no middle layer"):
        prepare(empty, Network())


def test_prepare__raises_on_a_latent_name_that_is_taken(dataset):
    data = dataset()
    taken = dataclasses.replace(data, omics_names=np.array(["latent1", "b", "c"]))
    with pytest.raises(InputError, match="latent1"):
        prepare(taken, Network(latent=1))
