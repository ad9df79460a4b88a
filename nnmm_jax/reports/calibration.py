"""Simulation-based calibration: whether posterior intervals are as wide as they say.

Parameters are drawn from the prior, data from the parameters, and the sampler is run on the data:
the rank of every true value among the draws is then uniform (Talts et al. 2018, arXiv:1804.06788),
also of functions of parameters and data (Modrak et al. 2023, Bayesian Analysis,
10.1214/23-BA1404). All simulations run side by side, as chains do, which packages that fit one
data set after the other cannot.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
from jax import Array, lax, random
from scipy import stats

from nnmm_jax.errors import InputError
from nnmm_jax.inference import noise
from nnmm_jax.inference.arrays import ModelData
from nnmm_jax.inference.blocks.missing_linear import node_layer
from nnmm_jax.inference.prepare import Prepared
from nnmm_jax.inference.prior_draw import PriorDraw, check_proper, draw_prior
from nnmm_jax.inference.quantities import draw_quantities
from nnmm_jax.inference.start import start_state
from nnmm_jax.inference.state import State
from nnmm_jax.inference.sweep import SweepSettings, refreshed, sweep
from nnmm_jax.network.activations import Activation

INDIVIDUALS = 3  # whose EBV is judged, from the first to the last
CELLS = 3  # missing omics, likewise
BINS = 20
TAIL = 0.05  # on each side of an interval
PARTS = ("ebv", "missing", "phenotype")  # of which coverage is counted, in all individuals


@dataclass(frozen=True)
class CalibrationSettings:
    """How much is simulated.

    Attributes
    ----------
    simulations : int
        Data sets.
    warmup : int
        Sweeps before the first draw.
    draws, thin : int
        Draws that ranks are taken among, and sweeps from one to the next.
    seed : int

    Raises
    ------
    InputError
        If a number is below 1, or the ranks cannot be divided evenly into bins.

    Examples
    --------
    >>> CalibrationSettings(simulations=64).draws
    99
    """

    simulations: int = 256
    warmup: int = 300
    draws: int = 99
    thin: int = 20
    seed: int = 1

    def __post_init__(self) -> None:
        """Check the numbers."""
        for name in ("simulations", "warmup", "draws", "thin"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} must be at least 1, got {getattr(self, name)}")
        if (self.draws + 1) % BINS:
            raise InputError(f"draws must be a multiple of {BINS} less 1, got {self.draws}")


class Values(NamedTuple):
    """What is ranked of one state.

    Attributes
    ----------
    scalars : dict of str to (number,)
        Quantities of which each is judged.
    parts : dict of str to (value,)
        Values of :data:`PARTS`, of which coverage is counted.
    """

    scalars: dict[str, Array]
    parts: dict[str, Array]


class Counts(NamedTuple):
    """Numbers of draws below and at the true values."""

    below: Values
    equal: Values


@dataclass(frozen=True)
class Calibration:
    """Ranks of true values among draws.

    Attributes
    ----------
    ranks : pandas.DataFrame
        A column for each quantity, a row for each simulation: 0 to ``draws``, ties broken at
        random.
    draws : int
    autocorrelation : pandas.Series
        By quantity, from one kept draw to the next; ranks are uniform only where it is small.
    coverage : mapping of str to (simulation,)
        Share of values inside their 90% intervals, of each of :data:`PARTS` that there is.
    non_finite : int
        Simulations that ended in a state that is not finite.
    """

    ranks: pd.DataFrame
    draws: int
    autocorrelation: pd.Series
    coverage: Mapping[str, np.ndarray]
    non_finite: int


# Reported quantities that are numbers of the model, not of individuals.
_SCALARS = ("node_effect", "fixed_", "var_", "h2_", "pi_", "weights_", "scale_", "lambda2_")


def _some(values: Array, wanted: int) -> Array:
    """A few of many values, from the first to the last."""
    count = values.shape[0]
    return values[np.unique(np.linspace(0, count - 1, min(wanted, count)).round().astype(int))]


def _values(
    key: Array, state: State, data: ModelData, prepared: Prepared, settings: SweepSettings
) -> Values:
    """Everything that is ranked, of one state."""
    key_draw, key_y = random.split(key)
    draw, nodes = draw_quantities(key_draw, state, data, settings)
    wanted = (*_SCALARS, "theta_")
    scalars = {name: jnp.ravel(v) for name, v in draw.items() if name.startswith(wanted)}
    parts = {"ebv": draw["ebv_mediated"] + draw.get("ebv_direct", 0) + draw.get("ebv_polygenic", 0)}
    observed = np.asarray(prepared.data.observed)
    if nodes is not None and not observed.all():
        parts["missing"] = nodes.z[np.nonzero(~observed)]
        scalars["missing"] = _some(parts["missing"], CELLS)
    scalars["ebv"] = _some(parts["ebv"], INDIVIDUALS)
    unseen = np.asarray(prepared.data.y_precision) == 0
    if unseen.any() and "group_value" not in draw:
        rows = jnp.asarray(prepared.trait_rows, data.y.dtype)
        mean = draw["epv"] + draw["epv_mean"] + draw["fixed_trait"] @ rows
        sd = jnp.sqrt(draw["var_residual_trait"])
        new = mean + sd * random.normal(key_y, mean.shape, mean.dtype)
        parts["phenotype"] = new[unseen]
    # A function of parameters and data sees what no parameter alone does.
    variance, squares = state.trait.variance[0], jnp.sum(state.trait.residual**2)
    size = data.y.shape[0]
    scalars["log_likelihood"] = -0.5 * (squares / variance + size * jnp.log(variance))[None]
    return Values(scalars, parts)


def _counted(counts: Counts, values: Values, truth: Values) -> Counts:
    return Counts(
        jax.tree.map(lambda c, v, t: c + (v < t), counts.below, values, truth),
        jax.tree.map(lambda c, v, t: c + (v == t), counts.equal, values, truth),
    )


class Runner(NamedTuple):
    """One simulation after its data were drawn; all simulations at once by ``jax.vmap``."""

    prepared: Prepared
    static: SweepSettings

    def values(self, key: Array, state: State, drawn: PriorDraw) -> Values:
        """What is ranked."""
        return _values(key, state, drawn.data(self.prepared.data), self.prepared, self.static)

    def begin(self, key: Array, drawn: PriorDraw) -> State:
        """Where the chain starts, which knows nothing of the truth."""
        return start_state(key, drawn.data(self.prepared.data), self.prepared.activation)

    def sweeps(
        self, key: Array, state: State, drawn: PriorDraw, span: tuple[Array, int], *, warm: bool
    ) -> State:
        """Sweeps from the first of ``span``, as many as its second says."""
        data = drawn.data(self.prepared.data)

        def one(step: Array, state: State) -> State:
            number = span[0] + step
            warmup = number + 1 if warm else jnp.zeros_like(number)
            return sweep(random.fold_in(key, number), state, data, warmup, self.static)[0]

        state = lax.fori_loop(0, span[1], one, state)
        return refreshed(state, data, self.prepared.activation)


def calibrate(
    prepared: Prepared, settings: CalibrationSettings, *, nuts: bool = False
) -> Calibration:
    """Simulate data sets from the prior, sample all their posteriors, rank the truths.

    Parameters
    ----------
    prepared : Prepared
        A model with proper priors. Of its data only genotypes, covariates and what is missing
        count.
    settings : CalibrationSettings
    nuts : bool
        Sampler of missing omics of a nonlinear network.

    Raises
    ------
    InputError
        If fixed effects are flat.
    """
    template, activation = prepared.data, prepared.activation
    check_proper(template)
    runner = Runner(prepared, SweepSettings(activation, nuts, settings.warmup))
    numbers = range(5)
    keys = [
        random.split(random.key(settings.seed + k * 2**20), settings.simulations) for k in numbers
    ]

    @jax.jit
    def run() -> tuple[Counts, dict[str, Array], State]:
        drawn = jax.vmap(lambda key: draw_prior(key, template, activation))(keys[0])
        truth = jax.vmap(runner.values)(keys[1], drawn.state, drawn)
        state = jax.vmap(runner.begin)(keys[2], drawn)
        zero = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, jnp.int32), truth)

        def sweeps(state: State, first: Array, count: int, *, warm: bool) -> State:
            one = partial(runner.sweeps, span=(first, count), warm=warm)
            return jax.vmap(one)(keys[3], state, drawn)

        def draw(
            carry: tuple[State, Counts], number: Array
        ) -> tuple[tuple[State, Counts], dict[str, Array]]:
            state = sweeps(
                carry[0], settings.warmup + number * settings.thin, settings.thin, warm=False
            )
            own = jax.vmap(random.fold_in, (0, None))(keys[4], number)
            now = jax.vmap(runner.values)(own, state, drawn)
            return (state, _counted(carry[1], now, truth)), now.scalars

        state = sweeps(state, jnp.zeros((), jnp.int32), settings.warmup, warm=True)
        begin = (state, Counts(zero, zero))
        (state, counts), trace = lax.scan(draw, begin, jnp.arange(settings.draws))
        return counts, trace, state

    counts, trace, state = run()
    # Nothing can be learnt from what is known, such as a fixed residual variance.
    known = {
        name: np.all(np.asarray(n) == settings.draws, axis=0)
        for name, n in counts.equal.scalars.items()
    }
    rng = np.random.default_rng(settings.seed)
    ranks = jax.tree.map(partial(_rank, rng), counts.below, counts.equal)
    found = {
        label: (ranks.scalars[name][:, k], _autocorrelation(np.asarray(trace[name][..., k])))
        for name in ranks.scalars
        for k, label in enumerate(_labels(name, ranks.scalars[name].shape[1]))
        if not known[name][k]
    }
    return Calibration(
        pd.DataFrame({label: rank for label, (rank, _) in found.items()}),
        settings.draws,
        pd.Series({label: one for label, (_, one) in found.items()}),
        {name: _covered(rank, settings.draws) for name, rank in ranks.parts.items()},
        _not_finite(state, settings.simulations),
    )


class Geweke(NamedTuple):
    """Where chains are that draw parameters and data in turn, against the prior.

    Attributes
    ----------
    prior, joint : pandas.DataFrame
        A column for each quantity, a row for each simulation.
    """

    prior: pd.DataFrame
    joint: pd.DataFrame


def renewed(key: Array, state: State, template: ModelData, activation: Activation) -> PriorDraw:
    """Draw observed omics and phenotypes anew given all parameters and missing omics."""
    key_z, key_y = random.split(key)
    z = state.z
    if template.omics:
        layer = node_layer(state, template, jnp.arange(z.shape[1]))
        luck = noise.normal(key_z, z.shape, z.dtype)
        z = jnp.where(template.observed, layer.mean + jnp.sqrt(layer.variance) * luck, z)
    state = refreshed(state._replace(z=z), template, activation)
    sd = jnp.sqrt(state.trait.variance[0])
    luck = noise.normal(key_y, template.y.shape, template.y.dtype)
    y = template.y - state.trait.residual[0] + sd * luck
    drawn = PriorDraw(state, jnp.where(template.observed, z, 0.0), y)
    return drawn._replace(state=refreshed(state, drawn.data(template), activation))


def geweke(
    prepared: Prepared, settings: CalibrationSettings, *, rounds: int = 20, nuts: bool = False
) -> Geweke:
    """Draw parameters given data and data given parameters in turn, from the prior on.

    The parameters must then be the prior's for ever, however few sweeps there are and however
    slowly they mix: Geweke (2004), Journal of the American Statistical Association 99:799, with
    many short chains in the place of a long one. Step sizes do not adapt.

    Parameters
    ----------
    prepared : Prepared
        As for :func:`calibrate`.
    settings : CalibrationSettings
        Of which simulations and seed count.
    rounds : int
        Sweeps, each followed by new data.
    nuts : bool
        As for :func:`calibrate`.

    Raises
    ------
    InputError
        If fixed effects are flat.
    """
    template, activation = prepared.data, prepared.activation
    check_proper(template)
    runner = Runner(prepared, SweepSettings(activation, nuts, 1))
    seeds = [random.key(settings.seed + k * 2**20) for k in range(7, 12)]
    keys = [random.split(seed, settings.simulations) for seed in seeds]

    def one(key: Array, drawn: PriorDraw) -> PriorDraw:
        def advance(step: Array, drawn: PriorDraw) -> PriorDraw:
            first, second = random.split(random.fold_in(key, step))
            state = runner.sweeps(first, drawn.state, drawn, (step, 1), warm=False)
            return renewed(second, state, drawn.data(template), activation)

        return lax.fori_loop(0, rounds, advance, drawn)

    @jax.jit
    def run() -> tuple[Values, Values]:
        every = jax.vmap(lambda key: draw_prior(key, template, activation))
        prior, begun = every(keys[0]), every(keys[1])
        ended = jax.vmap(one)(keys[2], begun)
        values = jax.vmap(runner.values)
        return values(keys[3], prior.state, prior), values(keys[4], ended.state, ended)

    def table(values: Values) -> pd.DataFrame:
        return pd.DataFrame(
            {
                label: np.asarray(value[:, k])
                for name, value in values.scalars.items()
                for k, label in enumerate(_labels(name, value.shape[1]))
            }
        )

    prior, joint = map(table, run())
    moving = [name for name in prior if prior[name].nunique() > 1]
    return Geweke(prior[moving], joint[moving])


def _labels(name: str, count: int) -> list[str]:
    return [name] if count == 1 else [f"{name}[{k}]" for k in range(count)]


def _rank(rng: np.random.Generator, below: Array, equal: Array) -> np.ndarray:
    """Ranks, with the truth anywhere among draws that equal it."""
    return np.asarray(below) + rng.integers(0, np.asarray(equal) + 1)


def _autocorrelation(trace: np.ndarray) -> float:
    """Correlation (draw, simulation) of one draw with the next, over all simulations."""
    left = trace.astype(np.float64) - trace.mean(axis=0, dtype=np.float64)
    total = np.sum(left**2, axis=0)
    good = total > 0
    if not good.any():
        return 0.0
    return float(np.mean(np.sum(left[1:] * left[:-1], axis=0)[good] / total[good]))


def _covered(ranks: np.ndarray, draws: int) -> np.ndarray:
    """Share (simulation,) of true values inside the interval from 5% to 95%."""
    tail = round((draws + 1) * TAIL)
    return np.mean((ranks >= tail) & (ranks <= draws - tail), axis=1)


def _not_finite(state: State, simulations: int) -> int:
    bad = np.zeros(simulations, dtype=bool)
    for leaf in jax.tree.leaves((state.z, state.trait, state.omics, state.nodes)):
        bad |= ~np.isfinite(np.asarray(leaf)).reshape(simulations, -1).all(axis=1)
    return int(np.count_nonzero(bad))


def p_values(ranks: np.ndarray, draws: int, seed: int = 0) -> tuple[float, float]:
    """Probabilities of ranks as far from uniform: chi-square over bins, and the ECDF.

    Parameters
    ----------
    ranks : (simulation,) int
        0 to ``draws``.
    draws : int
        Plus 1 a multiple of :data:`BINS`.
    seed : int
        Of the jitter within a rank, which makes ranks continuous for the test of the ECDF
        (Kolmogorov-Smirnov).

    Examples
    --------
    >>> import numpy as np
    >>> chi_square, ecdf = p_values(np.repeat(np.arange(100), 4), 99)
    >>> chi_square > 0.9 and ecdf > 0.9
    True
    """
    count = np.bincount(ranks * BINS // (draws + 1), minlength=BINS)
    jittered = (ranks + np.random.default_rng(seed).random(len(ranks))) / (draws + 1)
    return float(stats.chisquare(count).pvalue), float(stats.kstest(jittered, "uniform").pvalue)
