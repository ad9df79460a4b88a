"""Fit the models of BGLR's stored posteriors with the same priors, and compare.

Called by scripts/parity_bglr, which installs the package first. The trait is fitted directly on
the markers, and again through one latent linear node for the models of ``--latent``.
"""

import argparse
import dataclasses
import math
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from nnmm_jax.cli import Parser, run_command
from nnmm_jax.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

    from nnmm_jax import Dataset, FitResult, Network
    from nnmm_jax.network.priors import Prior, Residual
    from nnmm_jax.reports.latent_equality import DirectPriors

SHARED = Path(__file__).parents[2] / "shared"
# Sweeps kept of each chain, unless said otherwise: by how slowly the hyperparameters mix.
SAMPLES = {
    "BRR": 10_000,
    "GBLUP": 10_000,
    "BayesA": 20_000,
    "BayesB": 60_000,
    "BayesC": 60_000,
    "BL": 30_000,
}
LATENT = ("BayesC", "GBLUP")
LATENT_SAMPLES = 20_000
SAMPLES_A_FIT = 5000  # longer runs are several fits: all draws of a fit are in memory
Z_LIMIT = 4.0
LINES_Z_LIMIT = 4.5  # the largest of 599
LINES_CORRELATION = 0.9999
LINES_SLOPE = 0.005
MARKERS_CORRELATION = 0.99
LOW_ESS = 100.0
TRAIT = "yield_env1"

# Quantity of BGLR -> variable of ours, and what makes ours BGLR's.
HYPERPARAMETERS: Mapping[str, tuple[str, Callable[[np.ndarray, float], np.ndarray]]] = {
    "varE": ("var_residual_trait", lambda draws, df: draws),
    "mu": ("fixed_trait", lambda draws, df: draws),
    "varB": ("var_skip_effect", lambda draws, df: draws),
    "varU": ("var_skip_effect", lambda draws, df: draws),
    "scale": ("scale_skip_effect", lambda draws, df: df * draws),
    "probIn": ("pi_skip", lambda draws, df: 1.0 - draws),
    "lambda": ("lambda2_skip_effect", lambda draws, df: np.sqrt(draws)),
}


def build_parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="scripts/parity_bglr",
        description="Fit the models of BGLR's stored posteriors with the same priors and compare: "
        f"hyperparameters (limit: |z| {Z_LIMIT:g}), fitted values of the lines (correlation "
        f"{LINES_CORRELATION:g}, slope 1 ± {LINES_SLOPE:g}) and marker effects (correlation "
        f"{MARKERS_CORRELATION:g}). Exits 1 if a limit is missed.",
        allow_abbrev=False,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    for name, folder, what in (
        ("data", SHARED / "data" / "wheat_cimmyt599", "genotypes.parquet and phenotypes.csv"),
        ("reference", SHARED / "reference" / "bglr_wheat", "BGLR's posteriors"),
    ):
        parser.add_argument(
            f"--{name}", type=Path, default=folder, metavar="FOLDER", help=f"with {what}"
        )
    parser.add_argument("--models", default=",".join(SAMPLES), metavar="NAMES", help="to compare")
    parser.add_argument(
        "--latent",
        default=",".join(LATENT),
        metavar="NAMES",
        help="those of the models to fit through a latent linear node too; or none",
    )
    parser.add_counts(
        (
            ("warmup", 1000, "sweeps discarded of every chain"),
            ("chains", 4, "chains, run together"),
            ("seed", 1, "of all random numbers"),
        )
    )
    parser.add_argument(
        "--samples",
        type=int,
        default=argparse.SUPPRESS,
        metavar="N",
        help="sweeps kept of every chain (default: 10000 to 60000, by the model)",
    )
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    options = build_parser().parse_args(arguments, argparse.Namespace(samples=None))
    missed: list[str] = []
    code = run_command("parity_bglr", lambda options: missed.extend(run(options)), options)
    for miss in missed:
        print(f"parity_bglr: missed: {miss}", file=sys.stderr)
    return code or int(bool(missed))


def run(options: argparse.Namespace) -> list[str]:
    """Fit, print the tables, and return what misses its limit."""
    models = chosen(options.models, SAMPLES, "--models")
    latent = [] if options.latent == "none" else chosen(options.latent, models, "--latent", LATENT)
    from nnmm_jax.inference.run import RunSettings

    # Wrong settings are found here, before data are read.
    samples = 1 if options.samples is None else options.samples
    RunSettings(options.warmup, samples, options.chains, options.seed)
    references = {model: read_reference(options.reference, model) for model in models}
    wheat = Wheat.read(options.data)
    began = time.perf_counter()
    found: list[Check] = []
    for model, reference in references.items():
        direct = sample(reference, wheat, options, model)
        found += compare(reference, direct)
        if model in latent:
            through = sample(reference, wheat, options, f"{model}, latent")
            found += compare_latent(reference, direct, through)
    print_tables(found)
    if latent:
        print(LATENT_NOTE)
    print(f"{time.perf_counter() - began:.0f} s in all")
    return [check.miss for check in found if check.missed]


def chosen(
    words: str, choices: Iterable[str], flag: str, default: tuple[str, ...] | None = None
) -> list[str]:
    names = [word.strip() for word in words.split(",")]
    if default is not None and names == list(default):
        return [name for name in names if name in choices]
    for name in names:
        if name not in choices:
            raise InputError(f"{flag}: expected some of {', '.join(choices)}, found {name!r}")
    return list(dict.fromkeys(names))


@dataclass(frozen=True, eq=False)
class Reference:
    """BGLR's posterior of a model: hyperparameters by name, lines and markers in their order."""

    model: str
    settings: dict[str, float]
    hyper: "pd.DataFrame"
    lines: "pd.DataFrame"
    markers: "pd.DataFrame | None"

    @property
    def draws(self) -> float:
        """Number of draws kept: no effective sample size exceeds it."""
        return float(self.hyper["draws"].max())


def read_reference(folder: Path, model: str) -> Reference:
    import pandas as pd

    def table(what: str) -> "pd.DataFrame":
        path = folder / f"{model}_{what}.csv"
        if not path.is_file():
            raise InputError(f"expected BGLR's posterior in {path}, found no such file")
        return pd.read_csv(path)

    settings = table("prior").set_index("setting")["value"].drop("model").astype(float)
    return Reference(
        model,
        settings.to_dict(),
        table("hyper").set_index("parameter"),
        table("fit"),
        None if model == "GBLUP" else table("markers"),
    )


@dataclass(frozen=True, eq=False)
class Wheat:
    """Lines and markers coded 0/1 as in BGLR, where the data set has 0/2."""

    genotypes: "pd.DataFrame"
    phenotypes: "pd.DataFrame"

    @classmethod
    def read(cls, folder: Path) -> "Wheat":
        """Read the folder; the trait gets mean 0 and sd 1."""
        from nnmm_jax.data.tables import read_table

        genotypes = read_table(folder / "genotypes.parquet", what="genotypes") / 2
        phenotypes = read_table(folder / "phenotypes.csv", what="phenotypes")
        if TRAIT not in phenotypes or not genotypes.index.equals(phenotypes.index):
            raise InputError(f"{folder}: expected {TRAIT} of the genotyped lines, in their order")
        trait = phenotypes[[TRAIT]]
        return cls(genotypes, (trait - trait.mean()) / trait.std())

    def dataset(self, reference: Reference) -> "Dataset":
        """The data set of a model; the reference must be of the same lines and markers."""
        import pandas as pd

        from nnmm_jax import read_dataset

        trait = self.phenotypes[TRAIT].to_numpy()
        theirs = reference.lines["y"].to_numpy()
        if len(trait) != len(theirs) or not np.allclose(trait, theirs, atol=1e-6):
            raise InputError(f"{reference.model}: the reference is not of {TRAIT} of these lines")
        centred = (self.genotypes - self.genotypes.mean()).to_numpy()
        relationships = None
        if reference.markers is None:
            matrix = centred @ centred.T / (centred**2).sum(axis=1).mean()
            ids = self.genotypes.index
            relationships = {"G": pd.DataFrame(matrix, ids, ids)}
        elif not np.isclose((centred**2).mean(axis=0).sum(), reference.settings["MSx"]):
            raise InputError(f"{reference.model}: the reference is not of these markers")
        return read_dataset(
            self.genotypes, None, self.phenotypes, TRAIT, relationships=relationships
        )


def direct_network(reference: Reference) -> "Network":
    """BGLR's model with BGLR's priors: our S is its S0 / df, our rate its rate times df."""
    from nnmm_jax import Network

    return Network(skip_prior=prior_of(reference), residual_trait=residual_of(reference, 1.0))


def prior_of(reference: Reference) -> "Prior":
    import nnmm_jax as nm

    settings = reference.settings
    df = settings.get("df0", math.nan)
    if reference.model == "BL":
        return nm.BayesL(shape=settings["lambda_shape"], rate=settings["lambda_rate"])
    counts = counts_of(settings)
    if reference.model in ("BayesA", "BayesB"):
        shape, rate = settings["shape0"], settings["rate0"] * df
        if reference.model == "BayesA":
            return nm.BayesA(df=df, shape=shape, rate=rate)
        return nm.BayesB(df=df, shape=shape, rate=rate, pi_counts=counts)
    scale = settings["S0"] / df
    if reference.model == "BayesC":
        return nm.BayesC(df=df, scale=scale, pi_counts=counts)
    if reference.model == "GBLUP":
        return nm.GBLUP(relationship="G", df=df, scale=scale)
    return nm.RRBLUP(df=df, scale=scale)


def residual_of(reference: Reference, share: float) -> "Residual":
    from nnmm_jax import Residual

    df = reference.settings["varE_df0"]
    return Residual(df=df, scale=share * reference.settings["varE_S0"] / df)


def direct_priors(settings: Mapping[str, float]) -> "DirectPriors":
    """Priors of the variances for BGLR's settings of BayesC or GBLUP."""
    from nnmm_jax.reports.latent_equality import DirectPriors

    unit = 1.0
    if "MSx" in settings:
        zero, nonzero = counts_of(settings)
        unit = (zero + nonzero) / (settings["MSx"] * nonzero)
    return DirectPriors(
        settings["df0"], settings["S0"], settings["varE_df0"], settings["varE_S0"], unit
    )


def counts_of(settings: Mapping[str, float]) -> tuple[float, float]:
    """Beta prior counts of zero and non-zero effects."""
    return settings.get("countsOut", 0.0) + 1.0, settings.get("countsIn", 0.0) + 1.0


def latent_network(reference: Reference) -> "Network":
    """The same model through one latent linear node, with ``LatentPriors``."""
    import nnmm_jax as nm
    from nnmm_jax.reports.latent_equality import LATENT_RESIDUAL, LatentPriors

    settings = reference.settings
    priors, df = LatentPriors.of(direct_priors(settings)), settings["varE_df0"]
    marker_prior: Prior = nm.GBLUP(relationship="G", variance=priors.effects)
    if reference.model == "BayesC":
        marker_prior = nm.BayesC(variance=priors.effects, pi_counts=counts_of(settings))
    return nm.Network(
        latent=1,
        marker_prior=marker_prior,
        node_prior=nm.RRBLUP(variance=priors.node),
        residual_omics=nm.Residual(variance=LATENT_RESIDUAL),
        residual_trait=nm.Residual(df=df, scale=priors.scale / df),
    )


LATENT_NOTE = (
    "latent: through one latent linear node z, whose residual variance is fixed. Variances there "
    "are w squared times a known one (effects) and the trait's own plus w squared times the node's "
    "(residual), so they cannot have BGLR's priors, only their means; the draws are weighted by "
    "the ratio of the priors instead. The intercept is not compared: z has one of its own."
)


@dataclass(frozen=True, eq=False)
class Estimate:
    """Posterior means of many quantities, and the mean of their squared Monte Carlo errors.

    Errors that all share, a shift or a scale, need not count: no correlation suffers from them.
    """

    mean: np.ndarray
    noise: float

    @property
    def reliability(self) -> float:
        """Share of the means' variance that is not Monte Carlo error."""
        return max(0.0, 1.0 - self.noise / float(np.var(self.mean)))


@dataclass(eq=False)
class Sampled:
    """What is kept of the fits of one network.

    ``draws`` are hyperparameters (chain, draw), chains of all fits together; ``of_fit`` posterior
    means (fit, line or marker): ``lines`` (genetic values about their mean), ``mean`` and ``pip``
    of markers; ``lines_mcse`` Monte Carlo errors of the lines, ``sd`` the markers' posterior sd.
    """

    draws: dict[str, np.ndarray] = field(default_factory=dict)
    lines_mcse: np.ndarray = field(default_factory=lambda: np.empty(0))
    of_fit: dict[str, np.ndarray] = field(default_factory=dict)
    sd: np.ndarray = field(default_factory=lambda: np.empty(0))
    effective: float = 1.0  # share of the draws that weighting them leaves
    sweeps: str = ""
    seconds: float = 0.0

    def estimate(self, what: str) -> Estimate:
        """``lines``, ``mean`` or ``pip``; how the fits differ tells the Monte Carlo error."""
        values = self.of_fit[what]
        mean = values.mean(axis=0)
        shape = mean - mean.mean()
        errors = values - values.mean(axis=1, keepdims=True)
        errors = errors - np.outer(errors @ shape / (shape @ shape), shape)
        n_fits, size = values.shape
        return Estimate(mean, float((errors**2).sum()) / (size * n_fits * (n_fits - 1)))


def sample(reference: Reference, wheat: Wheat, options: argparse.Namespace, label: str) -> Sampled:
    """Fit as often as the length asks for, at least twice, each fit with its own seed."""
    from nnmm_jax import fit

    began = time.perf_counter()
    dataset = wheat.dataset(reference)
    network = (direct_network if label == reference.model else latent_network)(reference)
    usual = LATENT_SAMPLES if network.latent else SAMPLES[reference.model]
    samples = options.samples or usual
    n_fits = max(2, math.ceil(samples / SAMPLES_A_FIT))
    length = math.ceil(samples / n_fits)
    seeds = np.random.SeedSequence(options.seed).generate_state(n_fits)
    parts = []
    for number, seed in enumerate(seeds, start=1):
        result = fit(
            dataset,
            network,
            warmup=options.warmup,
            samples=length,
            chains=options.chains,
            seed=int(seed),
            progress=False,
        )
        parts.append(summary_of(result, reference, network.latent > 0))
        spent = time.perf_counter() - began
        print(f"{label}: fit {number} of {n_fits}, {spent:.0f} s", file=sys.stderr)
    pooled = {name: np.concatenate([part.draws[name] for part in parts]) for name in parts[0].draws}
    return Sampled(
        draws=pooled,
        lines_mcse=np.sqrt(np.mean([part.lines_mcse**2 for part in parts], axis=0) / n_fits),
        of_fit={
            name: np.concatenate([part.of_fit[name] for part in parts]) for name in parts[0].of_fit
        },
        sd=np.mean([part.sd for part in parts], axis=0),
        effective=float(np.mean([part.effective for part in parts])),
        sweeps=f"{n_fits} x {options.chains} x ({options.warmup} + {length})",
        seconds=time.perf_counter() - began,
    )


def summary_of(result: "FitResult", reference: Reference, latent: bool) -> Sampled:
    """What is kept of one fit."""
    from nnmm_jax.reports.latent_equality import prior_ratio, weighted_mean

    posterior = result.posterior.squeeze("trait").transpose("chain", "draw", ...)
    lines = posterior["ebv_mediated"] + posterior.get("ebv_direct", 0.0)
    weights = np.ones(lines.shape[:2])
    if latent:
        w = posterior["node_effect"].squeeze("node").to_numpy().astype(float)
        var_y = posterior["var_residual_trait"].to_numpy().astype(float)
        weights = prior_ratio(direct_priors(reference.settings), w, var_y)
    means, errors = weighted_mean(lines, weights)
    found = Sampled(
        draws={
            name: np.asarray(posterior[name].values, dtype=float).reshape(lines.shape[:2])
            for name in {variable for variable, _ in HYPERPARAMETERS.values()}
            if name in posterior
        },
        of_fit={"lines": means[None]},
        lines_mcse=errors,
        effective=1.0 / float(np.mean(weights**2)),
    )
    if "skip_mean" in result.moments:
        for name in ("mean", "pip"):
            found.of_fit[name] = result.moments[f"skip_{name}"].to_numpy().T
        found.sd = result.moments["skip_sd"].to_numpy()[:, 0]
    return found


@dataclass(frozen=True)
class Check:
    """One row: its cells, and whether it misses its limit."""

    model: str
    quantity: str
    cells: tuple[str, ...]
    missed: bool
    remark: str = ""

    @property
    def is_scalar(self) -> bool:
        """Whether the row is of the table of hyperparameters."""
        return len(self.cells) == len(SCALAR_COLUMNS)

    @property
    def miss(self) -> str:
        """What is wrong, in one line."""
        columns = SCALAR_COLUMNS if self.is_scalar else VECTOR_COLUMNS
        pairs = zip(columns, self.cells, strict=True)
        cells = ", ".join(f"{name} {cell}" for name, cell in pairs if cell != "-")
        return f"{self.model}, {self.quantity}: {cells}"


SCALAR_COLUMNS = ("ours", "sd", "MCSE", "ESS", "BGLR", "sd of BGLR", "MCSE of BGLR", "z")
VECTOR_COLUMNS = ("correlation", "at most", "slope", "largest |z|")


def compare_scalar(model: str, quantity: str, draws: np.ndarray, theirs: "pd.Series") -> Check:
    """Compare the posterior mean of draws (chain, draw) with BGLR's mean and mcse."""
    import xarray as xr

    from nnmm_jax.reports.latent_equality import mcse

    error, ess = mcse(xr.DataArray(draws, dims=("chain", "draw")))
    z = (draws.mean() - theirs["mean"]) / math.hypot(float(error), theirs["mcse"])
    missed = not abs(z) <= Z_LIMIT
    remark = "" if ess >= LOW_ESS else f"ESS below {LOW_ESS:g}: says little"
    numbers = (draws.mean(), draws.std(), error)
    return Check(
        model,
        quantity,
        (
            *(f"{number:.4g}" for number in numbers),
            f"{ess:.0f}",
            *(f"{theirs[name]:.4g}" for name in ("mean", "sd", "mcse")),
            f"{z:.2f}",
        ),
        missed,
        remark,
    )


def compare_vectors(
    model: str,
    quantity: str,
    ours: Estimate,
    theirs: Estimate,
    least: float | None,
    slope_limit: float | None = None,
    z: np.ndarray | None = None,
    z_limit: float | None = None,
) -> Check:
    """Correlation and slope (ours on theirs), and the z of every entry where it is known.

    No correlation is expected above what the Monte Carlo errors of both allow.
    """
    correlation = float(np.corrcoef(ours.mean, theirs.mean)[0, 1])
    slope = correlation * float(np.std(ours.mean) / np.std(theirs.mean))
    at_most = math.sqrt(ours.reliability * theirs.reliability)
    too_low = least is not None and not correlation >= least
    largest = None if z is None else float(np.abs(z).max())
    missed = (
        too_low
        or (slope_limit is not None and not abs(slope - 1.0) <= slope_limit)
        or (z_limit is not None and largest is not None and not largest <= z_limit)
    )
    short = too_low and least is not None and at_most < least
    return Check(
        model,
        quantity,
        (
            f"{correlation:.6f}",
            f"{at_most:.6f}",
            f"{slope:.4f}",
            "-" if largest is None else f"{largest:.2f}",
        ),
        missed,
        "Monte Carlo error alone forbids more: sample longer" if short else "",
    )


def compare(reference: Reference, ours: Sampled) -> list[Check]:
    """All comparisons of a direct fit with BGLR."""
    model = reference.model
    found = []
    for name, row in reference.hyper.iterrows():
        variable, convert = HYPERPARAMETERS[str(name)]
        draws = convert(ours.draws[variable], reference.settings.get("df0", math.nan))
        found.append(compare_scalar(model, str(name), draws, row))
    found[0] = with_remark(found[0], f"{ours.sweeps} sweeps, {ours.seconds:.0f} s")
    lines, (theirs, error) = ours.estimate("lines"), lines_of(reference)
    found.append(
        compare_vectors(
            model,
            "fitted values",
            lines,
            theirs,
            LINES_CORRELATION,
            LINES_SLOPE,
            (lines.mean - theirs.mean) / np.hypot(ours.lines_mcse, error),
        )
    )
    if reference.markers is None:
        return found
    markers, noise = ours.estimate("mean"), float((ours.sd**2).mean()) / reference.draws
    effects = Estimate(reference.markers["mean"].to_numpy(), noise)
    found.append(compare_vectors(model, "marker effects", markers, effects, MARKERS_CORRELATION))
    if model in ("BayesB", "BayesC"):
        pip = reference.markers["pip"].to_numpy()
        found.append(
            compare_vectors(
                model,
                "inclusion probabilities",
                ours.estimate("pip"),
                Estimate(pip, float((pip * (1.0 - pip)).mean()) / reference.draws),
                None,
            )
        )
    return found


def with_remark(check: Check, remark: str) -> Check:
    return dataclasses.replace(check, remark="; ".join(filter(None, (check.remark, remark))))


def lines_of(reference: Reference) -> tuple[Estimate, np.ndarray]:
    """BGLR's fitted values about their mean, and their Monte Carlo standard errors.

    BGLR's output lacks the errors; the effective sample size of varE stands in for the lines'.
    """
    lines, row = reference.lines, reference.hyper.loc["varE"]
    ess = min((row["sd"] / row["mcse"]) ** 2, reference.draws)
    sd = lines["fit_sd"].to_numpy()
    values = (lines["fit_mean"] - lines["fit_mean"].mean()).to_numpy()
    return Estimate(values, float((sd**2).mean()) / reference.draws), sd / math.sqrt(ess)


def compare_latent(reference: Reference, direct: Sampled, ours: Sampled) -> list[Check]:
    """Fitted values through a latent node against those of the direct fit and of BGLR."""
    theirs, error = lines_of(reference)
    mine, plain = ours.estimate("lines"), direct.estimate("lines")
    found = []
    for against, other, its_error in (
        ("direct fit", plain, direct.lines_mcse),
        ("BGLR", theirs, error),
    ):
        check = compare_vectors(
            f"{reference.model}, latent",
            f"fitted values, {against}",
            mine,
            other,
            LINES_CORRELATION,
            LINES_SLOPE,
            (mine.mean - other.mean) / np.hypot(ours.lines_mcse, its_error),
            LINES_Z_LIMIT,
        )
        found.append(check)
    remark = f"{ours.sweeps} sweeps, {ours.seconds:.0f} s, weights leave {ours.effective:.0%}"
    found[0] = with_remark(found[0], remark)
    return found


def print_tables(checks: list[Check]) -> None:
    for columns, scalar in ((SCALAR_COLUMNS, True), (VECTOR_COLUMNS, False)):
        rows = [("model", "quantity", *columns, "verdict", "")]
        for check in checks:
            if check.is_scalar == scalar:
                verdict = "MISSED" if check.missed else "ok"
                rows.append((check.model, check.quantity, *check.cells, verdict, check.remark))
        widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
        for row in rows:
            cells = [
                f"{cell:>{width}}" if 2 <= column < 2 + len(columns) else f"{cell:<{width}}"
                for column, (cell, width) in enumerate(zip(row, widths, strict=True))
            ]
            print("  ".join(cells).rstrip())
        print()


if __name__ == "__main__":
    sys.exit(main())
