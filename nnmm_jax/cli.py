"""The command ``nnmm``: the same calls as in Python, from a shell.

Exit codes: 0 done, 2 wrong input (one line on standard error, nothing written), 130 interrupted.
JAX and the other heavy imports are inside the commands, so that ``--help`` and wrong flags answer
at once.
"""

import argparse
import dataclasses
import secrets
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from nnmm_jax import __version__
from nnmm_jax.cli_check import add_check
from nnmm_jax.cli_compare import add_compare
from nnmm_jax.cli_convert import add_convert
from nnmm_jax.cli_cross_validate import add_cross_validate
from nnmm_jax.cli_flags import (
    add_data_flags,
    add_network_flags,
    check_least,
    files_of,
    network_of,
    read_data,
)
from nnmm_jax.cli_gwas import add_gwas
from nnmm_jax.cli_plan import add_plan, add_sampler_flags
from nnmm_jax.cli_predict import add_predict
from nnmm_jax.cli_summary import add_summary
from nnmm_jax.errors import InputError, shortlist
from nnmm_jax.folders import check_new_file, replacing
from nnmm_jax.threads import use_threads

if TYPE_CHECKING:
    from nnmm_jax.posterior.result import FitResult

COMMANDS = "{fit,plan,summary,gwas,predict,cross-validate,compare,prior,check,convert,simulate}"

# Flag, default (as in SimulationSettings), help.
SIMULATION_FLAGS: tuple[tuple[str, int | float | str, str], ...] = (
    ("individuals", 800, "individuals, in families"),
    ("markers", 1200, "markers, in linkage disequilibrium"),
    ("chromosomes", 5, "chromosomes"),
    ("omics", 10, "measured nodes of the middle layer"),
    ("latent", 0, "nodes of the middle layer that are not written"),
    ("activation", "linear", "linear, tanh, sigmoid, relu or leakyrelu"),
    ("h2_omics", 0.5, "genetic share of the variance of every node"),
    ("share_mediated", 0.5, "share of the trait's variance that goes through the nodes"),
    ("share_direct", 0.1, "share of the trait's variance that markers cause directly"),
    ("without_omics", 0.3, "share of the individuals without any omics"),
    ("missing_cells", 0.05, "share of the other omics cells that are empty"),
    ("without_phenotype", 0.2, "share of the individuals without phenotype"),
)


class Parser(argparse.ArgumentParser):
    """A wrong flag is one line in the words of every other error; scripts use it too."""

    def error(self, message: str) -> NoReturn:
        """Say what is wrong and exit with 2."""
        program = Path(self.prog.split()[0]).name
        self.exit(2, f"{program}: error: {message} (see {self.prog} --help)\n")

    def add_counts(self, flags: Iterable[tuple[str, int, str]]) -> None:
        """Add flags that are whole numbers: name, default, help."""
        for name, count, what in flags:
            self.add_argument(f"--{name}", type=int, default=count, metavar="N", help=what)

    def add_priors(self, flags: Iterable[tuple[str, str]]) -> None:
        """Add flags for priors, RR-BLUP by default: name, and of what it is the prior."""
        for name, what in flags:
            self.add_argument(
                f"--{name}-prior",
                default="RR-BLUP",
                metavar="NAME",
                help=f"prior of {what}, such as BayesC or RR-BLUP",
            )


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the whole command line."""
    parser = Parser(
        prog="nnmm",
        usage=f"nnmm [-h] [--version] {COMMANDS} ...",
        description="Mixed-effect neural networks: genotypes -> omics -> phenotype.",
        epilog="nnmm COMMAND --help tells more about a command.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"nnmm_jax {__version__}")
    commands = parser.add_subparsers(
        dest="command",
        prog="nnmm",
        required=True,
        metavar=COMMANDS,
    )
    _add_fit(commands)
    add_plan(commands)
    add_summary(commands)
    add_gwas(commands)
    add_predict(commands)
    add_cross_validate(commands)
    add_compare(commands)
    _add_prior(commands)
    add_check(commands)
    add_convert(commands)
    _add_simulate(commands)
    return parser


def _add_fit(commands: "argparse._SubParsersAction[Parser]") -> None:
    parser = commands.add_parser(
        "fit",
        help="fit a network to tables and write a folder of results",
        usage="nnmm fit --genotypes G --omics O --phenotypes P --trait NAME --out DIR [options]",
        description="Fit a network to genotypes, omics and phenotypes (csv, tsv, txt or parquet; "
        "rows are joined by id) and write posterior, tables and figures to a new folder.",
        allow_abbrev=False,
    )
    add_data_flags(parser)
    output = parser.add_argument_group("output")
    output.add_argument("--out", required=True, metavar="DIR", type=Path, help="folder to make")
    output.add_argument(
        "--overwrite", action="store_true", help="replace the results of an earlier fit in DIR"
    )
    output.add_argument("--quiet", action="store_true", help="say nothing but errors and warnings")
    add_network_flags(parser)
    add_sampler_flags(parser)
    parser.set_defaults(run=_fit)


def _add_prior(commands: "argparse._SubParsersAction[Parser]") -> None:
    parser = commands.add_parser(
        "prior",
        help="print what the priors imply, before the data are fitted",
        usage="nnmm prior --phenotypes P --trait NAME [--genotypes G] [--omics O] [options]",
        description="Draw from the priors of a network, and print quantiles of heritabilities and "
        "variances that they imply; variances are relative to the observed one of the response. "
        "Data and network have the flags of nnmm fit.",
        allow_abbrev=False,
    )
    add_data_flags(parser)
    output = parser.add_argument_group("output")
    output.add_argument("--out", metavar="FILE", type=Path, help="csv file to write the table to")
    output.add_argument("--overwrite", action="store_true", help="replace FILE if it is there")
    output.add_argument("--quiet", action="store_true", help="say nothing of the data")
    add_network_flags(parser)
    draws = parser.add_argument_group("draws")
    draws.add_argument(
        "--draws", type=int, default=1000, metavar="N", help="from the priors (default: 1000)"
    )
    draws.add_argument(
        "--seed", type=int, default=0, metavar="S", help="of all random numbers (default: 0)"
    )
    parser.set_defaults(run=_prior)


def _add_simulate(commands: "argparse._SubParsersAction[Parser]") -> None:
    parser = commands.add_parser(
        "simulate",
        help="write a data set with its truth",
        usage="nnmm simulate --out DIR [--seed S] [options]",
        description="Simulate genotypes, omics and phenotypes of families, and write them with "
        "the truth behind them to a new folder.",
        allow_abbrev=False,
    )
    parser.add_argument("--out", required=True, metavar="DIR", type=Path, help="folder to make")
    parser.add_argument(
        "--seed", type=int, metavar="S", help="of all random numbers (default: drawn and recorded)"
    )
    parser.add_argument("--quiet", action="store_true", help="say nothing but errors")
    for name, default, what in SIMULATION_FLAGS:
        parser.add_argument(
            f"--{name.replace('_', '-')}",
            type=type(default),
            default=default,
            metavar="NAME" if isinstance(default, str) else "N",
            help=f"{what} (default: {default})",
        )
    parser.set_defaults(run=_simulate)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Parameters
    ----------
    arguments : sequence of str, optional
        Default: those of the process.

    Returns
    -------
    int
        Exit code.

    Examples
    --------
    >>> from nnmm_jax.cli import main
    >>> main(["fit", "--genotypes", "g.csv", "--omics", "o.csv", "--phenotypes", "p.csv",
    ...       "--trait", "y", "--out", "results"])  # doctest: +SKIP
    0
    """
    options = build_parser().parse_args(arguments)
    return run_command("nnmm", options.run, options)


def run_command(
    program: str, run: Callable[[argparse.Namespace], None], options: argparse.Namespace
) -> int:
    """Run a command; wrong input is one line on standard error, without a traceback.

    Returns
    -------
    int
        Exit code: 0, 2 after wrong input, 130 when interrupted.
    """
    try:
        run(options)
    except InputError as error:
        print(f"{program}: error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except OSError as error:  # a disk that is full, a right that lacks; readers say InputError
        what = "" if error.filename is None else f" {error.filename}"
        print(
            f"{program}: error: expected to read or write{what}, found "
            f"{error.strerror or error}; check the disk and your rights there",
            file=sys.stderr,
        )
        return 2
    except KeyboardInterrupt:
        print(f"{program}: interrupted", file=sys.stderr)
        return 130
    return 0


def _fit(options: argparse.Namespace) -> None:
    check_least(options, warmup=0, samples=1, chains=1, latent=0, seed=0)
    if options.threads is not None:
        use_threads(options.threads)
    # In the order of their cost: a wrong name is found before JAX works or data are read.
    from nnmm_jax.inference.run_settings import RunSettings

    RunSettings(
        samples=options.samples,
        chains=options.chains,
        until_ess=options.until_ess,
        max_samples=options.max_samples,
    )
    from nnmm_jax.reports.folder import check_results_folder, write_results

    check_results_folder(options.out, overwrite=options.overwrite)
    network = network_of(options)
    dataset = read_data(options, network)
    if not options.quiet:
        print("\n".join(dataset.report.lines()), file=sys.stderr)
    from nnmm_jax import fit
    from nnmm_jax.posterior.stopping import closing_lines

    result = fit(
        dataset,
        network,
        warmup=options.warmup,
        samples=options.samples,
        chains=options.chains,
        seed=options.seed,
        progress=not options.quiet,
        sampler=options.sampler,
        until_ess=options.until_ess,
        max_samples=options.max_samples,
    )
    if options.quiet:  # otherwise the fit has said them
        for line in closing_lines(result, quiet=True):
            print(f"nnmm: {line}", file=sys.stderr)
    result = dataclasses.replace(result, run={**result.run, "files": files_of(options)})
    write_results(result, options.out, overwrite=options.overwrite)
    if not options.quiet:
        print("\n".join(_summary(result, options.out)))


def _prior(options: argparse.Namespace) -> None:
    check_least(options, draws=1, latent=0, seed=0)
    if options.out is not None:
        check_new_file(options.out, overwrite=options.overwrite)
    network = network_of(options)
    dataset = read_data(options, network)
    if not options.quiet:
        print("\n".join(dataset.report.lines()), file=sys.stderr)
    from nnmm_jax import Model

    found = Model(dataset, network).prior_predictive(options.draws, options.seed)
    if options.out is not None:
        with replacing(options.out) as temporary:
            found.summary().to_csv(temporary, index=False, float_format="%.7g")
    print(found)


def _summary(result: "FitResult", folder: Path) -> list[str]:
    data, seconds = result.run["data"], result.run["seconds"]
    table = result.diagnostics()
    h2 = result.posterior["h2_trait"]
    low, high = h2.quantile((0.05, 0.95)).values
    parts = ", ".join(f"{name} {value:.1f}" for name, value in seconds.items())
    ess = table[["ess_bulk", "ess_tail"]].to_numpy()
    hidden = result.unidentified()
    not_judged = [f"not identified, so not judged: {shortlist(hidden)}"] if hidden else []
    records = f" ({data['records']} records)" if data["repeatedly_phenotyped"] else ""
    return [
        f"data: {data['genotyped']} individuals, {data['markers']} markers, "
        f"{data['omics_columns']} omics, {data['phenotyped']} phenotyped for {data['trait']}"
        f"{records}",
        f"h2 of {data['trait']}: {float(h2.mean()):.3f} (90% interval {low:.3f} to {high:.3f})",
        f"convergence, {len(table)} quantities: largest R-hat {table['r_hat'].max():.3f}, "
        f"smallest ESS {ess.min():.0f}",
        *not_judged,
        f"seconds: {sum(seconds.values()):.1f} ({parts}); seed {result.run['seed']}",
        f"results: {folder}",
    ]


def _simulate(options: argparse.Namespace) -> None:
    from nnmm_jax.folders import check_new_folder

    check_new_folder(options.out)
    from nnmm_jax.network.simulate import SimulationSettings, simulate

    settings = SimulationSettings(
        **{name: getattr(options, name) for name, _, _ in SIMULATION_FLAGS}
    )
    seed = secrets.randbelow(2**31) if options.seed is None else options.seed
    simulate(settings, seed).write(options.out)
    if not options.quiet:
        print(
            f"{options.out}: {settings.individuals} individuals, {settings.markers} markers, "
            f"{settings.omics} omics, seed {seed}"
        )


if __name__ == "__main__":
    sys.exit(main())
