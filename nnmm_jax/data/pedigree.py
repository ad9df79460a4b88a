"""Pedigrees: read, checked, parents put before offspring, with inbreeding and factors of A⁻¹."""

import re
from collections.abc import Container
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
import pandas as pd
import scipy.sparse as sp

from nnmm_jax.data.files import MISSING
from nnmm_jax.data.kinship import (
    gene_flow,
    inbreeding_coefficients,
    mendelian_variance,
    relationship_among,
)
from nnmm_jax.data.tables import read_table
from nnmm_jax.errors import InputError, shortlist

# How a parent that is not known is spelled.
UNKNOWN = frozenset({*MISSING, "", "0", "."})
WHOLE_DECIMAL = re.compile(r"\d+\.0+")

PARENT_NAMES = (("sire", "father"), ("dam", "mother"))

Parents: TypeAlias = list[tuple[int, int]]


@dataclass(frozen=True, eq=False)
class Pedigree:
    """Animals with their parents, parents first; A = T D T' is their relationship.

    Attributes
    ----------
    ids
        (animal,) text; the given order, save that parents come before their offspring and parents
        without a row of their own first of all.
    sire, dam
        (animal,) int32 row numbers, -1 for unknown.
    inbreeding
        (animal,) float64 coefficients F.
    mendelian
        (animal,) float64 diagonal of D, the Mendelian sampling variance as a share of the additive
        variance of the founders: 1 without known parents, 3/4 - F/4 with one, 1/2 - (F + F)/4 with
        two.
    n_added
        Parents that had no row of their own; founders.
    n_both_sexes
        Animals used both as a sire and as a dam, as plants are.
    """

    ids: np.ndarray
    sire: np.ndarray
    dam: np.ndarray
    inbreeding: np.ndarray
    mendelian: np.ndarray
    n_added: int = 0
    n_both_sexes: int = 0

    @property
    def n_founders(self) -> int:
        """Animals without known parents."""
        return int(((self.sire < 0) & (self.dam < 0)).sum())

    def rows(self, ids: np.ndarray) -> np.ndarray:
        """Row numbers of some animals.

        Parameters
        ----------
        ids
            (k,) text.

        Returns
        -------
        numpy.ndarray
            (k,) int64.

        Raises
        ------
        InputError
            Some are not in the pedigree; names them.

        Examples
        --------
        >>> import pandas as pd
        >>> table = pd.DataFrame({"id": ["b", "a"], "sire": ["a", None], "dam": [None, None]})
        >>> read_pedigree(table).rows(["a", "b"])
        array([0, 1])
        """
        wanted = pd.Index(ids, dtype=object)
        found = pd.Index(self.ids, dtype=object).get_indexer(wanted)
        if (found < 0).any():
            raise InputError(
                f"pedigree: expected every individual, found no record of "
                f"{shortlist(wanted[found < 0])}; add them, with unknown parents if need be"
            )
        return np.asarray(found, dtype=np.int64)

    def relationship(self, rows: np.ndarray) -> np.ndarray:
        """Additive relationships among some animals, without the whole of A.

        Parameters
        ----------
        rows
            (k,) row numbers, see :meth:`rows`.

        Returns
        -------
        numpy.ndarray
            (k, k) float64; 1 + F on the diagonal.

        References
        ----------
        Colleau 2002, Genet. Sel. Evol. 34:409.

        Examples
        --------
        >>> import pandas as pd
        >>> table = pd.DataFrame({"id": ["a", "b"], "sire": ["s", "s"], "dam": ["d", "e"]})
        >>> pedigree = read_pedigree(table)
        >>> pedigree.relationship(pedigree.rows(["a", "b"]))
        array([[1.  , 0.25],
               [0.25, 1.  ]])
        """
        return relationship_among(self.sire, self.dam, self.mendelian, np.asarray(rows))

    def inverse(self) -> sp.csc_array:
        """Inverse of A by Henderson's rules, (I - P)' D⁻¹ (I - P).

        Returns
        -------
        scipy.sparse.csc_array
            (animal, animal) float64.

        Raises
        ------
        InputError
            Parents are so inbred that nothing is left to sample and A has no inverse.

        References
        ----------
        Henderson 1976, Biometrics 32:69; Quaas 1976, Biometrics 32:949.

        Examples
        --------
        >>> import pandas as pd
        >>> table = pd.DataFrame({"id": ["a"], "sire": ["s"], "dam": [None]})
        >>> read_pedigree(table).inverse().toarray().round(3)
        array([[ 1.333, -0.667],
               [-0.667,  1.333]])
        """
        if not (self.mendelian > 0).all():
            raise InputError(
                "pedigree: expected Mendelian sampling in every animal, found none for "
                f"{shortlist(self.ids[self.mendelian <= 0])}, whose parents are wholly inbred; "
                "keep one animal of such a line"
            )
        own = sp.eye_array(len(self.ids), format="csr") - gene_flow(self.sire, self.dam)
        return sp.csc_array(own.T @ sp.diags_array(1.0 / self.mendelian) @ own)


def read_pedigree(source: str | Path | pd.DataFrame, *, id_column: str | None = None) -> Pedigree:
    """Read animals and their parents, in any order.

    An unknown parent is an empty or missing cell, ``0`` or ``.``. A parent without a row of its
    own gets one, with unknown parents. An animal may be sire of one and dam of another, and both
    of one (selfing).

    Parameters
    ----------
    source
        Columns animal, sire and dam; a file or a table, see :func:`nnmm_jax.data.read_table`. The
        parents are the columns ``sire`` and ``dam`` or ``father`` and ``mother``, in any case, else
        the two that follow the animal.
    id_column
        Name of the column of animals; default the first.

    Returns
    -------
    Pedigree
        With inbreeding and Mendelian sampling variances.

    Raises
    ------
    InputError
        The table cannot be used or lacks the columns; an animal is listed twice, is its own parent
        or its own ancestor, or has an id that stands for unknown.

    Examples
    --------
    >>> import pandas as pd
    >>> table = pd.DataFrame(
    ...     {"animal": [5, 3, 4, 6], "sire": [4, 1, 1, 5], "dam": [3, 2, None, 2]}
    ... )
    >>> pedigree = read_pedigree(table)
    >>> pedigree.ids.tolist()
    ['1', '2', '4', '3', '5', '6']
    >>> pedigree.inbreeding[4:]
    array([0.125, 0.125])
    """
    name = f"pedigree {source}" if isinstance(source, str | Path) else "pedigree"
    table = read_table(source, what="pedigree", id_column=id_column, text_columns=True)
    animals, sires, dams = _three_columns(table, name)
    listed = set(animals)
    added = [p for p in dict.fromkeys([*sires, *dams]) if p and p not in listed]
    everybody = [*added, *animals]
    number = {label: row for row, label in enumerate(everybody)} | {"": -1}
    unknown = [(-1, -1)] * len(added)
    parents = unknown + [(number[s], number[d]) for s, d in zip(sires, dams, strict=True)]
    order = np.asarray(_parents_first(parents, everybody, name), dtype=np.int64)
    renumbered = np.full(len(order) + 1, -1, dtype=np.int32)
    renumbered[order] = np.arange(len(order))
    sire, dam = renumbered[np.asarray(parents)[order]].T
    inbreeding = inbreeding_coefficients(sire, dam)
    return Pedigree(
        ids=np.asarray(everybody, dtype=str)[order],
        sire=np.ascontiguousarray(sire),
        dam=np.ascontiguousarray(dam),
        inbreeding=inbreeding,
        mendelian=mendelian_variance(sire, dam, inbreeding),
        n_added=len(added),
        n_both_sexes=len((set(sires) & set(dams)) - {""}),
    )


def _three_columns(table: pd.DataFrame, name: str) -> tuple[list[str], list[str], list[str]]:
    """Animals, sires and dams as text, "" for unknown."""
    if table.shape[1] < 2:
        raise InputError(
            f"{name}: expected the columns animal, sire and dam, found {shortlist(table.columns)} "
            "beside the animals; add the parents, empty where unknown"
        )
    lower = [str(column).lower() for column in table.columns]
    named = [next((lower.index(n) for n in names if n in lower), None) for names in PARENT_NAMES]
    if (named[0] is None) != (named[1] is None):
        raise InputError(
            f"{name}: expected columns sire and dam, or father and mother, found "
            f"{shortlist(table.columns)}; name both or neither"
        )
    columns = [at if at is not None else j for j, at in enumerate(named)]
    animals = table.index.tolist()
    known = frozenset(animals)
    sires, dams = (_parent_ids(table.iloc[:, j], name, known) for j in columns)
    if wrong := [label for label in animals if label in UNKNOWN]:
        raise InputError(
            f"{name}: expected ids of animals, found {shortlist(wrong)}, which stands for an "
            "unknown parent; rename the animal"
        )
    return animals, sires, dams


def _parent_ids(column: pd.Series, name: str, animals: Container[str]) -> list[str]:
    """Ids as text; whole decimals are what pandas makes of integers with holes."""
    ids = []
    for animal, value in column.items():
        if pd.isna(value):
            ids.append("")
            continue
        if isinstance(value, float | np.floating):
            if not value.is_integer():
                raise InputError(
                    f"{name}: expected ids of parents, found {value} in column '{column.name}', "
                    f"id '{animal}'; give text or whole numbers"
                )
            value = int(value)
        text = str(value).strip()
        # Whole decimals as text: how pandas writes integers with holes to a file.
        if text not in animals and WHOLE_DECIMAL.fullmatch(text):
            text = text.split(".")[0]
        ids.append("" if text in UNKNOWN else text)
    return ids


def _parents_first(parents: Parents, ids: list[str], name: str) -> list[int]:
    """Row numbers in an order with parents first, each animal as near to its place as can be."""
    if own := [ids[row] for row, pair in enumerate(parents) if row in pair]:
        raise InputError(
            f"{name}: expected parents other than the animal, found {shortlist(own)} among its own "
            "parents; correct the record"
        )
    order: list[int] = []
    done = [False] * len(parents)
    for animal in range(len(parents)):
        # Parents are pushed above the animal, which is taken once they are done.
        path, on_path = [animal], {animal}
        while path:
            waiting = [p for p in parents[path[-1]] if p >= 0 and not done[p]]
            if not waiting:
                last = path.pop()
                on_path.discard(last)
                if not done[last]:
                    done[last] = True
                    order.append(last)
            elif waiting[0] in on_path:
                _raise_loop([ids[row] for row in path[path.index(waiting[0]) :]], name)
            else:
                path.append(waiting[0])
                on_path.add(waiting[0])
    return order


def _raise_loop(loop: list[str], name: str) -> None:
    raise InputError(
        f"{name}: expected no animal among its own ancestors, found the loop "
        f"{shortlist(loop)}, each followed by a parent, the last by the first; correct a parent"
    )
