"""Priors for marker effects, node effects, skip effects and residuals: what the user states.

The same specifications serve all places. Default scales are derived from the variance of the
response when the data are known (:mod:`nnmm_jax.inference.prepare`), never here.

A prior says of an effect: it is zero, or normal with a variance. The *family* says which variance:
``common`` (one for all effects), ``own`` (one for each effect) or ``lasso`` (one for each effect,
relative to the residual variance).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from types import MappingProxyType
from typing import ClassVar

from nnmm_jax.errors import InputError

GAMMA_SHAPE = 1.1  # vague, mode above zero; the default of BGLR (Perez & de los Campos 2014)


def _positive(name: str, **values: float | None) -> None:
    for what, value in values.items():
        if value is not None and not value > 0:
            raise InputError(f"{name}: {what} must be positive, got {value}")


def _one_of(name: str, **values: object) -> None:
    """Refuse two ways of saying the same thing: one would be ignored."""
    given = [what for what, value in values.items() if value is not None]
    if len(given) > 1:
        raise InputError(f"{name}: expected {given[0]} or {given[1]}, found both; give one of them")


@dataclass(frozen=True, kw_only=True)
class Prior:
    """What all effect priors share.

    Attributes
    ----------
    share : float or None
        Share of the response's variance that the effects explain a priori, between 0 and 1; the
        hyperparameters that are not given are set so that the prior *mean* of the explained
        variance is this share. ``None``: one half, divided by the number of sets of effects on the
        response.
    """

    name: ClassVar[str]
    family: ClassVar[str] = "common"
    symbol: ClassVar[str] = "var"  # of what governs the effects, in names of reported quantities

    share: float | None = None

    def __post_init__(self) -> None:
        """Check the values that every prior has."""
        if self.share is not None and not 0 < self.share < 1:
            raise InputError(f"{self.name}: share must lie between 0 and 1, got {self.share}")

    @property
    def multipliers(self) -> tuple[float, ...]:
        """Variance of each component of the mixture, relative to the effects' variance."""
        return (1.0,)

    @property
    def component_counts(self) -> tuple[float, ...] | None:
        """Dirichlet prior of the components' probabilities; ``None`` where they are fixed."""
        return None

    @property
    def expected_weights(self) -> tuple[float, ...]:
        """Prior expectation of the components' probabilities."""
        return (1.0,)

    @property
    def expected_multiplier(self) -> float:
        """Prior expectation of an effect's variance, relative to the variance parameter."""
        pairs = zip(self.expected_weights, self.multipliers, strict=True)
        return sum(weight * multiplier for weight, multiplier in pairs)


@dataclass(frozen=True, kw_only=True)
class CommonVariance(Prior):
    """One variance for all effects, ``variance ~ df * S / chi2(df)``.

    Attributes
    ----------
    df : float
        Degrees of freedom of the scaled inverse chi-square prior. Must exceed 2 unless ``scale``
        or ``variance`` is given, so that the prior mean exists.
    scale : float or None
        S, in squared units of the response (for each squared unit of the covariate: allele copy,
        standardised omics). ``None``: from ``share``.
    variance : float or None
        The variance itself, known; it is then not sampled.
    """

    df: float = 4.0
    scale: float | None = None
    variance: float | None = None

    def __post_init__(self) -> None:
        """Check the variance's prior."""
        super().__post_init__()
        _positive(self.name, df=self.df, scale=self.scale, variance=self.variance)
        _one_of(self.name, variance=self.variance, scale=self.scale)
        if self.scale is None and self.variance is None and not self.df > 2:
            raise InputError(
                f"{self.name}: df must exceed 2 (prior mean exists) where scale is not given, "
                f"got {self.df}"
            )


@dataclass(frozen=True, kw_only=True)
class RRBLUP(CommonVariance):
    """Ridge regression: every effect ~ N(0, variance), one variance per response.

    Examples
    --------
    >>> from nnmm_jax import RRBLUP
    >>> RRBLUP(share=0.3).share
    0.3
    """

    name: ClassVar[str] = "RR-BLUP"


@dataclass(frozen=True, kw_only=True)
class GBLUP(CommonVariance):
    """Genomic values ~ N(0, G variance): RR-BLUP, stated in the variance of genetic values.

    Attributes
    ----------
    relationship : str or None
        Name of a relationship matrix of the data set (``read_dataset(relationships=...)``) that
        takes the place of G; the effects are then no marker effects. ``None``: G from the markers,
        ``M M' / sum_j 2 p_j (1 - p_j)`` (VanRaden 2008, method 1).

    Examples
    --------
    >>> from nnmm_jax import GBLUP
    >>> GBLUP(variance=2.0).variance
    2.0
    """

    name: ClassVar[str] = "GBLUP"

    relationship: str | None = None


@dataclass(frozen=True, kw_only=True)
class _Spike(Prior):
    """Effects that are zero with probability pi.

    Attributes
    ----------
    pi : float or None
        Probability that an effect is ZERO (BGLR's ``probIn`` is 1 - pi). ``None``: estimated.
    pi_counts : (float, float)
        Beta prior of pi when it is estimated: counts of (zero, non-zero) effects.
    """

    pi: float | None = None
    pi_counts: tuple[float, float] = (1.0, 1.0)

    def __post_init__(self) -> None:
        """Check pi and its prior."""
        super().__post_init__()
        if self.pi is not None and not 0 < self.pi < 1:
            without = {"BayesB": "BayesA", "BayesC": "RR-BLUP"}[self.name]
            raise InputError(
                f"{self.name}: pi, the probability of a zero effect, must lie between 0 and 1, "
                f"got {self.pi} (for pi = 0 use {without})"
            )
        _check_counts(self.name, "pi_counts", self.pi_counts, 2)
        stated = None if self.pi_counts == (1.0, 1.0) else self.pi_counts
        _one_of(self.name, pi=self.pi, pi_counts=stated)

    @property
    def multipliers(self) -> tuple[float, ...]:
        """Zero, or the variance."""
        return (0.0, 1.0)

    @property
    def component_counts(self) -> tuple[float, ...] | None:
        """Beta prior of pi, if it is estimated."""
        return self.pi_counts if self.pi is None else None

    @property
    def expected_weights(self) -> tuple[float, ...]:
        """Prior expectations of pi and 1 - pi."""
        zero, nonzero = self.pi_counts
        pi = zero / (zero + nonzero) if self.pi is None else self.pi
        return (pi, 1.0 - pi)


@dataclass(frozen=True, kw_only=True)
class BayesC(_Spike, CommonVariance):
    """Spike and slab: zero with probability pi, else N(0, variance) (Habier et al. 2011).

    Attributes
    ----------
    pi : float or None
        Probability that an effect is ZERO (BGLR's ``probIn`` is 1 - pi). ``None``: estimated.
    pi_counts : (float, float)
        Beta prior of pi when it is estimated: counts of (zero, non-zero) effects.

    Examples
    --------
    >>> from nnmm_jax import BayesC
    >>> round(BayesC(pi=0.95).expected_multiplier, 2)
    0.05
    """

    name: ClassVar[str] = "BayesC"


@dataclass(frozen=True, kw_only=True)
class BayesA(Prior):
    """Every effect ~ N(0, its own variance), ``variance_j ~ df * S / chi2(df)``: a t distribution.

    Meuwissen, Hayes & Goddard 2001, with S estimated as in BGLR (Perez & de los Campos 2014).

    Attributes
    ----------
    df : float
        Degrees of freedom of the variances' prior, above 2.
    scale : float or None
        S, known. ``None``: ``S ~ Gamma(shape, rate)``. Units as the variances'.
    shape, rate : float, float or None
        Gamma prior of S, mean shape / rate; the rate comes from ``share`` where it is not given.
        BGLR's S is df times this one.

    Examples
    --------
    >>> from nnmm_jax import BayesA
    >>> BayesA(df=5.0).shape
    1.1
    """

    name: ClassVar[str] = "BayesA"
    family: ClassVar[str] = "own"
    symbol: ClassVar[str] = "scale"

    df: float = 4.0
    scale: float | None = None
    shape: float = GAMMA_SHAPE
    rate: float | None = None

    def __post_init__(self) -> None:
        """Check the variances' prior."""
        super().__post_init__()
        _positive(self.name, df=self.df, scale=self.scale, shape=self.shape, rate=self.rate)
        _one_of(self.name, scale=self.scale, rate=self.rate)
        if not self.df > 2:
            raise InputError(f"{self.name}: df must exceed 2 (prior mean exists), got {self.df}")


@dataclass(frozen=True, kw_only=True)
class BayesB(_Spike, BayesA):
    """Zero with probability pi, else as in :class:`BayesA` (Meuwissen et al. 2001).

    Attributes
    ----------
    pi : float or None
        Probability that an effect is ZERO (BGLR's ``probIn`` is 1 - pi). ``None``: estimated.
    pi_counts : (float, float)
        Beta prior of pi when it is estimated: counts of (zero, non-zero) effects.

    Examples
    --------
    >>> from nnmm_jax import BayesB
    >>> BayesB(pi=0.9).expected_weights[0]
    0.9
    """

    name: ClassVar[str] = "BayesB"


@dataclass(frozen=True, kw_only=True)
class BayesL(Prior):
    """Bayesian lasso: a Laplace distribution, as N(0, tau2_j * residual variance).

    ``tau2_j ~ Exponential(rate lambda2 / 2)`` (Park & Casella 2008).

    Attributes
    ----------
    lambda2 : float or None
        lambda squared, known. ``None``: ``lambda2 ~ Gamma(shape, rate)``.
    shape, rate : float, float or None
        Gamma prior of lambda2, mean shape / rate. The rate comes from ``share`` where it is not
        given; shape must then exceed 1, so that the prior mean of the explained variance exists.

    Examples
    --------
    >>> from nnmm_jax import BayesL
    >>> BayesL(lambda2=400.0).lambda2
    400.0
    """

    name: ClassVar[str] = "BayesL"
    family: ClassVar[str] = "lasso"
    symbol: ClassVar[str] = "lambda2"

    lambda2: float | None = None
    shape: float = GAMMA_SHAPE
    rate: float | None = None

    def __post_init__(self) -> None:
        """Check lambda and its prior."""
        super().__post_init__()
        _positive(self.name, lambda2=self.lambda2, shape=self.shape, rate=self.rate)
        _one_of(self.name, lambda2=self.lambda2, rate=self.rate)
        if self.lambda2 is None and self.rate is None and not self.shape > 1:
            raise InputError(
                f"BayesL: shape must exceed 1 where rate is not given, got {self.shape}"
            )


@dataclass(frozen=True, kw_only=True)
class BayesR(CommonVariance):
    """Mixture of normal distributions: component k has variance ``multipliers[k] * variance``.

    Erbe et al. 2012; Moser et al. 2015.

    Attributes
    ----------
    mixture : sequence of float
        Variance of each component relative to ``variance``, increasing, the first one 0.
    weights : sequence of float or None
        Probabilities of the components, known; they sum to 1. ``None``: estimated.
    weight_counts : sequence of float or None
        Dirichlet prior of the probabilities when they are estimated; ``None``: one for each.

    Examples
    --------
    >>> from nnmm_jax import BayesR
    >>> BayesR(mixture=(0, 0.01, 0.1, 1)).multipliers
    (0.0, 0.01, 0.1, 1.0)
    """

    name: ClassVar[str] = "BayesR"

    mixture: Sequence[float] = (0.0, 0.0001, 0.001, 0.01)
    weights: Sequence[float] | None = None
    weight_counts: Sequence[float] | None = None

    def __post_init__(self) -> None:
        """Check the mixture."""
        super().__post_init__()
        mixture = tuple(float(value) for value in self.mixture)
        increasing = all(low < high for low, high in pairwise(mixture))
        if len(mixture) < 2 or mixture[0] != 0.0 or not increasing:
            raise InputError(f"BayesR: mixture must start at 0 and increase, got {self.mixture}")
        _one_of("BayesR", weights=self.weights, weight_counts=self.weight_counts)
        counts = self.weight_counts
        counts = (1.0,) * len(mixture) if counts is None else tuple(float(c) for c in counts)
        _check_counts("BayesR", "weight_counts", counts, len(mixture))
        if self.weights is not None:
            weights = tuple(float(value) for value in self.weights)
            _check_counts("BayesR", "weights", weights, len(mixture))
            if abs(sum(weights) - 1.0) > 1e-6:
                raise InputError(f"BayesR: weights must sum to 1, got {sum(weights)}")
            object.__setattr__(self, "weights", weights)
        object.__setattr__(self, "mixture", mixture)
        if self.weights is None:
            object.__setattr__(self, "weight_counts", counts)

    @property
    def multipliers(self) -> tuple[float, ...]:
        """The mixture."""
        return tuple(self.mixture)

    @property
    def component_counts(self) -> tuple[float, ...] | None:
        """Dirichlet prior of the weights, if they are estimated."""
        if self.weights is not None:
            return None
        assert self.weight_counts is not None
        return tuple(self.weight_counts)

    @property
    def expected_weights(self) -> tuple[float, ...]:
        """Prior expectation of the weights."""
        if self.weights is not None:
            return tuple(self.weights)
        assert self.weight_counts is not None
        total = sum(self.weight_counts)
        return tuple(count / total for count in self.weight_counts)


def _check_counts(name: str, what: str, counts: Sequence[float], size: int) -> None:
    if len(counts) != size or not all(count > 0 for count in counts):
        raise InputError(f"{name}: {what} must be {size} positive numbers, got {tuple(counts)}")


@dataclass(frozen=True, kw_only=True)
class Residual:
    """Prior of a residual variance, ``variance ~ df * S / chi2(df)``.

    Attributes
    ----------
    df : float
        Degrees of freedom; must exceed 2 unless ``scale`` or ``variance`` is given.
    share : float or None
        Share of the response's variance that is residual a priori. ``None``: what effects leave.
    scale : float or None
        S, in squared units of the response. ``None``: from ``share``, as the prior mean.
    variance : float or None
        The variance itself, known.

    Examples
    --------
    >>> from nnmm_jax import Residual
    >>> Residual(variance=40.0).variance
    40.0
    """

    df: float = 4.0
    share: float | None = None
    scale: float | None = None
    variance: float | None = None

    def __post_init__(self) -> None:
        """Check the values."""
        _positive("Residual", df=self.df, scale=self.scale, variance=self.variance)
        _one_of("Residual", variance=self.variance, scale=self.scale)
        if self.share is not None and not 0 < self.share < 1:
            raise InputError(f"Residual: share must lie between 0 and 1, got {self.share}")
        if self.scale is None and self.variance is None and not self.df > 2:
            raise InputError(f"Residual: df must exceed 2 where scale is not given, got {self.df}")


_ALL: tuple[type[Prior], ...] = (RRBLUP, GBLUP, BayesA, BayesB, BayesC, BayesL, BayesR)
PRIORS: Mapping[str, type[Prior]] = MappingProxyType({cls.name: cls for cls in _ALL})


def prior_by_name(name: str) -> Prior:
    """Return a prior with its default hyperparameters, by name (case and hyphens ignored).

    Raises
    ------
    InputError
        If the name is unknown; the message lists the choices.
    """
    wanted = name.lower().replace("-", "").replace("_", "")
    for known, cls in PRIORS.items():
        if known.lower().replace("-", "") == wanted:
            return cls()
    raise InputError(f"unknown prior {name!r}: choose one of {', '.join(PRIORS)}")


def as_prior(value: str | Prior) -> Prior:
    """Turn a prior's name into the prior; a prior is returned as it is."""
    if isinstance(value, Prior):
        return value
    if not isinstance(value, str):
        raise InputError(f"expected a prior such as 'BayesC' or BayesC(pi=0.95), found {value!r}")
    return prior_by_name(value)
