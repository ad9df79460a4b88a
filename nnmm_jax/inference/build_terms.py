"""Arrays of the terms of a layer: marker effects by group, relationship matrices, random levels."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar, cast

import jax.numpy as jnp
import numpy as np
import scipy.linalg
from jax import Array

from nnmm_jax.data.align import Dataset
from nnmm_jax.data.groups import MarkerGroups
from nnmm_jax.data.pedigree import Pedigree as PedigreeTable
from nnmm_jax.errors import InputError, shortlist
from nnmm_jax.inference.arrays import MarkerMatrix, RandomArrays, Spectrum, TermArrays
from nnmm_jax.inference.build_arrays import (
    RANK_TOLERANCE,
    DosageView,
    build_grams,
    build_marker_matrix,
    build_spectrum,
    marker_means,
)
from nnmm_jax.inference.build_random import Layer, group_term, pedigree_term
from nnmm_jax.inference.hyper import effect_hyper
from nnmm_jax.network.priors import GBLUP, Prior
from nnmm_jax.network.terms import Group, Pedigree, RandomTerm, Relationship

T = TypeVar("T")
MAX_PEDIGREE_EIGEN = 2000  # beyond, solving for all animals beats eigenvectors (set-up included)
MAX_SPECTRUM = 6000  # largest eigenproblem solved for a joint draw; beyond, markers are swept


@dataclass(frozen=True, eq=False)
class TermBuilder:
    """Builds terms of a data set; what both layers use is built once.

    Attributes
    ----------
    dataset : Dataset
    max_spectrum : int
        Largest eigenproblem to solve.
    """

    dataset: Dataset
    max_spectrum: int = MAX_SPECTRUM
    _cache: dict[tuple[str, str], object] = field(default_factory=dict)

    def _once(self, kind: str, name: str, build: Callable[[], T]) -> T:
        key = (kind, name)
        if key not in self._cache:
            self._cache[key] = build()
        return cast(T, self._cache[key])

    def marker_terms(
        self,
        layer: Layer,
        priors: Mapping[str, Prior],
        groups: Sequence[str],
        shares: Mapping[str, float],
    ) -> list[TermArrays]:
        """One term for each group of markers with a prior (the group ``""`` is all markers).

        ``groups`` are all that the network names; markers of those without a prior have no effects.

        Raises
        ------
        InputError
            If there are no markers, or priors and groups do not match.
        """
        if not priors:
            return []
        if len(groups) > len(priors):
            self._check_groups(groups, layer)
        found = []
        for group, prior in priors.items():
            name = layer.site(group)
            if isinstance(prior, GBLUP) and prior.relationship is not None:
                matrix = self._relationship(prior.relationship)
                found.append(
                    self._square_root_term(
                        layer,
                        prior,
                        shares[group],
                        name,
                        layer.label(group),
                        prior.relationship,
                        matrix,
                    )
                )
                continue
            if not self.dataset.genotypes.shape[1]:
                raise InputError(
                    f"{layer.place}_prior: expected genotypes, found none; give them, or say "
                    f"{layer.place}_prior=None"
                )
            columns, mask = self._members(group, groups, layer)
            found.append(self._marker_term(layer, prior, shares[group], name, group, columns, mask))
        return found

    def _members(
        self, group: str, named: Sequence[str], layer: Layer
    ) -> tuple[np.ndarray | None, np.ndarray | None]:
        """Columns of a group's markers, and where they act if that differs between nodes."""
        if not group:
            return _connected(None, None, layer)
        groups = self._check_groups(named, layer)
        code = groups.names.index(group)
        if groups.codes.ndim == 1:
            return _connected(np.flatnonzero(groups.codes == code), None, layer)
        if layer.omics_columns is None:
            raise InputError(
                f"{layer.place}_prior: the marker groups differ between omics, which a trait or a "
                "latent node does not have; give one prior for all markers there"
            )
        member = groups.codes[:, list(layer.omics_columns)] == code
        columns = np.flatnonzero(member.any(axis=1))
        return _connected(columns, member[columns], layer)

    def _check_groups(self, named: Sequence[str], layer: Layer) -> MarkerGroups:
        """Groups of the data set, which must be those that the network names."""
        groups = self.dataset.marker_groups
        names = () if groups is None else groups.names
        if groups is None or set(names) != set(named):
            raise InputError(
                f"{layer.place}_prior: expected a prior for each marker group "
                f"({shortlist(names)}), found {shortlist(named)}; give "
                "read_dataset(marker_groups=...) the groups that the priors name, and None as the "
                "prior of a group without effects"
            )
        return groups

    # What is large, or takes time; :mod:`nnmm_jax.inference.build_shapes` has the shapes alone.

    def means(self) -> np.ndarray:
        """Mean dosage of each marker."""
        return self._once("means", "", lambda: marker_means(self.dataset.genotypes))

    def variances(self, dosages: DosageView) -> np.ndarray:
        """Variance of each marker."""
        return marker_variances(dosages)

    def markers(self, dosages: DosageView, root: np.ndarray | None = None) -> MarkerMatrix:
        """Lay covariates out for the sampler."""
        return build_marker_matrix(dosages, root)

    def spectrum(self, dosages: DosageView, root: np.ndarray | None = None) -> Spectrum:
        """Solve the eigenproblem of a joint draw."""
        return build_spectrum(dosages, root)

    def square_root(self, matrix: np.ndarray) -> np.ndarray:
        """Square root of a relationship matrix."""
        return square_root(matrix)

    def root_spectrum(self, root: np.ndarray) -> Spectrum:
        """Spectrum of a square root, whose columns are orthogonal already."""
        dtype, values = jnp.result_type(float), np.sum(root**2, axis=0)
        rows = (root / np.sqrt(values)).T
        return Spectrum(jnp.asarray(rows, dtype), jnp.asarray(values, dtype))

    def pedigree_matrix(self, pedigree: PedigreeTable, rows: np.ndarray) -> np.ndarray:
        """Relationships of some animals of a pedigree."""
        return pedigree.relationship(rows)

    def products(
        self, layer: Layer, markers: MarkerMatrix, spectrum: Spectrum | None
    ) -> dict[str, Array | None]:
        """Products of covariates and eigenvectors with the fixed design, and with themselves."""
        basis = layer.design.basis
        loadings = markers.project(basis).T
        return {
            "loadings": loadings,
            "grams": build_grams(markers, loadings) if spectrum is None else None,
            "spectrum_loadings": None if spectrum is None else basis @ spectrum.vectors.T,
        }

    def _marker_term(
        self,
        layer: Layer,
        prior: Prior,
        share: float,
        name: str,
        group: str,
        columns: np.ndarray | None,
        mask: np.ndarray | None,
    ) -> TermArrays:
        dosages = DosageView(self.dataset.genotypes, self.means(), None, columns)
        if not dosages.shape[1]:
            what = f"the marker group {group!r}" if group else "the part of the network"
            raise InputError(
                f"{layer.place}_prior: {what} has no marker"
                + (f" in the block {layer.block!r}" if layer.block else "")
            )
        key = "" if columns is None else hashlib.sha256(columns.tobytes()).hexdigest()
        variances = self._once("variances", key, lambda: self.variances(dosages))
        total = _sums(variances, mask)
        expected = expected_variances(dosages.chosen_means)
        factor = _sums(expected, mask) if isinstance(prior, GBLUP) else 1.0
        hyper = effect_hyper(prior, layer.responses, share, total, factor)
        whole = self._once("markers", key, lambda: self.markers(dosages))
        everyone = self._everyone(layer)
        mine = dosages if everyone else replace(dosages, rows=layer.rows)
        joint = hyper.normal and mask is None and min(mine.shape) <= self.max_spectrum
        spectrum = None
        if everyone and layer.root is None:
            markers = whole
            if joint:  # an eigenproblem that both layers may have
                spectrum = self._once("spectrum", key, lambda: self.spectrum(mine))
        else:
            markers = self.markers(mine, layer.root)
            if joint:
                spectrum = self.spectrum(mine, layer.root)
        padded = None
        if mask is not None:
            padded = jnp.asarray(np.pad(mask, ((0, markers.n_padded - mask.shape[0]), (0, 0))))
        return TermArrays(
            markers=markers,
            spectrum=spectrum,
            **self.products(layer, markers, spectrum),  # type: ignore[arg-type]
            hyper=hyper,
            mask=padded,
            everyone=None if everyone else whole,
            columns=None if columns is None else jnp.asarray(columns),
            name=name,
            label=layer.label(group),
            polygenic=False,
            are_markers=True,
        )

    def incomplete(self, term: TermArrays, rows: np.ndarray) -> MarkerMatrix:
        """Lay the markers of a term out for some individuals."""
        columns = None if term.columns is None else np.asarray(term.columns)
        return self.markers(DosageView(self.dataset.genotypes, self.means(), rows, columns))

    def _everyone(self, layer: Layer) -> bool:
        """Whether the records are the individuals."""
        return np.array_equal(layer.rows, np.arange(len(self.dataset.ids)))

    def _relationship(self, name: str) -> np.ndarray:
        matrices = self.dataset.relationships
        if name not in matrices:
            raise InputError(
                f"relationship matrix {name!r}: the data set has "
                f"{shortlist(list(matrices))}; give it to read_dataset(relationships=...)"
            )
        return np.asarray(matrices[name])

    def _square_root_term(
        self,
        layer: Layer,
        prior: Prior,
        share: float,
        name: str,
        label: str,
        key: str,
        matrix: np.ndarray,
    ) -> TermArrays:
        """Effects of a square root of a relationship matrix (individual, individual)."""
        n = matrix.shape[0]
        if n > self.max_spectrum:
            raise InputError(
                f"relationship matrix {key!r}: expected at most {self.max_spectrum} individuals, "
                f"found {n}"
            )
        root = self._once("root", key, lambda: self.square_root(matrix))
        columns = DosageView(root, np.zeros(root.shape[1]))
        whole = self._once("factor", key, lambda: self.markers(columns))
        diagonal = float(np.mean(np.diagonal(matrix)[layer.rows]))
        hyper = effect_hyper(prior, layer.responses, share, diagonal)
        everyone = self._everyone(layer)
        if everyone and layer.root is None:
            markers, spectrum = whole, self.root_spectrum(root)
        else:
            mine = replace(columns, rows=layer.rows)
            markers, spectrum = self.markers(mine, layer.root), self.spectrum(mine, layer.root)
        return TermArrays(
            markers=markers,
            spectrum=spectrum,
            **self.products(layer, markers, spectrum),  # type: ignore[arg-type]
            hyper=hyper,
            mask=None,
            everyone=None if everyone else whole,
            columns=None,
            name=name,
            label=label,
            polygenic=isinstance(prior, RandomTerm),
            are_markers=False,
        )

    def random_terms(
        self, layer: Layer, terms: tuple[RandomTerm, ...], shares: list[float]
    ) -> tuple[list[TermArrays], list[RandomArrays]]:
        """Random terms: those with a dense relationship matrix, and those with a sparse inverse."""
        dense: list[TermArrays] = []
        sparse: list[RandomArrays] = []
        for term, share in zip(terms, shares, strict=True):
            name = f"random_{layer.site(term.label)}"
            if isinstance(term, Relationship):
                matrix = self._relationship(term.matrix)
                dense.append(
                    self._square_root_term(
                        layer, term, share, name, layer.label(term.label), term.matrix, matrix
                    )
                )
            elif isinstance(term, Pedigree):
                if self.dataset.pedigree is None or self.dataset.pedigree_rows is None:
                    raise InputError(
                        "Pedigree(): the data set has no pedigree; give read_dataset(pedigree=...)"
                    )
                n = len(self.dataset.ids)
                if term.solver == "eigen" and n > self.max_spectrum:
                    raise InputError(
                        f"Pedigree(solver='eigen'): expected at most {self.max_spectrum} "
                        f"individuals, found {n}; use solver='cg'"
                    )
                few = n <= min(self.max_spectrum, MAX_PEDIGREE_EIGEN)
                if term.solver == "eigen" or (term.solver == "auto" and few):
                    matrix = self._pedigree_matrix()
                    key = "pedigree "  # with a blank: not the name of a user's matrix
                    label = layer.label(term.label)
                    dense.append(
                        self._square_root_term(layer, term, share, name, label, key, matrix)
                    )
                else:
                    sparse.append(pedigree_term(self.dataset, layer, term, share, name))
            else:
                assert isinstance(term, Group)
                sparse.append(group_term(self.dataset, layer, term, share, name))
        return dense, sparse

    def _pedigree_matrix(self) -> np.ndarray:
        pedigree, rows = self.dataset.pedigree, self.dataset.pedigree_rows
        assert pedigree is not None
        assert rows is not None
        return self._once("A", "", lambda: self.pedigree_matrix(pedigree, rows))


def square_root(matrix: np.ndarray) -> np.ndarray:
    """Columns B (individual, rank) with ``B B' = matrix``, orthogonal to each other."""
    values, vectors = scipy.linalg.eigh(matrix)
    keep = values > RANK_TOLERANCE * values[-1]
    return np.asarray(vectors[:, keep] * np.sqrt(values[keep]))


def _connected(
    columns: np.ndarray | None, mask: np.ndarray | None, layer: Layer
) -> tuple[np.ndarray | None, np.ndarray | None]:
    """Leave only what the layer's connections allow of some markers (all markers: ``None``)."""
    if layer.connected is not None:
        seen = layer.connected if columns is None else layer.connected[columns]
        mask = seen if mask is None else mask & seen
        kept = np.flatnonzero(mask.any(axis=1))
        columns, mask = (kept if columns is None else columns[kept]), mask[kept]
    return columns, None if mask is None or mask.all() else mask


def _sums(values: np.ndarray, mask: np.ndarray | None) -> float | np.ndarray:
    """Sum over markers, for every response where they differ in what they see.

    A response that sees nothing gets the mean of the others: its variance means nothing, but it
    must be a number.
    """
    if mask is None:
        return float(values.sum())
    sums = np.asarray(values @ mask)
    return np.where(sums > 0, sums, sums[sums > 0].mean())


def marker_variances(dosages: DosageView) -> np.ndarray:
    """Variances (marker,) after imputation by the mean."""
    found = np.empty(dosages.shape[1])
    for part, centred in dosages.centred():
        found[part] = np.mean(centred**2, axis=0)
    return found


def expected_variances(means: np.ndarray) -> np.ndarray:
    """Variances (marker,) ``2 p (1 - p)``; their sum is VanRaden's (2008) divisor of ``M M'``."""
    frequency = means / 2.0
    return np.asarray(2.0 * frequency * (1.0 - frequency))
