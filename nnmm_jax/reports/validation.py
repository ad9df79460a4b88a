"""Cross-validation: predict phenotypes that a method has not seen, and compare.

Phenotypes of a fold are hidden, once with the fold's omics measured and once with them hidden
too, and predictions are compared with them. Networks and baselines see the same folds.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import pandas as pd
from scipy.stats import norm
from tqdm.auto import tqdm

from nnmm_jax.data.align import Dataset
from nnmm_jax.errors import InputError
from nnmm_jax.network.spec import Network
from nnmm_jax.posterior import arviz_compat
from nnmm_jax.posterior.result import FitResult
from nnmm_jax.reports.agreement import correlation, slope
from nnmm_jax.reports.baselines import Baseline, check_single_records

Method: TypeAlias = Network | Baseline

SEEN, HIDDEN = "omics seen", "omics hidden"
SCENARIOS = (SEEN, HIDDEN)
INTERVAL = 0.9  # probability of the predictive intervals
SCORES = ("accuracy", "slope", "coverage", "width", "mse")

_TAILS = (0.5 - INTERVAL / 2, 0.5 + INTERVAL / 2)
_TRAIT_LEVEL = (
    "h2_trait",
    "var_genetic_trait",
    "var_mediated",
    "var_direct",
    "var_polygenic",
    "var_residual_trait",
)


@dataclass(frozen=True, eq=False)
class Fold:
    """Individuals whose phenotypes are hidden together.

    Attributes
    ----------
    repeat, number : int
        Counted from 1.
    hidden : (individual,) bool
    """

    repeat: int
    number: int
    hidden: np.ndarray


@dataclass(frozen=True, eq=False)
class Prediction:
    """What a method says about everyone's phenotype, in the user's units.

    Attributes
    ----------
    mean, low, high : (individual,)
        Prediction and the ends of its 90% predictive interval.
    r_hat, ess : float
        Worst R-hat and smallest bulk ESS of the trait's variances and h2; NaN where nothing was
        sampled, or in too few chains.
    """

    mean: np.ndarray
    low: np.ndarray
    high: np.ndarray
    r_hat: float = np.nan
    ess: float = np.nan


def folds(phenotyped: np.ndarray, *, n_folds: int = 5, repeats: int = 2, seed: int) -> list[Fold]:
    """Divide the phenotyped individuals at random, as evenly as possible, several times.

    Parameters
    ----------
    phenotyped : (individual,) bool
    n_folds : int
        Of each repeat.
    repeats : int
        A repeat's folds depend on the seed and the repeat alone, not on how many repeats there are.
    seed : int

    Returns
    -------
    list of Fold
        In each repeat every phenotyped individual is in exactly one fold.

    Raises
    ------
    InputError
        If there are fewer than 2 folds or 1 repeat, or fewer than 3 individuals in a fold (a
        correlation of 2 is always 1 or -1).

    Examples
    --------
    >>> import numpy as np
    >>> [int(fold.hidden.sum()) for fold in folds(np.ones(10, bool), n_folds=3, repeats=1, seed=1)]
    [4, 3, 3]
    """
    for name, value, least in (("folds", n_folds, 2), ("repeats", repeats, 1), ("seed", seed, 0)):
        if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < least:
            raise InputError(f"{name} must be a whole number of at least {least}, got {value!r}")
    rows = np.flatnonzero(phenotyped)
    if len(rows) < 3 * n_folds:
        raise InputError(
            f"{n_folds} folds need at least {3 * n_folds} phenotyped individuals, 3 in each, found "
            f"{len(rows)}: choose fewer folds"
        )
    found = []
    for repeat in range(1, repeats + 1):
        order = np.random.default_rng([seed, repeat]).permutation(rows)
        for number, part in enumerate(np.array_split(order, n_folds), start=1):
            hidden = np.zeros(len(phenotyped), dtype=bool)
            hidden[part] = True
            found.append(Fold(repeat, number, hidden))
    return found


def scores(
    observed: np.ndarray, predicted: np.ndarray, low: np.ndarray, high: np.ndarray
) -> dict[str, float]:
    """Compare predictions of a fold with what was observed.

    Parameters
    ----------
    observed, predicted, low, high : (individual,)
        Phenotypes, their predictions, and the ends of predictive intervals.

    Returns
    -------
    dict
        ``accuracy``, the correlation of observed with predicted, and ``slope``, the regression of
        observed on predicted (1: no inflation; below 1: predictions too dispersed), both NaN when
        predictions are all the same; ``coverage``, the share of phenotypes inside their interval;
        ``width``, the mean width of the intervals; ``mse``, the mean squared error.

    Examples
    --------
    >>> import numpy as np
    >>> y, half = np.array([1.0, 2.0, 3.0]), np.array([0.5, 1.0, 1.5])
    >>> found = scores(y, half, half - 1, half + 1)
    >>> found["accuracy"].__round__(6), found["slope"].__round__(6), found["width"]
    (1.0, 2.0, 2.0)
    """
    accuracy = correlation(observed, predicted)
    return {
        "accuracy": accuracy,
        "slope": accuracy if np.isnan(accuracy) else slope(observed, predicted),
        "coverage": float(np.mean((low <= observed) & (observed <= high))),
        "width": float(np.mean(high - low)),
        "mse": float(np.mean((observed - predicted) ** 2)),
    }


def predict_network(result: FitResult) -> Prediction:
    """Posterior mean of the phenotype and predictive quantiles, from a fit of one trait."""
    draws = result.posterior.squeeze("trait")
    low, high = draws["y_pred"].quantile(_TAILS, ("chain", "draw")).values
    quantities = [draws[name] for name in _TRAIT_LEVEL if name in draws]
    quantities = [draws for draws in quantities if (draws != draws[0, 0]).any()]
    return Prediction(
        draws["y_mean"].mean(("chain", "draw"), dtype=np.float64).values,
        low,
        high,
        r_hat=max(float(arviz_compat.r_hat(draws)) for draws in quantities),
        ess=min(float(arviz_compat.ess_bulk(draws)) for draws in quantities),
    )


def predict_baseline(baseline: Baseline, dataset: Dataset) -> Prediction:
    """Best linear unbiased prediction and its normal interval."""
    found = baseline.fit(dataset)
    half = norm.ppf(_TAILS[1]) * np.sqrt(found.variance)
    return Prediction(found.mean, found.mean - half, found.mean + half)


def cross_validate(
    dataset: Dataset,
    methods: Mapping[str, Method],
    *,
    n_folds: int = 5,
    repeats: int = 2,
    scenarios: Sequence[str] = SCENARIOS,
    warmup: int = 500,
    samples: int = 1000,
    chains: int = 2,
    seed: int,
    progress: bool = True,
) -> pd.DataFrame:
    """Repeated K-fold cross-validation of networks and baselines on the same folds.

    Parameters
    ----------
    dataset : Dataset
        With observed omics.
    methods : dict of str to Network or Baseline
        By the names that the table will have. A baseline that needs omics is left out where they
        are hidden: unlike a network it cannot impute them from markers, and GBLUP says what
        markers alone can do.
    n_folds, repeats, seed : int
        See :func:`folds`. A network's sampler has a seed of its own in every fold.
    scenarios : sequence of str
        "omics seen", "omics hidden" or both: whether omics of the fold are hidden too.
    warmup, samples, chains : int
        Of the networks, as in :func:`nnmm_jax.fit`.
    progress : bool
        Show a progress bar over the fits.

    Returns
    -------
    pandas.DataFrame
        One row a fit: method, scenario, repeat, fold, individuals (in the fold), the scores of
        :func:`scores`, seconds, r_hat (worst) and ess (smallest bulk) of the trait's variances
        and h2, empty for baselines.

    Raises
    ------
    InputError
        If a scenario is unknown, there are no omics, individuals have repeated records, a baseline
        needs genotypes that are not there, or folds or sampler settings cannot be used.

    Examples
    --------
    >>> import nnmm_jax
    >>> from nnmm_jax.reports.baselines import BASELINES
    >>> sizes = nnmm_jax.SimulationSettings(individuals=60, markers=80, omics=3)
    >>> data = nnmm_jax.simulate(sizes, seed=1).dataset()
    >>> table = cross_validate(data, BASELINES, repeats=1, seed=1, progress=False)
    >>> table.groupby("scenario").size().to_dict()
    {'omics hidden': 5, 'omics seen': 15}
    """
    unknown = [name for name in scenarios if name not in SCENARIOS]
    if unknown:
        raise InputError(f"unknown scenario {unknown[0]!r}: choose of {', '.join(SCENARIOS)}")
    if dataset.omics.shape[1] == 0:
        raise InputError("validation compares predictions from omics: expected omics, found none")
    check_single_records(dataset, "validation")
    for method in methods.values():
        if isinstance(method, Baseline):
            method.check(dataset)
    divided = folds(np.isfinite(dataset.phenotype), n_folds=n_folds, repeats=repeats, seed=seed)
    sampler = {"warmup": warmup, "samples": samples, "chains": chains}
    plan = list(_plan(methods, scenarios, divided))
    rows = []
    with tqdm(plan, disable=not progress, unit="fit") as bar:
        for fold, scenario, name in bar:
            bar.set_description(f"{name}, {scenario}", refresh=False)
            hidden_omics = fold.hidden if scenario == HIDDEN else None
            masked = dataset.mask(phenotype=fold.hidden, omics=hidden_omics)
            began = time.perf_counter()
            predicted = _predictor(methods[name], sampler, [seed, fold.repeat, fold.number])(masked)
            seconds = time.perf_counter() - began
            rows.append(
                {
                    "method": name,
                    "scenario": scenario,
                    "repeat": fold.repeat,
                    "fold": fold.number,
                    "individuals": int(fold.hidden.sum()),
                    **_fold_scores(dataset.phenotype, predicted, fold.hidden),
                    "seconds": seconds,
                    "r_hat": predicted.r_hat,
                    "ess": predicted.ess,
                }
            )
    return pd.DataFrame(rows)


def _plan(
    methods: Mapping[str, Method], scenarios: Sequence[str], divided: Sequence[Fold]
) -> Iterator[tuple[Fold, str, str]]:
    """All fits, fold by fold."""
    for fold in divided:
        for scenario in scenarios:
            for name, method in methods.items():
                blind = isinstance(method, Baseline) and "omics" in method.kernels
                if not (blind and scenario == HIDDEN):
                    yield fold, scenario, name


def _predictor(
    method: Method, sampler: Mapping[str, Any], seeds: Sequence[int]
) -> Callable[[Dataset], Prediction]:
    if isinstance(method, Baseline):
        return lambda dataset: predict_baseline(method, dataset)
    # JAX is loaded here: baselines have no need of it.
    from nnmm_jax.api import fit

    seed = int(np.random.SeedSequence(seeds).generate_state(1)[0] >> 1)
    return lambda dataset: predict_network(
        fit(dataset, method, **sampler, seed=seed, progress=False)
    )


def _fold_scores(
    phenotype: np.ndarray, predicted: Prediction, hidden: np.ndarray
) -> dict[str, float]:
    return scores(
        phenotype[hidden], predicted.mean[hidden], predicted.low[hidden], predicted.high[hidden]
    )


def summarise(table: pd.DataFrame) -> pd.DataFrame:
    """Means over folds, for each method and scenario in the order of the table.

    Parameters
    ----------
    table : pandas.DataFrame
        What :func:`cross_validate` returned.

    Returns
    -------
    pandas.DataFrame
        Index (method, scenario), scenarios together; the means of the scores and of seconds;
        ``accuracy_se``, the standard deviation of the accuracy over folds divided by the root of
        their number (folds of one repeat share most of their training data, and repeats all of
        the data, so it says how much the split matters, not how another population would do);
        ``r_hat``, the worst, and ``ess``, the smallest.
    """
    grouped = table.groupby(["scenario", "method"], sort=False)
    found = grouped[[*SCORES, "seconds"]].mean()
    found.insert(1, "accuracy_se", grouped["accuracy"].std() / np.sqrt(grouped["accuracy"].count()))
    found["r_hat"], found["ess"] = grouped["r_hat"].max(), grouped["ess"].min()
    return found.sort_index(level="scenario", sort_remaining=False, ascending=False).swaplevel()
