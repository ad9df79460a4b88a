"""How accuracy falls as more omics are missing, and whether it stays above ignoring omics.

Data are simulated, so that breeding values are compared with the true ones. Everything is judged
in the test individuals, the youngest, whose phenotypes are unknown.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from nnmm_jax.data.align import Dataset, read_dataset
from nnmm_jax.errors import InputError
from nnmm_jax.network.simulate import TRAIT, Simulated, SimulationSettings, simulate
from nnmm_jax.network.spec import Network
from nnmm_jax.posterior import arviz_compat
from nnmm_jax.posterior.diagnostics import total_ebv
from nnmm_jax.posterior.result import FitResult
from nnmm_jax.reports.agreement import compare_with_truth, correlation, slope
from nnmm_jax.reports.baselines import Baseline
from nnmm_jax.reports.missing_patterns import Scenario, missing_cells, scenarios

NETWORK, LATENT, DIRECT, GBLUP = "NN-MM", "latent NN-MM", "direct", "GBLUP"
IGNORED = "omics ignored"  # the pattern of the baselines
SCORES = ("accuracy_ebv", "slope_ebv", "accuracy_epv", "slope_epv")

KEYS = ("pattern", "training_missing", "test_missing", "model")  # of a row, but for the replicate


def grid_simulation(
    *, individuals: int = 3534, test: int = 534, markers: int = 1000, omics: int = 10
) -> SimulationSettings:
    """What the grid is simulated with: complete omics, and all genetic effects go through them.

    Omics have a heritability of 0.4 and explain 0.6 of the trait's variance, so that of the trait
    is about 0.24. With the default numbers the EBV accuracy is then near 0.9 when all omics are
    measured and near 0.75 without any, which leaves room to fall. There are 18 chromosomes of one
    Morgan, as in pigs, and no fixed effects but the intercepts.

    Parameters
    ----------
    individuals, test : int
        All of them, and the youngest among them, which have no phenotype.
    markers, omics : int

    Raises
    ------
    InputError
        If there are fewer than 3 test individuals or as few training individuals (a correlation of
        2 is always 1 or -1), or something that :class:`SimulationSettings` refuses.

    Examples
    --------
    >>> grid_simulation(individuals=200, test=40, markers=50).without_phenotype
    0.2
    """
    if not 3 <= test <= individuals - 3:
        raise InputError(
            f"test must lie in 3..{individuals - 3} for {individuals} individuals, got {test}"
        )
    return SimulationSettings(
        individuals=individuals,
        markers=markers,
        chromosomes=18,
        omics=omics,
        h2_omics=0.4,
        share_mediated=0.6,
        share_direct=0.0,
        sex_effect=0.0,
        batch_effect_sd=0.0,
        sex_effect_omics=0.0,
        batch_effect_sd_omics=0.0,
        without_omics=0.0,
        missing_cells=0.0,
        without_phenotype=test / individuals,
    )


def fit_grid(
    settings: SimulationSettings,
    network: Network,
    grid: Sequence[Scenario] | None = None,
    *,
    replicates: int = 1,
    warmup: int = 1000,
    samples: int = 2000,
    chains: int = 4,
    seed: int,
    progress: bool = True,
) -> pd.DataFrame:
    """Simulate, make holes, fit and compare with the truth: every scenario of every replicate.

    "Ignoring omics" is the direct model: the network's marker prior for effects of markers on the
    trait, and no middle layer. GBLUP, with variances by REML, is fitted as well. Where nothing of
    the omics is left, as many latent nodes take their place: the same model, but for the nodes'
    units, which nothing then identifies.

    Parameters
    ----------
    settings : SimulationSettings
        With complete omics, no fixed effects and unphenotyped individuals, as those of
        :func:`grid_simulation`. Replicate r is simulated with the seed ``seed + r - 1``.
    network : Network
        Without skip connection and latent nodes.
    grid : sequence of Scenario or None
        ``None`` for :func:`~nnmm_jax.reports.missing_patterns.scenarios`.
    replicates : int
        Data sets.
    warmup, samples, chains : int
        Of every fit, as in :func:`nnmm_jax.fit`. The chains' differences are the Monte Carlo error.
    seed : int
    progress : bool
        Show a progress bar over the fits.

    Returns
    -------
    pandas.DataFrame
        One row a fit: pattern, training_missing, test_missing (percent of the individuals without
        any omics), model, replicate; cells_missing, percent of all training cells; individuals, in
        the test set; accuracy_ebv, slope_ebv, accuracy_epv, slope_epv in the test set, as in
        :func:`~nnmm_jax.reports.agreement.compare_with_truth`; accuracy_error, see
        :func:`chain_error`; r_hat and ess (bulk) of the trait's h2; seconds.

    Raises
    ------
    InputError
        If there are fewer than 1 replicate or 2 chains, if settings cannot be used, or if a
        scenario leaves a column of omics without values: more individuals are needed then.

    Examples
    --------
    >>> sizes = grid_simulation(individuals=60, test=20, markers=40, omics=2)
    >>> short = {"warmup": 10, "samples": 10, "chains": 2, "progress": False}
    >>> fits = fit_grid(sizes, Network(marker_prior="RR-BLUP"), [], seed=1, **short)
    >>> fits["model"].tolist()  # and a row for every scenario
    ['GBLUP', 'direct']
    """
    for name, value, least in (("replicates", replicates, 1), ("chains", chains, 2)):
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise InputError(f"{name} must be a whole number of at least {least}, got {value!r}")
    if network.skip_prior is not None or network.latent:
        raise InputError("the grid's network: expected neither skip_prior nor latent nodes")
    grid = scenarios() if grid is None else grid
    sampler = {"warmup": warmup, "samples": samples, "chains": chains}
    rows = []
    with tqdm(total=replicates * (len(grid) + 2), disable=not progress, unit="fit") as bar:
        for replicate in range(1, replicates + 1):
            simulated = simulate(settings, seed + replicate - 1)
            for row in _fits(simulated, network, grid, sampler, [seed, replicate]):
                rows.append({**row, "replicate": replicate})
                bar.set_description(row["pattern"], refresh=False)
                bar.update()
    columns = [*KEYS, "replicate", "cells_missing", "individuals", *SCORES, "accuracy_error"]
    return pd.DataFrame(rows)[[*columns, "r_hat", "ess", "seconds"]]


def _fits(
    simulated: Simulated,
    network: Network,
    grid: Sequence[Scenario],
    sampler: dict[str, Any],
    seeds: list[int],
) -> Iterator[dict[str, Any]]:
    """A row for each baseline and scenario of one data set."""
    truth = simulated.truth["individuals"]
    complete = simulated.dataset()
    without = read_dataset(simulated.genotypes, None, simulated.phenotypes, TRAIT)
    test = np.isnan(complete.phenotype)
    ignored = {"pattern": IGNORED, "training_missing": 100, "test_missing": 100}
    ignored["cells_missing"] = 100.0
    yield {**ignored, "model": GBLUP, **_gblup_scores(without, truth, test)}
    direct = replace(network, marker_prior=None, skip_prior=network.marker_prior)
    yield {**ignored, "model": DIRECT, **_fit_scores(without, direct, truth, sampler, [*seeds, 0])}
    nodes = complete.omics.shape[1]
    for number, scenario in enumerate(grid, start=1):
        missing = missing_cells(scenario, test, nodes, simulated.seed)
        if scenario.nothing_observed:
            model, dataset, fitted = LATENT, without, replace(network, latent=nodes)
        else:
            model, dataset, fitted = NETWORK, complete.mask(omics=missing), network
        yield {
            "pattern": scenario.pattern,
            "training_missing": scenario.training_missing,
            "test_missing": scenario.test_missing,
            "model": model,
            "cells_missing": 100 * float(missing[~test].mean()),
            **_fit_scores(dataset, fitted, truth, sampler, [*seeds, number]),
        }


def _fit_scores(
    dataset: Dataset,
    network: Network,
    truth: pd.DataFrame,
    sampler: dict[str, Any],
    seeds: list[int],
) -> dict[str, float]:
    from nnmm_jax.api import fit

    seed = int(np.random.SeedSequence(seeds).generate_state(1)[0] >> 1)
    result = fit(dataset, network, **sampler, seed=seed, progress=False)
    found = compare_with_truth(result, truth).loc["unphenotyped"]
    h2 = result.posterior["h2_trait"].squeeze("trait").astype(float)
    return {
        "individuals": int(found["individuals"]),
        **{name: float(found[name]) for name in SCORES},
        "accuracy_error": chain_error(result, truth),
        "r_hat": float(arviz_compat.r_hat(h2)),
        "ess": float(arviz_compat.ess_bulk(h2)),
        "seconds": sum(result.run["seconds"].values()),
    }


def _gblup_scores(dataset: Dataset, truth: pd.DataFrame, test: np.ndarray) -> dict[str, float]:
    # With an intercept alone, the predicted phenotype is the breeding value but for a constant.
    estimated = Baseline(("markers",)).fit(dataset).mean[test]
    scores: dict[str, float] = {"individuals": int(test.sum())}
    for name in ("ebv", "epv"):
        true = truth.set_index("id").loc[dataset.ids, name].to_numpy()[test]
        scores[f"accuracy_{name}"] = correlation(true, estimated)
        scores[f"slope_{name}"] = slope(true, estimated)
    return {**scores, "accuracy_error": 0.0}


def chain_error(result: FitResult, truth: pd.DataFrame) -> float:
    """Monte Carlo error of the EBV accuracy in individuals without phenotype.

    Each chain's posterior means have an accuracy of their own; their standard deviation over the
    chains, divided by the root of the number of chains, is the error of their mean.

    Parameters
    ----------
    result : FitResult
        Of two chains at least; NaN for one.
    truth : pandas.DataFrame
        Columns id and ebv.
    """
    draws = total_ebv(result.posterior.squeeze("trait"))
    by_chain = draws.mean("draw", dtype=np.float64).transpose("chain", "individual").values
    true = truth.set_index("id").loc[draws["individual"].values, "ebv"].to_numpy()
    test = np.isnan(result.constant_data["phenotype"].squeeze("trait").values)
    if len(by_chain) < 2:
        return float("nan")
    accuracies = [correlation(true[test], chain[test]) for chain in by_chain]
    return float(np.std(accuracies, ddof=1) / np.sqrt(len(accuracies)))
