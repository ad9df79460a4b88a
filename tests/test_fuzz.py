"""Readers meet files that chance made: each is read, or refused in one line, never a traceback.

``NNMM_FUZZ=5000 scripts/test tests/test_fuzz.py`` tries so many files of each kind.
"""

import gzip
import io
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nnmm_jax import Dosages, read_dataset
from nnmm_jax.data import read_pedigree, read_relationship, write_dosages
from nnmm_jax.errors import InputError

EXAMPLES = int(os.environ.get("NNMM_FUZZ", "15"))
IDS = tuple(f"i{i}" for i in range(6))
CODES = np.array([[0, 1, 2], [1, 2, 0], [2, 0, 1], [0, 2, 1], [1, 0, 2], [2, 1, -1]], np.int8)
PHENOTYPES = pd.DataFrame({"id": IDS, "y": np.arange(6.0)})
VCF = (
    "##fileformat=VCFv4.2\n##contig=<ID=1>\n"
    '##FORMAT=<ID=GT,Number=1,Type=String,Description="genotype">\n'
    '##FORMAT=<ID=DS,Number=1,Type=Float,Description="dosage">\n'
    "#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\tFORMAT\ti0\ti1\n"
    "1\t10\tm0\tA\tG\t.\t.\t.\tGT:DS\t0/0:0.1\t0|1:1\n"
    "1\t11\t.\tA\tG\t.\t.\t.\tGT\t1/1\t./.\n"
)

fuzzed = settings(
    max_examples=EXAMPLES,
    deadline=None,
    database=None,
    derandomize="NNMM_FUZZ" not in os.environ,
    suppress_health_check=list(HealthCheck),
)

# A place in a file, from its beginning 0 to its end 1, what is done there, and with which bytes.
EDITS = st.lists(
    st.tuples(
        st.floats(0, 1),
        st.sampled_from(["cut", "replace", "insert", "remove", "repeat"]),
        st.binary(min_size=1, max_size=12)
        | st.sampled_from([b"\t", b"\n", b",", b'"', b"\r", b"-1"]),
    ),
    min_size=1,
    max_size=4,
)
CELLS = st.one_of(
    st.text(max_size=6),
    st.integers(-3, 4).map(str),
    st.floats().map(str),
    st.sampled_from(["", "NA", ".", "id", "y", "i0", "i1", '"', "\t", ";", "1e400", "0x1", "١"]),
)


def changed(content: bytes, edits: list[tuple[float, str, bytes]]) -> bytes:
    for place, what, with_bytes in edits:
        at = int(place * len(content))
        after = at + len(with_bytes)
        content = {
            "cut": content[:at],
            "replace": content[:at] + with_bytes + content[after:],
            "insert": content[:at] + with_bytes + content[at:],
            "remove": content[:at] + content[after:],
            "repeat": content[:after] + content[at:],
        }[what]
    return content


def read_or_refuse(read: Callable[[], object]) -> None:
    try:
        read()
        return
    except InputError as error:
        message = str(error)
    assert "expected" in message
    assert "found" in message


def read_genotypes(path: Path) -> None:
    read_or_refuse(lambda: read_dataset(path, None, PHENOTYPES, "y", progress=False))


@pytest.fixture(scope="module")
def folder():
    with tempfile.TemporaryDirectory() as made:
        yield Path(made)


@fuzzed
@given(
    rows=st.lists(st.lists(CELLS, max_size=5), max_size=6),
    name=st.sampled_from(["g.csv", "g.tsv", "g.txt", "g.csv.gz"]),
)
def test_tables_of_any_cells(folder: Path, rows: list[list[str]], name: str) -> None:
    separator = "," if ".csv" in name else "\t"
    content = "\n".join(separator.join(row) for row in rows).encode("utf-8", "surrogatepass")
    path = folder / name
    path.write_bytes(gzip.compress(content) if name.endswith("gz") else content)
    read_genotypes(path)
    read_or_refuse(lambda: read_dataset(Dosages(CODES, IDS, ("a", "b", "c")), path, path, "y"))
    read_or_refuse(lambda: read_pedigree(path))
    read_or_refuse(lambda: read_relationship(path, name="K"))


@fuzzed
@given(
    content=st.binary(max_size=200),
    name=st.sampled_from(["g.csv", "g.parquet", "g.csv.gz", "g.vcf", "g.vcf.gz", "g.bcf", "g.bed"]),
)
def test_any_bytes(folder: Path, content: bytes, name: str) -> None:
    (folder / name).write_bytes(content)
    read_genotypes(folder / name)


def good_files() -> dict[str, bytes]:
    frame = pd.DataFrame(CODES, columns=["m0", "m1", "m2"])
    frame.insert(0, "id", IDS)
    buffer = io.BytesIO()
    frame.to_parquet(buffer, index=False)
    text = frame.to_csv(index=False).encode()
    return {
        "e.csv": text,
        "e.csv.gz": gzip.compress(text),
        "e.parquet": buffer.getvalue(),
        "e.vcf": VCF.encode(),
        "e.vcf.gz": gzip.compress(VCF.encode()),
    }


@pytest.mark.parametrize("name", ["e.csv", "e.csv.gz", "e.parquet", "e.vcf", "e.vcf.gz"])
def test_edited_files(folder: Path, name: str) -> None:
    good = good_files()[name]

    @fuzzed
    @given(edits=EDITS)
    def check(edits: list[tuple[float, str, bytes]]) -> None:
        (folder / name).write_bytes(changed(good, edits))
        read_genotypes(folder / name)

    check()


@pytest.mark.parametrize("ending", ["bed", "zarr"])
def test_edited_stores(folder: Path, ending: str) -> None:
    good = folder / f"good_{ending}"
    good.mkdir()
    places = pd.DataFrame({"chromosome": "1", "position": [5, 6, 7], "counted": "G", "other": "A"})
    write_dosages(Dosages(CODES, IDS, ("m0", "m1", "m2"), places), good / f"g.{ending}", "test")
    files = sorted(path.relative_to(good) for path in good.rglob("*") if path.is_file())

    @fuzzed
    @given(file=st.sampled_from(files), edits=EDITS)
    def check(file: Path, edits: list[tuple[float, str, bytes]]) -> None:
        spoilt = folder / "spoilt"
        shutil.rmtree(spoilt, ignore_errors=True)
        shutil.copytree(good, spoilt)
        (spoilt / file).write_bytes(changed((good / file).read_bytes(), edits))
        read_genotypes(spoilt / f"g.{ending}")

    check()
