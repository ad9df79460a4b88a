"""Files to aligned arrays: genotypes, omics, phenotypes, designs of the fixed effects."""

from nnmm_jax.data.align import Dataset, read_dataset
from nnmm_jax.data.design import Design, design_matrix
from nnmm_jax.data.files import find_dataset_files
from nnmm_jax.data.genotypes import Genotypes, genotypes_from_frame
from nnmm_jax.data.report import Dropped, JoinReport
from nnmm_jax.data.tables import numeric_values, read_table

__all__ = [
    "Dataset",
    "Design",
    "Dropped",
    "Genotypes",
    "JoinReport",
    "design_matrix",
    "find_dataset_files",
    "genotypes_from_frame",
    "numeric_values",
    "read_dataset",
    "read_table",
]
