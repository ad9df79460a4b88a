"""``nnmm fit --resume DIR``, and what ``nnmm fit`` notes down for it.

Heavy imports are inside, as in :mod:`nnmm_jax.cli`.
"""

import argparse
import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nnmm_jax.errors import InputError

if TYPE_CHECKING:
    from nnmm_jax import Checkpoints

FLAG = "--resume"
# What of the command line is not noted: the functions behind it, and what may change.
_NOT_NOTED = ("run", "command", "resume", "quiet", "threads", "overwrite", "max_minutes")


def add_checkpoint_flags(parser: argparse.ArgumentParser, *, resumes: bool = False) -> None:
    """Add the flags about the state of a run."""
    group = parser.add_argument_group("checkpoints")
    if not resumes:
        group.add_argument(
            FLAG,
            metavar="DIR",
            type=Path,
            help="go on with the run in DIR, in place of all other flags but those of the length, "
            "such as --samples (in all)",
        )
    group.add_argument(
        "--checkpoint-every", type=int, metavar="N", help="write the state every N sweeps"
    )
    group.add_argument(
        "--checkpoint-minutes",
        type=float,
        metavar="M",
        default=10.0,
        help="and every M minutes (default: 10)",
    )


def is_resumed(arguments: Sequence[str]) -> bool:
    """Whether a command line goes on with a run."""
    wanted = (one == FLAG or one.startswith(f"{FLAG}=") for one in arguments)
    return list(arguments[:1]) == ["fit"] and any(wanted)


def fill_resume_parser(parser: argparse.ArgumentParser) -> None:
    """Add the flags that go with ``--resume``."""
    parser.add_argument(FLAG, metavar="DIR", type=Path, required=True, help="folder of the run")
    for name, value, kind, what in (
        ("samples", "N", int, "sweeps kept in all, of every chain (default: as it was)"),
        ("until-ess", "N", float, "smallest effective sample size (default: as it was)"),
        ("max-samples", "N", int, "the most sweeps kept then (default: as it was)"),
        ("max-minutes", "M", float, "end after M minutes with the draws that there are"),
        ("threads", "N", int, "CPU threads (default: all there are)"),
    ):
        parser.add_argument(f"--{name}", type=kind, metavar=value, help=what)
    parser.add_argument("--quiet", action="store_true", help="say nothing but errors and warnings")
    add_checkpoint_flags(parser, resumes=True)


def checkpoints_of(options: argparse.Namespace) -> "Checkpoints | None":
    """Where and how often a fit writes its state, and with what for who resumes it.

    Raises
    ------
    InputError
        If the flags do not fit together.
    """
    from nnmm_jax import Checkpoints
    from nnmm_jax.inference.checkpoint import CHECKPOINT_FOLDER

    if options.no_checkpoint or options.method == "svi":
        for name, given in (("keep", options.keep), ("lazy", options.lazy)):
            if given:
                raise InputError(
                    f"--{name}: expected a fit by mcmc without --no-checkpoint with it, "
                    "found another"
                )
        return None
    noted = {name: value for name, value in vars(options).items() if name not in _NOT_NOTED}
    return Checkpoints(
        options.out / CHECKPOINT_FOLDER,
        every=options.checkpoint_every,
        minutes=options.checkpoint_minutes,
        overwrite=options.overwrite,
        command={"options": noted | {"out": None}, "folder": str(Path.cwd())},
    )


def noted_options(options: argparse.Namespace) -> tuple[argparse.Namespace, Path]:
    """Flags of the fit that is to go on, and the folder that its files were named in.

    Raises
    ------
    InputError
        If there is no such run of ``nnmm fit``.
    """
    from nnmm_jax.inference.checkpoint import CHECKPOINT_FOLDER, read_settings

    command = read_settings(options.resume / CHECKPOINT_FOLDER)["command"]
    if not command:
        raise InputError(f"{options.resume}: expected a run of nnmm fit, found one of Python")
    noted: dict[str, Any] = dict(command["options"])
    # JSON has lists in the place of pairs
    if noted["relationships"] is not None:
        noted["relationships"] = [tuple(one) for one in noted["relationships"]]
    noted |= {"quiet": options.quiet, "out": options.resume}
    return argparse.Namespace(**noted), Path(command["folder"])


@contextlib.contextmanager
def files_as_noted(folder: Path) -> Iterator[None]:
    """Read files by the names that they had for the fit, in the folder that it was called in.

    Raises
    ------
    InputError
        If the folder is no more.
    """
    if not folder.is_dir():
        raise InputError(
            f"{folder}: expected the folder that the fit was called in, by which its files are "
            "named, found none; put it back"
        )
    with contextlib.chdir(folder):
        yield
