"""Files to aligned arrays: genotypes, omics, phenotypes, relationships, designs."""

from nnmm_jax.data.align import read_dataset
from nnmm_jax.data.connections import Connections, cis_connections, read_connections
from nnmm_jax.data.dataset import Dataset
from nnmm_jax.data.design import Design, design_matrix
from nnmm_jax.data.dosages import Dosages
from nnmm_jax.data.files import find_dataset_files
from nnmm_jax.data.genotype_files import read_dosages, write_dosages
from nnmm_jax.data.genotypes import Genotypes, genotypes_from_frame
from nnmm_jax.data.groups import MarkerGroups, read_marker_groups
from nnmm_jax.data.pedigree import Pedigree, read_pedigree
from nnmm_jax.data.quality import QualityControl, QualityCount
from nnmm_jax.data.relationships import Relationship, read_relationship
from nnmm_jax.data.report import Dropped, JoinReport, PedigreeCounts
from nnmm_jax.data.tables import numeric_values, read_table

__all__ = [
    "Connections",
    "Dataset",
    "Design",
    "Dosages",
    "Dropped",
    "Genotypes",
    "JoinReport",
    "MarkerGroups",
    "Pedigree",
    "PedigreeCounts",
    "QualityControl",
    "QualityCount",
    "Relationship",
    "cis_connections",
    "design_matrix",
    "find_dataset_files",
    "genotypes_from_frame",
    "numeric_values",
    "read_connections",
    "read_dataset",
    "read_dosages",
    "read_marker_groups",
    "read_pedigree",
    "read_relationship",
    "read_table",
    "write_dosages",
]
