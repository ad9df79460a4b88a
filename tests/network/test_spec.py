import jax.numpy as jnp
import numpy as np
import pytest
from scipy import integrate, stats

from nnmm_jax import RRBLUP, BayesC, InputError, Network
from nnmm_jax.network.activations import ACTIVATIONS, activation_by_name
from nnmm_jax.network.priors import PRIORS, prior_by_name


@pytest.mark.parametrize("name", list(ACTIVATIONS))
@pytest.mark.parametrize(("mean", "sd"), [(0.0, 1.0), (1.3, 0.2), (-2.0, 1.7), (0.4, 0.0)])
def test_expectation_over_the_residual(name, mean, sd):
    activation = ACTIVATIONS[name]
    value = float(activation.expectation(jnp.asarray(mean), jnp.asarray(sd)))
    if sd == 0:
        expected = float(activation.function(jnp.asarray(mean)))
    else:
        expected = integrate.quad(
            lambda z: float(activation.function(jnp.asarray(z))) * stats.norm.pdf(z, mean, sd),
            mean - 9 * sd,
            mean + 9 * sd,
            points=[0.0],
            limit=200,
        )[0]
    assert value == pytest.approx(expected, abs=2e-4)


@pytest.mark.parametrize("name", list(ACTIVATIONS))
def test_symmetric_activations_are_odd_up_to_a_constant(name):
    activation, z = ACTIVATIONS[name], jnp.linspace(-3, 3, 31)
    total = np.asarray(activation.function(z) + activation.function(-z))
    assert activation.symmetric == bool(np.ptp(total) < 1e-6)
    assert activation.linear == bool(np.allclose(activation.function(z), z))


@pytest.mark.parametrize(
    ("written", "name"),
    [("TANH", "tanh"), ("leaky_relu", "leakyrelu"), ("Leaky-ReLU", "leakyrelu")],
)
def test_activation_names_are_lenient(written, name):
    assert activation_by_name(written).name == name


@pytest.mark.parametrize("name", ["rrblup", "RR-BLUP", "bayesc", "BAYESC", "rr_blup"])
def test_prior_names_are_lenient(name):
    assert type(prior_by_name(name)) in PRIORS.values()


def test_pi_is_the_probability_of_zero():
    assert BayesC(pi=0.95).expected_nonzero == pytest.approx(0.05)
    assert BayesC(pi_counts=(9.0, 1.0)).expected_nonzero == pytest.approx(0.1)
    assert RRBLUP().expected_nonzero == 1.0


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: BayesC(pi=0.0), "pi"),
        (lambda: BayesC(pi=1.0), "pi"),
        (lambda: BayesC(pi_counts=(0.0, 1.0)), "pi_counts"),
        (lambda: RRBLUP(df=2.0), "df must exceed 2"),
        (lambda: RRBLUP(share=1.0), "share"),
        (lambda: Network(activation="softmax"), "softmax.*linear, tanh"),
        (lambda: Network(marker_prior="BayesZ"), "BayesZ.*RR-BLUP, BayesC"),
        (lambda: Network(skip_prior="none"), "none"),
        (lambda: Network(latent=-1), "latent"),
        (lambda: Network(latent=1.5), "latent"),
    ],
)
def test_specifications__raise_on_impossible_values(make, message):
    with pytest.raises(InputError, match=message):
        make()
