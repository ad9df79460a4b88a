"""Snapshots of a run while it goes on: whole parameter sets at the ends of some of its pieces."""

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import jax
import numpy as np
from jax import Array, random

from nnmm_jax.inference.arrays import ModelData
from nnmm_jax.inference.kernel import KernelState
from nnmm_jax.inference.snapshot import pieces_between, snapshot

_SNAPSHOT = 2**31 - 4  # subkey, beside those of the kernel


@lru_cache(maxsize=16)
def _compiled_snapshot(chains: int) -> Callable[[KernelState, ModelData], dict[str, Array]]:
    def one(state: KernelState, data: ModelData) -> dict[str, Array]:
        key = random.fold_in(random.fold_in(state.rng_key, state.i), _SNAPSHOT)
        return snapshot(key, state.chain, data)

    return jax.jit(jax.vmap(one, in_axes=(0, None)) if chains > 1 else one)


def snapshot_shapes(state: KernelState, data: ModelData, chains: int) -> Any:
    """Shapes of one snapshot of all chains."""
    return jax.eval_shape(_compiled_snapshot(chains), state, data)


def snapshots_kept(data: ModelData, chains: int, pieces: int) -> int:
    """How many snapshots a run of so many pieces keeps."""
    every = pieces_between(data, chains, pieces)
    return 0 if every is None else pieces // every


class Snapshots:
    """Parameter sets taken while a run goes on, no more of them than fit into memory.

    Parameters
    ----------
    data : ModelData
    chains : int
    """

    def __init__(self, data: ModelData, chains: int) -> None:
        self._data, self._chains = data, chains
        self._every: int | None = 1
        self._taken: dict[int, tuple[int, dict[str, np.ndarray]]] = {}  # by the piece's number
        self._seen = 0

    def plan(self, pieces: int) -> None:
        """Make room for a run of so many pieces in all; a longer one keeps fewer of those taken."""
        every = pieces_between(self._data, self._chains, pieces)
        if every is None or self._every is None:
            self._every, self._taken = None, {}
            return
        self._every *= -(-every // self._every)
        self._taken = {piece: one for piece, one in self._taken.items() if piece % self._every == 0}

    def offer(self, state: KernelState, draw: int) -> None:
        """Take the end of every so manieth piece; ``draw`` is the last draw before."""
        self._seen += 1
        if self._every is None or self._seen % self._every:
            return
        taken = _compiled_snapshot(self._chains)(state, self._data)
        self._taken[self._seen] = (draw, jax.tree.map(np.asarray, taken))

    @property
    def draws(self) -> np.ndarray:
        """The draws (snapshot,) that they belong to."""
        return np.asarray([draw for draw, _ in self._taken.values()], dtype=int)

    def joined(self) -> dict[str, np.ndarray]:
        """All that was taken, (chain, snapshot, ...)."""
        taken = [one for _, one in self._taken.values()]
        if not taken:
            return {}
        axis = 1 if self._chains > 1 else 0
        found = {name: np.stack([one[name] for one in taken], axis=axis) for name in taken[0]}
        return found if self._chains > 1 else {name: one[None] for name, one in found.items()}
