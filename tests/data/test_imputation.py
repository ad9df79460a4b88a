import json

import numpy as np
import pandas as pd
import pytest

from nnmm_jax import Dosages, QualityControl, read_dataset
from nnmm_jax.data.dosages import MARKERS_PER_SLICE, missing_cells
from nnmm_jax.data.genotypes import MarkerCoding, genotypes_of
from nnmm_jax.data.imputation import draw_missing
from nnmm_jax.errors import InputError


def with_holes(dtype: type, individuals: int = 400, markers: int = 60) -> np.ndarray:
    rng = np.random.default_rng(3)
    codes = rng.binomial(2, np.linspace(0.05, 0.95, markers), (individuals, markers)).astype(dtype)
    holes = rng.random(codes.shape) < 0.3
    codes[holes] = -1 if dtype is np.int8 else np.nan
    return codes


@pytest.mark.parametrize("dtype", [np.int8, np.float32])
def test_draws_follow_the_observed_dosages_of_their_marker(dtype: type) -> None:
    given = with_holes(dtype)
    holes = missing_cells(given)
    drawn = given.copy()
    draw_missing(drawn, 1)
    np.testing.assert_array_equal(drawn[~holes], given[~holes])
    observed = np.where(holes, np.nan, given)
    error = np.array([drawn[rows, j].mean() for j, rows in enumerate(holes.T)])
    error -= np.nanmean(observed, axis=0)
    z = error / (np.nanstd(observed, axis=0) / np.sqrt(holes.sum(axis=0)))
    assert np.abs(z).max() < 4.0
    assert 0.6 < z.std() < 1.4
    assert set(np.unique(drawn)) == {0, 1, 2}


def test_draws_follow_from_seed_and_place() -> None:
    one, again, other = (with_holes(np.int8, markers=5) for _ in range(3))
    draw_missing(one, 1)
    draw_missing(again, 1)
    draw_missing(other, 2)
    np.testing.assert_array_equal(one, again)
    assert (one != other).any()
    wide = np.tile(with_holes(np.int8, 50, 3)[:, 1:2], (1, MARKERS_PER_SLICE + 1))
    holes = wide[:, 0] < 0
    draw_missing(wide, 1)
    assert (wide >= 0).all()
    assert (wide[holes, 0] != wide[holes, -1]).any()


def tables() -> dict[str, pd.DataFrame]:
    codes = with_holes(np.int8, 30, 4).astype(float)
    codes[codes < 0] = np.nan
    ids = [f"i{row}" for row in range(30)]
    genotypes = pd.DataFrame(codes, columns=[f"m{j}" for j in range(4)])
    genotypes.insert(0, "id", ids)
    return {
        "genotypes": genotypes,
        "omics": pd.DataFrame({"id": ids, "g": np.arange(30.0)}),
        "phenotypes": pd.DataFrame({"id": ids, "y": np.arange(30.0) % 7}),
    }


def test_dataset_and_report_say_how_missing_genotypes_are_replaced() -> None:
    n_missing = int(tables()["genotypes"].isna().to_numpy().sum())
    kept = read_dataset(**tables(), trait="y")
    assert missing_cells(kept.genotypes).sum() == n_missing
    drawn = read_dataset(**tables(), trait="y", quality=QualityControl(missing_genotypes="draw"))
    assert not missing_cells(drawn.genotypes).any()
    assert drawn.report.missing_genotypes == n_missing
    share = f"{n_missing} ({n_missing / 120:.2%})"
    line = f"genotype cells missing, replaced by draws from the marker's observed dosages: {share}"
    assert line in drawn.report.lines()
    assert json.loads(json.dumps(drawn.report.to_dict()))["genotypes_drawn_seed"] == 0


def test_coding_is_counted_of_the_markers_that_are_analysed() -> None:
    codes = np.array([[0, 2, 0, 1, 1], [1, 2, 0, 1, -1], [2, 1, 1, 2, 1]], dtype=np.int8)
    given = Dosages(codes, tuple("abc"), ("all", "high", "presence", "both", "constant"))
    assert genotypes_of(given).coding == MarkerCoding(major=2, without_two=1, without_zero=2)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"missing_genotypes": "median"}, "missing_genotypes to be mean or draw, found 'median'"),
        ({"seed": -1}, "expected a seed of at least 0, found -1"),
    ],
)
def test_rules__raise_on_an_unknown_choice(given: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        QualityControl(**given)
