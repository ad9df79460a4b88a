"""Whether a table fits into memory, asked before it is read."""

from nnmm_jax.errors import InputError
from nnmm_jax.machine_memory import available

# Beside the genotypes themselves: a block that is being read, ids, names of markers.
HEADROOM = 1.25


def check_fits(individuals: int, markers: int, source: str, *, bytes_each: int = 1) -> None:
    """Raise if a table, mostly of genotypes, would not fit into the memory that is free.

    Parameters
    ----------
    individuals, markers
        How many.
    source
        What is to be read, for messages.
    bytes_each
        Of a dosage: 1 for counts, 4 for decimals.

    Raises
    ------
    InputError
        They would not.

    Examples
    --------
    >>> check_fits(100, 1000, "genotypes g.bed")
    """
    free = available()
    size = individuals * markers * bytes_each
    if free is not None and size * HEADROOM > free:
        raise InputError(
            f"{source}: expected what fits into memory, found {individuals} rows x {markers} "
            f"columns, {size / 1e9:.1f} GB of {free / 1e9:.1f} GB free; take fewer markers or a "
            "machine with more memory"
        )
