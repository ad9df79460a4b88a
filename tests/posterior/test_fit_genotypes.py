import dataclasses

import numpy as np
import pandas as pd
import pytest

from nnmm_jax import Dosages
from nnmm_jax.data.imputation import draw_missing
from nnmm_jax.errors import InputError
from nnmm_jax.posterior.fit_genotypes import read_fit_genotypes


@pytest.fixture
def case(make_result):
    result = make_result(individuals=20, markers=6)
    codes = np.random.default_rng(1).integers(0, 3, (20, 6)).astype(np.int8)
    codes[2, 3] = -1
    means = np.nanmean(np.where(codes < 0, np.nan, codes), axis=0)
    constant = result.constant_data.assign(marker_dosage=(("marker",), means))
    markers = tuple(f"snp{j}" for j in range(6))
    result = dataclasses.replace(result, constant_data=constant.assign_coords(marker=list(markers)))
    return result, Dosages(codes, tuple(result.posterior["individual"].values), markers)


def frame(dosages):
    table = pd.DataFrame(dosages.codes, pd.Index(dosages.ids, name="animal"), dosages.markers)
    return table.replace(-1, np.nan)


def test_rows_and_columns_are_those_of_the_fit(case):
    result, dosages = case
    shuffled = frame(dosages).iloc[::-1, [5, 0, 1, 2, 4, 3]].assign(other=1)
    shuffled.loc["stranger"] = 1
    found = read_fit_genotypes(result, shuffled)
    np.testing.assert_array_equal(found.codes, dosages.codes)
    centred = found.centred(np.array([3, 0]))
    assert centred[2, 0] == 0.0
    np.testing.assert_allclose(centred.mean(axis=0), 0.0, atol=1e-12)


def test_the_file_of_the_fit_is_read_with_its_id_column(case, tmp_path):
    result, dosages = case
    table = frame(dosages).reset_index()
    table[[*dosages.markers, "animal"]].to_csv(tmp_path / "g.csv", index=False)
    files = {"genotypes": "g.csv", "folder": str(tmp_path), "id_column": "animal"}
    result = dataclasses.replace(result, run={**result.run, "files": files})
    np.testing.assert_array_equal(read_fit_genotypes(result).codes, dosages.codes)
    (tmp_path / "g.csv").unlink()
    with pytest.raises(InputError, match=r"g\.csv: expected a file, found nothing there"):
        read_fit_genotypes(result)


def test_missing_genotypes_that_the_fit_has_drawn_are_drawn_again(case):
    result, dosages = case
    drawn = dosages.codes.copy()
    draw_missing(drawn, 7)
    constant = result.constant_data.assign(marker_dosage=(("marker",), drawn.mean(axis=0)))
    run = {**result.run, "data": {"genotypes_drawn_seed": 7}}
    result = dataclasses.replace(result, constant_data=constant, run=run)
    np.testing.assert_array_equal(read_fit_genotypes(result, dosages).codes, drawn)
    assert dosages.codes[2, 3] == -1


def test_read__raises_without_a_name(case):
    with pytest.raises(InputError, match="does not say where its genotypes are"):
        read_fit_genotypes(case[0])


def test_read__raises_on_individuals_that_lack(case):
    result, dosages = case
    with pytest.raises(InputError, match="all 20 individuals of the fit, found none of 'id0004';"):
        read_fit_genotypes(result, frame(dosages).drop(index="id0004"))


def test_read__raises_on_other_dosages(case):
    result, dosages = case
    table = frame(dosages)
    table.loc["id0003", "snp2"] = 2 - table.loc["id0003", "snp2"] or 1
    with pytest.raises(InputError, match=r"found others for 1 of 6 markers, such as .* 'snp2'"):
        read_fit_genotypes(result, table)


def test_read__says_that_the_other_allele_is_counted(case):
    result, dosages = case
    with pytest.raises(InputError, match="they count the other allele"):
        read_fit_genotypes(result, 2 - frame(dosages))


def test_read__raises_without_markers(make_result):
    with pytest.raises(InputError, match="the fit has no markers"):
        read_fit_genotypes(make_result())


def test_places_are_those_of_the_markers_of_the_fit(case):
    result, dosages = case
    order = [4, 0, 1, 2, 5, 3]
    codes = np.column_stack([dosages.codes[:, order], np.ones(20, dtype=np.int8)])
    names = (*(dosages.markers[j] for j in order), "other")
    places = pd.DataFrame({"chromosome": "1", "position": [40, 0, 10, 20, 50, 30, 99]})
    found = read_fit_genotypes(result, Dosages(codes, dosages.ids, names, places))
    np.testing.assert_array_equal(found.codes, dosages.codes)
    assert found.places["position"].tolist() == [0, 10, 20, 30, 40, 50]
