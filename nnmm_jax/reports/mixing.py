"""How well missing omics mix as their number grows: the block alone, and the whole sampler.

The whole sampler may mix slowly for reasons that are not those of the moves of missing omics: node
effects, variances and missing values hold each other in place. So the block is also run alone,
everything else fixed at a state of the whole sampler, and the whole sampler with complete omics.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import xarray as xr
from jax import Array, random
from tqdm.auto import tqdm

import nnmm_jax as nm
from nnmm_jax.errors import InputError
from nnmm_jax.inference.arrays import ModelData
from nnmm_jax.inference.blocks import complete, missing_hmc
from nnmm_jax.inference.prepare import Prepared, prepare
from nnmm_jax.inference.run import (
    RunSettings,
    chain_keys,
    compiled_piece,
    compiled_start,
    piece_size,
    run_chains,
)
from nnmm_jax.inference.state import State
from nnmm_jax.inference.sweep import SweepSettings
from nnmm_jax.network.activations import Activation
from nnmm_jax.posterior import arviz_compat
from nnmm_jax.posterior.diagnostics import ACCEPTANCE_LIMIT

COMPLETE = "complete"  # nothing is missing: what the rest of the sampler does by itself
SAMPLERS = ("hmc", "nuts", COMPLETE)
SETTLING = 200  # sweeps of the whole sampler before the block is run alone
CELLS = 20  # missing cells that are followed, of as many individuals
# Draws of the block alone, everything else fixed: far below this something is wrong with its step.
ESS_LIMIT = 100.0  # of 1000 draws
OK, MISSED = "ok", "MISSED"


@dataclass(frozen=True)
class MixingSettings:
    """Data and lengths of the runs.

    Attributes
    ----------
    individuals, markers : int
        Simulated.
    missing : float
        Share of the individuals without any omics.
    warmup, samples, chains : int
        Of the whole sampler; the block alone is adapted and run as long, in as many chains.
    seed : int

    Raises
    ------
    InputError
        If nothing or everything would be missing, or a run is too short for an effective size.
    """

    individuals: int = 200
    markers: int = 200
    missing: float = 0.3
    warmup: int = 500
    samples: int = 2000
    chains: int = 2
    seed: int = 1

    def __post_init__(self) -> None:
        """Check what the simulator and the sampler would not."""
        if not 0 < self.missing < 1:
            raise InputError(f"missing must lie between 0 and 1, got {self.missing}")
        if self.samples < 8:
            raise InputError(f"samples must be at least 8, got {self.samples}")
        self.run_settings("hmc")

    def run_settings(self, sampler: str) -> RunSettings:
        """Return settings of the whole sampler."""
        return RunSettings(self.warmup, self.samples, self.chains, self.seed, False, sampler)


def mixing_data(settings: MixingSettings, nodes: int, missing: float) -> nm.Dataset:
    """Simulate omics that act through tanh; a share of the individuals has none.

    Examples
    --------
    >>> small = MixingSettings(individuals=40, markers=30)
    >>> int(np.isnan(mixing_data(small, nodes=5, missing=0.3).omics).all(axis=1).sum())
    12
    """
    sizes = nm.SimulationSettings(
        individuals=settings.individuals,
        markers=settings.markers,
        omics=nodes,
        activation="tanh",
        share_mediated=0.6,
        share_direct=0.0,
        without_omics=missing,
        missing_cells=0.0,
        without_phenotype=0.0,
    )
    return nm.simulate(sizes, settings.seed).dataset()


def mixing(
    settings: MixingSettings,
    dimensions: Sequence[int],
    samplers: Sequence[str] = SAMPLERS,
    *,
    progress: bool = True,
) -> pd.DataFrame:
    """Acceptance, divergences and effective sizes by the number of missing omics.

    Parameters
    ----------
    settings : MixingSettings
    dimensions : sequence of int
        Numbers of omics, all of them missing in the same individuals.
    samplers : sequence of str
        ``hmc`` and ``nuts`` of missing omics; ``complete``: with complete omics, to compare.
    progress : bool
        Show a progress bar over the rows.

    Returns
    -------
    pandas.DataFrame
        A row for each dimension and sampler: nodes, sampler; alone_acceptance, alone_step,
        alone_divergences, alone_ess_cell and alone_ess_sum (block alone: smallest effective size
        per 1000 draws of single missing cells, and of an individual's sum of node effects times
        activated nodes), alone_rate (iterations a second, all chains in each); acceptance, step,
        divergences, rate, ess_epv_missing, ess_epv_measured (median over individuals without and
        with omics), ess_h2, ess_residual (of the trait's residual variance), of the whole
        sampler; verdict, of the rules in :func:`judge`.

    Raises
    ------
    InputError
        If a sampler is unknown, or a number is not positive.
    """
    for name in samplers:
        if name not in SAMPLERS:
            raise InputError(f"samplers: expected some of {', '.join(SAMPLERS)}, found {name!r}")
    if not dimensions or min(dimensions) < 1:
        raise InputError(f"dimensions: expected positive numbers of omics, found {dimensions}")
    rows = []
    asked = [(nodes, sampler) for nodes in dimensions for sampler in samplers]
    for nodes, sampler in tqdm(asked, disable=not progress, unit="row"):
        missing = 0.0 if sampler == COMPLETE else settings.missing
        prepared = prepare(
            mixing_data(settings, nodes, missing),
            nm.Network(activation="tanh", marker_prior="RR-BLUP"),
        )
        found: dict[str, Any] = {"nodes": nodes, "sampler": sampler}
        if sampler != COMPLETE:
            found |= alone(prepared, settings, nuts=sampler == "nuts")
        found |= whole(prepared, settings, "nuts" if sampler == "nuts" else "hmc")
        rows.append(found | {"verdict": judge(found)})
    return pd.DataFrame(rows)


def judge(found: dict[str, Any]) -> str:
    """Return the verdict on a row; with complete omics there is nothing to judge.

    Mean acceptance at least 0.6, no divergence, of the block alone and in the whole sampler, and
    an effective size of at least 100 per 1000 draws of the block alone.
    """
    if found["sampler"] == COMPLETE:
        return ""
    fine = (
        found["alone_acceptance"] >= ACCEPTANCE_LIMIT
        and found["acceptance"] >= ACCEPTANCE_LIMIT
        and found["alone_divergences"] == found["divergences"] == 0
        and found["alone_ess_cell"] >= ESS_LIMIT
        and found["alone_ess_sum"] >= ESS_LIMIT
    )
    return OK if fine else MISSED


def alone(prepared: Prepared, settings: MixingSettings, *, nuts: bool) -> dict[str, float]:
    """Run the block of missing omics alone, all else fixed at a state of the whole sampler.

    Its step sizes are adapted anew.
    """
    data, activation = prepared.data, prepared.activation
    rows = np.asarray(data.informed_rows)
    state = settled(prepared, settings, nuts=nuts)
    state = state._replace(adapt=missing_hmc.init_adapt(len(rows), state.z.dtype))
    cells = followed_cells(state, rows)
    run = jax.jit(
        jax.vmap(
            partial(_chain, data=data, activation=activation, nuts=nuts, cells=cells),
            in_axes=(0, None, None),
        )
    )
    keys = random.split(random.key(settings.seed), settings.chains)
    counts = np.concatenate([np.arange(1, settings.warmup + 1), np.zeros(settings.samples, int)])
    compiled = run.lower(keys, state, counts).compile()
    began = time.perf_counter()
    cell, total, info = jax.block_until_ready(compiled(keys, state, counts))
    seconds = time.perf_counter() - began
    kept = {name: np.asarray(value)[:, settings.warmup :] for name, value in info.items()}
    return {
        "alone_acceptance": float(kept["accept_prob"].mean()),
        "alone_step": float(kept["step_size"].mean()),
        "alone_divergences": int(kept["diverging"].sum()),
        "alone_ess_cell": float(per_1000(np.asarray(cell)[:, settings.warmup :]).min()),
        "alone_ess_sum": float(per_1000(np.asarray(total)[:, settings.warmup :]).min()),
        "alone_rate": len(counts) / seconds,
    }


def _chain(
    key: Array,
    state: State,
    counts: Array,
    *,
    data: ModelData,
    activation: Activation,
    nuts: bool,
    cells: tuple[np.ndarray, np.ndarray],
) -> tuple[Array, Array, dict[str, Array]]:
    """One chain: values (iteration, cell), sums (iteration, individual) and what the block says."""

    def step(state: State, turn: tuple[Array, Array]) -> tuple[State, Any]:
        number, count = turn
        state, info = missing_hmc.kernel(
            random.fold_in(key, number), state, data, activation, count, nuts=nuts
        )
        problem = missing_hmc.make_problem(state, data, data.informed_rows, activation)
        features = activation.features(problem.people.z, problem.theta, problem.units)
        return state, (state.z[cells], problem.effects @ features, info)

    turns = (jnp.arange(counts.shape[0]), counts)
    _, (cell, total, info) = jax.lax.scan(step, state, turns)
    return cell, total, info


def settled(prepared: Prepared, settings: MixingSettings, *, nuts: bool) -> State:
    """State of the first chain after some sweeps of the whole sampler.

    Run in the very pieces of the later run, to compile them once.
    """
    kernel, start = compiled_start(SweepSettings(prepared.activation, nuts), settings.warmup)
    size = piece_size(settings.warmup, settings.samples)
    piece = compiled_piece(kernel, settings.chains, size)
    state = start(chain_keys(settings.seed, settings.chains), prepared.data)
    for _ in range(-(-SETTLING // size)):
        state, _ = piece(state, prepared.data)
    # Moves are looked at one by one, which takes the residuals of everyone.
    one = partial(complete.whole, data=prepared.data)
    chains = (one if settings.chains == 1 else jax.vmap(one))(state.chain)
    return chains if settings.chains == 1 else jax.tree.map(lambda leaf: leaf[0], chains)


def followed_cells(state: State, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Missing cells of spaced individuals: of the node of largest effect, then a middling one."""
    order = np.argsort(-np.abs(np.asarray(state.node_coef[0])))
    people = rows[np.unique(np.linspace(0, len(rows) - 1, CELLS).round().astype(int))]
    nodes = np.where(np.arange(len(people)) % 2 == 0, order[0], order[len(order) // 2])
    return nodes, people


def whole(prepared: Prepared, settings: MixingSettings, sampler: str) -> dict[str, float]:
    """Run the whole sampler."""
    output = run_chains(prepared.data, prepared.activation, settings.run_settings(sampler))
    epv = output.draws["epv"]
    without = np.asarray(prepared.data.informed_rows)
    measured = np.setdiff1d(np.arange(epv.shape[-1]), without)
    found = {
        "rate": settings.samples / output.seconds["sampling"],
        "ess_epv_measured": float(np.median(per_1000(epv[..., measured]))),
        "ess_h2": float(per_1000(output.draws["h2_trait"])),
        "ess_residual": float(per_1000(output.draws["var_residual_trait"])),
    }
    if not len(without):
        return found
    return found | {
        "acceptance": float(output.stats["accept_prob"].mean()),
        "step": float(output.stats["step_size"].mean()),
        "divergences": int(output.stats["diverging"].sum()),
        "ess_epv_missing": float(np.median(per_1000(epv[..., without]))),
    }


def per_1000(draws: np.ndarray) -> np.ndarray:
    """Effective sample size for the mean per 1000 draws of all chains, (chain, draw, ...) in.

    Examples
    --------
    >>> independent = np.random.default_rng(1).normal(size=(4, 5000))
    >>> bool(abs(per_1000(independent) - 1000) < 60)
    True
    """
    dims = ("chain", "draw", *(f"axis_{axis}" for axis in range(draws.ndim - 2)))
    ess = np.asarray(arviz_compat.ess_mean(xr.DataArray(draws.astype(float), dims=dims)))
    return 1000.0 * ess / (draws.shape[0] * draws.shape[1])
