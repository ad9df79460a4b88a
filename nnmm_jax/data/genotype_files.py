"""Genotypes from any source, and to files: the format is the ending of the name."""

from collections.abc import Callable, Collection
from pathlib import Path
from typing import TypeAlias

import pandas as pd

from nnmm_jax.data.dosages import (
    Dosages,
    checked_dosages,
    checked_names,
    dosages_from_frame,
)
from nnmm_jax.data.files import MARKER_SUFFIXES, SUFFIXES, check_file
from nnmm_jax.data.plink import read_bed, write_bed
from nnmm_jax.data.tables import ID_FORM, Source, label, read_table
from nnmm_jax.data.vcf import read_vcf
from nnmm_jax.data.zarr_store import read_zarr, write_zarr
from nnmm_jax.errors import InputError

GenotypeSource: TypeAlias = Source | Dosages

# How files of genotypes that are no tables are read, by their ending.
READERS: dict[str, Callable[..., Dosages]] = {
    suffix: read_bed if suffix == ".bed" else read_zarr if suffix == ".zarr" else read_vcf
    for suffix in MARKER_SUFFIXES
}
GENOTYPE_SUFFIXES = (*READERS, *SUFFIXES)

# Endings that can be written.
WRITTEN = (".bed", ".zarr", ".parquet", ".csv", ".tsv", ".csv.gz", ".tsv.gz")


def read_dosages(
    source: GenotypeSource,
    *,
    id_column: str | None = None,
    only: Collection[str] | None = None,
    progress: bool = False,
) -> Dosages:
    """Read genotypes, whatever the format.

    Parameters
    ----------
    source
        A file or store by its ending: PLINK 1 (``.bed``, with bim and fam beside it), ``.vcf``,
        ``.vcf.gz``, ``.bcf``, ``.zarr``, or a table, see :func:`nnmm_jax.data.read_table`; or
        :class:`Dosages`, a pandas table, an xarray or AnnData object in memory.
    id_column
        Name of the id column of a table; default the first.
    only
        Names of markers: of a table, other columns are not looked at. Default all.
    progress
        Whether to show a bar on standard error while a large file is read.

    Returns
    -------
    Dosages
        int8 when all are whole, else float32; an array of its own.

    Raises
    ------
    InputError
        It cannot be read or used; see the functions that read each format.

    Examples
    --------
    >>> import pandas as pd
    >>> read_dosages(pd.DataFrame({"id": ["a", "b"], "m": [0, 2]})).codes.ravel()
    array([0, 2], dtype=int8)
    """
    name = label("genotypes", source)
    if isinstance(source, Dosages):
        return checked_dosages(source, name)
    suffix = _ending(source) if isinstance(source, str | Path) else None
    if suffix is None or not isinstance(source, str | Path):
        return _read_table(source, name, id_column, only)
    path = Path(source)
    check_file(path, name, folder=suffix == ".zarr")
    try:
        return READERS[suffix](path, name, progress=progress)
    except OSError as error:
        raise InputError(
            f"{name}: expected a readable file, found {error.strerror or error}; check the file "
            "and the right to read it"
        ) from error


def _read_table(
    source: Source, name: str, id_column: str | None, only: Collection[str] | None
) -> Dosages:
    table = read_table(
        source,
        what="genotypes",
        id_column=id_column,
        small_integers=True,
        endings=GENOTYPE_SUFFIXES,
    )
    columns = table.shape[1]
    if only is not None and not (wanted := table.columns.isin(only)).all():
        table = table.loc[:, wanted]  # a copy
    markers = checked_names(list(table.columns), "name", "marker", name)
    codes = dosages_from_frame(table, name)
    return Dosages(
        codes,
        tuple(table.index),
        markers,
        n_ignored=columns - len(markers),
        id_form=table.attrs[ID_FORM],
    )


def write_dosages(dosages: Dosages, path: Path, source: str) -> tuple[str, ...]:
    """Write genotypes in the format of the ending.

    Parameters
    ----------
    dosages
        As :func:`read_dosages` gives them.
    path
        File, or folder of a zarr store, that is not there yet.
    source
        What it is, for messages.

    Returns
    -------
    tuple of str
        What the format could not hold or had to make up, a line each.

    Raises
    ------
    InputError
        The ending is of no format that can be written, or the format cannot hold the genotypes.

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np
    >>> dosages = Dosages(np.array([[0], [2]], dtype=np.int8), ("a", "b"), ("m",))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = write_dosages(dosages, Path(folder) / "g.csv", "convert")
    ...     read_dosages(Path(folder) / "g.csv").markers
    ('m',)
    """
    suffix = written_ending(path, source)
    if suffix == ".bed":
        write_bed(dosages, path, source)
        return () if dosages.places is not None else (
            "alleles and positions are not known: B and A, chromosome and position 0",
        )  # fmt: skip
    if suffix == ".zarr":
        write_zarr(dosages, path, source)
        return ()
    _write_table(dosages, path, suffix)
    return () if dosages.places is None else (f"alleles and positions are not kept in {suffix}",)


def written_ending(path: Path, source: str) -> str:
    """Ending of a file to write, or raise."""
    name = path.name.lower()
    found = [suffix for suffix in WRITTEN if name.endswith(suffix) and name != suffix]
    if not found:
        raise InputError(
            f"{source}: expected a name ending in {', '.join(WRITTEN)}, found '{path.name}'; "
            "choose one of these formats"
        )
    return max(found, key=len)


def _write_table(dosages: Dosages, path: Path, suffix: str) -> None:
    frame = pd.DataFrame(dosages.codes, columns=pd.Index(dosages.markers, dtype=object))
    if dosages.codes.dtype.kind == "i":
        frame = frame.astype("Int8").mask(frame < 0)
    frame.insert(0, "id", list(dosages.ids))
    if suffix == ".parquet":
        frame.to_parquet(path, index=False)
    else:
        separator = "," if suffix.startswith(".csv") else "\t"
        frame.to_csv(path, index=False, sep=separator, float_format="%.7g")


def _ending(source: str | Path) -> str | None:
    """Ending of a file of genotypes that is no table."""
    name = Path(source).name.lower()
    for companion in (".bim", ".fam"):
        if name.endswith(companion):
            raise InputError(
                f"genotypes {source}: expected the bed file, found its {companion[1:]} file; give "
                f"{Path(source).with_suffix('.bed')}"
            )
    return max((suffix for suffix in READERS if name.endswith(suffix)), key=len, default=None)
