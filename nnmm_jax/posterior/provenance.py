"""Where a result comes from: versions, machine, peak memory."""

import platform
from datetime import UTC, datetime
from importlib import metadata

from nnmm_jax import __version__
from nnmm_jax.threads import threads

# Estimates of what an iteration takes, never yet measured on a GPU: the launches of some hundred
# programs, 3 to 5 µs each; a change of an effect, two reductions and a row from the GPU's cache,
# of which every marker may need one; and operations a second, all in all, of two CPU cores with
# 10 omics (README).
_GPU_LAUNCHES, _GPU_CHANGE, _CPU_RATE = 1e-3, 5e-7, 4e10

_PACKAGES = ("jax", "jaxlib", "numpyro", "arviz", "numpy", "pandas", "xarray")


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that numbers depend on."""
    found = {"python": platform.python_version(), "nnmm_jax": __version__}
    return found | {name: metadata.version(name) for name in _PACKAGES}


def machine() -> dict[str, object]:
    """Devices and precision of the computation, time of writing (UTC)."""
    import jax
    import jax.numpy as jnp

    from nnmm_jax.inference.blocks.effects import is_quick

    device = jax.devices()[0]
    return {
        "platform": device.platform,
        "device": device.device_kind,
        "n_devices": jax.device_count(),
        "threads": threads(),
        "machine_code": is_quick(),
        "precision": str(jnp.result_type(float)),
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def header(chains: int) -> str:
    """Say in one line what a run computes on."""
    found = machine()
    if found["platform"] != "cpu":
        sweeps = "a Pallas kernel" if found["machine_code"] else "XLA alone"
        return f"{chains} chains on {found['device']}, {found['precision']}, sweeps by {sweeps}"
    sweeps = "machine code" if found["machine_code"] else "XLA alone (numba would be faster)"
    count = found["threads"]
    return (
        f"{chains} chain{'s' * (chains > 1)} on {count} CPU thread{'s' * (count != 1)}, "
        f"{found['precision']}, sweeps by {sweeps}"
    )


def hint(individuals: int, markers: int, responses: int) -> str | None:
    """Say where a CPU is probably faster than the GPU that a run computes on.

    A rough rule, from estimates: the two products with the genotypes at what two CPU cores do,
    against what a GPU needs before it computes anything.

    Parameters
    ----------
    individuals, markers : int
    responses : int
        Nodes, or the trait without any, of all chains.

    Examples
    --------
    >>> hint(20_000, 50_000, 100) is None  # neither with so much to do, nor on a CPU
    True
    """
    if machine()["platform"] == "cpu":
        return None
    on_gpu = _GPU_LAUNCHES + markers * _GPU_CHANGE
    on_cpu = 4.0 * individuals * markers * responses / _CPU_RATE
    if on_cpu > on_gpu:
        return None
    return (
        "data this small are probably done faster by the CPU (an estimate): set JAX_PLATFORMS=cpu "
        "in the environment"
    )
