import numpy as np
import pytest

from nnmm_jax.errors import InputError


def test_ranking_counts_draws(make_result):
    result = make_result(skip=True)
    table = result.ranking(0.2)
    assert table["rank"].tolist() == list(range(1, 31))
    assert table["ebv"].is_monotonic_decreasing
    draws = (result.posterior["ebv_mediated"] + result.posterior["ebv_direct"]).squeeze("trait")
    ranks = draws.values.reshape(-1, 30)
    ranks = (ranks[:, None, :] > ranks[:, :, None]).sum(axis=2) + 1  # those above, and itself
    ids = result.posterior["individual"].values.tolist()
    for row in table.iloc[[0, 5, 15, 29]].itertuples():
        own = ranks[:, ids.index(row.id)]
        assert row.p_top == pytest.approx((own <= 6).mean())
        assert row.expected_rank == pytest.approx(own.mean())
        assert (row.rank_q05, row.rank_q95) == tuple(np.quantile(own, (0.05, 0.95)))
    assert table["p_top"].sum() == pytest.approx(6.0)


def test_ranking_of_lowest_is_the_other_way_round(make_result):
    result = make_result()
    high, low = result.ranking(0.5), result.ranking(0.5, highest=False)
    assert low["id"].tolist() == high["id"].tolist()[::-1]
    merged = high.merge(low, on="id", suffixes=("", "_low"))
    np.testing.assert_allclose(merged["p_top"] + merged["p_top_low"], 1.0)
    np.testing.assert_allclose(merged["expected_rank"] + merged["expected_rank_low"], 31.0)


@pytest.mark.parametrize("top", [0.0, 1.0, -1.0, float("nan")])
def test_ranking__raises_on_an_impossible_share(make_result, top):
    with pytest.raises(InputError, match="top: expected a share between 0 and 1"):
        make_result().ranking(top)
