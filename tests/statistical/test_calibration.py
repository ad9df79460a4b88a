"""A quick part of scripts/calibrate, and faults that it must find."""

import numpy as np
import pytest
from scipy import stats

from nnmm_jax.inference.blocks import families, latent_move, missing_hmc, variances
from nnmm_jax.inference.prepare import prepare
from nnmm_jax.reports.calibration import CalibrationSettings, calibrate, geweke, p_values
from nnmm_jax.reports.calibration_table import CONFIGURATIONS

pytestmark = pytest.mark.statistical
ERROR_RATE = 1e-3  # of each configuration


def joint_p_values(name, simulations=1024, rounds=20):
    """P-values of Geweke's test by quantity."""
    configuration = CONFIGURATIONS[name]
    prepared = prepare(configuration.dataset(), configuration.network)
    settings = CalibrationSettings(simulations=simulations)
    found = geweke(prepared, settings, rounds=rounds, nuts=configuration.nuts)
    return {
        name: float(stats.ks_2samp(found.prior[name], found.joint[name]).pvalue)
        for name in found.prior
    }


@pytest.mark.parametrize("name", ["BayesC linear, scattered, skip", "BayesR tanh, latent, partial"])
def test_ranks_of_the_truth_are_uniform(name):
    configuration = CONFIGURATIONS[name]
    prepared = prepare(configuration.dataset(), configuration.network)
    found = calibrate(prepared, CalibrationSettings(simulations=128, thin=10))
    assert found.non_finite == 0
    p = [one for name in found.ranks for one in p_values(found.ranks[name].to_numpy(), found.draws)]
    assert min(p) > ERROR_RATE / len(p)


@pytest.mark.parametrize(
    "name",
    [
        "BayesC tanh, latent",
        "RR-BLUP function, scattered",
        "BayesC trait alone, random terms",
        "blocks tanh, scattered",
        "RR-BLUP linear, both, random terms",
    ],
)
def test_parameters_and_data_in_turn_stay_at_the_prior(name):
    p = joint_p_values(name)
    assert min(p.values()) > ERROR_RATE / len(p)


def one_more_degree(df, scale, sum_squares, count):
    return RIGHT(df, scale, sum_squares, count + 1)


RIGHT = families.variance_conditional


def without_jacobian(self, node, at):
    found = LOG_PRIOR(self, node, at)
    return found - 2.0 * at[self.shifts.shape[0] :].sum()


LOG_PRIOR = latent_move.Directions.log_prior


def too_wide(*arguments):
    moved = HMC(*arguments)
    return moved._replace(end=moved.end * 1.2)


HMC = missing_hmc.hmc_move


@pytest.mark.parametrize(
    ("where", "what", "fault", "name"),
    [
        (variances, "variance_conditional", one_more_degree, "RR-BLUP linear, complete"),
        (latent_move.Directions, "log_prior", without_jacobian, "BayesC tanh, latent"),
        (missing_hmc, "hmc_move", too_wide, "BayesL relu, scattered, skip"),
    ],
    ids=["degree of freedom", "Jacobian", "HMC too wide"],
)
def test_a_fault_is_found(monkeypatch, where, what, fault, name):
    monkeypatch.setattr(where, what, fault)
    p = joint_p_values(name)
    assert min(p.values()) < ERROR_RATE / len(p)
    assert np.isfinite(list(p.values())).all()
