"""A run on disk: when its state is written, and how it is found again."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from jax import Array, random

from nnmm_jax.errors import InputError
from nnmm_jax.inference.checkpoint import Checkpoint, CheckpointFolder
from nnmm_jax.inference.draws import StreamSink
from nnmm_jax.inference.kernel import KernelState

MINUTES = 10.0  # between checkpoints, unless said otherwise
_STATE, _STREAM = "state", "stream/"  # first parts of the names of arrays


@dataclass(frozen=True)
class CheckpointPlan:
    """How often the state of a run is written.

    Attributes
    ----------
    every : int or None
        Sweeps between checkpoints.
    minutes : float or None
        Minutes between checkpoints; whichever comes first.

    Raises
    ------
    InputError
        If either is not a positive number.
    """

    every: int | None = None
    minutes: float | None = MINUTES

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


class Recording:
    """Writes the state of a run, and reads it where the run goes on.

    Parameters
    ----------
    folder : CheckpointFolder
    stream : StreamSink
        Of the draws.
    plan : CheckpointPlan
    start : Checkpoint or None
        Where the run goes on; ``None``: at the start.
    """

    def __init__(
        self,
        folder: CheckpointFolder,
        stream: StreamSink,
        plan: CheckpointPlan,
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
