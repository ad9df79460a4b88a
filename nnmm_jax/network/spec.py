"""The network as the user states it: frozen, no arrays, no data."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TypeAlias

from nnmm_jax.errors import InputError
from nnmm_jax.network.activations import Activation, activation_by_name
from nnmm_jax.network.priors import GBLUP, RRBLUP, BayesC, Prior, Residual, as_prior
from nnmm_jax.network.terms import RandomTerm

PriorLike: TypeAlias = str | Prior
MarkerPrior: TypeAlias = PriorLike | Mapping[str, PriorLike] | None


@dataclass(frozen=True)
class Network:
    """A mixed-effect neural network: genotypes -> middle layer -> phenotype.

    Without omics and latent nodes it has one layer, an ordinary mixed model of the phenotype:
    marker effects then have the ``skip_prior``.

    Attributes
    ----------
    activation : str
        Elementwise function of the middle layer: linear, tanh, sigmoid, relu or leakyrelu.
    marker_prior : str, Prior, mapping of str to prior, or None
        Prior of the marker effects on every node of the middle layer: RR-BLUP, GBLUP, BayesA,
        BayesB, BayesC, BayesL or BayesR by name, or a prior object with its hyperparameters. A
        mapping gives each marker group of the data set its own prior. ``None``: no marker effects.
    node_prior : str or Prior
        Prior of the effects of the (activated) nodes on the phenotype.
    skip_prior : str, Prior, mapping of str to prior, or None
        Prior of direct marker effects on the phenotype; ``None``: no skip connection.
    latent : int
        Number of latent nodes, added to the omics.
    fixed_omics, fixed_trait : str or None
        Formula of fixed factors and covariates for the omics and for the phenotype, such as
        ``"~ sex + batch"``; columns come from the phenotype table. The intercept is always there.
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
        If a name is unknown, a count is negative, a term comes twice or shares leave no residual.

    Examples
    --------
    >>> from nnmm_jax import BayesC, Group, Network, Pedigree
    >>> Network(activation="tanh", marker_prior=BayesC(pi=0.95), latent=2).latent
    2
    >>> model = Network(skip_prior="BayesR", random_trait=[Pedigree(), Group("pen")])
    >>> [term.label for term in model.random_trait]
    ['pedigree', 'pen']
    """

    activation: str = "linear"
    marker_prior: MarkerPrior = BayesC()
    node_prior: PriorLike = RRBLUP()
    skip_prior: MarkerPrior = None
    latent: int = 0
    fixed_omics: str | None = None
    fixed_trait: str | None = None
    random_omics: Sequence[RandomTerm] = ()
    random_trait: Sequence[RandomTerm] = ()
    residual_omics: Residual = Residual()
    residual_trait: Residual = Residual()
    standardize: bool = True

    def __post_init__(self) -> None:
        """Resolve names at once, so that a wrong one is found where it was written."""
        object.__setattr__(self, "activation", activation_by_name(self.activation).name)
        object.__setattr__(self, "marker_prior", _resolve(self.marker_prior))
        object.__setattr__(self, "node_prior", as_prior(self.node_prior))
        object.__setattr__(self, "skip_prior", _resolve(self.skip_prior))
        if isinstance(self.latent, bool) or not isinstance(self.latent, int) or self.latent < 0:
            raise InputError(f"latent must be a whole number of nodes >= 0, got {self.latent!r}")
        if isinstance(self.node_prior, GBLUP) and self.node_prior.relationship is not None:
            raise InputError("node_prior: a relationship matrix cannot take the place of the nodes")
        for layer in ("random_omics", "random_trait"):
            terms = getattr(self, layer)
            terms = (terms,) if isinstance(terms, RandomTerm) else tuple(terms)
            _check_terms(layer, terms)
            object.__setattr__(self, layer, terms)
        _check_shares("omics", [*self.marker_priors.values(), *self.random_omics])
        skip = self.skip_priors.values()
        _check_shares("trait", [as_prior(self.node_prior), *skip, *self.random_trait])

    @property
    def activate(self) -> Activation:
        """The activation itself."""
        return activation_by_name(self.activation)

    @property
    def marker_priors(self) -> Mapping[str, Prior]:
        """Priors of the marker effects on nodes by group; the group ``""`` is all markers."""
        return _by_group(self.marker_prior)

    @property
    def skip_priors(self) -> Mapping[str, Prior]:
        """Priors of the direct marker effects by group; the group ``""`` is all markers."""
        return _by_group(self.skip_prior)


def _resolve(prior: MarkerPrior) -> Prior | Mapping[str, Prior] | None:
    if prior is None:
        return None
    if isinstance(prior, Mapping):
        _check_labels("marker groups", [str(group) for group in prior])
        return MappingProxyType({str(group): as_prior(one) for group, one in prior.items()})
    return as_prior(prior)


def _by_group(prior: MarkerPrior) -> Mapping[str, Prior]:
    if prior is None:
        return {}
    if isinstance(prior, Mapping):
        return {group: as_prior(one) for group, one in prior.items()}
    return {"": as_prior(prior)}


def _check_terms(layer: str, terms: tuple[RandomTerm, ...]) -> None:
    for term in terms:
        if not isinstance(term, RandomTerm):
            raise InputError(
                f"{layer}: expected terms such as Group('pen') or Pedigree(), found {term!r}"
            )
    _check_labels(layer, [term.label for term in terms])
    twice = [label for label, times in Counter(term.label for term in terms).items() if times > 1]
    if twice:
        raise InputError(f"{layer}: expected every term once, found {twice[0]!r} more than once")


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
