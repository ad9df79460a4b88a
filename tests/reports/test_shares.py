import pytest


def test_shares_of_the_trait_are_of_the_draws(make_result):
    result = make_result(skip=True, terms=True)
    table = result.variance_components().set_index("component")
    draws = result.posterior
    total = draws["var_genetic_trait"] / draws["h2_trait"]
    parts = {name: draws[f"var_{name}"] for name in ("mediated", "direct", "polygenic")}
    for name, part in parts.items():
        assert table.loc[f"h2_{name}", "mean"] == pytest.approx(
            float((part / total).mean()), rel=1e-4
        )
        share = part / sum(parts.values())
        assert table.loc[f"share_{name}", "mean"] == pytest.approx(float(share.mean()), rel=1e-4)


def test_shares_leave_out_parts_that_the_model_lacks(make_result):
    names = set(make_result().variance_components()["component"])
    assert "h2_mediated" in names
    assert not names & {"h2_direct", "h2_polygenic", "share_mediated"}
    direct = make_result(layer=False, skip=True).variance_components()["component"].tolist()
    assert direct[:2] == ["h2_trait", "h2_direct"]
    assert "h2_mediated" not in direct


def test_shares_are_zero_without_genetic_variance(make_result):
    result = make_result(skip=True)
    for name in ("var_genetic_trait", "var_mediated", "var_direct", "h2_trait"):
        result.posterior[name][:] = 0.0
    table = result.variance_components().set_index("component")
    assert (table.loc[["h2_mediated", "share_direct"], "mean"] == 0.0).all()
