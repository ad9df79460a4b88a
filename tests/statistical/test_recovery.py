"""Posteriors of simulated data hold the truth: every prior in every place, every random term.

Effects and all that governs them are drawn from the model's own priors, written out once more here
in NumPy. Given the data, the truth is then one more draw from the posterior (Cook, Gelman & Rubin
2006; Talts et al. 2018), however little the data say, so whatever is computed from the truth has
the distribution of the same computed from the draws. A standard score compares the two. Sampling
what the joint density says is the matter of ``tests/inference``; here it is the whole way, from
tables in the user's units to the posterior in the user's units.

False alarms. Scores are brought close to normal (:func:`straightened`) and pooled over simulations
and responses (:func:`pooled`). There are about 280 of them in this file, most of
them the larger of two, and a normal variate exceeds ``LIMIT`` with a probability of 9e-6: together
0.5 %, for new seeds. Slopes and
standardised errors of marker effects, whose draws are not kept, are judged by the t statistic of
their means by response; ``LIMIT`` is then at most 5e-5, 26 times.

R-hat below 1.05 means that the chains' means differ with a variance of at most a tenth of the
posterior's, that of the mean of four chains being off by 0.16 posterior standard deviations at
most: scores are inflated by 1 %, which moves no verdict.
"""

from collections.abc import Callable
from functools import cache
from typing import NamedTuple

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from nnmm_jax import (
    GBLUP,
    RRBLUP,
    BayesA,
    BayesB,
    BayesC,
    BayesL,
    BayesR,
    Group,
    Network,
    Pedigree,
    Relationship,
    Residual,
    fit,
    read_dataset,
)
from nnmm_jax.data.align import Dataset
from nnmm_jax.network.priors import PRIORS, Prior
from nnmm_jax.network.terms import RandomTerm
from nnmm_jax.posterior.arviz_compat import r_hat
from nnmm_jax.posterior.result import FitResult

pytestmark = pytest.mark.statistical

LIMIT = 4.44  # of a score
R_HAT = 1.05
N, MARKERS, OMICS = 250, 60, 20
SIMULATIONS = 3
CHAINS, WARMUP, SAMPLES = 4, 300, 1500
OMICS_UNIT, TRAIT_UNIT = 10.0, 0.5
RESIDUAL_OMICS = Residual(df=10.0, scale=OMICS_UNIT**2)
RESIDUAL_TRAIT = Residual(df=10.0, scale=TRAIT_UNIT**2)

# Priors by the variance v of an effect, the same relative to the residual variance, and what the
# stated variance of a GBLUP is relative to v. Informative enough for chains of moderate length.
ROWS: dict[str, Callable[[float, float, float], Prior]] = {
    "RR-BLUP": lambda v, ratio, factor: RRBLUP(df=8.0, scale=v),
    "RR-BLUP known": lambda v, ratio, factor: RRBLUP(variance=v),
    "GBLUP": lambda v, ratio, factor: GBLUP(df=8.0, scale=factor * v),
    "BayesA": lambda v, ratio, factor: BayesA(df=5.0, shape=6.0, rate=10.0 / v),
    "BayesA S known": lambda v, ratio, factor: BayesA(df=5.0, scale=0.6 * v),
    "BayesB": lambda v, ratio, factor: BayesB(
        df=5.0, pi_counts=(8.0, 12.0), shape=6.0, rate=6.0 / v
    ),
    "BayesB pi known": lambda v, ratio, factor: BayesB(df=5.0, pi=0.3, shape=6.0, rate=7.0 / v),
    "BayesC": lambda v, ratio, factor: BayesC(df=8.0, pi_counts=(8.0, 12.0), scale=v / 0.6),
    "BayesC pi known": lambda v, ratio, factor: BayesC(df=8.0, pi=0.3, scale=v / 0.7),
    "BayesL": lambda v, ratio, factor: BayesL(shape=6.0, rate=3.0 * ratio),
    "BayesL known": lambda v, ratio, factor: BayesL(lambda2=2.0 / ratio),
    "BayesR": lambda v, ratio, factor: BayesR(
        df=8.0, mixture=(0.0, 0.05, 1.0), weight_counts=(8.0, 6.0, 6.0), scale=v / 0.315
    ),
    "BayesR weights known": lambda v, ratio, factor: BayesR(
        df=8.0, mixture=(0.0, 0.1, 0.5, 1.0), weights=(0.4, 0.3, 0.2, 0.1), scale=v / 0.23
    ),
}
PLACES = ("marker", "node", "skip")

Truth = dict[str, float | np.ndarray]


def test_every_prior_has_a_row():
    assert {type(prior(1.0, 1.0, 1.0)) for prior in ROWS.values()} == set(PRIORS.values())


# --- drawing from the priors


def draw_variance(rng: np.random.Generator, prior) -> float:
    """``df * S / chi2(df)``, or what is known."""
    if prior.variance is not None:
        return prior.variance
    return prior.df * prior.scale / rng.chisquare(prior.df)


def draw_level(rng: np.random.Generator, prior: Prior) -> float:
    """What governs the effects, as it is reported."""
    if isinstance(prior, BayesL) and prior.lambda2 is not None:
        return prior.lambda2
    if isinstance(prior, BayesA) and prior.scale is not None:
        return prior.scale
    if isinstance(prior, BayesA | BayesL):
        return rng.gamma(prior.shape, 1.0 / prior.rate)
    return draw_variance(rng, prior)


def draw_effects(
    rng: np.random.Generator,
    prior: Prior,
    size: int,
    place: str,
    var_residual: float,
    factor: float,
) -> tuple[np.ndarray, Truth]:
    """Effects, with what governs them by the names under which it is reported."""
    level = draw_level(rng, prior)
    truth: Truth = {f"{prior.symbol}_{place}_effect": level}
    weights = np.ones(1)
    if len(prior.multipliers) > 1:
        counts = prior.component_counts
        weights = np.array(prior.expected_weights if counts is None else rng.dirichlet(counts))
        truth[f"pi_{place}"] = weights[0]
    component = rng.choice(len(weights), size=size, p=weights)
    variance = np.array(prior.multipliers)[component]
    if isinstance(prior, BayesA):
        variance = variance * prior.df * level / rng.chisquare(prior.df, size)
    elif isinstance(prior, BayesL):
        variance = variance * var_residual * rng.exponential(2.0 / level, size)
    else:
        variance = variance * level / (factor if isinstance(prior, GBLUP) else 1.0)
    return rng.normal(size=size) * np.sqrt(variance), truth


# --- scores


def straightened(name: str, values):
    """Values on a scale on which their posterior is close to normal.

    Cube roots of gamma variates (Wilson & Hilferty 1931), for variances of their inverses.
    """
    if name.startswith("pi_"):
        return np.log(values / (1.0 - values))
    if name.startswith("var_") and not name.startswith(("var_genetic", "var_direct")):
        return np.asarray(values) ** (-1 / 3)
    return np.cbrt(values)


def score(truth, draws: np.ndarray):
    """Standard score of the truth among draws (draw, ...)."""
    return (truth - draws.mean(axis=0)) / draws.std(axis=0)


def pooled(scores: list) -> float:
    """The larger of the scores of the mean and of the mean square of independent scores."""
    flat = np.concatenate([np.ravel(one) for one in scores])
    mean = np.sqrt(flat.size) * flat.mean()
    third = 2.0 / (9.0 * flat.size)
    spread = (np.cbrt(np.mean(flat**2)) - (1.0 - third)) / np.sqrt(third)
    return max(mean, spread, key=abs)


def t_statistic(values: list) -> float:
    """Of independent values whose expectation is 0."""
    flat = np.concatenate([np.ravel(one) for one in values])
    return np.sqrt(flat.size) * flat.mean() / flat.std(ddof=1)


class Tally:
    """Scores of a fit's quantities, simulation by simulation."""

    def __init__(self) -> None:
        self.scores: dict[tuple[str, str], list] = {}
        self.sums: dict[tuple[str, str], list] = {}
        self.figures: dict[tuple[str, str], list] = {}
        self.r_hat: dict[str, float] = {}

    def add(self, where: dict, place: str, name: str, value) -> None:
        where.setdefault((place, name), []).append(value)

    def component(self, place: str, name: str, truth, result) -> None:
        """A variance or the like, one or one for each node."""
        kept = result.posterior[name]
        kept = kept.squeeze("trait", drop=True) if "trait" in kept.dims else kept
        draws = kept.values.reshape(-1, *kept.shape[2:]).astype(float)
        if (draws == draws[0]).all():
            np.testing.assert_allclose(draws[0], truth, rtol=1e-5)  # known
            return
        self.converged(f"{place} {name}", kept)
        self.add(
            self.scores, place, name, score(straightened(name, truth), straightened(name, draws))
        )

    def converged(self, name: str, kept: xr.DataArray) -> None:
        found = float(r_hat(kept.astype(float)).max())
        self.r_hat[name] = max(found, self.r_hat.get(name, 0.0))

    def values(self, place: str, name: str, truth: np.ndarray, kept: np.ndarray) -> None:
        """Effects or values (chain, draw, number): errors, intervals."""
        draws = kept.reshape(-1, kept.shape[-1])
        mean, sd = draws.mean(axis=0), draws.std(axis=0)
        low, high = np.quantile(draws, (0.05, 0.95), axis=0)

        def error(x):
            return np.mean(((x - mean) / sd) ** 2, axis=-1)

        def inside(x):
            return np.mean((x >= low) & (x <= high), axis=-1)

        self.add(self.figures, place, f"{name}: mean square", error(truth))
        self.add(self.figures, place, f"{name}: inside 90 %", inside(truth))
        both = np.cbrt(error(truth)), np.cbrt(error(draws))
        self.add(self.scores, place, f"{name}: mean square", score(*both))
        self.add(self.scores, place, f"{name}: inside 90 %", score(inside(truth), inside(draws)))

    def slope(self, place: str, name: str, truth: np.ndarray, kept: np.ndarray) -> None:
        """Regression of true values on their estimates; kept (chain, draw, number), centred."""
        mean = kept.mean(axis=(0, 1))
        slopes = kept @ mean / (mean @ mean)
        slope = truth @ mean / (mean @ mean)
        self.converged(f"{place} {name}: slope", xr.DataArray(slopes, dims=("chain", "draw")))
        self.add(self.figures, place, f"{name}: slope", slope)
        self.add(self.scores, place, f"{name}: slope", score(slope, slopes.ravel()))

    def marker_effects(self, effects: np.ndarray, centred: np.ndarray, result) -> None:
        """Effects (node, marker), of which moments are kept; nodes are independent."""
        mean = result.moments["marker_mean"].values.astype(float)
        sd = result.moments["marker_sd"].values.astype(float)
        square = np.mean(((effects - mean) / sd) ** 2, axis=1)
        self.add(self.figures, "marker", "effects: mean square", square.mean())
        self.add(self.sums, "marker", "effects: mean square", square - 1.0)
        estimates, values = mean @ centred.T, effects @ centred.T
        size = np.sum(estimates**2, axis=1)
        errors = np.sum(estimates * (values - estimates), axis=1)
        self.add(self.figures, "marker", "values: slope", 1.0 + errors.sum() / size.sum())
        self.add(self.sums, "marker", "values: slope", errors)

    def verdicts(self, place: str | None = None) -> dict[str, float]:
        """Scores of all quantities of a place."""
        found = {key: pooled(values) for key, values in self.scores.items()}
        found |= {key: t_statistic(values) for key, values in self.sums.items()}
        return {
            f"{key[0]} {key[1]}": value for key, value in found.items() if place in (None, key[0])
        }

    def report(self) -> str:
        lines = [
            f"{place} {name}: {np.mean(values):.3f}"
            for (place, name), values in self.figures.items()
        ]
        lines += [f"score {name}: {value:.2f}" for name, value in self.verdicts().items()]
        worst = max(self.r_hat, key=self.r_hat.get)
        return "\n".join([*lines, f"R-hat {self.r_hat[worst]:.3f} of {worst}"])


def judge(tally: Tally, place: str) -> None:
    print(tally.report())
    scores = tally.verdicts(place)
    assert not {name: value for name, value in scores.items() if not abs(value) < LIMIT}
    chains = {name: value for name, value in tally.r_hat.items() if name.startswith(place)}
    assert not {name: value for name, value in chains.items() if not value < R_HAT}


def as_table(values: np.ndarray, prefix: str) -> pd.DataFrame:
    ids = pd.Index([f"i{k}" for k in range(len(values))], name="id")
    columns = [f"{prefix}{k}" for k in range(values.shape[1])]
    return pd.DataFrame(values, ids, columns).reset_index()


def checked_fit(
    rng: np.random.Generator, dataset: Dataset, network: Network, samples: int
) -> FitResult:
    """Fit in which everything is finite and every system of equations was solved."""
    seed = int(rng.integers(2**31))
    result = fit(
        dataset,
        network,
        warmup=WARMUP,
        samples=samples,
        chains=CHAINS,
        seed=seed,
        progress=False,
    )
    for name in {"non_finite", "cg_failed"} & set(result.sample_stats):
        assert int(result.sample_stats[name].sum()) == 0, name
    for group in (result.posterior, result.moments):
        for variable in group.data_vars.values():
            assert np.isfinite(variable.values).all(), variable.name
    return result


def draw_genotypes(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Dosages (individual, marker), and the same centred."""
    dosages = rng.binomial(2, rng.uniform(0.2, 0.8, MARKERS), (N, MARKERS)).astype(float)
    return dosages, dosages - dosages.mean(axis=0)


# --- every prior in every place


@cache
def recovered(row: str, base: int = 0) -> Tally:
    """All simulations of a row, its prior in all places at once."""
    tally = Tally()
    for number in range(SIMULATIONS):
        one_simulation(row, np.random.default_rng([base, list(ROWS).index(row), number]), tally)
    return tally


def one_simulation(row: str, rng: np.random.Generator, tally: Tally) -> None:
    genotypes, centred = draw_genotypes(rng)
    total, frequency = np.sum(centred.var(axis=0)), genotypes.mean(axis=0) / 2
    vanraden = float(np.sum(2.0 * frequency * (1.0 - frequency)))

    def prior(share: float, unit: float, total: float, factor: float) -> Prior:
        v = share * unit**2 / total
        return ROWS[row](v, v / unit**2, factor)

    priors = {
        "marker": prior(3.0, OMICS_UNIT, total, vanraden),
        "node": prior(3.0, TRAIT_UNIT, OMICS, OMICS),
        "skip": prior(3.0, TRAIT_UNIT, total, vanraden),
    }
    var_e = [draw_variance(rng, RESIDUAL_OMICS) for _ in range(OMICS)]
    var_y = draw_variance(rng, RESIDUAL_TRAIT)
    drawn = [draw_effects(rng, priors["marker"], MARKERS, "marker", v, vanraden) for v in var_e]
    markers = np.stack([effects for effects, _ in drawn])
    truth: Truth = {name: np.array([one[name] for _, one in drawn]) for name in drawn[0][1]}
    genetic = centred @ markers.T
    omics = 100.0 + genetic + rng.normal(size=(N, OMICS)) * np.sqrt(var_e)
    nodes, of_nodes = draw_effects(rng, priors["node"], OMICS, "node", var_y, OMICS)
    skip, of_skip = draw_effects(rng, priors["skip"], MARKERS, "skip", var_y, vanraden)
    nodes = nodes / omics.std(axis=0)  # the prior is that of standardised omics
    y = -7.0 + omics @ nodes + centred @ skip + rng.normal(size=N) * np.sqrt(var_y)
    phenotypes = as_table(y[:, None], "y")
    dataset = read_dataset(as_table(genotypes, "m"), as_table(omics, "o"), phenotypes, "y0")
    network = Network(
        marker_prior=priors["marker"],
        node_prior=priors["node"],
        skip_prior=priors["skip"],
        residual_omics=RESIDUAL_OMICS,
        residual_trait=RESIDUAL_TRAIT,
    )
    result = checked_fit(rng, dataset, network, SAMPLES)
    truth |= {"var_residual_node": np.array(var_e)}
    of_trait = {"node": of_nodes | {"var_residual_trait": var_y}, "skip": of_skip}
    judge_row(tally, result, (centred, omics), (markers, nodes, skip), {"marker": truth} | of_trait)


def judge_row(
    tally: Tally,
    result: FitResult,
    covariates: tuple[np.ndarray, np.ndarray],
    effects: tuple[np.ndarray, np.ndarray, np.ndarray],
    truth: dict[str, Truth],
) -> None:
    """Judge a fit: covariates are centred genotypes and omics, effects those of ``PLACES``."""
    (centred, omics), (markers, nodes, skip) = covariates, effects
    middle, genetic, direct = omics - omics.mean(axis=0), centred @ markers.T, centred @ skip
    realised = {
        "marker": {"var_genetic_node": genetic.var(axis=0)},
        "skip": {"var_direct": direct.var()},
    }
    for place in PLACES:
        for name, value in (truth[place] | realised.get(place, {})).items():
            tally.component(place, name, value, result)
    tally.marker_effects(markers, centred, result)
    kept = {
        name: result.posterior[name].values[..., 0].astype(float)
        for name in ("node_effect", "ebv_direct", "ebv_mediated")
    }
    tally.values("node", "effects", nodes, kept["node_effect"])
    tally.slope("node", "values", middle @ nodes, kept["node_effect"] @ middle.T)
    tally.values("skip", "effects", skip, effects_of(kept["ebv_direct"], centred))
    tally.slope("skip", "values", direct, kept["ebv_direct"])
    tally.slope("marker", "mediated", genetic @ nodes, kept["ebv_mediated"])


def effects_of(values: np.ndarray, centred: np.ndarray) -> np.ndarray:
    """Marker effects behind values (chain, draw, individual): there are fewer of them."""
    effects = values @ np.linalg.pinv(centred).T
    return np.where(np.abs(effects) < 1e-4 * effects.std(), 0.0, effects)


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("row", list(ROWS))
def test_prior(row, place):
    judge(recovered(row), place)


# --- every random term in both layers, and known residual weights


class Case(NamedTuple):
    """Random terms, the same in both layers, and what goes with them."""

    terms: tuple[Callable[[float], RandomTerm], ...]
    markers: bool = False
    repeated: bool = False
    weighted: bool = False


def pen(v: float) -> RandomTerm:
    return Group("pen", df=8.0, scale=v)


CASES = {
    "pedigree, eigen": Case((lambda v: Pedigree(df=8.0, scale=v, solver="eigen"),)),
    "pedigree, cg": Case((pen, lambda v: Pedigree(df=8.0, scale=v, solver="cg"))),
    "relationship": Case((lambda v: Relationship("K", df=8.0, scale=v),)),
    "repeated": Case((lambda v: Group("id", df=8.0, scale=v),), markers=True, repeated=True),
    "weights": Case((pen,), markers=True, weighted=True),
}
PENS, FOUNDERS, NODES = 30, 40, 15
CASE_SIMULATIONS, CASE_SAMPLES = 2, 1500  # fewer and longer: pedigree and residual mix slowly


def draw_parents(rng: np.random.Generator) -> np.ndarray:
    """Rows (animal, 2) of earlier parents, -1 for unknown; some matings are between relatives."""
    parents = np.full((N, 2), -1)
    for animal in range(FOUNDERS, N):
        parents[animal] = rng.choice(np.arange(max(0, animal - 90), animal - 5), 2, replace=False)
        parents[animal, rng.random(2) < 0.1] = -1
    return parents


def relationship(parents: np.ndarray) -> np.ndarray:
    """A by the tabular method."""
    found = np.zeros((len(parents) + 1, len(parents) + 1))  # last row and column: unknown
    for animal, (sire, dam) in enumerate(parents):
        row = (found[sire] + found[dam]) / 2.0
        found[animal], found[:, animal] = row, row
        found[animal, animal] = 1.0 + found[sire, dam] / 2.0
    return found[:-1, :-1]


@cache
def recovered_case(name: str, base: int = 0) -> Tally:
    tally = Tally()
    for number in range(CASE_SIMULATIONS):
        rng = np.random.default_rng([base, 100 + list(CASES).index(name), number])
        one_case(CASES[name], rng, tally)
    return tally


class Layer(NamedTuple):
    """A simulated layer of one response: parts of each individual, records, variances."""

    markers: np.ndarray
    polygenic: np.ndarray
    other: np.ndarray
    var_residual: float
    variances: dict[str, float]

    @property
    def value(self) -> np.ndarray:
        return self.markers + self.polygenic + self.other


def draw_layer(
    rng: np.random.Generator,
    terms: list[RandomTerm],
    roots: dict[str, np.ndarray],
    prior: Prior | None,
    centred: np.ndarray,
    residual: Residual,
) -> Layer:
    """Roots (individual, level) of the covariance of each term's values, by label."""
    parts = {True: np.zeros(N), False: np.zeros(N)}
    variances = {}
    for term in terms:
        variance = variances[term.label] = draw_variance(rng, term)
        root = roots[term.label]
        parts[term.genetic] += np.sqrt(variance) * root @ rng.normal(size=root.shape[1])
    var_residual, markers = draw_variance(rng, residual), np.zeros(N)
    if prior is not None:
        effects, _ = draw_effects(rng, prior, MARKERS, "", var_residual, 1.0)
        markers = centred @ effects
    return Layer(markers, parts[True], parts[False], var_residual, variances)


def one_case(case: Case, rng: np.random.Generator, tally: Tally) -> None:
    genotypes, centred = draw_genotypes(rng)
    parents, pens = draw_parents(rng), rng.integers(PENS, size=N)
    factor = rng.normal(size=(N, 100))
    kernel = factor @ factor.T / 100.0 + 0.05 * np.eye(N)
    roots = {
        "pen": np.eye(PENS)[pens],
        "id": np.eye(N),
        "pedigree": np.linalg.cholesky(relationship(parents)),
        "K": np.linalg.cholesky(kernel),
    }
    units = {"omics": OMICS_UNIT, "trait": TRAIT_UNIT}
    terms = {name: [term(1.5 * unit**2) for term in case.terms] for name, unit in units.items()}
    priors = {
        name: RRBLUP(df=8.0, scale=2.0 * unit**2 / np.sum(centred.var(axis=0)))
        if case.markers
        else None
        for name, unit in units.items()
    }
    # One record of the omics each: their residual is known where individuals have effects.
    residual = Residual(variance=OMICS_UNIT**2) if case.repeated else RESIDUAL_OMICS
    layers = [
        draw_layer(rng, terms["omics"], roots, priors["omics"], centred, residual)
        for _ in range(NODES)
    ]
    trait = draw_layer(rng, terms["trait"], roots, priors["trait"], centred, RESIDUAL_TRAIT)
    rows = np.repeat(np.arange(N), rng.integers(1, 5, N) if case.repeated else 1)
    weights = rng.gamma(2.0, 0.5, (N, 2)) + 0.1 if case.weighted else np.ones((N, 2))

    var_e = np.array([one.var_residual for one in layers])
    noise = rng.normal(size=(N, NODES)) * np.sqrt(var_e / weights[:, :1])
    omics = 100.0 + np.stack([one.value for one in layers], axis=1) + noise
    node_prior = RRBLUP(df=8.0, scale=2.0 * TRAIT_UNIT**2 / NODES)
    nodes, of_nodes = draw_effects(rng, node_prior, NODES, "node", trait.var_residual, 1.0)
    nodes = nodes / omics.std(axis=0)
    expected = -7.0 + omics @ nodes + trait.value
    y = expected[rows] + rng.normal(size=len(rows)) * np.sqrt(trait.var_residual / weights[rows, 1])
    if not case.markers:
        y[:FOUNDERS] = np.nan
    ids = np.array([f"i{k}" for k in range(N)])
    phenotypes = pd.DataFrame(
        {"id": ids[rows], "y": y, "pen": pens[rows], "v": weights[rows, 0], "w": weights[rows, 1]}
    )
    pedigree = pd.DataFrame(
        {
            "id": ids,
            "sire": np.append(ids, "0")[parents[:, 0]],
            "dam": np.append(ids, "0")[parents[:, 1]],
        }
    )
    matrix = pd.DataFrame(kernel, ids, ids).rename_axis("id").reset_index()
    dataset = read_dataset(
        as_table(genotypes, "m") if case.markers else None,
        as_table(omics, "o"),
        phenotypes,
        "y",
        pedigree=pedigree if "pedigree" in trait.variances else None,
        relationships={"K": matrix} if "K" in trait.variances else None,
        **({"weights": "w", "omics_weights": "v"} if case.weighted else {}),
    )
    network = Network(
        marker_prior=priors["omics"],
        node_prior=node_prior,
        skip_prior=priors["trait"],
        random_omics=terms["omics"],
        random_trait=terms["trait"],
        residual_omics=residual,
        residual_trait=RESIDUAL_TRAIT,
    )
    result = checked_fit(rng, dataset, network, CASE_SAMPLES)
    judge_case(tally, result, layers, trait, (nodes, of_nodes), expected)


def judge_case(
    tally: Tally,
    result: FitResult,
    layers: list[Layer],
    trait: Layer,
    node_effects: tuple[np.ndarray, Truth],
    expected: np.ndarray,
) -> None:
    """Judge a fit; ``expected`` are the individuals' phenotypes without residuals."""
    nodes, of_nodes = node_effects
    genetic = np.stack([one.markers + one.polygenic for one in layers], axis=1)
    of_omics: Truth = {"var_residual_node": np.array([one.var_residual for one in layers])}
    of_trait = of_nodes | {"var_residual_trait": trait.var_residual}
    if genetic.any():
        of_omics["var_genetic_node"] = genetic.var(axis=0)
    for label, value in trait.variances.items():
        of_omics[f"var_random_node_{label}"] = np.array([one.variances[label] for one in layers])
        of_trait[f"var_random_trait_{label}"] = value
    for layer, truth in (("omics", of_omics), ("trait", of_trait)):
        for name, value in truth.items():
            tally.component(layer, name, value, result)
    ids = [f"i{k}" for k in range(N)]

    def kept(name: str) -> np.ndarray:
        found = result.posterior[name].sel(individual=ids).values[..., 0].astype(float)
        return found - found.mean(axis=-1, keepdims=True)

    parts = [
        ("trait", "ebv_polygenic", trait.polygenic),
        ("trait", "ebv_direct", trait.markers),
        ("omics", "ebv_mediated", genetic @ nodes),
    ]
    for layer, name, value in parts:
        if value.any():
            tally.values(layer, name, value - value.mean(), kept(name))
            tally.slope(layer, name, value - value.mean(), kept(name))
    means = result.posterior["y_mean"].sel(individual=ids).values[..., 0].astype(float)
    tally.values("trait", "y_mean", expected, means)


@pytest.mark.parametrize("layer", ["omics", "trait"])
@pytest.mark.parametrize("case", list(CASES))
def test_random_terms(case, layer):
    judge(recovered_case(case), layer)
