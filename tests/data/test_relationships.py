import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from nnmm_jax.data import Relationship, read_relationship
from nnmm_jax.errors import InputError

IDS = ["b", "a", "c"]
MATRIX = np.array([[1.0, 0.5, 0.0], [0.5, 1.25, 0.25], [0.0, 0.25, 1.0]])


def square(matrix: np.ndarray = MATRIX, ids: list[str] = IDS) -> pd.DataFrame:
    return pd.DataFrame(matrix, index=pd.Index(ids, name="id"), columns=ids)


def triplets(matrix: np.ndarray = MATRIX, part: str = "lower") -> pd.DataFrame:
    """Without the pairs that are zero, as sparse files are."""
    keep = {"lower": np.tril, "upper": np.triu, "both": np.asarray}[part](matrix)
    rows, columns = np.nonzero(keep)
    names = np.array(IDS)
    return pd.DataFrame({"id1": names[rows], "id2": names[columns], "value": keep[rows, columns]})


def write(frame: pd.DataFrame, path: Path, index: bool) -> Path:
    if path.suffix == ".parquet":
        (frame.reset_index() if index else frame).to_parquet(path, index=False)
    else:
        frame.to_csv(path, index=index)
    return path


@pytest.mark.parametrize("suffix", ["csv", "parquet", "memory"])
@pytest.mark.parametrize("form", ["square", "other order", "lower", "upper", "both"])
def test_every_form_gives_the_same_matrix(form: str, suffix: str, tmp_path: Path) -> None:
    given = {
        "square": square(),
        "other order": square()[["c", "b", "a"]],
    }.get(form)
    source: pd.DataFrame | Path = triplets(part=form) if given is None else given
    if suffix != "memory":
        source = write(source, tmp_path / f"k.{suffix}", index=given is not None)
    relationship = read_relationship(source, name="lines")
    np.testing.assert_array_equal(relationship.among(IDS), MATRIX)
    np.testing.assert_array_equal(relationship.among(["c", "b"]), [[1.0, 0.0], [0.0, 1.0]])
    if form in ("square", "other order"):
        assert relationship.ids.tolist() == IDS


def test_ids_may_be_numbers(tmp_path: Path) -> None:
    numbers = pd.DataFrame(MATRIX, index=[7, 8, 10], columns=[7, 8, 10])
    assert read_relationship(numbers, name="k").ids.tolist() == ["7", "8", "10"]
    path = tmp_path / "k.csv"
    path.write_text("id1,id2,value\n007,007,1\n10,007,0.5\n10,10,1\n")
    relationship = read_relationship(path, name="k")
    np.testing.assert_array_equal(relationship.among(["10", "007"]), [[1.0, 0.5], [0.5, 1.0]])


@pytest.mark.parametrize("form", ["square", "lower"])
def test_inverse_is_inverted(form: str) -> None:
    inverse = np.linalg.inv(MATRIX)
    source = square(inverse) if form == "square" else triplets(inverse)
    found = read_relationship(source, inverse=True, name="k").among(IDS)
    np.testing.assert_allclose(found, MATRIX, rtol=0, atol=1e-14)
    np.testing.assert_array_equal(found, found.T)


def test_rounding_and_a_singular_matrix_are_accepted() -> None:
    rng = np.random.default_rng(1)
    low_rank = rng.normal(size=(80, 5))
    matrix = np.round(low_rank @ low_rank.T, 6)
    matrix[0, 1] += 1e-6
    ids = [f"i{k}" for k in range(80)]
    found = read_relationship(square(matrix, ids), name="k").matrix
    np.testing.assert_array_equal(found, found.T)
    np.testing.assert_allclose(found, matrix, rtol=0, atol=1e-6)


def changed(row: int, column: int, value: float, both: bool = False) -> np.ndarray:
    matrix = MATRIX.copy()
    matrix[row, column] = value
    if both:
        matrix[column, row] = value
    return matrix


def more(id1: str | None, id2: str | None, value: float) -> pd.DataFrame:
    return pd.concat([triplets(), pd.DataFrame({"id1": [id1], "id2": [id2], "value": [value]})])


BAD = {
    "not square": (square().iloc[:2], "expected a square table, or columns id1, id2 and value"),
    "repeated id": (square().set_axis(["a", "a", "c"]), "found 'a' more than once"),
    "other ids": (square().set_axis(["b", "a", "x"]), "found no column of 'x'; check the header"),
    "not symmetric": (
        square(changed(0, 1, 0.75)),
        "found 0.75 for 'b' and 'a' but 0.5 the other way round",
    ),
    "missing": (square(changed(1, 2, np.nan)), "a value for every pair, found none for 'a' and"),
    "infinite": (square(changed(1, 2, np.inf)), "finite numbers, found inf in column 'c', id 'a'"),
    "text": (square().astype(object).replace(0.25, "x"), "expected numbers, found 'x' in column"),
    "negative eigenvalue": (
        square(changed(0, 1, 2.0, both=True)),
        "expected a positive semi-definite matrix, found the eigenvalue "
        f"{np.linalg.eigvalsh(changed(0, 1, 2.0, both=True))[0]:.4g} beside the largest",
    ),
    "conflicting triplets": (
        more("a", "b", 0.75),
        "expected one value for each pair, found 0.5 and 0.75 for 'a' and 'b'",
    ),
    "conflicting halves": (more("b", "a", 0.75), "found 0.75 for 'b' and 'a' but 0.5 the"),
    "no diagonal": (more("d", "a", 0.1), "of every id with itself, found none for 'd'"),
    "no second id": (more("a", None, 0.1), "two ids in every row, found none in column 'id2'"),
    "no value": (more("c", "b", np.nan), "a value for every pair, found none for 'b' and 'c'"),
}


@pytest.mark.parametrize("case", BAD)
def test_read_relationship__raises_on_bad_matrix(case: str) -> None:
    source, message = BAD[case]
    with pytest.raises(InputError, match=re.escape(message)) as caught:
        read_relationship(source, name="lines")
    assert str(caught.value).startswith("relationship 'lines': expected ")
    assert "\n" not in str(caught.value)


def test_negative_eigenvalue_of_a_large_matrix_is_found() -> None:
    rng = np.random.default_rng(3)
    basis = np.linalg.qr(rng.normal(size=(120, 120)))[0]
    spectrum = np.linspace(0.0, 10.0, 120)
    ids = [f"i{k}" for k in range(120)]
    for smallest, accepted in ((-0.5e-5, True), (-2e-5, False)):
        spectrum[0] = smallest
        matrix = (basis * spectrum) @ basis.T
        if accepted:
            assert len(read_relationship(square(matrix, ids), name="k").ids) == 120
        else:
            with pytest.raises(InputError, match=r"eigenvalue -2e-05 beside the largest 10;"):
                read_relationship(square(matrix, ids), name="k")


@pytest.mark.parametrize(
    "matrix",
    [np.ones((3, 3)), np.diag([1.0, 1.0, -1.0]), np.diag([1.0, 1.0, 1e-14])],
    ids=["singular", "negative", "nearly singular"],
)
def test_read_relationship__raises_on_an_inverse_that_has_none(matrix: np.ndarray) -> None:
    with pytest.raises(InputError, match="'k': expected the inverse of a relationship matrix, pos"):
        read_relationship(square(matrix), inverse=True, name="k")


def test_read_relationship__raises_with_the_name_of_the_file(tmp_path: Path) -> None:
    path = write(square(changed(0, 1, 0.75)), tmp_path / "k.csv", index=True)
    message = f"relationship 'lines' {path}: expected a symmetric matrix"
    with pytest.raises(InputError, match=re.escape(message)):
        read_relationship(path, name="lines")
    message = f"relationship 'lines' {tmp_path}: expected a file, found a folder"
    with pytest.raises(InputError, match=re.escape(message)):
        read_relationship(tmp_path, name="lines")


def test_among__raises_on_unknown_ids() -> None:
    relationship = Relationship(np.array(IDS), MATRIX, "lines")
    with pytest.raises(InputError, match=r"'lines': expected .* found no row of 'x', 'y'; add"):
        relationship.among(np.array(["x", "a", "y"]))
