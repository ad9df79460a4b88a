"""Planted associations and planted mediation are found, and false discoveries are as rare as said.

Simulated families, markers in linkage disequilibrium, few causal ones of each node; the second and
the fourth node do not act on the trait, and some markers act on it directly. Fits know none of
this: default BayesC for all effects, node effects included.

What is called at a posterior false discovery rate q is judged over all data sets together. The
realised rate may exceed q by what three standard deviations of a binomial count would, and by half
a discovery: with a posterior that is right the expected rate is below q, as q bounds it.
"""

from functools import cache
from typing import NamedTuple

import numpy as np
import pandas as pd
import pytest

import nnmm_jax as nm
from nnmm_jax.network.simulate import Simulated
from nnmm_jax.reports.gwas import Gwas

pytestmark = pytest.mark.statistical

SEEDS = range(1, 6)
WINDOW = 5  # markers
NODE_EFFECTS = (1.0, 0.0, -0.8, 0.0)
SIZES = nm.SimulationSettings(
    individuals=700,
    founders=100,
    markers=500,
    omics=len(NODE_EFFECTS),
    node_effects=NODE_EFFECTS,
    causal_share=0.012,
    h2_omics=0.5,
    share_mediated=0.5,
    share_direct=0.2,
    without_omics=0.2,
    without_phenotype=0.1,
)


class Case(NamedTuple):
    """A simulated set, and what was found in it."""

    simulated: Simulated
    found: Gwas


@cache
def cases() -> list[Case]:
    """Fits of all sets."""
    made = []
    for seed in SEEDS:
        simulated = nm.simulate(SIZES, seed=seed)
        network = nm.Network(
            marker_prior="BayesC",
            skip_prior="BayesC",
            node_prior="BayesC",
            fixed_omics="~ sex + batch",
            fixed_trait="~ sex + batch",
        )
        data = simulated.dataset()
        result = nm.fit(
            data, network, warmup=500, samples=1500, chains=2, seed=seed, progress=False
        )
        window = f"{WINDOW} markers"
        made.append(Case(simulated, result.gwas(data, simulated.map, window=window)))
    return made


def true_effects(simulated: Simulated) -> dict[str, pd.Series]:
    """Effects of all markers by response, zeros included."""
    markers = list(simulated.genotypes.columns)
    table = simulated.truth["marker_effects"].pivot_table("effect", "marker", "node")
    table = table.reindex(markers).fillna(0.0)
    effects = {name: table[name] for name in table.columns.drop("y")}
    weights = simulated.truth["node_effects"].set_index("node")["effect"]
    mediated = sum(weights[name] * one for name, one in effects.items())
    return effects | {"y (direct)": table["y"], "y (total)": mediated + table["y"]}


def true_shares(simulated: Simulated, windows: pd.DataFrame) -> pd.Series:
    """Share of the genetic variance of each row of a table of windows, in the order of the map."""
    dosages = simulated.genotypes.to_numpy(dtype=float)
    shares = []
    for response, table in windows.groupby("response", sort=False):
        effect = true_effects(simulated)[response].to_numpy()
        ends = np.cumsum(table["markers"].to_numpy())
        total = (dosages @ effect).var()
        for start, end in zip(np.r_[0, ends[:-1]], ends, strict=True):
            part = slice(start, end)
            shares.append((dosages[:, part] @ effect[part]).var() / total)
    return pd.Series(shares, index=windows.index)


def assert_few_false(called: np.ndarray, true: np.ndarray, rate: float) -> None:
    """The realised rate of false discoveries is what was stated, as far as counts can tell."""
    count, false = int(called.sum()), int((called & ~true).sum())
    allowed = rate * count + 3 * np.sqrt(count * rate * (1 - rate)) + 0.5
    print(f"q {rate}: {count} called, {false} false ({false / max(count, 1):.3f})")
    assert count >= 20
    assert false <= allowed


@pytest.mark.parametrize("rate", [0.01, 0.05, 0.1])
def test_windows(rate: float) -> None:
    called, true, large = [], [], []
    for simulated, found in cases():
        share = true_shares(simulated, found.windows)
        called.append(found.windows["q_value"] <= rate)
        true.append(share > found.share)
        large.append(share > 0.1)
    hit, causal, strong = (np.concatenate(one) for one in (called, true, large))
    assert_few_false(hit, causal, rate)
    print(f"power: {hit[causal].mean():.3f} of {causal.sum()} windows above the share, "
          f"{hit[strong].mean():.3f} of {strong.sum()} windows above 10%")  # fmt: skip
    if rate >= 0.05:
        assert hit[strong].mean() > 0.7


@pytest.mark.parametrize("rate", [0.01, 0.05, 0.1])
def test_markers(rate: float) -> None:
    called, true = [], []
    for simulated, found in cases():
        effects = true_effects(simulated)
        for response, table in found.markers.groupby("response", sort=False):
            if table["q_value"].notna().all():
                called.append(table["q_value"] <= rate)
                true.append(effects[response][table["marker"]] != 0)
    hit, causal = np.concatenate(called), np.concatenate(true)
    print(f"power {hit[causal].mean():.3f} of {causal.sum()}")
    assert_few_false(hit, causal, rate)


def test_credible_sets_hold_a_causal_marker() -> None:
    holds, sizes = [], []
    for simulated, found in cases():
        effects = true_effects(simulated)
        for row in found.credible_sets.itertuples():
            holds.append((effects[row.response][row.markers.split()] != 0).any())
            sizes.append(row.size)
    print(f"{np.mean(holds):.3f} of {len(holds)} sets, median size {np.median(sizes)}")
    assert len(holds) >= 20
    assert_few_false(np.ones(len(holds), dtype=bool), np.array(holds), 0.05)


def test_paths_go_through_mediators_only() -> None:
    called, true, through = [], [], []
    for simulated, found in cases():
        effects = true_effects(simulated)
        paths = found.paths
        mediates = dict(
            zip(simulated.settings.node_names, np.array(NODE_EFFECTS) != 0, strict=True)
        )
        causal = [effects[row.node][row.marker] != 0 for row in paths.itertuples()]
        through.append(paths["node"].map(mediates).to_numpy(dtype=bool))
        called.append((paths["q_value"] <= 0.05).to_numpy())
        true.append(np.array(causal) & through[-1])
    hit, right, mediated = (np.concatenate(one) for one in (called, true, through))
    print(f"paths through mediators {hit[mediated].sum()}, through others {hit[~mediated].sum()}")
    assert_few_false(hit, right, 0.05)
    assert hit[mediated].sum() >= 4 * len(SEEDS)
    assert hit[~mediated].sum() == 0
