"""How far the variational approximation is from the chains, and chains that start there.

Bounds are those of an approximation. Where all effects are normal the family holds nearly the form
of the posterior: means of breeding values agree closely. A spike leaves the family two optima and
the posterior lies between them: means correlate less. Spreads may be smaller than the posterior's,
because variances, nodes and missing omics are taken for independent; they are printed, and must
be of its order.
"""

from typing import NamedTuple

import numpy as np
import pytest

import nnmm_jax as nm
from nnmm_jax.posterior.diagnostics import total_ebv
from nnmm_jax.posterior.result import FitResult
from nnmm_jax.reports.warm_start import WarmStartSettings, warm_start

pytestmark = pytest.mark.statistical

CHAINS = {"warmup": 1000, "samples": 1000, "chains": 4, "seed": 1, "progress": False}


class Case(NamedTuple):
    """A network, and the least correlation of breeding values between the two methods."""

    network: nm.Network
    activation: str
    least: float


CASES = {
    "linear, BayesC": Case(nm.Network(marker_prior="BayesC"), "linear", 0.9),
    "linear, RR-BLUP": Case(nm.Network(marker_prior="RR-BLUP"), "linear", 0.98),
    "tanh, RR-BLUP": Case(nm.Network(activation="tanh", marker_prior="RR-BLUP"), "tanh", 0.98),
    "direct, RR-BLUP": Case(nm.Network(skip_prior="RR-BLUP"), "linear", 0.98),
}


def simulated(case: Case, *, direct: bool) -> tuple[nm.Dataset, np.ndarray]:
    """Data with 30 % of the individuals without omics and 20 % without phenotype; true EBV."""
    found = nm.simulate(nm.SimulationSettings(activation=case.activation), seed=11)
    omics = None if direct else found.omics
    data = nm.read_dataset(found.genotypes, omics, found.phenotypes, "y")
    truth = found.truth["individuals"].set_index("id").loc[data.ids, "ebv"]
    return data, truth.to_numpy()


def ebv(result: FitResult) -> tuple[np.ndarray, np.ndarray]:
    """Posterior means and sds of breeding values."""
    draws = total_ebv(result.posterior).isel(trait=0)
    return draws.mean(("chain", "draw")).values, draws.std(("chain", "draw")).values


@pytest.mark.parametrize("name", CASES)
def test_breeding_values_agree_with_chains(name, record_property):
    case = CASES[name]
    data, truth = simulated(case, direct=name.startswith("direct"))
    chains = nm.fit(data, case.network, **CHAINS)
    quick = nm.fit(data, case.network, **CHAINS, method="svi")
    (mean, sd), (mean_quick, sd_quick) = ebv(chains), ebv(quick)
    without = np.isnan(data.phenotype)
    figures = {
        "correlation": np.corrcoef(mean, mean_quick)[0, 1],
        "slope": np.polyfit(mean_quick, mean, 1)[0],
        "sd ratio": np.mean(sd_quick) / np.mean(sd),
        "accuracy": np.corrcoef(mean[without], truth[without])[0, 1],
        "accuracy svi": np.corrcoef(mean_quick[without], truth[without])[0, 1],
        "h2": float(chains.posterior["h2_trait"].mean()),
        "h2 svi": float(quick.posterior["h2_trait"].mean()),
        "Pareto k": quick.run["variational"]["pareto_k"],
        "steps": quick.run["variational"]["steps"],
        "seconds": sum(chains.run["seconds"][one] for one in ("warmup", "sampling")),
        "seconds svi": quick.run["seconds"]["optimisation"],
    }
    for key, value in figures.items():
        record_property(key, value)
        print(f"{name}: {key} {value:.3f}")
    assert quick.run["variational"]["converged"]
    assert figures["correlation"] > case.least
    assert 0.8 < figures["slope"] < 1.3
    assert 0.5 < figures["sd ratio"] < 1.3
    assert figures["accuracy svi"] > figures["accuracy"] - 0.05


@pytest.mark.parametrize("name", ["linear, RR-BLUP", "tanh, RR-BLUP"])
def test_a_warm_start_leads_to_the_same_posterior(name, record_property):
    """What a short warm-up leaves is printed for both starts; means must agree closely."""
    case = CASES[name]
    data, _ = simulated(case, direct=False)
    means = {}
    for start in ("svi", "dispersed"):
        settings = CHAINS | {"warmup": 25, "samples": 400}
        result = nm.fit(data, case.network, **settings, start=start)
        table, seconds = result.diagnostics(), result.run["seconds"]
        ess = float(table[["ess_bulk", "ess_tail"]].min(axis=None))
        taken = seconds["warmup"] + seconds["sampling"] + seconds.get("variational", 0.0)
        r_hat = float(table["r_hat"].max())
        print(f"{name}: {start}: R-hat {r_hat:.3f}, ESS {ess:.0f}, seconds {taken:.1f}")
        record_property(f"{start} R-hat", r_hat)
        means[start], _ = ebv(result)
    assert np.corrcoef(means["svi"], means["dispersed"])[0, 1] > 0.995


def test_a_warm_start_shortens_the_warm_up(record_property):
    """Few causal markers: from dispersed values pi needs hundreds of sweeps to leave the middle."""
    table = warm_start(WarmStartSettings(), ["BayesC, few causal"], progress=False)
    print(table.to_string())
    needed = table.set_index("start")["warmup"]
    for start, sweeps in needed.items():
        record_property(f"{start} warm-up", sweeps)
    assert needed["svi"] < 0.5 * needed["dispersed"]
