"""Whether latent nodes stay identified: no drift of scale, no dependence on the start.

A latent node has neither scale nor sign of its own. The model fixes the one, what is reported
aligns the other; whether that suffices is seen on simulated data without any omics.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

import nnmm_jax as nm
from nnmm_jax.errors import InputError
from nnmm_jax.inference.prepare import prepare
from nnmm_jax.inference.run import RunSettings, run_chains
from nnmm_jax.inference.state import State
from nnmm_jax.network.simulate import TRAIT
from nnmm_jax.posterior import arviz_compat
from nnmm_jax.posterior.diagnostics import total_ebv
from nnmm_jax.reports.agreement import correlation, slope
from nnmm_jax.reports.latent_equality import (
    LATENT_RESIDUAL,
    DirectPriors,
    LatentPriors,
    prior_ratio,
    weighted_mean,
)
from nnmm_jax.reports.latent_starts import STARTS, Start, spread

DRIFT = 0.05  # relative
Z_LIMIT = 4.5  # the largest of a few hundred individuals
CORRELATION, SLOPE = 0.999, 0.01
# 1.01 is the usual limit of one quantity with four chains (Vehtari et al. 2021). Here the largest
# over 50 individuals is judged, whose excess over 1 is Monte Carlo error to a good part.
R_HAT = 1.02
INDIVIDUALS = 50  # whose EBV is judged
PI = 0.9  # probability of a zero marker effect where latent and direct fit are compared
OK, MISSED, NOT_JUDGED = "ok", "MISSED", ""

COLUMNS = ("check", "model", "quantity", "value", "error", "low", "high", "verdict", "remark")


def row(
    check: str,
    model: str,
    quantity: str,
    value: float,
    *,
    error: float = float("nan"),
    low: float = float("nan"),
    high: float = float("nan"),
    remark: str = "",
) -> dict[str, Any]:
    """One row of the table: a value, its Monte Carlo error, limits (NaN: none) and the verdict.

    A value that is not a number misses any limit.
    """
    verdict = NOT_JUDGED
    if not (np.isnan(low) and np.isnan(high)):
        verdict = OK if not (np.isnan(value) or value < low or value > high) else MISSED
    values = (check, model, quantity, value, error, low, high, verdict, remark)
    return dict(zip(COLUMNS, values, strict=True))


def latent_data(*, individuals: int = 300, markers: int = 200, seed: int = 1) -> nm.Dataset:
    """Simulate genotypes and a phenotype of mean 0 and variance 1, and no omics.

    The phenotype has a heritability of about 0.56, through three nodes of which nothing is seen.

    Parameters
    ----------
    individuals, markers : int
    seed : int

    Raises
    ------
    InputError
        If the simulator refuses the numbers.

    Examples
    --------
    >>> latent_data(individuals=60, markers=40).omics.shape
    (60, 0)
    """
    settings = nm.SimulationSettings(
        individuals=individuals,
        markers=markers,
        omics=3,
        h2_omics=0.8,
        share_mediated=0.7,
        share_direct=0.0,
        sex_effect=0.0,
        batch_effect_sd=0.0,
        without_phenotype=0.0,
    )
    simulated = nm.simulate(settings, seed)
    trait = simulated.phenotypes[[TRAIT]]
    return nm.read_dataset(
        simulated.genotypes, None, (trait - trait.mean()) / trait.std(ddof=0), TRAIT
    )


def _draws(
    dataset: nm.Dataset, network: nm.Network, settings: RunSettings, starts: Sequence[Start] = ()
) -> xr.Dataset:
    """Draws (chain, draw, ...) of the whole EBV and of what else is judged, internal scale."""
    prepared = prepare(dataset, network)
    change = None
    if starts:

        def change(chains: State) -> State:
            return spread(chains, prepared.data, prepared.activation, starts)

    draws = run_chains(prepared.data, prepared.activation, settings, change).draws
    dims = {
        "ebv_mediated": ("individual",),
        "ebv_direct": ("individual",),
        "node_effect": ("node",),
        "h2_trait": (),
        "var_residual_trait": (),
        "var_genetic_trait": (),
    }
    found = xr.Dataset(
        {
            name: (("chain", "draw", *more), draws[name])
            for name, more in dims.items()
            if name in draws
        }
    )
    return found.assign(ebv=total_ebv(found))


def drift(
    dataset: nm.Dataset, network: nm.Network, settings: RunSettings, label: str
) -> tuple[list[dict[str, Any]], np.ndarray]:
    """Compare the spread of EBV over individuals in the first and the last tenth of a chain.

    Parameters
    ----------
    dataset, network
        Without omics; with latent nodes.
    settings : RunSettings
        Of one chain.
    label : str
        Name of the model in the table.

    Returns
    -------
    rows, trace
        Rows of the table: last tenth over first, of the sd of the posterior means and of the mean
        over draws of each draw's sd, of which the Monte Carlo error is known. ``trace`` (draw,) is
        the sd of each draw.

    Raises
    ------
    InputError
        If there are several chains, or fewer than 50 draws.
    """
    if settings.chains != 1 or settings.samples < 50:
        raise InputError("drift: expected one chain of at least 50 iterations")
    ebv = _draws(dataset, network, settings)["ebv"]
    trace = ebv.std("individual")
    tenth = settings.samples // 10
    ends = (slice(0, tenth), slice(settings.samples - tenth, None))
    of_means = [
        float(ebv.isel(draw=end).mean(("chain", "draw"), dtype=np.float64).std()) for end in ends
    ]
    means = [float(trace.isel(draw=end).mean(dtype=np.float64)) for end in ends]
    ess = float(arviz_compat.ess_mean(trace))
    # Of a tenth, from the whole chain: that of 5000 draws themselves is too noisy.
    error = float(trace.std()) / np.sqrt(ess / 10) / means[0] * np.sqrt(2)
    limits = {"low": 1 - DRIFT, "high": 1 + DRIFT, "error": error}
    remark = f"ESS of the sd of EBV: {ess:.0f} of {settings.samples}"
    if not error < DRIFT / 3:
        remark += ": chance alone may miss the limit"
    rows = [
        row(
            "drift", label, "sd of mean EBV, last/first tenth", of_means[1] / of_means[0], **limits
        ),
        row("drift", label, "mean sd of EBV, last/first tenth", means[1] / means[0], **limits),
    ]
    rows[0]["remark"] = remark
    return rows, trace.to_numpy()[0]


def equality_priors(dataset: nm.Dataset) -> DirectPriors:
    """Priors of the direct fit: 4 degrees of freedom, prior means 1/2 genetic and 1/2 residual."""
    unit = 1.0 / (
        float(np.var(np.asarray(dataset.genotypes, dtype=float), axis=0).sum()) * (1.0 - PI)
    )
    return DirectPriors(4.0, unit, 4.0, 1.0, unit)


def direct_network(priors: DirectPriors) -> nm.Network:
    """BayesC of the phenotype."""
    effects = nm.BayesC(df=priors.effects_df, scale=priors.effects_scale / priors.effects_df, pi=PI)
    residual = nm.Residual(df=priors.residual_df, scale=priors.residual_scale / priors.residual_df)
    return nm.Network(marker_prior=None, skip_prior=effects, residual_trait=residual)


def latent_network(priors: DirectPriors) -> nm.Network:
    """BayesC of one latent linear node, with the priors that the weights are about."""
    latent = LatentPriors.of(priors)
    return nm.Network(
        latent=1,
        marker_prior=nm.BayesC(variance=latent.effects, pi=PI),
        node_prior=nm.RRBLUP(variance=latent.node),
        residual_omics=nm.Residual(variance=LATENT_RESIDUAL),
        residual_trait=nm.Residual(df=priors.residual_df, scale=latent.scale / priors.residual_df),
    )


def equality(dataset: nm.Dataset, settings: RunSettings) -> list[dict[str, Any]]:
    """Compare fitted (breeding) values through one latent linear node with a direct BayesC.

    Judged are draws weighted by the ratio of the priors, see
    :mod:`nnmm_jax.reports.latent_equality`. The same draws unweighted, and the latent network
    with default priors, are models whose priors differ from the direct fit's: not judged.

    Parameters
    ----------
    dataset : Dataset
        Of :func:`latent_data`.
    settings : RunSettings
        Of each of the three fits.
    """
    priors = equality_priors(dataset)
    direct = _draws(dataset, direct_network(priors), settings)["ebv"]
    ones = np.ones(direct.shape[:2])
    reference = weighted_mean(direct, ones)
    latent = _draws(dataset, latent_network(priors), settings)
    w = latent["node_effect"].isel(node=0).to_numpy().astype(float)
    var_y = latent["var_residual_trait"].to_numpy().astype(float)
    weights = prior_ratio(priors, w, var_y)
    usual = nm.Network(latent=1, marker_prior=nm.BayesC(pi=PI))
    default = _draws(dataset, usual, settings)["ebv"]
    left = f"weights leave {1 / np.mean(weights**2):.0%} of {weights.size} draws"
    return [
        *_agreement("weighted to the same priors", reference, weighted_mean(latent["ebv"], weights),
                    judged=True, remark=left),
        *_agreement("unweighted: other priors", reference, weighted_mean(latent["ebv"], ones)),
        *_agreement("default network: other priors", reference, weighted_mean(default, ones)),
    ]  # fmt: skip


Means = tuple[np.ndarray, np.ndarray]  # posterior means of individuals, Monte Carlo errors


def _agreement(
    label: str, direct: Means, latent: Means, *, judged: bool = False, remark: str = ""
) -> list[dict[str, Any]]:
    z = np.abs(latent[0] - direct[0]) / np.hypot(latent[1], direct[1])
    none = float("nan")
    values = {
        "correlation": (correlation(latent[0], direct[0]), CORRELATION, none),
        "slope": (slope(latent[0], direct[0]), 1 - SLOPE, 1 + SLOPE),
        "largest |z| of an individual": (float(np.max(z)), 0.0, Z_LIMIT),
    }
    rows = [
        row(
            "equality",
            label,
            f"EBV, latent and direct: {name}",
            value,
            low=low if judged else none,
            high=high if judged else none,
        )
        for name, (value, low, high) in values.items()
    ]
    rows[0]["remark"] = remark
    return rows


def starts(
    dataset: nm.Dataset, network: nm.Network, settings: RunSettings, label: str
) -> list[dict[str, Any]]:
    """R-hat over chains that start at :data:`STARTS`, of quantities that the data identify.

    ``var_residual_trait``, the trait's own residual variance, is judged as well, although without
    omics the data tell little more than its sum with what the nodes' residuals contribute.

    Parameters
    ----------
    dataset, network, label
        As in :func:`drift`.
    settings : RunSettings
        Of as many chains as there are starts, or a multiple.

    Raises
    ------
    InputError
        If the number of chains is another.
    """
    if settings.chains % len(STARTS):
        raise InputError(f"starts: expected a multiple of {len(STARTS)} chains")
    draws = _draws(dataset, network, settings, STARTS)
    at = np.linspace(0, draws.sizes["individual"] - 1, INDIVIDUALS).round().astype(int)
    genetic, h2 = draws["var_genetic_trait"], draws["h2_trait"]
    judged = {
        "h2_trait": h2,
        "var_residual_trait": draws["var_residual_trait"],
        "residual variance, nodes' included": genetic / h2 - genetic,
        f"EBV of {INDIVIDUALS} individuals, largest": draws["ebv"].isel(individual=np.unique(at)),
    }
    rows = []
    for name, values in judged.items():
        values = values.astype(float)
        ess = float(arviz_compat.ess_bulk(values).min())
        rows.append(
            row(
                "starts",
                label,
                f"R-hat of {name}",
                float(arviz_compat.r_hat(values).max()),
                high=R_HAT,
                remark=f"ESS {ess:.0f} of {settings.chains} x {settings.samples}",
            )
        )
    return rows


def table_of(rows: Sequence[dict[str, Any]]) -> pd.DataFrame:
    """Return the rows as a table with the columns :data:`COLUMNS`."""
    return pd.DataFrame(list(rows), columns=list(COLUMNS))
