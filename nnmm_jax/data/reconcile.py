"""Which ids are in which table, what each group contributes, and ids that nearly meet."""

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd

from nnmm_jax.data.tables import IdForm
from nnmm_jax.errors import shortlist

# Columns with more levels than this are not factors.
MOST_LEVELS = 100


@dataclass(frozen=True)
class IdGroup:
    """Ids that have values in the same tables.

    Attributes
    ----------
    tables
        Where they have them.
    ids
        How many.
    first
        The first of them.
    contribution
        What they are used for, or why they are not.
    """

    tables: tuple[str, ...]
    ids: int
    first: str
    contribution: str


@dataclass(frozen=True)
class Reconciliation:
    """Ids of all tables side by side.

    Attributes
    ----------
    tables
        Tables that were given.
    groups
        Each id is in one of them; the largest first.
    notes
        What was done to make ids meet, ids that do not meet but look alike, levels of factors
        without data; a line each.
    """

    tables: tuple[str, ...]
    groups: tuple[IdGroup, ...]
    notes: tuple[str, ...]

    def lines(self) -> list[str]:
        """The table for people.

        Returns
        -------
        list of str
            A heading, a line a group, and the notes.

        Examples
        --------
        >>> group = IdGroup(("genotypes",), 12, "a", "predicted only")
        >>> for line in Reconciliation(("genotypes", "omics"), (group,), ()).lines():
        ...     print(line)
        genotypes  omics  ids  first  contribution
        x          -       12  a      predicted only
        """
        head = [*self.tables, "ids", "first", "contribution"]
        rows = [
            [
                *("x" if table in group.tables else "-" for table in self.tables),
                str(group.ids),
                group.first,
                group.contribution,
            ]
            for group in self.groups
        ]
        widths = [max(len(row[j]) for row in [head, *rows]) for j in range(len(head))]
        number = len(self.tables)

        def line(row: list[str]) -> str:
            cells = [
                cell.rjust(width) if j == number else cell.ljust(width)
                for j, (cell, width) in enumerate(zip(row, widths, strict=True))
            ]
            return "  ".join(cells).rstrip()

        return [*map(line, [head, *rows]), *self.notes]

    def to_dict(self) -> dict[str, Any]:
        """The table for ``run.json``.

        Returns
        -------
        dict

        Examples
        --------
        >>> Reconciliation(("omics",), (), ()).to_dict()
        {'tables': ['omics'], 'groups': [], 'notes': []}
        """
        groups = [asdict(group) | {"tables": list(group.tables)} for group in self.groups]
        return {"tables": list(self.tables), "groups": groups, "notes": list(self.notes)}


def reconcile(
    tables: Mapping[str, Sequence[str]],
    everybody: Iterable[str],
    analysed: Collection[str],
    forms: Mapping[str, IdForm],
    reason: str,
) -> Reconciliation:
    """Put the ids of all tables side by side.

    Parameters
    ----------
    tables
        Ids with values by table, of those that were given: genotypes, omics (any column),
        phenotypes (the trait), pedigree.
    everybody
        Ids of all rows.
    analysed
        Ids of the individuals that are analysed.
    forms
        How ids were written, by table.
    reason
        Why others are not analysed.

    Returns
    -------
    Reconciliation

    Examples
    --------
    >>> tables = {"genotypes": ["a", "b", "c"], "phenotypes": ["B", "a"]}
    >>> found = reconcile(tables, ["a", "b", "c", "B"], {"a", "b", "c"}, {}, "not genotyped")
    >>> [(group.tables, group.ids) for group in found.groups]
    [(('genotypes',), 2), (('genotypes', 'phenotypes'), 1), (('phenotypes',), 1)]
    >>> found.notes[0]
    "ids that differ in case or leading zeros only, not joined: 'B' of phenotypes and 'b', 1 in all"
    """
    known = {name: set(ids) for name, ids in tables.items()}
    members: dict[tuple[tuple[str, ...], bool], list[str]] = {}
    for label in dict.fromkeys(everybody):
        where = tuple(name for name in tables if label in known[name])
        members.setdefault((where, label in analysed), []).append(label)
    groups = [
        IdGroup(where, len(ids), ids[0], _contribution(where, used, reason, "omics" in tables))
        for (where, used), ids in members.items()
    ]
    groups.sort(key=lambda group: -group.ids)
    notes = [*_form_notes(forms), *_near_notes(tables, analysed)]
    return Reconciliation(tuple(tables), tuple(groups), tuple(notes))


def near_misses(ids: Collection[str], others: Collection[str]) -> list[tuple[str, str]]:
    """Pairs of ids that differ in case, leading zeros or a decimal ``.0`` only.

    Parameters
    ----------
    ids, others
        What to compare; pairs that are equal are none.

    Returns
    -------
    list of (str, str)

    Examples
    --------
    >>> near_misses(["ID007", "x"], ["id7", "y"])
    [('ID007', 'id7')]
    """
    plain = {_plain(label): label for label in others}
    pairs = ((label, plain.get(_plain(label))) for label in ids)
    return [(one, other) for one, other in pairs if other is not None and one != other]


def level_notes(covariates: pd.DataFrame, phenotype: np.ndarray, trait: str) -> list[str]:
    """Levels of factors that only records without the trait have.

    Parameters
    ----------
    covariates
        One row a record.
    phenotype
        (record,) NaN for missing.
    trait
        Its name.

    Returns
    -------
    list of str
        A line for each such column.

    Examples
    --------
    >>> table = pd.DataFrame({"pen": ["a", "b", "c"], "age": [1, 2, 3]})
    >>> level_notes(table, np.array([1.0, 2.0, np.nan]), "y")
    ["levels of 'pen' in records without 'y' only: 'c'"]
    """
    notes = []
    observed = ~np.isnan(phenotype)
    for name, column in covariates.items():
        if pd.api.types.is_numeric_dtype(column.dtype):
            continue
        levels = column.dropna().astype(str)
        seen = set(column[observed].dropna().astype(str))
        unseen = [level for level in levels.unique() if level not in seen]
        if unseen and levels.nunique() <= MOST_LEVELS:
            notes.append(
                f"levels of '{name}' in records without '{trait}' only: {shortlist(unseen)}"
            )
    return notes


def _plain(label: str) -> str:
    return re.sub(r"(?<!\d)0+(?=\d)", "", re.sub(r"\.0+$", "", label.casefold()))


def _contribution(where: tuple[str, ...], used: bool, reason: str, has_omics: bool) -> str:
    if not used:
        if where == ("pedigree",):
            return "relationships among the others"
        if not where:
            return f"none: {reason}, rows without values"
        if "genotypes" in where:
            return "none: dropped by quality control"
        also = "; relationships among the others" if "pedigree" in where else ""
        return f"none: {reason}{also}"
    if "omics" in where and "phenotypes" in where:
        return "effects on omics and of omics on the trait"
    if "omics" in where:
        return "effects on omics; the trait is predicted"
    if "phenotypes" in where:
        return "effects on the trait" + ("; omics are sampled" if has_omics else "")
    return "none: all is predicted (candidates)"


def _form_notes(forms: Mapping[str, IdForm]) -> list[str]:
    notes = [
        f"ids of {name} with blanks around them, read without these: {form.stripped}"
        for name, form in forms.items()
        if form.stripped
    ]
    numbers = [name for name, form in forms.items() if form.numbers]
    if numbers and len(numbers) < len(forms):
        notes.append(
            f"ids that are whole numbers in {' and '.join(numbers)} and text elsewhere: compared "
            "as text"
        )
    return notes


def _near_notes(tables: Mapping[str, Sequence[str]], analysed: Collection[str]) -> list[str]:
    notes = []
    for name in ("omics", "phenotypes"):
        strangers = [
            label for label in dict.fromkeys(tables.get(name, ())) if label not in analysed
        ]
        if pairs := near_misses(strangers, analysed):
            one, other = pairs[0]
            notes.append(
                f"ids that differ in case or leading zeros only, not joined: '{one}' of {name} and "
                f"'{other}', {len(pairs)} in all"
            )
    return notes
