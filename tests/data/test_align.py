import json
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from nnmm_jax.data import Dataset, find_dataset_files, read_dataset, read_table
from nnmm_jax.errors import InputError

SHARED = Path(os.environ.get("NNMM_SHARED", Path(__file__).parents[3] / "shared"))


def tables() -> dict[str, pd.DataFrame]:
    """Six genotyped individuals; the other tables in other orders, with strangers and holes."""
    return {
        "genotypes": pd.DataFrame(
            {
                "id": [1, 2, 3, 4, 5, 6],
                "m1": [0, 1, 2, 1, 0, 2],
                "m2": [2, np.nan, 1, 0, np.nan, 1],
                "same": [1, 1, 1, 1, 1, 1],
                "empty": [np.nan] * 6,
            }
        ),
        "omics": pd.DataFrame(
            {
                "id": ["9", "4", "1", "2", "6"],
                "gene1": [9.0, 4.1, 1.1, np.nan, np.nan],
                "gene2": [9.0, np.nan, 1.2, np.nan, 6.2],
            }
        ),
        "phenotypes": pd.DataFrame(
            {
                "id": ["3", "8", "2", "4", "7", "1"],
                "batch": [1, 2, 2, 1, 1, 2],
                "y": [3.5, 8.5, 2.5, np.nan, 7.5, 1.5],
                "sex": ["f", "m", "m", "f", "f", "m"],
            }
        ),
    }


def dataset() -> Dataset:
    return read_dataset(**tables(), trait="y")


def test_rows_are_joined_by_id_in_the_order_of_the_genotypes() -> None:
    data = dataset()
    nan = np.nan
    assert data.ids.tolist() == ["1", "2", "3", "4", "5", "6"]
    assert data.markers.tolist() == ["m1", "m2"]
    assert data.omics_names.tolist() == ["gene1", "gene2"]
    assert data.trait == "y"
    np.testing.assert_array_equal(
        data.genotypes, [[0, 2], [1, -1], [2, 1], [1, 0], [0, -1], [2, 1]]
    )
    np.testing.assert_array_equal(
        data.omics, [[1.1, 1.2], [nan, nan], [nan, nan], [4.1, nan], [nan, nan], [nan, 6.2]]
    )
    np.testing.assert_array_equal(data.phenotype, [1.5, 2.5, 3.5, nan, nan, nan])
    assert data.genotypes.dtype == np.int8
    assert data.omics.dtype == data.phenotype.dtype == np.float64


def test_covariates_follow_the_individuals() -> None:
    covariates = dataset().covariates
    assert list(covariates.index) == ["1", "2", "3", "4", "5", "6"]
    assert list(covariates.columns) == ["batch", "sex"]
    assert covariates["batch"].astype(object).tolist()[:4] == [2, 2, 1, 1]
    assert covariates["sex"].tolist()[:4] == ["m", "m", "f", "f"]
    assert covariates.loc[["5", "6"]].isna().all(axis=None)


def test_join_does_not_depend_on_row_order(tmp_path: Path) -> None:
    expected = dataset()
    shuffled = tables()
    for name in ("omics", "phenotypes"):
        shuffled[name] = shuffled[name].sample(frac=1, random_state=5)
    paths = {name: tmp_path / f"{name}.csv" for name in shuffled}
    for name, frame in shuffled.items():
        frame.to_csv(paths[name], index=False)
    for found in (read_dataset(**shuffled, trait="y"), read_dataset(**paths, trait="y")):
        np.testing.assert_array_equal(found.genotypes, expected.genotypes)
        np.testing.assert_array_equal(found.omics, expected.omics)
        np.testing.assert_array_equal(found.phenotype, expected.phenotype)
        pd.testing.assert_frame_equal(found.covariates, expected.covariates, check_dtype=False)


def test_report_counts_what_was_joined_and_dropped() -> None:
    report = dataset().report.to_dict()
    assert json.loads(json.dumps(report)) == report
    assert report == {
        "trait": "y",
        "genotyped": 6,
        "markers": 2,
        "constant_markers": 1,
        "unobserved_markers": 1,
        "missing_genotypes": 2,
        "missing_genotypes_share": 2 / 12,
        "omics_columns": 2,
        "omics_complete": 1,
        "omics_partial": 2,
        "omics_none": 3,
        "missing_omics": 8,
        "missing_omics_share": 8 / 12,
        "phenotyped": 3,
        "omics_and_phenotype": 1,
        "candidates": 1,
        "dropped_omics": {"rows": 1, "first_ids": ["9"], "reason": "not genotyped"},
        "dropped_phenotypes": {"rows": 2, "first_ids": ["8", "7"], "reason": "not genotyped"},
    }


def test_report_lines_are_for_people() -> None:
    assert dataset().report.lines() == [
        "individuals genotyped: 6 (all are analysed)",
        "  with omics: 1 complete, 2 partial, 3 none",
        "  with phenotype 'y': 3; with omics too: 1",
        "  candidates with neither: 1",
        "markers: 2; dropped: 1 constant, 1 without data",
        "genotype cells missing, replaced by the marker's mean: 2 (16.67%)",
        "omics: 2 columns; cells missing: 8 (66.67%)",
        "rows of omics dropped, not genotyped: 1 ('9')",
        "rows of phenotypes dropped, not genotyped: 2 ('8', '7')",
    ]


def test_report_lists_no_more_than_five_dropped_ids() -> None:
    given = tables()
    strangers = pd.DataFrame({"id": [f"s{i}" for i in range(8)], "gene1": 1.0, "gene2": 2.0})
    given["omics"] = pd.concat([given["omics"], strangers])
    report = read_dataset(**given, trait="y").report
    assert report.dropped_omics.rows == 9
    assert report.dropped_omics.first_ids == ("9", "s0", "s1", "s2", "s3")
    assert report.lines()[-2].endswith("9 ('9', 's0', 's1', 's2', 's3', ...)")


def test_middle_layer_may_be_wholly_latent() -> None:
    data = read_dataset(**(tables() | {"omics": None}), trait="y")
    assert data.omics.shape == (6, 0)
    assert data.omics_names.shape == (0,)
    assert data.report.omics_none == 6
    assert data.report.candidates == 3
    assert data.report.missing_omics_share == 0.0


def test_mask_hides_cells_and_recounts() -> None:
    data = dataset()
    masked = data.mask(phenotype=data.ids == "1")
    np.testing.assert_array_equal(masked.phenotype, [np.nan, 2.5, 3.5, np.nan, np.nan, np.nan])
    assert masked.report.phenotyped == 2
    assert masked.report.omics_and_phenotype == 0
    assert masked.omics is data.omics
    assert masked.genotypes is data.genotypes
    assert data.phenotype[0] == 1.5


def test_mask_of_individuals_and_of_cells_of_omics() -> None:
    given = tables()
    given["omics"] = pd.DataFrame(
        {"id": range(1, 7), "gene1": np.arange(6.0), "gene2": np.arange(6.0) ** 2}
    )
    data = read_dataset(**given, trait="y")
    individuals = np.arange(6) == 1
    by_row = data.mask(omics=individuals)
    by_cell = data.mask(omics=np.column_stack([individuals, individuals]))
    np.testing.assert_array_equal(by_row.omics, by_cell.omics)
    assert np.isnan(by_row.omics[1]).all()
    assert by_row.report.omics_complete == 5
    one_cell = np.zeros((6, 2), dtype=bool)
    one_cell[3, 0] = True
    masked = data.mask(omics=one_cell)
    np.testing.assert_array_equal(np.isnan(masked.omics), one_cell)
    assert masked.report.omics_partial == 1


@pytest.mark.parametrize(
    ("masks", "message"),
    [
        ({"phenotype": np.zeros(6)}, r"True and False of shape \(6,\), found float64"),
        ({"phenotype": np.zeros(4, dtype=bool)}, r"shape \(6,\), found bool of shape \(4,\)"),
        ({"omics": np.zeros((6, 3), dtype=bool)}, r"\(6,\) or \(6, 2\), found bool"),
        ({"phenotype": np.ones(6, dtype=bool)}, "expected values of the trait 'y', found none"),
        (
            {"omics": np.ones(6, dtype=bool)},
            "expected values in every column, found none in 'gene1'",
        ),
        ({"omics": np.arange(6) == 0}, "found one value throughout in 'gene1', 'gene2'"),
    ],
)
def test_mask__raises_on_bad_mask(masks: dict[str, np.ndarray], message: str) -> None:
    with pytest.raises(InputError, match=message):
        dataset().mask(**masks)


def replaced(table: str, column: str, values: object) -> dict[str, pd.DataFrame]:
    given = tables()
    given[table][column] = values
    return given


BAD_INPUT = {
    "no ids in common with phenotypes": (
        replaced("phenotypes", "id", list("abcdef")),
        r"phenotypes: .* genotypes \('1', '2', '3', \.\.\. \(6 in all\)\), found none in common "
        r"\('a', 'b', 'c', \.\.\. \(6 in all\)\)",
    ),
    "no ids in common with omics": (
        replaced("omics", "id", list("abcde")),
        "omics: .* found none in common",
    ),
    "repeated phenotype": (
        replaced("phenotypes", "id", [1, 2, 3, 4, 4, 1]),
        "phenotypes: .*found '1', '4' more than once .*repeated records are not supported yet",
    ),
    "repeated genotype": (replaced("genotypes", "id", [1, 2, 3, 3, 4, 5]), "genotypes: .*'3'"),
    "unknown trait": (
        {name: f.rename(columns={"y": "yield_t"}) for name, f in tables().items()},
        "expected the trait 'y', found the columns 'batch', 'yield_t', 'sex'; choose one",
    ),
    "misspelt trait": (
        {name: f.rename(columns={"y": "y_"}) for name, f in tables().items()},
        "expected the trait 'y', found the columns 'batch', 'y_', 'sex'; did you mean 'y_'",
    ),
    "trait without values": (
        replaced("phenotypes", "y", np.nan),
        "expected values of the trait 'y', found none",
    ),
    "trait only seen in others": (
        replaced("phenotypes", "y", [None, 8.5, None, None, 7.5, None]),
        "genotyped individuals: expected values of the trait 'y', found none",
    ),
    "constant trait": (
        replaced("phenotypes", "y", [2.0, 1.0, 2.0, None, 5.0, 2.0]),
        r"expected a trait that varies, found 2 for all 3 value\(s\) of 'y'",
    ),
    "text trait": (
        replaced("phenotypes", "y", ["3", "8", "tall", "4", "7", "1"]),
        "phenotypes: expected numbers, found 'tall' in column 'y', id '2'",
    ),
    "infinite trait": (
        replaced("phenotypes", "y", [3.0, 8.0, np.inf, 4.0, 7.0, 1.0]),
        "phenotypes: expected finite numbers, found inf in column 'y', id '2'",
    ),
    "text omics": (
        replaced("omics", "gene2", ["1", "low", "2", "3", "4"]),
        "omics: expected numbers, found 'low' in column 'gene2', id '4'",
    ),
    "infinite omics": (
        replaced("omics", "gene2", [1.0, 2.0, -np.inf, 3.0, 4.0]),
        "omics: expected finite numbers, found -inf in column 'gene2', id '1'",
    ),
    "omics without values": (
        replaced("omics", "gene2", [9.0, np.nan, np.nan, np.nan, np.nan]),
        "omics, genotyped individuals: expected values in every column, found none in 'gene2'",
    ),
    "constant omics": (
        replaced("omics", "gene2", [9.0, 1.0, 1.0, np.nan, np.nan]),
        "expected columns that vary, found one value throughout in 'gene2'",
    ),
    "trait among the omics": (
        replaced("omics", "y", 1.0),
        "expected names that differ from the trait's, found a column 'y'",
    ),
    "omics without columns": (
        tables() | {"omics": tables()["omics"][["id"]]},
        "expected columns of omics beside the ids, found none",
    ),
    "genotype outside": (
        replaced("genotypes", "m2", [0, 1, 2, 4, 1, 1]),
        "genotypes: expected dosages from 0 to 2, found 4 in column 'm2', id '4'",
    ),
}


@pytest.mark.parametrize("case", BAD_INPUT)
def test_read_dataset__raises_on_bad_input(case: str) -> None:
    given, message = BAD_INPUT[case]
    with pytest.raises(InputError, match=message) as caught:
        read_dataset(**given, trait="y")
    assert "\n" not in str(caught.value)


def test_read_dataset__raises_with_the_name_of_the_file(tmp_path: Path) -> None:
    given = tables()
    path = tmp_path / "genotypes.csv"
    given["genotypes"].assign(m2=[0, 1, 2, 4, 1, 1]).to_csv(path, index=False)
    with pytest.raises(InputError, match=f"genotypes {path}: expected dosages .* id '4'"):
        read_dataset(path, given["omics"], given["phenotypes"], "y")


@pytest.mark.parametrize(
    ("folder", "trait", "individuals", "markers", "columns", "missing_genotypes"),
    [
        ("arabidopsis_ril", "4.Benzoyloxybutyl", 162, 117, 20, 0.004),
        ("wheat_htp", "YLD_E1", 776, 3438, 250, 0.0877),
        ("mice_hs", "Obesity.EndNormalBW", 1814, 10346, 17, 0.0),
        ("nnmm_paper_part3_SIMULATED", "y", 1055, 1000, 20, 0.0),
        ("soy_multiomics", "ShootDryWeight_g_control", 198, 34632, 1458, 0.0),
    ],
)
def test_real_sets_are_read_as_described(
    folder: str,
    trait: str,
    individuals: int,
    markers: int,
    columns: int,
    missing_genotypes: float,
) -> None:
    path = SHARED / "data" / folder
    if not path.is_dir():
        pytest.skip(f"data set {folder} is not here; set NNMM_SHARED to its parent")
    files = find_dataset_files(path)
    data = read_dataset(**files, trait=trait)
    report = data.report
    assert data.genotypes.dtype == np.int8
    assert report.markers + report.constant_markers + report.unobserved_markers == markers
    assert data.genotypes.shape == (individuals, report.markers)
    assert data.omics.shape == (individuals, columns)
    assert report.missing_genotypes == (data.genotypes == -1).sum()
    assert report.missing_genotypes_share == pytest.approx(missing_genotypes, abs=5e-4)
    # The three files list the same individuals in the same order.
    table = read_table(files["phenotypes"], what="phenotypes")
    assert data.ids.tolist() == table.index.tolist()
    np.testing.assert_array_equal(data.phenotype, table[trait].to_numpy(float, na_value=np.nan))
    assert report.dropped_omics.rows == report.dropped_phenotypes.rows == 0
