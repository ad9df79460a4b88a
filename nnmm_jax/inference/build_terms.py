"""Arrays of the terms of a layer: marker effects by group, relationship matrices, random levels."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar, cast

import jax.numpy as jnp
import numpy as np
import scipy.linalg

from nnmm_jax.data.align import Dataset
from nnmm_jax.data.groups import MarkerGroups
from nnmm_jax.errors import InputError, shortlist
from nnmm_jax.inference.arrays import MarkerMatrix, RandomArrays, Spectrum, TermArrays
from nnmm_jax.inference.build_arrays import (
    CHUNK,
    RANK_TOLERANCE,
    build_grams,
    build_marker_matrix,
    build_spectrum,
    decoded,
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

    def _genotypes(self, columns: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
        """Genotypes of some markers, all individuals, and their means."""
        genotypes = self.dataset.genotypes
        means = self._once("means", "", lambda: marker_means(genotypes))
        return (genotypes, means) if columns is None else (genotypes[:, columns], means[columns])

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
        genotypes, means = self._genotypes(columns)
        if not genotypes.shape[1]:
            what = f"the marker group {group!r}" if group else "the part of the network"
            raise InputError(
                f"{layer.place}_prior: {what} has no marker"
                + (f" in the block {layer.block!r}" if layer.block else "")
            )
        key = "" if columns is None else hashlib.sha256(columns.tobytes()).hexdigest()
        variances = self._once("variances", key, lambda: marker_variances(genotypes, means))
        total = _sums(variances, mask)
        expected = expected_variances(means)
        factor = _sums(expected, mask) if isinstance(prior, GBLUP) else 1.0
        hyper = effect_hyper(prior, layer.responses, share, total, factor)
        whole = self._once("markers", key, lambda: build_marker_matrix(genotypes, means))
        everyone = self._everyone(layer)
        mine = genotypes if everyone else genotypes[layer.rows]
        joint = hyper.normal and mask is None and min(mine.shape) <= self.max_spectrum
        spectrum = None
        if everyone and layer.root is None:
            markers = whole
            if joint:  # an eigenproblem that both layers may have
                spectrum = self._once("spectrum", key, lambda: build_spectrum(mine, means))
        else:
            markers = build_marker_matrix(mine, means, layer.root)
            if joint:
                spectrum = build_spectrum(mine, means, layer.root)
        padded = None
        if mask is not None:
            padded = jnp.asarray(np.pad(mask, ((0, markers.n_padded - mask.shape[0]), (0, 0))))
        return _term(
            layer,
            markers,
            spectrum,
            hyper=hyper,
            mask=padded,
            everyone=None if everyone else whole,
            columns=None if columns is None else jnp.asarray(columns),
            name=name,
            label=layer.label(group),
            polygenic=False,
            are_markers=True,
        )

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
        root = self._once("root", key, lambda: square_root(matrix))
        zero = np.zeros(root.shape[1])
        whole = self._once("factor", key, lambda: build_marker_matrix(root, zero))
        diagonal = float(np.mean(np.diagonal(matrix)[layer.rows]))
        hyper = effect_hyper(prior, layer.responses, share, diagonal)
        everyone = self._everyone(layer)
        if everyone and layer.root is None:
            dtype, values = jnp.result_type(float), np.sum(root**2, axis=0)
            rows = (root / np.sqrt(values)).T
            markers = whole
            spectrum = Spectrum(jnp.asarray(rows, dtype), jnp.asarray(values, dtype))
        else:
            markers = build_marker_matrix(root[layer.rows], zero, layer.root)
            spectrum = build_spectrum(root[layer.rows], zero, layer.root)
        return _term(
            layer,
            markers,
            spectrum,
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
        return self._once("A", "", lambda: pedigree.relationship(rows))


def _term(
    layer: Layer, markers: MarkerMatrix, spectrum: Spectrum | None, **rest: object
) -> TermArrays:
    basis = layer.design.basis
    loadings = markers.project(basis).T
    return TermArrays(
        markers=markers,
        loadings=loadings,
        grams=build_grams(markers, loadings) if spectrum is None else None,
        spectrum=spectrum,
        spectrum_loadings=None if spectrum is None else basis @ spectrum.vectors.T,
        **rest,  # type: ignore[arg-type]
    )


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


def marker_variances(genotypes: np.ndarray, means: np.ndarray) -> np.ndarray:
    """Variances (marker,) after imputation by the mean."""
    found = np.empty(genotypes.shape[1])
    for start in range(0, genotypes.shape[1], CHUNK):
        columns = slice(start, start + CHUNK)
        found[columns] = np.mean(decoded(genotypes[:, columns], means[columns]) ** 2, axis=0)
    return found


def expected_variances(means: np.ndarray) -> np.ndarray:
    """Variances (marker,) ``2 p (1 - p)``; their sum is VanRaden's (2008) divisor of ``M M'``."""
    frequency = means / 2.0
    return np.asarray(2.0 * frequency * (1.0 - frequency))
