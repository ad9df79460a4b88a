"""The main job in one call: data and network in, result out."""

import secrets
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass

import jax
import xarray as xr
from numpyro.distributions import Distribution

from nnmm_jax.data.align import Dataset
from nnmm_jax.inference.build_shapes import ShapeBuilder
from nnmm_jax.inference.memory_plan import MemoryPlan, plan_memory
from nnmm_jax.inference.prepare import Prepared, prepare
from nnmm_jax.inference.prior_predictive import PriorPredictive, prior_predictive
from nnmm_jax.inference.run import RunOutput, run_chains
from nnmm_jax.inference.run_settings import RunSettings
from nnmm_jax.machine_memory import peak_memory_mb
from nnmm_jax.network.activations import Activation
from nnmm_jax.network.functions import function_name
from nnmm_jax.network.parameters import prior_text
from nnmm_jax.network.priors import Prior, Residual
from nnmm_jax.network.spec import Block, Network
from nnmm_jax.posterior.assemble import assemble
from nnmm_jax.posterior.diagnostics import diagnostics
from nnmm_jax.posterior.provenance import header, machine, versions
from nnmm_jax.posterior.result import FitResult
from nnmm_jax.posterior.stopping import Reached, closing_lines, reached


@dataclass(frozen=True, eq=False)
class Model:
    """A data set and a network: everything that can be asked of the two together.

    Attributes
    ----------
    dataset : Dataset
        Joined tables, see :func:`nnmm_jax.read_dataset`.
    network : Network
        What to fit.

    Examples
    --------
    >>> import nnmm_jax as nm
    >>> sizes = nm.SimulationSettings(individuals=60, markers=80, omics=3)
    >>> model = nm.Model(nm.simulate(sizes, seed=1).dataset(), nm.Network(skip_prior="BayesA"))
    >>> prior = model.prior_predictive(draws=100, seed=1)
    >>> bool(0.05 < prior.draws["h2_trait"].median() < 0.7)
    True
    """

    dataset: Dataset
    network: Network = Network()

    def prior_predictive(self, draws: int = 1000, seed: int = 0) -> PriorPredictive:
        """Draw from the priors: which heritabilities they imply, before the responses speak.

        Parameters
        ----------
        draws : int
            Number of draws.
        seed : int
            Of all random numbers.

        Returns
        -------
        PriorPredictive
            Prints as a table of quantiles; ``draws`` holds the draws.

        Raises
        ------
        InputError
            If network and data do not fit together.
        """
        prepared = prepare(self.dataset, self.network)
        return prior_predictive(prepared, draws, seed)

    def plan(
        self,
        *,
        warmup: int = 1000,
        samples: int = 1000,
        chains: int = 4,
        sampler: str = "hmc",
        until_ess: float | None = None,
        max_samples: int | None = None,
    ) -> MemoryPlan:
        """Predict the memory of a fit; arguments as in :func:`fit`. Compiles, but fits nothing.

        Returns
        -------
        MemoryPlan
            Prints as a table, in the memory of a machine without a GPU.

        Raises
        ------
        InputError
            If settings, network and data do not fit together.
        """
        settings = RunSettings(warmup, samples, chains, 0, False, sampler, until_ess, max_samples)
        planned = prepare(self.dataset, self.network, build=ShapeBuilder)
        return plan_memory(self.dataset, planned, settings)

    def fit(
        self,
        *,
        warmup: int = 1000,
        samples: int = 1000,
        chains: int = 4,
        seed: int | None = None,
        progress: bool = True,
        sampler: str = "hmc",
        until_ess: float | None = None,
        max_samples: int | None = None,
    ) -> FitResult:
        """Fit by Markov chain Monte Carlo; arguments as in :func:`fit`."""
        seed = secrets.randbelow(2**31) if seed is None else seed
        settings = RunSettings(
            warmup, samples, chains, seed, progress, sampler, until_ess, max_samples
        )
        if progress:
            print(f"nnmm: {header(chains)}", file=sys.stderr)
        result = fit_prepared(self.dataset, self.network, settings)
        if progress:
            for line in closing_lines(result):
                print(f"nnmm: {line}", file=sys.stderr)
        return result


def fit(
    dataset: Dataset,
    network: Network | None = None,
    *,
    warmup: int = 1000,
    samples: int = 1000,
    chains: int = 4,
    seed: int | None = None,
    progress: bool = True,
    sampler: str = "hmc",
    until_ess: float | None = None,
    max_samples: int | None = None,
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
        Show what the run computes on, a progress bar, and a line at the end if the chains have not
        converged; it changes no number.
    sampler : str
        How missing omics and latent nodes of a nonlinear network move: ``"hmc"``, Hamiltonian
        Monte Carlo with trajectories of one length, or ``"nuts"``, the no-U-turn sampler.
    until_ess : float or None
        Go on after the first ``samples`` sweeps, ``samples`` at a time, until the smallest
        effective sample size of all identified quantities (see ``FitResult.diagnostics``) is at
        least this and no R-hat is above 1.01. The draws are those of one run of that length; what
        was reached is in ``result.run["until_ess"]``. ``None``: ``samples`` sweeps.
    max_samples : int or None
        The most sweeps then kept, of every chain. ``None``: ten times ``samples``.

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
    return Model(dataset, Network() if network is None else network).fit(
        warmup=warmup,
        samples=samples,
        chains=chains,
        seed=seed,
        progress=progress,
        sampler=sampler,
        until_ess=until_ess,
        max_samples=max_samples,
    )


def fit_prepared(
    dataset: Dataset,
    network: Network,
    settings: RunSettings,
    activation: Activation | None = None,
    *,
    plan_first: bool = True,
) -> FitResult:
    """Fit with settings that have been checked.

    Parameters
    ----------
    dataset, network, settings
        What to fit, and how long.
    activation : Activation, optional
        That of the network, where it is known already: programs are compiled for one.
    plan_first : bool
        Whether to check first that there is enough memory. Not where another data set of the same
        shapes was fitted before.

    Raises
    ------
    InputError
        As :func:`fit`.
    """
    began = time.perf_counter()
    if plan_first and jax.default_backend() == "cpu":
        # Elsewhere arrays are not in the machine's memory.
        planned = prepare(dataset, network, build=ShapeBuilder, activation=activation)
        activation = planned.activation
        plan = plan_memory(dataset, planned, settings)
        plan.check()
        if settings.progress:
            print("\n".join(f"nnmm: {line}" for line in plan.lines()), file=sys.stderr)
    compiled = time.perf_counter()
    prepared = prepare(dataset, network, activation=activation)
    seconds = {"setup": time.perf_counter() - compiled}
    target = settings.until_ess
    enough = None if target is None else _stopping_rule(dataset, prepared, settings.seed, target)
    output = run_chains(prepared.data, prepared.activation, settings, enough=enough)
    seconds |= output.seconds
    seconds["compilation"] += compiled - began
    groups = assemble(dataset, prepared, output, seed=settings.seed)
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
    if target is not None:
        run["until_ess"] = _how_far(groups, target).to_dict()
    return FitResult(**groups, run=run)


def _stopping_rule(
    dataset: Dataset, prepared: Prepared, seed: int, target: float
) -> Callable[[RunOutput], bool]:
    """Whether what is kept of a run is enough."""

    def enough(output: RunOutput) -> bool:
        if output.stats["non_finite"].any():  # they stay: nothing is to be waited for
            return True
        return _how_far(assemble(dataset, prepared, output, seed=seed), target).enough

    return enough


def _how_far(groups: Mapping[str, xr.Dataset], target: float) -> Reached:
    latent = groups["constant_data"]["latent"].astype(bool)
    table = diagnostics(groups["posterior"], latent)
    return reached(table, target, groups["posterior"].sizes["draw"])


def _describe(network: Network) -> dict[str, object]:
    """Settings of a network as JSON can hold them."""

    def plain(value: object) -> object:
        if isinstance(value, Prior):
            return {"name": value.name, **asdict(value)}
        if isinstance(value, Residual):
            return asdict(value)
        if isinstance(value, Block):
            return {name: plain(getattr(value, name)) for name in value.__dataclass_fields__}
        if callable(value):
            return function_name(value)
        if isinstance(value, Distribution):
            return prior_text(value)
        if isinstance(value, Mapping):
            return {str(key): plain(one) for key, one in value.items()}
        if isinstance(value, tuple):
            return [plain(one) for one in value]
        return value

    return {name: plain(getattr(network, name)) for name in network.__dataclass_fields__}


def _resolved_priors(prepared: Prepared) -> dict[str, object]:
    """Hyperparameters that the defaults led to, on the internal (standardised) scale."""
    data = prepared.data
    found: dict[str, object] = {"scale": "internal: trait and standardised omics have variance 1"}
    layers = {f"node{block.suffix}": block for block in data.omics} | {"trait": data.trait}
    hypers = {
        f"node{block.suffix}": hyper
        for block, hyper in zip(data.omics, data.node_hyper, strict=False)
    }
    for name, prior in prepared.activation.parameters.priors.items():
        found[f"theta_{name}"] = prior_text(prior)
    for response, layer in layers.items():
        residual = layer.residual_hyper
        found[f"df_residual_{response}"] = residual.df.tolist()
        found[f"scale_residual_{response}"] = residual.scale.tolist()
        hypers |= {term.name: term.hyper for term in layer.terms}
        hypers |= {term.name: term.hyper for term in layer.random}
    for name, hyper in hypers.items():
        if hyper.family != "lasso":
            found[f"df_{name}_effect"] = hyper.df.tolist()
        if hyper.family == "common" or hyper.known:
            found[f"scale_{name}_effect"] = hyper.scale.tolist()
        else:
            found[f"shape_{name}_effect"] = hyper.shape.tolist()
            found[f"rate_{name}_effect"] = hyper.rate.tolist()
        if hyper.estimate_weights:
            found[f"counts_{name}_effect"] = hyper.counts[0].tolist()
    return found
