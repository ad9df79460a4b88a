import numpy as np
import pandas as pd
import pytest

import nnmm_jax as nm
from nnmm_jax.errors import InputError
from nnmm_jax.reports.folds import labels_of, make_folds, random_folds


def build(n=23, *, pedigree=False, records=()):
    """Individual 0 has no phenotype; omics of the first third are missing."""
    random = np.random.default_rng(1)
    ids = [f"i{i}" for i in range(n)]
    genotypes = pd.DataFrame({"id": ids, "m1": np.arange(n) % 3, "m2": np.arange(n) % 2})
    omics = pd.DataFrame({"id": ids, "a": random.normal(size=n), "b": random.normal(size=n)})
    omics.loc[: n // 3, ["a", "b"]] = np.nan
    owners = [*ids, *records]
    phenotypes = pd.DataFrame({"id": owners, "y": random.normal(size=len(owners))})
    phenotypes.loc[0, "y"] = np.nan
    phenotypes["generation"] = [1 + int(name[1:]) * 3 // n for name in owners]
    phenotypes["herd"] = [f"h{k % 2}" for k in range(len(owners))]
    parents = None
    if pedigree:
        parents = pd.DataFrame(
            {
                "id": ids,
                "sire": [None, None, *(["i0"] * (n - 2))],
                "dam": [None, None, *["i1" if k % 2 else "i2" for k in range(n - 2)]],
            }
        )
        parents.loc[2, ["sire", "dam"]] = None
    return nm.read_dataset(genotypes, omics, phenotypes, "y", pedigree=parents)


@pytest.mark.parametrize("folds", [2, 3, 5, 22])
def test_everyone_is_scored_once_and_hidden_numbers_are_equal(folds):
    dataset = build()
    found = make_folds(dataset, folds, repeats=2, seed=3)
    assert len(found) == 2 * folds
    phenotyped = ~np.isnan(dataset.phenotype)
    without = np.isnan(dataset.omics).all(axis=1)
    for repeat in (1, 2):
        mine = [fold for fold in found if fold.repeat == repeat]
        np.testing.assert_array_equal(sum(fold.scored for fold in mine), phenotyped)
        assert all((fold.hidden >= fold.scored).all() for fold in mine)
        assert not any(fold.hidden[~phenotyped].any() for fold in mine)
        for stratum in (without, ~without):
            assert len({int(fold.hidden[stratum].sum()) for fold in mine}) == 1
        totals = [fold.scored.sum() for fold in mine]
        assert max(totals) - min(totals) <= 1
    assert any(
        (a.scored != b.scored).any() for a, b in zip(found[:folds], found[folds:], strict=True)
    )


def test_folds_depend_on_the_seed_alone():
    dataset = build()
    one, two, other = (make_folds(dataset, 4, seed=seed) for seed in (1, 1, 2))
    assert all((a.hidden == b.hidden).all() for a, b in zip(one, two, strict=True))
    assert any((a.hidden != b.hidden).any() for a, b in zip(one, other, strict=True))


def test_small_strata_never_lose_all_their_members():
    strata = np.array([0] * 10 + [1, 1] + [2])
    for fold in random_folds(strata, 5, repeats=1, seed=0):
        assert not fold.hidden[strata == 1].all()


def test_a_column_gives_the_folds():
    dataset = build()
    found = make_folds(dataset, by="generation", seed=1)
    assert [fold.name for fold in found] == ["1", "2", "3"]
    for fold in found:
        generation = dataset.covariates["generation"][fold.hidden]
        assert set(generation.astype(str)) == {fold.name}
        np.testing.assert_array_equal(fold.hidden, fold.scored)


def test_labels_stay_together_in_fewer_folds():
    dataset = build()
    by = pd.Series({name: f"f{int(name[1:]) // 3}" for name in dataset.ids})
    found = make_folds(dataset, 3, by, repeats=2, seed=1)
    assert len(found) == 6
    sizes = [fold.hidden.sum() for fold in found]
    assert sum(sizes) == 2 * 22
    assert max(sizes) - min(sizes) <= 3
    for fold in found:
        inside, outside = set(by[fold.hidden]), set(by[~fold.hidden & ~np.isnan(dataset.phenotype)])
        assert not inside & outside


def test_families_come_from_the_pedigree():
    labels = labels_of(build(pedigree=True), "family")
    assert set(labels) == {"i0", "i1", "i2", "i0 x i1", "i0 x i2"}


def test_tables_mappings_and_arrays_are_the_same_labels():
    dataset = build()
    labels = [f"g{k % 4}" for k in range(len(dataset.ids))]
    mapping = dict(zip(dataset.ids, labels, strict=True))
    table = pd.DataFrame({"id": dataset.ids[::-1], "fold": labels[::-1]})
    for by in (mapping, pd.Series(mapping), table, np.array(labels)):
        assert labels_of(dataset, by).tolist() == labels
    partial = labels_of(dataset, {"i3": 1, "i4": 2.0, "i5": None})
    assert partial[:7].tolist() == ["", "", "", "1", "2", "", ""]
    found = make_folds(dataset, by={"i3": 1, "i4": 2}, seed=1)
    assert [fold.hidden.sum() for fold in found] == [1, 1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"folds": 23}, "at most 22, the number of individuals with a phenotype, found 23"),
        ({"folds": 1}, "folds: expected a whole number of at least 2, found 1"),
        ({"folds": True}, "folds: expected a whole number"),
        ({"repeats": 0}, "repeats: expected a whole number of at least 1, found 0"),
        ({"by": "breed"}, "found no 'breed' among 'generation', 'herd'"),
        ({"by": "family"}, "or a pedigree, of which there is none"),
        ({"by": "generation", "folds": 4}, "expected at least 4 labels with a phenotype, found 3"),
        ({"by": "generation", "repeats": 2}, "expected 1 where every label is a fold, found 2"),
        ({"by": {"i0": "a", "i1": "b", "i2": "c"}}, "a phenotype in every fold, found none in 'a'"),
        ({"by": {"i1": "b", "i2": "b"}}, "expected at least 2 labels with a phenotype, found 1"),
        ({"by": {"x": "a"}}, "expected ids of the data, found others: 'x'"),
        ({"by": pd.Series([1, 2], ["i1", "i1"])}, "expected every id once, found 'i1'"),
        ({"by": np.arange(3)}, r"expected 23, one for each individual, found an array of shape"),
        ({"by": pd.DataFrame({"id": ["i1"]})}, "expected two columns, id and label, found 1"),
    ],
)
def test_make_folds__raises_on_folds_that_cannot_be(arguments, message):
    with pytest.raises(InputError, match=message):
        make_folds(build(), **({"seed": 1} | arguments))


def test_make_folds__raises_on_a_column_that_differs_between_records():
    dataset = build(records=("i4",))
    with pytest.raises(InputError, match="'herd' to differ between the records of 'i4'"):
        make_folds(dataset, by="herd", seed=1)


def test_records_of_an_individual_are_hidden_together():
    dataset = build(records=("i4", "i9", "i9"))
    found = make_folds(dataset, 3, seed=1)
    masked = dataset.mask(phenotype=found[0].hidden)
    assert np.isnan(masked.phenotype[found[0].hidden[dataset.record_rows]]).all()
