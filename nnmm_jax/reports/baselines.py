"""Baselines that a network has to beat: GBLUP on markers, ridge on omics, ridge on both.

Each is a kernel model ``y = X b + g + e`` with ``g ~ N(0, K v_g)``, ``e ~ N(0, I v_e)`` and K a
weighted mean of similarities between individuals (VanRaden 1 from the markers, the same from
standardised omics). Variances and weight are those of largest restricted likelihood in the
training set. Ridge regression on the columns behind K gives the same predictions.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
import scipy.linalg
from scipy.optimize import minimize_scalar

from nnmm_jax.data.align import Dataset
from nnmm_jax.errors import InputError
from nnmm_jax.inference.arrays import MISSING_CODE
from nnmm_jax.inference.build_arrays import marker_means

_H2_RANGE = (1e-4, 1.0 - 1e-4)
_GRID = 9  # values tried before the search, so that it starts in the right valley
_LOG_2PI = float(np.log(2.0 * np.pi))


@dataclass(frozen=True, eq=False)
class KernelFit:
    """A kernel model and what it predicts.

    Attributes
    ----------
    mean, variance : (individual,)
        Prediction of everyone's phenotype, and the variance of a new phenotype around it: of the
        genetic value, of the fixed effects and of the residual. Variances are taken as known.
    h2 : float
        ``v_g / (v_g + v_e)``; with kernels of mean diagonal 1 the share that g explains.
    weights : tuple of float
        Of the kernels in K; they sum to 1.
    var_genetic, var_residual : float
    log_likelihood : float
        Restricted, at its maximum.
    """

    mean: np.ndarray
    variance: np.ndarray
    h2: float
    weights: tuple[float, ...]
    var_genetic: float
    var_residual: float
    log_likelihood: float


def marker_kernel(genotypes: np.ndarray) -> np.ndarray:
    """Genomic relationships (individual, individual), scaled to a mean diagonal of 1.

    Parameters
    ----------
    genotypes : (individual, marker)
        Dosages, int8 with -1 or float with NaN for missing, which are imputed by the mean.

    References
    ----------
    VanRaden 2008, J. Dairy Sci. 91:4414, method 1, up to the scale.

    Examples
    --------
    >>> import numpy as np
    >>> marker_kernel(np.array([[0], [1], [2]], dtype=np.int8)).diagonal()
    array([1.5, 0. , 1.5])
    """
    missing = np.isnan(genotypes) if genotypes.dtype.kind == "f" else genotypes == MISSING_CODE
    centred = np.where(missing, 0.0, genotypes - marker_means(genotypes))
    return _similarity(centred)


def omics_kernel(omics: np.ndarray) -> np.ndarray:
    """Similarities (individual, individual) of standardised omics, scaled to a mean diagonal of 1.

    Cells that are missing are imputed by the column's mean. Whoever has no omics at all is like
    nobody else, with the average variance: what that individual's omics would say is unknown.

    Parameters
    ----------
    omics : (individual, node)
        NaN for missing.

    Examples
    --------
    >>> import numpy as np
    >>> omics_kernel(np.array([[1.0], [3.0], [np.nan]])).round(6) + 0.0
    array([[ 1., -1.,  0.],
           [-1.,  1.,  0.],
           [ 0.,  0.,  1.]])
    """
    known = ~np.isnan(omics).all(axis=1)
    standard = (omics - np.nanmean(omics, axis=0)) / np.nanstd(omics, axis=0)
    kernel = np.eye(len(omics))
    kernel[np.ix_(known, known)] = _similarity(np.nan_to_num(standard[known]))
    return kernel


def _similarity(columns: np.ndarray) -> np.ndarray:
    product = columns @ columns.T
    return product / np.mean(np.diagonal(product))


def restricted_log_likelihood(
    phenotype: np.ndarray, design: np.ndarray, kernel: np.ndarray, h2: float
) -> float:
    """Restricted log likelihood at h2, maximised over the total variance.

    Parameters
    ----------
    phenotype : (individual,)
        Without missing values.
    design : (individual, term)
    kernel : (individual, individual)

    References
    ----------
    Patterson & Thompson 1971, Biometrika 58:545.
    """
    return _Rotated.of(phenotype, design, kernel).log_likelihood(h2)


@dataclass(frozen=True, eq=False)
class _Rotated:
    """Phenotype and design in the coordinates of the kernel's eigenvectors."""

    values: np.ndarray
    vectors: np.ndarray
    phenotype: np.ndarray
    design: np.ndarray

    @classmethod
    def of(cls, phenotype: np.ndarray, design: np.ndarray, kernel: np.ndarray) -> "_Rotated":
        values, vectors = scipy.linalg.eigh(kernel)
        return cls(np.maximum(values, 0.0), vectors, vectors.T @ phenotype, vectors.T @ design)

    def spread(self, h2: float) -> np.ndarray:
        """Eigenvalues of the phenotypes' covariance for a total variance of 1."""
        return h2 * self.values + 1.0 - h2

    def effects(self, h2: float) -> tuple[np.ndarray, np.ndarray, float]:
        """Fixed effects, the Cholesky factor of their precision, and the total variance."""
        weighted = self.design / self.spread(h2)[:, None]
        factor = np.linalg.cholesky(weighted.T @ self.design)
        fixed = scipy.linalg.cho_solve((factor, True), weighted.T @ self.phenotype)
        residual = self.phenotype - self.design @ fixed
        degrees = self.design.shape[0] - self.design.shape[1]
        return fixed, factor, float(np.sum(residual**2 / self.spread(h2)) / degrees)

    def log_likelihood(self, h2: float) -> float:
        _, factor, total = self.effects(h2)
        degrees = self.design.shape[0] - self.design.shape[1]
        log_determinants = np.sum(np.log(self.spread(h2))) + 2.0 * np.sum(
            np.log(np.diagonal(factor))
        )
        return float(-0.5 * (degrees * (_LOG_2PI + np.log(total) + 1.0) + log_determinants))

    def best(self) -> tuple[float, float]:
        """h2 of largest restricted likelihood, and that likelihood."""
        return _maximise(self.log_likelihood, *_H2_RANGE)


def _maximise(function: Callable[[float], float], low: float, high: float) -> tuple[float, float]:
    """Maximum of a function of one number: a grid, then a search between its best neighbours."""
    grid = np.linspace(low, high, _GRID)
    values = [function(point) for point in grid]
    best = int(np.argmax(values))
    bounds = grid[max(best - 1, 0)], grid[min(best + 1, _GRID - 1)]
    found = minimize_scalar(
        lambda point: -function(point), bounds=bounds, method="bounded", options={"xatol": 1e-4}
    )
    if -found.fun > values[best]:
        return float(found.x), float(-found.fun)
    return float(grid[best]), float(values[best])


def fit_kernels(
    phenotype: np.ndarray, kernels: Sequence[np.ndarray], design: np.ndarray | None = None
) -> KernelFit:
    """Estimate variances in the phenotyped individuals and predict everyone.

    Parameters
    ----------
    phenotype : (individual,)
        NaN for those to predict; at least one value more than design columns.
    kernels : one or two of (individual, individual)
        Positive semi-definite, of mean diagonal 1.
    design : (individual, term) or None
        Fixed effects of full rank in the phenotyped; ``None`` for an intercept.

    Returns
    -------
    KernelFit

    Raises
    ------
    InputError
        If there are not one or two kernels, or too few phenotypes.

    Examples
    --------
    >>> import numpy as np
    >>> kernel = np.array([[1.0, 0.9, 0.0], [0.9, 1.0, 0.0], [0.0, 0.0, 1.0]])
    >>> fit_kernels(np.array([2.0, np.nan, 0.0]), [kernel]).mean.shape
    (3,)
    """
    if len(kernels) not in (1, 2):
        raise InputError(f"expected one or two kernels, found {len(kernels)}")
    design = np.ones((len(phenotype), 1)) if design is None else design
    trained = np.flatnonzero(np.isfinite(phenotype))
    if len(trained) <= design.shape[1]:
        raise InputError(
            f"expected more phenotypes than the {design.shape[1]} fixed effects, found "
            f"{len(trained)}"
        )
    block, y, x = np.ix_(trained, trained), phenotype[trained], design[trained]
    weights: tuple[float, ...] = (1.0,)
    if len(kernels) == 2:
        first, second = (kernel[block] for kernel in kernels)

        def profile(weight: float) -> float:
            return _Rotated.of(y, x, weight * first + (1.0 - weight) * second).best()[1]

        weight, _ = _maximise(profile, 0.0, 1.0)
        weights = (weight, 1.0 - weight)
    kernel = sum(
        (weight * part for weight, part in zip(weights, kernels, strict=True)),
        start=np.zeros_like(kernels[0]),
    )
    return _predict(_Rotated.of(y, x, kernel[block]), kernel, design, trained, weights)


def _predict(
    rotated: _Rotated,
    kernel: np.ndarray,
    design: np.ndarray,
    trained: np.ndarray,
    weights: tuple[float, ...],
) -> KernelFit:
    """Best linear unbiased prediction and its variance (Henderson 1975, Biometrics 31:423)."""
    h2, log_likelihood = rotated.best()
    fixed, factor, total = rotated.effects(h2)
    spread = rotated.spread(h2)
    shared = h2 * kernel[:, trained] @ rotated.vectors
    genetic = shared @ ((rotated.phenotype - rotated.design @ fixed) / spread)
    left = h2 * np.diagonal(kernel) - np.sum(shared**2 / spread, axis=1)
    unknown = design - (shared / spread) @ rotated.design
    of_fixed = np.sum(scipy.linalg.solve_triangular(factor, unknown.T, lower=True) ** 2, axis=0)
    return KernelFit(
        mean=design @ fixed + genetic,
        variance=total * (np.maximum(left, 0.0) + of_fixed + 1.0 - h2),
        h2=h2,
        weights=weights,
        var_genetic=h2 * total,
        var_residual=(1.0 - h2) * total,
        log_likelihood=log_likelihood,
    )


@dataclass(frozen=True)
class Baseline:
    """A kernel model of the phenotype.

    Attributes
    ----------
    kernels : tuple of str
        "markers", "omics" or both.

    Raises
    ------
    InputError
        If a kernel is unknown or named twice; in :meth:`fit` if the data have repeated records, or
        lack the genotypes or omics of the kernels.
    """

    kernels: tuple[str, ...]

    def __post_init__(self) -> None:
        """Check the names where they are written."""
        unknown = [name for name in self.kernels if name not in ("markers", "omics")]
        if unknown or not self.kernels or len(set(self.kernels)) < len(self.kernels):
            raise InputError(f"kernels must be 'markers', 'omics' or both, got {self.kernels!r}")

    def check(self, dataset: Dataset) -> None:
        """Refuse data that the model cannot be fitted to."""
        check_single_records(dataset, "a baseline")
        for kernel, columns in (("markers", dataset.genotypes), ("omics", dataset.omics)):
            if kernel in self.kernels and columns.shape[1] == 0:
                raise InputError(
                    f"a baseline on {kernel}: data without {kernel} are not supported; give them, "
                    "or leave this baseline out"
                )

    def fit(self, dataset: Dataset, design: np.ndarray | None = None) -> KernelFit:
        """Fit to the observed phenotypes of a data set, see :func:`fit_kernels`."""
        self.check(dataset)
        build = {
            "markers": lambda: marker_kernel(dataset.genotypes),
            "omics": lambda: omics_kernel(dataset.omics),
        }
        return fit_kernels(dataset.phenotype, [build[name]() for name in self.kernels], design)


def check_single_records(dataset: Dataset, what: str) -> None:
    """Refuse repeated records.

    Parameters
    ----------
    dataset : Dataset
    what : str
        What does not support them.

    Raises
    ------
    InputError
        If an individual has several rows of phenotypes.
    """
    if len(dataset.record_rows) != len(dataset.ids):
        raise InputError(
            f"{what}: repeated records of an individual are not supported, found "
            f"{len(dataset.record_rows)} records of {len(dataset.ids)} individuals; give one row "
            "of phenotypes each, such as the mean"
        )


BASELINES: Mapping[str, Baseline] = MappingProxyType(
    {
        "GBLUP on markers": Baseline(("markers",)),
        "ridge on omics": Baseline(("omics",)),
        "ridge on both": Baseline(("omics", "markers")),
    }
)
