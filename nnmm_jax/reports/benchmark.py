"""How fast the sampler is: against marker-by-marker sweeps, by size, by thread, by effective draw.

Everything that is compared is measured in one run, in turns, and reported as a ratio of medians.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
import pandas as pd
import xarray as xr

import nnmm_jax as nm
from nnmm_jax.data.align import Dataset
from nnmm_jax.inference.arrays import MarkerMatrix, TermArrays
from nnmm_jax.inference.prepare import prepare
from nnmm_jax.inference.run import chain_keys, compiled_piece, compiled_start
from nnmm_jax.inference.sweep import SweepSettings
from nnmm_jax.network.priors import Prior
from nnmm_jax.posterior import arviz_compat
from nnmm_jax.reports.benchmark_baseline import MarkerByMarker
from nnmm_jax.threads import threads

REPEATS = 5  # of each measurement; a median is reported
SETTLING = 20  # sweeps before: shares of zero effects are then as in a run; and of a timed piece
TRAIT = "y"
_NEVER = 10**8  # sweeps of a warm-up that does not end here
PER_SECOND = 200  # individuals whose breeding values' effective sizes are taken


@dataclass(frozen=True)
class Case:
    """A network to time on data of some size.

    Attributes
    ----------
    name : str
    individuals, markers, omics : int
        Without omics the trait is fitted directly.
    activation : str
    chains : int
    prior : Prior or str
        Of the markers.
    asked : float or None
        How many times faster than the baseline's sweep it is to be, a chain.
    """

    name: str
    individuals: int = 3534
    markers: int = 1000
    omics: int = 10
    activation: str = "linear"
    chains: int = 1
    prior: Prior | str = "BayesC"
    asked: float | None = None

    @property
    def network(self) -> nm.Network:
        """The network."""
        if not self.omics:
            return nm.Network(marker_prior=None, skip_prior=self.prior)
        return nm.Network(activation=self.activation, marker_prior=self.prior)

    def data(self) -> Dataset:
        """Data of its size."""
        return random_data(self.individuals, self.markers, self.omics)


CASES = (
    Case("one trait, no middle layer", omics=0, asked=1.5),
    Case("10 omics, linear", asked=4.0),
    Case("10 omics, linear, 4 chains, per chain", chains=4, asked=10.0),
    Case("100 omics, linear", omics=100, asked=8.0),
    Case("10 omics, tanh", activation="tanh"),
)


def random_data(
    individuals: int, markers: int, omics: int, *, without_omics: float = 0.3, seed: int = 1
) -> Dataset:
    """Data that cost what real ones cost: unlinked markers, a tenth of them with effects.

    Parameters
    ----------
    without_omics : float
        Share of the individuals without any omics; all have a phenotype.
    """
    rng = np.random.default_rng(seed)
    ids = pd.Index([f"i{number}" for number in range(individuals)], name="id")
    genotypes = np.empty((individuals, markers), np.int8)
    for start in range(0, markers, 1000):
        part = genotypes[:, start : start + 1000]
        part[:] = rng.binomial(2, rng.uniform(0.1, 0.5, part.shape[1]), part.shape)
    causal = rng.permutation(markers)[: max(markers // 10, 1)]
    effects = rng.normal(size=(len(causal), max(omics, 1)))
    genetic = (genotypes[:, causal] - genotypes[:, causal].mean(axis=0)) @ effects
    nodes = genetic / genetic.std(axis=0) + rng.normal(size=genetic.shape)
    trait = nodes @ rng.normal(size=nodes.shape[1])
    trait = trait / trait.std() + rng.normal(size=individuals)
    measured = None
    if omics:
        nodes[rng.permutation(individuals)[: int(without_omics * individuals)]] = np.nan
        measured = pd.DataFrame(nodes, index=ids, columns=[f"o{k}" for k in range(omics)])
    columns = [f"m{number}" for number in range(markers)]
    return nm.read_dataset(
        pd.DataFrame(genotypes, index=ids, columns=columns),
        measured,
        pd.DataFrame({TRAIT: trait}, index=ids),
        TRAIT,
    )


def seconds(call: Callable[[], object]) -> float:
    """Time a call as in the course of a run: the second of two, until its arrays are there.

    The first one wakes processors and fills their caches.
    """
    jax.block_until_ready(call())
    began = time.perf_counter()
    jax.block_until_ready(call())
    return time.perf_counter() - began


class Sampler:
    """Our sampler on data, ready to be timed a piece at a time.

    Parameters
    ----------
    dataset : Dataset
    case : Case
    sweeps : int
        In a piece.
    keeps : bool
        Whether every draw is kept, or none, as during warm-up.

    Attributes
    ----------
    state : KernelState
        Of all chains, after the last piece.
    compiled : float
        Seconds until the first piece was done: tracing, compiling, running.
    """

    def __init__(self, dataset: Dataset, case: Case, sweeps: int, *, keeps: bool = True) -> None:
        self.prepared = prepare(dataset, case.network)
        settings = SweepSettings(self.prepared.activation)
        kernel, start = compiled_start(settings, 0 if keeps else _NEVER)
        began = time.perf_counter()
        self.state = start(chain_keys(1, case.chains), self.prepared.data)
        self._piece, self._sweeps = compiled_piece(kernel, case.chains, sweeps), sweeps
        self.run()
        self.compiled = time.perf_counter() - began
        for _ in range(SETTLING // sweeps):
            self.run()

    def run(self) -> object:
        """Run one piece."""
        self.state, kept = self._piece(self.state, self.prepared.data)
        return jax.block_until_ready(kept)

    def iteration(self) -> float:
        """Seconds of one iteration of all chains."""
        return seconds(self.run) / self._sweeps


def products(term: TermArrays, columns: int) -> Callable[[], object]:
    """Return the products of a sweep alone, with so many columns: the floor of its time.

    Two with the genotypes; where sums stand for complete individuals two with those of the others,
    and one with the cross-products of the markers.
    """
    rng = np.random.default_rng(0)
    markers = term.markers if term.incomplete is None else term.incomplete
    gram = None if term.incomplete is None or term.grams is None else term.grams[0]
    dtype = markers.means.dtype
    residual = jax.numpy.asarray(rng.normal(size=(columns, markers.codes.shape[1])), dtype)
    effects = jax.numpy.asarray(rng.normal(size=(columns, markers.n_padded)), dtype)

    @jax.jit
    def every(
        markers: MarkerMatrix, gram: jax.Array | None, residual: jax.Array, effects: jax.Array
    ) -> tuple[jax.Array, ...]:
        both = markers.project(residual), markers.predict(effects)
        return both if gram is None else (*both, effects @ gram)

    def call() -> object:
        return every(markers, gram, residual, effects)

    jax.block_until_ready(call())
    return call


def compare(case: Case, *, sweeps: int = SETTLING, repeats: int = REPEATS) -> dict[str, Any]:
    """Time one whole iteration of a case beside the baseline's sweep over its markers.

    Returns
    -------
    dict
        Milliseconds of the baseline's sweep over all traits, of our iteration per chain
        (``ours_ms``), of one whose draw is kept with all that is reported of it (``kept_ms``), and
        of the matrix products alone, medians; how many times faster than the baseline both are
        (ratios of the medians), and the former beside BGLR's sweep.
    """
    dataset = case.data()
    ours, baseline = Sampler(dataset, case, sweeps, keeps=False), MarkerByMarker(dataset)
    keeping = Sampler(dataset, case, sweeps)
    layer = (*ours.prepared.data.omics, ours.prepared.data.trait)[0]
    alone = products(layer.terms[0], case.chains * max(case.omics, 1))
    baseline.settle()
    times = np.array(
        [
            (seconds(baseline.sweep), ours.iteration(), keeping.iteration(), seconds(alone))
            for _ in range(repeats)
        ]
    )
    theirs, mine, kept, floor = np.median(times, axis=0) * 1e3 / [1, *3 * [case.chains]]
    return {
        "case": case.name,
        "baseline_ms": theirs,
        "ours_ms": mine,
        "times_faster": theirs / mine,
        "asked": case.asked,
        "kept_ms": kept,
        "times_faster_kept": theirs / kept,
        "times_bglr": BGLR_MS * max(max(case.omics, 1) / threads(), 1) / mine,
        "products_ms": floor,
        "share_of_products": floor / mine,
        "compiled_s": keeping.compiled,
    }


PER_DRAW = tuple(
    Case(name, omics=0, chains=chains, prior=name)
    for name in ("GBLUP", "RR-BLUP")
    for chains in (4, 16)
)
BGLR_MS = 3.0  # BGLR's sweep over the same markers, one trait and thread, a machine of this kind
GROWTH = {"individuals": 500, "markers": 500, "omics": 10}
_OTHERS = {"individuals": 2000, "markers": 1000, "omics": 20}


def growth(*, doublings: int = 3, repeats: int = REPEATS) -> Iterator[dict[str, Any]]:
    """Time an iteration while one size is doubled and the others stay."""
    for size, first in GROWTH.items():
        for step in range(doublings + 1):
            case = Case(size, **{**_OTHERS, size: first * 2**step})
            ours = Sampler(case.data(), case, SETTLING, keeps=False)
            times = [ours.iteration() for _ in range(repeats)]
            yield {
                "size": size,
                "value": first * 2**step,
                "iteration_ms": np.median(times) * 1e3,
                "compiled_s": ours.compiled,
            }


def with_ratios(table: pd.DataFrame) -> pd.DataFrame:
    """Add how much longer an iteration takes than with half the size: 2 is linear."""
    return table.assign(times_before=table.groupby("size")["iteration_ms"].transform(_ratio))


def _ratio(times: pd.Series) -> pd.Series:
    return times / times.shift()


MANY_OMICS = tuple(Case(name, 1055, 15000, 1200, prior=name) for name in ("GBLUP", "BayesC"))


def many_omics(case: Case, *, repeats: int = REPEATS, sweeps: int = 2) -> dict[str, Any]:
    """Time a network with many nodes."""
    ours = Sampler(case.data(), case, sweeps)
    times = [ours.iteration() for _ in range(repeats)]
    return {
        "prior": case.name,
        "iteration_s": np.median(times),
        "fastest_s": np.min(times),
        "compiled_s": ours.compiled,
    }


def effective(case: Case, *, samples: int = 2000, warmup: int = 500) -> dict[str, Any]:
    """Effective draws a second of h2 and EBVs: ours beside a marker-by-marker Gibbs sampler.

    The baseline samples the same model, one trait explained by all markers with normal effects of
    one variance, in a chain a thread; compilation counts for neither.
    """
    dataset = case.data()
    result = nm.fit(
        dataset,
        case.network,
        warmup=warmup,
        samples=samples,
        chains=case.chains,
        seed=1,
        progress=False,
    )
    ours = result.posterior.isel(trait=0)
    rate = {"seconds": result.run["seconds"]["sampling"]}
    theirs, took = MarkerByMarker(dataset).chain(warmup=warmup, samples=samples, chains=threads())
    found: dict[str, Any] = {"prior": case.name, "samples": samples, "chains": case.chains}
    for who, draws, spent in (
        ("ours", {"h2": ours["h2_trait"], "ebv": ours["ebv_direct"]}, rate["seconds"]),
        ("baseline", theirs, took),
    ):
        found[f"{who}_s"] = spent
        for name, values in draws.items():
            few = values.isel(individual=slice(PER_SECOND)) if name == "ebv" else values
            ess = float(np.median(arviz_compat.ess_bulk(few.astype(float)).to_numpy()))
            found[f"{who}_{name}_per_s"] = ess / spent
    for name in ("h2", "ebv"):
        found[f"{name}_times"] = found[f"ours_{name}_per_s"] / found[f"baseline_{name}_per_s"]
        found[f"{name}_difference"] = _difference(ours, theirs, name)
    return found


def _difference(ours: xr.Dataset, theirs: dict[str, xr.DataArray], name: str) -> float:
    """How far the posterior means of both are apart: of EBVs one minus their correlation."""
    mine = ours["h2_trait" if name == "h2" else "ebv_direct"].mean(("chain", "draw")).to_numpy()
    other = theirs[name].mean(("chain", "draw")).to_numpy()
    if name == "h2":
        return float(mine - other)
    return float(1.0 - np.corrcoef(mine, other)[0, 1])
