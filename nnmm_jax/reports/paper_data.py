"""Data as the NN-MM paper simulated them: many omics, 11 generations, the youngest to predict.

Zhao, Zeng & Cheng 2022 took a sample of 5% of every generation of the simulated population of
Christensen et al. 2021. Here such a population is made anew for every data set, by
:mod:`nnmm_jax.network.genomes`.

That population was under selection: in the breeding values that the authors published
(github.com/zhaotianjing/NN-MM, tbv_m.csv of 20 samples, 13,506 individuals) the mean rises from
-6.8 in the second generation to 7.5 in the eleventh, 0.44 standard deviations within a generation
each time. It matters: the single-step approach centres omics among the measured, who with most
omics missing are the youngest, while the relationships that it compares them with are centred
among all.
"""

from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd

from nnmm_jax.data.align import Dataset, read_dataset
from nnmm_jax.errors import InputError
from nnmm_jax.network.activations import NO_THETA, activation_by_name
from nnmm_jax.network.genomes import breed_selected, make_founders
from nnmm_jax.network.simulate import TRAIT

RELATIONSHIP = "G"  # its name in the data set

VAR_GENETIC, VAR_RESIDUAL = 1.22, 0.78  # of every omics trait
VAR_NODE_EFFECT = 0.01
H2_OMICS = VAR_GENETIC / (VAR_GENETIC + VAR_RESIDUAL)
# Of the phenotype's variance, by omics: h2 0.27 / 0.61 of a total without the 0.2 of the direct
# polygenic effect, which the paper leaves out.
SHARE_MEDIATED = (0.27 / 0.61) / 0.8

GENERATIONS = 10  # after the founders
_FOUNDERS = 55 / 1055  # share of the individuals
_SAMPLED = 20  # one of so many individuals of the population
_QTL = 0.5  # QTL for each marker; they are not among the markers
_CAUSAL = 0.1  # share of the QTL that act on an omics trait
_LEAST = 60


@dataclass(frozen=True)
class PaperSettings:
    """Size of a data set and the function of the middle layer.

    Attributes
    ----------
    individuals : int
        In 11 generations.
    test : int
        The youngest among them, without phenotype.
    markers : int
        Markers behind the genomic relationships; half as many QTL come on top.
    omics : int
    activation : str
        As in :class:`nnmm_jax.Network`.
    selected : float
        Share of the males that become sires, those with the highest phenotypes; 1 for no
        selection.

    Raises
    ------
    InputError
        If a number is too small, or an activation unknown.

    Examples
    --------
    >>> PaperSettings().individuals
    1055
    """

    individuals: int = 1055
    test: int = 100
    markers: int = 5000
    omics: int = 1200
    activation: str = "linear"
    selected: float = 0.1

    def __post_init__(self) -> None:
        """Check every value."""
        activation_by_name(self.activation)
        for name, least in (("individuals", _LEAST), ("test", 3), ("markers", 40), ("omics", 2)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise InputError(f"{name} must be a whole number of at least {least}, got {value}")
        if not 0.0 < self.selected <= 1.0:
            raise InputError(f"selected must lie in (0, 1], got {self.selected}")
        if self.test > self.individuals // 2:
            raise InputError(
                f"test must be at most half of the {self.individuals} individuals, got {self.test}"
            )


@dataclass(frozen=True, eq=False)
class PaperData:
    """A data set with complete omics and its truth.

    Attributes
    ----------
    dataset : Dataset
        No genotypes but their relationships, under the name :data:`RELATIONSHIP`; the oldest
        individuals first.
    relationship : np.ndarray (individual, individual)
        VanRaden 1, from all markers.
    ebv : np.ndarray (individual,)
        True breeding values: expectation over the residuals of the omics.
    test : np.ndarray (individual,) bool
    var_residual : float
        Of the phenotype.
    """

    dataset: Dataset
    relationship: np.ndarray
    ebv: np.ndarray
    test: np.ndarray
    var_residual: float


def simulate_paper(settings: PaperSettings, seed: int) -> PaperData:
    """Draw a population, a sample of it, and both layers.

    Every generation comes of about 100 sires with 10 dams each and 2 offspring a dam, at 20 times
    the numbers of the sample; its genome has 10 chromosomes of one Morgan. Sires are the tenth of
    the males with the highest phenotypes, and breeding values rise by about 0.4 genetic standard
    deviations a generation, as the published ones do. An omics trait has normal effects of a tenth
    of the QTL, scaled to a genetic variance of 1.22 among the founders, and a residual variance of
    0.78; as in the paper it is not centred. Node effects are N(0, 0.01). The residual variance of
    the phenotype is such that the omics explain 0.553 of its variance among the founders, which
    makes a heritability of about 0.34.

    Parameters
    ----------
    settings : PaperSettings
    seed : int
        The same settings and seed give the same data.

    Examples
    --------
    >>> data = simulate_paper(PaperSettings(individuals=60, test=9, markers=40, omics=3), seed=1)
    >>> data.dataset.omics.shape, int(data.test.sum())
    ((60, 3), 9)
    """
    genome_rng, layer_rng = np.random.default_rng(seed).spawn(2)
    founders = max(2, round(_FOUNDERS * settings.individuals))
    haplotypes, locus_map, is_marker = _founders(settings, founders, genome_rng)
    qtl = haplotypes[:, :, ~is_marker].sum(axis=1, dtype=float)
    qtl_effects = _qtl_effects(qtl, settings.omics, layer_rng)
    effects = np.sqrt(VAR_NODE_EFFECT) * layer_rng.standard_normal(settings.omics)
    dosages = _sample(
        settings,
        founders,
        haplotypes,
        locus_map,
        _index(qtl, qtl_effects @ effects, ~is_marker, genome_rng),
        genome_rng,
    )
    relationship = _vanraden(dosages[:, is_marker])

    def layers(qtl: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        genetic = qtl @ qtl_effects
        omics = genetic + np.sqrt(VAR_RESIDUAL) * layer_rng.standard_normal(genetic.shape)
        return omics, *_through(settings.activation, omics, genetic, effects)

    _, mediated, _ = layers(qtl)
    var_residual = float(np.var(mediated) * (1.0 - SHARE_MEDIATED) / SHARE_MEDIATED)
    omics, mediated, ebv = layers(dosages[:, ~is_marker])
    noise = np.sqrt(var_residual) * layer_rng.standard_normal(settings.individuals)
    test = np.arange(settings.individuals) >= settings.individuals - settings.test
    ids = pd.Index([f"id{i}" for i in range(1, settings.individuals + 1)], name="id")
    dataset = read_dataset(
        None,
        pd.DataFrame(omics, ids, [f"omics{k}" for k in range(1, settings.omics + 1)]),
        pd.DataFrame({TRAIT: np.where(test, np.nan, mediated + noise)}, ids),
        TRAIT,
        relationships={RELATIONSHIP: pd.DataFrame(relationship, ids, ids.to_numpy())},
    )
    return PaperData(dataset, relationship, ebv, test, var_residual)


def _founders(
    settings: PaperSettings, founders: int, rng: np.random.Generator
) -> tuple[np.ndarray, pd.DataFrame, np.ndarray]:
    """Haplotypes of the population's founders, their map, and which loci are markers."""
    loci = settings.markers + round(_QTL * settings.markers)
    haplotypes, locus_map = make_founders(
        rng,
        founders=_SAMPLED * founders,
        markers=loci,
        chromosomes=10,
        chromosome_length=1.0,
        ancestral_size=100,
        ancestral_generations=100,
    )
    is_marker = np.zeros(loci, dtype=bool)
    is_marker[rng.permutation(loci)[: settings.markers]] = True
    return haplotypes, locus_map, is_marker


def _index(
    qtl: np.ndarray, effects: np.ndarray, is_qtl: np.ndarray, rng: np.random.Generator
) -> Callable[[np.ndarray], np.ndarray]:
    """What sires are selected by: phenotypes as a linear network makes them.

    They do not depend on the activation, so that data differ by the phenotype only.
    """
    h2 = SHARE_MEDIATED * H2_OMICS
    noise_sd = np.std(qtl @ effects) * np.sqrt((1.0 - h2) / h2)

    def phenotypes(dosages: np.ndarray) -> np.ndarray:
        values: np.ndarray = dosages[:, is_qtl] @ effects
        return values + noise_sd * rng.standard_normal(len(values))

    return phenotypes


def _sample(
    settings: PaperSettings,
    founders: int,
    haplotypes: np.ndarray,
    locus_map: pd.DataFrame,
    phenotypes: Callable[[np.ndarray], np.ndarray],
    rng: np.random.Generator,
) -> np.ndarray:
    """Dosages (individual, locus) of one of twenty of every generation."""
    later = settings.individuals - founders
    sizes = [founders, *map(len, np.array_split(np.arange(later), GENERATIONS))]
    population = breed_selected(
        rng,
        haplotypes,
        locus_map,
        phenotypes,
        sizes=[_SAMPLED * size for size in sizes[1:]],
        selected=settings.selected,
        family_size=2,
        dams_per_sire=10,
    )
    return np.concatenate(
        [
            dosages[np.sort(rng.choice(len(dosages), size, replace=False))].astype(float)
            for dosages, size in zip(population, sizes, strict=True)
        ]
    )


def _vanraden(dosages: np.ndarray) -> np.ndarray:
    frequency = dosages.mean(axis=0) / 2.0
    centred = dosages - 2.0 * frequency
    relationship: np.ndarray = centred @ centred.T / np.sum(2.0 * frequency * (1.0 - frequency))
    return relationship


def _qtl_effects(qtl: np.ndarray, omics: int, rng: np.random.Generator) -> np.ndarray:
    """Effects (QTL, omics) that make the variance asked for among the founders."""
    effects = np.zeros((qtl.shape[1], omics))
    causal = max(2, round(_CAUSAL * qtl.shape[1]))
    for k in range(omics):
        chosen = rng.choice(qtl.shape[1], causal, replace=False)
        effects[chosen, k] = rng.standard_normal(causal)
    scaled: np.ndarray = effects * np.sqrt(VAR_GENETIC) / np.std(qtl @ effects, axis=0)
    return scaled


def _through(
    activation: str, omics: np.ndarray, genetic: np.ndarray, effects: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Mediated values (individual,) and their expectation given the genetic values."""
    function = activation_by_name(activation)
    # in double precision whatever the session's default is: the truth must not depend on it
    with jax.enable_x64(True):
        activated = np.asarray(function.function(jnp.asarray(omics), NO_THETA))
        residual_sd = jnp.full(genetic.shape[1], np.sqrt(VAR_RESIDUAL))
        expected = np.asarray(function.expectation(jnp.asarray(genetic), residual_sd, NO_THETA))
    return activated @ effects, expected @ effects
