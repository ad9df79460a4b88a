"""The two layers of a simulated data set, given its genotypes and factors."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd

from nnmm_jax.network.activations import NO_THETA, activation_by_name
from nnmm_jax.network.simulation_settings import SimulationSettings

TRAIT = "y"  # column of the phenotype table, and the response of direct marker effects


@dataclass(frozen=True, eq=False)
class Layers:
    """Both layers without holes: n individuals, p markers, L nodes; traits in the user's units.

    Attributes
    ----------
    marker_effects : np.ndarray (p, L + 1)
        Effects of one allele on each node and, last column, directly on the trait; mostly zeros.
    node_effects : np.ndarray (L,)
        Effects of the activated nodes on the trait.
    fixed_effects : pd.DataFrame
        Columns response, term, level, effect; sums to zero over the individuals.
    nodes : np.ndarray (n, L)
    h2_nodes : np.ndarray (L,)
        Genetic share of the variance, fixed effects aside.
    mediated : np.ndarray (n,)
        ``sum_l w_l g(z_l)``.
    mediated_genetic : np.ndarray (n,)
        Its expectation over the nodes' residuals, fixed effects at their mean; centred.
    direct : np.ndarray (n,)
        Direct genetic value; centred.
    fixed : np.ndarray (n,)
        Fixed effects on the trait, with its mean.
    residual : np.ndarray (n,)
    """

    marker_effects: np.ndarray
    node_effects: np.ndarray
    fixed_effects: pd.DataFrame
    nodes: np.ndarray
    h2_nodes: np.ndarray
    mediated: np.ndarray
    mediated_genetic: np.ndarray
    direct: np.ndarray
    fixed: np.ndarray
    residual: np.ndarray

    @property
    def trait(self) -> np.ndarray:
        """Phenotype of everybody (n,)."""
        return self.fixed + self.mediated + self.direct + self.residual


def draw_layers(
    settings: SimulationSettings,
    dosages: np.ndarray,
    factors: pd.DataFrame,
    effect_rng: np.random.Generator,
    residual_rng: np.random.Generator,
) -> Layers:
    """Draw effects and residuals, and from them the nodes and the trait.

    Parameters
    ----------
    settings : SimulationSettings
    dosages : np.ndarray (n, p) int8
    factors : pd.DataFrame (n, 2)
        Columns sex and batch.
    effect_rng, residual_rng : np.random.Generator
        Streams for all effects and for both layers' residuals.
    """
    n, count, sd = len(dosages), settings.nodes, settings.trait_sd
    genetic_sd = np.full(count + 1, np.sqrt(settings.h2_omics))
    genetic_sd[-1] = np.sqrt(settings.share_direct) * sd
    marker_effects, genetic = _genetic_values(settings, dosages, genetic_sd, effect_rng)

    fixed_nodes, table_nodes = _fixed_values(
        factors,
        settings.node_names,
        settings.sex_effect_omics,
        settings.batch_effect_sd_omics,
        effect_rng,
    )
    residual_sd = np.sqrt(1 - settings.h2_omics)
    node_residual = residual_sd * residual_rng.standard_normal((n, count))
    # activations expect nodes of variance 1, the fixed effects included
    scale = 1 / np.sqrt(1 + fixed_nodes.var(axis=0))
    marker_effects[:, :-1] *= scale
    table_nodes["effect"] *= np.repeat(scale, len(table_nodes) // count)
    node_genetic = scale * genetic[:, :-1]
    nodes = scale * (fixed_nodes + genetic[:, :-1] + node_residual)

    mediated, expected, node_effects = _activate(
        settings, nodes, node_genetic, scale * residual_sd, effect_rng
    )
    fixed, table_trait = _fixed_values(
        factors, [TRAIT], settings.sex_effect * sd, settings.batch_effect_sd * sd, effect_rng
    )
    share_residual = max(0.0, 1 - settings.share_mediated - settings.share_direct)
    return Layers(
        marker_effects=marker_effects,
        node_effects=node_effects,
        fixed_effects=pd.concat([table_nodes, table_trait], ignore_index=True),
        nodes=nodes,
        h2_nodes=genetic[:, :-1].var(axis=0) / (genetic[:, :-1] + node_residual).var(axis=0),
        mediated=mediated,
        mediated_genetic=expected - expected.mean(),
        direct=genetic[:, -1],
        fixed=settings.trait_mean + fixed[:, 0],
        residual=np.sqrt(share_residual) * sd * residual_rng.standard_normal(n),
    )


def _genetic_values(
    settings: SimulationSettings,
    dosages: np.ndarray,
    genetic_sd: np.ndarray,
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:
    """Effects (p, k) and centred values (n, k) of the sd asked for, k responses."""
    markers = dosages.shape[1]
    causal = max(1, round(settings.causal_share * markers))
    effects = np.zeros((markers, len(genetic_sd)))
    values = np.empty((len(dosages), len(genetic_sd)))
    for k, sd in enumerate(genetic_sd):
        chosen = np.sort(rng.choice(markers, causal, replace=False))
        effect = rng.standard_normal(causal)
        value = dosages[:, chosen].astype(float) @ effect
        factor = sd / value.std()
        effects[chosen, k] = factor * effect
        values[:, k] = factor * (value - value.mean())
    return effects, values


def _fixed_values(
    factors: pd.DataFrame,
    responses: list[str],
    sex_effect: float,
    batch_sd: float,
    rng: np.random.Generator,
) -> tuple[np.ndarray, pd.DataFrame]:
    """Values (n, k) of sex and batch, centred, and the table of their effects."""
    values = np.zeros((len(factors), len(responses)))
    rows = []
    levels = {name: sorted(factors[name].unique()) for name in ("sex", "batch")}
    for k, response in enumerate(responses):
        drawn = {
            "sex": np.where(np.array(levels["sex"]) == "M", sex_effect, 0.0),
            "batch": batch_sd * rng.standard_normal(len(levels["batch"])),
        }
        for term, effects in drawn.items():
            column = pd.Series(effects, index=levels[term]).loc[factors[term]].to_numpy()
            values[:, k] += column - column.mean()
            rows += [
                (response, term, level, effect - column.mean())
                for level, effect in zip(levels[term], effects, strict=True)
            ]
    return values, pd.DataFrame(rows, columns=["response", "term", "level", "effect"])


def _activate(
    settings: SimulationSettings,
    nodes: np.ndarray,
    node_genetic: np.ndarray,
    residual_sd: np.ndarray,
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mediated values (n,), their expectation given the genotype (n,), node effects (L,)."""
    activation = activation_by_name(settings.activation)
    # in double precision whatever the session's default is: the truth must not depend on it
    with jax.enable_x64(True):
        activated = np.asarray(activation.function(jnp.asarray(nodes), NO_THETA))
        expected = np.asarray(
            activation.expectation(jnp.asarray(node_genetic), jnp.asarray(residual_sd), NO_THETA)
        )
    if settings.node_effects is None:
        effects = rng.standard_normal(settings.nodes)
    else:
        effects = np.asarray(settings.node_effects, dtype=float)
    sd = np.sqrt(settings.share_mediated) * settings.trait_sd
    effects = effects * sd / (activated @ effects).std()
    return activated @ effects, expected @ effects, effects
