import os
import subprocess
import sys

import pytest

from nnmm_jax import cli
from nnmm_jax.reports.folder import TABLES


@pytest.fixture
def folder(make_result, tmp_path):
    make_result(skip=True, bayesc=True, latent=1).save(tmp_path / "results")
    return tmp_path


def test_summary_prints_convergence_first(folder, capsys):
    assert cli.main(["summary", str(folder / "results"), "--rows", "3"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("convergence: ")
    text = "\n".join(lines)
    for part in ("h2_direct", "share_mediated", "node effects, clearest first", "p_top"):
        assert part in text
    assert "individuals, the first 3 of 30" in text
    assert sum(line.strip().startswith(("1 id", "2 id", "3 id", "4 id")) for line in lines) == 3
    assert "h2_node[omic_2]" in text
    assert "h2_node[omic_3]" not in text


def test_summary_writes_all_tables(folder, capsys):
    words = ["summary", str(folder / "results"), "--tables", str(folder / "tables")]
    assert cli.main(words) == 0
    assert {path.name for path in (folder / "tables").iterdir()} == set(TABLES)
    assert cli.main(words) == 2
    assert "tables exists" in capsys.readouterr().err
    assert cli.main([*words, "--overwrite"]) == 0


def test_summary_of_lowest_values(folder, capsys, make_result):
    ranking = make_result(skip=True, bayesc=True, latent=1).ranking(highest=False)
    words = ["summary", str(folder / "results"), "--lowest", "--rows", "1", "--top", "0.2"]
    assert cli.main(words) == 0
    text = capsys.readouterr().out
    assert f"1 {ranking['id'][0]}" in text
    assert "among the top 20%" in text


@pytest.mark.parametrize(
    ("words", "fragment"),
    [(["--top", "1.5"], "top: expected a share"), (["--rows", "0"], "--rows must be at least 1")],
)
def test_summary__raises_in_one_line(folder, capsys, words, fragment):
    assert cli.main(["summary", str(folder / "results"), *words]) == 2
    assert fragment in capsys.readouterr().err


def test_summary__raises_on_a_folder_without_results(tmp_path, capsys):
    assert cli.main(["summary", str(tmp_path)]) == 2
    assert "not a folder of results" in capsys.readouterr().err


def test_summary_ends_quietly_when_nobody_reads_on(folder):
    read, write = os.pipe()
    os.close(read)
    words = [sys.executable, "-m", "nnmm_jax.cli", "summary", str(folder / "results")]
    done = subprocess.run(words, stdout=write, stderr=subprocess.PIPE, check=False, timeout=100)
    os.close(write)
    assert done.returncode == 141
    assert done.stderr == b""
