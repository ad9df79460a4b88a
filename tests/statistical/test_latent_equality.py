"""A latent linear node gives the posterior of BayesC of the phenotype."""

import pytest

from nnmm_jax.inference.run import RunSettings
from nnmm_jax.reports.identifiability import MISSED, OK, equality, latent_data

pytestmark = pytest.mark.statistical


def test_a_latent_node_gives_the_fitted_values_of_bayes_c():
    rows = equality(
        latent_data(individuals=120, markers=60), RunSettings(500, 10_000, 4, 3, progress=False)
    )
    verdicts = [row["verdict"] for row in rows]
    assert verdicts[:3] == [OK] * 3, rows
    assert MISSED not in verdicts
