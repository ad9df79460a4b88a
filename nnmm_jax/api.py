"""The main job in one call: data and network in, result out."""

import secrets
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeAlias

import jax
import numpy as np
import xarray as xr
from numpyro.distributions import Distribution

from nnmm_jax.data.align import Dataset
from nnmm_jax.errors import InputError
from nnmm_jax.inference.build_shapes import ShapeBuilder
from nnmm_jax.inference.memory_plan import MemoryPlan, plan_memory
from nnmm_jax.inference.prepare import Prepared, prepare
from nnmm_jax.inference.prior_predictive import PriorPredictive, prior_predictive
from nnmm_jax.inference.recording import Checkpoints
from nnmm_jax.inference.run import RunOutput, run_chains
from nnmm_jax.inference.run_settings import RunSettings
from nnmm_jax.inference.variational_draws import run_variational, variational_start
from nnmm_jax.machine_memory import peak_memory_mb
from nnmm_jax.network.activations import Activation
from nnmm_jax.network.functions import function_name
from nnmm_jax.network.parameters import prior_text
from nnmm_jax.network.priors import Prior, Residual
from nnmm_jax.network.spec import Block, Network
from nnmm_jax.posterior.arviz_compat import pareto_k
from nnmm_jax.posterior.assemble import assemble, assemble_rest, judged
from nnmm_jax.posterior.diagnostics import diagnostics
from nnmm_jax.posterior.provenance import header, hint, machine, versions
from nnmm_jax.posterior.recorded import Recorded, begin, find, stored_settings
from nnmm_jax.posterior.result import DRAWS_AT, VARIATIONAL, FitResult
from nnmm_jax.posterior.stopping import Reached, closing_lines, reached

# How a run on disk begins, or is found again.
OnDisk: TypeAlias = Callable[
    [Checkpoints, Dataset, Prepared, RunSettings, Mapping[str, object]], Recorded
]


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
        thin: int = 1,
        keep: Sequence[str] = (),
        checkpoint: bool = False,
        lazy: bool = False,
    ) -> MemoryPlan:
        """Predict the memory of a fit; arguments as in :func:`fit`. Compiles, but fits nothing.

        Parameters
        ----------
        checkpoint : bool
            Whether the draws go to disk.

        Returns
        -------
        MemoryPlan
            Prints as a table, in the memory of a machine without a GPU.

        Raises
        ------
        InputError
            If settings, network and data do not fit together.
        """
        settings = RunSettings(
            warmup=warmup,
            samples=samples,
            chains=chains,
            progress=False,
            sampler=sampler,
            until_ess=until_ess,
            max_samples=max_samples,
            thin=thin,
            keep=tuple(keep),
        )
        _check_kept(settings, checkpoint, lazy)
        planned = prepare(self.dataset, self.network, build=ShapeBuilder)
        return plan_memory(self.dataset, planned, settings, on_disk=checkpoint, lazy=lazy)

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
        thin: int = 1,
        keep: Sequence[str] = (),
        max_minutes: float | None = None,
        checkpoint: str | Path | Checkpoints | None = None,
        lazy: bool = False,
        devices: int = 1,
        method: str = "mcmc",
        start: str = "dispersed",
    ) -> FitResult:
        """Fit; arguments as in :func:`fit`."""
        seed = secrets.randbelow(2**31) if seed is None else seed
        settings = RunSettings(
            warmup=warmup,
            samples=samples,
            chains=chains,
            seed=seed,
            progress=progress,
            sampler=sampler,
            until_ess=until_ess,
            max_samples=max_samples,
            thin=thin,
            keep=tuple(keep),
            max_minutes=max_minutes,
            devices=devices,
            method=method,
            start=start,
        )
        _check_kept(settings, checkpoint is not None, lazy)
        if checkpoint is not None and method == "svi":
            raise InputError(
                "checkpoint: expected it with method mcmc alone, found it with svi, which takes "
                "minutes; leave it out"
            )
        if checkpoint is not None and devices > 1 and jax.process_count() > 1:
            raise InputError(
                f"checkpoint: expected one process, found {jax.process_count()}, which would all "
                "write there; leave it out"
            )
        place = _place(checkpoint)
        if place is not None:
            place.check()
        return self._run(settings, place, begin, lazy)

    def resume(
        self,
        folder: str | Path | Checkpoints,
        *,
        samples: int | None = None,
        until_ess: float | None = None,
        max_samples: int | None = None,
        max_minutes: float | None = None,
        progress: bool = True,
        lazy: bool = False,
    ) -> FitResult:
        """Go on with a run on disk; arguments as in :func:`resume`."""
        place = _place(folder)
        assert place is not None
        given = {
            "samples": samples,
            "until_ess": until_ess,
            "max_samples": max_samples,
            "max_minutes": max_minutes,
            "progress": progress,
        }
        return self._run(stored_settings(place.folder, given), place, find, lazy)

    def _run(
        self, settings: RunSettings, place: Checkpoints | None, on_disk: OnDisk, lazy: bool
    ) -> FitResult:
        """Fit, and say on stderr what is to be known of it."""
        if settings.progress:
            print(f"nnmm: {header(settings.chains)}", file=sys.stderr)
            data, nodes = self.dataset, max(len(self.dataset.omics_names), 1)
            if said := hint(len(data.ids), len(data.markers), nodes * settings.chains):
                print(f"nnmm: {said}", file=sys.stderr)
        result = fit_prepared(
            self.dataset, self.network, settings, place=place, on_disk=on_disk, lazy=lazy
        )
        if settings.progress:
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
    thin: int = 1,
    keep: Sequence[str] = (),
    max_minutes: float | None = None,
    checkpoint: str | Path | Checkpoints | None = None,
    lazy: bool = False,
    devices: int = 1,
    method: str = "mcmc",
    start: str = "dispersed",
) -> FitResult:
    """Fit a mixed-effect neural network, by Markov chain Monte Carlo unless told otherwise.

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
    thin : int
        Keep the draws of every so manieth sweep; ``moments`` are of all sweeps.
    keep : sequence of str
        Sites whose draws are kept too, on disk only (see :func:`open_draws`): ``marker_effect``
        (node, marker), ``skip_effect`` (marker, trait), ``omics`` (individual, node). ``samples``
        is then a multiple of ``thin``.
    max_minutes : float or None
        End after so many minutes, set-up included, with the draws that there are; what lacks is in
        ``result.run["stopped"]``. Results are made after that.
    checkpoint : str, Path, Checkpoints or None
        Folder for the draws and, every 10 minutes, the state of the run, from which
        :func:`resume` goes on to the same draws, and to more of them. SIGTERM and Ctrl-C then end
        the run with a last checkpoint, by :class:`nnmm_jax.errors.RunInterrupted`. How often is
        said by ``Checkpoints(folder, every=500)`` (sweeps) or ``minutes=``.
    lazy : bool
        Leave draws on disk, to be read where they are used, instead of loading them into the
        result; ``save`` then does not copy them.
    devices : int
        Spread individuals over so many devices, the first that JAX sees; on several machines those
        of all processes, once ``jax.distributed`` is started in each. Draws are those of one device
        up to rounding.
    method : str
        ``"mcmc"``, or ``"svi"`` for a quick look: ``samples`` x ``chains`` independent draws from a
        variational approximation of the same model (see :mod:`nnmm_jax.inference.variational`).
        There is no R-hat then; ``result.run["variational"]`` has the course of the evidence lower
        bound and Pareto k, and :func:`nnmm_jax.posterior.stopping.closing_lines` says them.
    start : str
        Where chains start: ``"dispersed"``, or ``"svi"`` at draws from such an approximation, a
        quick one with independent factors. It shortens the warm-up of priors with zero effects
        where few markers are causal; R-hat then sees less of what chains might have missed.

    Returns
    -------
    FitResult

    Raises
    ------
    InputError
        If settings, network and data do not fit together, a folder or file cannot be written, the
        time is over before the first draw, or there is no variational approximation.

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
        thin=thin,
        keep=keep,
        max_minutes=max_minutes,
        checkpoint=checkpoint,
        lazy=lazy,
        devices=devices,
        method=method,
        start=start,
    )


def resume(
    folder: str | Path | Checkpoints,
    dataset: Dataset,
    network: Network | None = None,
    *,
    samples: int | None = None,
    until_ess: float | None = None,
    max_samples: int | None = None,
    max_minutes: float | None = None,
    progress: bool = True,
    lazy: bool = False,
) -> FitResult:
    """Go on with a run whose state is on disk, to the same draws as without the interruption.

    They are the same bit for bit on the same kind of machine. A finished run is given more draws
    by ``samples``: those of one longer run.

    Parameters
    ----------
    folder : str, Path or Checkpoints
        That ``fit(..., checkpoint=folder)`` was given.
    dataset, network
        Those of the fit; anything else is refused.
    samples : int or None
        Sweeps kept in all, of every chain, with those that there are. ``None``: as it was; so are
        ``until_ess`` and ``max_samples``.
    until_ess, max_samples, max_minutes, progress, lazy
        As in :func:`fit`.

    Returns
    -------
    FitResult

    Raises
    ------
    InputError
        If there is no run, or it is of other data, another network, other settings or other
        versions of the libraries, or no checkpoint is whole. Where the last is damaged the one
        before is used, and said.

    Examples
    --------
    >>> import tempfile
    >>> import nnmm_jax as nm
    >>> folder = tempfile.mkdtemp()
    >>> sizes = nm.SimulationSettings(individuals=60, markers=80, omics=3)
    >>> data = nm.simulate(sizes, seed=1).dataset()
    >>> first = nm.fit(
    ...     data, warmup=20, samples=20, chains=2, seed=1, progress=False, checkpoint=folder
    ... )
    >>> longer = nm.resume(folder, data, samples=40, progress=False)
    >>> same = longer.posterior["epv"][:, :20] == first.posterior["epv"]
    >>> longer.posterior.sizes["draw"], bool(same.all())
    (40, True)
    """
    return Model(dataset, Network() if network is None else network).resume(
        folder,
        samples=samples,
        until_ess=until_ess,
        max_samples=max_samples,
        max_minutes=max_minutes,
        progress=progress,
        lazy=lazy,
    )


def _place(checkpoint: str | Path | Checkpoints | None) -> Checkpoints | None:
    if checkpoint is None or isinstance(checkpoint, Checkpoints):
        return checkpoint
    return Checkpoints(checkpoint)


def _check_kept(settings: RunSettings, on_disk: bool, lazy: bool) -> None:
    """What stays on disk needs a place there."""
    for name, given in (("keep", settings.keep), ("lazy", lazy)):
        if given and not on_disk:
            raise InputError(f"{name}: expected checkpoint=FOLDER with it, found none; give one")


def fit_prepared(
    dataset: Dataset,
    network: Network,
    settings: RunSettings,
    activation: Activation | None = None,
    *,
    plan_first: bool = True,
    place: Checkpoints | None = None,
    on_disk: OnDisk = begin,
    lazy: bool = False,
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
    place, on_disk, lazy
        Where the run is on disk, how it is begun or found there, and whether draws stay there.

    Raises
    ------
    InputError
        As :func:`fit`.
    """
    began = time.perf_counter()
    deadline = None
    if settings.max_minutes is not None:
        deadline = time.monotonic() + 60.0 * settings.max_minutes
    exact = settings.method == "mcmc"
    if plan_first and jax.default_backend() == "cpu" and settings.devices == 1 and exact:
        # Elsewhere arrays are not in the machine's memory, or not all of them.
        planned = prepare(dataset, network, build=ShapeBuilder, activation=activation)
        activation = planned.activation
        plan = plan_memory(dataset, planned, settings, on_disk=place is not None, lazy=lazy)
        plan.check()
        if settings.progress:
            print("\n".join(f"nnmm: {line}" for line in plan.lines()), file=sys.stderr)
    compiled = time.perf_counter()
    prepared = prepare(dataset, network, activation=activation)
    seconds = {"setup": time.perf_counter() - compiled}
    described = _describe(network)
    recorded = None
    if place is not None:
        recorded = on_disk(place, dataset, prepared, settings, described)
        for note in recorded.notes:
            print(f"nnmm: {note}", file=sys.stderr)
    target = settings.until_ess
    enough = None if target is None else _stopping_rule(dataset, prepared, target, recorded)
    variational: dict[str, Any] = {}
    if settings.method == "svi":
        output, variational = run_variational(prepared.data, prepared.activation, settings)
    else:
        output = run_chains(
            prepared.data,
            prepared.activation,
            settings,
            change_start=variational_start(prepared.data, prepared.activation, settings, seconds),
            enough=enough,
            recording=None if recorded is None else recorded.recording,
            size=None if recorded is None else recorded.size,
            deadline=deadline,
        )
    seconds |= output.seconds
    seconds["compilation"] += compiled - began
    if recorded is None:
        groups = assemble(dataset, prepared, output, seed=settings.seed)
    else:
        groups = recorded.groups(lazy=lazy) | assemble_rest(dataset, prepared, output)
    run = {
        "settings": {**described, **asdict(settings)},
        "priors": _resolved_priors(prepared),
        "versions": versions(),
        "machine": machine(),
        "seed": int(settings.seed),
        "data": dataset.report.to_dict(),
        "seconds": {name: round(value, 3) for name, value in seconds.items()},
        "peak_memory_mb": round(peak_memory_mb()),
    }
    if variational:
        k = pareto_k(output.stats["log_ratio"])
        run[VARIATIONAL] = variational | {"pareto_k": round(k, 3)}
    if target is not None:
        run["until_ess"] = _how_far(groups["posterior"], prepared, target).to_dict()
    if output.out_of_time and (short := _lacks(output, settings, run)):
        run["stopped"] = short
    if recorded is not None:
        run["resumed"] = recorded.resumed
    if recorded is not None and lazy:
        run[DRAWS_AT] = str(recorded.recording.folder.stream.resolve())
    return FitResult(**groups, run=run)


def _lacks(
    output: RunOutput, settings: RunSettings, run: Mapping[str, Any]
) -> dict[str, object] | None:
    """What a limit of time has left undone, ``None`` for nothing."""
    wanted = settings.samples
    if settings.until_ess is not None and not run["until_ess"]["enough"]:
        wanted = settings.limit
    if output.sweeps >= wanted:
        return None
    return {
        "reason": "max_minutes",
        "minutes": settings.max_minutes,
        "samples": output.sweeps,
        "wanted": wanted,
    }


def _stopping_rule(
    dataset: Dataset, prepared: Prepared, target: float, recorded: Recorded | None
) -> Callable[[RunOutput], bool]:
    """Whether what is kept of a run is enough; only what is judged is put into units."""

    def enough(output: RunOutput) -> bool:
        if recorded is None:
            posterior, non_finite = judged(dataset, prepared, output), output.stats["non_finite"]
        else:
            found = recorded.groups(lazy=True)
            posterior = found["posterior"]
            non_finite = found["sample_stats"]["non_finite"].values
        if non_finite.any():  # they stay: nothing is to be waited for
            return True
        return _how_far(posterior, prepared, target).enough

    return enough


def _how_far(posterior: xr.Dataset, prepared: Prepared, target: float) -> Reached:
    names = np.asarray(prepared.node_names, dtype=str)
    latent = xr.DataArray(np.asarray(prepared.data.latent), {"node": names}, ("node",))
    return reached(diagnostics(posterior, latent), target, posterior.sizes["draw"])


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
