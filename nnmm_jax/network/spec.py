"""The network as the user states it: frozen, no arrays, no data."""

from dataclasses import dataclass

from nnmm_jax.errors import InputError
from nnmm_jax.network.activations import Activation, activation_by_name
from nnmm_jax.network.priors import RRBLUP, BayesC, Prior, as_prior


@dataclass(frozen=True)
class Network:
    """A mixed-effect neural network: genotypes -> middle layer -> phenotype.

    Attributes
    ----------
    activation : str
        Elementwise function of the middle layer: linear, tanh, sigmoid, relu or leakyrelu.
    marker_prior : str or Prior
        Prior of the marker effects on every node of the middle layer: "RR-BLUP" or "BayesC",
        or a prior object with its hyperparameters.
    node_prior : str or Prior
        Prior of the effects of the (activated) nodes on the phenotype.
    skip_prior : str, Prior or None
        Prior of direct marker effects on the phenotype; ``None``: no skip connection.
    latent : int
        Number of latent nodes, added to the omics.
    fixed_omics, fixed_trait : str or None
        Formula of fixed factors and covariates for the omics and for the phenotype, such as
        ``"~ sex + batch"``; columns come from the phenotype table. The intercept is always there.
    standardize : bool
        Whether each omics column is centred and scaled to unit variance (from its observed
        values) before the activation. A linear network is the same model either way; with a
        nonlinear activation the standardised values are what is activated. Everything reported
        is in the user's units, except node effects of a nonlinear network, which belong to the
        activated values.

    Raises
    ------
    InputError
        If a name is unknown or a count is negative.

    Examples
    --------
    >>> from nnmm_jax import BayesC, Network
    >>> Network(activation="tanh", marker_prior=BayesC(pi=0.95), latent=2).latent
    2
    """

    activation: str = "linear"
    marker_prior: str | Prior = BayesC()
    node_prior: str | Prior = RRBLUP()
    skip_prior: str | Prior | None = None
    latent: int = 0
    fixed_omics: str | None = None
    fixed_trait: str | None = None
    standardize: bool = True

    def __post_init__(self) -> None:
        """Resolve names at once, so that a wrong one is found where it was written."""
        object.__setattr__(self, "activation", activation_by_name(self.activation).name)
        object.__setattr__(self, "marker_prior", as_prior(self.marker_prior))
        object.__setattr__(self, "node_prior", as_prior(self.node_prior))
        if self.skip_prior is not None:
            object.__setattr__(self, "skip_prior", as_prior(self.skip_prior))
        if isinstance(self.latent, bool) or not isinstance(self.latent, int) or self.latent < 0:
            raise InputError(f"latent must be a whole number of nodes >= 0, got {self.latent!r}")

    @property
    def activate(self) -> Activation:
        """The activation itself."""
        return activation_by_name(self.activation)
