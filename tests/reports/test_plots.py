import sys

import matplotlib as mpl
import numpy as np
import pytest

from nnmm_jax.reports import plots

SHAPES = {
    "one node": {"nodes": 1, "individuals": 4},
    "BayesC with skip": {"nodes": 10, "bayesc": True, "skip": True},
    "wide": {"nodes": 60, "latent": 2, "hmc": True, "individuals": 700, "draws": 8},
    "all latent": {"nodes": 0, "latent": 2},
    "terms and groups": {"skip": True, "terms": True, "groups": True},
    "no middle layer": {"layer": False, "skip": True, "bayesc": True},
    "a pedigree alone": {"layer": False, "terms": True},
    "one chain": {"chains": 1},
    "two draws": {"chains": 1, "draws": 2},
}


def texts(figure):
    found = []
    for axes in figure.axes:
        found += [axes.get_title(loc="left"), axes.get_xlabel(), axes.get_ylabel()]
        found += [label.get_text() for label in axes.get_yticklabels()]
        found += [text.get_text() for text in axes.texts]
    return found


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", plots.FIGURES)
def test_every_figure_of_every_shape_is_drawn(make_result, name, shape):
    figure = plots.FIGURES[name](make_result(**SHAPES[shape]))
    figure.canvas.draw()
    assert figure.axes


@pytest.mark.parametrize("name", plots.FIGURES)
def test_a_broken_run_can_be_looked_at(make_result, name):
    result = make_result(nodes=3, individuals=10)
    for variable in ("h2_trait", "h2_node", "node_effect", "var_residual_trait", "epv", "y_pred"):
        values = result.posterior[variable].values
        result.posterior[variable] = (
            result.posterior[variable].dims,
            np.where(
                np.arange(values.shape[1]).reshape(1, -1, *[1] * (values.ndim - 2)) > 50,
                np.nan,
                values,
            ),
        )
    figure = plots.FIGURES[name](result)
    figure.canvas.draw()
    assert figure.axes


def test_save_figures_writes_one_png_a_figure(make_result, tmp_path):
    paths = plots.save_figures(make_result(), tmp_path / "figures")
    assert sorted(paths) == sorted((tmp_path / "figures").iterdir())
    assert [path.stem for path in paths] == list(plots.FIGURES)
    for path in paths:
        assert path.read_bytes().startswith(b"\x89PNG")


def test_drawing_changes_no_global_state(make_result):
    before = dict(mpl.rcParams)
    for draw in plots.FIGURES.values():
        draw(make_result())
    assert dict(mpl.rcParams) == before
    if "matplotlib.pyplot" in sys.modules:
        assert sys.modules["matplotlib.pyplot"].get_fignums() == []


def test_convergence_names_the_worst_quantity(make_result):
    result = make_result(individuals=5, nodes=2)
    result.posterior["node_effect"][0, :, 1] += 3.0
    found = " ".join(texts(plots.convergence(result)))
    assert "node_effect[omic_1]" in found


def test_marker_effects_choose_the_clearest_nodes(make_result):
    result = make_result(nodes=30)
    effects = result.node_effects().set_index("node")
    clear = (effects["mean"].abs() / effects["sd"]).nlargest(10).index
    figure = plots.marker_effects(result)
    assert [axes.get_title(loc="left") for axes in figure.axes] == [
        node for node in effects.index if node in clear
    ]


@pytest.mark.parametrize("name", ["node_effects", "node_heritability"])
def test_figures_of_nodes_say_that_there_are_none(make_result, name):
    found = texts(plots.FIGURES[name](make_result(layer=False, terms=True)))
    assert "no middle layer: the trait was fitted directly" in found


def test_marker_effects_without_a_middle_layer_are_the_direct_ones(make_result):
    figure = plots.marker_effects(make_result(layer=False, skip=True))
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["direct on y"]
    assert "no marker effects" in texts(plots.marker_effects(make_result(layer=False)))


def test_chains_show_random_terms(make_result):
    found = texts(plots.chains(make_result(layer=False, terms=True)))
    assert {"var_random_trait_pen", "var_random_trait_pedigree"} <= set(found)


def test_prediction_counts_only_the_phenotyped(make_result):
    result = make_result()
    phenotyped = int(result.breeding_values()["phenotyped"].sum())
    assert f"{phenotyped} phenotyped" in texts(plots.prediction(result))[0]


def test_missing_omics_states_the_share(make_result):
    result = make_result(nodes=4, latent=1)
    share = 1 - result.constant_data["omics_observed"].values[:, :4].mean()
    assert f"{share:.1%} of the omics" in texts(plots.missing_omics(result))[0]


def test_variance_shares_leave_out_what_is_zero(make_result):
    assert "genetic, direct" not in texts(plots.variance_shares(make_result()))
    assert "genetic, direct" in texts(plots.variance_shares(make_result(skip=True)))


def test_variance_shares_are_of_the_whole_variance(make_result):
    result = make_result()
    draws = result.posterior.squeeze("trait")
    total = draws["epv"].var("individual", dtype=float) + draws["var_residual_trait"]
    share = float((draws["var_residual_trait"] / total).mean())
    assert f"{share:.2f}" in texts(plots.variance_shares(result))


def test_variance_shares_count_groups_and_pedigrees(make_result):
    result = make_result(layer=False, terms=True)
    draws = result.posterior.squeeze("trait")
    total = draws["epv"].var("individual", dtype=float) + draws["var_residual_trait"]
    total = total + draws["var_random_trait_pen"]
    found = texts(plots.variance_shares(result))
    for name, part in (
        ("groups", "var_random_trait_pen"),
        ("genetic, pedigree and relationships", "var_polygenic"),
        ("residual", "var_residual_trait"),
    ):
        assert name in found
        assert f"{float((draws[part] / total).mean()):.2f}" in found
    assert "through the nodes, not genetic" not in found
