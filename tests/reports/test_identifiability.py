import jax
import numpy as np
import pytest
import xarray as xr

import nnmm_jax as nm
from nnmm_jax.errors import InputError
from nnmm_jax.inference.prepare import prepare
from nnmm_jax.inference.run import RunSettings, chain_keys, run_chains
from nnmm_jax.inference.start import start_state
from nnmm_jax.inference.sweep import refreshed
from nnmm_jax.network.activations import ACTIVATIONS
from nnmm_jax.reports import identifiability
from nnmm_jax.reports.identifiability import MISSED, NOT_JUDGED, OK
from nnmm_jax.reports.identifiability_figure import drift_figure
from nnmm_jax.reports.latent_equality import LATENT_RESIDUAL
from nnmm_jax.reports.latent_starts import STARTS, Start, spread


@pytest.fixture(scope="module")
def dataset():
    return identifiability.latent_data(individuals=40, markers=30)


@pytest.fixture
def rng():
    return np.random.default_rng(1)


@pytest.mark.parametrize(
    ("value", "limits", "verdict"),
    [
        (1.0, {}, NOT_JUDGED),
        (1.0, {"low": 0.9, "high": 1.1}, OK),
        (0.8, {"low": 0.9}, MISSED),
        (1.2, {"high": 1.1}, MISSED),
        (float("nan"), {"high": 1.1}, MISSED),
    ],
)
def test_a_row_is_judged_by_its_limits(value, limits, verdict):
    found = identifiability.row("drift", "linear", "ratio", value, **limits)
    assert found["verdict"] == verdict


def test_the_phenotype_is_standardised_and_has_no_omics(dataset):
    assert dataset.omics.shape == (40, 0)
    assert dataset.phenotype.mean() == pytest.approx(0.0, abs=1e-9)
    assert dataset.phenotype.std() == pytest.approx(1.0)


def planted(monkeypatch, ebv, **others):
    """Draws (chain, draw, individual) in place of a fit."""
    draws = xr.Dataset({"ebv": (("chain", "draw", "individual"), ebv)})
    draws = draws.assign({name: (("chain", "draw"), value) for name, value in others.items()})
    monkeypatch.setattr(identifiability, "_draws", lambda *_: draws)


@pytest.mark.parametrize(("growth", "verdict"), [(0.0, OK), (0.12, MISSED), (-0.12, MISSED)])
def test_a_planted_drift_of_scale_is_flagged(monkeypatch, rng, growth, verdict):
    scale = 1.0 + growth * np.linspace(0, 1, 2000)[:, None]
    ebv = scale * (rng.normal(size=60) + 0.1 * rng.normal(size=(2000, 60)))
    planted(monkeypatch, ebv[None])
    settings = RunSettings(0, 2000, 1, 1, False)
    rows, trace = identifiability.drift(None, None, settings, "linear")
    assert [row["verdict"] for row in rows] == [verdict, verdict]
    assert ("chance" in rows[0]["remark"]) == (verdict == MISSED)  # a drift has few effective draws
    np.testing.assert_allclose(trace, ebv.std(axis=1))
    assert rows[0]["value"] == pytest.approx(1 + growth * 0.9 / (1 + growth * 0.05), abs=0.01)


@pytest.mark.parametrize("settings", [(1, 50, 2), (1, 49, 1)])
def test_drift__refuses_several_chains_or_few_draws(settings):
    with pytest.raises(InputError, match="one chain of at least 50 iterations"):
        identifiability.drift(None, None, RunSettings(*settings), "linear")


def test_drift_figure_has_a_panel_for_each_model(rng):
    figure = drift_figure({name: rng.normal(1.0, 0.1, 60) for name in ("linear", "tanh")})
    assert [axes.get_title(loc="left").split(":")[0] for axes in figure.axes] == ["linear", "tanh"]


@pytest.mark.parametrize(
    ("factor", "shift", "verdicts"),
    [
        (1.0, 0.0, [OK, OK, OK]),
        (1.02, 0.0, [OK, MISSED, OK]),
        (1.0, 0.07, [OK, OK, MISSED]),
        (float("nan"), 0.0, [MISSED, MISSED, MISSED]),
    ],
)
def test_a_planted_difference_of_fitted_values_is_flagged(rng, factor, shift, verdicts):
    mean, error = rng.normal(size=200), np.full(200, 0.01)
    other = factor * mean + shift * (np.arange(200) == 0)
    rows = identifiability._agreement("x", (mean, error), (other, error), judged=True)
    assert [row["verdict"] for row in rows] == verdicts


def test_models_with_other_priors_are_not_judged(rng):
    mean, error = rng.normal(size=200), np.full(200, 0.01)
    rows = identifiability._agreement("x", (mean, error), (2 * mean, error))
    assert [row["verdict"] for row in rows] == [NOT_JUDGED] * 3


def test_priors_of_the_direct_fit_give_half_the_variance(dataset):
    priors = identifiability.equality_priors(dataset)
    variance = dataset.genotypes.astype(float).var(axis=0).sum() * (1 - identifiability.PI)
    assert priors.mean_effects * variance == pytest.approx(0.5)
    direct = identifiability.direct_network(priors).skip_prior
    assert direct.df * direct.scale / (direct.df - 2) == pytest.approx(priors.mean_effects)
    latent = identifiability.latent_network(priors)
    node, effect = latent.node_prior.variance, latent.marker_prior.variance
    assert node * effect == pytest.approx(priors.mean_effects)
    assert latent.residual_omics.variance == LATENT_RESIDUAL
    assert latent.marker_prior.pi == direct.pi == identifiability.PI


def start_of(dataset, network, chains):
    prepared = prepare(dataset, network)
    keys = chain_keys(1, chains)
    usual = jax.vmap(lambda key: start_state(key, prepared.data, prepared.activation))(keys)
    return prepared, usual


def test_starts_are_far_apart_and_consistent(dataset):
    prepared, usual = start_of(dataset, nm.Network(latent=2, activation="tanh"), 8)
    data, activation = prepared.data, prepared.activation
    moved = spread(usual, data, activation, STARTS)
    y = np.asarray(data.y)
    np.testing.assert_array_equal(moved.z[:2], usual.z[:2])
    np.testing.assert_array_equal(moved.z[2:4], 0.0)
    np.testing.assert_allclose(moved.z[4:6], np.broadcast_to(3 * y, (2, 2, 40)), rtol=1e-6)
    np.testing.assert_allclose(moved.z[6:], np.broadcast_to(-3 * y, (2, 2, 40)), rtol=1e-6)
    coef = np.asarray(moved.nodes[0].coef)[:, 0]
    np.testing.assert_allclose(coef[:, 0], [0, 0, 0, 0, 1 / 6, 1 / 6, -1 / 6, -1 / 6], rtol=1e-6)
    ratio = np.asarray(moved.trait.variance / usual.trait.variance)[:, 0]
    np.testing.assert_allclose(np.log(ratio), [-2.0, 2.0] * 4, rtol=1e-5)
    levels = np.asarray(moved.omics[0].terms[0].level / usual.omics[0].terms[0].level)
    np.testing.assert_allclose(np.log(levels[:, 0]), [-2.0, 2.0] * 4, rtol=1e-5)
    # Residual variances of latent nodes are fixed: a start must leave them alone.
    np.testing.assert_array_equal(moved.omics[0].variance, usual.omics[0].variance)
    again = jax.vmap(lambda one: refreshed(one, data, activation))(moved)
    np.testing.assert_allclose(again.trait.residual, moved.trait.residual, atol=1e-5)
    np.testing.assert_allclose(again.omics[0].residual, moved.omics[0].residual, atol=1e-5)


def test_a_run_goes_on_from_a_changed_start(dataset):
    network = nm.Network(marker_prior=None, skip_prior="RR-BLUP")
    prepared = prepare(dataset, network)
    arguments = prepared.data, ACTIVATIONS["linear"], RunSettings(0, 2, 2, 1, False)
    seen = []

    def change(chains):
        seen.append(chains.trait.variance.shape)
        return spread(chains, prepared.data, ACTIVATIONS["linear"], [Start(None, 5.0)])

    usual, same = run_chains(*arguments), run_chains(*arguments, lambda chains: chains)
    changed = run_chains(*arguments, change)
    assert seen == [(2, 1)]
    name = "var_residual_trait"
    np.testing.assert_array_equal(usual.draws[name], same.draws[name])
    assert (usual.draws[name] != changed.draws[name]).all()


@pytest.mark.parametrize("stuck", [False, True])
def test_a_chain_that_stays_elsewhere_is_flagged(monkeypatch, rng, stuck):
    ebv = rng.normal(size=(8, 1000, 60))
    h2, residual = rng.uniform(0.4, 0.6, (8, 1000)), rng.uniform(0.4, 0.6, (8, 1000))
    if stuck:
        ebv[3] += 2.0
        h2[3], residual[3] = h2[3] + 0.3, residual[3] + 0.3
    planted(
        monkeypatch,
        ebv,
        h2_trait=h2,
        var_residual_trait=residual,
        var_genetic_trait=np.full((8, 1000), 0.5),
    )
    rows = identifiability.starts(None, None, RunSettings(0, 1000, 8), "linear")
    assert [row["verdict"] for row in rows] == [MISSED if stuck else OK] * 4


def test_starts__refuses_other_numbers_of_chains():
    with pytest.raises(InputError, match="expected a multiple of 8 chains"):
        identifiability.starts(None, None, RunSettings(1, 10, 4), "linear")
