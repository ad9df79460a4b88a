import json
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from nnmm_jax.data import (
    Dataset,
    design_matrix,
    find_dataset_files,
    read_dataset,
    read_pedigree,
    read_relationship,
    read_table,
)
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
    assert report.pop("ids")["tables"] == ["genotypes", "omics", "phenotypes"]
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
        "records": 3,
        "repeatedly_phenotyped": 0,
        "genotypes_drawn_seed": None,
        "coding": {"major": 0, "without_two": 0, "without_zero": 0},
        "individuals_from": "genotypes",
        "pedigree": None,
        "connections": None,
        "connected_nodes": None,
        "quality": [],
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
        "markers that count the more frequent allele: 0; where nobody has two copies: 0, "
        "nobody none: 0",
        "omics: 2 columns; cells missing: 8 (66.67%)",
        "rows of omics dropped, not genotyped: 1 ('9')",
        "rows of phenotypes dropped, not genotyped: 2 ('8', '7')",
        "ids that are whole numbers in genotypes and text elsewhere: compared as text",
    ]


def test_report_lists_no_more_than_five_dropped_ids() -> None:
    given = tables()
    strangers = pd.DataFrame({"id": [f"s{i}" for i in range(8)], "gene1": 1.0, "gene2": 2.0})
    given["omics"] = pd.concat([given["omics"], strangers])
    report = read_dataset(**given, trait="y").report
    assert report.dropped_omics.rows == 9
    assert report.dropped_omics.first_ids == ("9", "s0", "s1", "s2", "s3")
    assert report.lines()[-3].endswith("9 ('9', 's0', 's1', 's2', 's3', ...)")


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
    "repeated omics": (
        replaced("omics", "id", [1, 2, 2, 4, 1]),
        "omics: .*found '1', '2' more than once .*keep one row per id",
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


def repeated_tables() -> dict[str, pd.DataFrame]:
    """The six individuals; 2 and 3 with several records, 5 and 6 with none, 8 a stranger."""
    rows = [
        # id, batch, y, sex, n
        ("3", 1, 3.5, "f", 2.0),
        ("8", 2, 8.5, "m", 1.0),
        ("2", 2, 2.5, "m", 1.0),
        ("3", 2, np.nan, "f", np.nan),
        ("4", 1, np.nan, "f", np.nan),
        ("2", 2, 2.0, None, 4.0),
        ("1", 2, 1.5, "m", 1.0),
        ("3", 3, 3.0, "f", 0.5),
        ("8", 2, 8.0, "m", 1.0),
    ]
    columns = ["id", "batch", "y", "sex", "n"]
    return tables() | {"phenotypes": pd.DataFrame(rows, columns=columns)}


def test_without_repeats_records_are_the_individuals() -> None:
    data = dataset()
    np.testing.assert_array_equal(data.record_rows, np.arange(6))
    pd.testing.assert_frame_equal(data.individual_covariates, data.covariates)
    assert data.varying_columns == {}
    assert data.weights is data.omics_weights is data.pedigree is data.pedigree_rows is None
    assert data.marker_groups is data.connections is None
    assert data.report.connections is data.report.connected_nodes is None
    assert data.relationships == {}


def test_repeated_records_follow_the_individuals() -> None:
    data = read_dataset(**repeated_tables(), trait="y")
    nan = np.nan
    np.testing.assert_array_equal(data.record_rows, [0, 1, 1, 2, 2, 2, 3, 4, 5])
    np.testing.assert_array_equal(data.phenotype, [1.5, 2.5, 2.0, 3.5, nan, 3.0, nan, nan, nan])
    assert list(data.covariates.index) == data.ids[data.record_rows].tolist()
    assert data.covariates["batch"].tolist()[:7] == [2, 2, 2, 1, 2, 3, 1]
    assert data.covariates["batch"].isna().tolist() == [False] * 7 + [True] * 2
    assert data.omics.shape == (6, 2)


def test_covariates_of_individuals_leave_out_what_varies() -> None:
    data = read_dataset(**repeated_tables(), trait="y")
    assert data.varying_columns == {"batch": "3", "n": "2"}
    individual = data.individual_covariates
    assert list(individual.columns) == ["sex"]
    assert list(individual.index) == data.ids.tolist()
    assert individual["sex"].fillna("?").tolist() == ["m", "m", "f", "f", "?", "?"]


@pytest.mark.parametrize("formula", ["~ batch", "~ sex + C(batch)", "~ log(batch):sex"])
def test_design__raises_on_a_column_that_varies_within_an_individual(formula: str) -> None:
    data = read_dataset(**repeated_tables(), trait="y")
    arguments = {"what": "fixed effects of omics", "varying": data.varying_columns}
    needed = np.arange(6) < 4
    message = (
        r"fixed effects of omics: expected columns that are constant within an individual, found "
        r"different values of 'batch' among the records of '3'; leave it out here"
    )
    with pytest.raises(InputError, match=message):
        design_matrix(formula, data.individual_covariates, needed=needed, **arguments)
    design = design_matrix("~ sex", data.individual_covariates, needed=needed, **arguments)
    np.testing.assert_array_equal(design.matrix[:4, 1], [1, 1, 0, 0])


def test_all_covariates_may_vary() -> None:
    given = repeated_tables()
    given["phenotypes"] = given["phenotypes"][["id", "y", "batch"]]
    data = read_dataset(**given, trait="y")
    assert data.individual_covariates.shape == (6, 0)
    assert list(data.individual_covariates.index) == data.ids.tolist()


def test_report_counts_records() -> None:
    report = read_dataset(**repeated_tables(), trait="y").report
    assert (report.records, report.phenotyped, report.repeatedly_phenotyped) == (5, 3, 2)
    assert report.dropped_phenotypes.rows == 2
    assert report.dropped_phenotypes.first_ids == ("8",)
    lines = report.lines()
    assert lines[2:5] == [
        "  with phenotype 'y': 3; with omics too: 1",
        "  records of 'y': 5; individuals with more than one: 2",
        "  candidates with neither: 1",
    ]
    assert lines[-2] == "rows of phenotypes dropped, not genotyped: 2 ('8')"


def test_mask_of_individuals_and_of_records() -> None:
    data = read_dataset(**repeated_tables(), trait="y")
    nan = np.nan
    by_individual = data.mask(phenotype=data.ids == "3")
    np.testing.assert_array_equal(by_individual.phenotype, [1.5, 2.5, 2.0] + [nan] * 6)
    assert by_individual.report.records == 3
    by_record = data.mask(phenotype=np.arange(9) == 3)
    np.testing.assert_array_equal(by_record.phenotype, [1.5, 2.5, 2.0, nan, nan, 3.0] + [nan] * 3)
    assert by_record.report.repeatedly_phenotyped == 1
    with pytest.raises(InputError, match=r"shape \(6,\) or \(9,\), found bool of shape \(4,\)"):
        data.mask(phenotype=np.zeros(4, dtype=bool))


def test_weights_of_records_and_of_omics() -> None:
    given = repeated_tables()
    given["phenotypes"]["v"] = [3.0, 9.0, 2.0, np.nan, 4.0, 2.0, 1.0, 3.0, 9.0]
    given["omics"] = given["omics"][["id", "gene1"]]
    data = read_dataset(**given, trait="y", weights="n", omics_weights="v")
    np.testing.assert_array_equal(data.weights, [1, 1, 4, 2, 1, 0.5, 1, 1, 1])
    np.testing.assert_array_equal(data.omics_weights, [1, 2, 3, 4, 1, 1])
    assert list(data.covariates.columns) == ["batch", "sex"]
    assert data.mask(phenotype=data.ids == "3").weights is data.weights


@pytest.mark.parametrize(
    ("column", "values", "message"),
    [
        ("weights", [0.0] + [1.0] * 8, "positive weights where .*, found 0 in column 'v', id '3'"),
        ("weights", [1.0] * 6 + [np.nan, 1, 1], "found none in column 'v', id '1'; correct it"),
        ("weights", [1.0] * 6 + [-2.0, 1, 1], "found -2 in column 'v', id '1'"),
        ("weights", [1.0] * 6 + [np.inf, 1, 1], "finite numbers, found inf in column 'v', id '1'"),
        ("omics_weights", [1.0] * 9, "found none in column 'v', id '6'"),
        (
            "omics_weights",
            [1.0, 1, 1, 1, 1, 2, 1, 1, 1],
            "one value of 'v' for each individual, found 1 and 2 for '2'; correct the records",
        ),
    ],
)
def test_read_dataset__raises_on_bad_weights(column: str, values: list, message: str) -> None:
    given = repeated_tables()
    given["phenotypes"]["v"] = values
    with pytest.raises(InputError, match=f"phenotypes: expected .*{message}"):
        read_dataset(**given, trait="y", **{column: "v"})


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nn", "the weights 'nn', found the columns 'batch', 'sex', 'n'; did you mean 'n'"),
        ("y", "the weights 'y', found the columns 'batch', 'sex', 'n'; choose one"),
    ],
)
def test_read_dataset__raises_on_unknown_weights(name: str, message: str) -> None:
    with pytest.raises(InputError, match=f"phenotypes: expected {message}"):
        read_dataset(**repeated_tables(), trait="y", weights=name)


PEDIGREE = pd.DataFrame(
    {"id": range(1, 8), "sire": [0, 0, 1, 1, 4, 4, 4], "dam": [0, 0, 2, 0, 3, 3, 20]}
)
KINSHIP = pd.DataFrame(
    np.eye(7) + 0.25, index=[f"{i}" for i in range(7, 0, -1)], columns=list("7654321")
)


def test_pedigree_and_relationships_follow_the_individuals() -> None:
    kinship = KINSHIP.copy()
    kinship.loc["1", "3"] = kinship.loc["3", "1"] = 0.75
    given = read_relationship(kinship, name="another name")
    data = read_dataset(
        **tables(), trait="y", pedigree=PEDIGREE, relationships={"K": given, "L": KINSHIP}
    )
    assert data.pedigree.ids[data.pedigree_rows].tolist() == data.ids.tolist()
    assert list(data.relationships) == ["K", "L"]
    expected = np.eye(6) + 0.25
    np.testing.assert_array_equal(data.relationships["L"], expected)
    expected[0, 2] = expected[2, 0] = 0.75
    np.testing.assert_array_equal(data.relationships["K"], expected)
    assert data.report.lines()[4:7] == [
        "pedigree: 8 animals, 3 without known parents (1 of these listed as parents only)",
        "  inbred: 2; mean inbreeding of all: 0.0312",
        "markers: 2; dropped: 1 constant, 1 without data",
    ]
    report = data.report.to_dict()
    assert json.loads(json.dumps(report)) == report
    assert report["pedigree"]["added"] == 1
    whole = read_dataset(**tables(), trait="y", pedigree=read_pedigree(PEDIGREE))
    np.testing.assert_array_equal(whole.pedigree_rows, data.pedigree_rows)


def test_read_dataset__raises_naming_all_that_pedigree_and_matrices_lack() -> None:
    message = (
        "pedigree, relationship 'K': expected all genotyped individuals, found none of '3', '6' in "
        "pedigree and none of '1' in relationship 'K'; add them there or leave these individuals"
    )
    lacking = KINSHIP.drop(index="1", columns="1")
    with pytest.raises(InputError, match=message):
        read_dataset(
            **tables(),
            trait="y",
            pedigree=PEDIGREE[~PEDIGREE["id"].isin([3, 6])].assign(dam=0),
            relationships={"K": lacking, "L": KINSHIP},
        )


def test_without_genotypes_the_individuals_are_the_animals_of_the_pedigree() -> None:
    given = tables() | {"genotypes": None}
    data = read_dataset(**given, trait="y", pedigree=PEDIGREE)
    assert data.ids.tolist() == ["20", "1", "2", "3", "4", "5", "6", "7"]
    assert data.genotypes.shape == (8, 0)
    assert data.genotypes.dtype == np.int8
    assert data.markers.shape == (0,)
    np.testing.assert_array_equal(data.pedigree_rows, np.arange(8))
    np.testing.assert_array_equal(data.phenotype[[1, 2, 3, 7]], [1.5, 2.5, 3.5, 7.5])
    assert data.report.missing_genotypes_share == 0.0
    assert data.report.lines() == [
        "individuals, those of the pedigree: 8",
        "  with omics: 1 complete, 2 partial, 5 none",
        "  with phenotype 'y': 4; with omics too: 1",
        "  candidates with neither: 2",
        "pedigree: 8 animals, 3 without known parents (1 of these listed as parents only)",
        "  inbred: 2; mean inbreeding of all: 0.0312",
        "omics: 2 columns; cells missing: 12 (75.00%)",
        "rows of omics dropped, not in the pedigree: 1 ('9')",
        "rows of phenotypes dropped, not in the pedigree: 1 ('8')",
    ]


def test_without_genotypes_and_pedigree_the_first_matrix_lists_the_individuals() -> None:
    given = tables() | {"genotypes": None, "omics": None}
    data = read_dataset(**given, trait="y", relationships={"K": KINSHIP})
    assert data.ids.tolist() == list("7654321")
    assert data.pedigree is data.pedigree_rows is None
    np.testing.assert_array_equal(data.relationships["K"], KINSHIP)
    assert data.report.individuals_from == "relationship 'K'"


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        ({}, {}, "data: expected genotypes, a pedigree or a relationship matrix, found none of t"),
        (
            {"phenotypes": tables()["phenotypes"].assign(id=list("abcdef"))},
            {"pedigree": PEDIGREE},
            "phenotypes: expected ids that occur in the pedigree .'20', '1', '2', ... .8 in all",
        ),
        (
            {"phenotypes": tables()["phenotypes"].assign(y=[None, 8.5, None, None, None, None])},
            {"relationships": {"K": KINSHIP}},
            "phenotypes, individuals of the relationship 'K': expected values of the trait 'y'",
        ),
        (
            {},
            {"pedigree": PEDIGREE, "relationships": {"K": KINSHIP}},
            "relationship 'K': expected all individuals of the pedigree, found none of '20' in rel",
        ),
        ({}, {"pedigree": PEDIGREE.assign(sire=[1, 0, 1, 1, 4, 4, 4])}, "pedigree: .* found '1'"),
    ],
)
def test_read_dataset__raises_without_genotypes(change: dict, options: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_dataset(**(tables() | {"genotypes": None} | change), trait="y", **options)


def test_marker_groups_are_joined_with_markers_and_nodes() -> None:
    groups = pd.DataFrame(
        {"marker": ["m2", "same", "m1"], "group": ["x", "z", "y"], "node": ["", "", "gene2"]}
    )
    data = read_dataset(**tables(), trait="y", marker_groups=groups)
    assert data.marker_groups.names == ("x", "y", "other")
    np.testing.assert_array_equal(data.marker_groups.codes, [[2, 1], [0, 0]])
    with pytest.raises(InputError, match=r"marker groups: .* found 1 other\(s\): 'm3'"):
        read_dataset(**tables(), trait="y", marker_groups=groups.assign(marker=["m2", "m1", "m3"]))


def test_connections_are_joined_with_markers() -> None:
    table = pd.DataFrame(
        {"marker": ["m2", "m1", "same", "same"], "node": ["gene2", "gene2", "latent1", "gene1"]}
    )
    data = read_dataset(**tables(), trait="y", connections=table)
    assert data.connections.nodes == ("gene2", "latent1", "gene1")
    assert [positions.tolist() for positions in data.connections.markers] == [[0, 1], [], []]
    line = "connections: 2 of a marker and a node; nodes with any: 1"
    assert line in data.report.lines()
    masked = data.mask(phenotype=data.ids == data.ids[0])
    assert masked.connections is data.connections
    assert line in masked.report.lines()
    assert data.report.to_dict()["connections"] == 2
    with pytest.raises(InputError, match=r"connections: .* found 1 other\(s\): 'm3'"):
        read_dataset(**tables(), trait="y", connections=table.assign(marker="m3"))


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
