"""Run chains with ``numpyro.infer.MCMC``, in pieces, so that progress is seen between them.

Whether progress is shown changes nothing: the same compiled pieces run either way.
"""

import math
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, NamedTuple

import jax
import numpy as np
from jax import Array, random
from jax.stages import Wrapped
from numpyro.infer import MCMC
from tqdm.auto import tqdm

from nnmm_jax.inference.arrays import ModelData
from nnmm_jax.inference.build_shapes import bytes_of
from nnmm_jax.inference.collect import Accumulators
from nnmm_jax.inference.compile_cache import keep_compiled
from nnmm_jax.inference.kept_snapshots import Snapshots
from nnmm_jax.inference.kernel import KernelState, NNMMKernel
from nnmm_jax.inference.run_settings import RunSettings
from nnmm_jax.inference.state import State
from nnmm_jax.inference.sweep import SweepSettings
from nnmm_jax.network.activations import Activation

_PIECE = 25  # sweeps in a compiled piece: its overhead is a few sweeps' worth at most
_SMALLEST_PIECE = 10


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
    began: float = field(default_factory=time.perf_counter)

    def start(self) -> None:
        """Start anew; what was before is left out."""
        self.began = time.perf_counter()

    def lap(self, phase: str, n_sweeps: int) -> None:
        """Note the seconds since the last lap."""
        self.pieces.append((phase, n_sweeps, time.perf_counter() - self.began))
        self.start()

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
def compiled_start(sweep: SweepSettings, warmup: int) -> tuple[NNMMKernel, Wrapped]:
    """Return a kernel and its start, ``(keys, data) -> state``, the same for the same settings.

    Further fits in a process, as in cross-validation, then compile nothing anew where shapes agree.
    """
    keep_compiled()
    kernel = NNMMKernel(sweep)
    return kernel, jax.jit(lambda keys, data: kernel.init(keys, warmup, None, (data,), {}))


@lru_cache(maxsize=64)
def compiled_piece(kernel: NNMMKernel, chains: int, n_sweeps: int) -> Wrapped:
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


def sweep_settings(activation: Activation, settings: RunSettings) -> SweepSettings:
    """What of a run is static in the compiled sweep."""
    adapting = settings.warmup if activation.parameters.priors else 0
    return SweepSettings(activation, settings.sampler == "nuts", adapting)


class Program(NamedTuple):
    """The compiled program of a run: shapes, and memory that XLA has planned.

    Attributes
    ----------
    state : KernelState
        Shapes.
    collected : dict
        Shapes of what a piece collects, (chain, draw, ...).
    working : int
        Bytes of the states before and after a piece, of what it collects and of its temporary
        arrays.
    """

    state: KernelState
    collected: dict[str, dict[str, Any]]
    working: int


def compiled_program(data: ModelData, activation: Activation, settings: RunSettings) -> Program:
    """Compile the program of a run from shapes; the run itself finds it compiled.

    Parameters
    ----------
    data : ModelData
        Shapes, see :func:`nnmm_jax.inference.build_shapes.shapes`.
    """
    kernel, start = compiled_start(sweep_settings(activation, settings), settings.warmup)
    keys = jax.eval_shape(lambda: chain_keys(settings.seed, settings.chains))
    start.lower(keys, data).compile()
    state = jax.eval_shape(start, keys, data)
    size = piece_size(settings.warmup, settings.samples)
    piece = compiled_piece(kernel, settings.chains, size)
    memory = piece.lower(state, data).compile().memory_analysis()
    _, collected = jax.eval_shape(piece, state, data)
    assert memory is not None  # XLA plans memory on every device that the package runs on
    planned = memory.output_size_in_bytes + memory.temp_size_in_bytes
    return Program(state, collected, bytes_of(state) + planned)


class _Run:
    """Chains under way, and what has been kept of them."""

    def __init__(
        self,
        data: ModelData,
        activation: Activation,
        settings: RunSettings,
        change_start: Callable[[State], State] | None,
    ) -> None:
        sweep = sweep_settings(activation, settings)
        self._kernel, start = compiled_start(sweep, settings.warmup)
        self.clock = _Clock()
        self._state = start(chain_keys(settings.seed, settings.chains), data)
        if change_start is not None:
            self._state = self._state._replace(chain=change_start(self._state.chain))
        self._data, self._chains = data, settings.chains
        self._size = piece_size(settings.warmup, settings.samples)
        self._snapshots, self._pieces = Snapshots(data, settings.chains), 0
        self._kept: list[Any] = []  # one entry for each call of advance
        self._filled = 0  # draws in the last of them, 0 where it is full
        self.done = 0

    def advance(self, phase: str, total: int, bar: Any) -> None:
        """Run sweeps piece by piece; those of the sampling are kept."""
        sampling = phase == "sampling"
        pieces = list(_pieces(total, self._size))
        if sampling:
            self._pieces += len(pieces)
            self._snapshots.plan(self._pieces)
        bar.set_description(f"{phase}, {self._chains} chains", refresh=True)
        for n_sweeps in pieces:
            piece = compiled_piece(self._kernel, self._chains, n_sweeps)
            self._state, collected = jax.block_until_ready(piece(self._state, self._data))
            if sampling:
                self._keep(collected, total)
            self.clock.lap(phase, n_sweeps)
            if sampling:
                self.done += n_sweeps
                self._snapshots.offer(self._state, self.done - 1)
                self.clock.lap(phase, 0)
            bar.update(n_sweeps)

    def _keep(self, collected: Any, total: int) -> None:
        """Copy draws of a piece to where the ``total`` draws of this call of advance have room."""
        if not self._filled:
            self._kept.append(
                jax.tree.map(
                    lambda leaf: np.empty((leaf.shape[0], total, *leaf.shape[2:]), leaf.dtype),
                    collected,
                )
            )
        end = self._filled + jax.tree.leaves(collected)[0].shape[1]
        for room, leaf in zip(
            jax.tree.leaves(self._kept[-1]), jax.tree.leaves(collected), strict=True
        ):
            room[:, self._filled : end] = leaf
        self._filled = end % total

    def output(self) -> RunOutput:
        """All that has been kept so far."""
        if len(self._kept) > 1:
            self._kept = [jax.tree.map(lambda *parts: np.concatenate(parts, axis=1), *self._kept)]
        (joined,) = self._kept
        sums = jax.tree.map(np.asarray, self._state.sums)
        if self._chains == 1:
            sums = jax.tree.map(lambda leaf: leaf[None], sums)
        return RunOutput(
            joined["draw"],
            joined["stats"],
            self._snapshots.joined(),
            self._snapshots.draws,
            sums,
            self.clock.report(),
        )


def run_chains(
    data: ModelData,
    activation: Activation,
    settings: RunSettings,
    change_start: Callable[[State], State] | None = None,
    enough: Callable[[RunOutput], bool] | None = None,
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
    enough : callable or None
        Asked each time that ``settings.samples`` more draws are kept, with all that is kept so
        far; the chains go on from where they are until it says so or ``settings.limit`` is
        reached. Draws are those of one run of that length. ``None``: ``settings.samples`` is
        enough.

    Returns
    -------
    RunOutput
    """
    run = _Run(data, activation, settings, change_start)
    bar = tqdm(
        total=settings.warmup + settings.samples, disable=not settings.progress, unit="sweep"
    )
    with bar:
        run.advance("warmup", settings.warmup, bar)
        run.advance("sampling", settings.samples, bar)
        output = run.output()
        while enough is not None and run.done < settings.limit and not enough(output):
            more = min(settings.samples, settings.limit - run.done)
            bar.total += more
            run.clock.start()  # what was done in between is no sampling
            run.advance("sampling", more, bar)
            output = run.output()
    return output
