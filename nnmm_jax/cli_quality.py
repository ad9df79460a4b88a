"""Flags of quality control. Heavy imports are inside, as in :mod:`nnmm_jax.cli`."""

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nnmm_jax.data.quality import QualityControl

# Flag, field of QualityControl, help.
_LIMITS = (
    ("min-call-rate-individuals", "individual_call_rate", "least share of markers, of individuals"),
    ("min-call-rate-markers", "marker_call_rate", "least share of individuals, of markers"),
    ("min-maf", "minor_allele_frequency", "least frequency of the rarer allele"),
    ("min-hwe-p", "hardy_weinberg", "least p-value of the exact Hardy-Weinberg test"),
    (
        "max-omics-sd",
        "omics_outliers",
        "omics values more robust standard deviations from the median become missing",
    ),
)


def add_quality_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags that say what is left out before the fit."""
    group = parser.add_argument_group(
        "quality control", "Each is optional; what it leaves out is counted in the report."
    )
    for flag, _, what in _LIMITS:
        group.add_argument(f"--{flag}", type=float, metavar="X", help=what)
    group.add_argument(
        "--drop-duplicate-markers",
        action="store_true",
        help="drop markers with the dosages of an earlier one, whichever allele is counted",
    )
    group.add_argument(
        "--missing-genotypes",
        choices=["mean", "draw"],
        default="mean",
        help="replace missing genotypes by the mean of the marker, or by one draw from its "
        "observed dosages (default: mean)",
    )


def quality_of(options: argparse.Namespace) -> "QualityControl":
    """Return the rules that the flags give.

    Raises
    ------
    InputError
        If a limit is out of its range.
    """
    limits = {field: getattr(options, flag.replace("-", "_")) for flag, field, _ in _LIMITS}
    from nnmm_jax.data.quality import QualityControl

    return QualityControl(
        duplicate_markers=options.drop_duplicate_markers,
        missing_genotypes=options.missing_genotypes,
        **limits,
    )
