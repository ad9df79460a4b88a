import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from nnmm_jax.data import genotypes_from_frame, read_table
from nnmm_jax.data.dosages import MARKERS_PER_SLICE
from nnmm_jax.errors import InputError

IDS = ["a", "b", "c", "d"]


def frame_of(**markers: object) -> pd.DataFrame:
    return pd.DataFrame(markers, index=pd.Index(IDS, name="id"))


def test_counts_are_held_as_int8_with_minus_one_for_missing() -> None:
    frame = frame_of(m1=[0, 1, 2, 0], m2=[2.0, np.nan, 0.0, 1.0], m3=["0", "1", None, "2"])
    genotypes = genotypes_from_frame(frame)
    assert genotypes.codes.dtype == np.int8
    np.testing.assert_array_equal(genotypes.codes, [[0, 2, 0], [1, -1, 1], [2, 0, -1], [0, 1, 2]])
    assert genotypes.ids == tuple(IDS)
    assert genotypes.markers == ("m1", "m2", "m3")
    assert genotypes.n_missing == 2


def test_fractional_dosages_are_held_as_float32() -> None:
    # The second slice has the only fraction, and the first must follow it.
    rng = np.random.default_rng(3)
    dosages = rng.integers(0, 3, (6, MARKERS_PER_SLICE + 5)).astype(float)
    dosages[:2] = [[0.0], [2.0]]
    dosages[2, 1] = np.nan
    dosages[3, -1] = 0.25
    genotypes = genotypes_from_frame(pd.DataFrame(dosages, index=list("abcdef")))
    assert genotypes.codes.dtype == np.float32
    np.testing.assert_array_equal(genotypes.codes, dosages.astype(np.float32))
    assert genotypes.n_missing == 1


def test_markers_without_variation_are_dropped_and_counted() -> None:
    frame = frame_of(
        keep=[0, 1, 2, 0],
        same=[1, 1, 1, 1],
        same_where_seen=[2, None, 2, None],
        empty=[None, None, None, None],
    )
    genotypes = genotypes_from_frame(frame)
    assert genotypes.markers == ("keep",)
    assert genotypes.constant == ("same", "same_where_seen")
    assert genotypes.unobserved == ("empty",)
    assert genotypes.n_missing == 0


def test_wide_parquet_with_nulls_round_trips(tmp_path: Path) -> None:
    rng = np.random.default_rng(7)
    codes = rng.integers(0, 3, (20, 2 * MARKERS_PER_SLICE + 3)).astype(np.int8)
    codes[:2] = [[0], [2]]
    missing = rng.random(codes.shape) < 0.1
    missing[:2] = False
    columns = {
        f"m{j}": pd.arrays.IntegerArray(codes[:, j].copy(), missing[:, j].copy())
        for j in range(codes.shape[1])
    }
    path = tmp_path / "genotypes.parquet"
    pd.DataFrame({"id": [f"i{i}" for i in range(20)], **columns}).to_parquet(path, index=False)
    genotypes = genotypes_from_frame(read_table(path, what="genotypes"))
    assert genotypes.codes.dtype == np.int8
    assert genotypes.codes.flags.c_contiguous
    np.testing.assert_array_equal(genotypes.codes, np.where(missing, -1, codes))
    assert genotypes.n_missing == missing.sum()
    assert genotypes.markers == tuple(columns)


@pytest.mark.parametrize(
    ("column", "message"),
    [
        (["0", "1", "A/A", "2"], "expected numbers, found 'A/A' in column 'bad', id 'c'"),
        ([0, 1, 3, 2], "expected dosages from 0 to 2, found 3 in column 'bad', id 'c'"),
        ([0, 1, 2.0001, 2], "found 2.0001 in column 'bad', id 'c'"),
        ([0, 1, -1, 0], "found -1 in column 'bad', id 'c'; add 1 to a coding of -1/0/1"),
        ([0, 1, 9, 2], "found 9 in column 'bad', id 'c'; correct it, or leave the cell empty"),
        ([0, 1, np.inf, 2], "expected finite numbers, found inf in column 'bad', id 'c'"),
    ],
)
def test_genotypes__raises_on_bad_dosage(column: list, message: str) -> None:
    with pytest.raises(InputError, match=re.escape(message)):
        genotypes_from_frame(frame_of(fine=[0, 1, 2, 0], bad=column))


def test_genotypes__raises_on_bad_dosage_beyond_the_first_slice() -> None:
    dosages = np.tile([[0], [1]], (1, MARKERS_PER_SLICE + 5))
    dosages[1, -1] = 5
    frame = pd.DataFrame(dosages, index=["a", "b"]).add_prefix("m")
    with pytest.raises(InputError, match=f"found 5 in column 'm{MARKERS_PER_SLICE + 4}', id 'b'"):
        genotypes_from_frame(frame)


def test_genotypes__raises_when_no_marker_varies() -> None:
    with pytest.raises(InputError, match="expected markers that vary, found 2 marker"):
        genotypes_from_frame(frame_of(m1=[1, 1, 1, 1], m2=[None] * 4))


def test_genotypes__raises_without_markers() -> None:
    with pytest.raises(InputError, match="expected marker columns beside the ids, found none"):
        genotypes_from_frame(frame_of())
