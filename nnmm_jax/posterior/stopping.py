"""When a run that goes on until its effective sample size is large enough may end."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import pandas as pd

from nnmm_jax.posterior.diagnostics import R_HAT_LIMIT
from nnmm_jax.posterior.result import VARIATIONAL, FitResult


@dataclass(frozen=True)
class Reached:
    """How far a run has come.

    Attributes
    ----------
    target : float
        Wanted effective sample size.
    samples : int
        Sweeps kept, of every chain.
    ess : float
        Smallest effective sample size, of bulk or tails, of the identified quantities.
    slowest : str
        The quantity that it is of.
    r_hat : float
        Largest R-hat of them.
    """

    target: float
    samples: int
    ess: float
    slowest: str
    r_hat: float

    @property
    def enough(self) -> bool:
        """Whether the target is reached and chains agree; not where either is undefined."""
        return self.ess >= self.target and self.r_hat <= R_HAT_LIMIT

    def to_dict(self) -> dict[str, Any]:
        """Return it as the record of a fit holds it."""
        return {**asdict(self), "enough": self.enough}

    @property
    def line(self) -> str:
        """One line for the user."""
        return (
            f"ESS {self.target:g} and R-hat {R_HAT_LIMIT} {'' if self.enough else 'not '}reached "
            f"in {self.samples} samples of every chain: smallest ESS {self.ess:.0f} of "
            f"{self.slowest}, largest R-hat {self.r_hat:.3f}"
        )


def reached(table: pd.DataFrame, target: float, samples: int) -> Reached:
    """Judge a run by its diagnostics.

    Parameters
    ----------
    table : pandas.DataFrame
        What :func:`nnmm_jax.posterior.diagnostics.diagnostics` returned.
    target : float
        Wanted effective sample size.
    samples : int
        Sweeps kept so far, of every chain.

    Examples
    --------
    >>> import pandas as pd
    >>> from nnmm_jax.posterior.stopping import reached
    >>> table = pd.DataFrame(
    ...     {"quantity": ["h2_trait"], "r_hat": [1.004], "ess_bulk": [900.0], "ess_tail": [380.0]}
    ... )
    >>> reached(table, 400.0, 1000).enough
    False
    """
    ess = table[["ess_bulk", "ess_tail"]].min(axis=1, skipna=False)
    undefined = ess.isna() | table["r_hat"].isna()
    if not len(table):
        return Reached(target, samples, math.nan, "nothing", math.nan)
    worst = undefined.idxmax() if undefined.any() else ess.idxmin()
    return Reached(
        target,
        samples,
        float(ess[worst]),
        str(table.loc[worst, "quantity"]),
        float(table["r_hat"].max(skipna=False)),
    )


def approximate_line(record: Mapping[str, Any]) -> str:
    """Say that a fit is approximate, and how it ended.

    Examples
    --------
    >>> from nnmm_jax.posterior.stopping import approximate_line
    >>> approximate_line({"elbo": -2207.1, "steps": 1750, "pareto_k": 1.2})
    'approximate (variational): lower bound -2207.1 after 1750 steps; Pareto k = 1.20'
    """
    k = math.nan if record["pareto_k"] is None else record["pareto_k"]
    return (
        f"approximate (variational): lower bound {record['elbo']:.1f} after {record['steps']} "
        f"steps; Pareto k = {k:.2f}"
    )


def closing_lines(result: FitResult, *, quiet: bool = False) -> list[str]:
    """Lines on convergence for the end of a fit: warnings and, unless quiet, what was reached."""
    lines = []
    if result.approximate and not quiet:
        lines.append(approximate_line(result.run[VARIATIONAL]))
    if (stopped := result.run.get("stopped")) is not None:
        lines.append(
            f"warning: stopped after {stopped['minutes']:g} minutes with {stopped['samples']} of "
            f"{stopped['wanted']} samples of every chain"
        )
    if (found := result.run.get("until_ess")) is not None:
        line = Reached(**{name: found[name] for name in Reached.__dataclass_fields__}).line
        if not found["enough"]:
            lines.append(f"warning: {line}")
        elif not quiet:
            lines.append(line)
    if warning := result.convergence_warning:
        lines.append(f"warning: {warning}")
    return lines
