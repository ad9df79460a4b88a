"""Data sets with known truth, drawn from the network: families, markers in LD, omics, phenotype.

The genomes come from :mod:`nnmm_jax.network.genomes`; the two layers are those of the model:
``z = fixed + M a + e`` and ``y = fixed + sum_l w_l g(z_l) + M s + residual``.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from nnmm_jax import __version__
from nnmm_jax.data.align import Dataset, read_dataset
from nnmm_jax.errors import InputError
from nnmm_jax.folders import new_folder
from nnmm_jax.network.genomes import Pedigree, drop_genes, make_founders, make_pedigree
from nnmm_jax.network.simulated_layers import TRAIT, Layers, draw_layers
from nnmm_jax.network.simulation_settings import SimulationSettings

__all__ = ["TRAIT", "Simulated", "SimulationSettings", "simulate"]


@dataclass(frozen=True, eq=False)
class Simulated:
    """A simulated data set and the truth behind it.

    Attributes
    ----------
    settings : SimulationSettings
    seed : int
    genotypes : pd.DataFrame (individual, marker) int8
        Dosages 0/1/2; index ``id``, oldest individuals first.
    omics : pd.DataFrame (measured individual, omics)
        NaN = missing cell; individuals without any omics have no row. Index ``id``.
    phenotypes : pd.DataFrame (individual, 3)
        Columns ``y`` (NaN = not phenotyped), ``sex`` (F, M), ``batch``. Index ``id``.
    map : pd.DataFrame
        Columns marker, chromosome (from 1), position (centimorgan).
    truth : Mapping of str to pd.DataFrame
        ``individuals``: id, sire, dam, generation, ``ebv_mediated`` (expectation over the nodes'
        residuals, fixed effects at their mean), ``ebv_direct`` and their sum ``ebv``, all centred
        over the individuals; ``epv`` (from the true nodes, not centred), ``fixed`` and
        ``residual``, which give ``y = fixed + epv + residual``; ``phenotyped``.
        ``omics``: id and every node without holes, latent ones too.
        ``marker_effects``: node (``y``: direct), marker, effect of one allele; non-zero ones only.
        ``node_effects``: node, effect of the activated node.
        ``fixed_effects``: response, term, level, effect.
        ``variances``: quantity, asked (NaN: follows from the others), realised.
    """

    settings: SimulationSettings
    seed: int
    genotypes: pd.DataFrame
    omics: pd.DataFrame
    phenotypes: pd.DataFrame
    map: pd.DataFrame
    truth: Mapping[str, pd.DataFrame]

    def dataset(self) -> Dataset:
        """Return the tables as a :class:`~nnmm_jax.data.align.Dataset`, ready to fit."""
        omics = self.omics if self.settings.omics else None
        return read_dataset(self.genotypes, omics, self.phenotypes, TRAIT)

    def write(self, folder: str | Path, *, overwrite: bool = False) -> Path:
        """Write the tables, the truth and the settings; all of it or nothing.

        Files: genotypes.parquet, omics.csv (unless every node is latent), phenotypes.csv, map.csv,
        truth_NAME.csv for each table of :attr:`truth`, simulation.json.

        Parameters
        ----------
        folder : path
            Made, with its parents.
        overwrite : bool
            Whether an existing folder may be written to; only files named as above are replaced.

        Returns
        -------
        Path
            The folder.

        Raises
        ------
        InputError
            If the folder exists and ``overwrite`` is false, or cannot be written.
        """
        with new_folder(folder, owned=_is_ours, overwrite=overwrite) as temporary:
            self.genotypes.to_parquet(temporary / "genotypes.parquet")
            if self.settings.omics:
                self.omics.to_csv(temporary / "omics.csv")
            self.phenotypes.to_csv(temporary / "phenotypes.csv")
            self.map.to_csv(temporary / "map.csv", index=False)
            for name, table in self.truth.items():
                table.to_csv(temporary / f"truth_{name}.csv", index=False)
            about = {
                "settings": asdict(self.settings),
                "seed": self.seed,
                "versions": {
                    "nnmm_jax": __version__,
                    "numpy": np.__version__,
                    "pandas": pd.__version__,
                },
            }
            (temporary / "simulation.json").write_text(json.dumps(about, indent=2) + "\n")
        return Path(folder)


def simulate(settings: SimulationSettings, seed: int) -> Simulated:
    """Draw a data set.

    Parameters
    ----------
    settings : SimulationSettings
    seed : int
        The same settings and seed give the same data. Genomes, effects, residuals and missing
        patterns have random streams of their own: for instance, other missing shares leave the
        genotypes and the complete omics as they are.

    Raises
    ------
    InputError
        If ``seed`` is not a whole number >= 0, or too few markers are polymorphic.

    Examples
    --------
    >>> from nnmm_jax.network.simulate import SimulationSettings, simulate
    >>> simulated = simulate(SimulationSettings(individuals=60, markers=50, omics=3), seed=1)
    >>> simulated.genotypes.shape
    (60, 50)
    """
    if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
        raise InputError(f"simulation: seed must be a whole number >= 0, got {seed!r}")
    streams = np.random.default_rng(seed).spawn(4)
    genome_rng, effect_rng, residual_rng, missing_rng = streams
    pedigree, dosages, marker_map = _genomes(settings, genome_rng)
    width = len(str(settings.individuals))
    ids = pd.Index([f"id{i:0{width}d}" for i in range(1, settings.individuals + 1)], name="id")
    factors = _factors(settings, pedigree, residual_rng)
    layers = draw_layers(settings, dosages, factors, effect_rng, residual_rng)
    phenotyped = _phenotyped(settings)
    phenotypes = factors.set_axis(ids)
    phenotypes.insert(0, TRAIT, np.where(phenotyped, layers.trait, np.nan))
    return Simulated(
        settings=settings,
        seed=seed,
        genotypes=pd.DataFrame(dosages, index=ids, columns=list(marker_map["marker"])),
        omics=_with_holes(settings, layers.nodes, ids, missing_rng),
        phenotypes=phenotypes,
        map=marker_map,
        truth=_truth(settings, ids, pedigree, marker_map, layers, phenotyped),
    )


def _is_ours(name: str) -> bool:
    known = ("genotypes.parquet", "omics.csv", "phenotypes.csv", "map.csv", "simulation.json")
    return name in known or (name.startswith("truth_") and name.endswith(".csv"))


def _genomes(
    settings: SimulationSettings, rng: np.random.Generator
) -> tuple[Pedigree, np.ndarray, pd.DataFrame]:
    founders, marker_map = make_founders(
        rng,
        founders=settings.founder_count,
        markers=settings.markers,
        chromosomes=settings.chromosomes,
        chromosome_length=settings.chromosome_length,
        ancestral_size=settings.ancestral_size,
        ancestral_generations=settings.ancestral_generations,
    )
    pedigree = make_pedigree(
        rng,
        individuals=settings.individuals,
        founders=settings.founder_count,
        generations=settings.generations,
        family_size=settings.family_size,
        dams_per_sire=settings.dams_per_sire,
    )
    return pedigree, drop_genes(rng, founders, pedigree, marker_map), marker_map


def _factors(
    settings: SimulationSettings, pedigree: Pedigree, rng: np.random.Generator
) -> pd.DataFrame:
    batch = rng.integers(1, settings.batches + 1, settings.individuals)
    return pd.DataFrame(
        {"sex": np.where(pedigree.male, "M", "F"), "batch": [f"b{level}" for level in batch]}
    )


def _phenotyped(settings: SimulationSettings) -> np.ndarray:
    """Everybody but the youngest, who are the last rows."""
    return np.arange(settings.individuals) < round(
        settings.individuals * (1 - settings.without_phenotype)
    )


def _with_holes(
    settings: SimulationSettings, nodes: np.ndarray, ids: pd.Index, rng: np.random.Generator
) -> pd.DataFrame:
    measured = np.sort(
        rng.permutation(settings.individuals)[
            round(settings.individuals * settings.without_omics) :
        ]
    )
    values = nodes[measured, : settings.omics]
    holes = rng.permutation(values.size)[: round(values.size * settings.missing_cells)]
    values.flat[holes] = np.nan
    return pd.DataFrame(values, index=ids[measured], columns=settings.node_names[: settings.omics])


def _truth(
    settings: SimulationSettings,
    ids: pd.Index,
    pedigree: Pedigree,
    marker_map: pd.DataFrame,
    layers: Layers,
    phenotyped: np.ndarray,
) -> dict[str, pd.DataFrame]:
    names = ids.to_numpy()
    individuals = {
        "id": names,
        "sire": np.where(pedigree.sire >= 0, names[pedigree.sire], None),
        "dam": np.where(pedigree.dam >= 0, names[pedigree.dam], None),
        "generation": pedigree.generation,
        "ebv_mediated": layers.mediated_genetic,
        "ebv_direct": layers.direct,
        "ebv": layers.mediated_genetic + layers.direct,
        "epv": layers.mediated + layers.direct,
        "fixed": layers.fixed,
        "residual": layers.residual,
        "phenotyped": phenotyped,
    }
    response, marker = np.nonzero(layers.marker_effects.T)
    return {
        "individuals": pd.DataFrame(individuals),
        "omics": pd.DataFrame(layers.nodes, index=ids, columns=settings.node_names).reset_index(),
        "marker_effects": pd.DataFrame(
            {
                "node": np.array([*settings.node_names, TRAIT])[response],
                "marker": marker_map["marker"].to_numpy()[marker],
                "effect": layers.marker_effects[marker, response],
            }
        ),
        "node_effects": pd.DataFrame({"node": settings.node_names, "effect": layers.node_effects}),
        "fixed_effects": layers.fixed_effects,
        "variances": _variances(settings, layers),
    }


def _variances(settings: SimulationSettings, layers: Layers) -> pd.DataFrame:
    total = np.var(layers.trait - layers.fixed)
    share_residual = 1 - settings.share_mediated - settings.share_direct
    rows = [
        ("variance_trait", settings.trait_sd**2, total),
        ("share_mediated", settings.share_mediated, np.var(layers.mediated) / total),
        ("share_direct", settings.share_direct, np.var(layers.direct) / total),
        ("share_residual", share_residual, np.var(layers.residual) / total),
        ("h2_trait", np.nan, np.var(layers.mediated_genetic + layers.direct) / total),
    ]
    rows += [
        (f"h2_{name}", settings.h2_omics, h2)
        for name, h2 in zip(settings.node_names, layers.h2_nodes, strict=True)
    ]
    return pd.DataFrame(rows, columns=["quantity", "asked", "realised"])
