"""What a join says of itself: ids in common, rows dropped, the tables side by side."""

from dataclasses import replace

import numpy as np
import pandas as pd

from nnmm_jax.data.connections import Connections
from nnmm_jax.data.individuals import Individuals
from nnmm_jax.data.quality import QualityCount
from nnmm_jax.data.reconcile import Reconciliation, level_notes, near_misses, reconcile
from nnmm_jax.data.report import FIRST_IDS, Dropped, JoinReport
from nnmm_jax.data.tables import ID_FORM
from nnmm_jax.errors import InputError, shortlist


def check_common(people: Individuals, table_ids: pd.Index, source: str) -> None:
    """Raise unless a table has an id of the individuals."""
    if table_ids.isin(people.ids).any():
        return
    remedy = "check the id columns"
    if pairs := near_misses(table_ids.unique(), set(people.ids)):
        remedy = f"write ids alike in all tables ('{pairs[0][0]}' is '{pairs[0][1]}' there)"
    raise InputError(
        f"{source}: expected ids that occur in the {people.origin} "
        f"({shortlist(people.ids, 3)}), found none in common ({shortlist(table_ids, 3)}); {remedy}"
    )


def join_report(
    people: Individuals,
    trait: str,
    omics: pd.DataFrame | None,
    phenotypes: pd.DataFrame,
    observed_trait: np.ndarray,
    connected: Connections | None,
    of_omics: tuple[QualityCount, ...],
) -> JoinReport:
    """The part that masking does not change; :meth:`JoinReport.recounted` fills in the rest."""
    markers = people.genotypes
    return JoinReport(
        trait=trait,
        genotyped=len(people.ids),
        markers=len(markers.markers),
        constant_markers=len(markers.constant),
        unobserved_markers=len(markers.unobserved),
        missing_genotypes=markers.n_missing,
        genotypes_drawn_seed=markers.drawn_seed,
        coding=markers.coding,
        dropped_omics=_dropped(omics, people),
        dropped_phenotypes=_dropped(phenotypes, people),
        individuals_from=people.origin,
        pedigree=people.pedigree_counts,
        connections=None if connected is None else connected.pairs,
        connected_nodes=None if connected is None else connected.connected_nodes,
        quality=(*markers.counts, *of_omics),
        ids=_reconciled(people, trait, omics, phenotypes, observed_trait),
    )


def _dropped(table: pd.DataFrame | None, people: Individuals) -> Dropped:
    reason = people.reason_for_dropping
    if table is None:
        return Dropped(0, (), reason)
    absent = table.index[~table.index.isin(people.ids)]
    return Dropped(len(absent), tuple(absent.unique()[:FIRST_IDS]), reason)


def _reconciled(
    people: Individuals,
    trait: str,
    omics: pd.DataFrame | None,
    phenotypes: pd.DataFrame,
    observed_trait: np.ndarray,
) -> Reconciliation:
    tables: dict[str, list[str]] = {}
    forms = {}
    everybody: list[str] = []
    if people.origin == "genotypes":
        tables["genotypes"] = [*people.genotypes.ids, *people.genotypes.failed_ids]
        everybody += tables["genotypes"]
        forms["genotypes"] = people.genotypes.id_form
    if omics is not None:
        tables["omics"] = omics.index[omics.notna().any(axis=1)].tolist()
        everybody += omics.index.tolist()
        forms["omics"] = omics.attrs[ID_FORM]
    tables["phenotypes"] = phenotypes.index[~np.isnan(observed_trait)].unique().tolist()
    everybody += phenotypes.index.tolist()
    forms["phenotypes"] = phenotypes.attrs[ID_FORM]
    if people.pedigree is not None:
        tables["pedigree"] = people.pedigree.ids.tolist()
    everybody += [*tables.get("pedigree", ()), *people.ids]
    reason = people.reason_for_dropping
    found = reconcile(tables, everybody, set(people.ids), forms, reason)
    others = phenotypes.drop(columns=trait)
    notes = (*found.notes, *level_notes(others, observed_trait, trait))
    return replace(found, notes=notes)
