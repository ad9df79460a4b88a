"""What the simulator is asked for: frozen, checked, no arrays."""

from dataclasses import dataclass

import numpy as np

from nnmm_jax.errors import InputError
from nnmm_jax.network.activations import activation_by_name


@dataclass(frozen=True)
class SimulationSettings:
    """What is simulated.

    Shares of variance are realised exactly in the sample for genetic and mediated parts; residuals
    are random draws. Fixed effects come on top of the phenotype's variance ``trait_sd ** 2``.

    Attributes
    ----------
    individuals, founders, generations : int
        Individuals in all, of which ``founders`` (default: one eighth) unrelated ones, the rest
        in ``generations`` generations of offspring.
    family_size, dams_per_sire : int
        Full sibs in a family; families (half sibs of each other) of one sire.
    markers, chromosomes : int
        Markers, spread evenly over chromosomes, at random positions.
    chromosome_length : float
        Length of a chromosome in Morgan.
    ancestral_size, ancestral_generations : int
        Size and generations of the random-mating population whose drift makes LD.
    omics, latent : int
        Nodes of the middle layer: those measured, and those whose column is not written.
    activation : str
        Function of the middle layer, applied to nodes of mean 0 and variance 1.
    h2_omics : float
        Genetic share of the variance of each node, fixed effects aside.
    causal_share : float
        Share of the markers with an effect, drawn anew for each node and for direct effects.
    node_effects : tuple of float or None
        Relative effects of the nodes on the phenotype; ``None``: drawn from N(0, 1). Scaled to
        ``share_mediated`` in either case.
    share_mediated, share_direct : float
        Shares of the phenotype's variance, fixed effects aside, that go through the nodes
        (the nodes' residuals included) and that markers cause directly. The rest is residual.
    trait_mean, trait_sd : float
        Phenotype's scale, fixed effects aside, in the units of the phenotype.
    batches : int
        Levels of the factor ``batch``.
    sex_effect, batch_effect_sd : float
        Males minus females, and sd of the batch effects, on the phenotype; in units of
        ``trait_sd``.
    sex_effect_omics, batch_effect_sd_omics : float
        The same for each node, in units of its sd.
    without_omics : float
        Share of the individuals that have no row in the omics table, chosen at random.
    missing_cells : float
        Share of the other omics cells that are empty, chosen at random.
    without_phenotype : float
        Share of the individuals without phenotype: the youngest, candidates for selection.

    Raises
    ------
    InputError
        If a value is impossible.

    Examples
    --------
    >>> from nnmm_jax.network.simulate import SimulationSettings
    >>> SimulationSettings(individuals=400).founder_count
    50
    """

    individuals: int = 800
    founders: int | None = None
    generations: int = 2
    family_size: int = 5
    dams_per_sire: int = 3
    markers: int = 1200
    chromosomes: int = 5
    chromosome_length: float = 1.0
    ancestral_size: int = 50
    ancestral_generations: int = 50
    omics: int = 10
    latent: int = 0
    activation: str = "linear"
    h2_omics: float = 0.5
    causal_share: float = 0.05
    node_effects: tuple[float, ...] | None = None
    share_mediated: float = 0.5
    share_direct: float = 0.1
    trait_mean: float = 100.0
    trait_sd: float = 10.0
    batches: int = 4
    sex_effect: float = 0.5
    batch_effect_sd: float = 0.3
    sex_effect_omics: float = 0.3
    batch_effect_sd_omics: float = 0.3
    without_omics: float = 0.3
    missing_cells: float = 0.05
    without_phenotype: float = 0.2

    def __post_init__(self) -> None:
        """Check every value."""
        activation_by_name(self.activation)
        at_least_one = "generations family_size dams_per_sire chromosomes ancestral_size batches"
        for name in at_least_one.split():
            self._check_count(name, 1)
        for name in ("ancestral_generations", "omics", "latent"):
            self._check_count(name, 0)
        self._check_count("markers", self.chromosomes)
        if self.nodes == 0:
            raise InputError("simulation: omics and latent are both 0, at least one node is needed")
        if self.founders is not None:
            self._check_count("founders", 4)  # a male and a female each, and MAF has a meaning
        self._check_count("individuals", self.founder_count + 2 * self.generations)
        self._check_shares()
        self._check_sizes()

    @property
    def founder_count(self) -> int:
        """Number of founders: as stated, or one eighth of the individuals."""
        return max(4, self.individuals // 8) if self.founders is None else self.founders

    @property
    def nodes(self) -> int:
        """Number of nodes of the middle layer."""
        return self.omics + self.latent

    @property
    def node_names(self) -> list[str]:
        """Names of the nodes: omics first, then latent."""
        width = len(str(self.omics))
        omics = [f"omics{k:0{width}d}" for k in range(1, self.omics + 1)]
        return omics + [f"latent{k}" for k in range(1, self.latent + 1)]

    def _check_count(self, name: str, least: int) -> None:
        value = getattr(self, name)
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise InputError(f"simulation: {name} must be a whole number >= {least}, got {value!r}")

    def _check_shares(self) -> None:
        for name in ("h2_omics", "causal_share", "share_mediated", "share_direct"):
            if not 0 <= getattr(self, name) <= 1:
                raise InputError(
                    f"simulation: {name} must lie in 0..1, got {getattr(self, name)!r}"
                )
        for name in ("without_omics", "missing_cells", "without_phenotype"):
            if not 0 <= getattr(self, name) < 1:
                raise InputError(
                    f"simulation: {name} must lie in 0..1, below 1, got {getattr(self, name)!r}"
                )
        if self.causal_share == 0:
            raise InputError("simulation: causal_share must be above 0, got 0")
        if self.share_mediated + self.share_direct > 1:
            raise InputError(
                f"simulation: share_mediated + share_direct must not exceed 1, "
                f"got {self.share_mediated} + {self.share_direct}"
            )

    def _check_sizes(self) -> None:
        for name in ("chromosome_length", "trait_sd"):
            value = getattr(self, name)
            if not (np.isfinite(value) and value > 0):
                raise InputError(f"simulation: {name} must be positive, got {value!r}")
        for name in ("trait_mean", "sex_effect", "sex_effect_omics"):
            if not np.isfinite(getattr(self, name)):
                raise InputError(f"simulation: {name} must be finite, got {getattr(self, name)!r}")
        for name in ("batch_effect_sd", "batch_effect_sd_omics"):
            value = getattr(self, name)
            if not (np.isfinite(value) and value >= 0):
                raise InputError(f"simulation: {name} must not be negative, got {value!r}")
        if self.node_effects is not None:
            effects = np.asarray(self.node_effects, dtype=float)
            if effects.shape != (self.nodes,):
                raise InputError(
                    f"simulation: node_effects must have one value for each of the "
                    f"{self.nodes} nodes, got {len(self.node_effects)}"
                )
            if not (np.isfinite(effects).all() and effects.any()):
                raise InputError("simulation: node_effects must be finite and not all 0")
