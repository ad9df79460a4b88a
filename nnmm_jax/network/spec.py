"""The network as the user states it: frozen, no arrays, no data."""

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from types import MappingProxyType
from typing import Any, TypeAlias

from numpyro.distributions import Distribution

from nnmm_jax.errors import InputError, shortlist
from nnmm_jax.network.activations import activation_by_name
from nnmm_jax.network.parameters import Parameters
from nnmm_jax.network.priors import GBLUP, RRBLUP, BayesC, Prior, Residual, as_prior
from nnmm_jax.network.terms import RandomTerm

PriorLike: TypeAlias = str | Prior
MarkerPrior: TypeAlias = PriorLike | Mapping[str, PriorLike | None] | None


CONNECTIONS = ("full", "map")


@dataclass(frozen=True)
class Block:
    """Some nodes of the middle layer with priors and terms of their own.

    Attributes
    ----------
    name : str
        Of the block, such as ``"transcripts"``; it becomes part of the names of what is reported.
    nodes : sequence of str or None
        Columns of the omics. ``None``: all columns that no other block names.
    latent : int
        Number of latent nodes, named after the block: ``residual1``, ``residual2``, ...
    marker_prior, node_prior, fixed, fixed_sd, random, residual, connections
        As ``marker_prior``, ``node_prior``, ``fixed_omics``, ``fixed_sd_omics``, ``random_omics``,
        ``residual_omics`` and ``connections`` of :class:`Network`, for these nodes.

    Raises
    ------
    InputError
        If a name is unknown, a count is negative, a term comes twice or shares leave no residual.

    Examples
    --------
    >>> from nnmm_jax import BayesC, Block, Network
    >>> network = Network(
    ...     blocks=[
    ...         Block("transcripts", ["gene1", "gene2"], marker_prior=BayesC(pi=0.9)),
    ...         Block("metabolites", fixed="~ batch"),
    ...         Block("residual", [], latent=1, marker_prior="RR-BLUP"),
    ...     ]
    ... )
    >>> [block.name for block in network.all_blocks]
    ['transcripts', 'metabolites', 'residual']
    """

    name: str
    nodes: Sequence[str] | None = None
    latent: int = 0
    marker_prior: MarkerPrior = BayesC()
    node_prior: PriorLike = RRBLUP()
    fixed: str | None = None
    random: Sequence[RandomTerm] = ()
    residual: Residual = Residual()
    connections: str = "full"
    fixed_sd: float | None = None

    def __post_init__(self) -> None:
        """Resolve names at once, so that a wrong one is found where it was written."""
        what = f"block {self.name!r}: " if self.name else ""
        if not isinstance(self.name, str):
            raise InputError(f"Block: expected a name, found {self.name!r}")
        _check_labels("blocks", [self.name])
        listed = self.nodes is None or hasattr(self.nodes, "__getitem__")  # a set has no order
        if isinstance(self.nodes, str | Mapping) or not listed:
            raise InputError(f"{what}expected a list of nodes, found {self.nodes!r}")
        if self.nodes is not None:
            object.__setattr__(self, "nodes", tuple(str(node) for node in self.nodes))
        object.__setattr__(self, "marker_prior", _resolve("marker_prior", self.marker_prior))
        object.__setattr__(self, "node_prior", as_prior(self.node_prior))
        if isinstance(self.latent, bool) or not isinstance(self.latent, int) or self.latent < 0:
            raise InputError(
                f"{what}latent must be a whole number of nodes >= 0, got {self.latent!r}"
            )
        _check_fixed_sd(f"{what}fixed_sd{'' if self.name else '_omics'}", self.fixed_sd)
        if isinstance(self.node_prior, GBLUP) and self.node_prior.relationship is not None:
            raise InputError(
                f"{what}node_prior: a relationship matrix cannot take the place of the nodes"
            )
        if self.connections not in CONNECTIONS:
            raise InputError(
                f"{what}connections: expected one of {', '.join(CONNECTIONS)}, found "
                f"{self.connections!r}"
            )
        terms = _terms(f"{what}random_omics", self.random)
        object.__setattr__(self, "random", terms)
        _check_shares(f"{what}omics", [*self.marker_priors.values(), *terms])

    @property
    def marker_priors(self) -> Mapping[str, Prior]:
        """Priors of the marker effects by group; the group ``""`` is all markers."""
        return _by_group(self.marker_prior)

    @property
    def marker_groups(self) -> tuple[str, ...]:
        """Marker groups that the prior names, those without effects too."""
        return _named_groups(self.marker_prior)

    @property
    def latent_names(self) -> tuple[str, ...]:
        """Names of the latent nodes."""
        return tuple(f"{self.name or 'latent'}{k + 1}" for k in range(self.latent))


# What a network says of its middle layer, and what a block calls it.
_OF_BLOCK = MappingProxyType(
    {
        "marker_prior": "marker_prior",
        "node_prior": "node_prior",
        "latent": "latent",
        "fixed_omics": "fixed",
        "fixed_sd_omics": "fixed_sd",
        "random_omics": "random",
        "residual_omics": "residual",
        "connections": "connections",
    }
)


@dataclass(frozen=True)
class Network:
    """A mixed-effect neural network: genotypes -> middle layer -> phenotype.

    Without omics and latent nodes it has one layer, an ordinary mixed model of the phenotype:
    marker effects then have the ``skip_prior``.

    Attributes
    ----------
    activation : str or callable
        Function of the middle layer: linear, tanh, sigmoid, relu or leakyrelu, or a function
        ``f(z)`` or ``f(z, theta)`` in JAX operations. ``z`` (node,) are the nodes of one
        individual, omics first. A function that returns a value for each node, of that node only,
        is an activation like the others: its values have node effects. One that returns a single
        value takes the place of the sum of node effects; it gets the omics in their own units, and
        returns units of the phenotype.
    theta : mapping of str to numpyro.distributions.Distribution or None
        Priors of the parameters of a function ``f(z, theta)``.
    marker_prior : str, Prior, mapping of str to prior, or None
        Prior of the marker effects on every node of the middle layer: RR-BLUP, GBLUP, BayesA,
        BayesB, BayesC, BayesL or BayesR by name, or a prior object with its hyperparameters. A
        mapping gives each marker group of the data set its own prior, or ``None`` for a group whose
        markers have no effects. ``None``: no marker effects at all.
    node_prior : str or Prior
        Prior of the effects of the (activated) nodes on the phenotype.
    skip_prior : str, Prior, mapping of str to prior, or None
        Prior of direct marker effects on the phenotype; ``None``: no skip connection.
    latent : int
        Number of latent nodes, added to the omics.
    connections : str
        ``"full"``: every marker may act on every node. ``"map"``: only the pairs of
        ``read_dataset(connections=...)``; all other effects are exactly zero.
    blocks : sequence of Block
        Parts of the middle layer with priors and terms of their own. What a block can say must
        then not be said here.
    fixed_omics, fixed_trait : str or None
        Formula of fixed factors and covariates for the omics and for the phenotype, such as
        ``"~ sex + batch"``; columns come from the phenotype table. The intercept is always there.
    fixed_sd_omics, fixed_sd_trait : float or None
        ``None``: fixed effects have a flat prior, but those of latent nodes, where it is 1. A
        number: a normal prior, under which each independent direction of the design, the intercept
        too, contributes a standard deviation of so many of the response's; around zero on the
        standardised scale.
    random_omics, random_trait : sequence of RandomTerm
        Random terms of the two layers: :class:`~nnmm_jax.Group`, :class:`~nnmm_jax.Pedigree`,
        :class:`~nnmm_jax.Relationship`.
    residual_omics, residual_trait : Residual
        Priors of the residual variances. Those of latent nodes are fixed at their prior mean,
        because a latent node has no scale of its own.
    standardize : bool
        Whether each omics column is centred and scaled to unit variance (from its observed
        values) before the activation. A linear network is the same model either way; with a
        nonlinear activation the standardised values are what is activated. Everything reported
        is in the user's units, except node effects of a nonlinear network, which belong to the
        activated values.

    Raises
    ------
    InputError
        If a name is unknown, a count is negative, a term comes twice, no marker group of
        a mapping has a prior, shares leave no residual, or blocks and network say the same thing.

    Examples
    --------
    >>> from nnmm_jax import BayesC, Group, Network, Pedigree
    >>> Network(activation="tanh", marker_prior=BayesC(pi=0.95), latent=2).latent
    2
    >>> model = Network(skip_prior="BayesR", random_trait=[Pedigree(), Group("pen")])
    >>> [term.label for term in model.random_trait]
    ['pedigree', 'pen']
    """

    activation: str | Callable[..., Any] = "linear"
    theta: Mapping[str, Distribution] | None = None
    marker_prior: MarkerPrior = BayesC()
    node_prior: PriorLike = RRBLUP()
    skip_prior: MarkerPrior = None
    latent: int = 0
    connections: str = "full"
    blocks: Sequence[Block] = ()
    fixed_omics: str | None = None
    fixed_trait: str | None = None
    fixed_sd_omics: float | None = None
    fixed_sd_trait: float | None = None
    random_omics: Sequence[RandomTerm] = ()
    random_trait: Sequence[RandomTerm] = ()
    residual_omics: Residual = Residual()
    residual_trait: Residual = Residual()
    standardize: bool = True

    def __post_init__(self) -> None:
        """Resolve names at once, so that a wrong one is found where it was written."""
        self._resolve_activation()
        object.__setattr__(self, "skip_prior", _resolve("skip_prior", self.skip_prior))
        whole = Block("", **{mine: getattr(self, ours) for ours, mine in _OF_BLOCK.items()})
        for ours, mine in _OF_BLOCK.items():
            object.__setattr__(self, ours, getattr(whole, mine))
        object.__setattr__(self, "random_trait", _terms("random_trait", self.random_trait))
        _check_fixed_sd("fixed_sd_trait", self.fixed_sd_trait)
        blocks = (self.blocks,) if isinstance(self.blocks, Block) else tuple(self.blocks)
        object.__setattr__(self, "blocks", blocks)
        self._check_blocks()
        nodes = [as_prior(block.node_prior) for block in self.all_blocks]
        _check_shares("trait", [*nodes, *self.skip_priors.values(), *self.random_trait])

    def _resolve_activation(self) -> None:
        if isinstance(self.activation, str):
            object.__setattr__(self, "activation", activation_by_name(self.activation).name)
            if self.theta is not None:
                raise InputError(
                    f"theta: expected an activation f(z, theta) that has these parameters, found "
                    f"{self.activation!r}"
                )
        elif not callable(self.activation):
            raise InputError(
                f"activation: expected a name or a function, found {self.activation!r}"
            )
        else:
            Parameters(self.theta or {})

    def _check_blocks(self) -> None:
        if not self.blocks:
            return
        for block in self.blocks:
            if not isinstance(block, Block):
                raise InputError(f"blocks: expected Block('name', ...), found {block!r}")
            if not block.name:
                raise InputError("blocks: expected a name for every block, found one without")
        twice = [name for name, n in Counter(b.name for b in self.blocks).items() if n > 1]
        if twice:
            raise InputError(f"blocks: expected every name once, found {twice[0]!r} again")
        usual = {field.name: field.default for field in fields(Network)}
        said = [name for name in _OF_BLOCK if getattr(self, name) != usual[name]]
        if said:
            raise InputError(
                f"{said[0]}: the middle layer has blocks; say it in the blocks that it is about"
            )
        rest = [block.name for block in self.blocks if block.nodes is None]
        if len(rest) > 1:
            raise InputError(
                f"blocks: expected nodes of all blocks but one, found none of {shortlist(rest)}"
            )

    @property
    def all_blocks(self) -> tuple[Block, ...]:
        """Blocks of the middle layer; without blocks the layer is one without a name."""
        if self.blocks:
            return tuple(self.blocks)
        return (Block("", **{mine: getattr(self, ours) for ours, mine in _OF_BLOCK.items()}),)

    @property
    def latent_names(self) -> tuple[str, ...]:
        """Names of all latent nodes."""
        return tuple(name for block in self.all_blocks for name in block.latent_names)

    @property
    def omics_terms(self) -> tuple[RandomTerm, ...]:
        """Random terms of all blocks."""
        return tuple(term for block in self.all_blocks for term in block.random)

    @property
    def marker_priors(self) -> Mapping[str, Prior]:
        """Priors of the marker effects on nodes by group; the group ``""`` is all markers.

        Groups without a prior are left out.
        """
        return _by_group(self.marker_prior)

    @property
    def skip_priors(self) -> Mapping[str, Prior]:
        """The same of the direct marker effects."""
        return _by_group(self.skip_prior)

    @property
    def marker_groups(self) -> tuple[str, ...]:
        """Groups that ``marker_prior`` names, also those without a prior; none if it names none."""
        return _named_groups(self.marker_prior)

    @property
    def skip_groups(self) -> tuple[str, ...]:
        """The same of ``skip_prior``."""
        return _named_groups(self.skip_prior)


def _resolve(name: str, prior: MarkerPrior) -> Prior | Mapping[str, Prior | None] | None:
    if prior is None:
        return None
    if isinstance(prior, Mapping):
        _check_labels("marker groups", [str(group) for group in prior])
        if all(one is None for one in prior.values()):
            raise InputError(
                f"{name}: expected a prior for at least one marker group, found none for "
                f"{shortlist(prior)}; say {name}=None"
            )
        return MappingProxyType(
            {str(group): None if one is None else as_prior(one) for group, one in prior.items()}
        )
    return as_prior(prior)


def _by_group(prior: MarkerPrior) -> Mapping[str, Prior]:
    if prior is None:
        return {}
    if isinstance(prior, Mapping):
        return {group: as_prior(one) for group, one in prior.items() if one is not None}
    return {"": as_prior(prior)}


def _named_groups(prior: MarkerPrior) -> tuple[str, ...]:
    return tuple(prior) if isinstance(prior, Mapping) else ()


def _terms(layer: str, terms: Sequence[RandomTerm] | RandomTerm) -> tuple[RandomTerm, ...]:
    terms = (terms,) if isinstance(terms, RandomTerm) else tuple(terms)
    for term in terms:
        if not isinstance(term, RandomTerm):
            raise InputError(
                f"{layer}: expected terms such as Group('pen') or Pedigree(), found {term!r}"
            )
    _check_labels(layer, [term.label for term in terms])
    twice = [label for label, times in Counter(term.label for term in terms).items() if times > 1]
    if twice:
        raise InputError(f"{layer}: expected every term once, found {twice[0]!r} more than once")
    return terms


def _check_fixed_sd(what: str, sd: float | None) -> None:
    if sd is not None and not (isinstance(sd, int | float) and 0 < sd < math.inf):
        raise InputError(f"{what}: expected a standard deviation above 0, found {sd!r}")


def _check_labels(what: str, labels: list[str]) -> None:
    """Labels become parts of variable names in the file of draws."""
    wrong = [label for label in labels if "/" in label]
    if wrong:
        raise InputError(f"{what}: expected names without '/', found {wrong[0]!r}; rename it")


def _check_shares(layer: str, priors: list[Prior]) -> None:
    total = sum(prior.share for prior in priors if prior.share is not None)
    if total > 1 - 1e-6:
        raise InputError(
            f"priors of the {layer}: expected shares of variance that leave some for the "
            f"residual, found a sum of {total:g}; lower them"
        )
