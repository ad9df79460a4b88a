"""Posteriors agree with those of BGLR, an independently written sampler."""

import importlib.util
import os
import sys
from pathlib import Path

import jax
import pytest
from jax.experimental.compilation_cache import compilation_cache

REPO = Path(__file__).parents[2]
SHARED = Path(os.environ.get("NNMM_SHARED", REPO.parent / "shared"))
DATA, REFERENCE = SHARED / "data" / "wheat_cimmyt599", SHARED / "reference" / "bglr_wheat"
ABSENT = "the wheat data or BGLR's posteriors are not here; NNMM_SHARED names the folder above both"

pytestmark = [
    pytest.mark.statistical,
    pytest.mark.skipif(not DATA.is_dir() or not REFERENCE.is_dir(), reason=ABSENT),
]


@pytest.fixture
def parity():
    spec = importlib.util.spec_from_file_location(
        "parity_bglr_long", REPO / "scripts" / "parity_bglr.py"
    )
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where dataclasses look their annotations up
    spec.loader.exec_module(module)
    compilation_cache.reset_cache()
    yield module
    jax.config.update("jax_compilation_cache_dir", None)
    compilation_cache.reset_cache()


@pytest.mark.parametrize("model", ["BRR", "GBLUP"])
def test_posterior_is_that_of_bglr(parity, capsys, model):
    words = f"--data {DATA} --reference {REFERENCE} --models {model} --latent none --seed 7"
    code = parity.main(words.split())
    printed = capsys.readouterr()
    assert code == 0, printed.out + printed.err
