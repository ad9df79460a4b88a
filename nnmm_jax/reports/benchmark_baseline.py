"""The sampler that others use, for comparison: BayesC marker by marker, one trait a thread.

What BGLR and NNMM.jl do: genotypes in double precision, one column in memory after the other, a
dot product and a vector update for every marker and trait (Habier et al. 2011; Perez & de los
Campos 2014). Compiled by numba, which the extra ``benchmark`` installs.
"""

import math
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np

from nnmm_jax.errors import InputError

Sweep = Callable[..., None]


@lru_cache(maxsize=1)
def marker_sweep() -> Sweep:
    """Return the compiled sweep ``(genotypes, residual, coef, sum_squares, var_e, var_a, pi)``.

    ``genotypes`` (individual, marker) are float64 in Fortran order, ``residual`` (trait,
    individual) and ``coef`` (trait, marker) are updated in place; ``pi`` is the probability of an
    effect of zero. Traits are shared out among the threads.

    Raises
    ------
    InputError
        If numba is not installed.
    """
    try:
        import numba
    except ImportError as error:
        raise InputError(
            "the marker-by-marker baseline needs numba: pip install 'nnmm_jax[benchmark]'"
        ) from error

    def sweep(
        genotypes: Any,
        residual: Any,
        coef: Any,
        sum_squares: Any,
        var_e: float,
        var_a: float,
        pi: float,
    ) -> None:
        log_prior = math.log((1.0 - pi) / pi)
        for trait in numba.prange(residual.shape[0]):
            left = residual[trait]
            for j in range(genotypes.shape[1]):
                column = genotypes[:, j]
                old = coef[trait, j]
                rhs = np.dot(column, left) + sum_squares[j] * old
                shrink = 1.0 / (sum_squares[j] + var_e / var_a)
                log_odds = (
                    log_prior
                    + 0.5 * rhs * rhs * shrink / var_e
                    - 0.5 * math.log1p(sum_squares[j] * var_a / var_e)
                )
                new = 0.0
                if math.log(1.0 / np.random.random() - 1.0) < log_odds:  # noqa: NPY002, of numba
                    scatter = math.sqrt(var_e * shrink) * np.random.normal()  # noqa: NPY002
                    new = rhs * shrink + scatter
                change = new - old
                if change != 0.0:
                    for i in range(left.shape[0]):
                        left[i] -= column[i] * change
                coef[trait, j] = new

    compiled: Sweep = numba.njit(parallel=True, fastmath=True)(sweep)
    return compiled
