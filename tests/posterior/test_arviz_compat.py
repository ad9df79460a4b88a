import time

import arviz
import numpy as np
import pytest
import xarray as xr

from nnmm_jax.posterior import arviz_compat


@pytest.fixture(scope="module")
def draws():
    """Autocorrelated chains, one of them shifted, beside independent ones."""
    rng = np.random.default_rng(1)
    noise = rng.normal(size=(4, 200, 3))
    slow = noise.copy()
    for step in range(1, 200):
        slow[:, step] = 0.9 * slow[:, step - 1] + noise[:, step]
    slow[0, :, 1] += 1.0
    return xr.DataArray(
        np.stack([slow, noise], axis=-1), dims=("chain", "draw", "node", "kind"), name="x"
    )


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (arviz_compat.r_hat, lambda values: arviz.rhat(values)),
        (arviz_compat.ess_bulk, lambda values: arviz.ess(values)),
        (arviz_compat.ess_tail, lambda values: arviz.ess(values, method="tail", prob=(0.05, 0.95))),
    ],
    ids=["r_hat", "ess_bulk", "ess_tail"],
)
def test_statistics_are_those_of_arviz_scalar_by_scalar(draws, ours, theirs):
    found = ours(draws)
    assert found.dims == ("node", "kind")
    for node in range(3):
        for kind in range(2):
            one = draws.values[:, :, node, kind]
            assert float(found[node, kind]) == float(theirs(one))


def test_r_hat_and_ess_see_slow_and_shifted_chains(draws):
    assert float(arviz_compat.r_hat(draws)[1, 0]) > 1.05
    assert (arviz_compat.ess_bulk(draws).sel(kind=0) < 150).all()
    assert (arviz_compat.ess_bulk(draws).sel(kind=1) > 500).all()


def test_dimensions_may_come_in_any_order(draws):
    turned = draws.transpose("kind", "draw", "node", "chain")
    found = arviz_compat.r_hat(turned).transpose("node", "kind")
    xr.testing.assert_identical(found, arviz_compat.r_hat(draws).transpose("node", "kind"))


def test_r_hat_of_one_chain_is_undefined_but_ess_is_not(draws):
    one = draws.isel(chain=[0])
    assert arviz_compat.r_hat(one).isnull().all()
    assert arviz_compat.r_hat(one).shape == (3, 2)
    assert np.isfinite(arviz_compat.ess_tail(one)).all()


@pytest.mark.parametrize("name", ["r_hat", "ess_bulk", "ess_tail"])
def test_three_draws_are_too_few(draws, name):
    assert getattr(arviz_compat, name)(draws.isel(draw=slice(3))).isnull().all()


def test_chains_stuck_at_different_values_have_a_huge_r_hat():
    stuck = xr.DataArray(np.repeat([[1.0], [2.0]], 10, axis=1), dims=("chain", "draw"))
    assert float(arviz_compat.r_hat(stuck)) > 1000


def test_as_arviz_keeps_every_group_and_is_understood_by_arviz(draws):
    groups = {
        "posterior": draws.to_dataset(),
        "moments": xr.Dataset({"mean": ("marker", np.arange(3.0))}),
    }
    container = arviz_compat.as_arviz(groups)
    assert container["moments"]["mean"].values.tolist() == [0.0, 1.0, 2.0]
    table = arviz.summary(container, var_names=["x"])
    assert len(table) == 6


def test_six_hundred_individuals_take_seconds():
    many = np.random.default_rng(2).normal(size=(4, 1000, 600))
    values = xr.DataArray(many, dims=("chain", "draw", "individual"))
    began = time.perf_counter()
    for statistic in (arviz_compat.r_hat, arviz_compat.ess_bulk, arviz_compat.ess_tail):
        assert statistic(values).shape == (600,)
    # 1.5 s on two cores; a Python loop over ArviZ's dataset interface takes minutes.
    assert time.perf_counter() - began < 20
