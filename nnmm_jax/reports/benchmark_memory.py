"""Predicted against measured peak memory, every fit in a fresh process."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field

import pandas as pd

from nnmm_jax.data.sizes import Sizes
from nnmm_jax.errors import InputError
from nnmm_jax.inference.compile_cache import SWITCH as CACHE
from nnmm_jax.inference.memory_plan import GIB

TOLERANCE = 0.25  # of the measured peak


@dataclass(frozen=True)
class MemorySetting:
    """One fit of the table.

    Attributes
    ----------
    name : str
    sizes : Sizes
    chains, warmup, samples : int
    network : dict of str to str or None
        Arguments of :class:`~nnmm_jax.Network`.
    """

    name: str
    sizes: Sizes
    chains: int = 4
    warmup: int = 25
    samples: int = 100
    network: dict[str, str | None] = field(default_factory=dict)


SETTINGS = (
    MemorySetting("small", Sizes(500, 1000, 5)),
    MemorySetting("medium", Sizes(4000, 10_000, 20), network={"skip_prior": "BayesC"}),
    MemorySetting("more markers than individuals", Sizes(1000, 40_000, 50)),
    MemorySetting("many chains and draws", Sizes(4000, 2000, 10), chains=8, samples=1000),
    MemorySetting("GBLUP, eigenvectors", Sizes(5000, 8000, 10), network={"marker_prior": "GBLUP"}),
    MemorySetting(
        "no middle layer",
        Sizes(8000, 20_000, without_phenotype=0.0),
        network={"skip_prior": "BayesC"},
    ),
    MemorySetting("tanh", Sizes(3000, 5000, 20), network={"activation": "tanh"}),
)
LARGE = MemorySetting("large", Sizes(20_000, 50_000, 20), chains=1, warmup=2, samples=4)

# Each in a process of its own, the plan from sizes alone.
_PLAN, _FIT = "plan", "fit"
_CALL = "from nnmm_jax.reports.benchmark_memory import child; child({!r}, {!r})"


def child(job: str, setting: str) -> None:
    """Plan or fit, and print bytes: of the plan's peak, or of the process's own."""
    import nnmm_jax as nm
    from nnmm_jax.machine_memory import peak_memory_mb

    given = json.loads(setting)
    network = nm.Network(**given["network"])
    length = {name: given[name] for name in ("chains", "warmup", "samples")}
    dataset = Sizes(**given["sizes"]).dataset(filled=job == _FIT)
    if job == _PLAN:
        plan = nm.Model(dataset, network).plan(**length)
        print(json.dumps({"bytes": plan.peak, "phase": plan.phase}))
    else:
        result = nm.fit(dataset, network, **length, seed=1, progress=False)
        print(json.dumps({"bytes": peak_memory_mb() * 1e6, "seconds": result.run["seconds"]}))


def memory_table(settings: Sequence[MemorySetting] = SETTINGS) -> pd.DataFrame:
    """Plan and fit every setting, and compare.

    Parameters
    ----------
    settings : sequence of MemorySetting

    Returns
    -------
    pandas.DataFrame
        Columns setting, phase (the one that needs most), predicted_gb and measured_gb (2**30
        bytes), ratio (predicted by measured) and within (whether that is within 25% of 1).

    Raises
    ------
    InputError
        If a fit fails.

    Examples
    --------
    >>> from nnmm_jax.reports.benchmark_memory import LARGE, memory_table
    >>> memory_table([LARGE])["within"].all()  # doctest: +SKIP
    np.True_
    """
    rows = []
    for setting in settings:
        planned, fitted = (_run(job, setting) for job in (_PLAN, _FIT))
        ratio = planned["bytes"] / fitted["bytes"]
        rows.append(
            {
                "setting": setting.name,
                "phase": planned["phase"],
                "predicted_gb": planned["bytes"] / GIB,
                "measured_gb": fitted["bytes"] / GIB,
                "ratio": ratio,
                "within": abs(ratio - 1.0) <= TOLERANCE,
            }
        )
    return pd.DataFrame(rows)


def _run(job: str, setting: MemorySetting) -> dict[str, float]:
    call = _CALL.format(job, json.dumps(asdict(setting)))
    done = subprocess.run(
        [sys.executable, "-c", call],
        capture_output=True,
        text=True,
        check=False,
        # A fit plans and compiles in one process: here the second would find what the first left.
        env={**os.environ, CACHE: "0"},
    )
    if done.returncode:
        last = done.stderr.strip().splitlines()[-1:]
        raise InputError(f"{job} of {setting.name!r}: {' '.join(last)}")
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found
