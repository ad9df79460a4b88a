"""Compiled programs are kept on disk, so that only the first fit of a kind waits for them."""

import os
from pathlib import Path

import jax

SWITCH = "NNMM_JAX_CACHE"  # environment variable: a folder, or 0 for none
_FOLDER = "jax_compilation_cache_dir"
_MAX_BYTES = 2**30  # the programs used longest ago go first


def cache_folder() -> Path | None:
    """Folder of the compiled programs: as the environment says, or the user's cache folder.

    ``None`` where ``NNMM_JAX_CACHE=0``.
    """
    said = os.environ.get(SWITCH, "")
    if said == "0":
        return None
    if said:
        return Path(said)
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "nnmm_jax"


def keep_compiled() -> None:
    """Tell JAX where to keep compiled programs; what the user has told it stands.

    Where the folder cannot be made or written to, nothing is kept.
    """
    if getattr(jax.config, _FOLDER) is not None:
        return
    folder = cache_folder()
    if folder is None:
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return
    if not os.access(folder, os.W_OK):
        return
    jax.config.update("jax_compilation_cache_max_size", _MAX_BYTES)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)
    jax.config.update(_FOLDER, str(folder))
