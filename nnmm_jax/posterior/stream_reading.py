"""Draws that :mod:`nnmm_jax.posterior.stream` wrote: read lazily, and checked."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
import zarr

from nnmm_jax.errors import InputError
from nnmm_jax.inference.checkpoint import CHECKPOINT_FOLDER, STREAM_FOLDER
from nnmm_jax.inference.run_settings import SITES
from nnmm_jax.posterior.arviz_compat import as_arviz

GROUPS = ("posterior", "sample_stats", "log_likelihood")
DIMS = "_ARRAY_DIMENSIONS"  # attribute of an array, by which xarray knows them
COUNT = "draws"  # attribute of the store: how many are valid


def damage(path: Path, content: Mapping[str, Any]) -> str | None:
    """Say what is wrong with the draws that a checkpoint needs, ``None`` for nothing.

    All of them are read once, a chunk at a time; those in the checkpoint itself are not needed.

    Parameters
    ----------
    path : Path
        Of the store.
    content : mapping
        What the checkpoint says of the run.
    """
    count = content["stream"]["draws"]
    if not count:
        return None
    try:
        group: Any = zarr.open_group(path, mode="r", use_consolidated=False)
        for name, array in ((f"{one}/{key}", array) for one in GROUPS
                            for key, array in group[one].arrays()):  # fmt: skip
            if array.attrs[DIMS][:2] != ["chain", "draw"]:
                array[:]
                continue
            chunk, rest = array.chunks[1], ".0" * (array.ndim - 2)
            for number in range(count // chunk):
                if not (path / name / f"0.{number}{rest}").is_file():
                    return f"a chunk of {name} in {path.name} is not there"
                array[:, number * chunk : (number + 1) * chunk]
    except Exception as error:  # of many classes: metadata, codecs, files
        return f"{path.name}: {type(error).__name__} {error}"
    return None


def read_stream(path: Path, *, sites: bool = True) -> dict[str, xr.Dataset]:
    """Groups :data:`GROUPS` of a store, as lazy arrays.

    Parameters
    ----------
    path : Path
    sites : bool
        Whether with large sites.

    Raises
    ------
    InputError
        If there is no such store, or it cannot be read.
    """
    if not path.is_dir():
        raise InputError(f"{path}: expected the draws of a run, found nothing there")
    try:
        store: Any = zarr.open_group(path, mode="r", use_consolidated=False)
        count = store.attrs[COUNT]
        return {name: _group(path, name, count, sites=sites) for name in GROUPS}
    except Exception as error:  # of many classes
        raise InputError(
            f"{path}: cannot be read as the draws of a run ({type(error).__name__} {error})"
        ) from error


def _group(path: Path, name: str, count: int, *, sites: bool) -> xr.Dataset:
    found = xr.open_dataset(
        path, engine="zarr", group=name, consolidated=False, chunks=None, cache=False,
        drop_variables=() if sites else SITES,
    )  # fmt: skip
    if "draw" in found.dims:
        found = found.isel(draw=slice(count))
    texts = {
        key: coordinate.astype(str)
        for key, coordinate in found.coords.items()
        if coordinate.dtype.kind in "OT"
    }
    steps = {dim: np.arange(found.sizes[dim]) for dim in ("chain", "draw") if dim in found.dims}
    return found.assign_coords(texts | steps).drop_encoding()


def open_draws(folder: str | Path) -> Any:
    """Open the draws of a run with a checkpoint folder, while it goes on or later.

    Parameters
    ----------
    folder : str or Path
        Of the checkpoints, or the folder of results that ``nnmm fit`` makes.

    Returns
    -------
    arviz.InferenceData or xarray.DataTree
        Groups ``posterior``, ``sample_stats`` and ``log_likelihood``; the first with arviz 0.x, the
        second with arviz 1.x. A value is read from disk when it is asked for. Draws that are
        written later are not seen: open them again.

    Raises
    ------
    InputError
        If there are no draws.

    Examples
    --------
    >>> import nnmm_jax as nm
    >>> draws = nm.open_draws("results")  # doctest: +SKIP
    >>> draws["posterior"]["h2_trait"].mean("draw")  # doctest: +SKIP
    """
    return as_arviz(read_stream(stream_path(Path(folder))))


def stream_path(folder: Path) -> Path:
    """Where the draws of a folder of checkpoints, or of results with one, are."""
    inner = folder / CHECKPOINT_FOLDER / STREAM_FOLDER
    return inner if inner.is_dir() else folder / STREAM_FOLDER


def relative_stream_path() -> str:
    """Where the draws are within a folder of results."""
    return f"{CHECKPOINT_FOLDER}/{STREAM_FOLDER}"
