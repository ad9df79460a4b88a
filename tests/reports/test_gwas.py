import dataclasses

import numpy as np
import pandas as pd
import pytest

from nnmm_jax.errors import InputError
from nnmm_jax.reports.association import may_be_zero
from nnmm_jax.reports.gwas import TABLES

FILES = sorted(
    [*(f"{name}.csv" for name in TABLES), "manhattan_markers.png", "manhattan_windows.png"]
)


@pytest.fixture(scope="module")
def found(make_case):
    case = make_case()
    return case.result.gwas(case.genotypes, case.map, window="3 markers")


def panels(figure):
    return [axes.get_title(loc="left") for axes in figure.axes]


def test_gwas_has_all_responses(found):
    responses = ["omic_0", "omic_1", "omic_2", "y (direct)", "y (total)"]
    assert found.markers["response"].unique().tolist() == responses
    assert found.windows["response"].unique().tolist() == responses
    assert len(found.markers) == 5 * 24
    assert len(found.windows) == 5 * 8
    assert (found.draws, found.share) == (40, 1 / 8)


def test_marker_table_has_moments_of_all_draws(found, make_case):
    moments = make_case().result.moments
    row = found.markers[
        (found.markers["response"] == "omic_2") & (found.markers["marker"] == "snp7")
    ]
    one = moments.isel(node=2, marker=7)
    assert row["pip"].item() == float(one["marker_pip"])
    assert row["mean"].item() == float(one["marker_mean"])
    direct = found.markers[found.markers["response"] == "y (direct)"]
    np.testing.assert_array_equal(direct["mean"], moments["skip_mean"].values[:, 0])


def test_only_responses_whose_effects_may_be_zero_have_a_rate(found):
    rated = found.markers.groupby("response")["q_value"].apply(lambda one: one.notna().all())
    assert rated[["omic_0", "omic_1", "omic_2", "y (direct)"]].all()
    assert not rated["y (total)"]


def test_a_group_of_markers_without_zeros_has_no_rate(make_case):
    case = make_case()
    posterior = case.result.posterior
    mixed = posterior.assign(
        var_marker_effect_cis=posterior["var_marker_effect"], pi_marker_cis=posterior["pi_marker"],
        lambda2_marker_effect_trans=posterior["var_marker_effect"].sel(node=["omic_1"]).rename(
            node="node_late"
        ),
    ).drop_vars(["var_marker_effect", "pi_marker"])  # fmt: skip
    draws = type("Draws", (), {"nodes": ("omic_0", "omic_1"), "trait": "y",
                               "responses": ("omic_0", "omic_1", "y (total)")})  # fmt: skip
    result = dataclasses.replace(case.result, posterior=mixed)
    assert may_be_zero(result, draws) == {"omic_0": True, "omic_1": False, "y (total)": False}


def test_hits_are_windows_at_the_rate(found):
    hits = found.hits()
    assert "omic_0" in set(hits["response"])
    assert (hits["q_value"] <= 0.05).all()
    assert len(hits) == (found.windows["q_value"] <= 0.05).sum()


def test_write_leaves_tables_and_figures(found, tmp_path):
    found.write(tmp_path / "gwas")
    assert sorted(path.name for path in (tmp_path / "gwas").iterdir()) == FILES
    read = pd.read_csv(tmp_path / "gwas" / "windows.csv", dtype={"chromosome": str})
    pd.testing.assert_frame_equal(read, found.windows, check_dtype=False, rtol=1e-6)
    with pytest.raises(InputError, match="exists: choose another folder"):
        found.write(tmp_path / "gwas")
    found.write(tmp_path / "gwas", overwrite=True)


def test_figures_have_a_panel_a_response(found):
    figures = found.figures()
    assert panels(figures["manhattan_windows"]) == [
        "y (total)", "y (direct)", "omic_0", "omic_1", "omic_2",
    ]  # fmt: skip
    assert panels(figures["manhattan_markers"]) == ["y (direct)", "omic_0", "omic_1", "omic_2"]
    bottom = figures["manhattan_windows"].axes[-1]
    assert [one.get_text() for one in bottom.get_xticklabels()] == ["2", "10"]
    axes = figures["manhattan_windows"].axes[2]
    assert "FDR 5%" in [text.get_text() for text in axes.texts]


def test_figures_show_at_most_ten_panels(make_case):
    case = make_case(latent=12)
    figure = case.result.gwas(case.genotypes, case.map).figures()["manhattan_windows"]
    assert len(figure.axes) == 10
    assert "7 responses with lower peaks are not shown" in figure.get_suptitle()


def test_figures_without_zeros_in_the_prior(make_case):
    case = make_case(bayesc=False)
    figures = case.result.gwas(case.genotypes, case.map).figures()
    assert figures["manhattan_markers"].axes[0].texts[0].get_text().startswith("effects of markers")
    assert len(figures["manhattan_windows"].axes) == 5


@pytest.mark.parametrize("options", [{"skip": False}, {"layer": False}])
def test_gwas_of_other_models(make_case, tmp_path, options):
    case = make_case(**options)
    found = case.result.gwas(case.genotypes, case.map, window="LD")
    assert found.windows["response"].iloc[-1] == (
        "y (total)" if "skip" in options else "y (direct)"
    )
    found.write(tmp_path / "gwas")


def test_markers_without_positions_apart_are_drawn(make_case):
    case = make_case()
    one = case.map.assign(position=0.0)
    figures = case.result.gwas(case.genotypes, one).figures()
    assert len(figures["manhattan_windows"].axes) == 5


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"window": "wide"}, "window: expected"),
        ({"share": 0.0}, "share: expected a number between 0 and 1, found 0.0"),
        ({"fdr": 1.5}, "fdr: expected a number between 0 and 1, found 1.5"),
    ],
)
def test_gwas__raises_on_wrong_options(make_case, options, message):
    case = make_case()
    with pytest.raises(InputError, match=message):
        case.result.gwas(case.genotypes, case.map, **options)


def test_gwas__raises_without_marker_effects(make_case):
    case = make_case(layer=False, skip=False)
    with pytest.raises(InputError, match="no marker effects"):
        case.result.gwas(case.genotypes, case.map)
