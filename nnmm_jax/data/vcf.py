"""VCF files, read by htslib: genotypes (GT) and dosages (DS)."""

import gzip
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from nnmm_jax.data.capacity import check_fits
from nnmm_jax.data.dosages import (
    MARKERS_PER_SLICE,
    PLACE_COLUMNS,
    Dosages,
    check_range,
    checked_names,
    compact,
    joined,
)
from nnmm_jax.data.extras import needed
from nnmm_jax.data.plink import place_name
from nnmm_jax.errors import InputError

# A bar for files that take more than some seconds.
BAR_BYTES = 1 << 26

# What stands for an allele without being one.
_NO_ALLELE = (".", "*", "<*>")

# Columns before those of the samples.
_COLUMNS = 9

# Levels of htslib's own messages on standard error.
_SILENT, _USUAL = 0, 3

# The empty block that ends a file of bgzip (SAM specification, section 4.1.2).
_LAST_BLOCK = bytes.fromhex("1f8b08040000000000ff0600424302001b0003000000000000000000")


def read_vcf(path: Path, source: str, *, progress: bool = False) -> Dosages:
    """Read a VCF file, plain or compressed.

    A record gives the dosages DS of the alternative allele if it has them, else its copies in the
    genotypes GT. A genotype with an allele missing is missing.

    Parameters
    ----------
    path
        ``.vcf``, ``.vcf.gz``, ``.vcf.bgz`` or ``.bcf``.
    source
        What it is, for messages.
    progress
        Whether to show a bar on standard error for large files.

    Returns
    -------
    Dosages
        Copies of the alternative allele, int8 if all are whole. A record without ID is called by
        its place, see :func:`nnmm_jax.data.plink.place_name`.

    Raises
    ------
    InputError
        The file is no VCF, cut or malformed; a record has not one alternative allele, neither GT
        nor DS, or genotypes that are not diploid; a sample or an ID is there twice; the genotypes
        do not fit into memory.

    References
    ----------
    Pedersen & Quinlan 2017, Bioinformatics 33:1867 (cyvcf2).

    Examples
    --------
    >>> from pathlib import Path
    >>> read_vcf(Path("genotypes.vcf.gz"), "genotypes genotypes.vcf.gz")  # doctest: +SKIP
    """
    cyvcf2 = needed("cyvcf2", source)
    _check_complete(path, source)
    # Its messages would stand beside the one line that says what is wrong.
    cyvcf2.cyvcf2.set_htslib_log_level(_SILENT)
    try:
        reader = _opened(cyvcf2, path, source)
        try:
            return _read(reader, source, progress and path.stat().st_size > BAR_BYTES)
        finally:
            reader.close()
    finally:
        cyvcf2.cyvcf2.set_htslib_log_level(_USUAL)


def _opened(cyvcf2: Any, path: Path, source: str) -> Any:
    try:
        reader = cyvcf2.VCF(str(path))
        samples = list(reader.samples)
    except Exception as error:  # htslib's errors have no class of their own
        raise InputError(
            f"{source}: expected a VCF file, found {_reason(error)}; check that it has a header, a "
            "line #CHROM and every sample once"
        ) from error
    try:
        if not samples:
            raise InputError(
                f"{source}: expected samples, found none in the header; check the file"
            )
        if path.suffix.lower() != ".bcf":
            _check_rows(path, len(samples), source)
    except InputError:
        reader.close()
        raise
    return reader


def _read(reader: Any, source: str, progress: bool) -> Dosages:
    ids = checked_names(reader.samples, "id", "individual", source)
    parts: list[np.ndarray] = []
    rows: list[np.ndarray] = []
    names: list[str] = []
    places: list[tuple[str, int, str, str]] = []
    with tqdm(unit="marker", desc="genotypes", disable=not progress) as bar:
        for name, place, dosages in _records(reader, ids, source):
            names.append(name)
            places.append(place)
            rows.append(dosages)
            if len(rows) == MARKERS_PER_SLICE:
                parts.append(compact(np.stack(rows, axis=1)))
                rows = []
                check_fits(len(ids), 2 * len(names), source, bytes_each=parts[-1].itemsize)
                bar.update(MARKERS_PER_SLICE)
    if rows:
        parts.append(compact(np.stack(rows, axis=1)))
    if not parts:
        raise InputError(f"{source}: expected markers, found none after the header; check the file")
    table = pd.DataFrame(places, columns=list(PLACE_COLUMNS))
    markers = checked_names(names, "name", "marker", source)
    return Dosages(joined(parts), ids, markers, table)


def _records(
    reader: Any, ids: tuple[str, ...], source: str
) -> Iterator[tuple[str, tuple[str, int, str, str], np.ndarray]]:
    """Name, place and dosages of each record."""
    where = "the first record"
    records = iter(reader)
    while True:
        try:
            record = next(records)
            found = _of_record(record, ids, source)
            where = f"the record after {record.CHROM}:{record.POS}"
        except StopIteration:
            return
        except InputError:
            raise
        except Exception as error:  # htslib's errors have no class of their own
            raise InputError(
                f"{source}: expected records as the header says, found {_reason(error)} at "
                f"{where}; correct it (bcftools view tells more)"
            ) from error
        yield found


def _of_record(
    record: Any, ids: tuple[str, ...], source: str
) -> tuple[str, tuple[str, int, str, str], np.ndarray]:
    here = f"{record.CHROM}:{record.POS}"
    if len(record.ALT) != 1 or record.ALT[0] in _NO_ALLELE:
        raise InputError(
            f"{source}: expected one alternative allele, found {','.join(record.ALT) or 'none'} at "
            f"{here}; split or remove such records, for instance by bcftools norm -m- or bcftools "
            "view -m2 -M2"
        )
    counted = record.ALT[0]
    name = record.ID or place_name(record.CHROM, record.POS, record.REF, counted)
    dosages = _dosages(record, here, source)
    check_range(dosages[:, None], ids, [name], source)
    return name, (record.CHROM, record.POS, counted, record.REF), dosages


def _dosages(record: Any, here: str, source: str) -> np.ndarray:
    """(individual,) float64, NaN for missing."""
    formats = record.FORMAT or []
    if "DS" in formats:
        values = np.asarray(record.format("DS"))
        if values.dtype.kind != "f" or values.shape[1] != 1:
            raise InputError(
                f"{source}: expected one decimal number DS for each individual, found another "
                f"type or number at {here}; correct the header line of DS"
            )
        return values[:, 0].astype(np.float64)
    if "GT" not in formats:
        raise InputError(
            f"{source}: expected genotypes GT or dosages DS, found neither at {here}; keep one of "
            "them in the file"
        )
    alleles = np.asarray(record.genotype.array())[:, :-1]  # the last column says whether phased
    if alleles.shape[1] != 2 or (alleles == -2).any():
        raise InputError(
            f"{source}: expected two alleles for each individual, found another number at {here}; "
            "leave out haploid and polyploid records"
        )
    if alleles.max() > 1:
        raise InputError(
            f"{source}: expected alleles 0 and 1, found {alleles.max()} at {here}, which has one "
            "alternative allele; correct the genotype"
        )
    counts = alleles.sum(axis=1).astype(np.float64)
    counts[(alleles < 0).any(axis=1)] = np.nan
    return counts


def _check_complete(path: Path, source: str) -> None:
    """Raise if a compressed file lacks its last block, which htslib passes over in silence."""
    with path.open("rb") as handle:
        start = handle.read(18)
        is_blocked = start[:4] == b"\x1f\x8b\x08\x04" and start[12:14] == b"BC"
        if not is_blocked:
            return
        handle.seek(-min(28, path.stat().st_size), 2)
        if handle.read() != _LAST_BLOCK:
            raise InputError(
                f"{source}: expected the end mark of a compressed file, found none; the file is "
                "cut, copy or make it anew"
            )


def _check_rows(path: Path, samples: int, source: str) -> None:
    """Raise if a row is longer than the header, which htslib passes over in silence, or cut."""
    columns = _COLUMNS + samples
    is_plain = path.suffix.lower() == ".vcf"
    try:
        with path.open("rb") if is_plain else gzip.open(path) as handle:
            for number, line in enumerate(handle, start=1):
                if line.startswith(b"#") or not line.strip():
                    continue
                if (found := line.count(b"\t") + 1) > columns:
                    raise InputError(
                        f"{source}: expected {columns} columns as in the header, found {found} in "
                        f"line {number}; correct it"
                    )
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise InputError(
            f"{source}: expected a complete compressed file, found {_reason(error)}; copy or make "
            "it anew"
        ) from error


def _reason(error: Exception) -> str:
    """What htslib says, in a line."""
    lines = str(error).strip().splitlines()
    return (lines[0] if lines else type(error).__name__)[:120]
