"""Arrays of the terms of a layer: marker effects by group, relationship matrices, random levels."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar, cast

import jax.numpy as jnp
import numpy as np
import scipy.linalg

from nnmm_jax.data.align import Dataset
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
        self, layer: Layer, priors: Mapping[str, Prior], shares: Mapping[str, float]
    ) -> list[TermArrays]:
        """One term for each group of markers (the group ``""`` is all markers).

        Raises
        ------
        InputError
            If there are no markers, or priors and groups do not match.
        """
        if not priors:
            return []
        found = []
        for group, prior in priors.items():
            name = layer.place if not group else f"{layer.place}_{group}"
            if isinstance(prior, GBLUP) and prior.relationship is not None:
                matrix = self._relationship(prior.relationship)
                found.append(
                    self._square_root_term(
                        layer, prior, shares[group], name, group, prior.relationship, matrix
                    )
                )
                continue
            if not self.dataset.genotypes.shape[1]:
                raise InputError(
                    f"{layer.place}_prior: expected genotypes, found none; give them, or say "
                    f"{layer.place}_prior=None"
                )
            columns, mask = self._members(group, priors, layer)
            found.append(self._marker_term(layer, prior, shares[group], name, group, columns, mask))
        return found

    def _members(
        self, group: str, priors: Mapping[str, Prior], layer: Layer
    ) -> tuple[np.ndarray | None, np.ndarray | None]:
        """Columns of a group's markers, and where they act if that differs between nodes."""
        groups = self.dataset.marker_groups
        if not group:
            return None, None
        names = () if groups is None else groups.names
        if groups is None or set(names) != set(priors):
            raise InputError(
                f"{layer.place}_prior: expected a prior for each marker group "
                f"({shortlist(names)}), found "
                f"{shortlist(list(priors))}; "
                "give read_dataset(marker_groups=...) the groups that the priors name"
            )
        code = names.index(group)
        if groups.codes.ndim == 1:
            return np.flatnonzero(groups.codes == code), None
        if layer.node_names is None or len(layer.node_names) != groups.codes.shape[1]:
            raise InputError(
                f"{layer.place}_prior: the marker groups differ between omics, which a trait or a "
                "latent node does not have; give one prior for all markers there"
            )
        member = groups.codes == code
        columns = np.flatnonzero(member.any(axis=1))
        mask = member[columns]
        return columns, None if mask.all() else mask

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
            raise InputError(f"{layer.place}_prior: the marker group {group!r} has no marker")
        total = self._once("total", group, lambda: marker_variance_sum(genotypes, means))
        if mask is not None:  # nodes differ in what they see; the mean over nodes sets the scale
            total *= mask.mean()
        factor = vanraden_divisor(means) if isinstance(prior, GBLUP) else 1.0
        hyper = effect_hyper(prior, layer.responses, share, total, factor)
        whole = self._once("markers", group, lambda: build_marker_matrix(genotypes, means))
        everyone = self._everyone(layer)
        mine = genotypes if everyone else genotypes[layer.rows]
        joint = hyper.normal and mask is None and min(mine.shape) <= self.max_spectrum
        spectrum = None
        if everyone and layer.root is None:
            markers = whole
            if joint:  # an eigenproblem that both layers may have
                spectrum = self._once("spectrum", group, lambda: build_spectrum(mine, means))
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
            label=group,
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
            name = f"random_{layer.place}_{term.label}"
            if isinstance(term, Relationship):
                matrix = self._relationship(term.matrix)
                dense.append(
                    self._square_root_term(
                        layer, term, share, name, term.label, term.matrix, matrix
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
                    dense.append(
                        self._square_root_term(layer, term, share, name, term.label, key, matrix)
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


def marker_variance_sum(genotypes: np.ndarray, means: np.ndarray) -> float:
    """Sum of the markers' variances after imputation by the mean."""
    total = 0.0
    for start in range(0, genotypes.shape[1], CHUNK):
        columns = slice(start, start + CHUNK)
        centred = decoded(genotypes[:, columns], means[columns])
        total += float(np.mean(centred**2, axis=0).sum())
    return total


def vanraden_divisor(means: np.ndarray) -> float:
    """Divisor of ``M M'`` in VanRaden (2008), method 1: ``sum_j 2 p_j (1 - p_j)``."""
    frequency = means / 2.0
    return float(np.sum(2.0 * frequency * (1.0 - frequency)))
