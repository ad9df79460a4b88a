import gzip
import json
import re
import struct
import sys
import tracemalloc
import types
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import xarray as xr
import zarr

from nnmm_jax import Dosages, QualityControl, read_dataset
from nnmm_jax.data import capacity, find_dataset_files, plink, read_dosages, vcf, write_dosages
from nnmm_jax.data.genotypes import genotypes_of
from nnmm_jax.errors import InputError

IDS = tuple(f"i{i}" for i in range(9))
MARKERS = tuple(f"m{j}" for j in range(70))
VCF_HEAD = (
    "##fileformat=VCFv4.2\n##contig=<ID=1>\n"
    '##FORMAT=<ID=GT,Number=1,Type=String,Description="genotype">\n'
    '##FORMAT=<ID=DS,Number=1,Type=Float,Description="dosage">\n'
    "#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\tFORMAT\t"
)


def counts() -> np.ndarray:
    codes = np.random.default_rng(5).integers(-1, 3, (len(IDS), len(MARKERS))).astype(np.int8)
    codes[:2] = [[0], [2]]
    codes[:, 3] = 1  # constant: dropped by all
    return codes


def whole() -> Dosages:
    places = pd.DataFrame(
        {"chromosome": "1", "position": range(10, 80), "counted": "G", "other": "A"}
    )
    return Dosages(counts(), IDS, MARKERS, places)


def as_frame(codes: np.ndarray) -> pd.DataFrame:
    values = np.where(codes == -1, np.nan, codes) if codes.dtype == np.int8 else codes
    return pd.DataFrame(values, pd.Index(IDS, name="id"), MARKERS)


def vcf_text(codes: np.ndarray, kind: str) -> str:
    """Records of GT (phased or not), of DS, or of both, where GT says less."""
    spelled = {-1: ["./.", ".|.", "./1"], 0: ["0/0", "0|0"], 1: ["0/1", "1|0"], 2: ["1/1", "1|1"]}
    lines = [VCF_HEAD + "\t".join(IDS)]
    for j, name in enumerate(MARKERS):
        if kind == "GT":
            cells = [spelled[int(x)][j % len(spelled[int(x)])] for x in codes[:, j]]
        else:
            cells = ["." if x < 0 or np.isnan(x) else f"{x:g}" for x in codes[:, j]]
        if kind == "GT:DS":
            cells = [f"0/0:{cell}" for cell in cells]
        lines.append(f"1\t{10 + j}\t{name}\tA\tG\t.\t.\t.\t{kind}\t" + "\t".join(cells))
    return "\n".join(lines) + "\n"


def write_vcf_zarr(path: Path, codes: np.ndarray, *, doses: bool = False, **change: object) -> Path:
    """As bio2zarr does; `change` replaces arrays, None leaves one out."""
    group = zarr.open_group(path, mode="w", zarr_format=2)
    alleles = np.stack(
        [np.where(codes == 2, 1, np.minimum(codes, 0)), np.minimum(codes, 1)], axis=-1
    )
    arrays: dict[str, object] = {
        "sample_id": np.array(IDS),
        "contig_id": np.array(["0", "1"]),
        "variant_contig": np.ones(len(MARKERS), dtype=np.int8),
        "variant_position": np.arange(10, 80),
        "variant_allele": np.array([["A", "G", ""]] * len(MARKERS)),
        "variant_id": np.array(MARKERS),
        "call_genotype": alleles.swapaxes(0, 1).astype(np.int8),
    }
    if doses:
        arrays["call_DS"] = np.where(codes < 0, np.nan, codes).T.astype(np.float32)
        arrays["call_DS"][:20] = np.nan  # records with GT only
    for name, values in (arrays | change).items():
        if values is not None:
            chunks = (16, *values.shape[1:])[: values.ndim]
            group.create_array(name, data=values, chunks=chunks)
    return path


class AnnData:
    """What is used of anndata.AnnData."""

    def __init__(self, frame: pd.DataFrame) -> None:
        self.obs_names, self.frame = frame.index, frame

    def to_df(self) -> pd.DataFrame:
        return self.frame.rename_axis(None)


def write_everything(folder: Path) -> dict[str, object]:
    """One data set in all formats: files that we write, files that others write, objects."""
    codes, frame = counts(), as_frame(counts())
    sources: dict[str, object] = {}
    for ending in ("bed", "zarr", "parquet", "csv", "tsv", "csv.gz"):
        path = folder / f"ours.{ending}"
        write_dosages(whole(), path, "test")
        sources[f"ours {ending}"] = path
    (folder / "gt.vcf").write_text(vcf_text(codes, "GT"))
    (folder / "ds.vcf").write_text(vcf_text(codes, "DS"))
    (folder / "gt.vcf.gz").write_bytes(gzip.compress(vcf_text(codes, "GT").encode()))
    frame.to_csv(folder / "decimal.csv")
    frame.to_parquet(folder / "decimal.parquet")
    sources |= {name: str(folder / name) for name in ("gt.vcf", "ds.vcf", "gt.vcf.gz")}
    sources |= {name: folder / name for name in ("decimal.csv", "decimal.parquet")}
    sources["vcf zarr"] = write_vcf_zarr(folder / "gt.zarr", codes)
    sources["vcf zarr, DS"] = write_vcf_zarr(folder / "ds.zarr", codes, doses=True)
    sources["vcf zarr, DS only"] = write_vcf_zarr(
        folder / "only.zarr",
        codes,
        call_genotype=None,
        call_DS=np.where(codes < 0, np.nan, codes).T.astype(np.float32),
    )
    return sources | {
        "pandas": frame,
        "numpy int8": Dosages(codes, list(IDS), list(MARKERS)),
        "numpy float": Dosages(frame.to_numpy(), np.array(IDS), pd.Index(MARKERS)),
        "xarray": xr.DataArray(
            frame.to_numpy(), {"line": list(IDS), "snp": list(MARKERS)}, ("line", "snp")
        ),
        "anndata": AnnData(frame),
    }


def test_every_format_gives_identical_data(tmp_path: Path) -> None:
    phenotypes = pd.DataFrame({"id": IDS, "y": np.arange(9.0)})
    sources = write_everything(tmp_path)
    assert len(sources) == 19
    kept = np.delete(counts(), 3, axis=1)
    for name, source in sources.items():
        data = read_dataset(source, None, phenotypes, "y")
        assert data.genotypes.dtype == np.int8, name
        assert data.genotypes.flags.c_contiguous, name
        np.testing.assert_array_equal(data.genotypes, kept, err_msg=name)
        assert data.ids.tolist() == list(IDS), name
        assert data.markers.tolist() == [m for m in MARKERS if m != "m3"], name
        assert data.report.missing_genotypes == (kept == -1).sum(), name
        assert data.report.constant_markers == 1, name


@pytest.mark.parametrize("ending", ["zarr", "parquet", "csv", "vcf", "memory", "xarray"])
def test_dosages_with_decimals_are_identical_too(tmp_path: Path, ending: str) -> None:
    values = np.where(counts() == -1, np.nan, counts() * 0.95).astype(np.float32)
    given = Dosages(values, IDS, MARKERS)
    path = tmp_path / f"g.{ending}"
    if ending == "vcf":
        path.write_text(vcf_text(values, "GT:DS"))
    elif ending in ("zarr", "parquet", "csv"):
        write_dosages(given, path, "test")
    frame = xr.DataArray(as_frame(values), dims=("id", "marker"))
    source = {"memory": given, "xarray": frame}.get(ending, path)
    found = read_dosages(source).codes
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, values)


def test_places_and_alleles_survive_bed_and_zarr(tmp_path: Path) -> None:
    for ending in ("bed", "zarr"):
        assert write_dosages(whole(), tmp_path / f"g.{ending}", "test") == ()
        found = read_dosages(tmp_path / f"g.{ending}").places
        pd.testing.assert_frame_equal(found, whole().places, check_dtype=False)
    (tmp_path / "g.vcf").write_text(vcf_text(counts(), "GT"))
    write_vcf_zarr(tmp_path / "v.zarr", counts())
    for name in ("g.vcf", "v.zarr"):
        places = read_dosages(tmp_path / name).places
        pd.testing.assert_frame_equal(places, whole().places, check_dtype=False)


def test_markers_without_names_are_called_by_their_place(tmp_path: Path) -> None:
    text = vcf_text(counts(), "GT").replace("\tm7\t", "\t.\t")
    (tmp_path / "g.vcf").write_text(text)
    write_dosages(whole(), tmp_path / "g.bed", "test")
    bim = tmp_path / "g.bim"
    bim.write_text(bim.read_text().replace("\tm7\t", "\t.\t"))
    names = np.array(MARKERS)
    names[7] = "."
    write_vcf_zarr(tmp_path / "g.zarr", counts(), variant_id=names)
    for ending in ("vcf", "bed", "zarr"):
        assert read_dosages(tmp_path / f"g.{ending}").markers[7] == "1:17:A:G"
    write_vcf_zarr(tmp_path / "g.zarr", counts(), variant_id=None)
    assert read_dosages(tmp_path / "g.zarr").markers[0] == "1:10:A:G"


def test_a_bed_file_is_read_in_pieces(tmp_path: Path, monkeypatch, capsys) -> None:
    write_dosages(whole(), tmp_path / "g.bed", "test")
    monkeypatch.setattr(plink, "BLOCK_BYTES", 100)
    np.testing.assert_array_equal(read_dosages(tmp_path / "g.bed").codes, counts())
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(plink, "BAR_CELLS", 10)
    read_dosages(tmp_path / "g.bed", progress=True)
    assert "genotypes: 100%" in capsys.readouterr().err


def test_a_large_vcf_shows_progress(tmp_path: Path, monkeypatch, capsys) -> None:
    (tmp_path / "g.vcf").write_text(vcf_text(counts(), "GT"))
    monkeypatch.setattr(vcf, "BAR_BYTES", 10)
    monkeypatch.setattr(vcf, "MARKERS_PER_SLICE", 32)
    np.testing.assert_array_equal(read_dosages(tmp_path / "g.vcf", progress=True).codes, counts())
    assert "64marker" in capsys.readouterr().err


def test_a_zarr_store_opens_with_xarray(tmp_path: Path) -> None:
    write_dosages(whole(), tmp_path / "g.zarr", "test")
    with xr.open_zarr(tmp_path / "g.zarr", consolidated=False, mask_and_scale=False) as store:
        np.testing.assert_array_equal(store["dosage"], counts())
        assert store["dosage"].dims == ("id", "marker")
        assert store["id"].values.tolist() == list(IDS)


def test_arrays_of_the_caller_stay_as_they_are() -> None:
    given = Dosages(counts(), IDS, MARKERS)
    read_dataset(given, None, pd.DataFrame({"id": IDS, "y": np.arange(9.0)}), "y")
    np.testing.assert_array_equal(given.codes, counts())


def test_omics_and_phenotypes_may_be_xarray_and_anndata() -> None:
    omics = pd.DataFrame({"g1": np.arange(9.0), "g2": np.arange(9.0) ** 2}, IDS)
    phenotypes = xr.DataArray(
        np.arange(18.0).reshape(9, 2), {"id": list(IDS), "trait": ["y", "z"]}, ("id", "trait")
    )
    data = read_dataset(whole(), AnnData(omics), phenotypes, "y")
    np.testing.assert_array_equal(data.omics, omics.to_numpy())
    np.testing.assert_array_equal(data.phenotype, np.arange(0.0, 18.0, 2))


def test_find_dataset_files__knows_formats_of_genotypes(tmp_path: Path) -> None:
    write_dosages(whole(), tmp_path / "genotypes.zarr", "test")
    (tmp_path / "phenotypes.csv").touch()
    assert find_dataset_files(tmp_path)["genotypes"] == tmp_path / "genotypes.zarr"
    write_dosages(whole(), tmp_path / "genotypes.bed", "test")
    with pytest.raises(InputError, match=r"'genotypes\.bed', 'genotypes\.zarr'"):
        find_dataset_files(tmp_path)


@pytest.mark.parametrize("module", ["bed_reader", "cyvcf2", "zarr"])
def test_read_dosages__raises_without_the_library(tmp_path: Path, monkeypatch, module: str) -> None:
    path = tmp_path / {"bed_reader": "g.bed", "cyvcf2": "g.vcf", "zarr": "g.zarr"}[module]
    path.mkdir() if module == "zarr" else path.touch()
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(InputError, match=r"not installed; run pip install 'nnmm_jax\[formats\]'"):
        read_dosages(path)


def test_read_dosages__raises_when_memory_is_short(tmp_path: Path, monkeypatch) -> None:
    write_dosages(whole(), tmp_path / "g.bed", "test")
    write_dosages(whole(), tmp_path / "g.zarr", "test")
    write_dosages(whole(), tmp_path / "g.parquet", "test")
    monkeypatch.setattr(capacity, "available", lambda: 630)
    for ending in ("bed", "zarr", "parquet"):
        with pytest.raises(InputError, match=r"fits into memory, found 9 rows x 7[01] columns"):
            read_dosages(tmp_path / f"g.{ending}")
    monkeypatch.setattr(capacity, "available", lambda: None)
    read_dosages(tmp_path / "g.bed")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"ids": IDS[1:]}, "expected numbers of shape (8, 70), as many as ids and markers, found"),
        ({"codes": counts().astype(str)}, "expected numbers of shape (9, 70)"),
        ({"ids": ("i0", *IDS[:8])}, "every individual once, found 'i0' more than once"),
        ({"markers": (*MARKERS[:69], " m0 ")}, "every marker once, found 'm0' more than once"),
        ({"ids": (*IDS[:8], " ")}, "the id of every individual, found none for individual 9"),
        ({"markers": (None, *MARKERS[1:])}, "the name of every marker, found none for marker 1"),
        ({"codes": np.full((9, 70), np.inf)}, "found inf in column 'm0', id 'i0'"),
        ({"codes": np.full((9, 70), 7)}, "from 0 to 2, found 7 in column 'm0', id 'i0'"),
        ({"codes": np.empty((9, 0)), "markers": ()}, "expected marker columns"),
    ],
)
def test_read_dosages__raises_on_bad_arrays(change: dict, message: str) -> None:
    given = {"codes": counts(), "ids": IDS, "markers": MARKERS} | change
    with pytest.raises(InputError, match=re.escape(message)):
        read_dosages(Dosages(**given))


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (np.zeros((2, 2)), "expected a path, a table of pandas.* found ndarray; name rows"),
        (xr.DataArray(np.zeros((2, 2))), "two dimensions with coordinates"),
        (xr.DataArray(np.zeros(2), {"id": ["a", "b"]}), "two dimensions with coordinates"),
        (types.SimpleNamespace(), "found SimpleNamespace"),
    ],
)
def test_read_dosages__raises_on_objects_without_names(source: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_dosages(source)


def test_write_dosages__raises_on_what_a_format_cannot_hold(tmp_path: Path) -> None:
    decimals = Dosages(np.full((1, 1), 0.5, dtype=np.float32), ("a",), ("m",))
    with pytest.raises(InputError, match=r"counts 0, 1 and 2, .*, found decimals; write parquet"):
        write_dosages(decimals, tmp_path / "g.bed", "convert")
    blank = Dosages(np.ones((1, 1), dtype=np.int8), ("a b",), ("m",))
    with pytest.raises(InputError, match=r"ids without blanks.* found 'a b'; rename"):
        write_dosages(blank, tmp_path / "g.bed", "convert")
    for name in ("g.vcf", "g", ".csv"):
        with pytest.raises(InputError, match="expected a name ending in"):
            write_dosages(blank, tmp_path / name, "convert")
    assert not list(tmp_path.iterdir())


def test_reading_and_dropping_takes_less_than_half_more_than_the_genotypes(
    tmp_path: Path, monkeypatch
) -> None:
    individuals, markers = 1000, 20_000
    rng = np.random.default_rng(8)
    packed = rng.integers(0, 256, (markers, individuals // 4), dtype=np.uint8)
    packed[::100] = 0
    (tmp_path / "g.bed").write_bytes(plink.MAGIC + packed.tobytes())
    fam = "".join(f"0 i{i} 0 0 0 -9\n" for i in range(individuals))
    (tmp_path / "g.fam").write_text(fam)
    bim = "".join(f"1 m{j} 0 {j} A G\n" for j in range(markers))
    (tmp_path / "g.bim").write_text(bim)
    monkeypatch.setattr(plink, "BLOCK_BYTES", 1 << 20)
    quality = QualityControl(individual_call_rate=0.1, marker_call_rate=0.1)
    tracemalloc.start()
    try:
        dosages = read_dosages(tmp_path / "g.bed")
        reading = tracemalloc.get_traced_memory()[1]
        tracemalloc.reset_peak()
        found = genotypes_of(dosages, quality=quality)
        dropping = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert found.codes.shape == (individuals, markers - markers // 100)
    assert len(found.constant) == markers // 100
    assert max(reading, dropping) < 1.5 * individuals * markers


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sample_id": None}, "expected the arrays sample_id, .* found none of 'sample_id'"),
        ({"sample_id": np.array(IDS[:8])}, r"shape \(70, 8, 2\) of the array 'call_genotype'"),
        ({"sample_id": np.array(["i0"] * 9)}, "every individual once, found 'i0'"),
        ({"variant_id": np.array(["m"] * 70)}, "every marker once, found 'm'"),
        (
            {"variant_allele": np.array([["A", "G", "T"]] * 70)},
            "alternative allele, found G,T at 1",
        ),
        ({"variant_allele": np.array([["A", ""]] * 70)}, "alternative allele, found none at 1:10"),
        ({"variant_contig": np.full(70, 2)}, "expected contigs 0 to 1 in variant_contig"),
        (
            {"call_genotype": np.full((70, 9, 2), -2, np.int8)},
            "found -2 .-2: none. for marker 'm0'",
        ),
        ({"call_genotype": np.full((70, 9, 2), 3, np.int8)}, "found 3 .-2: none. for marker 'm0'"),
        ({"call_genotype": np.ones((70, 9, 4), np.int8)}, r"found \(70, 9, 4\)"),
        ({"call_DS": np.full((70, 9), 7.0)}, "from 0 to 2, found 7 in column 'm0', id 'i0'"),
    ],
)
def test_read_dosages__raises_on_bad_vcf_zarr(tmp_path: Path, change: dict, message: str) -> None:
    path = write_vcf_zarr(tmp_path / "g.zarr", counts(), **change)
    with pytest.raises(InputError, match=message):
        read_dosages(path)


@pytest.mark.parametrize(
    "edit",
    [
        lambda chunk: chunk[:-1],
        lambda chunk: chunk + b"\0",
        lambda chunk: chunk[:8],
        lambda chunk: b"",
        lambda chunk: b"\1" + chunk[1:],
        lambda chunk: chunk[:3] + b"\0" + chunk[4:],
        lambda chunk: chunk[:4] + struct.pack("<I", 2**31 - 1) + chunk[8:],
        lambda chunk: chunk[:8] + struct.pack("<I", 0) + chunk[12:],
    ],
    ids=["cut", "longer", "header cut", "empty", "version", "item size", "claims 2 GB", "block"],
)
@pytest.mark.parametrize("array", ["call_genotype/0.0.0", "sample_id/0"])
def test_read_dosages__raises_on_damaged_blosc_chunks(tmp_path: Path, array: str, edit) -> None:
    path = write_vcf_zarr(tmp_path / "g.zarr", counts())
    assert json.loads((path / "call_genotype/.zarray").read_text())["compressor"]["id"] == "blosc"
    chunk = path / array
    chunk.write_bytes(edit(chunk.read_bytes()))
    with pytest.raises(InputError, match=f"sizes that they say, found another in {array}"):
        read_dosages(path)
