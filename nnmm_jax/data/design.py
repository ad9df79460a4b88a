"""Design matrices of fixed effects and covariates, from formulas."""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import formulaic
import numpy as np
import pandas as pd
from formulaic.errors import FormulaicError
from formulaic.parser.types import Factor

from nnmm_jax.errors import InputError, shortlist

# Singular values of the column-scaled design below this share of the largest count as zero.
RANK_TOLERANCE = 1e-9


@dataclass(frozen=True, eq=False)
class Design:
    """Design matrix of the fixed effects of one layer.

    Attributes
    ----------
    matrix
        (row, term) float64, one row per individual or record, the intercept first.
    names
        Names of the columns.
    n_filled
        Rows that hold column means because a covariate is missing, or has a level that no needed
        row has.
    """

    matrix: np.ndarray
    names: tuple[str, ...]
    n_filled: int = 0


def design_matrix(
    formula: str | None,
    covariates: pd.DataFrame,
    *,
    what: str,
    needed: np.ndarray | None = None,
    varying: Mapping[str, str] | None = None,
) -> Design:
    """Design matrix of a one-sided formula such as ``~ sex + C(batch) + log(age)``.

    Text columns and ``C(...)`` are factors coded as differences from their first level. Levels,
    and the constants of ``center``, ``scale`` or ``bs``, come from the needed rows only.

    Parameters
    ----------
    formula
        In the language of formulaic, which always gets an intercept; names that are not Python
        names in backticks. None for the intercept alone.
    covariates
        One row per individual or record, ids in the index.
    what
        What the formula is for, for messages: ``"fixed effects of omics"``.
    needed
        (row,) bool, rows that enter the likelihood, whose covariates must be there. Default
        all. Other rows with missing covariates or levels unseen in the needed rows get the column
        means of the needed rows.
    varying
        Columns that `covariates` lacks because they differ between the records of an individual,
        with the id of one such, see :attr:`nnmm_jax.data.Dataset.varying_columns`.

    Returns
    -------
    Design
        (row, term), of full column rank over the needed rows.

    Raises
    ------
    InputError
        The formula cannot be read, has a left-hand side, removes the intercept or uses an unknown
        column, or one that varies within an individual; a needed row misses a covariate or gives
        a value that is not finite; columns are collinear.

    Examples
    --------
    >>> import pandas as pd
    >>> covariates = pd.DataFrame({"sex": ["f", "m", "f"]}, index=["a", "b", "c"])
    >>> design = design_matrix("~ sex", covariates, what="fixed effects")
    >>> design.names
    ('Intercept', 'sex[T.m]')
    >>> design.matrix[:, 1]
    array([0., 1., 0.])
    """
    rows = len(covariates)
    if formula is None:
        return Design(np.ones((rows, 1)), ("Intercept",))
    is_needed = np.ones(rows, dtype=bool) if needed is None else np.asarray(needed, dtype=bool)
    parsed = _parse(formula, covariates, what)
    # A first evaluation on filled columns shows which columns the formula uses.
    varying = {} if varying is None else varying
    filled = covariates.ffill().bfill().assign(**dict.fromkeys(varying, 1.0))
    names_used = _used_names(_evaluate(parsed, filled, formula, what))
    _check_constant(names_used, varying, what)
    used = [column for column in covariates.columns if column in names_used]
    missing = covariates[used].isna().to_numpy()
    _check_complete(missing, used, covariates, is_needed, what)
    design = _evaluate(parsed, _plain(covariates.loc[is_needed]), formula, what)
    spec, names = design.model_spec, tuple(str(name) for name in design.columns)
    matrix = np.full((rows, len(names)), np.nan)
    matrix[is_needed] = design.to_numpy(dtype=np.float64)
    known = ~is_needed & ~missing.any(axis=1) & _levels_known(spec, covariates, is_needed)
    if known.any():
        others = _evaluate(spec, _plain(covariates.loc[known]), formula, what)
        matrix[known] = others.to_numpy(dtype=np.float64)
    _check_finite(matrix, is_needed, names, covariates.index, what)
    _check_rank(matrix[is_needed], spec, what)
    unknown = ~np.isfinite(matrix).all(axis=1)
    matrix[unknown] = matrix[is_needed].mean(axis=0)
    return Design(matrix, names, int(unknown.sum()))


def _parse(formula: str, covariates: pd.DataFrame, what: str) -> formulaic.SimpleFormula:
    found = f"found '{formula}'"
    try:
        parsed = formulaic.Formula(formula)
    except (FormulaicError, SyntaxError) as error:
        raise InputError(
            f"{what}: expected a formula such as '~ sex + batch', {found} "
            f"({_first_line(error)}); available columns: {shortlist(covariates.columns)}"
        ) from error
    if not isinstance(parsed, formulaic.SimpleFormula):
        raise InputError(
            f"{what}: expected a formula with one side such as '~ sex + batch', {found}; leave "
            f"out what is left of '~'; available columns: {shortlist(covariates.columns)}"
        )
    if "1" not in [str(term) for term in parsed]:
        raise InputError(
            f"{what}: expected a formula that keeps the intercept, {found}; leave out 0 and -1"
        )
    return parsed


def _evaluate(
    formula: Any, covariates: pd.DataFrame, text: str, what: str
) -> formulaic.ModelMatrix:
    """Formula, or the specification that an earlier evaluation left, on these rows."""
    try:
        with np.errstate(all="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # values that are not finite are checked afterwards
            return formulaic.model_matrix(
                formula, covariates, context={}, na_action="ignore", output="pandas"
            )
    except Exception as error:  # a formula holds the user's own Python, which may raise anything
        raise InputError(
            f"{what}: expected a formula of the columns {shortlist(covariates.columns)}, found "
            f"'{text}' ({_first_line(error)}); use these columns"
        ) from error


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0].rstrip(".")


def _used_names(design: formulaic.ModelMatrix) -> set[str]:
    """Names that the formula uses as data; formulaic files `C(`a b`)` under no source at all."""
    sources = design.model_spec.variables_by_source
    return {str(v) for source, group in sources.items() if source != "transforms" for v in group}


def _check_constant(used: set[str], varying: Mapping[str, str], what: str) -> None:
    for column in used.intersection(varying):
        raise InputError(
            f"{what}: expected columns that are constant within an individual, found different "
            f"values of '{column}' among the records of '{varying[column]}'; leave it out here, "
            "or correct the records"
        )


def _plain(rows: pd.DataFrame) -> pd.DataFrame:
    """Nullable integers without holes as NumPy integers, so that levels read 1 and not 1.0."""
    types = {
        name: dtype.numpy_dtype
        for name, dtype in rows.dtypes.items()
        if isinstance(dtype, pd.api.extensions.ExtensionDtype)
        and hasattr(dtype, "numpy_dtype")
        and not rows[name].isna().any()
    }
    return rows.astype(types)


def _levels_known(
    spec: formulaic.ModelSpec, covariates: pd.DataFrame, needed: np.ndarray
) -> np.ndarray:
    """(row,) True where every factor has a value that some needed row has."""
    known = np.ones(len(covariates), dtype=bool)
    kinds = {str(factor): kind for factor, (kind, _) in spec.encoder_state.items()}
    for factor, variables in spec.factor_variables.items():
        if kinds.get(str(factor)) is Factor.Kind.CATEGORICAL:
            for column in {str(v) for v in variables} & set(covariates.columns):
                values = covariates[column]
                known &= values.isin(values[needed]).to_numpy()
    return known


def _check_complete(
    missing: np.ndarray,
    used: list[str],
    covariates: pd.DataFrame,
    needed: np.ndarray,
    what: str,
) -> None:
    for position, column in enumerate(used):
        holes = missing[:, position] & needed
        if holes.any():
            raise InputError(
                f"{what}: expected '{column}' for every individual with data, found it missing "
                f"for {shortlist(covariates.index[holes])}; fill it in, or remove the records "
                "or the term"
            )


def _check_finite(
    matrix: np.ndarray, needed: np.ndarray, names: tuple[str, ...], ids: pd.Index, what: str
) -> None:
    wrong = ~np.isfinite(matrix) & needed[:, None]
    if wrong.any():
        column = int(np.argmax(wrong.any(axis=0)))
        raise InputError(
            f"{what}: expected finite values of '{names[column]}', found others for "
            f"{shortlist(ids[wrong[:, column]])}; correct the covariate or the formula"
        )


def _check_rank(matrix: np.ndarray, spec: formulaic.ModelSpec, what: str) -> None:
    """Full column rank, else name the terms whose columns take part in a linear dependence."""
    norms = np.linalg.norm(matrix, axis=0)
    # The triangular factor has the design's singular values and is square however few the rows.
    triangle = np.zeros((matrix.shape[1], matrix.shape[1]))
    factor = np.linalg.qr(matrix / np.where(norms > 0, norms, 1.0), mode="r")
    triangle[: len(factor)] = factor
    _, singular, rows = np.linalg.svd(triangle)
    rank = int((singular > RANK_TOLERANCE * singular.max(initial=0.0)).sum())
    if rank == matrix.shape[1]:
        return
    dependent = np.abs(rows[rank:]).max(axis=0) > 1e-6
    terms = [
        "intercept" if str(term) == "1" else str(term)
        for term, columns in spec.term_slices.items()
        if dependent[columns].any()
    ]
    raise InputError(
        f"{what}: expected terms that can be told apart, found {matrix.shape[1] - rank} "
        f"dependence(s) among the columns of {shortlist(terms)} over {len(matrix)} rows; remove "
        "a term"
    )
