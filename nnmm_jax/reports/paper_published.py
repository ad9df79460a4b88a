"""What the NN-MM paper reports of its three experiments, and what of it we ask to see.

Zhao, Zeng & Cheng 2022, GENETICS 221(1), iyac034, figures 4 to 6: mean accuracies over replicates,
which are missing patterns of one data set.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

SHARES = (10, 30, 50, 70, 80, 90, 95, 99)  # percent of training individuals without omics

# Models of each experiment: the one that is to win, and the other.
MODELS: Mapping[int, tuple[str, str]] = MappingProxyType(
    {
        1: ("NN-GBLUP", "single step"),
        2: ("sigmoid", "linear"),
        3: ("NN-BayesC", "NN-GBLUP"),
    }
)

# By experiment and missing omics, means of 20 replicates (experiment 2: of 10), in the order of
# the models.
PUBLISHED: Mapping[tuple[int, str], tuple[float, float]] = MappingProxyType(
    {
        (1, "10%"): (0.568, 0.562),
        (1, "30%"): (0.542, 0.537),
        (1, "50%"): (0.527, 0.523),
        (1, "70%"): (0.493, 0.495),
        (1, "80%"): (0.481, 0.474),
        (1, "90%"): (0.478, 0.448),
        (1, "95%"): (0.453, 0.409),
        (1, "99%"): (0.419, 0.355),
        (2, "50%"): (0.473, 0.376),
        (2, "50% of cells"): (0.484, 0.405),
        (3, "50%"): (0.933, 0.836),
    }
)


@dataclass(frozen=True)
class Chains:
    """Length of every fit, as in :func:`nnmm_jax.fit`."""

    warmup: int
    samples: int
    chains: int


# Where most omics are missing, breeding values and node effects move together, slowly: shorter
# chains leave so much noise in the estimated breeding values that the network looks worse than it
# is (with 200 sweeps the slope is near 0.5 at 90%).
LENGTHS: Mapping[int, Chains] = MappingProxyType(
    {1: Chains(200, 1000, 1), 2: Chains(150, 450, 1), 3: Chains(500, 1500, 1)}
)

LIMIT = 2.0  # standard errors by which an ordering must show
LOSS = 3.0  # standard errors by which NN-GBLUP may lie below the single-step approach
FEW, MANY = 50, 90  # percent without omics: at most, at least, where the gap is compared
BAYESC_ACCURACY = 0.925
BAYESC_SLOPE = 0.1  # largest distance of the mean slope from 1

RULES = (
    "1: at every share NN-GBLUP is not below the single-step approach by more than "
    f"{LOSS:g} standard errors; the mean difference over shares of at least {MANY}% is above 0, "
    f"and above that over shares of at most {FEW}%, by more than {LIMIT:g} (not asked where there "
    "are no such shares). "
    f"2: sigmoid is above linear by more than {LIMIT:g} standard errors in both patterns. "
    f"3: mean accuracy of BayesC of at least {BAYESC_ACCURACY}, mean slope within 1 ± "
    f"{BAYESC_SLOPE}, and above GBLUP by more than {LIMIT:g} standard errors. "
    "Errors are those of paired differences over replicates; of one replicate they are unknown "
    "and count as 0"
)
