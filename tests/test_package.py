import re
from pathlib import Path

import nnmm_jax


def test_public_names_are_found():
    for name in nnmm_jax.__all__:
        assert getattr(nnmm_jax, name).__name__ == name
    assert "cis_connections" in dir(nnmm_jax)


def test_citation_names_this_version():
    citation = Path(__file__).parents[1].joinpath("CITATION.cff").read_text()
    assert re.search(r"^version: (.*)$", citation, re.MULTILINE).group(1) == nnmm_jax.__version__
