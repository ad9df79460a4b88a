"""Terms of a layer: marker groups, relationship matrices, pedigrees, groups; prior predictive."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest

from nnmm_jax import (
    GBLUP,
    RRBLUP,
    BayesC,
    Group,
    InputError,
    Model,
    Network,
    Pedigree,
    Relationship,
    Residual,
    read_dataset,
)
from nnmm_jax.inference.blocks.random_terms import contrasts
from nnmm_jax.inference.prepare import prepare
from nnmm_jax.inference.run import RunSettings, run_chains

pytestmark = pytest.mark.usefixtures("double")
NORMAL = RRBLUP()


def grouped(dataset, groups, **sizes):
    """Toy data with marker groups, from (marker, group) or (marker, group, node) rows."""
    data = dataset(**sizes)
    table = pd.DataFrame(groups, columns=["marker", "group", "node"][: len(groups[0])])
    genotypes = pd.DataFrame(data.genotypes, index=pd.Index(data.ids, name="id"))
    genotypes = genotypes.where(genotypes != -1).set_axis(data.markers, axis=1)
    omics = pd.DataFrame(data.omics, index=genotypes.index, columns=data.omics_names)
    phenotypes = data.covariates.assign(y=data.phenotype)
    return read_dataset(genotypes, omics, phenotypes, "y", marker_groups=table)


def test_groups_divide_the_markers(dataset):
    data = grouped(dataset, [(f"snp{j}", "a") for j in (1, 4, 5)])
    priors = {"a": BayesC(pi=0.5, share=0.1), "other": RRBLUP(share=0.2)}
    arrays = prepare(data, Network(marker_prior=priors, skip_prior="BayesA")).data
    first, second = arrays.omics[0].terms
    assert (first.name, first.label, second.name) == ("marker_a", "a", "marker_other")
    np.testing.assert_array_equal(first.columns, [1, 4, 5])
    np.testing.assert_array_equal(second.columns, [0, 2, 3, 6, 7, 8])
    assert first.hyper.spike
    assert second.spectrum is not None
    mean = second.hyper.df * second.hyper.scale / (second.hyper.df - 2)
    dense = second.markers.predict(jnp.eye(second.markers.n_padded))[:6]
    np.testing.assert_allclose(mean * (dense**2).mean(axis=1).sum(), 0.2)
    assert len(arrays.trait.terms) == 1


def test_cis_and_trans_markers_differ_between_nodes(dataset):
    """Where a marker is not of a group its effect is exactly zero; groups fill the matrix."""
    rows = [("snp0", "cis", "m0"), ("snp3", "cis", "m1"), ("snp4", "cis", "m1")]
    data = grouped(dataset, rows, n=30)
    network = Network(marker_prior={"cis": BayesC(pi=0.1), "other": "BayesC"})
    prepared = prepare(data, network)
    cis = prepared.data.omics[0].terms[[t.label for t in prepared.data.omics[0].terms].index("cis")]
    np.testing.assert_array_equal(cis.columns, [0, 3, 4])
    np.testing.assert_array_equal(
        cis.mask[:3], [[True, False, False], [False, True, False], [False, True, False]]
    )
    run = RunSettings(warmup=5, samples=40, chains=2, seed=1, progress=False)
    output = run_chains(prepared.data, prepared.activation, run)
    kernel_terms = {"pi_marker_cis", "pi_marker_other", "var_marker_effect_cis"}
    assert kernel_terms <= set(output.draws)
    model_sums = output.sums.markers
    assert (model_sums.nonzero[:, 0, 0] > 20).all()  # cis, pi 0.1
    other = next(t for t in prepared.data.omics[0].terms if t.label == "other")
    assert other.mask.sum() + cis.mask.sum() == 27


def test_markers_of_a_group_without_prior_have_no_effects(dataset):
    data = grouped(dataset, [(f"snp{j}", "a") for j in (1, 4, 5)])
    network = Network(
        marker_prior={"a": NORMAL, "other": None}, skip_prior={"a": None, "other": NORMAL}
    )
    result = Model(data, network).fit(warmup=5, samples=20, chains=1, seed=1, progress=False)
    arrays = prepare(data, network).data
    (omics,), (trait,) = arrays.omics[0].terms, arrays.trait.terms
    np.testing.assert_array_equal(omics.columns, [1, 4, 5])
    np.testing.assert_array_equal(trait.columns, [0, 2, 3, 6, 7, 8])
    effects = result.marker_effects().set_index("marker")
    on_nodes = effects[effects["node"] != "y"]
    direct = effects[effects["node"] == "y"]
    chosen = ["snp1", "snp4", "snp5"]
    for table, acting in (
        (on_nodes, on_nodes.index.isin(chosen)),
        (direct, ~direct.index.isin(chosen)),
    ):
        assert (table.loc[acting, ["mean", "sd"]] != 0).to_numpy().all()
        assert (table.loc[~acting, ["mean", "sd", "pip"]] == 0).to_numpy().all()
    assert result.run["settings"]["marker_prior"]["other"] is None


def test_a_group_without_prior_differs_between_nodes(dataset):
    """Every node sees its own markers only."""
    rows = [("snp0", "cis", "m0"), ("snp3", "cis", "m1"), ("snp4", "cis", "m2")]
    data = grouped(dataset, rows)
    network = Network(marker_prior={"cis": "BayesC", "other": None})
    (cis,) = prepare(data, network).data.omics[0].terms
    np.testing.assert_array_equal(cis.columns, [0, 3, 4])
    np.testing.assert_array_equal(cis.mask[:3], np.eye(3, dtype=bool))


@pytest.mark.parametrize(
    ("network", "message"),
    [
        (Network(marker_prior={"a": NORMAL}), "expected a prior for each marker group"),
        (
            Network(marker_prior={"a": NORMAL, "b": None}),
            "marker_prior: expected a prior for each marker group \\(none\\), found 'a', 'b'; give",
        ),
        (
            Network(marker_prior={"a": GBLUP(relationship="K"), "b": None}),
            "marker_prior: expected a prior for each marker group \\(none\\), found 'a', 'b'; give",
        ),
        (
            Network(skip_prior={"a": NORMAL, "b": NORMAL}),
            "skip_prior: expected a prior for each marker group \\(none\\)",
        ),
        (Network(random_trait=[Pedigree()]), "no pedigree"),
        (Network(random_omics=[Relationship("K")]), "relationship matrix 'K'"),
        (Network(skip_prior=GBLUP(relationship="K")), "relationship matrix 'K'"),
        (Network(random_trait=[Group("pen")]), "Group\\('pen'\\): expected a column"),
        (Network(random_trait=[Group("sex")]), "found none for 'id3'"),
        (Network(random_omics=[Group("sex")]), "found none for 'id3'"),
    ],
)
def test_terms__raise_on_what_the_data_lack(dataset, network, message):
    data = dataset()
    covariates = data.covariates.copy()
    covariates.iloc[3, covariates.columns.get_loc("sex")] = None
    with pytest.raises(InputError, match=message):
        prepare(dataclasses.replace(data, covariates=covariates), network)


def test_no_genotypes__raises_unless_there_are_no_marker_effects(dataset):
    rich = dataset(rich=True)
    bare = dataclasses.replace(rich, genotypes=rich.genotypes[:, :0], markers=rich.markers[:0])
    with pytest.raises(InputError, match="marker_prior: expected genotypes"):
        prepare(bare, Network())
    prepared = prepare(bare, Network(marker_prior=None, random_omics=[Pedigree()]))
    assert [term.name for term in prepared.data.omics[0].terms] == ["random_marker_pedigree"]


def test_both_solvers_have_the_same_relationship(dataset):
    data = dataset(rich=True)
    expected = data.pedigree.relationship(data.pedigree_rows)
    eigen, sparse = (
        prepare(data, Network(random_omics=[Pedigree(solver=solver)])).data.omics[0]
        for solver in ("eigen", "cg")
    )
    term = eigen.terms[-1]
    whole = term.markers.predict(jnp.eye(term.markers.n_padded)) / jnp.sqrt(data.omics_weights)
    np.testing.assert_allclose(whole.T @ whole, expected, atol=1e-10)
    (term,) = sparse.random
    root = jax.vmap(lambda one: contrasts(term, one[None])[0])(jnp.eye(term.n_levels)).T
    kinship = np.linalg.inv(root.T @ root)
    rows = np.asarray(term.everyone)
    np.testing.assert_allclose(kinship[np.ix_(rows, rows)], expected, atol=1e-10)
    np.testing.assert_allclose(np.diag(root.T @ root), term.diagonal, atol=1e-10)


def test_sparse_pedigree__raises_on_fully_inbred_parents(dataset):
    data = dataset(rich=True)
    none = dataclasses.replace(data.pedigree, mendelian=0.0 * data.pedigree.mendelian)
    inbred = dataclasses.replace(data, pedigree=none)
    with pytest.raises(InputError, match=r"fully inbred parents.*solver='eigen'"):
        prepare(inbred, Network(random_trait=[Pedigree(solver="cg")]))


def test_a_group_of_the_omics__raises_where_it_varies_within_an_individual(dataset):
    data = dataset(rich=True)
    column, individual = next(iter(data.varying_columns.items()))
    with pytest.raises(InputError, match=f"Group\\('{column}'\\) of the omics.*{individual}"):
        prepare(data, Network(random_omics=[Group(column)]))


@pytest.mark.parametrize(
    "said",
    [
        {"marker_prior": BayesC(pi=0.95)},
        {"node_prior": "BayesA"},
        {"activation": "tanh"},
        {"fixed_omics": "~ sex"},
        {"random_omics": [Group("sex")]},
        {"residual_omics": Residual(df=7.0)},
    ],
)
def test_a_direct_fit__raises_on_settings_of_a_middle_layer(dataset, said):
    data = dataset()
    bare = dataclasses.replace(data, omics=data.omics[:, :0], omics_names=data.omics_names[:0])
    (name,) = said
    with pytest.raises(InputError, match=f"{name}: there are no omics"):
        prepare(bare, Network(skip_prior="RR-BLUP", **said))


def test_levels_of_groups(dataset):
    data = dataset(rich=True)
    (pen,) = prepare(data, Network(random_trait=[Group("pen")])).data.trait.random
    observed = np.flatnonzero(~np.isnan(data.phenotype))
    names = data.covariates["pen"].to_numpy()
    everyone = np.asarray(pen.everyone)
    for level in range(pen.n_levels):
        assert len(set(names[everyone == level])) == 1
    assert pen.n_levels == len(set(names))
    np.testing.assert_array_equal(pen.level, everyone[observed])
    effects = np.random.default_rng(0).normal(size=(1, pen.n_levels))
    values = pen.individual_values(jnp.asarray(effects), len(data.ids))
    for i in range(len(data.ids)):  # with or without a phenotype, the mean over records
        mine = effects[0, everyone[data.record_rows == i]]
        assert values[0, i] == pytest.approx(mine.mean())


def test_a_hidden_phenotype_is_predicted_with_its_group(dataset):
    """And one whose group nobody knows with the variance of groups."""
    rng = np.random.default_rng(1)
    n = 150
    table = pd.DataFrame({"id": [f"i{k}" for k in range(n)], "pen": rng.integers(0, 8, n)})
    table["y"] = 3.0 * rng.normal(size=8)[table["pen"]] + rng.normal(size=n)
    table["pen"] = "p" + table["pen"].astype(str)
    hidden = np.arange(n) < 40
    table.loc[:4, "pen"] = None
    seen = table.assign(y=table["y"].where(~hidden))
    genotypes = pd.DataFrame({"id": table["id"], "m": rng.integers(0, 3, n)})
    data = read_dataset(genotypes, None, seen, "y")
    network = Network(random_trait=[Group("pen")])
    result = Model(data, network).fit(warmup=100, samples=300, chains=2, seed=1, progress=False)
    predicted = result.breeding_values()
    known = hidden & table["pen"].notna().to_numpy()
    assert np.corrcoef(predicted["y_pred"][known], table["y"][known])[0, 1] > 0.8
    assert predicted["y_pred_sd"][known].max() < 1.5
    assert predicted["y_pred_sd"][:5].min() > 2.0


def test_layers_with_the_same_records_share_their_eigenvectors(dataset):
    network = Network(marker_prior="RR-BLUP", skip_prior="RR-BLUP")
    complete, partial = (prepare(dataset(holes=holes), network).data for holes in (False, True))
    assert complete.omics[0].terms[0].spectrum is complete.trait.terms[0].spectrum
    assert partial.omics[0].terms[0].spectrum.vectors.shape[1] == 14
    assert partial.trait.terms[0].spectrum.vectors.shape[1] == 11


def test_gblup_reports_the_variance_of_genomic_values(dataset):
    """G of VanRaden: the level times sum 2pq."""
    data = dataset()
    term = prepare(data, Network(marker_prior="GBLUP")).data.omics[0].terms[0]
    p = np.nanmean(np.where(data.genotypes == -1, np.nan, data.genotypes), axis=0) / 2
    np.testing.assert_allclose(term.hyper.factor, np.sum(2 * p * (1 - p)))


def test_prior_predictive_shows_what_priors_imply(dataset):
    data = dataset(n=60, p=20, holes=False)
    known = {"residual_omics": Residual(variance=1e-6), "residual_trait": Residual(share=0.5)}
    one = Model(data, Network(marker_prior="RR-BLUP", **known)).prior_predictive(300, seed=1)
    summary = one.summary().set_index("quantity")
    assert summary.loc["h2_node[m0]", "q05"] > 0.95  # almost no residual
    assert 0.2 < summary.loc["h2_trait", "q50"] < 0.8
    again = Model(data, Network(marker_prior="RR-BLUP", **known)).prior_predictive(300, seed=1)
    np.testing.assert_array_equal(one.draws["h2_trait"], again.draws["h2_trait"])
    sure = Residual(df=100.0)
    low = Network(skip_prior=RRBLUP(share=0.05, df=100.0), residual_trait=sure)
    direct = dataclasses.replace(data, omics=data.omics[:, :0], omics_names=data.omics_names[:0])
    h2 = Model(direct, low).prior_predictive(300, seed=1).draws["h2_trait"]
    assert float(h2.median()) == pytest.approx(0.05, abs=0.015)
    assert "q95" in str(one)
