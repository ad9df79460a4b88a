"""The three experiments of the NN-MM paper, ours beside the published accuracies.

Zhao, Zeng & Cheng 2022, GENETICS 221(1), iyac034, figures 4 to 6; the script that ran them is
github.com/zhaotianjing/NN-MM. Everything is judged in the individuals without phenotype, the
youngest, whose omics are measured, by the correlation of estimated and true breeding values.
"""

import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from nnmm_jax.data.align import Dataset, read_dataset
from nnmm_jax.data.files import find_dataset_files
from nnmm_jax.errors import InputError
from nnmm_jax.network.priors import GBLUP, RRBLUP, Prior, Residual
from nnmm_jax.network.spec import Network
from nnmm_jax.posterior import arviz_compat
from nnmm_jax.reports.agreement import correlation, slope
from nnmm_jax.reports.missing_patterns import CELLS, WHOLE, Scenario, missing_cells
from nnmm_jax.reports.paper_data import (
    H2_OMICS,
    RELATIONSHIP,
    SHARE_MEDIATED,
    VAR_GENETIC,
    VAR_NODE_EFFECT,
    VAR_RESIDUAL,
    PaperData,
    PaperSettings,
    simulate_paper,
)
from nnmm_jax.reports.paper_published import MODELS, SHARES, Chains
from nnmm_jax.reports.single_step import single_step

TRUE_EBV = "bv_true"  # column of the paper's own data
FITS = ("experiment", "missing", "replicate", "model", "accuracy", "slope", "ess", "seconds")


def first_experiment(
    settings: PaperSettings,
    shares: Sequence[int] = SHARES,
    *,
    replicates: int,
    chains: Chains,
    seed: int,
    known_variances: bool = True,
) -> Iterator[dict[str, Any]]:
    """NN-GBLUP against the single-step approach, by share of training individuals without omics.

    Parameters
    ----------
    settings : PaperSettings
        Replicate r is simulated with the seed ``seed + r - 1``; the paper's 20 replicates are
        missing patterns of one data set.
    shares : sequence of int
        Percent. The holes of a replicate are nested.
    replicates : int
    chains : Chains
    seed : int
    known_variances : bool
        Whether the network gets the true variances, as in the paper, or estimates them. The
        single-step approach always has the true ones.

    Yields
    ------
    dict
        A row of :data:`FITS` for each fit.
    """
    for replicate, data in _data_sets(settings, replicates, seed):
        for share in shares:
            missing = _missing(
                Scenario(WHOLE, share, 0), data.test, settings.omics, seed, replicate
            )
            dataset = data.dataset.mask(omics=missing)
            about = {"experiment": 1, "missing": f"{share}%", "replicate": replicate}
            network = _gblup_network("linear", data if known_variances else None)
            scores = _network_scores(
                dataset, network, data.ebv, data.test, chains, [seed, 1, replicate, share]
            )
            yield {**about, "model": MODELS[1][0], **scores}
            yield {**about, "model": MODELS[1][1], **_single_step_scores(dataset, data)}


def second_experiment(
    settings: PaperSettings, *, replicates: int, chains: Chains, seed: int
) -> Iterator[dict[str, Any]]:
    """Sigmoid truth: a sigmoid against a linear network, half of the omics missing.

    First half of the training individuals lack all omics, then half of their cells are empty.
    Variances are estimated.

    Parameters
    ----------
    settings : PaperSettings
        With the true activation, sigmoid.
    replicates, chains, seed
        As in :func:`first_experiment`.

    Yields
    ------
    dict
        A row of :data:`FITS` for each fit.
    """
    patterns = {"50%": Scenario(WHOLE, 50, 0), "50% of cells": Scenario(CELLS, 0, 0)}
    for replicate, data in _data_sets(settings, replicates, seed):
        for number, (name, scenario) in enumerate(patterns.items()):
            missing = _missing(scenario, data.test, settings.omics, seed, replicate)
            dataset = data.dataset.mask(omics=missing)
            for model in MODELS[2]:
                scores = _network_scores(
                    dataset,
                    _gblup_network(model),
                    data.ebv,
                    data.test,
                    chains,
                    [seed, 2, replicate, number],
                )
                about = {"experiment": 2, "missing": name, "replicate": replicate}
                yield {**about, "model": model, **scores}


def third_experiment(
    dataset: Dataset, *, test: int = 100, patterns: int, chains: Chains, seed: int
) -> Iterator[dict[str, Any]]:
    """Few causal markers: BayesC against GBLUP priors of marker effects, linear networks.

    The last individuals have no phenotype, and half of the others, drawn anew for every pattern,
    no omics. Variances, and the share of zero effects of BayesC, are estimated with the default
    priors.

    Parameters
    ----------
    dataset : Dataset
        Of :func:`read_paper_data`.
    test : int
        Number of the last individuals, in the order of the genotypes.
    patterns, chains, seed
        Missing patterns, which are the replicates; the rest as in :func:`first_experiment`.

    Yields
    ------
    dict
        A row of :data:`FITS` for each fit.

    Raises
    ------
    InputError
        If fewer than 20 individuals are left to learn from.
    """
    count = len(dataset.ids)
    if not 3 <= test <= count - 20:
        raise InputError(f"test must lie in 3..{count - 20} for {count} individuals, got {test}")
    last = np.arange(count) >= count - test
    true = dataset.covariates[TRUE_EBV].to_numpy(dtype=float)
    priors = dict(zip(MODELS[3], ("BayesC", "GBLUP"), strict=True))
    for pattern in range(1, patterns + 1):
        missing = _missing(Scenario(WHOLE, 50, 0), last, dataset.omics.shape[1], seed, pattern)
        masked = dataset.mask(omics=missing, phenotype=last)
        for model, prior in priors.items():
            network = Network(marker_prior=prior)
            scores = _network_scores(masked, network, true, last, chains, [seed, 3, pattern])
            about = {"experiment": 3, "missing": "50%", "replicate": pattern}
            yield {**about, "model": model, **scores}


def read_paper_data(folder: Path) -> Dataset:
    """Read the paper's own data set of the third experiment.

    Parameters
    ----------
    folder : path
        With genotypes.*, omics.* and phenotypes.*; the phenotypes y and the true breeding values
        bv_true are in the latter.

    Raises
    ------
    InputError
        If a table or a column is not there, or a true breeding value is missing.
    """
    files = find_dataset_files(folder)
    phenotypes = files["phenotypes"]
    if files["omics"] is None or phenotypes is None:
        raise InputError(f"data {folder}: expected genotypes, omics and phenotypes, found no omics")
    dataset = read_dataset(files["genotypes"], files["omics"], phenotypes, "y")
    true = dataset.covariates.get(TRUE_EBV)
    if true is None or pd.to_numeric(true, errors="coerce").isna().any():
        raise InputError(
            f"{phenotypes}: expected a column {TRUE_EBV} with a number for every individual; "
            "give the data set of the paper's third experiment"
        )
    return dataset


def _data_sets(
    settings: PaperSettings, replicates: int, seed: int
) -> Iterator[tuple[int, PaperData]]:
    for replicate in range(1, replicates + 1):
        yield replicate, simulate_paper(settings, seed + replicate - 1)


def _missing(
    scenario: Scenario, test: np.ndarray, omics: int, seed: int, replicate: int
) -> np.ndarray:
    """Missing cells, and never a column without values."""
    missing = missing_cells(scenario, test, omics, seed + replicate - 1)
    if (~missing).sum(axis=0).min() < 2:
        raise InputError("expected two values in every column of omics; use more individuals")
    return missing


def _gblup_network(activation: str, data: PaperData | None = None) -> Network:
    """NN-GBLUP, with the true variances of data that are given."""
    # The omics in their own units: the sigmoid of the truth is one of these.
    prior: Prior = GBLUP(relationship=RELATIONSHIP)
    if data is None:
        return Network(activation=activation, standardize=False, marker_prior=prior)
    return Network(
        activation=activation,
        standardize=False,
        marker_prior=GBLUP(relationship=RELATIONSHIP, variance=VAR_GENETIC),
        residual_omics=Residual(variance=VAR_RESIDUAL),
        node_prior=RRBLUP(variance=VAR_NODE_EFFECT),
        residual_trait=Residual(variance=data.var_residual),
    )


def _network_scores(
    dataset: Dataset,
    network: Network,
    true: np.ndarray,
    test: np.ndarray,
    chains: Chains,
    seeds: list[int],
) -> dict[str, float]:
    from nnmm_jax.api import fit

    seed = int(np.random.SeedSequence(seeds).generate_state(1)[0] >> 1)
    result = fit(
        dataset,
        network,
        warmup=chains.warmup,
        samples=chains.samples,
        chains=chains.chains,
        seed=seed,
        progress=False,
    )
    estimated = result.breeding_values()["ebv"].to_numpy(dtype=float)
    h2 = result.posterior["h2_trait"].squeeze("trait").astype(float)
    return {
        **_scores(true[test], estimated[test]),
        "ess": float(arviz_compat.ess_bulk(h2)),
        "seconds": sum(result.run["seconds"].values()),
    }


def _single_step_scores(dataset: Dataset, data: PaperData) -> dict[str, float]:
    began = time.perf_counter()
    found = single_step(
        dataset.phenotype,
        dataset.omics,
        data.relationship,
        h2_omics=H2_OMICS,
        share_omics=SHARE_MEDIATED,
    )
    seconds = time.perf_counter() - began
    scores = _scores(data.ebv[data.test], found.ebv[data.test])
    return {**scores, "ess": float("nan"), "seconds": seconds}


def _scores(true: np.ndarray, estimated: np.ndarray) -> dict[str, float]:
    return {"accuracy": correlation(true, estimated), "slope": slope(true, estimated)}
