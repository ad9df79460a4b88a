"""A run that is killed again and again has the draws of one that is not."""

import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1]))
import kills

KILLS, SAMPLES = 24, 4000


@pytest.mark.statistical
def test_twenty_four_kills_change_no_draw(tmp_path):
    cache = tmp_path / "cache"
    whole = kills.finish(tmp_path / "whole", SAMPLES, cache)
    count = kills.killed(tmp_path / "killed", SAMPLES, cache, KILLS, 0.6, seed=1)
    assert count >= 20
    result = kills.finish(tmp_path / "killed", SAMPLES, cache)
    kills.assert_same(result, whole)
    assert result.run["resumed"] >= 10
