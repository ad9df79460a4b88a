"""The command ``nnmm``: the same calls as in Python, from a shell.

Exit codes: 0 done, 2 wrong input (one line on standard error, nothing written), 130 interrupted,
141 when nobody reads on, 143 ended by SIGTERM after a checkpoint.
JAX and the other heavy imports are inside the commands, so that ``--help`` and wrong flags answer
at once.
"""

import argparse
import dataclasses
import os
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
from nnmm_jax.cli_plan import add_plan, add_sampler_flags, length_of
from nnmm_jax.cli_predict import add_predict
from nnmm_jax.cli_resume import (
    add_checkpoint_flags,
    checkpoints_of,
    files_as_noted,
    fill_resume_parser,
    is_resumed,
    noted_options,
)
from nnmm_jax.cli_summary import add_summary
from nnmm_jax.errors import InputError, RunInterrupted, shortlist
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
        description="Genomic prediction with intermediate omics, by mixed-effect neural networks: "
        "markers act on omics, omics on the trait. A first fit is nnmm check (are the tables "
        "understood?), nnmm fit, nnmm summary; nnmm simulate makes data to try it on.",
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
        usage="nnmm fit --genotypes G --omics O --phenotypes P --trait NAME --out DIR [options]\n"
        "       nnmm fit --resume DIR [--samples N]",
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
    add_checkpoint_flags(parser)
    parser.set_defaults(run=_fit)


def _resume_parser() -> Parser:
    parser = Parser(
        prog="nnmm fit",
        usage="nnmm fit --resume DIR [--samples N] [options]",
        description="Go on with a fit that was interrupted, or add draws to a finished one; data "
        "and settings are those of the fit.",
        allow_abbrev=False,
    )
    fill_resume_parser(parser)
    parser.set_defaults(run=_resume)
    return parser


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
    words = sys.argv[1:] if arguments is None else list(arguments)
    if is_resumed(words):
        options = _resume_parser().parse_args(words[1:])
    else:
        options = build_parser().parse_args(words)
    return run_command("nnmm", options.run, options)


def run_command(
    program: str, run: Callable[[argparse.Namespace], None], options: argparse.Namespace
) -> int:
    """Run a command; wrong input is one line on standard error, without a traceback.

    Returns
    -------
    int
        Exit code: 0, 2 after wrong input, 130 when interrupted, 141 when nobody reads on, 143 after
        SIGTERM.
    """
    try:
        run(options)
        sys.stdout.flush()
    except BrokenPipeError:  # who reads, such as `head`, has enough: the rest is not written
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
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
    except RunInterrupted as error:
        print(f"{program}: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print(f"{program}: interrupted", file=sys.stderr)
        return 130
    return 0


def _fit(options: argparse.Namespace) -> None:
    check_least(options, warmup=0, samples=1, chains=1, latent=0, seed=0)
    if options.threads is not None:
        use_threads(options.threads)
    # In the order of their cost: a wrong name is found before JAX works or data are read.
    length = length_of(options)
    place = checkpoints_of(options)
    from nnmm_jax.reports.folder import check_results_folder

    check_results_folder(options.out, overwrite=options.overwrite)
    network = network_of(options)
    dataset = read_data(options, network)
    if not options.quiet:
        print("\n".join(dataset.report.lines()), file=sys.stderr)
    from nnmm_jax import fit

    result = fit(
        dataset,
        network,
        **length,
        seed=options.seed,
        progress=not options.quiet,
        max_minutes=options.max_minutes,
        checkpoint=place,
        lazy=options.lazy,
        devices=options.devices,
        method=options.method,
        start=options.start,
    )
    _write(result, options)


def _resume(options: argparse.Namespace) -> None:
    if options.threads is not None:
        use_threads(options.threads)
    noted, folder = noted_options(options)
    with files_as_noted(folder):
        network = network_of(noted)
        dataset = read_data(noted, network)
    from nnmm_jax import Checkpoints, resume
    from nnmm_jax.inference.checkpoint import CHECKPOINT_FOLDER

    result = resume(
        Checkpoints(
            options.resume / CHECKPOINT_FOLDER,
            options.checkpoint_every,
            options.checkpoint_minutes,
        ),
        dataset,
        network,
        samples=options.samples,
        until_ess=options.until_ess,
        max_samples=options.max_samples,
        max_minutes=options.max_minutes,
        progress=not options.quiet,
        lazy=noted.lazy,
    )
    _write(result, noted)


def _write(result: "FitResult", options: argparse.Namespace) -> None:
    """Write the results of a fit, and say what they are."""
    from nnmm_jax.posterior.result import DRAWS_AT
    from nnmm_jax.posterior.stopping import closing_lines
    from nnmm_jax.posterior.stream_reading import relative_stream_path
    from nnmm_jax.reports.folder import write_results

    if options.quiet:  # otherwise the fit has said them
        for line in closing_lines(result, quiet=True):
            print(f"nnmm: {line}", file=sys.stderr)
    more: dict[str, object] = {"files": files_of(options)}
    if DRAWS_AT in result.run:  # within the folder, which may be moved
        more[DRAWS_AT] = relative_stream_path()
    result = dataclasses.replace(result, run={**result.run, **more})
    # The checkpoints are in the folder already; that there was nothing else has been checked.
    write_results(result, options.out, overwrite=True)
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
    h2 = result.posterior["h2_trait"]
    low, high = h2.quantile((0.05, 0.95)).values
    parts = ", ".join(f"{name} {value:.1f}" for name, value in seconds.items())
    judged = _judged(result)
    records = f" ({data['records']} records)" if data["repeatedly_phenotyped"] else ""
    return [
        f"data: {data['genotyped']} individuals, {data['markers']} markers, "
        f"{data['omics_columns']} omics, {data['phenotyped']} phenotyped for {data['trait']}"
        f"{records}",
        f"h2 of {data['trait']}: {float(h2.mean()):.3f} (90% interval {low:.3f} to {high:.3f})",
        *judged,
        f"seconds: {sum(seconds.values()):.1f} ({parts}); seed {result.run['seed']}",
        f"results: {folder}",
    ]


def _judged(result: "FitResult") -> list[str]:
    """How far the draws are to be trusted."""
    from nnmm_jax.posterior.result import VARIATIONAL
    from nnmm_jax.posterior.stopping import approximate_line

    if result.approximate:
        return [approximate_line(result.run[VARIATIONAL])]
    table = result.diagnostics()
    ess = table[["ess_bulk", "ess_tail"]].to_numpy()
    hidden = result.unidentified()
    return [
        f"convergence, {len(table)} quantities: largest R-hat {table['r_hat'].max():.3f}, "
        f"smallest ESS {ess.min():.0f}",
        *([f"not identified, so not judged: {shortlist(hidden)}"] if hidden else []),
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
