"""Runs on disk: begun, found again, and their draws as groups of a result."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import xarray as xr

from nnmm_jax.data.align import Dataset
from nnmm_jax.errors import InputError
from nnmm_jax.inference.checkpoint import CheckpointFolder, read_settings
from nnmm_jax.inference.fingerprint import fingerprint
from nnmm_jax.inference.prepare import Prepared
from nnmm_jax.inference.recording import Checkpoints, Recording
from nnmm_jax.inference.run import pieces_of
from nnmm_jax.inference.run_settings import RunSettings
from nnmm_jax.posterior.provenance import versions
from nnmm_jax.posterior.stream import DrawStream
from nnmm_jax.posterior.stream_reading import damage, read_stream


@dataclasses.dataclass(frozen=True)
class Recorded:
    """A run on disk.

    Attributes
    ----------
    recording : Recording
    size : int
        Sweeps in a piece.
    resumed : int
        How many times it was gone on with.
    notes : tuple of str
        What the user should know.
    """

    recording: Recording
    size: int
    resumed: int
    notes: tuple[str, ...]

    def groups(self, *, lazy: bool) -> dict[str, xr.Dataset]:
        """Draws as groups of a result: read into memory, without large sites, or lazy."""
        found = read_stream(self.recording.folder.stream, sites=lazy)
        return found if lazy else {name: group.load() for name, group in found.items()}


def stored_settings(folder: str | Path, given: Mapping[str, Any]) -> RunSettings:
    """Return the settings of a run on disk, with what is given anew.

    Parameters
    ----------
    folder : str or Path
        Of the checkpoints.
    given : mapping
        Fields of :class:`RunSettings`; ``None``: as it was.

    Raises
    ------
    InputError
        If there is no run, or what is given does not fit it.
    """
    stored = read_settings(Path(folder))["settings"]
    chosen = {name: value for name, value in given.items() if value is not None}
    # A limit of time is that of one call.
    return RunSettings(**{**stored, "max_minutes": None, **chosen})


def begin(
    place: Checkpoints,
    dataset: Dataset,
    prepared: Prepared,
    settings: RunSettings,
    network: Mapping[str, object],
) -> Recorded:
    """Begin a run on disk.

    Parameters
    ----------
    place : Checkpoints
    dataset, prepared, settings
        Of the run.
    network : mapping
        The network as JSON can hold it.

    Raises
    ------
    InputError
        If the folder cannot be used.
    """
    place.check()
    folder = CheckpointFolder(Path(place.folder))
    known, size = versions(), pieces_of(settings)
    folder.begin(
        {
            "settings": dataclasses.asdict(settings),
            "piece": size,
            "resumed": 0,
            "network": network,
            "versions": known,
            "fingerprint": fingerprint(dataset, network, prepared, settings, known),
            "command": dict(place.command),
        }
    )
    stream = DrawStream(folder.stream, dataset, prepared, settings)
    return Recorded(Recording(folder, stream, place), size, 0, ())


def find(
    place: Checkpoints,
    dataset: Dataset,
    prepared: Prepared,
    settings: RunSettings,
    network: Mapping[str, object],
) -> Recorded:
    """Find a run on disk, to go on with it; parameters as of :func:`begin`.

    Raises
    ------
    InputError
        If there is none, or it is of other data, another network, other settings or versions, or
        no checkpoint is whole.
    """
    folder = CheckpointFolder(Path(place.folder))
    stored = folder.settings()
    known = fingerprint(dataset, network, prepared, settings, versions())
    start = folder.newest(known, lambda content: damage(folder.stream, content))
    if start is None:
        notes: tuple[str, ...] = ("there is no checkpoint yet: the run starts anew",)
    else:
        content = start.content
        done = content["done"]
        notes = (*start.notes, f"going on after {content['sweeps']} sweeps ({done} of them kept)")
        if settings.limit < done:
            raise InputError(
                f"samples: expected at least the {done} that there are, found {settings.limit}"
            )
    resumed = stored["resumed"] + 1
    settings_now = dataclasses.asdict(settings)
    folder.write_settings({**stored, "settings": settings_now, "resumed": resumed})
    stream = DrawStream(folder.stream, dataset, prepared, settings)
    return Recorded(Recording(folder, stream, place, start), stored["piece"], resumed, notes)
