import pytest

from nnmm_jax.errors import InputError
from nnmm_jax.network.simulation_settings import SimulationSettings


def test_defaults_follow_from_individuals():
    assert SimulationSettings().founder_count == 100
    assert SimulationSettings(individuals=400, founders=20).founder_count == 20


def test_node_names_put_latent_nodes_last():
    assert SimulationSettings(omics=2, latent=1).node_names == ["omics1", "omics2", "latent1"]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (dict(individuals=0), "individuals must be a whole number >= 8, got 0"),
        (dict(individuals=10.5, founders=4), "individuals must be a whole number"),
        (dict(individuals=100, founders=99), "individuals must be a whole number >= 103"),
        (dict(founders=2), "founders must be a whole number >= 4"),
        (dict(generations=0), "generations must be a whole number >= 1"),
        (dict(family_size=True), "family_size must be a whole number"),
        (dict(markers=3), "markers must be a whole number >= 5"),
        (dict(omics=-1), "omics must be a whole number >= 0"),
        (dict(omics=0), "omics and latent are both 0"),
        (dict(activation="cosine"), "unknown activation 'cosine'"),
        (dict(h2_omics=1.2), "h2_omics must lie in 0..1, got 1.2"),
        (dict(h2_omics=float("nan")), "h2_omics must lie in 0..1"),
        (dict(causal_share=0), "causal_share must be above 0"),
        (dict(share_mediated=0.8, share_direct=0.3), "must not exceed 1, got 0.8"),
        (dict(without_omics=1.0), "without_omics must lie in 0..1, below 1"),
        (dict(missing_cells=-0.1), "missing_cells must lie in"),
        (dict(without_phenotype=1), "without_phenotype must lie in"),
        (dict(trait_sd=0), "trait_sd must be positive"),
        (dict(chromosome_length=float("inf")), "chromosome_length must be positive"),
        (dict(trait_mean=float("nan")), "trait_mean must be finite"),
        (dict(batch_effect_sd=-1), "batch_effect_sd must not be negative"),
        (dict(node_effects=(1.0,)), "one value for each of the 10 nodes, got 1"),
        (dict(omics=2, node_effects=(0.0, 0.0)), "finite and not all 0"),
    ],
)
def test_settings__raises_on_impossible_value(values, message):
    with pytest.raises(InputError, match=message):
        SimulationSettings(**values)
