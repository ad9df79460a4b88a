"""Mixed-effect neural networks (NN-MM): genotypes -> omics -> phenotype, fitted by MCMC on JAX.

>>> import nnmm_jax as nm
>>> data = nm.read_dataset("genotypes.csv", "omics.csv", "phenotypes.csv", "y")  # doctest: +SKIP
>>> result = nm.fit(data, nm.Network(activation="tanh"))  # doctest: +SKIP
>>> result.breeding_values()  # doctest: +SKIP
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nnmm_jax.api import fit as fit
    from nnmm_jax.data.align import Dataset as Dataset
    from nnmm_jax.data.align import read_dataset as read_dataset
    from nnmm_jax.errors import InputError as InputError
    from nnmm_jax.network.priors import RRBLUP as RRBLUP
    from nnmm_jax.network.priors import BayesC as BayesC
    from nnmm_jax.network.simulate import SimulationSettings as SimulationSettings
    from nnmm_jax.network.simulate import simulate as simulate
    from nnmm_jax.network.spec import Network as Network
    from nnmm_jax.posterior.result import FitResult as FitResult
    from nnmm_jax.posterior.result import load as load

__version__ = "0.1.0"

# Loaded on first use, so that importing the package (and `nnmm --help`) does not load JAX.
_HOME = {
    "BayesC": "nnmm_jax.network.priors",
    "Dataset": "nnmm_jax.data.align",
    "FitResult": "nnmm_jax.posterior.result",
    "InputError": "nnmm_jax.errors",
    "Network": "nnmm_jax.network.spec",
    "RRBLUP": "nnmm_jax.network.priors",
    "SimulationSettings": "nnmm_jax.network.simulate",
    "fit": "nnmm_jax.api",
    "load": "nnmm_jax.posterior.result",
    "read_dataset": "nnmm_jax.data.align",
    "simulate": "nnmm_jax.network.simulate",
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
