"""Run chains with ``numpyro.infer.MCMC``, in pieces, so that progress is seen between them.

Whether progress is shown changes nothing: the same compiled pieces run either way.
"""

import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import jax
import numpy as np
from jax import Array, random
from jax.stages import Wrapped
from numpyro.infer import MCMC
from tqdm.auto import tqdm

from nnmm_jax.errors import InputError, RunInterrupted
from nnmm_jax.inference.arrays import ModelData
from nnmm_jax.inference.blocks import complete
from nnmm_jax.inference.build_shapes import bytes_of
from nnmm_jax.inference.clock import Clock
from nnmm_jax.inference.collect import Accumulators
from nnmm_jax.inference.compile_cache import keep_compiled
from nnmm_jax.inference.devices import Layout
from nnmm_jax.inference.draws import DrawSink, MemoryDraws
from nnmm_jax.inference.interrupts import Heard, signals_heard
from nnmm_jax.inference.kept_snapshots import Snapshots, check_sites, compiled_sites
from nnmm_jax.inference.kernel import KernelState, NNMMKernel
from nnmm_jax.inference.recording import Recording, state_of
from nnmm_jax.inference.run_settings import RunSettings
from nnmm_jax.inference.state import State
from nnmm_jax.inference.sweep import SweepSettings
from nnmm_jax.network.activations import Activation

_PIECE = 25  # sweeps in a compiled piece: its overhead is a few sweeps' worth at most
_SMALLEST_PIECE = 10
_ONE_DEVICE = Layout()


@dataclass(frozen=True, eq=False)
class RunOutput:
    """Draws and moments on the internal scale, as NumPy arrays.

    Attributes
    ----------
    draws, stats : dict of (chain, draw, ...)
        Empty where they went into a stream on disk.
    snapshots : dict of (chain, snapshot, ...)
        Whole parameter sets of some draws, see :mod:`nnmm_jax.inference.snapshot`; empty where
        they would not fit into memory.
    snapshot_draws : (snapshot,) int
        The draws that they belong to.
    sums : Accumulators
        Leading axis chain.
    seconds : dict
        ``compilation``, ``warmup`` and ``sampling``.
    sweeps : int
        Done after warm-up, of every chain.
    out_of_time : bool
        Whether the limit of time ended the run.
    """

    draws: dict[str, np.ndarray]
    stats: dict[str, np.ndarray]
    snapshots: dict[str, np.ndarray]
    snapshot_draws: np.ndarray
    sums: Accumulators
    seconds: dict[str, float]
    sweeps: int = 0
    out_of_time: bool = False


def piece_size(warmup: int, samples: int) -> int:
    """Size of the pieces: one that divides both phases where possible, to compile only once."""
    common = math.gcd(warmup, samples)
    best = max(size for size in range(1, _PIECE + 1) if common % size == 0)
    return best if best >= min(_SMALLEST_PIECE, common) and best > 1 else _PIECE


def pieces_of(settings: RunSettings) -> int:
    """Size of the pieces of a run; where large sites are kept, pieces end at the draws to keep."""
    if not settings.keep:
        return piece_size(settings.warmup, settings.samples)
    return max(size for size in range(1, _PIECE + 1) if settings.thin % size == 0)


def _pieces(total: int, size: int) -> Iterator[int]:
    for start in range(0, total, size):
        yield min(size, total - start)


def chain_keys(seed: int, chains: int) -> Array:
    """One key a chain; a single one without an axis, as NumPyro wants it."""
    keys = jax.vmap(random.fold_in, in_axes=(None, 0))(random.key(seed), np.arange(chains))
    return keys if chains > 1 else keys[0]


@lru_cache(maxsize=16)
def compiled_start(
    sweep: SweepSettings, warmup: int, layout: Layout = _ONE_DEVICE
) -> tuple[NNMMKernel, Wrapped]:
    """Return a kernel and its start, ``(keys, data) -> state``, the same for the same settings.

    Further fits in a process, as in cross-validation, then compile nothing anew where shapes agree.
    """
    keep_compiled()
    kernel = NNMMKernel(sweep)
    return kernel, layout.compiled(lambda keys, data: kernel.init(keys, warmup, None, (data,), {}))


@lru_cache(maxsize=64)
def compiled_piece(
    kernel: NNMMKernel, chains: int, n_sweeps: int, layout: Layout = _ONE_DEVICE
) -> Wrapped:
    """Return ``(state, data) -> (state, kept)`` that runs NumPyro's MCMC for some sweeps.

    The whole call is compiled: MCMC's own loop would be compiled anew at every ``run``.
    """

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

    return layout.compiled(piece)


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
    layout = Layout(settings.devices)
    if layout.count > 1:
        data = complete.without_sums(data)
    kernel, start = compiled_start(sweep_settings(activation, settings), settings.warmup, layout)
    keys = jax.eval_shape(lambda: chain_keys(settings.seed, settings.chains))
    start.lower(keys, data).compile()
    state = jax.eval_shape(start, keys, data)
    piece = compiled_piece(kernel, settings.chains, pieces_of(settings), layout)
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
        recording: Recording | None,
        size: int,
    ) -> None:
        self._sweep = sweep_settings(activation, settings)
        self._layout = Layout(settings.devices)
        self._kernel, start = compiled_start(self._sweep, settings.warmup, self._layout)
        data = self._layout.spread(data)
        self._data, self._settings, self._chains = data, settings, settings.chains
        self._size, self._recording = size, recording
        self._sink: DrawSink = MemoryDraws(settings.thin)
        self.clock = Clock()
        self.sweeps, self.out_of_time = 0, False
        self._snapshots = Snapshots(data, settings.chains, layout=self._layout)
        keys = self._layout.everywhere(chain_keys(settings.seed, settings.chains))
        check_sites(settings.keep, data)
        if recording is not None:
            self._sink = recording.stream
            self._snapshots = Snapshots(
                data, settings.chains, recording.folder.snapshots, self._layout
            )
            recording.start_stream()
        if recording is not None and recording.start is not None:
            content = recording.start.content
            found = state_of(recording.start.arrays, jax.eval_shape(start, keys, data))
            self._state = self._layout.everywhere(found)
            self._snapshots.go_on(content)
            self.clock = Clock(content["seconds"])
            self.sweeps = content["sweeps"]
            return
        self._state = start(keys, data)
        if change_start is not None:
            chain = change_start(self._of_chains(complete.whole)(self._state.chain, data))
            self._state = self._state._replace(chain=self._of_chains(complete.summed)(chain, data))
            self.clock.start()  # what that took is for the caller to say

    def _of_chains(self, function: Callable[[State, ModelData], State]) -> Wrapped:
        """Compile a function of one chain's state for the states of all chains."""
        if self._chains > 1:
            function = jax.vmap(function, in_axes=(0, None))
        return self._layout.compiled(function)

    @property
    def done(self) -> int:
        """Sweeps after warm-up."""
        return max(0, self.sweeps - self._settings.warmup)

    def advance(self, until: int, bar: Any, stop: "Stop") -> None:
        """Run sweeps piece by piece until so many are done; those after warm-up are kept."""
        pieces = list(_pieces(until - self.sweeps, self._size))
        phase = "warmup" if until <= self._settings.warmup else "sampling"
        sampling = phase == "sampling"
        if sampling:
            self._sink.expect(until - self._settings.warmup)
            self._snapshots.plan(self._snapshots.seen + len(pieces))
        bar.set_description(f"{phase}, {self._chains} chains", refresh=True)
        for n_sweeps in pieces:
            piece = compiled_piece(self._kernel, self._chains, n_sweeps, self._layout)
            self._state, collected = jax.block_until_ready(piece(self._state, self._data))
            self.sweeps += n_sweeps
            if sampling:
                self._keep(collected)
            self.clock.lap(phase, n_sweeps)
            if sampling:
                self._trying(lambda: self._snapshots.offer(self._state, self.done - 1))
                self.clock.lap(phase, 0)
            bar.update(n_sweeps)
            if self._should_stop(stop):
                return

    def _keep(self, collected: Any) -> None:
        if (names := self._settings.keep) and self.done % self._settings.thin == 0:
            of_state = compiled_sites(self._sweep, self._chains, names, self._layout)
            sites = of_state(self._state, self._data)
            collected = collected | {"site": sites}
        self._trying(lambda: self._sink.append(collected))

    def _trying(self, write: Callable[[], None]) -> None:
        write() if self._recording is None else self._recording.trying(write)

    def _should_stop(self, stop: "Stop") -> bool:
        """Write a checkpoint where one is due, and say whether the run is to end here."""
        recording = self._recording
        if recording is not None and stop.heard.number is not None:
            self.checkpoint()
            message = f"stopped by {stop.heard.name} after {self.sweeps} sweeps, all of them kept"
            raise RunInterrupted(f"{message}; {recording.how_to_go_on}", stop.heard.number)
        self.out_of_time = stop.deadline is not None and time.monotonic() >= stop.deadline
        if recording is not None and (self.out_of_time or recording.is_due(self.sweeps)):
            self.checkpoint()
        return self.out_of_time

    def checkpoint(self) -> None:
        """Write the state."""
        if self._recording is None:
            return
        content = {"done": self.done, "seconds": self.clock.report(), **self._snapshots.state()}
        self._recording.write(self.sweeps, self._state, content)

    def output(self) -> RunOutput:
        """All that has been kept so far."""
        sums = jax.tree.map(np.asarray, self._state.sums)
        if self._chains == 1:
            sums = jax.tree.map(lambda leaf: leaf[None], sums)
        found: Mapping[str, dict[str, np.ndarray]] = {"draw": {}, "stats": {}}
        if isinstance(self._sink, MemoryDraws):
            found = self._sink.found()
        elif self._recording is not None:
            self._recording.trying(self._recording.stream.flush)
        return RunOutput(
            found["draw"],
            found["stats"],
            self._snapshots.joined(),
            self._snapshots.draws,
            sums,
            self.clock.report(),
            self.done,
            self.out_of_time,
        )

    def finish(self) -> None:
        """Write the state from which more draws can be added."""
        if self._recording is not None:
            self._recording.trying(self._recording.stream.finish)
            self.checkpoint()


class Stop(NamedTuple):
    """What ends a run before its length: a signal, or the time (of ``time.monotonic``)."""

    heard: Heard
    deadline: float | None


def run_chains(
    data: ModelData,
    activation: Activation,
    settings: RunSettings,
    change_start: Callable[[State], State] | None = None,
    enough: Callable[[RunOutput], bool] | None = None,
    *,
    recording: Recording | None = None,
    size: int | None = None,
    deadline: float | None = None,
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
    recording : Recording or None
        Where draws and state are written, and from where the run goes on; ``None``: draws stay in
        memory.
    size : int or None
        Sweeps in a piece; ``None``: as :func:`pieces_of` says.
    deadline : float or None
        When to end, by ``time.monotonic``.

    Returns
    -------
    RunOutput

    Raises
    ------
    InputError
        If the time is over before the first draw, or something cannot be written.
    RunInterrupted
        After SIGTERM or Ctrl-C, if there is a recording: its last checkpoint is of then.
    """
    size = pieces_of(settings) if size is None else size
    run = _Run(data, activation, settings, change_start, recording, size)
    first = settings.warmup + _first_target(settings, run.done)
    bar = tqdm(total=first, initial=run.sweeps, disable=not settings.progress, unit="sweep")
    listening: AbstractContextManager[Heard] = signals_heard(recording is not None)
    with bar, listening as heard:
        stop = Stop(heard, deadline)
        for until in (settings.warmup, first):
            if run.sweeps < until and not run.out_of_time:
                run.advance(until, bar, stop)
        _check_draws(run, settings, recording)
        output = run.output()
        while (
            enough is not None
            and not run.out_of_time
            and run.done < settings.limit
            and not enough(output)
        ):
            more = min(settings.samples, settings.limit - run.done)
            bar.total += more
            run.clock.start()  # what was done in between is no sampling
            run.advance(run.sweeps + more, bar, stop)
            output = run.output()
        run.finish()
    return output


def _first_target(settings: RunSettings, done: int) -> int:
    """Draws to have before it is asked whether they are enough; some may be there."""
    if settings.until_ess is None:
        return settings.samples
    rounds = max(1, -(-done // settings.samples))
    return min(rounds * settings.samples, settings.limit)


def _check_draws(run: _Run, settings: RunSettings, recording: Recording | None) -> None:
    if run.done >= settings.thin:
        return
    go_on = "allow more" if recording is None else f"allow more, or {recording.how_to_go_on}"
    raise InputError(
        f"max_minutes: expected time for the warm-up and some draws, found "
        f"{settings.max_minutes:g} minutes over after {run.sweeps} sweeps; {go_on}"
    )
