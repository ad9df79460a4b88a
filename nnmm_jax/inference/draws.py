"""Where the draws of a run go: into memory, or into a stream on disk that does the same."""

from collections.abc import Mapping
from typing import Any, Protocol

import jax
import numpy as np

_CHUNK_BYTES, _CHUNK_DRAWS = 2**24, 100  # on disk, of one quantity: neither more than that

# What a piece of a run gives: ``draw``, ``stats`` and, where large sites are kept, ``site``;
# arrays (chain, draw, ...) by name.
Collected = Mapping[str, Mapping[str, Any]]


class DrawSink(Protocol):
    """Takes the draws of a run piece by piece; see :class:`MemoryDraws` and the stream on disk."""

    def expect(self, sweeps: int) -> None:
        """Make room for so many sweeps in all."""

    def append(self, collected: Collected) -> None:
        """Take what a piece gave."""


class StreamSink(DrawSink, Protocol):
    """A sink on disk, which can go on where a checkpoint was."""

    def flush(self) -> None:
        """Write everything; it stays valid if the run goes on."""

    def finish(self) -> None:
        """Write everything, with no more room than for that."""

    def state(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """What a checkpoint has to hold for :meth:`go_on`: a value for JSON, and arrays."""

    def create(self) -> None:
        """Make the stream, in the place of any other."""

    def go_on(self, content: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> None:
        """Return to where :meth:`state` was asked."""


def draws_in_chunk(size: int) -> int:
    """How many draws of ``size`` bytes (all chains) go to disk together.

    Examples
    --------
    >>> draws_in_chunk(16), draws_in_chunk(2**20), draws_in_chunk(2**30)
    (100, 16, 1)
    """
    return min(max(1, _CHUNK_BYTES // max(size, 1)), _CHUNK_DRAWS)


def kept_rows(start: int, count: int, thin: int) -> slice:
    """Sweeps to keep of a piece of ``count`` that begins after ``start``: every ``thin``-th.

    Examples
    --------
    >>> kept_rows(0, 25, 10), kept_rows(25, 25, 10)
    (slice(9, 25, 10), slice(4, 25, 10))
    """
    return slice(thin - 1 - start % thin, count, thin)


class MemoryDraws:
    """Draws in arrays that grow at each :meth:`expect`.

    Parameters
    ----------
    thin : int
        Keep every so manieth sweep.
    """

    def __init__(self, thin: int = 1) -> None:
        self._thin = thin
        self._seen = self._filled = self._room = 0
        self._kept: Any = None

    def expect(self, sweeps: int) -> None:
        """Make room for so many sweeps in all."""
        self._room = sweeps // self._thin
        if self._kept is not None:
            self._kept = jax.tree.map(self._larger, self._kept)

    def _larger(self, leaf: np.ndarray) -> np.ndarray:
        room = np.empty((leaf.shape[0], self._room, *leaf.shape[2:]), leaf.dtype)
        room[:, : self._filled] = leaf[:, : self._filled]
        return room

    def append(self, collected: Collected) -> None:
        """Take what a piece gave."""
        some = {name: collected[name] for name in ("draw", "stats")}
        if self._kept is None:
            self._kept = jax.tree.map(self._larger, some)
        count = jax.tree.leaves(some)[0].shape[1]
        rows = kept_rows(self._seen, count, self._thin)
        self._seen += count
        start, self._filled = self._filled, self._seen // self._thin
        for room, leaf in zip(jax.tree.leaves(self._kept), jax.tree.leaves(some), strict=True):
            room[:, start : self._filled] = np.asarray(leaf)[:, rows]

    def found(self) -> dict[str, dict[str, np.ndarray]]:
        """All draws so far, ``draw`` and ``stats``."""
        if self._kept is None:
            return {"draw": {}, "stats": {}}
        kept: dict[str, dict[str, np.ndarray]] = jax.tree.map(
            lambda leaf: leaf[:, : self._filled], self._kept
        )
        return kept
