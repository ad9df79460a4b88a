import gzip
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from nnmm_jax.data import find_dataset_files, numeric_values, read_table
from nnmm_jax.errors import InputError, shortlist

FRAME = pd.DataFrame(
    {"id": ["a", "b", "c"], "x": [1.5, np.nan, 3.0], "count": [1, 2, 3], "sex": ["f", None, "m"]}
)


def write(frame: pd.DataFrame, path: Path) -> Path:
    if path.name.endswith(".parquet"):
        frame.to_parquet(path, index=False)
    else:
        frame.to_csv(path, index=False, sep="," if ".csv" in path.name else "\t")
    return path


def write_text(folder: Path, text: str | bytes, name: str = "table.csv") -> Path:
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


@pytest.mark.parametrize(
    "name", ["t.csv", "t.tsv", "t.txt", "t.csv.gz", "t.txt.gz", "t.parquet", "T.CSV"]
)
def test_every_kind_of_file_gives_the_same_table(tmp_path: Path, name: str) -> None:
    table = read_table(write(FRAME, tmp_path / name), what="phenotypes")
    assert list(table.index) == ["a", "b", "c"]
    assert table.index.name == "id"
    assert list(table.columns) == ["x", "count", "sex"]
    np.testing.assert_array_equal(table["x"], [1.5, np.nan, 3.0])
    np.testing.assert_array_equal(table["count"], [1, 2, 3])
    assert table["sex"].fillna("?").tolist() == ["f", "?", "m"]


def test_integer_and_text_ids_are_the_same_individuals(tmp_path: Path) -> None:
    as_text = write_text(tmp_path, "id,x\n 1 ,5\n2,6\n")
    as_numbers = tmp_path / "t.parquet"
    pd.DataFrame({"id": [1, 2], "x": [5, 6]}).to_parquet(as_numbers, index=False)
    in_memory = pd.DataFrame({"id": [1, 2], "x": [5, 6]})
    for source in (as_text, as_numbers, in_memory):
        assert list(read_table(source, what="omics").index) == ["1", "2"]


def test_leading_zeros_of_ids_stay(tmp_path: Path) -> None:
    table = read_table(write_text(tmp_path, "id,x\n007,5\n010,6\n"), what="omics")
    assert list(table.index) == ["007", "010"]


def test_id_column_may_be_anywhere_when_named(tmp_path: Path) -> None:
    table = read_table(write_text(tmp_path, "x,line\n5,01\n6,02\n"), what="omics", id_column="line")
    assert list(table.index) == ["01", "02"]
    assert list(table.columns) == ["x"]


@pytest.mark.parametrize(
    "frame",
    [
        FRAME.set_index("id"),
        FRAME.set_index("id").rename_axis(None),
        FRAME.set_index("id").rename_axis("line"),
    ],
    ids=["named id", "nameless text", "named line"],
)
def test_index_of_a_frame_can_hold_the_ids(frame: pd.DataFrame, tmp_path: Path) -> None:
    before = frame.copy()
    assert list(read_table(frame, what="omics").index) == ["a", "b", "c"]
    pd.testing.assert_frame_equal(frame, before)
    path = tmp_path / "t.parquet"
    frame.to_parquet(path)
    table = read_table(path, what="omics")
    assert list(table.index) == ["a", "b", "c"]
    assert list(table.columns) == ["x", "count", "sex"]


def test_filtered_frame_keeps_its_id_column() -> None:
    table = read_table(FRAME[FRAME["x"].notna()], what="omics")
    assert list(table.index) == ["a", "c"]


def test_runs_of_blanks_separate_columns_in_txt(tmp_path: Path) -> None:
    path = write_text(tmp_path, "  id  x   y\na   1  .\n  b 2   4.5  \n", "t.txt")
    table = read_table(path, what="omics")
    assert table["x"].tolist() == [1, 2]
    np.testing.assert_array_equal(table["y"], [np.nan, 4.5])


def test_missing_is_spelled_in_the_usual_ways(tmp_path: Path) -> None:
    spellings = ["", "NA", "NaN", ".", "null", "None", " "]
    rows = "".join(f"i{i},{text},{i}\n" for i, text in enumerate(spellings))
    table = read_table(write_text(tmp_path, f"id,x,y\n{rows}i9,2.5,9\n"), what="omics")
    assert table["x"].isna().tolist() == [True] * len(spellings) + [False]


def test_windows_file_with_byte_order_mark_is_read(tmp_path: Path) -> None:
    path = write_text(tmp_path, b"\xef\xbb\xbfid,x\r\na,1\r\n\r\nb,2\r\n")
    table = read_table(path, what="omics", id_column="id")
    assert list(table.index) == ["a", "b"]
    assert table["x"].tolist() == [1, 2]


def test_type_of_a_column_may_show_late(tmp_path: Path) -> None:
    rows = "".join(f"i{i},{i % 3}\n" for i in range(200_000))
    path = write_text(tmp_path, f"id,x\n{rows}last,0.5\n")
    table = read_table(path, what="genotypes", small_integers=True)
    assert table["x"].iloc[[1, -1]].tolist() == [1.0, 0.5]


def test_small_integers_are_held_small(tmp_path: Path) -> None:
    path = write_text(tmp_path, "id,m1,m2\na,0,1\nb,NA,2\n")
    table = read_table(path, what="genotypes", small_integers=True)
    assert {str(dtype).lower() for dtype in table.dtypes} == {"int8"}
    np.testing.assert_array_equal(numeric_values(table, "genotypes"), [[0, 1], [np.nan, 2]])


def test_dates_are_labels(tmp_path: Path) -> None:
    path = write_text(tmp_path, "id,day\na,2024-05-01\nb,2024-05-02\n")
    assert read_table(path, what="phenotypes")["day"].tolist() == ["2024-05-01", "2024-05-02"]


BAD_FILES = {
    "no header": ("", "an empty file"),
    "blank lines": ("\n\n", "an empty file"),
    "no rows": ("id,x\n", "at least one row, found none"),
    "duplicate ids": ("id,x\na,1\nb,2\na,3\n", "found 'a' more than once in column 'id'"),
    "duplicate ids but for blanks": (
        "id,x\na,1\n a,3\n",
        "'a' more than once.*keep one row per id",
    ),
    "many duplicate ids": (
        "id,x\n" + "".join(f"i{i % 7},0\n" for i in range(14)),
        r"'i0', 'i1', 'i2', 'i3', 'i4', \.\.\. \(7 in all\)",
    ),
    "missing id": ("id,x\na,1\n,2\nNA,3\n", "found none in column 'id', data row '2', '3'"),
    "duplicate columns": ("id,x, x\na,1,2\n", "every column name once, found 'x'"),
    "nameless column": ("id,x,\na,1,\n", "found none for column 3"),
    "short row": ("id,x,y\na,1,2\nb,1\n", "Expected 3 columns, got 2"),
    "header without id": ("x,y\na,1,2\nb,1,2\n", "Expected 2 columns, got 3.*as many values"),
    "other separator": ("id;x\na;1\n", "found the one column 'id;x'; separate columns by commas"),
    "id not first": (",id,x\n1,a,1\n2,b,2\n", "ids in the first column, found '' there"),
    "not UTF-8": (b"id,x\na,\xe9\n", "utf-8.*check that the file is complete and in UTF-8"),
    "not UTF-8 header": (b"id,\xe9\na,1\n", "utf-8"),
}


@pytest.mark.parametrize("case", BAD_FILES)
def test_read_table__raises_on_bad_csv(tmp_path: Path, case: str) -> None:
    text, message = BAD_FILES[case]
    path = write_text(tmp_path, text)
    with pytest.raises(InputError, match=message) as caught:
        read_table(path, what="omics")
    assert str(caught.value).startswith(f"omics {path}: expected ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("absent.csv", "expected a file, found nothing there"),
        ("folder.csv", "expected a file, found a folder"),
        ("table.xlsx", r"ending in \.parquet, .*, found '\.xlsx'"),
        ("broken.parquet", "expected a readable table"),
        ("broken.csv.gz", "expected a readable table"),
        ("cut.csv.gz", "expected a readable table"),
    ],
)
def test_read_table__raises_on_bad_file(tmp_path: Path, name: str, message: str) -> None:
    (tmp_path / "folder.csv").mkdir()
    for broken in ("table.xlsx", "broken.parquet", "broken.csv.gz"):
        write_text(tmp_path, "no such format", broken)
    noise = np.random.default_rng(1).integers(0, 3, 100_000)
    whole = gzip.compress(("id,x\n" + "".join(f"{i},{x}\n" for i, x in enumerate(noise))).encode())
    write_text(tmp_path, whole[: len(whole) // 2], "cut.csv.gz")
    with pytest.raises(InputError, match=message):
        read_table(tmp_path / name, what="genotypes")


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        ([1.0, 2.0], "text or whole numbers, found decimal numbers in column 'id' .'1.0', '2.0'"),
        ([1.0, np.nan], "an id in every row, found none in column 'id', data row '2'"),
        (pd.array([1, None], dtype="Int64"), "data row '2'"),
        (["a", 1.0], "decimal numbers"),
        (["a", "  "], "data row '2'"),
        ([1, "1"], "found '1' more than once"),
    ],
)
def test_read_table__raises_on_bad_ids(ids: list, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_table(pd.DataFrame({"id": ids, "x": [1, 2]}), what="omics")


def test_read_table__raises_on_unknown_id_column() -> None:
    with pytest.raises(InputError, match="id column 'line', found the columns 'id', 'x'"):
        read_table(FRAME, what="omics", id_column="line")


def test_read_table__raises_on_column_names_that_become_equal() -> None:
    frame = pd.DataFrame([["a", 0, 1]], columns=["id", 1, "1"])
    with pytest.raises(InputError, match="every column name once, found '1'"):
        read_table(frame, what="genotypes")


def test_read_table__raises_on_nested_column(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    pd.DataFrame({"id": ["a"], "x": [[1, 2]]}).to_parquet(path, index=False)
    with pytest.raises(InputError, match="in column 'x', found list"):
        read_table(path, what="omics")


def test_numeric_values_of_mixed_columns() -> None:
    frame = pd.DataFrame(
        {
            "nullable": pd.array([1, None], dtype="Int8"),
            "single": np.array([0.5, np.nan], dtype=np.float32),
            "text": ["2", None],
            "flag": [True, False],
            "label": pd.Categorical(["3", "4"]),
            "empty": [None, None],
        }
    )
    expected = [[1, 0.5, 2, 1, 3, np.nan], [np.nan, np.nan, np.nan, 0, 4, np.nan]]
    values = numeric_values(frame, "omics")
    assert values.dtype == np.float64
    np.testing.assert_array_equal(values, expected)


@pytest.mark.parametrize(
    ("column", "message"),
    [
        (["1", "high"], "found 'high' in column 'x', id 'b'"),
        ([1.0, -np.inf], "found -inf in column 'x', id 'b'"),
        (["1", "inf"], "found inf in column 'x', id 'b'"),
        (pd.to_datetime(["2024-01-01", "2024-01-02"]), "column 'x', found datetime64"),
        ([1j, 2j], "column 'x', found complex128"),
    ],
)
def test_numeric_values__raises_on_what_is_no_number(column: list, message: str) -> None:
    frame = pd.DataFrame({"fine": [1.0, 2.0], "x": column}, index=["a", "b"])
    with pytest.raises(InputError, match=f"omics: expected .*{message}"):
        numeric_values(frame, "omics")


def test_find_dataset_files(tmp_path: Path) -> None:
    for name in ("genotypes.parquet", "phenotypes.csv.gz", "omics.tsv", "omics_other.csv"):
        (tmp_path / name).touch()
    assert find_dataset_files(tmp_path) == {
        "genotypes": tmp_path / "genotypes.parquet",
        "omics": tmp_path / "omics.tsv",
        "phenotypes": tmp_path / "phenotypes.csv.gz",
    }


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["genotypes.csv"], "a file phenotypes ending in"),
        (["phenotypes.csv"], "a file genotypes ending in"),
        (
            ["genotypes.csv", "genotypes.parquet", "phenotypes.csv"],
            "one file of genotypes, found 'genotypes.parquet', 'genotypes.csv'",
        ),
    ],
)
def test_find_dataset_files__raises_on_wrong_files(
    tmp_path: Path, names: list[str], message: str
) -> None:
    for name in names:
        (tmp_path / name).touch()
    with pytest.raises(InputError, match=re.escape(message)):
        find_dataset_files(tmp_path)


def test_find_dataset_files__raises_on_no_folder(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="expected a folder, found none"):
        find_dataset_files(tmp_path / "absent")


def test_shortlist_of_nothing() -> None:
    assert shortlist([]) == "none"
