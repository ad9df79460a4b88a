"""The command ``nnmm convert``. Heavy imports are inside, as in :mod:`nnmm_jax.cli`."""

import argparse
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from nnmm_jax.errors import InputError
from nnmm_jax.folders import check_new_file, check_new_folder


def add_convert(commands: "argparse._SubParsersAction[Any]") -> None:
    """Add the command."""
    parser = commands.add_parser(
        "convert",
        help="write genotypes in another format",
        usage="nnmm convert IN OUT [options]",
        description="Write genotypes in another format; the formats are the endings of the names. "
        "IN: .bed (with .bim and .fam beside it), .vcf, .vcf.gz, .bcf, .zarr, .parquet, .csv, "
        ".tsv, .txt (also .gz). OUT: .bed, .zarr, .parquet, .csv, .tsv (also .gz).",
        allow_abbrev=False,
    )
    parser.add_argument("source", metavar="IN", type=Path, help="genotypes to read")
    parser.add_argument("target", metavar="OUT", type=Path, help="file or store to write")
    parser.add_argument(
        "--id-column", metavar="NAME", help="id column of a table (default: the first column)"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace OUT if it is there")
    parser.add_argument("--quiet", action="store_true", help="say nothing but errors")
    parser.set_defaults(run=_convert)


def _convert(options: argparse.Namespace) -> None:
    from nnmm_jax.data.genotype_files import read_dosages, write_dosages, written_ending

    target = options.target
    suffix = written_ending(target, f"OUT {target}")
    _check_target(target, suffix, options.overwrite)
    dosages = read_dosages(options.source, id_column=options.id_column, progress=not options.quiet)
    with _written(target, suffix, options.overwrite) as temporary:
        notes = write_dosages(dosages, temporary, f"OUT {target}")
    if not options.quiet:
        for note in notes:
            print(f"nnmm: {note}", file=sys.stderr)
        print(
            f"{target}: {len(dosages.ids)} individuals, {len(dosages.markers)} markers, "
            f"{dosages.n_missing} missing genotypes"
        )


def _check_target(target: Path, suffix: str, overwrite: bool) -> None:
    if suffix == ".zarr":
        check_new_folder(target, overwrite=overwrite)
        if not target.absolute().parent.is_dir():
            raise InputError(f"OUT {target}: expected a name in a folder that exists, found none")
        names = {path.name for path in target.iterdir()} if target.is_dir() else set()
        if names and not names & {".zgroup", "zarr.json"}:
            raise InputError(
                f"OUT {target}: expected a zarr store to replace, found another folder; choose "
                "another name"
            )
        return
    for ending in _COMPANIONS if suffix == ".bed" else (target.suffix,):
        check_new_file(target.with_suffix(ending), overwrite=overwrite, flag="OUT")


# bed comes last: while it is not there, nothing reads the two others.
_COMPANIONS = (".bim", ".fam", ".bed")


@contextmanager
def _written(target: Path, suffix: str, overwrite: bool) -> Iterator[Path]:
    """Give a temporary name; what is written there takes the place of the target at the end."""
    with tempfile.TemporaryDirectory(prefix=f".{target.name}.", dir=target.parent) as scratch:
        temporary = Path(scratch) / target.name
        yield temporary
        if suffix == ".zarr" and overwrite and target.exists():
            os.replace(target, Path(scratch) / "replaced")
        for ending in _COMPANIONS if suffix == ".bed" else (target.suffix,):
            os.replace(temporary.with_suffix(ending), target.with_suffix(ending))
