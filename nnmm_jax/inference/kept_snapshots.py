"""Parameters of a run while it goes on: whole sets, and large sites, at the ends of its pieces."""

from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax import Array, random

from nnmm_jax.errors import InputError
from nnmm_jax.inference.arrays import ModelData
from nnmm_jax.inference.blocks import complete
from nnmm_jax.inference.checkpoint import file_digest, load_arrays, write_arrays
from nnmm_jax.inference.devices import Layout
from nnmm_jax.inference.kernel import KernelState
from nnmm_jax.inference.snapshot import has_marker_effects, pieces_between, sites, snapshot
from nnmm_jax.inference.sweep import SweepSettings

_SNAPSHOT, _SITES = 2**31 - 4, 2**31 - 5  # subkeys, beside those of the kernel
_ONE_DEVICE = Layout()
# Of the same draw: means by which breeding values are centred, and a user's parameters.
_OF_DRAW = ("mediated_mean", "direct_mean", "epv_mean", "theta_")


@lru_cache(maxsize=16)
def _compiled_snapshot(
    chains: int, layout: Layout = _ONE_DEVICE
) -> Callable[[KernelState, ModelData], dict[str, Array]]:
    def one(state: KernelState, data: ModelData) -> dict[str, Array]:
        key = random.fold_in(random.fold_in(state.rng_key, state.i), _SNAPSHOT)
        of_draw = {name: state.draw[name] for name in state.draw if name.startswith(_OF_DRAW)}
        return snapshot(key, complete.whole(state.chain, data), data) | of_draw

    return layout.compiled(jax.vmap(one, in_axes=(0, None)) if chains > 1 else one)


@lru_cache(maxsize=16)
def compiled_sites(
    sweep: SweepSettings, chains: int, names: tuple[str, ...], layout: Layout = _ONE_DEVICE
) -> Callable[[KernelState, ModelData], dict[str, Array]]:
    """Return ``(state, data) -> sites`` of the draw of a state, (chain, draw, ...)."""

    def one(state: KernelState, data: ModelData) -> dict[str, Array]:
        key = random.fold_in(random.fold_in(state.rng_key, state.i), _SITES)
        found = sites(key, complete.whole(state.chain, data), data, sweep, names)
        return {name: value[None] for name, value in found.items()}

    def every(state: KernelState, data: ModelData) -> dict[str, Array]:
        if chains > 1:
            return jax.vmap(one, in_axes=(0, None))(state, data)
        return {name: value[None] for name, value in one(state, data).items()}

    return layout.compiled(every)


def check_sites(names: tuple[str, ...], data: ModelData) -> None:
    """Refuse sites that a model does not have.

    Raises
    ------
    InputError
        If a site has nothing to keep.
    """
    there = {
        "marker_effect": bool(data.omics) and has_marker_effects(*data.omics),
        "skip_effect": has_marker_effects(data.trait),
        "omics": bool(data.omics),
    }
    if lacking := [name for name in names if not there[name]]:
        raise InputError(
            f"keep: expected what the model has, found {lacking[0]!r}, which it lacks; leave it out"
        )


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
    folder : Path or None
        Where they are written, each once, instead of being held in memory.
    layout : Layout
        Of the data.
    """

    def __init__(
        self,
        data: ModelData,
        chains: int,
        folder: Path | None = None,
        layout: Layout = _ONE_DEVICE,
    ) -> None:
        self._data, self._chains, self._folder, self._layout = data, chains, folder, layout
        self._every: int | None = 1
        # By the piece's number, with the draw; either the parameters or the digest of their file.
        self._taken: dict[int, tuple[int, dict[str, np.ndarray] | str]] = {}
        self.seen = 0

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
        self.seen += 1
        if self._every is None or self.seen % self._every:
            return
        of_state = _compiled_snapshot(self._chains, self._layout)
        taken = jax.tree.map(np.asarray, of_state(state, self._data))
        if self._folder is None:
            self._taken[self.seen] = (draw, taken)
            return
        file = self._folder / _file(self.seen)
        write_arrays(file, taken)
        self._taken[self.seen] = (draw, file_digest(file))

    def state(self) -> dict[str, Any]:
        """What a checkpoint has to say of those in files."""
        files = {
            _file(piece): {"piece": piece, "draw": draw, "digest": digest}
            for piece, (draw, digest) in self._taken.items()
        }
        return {"snapshots": files, "snapshots_every": self._every, "snapshots_seen": self.seen}

    def go_on(self, content: Mapping[str, Any]) -> None:
        """Return to where :meth:`state` was asked."""
        self._every, self.seen = content["snapshots_every"], content["snapshots_seen"]
        files = content["snapshots"].values()
        self._taken = {one["piece"]: (one["draw"], one["digest"]) for one in files}

    @property
    def draws(self) -> np.ndarray:
        """The draws (snapshot,) that they belong to."""
        return np.asarray([draw for draw, _ in self._taken.values()], dtype=int)

    def joined(self) -> dict[str, np.ndarray]:
        """All that was taken, (chain, snapshot, ...)."""
        taken = [self._read(piece) for piece in self._taken]
        if not taken:
            return {}
        axis = 1 if self._chains > 1 else 0
        found = {name: np.stack([one[name] for one in taken], axis=axis) for name in taken[0]}
        return found if self._chains > 1 else {name: one[None] for name, one in found.items()}

    def _read(self, piece: int) -> dict[str, np.ndarray]:
        one = self._taken[piece][1]
        if not isinstance(one, str):
            return one
        assert self._folder is not None  # what is a file is in a folder
        return load_arrays(self._folder / _file(piece))


def _file(piece: int) -> str:
    return f"{piece:08d}.npz"
