"""Calibration: the verdict, the table of configurations, and a run of tiny numbers."""

import dataclasses

import jax
import numpy as np
import pandas as pd
import pytest

from nnmm_jax import Network
from nnmm_jax.errors import InputError
from nnmm_jax.inference.prepare import prepare
from nnmm_jax.inference.prior_draw import check_proper, draw_prior
from nnmm_jax.inference.sweep import refreshed
from nnmm_jax.network.activations import ACTIVATIONS
from nnmm_jax.network.priors import PRIORS
from nnmm_jax.reports import calibration as library
from nnmm_jax.reports import calibration_run
from nnmm_jax.reports.calibration import CalibrationSettings, p_values
from nnmm_jax.reports.calibration_figure import coverage_figure, rank_figure
from nnmm_jax.reports.calibration_table import CONFIGURATIONS, COVERAGE, Configuration


def test_uniform_ranks_pass_and_others_do_not():
    rng = np.random.default_rng(1)
    ranks = rng.integers(0, 100, 400)
    assert min(p_values(ranks, 99)) > 0.01
    narrow = np.clip((ranks - 50) * 2 + 50, 0, 99)  # intervals half as wide as they should be
    assert max(p_values(narrow, 99)) < 1e-6
    shifted = (100 * (ranks / 100) ** 2).astype(int)
    assert max(p_values(shifted, 99)) < 1e-6


def test_ranks_count_the_draws_below_and_ties_are_broken_evenly():
    below, equal = np.full(4000, 3), np.full(4000, 4)
    found = np.bincount(library._rank(np.random.default_rng(1), below, equal))
    assert list(np.flatnonzero(found)) == [3, 4, 5, 6, 7]
    np.testing.assert_allclose(found[3:], 800, atol=120)


def test_coverage_is_the_share_inside_ninety_percent():
    ranks = np.tile(np.arange(100), (2, 1))
    np.testing.assert_array_equal(library._covered(ranks, 99), [0.9, 0.9])
    np.testing.assert_array_equal(library._covered(np.array([[4, 5, 94, 95]]), 99), [0.5])


def test_holm_adjusts_for_all_tests():
    table = pd.DataFrame({"p": [0.02, 0.001, 0.004], "autocorrelation": [0.0, 0.0, 0.0]})
    found = calibration_run.judged(table, 0.01)
    np.testing.assert_allclose(found["adjusted"], [0.02, 0.003, 0.008])
    assert list(found["verdict"]) == ["ok", "FAILED", "FAILED"]
    table["autocorrelation"] = [0.6, 0.0, 0.0]
    assert calibration_run.judged(table, 1e-9)["verdict"].iloc[0] == "FAILED"


def test_failures_name_what_failed():
    table = pd.DataFrame(
        {
            "configuration": ["a", "a"],
            "test": ["ecdf", "geweke"],
            "quantity": ["h2", "w"],
            "p": [1e-9, 0.5],
            "autocorrelation": [0.0, 0.7],
        }
    )
    coverage = pd.DataFrame(
        {"configuration": ["b"], "values": ["ebv"], "coverage": [0.8], "verdict": ["FAILED"]}
    )
    lines = calibration_run.failures(calibration_run.judged(table, 0.01), coverage)
    assert lines == [
        "a, ecdf, h2: p 2e-09 (adjusted)",
        "a, geweke, w: draws depend on each other (0.70): raise --thin",
        "b, coverage of ebv: 0.800",
    ]


def test_every_prior_activation_pattern_and_connection_is_calibrated():
    every = list(CONFIGURATIONS.values())
    networks = [one.network for one in every]
    priors = {
        prior.name
        for network in networks
        for prior in (*network.marker_priors.values(), *network.skip_priors.values())
    }
    assert priors == set(PRIORS)
    named = {n.activation for n in networks if isinstance(n.activation, str)}
    assert {"linear", "tanh", "relu", "sigmoid"} <= named <= set(ACTIVATIONS)
    assert sum(callable(network.activation) for network in networks) >= 3
    assert {one.missing for one in every} == {"none", "scattered", "individuals", "both", "latent"}
    assert {network.connections for network in networks} == {"full", "map"}
    assert any(one.nuts for one in every)
    assert any(one.rich for one in every)
    assert any(len(network.blocks) > 1 for network in networks)
    assert {round(one.rate, 1) for one in COVERAGE.values()} == {0.1, 0.5, 0.9}


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_configurations_have_the_data_that_they_say(name):
    configuration = CONFIGURATIONS[name]
    prepared = prepare(configuration.dataset(), configuration.network)
    check_proper(prepared.data)
    missing = ~np.asarray(prepared.data.observed)[~np.asarray(prepared.data.latent)]
    if configuration.missing == "none":
        assert not missing.any()
    elif configuration.missing != "latent":
        assert 0.1 < missing.mean() < 0.8
    assert (np.asarray(prepared.data.y_precision) == 0).any()


@pytest.mark.parametrize("name", ["BayesR tanh, latent, partial", "blocks tanh, scattered"])
def test_a_draw_from_the_prior_is_a_state_with_its_data(name):
    configuration = CONFIGURATIONS[name]
    prepared = prepare(configuration.dataset(), configuration.network)
    data, activation = prepared.data, prepared.activation
    drawn = jax.jit(lambda key: draw_prior(key, data, activation))(jax.random.key(1))
    fresh = refreshed(drawn.state, drawn.data(data), activation)
    for one, two in zip(jax.tree.leaves(drawn.state), jax.tree.leaves(fresh), strict=True):
        np.testing.assert_allclose(one, two, atol=1e-4)
    assert np.isfinite(drawn.y).all()
    np.testing.assert_array_equal(
        drawn.z_start, np.where(data.observed, drawn.state.z, np.zeros(()))
    )
    for block, arrays in zip(drawn.state.omics, data.omics, strict=True):
        for effects, term in zip(block.terms, arrays.terms, strict=True):
            if term.spectrum is None:
                assert (effects.coef == 0).any()
                assert (effects.coef[:, term.markers.n_markers :] == 0).all()
            if term.mask is not None:
                assert (effects.coef.T[~np.asarray(term.mask)] == 0).all()


def test_draws_from_the_prior__raise_on_flat_fixed_effects():
    configuration = dataclasses.replace(
        CONFIGURATIONS["GBLUP tanh, complete, skip"], network=Network(fixed_sd_omics=1.0)
    )
    prepared = prepare(configuration.dataset(), configuration.network)
    with pytest.raises(InputError, match="proper priors of all fixed effects, found flat ones"):
        library.calibrate(prepared, CalibrationSettings())


def test_calibration_settings__raise_on_draws_that_do_not_divide_into_bins():
    with pytest.raises(InputError, match="multiple of 20 less 1, got 100"):
        CalibrationSettings(draws=100)


def test_run__raises_where_no_name_fits():
    with pytest.raises(InputError, match="part of the name of a configuration, found 'BayesZ'"):
        calibration_run.run(["ranks"], "BayesZ", *[CalibrationSettings()] * 2, 1, print)


def test_a_run_of_tiny_numbers(monkeypatch):
    """Ranks and coverage, from the same simulations: tables, figures, no test fails."""
    tiny = Configuration(CONFIGURATIONS["RR-BLUP linear, complete"].network, individuals=20)
    monkeypatch.setattr(calibration_run, "CONFIGURATIONS", {"tiny": tiny})
    monkeypatch.setattr(calibration_run, "COVERAGE", {"tiny": tiny})
    once: list[library.Calibration] = []

    def calibrate(*arguments, **more):
        once.extend([] if once else [library.calibrate(*arguments, **more)])
        return once[0]

    monkeypatch.setattr(calibration_run, "calibrate", calibrate)
    settings = CalibrationSettings(simulations=40, warmup=20, draws=19, thin=4)
    said = []
    checks = ["ranks", "coverage"]
    found = calibration_run.run(checks, "", settings, settings, 3, lambda *what: said.append(what))
    assert [what for what, _ in said] == [f"{check}, tiny" for check in checks]
    table = calibration_run.judged(found.table, 1e-6)
    assert calibration_run.failures(table, found.coverage.head(0)) == []
    assert set(table["test"]) == {"chi-square", "ecdf"}
    assert {"h2_trait", "node_effect[2]", "missing[0]", "ebv[2]"} <= set(table["quantity"])
    assert len(found.ranks) == 40 * found.ranks["quantity"].nunique()
    assert found.ranks["rank"].between(0, 19).all()
    assert list(found.coverage["values"]) == ["ebv", "missing", "phenotype"]
    assert found.coverage["coverage"].between(0.8, 1.0).all()
    assert len(calibration_run.by_configuration(table)) == 2
    assert rank_figure(found.ranks, 19).axes
    assert coverage_figure(found.coverage).axes
