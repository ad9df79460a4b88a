"""The middle layer of a data set: nodes by block on the internal scale, and their activation."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np
from scipy.stats import norm

from nnmm_jax.data.align import Dataset
from nnmm_jax.errors import InputError, shortlist
from nnmm_jax.network.activations import Activation, activation_by_name
from nnmm_jax.network.functions import activation_of_function
from nnmm_jax.network.spec import Block, Network


@dataclass(frozen=True, eq=False)
class Nodes:
    """Middle layer on the internal scale, in the order of the blocks.

    Attributes
    ----------
    z : (node, individual)
        NaN where missing.
    latent : (node,) bool
    mean, sd : (node,)
        0 and 1 for latent nodes and without standardisation.
    names : tuple of str
    columns : (node,) int
        Of the data set's omics; -1 for latent nodes.
    blocks : tuple of (Block, slice)
        With the nodes of each; blocks without nodes are left out.
    """

    z: np.ndarray
    latent: np.ndarray
    mean: np.ndarray
    sd: np.ndarray
    names: tuple[str, ...]
    columns: np.ndarray
    blocks: tuple[tuple[Block, slice], ...]

    @property
    def user_order(self) -> np.ndarray:
        """Nodes in the order that does not depend on blocks: omics as in the data, then latent."""
        return np.lexsort((self.columns, self.latent))


def _block_columns(dataset: Dataset, blocks: Sequence[Block]) -> list[np.ndarray]:
    """Columns of the omics that are in each block."""
    known = {str(name): column for column, name in enumerate(dataset.omics_names)}
    owner: dict[str, str] = {}
    for block in blocks:
        for node in block.nodes or ():
            if node not in known:
                raise InputError(
                    f"block {block.name!r}: expected columns of the omics "
                    f"({shortlist(list(known))}), found {node!r}"
                )
            if node in owner:
                raise InputError(
                    f"block {block.name!r}: the node {node!r} is in block {owner[node]!r} already"
                )
            owner[node] = block.name
    rest = [name for name in known if name not in owner]
    if rest and all(block.nodes is not None for block in blocks):
        raise InputError(
            f"blocks: expected every column of the omics in a block, found {shortlist(rest)} in "
            "none; add them, or let one block be without a list of nodes"
        )
    return [
        np.array([known[n] for n in (rest if block.nodes is None else block.nodes)], dtype=int)
        for block in blocks
    ]


def middle_layer(dataset: Dataset, network: Network) -> Nodes:
    """Standardise omics, add latent nodes, and order both by block."""
    parts, names, blocks, end = [], [], [], 0
    for block, mine in zip(
        network.all_blocks, _block_columns(dataset, network.all_blocks), strict=True
    ):
        parts.append(np.concatenate([mine, np.full(block.latent, -1)]))
        names += [*(str(dataset.omics_names[column]) for column in mine), *block.latent_names]
        start, end = end, end + len(parts[-1])
        if end > start:
            blocks.append((block, slice(start, end)))
    columns = np.concatenate(parts).astype(int)
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise InputError(
            f"blocks: expected nodes of different names, found {twice[0]!r} twice; rename a block, "
            "after which its latent nodes are named"
        )
    latent = columns < 0
    n = dataset.omics.shape[0]
    z = np.full((n, len(columns)), np.nan)
    z[:, ~latent] = dataset.omics[:, columns[~latent]]
    mean, sd = np.zeros(len(columns)), np.ones(len(columns))
    if network.standardize and (~latent).any():
        mean[~latent] = np.nanmean(z[:, ~latent], axis=0)
        sd[~latent] = np.nanstd(z[:, ~latent], axis=0)
    z = (z - mean) / sd
    return Nodes(z.T, latent, mean, sd, tuple(names), columns, tuple(blocks))


def resolve_activation(network: Network, nodes: Nodes) -> Activation:
    """Look the activation up, or try the user's function out on the nodes."""
    if isinstance(network.activation, str):
        return activation_by_name(network.activation)
    if not len(nodes.names):
        raise InputError("activation: there are no omics and no latent nodes to activate")
    # Where the sampler starts: missing omics and latent nodes at standard normal noise.
    noise = np.random.default_rng(0).standard_normal(nodes.z.shape)
    start = np.where(np.isnan(nodes.z), noise, nodes.z)
    whole = start * nodes.sd[:, None] + nodes.mean[:, None]
    return activation_of_function(
        network.activation,
        nodes.names,
        network.theta,
        values=start,
        units=whole,
        order=nodes.user_order.tolist(),
    )


def activated_variance(nodes: Nodes, rows: slice, activation: Activation) -> float:
    """Sum over nodes of var(g(z)) over observed values; a latent node is N(0, 1) a priori."""
    theta = activation.parameters.constrain(activation.parameters.median())
    active = np.asarray(activation.function(jnp.asarray(np.nan_to_num(nodes.z)), theta))[rows]
    active = np.where(np.isnan(nodes.z[rows]), np.nan, active)
    latent = nodes.latent[rows]
    total = float(np.nanvar(active[~latent], axis=1).sum()) if (~latent).any() else 0.0
    if not latent.any():
        return total
    quantiles = norm.ppf((np.arange(2000) + 0.5) / 2000)
    spread = np.broadcast_to(quantiles, (len(nodes.names), len(quantiles)))
    drawn = np.asarray(activation.function(jnp.asarray(spread), theta))[rows]
    return total + float(np.var(drawn[latent], axis=1).sum())
