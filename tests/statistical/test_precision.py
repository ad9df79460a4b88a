"""Single precision gives the posterior of double precision, over 20,000 sweeps of each."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
from scipy import stats

pytestmark = pytest.mark.statistical

SWEEPS = 20_000
SCRIPT = """
import json, sys
import numpy as np
import nnmm_jax as nm
from nnmm_jax.inference.blocks import complete
from nnmm_jax.inference.prepare import prepare
from nnmm_jax.posterior import arviz_compat
n, p = int(sys.argv[4]), int(sys.argv[5])
sizes = nm.SimulationSettings(individuals=n, markers=p, omics=4, without_omics=0.3)
network = nm.Network(activation=sys.argv[1], marker_prior=sys.argv[2], skip_prior="RR-BLUP")
data = nm.simulate(sizes, seed=1).dataset()
result = nm.fit(data, network, warmup=1000,
                samples=int(sys.argv[6]), chains=2, seed=int(sys.argv[3]), progress=False)
names = ("h2_trait", "var_residual_trait", "var_residual_node", "h2_node", "ebv_mediated",
         "ebv_direct", "epv")
found = {"sums": complete.applies(prepare(data, network).data),
         "precision": result.run["machine"]["precision"],
         "non_finite": int(result.sample_stats["non_finite"].sum())}
for name in names:
    draws = result.posterior[name].astype(float)
    mean = draws.mean(("chain", "draw"))
    error = draws.std(("chain", "draw")) / np.sqrt(arviz_compat.ess_mean(draws))
    found[name] = [np.ravel(mean).tolist(), np.ravel(error).tolist()]
print(json.dumps(found))
"""


def fitted(x64, *arguments):
    """Posterior means and their Monte Carlo errors, by quantity."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, *arguments, str(SWEEPS)],
        env={**os.environ, "JAX_ENABLE_X64": str(int(x64))},
        capture_output=True,
        text=True,
        check=True,
        timeout=1500,
    )
    return json.loads(done.stdout)


@pytest.mark.parametrize(
    ("activation", "prior", "n", "p"),
    [("linear", "BayesC", 150, 200), ("tanh", "RR-BLUP", 150, 200), ("linear", "BayesC", 600, 100)],
)
def test_single_and_double_precision_agree(activation, prior, n, p):
    """The larger data have sums in the place of complete individuals."""
    single, double = (
        fitted(x64, activation, prior, str(1 + x64), str(n), str(p)) for x64 in (False, True)
    )
    assert single.pop("sums") == double.pop("sums") == (n == 600)
    assert [single.pop("precision"), double.pop("precision")] == ["float32", "float64"]
    assert single.pop("non_finite") == double.pop("non_finite") == 0
    z = np.concatenate(
        [
            (np.array(single[name][0]) - double[name][0])
            / np.hypot(single[name][1], double[name][1])
            for name in single
        ]
    )
    # Individuals of a family are not independent of each other: the bound holds whatever they are.
    assert np.abs(z).max() < stats.norm.isf(0.5 * 1e-3 / len(z))
