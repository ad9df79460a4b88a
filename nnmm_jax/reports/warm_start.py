"""Whether chains that start from a variational fit need less warm-up, and what that is worth.

Every network is fitted twice without warm-up, from dispersed values and from draws of the
variational fit, and all sweeps are kept. Both runs have the same posterior, that of the second
halves of both together; how many sweeps either takes to get there is seen in its own draws. Sweeps
take the same time whatever the start was, so their time is the mean of both runs.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import xarray as xr
from tqdm.auto import tqdm

import nnmm_jax as nm
from nnmm_jax.errors import InputError
from nnmm_jax.inference.run_settings import STARTS, RunSettings
from nnmm_jax.posterior import arviz_compat
from nnmm_jax.posterior.diagnostics import components, scalars
from nnmm_jax.posterior.result import FitResult

AVERAGED = 10  # sweeps, over which and over chains a quantity is averaged
NEAR = 0.5  # posterior sds from the posterior mean, within which such an average has arrived
ENOUGH = 400.0  # effective draws to wait for
STEPS = 40  # into which a run is cut to find the warm-up that suits it
LEAST_SAMPLES = 100


class Case(NamedTuple):
    """A network, and what is simulated for it beside sizes."""

    network: nm.Network
    simulation: Mapping[str, Any]


_FEW = MappingProxyType({"causal_share": 0.005, "h2_omics": 0.8, "without_omics": 0.1})
_MOST_MISSING = MappingProxyType({"without_omics": 0.9})
CASES: Mapping[str, Case] = MappingProxyType(
    {
        "BayesC, few causal": Case(nm.Network(marker_prior="BayesC"), _FEW),
        "BayesB, few causal": Case(nm.Network(marker_prior="BayesB"), _FEW),
        "BayesC, many causal": Case(nm.Network(marker_prior="BayesC"), MappingProxyType({})),
        "RR-BLUP": Case(nm.Network(marker_prior="RR-BLUP"), MappingProxyType({})),
        "RR-BLUP, 90% missing": Case(nm.Network(marker_prior="RR-BLUP"), _MOST_MISSING),
    }
)


@dataclass(frozen=True)
class WarmStartSettings:
    """Sizes of the simulated data and of the runs.

    Attributes
    ----------
    individuals, markers, omics : int
        Simulated.
    samples, chains : int
        Sweeps of every chain, all kept, and chains.
    seed : int
        Of the simulation and of the fits.

    Raises
    ------
    InputError
        If a run is too short for its second half to say where it leads.
    """

    individuals: int = 500
    markers: int = 1500
    omics: int = 6
    samples: int = 1000
    chains: int = 4
    seed: int = 1

    def __post_init__(self) -> None:
        """Check what the simulator and the sampler would not."""
        if self.samples < LEAST_SAMPLES:
            raise InputError(f"samples must be at least {LEAST_SAMPLES}, got {self.samples}")
        RunSettings(0, self.samples, self.chains, self.seed)

    def simulation(self, case: Case) -> nm.SimulationSettings:
        """Return what is simulated for a case."""
        sizes = nm.SimulationSettings(
            individuals=self.individuals, markers=self.markers, omics=self.omics
        )
        return replace(sizes, **case.simulation)


def warm_start(
    settings: WarmStartSettings, names: Sequence[str] = tuple(CASES), *, progress: bool = True
) -> pd.DataFrame:
    """Warm-up that chains need, and effective draws a second, from either start.

    Parameters
    ----------
    settings : WarmStartSettings
    names : sequence of str
        Of :data:`CASES`.
    progress : bool
        Show a progress bar over the fits.

    Returns
    -------
    pandas.DataFrame
        A row for each case and start: case; start; compilation and fit (seconds of the variational
        fit); sweep (seconds, of all chains); warmup (sweeps until every variance, heritability, pi
        and node effect has arrived, see :func:`sweeps_needed`); slowest (the quantity that
        arrived last); ready (seconds until then, the fit included); discarded (the warm-up that
        suits the run, see :func:`best_warmup`); ess (the smallest effective size of these
        quantities after that); rate (effective draws a second of the whole run, the fit included);
        enough (seconds to 400 effective draws, likewise).

    Raises
    ------
    InputError
        If a case is unknown.

    Examples
    --------
    >>> warm_start(WarmStartSettings(), ["BayesC, few causal"])  # doctest: +SKIP
    """
    if unknown := [name for name in names if name not in CASES]:
        raise InputError(f"cases: expected some of {'; '.join(CASES)}, found {unknown[0]!r}")
    rows: list[dict[str, object]] = []
    with tqdm(total=len(names) * len(STARTS), disable=not progress, unit="fit") as bar:
        for name in names:
            case, results = CASES[name], {}
            data = nm.simulate(settings.simulation(case), settings.seed).dataset()
            for start in STARTS:
                results[start] = _fit(data, case.network, settings, start)
                bar.update()
            rows += [{"case": name, **row} for row in compare(results)]
    return pd.DataFrame(rows)


def _fit(
    data: nm.Dataset, network: nm.Network, settings: WarmStartSettings, start: str
) -> FitResult:
    return nm.fit(
        data,
        network,
        warmup=0,
        samples=settings.samples,
        chains=settings.chains,
        seed=settings.seed,
        start=start,
        progress=False,
    )


def compare(results: Mapping[str, FitResult]) -> list[dict[str, object]]:
    """Rows of the table for the same network from different starts.

    Parameters
    ----------
    results : mapping of str to FitResult
        By start, all sweeps kept.
    """
    traces = {start: followed(one.posterior) for start, one in results.items()}
    # What is constant from one start may move from another.
    names = sorted(set.intersection(*(set(one) for one in traces.values())))
    seconds = {start: one.run["seconds"] for start, one in results.items()}
    length = min(one.posterior.sizes["draw"] for one in results.values())
    sweep = float(np.mean([one["sampling"] / length for one in seconds.values()]))
    rows: list[dict[str, object]] = []
    for start, found in traces.items():
        needed = {
            name: sweeps_needed(found[name], [one[name] for one in traces.values()])
            for name in names
        }
        slowest = max(names, key=lambda name: needed[name])
        fit = seconds[start].get("variational", 0.0)
        discarded, ess = best_warmup(np.stack([found[name] for name in names], axis=-1))
        wanted = discarded + (length - discarded) * ENOUGH / ess
        rows.append(
            {
                "start": start,
                "compilation": seconds[start].get("variational_compilation", 0.0),
                "fit": fit,
                "sweep": sweep,
                "warmup": needed[slowest],
                "slowest": slowest,
                "ready": fit + needed[slowest] * sweep,
                "discarded": discarded,
                "ess": ess,
                "rate": ess / (fit + length * sweep),
                "enough": fit + wanted * sweep,
            }
        )
    return rows


def followed(posterior: xr.Dataset) -> dict[str, np.ndarray]:
    """Draws (chain, draw) of every variance, heritability, pi and node effect that moves."""
    names = [*components(posterior), *(name for name in ["node_effect"] if name in posterior)]
    return {
        label: np.asarray(draws, float)
        for name in names
        for label, draws in scalars(posterior[name], posterior.sizes["trait"])
        if not (draws == draws[0, 0]).all()
    }


def sweeps_needed(draws: np.ndarray, runs: Sequence[np.ndarray]) -> int:
    """Sweeps until the average over chains and ten sweeps is near the posterior mean.

    Near is within half a posterior sd, mean and sd those of the second halves of all runs. At
    most half of the sweeps: the rest is what they are judged by.

    Parameters
    ----------
    draws : (chain, sweep)
        From the first sweep on.
    runs : sequence of (chain, sweep)
        Of the same quantity, from all starts.

    Examples
    --------
    >>> flat = np.tile([0.9, 1.1], (2, 50))
    >>> late = np.concatenate([np.full((2, 20), 5.0), flat[:, 20:]], axis=1)
    >>> sweeps_needed(flat, [flat, late]), sweeps_needed(late, [flat, late])
    (0, 20)
    """
    length = draws.shape[1]
    halves = np.concatenate([one[:, length // 2 :].ravel() for one in runs])
    window = np.ones(AVERAGED) / AVERAGED
    away = np.convolve(draws.mean(axis=0) - halves.mean(), window, mode="valid")
    near = np.abs(away) < NEAR * halves.std()
    return int(np.argmax(near)) if near[: length // 2].any() else length // 2


def best_warmup(draws: np.ndarray) -> tuple[int, float]:
    """Sweeps to discard for the most effective draws of a run, and how many those are.

    In hindsight, so that neither start is judged by a warm-up that does not suit it: of multiples
    of a fortieth of the run, up to its half.

    Parameters
    ----------
    draws : (chain, sweep, quantity)
        The effective size is the smallest of all quantities, for means.
    """
    length = draws.shape[1]
    found = {
        warmup: float(arviz_compat.ess_bulk(_named(draws[:, warmup:])).values.min())
        for warmup in range(0, length // 2 + 1, max(1, length // STEPS))
    }
    best = max(found, key=lambda warmup: found[warmup])
    return best, found[best]


def _named(draws: np.ndarray) -> xr.DataArray:
    return xr.DataArray(draws, dims=("chain", "draw", "scalar"))
