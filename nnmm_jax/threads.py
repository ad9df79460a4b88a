"""How many threads of a CPU a run uses."""

import os
import sys

from nnmm_jax.errors import InputError

_VARIABLE = "NPROC"  # XLA's own: the size of its thread pool, read when its backend starts


def available_threads() -> int:
    """Number of CPUs that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def threads() -> int:
    """Number of CPU threads that fits use: as was said, otherwise all that there are."""
    said = os.environ.get(_VARIABLE, "")
    return int(said) if said.isdecimal() and int(said) > 0 else available_threads()


def use_threads(count: int) -> None:
    """Say how many CPU threads fits use; the draws do not depend on it but for rounding.

    To be said before the first computation with JAX in a process. Without it, all CPUs are used
    that the process may use. It has no effect on a GPU.

    Parameters
    ----------
    count : int
        From 1 to the number of CPUs.

    Raises
    ------
    InputError
        If the count is none of these, or JAX has computed something already.

    Examples
    --------
    >>> import nnmm_jax as nm
    >>> nm.use_threads(1)  # doctest: +SKIP
    """
    most = available_threads()
    if isinstance(count, bool) or not isinstance(count, int) or not 1 <= count <= most:
        raise InputError(
            f"threads: expected a whole number from 1 to {most}, the CPUs there are, found "
            f"{count!r}"
        )
    if _has_computed() and count != threads():
        raise InputError(
            f"threads: JAX has started with {threads()} already; say use_threads({count}) in a new "
            "Python process, before anything is computed"
        )
    os.environ[_VARIABLE] = str(count)


def _has_computed() -> bool:
    """Whether JAX has started its backend, after which the number of threads is settled."""
    if "jax" not in sys.modules:
        return False
    from jax._src import xla_bridge  # there is no public way to ask without starting it

    return bool(xla_bridge.backends_are_initialized())
