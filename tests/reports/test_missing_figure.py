import numpy as np
import pandas as pd
import pytest

from nnmm_jax.reports.missing_figure import grid_figure
from nnmm_jax.reports.missing_grid import DIRECT, IGNORED, NETWORK
from nnmm_jax.reports.missing_patterns import BLOCKS, WHOLE


@pytest.fixture
def judged():
    rows = [
        (IGNORED, 100, 100, DIRECT, 100.0, 0.7),
        (WHOLE, 0, 0, NETWORK, 0.0, 0.95),
        (WHOLE, 0, 100, NETWORK, 0.0, 0.9),
        (WHOLE, 50, 100, NETWORK, 50.0, 0.8),
        (BLOCKS, 0, 100, NETWORK, 25.0, 0.85),
    ]
    columns = ["pattern", "training_missing", "test_missing", "model", "cells_missing"]
    table = pd.DataFrame(rows, columns=[*columns, "accuracy_ebv"])
    return table.assign(
        accuracy_epv=0.4, slope_ebv=1.0, slope_epv=[0.9, 0.9, 0.9, 0.95, 0.9], accuracy_error=0.003
    )


def lines_of(axes):
    return {line.get_label(): line for line in axes.lines}


def test_lines_are_whole_individuals_and_symbols_other_patterns(judged):
    accuracy, slope = grid_figure(judged).axes
    lines = lines_of(accuracy)
    np.testing.assert_allclose(lines["EBV, test omics measured"].get_xydata(), [[0.0, 0.95]])
    np.testing.assert_allclose(
        lines["EBV, test omics missing"].get_xydata(), [[0.0, 0.9], [50.0, 0.8]]
    )
    symbol = lines["blocks, test omics missing (open: EPV)"]
    np.testing.assert_allclose(symbol.get_xydata(), [[25.0, 0.85]])
    np.testing.assert_allclose(
        lines_of(slope)["EPV, test omics missing"].get_xydata(), [[0.0, 0.9], [50.0, 0.95]]
    )


def test_direct_model_is_a_line_in_a_band_of_three_errors(judged):
    accuracy, _ = grid_figure(judged).axes
    np.testing.assert_allclose(lines_of(accuracy)["EBV, omics ignored"].get_ydata(), 0.7)
    (band,) = accuracy.patches
    assert (band.get_y(), band.get_height()) == pytest.approx((0.691, 0.018))


def test_small_differences_of_slopes_do_not_fill_the_panel(judged):
    _, slope = grid_figure(judged).axes
    assert slope.get_ylim() == (0.8, 1.2)
    wide = grid_figure(judged.assign(slope_epv=0.2)).axes[1]
    assert wide.get_ylim()[0] < 0.2
