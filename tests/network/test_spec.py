import jax.numpy as jnp
import numpy as np
import pytest
from scipy import integrate, stats

from nnmm_jax import (
    GBLUP,
    RRBLUP,
    BayesA,
    BayesB,
    BayesC,
    BayesL,
    BayesR,
    Block,
    Group,
    InputError,
    Network,
    Pedigree,
    Relationship,
    Residual,
)
from nnmm_jax.network.activations import ACTIVATIONS, activation_by_name
from nnmm_jax.network.priors import PRIORS, prior_by_name


@pytest.mark.parametrize("name", list(ACTIVATIONS))
@pytest.mark.parametrize(("mean", "sd"), [(0.0, 1.0), (1.3, 0.2), (-2.0, 1.7), (0.4, 0.0)])
def test_expectation_over_the_residual(name, mean, sd):
    activation = ACTIVATIONS[name]
    value = float(activation.expectation(jnp.asarray(mean), jnp.asarray(sd), {}))
    if sd == 0:
        expected = float(activation.function(jnp.asarray(mean), {}))
    else:
        expected = integrate.quad(
            lambda z: float(activation.function(jnp.asarray(z), {})) * stats.norm.pdf(z, mean, sd),
            mean - 9 * sd,
            mean + 9 * sd,
            points=[0.0],
            limit=200,
        )[0]
    assert value == pytest.approx(expected, abs=2e-4)


@pytest.mark.parametrize("name", list(ACTIVATIONS))
def test_symmetric_activations_are_odd_up_to_a_constant(name):
    activation, z = ACTIVATIONS[name], jnp.linspace(-3, 3, 31)
    total = np.asarray(activation.function(z, {}) + activation.function(-z, {}))
    assert activation.symmetric == bool(np.ptp(total) < 1e-6)
    assert activation.linear == bool(np.allclose(activation.function(z, {}), z))


@pytest.mark.parametrize(
    ("written", "name"),
    [("TANH", "tanh"), ("leaky_relu", "leakyrelu"), ("Leaky-ReLU", "leakyrelu")],
)
def test_activation_names_are_lenient(written, name):
    assert activation_by_name(written).name == name


@pytest.mark.parametrize("name", ["rrblup", "RR-BLUP", "BAYESC", "rr_blup", "BayesA", "gblup"])
def test_prior_names_are_lenient(name):
    assert type(prior_by_name(name)) in PRIORS.values()


@pytest.mark.parametrize("prior", [BayesB, BayesC])
def test_pi_is_the_probability_of_zero(prior):
    assert prior(pi=0.95).expected_multiplier == pytest.approx(0.05)
    assert prior(pi_counts=(9.0, 1.0)).expected_multiplier == pytest.approx(0.1)
    assert prior(pi=0.95).component_counts is None
    assert RRBLUP().expected_multiplier == 1.0


def test_expected_multiplier_of_a_mixture():
    known = BayesR(mixture=(0, 0.1, 1), weights=(0.5, 0.3, 0.2))
    assert known.expected_multiplier == pytest.approx(0.23)
    estimated = BayesR(mixture=(0, 0.1, 1), weight_counts=(2, 1, 1))
    assert estimated.expected_multiplier == pytest.approx(1.1 / 4)
    assert estimated.component_counts == (2.0, 1.0, 1.0)


def test_priors_by_group_and_terms_are_resolved():
    network = Network(
        marker_prior={"cis": "BayesA", "trans": BayesR()},
        random_trait=[Pedigree(), Group("pen", share=0.1), Relationship("K")],
    )
    assert {group: prior.name for group, prior in network.marker_priors.items()} == {
        "cis": "BayesA",
        "trans": "BayesR",
    }
    assert network.marker_groups == ("cis", "trans")
    assert Network().skip_priors == {}
    assert Network().skip_groups == Network().marker_groups == ()
    assert list(Network(skip_prior="GBLUP").skip_priors) == [""]
    assert [term.label for term in network.random_trait] == ["pedigree", "pen", "K"]
    assert [term.genetic for term in network.random_trait] == [True, False, True]


def test_a_marker_group_may_have_no_prior():
    network = Network(skip_prior={"cis": BayesA(share=0.4), "trans": None})
    assert dict(network.skip_prior) == {"cis": BayesA(share=0.4), "trans": None}
    assert network.skip_priors == {"cis": BayesA(share=0.4)}
    assert network.skip_groups == ("cis", "trans")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: BayesC(pi=0.0), "BayesC: pi.*RR-BLUP"),
        (lambda: BayesB(pi=1.0), "BayesB: pi.*BayesA"),
        (lambda: BayesC(pi_counts=(0.0, 1.0)), "pi_counts"),
        (lambda: RRBLUP(df=2.0), "df must exceed 2"),
        (lambda: BayesA(df=2.0), "BayesA: df must exceed 2"),
        (lambda: RRBLUP(variance=-1.0), "RR-BLUP: variance must be positive"),
        (lambda: BayesA(rate=0.0), "BayesA: rate must be positive"),
        (lambda: BayesL(shape=1.0), "shape must exceed 1"),
        (lambda: BayesL(lambda2=-2.0), "lambda2 must be positive"),
        (lambda: BayesR(mixture=(0.1, 1.0)), "start at 0"),
        (lambda: BayesR(mixture=(0.0, 1.0, 0.5)), "increase"),
        (lambda: BayesR(weights=(0.5, 0.5)), "4 positive numbers"),
        (lambda: BayesR(weights=(0.5, 0.1, 0.1, 0.1)), "sum to 1"),
        (lambda: RRBLUP(variance=2.0, scale=3.0), "variance or scale, found both"),
        (lambda: BayesA(scale=1.0, rate=2.0), "scale or rate, found both"),
        (lambda: BayesL(lambda2=1.0, rate=2.0), "lambda2 or rate, found both"),
        (lambda: BayesB(pi=0.9, pi_counts=(1.0, 9.0)), "pi or pi_counts, found both"),
        (
            lambda: BayesR(mixture=(0, 1), weights=(0.5, 0.5), weight_counts=(1, 1)),
            "weights or weight_counts, found both",
        ),
        (lambda: Residual(variance=1.0, scale=1.0), "variance or scale, found both"),
        (lambda: Network(marker_prior=BayesC), "expected a prior such as"),
        (
            lambda: Network(marker_prior={"a": None, "b": None}),
            "^marker_prior: expected a prior .*, found none for 'a', 'b'; say marker_prior=None$",
        ),
        (lambda: Network(skip_prior={}), "^skip_prior: expected a prior .* say skip_prior=None$"),
        (lambda: Network(marker_prior={"a": BayesC}), "expected a prior such as"),
        (
            lambda: Network(
                node_prior=RRBLUP(share=0.7),
                skip_prior=RRBLUP(share=0.2),
                random_trait=Group("pen", share=0.1),
            ),
            "leave some for the residual, found a sum of 1;",
        ),
        (lambda: Residual(share=2.0), "share"),
        (lambda: Residual(df=1.0), "df must exceed 2"),
        (lambda: Residual(scale=0.0), "Residual: scale must be positive"),
        (lambda: Pedigree(solver="lu"), "solver"),
        (lambda: RRBLUP(share=1.0), "share"),
        (lambda: Network(activation="softmax"), "softmax.*linear, tanh"),
        (lambda: Network(marker_prior="BayesZ"), "BayesZ.*RR-BLUP, GBLUP, BayesA"),
        (lambda: Network(skip_prior="none"), "none"),
        (lambda: Network(node_prior=GBLUP(relationship="K")), "place of the nodes"),
        (lambda: Network(latent=-1), "latent"),
        (lambda: Network(latent=1.5), "latent"),
        (lambda: Network(random_trait=["pen"]), "random_trait: expected terms"),
        (lambda: Network(random_trait=[Group("pen/x")]), "without '/'.*pen/x"),
        (lambda: Network(marker_prior={"a/b": "BayesA"}), "without '/'.*a/b"),
        (lambda: Network(random_omics=[Group("pen"), Group("pen")]), "'pen' more than once"),
        (
            lambda: Network(skip_prior=RRBLUP(share=0.6), random_trait=[Group("pen", share=0.5)]),
            "priors of the trait.*1.1",
        ),
    ],
)
def test_specifications__raise_on_impossible_values(make, message):
    with pytest.raises(InputError, match=message):
        make()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Block(3), "Block: expected a name, found 3"),
        (lambda: Block("a", 3), "block 'a': expected a list of nodes, found 3"),
        (lambda: Block("a", {"m0", "m1"}), "block 'a': expected a list of nodes"),
        (lambda: Block("a", "m0"), "block 'a': expected a list of nodes, found 'm0'"),
        (lambda: Block("a", latent=-1), "block 'a': latent must be a whole number"),
        (lambda: Block("a", connections="cis"), "expected one of full, map, found 'cis'"),
        (lambda: Block("a/b"), "expected names without '/'"),
        (lambda: Network(blocks=[Block("")]), "a name for every block, found one without"),
        (lambda: Network(blocks=["a"]), r"expected Block\('name', ...\), found 'a'"),
        (lambda: Network(blocks=[Block("a"), Block("a", [])]), "every name once, found 'a' again"),
        (lambda: Network(blocks=[Block("a"), Block("b")]), "nodes of all blocks but one"),
        (lambda: Network(blocks=[Block("a")], latent=1), "latent: the middle layer has blocks"),
        (lambda: Network(theta={"a": 1}), "theta: expected an activation f"),
        (lambda: Network(activation=3), "expected a name or a function, found 3"),
    ],
)
def test_blocks_and_functions__raise_on_what_cannot_be(make, message):
    with pytest.raises(InputError, match=message):
        make()


def test_one_block_may_stand_alone():
    assert Network(blocks=Block("a")).all_blocks[0].name == "a"
