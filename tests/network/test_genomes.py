from itertools import pairwise

import numpy as np
import pytest

from nnmm_jax.errors import InputError
from nnmm_jax.network.genomes import (
    MINOR_ALLELE_FREQUENCY,
    breed_selected,
    drop_genes,
    make_founders,
    make_gametes,
    make_pedigree,
    recombination_rates,
)

FOUNDERS = dict(
    founders=200,
    markers=400,
    chromosomes=2,
    chromosome_length=1.0,
    ancestral_size=50,
    ancestral_generations=50,
)


@pytest.fixture(scope="module")
def founders():
    return make_founders(np.random.default_rng(1), **FOUNDERS)


def test_gametes_recombine_by_haldanes_map_function():
    # loci at 0, 10 and 50 cM of one chromosome and one locus of another; parent 000 0 / 111 1
    rates = recombination_rates(np.array([0, 0, 0, 1]), np.array([0.0, 0.1, 0.5, 0.2]))
    parent = np.array([[[0, 0, 0, 0], [1, 1, 1, 1]]], dtype=np.int8)
    n = 20_000
    gametes = make_gametes(np.random.default_rng(1), parent, np.zeros(n, dtype=int), rates)
    for locus, expected in (
        (1, 0.5 * (1 - np.exp(-0.2))),
        (2, 0.5 * (1 - np.exp(-1.0))),
        (3, 0.5),
    ):
        observed = (gametes[:, locus] != gametes[:, 0]).mean()
        # 4 binomial standard errors: fails for one seed in 16,000
        assert abs(observed - expected) < 4 * np.sqrt(expected * (1 - expected) / n)
    assert abs(gametes[:, 0].mean() - 0.5) < 4 * np.sqrt(0.25 / n)


def test_linkage_disequilibrium_decays_with_distance(founders):
    haplotypes, marker_map = founders
    r2 = np.corrcoef(haplotypes.reshape(-1, 400).T) ** 2
    chromosome = marker_map["chromosome"].to_numpy()
    position = marker_map["position"].to_numpy()
    upper = np.triu(np.ones_like(r2, dtype=bool), 1)
    same = upper & (chromosome[:, None] == chromosome)
    distance = np.abs(position[:, None] - position)
    edges = [0, 1, 5, 20, 100]
    means = [
        r2[same & (distance >= low) & (distance < high)].mean() for low, high in pairwise(edges)
    ]
    assert all(near > far for near, far in pairwise(means))
    # Sved's 1 / (1 + 4 N c), N = 50, is 0.5 at 0.5 cM and 0.01 between chromosomes. 50 generations
    # get part of the way to the first (over seeds: mean 0.33, sd 0.04), all of it to the second
    # (mean 0.009, sd 0.001).
    assert means[0] > 0.33 - 4 * 0.04
    assert r2[upper & ~same].mean() < 0.009 + 4 * 0.001


def test_founders_are_polymorphic_and_sorted(founders):
    haplotypes, marker_map = founders
    frequency = haplotypes.mean(axis=(0, 1))
    assert haplotypes.shape == (200, 2, 400)
    assert np.minimum(frequency, 1 - frequency).min() >= MINOR_ALLELE_FREQUENCY
    assert (marker_map.groupby("chromosome")["marker"].size() == 200).all()
    assert marker_map.groupby("chromosome")["position"].is_monotonic_increasing.all()
    assert marker_map["position"].between(0, 100).all()


def test_founders__raises_on_too_few_polymorphic_loci():
    settings = FOUNDERS | {"ancestral_size": 2, "ancestral_generations": 200}
    with pytest.raises(InputError, match="chromosome 1 has 0 polymorphic loci"):
        make_founders(np.random.default_rng(1), **settings)


def make_families(individuals=1000, generations=2):
    return make_pedigree(
        np.random.default_rng(2),
        individuals=individuals,
        founders=200,
        generations=generations,
        family_size=5,
        dams_per_sire=3,
    )


def test_pedigree_has_full_and_half_sibs_of_the_generation_before():
    pedigree = make_families()
    offspring = pedigree.generation > 0
    assert (pedigree.sire[~offspring] == -1).all()
    assert (pedigree.dam[~offspring] == -1).all()
    assert pedigree.male[pedigree.sire[offspring]].all()
    assert not pedigree.male[pedigree.dam[offspring]].any()
    for parent in (pedigree.sire, pedigree.dam):
        before = pedigree.generation[parent[offspring]]
        np.testing.assert_array_equal(before, pedigree.generation[offspring] - 1)
    first = pedigree.generation == 1
    pairs = np.unique(np.stack([pedigree.sire, pedigree.dam])[:, first], axis=1, return_counts=True)
    assert set(pairs[1]) == {5}
    dams_of_sire = np.unique(pairs[0][0], return_counts=True)[1]
    assert dams_of_sire.max() == 3


def test_pedigree_reuses_parents_when_there_are_few():
    pedigree = make_pedigree(
        np.random.default_rng(2),
        individuals=100,
        founders=4,
        generations=1,
        family_size=5,
        dams_per_sire=1,
    )
    assert set(pedigree.sire[4:]) | set(pedigree.dam[4:]) == {0, 1, 2, 3}


def test_families_share_alleles(founders):
    haplotypes, marker_map = founders
    pedigree = make_families()
    dosages = drop_genes(np.random.default_rng(3), haplotypes, pedigree, marker_map)
    assert dosages.dtype == np.int8
    assert set(np.unique(dosages)) == {0, 1, 2}
    offspring = np.flatnonzero(pedigree.generation > 0)
    for parent in (pedigree.sire, pedigree.dam):
        # a child of a homozygote carries its allele
        assert np.abs(dosages[offspring] - dosages[parent[offspring]]).max() == 1

    centred = dosages - 2 * haplotypes.mean(axis=(0, 1))
    frequency = haplotypes.mean(axis=(0, 1))
    relationship = centred @ centred.T / (2 * frequency * (1 - frequency)).sum()
    first = np.flatnonzero(pedigree.generation == 1)
    same_sire = pedigree.sire[first][:, None] == pedigree.sire[first]
    same_dam = pedigree.dam[first][:, None] == pedigree.dam[first]
    block = relationship[np.ix_(first, first)]
    others = ~np.eye(len(first), dtype=bool)
    # Expected 1/2, 1/4 and, as founders sum to zero, -1/200; over seeds the means have sd 0.0135,
    # 0.014 and 0.0017: 4 of them.
    assert abs(block[others & same_dam].mean() - 0.5) < 4 * 0.0135
    assert abs(block[same_sire & ~same_dam].mean() - 0.25) < 4 * 0.014
    assert abs(block[~same_sire & ~same_dam].mean() + 0.005) < 4 * 0.0017


def bred(founders, selected):
    """Mean value of each generation, in genetic standard deviations of the founders."""
    haplotypes, marker_map = founders
    rng = np.random.default_rng(5)
    effects = rng.standard_normal(400)
    first = haplotypes.sum(axis=1) @ effects
    generations = breed_selected(
        rng,
        haplotypes,
        marker_map,
        lambda dosages: dosages @ effects + first.std() * rng.standard_normal(len(dosages)),
        sizes=[400] * 5,
        selected=selected,
        family_size=2,
        dams_per_sire=10,
    )
    dosages = list(generations)
    assert [len(one) for one in dosages] == [200, *[400] * 5]
    assert set(np.unique(np.concatenate(dosages))) == {0, 1, 2}
    means = np.array([(one @ effects).mean() for one in dosages])
    return (means - means[0]) / first.std()


def test_selection_of_sires_raises_values(founders):
    means = bred(founders, 0.1)
    assert (np.diff(means) > 0).all()
    # the best tenth of one sex, heritability one half: 1.755 / 2 x sqrt(.5) = .62 at first
    assert 0.3 < np.mean(np.diff(means)) < 0.7


def test_without_selection_values_drift_only(founders):
    assert np.abs(bred(founders, 1.0)[1:]).max() < 0.5
