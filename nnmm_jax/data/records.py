"""Records: rows of the phenotype table by individual, and what is one value per individual."""

import numpy as np
import pandas as pd

from nnmm_jax.errors import InputError


def records_of(ids: pd.Index, table_ids: pd.Index) -> tuple[np.ndarray, np.ndarray]:
    """Rows of the phenotype table in the order of the individuals.

    Parameters
    ----------
    ids
        (individual,) ids, each once.
    table_ids
        Ids of the rows of the table, in any order, possibly repeated or of others.

    Returns
    -------
    rows, individuals
        (record,) row of the table, -1 for the one empty record of an individual without a row;
        and (record,) position of the individual in `ids`, ascending.

    Examples
    --------
    >>> import pandas as pd
    >>> records_of(pd.Index(["a", "b", "c"]), pd.Index(["c", "a", "x", "c"]))
    (array([ 1, -1,  0,  3]), array([0, 1, 2, 2]))
    """
    individual = ids.get_indexer(table_ids)
    kept = np.flatnonzero(individual >= 0)
    absent = np.setdiff1d(np.arange(len(ids)), individual[kept])
    rows = np.concatenate([kept, np.full(len(absent), -1)])
    individuals = np.concatenate([individual[kept], absent])
    order = np.argsort(individuals, kind="stable")
    return rows[order], individuals[order]


def at_rows(table: pd.DataFrame, rows: np.ndarray, ids: np.ndarray) -> pd.DataFrame:
    """Rows of a table with `ids` as index, all missing where the row is -1.

    Integers and booleans become nullable, so that a row without data does not turn 1 into 1.0.

    Parameters
    ----------
    table
        Any table.
    rows
        (record,) row numbers, -1 for none.
    ids
        (record,) new index.

    Returns
    -------
    pandas.DataFrame
        One row per record.

    Examples
    --------
    >>> import numpy as np
    >>> import pandas as pd
    >>> table = pd.DataFrame({"batch": [1, 2]})
    >>> at_rows(table, np.array([1, -1]), np.array(["a", "b"]))["batch"].tolist()
    [2, <NA>]
    """
    types = {"i": "Int64", "u": "UInt64", "b": "boolean"}
    nullable = {c: types[t.kind] for c, t in table.dtypes.items() if t.kind in types}
    taken = table.astype(nullable).reset_index(drop=True).reindex(rows)
    return taken.set_axis(pd.Index(ids, name="id", dtype=object), axis=0)


def by_individual(
    covariates: pd.DataFrame, record_rows: np.ndarray
) -> tuple[pd.DataFrame, dict[str, str]]:
    """Covariates of the individuals, and the columns that differ between an individual's records.

    Parameters
    ----------
    covariates
        One row per record, ids in the index.
    record_rows
        (record,) individual of each record, ascending.

    Returns
    -------
    table, varying
        One row per individual, the first value that is not missing; without the columns that have
        two values for some individual, which come with the first such id.

    Examples
    --------
    >>> import numpy as np
    >>> import pandas as pd
    >>> records = pd.DataFrame({"sex": ["f", None, "m"], "age": [1, 2, 1]}, index=list("aab"))
    >>> table, varying = by_individual(records, np.array([0, 0, 1]))
    >>> table["sex"].tolist(), varying
    (['f', 'm'], {'age': 'a'})
    """
    firsts = np.flatnonzero(np.diff(record_rows, prepend=-1))
    ids = covariates.index[firsts]
    if len(ids) == len(covariates) or not covariates.shape[1]:
        return covariates.iloc[firsts], {}
    groups = covariates.groupby(record_rows)
    differs = groups.nunique() > 1
    varying = {
        str(column): str(ids[int(np.argmax(differs[column]))])
        for column in covariates.columns
        if differs[column].any()
    }
    constant = [column for column in covariates.columns if column not in varying]
    if not constant:
        return covariates[constant].iloc[firsts], varying
    return groups[constant].first().set_axis(ids, axis=0), varying


def individual_values(
    values: np.ndarray, record_rows: np.ndarray, ids: np.ndarray, column: str, source: str
) -> np.ndarray:
    """One value per individual of a numeric column, NaN where no record has one.

    Parameters
    ----------
    values
        (record,) float64, NaN for missing.
    record_rows
        (record,) individual of each record, ascending.
    ids
        (individual,) text.
    column, source
        Names of the column and the table, for messages.

    Returns
    -------
    numpy.ndarray
        (individual,) float64.

    Raises
    ------
    InputError
        Two records of an individual differ.

    Examples
    --------
    >>> import numpy as np
    >>> records = np.array([np.nan, 2.0, np.nan]), np.array([0, 0, 1])
    >>> individual_values(*records, np.array(["a", "b"]), "w", "phenotypes")
    array([ 2., nan])
    """
    lowest, highest = np.full((2, len(ids)), np.nan)
    np.fmin.at(lowest, record_rows, values)
    np.fmax.at(highest, record_rows, values)
    if (differs := lowest < highest).any():
        row = int(np.argmax(differs))
        raise InputError(
            f"{source}: expected one value of '{column}' for each individual, found "
            f"{lowest[row]:g} and {highest[row]:g} for '{ids[row]}'; correct the records"
        )
    return lowest
