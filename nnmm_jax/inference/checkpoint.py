"""Checkpoints: the state of a run on disk, from which it goes on to the same draws.

A checkpoint is a file of arrays (NumPy's npz, without Python objects) and a JSON file beside it
that says how far the run was and holds the digests of both. The JSON file is written last: what has
none does not count. The last two checkpoints are kept.

    settings.json         what is run; written before the first sweep
    000000450.json, .npz  the state after 450 sweeps
    snapshots/            whole parameter sets, each written once
    draws.zarr/           the draws so far, see nnmm_jax.posterior.stream
"""

import hashlib
import json
import os
import shutil
import zipfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from nnmm_jax.errors import InputError

FORMAT = 1  # raised when an older version of the package could misread the files
SETTINGS_FILE = "settings.json"
SNAPSHOTS_FOLDER = "snapshots"
STREAM_FOLDER = "draws.zarr"
_KEPT = 2  # checkpoints: the last may be damaged when the machine goes down


class Checkpoint(NamedTuple):
    """One checkpoint, read.

    Attributes
    ----------
    content : dict
        What was written with it; ``sweeps`` are those done.
    arrays : dict of str to array
    notes : tuple of str
        Why newer ones were not used.
    """

    content: dict[str, Any]
    arrays: dict[str, np.ndarray]
    notes: tuple[str, ...]


class CheckpointFolder:
    """The folder of the checkpoints of one run.

    Parameters
    ----------
    path : Path

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np
    >>> folder = CheckpointFolder(Path(tempfile.mkdtemp()) / "checkpoint")
    >>> folder.begin({"fingerprint": {"data": "a5"}})
    >>> folder.write(25, {"done": 0}, {"z": np.arange(3.0)})
    >>> folder.newest({"data": "a5"}).arrays["z"]
    array([0., 1., 2.])
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def results(self) -> Path:
        """The folder to name to who wants to go on: that of the results, if this is in one."""
        return self.path.parent if self.path.name == CHECKPOINT_FOLDER else self.path

    @property
    def stream(self) -> Path:
        """Where the draws are."""
        return self.path / STREAM_FOLDER

    @property
    def snapshots(self) -> Path:
        """Where the parameter sets are."""
        return self.path / SNAPSHOTS_FOLDER

    def begin(self, settings: Mapping[str, Any]) -> None:
        """Make the folder, in the place of earlier checkpoints, and write what is to be run.

        Raises
        ------
        InputError
            If it holds something else, or cannot be written to.
        """
        try:
            if self.path.exists():
                if any(self.path.iterdir()) and not (self.path / SETTINGS_FILE).is_file():
                    raise InputError(
                        f"{self.path} has no {SETTINGS_FILE}, so it does not hold checkpoints and "
                        "is not overwritten: choose another folder"
                    )
                shutil.rmtree(self.path)
            self.snapshots.mkdir(parents=True)
            self.write_settings(settings)
        except OSError as error:
            raise InputError(
                f"cannot write checkpoints to {self.path}: {error.strerror}"
            ) from error

    def write_settings(self, settings: Mapping[str, Any]) -> None:
        """Write what is run, whole or not at all."""
        _write_json(self.path / SETTINGS_FILE, {"format": FORMAT, **settings})

    def settings(self) -> dict[str, Any]:
        """Read what is run.

        Raises
        ------
        InputError
            If there is no such file, or it is of another format.
        """
        return read_settings(self.path)

    def write(
        self, sweeps: int, content: Mapping[str, Any], arrays: Mapping[str, np.ndarray]
    ) -> None:
        """Write a checkpoint; older ones than the last two go, and what only they needed.

        Raises
        ------
        OSError
            If it cannot be written; those that are there stay.
        """
        name = f"{sweeps:09d}"
        array_file = self.path / f"{name}.npz"
        write_arrays(array_file, arrays)
        settings = self.settings()
        content = {
            "format": FORMAT,
            "fingerprint": settings["fingerprint"],
            "sweeps": sweeps,
            **content,
            "arrays": file_digest(array_file),
        }
        _write_json(
            self.path / f"{name}.json", {"content": content, "digest": _json_digest(content)}
        )
        self._forget_old()

    def _forget_old(self) -> None:
        """Remove checkpoints before the last two, and parameter sets that are in none."""
        newest = self._names()
        for name in newest[_KEPT:]:
            (self.path / f"{name}.json").unlink()  # first: without it the other does not count
        known = {SETTINGS_FILE, *(f"{name}{end}" for name in newest[:_KEPT] for end in _ENDINGS)}
        for file in self.path.glob("*.*"):
            if file.is_file() and file.name not in known:
                file.unlink()
        used: set[str] = set()
        for name in newest[:_KEPT]:
            try:
                used |= set(_read_json(self.path / f"{name}.json").get("snapshots", {}))
            except _Damaged:
                return
        for file in self.snapshots.iterdir():
            if file.name not in used:
                file.unlink()

    def _names(self) -> list[str]:
        """Names of the checkpoints, the newest first."""
        found = (file.stem for file in self.path.glob("*.json") if file.name != SETTINGS_FILE)
        return sorted((name for name in found if name.isdigit()), reverse=True)

    def newest(
        self,
        fingerprint: Mapping[str, str],
        check: Callable[[dict[str, Any]], str | None] = lambda content: None,
    ) -> Checkpoint | None:
        """Read the newest checkpoint that is whole.

        Parameters
        ----------
        fingerprint : mapping of str to str
            Digests of data, network, settings and versions; those of the checkpoint must be these.
        check : callable
            Says what is wrong with the other files that a checkpoint needs, ``None`` for nothing.

        Returns
        -------
        Checkpoint or None
            ``None`` where the run ended before the first.

        Raises
        ------
        InputError
            If it is of another format or of something else, or none is whole.
        """
        self._check_fingerprint(self.settings(), SETTINGS_FILE, fingerprint)
        notes: list[str] = []
        for name in self._names():
            try:
                content = _read_json(self.path / f"{name}.json")
                self._check_fingerprint(content, f"{name}.json", fingerprint)
                arrays = _read_arrays(self.path / f"{name}.npz", content["arrays"])
                self._check_snapshots(content)
                if problem := check(content):
                    raise _Damaged(problem)
            except _Damaged as error:
                notes.append(f"the checkpoint after {int(name)} sweeps is damaged ({error})")
                continue
            return Checkpoint(content, arrays, tuple(notes))
        if notes:
            raise InputError(
                f"{self.path}: expected a whole checkpoint, found that {' and '.join(notes)}; "
                "start anew"
            )
        return None

    def _check_fingerprint(
        self, found: Mapping[str, Any], file: str, fingerprint: Mapping[str, str]
    ) -> None:
        if found.get("format") != FORMAT:
            raise InputError(
                f"{self.path / file}: expected format {FORMAT}, which this version reads, found "
                f"{found.get('format')}; start anew, or use the version that wrote it"
            )
        stored = found["fingerprint"]
        if other := [name for name, value in fingerprint.items() if stored.get(name) != value]:
            raise InputError(
                f"{self.path / file}: expected a checkpoint of the same run, found one of other "
                f"{' and '.join(other)}; {_REMEDY.get(other[0], 'give those it was begun with')}"
            )

    def _check_snapshots(self, content: Mapping[str, Any]) -> None:
        for name, one in content.get("snapshots", {}).items():
            file = self.snapshots / name
            if not file.is_file() or file_digest(file) != one["digest"]:
                raise _Damaged(f"{SNAPSHOTS_FOLDER}/{name} is not as it was written")


CHECKPOINT_FOLDER = "checkpoint"  # within a folder of results
_ENDINGS = (".json", ".npz")
_REMEDY = {
    "versions": "use those that settings.json names, or start anew",
    "machine": "go on on a machine of that kind, or start anew",
}


class _Damaged(Exception):
    """A file of a checkpoint is not as it was written."""


def read_settings(path: Path) -> dict[str, Any]:
    """Read what a folder of checkpoints runs.

    Raises
    ------
    InputError
        If there is no such file, or it is of another format.
    """
    file = path / SETTINGS_FILE
    if not file.is_file():
        raise InputError(f"{path}: expected checkpoints of a run, found no {SETTINGS_FILE} there")
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
        written = found["format"]
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{file}: not the settings of a run ({error!r}); start anew") from error
    if written != FORMAT:
        raise InputError(
            f"{file}: expected format {FORMAT}, which this version reads, found {written}; start "
            "anew, or use the version that wrote it"
        )
    return dict(found)


def write_arrays(file: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write arrays to an npz file, whole or not at all."""

    def write(temporary: Path) -> None:
        with temporary.open("wb") as stream:
            np.savez(stream, allow_pickle=False, **dict(arrays))
            stream.flush()
            os.fsync(stream.fileno())

    _replace(file, write)


def load_arrays(file: Path) -> dict[str, np.ndarray]:
    """Read what :func:`write_arrays` wrote."""
    with np.load(file, allow_pickle=False) as stored:
        return {name: stored[name] for name in stored.files}


def file_digest(file: Path) -> str:
    """Digest of the content of a file."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, lambda: hashlib.blake2b(digest_size=16)).hexdigest()


def _read_arrays(file: Path, digest: str) -> dict[str, np.ndarray]:
    try:
        if file_digest(file) != digest:
            raise _Damaged(f"{file.name} is not as it was written")
        return load_arrays(file)
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise _Damaged(f"{file.name}: {error}") from error


def _read_json(file: Path) -> dict[str, Any]:
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
        content: dict[str, Any] = found["content"]
        if found["digest"] != _json_digest(content):
            raise _Damaged(f"{file.name} is not as it was written")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise _Damaged(f"{file.name}: {error!r}") from error
    return content


def _write_json(file: Path, content: Mapping[str, Any]) -> None:
    text = json.dumps(content, indent=1, allow_nan=False)

    def write(temporary: Path) -> None:
        with temporary.open("w", encoding="utf-8") as stream:
            stream.write(text + "\n")
            stream.flush()
            os.fsync(stream.fileno())

    _replace(file, write)


def _json_digest(content: Mapping[str, Any]) -> str:
    return digest_of_texts([json.dumps(content, sort_keys=True)])


def digest_of_texts(texts: Iterable[str]) -> str:
    """Digest of some texts."""
    digest = hashlib.blake2b(digest_size=16)
    for text in texts:
        digest.update(text.encode())
    return digest.hexdigest()


def _replace(file: Path, write: Callable[[Path], None]) -> None:
    """Write under another name, then rename; a file that was there stays if writing fails."""
    temporary = file.with_name(f"{file.name}.tmp")
    try:
        write(temporary)
        os.replace(temporary, file)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    folder = os.open(file.parent, os.O_RDONLY)  # the new name itself must outlive a power cut
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
