"""Folders and files that are written whole or not at all."""

import os
import shutil
import tempfile
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from nnmm_jax.errors import InputError


def check_new_folder(folder: str | Path, *, overwrite: bool = False) -> None:
    """Refuse a folder that :func:`new_folder` would refuse; writes nothing.

    For long runs, to be called before the work instead of after it.

    Raises
    ------
    InputError
        If ``folder`` exists and ``overwrite`` is false, or if it is a file.
    """
    folder = Path(folder)
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder} is a file: give the name of a folder to write to")
    if folder.exists() and not overwrite:
        raise InputError(f"{folder} exists: choose another folder, or overwrite it explicitly")


@contextmanager
def new_folder(
    folder: str | Path, *, owned: Callable[[str], bool], overwrite: bool = False
) -> Iterator[Path]:
    """Give an empty temporary folder that becomes ``folder`` when the block ends well.

    Parameters
    ----------
    folder : path
        The folder to make; parents are made too.
    owned : callable
        Which top-level names of an existing folder belong to the writer. On overwrite these are
        replaced, or removed where they are not written again; everything else stays.
    overwrite : bool
        Whether an existing folder may be written to.

    Yields
    ------
    Path
        The temporary folder, beside ``folder``. An exception in the block removes it and leaves
        ``folder`` as it was.

    Raises
    ------
    InputError
        If the folder exists and ``overwrite`` is false, or if nothing can be written there.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from nnmm_jax.folders import new_folder
    >>> target = Path(tempfile.mkdtemp()) / "result"
    >>> with new_folder(target, owned=lambda name: name == "a.txt") as temporary:
    ...     _ = (temporary / "a.txt").write_text("done")
    >>> [path.name for path in target.iterdir()]
    ['a.txt']
    """
    check_new_folder(folder, overwrite=overwrite)
    folder = Path(folder).resolve()
    # beside the target, so that the final rename stays on one file system
    temporary = folder.with_name(f".{folder.name}-{uuid.uuid4().hex[:8]}")
    try:
        temporary.mkdir(parents=True)
    except OSError as error:
        raise InputError(f"cannot write to {folder.parent}: {error.strerror}") from error
    try:
        yield temporary
        if folder.exists():
            _replace_owned(temporary, folder, owned)
        else:
            temporary.rename(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _replace_owned(temporary: Path, folder: Path, owned: Callable[[str], bool]) -> None:
    written = {path.name for path in temporary.iterdir()}
    for old in folder.iterdir():
        stale = owned(old.name) and old.name not in written
        if old.is_dir() and not old.is_symlink() and (stale or old.name in written):
            shutil.rmtree(old)
        elif stale:
            old.unlink()
    for new in temporary.iterdir():
        os.replace(new, folder / new.name)


def check_new_file(file: str | Path, *, overwrite: bool = False, flag: str = "--out") -> None:
    """Refuse a file that is not to be written; writes nothing. ``flag`` is what named it.

    Raises
    ------
    InputError
        If ``file`` exists and ``overwrite`` is false, or if it is a folder or in none.
    """
    file = Path(file)
    parent = file.absolute().parent
    if file.is_dir() or not (parent.is_dir() and os.access(parent, os.W_OK | os.X_OK)):
        raise InputError(f"{flag} {file}: expected a file in a folder that can be written to")
    if file.exists() and not overwrite:
        raise InputError(f"{file} exists: choose another file, or say --overwrite")


@contextmanager
def replacing(target: Path) -> Iterator[Path]:
    """Give a temporary name beside ``target`` that becomes ``target`` if all goes well.

    Yields
    ------
    Path
        To be written; it has the name of ``target``, in a temporary folder beside it.
    """
    with tempfile.TemporaryDirectory(prefix=f".{target.name}.", dir=target.parent) as scratch:
        temporary = Path(scratch) / target.name
        yield temporary
        os.replace(temporary, target)
