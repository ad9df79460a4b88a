"""Mixed-effect neural networks (NN-MM): genotypes -> omics -> phenotype, fitted by MCMC on JAX.

>>> import nnmm_jax as nm
>>> data = nm.read_dataset("genotypes.csv", "omics.csv", "phenotypes.csv", "y")  # doctest: +SKIP
>>> result = nm.fit(data, nm.Network(activation="tanh"))  # doctest: +SKIP
>>> result.breeding_values()  # doctest: +SKIP
"""

import os
from importlib import import_module, metadata
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nnmm_jax.api import Model as Model
    from nnmm_jax.api import fit as fit
    from nnmm_jax.api import resume as resume
    from nnmm_jax.data.align import Dataset as Dataset
    from nnmm_jax.data.align import read_dataset as read_dataset
    from nnmm_jax.data.connections import cis_connections as cis_connections
    from nnmm_jax.data.dosages import Dosages as Dosages
    from nnmm_jax.data.quality import QualityControl as QualityControl
    from nnmm_jax.errors import InputError as InputError
    from nnmm_jax.inference.memory_plan import MemoryPlan as MemoryPlan
    from nnmm_jax.inference.recording import Checkpoints as Checkpoints
    from nnmm_jax.network.priors import GBLUP as GBLUP
    from nnmm_jax.network.priors import RRBLUP as RRBLUP
    from nnmm_jax.network.priors import BayesA as BayesA
    from nnmm_jax.network.priors import BayesB as BayesB
    from nnmm_jax.network.priors import BayesC as BayesC
    from nnmm_jax.network.priors import BayesL as BayesL
    from nnmm_jax.network.priors import BayesR as BayesR
    from nnmm_jax.network.priors import Residual as Residual
    from nnmm_jax.network.simulate import SimulationSettings as SimulationSettings
    from nnmm_jax.network.simulate import simulate as simulate
    from nnmm_jax.network.spec import Block as Block
    from nnmm_jax.network.spec import Network as Network
    from nnmm_jax.network.terms import Group as Group
    from nnmm_jax.network.terms import Pedigree as Pedigree
    from nnmm_jax.network.terms import Relationship as Relationship
    from nnmm_jax.posterior.result import FitResult as FitResult
    from nnmm_jax.posterior.result import load as load
    from nnmm_jax.posterior.stream_reading import open_draws as open_draws
    from nnmm_jax.reports.comparison import compare as compare
    from nnmm_jax.reports.cross_validation import cross_validate as cross_validate
    from nnmm_jax.reports.imputation import check_imputation as check_imputation
    from nnmm_jax.reports.predictive_checks import predictive_checks as predictive_checks
    from nnmm_jax.threads import use_threads as use_threads

__version__ = "0.1.0"

_SCHEDULER_FLAG = "xla_cpu_enable_concurrency_optimized_scheduler"


def _avoid_deadlock() -> None:
    """Switch the CPU scheduler off that runs independent parts of a sweep side by side.

    With jaxlib 0.10.2 on two cores such parts were seen to wait for each other for ever; with
    0.12 they were not. It must be said before JAX starts its backend; a user's own word stands.
    """
    flags = os.environ.get("XLA_FLAGS", "")
    version = tuple(int(part) for part in metadata.version("jaxlib").split(".")[:2])
    if version < (0, 12) and _SCHEDULER_FLAG not in flags:
        os.environ["XLA_FLAGS"] = f"{flags} --{_SCHEDULER_FLAG}=false".strip()


_avoid_deadlock()

# Loaded on first use, so that importing the package (and `nnmm --help`) does not load JAX.
_HOME = {
    "BayesA": "nnmm_jax.network.priors",
    "BayesB": "nnmm_jax.network.priors",
    "BayesC": "nnmm_jax.network.priors",
    "BayesL": "nnmm_jax.network.priors",
    "BayesR": "nnmm_jax.network.priors",
    "Block": "nnmm_jax.network.spec",
    "Checkpoints": "nnmm_jax.inference.recording",
    "Dataset": "nnmm_jax.data.align",
    "Dosages": "nnmm_jax.data.dosages",
    "FitResult": "nnmm_jax.posterior.result",
    "GBLUP": "nnmm_jax.network.priors",
    "Group": "nnmm_jax.network.terms",
    "InputError": "nnmm_jax.errors",
    "MemoryPlan": "nnmm_jax.inference.memory_plan",
    "Model": "nnmm_jax.api",
    "Network": "nnmm_jax.network.spec",
    "Pedigree": "nnmm_jax.network.terms",
    "QualityControl": "nnmm_jax.data.quality",
    "RRBLUP": "nnmm_jax.network.priors",
    "Relationship": "nnmm_jax.network.terms",
    "Residual": "nnmm_jax.network.priors",
    "SimulationSettings": "nnmm_jax.network.simulate",
    "check_imputation": "nnmm_jax.reports.imputation",
    "cis_connections": "nnmm_jax.data.connections",
    "compare": "nnmm_jax.reports.comparison",
    "cross_validate": "nnmm_jax.reports.cross_validation",
    "fit": "nnmm_jax.api",
    "load": "nnmm_jax.posterior.result",
    "predictive_checks": "nnmm_jax.reports.predictive_checks",
    "open_draws": "nnmm_jax.posterior.stream_reading",
    "read_dataset": "nnmm_jax.data.align",
    "resume": "nnmm_jax.api",
    "simulate": "nnmm_jax.network.simulate",
    "use_threads": "nnmm_jax.threads",
}
__all__ = list(_HOME)


def __getattr__(name: str) -> object:
    """Load a public name from the module that defines it."""
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    """List the public names without loading them."""
    return sorted([*globals(), *_HOME])
