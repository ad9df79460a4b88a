"""PLINK 1 files: bed, bim and fam."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from nnmm_jax.data.capacity import check_fits
from nnmm_jax.data.dosages import MISSING_CODE, PLACE_COLUMNS, Dosages, checked_names
from nnmm_jax.data.extras import needed
from nnmm_jax.errors import InputError

MAGIC = b"\x6c\x1b\x01"

# Markers read at a time; a block is at most so many bytes.
BLOCK_BYTES = 1 << 26

# A bar for what takes more than some seconds.
BAR_CELLS = 1 << 28

# How the library marks a missing genotype in int8.
_BED_MISSING = -127

# Alleles of markers whose alleles are not known: B is counted.
UNKNOWN_ALLELES = ("B", "A")


def read_bed(path: Path, source: str, *, progress: bool = False) -> Dosages:
    """Read genotypes in pieces, straight into one byte each.

    Parameters
    ----------
    path
        The bed file; bim and fam, of the same name, are beside it.
    source
        What it is, for messages.
    progress
        Whether to show a bar on standard error for large files.

    Returns
    -------
    Dosages
        Copies of allele 1 (A1, the fifth column of the bim file). The id is the second column of
        the fam file (IID); a marker without a name is called by its place, see
        :func:`place_name`.

    Raises
    ------
    InputError
        A file lacks, is cut or malformed; the three disagree; an individual or a marker is there
        twice; the genotypes do not fit into memory.

    References
    ----------
    Chang et al. 2015, GigaScience 4:7; https://www.cog-genomics.org/plink/1.9/formats

    Examples
    --------
    >>> from pathlib import Path
    >>> read_bed(Path("genotypes.bed"), "genotypes genotypes.bed")  # doctest: +SKIP
    """
    bed_reader = needed("bed_reader", source)
    people = _columns(path.with_suffix(".fam"), source, "individual")
    places = read_bim(path.with_suffix(".bim"), source)
    ids = checked_names([row[1] for row in people], "id", "individual", source)
    markers = checked_names(places.pop("marker").tolist(), "name", "marker", source)
    check_bed_size(path, len(ids), len(markers), source)
    check_fits(len(ids), len(markers), source)
    codes = np.empty((len(ids), len(markers)), dtype=np.int8)
    step = max(1, BLOCK_BYTES // len(ids))
    bar = tqdm(
        total=len(markers),
        unit="marker",
        desc="genotypes",
        disable=not progress or codes.size < BAR_CELLS,
    )
    with bar, bed_reader.open_bed(path, iid_count=len(ids), sid_count=len(markers)) as bed:
        for start in range(0, len(markers), step):
            part = slice(start, min(start + step, len(markers)))
            block = codes[:, part]
            block[:] = bed.read(index=np.s_[:, part], dtype="int8")
            block[block == _BED_MISSING] = MISSING_CODE
            bar.update(block.shape[1])
    return Dosages(codes, ids, markers, places)


def read_bim(path: Path, source: str) -> pd.DataFrame:
    """Read the markers of a bim file.

    Parameters
    ----------
    path
        The bim file: chromosome, name, centimorgans, position, allele 1, allele 2.
    source
        What it is, for messages.

    Returns
    -------
    pandas.DataFrame
        marker, chromosome, position, counted, other; one row a marker.

    Raises
    ------
    InputError
        It is not there, not readable, or a line has not six columns or no whole position.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "g.bim"
    ...     _ = path.write_text("1 snp1 0 1200 G A")
    ...     read_bim(path, "genotypes")["position"].tolist()
    [1200]
    """
    rows = _columns(path, source, "marker")
    positions = []
    for line, row in enumerate(rows, start=1):
        try:
            positions.append(int(row[3]))
        except ValueError as error:
            raise InputError(
                f"{source}: expected a position in whole base pairs, found '{row[3]}' in {path}, "
                f"line {line}; correct it, or make it 0 where it is not known"
            ) from error
        if row[4] == row[5] != "0":
            raise InputError(
                f"{source}: expected two different alleles, found '{row[4]}' twice in {path}, line "
                f"{line} (marker '{row[1]}'); correct them"
            )
    names = [
        row[1] if row[1] != "." else place_name(row[0], row[3], row[5], row[4]) for row in rows
    ]
    chromosomes, _, _, _, counted, other = zip(*rows, strict=True)
    columns = (names, chromosomes, positions, counted, other)
    return pd.DataFrame(dict(zip(("marker", *PLACE_COLUMNS), columns, strict=True)))


def place_name(chromosome: str, position: object, other: str, counted: str) -> str:
    """Name of a marker that has none: its place and alleles, ``1:1200:A:G`` (G is counted)."""
    return f"{chromosome}:{position}:{other}:{counted}"


def check_bed_size(path: Path, individuals: int, markers: int, source: str) -> None:
    """Raise unless a bed file is one, with as many genotypes as bim and fam say."""
    with path.open("rb") as handle:
        start = handle.read(3)
    if start[:2] != MAGIC[:2]:
        raise InputError(
            f"{source}: expected a PLINK 1 bed file, found other first bytes ({start.hex(' ')}); "
            "check the file, or make one with plink --make-bed"
        )
    if start != MAGIC:
        raise InputError(
            f"{source}: expected a bed file in the order of markers, found one in the order of "
            "individuals; write it anew with plink --make-bed"
        )
    found, bytes_each = path.stat().st_size, (individuals + 3) // 4
    expected = len(MAGIC) + markers * bytes_each
    if found != expected:
        raise InputError(
            f"{source}: expected {expected} bytes for the {individuals} individuals of the fam and "
            f"the {markers} markers of the bim file, found {found}; the file is "
            f"{'cut' if found < expected else 'too long'}, or bim and fam are of another file"
        )


def _columns(path: Path, source: str, what: str) -> list[list[str]]:
    """Lines of a bim or fam file, six columns each."""
    if not path.is_file():
        raise InputError(
            f"{source}: expected {path} with its {what}s beside it, found none; put the three "
            "files bed, bim and fam into one folder"
        )
    rows = []
    try:
        with path.open(encoding="utf-8-sig") as handle:
            for line, text in enumerate(handle, start=1):
                row = text.split()
                if len(row) != 6:
                    raise InputError(
                        f"{source}: expected six columns, found {len(row)} in {path}, line {line}; "
                        f"correct the {what}"
                    )
                rows.append(row)
    except UnicodeDecodeError as error:
        raise InputError(
            f"{source}: expected text in UTF-8, found other bytes in {path} ({error.reason} at "
            f"byte {error.start}); check the file"
        ) from error
    if not rows:
        raise InputError(f"{source}: expected {what}s, found none in {path}; check the file")
    return rows


def write_bed(dosages: Dosages, path: Path, source: str) -> None:
    """Write genotypes as bed, bim and fam, marker by marker.

    Parameters
    ----------
    dosages
        Counts; see :class:`Dosages`. Alleles that are not known become B, the counted one, and A;
        unknown chromosomes and positions 0.
    path
        The bed file; bim and fam are put beside it.
    source
        What it is, for messages.

    Raises
    ------
    InputError
        Dosages have decimals; an id or a name has blanks, which separate columns there.

    Examples
    --------
    >>> from pathlib import Path
    >>> write_bed(dosages, Path("genotypes.bed"), "convert")  # doctest: +SKIP
    """
    bed_reader = needed("bed_reader", source)
    if dosages.codes.dtype != np.int8:
        raise InputError(
            f"{source}: expected counts 0, 1 and 2, which a bed file holds, found decimals; write "
            "parquet, csv or zarr"
        )
    for names, what in ((dosages.ids, "ids"), (dosages.markers, "names of markers")):
        if blank := [name for name in names if len(name.split()) != 1]:
            raise InputError(
                f"{source}: expected {what} without blanks, which separate columns in bim and fam "
                f"files, found '{blank[0]}'; rename, or write parquet, csv or zarr"
            )
    writer = bed_reader.create_bed(
        path,
        iid_count=len(dosages.ids),
        sid_count=len(dosages.markers),
        properties=_properties(dosages),
    )
    with writer:
        for column in _marker_columns(dosages.codes):
            column[column == MISSING_CODE] = _BED_MISSING
            writer.write(column)


def _properties(dosages: Dosages) -> dict[str, list[object]]:
    """What bim and fam say."""
    count = len(dosages.markers)
    known: dict[str, list[object]] = {
        "fid": ["0"] * len(dosages.ids),
        "iid": list(dosages.ids),
        "sid": list(dosages.markers),
        "allele_1": [UNKNOWN_ALLELES[0]] * count,
        "allele_2": [UNKNOWN_ALLELES[1]] * count,
    }
    if dosages.places is not None:
        names = ("chromosome", "bp_position", "allele_1", "allele_2")
        columns = (dosages.places[column].tolist() for column in PLACE_COLUMNS)
        known |= dict(zip(names, columns, strict=True))
    return known


def _marker_columns(codes: np.ndarray) -> Iterator[np.ndarray]:
    """Columns of a row-wise array, copied some at a time."""
    step = max(1, BLOCK_BYTES // len(codes))
    for start in range(0, codes.shape[1], step):
        yield from np.ascontiguousarray(codes[:, start : start + step].T)
