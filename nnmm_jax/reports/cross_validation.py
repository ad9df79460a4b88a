"""Cross-validation of one network: hide phenotypes, fit, compare predictions with them."""

import json
import secrets
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from nnmm_jax.data.align import Dataset
from nnmm_jax.errors import InputError
from nnmm_jax.folders import new_folder
from nnmm_jax.inference.run_settings import RunSettings
from nnmm_jax.network.activations import Activation
from nnmm_jax.network.spec import Network
from nnmm_jax.posterior.result import FitResult
from nnmm_jax.reports.folds import Fold, Labels, make_folds
from nnmm_jax.reports.predictive_scores import MEASURES, fold_scores, score_individuals

FILES = ("summary.csv", "folds.csv", "individuals.csv", "run.json", "cross_validation.png")


@dataclass(frozen=True, eq=False)
class CrossValidation:
    """What a cross-validation found.

    Attributes
    ----------
    folds : pandas.DataFrame
        A row a fit: repeat, fold, individuals (scored), hidden, the scores of
        :func:`~nnmm_jax.reports.predictive_scores.fold_scores`; r_hat (largest) and ess (smallest)
        of the fit's identified quantities, converged, warning (empty when nothing is wrong);
        seconds, and compilation, the part of them that compiling took.
    individuals : pandas.DataFrame
        A row for every prediction: repeat, fold, and the columns of
        :func:`~nnmm_jax.reports.predictive_scores.score_individuals`.
    run : dict
        How it was done: folds, repeats, by, hide_omics, and the settings of the fits.

    Examples
    --------
    >>> import nnmm_jax as nm
    >>> sizes = nm.SimulationSettings(individuals=60, markers=80, omics=3)
    >>> data = nm.simulate(sizes, seed=1).dataset()
    >>> short = {"warmup": 20, "samples": 20, "chains": 2, "progress": False}
    >>> found = nm.cross_validate(data, folds=3, seed=1, **short)
    >>> len(found.individuals), found.summary().index.tolist()[:2]
    (48, ['correlation', 'slope'])
    """

    folds: pd.DataFrame
    individuals: pd.DataFrame
    run: dict[str, Any]

    def summary(self) -> pd.DataFrame:
        """Mean of every score over folds.

        Returns
        -------
        pandas.DataFrame
            Index measure; mean; se, the standard deviation over folds divided by the root of their
            number; folds, in how many it is defined. Folds share most of their training data,
            and repeats all data, so that se says how much the split matters, not how another
            population would do.
        """
        scores = self.folds[list(MEASURES)]
        count = scores.notna().sum()
        found = pd.DataFrame(
            {"mean": scores.mean(), "se": scores.std() / np.sqrt(count), "folds": count}
        )
        return found.rename_axis("measure")

    @property
    def convergence_warning(self) -> str | None:
        """One line on the fits that have not converged, ``None`` where all have."""
        bad = self.folds[~self.folds["converged"]]
        if bad.empty:
            return None
        first = bad.iloc[0]
        return (
            f"{len(bad)} of {len(self.folds)} fits have not converged: largest R-hat "
            f"{self.folds['r_hat'].max():.3f}, smallest ESS {self.folds['ess'].min():.0f}; the "
            f"first, fold {first['fold']}: {first['warning']}"
        )

    def __str__(self) -> str:
        """Tables of scores and folds, and one line on convergence."""
        shown = ["repeat", "fold", "individuals", *MEASURES, "r_hat", "ess", "converged", "seconds"]
        table = self.summary().to_string(float_format="{:.3f}".format)
        folds = self.folds[shown].to_string(index=False, float_format="{:.3f}".format)
        good = int(self.folds["converged"].sum())
        line = self.convergence_warning or f"all {good} fits have converged"
        return f"{table}\n\n{folds}\n\n{line}"

    def write(self, folder: str | Path, *, overwrite: bool = False) -> None:
        """Write the tables, the settings and a figure into a new folder.

        Raises
        ------
        InputError
            If the folder exists and ``overwrite`` is false, or cannot be written.
        """
        # matplotlib takes a second that other calls need not wait for.
        from nnmm_jax.reports.prediction_plots import cross_validation

        tables = (self.summary().reset_index(), self.folds, self.individuals)
        with new_folder(folder, owned=FILES.__contains__, overwrite=overwrite) as temporary:
            for name, table in zip(FILES[:3], tables, strict=True):
                table.to_csv(temporary / name, index=False, float_format="%.7g")
            (temporary / FILES[3]).write_text(json.dumps(self.run, indent=2) + "\n", "utf-8")
            cross_validation(self).savefig(temporary / FILES[4], dpi=130)


def cross_validate(
    dataset: Dataset,
    network: Network | None = None,
    *,
    folds: int | None = None,
    by: Labels = None,
    repeats: int = 1,
    hide_omics: bool = False,
    warmup: int = 1000,
    samples: int = 1000,
    chains: int = 4,
    seed: int | None = None,
    progress: bool = True,
    sampler: str = "hmc",
    until_ess: float | None = None,
    max_samples: int | None = None,
) -> CrossValidation:
    """K-fold cross-validation: how well a network predicts phenotypes that it has not seen.

    The phenotypes of one fold after the other are hidden, the network is fitted to the rest, and
    its predictions are compared with what was hidden. Random folds all have the same shapes (see
    :func:`~nnmm_jax.reports.folds.random_folds`), so that the first fit compiles for all; folds by
    label have sizes of their own, and each new size is compiled. Folds are fitted one after the
    other: chains share the genotypes of the phenotyped individuals, which differ between folds, so
    that folds as further chains would multiply the largest arrays by their number.

    Parameters
    ----------
    dataset : Dataset
        Joined tables, see :func:`nnmm_jax.read_dataset`.
    network : Network or None
        As in :func:`nnmm_jax.fit`.
    folds : int or None
        Number of folds. ``None``: 5; with ``by``, every label is a fold.
    by : str, mapping, Series, DataFrame or array, optional
        Individuals with the same label are hidden together: a column of the phenotypes such as a
        generation; ``"family"``, which without such a column is sire and dam of the pedigree; or
        labels, see :func:`~nnmm_jax.reports.folds.labels_of`. Individuals without a label are
        never hidden.
    repeats : int
        How often to divide the data anew.
    hide_omics : bool
        Whether the omics of a fold are hidden too, so that genotypes alone predict.
    warmup, samples, chains, sampler, until_ess, max_samples
        As in :func:`nnmm_jax.fit`, of every fold.
    seed : int or None
        Of folds and samplers; ``None``: drawn, and kept in ``run``.
    progress : bool
        Show a progress bar over the fits.

    Returns
    -------
    CrossValidation
        Tables by fold and by individual; prints as a summary.

    Raises
    ------
    InputError
        If settings, network and data do not fit together, or folds cannot be made: more folds than
        individuals with a phenotype, a fold without phenotype, an unknown column.

    Examples
    --------
    >>> import nnmm_jax as nm
    >>> data = nm.read_dataset("g.csv", "o.csv", "p.csv", "y")  # doctest: +SKIP
    >>> print(nm.cross_validate(data, by="generation", seed=1))  # doctest: +SKIP
    """
    network = Network() if network is None else network
    seed = secrets.randbelow(2**31) if seed is None else seed
    settings = RunSettings(warmup, samples, chains, seed, False, sampler, until_ess, max_samples)
    divided = make_folds(dataset, folds, by, repeats=repeats, seed=seed)
    if hide_omics and dataset.omics.shape[1] == 0:
        raise InputError("hide_omics: expected omics to hide, found none; leave it out")
    # Loaded here, for folds and scores have no need of JAX.
    from nnmm_jax.inference.build_nodes import middle_layer, resolve_activation

    activation = resolve_activation(network, middle_layer(dataset, network))
    tables, rows = [], []
    with tqdm(divided, disable=not progress, unit="fit") as bar:
        for number, fold in enumerate(bar):
            bar.set_description(f"fold {fold.name}, repeat {fold.repeat}", refresh=True)
            began = time.perf_counter()
            masked = _masked(dataset, fold, hide_omics)
            result = _fit_fold(masked, network, settings, fold, number, activation)
            scored = score_individuals(result, dataset, fold.scored, seed=seed)
            scored.insert(0, "fold", fold.name)
            scored.insert(0, "repeat", fold.repeat)
            tables.append(scored)
            rows.append(_row(result, fold, scored, time.perf_counter() - began))
    run = {
        "folds": len(divided) // repeats,
        "repeats": repeats,
        "by": by if by is None or isinstance(by, str) else "labels",
        "hide_omics": hide_omics,
        "settings": result.run["settings"] | {"seed": int(seed)},
    }
    return CrossValidation(pd.DataFrame(rows), pd.concat(tables, ignore_index=True), run)


def _masked(dataset: Dataset, fold: Fold, hide_omics: bool) -> Dataset:
    try:
        return dataset.mask(phenotype=fold.hidden, omics=fold.hidden if hide_omics else None)
    except InputError as error:
        raise InputError(f"fold {fold.name}: {error}") from error


def _fit_fold(
    masked: Dataset,
    network: Network,
    settings: RunSettings,
    fold: Fold,
    number: int,
    activation: Activation,
) -> FitResult:
    from nnmm_jax.api import fit_prepared

    own = np.random.SeedSequence([settings.seed, number]).generate_state(1)[0] >> 1
    settings = replace(settings, seed=int(own))
    try:
        return fit_prepared(masked, network, settings, activation, plan_first=number == 0)
    except InputError as error:
        raise InputError(f"fold {fold.name}: {error}") from error


def _row(
    result: FitResult, fold: Fold, scored: pd.DataFrame, seconds: float
) -> dict[str, float | str | bool]:
    table = result.diagnostics()
    warning = result.convergence_warning
    return {
        "repeat": fold.repeat,
        "fold": fold.name,
        "individuals": len(scored),
        "hidden": int(fold.hidden.sum()),
        **fold_scores(scored),
        "r_hat": float(table["r_hat"].max()),
        "ess": float(table[["ess_bulk", "ess_tail"]].min().min()),
        "converged": warning is None,
        "warning": warning or "",
        "seconds": round(seconds, 3),
        "compilation": result.run["seconds"]["compilation"],
    }
