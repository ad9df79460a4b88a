import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from scipy.stats import multivariate_normal, norm

import nnmm_jax as nm
from nnmm_jax.inference.pointwise import log_likelihood
from nnmm_jax.inference.prepare import prepare
from nnmm_jax.inference.start import start_state
from nnmm_jax.inference.sweep import refreshed


def tables(*, weights):
    """Some omics missing, some individuals with several records, one without a phenotype."""
    random = np.random.default_rng(3)
    ids = [f"i{i}" for i in range(12)]
    genotypes = pd.DataFrame(random.integers(0, 3, (12, 6)), columns=[f"m{j}" for j in range(6)])
    omics = pd.DataFrame(random.normal(size=(12, 3)), columns=list("abc"))
    omics[random.random((12, 3)) < 0.4] = np.nan
    owners = [*ids, "i0", "i3", "i3"]
    phenotypes = pd.DataFrame({"id": owners, "y": random.normal(50.0, 4.0, len(owners))})
    phenotypes.loc[11, "y"] = np.nan
    if weights:
        phenotypes["v"] = random.uniform(0.5, 3.0, len(owners))
        of_id = pd.Series(random.uniform(0.5, 3.0, 12), ids)
        phenotypes["u"] = phenotypes["id"].map(of_id)
    for frame in (genotypes, omics):
        frame.insert(0, "id", ids)
    columns = {"weights": "v", "omics_weights": "u"} if weights else {}
    return nm.read_dataset(genotypes, omics, phenotypes, "y", **columns)


def state_of(dataset, network):
    prepared = prepare(dataset, network)
    state = start_state(jax.random.key(5), prepared.data, prepared.activation)
    random = np.random.default_rng(7)
    nodes = tuple(
        effects._replace(coef=jnp.asarray(random.normal(size=effects.coef.shape), state.z.dtype))
        for effects in state.nodes
    )
    state = refreshed(state._replace(nodes=nodes), prepared.data, prepared.activation)
    return prepared, state


@pytest.mark.parametrize("weights", [False, True], ids=["equal", "weighted"])
@pytest.mark.parametrize("latent", [0, 1])
def test_missing_nodes_are_integrated_out_of_all_records_together(weights, latent):
    dataset = tables(weights=weights)
    prepared, state = state_of(dataset, nm.Network(latent=latent, skip_prior="RR-BLUP"))
    data = prepared.data
    found = np.asarray(log_likelihood(state, data, prepared.activation))
    rows = np.asarray(data.y_rows)
    root = np.ones(len(rows)) if data.trait.root is None else np.asarray(data.trait.root)
    residual = np.asarray(state.trait.residual[0]) / root
    w, sigma2 = np.asarray(state.node_coef[0]), float(state.trait.variance[0])
    e = np.asarray(data.omics[0].unweighted(state.node_residual))
    v = np.ones(12) if dataset.omics_weights is None else dataset.omics_weights
    variance = np.asarray(state.node_variance)[:, None] / v
    missing = ~np.asarray(data.observed)
    assert missing.any(axis=0).sum() > 3
    for i in range(12):
        mine = rows == i
        if not mine.any():
            assert found[i] == 0.0
            continue
        # What the missing nodes of the state have beyond their expectation is taken away.
        deviation = residual[mine] + (w * e[:, i])[missing[:, i]].sum()
        shared = (w**2 * variance[:, i])[missing[:, i]].sum()
        covariance = np.diag(sigma2 / root[mine] ** 2) + shared
        expected = multivariate_normal.logpdf(deviation, np.zeros(mine.sum()), covariance)
        np.testing.assert_allclose(found[i], expected, rtol=1e-4, atol=1e-4)


def test_nodes_are_given_where_the_network_is_not_linear():
    dataset = tables(weights=False)
    prepared, state = state_of(dataset, nm.Network(activation="tanh"))
    found = np.asarray(log_likelihood(state, prepared.data, prepared.activation))
    single = [i for i in range(11) if i not in (0, 3)]
    rows = np.asarray(prepared.data.y_rows)
    residual = np.array([np.asarray(state.trait.residual[0])[rows == i].item() for i in single])
    expected = norm.logpdf(residual, 0.0, np.sqrt(float(state.trait.variance[0])))
    np.testing.assert_allclose(found[single], expected, rtol=1e-4, atol=1e-4)


def test_a_trait_without_middle_layer_has_one():
    dataset = tables(weights=True)
    direct = nm.read_dataset(
        pd.DataFrame(dataset.genotypes, columns=dataset.markers).assign(id=dataset.ids)[
            ["id", *dataset.markers]
        ],
        None,
        pd.DataFrame({"id": dataset.ids[:11], "y": np.arange(11.0)}),
        "y",
    )
    prepared, state = state_of(direct, nm.Network(skip_prior="RR-BLUP"))
    found = np.asarray(log_likelihood(state, prepared.data, prepared.activation))
    sd = np.sqrt(float(state.trait.variance[0]))
    expected = norm.logpdf(np.asarray(state.trait.residual[0]), 0.0, sd)
    np.testing.assert_allclose(found[:11], expected, rtol=1e-5, atol=1e-5)
    assert found[11] == 0.0
