"""The command ``nnmm plan``, and the sampler's flags, which it shares with ``nnmm fit``.

Heavy imports are inside, as in :mod:`nnmm_jax.cli`.
"""

import argparse
import sys
from typing import TYPE_CHECKING, Any

from nnmm_jax.cli_flags import (
    add_data_flags,
    add_network_flags,
    check_least,
    given_data,
    network_of,
    read_data,
)
from nnmm_jax.errors import InputError
from nnmm_jax.threads import use_threads

if TYPE_CHECKING:
    from nnmm_jax import Dataset

_SIZES = ("individuals", "markers")
_SHARES = ("without_omics", "without_phenotype")


def add_sampler_flags(parser: argparse.ArgumentParser, *, keeps: bool = True) -> None:
    """Add the flags that say how long a run is and, where it ``keeps`` draws, which and where."""
    sampler = parser.add_argument_group("sampler")
    for name, default, what in (
        ("warmup", 1000, "sweeps discarded"),
        ("samples", 1000, "sweeps kept, of every chain"),
        ("chains", 4, "chains, run together"),
    ):
        sampler.add_argument(
            f"--{name}", type=int, default=default, metavar="N", help=f"{what} (default: {default})"
        )
    sampler.add_argument(
        "--until-ess",
        type=float,
        metavar="N",
        help="go on, --samples at a time, until the smallest effective sample size is at least N "
        "and no R-hat above 1.01 (default: stop after --samples)",
    )
    sampler.add_argument(
        "--max-samples",
        type=int,
        metavar="N",
        help="the most sweeps then kept, of every chain (default: 10 times --samples)",
    )
    sampler.add_argument(
        "--sampler",
        default="hmc",
        metavar="NAME",
        help="of missing omics and latent nodes of a nonlinear network: hmc (default) or nuts",
    )
    sampler.add_argument(
        "--seed", type=int, metavar="S", help="of all random numbers (default: drawn and recorded)"
    )
    sampler.add_argument(
        "--threads", type=int, metavar="N", help="CPU threads (default: all there are)"
    )
    if keeps:
        _add_kept_flags(sampler)


def _add_kept_flags(sampler: "argparse._ArgumentGroup") -> None:
    for name, value, kind, what in (
        ("max-minutes", "M", float, "end after M minutes with the draws that there are"),
        ("thin", "N", int, "keep the draws of every Nth sweep (default: 1)"),
    ):
        sampler.add_argument(f"--{name}", type=kind, metavar=value, help=what)
    sampler.add_argument(
        "--keep",
        action="append",
        metavar="SITE",
        help="keep the draws of marker_effect, skip_effect or omics too; repeatable",
    )
    sampler.add_argument(
        "--no-checkpoint", action="store_true", help="keep no state of the run, and draws in memory"
    )
    sampler.add_argument(
        "--lazy", action="store_true", help="leave draws on disk, without a copy in posterior.nc"
    )
    sampler.add_argument(
        "--method",
        default="mcmc",
        metavar="NAME",
        help="mcmc (default), or svi: a variational approximation for a quick look",
    )
    sampler.add_argument(
        "--start",
        default="dispersed",
        metavar="NAME",
        help="of the chains: dispersed (default), or svi: at draws from that approximation",
    )
    sampler.add_argument(
        "--devices",
        type=int,
        default=1,
        metavar="N",
        help="spread individuals over N devices that JAX sees (default: 1)",
    )


def length_of(options: argparse.Namespace) -> dict[str, Any]:
    """What the flags of a run's length and of what is kept say, as arguments of a fit.

    Raises
    ------
    InputError
        If they do not fit together.
    """
    from nnmm_jax.inference.run_settings import RunSettings

    names = ("warmup", "samples", "chains", "sampler", "until_ess", "max_samples")
    length = {name: getattr(options, name) for name in names}
    if options.thin is not None:
        length["thin"] = options.thin
    length["keep"] = tuple(options.keep or ())
    chosen = {name: getattr(options, name) for name in ("max_minutes", "method", "start")}
    RunSettings(**length, **chosen, devices=options.devices)
    return length


def add_plan(commands: "argparse._SubParsersAction[Any]") -> None:
    """Add the command."""
    parser = commands.add_parser(
        "plan",
        help="print how much memory a fit will take",
        usage="nnmm plan --phenotypes P --trait NAME [--genotypes G] [--omics O] [options]\n"
        "       nnmm plan --individuals N --markers P [--omics L] [options]",
        description="Predict the memory of nnmm fit with the same flags, from the tables or from "
        "their sizes, without fitting. The program is compiled, which takes some seconds. Exit "
        "code 2 if the fit would not fit into this machine's memory.",
        allow_abbrev=False,
    )
    add_data_flags(parser, required=False)
    sizes = parser.add_argument_group(
        "sizes, in place of data", "With these, --omics is the number of omics (default: 0)."
    )
    for name, value, kind, what in (
        ("individuals", "N", int, "individuals"),
        ("markers", "N", int, "markers, as counts"),
        ("without-omics", "SHARE", float, "of the individuals (default: 0.3)"),
        ("without-phenotype", "SHARE", float, "of the individuals (default: 0.2)"),
    ):
        sizes.add_argument(f"--{name}", metavar=value, type=kind, help=what)
    add_network_flags(parser)
    add_sampler_flags(parser)
    parser.add_argument("--quiet", action="store_true", help="say nothing of the data")
    parser.set_defaults(run=_plan)


def _plan(options: argparse.Namespace) -> None:
    check_least(options, warmup=0, samples=1, chains=1, latent=0, seed=0)
    if options.threads is not None:
        use_threads(options.threads)
    length = length_of(options)
    if any(getattr(options, name) is not None for name in (*_SIZES, *_SHARES)):
        dataset = _sized(options)
        network = network_of(options)
    else:
        for name in ("phenotypes", "trait"):
            if getattr(options, name) is None:
                raise InputError(
                    f"--{name}: expected it, or sizes such as --individuals and --markers, found "
                    "neither; give one of the two"
                )
        network = network_of(options)
        dataset = read_data(options, network)
        if not options.quiet:
            print("\n".join(dataset.report.lines()), file=sys.stderr)
    from nnmm_jax import Model

    plan = Model(dataset, network).plan(
        **length, checkpoint=not options.no_checkpoint, lazy=options.lazy
    )
    print(plan)
    plan.check()


def _sized(options: argparse.Namespace) -> "Dataset":
    """Data set of the sizes; the flags of the data then say that there are such tables."""
    if files := [name for name in given_data(options) if name != "omics"]:
        raise InputError(
            f"--{files[0].replace('_', '-')}: expected data or sizes, found both; leave one out"
        )
    for name in _SIZES:
        if getattr(options, name) is None:
            raise InputError(f"--{name}: expected it with the other sizes, found none; give it")
    omics = options.omics or "0"
    if not omics.isdecimal():
        raise InputError(
            f"--omics: expected the number of omics beside other sizes, found {omics!r}"
        )
    from nnmm_jax.data.sizes import Sizes

    shares = {name: getattr(options, name) for name in _SHARES}
    sizes = Sizes(
        options.individuals,
        options.markers,
        int(omics),
        **{name: share for name, share in shares.items() if share is not None},
    )
    # As if there were such tables: whether the network fits them is checked as for any.
    options.genotypes = "sizes" if sizes.markers else None
    options.omics = "sizes" if sizes.omics else None
    return sizes.dataset()
