"""Quantities of a draw: from a state to what is reported, on the internal scale."""

import jax.numpy as jnp
import numpy as np
import pytest
from jax import random

from nnmm_jax import Group, Pedigree
from nnmm_jax.inference.quantities import draw_quantities


@pytest.mark.usefixtures("double")
def test_heritability_is_a_share_of_all_variances(toy):
    """Groups and the residual are part of the whole, pedigrees of the numerator."""
    case = toy(
        sizes={"rich": True},
        activation="tanh",
        skip_prior="RR-BLUP",
        random_trait=[Pedigree(), Group("pen"), Group("id")],
    )
    trait = case.state.trait
    draw, _ = draw_quantities(random.key(0), case.state, case.data, case.settings)
    pen, cow = (float(effects.level[0]) for effects in trait.random)
    ebv = draw["ebv_mediated"] + draw["ebv_direct"] + draw["ebv_polygenic"]
    whole = jnp.var(draw["epv"]) + pen + cow + trait.variance[0]
    np.testing.assert_allclose(draw["var_genetic_trait"], jnp.var(ebv), rtol=1e-12)
    np.testing.assert_allclose(draw["h2_trait"], jnp.var(ebv) / whole, rtol=1e-12)
    assert pen + cow > 0.01 * float(whole)
