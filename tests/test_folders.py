import pytest

from nnmm_jax.errors import InputError
from nnmm_jax.folders import check_new_folder, new_folder


def owned(name):
    return name in {"a.txt", "b.txt", "figures"}


def contents(folder):
    return sorted(path.name for path in folder.iterdir())


def fail_midway(target, **options):
    with new_folder(target, owned=owned, **options) as temporary:
        (temporary / "a.txt").write_text("new")
        raise RuntimeError("midway")


def test_new_folder_makes_parents_and_leaves_no_temporary(tmp_path):
    target = tmp_path / "deep" / "result"
    with new_folder(target, owned=owned) as temporary:
        assert not target.exists()
        (temporary / "a.txt").write_text("a")
    assert contents(target) == ["a.txt"]
    assert contents(target.parent) == ["result"]


def test_new_folder_leaves_nothing_after_an_error(tmp_path):
    target = tmp_path / "result"
    with pytest.raises(RuntimeError, match="midway"):
        fail_midway(target)
    assert contents(tmp_path) == []


def test_new_folder_overwrites_its_own_files_only(tmp_path):
    target = tmp_path / "result"
    (target / "figures").mkdir(parents=True)
    (target / "figures" / "old.png").write_text("old")
    for name in ("a.txt", "b.txt", "notes.txt"):
        (target / name).write_text("old")
    with new_folder(target, owned=owned, overwrite=True) as temporary:
        (temporary / "a.txt").write_text("new")
        (temporary / "figures").mkdir()
        (temporary / "figures" / "new.png").write_text("new")
    assert contents(target) == ["a.txt", "figures", "notes.txt"]
    assert (target / "a.txt").read_text() == "new"
    assert (target / "notes.txt").read_text() == "old"
    assert contents(target / "figures") == ["new.png"]
    assert contents(tmp_path) == ["result"]


def test_overwrite_that_fails_leaves_the_old_files(tmp_path):
    target = tmp_path / "result"
    target.mkdir()
    (target / "a.txt").write_text("old")
    with pytest.raises(RuntimeError, match="midway"):
        fail_midway(target, overwrite=True)
    assert (target / "a.txt").read_text() == "old"
    assert contents(tmp_path) == ["result"]


def test_new_folder__raises_on_existing(tmp_path):
    with (
        pytest.raises(InputError, match="exists: choose another folder"),
        new_folder(tmp_path, owned=owned),
    ):
        pass


def test_check_new_folder__raises_on_file(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="is a file"):
        check_new_folder(tmp_path / "file", overwrite=True)


def test_new_folder__raises_below_a_file(tmp_path):
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(InputError, match="cannot write to"),
        new_folder(tmp_path / "file" / "result", owned=owned),
    ):
        pass
