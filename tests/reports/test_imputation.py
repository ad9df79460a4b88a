import dataclasses

import numpy as np
import pandas as pd
import pytest

import nnmm_jax as nm
from nnmm_jax.errors import InputError
from nnmm_jax.reports.imputation import compare_imputed, imputed_omics


def known_values(result, noise=0.7):
    mean = result.moments["omics_mean"].to_pandas()
    return mean + np.random.default_rng(5).normal(0.0, noise, mean.shape)


def test_only_cells_that_were_missing_are_compared(make_result):
    result = make_result(individuals=200, nodes=3, latent=1)
    known = known_values(result)
    found = compare_imputed(result, known.drop(columns="latent1"))
    missing = ~result.constant_data["omics_observed"].values[:, :3]
    assert len(found.cells) == missing.sum()
    first = found.cells.iloc[0]
    assert first["value"] == known.loc[first["id"], first["node"]]
    table = found.nodes.set_index("node")
    assert table["cells"].tolist() == missing.sum(axis=0).tolist()
    assert table["slope"].between(0.6, 1.4).all()
    # sds are 0.7, as is the noise; 60 cells or more a node
    assert table["coverage"].between(0.75, 1.0).all()
    assert table["rmse"].between(0.5, 0.9).all()
    figure = imputed_omics(found)
    figure.canvas.draw()
    assert sum(axes.axison for axes in figure.axes) == 3


def test_many_nodes_are_a_selection_from_best_to_worst(make_result):
    result = make_result(individuals=40, nodes=30)
    figure = imputed_omics(compare_imputed(result, known_values(result)))
    assert sum(axes.axison for axes in figure.axes) == 12


def test_hidden_cells_are_the_ones_compared(make_result, monkeypatch):
    sizes = nm.SimulationSettings(individuals=60, markers=60, omics=3)
    dataset = nm.simulate(sizes, seed=1).dataset()
    seen = {}

    def fit(masked, network, **settings):
        seen.update(masked=masked, settings=settings)
        made = make_result(individuals=60, nodes=3)
        ids = {"individual": dataset.ids, "node": dataset.omics_names}
        observed = ("individual", "node"), ~np.isnan(masked.omics)
        constant = made.constant_data.assign_coords(ids).assign(omics_observed=observed)
        moments = made.moments.assign_coords(ids)
        posterior = made.posterior.assign_coords(ids)
        return type(made)(
            posterior, made.sample_stats, moments, constant, made.parameters, made.run
        )

    monkeypatch.setattr("nnmm_jax.api.fit", fit)
    for whole in (False, True):
        found = nm.check_imputation(dataset, share=0.2, whole=whole, seed=3, chains=2)
        hidden = np.isnan(seen["masked"].omics) & ~np.isnan(dataset.omics)
        assert seen["settings"] == {"seed": 3, "chains": 2}
        assert len(found.cells) == hidden.sum()
        rows = hidden.any(axis=1, keepdims=True)
        assert (hidden == (rows & ~np.isnan(dataset.omics))).all() == whole
        values = pd.DataFrame(dataset.omics, dataset.ids, dataset.omics_names)
        for row in found.cells.itertuples():
            assert row.value == values.loc[row.id, row.node]


def test_check_imputation__raises_on_shares_and_data_that_cannot_be():
    dataset = nm.simulate(
        nm.SimulationSettings(individuals=60, markers=60, omics=3), seed=1
    ).dataset()
    with pytest.raises(InputError, match=r"share: expected a number between 0 and 1, found 1\.5"):
        nm.check_imputation(dataset, share=1.5)
    with pytest.raises(InputError, match="expected cells to hide, found none"):
        nm.check_imputation(dataset, share=1e-9)
    hidden = np.full(dataset.omics.shape, np.nan)
    with pytest.raises(InputError, match="expected omics to hide some of"):
        nm.check_imputation(dataclasses.replace(dataset, omics=hidden))


def test_compare_imputed__raises_where_nothing_is_known(make_result):
    result = make_result(individuals=20)
    known = known_values(result)
    known[:] = np.nan
    with pytest.raises(InputError, match="expected known values of missing cells, found none"):
        compare_imputed(result, known)
