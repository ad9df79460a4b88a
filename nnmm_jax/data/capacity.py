"""Whether a table fits into memory, asked before it is read."""

from pathlib import Path

from nnmm_jax.errors import InputError

# Beside the genotypes themselves: a block that is being read, ids, names of markers.
HEADROOM = 1.25

_LIMITS = (
    ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
    (
        "/sys/fs/cgroup/memory/memory.limit_in_bytes",
        "/sys/fs/cgroup/memory/memory.usage_in_bytes",
    ),
)


def free_memory() -> int | None:
    """Memory that is free, or None where the system does not say.

    Returns
    -------
    int or None
        Bytes; the smaller of what the machine and what the process group has left (Linux).

    Examples
    --------
    >>> free = free_memory()
    >>> free is None or free > 0
    True
    """
    found = []
    for line in _text("/proc/meminfo").splitlines():
        if line.startswith("MemAvailable:"):
            found.append(int(line.split()[1]) * 1024)
    for limit, used in _LIMITS:
        texts = _text(limit).strip(), _text(used).strip()
        if all(text.isdigit() for text in texts):
            found.append(max(0, int(texts[0]) - int(texts[1])))
    return min(found, default=None)


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
    free = free_memory()
    size = individuals * markers * bytes_each
    if free is not None and size * HEADROOM > free:
        raise InputError(
            f"{source}: expected what fits into memory, found {individuals} rows x {markers} "
            f"columns, {size / 1e9:.1f} GB of {free / 1e9:.1f} GB free; take fewer markers or a "
            "machine with more memory"
        )


def _text(path: str) -> str:
    try:
        return Path(path).read_text()
    except OSError:
        return ""
