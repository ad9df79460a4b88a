"""Checkpoints: whole or not there, of the same run or refused, the last two kept."""

import json

import numpy as np
import pytest

from nnmm_jax.errors import InputError
from nnmm_jax.inference import checkpoint
from nnmm_jax.inference.checkpoint import CheckpointFolder

RUN = {"data": "a", "network": "b", "settings": "c", "versions": "d"}
ARRAYS = {"state.z": np.arange(6.0), "stream/posterior/epv": np.ones((2, 3, 4), np.float32)}


@pytest.fixture
def folder(tmp_path):
    made = CheckpointFolder(tmp_path / "run")
    made.begin({"fingerprint": RUN})
    for sweeps in (25, 50, 75):
        made.write(sweeps, {"done": sweeps - 25}, {**ARRAYS, "state.i": np.array(sweeps)})
    return made


def test_the_last_two_are_kept_and_the_newest_is_read(folder):
    names = sorted(file.name for file in folder.path.glob("0*"))
    assert names == ["000000050.json", "000000050.npz", "000000075.json", "000000075.npz"]
    found = folder.newest(RUN)
    assert (found.content["sweeps"], found.content["done"], found.notes) == (75, 50, ())
    for name, value in ARRAYS.items():
        np.testing.assert_array_equal(found.arrays[name], value)
        assert found.arrays[name].dtype == value.dtype


def spoil_arrays(file):
    content = bytearray(file.with_suffix(".npz").read_bytes())
    content[len(content) // 2] ^= 1
    file.with_suffix(".npz").write_bytes(content)


def cut_arrays(file):
    file.with_suffix(".npz").write_bytes(file.with_suffix(".npz").read_bytes()[:-100])


def lose_arrays(file):
    file.with_suffix(".npz").unlink()


def cut_json(file):
    file.write_text(file.read_text()[:-30])


def change_json(file):
    file.write_text(file.read_text().replace('"done": 50', '"done": 51'))


SPOIL = [spoil_arrays, cut_arrays, lose_arrays, cut_json, change_json]


@pytest.mark.parametrize("spoil", SPOIL)
def test_a_damaged_one_is_passed_over_and_said(folder, spoil):
    spoil(folder.path / "000000075.json")
    found = folder.newest(RUN)
    assert found.content["sweeps"] == 50
    assert found.arrays["state.i"] == 50
    (note,) = found.notes
    assert note.startswith("the checkpoint after 75 sweeps is damaged")


def test_newest__raises_on_nothing_whole(folder):
    for sweeps in (50, 75):
        cut_arrays(folder.path / f"{sweeps:09d}.json")
    with pytest.raises(InputError, match=r"expected a whole checkpoint, found.*75.*50.*start anew"):
        folder.newest(RUN)


def test_what_else_a_checkpoint_needs_is_asked_for(folder):
    found = folder.newest(RUN, lambda content: "cut" if content["sweeps"] == 75 else None)
    assert found.content["sweeps"] == 50
    assert found.notes == ("the checkpoint after 75 sweeps is damaged (cut)",)


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"data": "x"}, "one of other data; give those it was begun with"),
        ({"data": "x", "network": "y"}, "one of other data and network"),
        ({"versions": "x"}, "one of other versions; use those that settings.json names"),
    ],
)
def test_newest__raises_on_another_run(folder, other, message):
    with pytest.raises(InputError, match=message):
        folder.newest(RUN | other)


def test_newest__raises_on_a_checkpoint_of_another_run_among_these(folder, tmp_path):
    other = CheckpointFolder(tmp_path / "other")
    other.begin({"fingerprint": RUN | {"data": "x"}})
    other.write(100, {}, ARRAYS)
    for end in (".json", ".npz"):
        (other.path / f"000000100{end}").rename(folder.path / f"000000100{end}")
    with pytest.raises(InputError, match=r"000000100.json: .* one of other data"):
        folder.newest(RUN)


def test_newest__raises_on_another_format(folder, monkeypatch):
    monkeypatch.setattr(checkpoint, "FORMAT", 2)
    with pytest.raises(InputError, match="expected format 2, which this version reads, found 1"):
        folder.newest(RUN)


def test_settings__raises_on_what_is_no_run(tmp_path):
    with pytest.raises(InputError, match=r"found no settings.json there"):
        CheckpointFolder(tmp_path).settings()
    (tmp_path / "settings.json").write_text("[]")
    with pytest.raises(InputError, match="not the settings of a run"):
        CheckpointFolder(tmp_path).settings()


def test_begin__raises_on_a_folder_of_something_else(tmp_path):
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(InputError, match=r"has no settings.json, so it does not hold checkpoints"):
        CheckpointFolder(tmp_path).begin({"fingerprint": RUN})
    assert (tmp_path / "thesis.txt").read_text() == "mine"


@pytest.mark.parametrize("failing", ["savez", "fsync", "replace"])
def test_a_write_that_fails_leaves_what_was_there(folder, monkeypatch, failing):
    before = {file.name: file.read_bytes() for file in folder.path.iterdir() if file.is_file()}

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    where = np if failing == "savez" else checkpoint.os
    monkeypatch.setattr(where, failing, full)
    with pytest.raises(OSError, match="No space left"):
        folder.write(100, {}, ARRAYS)
    after = {file.name: file.read_bytes() for file in folder.path.iterdir() if file.is_file()}
    assert after == before
    assert folder.newest(RUN).content["sweeps"] == 75


def test_parameter_sets_are_removed_when_no_checkpoint_has_them(folder):
    for name in ("1.npz", "2.npz"):
        checkpoint.write_arrays(folder.snapshots / name, ARRAYS)
    digest = checkpoint.file_digest(folder.snapshots / "1.npz")
    named = {"snapshots": {"1.npz": {"digest": digest}}}
    folder.write(100, named, ARRAYS)
    assert [file.name for file in folder.snapshots.iterdir()] == ["1.npz"]
    folder.write(125, {"snapshots": {}}, ARRAYS)
    assert (folder.snapshots / "1.npz").is_file()  # the checkpoint before has it
    (folder.snapshots / "1.npz").write_bytes(b"")
    (folder.path / "000000125.json").unlink()
    with pytest.raises(InputError, match=r"snapshots/1.npz is not as it was written"):
        folder.newest(RUN)


def test_files_hold_no_objects(folder):
    for file in folder.path.glob("*.npz"):
        with np.load(file, allow_pickle=False) as stored:
            assert all(stored[name].dtype.kind in "fiub" for name in stored.files)
    assert json.loads((folder.path / "000000075.json").read_text())["content"]["format"] == 1
