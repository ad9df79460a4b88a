"""One run on one device, on 8 forced devices of the host, and in two processes: the same draws.

Each is a process of its own, as the number of devices is fixed when JAX starts.
"""

import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytestmark = pytest.mark.statistical

RUN = """
import sys
import jax
import numpy as np
import nnmm_jax as nm

individuals, prior, activation, devices, file = sys.argv[1:6]
if len(sys.argv) > 6:
    jax.distributed.initialize(f"127.0.0.1:{sys.argv[6]}", 2, int(sys.argv[7]))
sizes = nm.SimulationSettings(individuals=int(individuals), markers=300, omics=4)
network = nm.Network(activation=activation, marker_prior=prior, skip_prior=prior)
options = dict(warmup=10, samples=10, chains=2, seed=1, progress=False, devices=int(devices))
result = nm.fit(nm.simulate(sizes, seed=1).dataset(), network, **options)
if jax.process_index() == 0:
    groups = (result.posterior, result.moments, result.parameters)
    np.savez(file, **{f"{i}.{name}": one[name] for i, one in enumerate(groups) for name in one})
"""
CASES = {
    "devices divide the individuals": ("160", "GBLUP", "linear"),
    "devices do not divide them": ("157", "BayesC", "tanh"),
}


def started(
    case: str, devices: int, file: Path, *more: object, forced: int = 1
) -> subprocess.Popen:
    environment = os.environ | {"XLA_FLAGS": f"--xla_force_host_platform_device_count={forced}"}
    words = [*CASES[case], devices, file, *more]
    return subprocess.Popen([sys.executable, "-c", RUN, *map(str, words)], env=environment)


def drawn(*processes: subprocess.Popen, file: Path) -> dict[str, np.ndarray]:
    assert [process.wait(timeout=900) for process in processes] == [0] * len(processes)
    with np.load(file) as found:
        return dict(found)


def same(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> None:
    assert one.keys() == other.keys()
    assert len(one) > 30
    for name, values in one.items():
        # The unit of what is nearly nothing, such as a mean of breeding values, is that of the EBV.
        unit = max(np.abs(values).max(), 1e-3 * np.abs(one["0.ebv_mediated"]).max())
        np.testing.assert_allclose(other[name], values, rtol=0, atol=1e-4 * unit, err_msg=name)


@pytest.mark.parametrize("case", CASES)
def test_eight_forced_devices_give_the_draws_of_one(tmp_path: Path, case: str) -> None:
    one, eight = tmp_path / "one.npz", tmp_path / "eight.npz"
    expected = drawn(started(case, 1, one), file=one)
    same(expected, drawn(started(case, 8, eight, forced=8), file=eight))


@pytest.mark.parametrize("case", CASES)
def test_two_processes_give_the_draws_of_one(tmp_path: Path, case: str) -> None:
    one, two = tmp_path / "one.npz", tmp_path / "two.npz"
    expected = drawn(started(case, 1, one), file=one)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    both = [started(case, 2, two, port, number) for number in range(2)]
    same(expected, drawn(*both, file=two))
