"""The whole job through the public interface: scale, units, truth."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
import xarray as xr

import nnmm_jax as nm
from nnmm_jax.posterior import stopping

SHORT = {"warmup": 30, "samples": 60, "chains": 2, "seed": 1, "progress": False}


@pytest.fixture(scope="module")
def small():
    settings = nm.SimulationSettings(individuals=90, markers=60, omics=3)
    return nm.simulate(settings, seed=4)


def mean(result, name):
    return result.posterior[name].mean(("chain", "draw")).values


@pytest.mark.statistical
def test_slope_of_truth_on_ebv_is_one():
    """Breeding values are on the right scale, which a correlation would not show."""
    settings = nm.SimulationSettings(individuals=2000, markers=600, omics=6, without_omics=0.3)
    simulated = nm.simulate(settings, seed=11)
    data = simulated.dataset()
    network = nm.Network(
        marker_prior="RR-BLUP",
        skip_prior="RR-BLUP",
        fixed_omics="~ sex + batch",
        fixed_trait="~ sex + batch",
    )
    result = nm.fit(data, network, warmup=150, samples=250, chains=2, seed=2, progress=False)
    truth = simulated.truth["individuals"].set_index("id").loc[data.ids]
    ebv = (mean(result, "ebv_mediated") + mean(result, "ebv_direct"))[:, 0]
    epv = mean(result, "epv")[:, 0]
    candidates = np.isnan(data.phenotype)
    assert candidates.sum() >= 300
    for rows in (candidates, ~candidates):
        assert abs(np.polyfit(ebv[rows], truth["ebv"][rows], 1)[0] - 1) < 0.1
        assert abs(np.polyfit(epv[rows], truth["epv"][rows], 1)[0] - 1) < 0.1
    assert np.corrcoef(ebv[candidates], truth["ebv"][candidates])[0, 1] > 0.75
    assert np.corrcoef(epv[candidates], truth["epv"][candidates])[0, 1] > 0.8


@pytest.mark.parametrize("activation", ["linear", "tanh"])
def test_results_follow_the_units_of_the_data(small, activation):
    data = small.dataset()
    factor = np.array([1e3, 1e-2, 7.0])
    other = dataclasses.replace(
        data, omics=data.omics * factor + [10, -3, 0], phenotype=50 * data.phenotype + 1000
    )
    network = nm.Network(activation=activation, skip_prior="RR-BLUP", fixed_trait="~ sex")
    # Rounding differs with the units and moves draws a little; a missed unit is a factor of 7 up.
    one, two = nm.fit(data, network, **SHORT), nm.fit(other, network, **SHORT)
    close = {"rtol": 5e-3, "atol": 5e-3}
    sd = data.phenotype[~np.isnan(data.phenotype)].std()
    for name in ("ebv_mediated", "ebv_direct", "epv"):
        np.testing.assert_allclose(mean(two, name) / 50 / sd, mean(one, name) / sd, **close)
    np.testing.assert_allclose((mean(two, "y_mean") - 1000) / 50, mean(one, "y_mean"), **close)
    np.testing.assert_allclose(mean(two, "h2_trait"), mean(one, "h2_trait"), **close)
    np.testing.assert_allclose(
        mean(two, "var_residual_trait") / 2500, mean(one, "var_residual_trait"), **close
    )
    np.testing.assert_allclose(
        mean(two, "var_genetic_node") / factor**2, mean(one, "var_genetic_node"), **close
    )
    scale = factor[:, None] if activation == "linear" else 1.0
    np.testing.assert_allclose(
        scale * mean(two, "node_effect") / 50, mean(one, "node_effect"), rtol=2e-2, atol=2e-2
    )


def test_linear_predictions_are_the_reported_effects_times_the_omics(small):
    """y_mean = reported intercept and fixed effects + node effects x omics + direct effects."""
    settings = dataclasses.replace(small.settings, without_omics=0.0, missing_cells=0.0)
    data = nm.simulate(settings, seed=4).dataset()
    network = nm.Network(skip_prior="BayesC", fixed_trait="~ sex")
    result = nm.fit(data, network, **SHORT)
    posterior = result.posterior.isel(trait=0)
    male = (data.covariates["sex"] == "M").to_numpy(float)
    terms = posterior["fixed_trait"].values
    fixed = terms[..., :1] + terms[..., 1:] * male
    expected = fixed + posterior["node_effect"].values @ data.omics.T
    direct = posterior["y_mean"].values - expected  # of centred genotypes: its mean is zero
    scale = np.nanstd(data.phenotype)
    np.testing.assert_allclose(direct, posterior["ebv_direct"].values, atol=2e-3 * scale)
    assert np.abs(np.nanmean(data.omics, axis=0) / np.nanstd(data.omics, axis=0)).max() > 0.1


def test_observed_omics_are_reported_as_they_came(small):
    data = small.dataset()
    result = nm.fit(data, nm.Network(activation="relu"), **SHORT)
    seen = ~np.isnan(data.omics)
    moments = result.moments
    np.testing.assert_allclose(moments["omics_mean"].values[seen], data.omics[seen], rtol=1e-5)
    np.testing.assert_array_equal(moments["omics_sd"].values[seen], 0.0)
    assert (moments["omics_sd"].values[~seen] > 0).all()


def test_run_records_what_repeats_it(small):
    data = small.dataset()
    first = nm.fit(data, warmup=5, samples=5, chains=2, progress=False)
    again = nm.fit(data, warmup=5, samples=5, chains=2, seed=first.run["seed"], progress=False)
    for name, values in first.posterior.items():
        np.testing.assert_array_equal(values, again.posterior[name], err_msg=name)
    assert first.run["versions"]["jax"]
    assert set(first.run["seconds"]) == {"setup", "compilation", "warmup", "sampling"}


def test_fit_goes_on_until_its_effective_sample_size_is_enough(small, capsys):
    """And says how far it came, and is one fit of that length."""
    data = small.dataset()
    sizes = {"warmup": 30, "samples": 30, "chains": 2, "seed": 1}
    result = nm.fit(data, **sizes, until_ess=1e6, max_samples=90)
    reached = result.run["until_ess"]
    assert (reached["samples"], reached["enough"]) == (90, False)
    table = result.diagnostics()
    assert reached["ess"] == table[["ess_bulk", "ess_tail"]].min(axis=None)
    assert reached["r_hat"] == table["r_hat"].max()
    lines = capsys.readouterr().err.splitlines()[-2:]
    assert lines[0].startswith("nnmm: warning: ESS 1e+06 and R-hat 1.01 not reached in 90 samples")
    assert lines[1].startswith("nnmm: warning: not converged: ")
    assert result.run["settings"]["until_ess"] == 1e6
    whole = nm.fit(data, **sizes | {"samples": 90}, progress=False)
    assert capsys.readouterr().err == ""
    for first, second in zip(result.groups.values(), whole.groups.values(), strict=True):
        xr.testing.assert_identical(first, second)
    assert "until_ess" not in whole.run


def test_fit_ends_when_its_target_is_reached(small, monkeypatch):
    monkeypatch.setattr(stopping, "R_HAT_LIMIT", 2.0)
    sizes = {"warmup": 30, "samples": 30, "chains": 2, "seed": 1, "progress": False}
    first = nm.fit(small.dataset(), **sizes, until_ess=1.0)
    assert first.run["until_ess"]["samples"] == first.posterior.sizes["draw"] == 30
    target = first.run["until_ess"]["ess"] + 1.0
    second = nm.fit(small.dataset(), **sizes, until_ess=target)
    assert second.run["until_ess"]["enough"]
    assert second.run["until_ess"]["ess"] >= target
    assert 60 <= second.posterior.sizes["draw"] <= 300  # the limit


def test_named_dimensions(small):
    result = nm.fit(small.dataset(), nm.Network(latent=1, skip_prior="BayesC"), **SHORT)
    sizes = dict(result.posterior.sizes)
    assert {name: sizes[name] for name in ("chain", "draw", "individual", "node", "trait")} == {
        "chain": 2,
        "draw": 60,
        "individual": 90,
        "node": 4,
        "trait": 1,
    }
    assert result.moments["marker_pip"].dims == ("node", "marker")
    assert list(result.posterior["node"].values)[-1] == "latent1"


def test_a_direct_fit_has_no_nodes_and_its_parts_add_up(small):
    """y_mean = fixed effects + polygenic effects + groups, up to a constant in each draw."""
    parents = small.truth["individuals"][["id", "sire", "dam"]]
    phenotypes = small.phenotypes.reset_index()
    twice = pd.concat([phenotypes, phenotypes.iloc[:5]])
    data = nm.read_dataset(None, None, twice, "y", pedigree=parents)
    network = nm.Network(random_trait=[nm.Pedigree(), nm.Group("batch")], fixed_trait="~ sex")
    result = nm.fit(data, network, **SHORT)
    posterior = result.posterior.isel(trait=0)
    assert "node" not in posterior.dims
    assert not result.moments.data_vars
    assert (posterior["ebv_mediated"] == 0).all()
    first = data.individual_covariates
    male = (first["sex"] == "M").to_numpy(float)
    rest = posterior["y_mean"] - posterior["ebv_polygenic"]
    rest = (rest - posterior["fixed_trait"].values[..., 1:] * male).values
    assert posterior["fixed_trait"].sizes["term_trait"] == 2
    seen = np.isfinite(result.constant_data["phenotype"].values[:, 0])
    for batch in set(first["batch"]):
        alike = rest[..., seen & (first["batch"] == batch).to_numpy()]
        np.testing.assert_allclose(alike, alike[..., :1] + 0 * alike, atol=1e-3)
    observed = result.constant_data["phenotype"].sel(individual=phenotypes["id"].iloc[0])
    assert observed.item() == pytest.approx(phenotypes["y"].iloc[0], nan_ok=True)
