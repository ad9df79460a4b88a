"""The sampler that others use, for comparison: BayesC marker by marker, one trait a thread.

What BGLR and NNMM.jl do: genotypes in double precision, one column in memory after the other, a
dot product and a vector update for every marker and trait (Habier et al. 2011; Perez & de los
Campos 2014). Compiled by numba.
"""

import math
import time
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np
import xarray as xr

from nnmm_jax.data.align import Dataset
from nnmm_jax.errors import InputError
from nnmm_jax.inference.build_arrays import decoded, marker_means

Sweep = Callable[..., None]


@lru_cache(maxsize=1)
def marker_sweep() -> Sweep:
    """Return the compiled sweep ``(genotypes, residual, coef, sum_squares, var_e, var_a, pi)``.

    ``genotypes`` (marker, individual) are float64 in C order, ``residual`` (trait,
    individual) and ``coef`` (trait, marker) are updated in place, variances are (trait,); ``pi`` is
    the probability of an effect of zero. Traits are shared out among the threads.

    Raises
    ------
    InputError
        If numba is not installed.
    """
    try:
        import numba
    except ImportError as error:
        raise InputError("the marker-by-marker baseline needs numba: pip install numba") from error

    def sweep(
        genotypes: Any,
        residual: Any,
        coef: Any,
        sum_squares: Any,
        var_e: Any,
        var_a: Any,
        pi: float,
    ) -> None:
        log_prior = math.log((1.0 - pi) / pi)
        for trait in numba.prange(residual.shape[0]):
            left, noise, prior = residual[trait], var_e[trait], var_a[trait]
            for j in range(genotypes.shape[0]):
                column = genotypes[j]
                old = coef[trait, j]
                rhs = np.dot(column, left) + sum_squares[j] * old
                shrink = 1.0 / (sum_squares[j] + noise / prior)
                log_odds = (
                    log_prior
                    + 0.5 * rhs * rhs * shrink / noise
                    - 0.5 * math.log1p(sum_squares[j] * prior / noise)
                )
                new = 0.0
                if math.log(1.0 / np.random.random() - 1.0) < log_odds:  # noqa: NPY002, of numba
                    scatter = math.sqrt(noise * shrink) * np.random.normal()  # noqa: NPY002
                    new = rhs * shrink + scatter
                change = new - old
                if change != 0.0:
                    for i in range(left.shape[0]):
                        left[i] -= column[i] * change
                coef[trait, j] = new

    compiled: Sweep = numba.njit(parallel=True, fastmath=True)(sweep)
    return compiled


class MarkerByMarker:
    """The baseline on the genotypes of a data set.

    Parameters
    ----------
    dataset : Dataset
        Its omics, 0 where missing, are the traits of :meth:`sweep`; without omics, and in
        :meth:`chain`, the phenotype is the one trait. All individuals have one.
    """

    def __init__(self, dataset: Dataset) -> None:
        self._sweep = marker_sweep()
        centred = decoded(dataset.genotypes, marker_means(dataset.genotypes))
        self._genotypes = np.ascontiguousarray(centred.T)
        p, n = self._genotypes.shape
        self._squares = np.sum(self._genotypes**2, axis=1)
        traits = dataset.omics.T if dataset.omics.shape[1] else dataset.phenotype[None]
        scaled = traits - np.nanmean(traits, axis=1, keepdims=True)
        scaled /= np.nanstd(traits, axis=1, keepdims=True)
        self._residual = np.ascontiguousarray(np.nan_to_num(scaled), np.float64)
        self._coef = np.zeros((len(scaled), p))
        self._phenotype = dataset.phenotype
        self._genetic = self._squares.sum() / n

    def sweep(self) -> None:
        """One sweep of BayesC with a tenth of the effects expected not to be zero."""
        half = np.full(len(self._coef), 0.5)
        variance = half / (0.1 * self._genetic)
        self._sweep(self._genotypes, self._residual, self._coef, self._squares, half, variance, 0.9)

    def settle(self, sweeps: int = 10) -> None:
        """Compile it, and leave the start behind."""
        for _ in range(sweeps):
            self.sweep()

    def chain(
        self, *, warmup: int, samples: int, chains: int, seed: int = 1
    ) -> tuple[dict[str, xr.DataArray], float]:
        """Gibbs sampler of one trait with normal marker effects of one variance.

        Variances have scaled inverse chi-square priors with 5 degrees of freedom whose means give
        markers half of the variance. Chains are shared out among the threads.

        Returns
        -------
        draws
            ``h2`` (chain, draw) and ``ebv`` (chain, draw, individual).
        seconds
            Of the samples.
        """
        rng, df = np.random.default_rng(seed), 5.0
        p, n = self._genotypes.shape
        y = (self._phenotype - self._phenotype.mean()) / self._phenotype.std()
        left, coef = np.tile(y, (chains, 1)), np.zeros((chains, p))
        mean = np.zeros((chains, 1))
        scales = np.array([0.5 / self._genetic, 0.5]) * (df - 2.0) / df
        var_a, var_e = (np.full(chains, scale * df / (df - 2.0)) for scale in scales)
        h2, ebv = np.empty((chains, samples)), np.empty((chains, samples, n), np.float32)
        began = time.perf_counter()
        for number in range(-warmup, samples):
            if number == 0:
                began = time.perf_counter()
            left += mean
            mean = (left.mean(axis=1) + np.sqrt(var_e / n) * rng.normal(size=chains))[:, None]
            left -= mean
            self._sweep(self._genotypes, left, coef, self._squares, var_e, var_a, 1e-12)
            squares = [np.einsum("ij,ij->i", part, part) for part in (coef, left)]
            var_a = (df * scales[0] + squares[0]) / rng.chisquare(df + p, chains)
            var_e = (df * scales[1] + squares[1]) / rng.chisquare(df + n, chains)
            if number >= 0:
                genetic = y - mean - left
                ebv[:, number] = genetic - genetic.mean(axis=1, keepdims=True)
                variance = genetic.var(axis=1)
                h2[:, number] = variance / (variance + var_e)
        took = time.perf_counter() - began
        draws = {
            "h2": xr.DataArray(h2, dims=("chain", "draw")),
            "ebv": xr.DataArray(ebv, dims=("chain", "draw", "individual")),
        }
        return draws, took
