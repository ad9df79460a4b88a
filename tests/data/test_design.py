import re

import numpy as np
import pandas as pd
import pytest

from nnmm_jax.data import design_matrix
from nnmm_jax.errors import InputError

WHAT = "fixed effects of the trait"


def covariates() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "sex": ["m", "f", "m", "f", "m", "f"],
            "batch": pd.array([1, 2, 3, 1, 2, 3], dtype="Int64"),
            "age": [1.0, 2.0, 4.0, 3.0, 8.0, 5.0],
            "Date.Month": [5, 6, 7, 5, 5, 6],
            "day length": [1.5, 2.5, 0.5, 1.0, 2.0, 3.0],
            "female": [0, 1, 0, 1, 0, 1],
        },
        index=pd.Index([f"i{i}" for i in range(6)], name="id"),
    )


@pytest.mark.parametrize("formula", [None, "~ 1"])
def test_intercept_alone(formula: str | None) -> None:
    design = design_matrix(formula, covariates(), what=WHAT)
    np.testing.assert_array_equal(design.matrix, np.ones((6, 1)))
    assert design.names == ("Intercept",)
    assert design.n_filled == 0


def test_text_is_a_factor_and_integers_are_one_on_request() -> None:
    design = design_matrix("~ sex + C(batch) + age", covariates(), what=WHAT)
    assert design.names == ("Intercept", "sex[T.m]", "C(batch)[T.2]", "C(batch)[T.3]", "age")
    assert design.matrix.dtype == np.float64
    expected = [
        [1, 1, 0, 0, 1],
        [1, 0, 1, 0, 2],
        [1, 1, 0, 1, 4],
        [1, 0, 0, 0, 3],
        [1, 1, 1, 0, 8],
        [1, 0, 0, 1, 5],
    ]
    np.testing.assert_array_equal(design.matrix, expected)


def test_transformations_and_odd_names() -> None:
    frame = covariates()
    design = design_matrix("~ log(age) + Date.Month + center(`day length`)", frame, what=WHAT)
    np.testing.assert_allclose(design.matrix[:, 1], np.log(frame["age"]))
    np.testing.assert_array_equal(design.matrix[:, 2], frame["Date.Month"])
    np.testing.assert_allclose(
        design.matrix[:, 3], frame["day length"] - frame["day length"].mean()
    )


def test_level_seen_once_in_a_factor_of_one_level_adds_no_column() -> None:
    frame = covariates().assign(sex="f")
    design = design_matrix("~ sex + age", frame, what=WHAT)
    assert design.names == ("Intercept", "age")


def test_rows_not_needed_are_coded_where_known_and_filled_with_means_where_not() -> None:
    frame = covariates()
    frame.loc["i4", "sex"] = None
    frame.loc["i5", "age"] = np.nan
    needed = np.array([True, True, True, True, False, False])
    design = design_matrix("~ sex + age", frame, what=WHAT, needed=needed)
    assert design.n_filled == 2
    np.testing.assert_array_equal(design.matrix[4], [1, 0.5, 2.5])
    np.testing.assert_array_equal(design.matrix[5], [1, 0.5, 2.5])
    complete = design_matrix("~ sex + age", covariates(), what=WHAT, needed=needed)
    assert complete.n_filled == 0
    np.testing.assert_array_equal(complete.matrix[4], [1, 1, 8])


@pytest.mark.parametrize("formula", ["~ C(batch)", "~ C(`batch no`)"])
def test_level_unseen_in_needed_rows_counts_as_missing(formula: str) -> None:
    frame = covariates().assign(**{"batch no": covariates()["batch"]})
    needed = (frame["batch"] != 3).to_numpy()
    design = design_matrix(formula, frame, what=WHAT, needed=needed)
    assert len(design.names) == 2
    assert design.n_filled == 2
    np.testing.assert_array_equal(design.matrix[:, 1], [0, 1, 0.5, 0, 1, 0.5])


def test_missing_values_of_other_columns_do_not_matter() -> None:
    frame = covariates()
    frame.loc["i0", "sex"] = None
    assert design_matrix("~ age", frame, what=WHAT).n_filled == 0


def test_constants_of_transformations_come_from_needed_rows() -> None:
    frame = covariates()
    needed = np.array([True, True, True, False, False, False])
    design = design_matrix("~ center(age)", frame, what=WHAT, needed=needed)
    np.testing.assert_allclose(design.matrix[:, 1], frame["age"] - 7 / 3)


@pytest.mark.parametrize(
    ("formula", "message"),
    [
        ("~ sexx", "found '~ sexx' (Unable to evaluate factor `sexx`."),
        ("~ sexx", "formula of the columns 'sex', 'batch', 'age', 'Date.Month', 'day length', ..."),
        ("~ sex +", "expected a formula such as '~ sex + batch', found '~ sex +'"),
        ("~ log(age", "expected a formula such as '~ sex + batch', found '~ log(age'"),
        ("~ unknown(age)", "name 'unknown' is not defined"),
        ("~ age + {1 +}", "found '~ age + {1 +}'"),
        ("age ~ sex", "expected a formula with one side such as '~ sex + batch', found 'age ~"),
        ("~ age | sex", "expected a formula with one side"),
        ("~ 0 + sex", "expected a formula that keeps the intercept, found '~ 0 + sex'"),
        ("~ age - 1", "expected a formula that keeps the intercept"),
        ("~ sex + female", "found 1 dependence(s) among the columns of 'intercept', 'sex', 'f"),
        ("~ age + I(2 * age)", "among the columns of 'age', 'I(2 * age)' over 6 rows"),
        ("~ sex * C(batch) * age", "expected terms that can be told apart"),
        ("~ log(age - 1)", "expected finite values of 'log(age - 1)', found others for 'i0'"),
    ],
)
def test_design__raises_on_bad_formula(formula: str, message: str) -> None:
    with pytest.raises(InputError, match=re.escape(message)) as caught:
        design_matrix(formula, covariates(), what=WHAT)
    assert str(caught.value).startswith(f"{WHAT}: expected ")
    assert "\n" not in str(caught.value)
    assert "\x1b" not in str(caught.value)


@pytest.mark.parametrize("formula", ["~ sex", "~ C(sex) + age", "~ age + sex:age"])
def test_design__raises_on_missing_covariate_of_needed_rows(formula: str) -> None:
    frame = covariates()
    frame.loc[["i1", "i4"], "sex"] = None
    needed = np.array([True, True, True, True, False, True])
    with pytest.raises(InputError, match=r"expected 'sex' for every .* missing for 'i1'; fill it"):
        design_matrix(formula, frame, what=WHAT, needed=needed)


def test_design__raises_on_missing_integer_covariate() -> None:
    frame = covariates()
    frame.loc["i2", "batch"] = pd.NA
    with pytest.raises(InputError, match=r"expected 'batch' for every .* missing for 'i2'"):
        design_matrix("~ C(batch)", frame, what=WHAT)


def test_design__raises_when_no_row_is_needed() -> None:
    with pytest.raises(InputError, match="among the columns of 'intercept', 'age' over 0 rows"):
        design_matrix("~ age", covariates(), what=WHAT, needed=np.zeros(6, dtype=bool))
