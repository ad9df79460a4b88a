import re
from pathlib import Path

import nnmm_jax


def test_citation_names_this_version():
    citation = Path(__file__).parents[1].joinpath("CITATION.cff").read_text()
    assert re.search(r"^version: (.*)$", citation, re.MULTILINE).group(1) == nnmm_jax.__version__
