"""Length and seed of a run, and when it ends."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from nnmm_jax.errors import InputError

SAMPLERS = ("hmc", "nuts")
METHODS = ("mcmc", "svi")
STARTS = ("dispersed", "svi")
SITES = ("marker_effect", "skip_effect", "omics")  # too large to keep of every draw unasked
LIMIT_FACTOR = 10  # of samples: the most draws of a run that goes on until it is long enough


@dataclass(frozen=True)
class RunSettings:
    """Length and seed of a run.

    Attributes
    ----------
    warmup, samples : int
        Sweeps discarded and kept, of every chain.
    chains : int
    seed : int
        Chain c uses ``fold_in(key(seed), c)``, however many chains run.
    progress : bool
        Whether to show a progress bar on standard error.
    sampler : str
        How missing omics of a nonlinear network move: ``hmc`` or ``nuts``.
    until_ess : float or None
        Go on, ``samples`` at a time, until every identified quantity has this effective sample
        size and chains agree. ``None``: ``samples`` and no more.
    max_samples : int or None
        The most sweeps then kept, of every chain. ``None``: ten times ``samples``.
    thin : int
        Keep the draws of every so manieth sweep; running moments are of all.
    keep : tuple of str
        Large sites whose draws are kept too: ``marker_effect`` (node, marker), ``skip_effect``
        (marker,), ``omics`` (individual, node).
    max_minutes : float or None
        End after so many minutes with what there is.
    devices : int
        Over how many devices individuals are spread.
    method : str
        ``mcmc``, or ``svi``: draws from a variational approximation, of which ``warmup`` and
        ``sampler`` say nothing.
    start : str
        Where chains start: ``dispersed``, or ``svi``: at draws from a quick approximation.

    Raises
    ------
    InputError
        If a count is not a positive whole number (``warmup`` may be 0), the sampler or a site is
        unknown, or the settings do not fit together.
    """

    warmup: int = 1000
    samples: int = 1000
    chains: int = 4
    seed: int = 0
    progress: bool = True
    sampler: str = "hmc"
    until_ess: float | None = None
    max_samples: int | None = None
    thin: int = 1
    keep: tuple[str, ...] = ()
    max_minutes: float | None = None
    devices: int = 1
    method: str = "mcmc"
    start: str = "dispersed"

    def __post_init__(self) -> None:
        """Check the counts."""
        counts = {"warmup": 0, "samples": 1, "chains": 1, "seed": 0, "thin": 1, "devices": 1}
        for name, least in counts.items():
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < least:
                raise InputError(
                    f"{name} must be a whole number of at least {least}, got {value!r}"
                )
        for name, known in (("sampler", SAMPLERS), ("method", METHODS), ("start", STARTS)):
            if (given := getattr(self, name)) not in known:
                raise InputError(f"{name}: expected one of {', '.join(known)}, found {given!r}")
        self._check_limits()
        self._check_kept()
        self._check_variational()

    def _check_variational(self) -> None:
        """Check that an approximation is not asked for what only chains have."""
        if "svi" not in (self.method, self.start):
            return
        if self.devices > 1:
            raise InputError(
                f"svi: expected one device, found devices={self.devices}; it is fitted on one"
            )
        if self.method == "mcmc":
            return
        only = {"until_ess": None, "max_minutes": None, "thin": 1, "keep": (), "start": "dispersed"}
        for name, default in only.items():
            if (given := getattr(self, name)) != default:
                raise InputError(
                    f"{name}: expected it with method mcmc alone, found {given!r} with svi, which "
                    "draws independently; leave it out"
                )

    def _check_limits(self) -> None:
        """Check what has to do with the end of a run that goes on."""
        target: Any = self.until_ess
        limit: Any = self.max_samples
        if target is None and limit is not None:
            raise InputError("max_samples: expected until_ess with it, found none; state both")
        if target is None:
            return
        _check_positive("until_ess", target)
        if self.chains < 2:
            raise InputError(
                f"until_ess: expected 2 chains or more, which R-hat needs, found {self.chains}"
            )
        if limit is None:
            return
        if isinstance(limit, bool) or not isinstance(limit, int | np.integer):
            raise InputError(f"max_samples must be a whole number, got {limit!r}")
        if limit < self.samples:
            raise InputError(
                f"max_samples: expected at least the {self.samples} samples that come first, "
                f"found {limit}"
            )

    def _check_kept(self) -> None:
        """Check what is kept of a run, and for how long it may go on."""
        if self.max_minutes is not None:
            _check_positive("max_minutes", self.max_minutes)
        if self.thin > self.samples:
            raise InputError(
                f"thin: expected at most the {self.samples} samples, found {self.thin}; no draw "
                "would be kept"
            )
        object.__setattr__(self, "keep", tuple(self.keep))
        if unknown := [name for name in self.keep if name not in SITES]:
            raise InputError(f"keep: expected some of {', '.join(SITES)}, found {unknown[0]!r}")
        if self.keep and (self.samples % self.thin or self.limit % self.thin):
            raise InputError(
                f"keep: expected samples and max_samples that are multiples of thin ({self.thin}), "
                f"found {self.samples} and {self.limit}"
            )

    @property
    def kept(self) -> int:
        """The most draws kept, of every chain."""
        return self.limit // self.thin

    @property
    def limit(self) -> int:
        """The most sweeps kept, of every chain."""
        if self.until_ess is None:
            return self.samples
        return LIMIT_FACTOR * self.samples if self.max_samples is None else self.max_samples


def _check_positive(name: str, value: Any) -> None:
    number = isinstance(value, int | float | np.number) and not isinstance(value, bool)
    if not (number and 0 < value < math.inf):
        raise InputError(f"{name}: expected a number above 0, found {value!r}")
