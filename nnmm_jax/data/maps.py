"""Places of markers and nodes on chromosomes."""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import TypeAlias

import numpy as np
import pandas as pd

from nnmm_jax.data.dosages import Dosages
from nnmm_jax.data.files import check_file
from nnmm_jax.data.plink import read_bim
from nnmm_jax.data.tables import Source, label, numeric_values, read_table
from nnmm_jax.errors import InputError, shortlist

MapSource: TypeAlias = Source | Dosages


def read_map(
    source: MapSource, what: str, key: str, choices: list[list[str]]
) -> tuple[pd.DataFrame, np.ndarray]:
    """Read the places of markers or nodes.

    Parameters
    ----------
    source
        A table, PLINK's bim file (or the bed file beside it), :class:`nnmm_jax.Dosages` with
        places, or AnnData with places in its annotation of variables.
    what, key
        What the map is, for messages, and its column of names.
    choices
        Columns of positions, one of these lists.

    Returns
    -------
    table, positions
        By name, with chromosomes as text; (row, column) numbers of one choice.

    Raises
    ------
    InputError
        It cannot be read, lacks columns, or a place is missing.

    Examples
    --------
    >>> table = pd.DataFrame({"marker": ["m"], "chromosome": [1.0], "position": [5]})
    >>> read_map(table, "marker map", "marker", [["position"]])[0]["chromosome"].tolist()
    ['1']
    """
    name = label(what, source)
    table = read_table(
        _as_table(source, name, key), what=what, id_column=key, text_columns=("chromosome",)
    )
    there = [columns for columns in choices if set(columns) <= set(table.columns)]
    if "chromosome" not in table.columns or len(there) != 1:
        expected = " or ".join(" and ".join(columns) for columns in choices)
        both = " (either, not both)" if len(there) > 1 else ""
        raise InputError(
            f"{name}: expected the columns {key}, chromosome and {expected}{both}, found "
            f"{shortlist([key, *table.columns])}; rename or remove columns"
        )
    chromosomes = [re.sub(r"^(\d+)\.0+$", r"\1", text) for text in texts_of(table["chromosome"])]
    table = table.assign(chromosome=np.array(chromosomes, dtype=object))
    values = numeric_values(table[there[0]], name)
    for column, missing in (
        ("chromosome", np.array(chromosomes) == ""),
        *zip(there[0], np.isnan(values).T, strict=True),
    ):
        if missing.any():
            raise InputError(
                f"{name}: expected the {column} in every row, found none for "
                f"{shortlist(table.index[missing])}; fill it in or remove the rows"
            )
    return table, values


def _as_table(source: MapSource, name: str, key: str) -> Source:
    """A table of what has places besides other things."""
    if isinstance(source, str | Path):
        path = Path(source)
        if path.suffix.lower() not in (".bed", ".bim"):
            return source
        check_file(path.with_suffix(".bim"), name)
        return read_bim(path.with_suffix(".bim"), name)
    if isinstance(source, Dosages):
        if source.places is None:
            raise InputError(
                f"{name}: expected dosages with places, found none; give a table of marker, "
                "chromosome and position"
            )
        return source.places.assign(**{key: list(source.markers)})
    variables = getattr(source, "var", None)
    if hasattr(source, "obs_names") and isinstance(variables, pd.DataFrame):
        return variables.rename_axis(key).reset_index()
    return source


def texts_of(values: Iterable[object]) -> list[str]:
    """Write values as text without blanks around them, "" for missing."""
    return ["" if pd.isna(value) else str(value).strip() for value in values]
