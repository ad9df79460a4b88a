"""Genotypes in zarr: chunked and compressed, read and written a block of markers at a time."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from nnmm_jax.data.blosc_chunks import check_blosc_chunks
from nnmm_jax.data.capacity import check_fits
from nnmm_jax.data.dosages import (
    MISSING_CODE,
    PLACE_COLUMNS,
    Dosages,
    check_range,
    checked_names,
    compact,
    missing_cells,
    slices,
)
from nnmm_jax.data.extras import needed
from nnmm_jax.data.plink import BAR_CELLS, BLOCK_BYTES
from nnmm_jax.data.vcf_zarr import DOSES, GENOTYPES, is_vcf_zarr, read_vcf_zarr
from nnmm_jax.errors import InputError, shortlist

ARRAYS = ("dosage", "id", "marker")

# Individuals x markers of a chunk.
CHUNK = (1024, 1024)


def read_zarr(path: Path, source: str, *, progress: bool = False) -> Dosages:
    """Read a store that :func:`write_zarr` wrote, one like it, or VCF Zarr.

    Parameters
    ----------
    path
        Folder with the arrays ``dosage`` (individual, marker), int8 with -1 for missing or decimals
        with NaN, ``id`` and ``marker``; ``chromosome``, ``position``, ``counted`` and ``other``
        allele may be beside them. Or VCF Zarr, see :func:`nnmm_jax.data.vcf_zarr.read_vcf_zarr`.
    source
        What it is, for messages.
    progress
        Whether to show a bar on standard error for large stores.

    Returns
    -------
    Dosages
        int8 if all dosages are whole, else float32.

    Raises
    ------
    InputError
        It is no zarr store, lacks an array, is cut or has one of another shape or type; a dosage is
        outside 0..2; an id or a marker is there twice; the genotypes do not fit into memory.

    Examples
    --------
    >>> from pathlib import Path
    >>> read_zarr(Path("genotypes.zarr"), "genotypes genotypes.zarr")  # doctest: +SKIP
    """
    zarr = needed("zarr", source)
    _check_plain(path, source)
    try:
        check_blosc_chunks(path, source)
        group = zarr.open_group(path, mode="r", use_consolidated=False)
        if is_vcf_zarr(group):
            # Of the others, such as contigs, a chunk that is all 0 is often not written.
            calls = (GENOTYPES, DOSES)
            _check_chunks({name: group[name] for name in calls if name in group}, source)
            return read_vcf_zarr(group, source, progress=progress)
        found = {name: group[name] for name in (*ARRAYS, *PLACE_COLUMNS) if name in group}
    except InputError:
        raise
    except Exception as error:  # of many classes: missing or malformed JSON, unknown codecs
        raise _unreadable(error, source) from error
    if lacking := [name for name in ARRAYS if name not in found]:
        raise InputError(
            f"{source}: expected the arrays {', '.join(ARRAYS)}, found none of "
            f"{shortlist(lacking)}; write the store by nnmm convert"
        )
    _check_shapes(found, source)
    individuals, markers = found["dosage"].shape
    decimal = found["dosage"].dtype.kind == "f"
    check_fits(individuals, markers, source, bytes_each=4 if decimal else 1)
    try:
        _check_chunks(found, source)
        names = {name: found[name][:].tolist() for name in found if name != "dosage"}
        ids = checked_names(names["id"], "id", "individual", source)
        columns = checked_names(names["marker"], "name", "marker", source)
        codes = _codes(found["dosage"], ids, columns, source, progress)
    except InputError:
        raise
    except Exception as error:  # a chunk that is cut or of another codec
        raise _unreadable(error, source) from error
    return Dosages(codes, ids, columns, _places(names))


def write_zarr(dosages: Dosages, path: Path, source: str) -> None:
    """Write genotypes as a zarr store (format 2) that xarray opens too.

    Parameters
    ----------
    dosages
        See :class:`Dosages`.
    path
        Folder to make.
    source
        What it is, for messages.

    Examples
    --------
    >>> from pathlib import Path
    >>> write_zarr(dosages, Path("genotypes.zarr"), "convert")  # doctest: +SKIP
    """
    zarr, numcodecs = needed("zarr", source), needed("numcodecs", source)
    group = zarr.open_group(path, mode="w-", zarr_format=2)
    # Without a checksum a chunk that is cut or altered can be read as other genotypes.
    safely = {
        "compressors": numcodecs.Zstd(level=3, checksum=True),
        "config": {"write_empty_chunks": True},
    }
    codes = dosages.codes
    decimal = codes.dtype.kind == "f"
    array = group.create_array(
        "dosage",
        shape=codes.shape,
        chunks=tuple(min(most, size) for most, size in zip(CHUNK, codes.shape, strict=True)),
        dtype=codes.dtype,
        fill_value=np.nan if decimal else MISSING_CODE,
        attributes={"_ARRAY_DIMENSIONS": ["id", "marker"]},
        **safely,
    )
    for start in range(0, codes.shape[1], CHUNK[1]):
        array[:, start : start + CHUNK[1]] = codes[:, start : start + CHUNK[1]]
    named: dict[str, Any] = {"id": list(dosages.ids), "marker": list(dosages.markers)}
    if dosages.places is not None:
        named |= {name: dosages.places[name].tolist() for name in PLACE_COLUMNS}
    for name, values in named.items():
        dimension = "id" if name == "id" else "marker"
        group.create_array(
            name, data=np.asarray(values), attributes={"_ARRAY_DIMENSIONS": [dimension]}, **safely
        )


def _codes(
    array: Any, ids: tuple[str, ...], markers: tuple[str, ...], source: str, progress: bool
) -> np.ndarray:
    decimal = array.dtype.kind == "f"
    codes = np.empty(array.shape, dtype=np.float32 if decimal else np.int8)
    whole, width = True, array.chunks[1]
    step = max(1, BLOCK_BYTES // (len(ids) * width)) * width
    bar = tqdm(
        total=len(markers),
        unit="marker",
        desc="genotypes",
        disable=not progress or codes.size < BAR_CELLS,
    )
    with bar:
        for start in range(0, len(markers), step):
            part = slice(start, min(start + step, len(markers)))
            block = np.asarray(array[:, part])
            present = np.where(missing_cells(block), 0, block)
            check_range(present, ids, markers[part], source)
            codes[:, part] = block
            whole = whole and np.array_equal(present, present.astype(np.int8))
            bar.update(block.shape[1])
    if not (decimal and whole):
        return codes
    counts = np.empty(codes.shape, dtype=np.int8)
    for part in slices(len(markers)):
        counts[:, part] = compact(codes[:, part])
    return counts


def _check_plain(path: Path, source: str) -> None:
    """Raise if the store wants Python objects to be unpickled, which can run code."""
    for file in sorted(path.rglob(".z*")) + sorted(path.rglob("zarr.json")):
        if not file.is_file():
            continue
        try:
            text = json.dumps(json.loads(file.read_text(encoding="utf-8")))
        except (ValueError, RecursionError) as error:
            raise _unreadable(error, source) from error
        if '"pickle"' in text:
            raise InputError(
                f"{source}: expected numbers and text, found Python objects (pickle) in the "
                f"array '{file.parent.name}', which could run code; write the store without them"
            )


def _check_shapes(found: dict[str, Any], source: str) -> None:
    shape: tuple[int, ...] = getattr(found["dosage"], "shape", ())
    if len(shape) != 2 or found["dosage"].dtype.kind not in "if":
        raise InputError(
            f"{source}: expected an array 'dosage' of numbers (individual, marker), found "
            f"{getattr(found['dosage'], 'dtype', 'a group')} of shape {shape}; write the store by "
            "nnmm convert"
        )
    lengths = {"id": shape[0]} | dict.fromkeys(("marker", *PLACE_COLUMNS), shape[1])
    for name, array in found.items():
        if name != "dosage" and getattr(array, "shape", ()) != (lengths[name],):
            raise InputError(
                f"{source}: expected {lengths[name]} values in the array '{name}', found shape "
                f"{getattr(array, 'shape', ())}; write the store by nnmm convert"
            )
    if not all(shape):
        raise InputError(
            f"{source}: expected individuals and markers, found shape {shape}; check the store"
        )


def _check_chunks(found: dict[str, Any], source: str) -> None:
    """Raise if a file of the store lacks, which the library would read as missing genotypes."""
    for name, array in found.items():
        if array.nchunks_initialized < array.nchunks:
            raise InputError(
                f"{source}: expected {array.nchunks} chunks of the array '{name}', found "
                f"{array.nchunks_initialized}; the store is not complete, or "
                "empty chunks were left out; copy it anew, or write it with empty chunks"
            )


def _places(names: dict[str, list[Any]]) -> pd.DataFrame | None:
    if not all(name in names for name in PLACE_COLUMNS):
        return None
    return pd.DataFrame({name: names[name] for name in PLACE_COLUMNS})


def _unreadable(error: Exception, source: str) -> InputError:
    reason = " ".join(str(error).split())[:120] or type(error).__name__
    return InputError(
        f"{source}: expected a readable zarr store, found {reason}; check that it is complete"
    )
