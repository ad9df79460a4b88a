import dataclasses
import json

import arviz
import numpy as np
import pytest
import xarray as xr

from nnmm_jax.errors import InputError
from nnmm_jax.posterior.result import GROUPS, load


@pytest.fixture
def saved(make_result, tmp_path):
    result = make_result(nodes=2, latent=1, skip=True, bayesc=True, hmc=True)
    result.save(tmp_path / "results")
    return result, tmp_path / "results"


def test_save_and_load_give_the_same_result(saved):
    result, folder = saved
    again = load(folder)
    for name in GROUPS:
        xr.testing.assert_identical(again.groups[name], result.groups[name])
        for key, variable in result.groups[name].variables.items():
            assert again.groups[name][key].dtype == variable.dtype
    assert again.run == result.run


def test_save_and_load_without_a_middle_layer(make_result, tmp_path):
    result = make_result(layer=False, terms=True)
    assert not result.moments.data_vars
    result.save(tmp_path)
    again = load(tmp_path)
    for name in GROUPS:
        xr.testing.assert_identical(again.groups[name], result.groups[name])
    assert not again.latent.size
    assert again.idata["posterior"]["var_polygenic"].dims == ("chain", "draw", "trait")


def test_save_writes_two_files_and_no_temporary(saved):
    _, folder = saved
    assert sorted(path.name for path in folder.iterdir()) == ["posterior.nc", "run.json"]


def test_saved_posterior_opens_with_arviz(saved):
    result, folder = saved
    opened = arviz.from_netcdf(folder / "posterior.nc")
    for name in GROUPS:
        assert set(opened[name].data_vars) == set(result.groups[name].data_vars)
    np.testing.assert_array_equal(
        opened["posterior"]["ebv_mediated"].values, result.posterior["ebv_mediated"].values
    )
    assert list(opened["posterior"]["individual"].values) == list(result.posterior["individual"])


def test_idata_has_the_groups(make_result):
    result = make_result()
    assert result.idata["posterior"]["h2_trait"].dims == ("chain", "draw", "trait")
    assert "omics_observed" in result.idata["constant_data"]


def test_save_writes_run_as_plain_json(make_result, tmp_path):
    result = make_result(individuals=3)
    run = {"a": np.float32(0.5), "b": (1, np.int64(2)), "c": float("nan"), "d": tmp_path}
    dataclasses.replace(result, run=run).save(tmp_path)
    text = (tmp_path / "run.json").read_text(encoding="utf-8")
    stored = json.loads(text, parse_constant=pytest.fail)
    assert stored == {"format": 2, "a": 0.5, "b": [1, 2], "c": None, "d": str(tmp_path)}


def test_save__raises_on_existing_results(saved):
    result, folder = saved
    before = (folder / "posterior.nc").read_bytes()
    with pytest.raises(InputError, match=r"posterior\.nc exists already"):
        result.save(folder)
    assert (folder / "posterior.nc").read_bytes() == before


def test_save_overwrites_when_told(saved, make_result):
    _, folder = saved
    other = make_result(individuals=5)
    other.save(folder, overwrite=True)
    assert load(folder).posterior.sizes["individual"] == 5


def test_save_that_fails_leaves_nothing(make_result, tmp_path, monkeypatch):
    def full(*args, **options):
        raise OSError("disk full")

    monkeypatch.setattr(xr.Dataset, "to_netcdf", full)
    with pytest.raises(OSError, match="disk full"):
        make_result(individuals=3).save(tmp_path / "results")
    assert list((tmp_path / "results").iterdir()) == []


def test_zeros_are_compressed_and_noise_is_not(make_result, tmp_path):
    result = make_result(individuals=200, nodes=20, draws=1000, bayesc=True)
    result.save(tmp_path)
    opened = xr.open_dataset(tmp_path / "posterior.nc", group="posterior", engine="h5netcdf")
    with opened:
        assert opened["node_included"].encoding["zlib"]
        assert not opened["epv"].encoding["zlib"]


@pytest.mark.parametrize("name", ["run.json", "posterior.nc"])
def test_load__raises_on_missing_file(saved, name):
    _, folder = saved
    (folder / name).unlink()
    with pytest.raises(InputError, match=f"no {name} there"):
        load(folder)


@pytest.mark.parametrize("text", ["{", "[1]", "{}", "3"])
def test_load__raises_on_broken_record(saved, text):
    _, folder = saved
    (folder / "run.json").write_text(text)
    with pytest.raises(InputError, match=r"run\.json: not the record of a fit"):
        load(folder)


def test_load__raises_on_other_format(saved):
    _, folder = saved
    (folder / "run.json").write_text('{"format": 99}')
    with pytest.raises(InputError, match="result format 99, but this version reads 2"):
        load(folder)


def test_load__raises_on_broken_posterior(saved):
    _, folder = saved
    (folder / "posterior.nc").write_bytes(b"not a netCDF file")
    with pytest.raises(InputError, match=r"posterior\.nc: cannot be read"):
        load(folder)


def test_diagnostics_are_a_copy(make_result):
    result = make_result(individuals=3)
    mine = result.diagnostics()
    mine["r_hat"] = 0.0
    assert (result.diagnostics()["r_hat"] > 0.9).all()


@pytest.mark.parametrize(
    "name",
    [
        "breeding_values",
        "variance_components",
        "node_effects",
        "marker_effects",
        "omics_imputed",
        "summary",
    ],
)
def test_tables_are_methods_of_the_result(make_result, name):
    from nnmm_jax.reports import tables

    result = make_result(individuals=3)
    assert getattr(result, name)().equals(getattr(tables, name)(result))
