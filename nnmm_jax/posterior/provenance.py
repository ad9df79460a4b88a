"""Where a result comes from: versions, machine, peak memory."""

import platform
import resource
import sys
from datetime import UTC, datetime
from importlib import metadata

from nnmm_jax import __version__

_PACKAGES = ("jax", "jaxlib", "numpyro", "arviz", "numpy", "pandas", "xarray")


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that numbers depend on."""
    found = {"python": platform.python_version(), "nnmm_jax": __version__}
    return found | {name: metadata.version(name) for name in _PACKAGES}


def machine() -> dict[str, object]:
    """Devices and precision of the computation, time of writing (UTC)."""
    import jax
    import jax.numpy as jnp

    device = jax.devices()[0]
    return {
        "platform": device.platform,
        "device": device.device_kind,
        "n_devices": jax.device_count(),
        "precision": str(jnp.result_type(float)),
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def peak_memory_mb() -> float:
    """Peak resident memory of this process so far, in MB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1e6 if sys.platform == "darwin" else 1e3)  # bytes on macOS, kB elsewhere
