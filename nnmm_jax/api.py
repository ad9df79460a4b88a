"""The main job in one call: data and network in, result out."""

import secrets
import time
from dataclasses import asdict

from nnmm_jax.data.align import Dataset
from nnmm_jax.inference.prepare import Prepared, prepare
from nnmm_jax.inference.run import RunSettings, run_chains
from nnmm_jax.inference.sweep import SweepSettings
from nnmm_jax.network.priors import Prior, as_prior
from nnmm_jax.network.spec import Network
from nnmm_jax.posterior.assemble import assemble
from nnmm_jax.posterior.provenance import machine, peak_memory_mb, versions
from nnmm_jax.posterior.result import FitResult


def fit(
    dataset: Dataset,
    network: Network | None = None,
    *,
    warmup: int = 1000,
    samples: int = 1000,
    chains: int = 4,
    seed: int | None = None,
    progress: bool = True,
) -> FitResult:
    """Fit a mixed-effect neural network by Markov chain Monte Carlo.

    Parameters
    ----------
    dataset : Dataset
        Joined tables, see :func:`nnmm_jax.read_dataset`.
    network : Network or None
        What to fit; ``None`` for a linear network with default priors.
    warmup, samples : int
        Sweeps discarded and kept, of every chain.
    chains : int
        Number of chains, run together.
    seed : int or None
        All random numbers come from it. ``None``: drawn from the system and stored with the
        result, so that the run can be repeated.
    progress : bool
        Show a progress bar; it changes no number.

    Returns
    -------
    FitResult

    Raises
    ------
    InputError
        If settings, network and data do not fit together.

    References
    ----------
    Zhao, Zeng & Cheng 2022, GENETICS 221, iyac034.

    Examples
    --------
    >>> import nnmm_jax
    >>> sizes = nnmm_jax.SimulationSettings(individuals=60, markers=80, omics=3)
    >>> data = nnmm_jax.simulate(sizes, seed=1).dataset()
    >>> result = nnmm_jax.fit(data, warmup=20, samples=20, chains=2, seed=1, progress=False)
    >>> result.posterior.sizes["individual"]
    60
    """
    network = Network() if network is None else network
    seed = secrets.randbelow(2**31) if seed is None else seed
    settings = RunSettings(warmup, samples, chains, seed, progress)
    began = time.perf_counter()
    prepared = prepare(dataset, network)
    seconds = {"setup": time.perf_counter() - began}
    output = run_chains(prepared.data, sweep_settings(network), settings)
    seconds |= output.seconds
    groups = assemble(dataset, prepared, output, linear=network.activate.linear, seed=settings.seed)
    run = {
        "settings": {**_describe(network), **asdict(settings)},
        "priors": _resolved_priors(prepared),
        "versions": versions(),
        "machine": machine(),
        "seed": int(settings.seed),
        "data": dataset.report.to_dict(),
        "seconds": {name: round(value, 3) for name, value in seconds.items()},
        "peak_memory_mb": round(peak_memory_mb()),
    }
    return FitResult(**groups, run=run)


def sweep_settings(network: Network) -> SweepSettings:
    """Return the static part of the sweep that a network asks for."""
    return SweepSettings(
        network.activation,
        marker_spike=as_prior(network.marker_prior).spike,
        node_spike=as_prior(network.node_prior).spike,
        skip_spike=network.skip_prior is not None and as_prior(network.skip_prior).spike,
    )


def _describe(network: Network) -> dict[str, object]:
    """Settings of a network as JSON can hold them."""
    found: dict[str, object] = {}
    for name in network.__dataclass_fields__:
        value = getattr(network, name)
        found[name] = {"name": value.name, **asdict(value)} if isinstance(value, Prior) else value
    return found


def _resolved_priors(prepared: Prepared) -> dict[str, object]:
    """Scales that the defaults led to, on the internal (standardised) scale."""
    data = prepared.data
    found: dict[str, object] = {
        "scale": "internal: trait and standardised omics have variance 1",
        "df_residual_node": data.residual_hyper.df.tolist(),
        "scale_residual_node": data.residual_hyper.scale.tolist(),
        "df_residual_trait": data.trait_hyper.df.tolist(),
        "scale_residual_trait": data.trait_hyper.scale.tolist(),
    }
    hypers = {"marker": data.omics.hyper, "node": data.node_hyper}
    if data.skip is not None:
        hypers["skip"] = data.skip.hyper
    for name, hyper in hypers.items():
        found[f"df_{name}_effect"] = hyper.df.tolist()
        found[f"scale_{name}_effect"] = hyper.scale.tolist()
    return found
