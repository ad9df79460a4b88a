"""Simulated genomes: linkage disequilibrium from a small ancestral population, then families.

Haplotypes are int8 arrays (individual, 2, locus) of alleles 0/1, loci sorted by chromosome and
position. Crossovers follow Haldane's map function: no interference.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from nnmm_jax.errors import InputError

MINOR_ALLELE_FREQUENCY = 0.05  # lowest among the founders; rarer loci are no markers
_ROWS = 1024  # gametes made at once: bounds the memory for crossovers


@dataclass(frozen=True, eq=False)
class Pedigree:
    """Individuals sorted by generation, parents before offspring.

    Attributes
    ----------
    sire, dam : np.ndarray (individual,) int
        Row number of the parents, -1 for founders.
    generation : np.ndarray (individual,) int
        0 for founders.
    male : np.ndarray (individual,) bool
    """

    sire: np.ndarray
    dam: np.ndarray
    generation: np.ndarray
    male: np.ndarray


def make_pedigree(
    rng: np.random.Generator,
    *,
    individuals: int,
    founders: int,
    generations: int,
    family_size: int,
    dams_per_sire: int,
) -> Pedigree:
    """Make founders and ``generations`` generations of full- and half-sib families.

    Each dam has one family of ``family_size`` full sibs; the families of the ``dams_per_sire``
    dams mated to one sire are half sibs. Parents come from the previous generation and are used
    again when there are too few. Sexes are balanced within a generation.
    """
    sizes = [founders]
    sizes += [len(part) for part in np.array_split(np.arange(individuals - founders), generations)]
    starts = np.concatenate([[0], np.cumsum(sizes)])
    sire = np.full(individuals, -1)
    dam = np.full(individuals, -1)
    male = np.concatenate([rng.permutation(np.arange(size) % 2 == 0) for size in sizes])
    for g in range(1, generations + 1):
        rows = np.arange(starts[g], starts[g + 1])
        parents = np.arange(starts[g - 1], starts[g])
        sire[rows], dam[rows] = _mate(
            rng,
            parents[male[parents]],
            parents[~male[parents]],
            len(rows),
            family_size,
            dams_per_sire,
        )
    generation = np.repeat(np.arange(generations + 1), sizes)
    return Pedigree(sire=sire, dam=dam, generation=generation, male=male)


def _mate(
    rng: np.random.Generator,
    males: np.ndarray,
    females: np.ndarray,
    offspring: int,
    family_size: int,
    dams_per_sire: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Sire and dam (offspring,) of families that are made of candidates in random order."""
    families = -(-offspring // family_size)
    dams = np.resize(rng.permutation(females), families)
    sires = np.resize(rng.permutation(males), -(-families // dams_per_sire))
    family = np.arange(offspring) // family_size
    return sires[family // dams_per_sire], dams[family]


def recombination_rates(chromosome: np.ndarray, position: np.ndarray) -> np.ndarray:
    """Recombination rate between each locus and the one before it (Haldane 1919).

    Parameters
    ----------
    chromosome, position : np.ndarray (locus,)
        Sorted; position in Morgan.

    Returns
    -------
    np.ndarray (locus,)
        ``(1 - exp(-2 d)) / 2`` at distance d; 1/2 at the first locus of a chromosome, so that
        chromosomes are inherited independently.
    """
    rate = 0.5 * -np.expm1(-2.0 * np.diff(position, prepend=0.0).clip(min=0.0))
    rate[np.diff(chromosome, prepend=-1) != 0] = 0.5
    return rate


def make_gametes(
    rng: np.random.Generator, haplotypes: np.ndarray, parents: np.ndarray, rates: np.ndarray
) -> np.ndarray:
    """Draw one gamete of each parent: int8 (len(parents), locus)."""
    gametes = np.empty((len(parents), haplotypes.shape[2]), dtype=np.int8)
    for start in range(0, len(parents), _ROWS):
        rows = parents[start : start + _ROWS]
        crossover = rng.random((len(rows), len(rates)), dtype=np.float32) < rates
        strand = np.logical_xor.accumulate(crossover, axis=1)
        gametes[start : start + _ROWS] = np.where(strand, haplotypes[rows, 1], haplotypes[rows, 0])
    return gametes


def make_founders(
    rng: np.random.Generator,
    *,
    founders: int,
    markers: int,
    chromosomes: int,
    chromosome_length: float,
    ancestral_size: int,
    ancestral_generations: int,
) -> tuple[np.ndarray, pd.DataFrame]:
    """Draw founders from a small random-mating population, where drift has made LD.

    Loci start in linkage equilibrium at frequency 1/2. After t generations at size N the expected
    squared correlation of loci at rate c tends to ``1 / (1 + 4 N c)`` (Sved 1971). Markers are
    taken at random from the loci that are polymorphic in the founders.

    Returns
    -------
    haplotypes : np.ndarray (founder, 2, marker) int8
    map : pd.DataFrame
        Columns marker, chromosome (from 1), position (centimorgan).

    Raises
    ------
    InputError
        If drift left too few polymorphic loci.
    """
    wanted = np.array([len(part) for part in np.array_split(np.arange(markers), chromosomes)])
    candidates = 2 * wanted + 20  # most loci stay polymorphic: twice as many are plenty
    chromosome = np.repeat(np.arange(chromosomes), candidates)
    position = np.concatenate([np.sort(rng.uniform(0, chromosome_length, k)) for k in candidates])
    rates = recombination_rates(chromosome, position)
    population = rng.integers(0, 2, (ancestral_size, 2, len(position)), dtype=np.int8)
    for _ in range(ancestral_generations):
        population = _random_mating(rng, population, ancestral_size, rates)
    population = _random_mating(rng, population, founders, rates)
    frequency = population.mean(axis=(0, 1))
    polymorphic = np.minimum(frequency, 1 - frequency) >= MINOR_ALLELE_FREQUENCY
    kept = []
    for c, count in enumerate(wanted):
        choices = np.flatnonzero(polymorphic & (chromosome == c))
        if len(choices) < count:
            raise InputError(
                f"simulation: chromosome {c + 1} has {len(choices)} polymorphic loci in the "
                f"founders, {count} markers are wanted: use more founders, a larger "
                f"ancestral_size or fewer ancestral_generations"
            )
        kept.append(np.sort(rng.choice(choices, count, replace=False)))
    loci = np.concatenate(kept)
    width = len(str(markers))
    marker_map = pd.DataFrame(
        {
            "marker": [f"m{j:0{width}d}" for j in range(1, markers + 1)],
            "chromosome": chromosome[loci] + 1,
            "position": 100.0 * position[loci],
        }
    )
    return population[:, :, loci], marker_map


def _random_mating(
    rng: np.random.Generator, population: np.ndarray, size: int, rates: np.ndarray
) -> np.ndarray:
    parents = rng.integers(0, len(population), 2 * size)
    return make_gametes(rng, population, parents, rates).reshape(size, 2, -1)


def breed_selected(
    rng: np.random.Generator,
    founders: np.ndarray,
    marker_map: pd.DataFrame,
    phenotypes: Callable[[np.ndarray], np.ndarray],
    *,
    sizes: Sequence[int],
    selected: float,
    family_size: int,
    dams_per_sire: int,
) -> Iterator[np.ndarray]:
    """Breed generation after generation with mass selection of sires.

    Parameters
    ----------
    rng : np.random.Generator
    founders : np.ndarray (founder, 2, locus) int8
        Haplotypes.
    marker_map : pd.DataFrame
        As of :func:`make_founders`.
    phenotypes : callable
        Phenotypes (individual,) of individuals with dosages (individual, locus); called once a
        generation.
    sizes : sequence of int
        Individuals of every generation after the founders.
    selected : float
        Share of the males, those of the highest phenotypes, that become sires. All females are
        dams.
    family_size, dams_per_sire : int
        As in :func:`make_pedigree`.

    Yields
    ------
    np.ndarray (individual, locus) int8
        Dosages of a generation, the founders first.
    """
    rates = _rates(marker_map)
    haplotypes = founders
    dosages = haplotypes.sum(axis=1, dtype=np.int8)
    yield dosages
    for size in sizes:
        male = rng.permutation(np.arange(len(dosages)) % 2 == 0)
        males, females = np.flatnonzero(male), np.flatnonzero(~male)
        best = males[np.argsort(-phenotypes(dosages)[males], kind="stable")]
        sires, dams = _mate(
            rng,
            best[: max(1, round(selected * len(best)))],
            females,
            size,
            family_size,
            dams_per_sire,
        )
        paternal = make_gametes(rng, haplotypes, sires, rates)
        maternal = make_gametes(rng, haplotypes, dams, rates)
        haplotypes = np.stack([paternal, maternal], axis=1)
        dosages = haplotypes.sum(axis=1, dtype=np.int8)
        yield dosages


def _rates(marker_map: pd.DataFrame) -> np.ndarray:
    position = marker_map["position"].to_numpy() / 100.0
    return recombination_rates(marker_map["chromosome"].to_numpy(), position)


def drop_genes(
    rng: np.random.Generator, founders: np.ndarray, pedigree: Pedigree, marker_map: pd.DataFrame
) -> np.ndarray:
    """Let the founders' haplotypes segregate through a pedigree.

    Returns
    -------
    np.ndarray (individual, marker) int8
        Dosages 0, 1, 2.
    """
    rates = _rates(marker_map)
    dosages = np.empty((len(pedigree.sire), len(rates)), dtype=np.int8)
    haplotypes, start = founders, 0
    for g in range(pedigree.generation[-1] + 1):
        rows = np.flatnonzero(pedigree.generation == g)
        if g > 0:
            # parents are of the generation before, whose first row is `start`
            paternal = make_gametes(rng, haplotypes, pedigree.sire[rows] - start, rates)
            maternal = make_gametes(rng, haplotypes, pedigree.dam[rows] - start, rates)
            haplotypes = np.stack([paternal, maternal], axis=1)
            start = int(rows[0])
        np.sum(haplotypes, axis=1, dtype=np.int8, out=dosages[rows[0] : rows[-1] + 1])
    return dosages
