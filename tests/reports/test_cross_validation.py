import dataclasses

import numpy as np
import pandas as pd
import pytest
from scipy.stats import norm

import nnmm_jax as nm
from nnmm_jax.errors import InputError
from nnmm_jax.inference.run import compiled_piece
from nnmm_jax.posterior.assemble import residual_shares
from nnmm_jax.reports.cross_validation import FILES
from nnmm_jax.reports.prediction_plots import cross_validation
from nnmm_jax.reports.predictive_scores import MEASURES, fold_scores, score_individuals

SHORT = {"warmup": 6, "samples": 6, "chains": 2, "progress": False}


@pytest.fixture(scope="module")
def dataset():
    """50 phenotyped individuals, which do not divide evenly by 3, nor do those without omics."""
    sizes = nm.SimulationSettings(individuals=60, markers=60, omics=3, without_phenotype=0.17)
    return nm.simulate(sizes, seed=1).dataset()


@pytest.fixture(scope="module")
def found(dataset):
    compiled_piece.cache_clear()
    return nm.cross_validate(dataset, nm.Network(skip_prior="RR-BLUP"), folds=3, seed=1, **SHORT)


def test_every_fold_runs_the_program_of_the_first(found):
    assert compiled_piece.cache_info().currsize == 1
    piece = compiled_piece(*_only_key())
    assert piece._cache_size() == 1
    seconds = found.folds["compilation"]
    assert seconds[1:].max() < 0.1 * seconds[0]


def _only_key():
    """Arguments of the one compiled piece: 6 sweeps of 2 chains of the same kernel."""
    from nnmm_jax.inference.devices import Layout
    from nnmm_jax.inference.run import compiled_start
    from nnmm_jax.inference.sweep import SweepSettings
    from nnmm_jax.network.activations import ACTIVATIONS

    settings = SweepSettings(ACTIVATIONS["linear"], False, 0)
    kernel, _ = compiled_start(settings, SHORT["warmup"], Layout())
    return kernel, SHORT["chains"], SHORT["samples"], Layout()


def test_everyone_with_a_phenotype_is_predicted_once(found, dataset):
    table = found.individuals
    phenotyped = ~np.isnan(dataset.phenotype)
    assert sorted(table["id"]) == sorted(dataset.ids[phenotyped])
    observed = pd.Series(dataset.phenotype, dataset.ids)[table["id"]].to_numpy()
    np.testing.assert_allclose(table["observed"], observed)
    assert (table["low"] < table["high"]).all()
    assert table["below"].between(0, 1).all()
    assert found.folds["individuals"].sum() == phenotyped.sum()
    assert found.folds["hidden"].nunique() == 1


def test_scores_by_fold_are_those_of_its_individuals(found):
    for number, part in found.individuals.groupby("fold"):
        row = found.folds.set_index("fold").loc[number]
        for measure, value in fold_scores(part).items():
            assert row[measure] == value
    summary = found.summary()
    assert summary.index.tolist() == list(MEASURES)
    rmse = found.folds["rmse"]
    assert summary.loc["rmse", "mean"] == pytest.approx(rmse.mean())
    assert summary.loc["rmse", "se"] == pytest.approx(rmse.std(ddof=1) / np.sqrt(3))


def test_fits_that_have_not_converged_are_counted_and_shown(found):
    assert not found.folds["converged"].any()  # six sweeps are none
    assert "3 of 3 fits have not converged: largest R-hat" in str(found)
    good = found.folds.assign(converged=True, warning="")
    fine = dataclasses.replace(found, folds=good)
    assert fine.convergence_warning is None
    assert str(fine).endswith("all 3 fits have converged")


def test_same_seed_gives_the_same_predictions(found, dataset):
    again = nm.cross_validate(dataset, nm.Network(skip_prior="RR-BLUP"), folds=3, seed=1, **SHORT)
    pd.testing.assert_frame_equal(again.individuals, found.individuals)
    assert again.run == found.run
    assert found.run["settings"]["seed"] == 1
    assert found.run["settings"]["skip_prior"]["name"] == "RR-BLUP"


def test_results_are_written_whole(found, tmp_path):
    found.write(tmp_path / "cv")
    assert sorted(path.name for path in (tmp_path / "cv").iterdir()) == sorted(FILES)
    assert len(pd.read_csv(tmp_path / "cv" / "individuals.csv")) == len(found.individuals)
    with pytest.raises(InputError, match="exists"):
        found.write(tmp_path / "cv")
    figure = cross_validation(found)
    figure.canvas.draw()
    title = figure.axes[0].get_title(loc="left")
    assert f"slope {found.summary().loc['slope', 'mean']:.2f}" in title


def test_cross_validate__raises_on_a_fold_that_hides_what_is_needed(dataset):
    best = np.nanargmax(dataset.phenotype)
    labels = {name: "rest" for name in dataset.ids} | {dataset.ids[best]: "one"}
    flat = dataclasses.replace(
        dataset, phenotype=np.where(np.arange(60) == best, 2.0, dataset.phenotype * 0 + 1)
    )
    with pytest.raises(InputError, match="fold one: phenotypes after masking: expected a trait"):
        nm.cross_validate(flat, by=labels, seed=1, **SHORT)


def test_cross_validate__raises_on_settings_before_it_fits(dataset):
    with pytest.raises(InputError, match="chains must be a whole number"):
        nm.cross_validate(dataset, seed=1, chains=0)
    bare = dataclasses.replace(
        dataset, omics=dataset.omics[:, :0], omics_names=dataset.omics_names[:0]
    )
    with pytest.raises(InputError, match="hide_omics: expected omics to hide"):
        nm.cross_validate(bare, nm.Network(skip_prior="GBLUP"), hide_omics=True, seed=1, **SHORT)


def test_densities_and_intervals_are_those_of_the_mixture_of_draws(make_result, dataset):
    result = make_result(individuals=60, draws=500)
    some = dataclasses.replace(dataset, phenotype=np.linspace(45.0, 55.0, 60))
    table = score_individuals(result, some, np.arange(60) < 7)
    draws = result.posterior.squeeze("trait").isel(individual=slice(7))
    mean = draws["y_mean"].values
    sd = np.sqrt(draws["var_residual_trait"].values)[..., None]
    y = some.phenotype[:7]
    np.testing.assert_allclose(
        np.exp(table["log_density"]), norm.pdf(y, mean, sd).mean(axis=(0, 1)), rtol=1e-5
    )
    for end, probability in (("low", 0.05), ("high", 0.95)):
        inside = norm.cdf(table[end].to_numpy(), mean, sd).mean(axis=(0, 1))
        # 2,000 draws of a quantile: a standard error of 0.005
        np.testing.assert_allclose(inside, probability, atol=0.02)
    np.testing.assert_allclose(table["predicted"], mean.mean(axis=(0, 1)), rtol=1e-5)


def test_the_residual_of_a_mean_of_records_has_less_variance(dataset):
    several = dataclasses.replace(
        dataset,
        phenotype=np.array([1.0, 3.0, 5.0, np.nan]),
        record_rows=np.array([0, 0, 1, 2]),
        weights=np.array([1.0, 2.0, 4.0, 1.0]),
        ids=dataset.ids[:3],
    )
    found = residual_shares(several)
    np.testing.assert_allclose(found[:2], [(1 + 1 / 2) / 4, 1 / 4])
    assert np.isnan(found[2])


def test_two_individuals_have_no_correlation():
    table = pd.DataFrame({"observed": [1.0, 2.0], "predicted": [1.0, 3.0]})
    scores = fold_scores(table.assign(low=0.0, high=1.5, log_density=-1.0))
    assert np.isnan(scores["correlation"])
    assert np.isnan(scores["slope"])
    assert scores["coverage"] == 0.5
