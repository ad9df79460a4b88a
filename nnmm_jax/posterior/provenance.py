"""Where a result comes from: versions, machine, peak memory."""

import platform
from datetime import UTC, datetime
from importlib import metadata

from nnmm_jax import __version__
from nnmm_jax.threads import threads

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
