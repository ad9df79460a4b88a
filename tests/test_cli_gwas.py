import dataclasses

import pandas as pd
import pytest

from nnmm_jax import cli


@pytest.fixture
def folder(make_case, tmp_path):
    """Results, genotypes and map, as nnmm fit would leave them."""
    case = make_case()
    table = pd.DataFrame(
        case.genotypes.codes, pd.Index(case.genotypes.ids, name="id"), case.genotypes.markers
    )
    table.replace(-1, pd.NA).to_csv(tmp_path / "g.csv")
    case.map.to_csv(tmp_path / "map.csv", index=False)
    files = {"genotypes": "g.csv", "folder": str(tmp_path), "id_column": None}
    result = dataclasses.replace(case.result, run={**case.result.run, "files": files})
    result.save(tmp_path / "results")
    return tmp_path


def run(*words):
    return cli.main(["gwas", *map(str, words)])


def test_gwas_writes_a_folder_and_prints_hits(folder, capsys):
    assert run(folder / "results", "--map", folder / "map.csv", "--window", "3", "markers") == 0
    printed = capsys.readouterr()
    assert "8 windows of 3 markers; a window is to exceed 12.500%" in printed.out
    assert "40 draws, largest Monte Carlo error of a WPPA 0.0" in printed.out
    assert "windows at a posterior FDR of 0.05:" in printed.out
    assert "snp4" in printed.out
    assert "of 40 draws only" in printed.err
    written = pd.read_csv(folder / "results" / "gwas" / "windows.csv")
    assert written["wppa"].max() == 1.0
    assert (folder / "results" / "gwas" / "manhattan_windows.png").is_file()


def test_gwas_with_flags_of_its_own(folder, capsys):
    words = [folder / "results", "--map", folder / "map.csv", "--genotypes", folder / "g.csv"]
    words += ["--window", "LD 0.3", "--share", "0.2", "--fdr", "0.2", "--out", folder / "out"]
    assert run(*words, "--quiet") == 0
    assert capsys.readouterr().out == ""
    assert run(*words) == 2
    assert "out exists" in capsys.readouterr().err
    assert run(*words, "--overwrite") == 0
    assert "exceed 20.000%" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "fragment"),
    [
        ([], "marker map: expected a table of marker, chromosome and position, found none"),
        (["--map", "none.csv"], "none.csv: expected a file, found nothing there"),
        (["--map", "map.csv", "--genotypes", "other.csv"], "expected the mean dosages of the fit"),
        (["--map", "map.csv", "--window", "10"], "window: expected '10 markers'"),
        (["--map", "map.csv", "--window", "1", "Mb"], "in the unit of the map"),
        (["--map", "map.csv", "--activation", "none.py:f"], "--activation"),
    ],
)
def test_gwas__raises_in_one_line(folder, capsys, monkeypatch, words, fragment):
    monkeypatch.chdir(folder)
    pd.read_csv("g.csv").assign(snp3=1).to_csv("other.csv", index=False)
    assert run("results", *words) == 2
    error = capsys.readouterr().err
    assert fragment in error
    assert error.count("\n") == 1
    assert not (folder / "results" / "gwas").exists()
