"""VCF Zarr: what sgkit and bio2zarr make of VCF files."""

from typing import Any

import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from nnmm_jax.data.capacity import check_fits
from nnmm_jax.data.dosages import (
    PLACE_COLUMNS,
    Dosages,
    check_range,
    checked_names,
    compact,
    joined,
)
from nnmm_jax.data.plink import BAR_CELLS, BLOCK_BYTES, place_name
from nnmm_jax.errors import InputError, shortlist

GENOTYPES, DOSES = "call_genotype", "call_DS"
NAMED = (
    "sample_id",
    "contig_id",
    "variant_contig",
    "variant_position",
    "variant_allele",
)


def is_vcf_zarr(group: Any) -> bool:
    """Whether a zarr group has the arrays of a VCF."""
    return GENOTYPES in group or DOSES in group


def read_vcf_zarr(group: Any, source: str, *, progress: bool = False) -> Dosages:
    """Read the genotypes of a VCF that was stored as zarr, as :func:`nnmm_jax.data.vcf.read_vcf`.

    Parameters
    ----------
    group
        An open zarr group.
    source
        What it is, for messages.
    progress
        Whether to show a bar on standard error for large stores.

    Returns
    -------
    Dosages
        Copies of the alternative allele: ``call_DS`` where a record has any, else
        ``call_genotype``.

    Raises
    ------
    InputError
        An array lacks or is of another shape; a record has not one alternative allele or is not
        diploid; a sample or a record is there twice; the genotypes do not fit into memory.

    References
    ----------
    Czech et al. 2025, GigaScience 14:giaf049 (VCF Zarr).

    Examples
    --------
    >>> read_vcf_zarr(zarr.open_group("genotypes.zarr"), "genotypes")  # doctest: +SKIP
    """
    arrays = {
        name: group[name] for name in (*NAMED, GENOTYPES, DOSES, "variant_id") if name in group
    }
    if lacking := [name for name in NAMED if name not in arrays]:
        raise InputError(
            f"{source}: expected the arrays {', '.join(NAMED)} of a VCF, found none of "
            f"{shortlist(lacking)}; make the store anew"
        )
    _check_shapes(arrays, source)
    ids = checked_names(arrays["sample_id"][:].tolist(), "id", "individual", source)
    places = _places(arrays, source)
    names = arrays["variant_id"][:].tolist() if "variant_id" in arrays else ["."] * len(places)
    markers = checked_names(
        [
            place_name(place.chromosome, place.position, place.other, place.counted)
            if name in ("", ".")
            else name
            for name, place in zip(names, places.itertuples(), strict=True)
        ],
        "name",
        "marker",
        source,
    )
    check_fits(len(ids), 2 * len(markers), source, bytes_each=4 if DOSES in arrays else 1)
    return Dosages(_codes(arrays, ids, markers, source, progress), ids, markers, places)


def _codes(
    arrays: dict[str, Any],
    ids: tuple[str, ...],
    markers: tuple[str, ...],
    source: str,
    progress: bool,
) -> np.ndarray:
    width = max(array.chunks[0] for name, array in arrays.items() if name in (GENOTYPES, DOSES))
    step = max(1, BLOCK_BYTES // (8 * len(ids) * width)) * width
    parts = []
    bar = tqdm(
        total=len(markers),
        unit="marker",
        desc="genotypes",
        disable=not progress or len(ids) * len(markers) < BAR_CELLS,
    )
    with bar:
        for start in range(0, len(markers), step):
            part = slice(start, min(start + step, len(markers)))
            dosages = _dosages(arrays, part, markers, source).T
            check_range(dosages, ids, markers[part], source)
            parts.append(compact(dosages))
            bar.update(dosages.shape[1])
    return joined(parts)


def _dosages(
    arrays: dict[str, Any], part: slice, markers: tuple[str, ...], source: str
) -> np.ndarray:
    """(record, individual) of some records, NaN for missing."""
    doses = arrays[DOSES][part].astype(np.float64) if DOSES in arrays else None
    if GENOTYPES not in arrays:
        return np.asarray(doses)
    alleles = np.asarray(arrays[GENOTYPES][part])
    wrong = (alleles < -1) | (alleles > 1)
    if wrong.any():
        record = int(np.argwhere(wrong)[0, 0])
        raise InputError(
            f"{source}: expected two alleles 0 or 1 for each individual, found "
            f"{alleles[wrong][0]} (-2: none) for marker '{markers[part][record]}'; leave out "
            "haploid records, and correct alleles that are not there"
        )
    counts = alleles.sum(axis=2).astype(np.float64)
    counts[(alleles < 0).any(axis=2)] = np.nan
    if doses is None:
        return counts
    return np.where(np.isnan(doses).all(axis=1, keepdims=True), counts, doses)


def _places(arrays: dict[str, Any], source: str) -> pd.DataFrame:
    alleles = np.asarray(arrays["variant_allele"][:]).astype(str)
    contigs = np.asarray(arrays["contig_id"][:]).astype(str)
    codes = np.asarray(arrays["variant_contig"][:])
    if ((codes < 0) | (codes >= len(contigs))).any():
        raise InputError(
            f"{source}: expected contigs 0 to {len(contigs) - 1} in variant_contig, found others; "
            "make the store anew"
        )
    positions = np.asarray(arrays["variant_position"][:])
    present = (alleles != "") & (alleles != ".")
    several = np.flatnonzero(present.sum(axis=1) != 2)
    if len(several):
        first = several[0]
        raise InputError(
            f"{source}: expected one alternative allele, found "
            f"{','.join(alleles[first, 1:][present[first, 1:]]) or 'none'} at "
            f"{contigs[codes[first]]}:{positions[first]}; split or remove such records, for "
            "instance by bcftools norm -m-"
        )
    columns = (contigs[codes], positions, alleles[:, 1], alleles[:, 0])
    return pd.DataFrame(dict(zip(PLACE_COLUMNS, columns, strict=True)))


def _check_shapes(arrays: dict[str, Any], source: str) -> None:
    records, samples = arrays["variant_position"].shape[0], arrays["sample_id"].shape[0]
    found = {name: arrays[name].shape for name in arrays if name != "contig_id"}
    expected = {
        "sample_id": (samples,),
        "variant_contig": (records,),
        "variant_position": (records,),
        "variant_id": (records,),
        "variant_allele": (records, *found["variant_allele"][1:2]),
        GENOTYPES: (records, samples, 2),
        DOSES: (records, samples),
    }
    for name, shape in found.items():
        if shape != expected[name] or not all(shape):
            raise InputError(
                f"{source}: expected shape {expected[name]} of the array '{name}', found {shape}; "
                "make the store anew, of diploid records"
            )
