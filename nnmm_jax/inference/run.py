"""Run chains with ``numpyro.infer.MCMC``, in pieces, so that progress is seen between them.

Whether progress is shown changes nothing: the same compiled pieces run either way.
"""

import math
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import jax
import numpy as np
from jax import Array, random
from numpyro.infer import MCMC
from tqdm.auto import tqdm

from nnmm_jax.errors import InputError
from nnmm_jax.inference.arrays import ModelData
from nnmm_jax.inference.collect import Accumulators
from nnmm_jax.inference.kernel import KernelState, NNMMKernel
from nnmm_jax.inference.snapshot import pieces_between, snapshot
from nnmm_jax.inference.state import State
from nnmm_jax.inference.sweep import SweepSettings
from nnmm_jax.network.activations import Activation

SAMPLERS = ("hmc", "nuts")
_PIECE = 25  # sweeps in a compiled piece: its overhead is a few sweeps' worth at most
_SMALLEST_PIECE = 10
_SNAPSHOT = 2**31 - 4  # subkey, beside those of the kernel


@dataclass(frozen=True)
class RunSettings:
    """Length and seed of a run.

    Attributes
    ----------
    warmup, samples : int
        Sweeps discarded and kept, of every chain.
    chains : int
    seed : int
        Chain c uses ``fold_in(key(seed), c)``, however many chains run.
    progress : bool
        Whether to show a progress bar on standard error.
    sampler : str
        How missing omics of a nonlinear network move: ``hmc`` or ``nuts``.

    Raises
    ------
    InputError
        If a count is not a positive whole number (``warmup`` may be 0), or the sampler is unknown.
    """

    warmup: int = 1000
    samples: int = 1000
    chains: int = 4
    seed: int = 0
    progress: bool = True
    sampler: str = "hmc"

    def __post_init__(self) -> None:
        """Check the counts."""
        for name, least in (("warmup", 0), ("samples", 1), ("chains", 1), ("seed", 0)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < least:
                raise InputError(
                    f"{name} must be a whole number of at least {least}, got {value!r}"
                )
        if self.sampler not in SAMPLERS:
            raise InputError(
                f"sampler: expected one of {', '.join(SAMPLERS)}, found {self.sampler!r}"
            )


@dataclass(frozen=True, eq=False)
class RunOutput:
    """Draws and moments on the internal scale, as NumPy arrays.

    Attributes
    ----------
    draws, stats : dict of (chain, draw, ...)
    snapshots : dict of (chain, snapshot, ...)
        Whole parameter sets of some draws, see :mod:`nnmm_jax.inference.snapshot`; empty where
        they would not fit into memory.
    snapshot_draws : (snapshot,) int
        The draws that they belong to.
    sums : Accumulators
        Leading axis chain.
    seconds : dict
        ``compilation``, ``warmup`` and ``sampling``.
    """

    draws: dict[str, np.ndarray]
    stats: dict[str, np.ndarray]
    snapshots: dict[str, np.ndarray]
    snapshot_draws: np.ndarray
    sums: Accumulators
    seconds: dict[str, float]


@dataclass
class _Clock:
    """Seconds of each piece; the first of each size includes its compilation."""

    pieces: list[tuple[str, int, float]] = field(default_factory=list)

    def report(self) -> dict[str, float]:
        """Split off compilation: what the first piece of a size took beyond the later ones."""
        total = {"warmup": 0.0, "sampling": 0.0}
        by_size: dict[int, list[tuple[str, float]]] = {}
        for phase, size, seconds in self.pieces:
            total[phase] += seconds
            by_size.setdefault(size, []).append((phase, seconds))
        compilation = 0.0
        for (phase, first), *later in by_size.values():
            usual = statistics.median(seconds for _, seconds in later) if later else 0.0
            extra = max(0.0, first - usual)
            total[phase] -= extra
            compilation += extra
        return {"compilation": compilation, **total}


def piece_size(warmup: int, samples: int) -> int:
    """Size of the pieces: one that divides both phases where possible, to compile only once."""
    common = math.gcd(warmup, samples)
    best = max(size for size in range(1, _PIECE + 1) if common % size == 0)
    return best if best >= min(_SMALLEST_PIECE, common) and best > 1 else _PIECE


def _pieces(total: int, size: int) -> Iterator[int]:
    for start in range(0, total, size):
        yield min(size, total - start)


def chain_keys(seed: int, chains: int) -> Array:
    """One key a chain; a single one without an axis, as NumPyro wants it."""
    keys = jax.vmap(random.fold_in, in_axes=(None, 0))(random.key(seed), np.arange(chains))
    return keys if chains > 1 else keys[0]


@lru_cache(maxsize=16)
def compiled_start(
    sweep: SweepSettings, warmup: int
) -> tuple[NNMMKernel, Callable[[Array, ModelData], KernelState]]:
    """Return a kernel and its compiled start, the same ones for the same settings.

    Further fits in a process, as in cross-validation, then compile nothing anew where shapes agree.
    """
    kernel = NNMMKernel(sweep)
    return kernel, jax.jit(lambda keys, data: kernel.init(keys, warmup, None, (data,), {}))


@lru_cache(maxsize=64)
def compiled_piece(
    kernel: NNMMKernel, chains: int, n_sweeps: int
) -> Callable[[KernelState, ModelData], tuple[KernelState, dict[str, dict[str, Array]]]]:
    """Return ``(state, data) -> (state, kept)`` that runs NumPyro's MCMC for some sweeps.

    The whole call is compiled: MCMC's own loop would be compiled anew at every ``run``.
    """

    @jax.jit
    def piece(
        state: KernelState, data: ModelData
    ) -> tuple[KernelState, dict[str, dict[str, Array]]]:
        mcmc = MCMC(
            kernel,
            num_warmup=0,
            num_samples=n_sweeps,
            num_chains=chains,
            chain_method="vectorized",
            progress_bar=False,
        )
        mcmc.post_warmup_state = state
        mcmc.run(state.rng_key, data)
        kept = {"draw": mcmc.get_samples(group_by_chain=True)}
        return mcmc.last_state, kept | mcmc.get_extra_fields(group_by_chain=True)

    return piece


@lru_cache(maxsize=16)
def _compiled_snapshot(chains: int) -> Callable[[KernelState, ModelData], dict[str, Array]]:
    def one(state: KernelState, data: ModelData) -> dict[str, Array]:
        key = random.fold_in(random.fold_in(state.rng_key, state.i), _SNAPSHOT)
        return snapshot(key, state.chain, data)

    return jax.jit(jax.vmap(one, in_axes=(0, None)) if chains > 1 else one)


class _Snapshots:
    """Parameter sets taken while a run goes on."""

    def __init__(self, data: ModelData, settings: RunSettings, size: int) -> None:
        pieces = -(-settings.samples // size)
        self._every = pieces_between(data, settings.chains, pieces)
        self._chains, self._data = settings.chains, data
        self._taken: list[dict[str, np.ndarray]] = []
        self._seen = 0
        self.draws: list[int] = []

    def offer(self, state: KernelState, draw: int) -> None:
        """Take the end of every so manieth piece; ``draw`` is the last draw before."""
        self._seen += 1
        if self._every is None or self._seen % self._every:
            return
        taken = _compiled_snapshot(self._chains)(state, self._data)
        self._taken.append(jax.tree.map(np.asarray, taken))
        self.draws.append(draw)

    def joined(self) -> dict[str, np.ndarray]:
        """All that was taken, (chain, snapshot, ...)."""
        if not self._taken:
            return {}
        axis = 1 if self._chains > 1 else 0
        found = {
            name: np.stack([one[name] for one in self._taken], axis=axis) for name in self._taken[0]
        }
        return found if self._chains > 1 else {name: one[None] for name, one in found.items()}


def run_chains(
    data: ModelData,
    activation: Activation,
    settings: RunSettings,
    change_start: Callable[[State], State] | None = None,
) -> RunOutput:
    """Run all chains and return what was kept.

    Parameters
    ----------
    data : ModelData
    activation : Activation
    settings : RunSettings
    change_start : callable or None
        Takes the starting states of all chains (leading axis chain, unless there is one) and
        returns others of the same shapes. For checks that the start does not matter.

    Returns
    -------
    RunOutput
    """
    adapting = settings.warmup if activation.parameters.priors else 0
    sweep = SweepSettings(activation, settings.sampler == "nuts", adapting)
    kernel, start = compiled_start(sweep, settings.warmup)
    clock = _Clock()
    began = time.perf_counter()
    state = start(chain_keys(settings.seed, settings.chains), data)
    if change_start is not None:
        state = state._replace(chain=change_start(state.chain))
    size = piece_size(settings.warmup, settings.samples)
    kept: list[Any] = []
    snapshots, done = _Snapshots(data, settings, size), 0
    bar = tqdm(
        total=settings.warmup + settings.samples, disable=not settings.progress, unit="sweep"
    )
    with bar:
        for phase, total in (("warmup", settings.warmup), ("sampling", settings.samples)):
            bar.set_description(f"{phase}, {settings.chains} chains", refresh=True)
            for n_sweeps in _pieces(total, size):
                piece = compiled_piece(kernel, settings.chains, n_sweeps)
                state, collected = jax.block_until_ready(piece(state, data))
                if phase == "sampling":
                    kept.append(jax.tree.map(np.asarray, collected))
                clock.pieces.append((phase, n_sweeps, time.perf_counter() - began))
                began = time.perf_counter()
                if phase == "sampling":
                    done += n_sweeps
                    snapshots.offer(state, done - 1)
                    clock.pieces.append((phase, 0, time.perf_counter() - began))
                    began = time.perf_counter()
                bar.update(n_sweeps)
    joined = {
        group: {
            name: np.concatenate([piece[group][name] for piece in kept], axis=1)
            for name in kept[0][group]
        }
        for group in kept[0]
    }
    sums = jax.tree.map(np.asarray, state.sums)
    if settings.chains == 1:
        sums = jax.tree.map(lambda leaf: leaf[None], sums)
    return RunOutput(
        joined["draw"],
        joined["stats"],
        snapshots.joined(),
        np.asarray(snapshots.draws, dtype=int),
        sums,
        clock.report(),
    )
