import pandas as pd
import pytest

import nnmm_jax
from nnmm_jax.errors import InputError
from nnmm_jax.reports import plots
from nnmm_jax.reports.folder import check_results_folder, write_results

FILES = [
    "block_values.csv",
    "breeding_values.csv",
    "diagnostics.csv",
    "figures",
    "marker_effects.csv",
    "node_effects.csv",
    "node_values.csv",
    "omics_imputed.csv",
    "posterior.nc",
    "ranking.csv",
    "run.json",
    "variance_components.csv",
]


def contents(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def written(make_result, tmp_path):
    result = make_result(individuals=5, nodes=2)
    write_results(result, tmp_path / "out")
    return result, tmp_path / "out"


def test_write_results_leaves_the_files_of_the_contract(written, tmp_path):
    result, folder = written
    assert contents(folder) == FILES
    assert contents(tmp_path) == ["out"]
    assert len(list((folder / "figures").glob("*.png"))) == len(plots.FIGURES)
    assert nnmm_jax.load(folder).run == result.run


def test_tables_read_back_as_they_were(written):
    result, folder = written
    read = pd.read_csv(folder / "breeding_values.csv")
    pd.testing.assert_frame_equal(
        read, result.breeding_values(), check_dtype=False, rtol=1e-6, atol=1e-12
    )
    assert read["phenotyped"].dtype == bool


def test_write_results_without_a_middle_layer(make_result, tmp_path):
    write_results(make_result(layer=False, individuals=5, terms=True), tmp_path / "out")
    assert contents(tmp_path / "out") == FILES
    assert len(list((tmp_path / "out" / "figures").glob("*.png"))) == len(plots.FIGURES)
    effects = (tmp_path / "out" / "node_effects.csv").read_text(encoding="utf-8")
    assert effects == "node,mean,sd,pip\n"


def test_write_results_replaces_its_own_files_only(written, make_result):
    _, folder = written
    (folder / "notes.txt").write_text("mine")
    (folder / "figures" / "old.png").write_text("old")
    write_results(make_result(individuals=7, nodes=2), folder, overwrite=True)
    assert contents(folder) == sorted([*FILES, "notes.txt"])
    assert not (folder / "figures" / "old.png").exists()
    assert len(pd.read_csv(folder / "breeding_values.csv")) == 7


def test_results_survive_a_figure_that_fails(make_result, tmp_path, monkeypatch):
    def fail(result, folder):
        raise RuntimeError("no font")

    monkeypatch.setattr(plots, "save_figures", fail)
    with pytest.raises(RuntimeError, match="no font"):
        write_results(make_result(individuals=5), tmp_path / "out")
    assert contents(tmp_path / "out") == sorted(set(FILES) - {"figures"})


def test_check_results_folder__raises_on_existing(written):
    with pytest.raises(InputError, match="out exists"):
        check_results_folder(written[1])


def test_check_results_folder__raises_on_a_folder_of_something_else(tmp_path):
    (tmp_path / "thesis.tex").write_text("mine")
    with pytest.raises(InputError, match=r"has no run\.json"):
        check_results_folder(tmp_path, overwrite=True)


def test_check_results_folder__raises_on_a_file_in_the_way(tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(InputError, match="cannot write to"):
        check_results_folder(tmp_path / "file" / "out")


def test_check_results_folder_accepts_new_and_empty_folders(tmp_path):
    check_results_folder(tmp_path / "deep" / "new")
    check_results_folder(tmp_path, overwrite=True)
    assert contents(tmp_path) == []
