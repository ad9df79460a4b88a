"""Where compiled programs are kept, and that they are."""

import subprocess
import sys
from pathlib import Path

import jax
import pytest

from nnmm_jax.inference import compile_cache
from nnmm_jax.inference.compile_cache import cache_folder, keep_compiled

SCRIPT = """
import jax, jax.numpy as jnp
from nnmm_jax.inference.compile_cache import keep_compiled
keep_compiled()
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
jax.jit(lambda x: jnp.sin(x) @ jnp.cos(x))(jnp.ones((20, 20))).block_until_ready()
"""


@pytest.mark.parametrize(
    ("said", "home", "folder"),
    [
        ("", "", Path.home() / ".cache/nnmm_jax"),
        ("", "/some/where", Path("/some/where/nnmm_jax")),
        ("/else/where", "/some/where", Path("/else/where")),
        ("0", "/some/where", None),
    ],
)
def test_folder(said, home, folder, monkeypatch):
    monkeypatch.setenv(compile_cache.SWITCH, said)
    monkeypatch.setenv("XDG_CACHE_HOME", home)
    assert cache_folder() == folder


def test_a_folder_that_cannot_be_made_is_done_without(monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    monkeypatch.setenv(compile_cache.SWITCH, str(tmp_path / "file" / "folder"))
    before = jax.config.jax_compilation_cache_dir  # tests before this one may have been kept
    jax.config.update("jax_compilation_cache_dir", None)
    try:
        keep_compiled()
        assert jax.config.jax_compilation_cache_dir is None
    finally:
        jax.config.update("jax_compilation_cache_dir", before)


def test_programs_are_kept(monkeypatch, tmp_path):
    monkeypatch.setenv(compile_cache.SWITCH, str(tmp_path / "kept"))
    subprocess.run([sys.executable, "-W", "error", "-c", SCRIPT], check=True, timeout=100)
    assert list((tmp_path / "kept").iterdir())
