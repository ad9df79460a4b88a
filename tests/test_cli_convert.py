import errno
import itertools

import numpy as np
import pandas as pd
import pytest

from nnmm_jax import Dosages, cli
from nnmm_jax.data import read_dosages, write_dosages

CODES = np.array([[0, 1, 2, -1], [2, 1, 0, 0], [1, 1, -1, 2]], dtype=np.int8)
PLACES = pd.DataFrame({"chromosome": "1", "position": range(4), "counted": "C", "other": "T"})
DOSAGES = Dosages(CODES, ("a", "b", "c"), ("m0", "m1", "m2", "m3"), PLACES)
BED = ("g.bed", "g.bim", "g.fam")


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def refused(capsys, words, *fragments):
    assert cli.main(words) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert len(captured.err.splitlines()) == 1, captured.err
    for fragment in ("nnmm: error: ", *fragments):
        assert fragment in captured.err


def test_convert_through_all_formats_and_back(tmp_path, capsys):
    write_dosages(DOSAGES, tmp_path / "g.bed", "test")
    chain = ["g.bed", "h.zarr", "g.parquet", "g.csv", "g.tsv.gz", "i.zarr", "last.bed"]
    for source, target in itertools.pairwise(chain):
        assert cli.main(["convert", str(tmp_path / source), str(tmp_path / target)]) == 0
        captured = capsys.readouterr()
        assert captured.out == (
            f"{tmp_path / target}: 3 individuals, 4 markers, 2 missing genotypes\n"
        )
        note = {"g.parquet": "are not kept in .parquet", "last.bed": "not known: B and A"}
        assert note.get(target, "") in captured.err
        found = read_dosages(tmp_path / target)
        np.testing.assert_array_equal(found.codes, CODES)
        assert (found.ids, found.markers) == (DOSAGES.ids, DOSAGES.markers)
    assert names(tmp_path) == sorted(
        [*chain[:-1], "g.bim", "g.fam", "last.bed", "last.bim", "last.fam"]
    )
    assert (tmp_path / "last.bim").read_text().split()[:6] == ["0", "m0", "0.0", "0", "B", "A"]


@pytest.mark.parametrize("target", ["g.bed", "g.zarr", "g.csv"])
def test_convert_replaces_only_when_told(tmp_path, capsys, target):
    write_dosages(Dosages(CODES[:, :2], DOSAGES.ids, ("x", "y")), tmp_path / target, "test")
    source = tmp_path / "in.csv"
    write_dosages(DOSAGES, source, "test")
    before = names(tmp_path)
    words = ["convert", str(source), str(tmp_path / target)]
    refused(capsys, words, "exists")
    assert read_dosages(tmp_path / target).markers == ("x", "y")
    assert cli.main([*words, "--overwrite", "--quiet"]) == 0
    assert capsys.readouterr() == ("", "")
    assert read_dosages(tmp_path / target).markers == DOSAGES.markers
    assert names(tmp_path) == before


@pytest.mark.parametrize("existing", BED)
def test_convert__refuses_when_one_of_the_three_exists(tmp_path, capsys, existing):
    write_dosages(DOSAGES, tmp_path / "in.csv", "test")
    (tmp_path / existing).write_text("mine")
    refused(capsys, ["convert", str(tmp_path / "in.csv"), str(tmp_path / "g.bed")], "exists")
    assert names(tmp_path) == sorted([existing, "in.csv"])


@pytest.mark.parametrize(
    ("target", "fragments"),
    [
        ("g.vcf", ["expected a name ending in .bed, .zarr, .parquet", "found 'g.vcf'"]),
        ("g", ["expected a name ending in"]),
        ("nowhere/g.csv", ["expected a file in a folder that can be written to"]),
        ("folder.csv", ["expected a file in a folder"]),
        ("nowhere/g.zarr", ["expected a name in a folder that exists"]),
        ("in.zarr", ["in.zarr is a file"]),
        ("folder.zarr", ["folder.zarr exists"]),
    ],
)
def test_convert__refuses_wrong_targets(tmp_path, capsys, target, fragments):
    write_dosages(DOSAGES, tmp_path / "in.csv", "test")
    (tmp_path / "in.zarr").touch()
    for folder in ("folder.csv", "folder.zarr"):
        (tmp_path / folder).mkdir()
    before = names(tmp_path)
    refused(capsys, ["convert", str(tmp_path / "in.csv"), str(tmp_path / target)], *fragments)
    assert names(tmp_path) == before


def test_convert__refuses_to_replace_a_folder_that_is_no_store(tmp_path, capsys):
    write_dosages(DOSAGES, tmp_path / "in.csv", "test")
    (tmp_path / "thesis.zarr").mkdir()
    (tmp_path / "thesis.zarr" / "chapter1.txt").write_text("mine")
    words = ["convert", str(tmp_path / "in.csv"), str(tmp_path / "thesis.zarr"), "--overwrite"]
    refused(capsys, words, "expected a zarr store to replace, found another folder")
    assert names(tmp_path / "thesis.zarr") == ["chapter1.txt"]


def test_convert__leaves_nothing_of_what_the_format_cannot_hold(tmp_path, capsys):
    decimals = Dosages(np.full((1, 1), 0.5, dtype=np.float32), ("a",), ("m",))
    write_dosages(decimals, tmp_path / "in.csv", "test")
    words = ["convert", str(tmp_path / "in.csv"), str(tmp_path / "g.bed")]
    refused(capsys, words, "expected counts", "found decimals; write parquet")
    assert names(tmp_path) == ["in.csv"]


@pytest.mark.parametrize("target", ["g.bed", "g.zarr", "g.csv", "g.parquet"])
def test_convert__says_that_the_disk_is_full(tmp_path, capsys, monkeypatch, target):
    write_dosages(DOSAGES, tmp_path / "in.csv", "test")

    def half(dosages, path, source):
        write_dosages(dosages, path, source)
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("nnmm_jax.data.genotype_files.write_dosages", half)
    words = ["convert", str(tmp_path / "in.csv"), str(tmp_path / target)]
    refused(capsys, words, "found No space left on device; check the disk")
    assert names(tmp_path) == ["in.csv"]
