"""One sweep from draws of NumPyro's own composite Gibbs sampler leaves their distribution alone.

NumPyro samples the model by NUTS and, component by component, from the joint density, and knows
nothing of our blocks: if a sweep moved the posterior, draws before and after it would differ on
average.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from jax import random
from numpyro import handlers
from numpyro.infer import MCMC, NUTS, CustomGibbs, Gibbs
from numpyro.infer.util import log_density

from nnmm_jax import BayesC, Network, Residual, read_dataset
from nnmm_jax.inference.prepare import prepare
from nnmm_jax.inference.prior_draw import state_of_sites
from nnmm_jax.inference.start import start_state
from nnmm_jax.inference.sweep import SweepSettings, refreshed, sweep
from nnmm_jax.network.joint import model
from nnmm_jax.posterior import arviz_compat

pytestmark = pytest.mark.statistical
SITE = "component_marker"
CHAINS, DRAWS, LIMIT = 4, 1500, 4.5  # standard errors; the largest of about 40


def small(activation):
    """Fourteen individuals, three markers, two omics with holes, and a latent node."""
    rng = np.random.default_rng(3)
    ids = pd.Index([f"id{i}" for i in range(14)], name="id")
    genotypes = pd.DataFrame(rng.integers(0, 3, (14, 3)), ids, ["a", "b", "c"])
    z = rng.normal(size=(14, 2)) + 0.7 * genotypes.to_numpy()[:, :2]
    y = pd.DataFrame({"y": z @ [1.0, -0.5] + rng.normal(size=14)}, ids)
    z[rng.random(z.shape) < 0.3] = np.nan
    y.iloc[:2] = np.nan
    data = read_dataset(genotypes, pd.DataFrame(z, ids, ["m1", "m2"]), y, "y")
    residual = Residual(df=8.0)
    network = Network(
        activation=activation, marker_prior=BayesC(df=8.0, pi=0.5), latent=1,
        residual_omics=residual, residual_trait=residual, fixed_sd_trait=1.0, fixed_sd_omics=1.0,
    )  # fmt: skip
    return prepare(data, network)


def quantities(state):
    """Means and squares of what both samplers know, none of it of the latent node's sign."""
    layer, trait = state.omics[0], state.trait
    values = {
        "var_e": layer.variance[:2],
        "var_y": trait.variance,
        "log_level": jnp.log(layer.terms[0].level),
        "node": state.node_coef[0, :2],
        "log_node_level": jnp.log(state.nodes[0].level),
        "effects": layer.terms[0].coef[:2, :3].ravel(),
        "included": (layer.terms[0].coef[:, :3] != 0).sum(axis=1).astype(float),
        "fixed": layer.fixed[:2, 0],
        "fixed_trait": trait.fixed[0],
        "z": state.z[:2].sum(axis=1),
        "product": (state.node_coef[0, 2] * state.z[2])[:3],
        "fit": jnp.sum(trait.residual**2)[None],
    }
    flat = jnp.concatenate([jnp.ravel(one) for one in values.values()])
    return jnp.concatenate([flat, flat**2])


@pytest.mark.parametrize("activation", ["linear", "tanh"])
def test_one_sweep_from_draws_of_numpyro(activation):
    prepared = small(activation)
    data, entry = prepared.data, prepared.activation

    def closed():
        model(data, entry)

    def components(rng_key, gibbs_sites, hmc_sites):
        """Whether each effect is zero, one after the other, given everything else."""

        def draw(number, component):
            place = jnp.unravel_index(number, component.shape)
            both = [component.at[place].set(value) for value in (0, 1)]
            logs = [log_density(closed, (), {}, hmc_sites | {SITE: one})[0] for one in both]
            luck = random.logistic(random.fold_in(rng_key, number))
            return component.at[place].set((luck < logs[1] - logs[0]).astype(component.dtype))

        start = gibbs_sites[SITE]
        return {SITE: jax.lax.fori_loop(0, start.size, draw, start)}

    blocks = [(CustomGibbs(components), [SITE]), (NUTS(closed), None)]
    mcmc = MCMC(
        Gibbs(blocks), num_warmup=500, num_samples=2 * DRAWS, thinning=2, num_chains=CHAINS,
        chain_method=jax.vmap, progress_bar=False,
    )  # fmt: skip
    mcmc.run(random.key(1))
    samples = mcmc.get_samples()
    start = start_state(random.key(2), data, entry)
    settings = SweepSettings(entry)

    def one(key, sites):
        trace = handlers.trace(handlers.substitute(handlers.seed(closed, key), sites)).get_trace()
        values = {name: site["value"] for name, site in trace.items()}
        z = data.z_start.at[np.nonzero(~np.asarray(data.observed))].set(values["z_missing"])
        state = refreshed(state_of_sites(values | {"z": z}, start, data, entry), data, entry)
        moved, _ = sweep(key, state, data, jnp.array(0), settings)
        return quantities(state), quantities(moved)

    keys = random.split(random.key(3), CHAINS * DRAWS)
    before, after = jax.jit(jax.vmap(one))(keys, samples)
    change = np.asarray(after - before, dtype=np.float64)
    assert ((change != 0).mean(axis=0) > 0.2).all()
    for part in change.T:
        chains = xr.DataArray(part.reshape(CHAINS, DRAWS), dims=("chain", "draw"))
        error = part.std() / np.sqrt(float(arviz_compat.ess_mean(chains)))
        assert abs(part.mean()) < LIMIT * error
