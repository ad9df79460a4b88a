"""Draws on disk while a run goes on: a zarr store in the user's units, read lazily.

Chunks that are full are never written again, and each is written under another name first. What
does not fill a chunk is in the checkpoint too, which says how many draws are valid.
"""

import shutil
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numcodecs
import numpy as np
import zarr

from nnmm_jax.data.align import Dataset
from nnmm_jax.inference.draws import Collected, draws_in_chunk, kept_rows
from nnmm_jax.inference.prepare import Prepared
from nnmm_jax.inference.quantities import describe
from nnmm_jax.inference.run_settings import RunSettings
from nnmm_jax.posterior.assemble import (
    LOG_LIKELIHOOD,
    coordinates,
    draw_dims,
    in_units,
    noise_streams,
    pointwise,
    with_trait,
)
from nnmm_jax.posterior.stream_reading import COUNT, DIMS, GROUPS

_SECONDS = 30.0  # after which readers see what is new
_SAFELY: dict[str, Any] = {
    # Without a checksum a chunk that is cut or altered can be read as other draws.
    "compressors": numcodecs.Zstd(level=1, checksum=True),
    "config": {"write_empty_chunks": True},
    "fill_value": None,  # else xarray takes zeros for missing
}


class DrawStream:
    """Draws of a run, written piece by piece.

    Parameters
    ----------
    path : Path
        Of the zarr store.
    dataset, prepared, settings
        Of the run.
    """

    def __init__(
        self, path: Path, dataset: Dataset, prepared: Prepared, settings: RunSettings
    ) -> None:
        self._path, self._prepared, self._settings = path, prepared, settings
        self._described = describe(prepared.data, prepared.activation)
        self._names, self._pointwise = coordinates(dataset, prepared), pointwise(prepared)
        self._noise = noise_streams(settings.seed, settings.chains)
        self._tails: dict[str, np.ndarray] = {}  # of each variable, what does not fill a chunk
        self._seen = self._count = self._room = 0
        self._flushed = time.monotonic()
        self._group: Any = None
        self._arrays: dict[str, Any] = {}

    def create(self) -> None:
        """Make the store, in the place of any other."""
        if self._path.exists():
            shutil.rmtree(self._path)
        self._group = zarr.open_group(self._path, mode="w-", zarr_format=2)
        self._group.attrs[COUNT] = 0
        for name in GROUPS:
            self._group.create_group(name)
        self._group[LOG_LIKELIHOOD].attrs.update(self._pointwise.attributes)

    def expect(self, sweeps: int) -> None:
        """Make room for so many sweeps in all."""
        self._room = sweeps // self._settings.thin
        for array in self._arrays.values():
            self._make_room(array)

    def _make_room(self, array: Any) -> None:
        """Whole chunks, so that writing one never has to read it."""
        chunk = array.chunks[1]
        length = -(-self._room // chunk) * chunk
        if length > array.shape[1]:
            array.resize((array.shape[0], length, *array.shape[2:]))

    def append(self, collected: Collected) -> None:
        """Take what a piece gave."""
        count = next(iter(collected["stats"].values())).shape[1]
        rows = kept_rows(self._seen, count, self._settings.thin)
        self._seen += count
        kept = self._seen // self._settings.thin - self._count
        if not kept:
            return
        found = self._variables(collected, rows)
        for name, (dims, value) in found.items():
            if name not in self._tails:
                self._make(name, dims, value)
            self._tails[name] = np.concatenate([self._tails[name], value], axis=1)
        self._write_chunks(self._count + kept)
        self._count += kept
        if time.monotonic() - self._flushed > _SECONDS:
            self.flush()

    def _variables(
        self, collected: Collected, rows: slice
    ) -> dict[str, tuple[tuple[str, ...], np.ndarray]]:
        """Draws of a piece in units by group and name, with their dimensions."""
        raw = {name: np.asarray(value)[:, rows] for name, value in collected["draw"].items()}
        draws = in_units(raw, self._prepared, self._described, self._noise)
        found = {}
        for name, value in draws.items():
            quantity = self._described[name]
            found[f"posterior/{name}"] = (draw_dims(quantity), with_trait(value, quantity))
        density = self._pointwise.in_units(raw[LOG_LIKELIHOOD])
        found[f"{LOG_LIKELIHOOD}/phenotype"] = (("chain", "draw", "individual"), density)
        for name, value in collected.get("site", {}).items():
            found[f"posterior/{name}"] = self._site(name, np.asarray(value))
        for name, value in collected["stats"].items():
            found[f"sample_stats/{name}"] = (("chain", "draw"), np.asarray(value)[:, rows])
        return found

    def _site(self, name: str, value: np.ndarray) -> tuple[tuple[str, ...], np.ndarray]:
        """Draws of a large site in units."""
        scaling, first = self._prepared.scaling, ("chain", "draw")
        if name == "marker_effect":
            value, dims = value * scaling.node_sd[:, None], ("node", "marker")
        elif name == "skip_effect":
            value, dims = (value * scaling.trait_sd)[..., None], ("marker", "trait")
        else:
            value, dims = value * scaling.node_sd + scaling.node_mean, ("individual", "node")
        return (*first, *dims), value.astype(np.float32)

    def _make(self, name: str, dims: Sequence[str], value: np.ndarray) -> None:
        """Make the array of a variable, and those of the names along it."""
        group, _, own = name.partition("/")
        chunk = draws_in_chunk(value[:, :1].nbytes)
        array = self._group[group].create_array(
            own,
            shape=(value.shape[0], 0, *value.shape[2:]),
            chunks=(value.shape[0], chunk, *value.shape[2:]),
            dtype=value.dtype,
            attributes={DIMS: list(dims)},
            **_SAFELY,
        )
        self._make_room(array)
        self._arrays[name], self._tails[name] = array, value[:, :0]
        for dim in dims:
            if dim in self._names and dim not in self._group[group]:
                names = self._names[dim]
                if group == LOG_LIKELIHOOD:
                    names = names[self._pointwise.rows]
                made = self._group[group].create_array(
                    dim,
                    shape=names.shape,
                    dtype=names.dtype,
                    chunks=names.shape,
                    attributes={DIMS: [dim]},
                    **_SAFELY,
                )
                made[:] = names

    def _write_chunks(self, count: int) -> None:
        """Write what fills chunks, of ``count`` draws in all."""
        for name, tail in self._tails.items():
            array = self._arrays[name]
            chunk = array.chunks[1]
            while tail.shape[1] >= chunk:
                start = count - tail.shape[1]
                array[:, start : start + chunk] = tail[:, :chunk]
                tail = tail[:, chunk:].copy()
            self._tails[name] = tail

    def flush(self) -> None:
        """Write everything; readers then see it, and it stays valid if the run goes on."""
        for name, tail in self._tails.items():
            if not tail.shape[1]:
                continue
            array = self._arrays[name]
            start, chunk = self._count - tail.shape[1], array.chunks[1]
            whole = np.zeros((tail.shape[0], chunk, *tail.shape[2:]), tail.dtype)
            whole[:, : tail.shape[1]] = tail
            array[:, start : start + chunk] = whole
        self._group.attrs[COUNT] = self._count
        self._flushed = time.monotonic()

    def finish(self) -> None:
        """Write everything, with no more room than for that."""
        self.flush()
        for array in self._arrays.values():
            array.resize((array.shape[0], self._count, *array.shape[2:]))

    def state(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """What a checkpoint has to hold for :meth:`go_on`: a value for JSON, and arrays."""
        content = {
            "draws": self._count,
            "sweeps": self._seen,
            "noise": [one.bit_generator.state for one in self._noise],
        }
        return content, dict(self._tails)

    def go_on(self, content: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> None:
        """Return to where :meth:`state` was asked; draws that came later are written anew."""
        if not arrays:
            self.create()
        else:
            self._group = zarr.open_group(self._path, mode="r+", use_consolidated=False)
            self._group.attrs[COUNT] = content["draws"]
            with zarr.config.set({"array.write_empty_chunks": True}):  # as when they were made
                self._arrays = {name: self._group[name] for name in arrays}
        self._tails = dict(arrays)
        self._count, self._seen = content["draws"], content["sweeps"]
        self.expect(self._count * self._settings.thin)
        for one, state in zip(self._noise, content["noise"], strict=True):
            one.bit_generator.state = state
