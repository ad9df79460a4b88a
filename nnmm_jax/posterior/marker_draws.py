"""Effects of all markers in the draws of which a fit kept them, on every response.

Responses are the nodes, the trait by direct effects, and the trait by all its paths together.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from scipy.optimize import linear_sum_assignment

from nnmm_jax.posterior.fit_genotypes import FitGenotypes
from nnmm_jax.posterior.predict import (
    CHUNK_DOSAGES,
    activation_of,
    check_predictable,
    internal_samples,
)
from nnmm_jax.posterior.result import FitResult


@dataclass(frozen=True, eq=False)
class MarkerDraws:
    """Draws of marker effects, and of what the nodes pass on to the trait.

    Attributes
    ----------
    chain : (sample,)
        Chain of each draw.
    nodes : (node,)
        Names of the nodes that markers act on.
    on_nodes : (sample, node, marker)
        Effects of one more copy of the counted allele, in the node's unit; latent nodes in the
        order and with the sign of the other tables.
    slope : (sample, node)
        By how much the trait's expectation grows with the genetic value of a node, averaged over
        the individuals of the fit; the node's effect if the network is linear.
    direct : (sample, marker) or None
        Direct effects on the trait.
    trait : str
    """

    chain: np.ndarray
    nodes: tuple[str, ...]
    on_nodes: np.ndarray
    slope: np.ndarray
    direct: np.ndarray | None
    trait: str

    @property
    def responses(self) -> tuple[str, ...]:
        """Names of the nodes, then of the trait by its direct effects and by all its paths."""
        direct = () if self.direct is None else (f"{self.trait} (direct)",)
        total = (f"{self.trait} (total)",) if self.nodes else ()
        return (*self.nodes, *direct, *total)

    def effects(self, response: str) -> np.ndarray:
        """Effects (sample, marker) on a response.

        Those on the trait by all its paths are, of marker j, the sum over nodes l of
        ``on_nodes[:, l, j] * slope[:, l]``, plus its direct effect: the average effect of an
        allele substitution.
        """
        if response in self.nodes:
            return np.asarray(self.on_nodes[:, self.nodes.index(response)])
        if response == f"{self.trait} (direct)" and self.direct is not None:
            return self.direct
        return self.mediated if self.direct is None else self.mediated + self.direct

    @cached_property
    def mediated(self) -> np.ndarray:
        """Effects (sample, marker) on the trait through all nodes together."""
        slope = self.slope.astype(self.on_nodes.dtype)
        return np.asarray((slope[:, None] @ self.on_nodes)[:, 0])


def marker_draws(
    result: FitResult,
    genotypes: FitGenotypes,
    *,
    activation: Callable[..., Any] | None = None,
) -> MarkerDraws:
    """Take the draws of marker effects from a result.

    Parameters
    ----------
    result : FitResult
        A fit with marker effects, of which it kept draws.
    genotypes : FitGenotypes
        Of the fit: slopes of a nonlinear network are averaged over its individuals.
    activation : callable, optional
        The function of the fit, if it was fitted with a user's function.

    Returns
    -------
    MarkerDraws

    Raises
    ------
    InputError
        The fit has no marker effects or kept none; the function is not given or not wanted.
    """
    check_predictable(result)
    parameters = result.parameters
    direct = parameters["skip_effect"].values if "skip_effect" in parameters else None
    samples, markers = parameters.sizes["sample"], parameters.sizes["marker"]
    nodes: tuple[str, ...] = ()
    on_nodes, slope = np.empty((samples, 0, markers), np.float32), np.empty((samples, 0))
    if "marker_effect" in parameters:
        nodes = tuple(parameters["node"].values.astype(str).tolist())
        on_nodes = parameters["marker_effect"].values
        slope = _slopes(result, genotypes, activation)
        on_nodes, slope = _aligned(result, on_nodes, slope)
    trait = str(result.posterior["trait"].values[0])
    return MarkerDraws(parameters["from_chain"].values, nodes, on_nodes, slope, direct, trait)


def _slopes(
    result: FitResult, genotypes: FitGenotypes, activation: Callable[..., Any] | None
) -> np.ndarray:
    """Average slopes (sample, node) in units of the trait by units of the node."""
    function = activation_of(result, activation)
    if function.linear:
        return np.asarray(result.parameters["node_effect"].values, dtype=float)
    from nnmm_jax.posterior.forward import slope_sums

    samples, units = internal_samples(result, function)
    n, p = genotypes.codes.shape
    size = max(1, min(n, CHUNK_DOSAGES // p))
    total = np.zeros((result.parameters.sizes["sample"], result.parameters.sizes["node"]))
    for start in range(0, n, size):
        rows = slice(start, start + size)
        part = FitGenotypes(genotypes.codes[rows], genotypes.means).centred(slice(None))
        total += np.asarray(
            slope_sums(samples, part.astype(units.trait_sd.dtype), units, function), dtype=float
        )
    constant = result.constant_data
    return total / n * constant["trait_sd"].item() / constant["node_sd"].values


def _aligned(
    result: FitResult, on_nodes: np.ndarray, slope: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The same with latent nodes as they are reported.

    Parameter sets have them as the sampler had, where they may change places and sign from draw to
    draw. The size of a node's effect says which one it is in the reported draw.
    """
    latent = np.flatnonzero(result.latent.values)
    if not len(latent) or "node_effect" not in result.parameters:
        return on_nodes, slope
    on_nodes, slope = on_nodes.copy(), slope.copy()
    stated = result.parameters["node_effect"].values[:, latent]
    at = result.parameters["from_chain"], result.parameters["from_draw"]
    reported = result.posterior["node_effect"].squeeze("trait").transpose("chain", "draw", "node")
    wanted = reported.values[at[0].values, at[1].values][:, latent]
    for sample, (have, want) in enumerate(zip(stated, wanted, strict=True)):
        apart = np.abs(np.abs(want)[:, None] - np.abs(have))
        stay = 1e-6 * np.abs(have).max() * (1.0 - np.eye(len(latent)))  # among equals, no change
        _, source = linear_sum_assignment(apart + stay)
        sign = np.where(want * have[source] < 0, -1.0, 1.0)
        on_nodes[sample, latent] = sign[:, None] * on_nodes[sample, latent[source]]
        slope[sample, latent] = sign * slope[sample, latent[source]]
    return on_nodes, slope
