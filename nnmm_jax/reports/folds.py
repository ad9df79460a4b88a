"""Folds of a cross-validation: whose phenotypes are hidden together."""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import pandas as pd

from nnmm_jax.data.align import Dataset
from nnmm_jax.errors import InputError, shortlist

FAMILY = "family"
Labels: TypeAlias = str | Mapping[str, Hashable] | pd.Series | pd.DataFrame | np.ndarray | None


@dataclass(frozen=True, eq=False)
class Fold:
    """Individuals whose phenotypes are hidden together.

    Attributes
    ----------
    repeat : int
        Counted from 1.
    name : str
        Number or label.
    hidden : (individual,) bool
    scored : (individual,) bool
        Whose predictions are compared with the hidden phenotypes: all that are hidden but for at
        most one in each stratum, which evens out sizes, see :func:`random_folds`.
    """

    repeat: int
    name: str
    hidden: np.ndarray
    scored: np.ndarray


def make_folds(
    dataset: Dataset, folds: int | None = None, by: Labels = None, *, repeats: int = 1, seed: int
) -> list[Fold]:
    """Divide the individuals with a phenotype into folds.

    Parameters
    ----------
    dataset : Dataset
    folds : int or None
        Their number. ``None``: 5 without ``by``; with it every label is a fold.
    by : str, array, Series, DataFrame or mapping, optional
        What keeps individuals together, see :func:`labels_of`.
    repeats : int
        How often to divide anew; 1 where labels are the folds.
    seed : int

    Returns
    -------
    list of Fold
        In each repeat every phenotyped individual with a label is scored once.

    Raises
    ------
    InputError
        If there are fewer than 2 folds, more than individuals or labels to fill them, or a label
        without a phenotype.

    Examples
    --------
    >>> import nnmm_jax as nm
    >>> from nnmm_jax.reports.folds import make_folds
    >>> sizes = nm.SimulationSettings(individuals=50, markers=60, omics=3)
    >>> data = nm.simulate(sizes, seed=1).dataset()
    >>> [int(fold.scored.sum()) for fold in make_folds(data, 4, seed=1)]
    [10, 10, 10, 10]
    """
    counts = {
        "folds": (2 if folds is None else folds, 2),
        "repeats": (repeats, 1),
        "seed": (seed, 0),
    }
    for name, (value, least) in counts.items():
        if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < least:
            raise InputError(
                f"{name}: expected a whole number of at least {least}, found {value!r}"
            )
    records = records_by_individual(dataset)
    if by is None:
        strata = _strata(dataset, records)
        return random_folds(strata, 5 if folds is None else folds, repeats=repeats, seed=seed)
    labels = labels_of(dataset, by)
    if folds is None and repeats > 1:
        raise InputError(
            f"repeats: expected 1 where every label is a fold, found {repeats}; give folds too"
        )
    return _labelled_folds(labels, records > 0, folds, repeats=repeats, seed=seed)


def records_by_individual(dataset: Dataset) -> np.ndarray:
    """Number (individual,) of observed phenotype records."""
    seen = dataset.record_rows[~np.isnan(dataset.phenotype)]
    return np.bincount(seen, minlength=len(dataset.ids))


def _strata(dataset: Dataset, records: np.ndarray) -> np.ndarray:
    """Number (individual,) of a stratum, -1 without phenotype.

    Individuals are alike in the shapes of a model's arrays if they have as many records and are
    alike in having all omics, some or none.
    """
    measured = ~np.isnan(dataset.omics)
    omics = measured.any(axis=1).astype(int) + measured.all(axis=1)
    _, numbers = np.unique(np.stack([records, omics]), axis=1, return_inverse=True)
    return np.where(records > 0, numbers, -1)


def random_folds(strata: np.ndarray, folds: int, *, repeats: int, seed: int) -> list[Fold]:
    """Divide individuals at random, so that all folds hide the same number of each stratum.

    A fit to one fold then has the shapes of a fit to another and finds its program compiled. Where
    a stratum does not divide evenly, some folds hide one individual more than they score, taken
    at random from the others.

    Parameters
    ----------
    strata : (individual,) int
        -1 for individuals that are not to be divided.
    folds, repeats, seed : int
        A repeat's folds depend on the seed and the repeat alone.
    """
    n = int((strata >= 0).sum())
    if folds > n:
        raise InputError(
            f"folds: expected at most {n}, the number of individuals with a phenotype, found "
            f"{folds}; choose fewer"
        )
    found = []
    for repeat in range(1, repeats + 1):
        random = np.random.default_rng([seed, repeat])
        scored, hidden = np.zeros((2, folds, len(strata)), dtype=bool)
        first = 0
        for stratum in np.unique(strata[strata >= 0]):
            members = random.permutation(np.flatnonzero(strata == stratum))
            # Each stratum goes on where the last one stopped, so that totals are even too.
            fold_of = (first + np.arange(len(members))) % folds
            first = (first + len(members)) % folds
            scored[fold_of, members] = True
            wanted = -(-len(members) // folds)
            for fold in range(folds):
                own, others = members[fold_of == fold], members[fold_of != fold]
                hidden[fold, own] = True
                if len(own) < wanted < len(members):
                    hidden[fold, random.choice(others, wanted - len(own), replace=False)] = True
        found += [
            Fold(repeat, str(number), hidden[number - 1], scored[number - 1])
            for number in range(1, folds + 1)
        ]
    return found


def _labelled_folds(
    labels: np.ndarray, phenotyped: np.ndarray, folds: int | None, *, repeats: int, seed: int
) -> list[Fold]:
    """Folds of whole labels: every label one, or labels given out to so many folds."""
    known = labels != ""
    names, numbers = np.unique(labels[known], return_inverse=True)
    code = np.full(len(labels), -1)
    code[known] = numbers
    sizes = np.bincount(code[known & phenotyped], minlength=len(names))
    if empty := [name for name, size in zip(names, sizes, strict=True) if not size and not folds]:
        raise InputError(
            f"folds: expected a phenotype in every fold, found none in {shortlist(empty)}; leave "
            "these labels empty, or give folds, which puts labels together"
        )
    used = np.flatnonzero(sizes)
    if len(used) < (folds or 2):
        raise InputError(
            f"folds: expected at least {folds or 2} labels with a phenotype, found {len(used)}: "
            f"{shortlist(names[used])}; choose fewer folds or other labels"
        )
    if folds is None:
        if all(name.isdecimal() for name in names):
            used = used[np.argsort([int(names[one]) for one in used], kind="stable")]
        return [Fold(1, str(names[one]), *[(code == one) & phenotyped] * 2) for one in used]
    found = []
    for repeat in range(1, repeats + 1):
        random = np.random.default_rng([seed, repeat])
        shuffled = random.permutation(used)
        load, fold_of = np.zeros(folds), np.full(len(names), -1)
        for label in shuffled[np.argsort(-sizes[shuffled], kind="stable")]:
            fold_of[label] = np.argmin(load)
            load[fold_of[label]] += sizes[label]
        belongs = np.where(known & phenotyped, fold_of[code], -1)
        found += [Fold(repeat, str(k + 1), *[belongs == k] * 2) for k in range(folds)]
    return found


def labels_of(dataset: Dataset, by: Labels) -> np.ndarray:
    """Labels (individual,) as text, empty where there is none.

    Parameters
    ----------
    dataset : Dataset
    by : str, mapping, Series, DataFrame or array
        A column of the phenotypes (a generation, a site, a number of a fold); ``"family"``, which
        without such a column is sire and dam of the pedigree, individuals without both being
        families of their own; a mapping, a Series or a table of id and label; or an array, one
        label for each individual of the data set.

    Raises
    ------
    InputError
        If there is no such column or pedigree, a column differs between an individual's records,
        or labels are not those of the individuals.
    """
    if isinstance(by, str):
        return _column(dataset, by)
    if isinstance(by, pd.DataFrame):
        if by.shape[1] != 2:
            raise InputError(
                f"table of folds: expected two columns, id and label, found {by.shape[1]}"
            )
        by = pd.Series(by.iloc[:, 1].to_numpy(), index=by.iloc[:, 0].astype(str))
    if isinstance(by, Mapping | pd.Series):
        series = pd.Series(by, dtype=object)
        series.index = series.index.astype(str)
        if twice := list(series.index[series.index.duplicated()].unique()):
            raise InputError(f"labels of folds: expected every id once, found {shortlist(twice)}")
        if strange := [name for name in series.index if name not in set(dataset.ids)]:
            raise InputError(
                f"labels of folds: expected ids of the data, found others: {shortlist(strange)}"
            )
        return _text(series.reindex(dataset.ids))
    values = np.asarray(by)
    if values.shape != dataset.ids.shape:
        raise InputError(
            f"labels of folds: expected {len(dataset.ids)}, one for each individual, found an "
            f"array of shape {values.shape}"
        )
    return _text(pd.Series(values, dtype=object))


def _column(dataset: Dataset, name: str) -> np.ndarray:
    covariates = dataset.individual_covariates
    if name in covariates:
        return _text(covariates[name])
    if name in dataset.varying_columns:
        raise InputError(
            f"folds: expected a column with one value for each individual, found '{name}' to "
            f"differ between the records of '{dataset.varying_columns[name]}'"
        )
    if name == FAMILY and dataset.pedigree is not None and dataset.pedigree_rows is not None:
        pedigree = dataset.pedigree
        parents = [one[dataset.pedigree_rows] for one in (pedigree.sire, pedigree.dam)]
        both = (parents[0] >= 0) & (parents[1] >= 0)
        couples = [f"{pedigree.ids[s]} x {pedigree.ids[d]}" for s, d in zip(*parents, strict=True)]
        return np.where(both, couples, dataset.ids)
    where = ", or a pedigree, of which there is none" if name == FAMILY else ""
    raise InputError(
        f"folds: expected a column of the phenotypes{where}, found no '{name}' among "
        f"{shortlist(_names(covariates))}"
    )


def _names(table: pd.DataFrame) -> Sequence[Any]:
    return list(table.columns)


def _text(values: pd.Series) -> np.ndarray:
    # Whole numbers may have become decimals in a column with holes.
    numbers = pd.to_numeric(values, errors="coerce")
    whole = values.notna() & numbers.notna() & (numbers % 1 == 0)
    text = values.astype(str).where(~whole, numbers.fillna(0).astype("int64").astype(str))
    return text.where(values.notna(), "").to_numpy(dtype=str)
