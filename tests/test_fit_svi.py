"""A variational fit through the public interface."""

import numpy as np
import pytest

import nnmm_jax as nm
from nnmm_jax.cli import main
from nnmm_jax.errors import InputError
from nnmm_jax.inference.run_settings import RunSettings
from nnmm_jax.posterior.stopping import closing_lines

SHORT = {"warmup": 5, "samples": 50, "chains": 2, "seed": 1, "progress": False}


@pytest.fixture(scope="module")
def data():
    return nm.simulate(nm.SimulationSettings(individuals=60, markers=40, omics=3), 4).dataset()


@pytest.fixture(scope="module")
def result(data):
    return nm.fit(data, nm.Network(marker_prior="RR-BLUP"), **SHORT, method="svi")


def test_a_variational_fit_has_all_parts_of_a_result(result, tmp_path):
    assert result.approximate
    assert result.posterior["epv"].shape == (2, 50, 60, 1)
    assert np.isfinite(result.moments["marker_mean"]).all()
    assert result.parameters.sizes["sample"] == 4  # two chains, pieces of 25 draws
    assert result.sample_stats["log_ratio"].std() > 0
    record = result.run["variational"]
    assert record["converged"]
    assert len(record["trace"]["elbo"]) == len(record["trace"]["step"]) <= 200
    assert record["trace"]["elbo"][-1] > record["trace"]["elbo"][0]
    result.save(tmp_path / "out")
    assert nm.load(tmp_path / "out").run["variational"]["pareto_k"] == record["pareto_k"]


def test_a_variational_fit_is_not_judged_as_chains_are(result):
    assert result.diagnostics().empty
    assert result.summary()["r_hat"].isna().all()
    first, *_ = closing_lines(result)
    assert first.startswith("approximate (variational): lower bound")
    assert f"Pareto k = {result.run['variational']['pareto_k']:.2f}" in first
    assert "R-hat" not in " ".join(closing_lines(result))


def test_draws_are_independent_and_of_the_factors(result):
    """Neighbouring draws do not correlate: z-score of the lag-1 correlation of 60 EPVs."""
    draws = result.posterior["epv"].values[..., 0]
    draws = (draws - draws.mean(axis=(0, 1))) / draws.std(axis=(0, 1))
    lag = (draws[:, 1:] * draws[:, :-1]).mean(axis=(0, 1))
    assert np.abs(lag).mean() < 4 / np.sqrt(98)


@pytest.mark.parametrize(
    ("name", "value"),
    [("until_ess", 100.0), ("thin", 2), ("max_minutes", 1.0), ("start", "svi")],
)
def test_settings__raise_on_what_only_chains_have(name, value):
    with pytest.raises(InputError, match=rf"^{name}: expected it with method mcmc alone"):
        RunSettings(method="svi", **{name: value})


def test_settings__raise_on_unknown_names_and_devices():
    with pytest.raises(InputError, match="method: expected one of mcmc, svi, found 'vi'"):
        RunSettings(method="vi")
    with pytest.raises(InputError, match="start: expected one of dispersed, svi, found 'map'"):
        RunSettings(start="map")
    with pytest.raises(InputError, match="svi: expected one device, found devices=2"):
        RunSettings(start="svi", devices=2)


def test_fit__raises_on_checkpoint_with_svi(data, tmp_path):
    with pytest.raises(InputError, match="checkpoint: expected it with method mcmc alone"):
        nm.fit(data, **SHORT, method="svi", checkpoint=tmp_path)


def test_command__raises_on_until_ess_with_svi(capsys):
    words = "fit --genotypes g --phenotypes p --trait y --out d --method svi --until-ess 9"
    assert main(words.split()) == 2
    assert "until_ess: expected it with method mcmc alone" in capsys.readouterr().err
