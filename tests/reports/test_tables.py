import numpy as np
import pytest

COLUMNS = {
    "breeding_values": (
        "id ebv ebv_sd ebv_q05 ebv_q95 reliability ebv_mediated ebv_direct ebv_polygenic "
        "epv epv_sd y_pred y_pred_sd phenotyped"
    ),
    "ranking": "rank id ebv ebv_sd p_top expected_rank rank_q05 rank_q95 phenotyped",
    "variance_components": "component mean sd q05 q50 q95",
    "node_effects": "node mean sd pip",
    "marker_effects": "node marker mean sd pip",
    "omics_imputed": "id node mean sd",
    "diagnostics": "quantity r_hat ess_bulk ess_tail",
}


@pytest.mark.parametrize("skip", [False, True])
@pytest.mark.parametrize("name", COLUMNS)
def test_columns_are_those_of_the_contract(make_result, name, skip):
    table = getattr(make_result(skip=skip, latent=1, terms=skip, groups=skip), name)()
    assert list(table.columns) == COLUMNS[name].split()
    assert len(table)


@pytest.mark.parametrize("skip", [False, True])
@pytest.mark.parametrize("name", COLUMNS)
def test_tables_without_a_middle_layer(make_result, name, skip):
    table = getattr(make_result(layer=False, terms=True, skip=skip), name)()
    assert list(table.columns) == COLUMNS[name].split()
    empty = {"node_effects", "omics_imputed"} | (set() if skip else {"marker_effects"})
    assert (len(table) == 0) == (name in empty)
    numbers = table.select_dtypes("number").columns
    assert {"mean", "sd", "pip"} & set(table.columns) <= set(numbers)


def test_breeding_values_are_moments_of_the_draws(make_result):
    result = make_result(skip=True)
    table = result.breeding_values().set_index("id")
    draws = result.posterior.sel(individual="id0007", trait="y").astype(float)
    row = table.loc["id0007"]
    total = (draws["ebv_mediated"] + draws["ebv_direct"]).values.ravel()
    assert row["ebv"] == pytest.approx(total.mean(), rel=1e-5)
    assert row["ebv_sd"] == pytest.approx(total.std(ddof=1), rel=1e-5)
    low, high = np.quantile(total, (0.05, 0.95))
    assert (row["ebv_q05"], row["ebv_q95"]) == pytest.approx((low, high), rel=1e-5)
    genetic = result.posterior["var_genetic_trait"].values.mean(dtype=float)
    assert row["reliability"] == pytest.approx(1 - total.var(ddof=1) / genetic, rel=1e-4)
    assert row["ebv"] == pytest.approx(row["ebv_mediated"] + row["ebv_direct"], rel=1e-5)
    assert row["epv"] == pytest.approx(draws["epv"].values.mean(), rel=1e-5)
    assert row["y_pred"] == pytest.approx(draws["y_mean"].values.mean(), rel=1e-6)
    assert row["y_pred_sd"] == pytest.approx(draws["y_pred"].values.std(ddof=1), rel=1e-5)
    assert list(table.index) == list(result.posterior["individual"].values)


def test_breeding_values__the_polygenic_part_counts(make_result):
    result = make_result(skip=True, terms=True)
    table = result.breeding_values()
    parts = ["ebv_mediated", "ebv_direct", "ebv_polygenic"]
    assert (table[parts].abs().max() > 0).all()
    np.testing.assert_allclose(table["ebv"], table[parts].sum(axis=1), atol=1e-6)
    draws = sum(result.posterior[name].astype(float) for name in parts)
    np.testing.assert_allclose(
        table["ebv_sd"], draws.std(("chain", "draw"), ddof=1).values[:, 0], rtol=1e-5
    )


def test_breeding_values__parts_that_the_model_lacks_are_zero(make_result):
    table = make_result().breeding_values()
    assert (table[["ebv_direct", "ebv_polygenic"]] == 0).all(axis=None)
    np.testing.assert_allclose(table["ebv"], table["ebv_mediated"])


def test_breeding_values_tell_who_was_phenotyped(make_result):
    result = make_result()
    observed = ~np.isnan(result.constant_data["phenotype"].values[:, 0])
    assert 0 < observed.sum() < len(observed)
    assert result.breeding_values()["phenotyped"].tolist() == observed.tolist()


def test_sd_of_values_far_from_zero_does_not_cancel(make_result):
    result = make_result()
    shift = 1e5  # float32 has a spacing of 0.008 there
    shifted = (result.posterior["y_pred"] + shift).astype(np.float32)
    result.posterior["y_pred"] = shifted
    expected = shifted.values.astype(float).reshape(-1, 30).std(axis=0, ddof=1)
    np.testing.assert_allclose(result.breeding_values()["y_pred_sd"], expected, rtol=1e-12)


def test_variance_components_describe_the_draws(make_result):
    result = make_result(nodes=2, bayesc=True)
    table = result.variance_components().set_index("component")
    draws = result.posterior["h2_node"].sel(node="omic_1").values
    expected = np.quantile(draws, (0.05, 0.5, 0.95))
    np.testing.assert_allclose(table.loc["h2_node[omic_1]", ["q05", "q50", "q95"]], expected)
    assert table.loc["h2_trait", "mean"] == pytest.approx(
        result.posterior["h2_trait"].values.mean()
    )
    assert table.index.is_unique
    assert {"pi_node", "pi_marker[omic_0]", "var_direct", "var_node_effect"} <= set(table.index)


def test_variance_components_follow_groups_and_terms(make_result):
    result = make_result(nodes=2, skip=True, bayesc=True, terms=True, groups=True)
    names = list(result.variance_components()["component"])
    assert names[:12] == [
        "h2_trait",
        "h2_mediated",
        "h2_direct",
        "h2_polygenic",
        "share_mediated",
        "share_direct",
        "share_polygenic",
        "var_genetic_trait",
        "var_mediated",
        "var_direct",
        "var_polygenic",
        "var_residual_trait",
    ]
    assert {
        "var_random_trait_pen",
        "var_random_node_pedigree[omic_1]",
        "lambda2_marker_effect_trans[omic_0]",
        "pi_marker_cis[omic_0]",
        "weights_marker_cis[omic_1, 2]",
    } <= set(names)
    first_of_nodes = names.index("h2_node[omic_0]")
    assert not [name for name in names[:first_of_nodes] if "omic" in name]
    assert all("omic" in name for name in names[first_of_nodes:])


def test_reliability_is_undefined_without_genetic_variance(make_result):
    result = make_result()
    result.posterior["var_genetic_trait"][:] = 0.0
    assert result.breeding_values()["reliability"].isna().all()


def test_reliabilities_average_to_the_share_of_known_variance(make_result):
    result = make_result(skip=True)
    table = result.breeding_values()
    genetic = result.posterior["var_genetic_trait"].values.mean(dtype=float)
    known = table["ebv"].var(ddof=0) / genetic  # total variance: between means and around them
    assert table["reliability"].mean() == pytest.approx(known, abs=0.01)


def test_node_effects_pip(make_result):
    spike = make_result(bayesc=True)
    included = (spike.posterior["node_effect"].values != 0).mean(axis=(0, 1))[:, 0]
    np.testing.assert_allclose(spike.node_effects()["pip"], included)
    assert (make_result().node_effects()["pip"] == 1.0).all()


def test_marker_effects_are_long_and_keep_names_together(make_result):
    result = make_result(nodes=3, latent=1, markers=5)
    table = result.marker_effects()
    assert len(table) == 4 * 5
    one = table[(table["node"] == "omic_2") & (table["marker"] == "snp4")]
    stored = result.moments.sel(node="omic_2", marker="snp4")
    assert one["mean"].item() == float(stored["marker_mean"])
    assert one["sd"].item() == float(stored["marker_sd"])


def test_marker_effects__direct_ones_bear_the_trait(make_result):
    result = make_result(nodes=2, markers=5, skip=True)
    table = result.marker_effects()
    assert list(table["node"].unique()) == ["omic_0", "omic_1", "y"]
    direct = table[table["node"] == "y"]
    np.testing.assert_array_equal(direct["mean"], result.moments["skip_mean"].values[:, 0])


def test_omics_imputed_are_the_missing_cells_of_observed_nodes(make_result):
    result = make_result(nodes=3, latent=2)
    table = result.omics_imputed()
    observed = result.constant_data["omics_observed"].values[:, :3]
    assert len(table) == (~observed).sum() > 0
    assert set(table["node"]) == {"omic_0", "omic_1", "omic_2"}
    assert (table["sd"] > 0).all()
    row = table.iloc[-1]
    stored = result.moments.sel(individual=row["id"], node=row["node"])
    assert row["mean"] == float(stored["omics_mean"])


def test_omics_imputed__of_a_wholly_latent_layer_is_empty(make_result):
    table = make_result(nodes=0, latent=2).omics_imputed()
    assert len(table) == 0
    assert list(table.columns) == ["id", "node", "mean", "sd"]


def test_summary_has_random_terms_but_no_nodes(make_result):
    table = make_result(layer=False, terms=True).summary().set_index("quantity")
    assert {"h2_trait", "var_polygenic", "var_random_trait_pen"} <= set(table.index)
    assert np.isfinite(table.loc["var_random_trait_pen", "r_hat"])


def test_summary_joins_moments_and_diagnostics(make_result):
    table = make_result(nodes=2, latent=1).summary().set_index("quantity")
    assert {"h2_trait", "node_effect[omic_0]", "node_effect[latent1]"} <= set(table.index)
    assert np.isfinite(table.loc["h2_trait", "r_hat"])
    assert np.isnan(table.loc["node_effect[latent1]", "r_hat"])
