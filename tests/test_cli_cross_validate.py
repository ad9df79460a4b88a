import pandas as pd
import pytest

import nnmm_jax as nm
from nnmm_jax import cli
from nnmm_jax.reports import cross_validation
from nnmm_jax.reports.cross_validation import FILES, CrossValidation
from nnmm_jax.reports.predictive_scores import fold_scores


@pytest.fixture(scope="module")
def words(tmp_path_factory):
    """Command line of a small data set, without options."""
    folder = tmp_path_factory.mktemp("data") / "simulated"
    sizes = nm.SimulationSettings(individuals=60, markers=60, omics=3)
    nm.simulate(sizes, seed=1).write(folder)
    files = {"genotypes": "genotypes.parquet", "omics": "omics.csv", "phenotypes": "phenotypes.csv"}
    flags = [word for name, file in files.items() for word in (f"--{name}", str(folder / file))]
    return ["cross-validate", *flags, "--trait", "y"]


@pytest.fixture
def called(monkeypatch):
    """Stand-in for the fits: what it was called with, and a result of two folds."""
    seen = {}

    def cross_validate(dataset, network, **settings):
        seen.update(dataset=dataset, network=network, **settings)
        rows, tables = [], []
        for fold in ("1", "2"):
            table = pd.DataFrame(
                {
                    "id": list("abcd"),
                    "observed": [1.0, 2.0, 3.0, 4.0],
                    "predicted": [1.0, 1.5, 3.5, 3.0],
                    "low": 0.0,
                    "high": 3.5,
                    "log_density": -1.0,
                    "below": [0.1, 0.6, 0.3, 0.9],
                }
            )
            tables.append(table.assign(repeat=1, fold=fold))
            rows.append({"repeat": 1, "fold": fold, "individuals": 4, **fold_scores(table)})
        folds = pd.DataFrame(rows).assign(
            r_hat=1.2, ess=30.0, converged=False, warning="stuck", seconds=1.0, compilation=0.0
        )
        return CrossValidation(folds, pd.concat(tables), {"folds": 2, "settings": {"seed": 1}})

    monkeypatch.setattr(cross_validation, "cross_validate", cross_validate)
    return seen


def test_flags_become_arguments_and_tables_files(words, called, tmp_path, capsys):
    out = tmp_path / "cv"
    options = "--folds 4 --fold-column batch --repeats 2 --hide-omics --warmup 7 --samples 8 "
    options += "--chains 3 --seed 5 --skip-prior RR-BLUP --until-ess 50 --max-samples 90 --quiet"
    assert cli.main([*words, *options.split(), "--out", str(out)]) == 0
    wanted = {
        "folds": 4, "by": "batch", "repeats": 2, "hide_omics": True, "warmup": 7, "samples": 8,
        "chains": 3, "seed": 5, "until_ess": 50.0, "max_samples": 90, "progress": False,
        "sampler": "hmc",
    }  # fmt: skip
    assert {name: called[name] for name in wanted} == wanted
    assert called["network"].skip_prior is not None
    assert len(called["dataset"].ids) == 60
    captured = capsys.readouterr()
    assert captured.err == ""
    assert "correlation" in captured.out
    assert "2 of 2 fits have not converged" in captured.out
    assert sorted(path.name for path in out.iterdir()) == sorted(FILES)
    assert pd.read_csv(out / "summary.csv")["measure"].tolist()[0] == "correlation"


def test_folds_are_five_random_ones_by_default(words, called, capsys):
    assert cli.main(words) == 0
    assert (called["folds"], called["by"], called["repeats"]) == (None, None, 1)
    assert "individuals genotyped: 60" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--folds", "1"], "--folds must be at least 2, got 1"),
        (["--folds", "61"], "expected at most 48, the number of individuals with a phenotype"),
        (["--fold-column", "breed"], "found no 'breed' among 'sex', 'batch'"),
        (["--samples", "0"], "--samples must be at least 1"),
        (["--until-ess", "9", "--chains", "1"], "until_ess: expected 2 chains or more"),
    ],
)
def test_cross_validate__refuses_in_one_line(words, options, message, tmp_path, capsys):
    out = tmp_path / "cv"
    assert cli.main([*words, *options, "--quiet", "--out", str(out)]) == 2
    error = capsys.readouterr().err
    assert error.startswith("nnmm: error: ")
    assert error.count("\n") == 1
    assert message in error
    assert not out.exists()


def test_cross_validate__refuses_a_folder_before_it_reads_data(words, tmp_path, capsys):
    (tmp_path / "cv").mkdir()
    assert cli.main([*words, "--trait", "nothing", "--out", str(tmp_path / "cv")]) == 2
    assert "exists: choose another folder" in capsys.readouterr().err


def test_cross_validate__refuses_to_hide_omics_that_are_not_there(words, capsys):
    without = [word for word in words if "omics" not in word]
    assert cli.main([*without, "--skip-prior", "GBLUP", "--hide-omics"]) == 2
    assert "--hide-omics: expected --omics to hide" in capsys.readouterr().err
