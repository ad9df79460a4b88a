"""Priors for marker effects, node effects and skip effects: what the user states.

The same specifications serve all three places. Default scales are derived from the variance of
the response when the data are known (:mod:`nnmm_jax.inference.prepare`), never here.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import ClassVar

from nnmm_jax.errors import InputError


@dataclass(frozen=True)
class Prior:
    """What all effect priors share: the prior of the effects' variance.

    Attributes
    ----------
    df : float
        Degrees of freedom nu of the scaled inverse chi-square prior of the variance,
        ``variance ~ nu * S / chi2(nu)``. Must exceed 2, so that the prior mean exists.
    share : float
        Share of the response's variance that the effects explain a priori, between 0 and 1; the
        scale S is set so that the prior *mean* of the variance gives it.
    """

    name: ClassVar[str]
    spike: ClassVar[bool] = False

    df: float = 4.0
    share: float = 0.5

    def __post_init__(self) -> None:
        """Check the values that every prior has."""
        if not self.df > 2:
            raise InputError(f"{self.name}: df must exceed 2 (prior mean exists), got {self.df}")
        if not 0 < self.share < 1:
            raise InputError(f"{self.name}: share must lie between 0 and 1, got {self.share}")

    @property
    def expected_nonzero(self) -> float:
        """Prior expectation of the share of effects that are not zero."""
        return 1.0

    @property
    def zero_counts(self) -> tuple[float, float] | None:
        """Beta prior of pi as counts of (zero, non-zero) effects; ``None`` where pi is fixed."""
        return None


@dataclass(frozen=True)
class RRBLUP(Prior):
    """Ridge regression: every effect ~ N(0, variance), one variance per response.

    Examples
    --------
    >>> from nnmm_jax import RRBLUP
    >>> RRBLUP(share=0.3).share
    0.3
    """

    name: ClassVar[str] = "RR-BLUP"


@dataclass(frozen=True)
class BayesC(Prior):
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
    >>> BayesC(pi=0.95).expected_nonzero.__round__(2)
    0.05
    """

    name: ClassVar[str] = "BayesC"
    spike: ClassVar[bool] = True

    pi: float | None = None
    pi_counts: tuple[float, float] = (1.0, 1.0)

    def __post_init__(self) -> None:
        """Check pi and its prior."""
        super().__post_init__()
        if self.pi is not None and not 0 < self.pi < 1:
            raise InputError(
                f"BayesC: pi, the probability of a zero effect, must lie between 0 and 1, "
                f"got {self.pi} (for pi = 0 use RR-BLUP)"
            )
        if len(self.pi_counts) != 2 or not all(count > 0 for count in self.pi_counts):
            raise InputError(f"BayesC: pi_counts must be two positive numbers: {self.pi_counts}")

    @property
    def expected_nonzero(self) -> float:
        """Prior expectation of 1 - pi."""
        if self.pi is not None:
            return 1.0 - self.pi
        zero, nonzero = self.pi_counts
        return nonzero / (zero + nonzero)

    @property
    def zero_counts(self) -> tuple[float, float] | None:
        """Beta prior of pi, if it is estimated."""
        return self.pi_counts if self.pi is None else None


PRIORS: Mapping[str, type[Prior]] = MappingProxyType({cls.name: cls for cls in (RRBLUP, BayesC)})


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
    return value if isinstance(value, Prior) else prior_by_name(value)
