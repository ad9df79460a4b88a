import numpy as np
import pytest

from nnmm_jax.posterior.fit_genotypes import read_fit_genotypes
from nnmm_jax.posterior.marker_draws import marker_draws
from nnmm_jax.reports.paths import PATH_COLUMNS, SHARE_COLUMNS, mediation_table, path_table


def draws_of(case):
    return marker_draws(case.result, read_fit_genotypes(case.result, case.genotypes))


def test_paths_are_summaries_of_the_product(make_case):
    case = make_case()
    draws = draws_of(case)
    table = path_table(draws, case.map, dict.fromkeys(draws.nodes, True))
    assert list(table.columns) == list(PATH_COLUMNS)
    parameters = case.result.parameters
    for row in table.groupby("node").head(3).itertuples():
        product = (
            parameters["marker_effect"].sel(node=row.node, marker=row.marker).values
            * parameters["node_effect"].sel(node=row.node).values
        )
        assert row.mean == pytest.approx(product.mean(), rel=1e-5)
        assert row.sd == pytest.approx(product.std(ddof=1), rel=1e-4)
        assert (row.q05, row.q95) == pytest.approx(np.quantile(product, (0.05, 0.95)), rel=1e-5)
        assert row.probability == pytest.approx((product != 0).mean())
        assert row.lfsr == pytest.approx(1 - max((product > 0).mean(), (product < 0).mean()))


def test_rates_are_over_all_paths_of_a_node_also_those_left_out(make_case):
    case = make_case()
    draws = draws_of(case)
    spiked = dict.fromkeys(draws.nodes, True)
    whole = path_table(draws, case.map, spiked)
    few = path_table(draws, case.map, spiked, most=2)
    assert few.groupby("node").size().max() == 2
    columns = ["node", "marker"]
    merged = few.merge(whole, on=columns, suffixes=("", "_whole"))
    assert len(merged) == len(few)
    np.testing.assert_array_equal(merged["q_value"], merged["q_value_whole"])
    np.testing.assert_array_equal(merged["s_value"], merged["s_value_whole"])


def test_a_path_through_a_node_without_effect_is_improbable(make_case):
    case = make_case()  # omic_0, on which snp4 acts in all draws, has an effect in few of them
    draws = draws_of(case)
    table = path_table(draws, case.map, dict.fromkeys(draws.nodes, True))
    row = table[(table["node"] == "omic_0") & (table["marker"] == "snp4")].iloc[0]
    assert (draws.effects("omic_0")[:, 4] != 0).all()
    assert row["probability"] == (draws.slope[:, 0] != 0).mean() < 0.2
    assert row["lfsr"] > 0.8


def test_paths_have_no_rate_by_probability_where_effects_cannot_be_zero(make_case):
    case = make_case(bayesc=False)
    table = path_table(draws_of(case), case.map, {})
    assert table["q_value"].isna().all()
    assert table["s_value"].between(0, 0.5).all()


def test_mediated_shares_are_those_of_the_draws(make_case):
    case = make_case()
    draws = draws_of(case)
    table = mediation_table(draws, case.map).set_index("marker")
    assert ["marker", *table.columns] == list(SHARE_COLUMNS)
    marker = 4
    parameters = case.result.parameters.isel(marker=marker)
    mediated = (parameters["marker_effect"] * parameters["node_effect"]).sum("node").values
    direct = parameters["skip_effect"].values
    row = table.loc["snp4"]
    assert row["mediated"] == pytest.approx(mediated.mean(), rel=1e-4)
    assert row["direct_sd"] == pytest.approx(direct.std(ddof=1), rel=1e-4)
    assert row["total"] == pytest.approx(row["mediated"] + row["direct"], rel=1e-4)
    some = mediated + direct != 0
    share = mediated[some] / (mediated + direct)[some]
    assert row["share_mediated"] == pytest.approx(np.median(share), rel=1e-3)


def test_mediated_shares_need_both_parts(make_case):
    for options in ({"skip": False}, {"layer": False}):
        case = make_case(**options)
        table = mediation_table(draws_of(case), case.map)
        assert len(table) == 0
        assert list(table.columns) == list(SHARE_COLUMNS)


def test_there_are_no_paths_without_nodes(make_case):
    case = make_case(layer=False)
    assert list(path_table(draws_of(case), case.map, {}).columns) == list(PATH_COLUMNS)
