"""The models that are calibrated: every prior, activation, missing pattern and connection."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pandas as pd
from jax import Array

from nnmm_jax.data.align import Dataset, read_dataset
from nnmm_jax.network.activations import Theta
from nnmm_jax.network.priors import GBLUP, RRBLUP, BayesA, BayesB, BayesC, BayesL, BayesR, Residual
from nnmm_jax.network.simulate import TRAIT, SimulationSettings, simulate
from nnmm_jax.network.spec import Block, Network
from nnmm_jax.network.terms import Group, Pedigree

Missing = Literal["none", "scattered", "individuals", "both", "latent"]
OMICS = 3

# Variances that are hardly ever huge: all posteriors then mix well enough to be ranked. Fixed
# effects need proper priors to be simulated at all.
NODES, RESIDUAL = RRBLUP(df=8.0), Residual(df=8.0)
RR, G, C, R = RRBLUP(df=8.0), GBLUP(df=8.0), BayesC(df=8.0), BayesR(df=8.0)
A, B, L = BayesA(df=8.0), BayesB(df=8.0), BayesL()


def ratio(z: Array, theta: Theta) -> Array:
    """One value of all nodes: a saturating response to the first, damped by the last."""
    return theta["top"] * z[0] ** 2 / (theta["half"] + z[0] ** 2 + z[-1] ** 2)


def bend(z: Array, theta: Theta) -> Array:
    """Value of each node, steeper or flatter."""
    return jnp.tanh(theta["slope"] * z)


RATIO = MappingProxyType({"top": dist.LogNormal(1.0, 0.3), "half": dist.LogNormal(0.0, 0.3)})
BEND = MappingProxyType({"slope": dist.LogNormal(0.0, 0.3)})


@dataclass(frozen=True)
class Configuration:
    """A network, and the data that it is calibrated on.

    Attributes
    ----------
    network : Network
    missing : str
        Omics that are missing: none, scattered cells, whole individuals, both (that share of
        each), or all of them (latent nodes).
    rate : float
        Share that is missing.
    rich : bool
        Whether there are repeated records, residual weights and a pedigree.
    nuts : bool
        Sampler of missing omics.
    individuals : int
    """

    network: Network
    missing: Missing = "scattered"
    rate: float = 0.3
    rich: bool = False
    nuts: bool = False
    individuals: int = 30

    def dataset(self) -> Dataset:
        """Genotypes, covariates, connections, and which omics and phenotypes are missing."""
        settings = SimulationSettings(
            individuals=self.individuals, markers=12, omics=OMICS, without_omics=0.0,
            missing_cells=0.0, without_phenotype=0.25,
        )  # fmt: skip
        simulated = simulate(settings, 1)
        rng = np.random.default_rng(2)
        omics, n = simulated.omics, self.individuals
        holes = np.zeros(omics.shape, dtype=bool)
        if self.missing in ("scattered", "both"):
            holes |= rng.random(omics.shape) < self.rate
        if self.missing in ("individuals", "both"):
            holes[rng.permutation(n)[: round(self.rate * n)]] = True
        latent = self.missing == "latent"
        nodes = [*([] if latent else omics.columns), *self.network.latent_names]
        pairs = [
            (marker, node)
            for k, marker in enumerate(simulated.genotypes.columns)
            for j, node in enumerate(nodes)
            if (k + j) % 2
        ]
        phenotypes, more = simulated.phenotypes, {}
        if self.rich:
            phenotypes = pd.concat([phenotypes, phenotypes.iloc[[2, 2, 5, 7]]])
            phenotypes["pen"] = rng.choice(["a", "b", "c", "d"], len(phenotypes))
            phenotypes["w"] = rng.uniform(0.5, 2.0, len(phenotypes))
            owner = phenotypes.index.to_series().str.removeprefix("id").astype(int)
            phenotypes["v"] = 0.5 + (owner % 4) / 2
            more = {
                "pedigree": simulated.truth["individuals"][["id", "sire", "dam"]],
                "weights": "w",
                "omics_weights": "v",
            }
        return read_dataset(
            simulated.genotypes,
            None if latent else omics.mask(holes),
            phenotypes,
            TRAIT,
            connections=pd.DataFrame(pairs, columns=["marker", "node"]) if nodes else None,
            **more,
        )


def _network(**stated: object) -> Network:
    usual = {
        "node_prior": NODES,
        "residual_omics": RESIDUAL,
        "residual_trait": RESIDUAL,
        "fixed_sd_omics": 1.0,
        "fixed_sd_trait": 1.0,
    }
    return Network(**usual | stated)  # type: ignore[arg-type]


def _entries() -> dict[str, Configuration]:
    """Each prior, activation, pattern and kind of connection several times, with one another."""
    n, full = _network, Configuration
    bent = {"activation": bend, "theta": BEND}
    combined = {"activation": ratio, "theta": RATIO}
    of_ratio = {**combined, "node_prior": RRBLUP()}  # a function of all nodes has no node effects
    partly = {"connections": "map"}
    fixed = {"fixed_omics": "~ sex", "fixed_trait": "~ sex"}
    tanh, relu = {"activation": "tanh"}, {"activation": "relu"}
    terms = {"random_omics": [Pedigree(solver="cg")], "random_trait": [Pedigree(), Group("pen")]}
    blocks = [
        Block("first", ["omics1"], marker_prior=C, node_prior=BayesC(df=8.0), residual=RESIDUAL,
              fixed_sd=1.0),
        Block("second", marker_prior=RR, node_prior=NODES, latent=1, residual=RESIDUAL,
              fixed_sd=1.0, fixed="~ sex"),
    ]  # fmt: skip
    return {
        "RR-BLUP linear, complete": full(n(marker_prior=RR, **fixed), "none"),
        "BayesC linear, scattered, skip": full(n(marker_prior=C, skip_prior=C)),
        "BayesR linear, individuals, partial": full(n(marker_prior=R, **partly), "individuals"),
        "BayesA linear, both, skip": full(n(marker_prior=A, skip_prior=A), "both"),
        "BayesC linear, latent, skip": full(n(marker_prior=C, skip_prior=RR, latent=2), "latent"),
        "GBLUP linear, individuals": full(n(marker_prior=G, **fixed), "individuals", 0.5),
        "RR-BLUP linear, both, random terms": full(
            n(marker_prior=RR, latent=1, node_prior=BayesC(df=8.0), **terms), "both", rich=True
        ),
        "GBLUP tanh, complete, skip": full(n(marker_prior=G, skip_prior=G, **tanh), "none"),
        "BayesB tanh, scattered, partial": full(n(marker_prior=B, **tanh, **partly, **fixed)),
        "BayesA tanh, individuals": full(n(marker_prior=A, **tanh), "individuals", 0.5),
        "BayesC tanh, latent": full(n(marker_prior=C, latent=2, **tanh), "latent"),
        "BayesR tanh, latent, partial": full(
            n(marker_prior=R, latent=2, **tanh, **partly), "latent"
        ),
        "BayesB relu, complete, partial": full(n(marker_prior=B, **relu, **partly), "none"),
        "BayesL relu, scattered, skip": full(n(marker_prior=L, skip_prior=L, **relu)),
        "GBLUP relu, latent": full(n(marker_prior=G, latent=1, **relu), "latent"),
        "RR-BLUP function, scattered": full(n(marker_prior=RR, **of_ratio)),
        "BayesC function, individuals, partial": full(
            n(marker_prior=C, **of_ratio, **partly), "individuals"
        ),
        "BayesL own tanh, both, skip": full(n(marker_prior=L, skip_prior=C, **bent), "both"),
        "BayesC sigmoid, scattered, NUTS": full(
            n(marker_prior=C, activation="sigmoid", node_prior=BayesC(df=8.0)), nuts=True
        ),
        "BayesC trait alone, random terms": full(
            Network(
                marker_prior=None, skip_prior=C, random_trait=[Pedigree(solver="cg"), Group("pen")],
                residual_trait=RESIDUAL, fixed_sd_trait=1.0,
            ),
            "latent",
            rich=True,
        ),
        "RR-BLUP tanh, random terms": full(n(marker_prior=RR, **tanh, **terms), rich=True),
        "blocks tanh, scattered": full(
            Network(activation="tanh", blocks=blocks, residual_trait=RESIDUAL, fixed_sd_trait=1.0)
        ),
    }  # fmt: skip


CONFIGURATIONS: Mapping[str, Configuration] = MappingProxyType(_entries())


def _by_rate() -> dict[str, Configuration]:
    """One network, more and more of its omics missing."""
    network = _network(marker_prior=C, skip_prior=RR, activation="tanh")
    return {
        f"{kind}, {rate:.0%} missing": Configuration(network, kind, rate, individuals=60)
        for kind in ("scattered", "individuals")
        for rate in (0.1, 0.5, 0.9)
    }


COVERAGE: Mapping[str, Configuration] = MappingProxyType(_by_rate())
