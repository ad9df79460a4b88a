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
from nnmm_jax.inference.sweep import SweepSettings

_PIECE = 50  # sweeps in a compiled piece: its overhead is a few sweeps' worth at most
_SMALLEST_PIECE = 10


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

    Raises
    ------
    InputError
        If a count is not a positive whole number (``warmup`` may be 0).
    """

    warmup: int = 1000
    samples: int = 1000
    chains: int = 4
    seed: int = 0
    progress: bool = True

    def __post_init__(self) -> None:
        """Check the counts."""
        for name, least in (("warmup", 0), ("samples", 1), ("chains", 1), ("seed", 0)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < least:
                raise InputError(
                    f"{name} must be a whole number of at least {least}, got {value!r}"
                )


@dataclass(frozen=True, eq=False)
class RunOutput:
    """Draws and moments on the internal scale, as NumPy arrays.

    Attributes
    ----------
    draws, stats : dict of (chain, draw, ...)
    sums : Accumulators
        Leading axis chain.
    seconds : dict
        ``compilation``, ``warmup`` and ``sampling``.
    """

    draws: dict[str, np.ndarray]
    stats: dict[str, np.ndarray]
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


def run_chains(data: ModelData, sweep: SweepSettings, settings: RunSettings) -> RunOutput:
    """Run all chains and return what was kept.

    Parameters
    ----------
    data : ModelData
    sweep : SweepSettings
    settings : RunSettings

    Returns
    -------
    RunOutput
    """
    kernel, start = compiled_start(sweep, settings.warmup)
    clock = _Clock()
    began = time.perf_counter()
    state = start(chain_keys(settings.seed, settings.chains), data)
    size = piece_size(settings.warmup, settings.samples)
    kept: list[Any] = []
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
    return RunOutput(joined["draw"], joined["stats"], sums, clock.report())
