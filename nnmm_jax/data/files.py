"""Files of tables: csv, tsv, txt and parquet, read by Arrow, and the three tables of a folder."""

import csv
import gzip
import re
from collections import Counter
from pathlib import Path
from typing import IO, Any, cast

import pandas as pd
import pyarrow as pa
import pyarrow.csv as arrow_csv
import pyarrow.parquet as parquet

from nnmm_jax.data.capacity import check_fits
from nnmm_jax.errors import InputError, shortlist

TEXT_SUFFIXES = (".csv", ".tsv", ".txt")
SUFFIXES = (".parquet", *TEXT_SUFFIXES, *(f"{suffix}.gz" for suffix in TEXT_SUFFIXES))

# Files of genotypes that are no tables.
MARKER_SUFFIXES = (".bed", ".vcf", ".vcf.gz", ".vcf.bgz", ".bcf", ".zarr")

# What Arrow and pandas take as missing, a blank cell, and the "." of animal-breeding programs.
MISSING = sorted({*arrow_csv.ConvertOptions().null_values, " ", ".", "None", "<NA>"})

# One block must hold the longest row; many small blocks of a wide table cost more than the parsing.
BLOCK_BYTES = 1 << 26

# Integers and booleans with holes stay what they are instead of turning into decimals or objects.
NULLABLE = {
    pa.int8(): pd.Int8Dtype(),
    pa.int16(): pd.Int16Dtype(),
    pa.int32(): pd.Int32Dtype(),
    pa.int64(): pd.Int64Dtype(),
    pa.uint8(): pd.UInt8Dtype(),
    pa.uint16(): pd.UInt16Dtype(),
    pa.uint32(): pd.UInt32Dtype(),
    pa.uint64(): pd.UInt64Dtype(),
    pa.bool_(): pd.BooleanDtype(),
}


def find_dataset_files(folder: str | Path) -> dict[str, Path | None]:
    """The three tables of a folder, for :func:`read_dataset`.

    Parameters
    ----------
    folder
        Holds ``genotypes.*``, ``phenotypes.*`` and, unless the middle layer is latent, ``omics.*``,
        each csv, tsv or txt (also with ``.gz``) or parquet; genotypes also PLINK's bed, VCF or
        zarr.

    Returns
    -------
    dict
        Paths under the keys genotypes, omics and phenotypes; omics is None when there is none.

    Raises
    ------
    InputError
        There is no such folder, genotypes or phenotypes are missing, or a table is there twice.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for name in ("genotypes.parquet", "phenotypes.csv"):
    ...         Path(folder, name).touch()
    ...     files = find_dataset_files(folder)
    >>> files["phenotypes"].name, files["omics"]
    ('phenotypes.csv', None)
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"data {folder}: expected a folder, found none there; check the path")
    files: dict[str, Path | None] = {}
    for table in ("genotypes", "omics", "phenotypes"):
        endings = (*MARKER_SUFFIXES, *SUFFIXES) if table == "genotypes" else SUFFIXES
        # A zarr store is a folder.
        found = [
            path
            for suffix in endings
            if (path := folder / f"{table}{suffix}").is_file()
            or (suffix == ".zarr" and path.is_dir())
        ]
        if len(found) > 1:
            raise InputError(
                f"data {folder}: expected one file of {table}, found "
                f"{shortlist(path.name for path in found)}; remove the others"
            )
        if not found and table != "omics":
            raise InputError(
                f"data {folder}: expected a file {table} ending in {', '.join(endings)}, found "
                "none; check the folder"
            )
        files[table] = found[0] if found else None
    return files


def check_file(path: Path, name: str, *, folder: bool = False) -> None:
    """Raise unless there is such a file, or such a folder."""
    try:
        is_folder, exists = path.is_dir(), path.exists()
    except (OSError, ValueError) as error:  # a name that is too long, or has a null byte
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"{name}: expected a file, found {reason}; check the path") from error
    if not exists:
        raise InputError(f"{name}: expected a file, found nothing there; check the path")
    if is_folder != folder:
        kinds = ("file", "folder") if is_folder else ("folder", "file")
        raise InputError(
            f"{name}: expected a {kinds[0]}, found a {kinds[1]}; give the path of the {kinds[0]}"
        )


def read_file(
    path: Path,
    name: str,
    id_column: str | None,
    small_integers: bool,
    text_columns: bool | tuple[str, ...] = (),
    endings: tuple[str, ...] = SUFFIXES,
) -> pd.DataFrame:
    """One file as pandas would have it, before anything is known about ids."""
    check_file(path, name)
    if not path.name.lower().endswith(SUFFIXES):
        raise InputError(
            f"{name}: expected a file ending in {', '.join(endings)}, found '{path.suffix}'; "
            "convert or rename it"
        )
    try:
        if path.suffix.lower() == ".parquet":
            file = parquet.ParquetFile(path)
            check_fits(file.metadata.num_rows, file.metadata.num_columns, name)
            table = file.read()
        else:
            table = _read_text(path, name, id_column, small_integers, text_columns)
        column_names([c for c in table.column_names if not c.startswith("__index_level_")], name)
        table = _plain_types(table, name)
        # pandas holds each nullable column apart, which is slow for a wide table without need.
        holes = any(column.null_count and column.type in NULLABLE for column in table.columns)
        return table.to_pandas(types_mapper=NULLABLE.get if holes else None)
    except InputError:
        raise
    except Exception as error:  # of many classes: Arrow's, gzip's, those of pandas' metadata
        reason = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
        raise InputError(
            f"{name}: expected a readable table, found {reason}; check that the file is complete "
            "and in UTF-8 and that every row has as many values as the header"
        ) from error


def _read_text(
    path: Path,
    name: str,
    id_column: str | None,
    small_integers: bool,
    text_columns: bool | tuple[str, ...],
) -> pa.Table:
    """A delimited file; Arrow's reader, unlike pandas', refuses rows that are too short."""
    with _open_text(path) as handle:
        first_line = next((line for line in handle if line.strip()), "")
    if not first_line:
        raise InputError(f"{name}: expected a header and rows, found an empty file; check it")
    delimiter, source = _delimiter(path, first_line), cast(Any, path)
    if delimiter is None:
        delimiter = "\t"
        first_line = re.sub(r"[ ]+", delimiter, first_line.strip())
        with _open_text(path) as handle:
            text = re.sub(r"[ ]+", delimiter, re.sub(r"(?m)^ +| +$", "", handle.read()))
        source = pa.py_buffer(text.encode())
    header = next(csv.reader([first_line.rstrip("\r\n")], delimiter=delimiter))
    names = column_names(header, name)
    if len(names) == 1:
        raise InputError(
            f"{name}: expected an id column and others, found the one column '{names[0][:60]}'; "
            "separate columns by commas in csv and by tabs in tsv and txt"
        )
    position = names.index(id_column) if id_column in names else 0
    as_text = names if text_columns is True else text_columns or ()
    ids = {
        column: pa.string()
        for j, column in enumerate(header)
        if j == position or names[j] in as_text
    }
    if small_integers:
        try:
            return _arrow_csv(source, delimiter, dict.fromkeys(header, pa.int8()) | ids)
        except pa.ArrowInvalid:
            pass  # decimals, text or a broken file: let the general reading decide which
    return _arrow_csv(source, delimiter, ids)


def _arrow_csv(source: Any, delimiter: str, types: dict[str, pa.DataType]) -> pa.Table:
    if not isinstance(source, Path):
        source = pa.BufferReader(source)
    return arrow_csv.read_csv(
        source,
        read_options=arrow_csv.ReadOptions(block_size=BLOCK_BYTES),
        parse_options=arrow_csv.ParseOptions(delimiter=delimiter),
        convert_options=arrow_csv.ConvertOptions(
            column_types=types, null_values=MISSING, strings_can_be_null=True
        ),
    )


def _open_text(path: Path) -> IO[str]:
    if path.suffix.lower() == ".gz":
        return cast(IO[str], gzip.open(path, "rt", encoding="utf-8-sig"))
    return path.open(encoding="utf-8-sig")


def _delimiter(path: Path, header: str) -> str | None:
    """Character between columns, None for runs of blanks."""
    if ".csv" in path.suffixes[-2:]:
        return ","
    return next((mark for mark in "\t," if mark in header), None)


def _plain_types(table: pa.Table, name: str) -> pa.Table:
    """Dates as text (they are labels here), decimals as floats; nested and binary refused."""
    for position, field in enumerate(table.schema):
        if pa.types.is_temporal(field.type):
            replacement = table.column(position).cast(pa.string())
        elif pa.types.is_decimal(field.type):
            replacement = table.column(position).cast(pa.float64())
        elif pa.types.is_nested(field.type) or pa.types.is_binary(field.type):
            raise InputError(
                f"{name}: expected numbers or UTF-8 text in column '{field.name}', found "
                f"{field.type}; convert or remove the column"
            )
        else:
            continue
        table = table.set_column(position, field.name, replacement)
    return table


def column_names(columns: list[Any], name: str) -> list[str]:
    """Column names as text without blanks around them, each there and there once."""
    names = [str(column).strip() for column in columns]
    repeated = [column for column, times in Counter(names).items() if times > 1]
    if repeated:
        raise InputError(
            f"{name}: expected every column name once, found {shortlist(repeated)} more than "
            "once; rename or remove columns"
        )
    # The id column may be nameless, as R and pandas write row names.
    if "" in names[1:]:
        raise InputError(
            f"{name}: expected a name for every column, found none for column "
            f"{names.index('', 1) + 1}; name it or remove trailing separators"
        )
    return names
