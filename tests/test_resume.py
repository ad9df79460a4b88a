"""Runs on disk: interrupted, resumed, made longer; always the draws of one unbroken run."""

import dataclasses
import json
import resource
import shutil
import signal
import time

import numpy as np
import pytest
import xarray as xr

import nnmm_jax as nm
from nnmm_jax.errors import RunInterrupted
from nnmm_jax.inference import checkpoint, recording
from nnmm_jax.inference.recording import Recording
from nnmm_jax.posterior.result import GROUPS

LENGTH = {"warmup": 60, "samples": 60, "chains": 2, "seed": 1, "progress": False}
NETWORK = nm.Network(activation="tanh", latent=1, skip_prior="RR-BLUP")
DATA = nm.simulate(nm.SimulationSettings(individuals=40, markers=30, omics=2), seed=4).dataset()
SITES = ("marker_effect", "skip_effect", "omics")


@pytest.fixture(scope="module")
def whole():
    """The run without interruption, in memory."""
    return nm.fit(DATA, NETWORK, **LENGTH)


def assert_same(one, two, groups=GROUPS):
    """Bit for bit, with names and types."""
    for group in groups:
        first, second = one.groups[group], two.groups[group]
        assert set(first.variables) == set(second.variables)
        for name, value in first.variables.items():
            assert value.dims == second[name].dims
            assert value.dtype == second[name].dtype
            np.testing.assert_array_equal(value.values, second[name].values, err_msg=name)


def at(monkeypatch, sweeps, action):
    """Do something when so many sweeps are done, before the checkpoint of then."""
    is_due = Recording.is_due

    def due(self, done):
        if done == sweeps:
            action()
        return is_due(self, done)

    monkeypatch.setattr(Recording, "is_due", due)


def stopped(folder, monkeypatch, sweeps=80, **options):
    """A run that SIGTERM ends one piece of 20 sweeps later, with checkpoints after all others."""
    with monkeypatch.context() as patched:
        at(patched, sweeps, lambda: signal.raise_signal(signal.SIGTERM))
        place = nm.Checkpoints(folder, every=20)
        with pytest.raises(RunInterrupted) as ended:
            nm.fit(DATA, NETWORK, **LENGTH | options, checkpoint=place)
    assert ended.value.exit_code == 143
    return folder


@pytest.fixture(scope="module")
def interrupted(tmp_path_factory):
    """Folder of a run with checkpoints after 80 and 100 of 120 sweeps; to be copied."""
    folder = tmp_path_factory.mktemp("interrupted") / "run"
    with pytest.MonkeyPatch.context() as patched:
        return stopped(folder, patched)


@pytest.fixture
def folder(interrupted, tmp_path):
    return shutil.copytree(interrupted, tmp_path / "run")


def test_draws_on_disk_are_those_in_memory(whole, tmp_path):
    result = nm.fit(DATA, NETWORK, **LENGTH, checkpoint=tmp_path)
    assert_same(result, whole)
    assert result.run["resumed"] == 0
    names = sorted(file.name for file in tmp_path.iterdir())
    assert names == ["000000120.json", "000000120.npz", "draws.zarr", "settings.json", "snapshots"]
    again = nm.resume(tmp_path, DATA, NETWORK, progress=False)  # nothing is left to do
    assert_same(again, whole)
    assert again.run["resumed"] == 1


@pytest.mark.parametrize(("sweeps", "kept"), [(20, 0), (80, 40)])
def test_a_run_goes_on_after_a_signal(whole, tmp_path, monkeypatch, capsys, sweeps, kept):
    """One in the warm-up, before there is a draw, and one in the sampling."""
    stopped(tmp_path, monkeypatch, sweeps)
    assert "SIGTERM: the run ends after this piece of sweeps" in capsys.readouterr().err
    result = nm.resume(tmp_path, DATA, NETWORK, progress=False)
    said = f"going on after {sweeps + 20} sweeps ({kept} of them kept)"
    assert said in capsys.readouterr().err
    assert_same(result, whole)
    assert set(result.run["seconds"]) == set(whole.run["seconds"])


def test_a_signal_says_how_to_go_on_and_handlers_are_put_back(tmp_path, monkeypatch):
    before = [signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM)]
    at(monkeypatch, 80, lambda: signal.raise_signal(signal.SIGINT))
    with pytest.raises(
        RunInterrupted, match=r"stopped by SIGINT after 100 sweeps, .*--resume"
    ) as one:
        nm.fit(DATA, NETWORK, **LENGTH, checkpoint=tmp_path)
    assert one.value.exit_code == 130
    assert [signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM)] == before


def test_a_second_signal_is_obeyed_at_once(tmp_path, monkeypatch):
    def twice():
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)

    at(monkeypatch, 80, twice)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # in the background: ignored
    try:
        with pytest.raises(KeyboardInterrupt) as ended:
            nm.fit(DATA, NETWORK, **LENGTH, checkpoint=tmp_path)
    finally:
        signal.signal(signal.SIGINT, before)
    assert not isinstance(ended.value, RunInterrupted)


def test_a_finished_run_is_given_more_draws(whole, tmp_path):
    nm.fit(DATA, NETWORK, **LENGTH | {"samples": 20}, checkpoint=tmp_path)
    longer = nm.resume(tmp_path, DATA, NETWORK, samples=60, progress=False)
    assert_same(longer, whole)
    assert longer.run["settings"]["samples"] == 60
    with pytest.raises(nm.InputError, match="samples: expected at least the 60 that there are"):
        nm.resume(tmp_path, DATA, NETWORK, samples=40, progress=False)


def test_a_run_until_it_is_enough_goes_on_as_it_was(tmp_path, monkeypatch):
    length = LENGTH | {"samples": 20, "until_ess": 1e6, "max_samples": 60}
    whole = nm.fit(DATA, NETWORK, **length)
    assert whole.posterior.sizes["draw"] == 60
    stopped(tmp_path, monkeypatch, **length)
    result = nm.resume(tmp_path, DATA, NETWORK, progress=False)
    assert_same(result, whole)
    assert result.run["until_ess"] == whole.run["until_ess"]


def other_data():
    return dataclasses.replace(DATA, phenotype=DATA.phenotype * 1.01)


@pytest.mark.parametrize(
    ("data", "network", "message"),
    [
        (other_data(), NETWORK, "one of other data; give those it was begun with"),
        (DATA, dataclasses.replace(NETWORK, skip_prior=nm.RRBLUP(df=5)), "one of other network"),
    ],
)
def test_resume__raises_on_another_run(folder, data, network, message):
    before = {file: file.stat().st_mtime_ns for file in folder.rglob("*")}
    with pytest.raises(nm.InputError, match=message):
        nm.resume(folder, data, network, progress=False)
    assert {file: file.stat().st_mtime_ns for file in folder.rglob("*")} == before


def test_resume__raises_on_other_settings_and_formats(folder, monkeypatch):
    file = folder / "settings.json"
    stored = json.loads(file.read_text())
    file.write_text(json.dumps(stored | {"settings": stored["settings"] | {"seed": 2}}))
    with pytest.raises(nm.InputError, match="one of other settings"):
        nm.resume(folder, DATA, NETWORK, progress=False)
    file.write_text(json.dumps(stored))
    monkeypatch.setattr(checkpoint, "FORMAT", 2)
    with pytest.raises(nm.InputError, match="expected format 2"):
        nm.resume(folder, DATA, NETWORK, progress=False)


def test_fit__raises_on_a_folder_with_a_run(folder):
    with pytest.raises(nm.InputError, match=r"holds the checkpoints of a run: go on with it"):
        nm.fit(DATA, NETWORK, **LENGTH, checkpoint=folder)


def cut(file):
    file.write_bytes(file.read_bytes()[:-20])


def remove(file):
    file.unlink()


NEWEST = ["000000100.npz", "000000100.json"]


@pytest.mark.parametrize("name", NEWEST)
@pytest.mark.parametrize("spoil", [cut, remove])
def test_the_checkpoint_before_is_used_where_the_last_is_damaged(
    folder, whole, capsys, name, spoil
):
    spoil(folder / name)
    result = nm.resume(folder, DATA, NETWORK, progress=False)
    said = capsys.readouterr().err
    assert "going on after 80 sweeps" in said
    # without its JSON file a checkpoint was never finished
    assert ("after 100 sweeps is damaged" in said) == (not (spoil is remove and "json" in name))
    assert_same(result, whole)


@pytest.mark.parametrize("spoil", [cut, remove])
def test_draws_that_are_damaged_are_drawn_anew(tmp_path, whole, capsys, monkeypatch, spoil):
    """From the last checkpoint that does not need them; the chunks are of 20 draws here."""
    monkeypatch.setattr("nnmm_jax.inference.draws._CHUNK_DRAWS", 20)
    stopped(tmp_path, monkeypatch)
    spoil(tmp_path / "draws.zarr" / "posterior" / "epv" / "0.1.0.0")
    result = nm.resume(tmp_path, DATA, NETWORK, progress=False)
    said = capsys.readouterr().err
    assert "after 100 sweeps is damaged" in said
    assert "going on after 80 sweeps" in said
    assert_same(result, whole)


def test_resume__raises_where_all_draws_are_damaged(folder, monkeypatch, tmp_path):
    monkeypatch.setattr("nnmm_jax.inference.draws._CHUNK_DRAWS", 10)
    place = stopped(tmp_path / "small", monkeypatch)
    cut(place / "draws.zarr" / "posterior" / "epv" / "0.0.0.0")
    with pytest.raises(nm.InputError, match=r"expected a whole checkpoint, found .*draws.zarr"):
        nm.resume(place, DATA, NETWORK, progress=False)


def test_what_a_killed_write_left_behind_does_no_harm(folder, whole):
    (folder / "000000120.npz").write_bytes(b"half")
    (folder / "000000120.json.tmp").write_text("{")
    (folder / "snapshots" / "00000009.npz").write_bytes(b"half")
    chunk = folder / "draws.zarr" / "posterior" / "epv" / "0.0.0.0"
    cut(chunk)  # not full yet: what is in it is in the checkpoint
    assert_same(nm.resume(folder, DATA, NETWORK, progress=False), whole)


def no_room(*_, **__):
    raise OSError(28, "No space left on device")


@pytest.mark.parametrize("part", ["checkpoint", "draws", "parameters"])
def test_fit__raises_on_a_full_disk_and_nothing_is_lost(tmp_path, whole, monkeypatch, part):
    def fill():
        if part == "draws":
            full.setattr("nnmm_jax.posterior.stream.DrawStream._write_chunks", no_room)
        elif part == "parameters":
            full.setattr("nnmm_jax.inference.kept_snapshots.write_arrays", no_room)
        else:
            full.setattr("nnmm_jax.inference.checkpoint.write_arrays", no_room)

    with pytest.MonkeyPatch.context() as full:
        at(full, 80, fill)
        message = r"No space left on device.; the checkpoint after \d+ sweeps is whole: make room"
        with pytest.raises(nm.InputError, match=message):
            nm.fit(DATA, NETWORK, **LENGTH, checkpoint=nm.Checkpoints(tmp_path, every=20))
    assert_same(nm.resume(tmp_path, DATA, NETWORK, progress=False), whole)


def test_fit__raises_on_a_file_that_the_system_refuses(tmp_path, whole):
    """As a full disk, but by the system itself: no file above 2 kB."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    with pytest.MonkeyPatch.context() as full:
        at(full, 80, lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (2000, hard)))
        try:
            with pytest.raises(nm.InputError, match=r"cannot be written to .File too large"):
                nm.fit(DATA, NETWORK, **LENGTH, checkpoint=nm.Checkpoints(tmp_path, every=20))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert_same(nm.resume(tmp_path, DATA, NETWORK, progress=False), whole)


def test_a_limit_of_time_ends_a_run_that_can_go_on(tmp_path, whole, monkeypatch, capsys):
    with pytest.MonkeyPatch.context() as later:
        monotonic = time.monotonic
        at(later, 80, lambda: later.setattr(time, "monotonic", lambda: monotonic() + 3600.0))
        length = LENGTH | {"progress": True}
        short = nm.fit(DATA, NETWORK, **length, max_minutes=50, checkpoint=tmp_path)
    assert short.run["stopped"] == {
        "reason": "max_minutes",
        "minutes": 50,
        "samples": 40,
        "wanted": 60,
    }
    assert "warning: stopped after 50 minutes with 40 of 60 samples" in capsys.readouterr().err
    assert short.posterior.sizes["draw"] == 40
    assert_same(nm.resume(tmp_path, DATA, NETWORK, progress=False), whole)


def test_a_limit_of_time_without_checkpoints(whole):
    result = nm.fit(DATA, NETWORK, **LENGTH, max_minutes=60)
    assert "stopped" not in result.run
    assert_same(result, whole)
    with pytest.raises(
        nm.InputError, match=r"max_minutes: expected time for the warm-up .* after 20"
    ):
        nm.fit(DATA, NETWORK, **LENGTH, max_minutes=1e-9)


def test_draws_are_thinned_and_large_sites_kept(tmp_path, monkeypatch):
    """Every fifth draw; moments are of all, and effects of the swept priors those of the state."""
    length = LENGTH | {"thin": 5, "keep": SITES}
    result = nm.fit(DATA, NETWORK, **length, checkpoint=tmp_path / "run", lazy=True)
    # Pieces of another length are another program, which may round otherwise.
    monkeypatch.setattr("nnmm_jax.inference.run.pieces_of", lambda settings: 5)
    whole = nm.fit(DATA, NETWORK, **LENGTH)
    for name, value in whole.posterior.isel(draw=slice(4, None, 5)).data_vars.items():
        if name != "y_pred":  # its noise is drawn for what is kept
            np.testing.assert_array_equal(value, result.posterior[name], err_msg=name)
    assert_same(result, whole, ["moments"])
    assert_same(result, nm.fit(DATA, NETWORK, **LENGTH | {"thin": 5}), ["sample_stats"])
    draws = nm.open_draws(tmp_path / "run")["posterior"]
    assert draws["marker_effect"].dims == ("chain", "draw", "node", "marker")
    assert draws["omics"].shape == (2, 12, 40, 3)
    observed = ~np.isnan(DATA.omics)
    seen = draws["omics"].values[..., :2][:, :, observed]
    np.testing.assert_allclose(seen, np.broadcast_to(DATA.omics[observed], seen.shape), rtol=1e-4)
    result.save(tmp_path / "saved")
    with xr.open_dataset(tmp_path / "saved" / "posterior.nc", engine="h5netcdf") as top:
        assert not top.data_vars
    again = nm.load(tmp_path / "saved")
    assert_same(again, result)
    assert len(again.breeding_values()) == 40


def test_kept_effects_have_the_moments_of_all_draws(tmp_path):
    network = nm.Network(marker_prior="BayesC", skip_prior="BayesC")  # not drawn jointly
    length = LENGTH | {"warmup": 5, "samples": 10, "keep": SITES, "thin": 1}
    result = nm.fit(DATA, network, **length, checkpoint=tmp_path, lazy=True)
    both = ("chain", "draw")
    for site, moment in (("marker_effect", "marker"), ("skip_effect", "skip"), ("omics", "omics")):
        draws = result.posterior[site].load().astype(float)
        close = {"rtol": 1e-3, "atol": 1e-5}
        np.testing.assert_allclose(draws.mean(both), result.moments[f"{moment}_mean"], **close)
        np.testing.assert_allclose(
            draws.std(both), result.moments[f"{moment}_sd"], rtol=1e-2, atol=1e-4
        )
    share = (result.posterior["marker_effect"] != 0).mean(both)
    np.testing.assert_allclose(share, result.moments["marker_pip"], atol=1e-6)


def test_draws_are_read_while_the_run_goes_on(whole, tmp_path, monkeypatch):
    seen = []

    def look():
        seen.append(nm.open_draws(tmp_path)["posterior"]["epv"].values)

    at(monkeypatch, 100, look)
    nm.fit(DATA, NETWORK, **LENGTH, checkpoint=nm.Checkpoints(tmp_path, every=20))
    (early,) = seen  # after 100 sweeps; the last checkpoint was after 80
    np.testing.assert_array_equal(early, whole.posterior["epv"].values[:, :20])
    late = nm.open_draws(tmp_path)
    np.testing.assert_array_equal(late["posterior"]["epv"].values, whole.posterior["epv"].values)
    assert late["sample_stats"]["non_finite"].shape == (2, 60)


def test_open_draws__raises_on_what_is_none(tmp_path):
    with pytest.raises(nm.InputError, match="expected the draws of a run, found nothing there"):
        nm.open_draws(tmp_path)
    (tmp_path / "draws.zarr").mkdir()
    with pytest.raises(nm.InputError, match="cannot be read as the draws of a run"):
        nm.open_draws(tmp_path)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"keep": ("marker_effect",)}, "keep: expected checkpoint=FOLDER with it"),
        ({"lazy": True}, "lazy: expected checkpoint=FOLDER with it"),
        ({"keep": ("z",)}, "keep: expected some of marker_effect, skip_effect, omics, found 'z'"),
        ({"thin": 61}, "thin: expected at most the 60 samples, found 61"),
        ({"thin": 7, "keep": ("omics",)}, r"multiples of thin \(7\), found 60 and 60"),
        ({"max_minutes": -1.0}, "max_minutes: expected a number above 0, found -1.0"),
    ],
)
def test_fit__raises_on_settings_that_do_not_fit(given, message):
    with pytest.raises(nm.InputError, match=message):
        nm.fit(DATA, NETWORK, **LENGTH | given)


def test_fit__raises_on_a_site_that_the_model_lacks(tmp_path):
    with pytest.raises(nm.InputError, match="keep: expected what the model has, found 'skip_eff"):
        nm.fit(DATA, nm.Network(), **LENGTH, keep=("skip_effect",), checkpoint=tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("given", [{"every": 0}, {"every": 2.5}, {"minutes": 0.0}])
def test_checkpoints__raise_on_numbers_that_are_none(given):
    with pytest.raises(nm.InputError, match="expected a number above 0"):
        recording.Checkpoints("run", **given)


def test_checkpoints__raise_on_folders_of_others(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(nm.InputError, match="is a file"):
        nm.fit(DATA, NETWORK, **LENGTH, checkpoint=tmp_path / "file")
    with pytest.raises(nm.InputError, match="is not empty"):
        nm.fit(DATA, NETWORK, **LENGTH, checkpoint=tmp_path)
