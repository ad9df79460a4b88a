import dataclasses

import numpy as np
import pandas as pd
import pytest

from nnmm_jax import cli


@pytest.fixture(scope="module")
def folders(make_result, tmp_path_factory):
    folder = tmp_path_factory.mktemp("fits")
    first = make_result(individuals=20)
    first.save(folder / "a")
    worse = first.log_likelihood - np.linspace(0.1, 0.9, first.log_likelihood.sizes["individual"])
    dataclasses.replace(first, log_likelihood=worse).save(folder / "b")
    make_result(individuals=21).save(folder / "other")
    return folder


def test_compare_prints_a_table_and_writes_it(folders, tmp_path, capsys):
    names = [str(folders / name) for name in "ab"]
    out = tmp_path / "table.csv"
    assert cli.main(["compare", *names, "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    table = pd.read_csv(out)
    assert table["fit"].tolist() == names
    assert table["elpd_diff"].max() == 0.0
    assert {"elpd_loo", "se_diff", "bad_k", "h2", "converged", "seconds"} <= set(table.columns)
    for name in names:
        assert name in printed
    assert cli.main(["compare", *names, "--out", str(out)]) == 2
    assert "choose another file, or say --overwrite" in capsys.readouterr().err
    assert cli.main(["compare", *names, "--out", str(out), "--overwrite"]) == 0


@pytest.mark.parametrize(
    ("names", "options", "message"),
    [
        (["a"], [], "expected two folders or more"),
        (["a", "a"], [], "expected every folder once"),
        (["a", "other"], [], "phenotypes of the same individuals"),
        (["a", "nothing"], [], "this is not a folder of results"),
        (["a", "b"], ["--out", "table.txt"], "a name that ends in .csv"),
    ],
)
def test_compare__refuses_in_one_line(folders, names, options, message, capsys):
    assert cli.main(["compare", *(str(folders / name) for name in names), *options]) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("nnmm: error: ")
    assert captured.err.count("\n") == 1
    assert message in captured.err
    assert captured.out == ""
