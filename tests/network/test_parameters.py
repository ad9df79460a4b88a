"""Parameters of a user's function: the density of their unconstrained vector."""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest

from nnmm_jax.network.parameters import Parameters

PRIORS = (
    dist.Normal(1.0, 2.0),
    dist.LogNormal(0.5, 0.7),
    dist.Gamma(3.0, 2.0),
    dist.HalfNormal(2.0),
    dist.Beta(2.0, 3.0),
    dist.Uniform(-1.0, 4.0),
)
pytestmark = pytest.mark.usefixtures("double")


@pytest.fixture
def double():
    with jax.enable_x64(True):
        yield


@pytest.mark.parametrize("prior", PRIORS, ids=lambda prior: type(prior).__name__)
def test_density_of_the_unconstrained_vector_integrates_to_one(prior):
    """It would not without the Jacobian, or with a wrong sign of it."""
    theta = Parameters({"a": prior})
    grid = jnp.linspace(-40.0, 40.0, 80_001)
    density = jnp.exp(jax.vmap(theta.log_prior)(grid[:, None]))
    assert float(jnp.trapezoid(density, grid)) == pytest.approx(1.0, abs=1e-6)


def test_a_log_normal_is_normal_inside():
    theta = Parameters({"a": dist.LogNormal(0.5, 0.7)})
    expected = dist.Normal(0.5, 0.7).log_prob(1.3)
    assert float(theta.log_prior(jnp.array([1.3]))) == pytest.approx(float(expected), abs=1e-12)


def test_constrain_and_unconstrain_are_inverse():
    theta = Parameters({"a": dist.Gamma(3.0, 2.0), "b": dist.Beta(2.0, 3.0).expand([2])})
    flat = jnp.array([0.3, -1.0, 2.0])
    assert theta.size == 3
    assert theta.constrain(flat)["b"].shape == (2,)
    np.testing.assert_allclose(theta.unconstrain(theta.constrain(flat)), flat, atol=1e-12)
