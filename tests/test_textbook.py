"""Mixed models of a textbook with known variances: posterior means are BLUP, variances are PEV.

Mrode, Linear Models for the Prediction of Animal Breeding Values, examples 3.1 and 4.1. Henderson's
equations are solved here, with nothing of the package. Every comparison is a z-score on the Monte
Carlo error from ArviZ's ESS. With the limit of 4.5 and about 150 scores in this file, a right
sampler fails with probability below 0.002.
"""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from nnmm_jax import Group, Network, Pedigree, Relationship, Residual, fit, read_dataset
from nnmm_jax.data import read_relationship
from nnmm_jax.posterior.arviz_compat import ess_bulk

LIMIT = 4.5

CALVES = [  # animal, sire, dam, sex, pre-weaning gain in kg
    ("1", None, None, None, None),
    ("2", None, None, None, None),
    ("3", None, None, None, None),
    ("4", "1", None, "male", 4.5),
    ("5", "3", "2", "female", 2.9),
    ("6", "1", "2", "female", 3.9),
    ("7", "4", "5", "male", 3.5),
    ("8", "3", "6", "male", 5.0),
]
CALVES_BLUP = [0.098, -0.019, -0.041, -0.009, -0.186, 0.177, -0.249, 0.183]
CALVES_SEX = {"female": 3.404, "male": 4.358}

COWS = [  # animal, sire, dam
    ("1", None, None),
    ("2", None, None),
    ("3", None, None),
    ("4", "1", "2"),
    ("5", "3", "2"),
    ("6", "1", "5"),
    ("7", "3", "4"),
    ("8", "1", "7"),
]
FAT = [  # animal, herd-year-season (1 and 2 in the first parity, 3 and 4 in the second), fat in kg
    ("4", "1", 201.0),
    ("4", "3", 280.0),
    ("5", "1", 150.0),
    ("5", "4", 200.0),
    ("6", "2", 160.0),
    ("6", "3", 190.0),
    ("7", "1", 180.0),
    ("7", "3", 250.0),
    ("8", "2", 285.0),
    ("8", "4", 300.0),
]
COWS_BLUP = [10.148, -3.084, -7.063, 13.581, -18.207, -18.387, 9.328, 24.194]
COWS_PERMANENT = [8.417, -7.146, -17.229, -1.390, 17.347]


def relationship(animals):
    """Additive relationships by the tabular method; parents come first."""
    rows = {name: row for row, (name, *_) in enumerate(animals)}
    matrix = np.zeros((len(animals), len(animals)))
    for i, (_, sire, dam, *_) in enumerate(animals):
        parents = [rows[name] for name in (sire, dam) if name is not None]
        for j in range(i):
            matrix[i, j] = matrix[j, i] = 0.5 * sum(matrix[j, parent] for parent in parents)
        matrix[i, i] = 1.0 + (0.5 * matrix[tuple(parents)] if len(parents) == 2 else 0.0)
    return matrix


@dataclass
class Solution:
    """Solutions of Henderson's equations, the inverse of their left side, and whose are which."""

    mean: np.ndarray
    inverse: np.ndarray
    parts: list[slice]

    def of(self, part):
        """Means and (co)variances of one set: 0 for the fixed effects, then the random ones."""
        return self.mean[self.parts[part]], self.inverse[self.parts[part], self.parts[part]]


def henderson(y, design, effects, residual):
    """Solve with ``effects`` a list of (incidence, covariance), ``residual`` a vector."""
    everything = np.hstack([design, *(incidence for incidence, _ in effects)])
    left = everything.T @ (everything / residual[:, None])
    edges = np.cumsum([0, design.shape[1], *(len(covariance) for _, covariance in effects)])
    parts = [slice(start, end) for start, end in pairwise(edges)]
    for (_, covariance), part in zip(effects, parts[1:], strict=True):
        left[part, part] += np.linalg.inv(covariance)
    inverse = np.linalg.inv(left)
    return Solution(inverse @ (everything.T @ (y / residual)), inverse, parts)


def incidence(names, levels):
    return (np.asarray(names)[:, None] == np.asarray(levels)).astype(float)


def assert_posterior(draws, mean, covariance, transform=None):
    """Means and variances of draws (chain, draw, effect) of ``transform @ effects``."""
    transform = np.eye(len(mean)) if transform is None else transform
    mean, variance = transform @ mean, np.diag(transform @ covariance @ transform.T)
    draws = np.asarray(draws, dtype=float)
    for values, expected in ((draws, mean), ((draws - mean) ** 2, variance)):
        ess = ess_bulk(xr.DataArray(values, dims=("chain", "draw", "effect"))).values
        scores = (values.mean((0, 1)) - expected) / (values.std((0, 1)) / np.sqrt(ess))
        assert np.abs(scores).max() < LIMIT, scores  # fails on NaN too


def centred(size):
    """Takes the mean off: breeding values are reported about that of all individuals."""
    return np.eye(size) - 1.0 / size


def sampled(dataset, network, seed):
    result = fit(dataset, network, warmup=100, samples=3000, chains=2, seed=seed, progress=False)
    return result.posterior.squeeze("trait").transpose("chain", "draw", ...)


@pytest.fixture(scope="module")
def calves():
    table = pd.DataFrame(CALVES, columns=["id", "sire", "dam", "sex", "gain"])
    return table[["id", "sire", "dam"]], table[["id", "sex", "gain"]].dropna()


def calves_solution(records, weights=None):
    animals = [name for name, *_ in CALVES]
    design = incidence(records["sex"], ["female", "male"])
    genetic = (incidence(records["id"], animals), 20.0 * relationship(CALVES))
    residual = np.full(len(records), 40.0)
    if weights is not None:
        residual = residual / weights
    return henderson(records["gain"].to_numpy(), design, [genetic], residual)


def assert_calves(posterior, solution):
    females_and_males = np.array([[1.0, 0.0], [1.0, 1.0]])
    terms = posterior["fixed_trait"]
    assert list(terms["term_trait"].values) == ["Intercept", "sex[T.male]"]
    assert_posterior(terms.values @ females_and_males.T, *solution.of(0))
    breeding = posterior["ebv_polygenic"].sel(individual=[name for name, *_ in CALVES])
    assert_posterior(breeding, *solution.of(1), centred(8))


@pytest.mark.parametrize("solver", ["eigen", "cg"])
def test_animal_model__is_blup(calves, solver):
    pedigree, records = calves
    solution = calves_solution(records)
    np.testing.assert_allclose(solution.of(0)[0], list(CALVES_SEX.values()), atol=1e-3)
    np.testing.assert_allclose(solution.of(1)[0], CALVES_BLUP, atol=1e-3)
    dataset = read_dataset(None, None, records, "gain", pedigree=pedigree)
    network = Network(
        marker_prior=None,
        fixed_trait="~ sex",
        random_trait=[Pedigree(variance=20.0, solver=solver)],
        residual_trait=Residual(variance=40.0),
    )
    assert_calves(sampled(dataset, network, seed=1), solution)


@pytest.mark.parametrize("term", ["pedigree", "inverse"])
def test_animal_model__takes_residual_weights(calves, term):
    """With the pedigree, and with its relationship matrix given as the inverse."""
    pedigree, records = calves
    weights = np.array([1.0, 4.0, 0.5, 9.0, 2.0])
    records = records.assign(weight=weights)
    if term == "pedigree":
        sources, random = {"pedigree": pedigree}, Pedigree(variance=20.0, solver="cg")
    else:
        ids = pedigree["id"]
        inverse = pd.DataFrame(np.linalg.inv(relationship(CALVES)), ids, list(ids))
        matrix = read_relationship(inverse, inverse=True, name="herd book")
        sources = {"relationships": {"herd book": matrix}}
        random = Relationship("herd book", variance=20.0)
    dataset = read_dataset(None, None, records, "gain", weights="weight", **sources)
    network = Network(
        marker_prior=None,
        fixed_trait="~ sex",
        random_trait=[random],
        residual_trait=Residual(variance=40.0),
    )
    assert_calves(sampled(dataset, network, seed=2), calves_solution(records, weights))


def test_repeatability_model__is_blup():
    """Repeated records: the cow's permanent environment beside its breeding value."""
    records = pd.DataFrame(FAT, columns=["id", "season", "fat"])
    animals, recorded = [name for name, *_ in COWS], sorted(set(records["id"]))
    of_season = incidence(records["season"], ["1", "2", "3", "4"])
    solution = henderson(
        records["fat"].to_numpy(),
        of_season,
        [
            (incidence(records["id"], animals), 20.0 * relationship(COWS)),
            (incidence(records["id"], recorded), 12.0 * np.eye(5)),
        ],
        np.full(len(records), 28.0),
    )
    np.testing.assert_allclose(solution.of(1)[0], COWS_BLUP, atol=1e-3)
    np.testing.assert_allclose(solution.of(2)[0], COWS_PERMANENT, atol=1e-3)
    pedigree = pd.DataFrame(COWS, columns=["id", "sire", "dam"])
    dataset = read_dataset(None, None, records, "fat", pedigree=pedigree)
    network = Network(
        marker_prior=None,
        fixed_trait="~ season",
        random_trait=[Pedigree(variance=20.0, solver="cg"), Group("id", variance=12.0)],
        residual_trait=Residual(variance=28.0),
    )
    posterior = sampled(dataset, network, seed=3)
    assert posterior.sizes["individual"] == len(animals)
    seasons = np.column_stack([np.ones(4), np.eye(4)[:, 1:]])
    fixed = posterior["fixed_trait"].values @ seasons.T
    assert_posterior(fixed, *solution.of(0))
    breeding = posterior["ebv_polygenic"].sel(individual=animals)
    assert_posterior(breeding, *solution.of(1), centred(8))
    # An individual's mean without the seasons of its two records is the sum of both its effects.
    half = 0.5 * incidence(records["id"], recorded).T @ of_season
    left = posterior["y_mean"].sel(individual=recorded).values - fixed @ half.T
    both = np.hstack([np.zeros((5, 4)), incidence(recorded, animals), np.eye(5)])
    assert_posterior(left, solution.mean, solution.inverse, both)
