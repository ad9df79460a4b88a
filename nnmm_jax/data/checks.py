"""Checks of joined data: the trait, the columns of omics, masks."""

from difflib import get_close_matches

import numpy as np
import pandas as pd

from nnmm_jax.data.tables import numeric_values
from nnmm_jax.errors import InputError, shortlist


def column_values(table: pd.DataFrame, column: str, what: str, source: str) -> np.ndarray:
    """(row of the phenotype table,) values of the trait or of weights."""
    if column not in table.columns:
        close = get_close_matches(column, table.columns, n=1)
        hint = f"did you mean '{close[0]}'?" if close else "choose one of these"
        raise InputError(
            f"{source}: expected {what} '{column}', found the columns "
            f"{shortlist(table.columns)}; {hint}"
        )
    return numeric_values(table[[column]], source)[:, 0]


def check_phenotype(phenotype: np.ndarray, trait: str, source: str) -> None:
    """Raise unless the trait has at least two different values."""
    observed = phenotype[~np.isnan(phenotype)]
    if not observed.size:
        raise InputError(
            f"{source}: expected values of the trait '{trait}', found none; choose another trait "
            "or check the ids"
        )
    if observed.min() == observed.max():
        raise InputError(
            f"{source}: expected a trait that varies, found {observed[0]:g} for all "
            f"{observed.size} value(s) of '{trait}'; choose another trait"
        )


def check_node_names(table: pd.DataFrame, trait: str, source: str) -> None:
    """Raise unless there are omics and none of them is the trait."""
    if not table.shape[1]:
        raise InputError(
            f"{source}: expected columns of omics beside the ids, found none; check the table"
        )
    if trait in table.columns:
        raise InputError(
            f"{source}: expected names that differ from the trait's, found a column '{trait}'; "
            "rename or remove it, so that the trait does not explain itself"
        )


def check_omics(omics: np.ndarray, names: np.ndarray, source: str) -> None:
    """Raise unless every column has at least two different values."""
    empty = np.isnan(omics).all(axis=0)
    if empty.any():
        raise InputError(
            f"{source}: expected values in every column, found none in {shortlist(names[empty])}; "
            "remove such columns"
        )
    constant = np.fmin.reduce(omics, axis=0) == np.fmax.reduce(omics, axis=0)
    if constant.any():
        raise InputError(
            f"{source}: expected columns that vary, found one value throughout in "
            f"{shortlist(names[constant])}; remove such columns"
        )


def checked_mask(name: str, hide: np.ndarray, shapes: list[tuple[int, ...]]) -> np.ndarray:
    """`hide` as a bool array of one of the shapes, or raise."""
    array = np.asarray(hide)
    if array.dtype != np.bool_ or array.shape not in shapes:
        expected = " or ".join(str(shape) for shape in shapes)
        raise InputError(
            f"mask of {name}: expected True and False of shape {expected}, found {array.dtype} of "
            f"shape {array.shape}; give True where a cell is to be hidden"
        )
    return array


def checked_weights(
    weights: np.ndarray, needed: np.ndarray, ids: np.ndarray, column: str, source: str
) -> np.ndarray:
    """Weights, 1 where they are missing and not needed, or raise."""
    positive = weights > 0
    wrong = needed & ~positive
    if wrong.any():
        row = int(np.argmax(wrong))
        found = "none" if np.isnan(weights[row]) else f"{weights[row]:g}"
        raise InputError(
            f"{source}: expected positive weights where values are observed, found {found} in "
            f"column '{column}', id '{ids[row]}'; correct it"
        )
    return np.where(positive, weights, 1.0)


def check_known(ids: pd.Index, whose: str, known: dict[str, np.ndarray]) -> None:
    """Raise unless every individual is in each of these lists of ids, naming all that are not."""
    lacking = {name: ids[~ids.isin(listed)] for name, listed in known.items()}
    lacking = {name: absent for name, absent in lacking.items() if len(absent)}
    if lacking:
        found = " and ".join(f"none of {shortlist(ab)} in {name}" for name, ab in lacking.items())
        raise InputError(
            f"{', '.join(lacking)}: expected all {whose}, found {found}; add them there or leave "
            "these individuals out"
        )


def marker_rows(
    wanted: pd.Series | pd.Index, markers: np.ndarray, dropped: frozenset[str], source: str
) -> np.ndarray:
    """Positions of markers among those analysed; -1 for those that were left out before."""
    rows = pd.Index(markers, dtype=object).get_indexer(wanted)
    strangers = wanted[(rows < 0) & ~wanted.isin(dropped)].unique()
    if len(strangers):
        raise InputError(
            f"{source}: expected markers of the genotypes, found {len(strangers)} other(s): "
            f"{shortlist(strangers)}; correct or remove them"
        )
    return np.asarray(rows)
