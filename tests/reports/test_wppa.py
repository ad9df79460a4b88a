import numpy as np
import pandas as pd
import pytest

from nnmm_jax.posterior.fit_genotypes import read_fit_genotypes
from nnmm_jax.posterior.marker_draws import marker_draws
from nnmm_jax.reports import wppa
from nnmm_jax.reports.association import marker_table
from nnmm_jax.reports.windows import make_windows, parse_window


def table_of(case, text="3 markers", **options):
    genotypes = read_fit_genotypes(case.result, case.genotypes)
    draws = marker_draws(case.result, genotypes)
    windows = make_windows(parse_window(text), case.map, genotypes)
    markers = marker_table(case.result, draws, case.map, dict.fromkeys(draws.responses, True))
    table = wppa.window_table(draws, genotypes, windows, case.map, markers, **options)
    return table, draws, genotypes, windows, markers


@pytest.mark.parametrize("share", [None, 0.3])
def test_wppa_is_the_share_of_draws_by_hand(make_case, share):
    table, draws, genotypes, windows, _ = table_of(make_case(), share=share)
    dosages = genotypes.centred(slice(None))
    limit = 1 / 8 if share is None else share
    assert len(windows) == 8
    for response in draws.responses:
        effects = draws.effects(response)
        found = table[table["response"] == response]
        values = np.array([dosages @ effect for effect in effects])
        for number, markers in enumerate(windows.members()):
            part = np.array([dosages[:, markers] @ effect[markers] for effect in effects])
            shares = part.var(axis=1) / values.var(axis=1)
            row = found.iloc[number]
            assert row["window"] == number + 1
            assert row["wppa"] == (shares > limit).mean()
            assert row["variance_share"] == pytest.approx(shares.mean(), rel=1e-4)


def test_windows_name_place_and_lead(make_case):
    case = make_case()
    table, _, _, windows, markers = table_of(case)
    row = table[table["response"] == "omic_1"].iloc[4]
    inside = case.map.iloc[windows.members()[4]]
    assert (row["chromosome"], row["start"], row["end"]) == ("10", 0.0, 200.0)
    assert row["markers"] == 3
    one = markers[(markers["response"] == "omic_1") & markers["marker"].isin(inside["marker"])]
    best = one.assign(size=one["mean"].abs()).sort_values(["pip", "size"]).iloc[-1]
    assert row["lead"] == best["marker"]


def test_some_responses_at_a_time_give_the_same(make_case, monkeypatch):
    whole = table_of(make_case())[0]
    monkeypatch.setattr(wppa, "_AT_A_TIME", 1)
    # Up to rounding: a BLAS may sum a product of fewer rows in another order.
    pd.testing.assert_frame_equal(table_of(make_case())[0], whole, rtol=1e-5)


def test_draws_without_effects_explain_nothing(make_case):
    case = make_case(skip=True)
    case.result.parameters["skip_effect"][::2] = 0.0
    table = table_of(case)[0]
    direct = table[table["response"] == "y (direct)"]
    assert direct["wppa"].max() <= 0.5
    assert direct["variance_share"].notna().all()


def test_errors_are_those_of_a_mean_of_independent_draws(make_case):
    table = table_of(make_case())[0]
    assert (table["wppa_error"] > 0).all()
    middle = table[table["wppa"].between(0.3, 0.7)]
    expected = np.sqrt(middle["wppa"] * (1 - middle["wppa"]) / 40)
    ratio = middle["wppa_error"] / expected
    assert 0.8 < ratio.median() < 1.25
    # 0 and 1 are known to about half a draw
    sure = table[table["wppa"].isin([0.0, 1.0])]
    assert sure["wppa_error"].max() < 1.5 / 40


def test_errors_grow_where_chains_disagree():
    chain = np.repeat(np.arange(4), 10)
    stuck = np.repeat([True, False, True, False], 10)[:, None]
    mixed = np.tile([True, False], 20)[:, None]
    assert wppa._errors(stuck, chain)[0] > 1.9 * wppa._errors(mixed, chain)[0]
