"""All configurations one after the other, and the verdict over all their tests."""

import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from scipy import stats

from nnmm_jax.errors import InputError
from nnmm_jax.inference.prepare import Prepared, prepare
from nnmm_jax.reports.calibration import (
    Calibration,
    CalibrationSettings,
    calibrate,
    geweke,
    p_values,
)
from nnmm_jax.reports.calibration_table import CONFIGURATIONS, COVERAGE, Configuration

LOW, HIGH = 0.87, 0.93  # of the coverage of 90% intervals
AUTOCORRELATION = 0.5  # from which on draws are too few independent ones to be ranked among
COVERED = ("configuration", "values", "coverage", "error", "verdict")
TESTED = ("configuration", "test", "quantity", "simulations", "p", "autocorrelation")
OK, FAILED = "ok", "FAILED"


class Found(NamedTuple):
    """Tables of a run.

    Attributes
    ----------
    table : pandas.DataFrame
        configuration, test (chi-square, ecdf, geweke), quantity, simulations, p, autocorrelation.
    ranks : pandas.DataFrame
        configuration, quantity, rank: one row for each simulation.
    coverage : pandas.DataFrame
        configuration, values, coverage, error (Monte Carlo), verdict.
    """

    table: pd.DataFrame
    ranks: pd.DataFrame
    coverage: pd.DataFrame


def run(
    checks: Sequence[str],
    only: str,
    settings: CalibrationSettings,
    of_geweke: CalibrationSettings,
    rounds: int,
    report: Callable[[str, float], None],
) -> Found:
    """Run the checks of all configurations whose name has ``only`` in it.

    Parameters
    ----------
    checks : sequence of str
        Some of ranks, geweke, coverage.
    only : str
    settings, of_geweke : CalibrationSettings
    rounds : int
        Of :func:`~nnmm_jax.reports.calibration.geweke`.
    report : callable
        Gets what was done, and the seconds that it took.

    Raises
    ------
    InputError
        If no configuration has such a name.
    """
    rows: list[dict[str, Any]] = []
    ranks, covered = [], []
    wanted = {"ranks": CONFIGURATIONS, "geweke": CONFIGURATIONS, "coverage": COVERAGE}
    work = [(c, n, wanted[c][n]) for c in checks for n in wanted[c] if only in n]
    if not work:
        raise InputError(f"--only: expected part of the name of a configuration, found {only!r}")
    for check, name, configuration in work:
        began = time.perf_counter()
        prepared = prepare(configuration.dataset(), configuration.network)
        if check == "geweke":
            rows += _geweke(name, configuration, prepared, of_geweke, rounds)
        else:
            found = calibrate(prepared, settings, nuts=configuration.nuts)
            if found.non_finite:
                covered.append(
                    dict(zip(COVERED, (name, "not finite", 0.0, 0.0, FAILED), strict=True))
                )
            if check == "ranks":
                rows += _ranks(name, found)
                long = found.ranks.melt(var_name="quantity", value_name="rank")
                ranks.append(long.assign(configuration=name))
            else:
                covered += _covered(name, found)
        report(f"{check}, {name}", time.perf_counter() - began)
    empty = pd.DataFrame(columns=["quantity", "rank", "configuration"])
    return Found(
        pd.DataFrame(rows, columns=list(TESTED)),
        pd.concat([empty, *ranks]) if ranks else empty,
        pd.DataFrame(covered, columns=list(COVERED)),
    )


def _row(
    name: str, test: str, quantity: object, count: int, p: float, autocorrelation: float = 0.0
) -> dict[str, Any]:
    return dict(zip(TESTED, (name, test, quantity, count, p, autocorrelation), strict=True))


def _ranks(name: str, found: Calibration) -> list[dict[str, Any]]:
    rows = []
    for quantity in found.ranks:
        both = p_values(found.ranks[quantity].to_numpy(), found.draws)
        ahead = found.autocorrelation[quantity]
        for test, p in zip(("chi-square", "ecdf"), both, strict=True):
            rows.append(_row(name, test, quantity, len(found.ranks), p, ahead))
    return rows


def _geweke(
    name: str,
    configuration: Configuration,
    prepared: Prepared,
    settings: CalibrationSettings,
    rounds: int,
) -> list[dict[str, Any]]:
    found = geweke(prepared, settings, rounds=rounds, nuts=configuration.nuts)
    rows = []
    for quantity in found.prior:
        both = found.prior[quantity].to_numpy(), found.joint[quantity].to_numpy()
        p = float(stats.ks_2samp(*both).pvalue) if np.isfinite(both).all() else 0.0
        rows.append(_row(name, "geweke", quantity, settings.simulations, p))
    return rows


def _covered(name: str, found: Calibration) -> list[dict[str, Any]]:
    rows = []
    for values, share in found.coverage.items():
        mean, error = float(share.mean()), float(share.std(ddof=1) / np.sqrt(len(share)))
        verdict = OK if LOW <= mean <= HIGH else FAILED
        rows.append(dict(zip(COVERED, (name, values, mean, error, verdict), strict=True)))
    return rows


def judged(table: pd.DataFrame, error_rate: float) -> pd.DataFrame:
    """Add p-values adjusted for all tests (Holm 1979) and the verdict.

    Examples
    --------
    >>> import pandas as pd
    >>> table = pd.DataFrame({"p": [0.001, 0.5], "autocorrelation": [0.1, 0.1]})
    >>> list(judged(table, 0.01)["adjusted"])
    [0.002, 0.5]
    """
    order = np.argsort(table["p"].to_numpy(dtype=float))
    factors = np.arange(len(table), 0, -1)
    stepped = np.maximum.accumulate(
        np.minimum(1.0, table["p"].to_numpy(dtype=float)[order] * factors)
    )
    adjusted = np.empty(len(table))
    adjusted[order] = stepped
    failed = (adjusted < error_rate) | (table["autocorrelation"] > AUTOCORRELATION)
    return table.assign(adjusted=adjusted, verdict=np.where(failed, FAILED, OK))


def by_configuration(table: pd.DataFrame) -> pd.DataFrame:
    """The smallest p-value of each configuration and test, and the largest autocorrelation."""
    rows = []
    for (name, test), part in table.groupby(["configuration", "test"], sort=False):
        worst = part.loc[part["p"].idxmin()]
        rows.append(
            {
                "configuration": name,
                "test": test,
                "quantities": len(part),
                "smallest": worst["quantity"],
                "raw p": worst["p"],
                "p": worst["adjusted"],
                "autocorrelation": part["autocorrelation"].max(),
                "verdict": FAILED if (part["verdict"] == FAILED).any() else OK,
            }
        )
    return pd.DataFrame(rows)


def failures(table: pd.DataFrame, coverage: pd.DataFrame) -> list[str]:
    """One line for each failed test and each coverage that is off."""
    lines = []
    for _, row in table[table["verdict"] == FAILED].iterrows():
        why = f"p {row['adjusted']:.2g} (adjusted)"
        if row["autocorrelation"] > AUTOCORRELATION:
            why = f"draws depend on each other ({row['autocorrelation']:.2f}): raise --thin"
        lines.append(f"{row['configuration']}, {row['test']}, {row['quantity']}: {why}")
    for _, row in coverage[coverage["verdict"] == FAILED].iterrows():
        lines.append(f"{row['configuration']}, coverage of {row['values']}: {row['coverage']:.3f}")
    return lines
