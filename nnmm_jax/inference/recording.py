"""A run on disk: when its state is written, and how it is found again."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax import Array, random

from nnmm_jax.errors import InputError
from nnmm_jax.inference.checkpoint import SETTINGS_FILE, Checkpoint, CheckpointFolder
from nnmm_jax.inference.draws import StreamSink
from nnmm_jax.inference.kernel import KernelState

MINUTES = 10.0  # between checkpoints, unless said otherwise
_STATE, _STREAM = "state", "stream/"  # first parts of the names of arrays


@dataclass(frozen=True)
class Checkpoints:
    """Where and how often the state of a run is written, so that it can go on.

    Attributes
    ----------
    folder : str or Path
        Made by the run.
    every : int or None
        Sweeps between checkpoints.
    minutes : float or None
        Minutes between checkpoints; whichever comes first.
    overwrite : bool
        Whether the checkpoints of another run in the folder may be replaced.
    command : mapping
        What else to note down for who resumes the run, as JSON can hold it.

    Raises
    ------
    InputError
        If a number is not above 0.

    Examples
    --------
    >>> import nnmm_jax as nm
    >>> nm.Checkpoints("my_run", every=500).minutes
    10.0
    """

    folder: str | Path
    every: int | None = None
    minutes: float | None = MINUTES
    overwrite: bool = False
    command: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Check the numbers."""
        for name, value, kinds in (
            ("checkpoint_every", self.every, int),
            ("checkpoint_minutes", self.minutes, int | float),
        ):
            if value is None:
                continue
            if isinstance(value, bool) or not isinstance(value, kinds) or not value > 0:
                raise InputError(f"{name}: expected a number above 0, found {value!r}")

    def check(self) -> None:
        """Refuse a folder that the run may not write to; writes nothing.

        Raises
        ------
        InputError
            If it is there with something in it, unless ``overwrite``.
        """
        folder = Path(self.folder)
        if folder.exists() and not folder.is_dir():
            raise InputError(f"{folder} is a file: give the name of a folder for checkpoints")
        if self.overwrite or not folder.is_dir() or not any(folder.iterdir()):
            return
        if (folder / SETTINGS_FILE).is_file():
            raise InputError(
                f"{folder} holds the checkpoints of a run: go on with it (nnmm_jax.resume, or nnmm "
                "fit --resume), or choose another folder"
            )
        raise InputError(f"{folder} is not empty: choose another folder for checkpoints")


class Recording:
    """Writes the state of a run, and reads it where the run goes on.

    Parameters
    ----------
    folder : CheckpointFolder
    stream : StreamSink
        Of the draws.
    plan : Checkpoints
    start : Checkpoint or None
        Where the run goes on; ``None``: at the start.
    """

    def __init__(
        self,
        folder: CheckpointFolder,
        stream: StreamSink,
        plan: Checkpoints,
        start: Checkpoint | None = None,
    ) -> None:
        self.folder, self.stream, self.start = folder, stream, start
        self._plan = plan
        self._written = None if start is None else int(start.content["sweeps"])
        self._when = time.monotonic()

    def is_due(self, sweeps: int) -> bool:
        """Whether a checkpoint is to be written after so many sweeps."""
        every, minutes = self._plan.every, self._plan.minutes
        if every is not None and sweeps - (self._written or 0) >= every:
            return True
        return minutes is not None and time.monotonic() - self._when >= 60.0 * minutes

    def write(self, sweeps: int, state: KernelState, content: Mapping[str, Any]) -> None:
        """Write draws and state.

        Raises
        ------
        InputError
            If they cannot be written; earlier checkpoints stay.
        """
        if sweeps == self._written:
            return
        self.trying(self.stream.flush)
        of_stream, arrays = self.stream.state()
        arrays = {_STREAM + name: value for name, value in arrays.items()}
        arrays |= state_arrays(state)
        content = {**content, "stream": of_stream}
        self.trying(lambda: self.folder.write(sweeps, content, arrays))
        self._written, self._when = sweeps, time.monotonic()

    def trying(self, write: Callable[[], None]) -> None:
        """Write something, and say what is left where that fails."""
        try:
            write()
        except OSError as error:
            left = "there is no checkpoint yet, so the run has to start anew"
            if self._written is not None:
                left = f"the checkpoint after {self._written} sweeps is whole"
            raise InputError(
                f"{self.folder.path}: cannot be written to ({error.strerror or error}); {left}: "
                f"make room, then {self.how_to_go_on}"
            ) from error

    @property
    def how_to_go_on(self) -> str:
        """What to do next, for messages."""
        return f"go on with: nnmm fit --resume {self.folder.results} (in Python nnmm_jax.resume)"

    def start_stream(self) -> None:
        """Make the stream, or return it to where the run goes on."""
        if self.start is None:
            self.trying(self.stream.create)
            return
        arrays = {
            name.removeprefix(_STREAM): value
            for name, value in self.start.arrays.items()
            if name.startswith(_STREAM)
        }
        self.stream.go_on(self.start.content["stream"], arrays)


def state_arrays(state: KernelState) -> dict[str, np.ndarray]:
    """All of a state as arrays by their paths."""
    found = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(state):
        plain = random.key_data(leaf) if _is_key(leaf) else leaf
        found[_name(path)] = np.asarray(plain)
    return found


def state_of(arrays: Mapping[str, np.ndarray], shapes: KernelState) -> KernelState:
    """Return the state whose arrays these are; its shapes must be those of the run.

    Raises
    ------
    InputError
        If they are not.
    """

    def leaf(path: Any, shape: Any) -> Array:
        name = _name(path)
        if name not in arrays:
            raise InputError(f"checkpoint: expected the array {name}, found none; start anew")
        value = jax.numpy.asarray(arrays[name])
        if _is_key(shape):
            value = random.wrap_key_data(value)
        if (value.shape, value.dtype) != (shape.shape, shape.dtype):
            raise InputError(
                f"checkpoint: expected {name} of shape {shape.shape} and {shape.dtype}, found "
                f"{value.shape} and {value.dtype}; start anew"
            )
        return value

    found: KernelState = jax.tree_util.tree_map_with_path(leaf, shapes)
    return found


def _name(path: Any) -> str:
    return _STATE + jax.tree_util.keystr(path)


def _is_key(leaf: Any) -> bool:
    return bool(jax.numpy.issubdtype(leaf.dtype, jax.dtypes.prng_key))
