"""Which omics are missing: whole individuals, cells, blocks, rare features, or all at once."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from nnmm_jax.errors import InputError

WHOLE = "whole individuals"
CELLS = "scattered cells"
BLOCKS = "blocks"
RARE = "rare features"
MIXTURE = "mixture"
OTHERS = (CELLS, BLOCKS, RARE, MIXTURE)
PATTERNS: Mapping[str, str] = MappingProxyType(
    {
        WHOLE: "individuals without any omics",
        CELLS: "half of the cells, at random",
        BLOCKS: "half of the individuals lack the same half of the omics",
        RARE: "half of the omics are measured in 10% of the individuals only",
        MIXTURE: "a quarter of the individuals without any omics, and all of the others at once",
    }
)
TRAINING_MISSING = (0, 10, 25, 50, 75, 90, 100)  # percent of the training individuals

_MIXED_WHOLE = 25


@dataclass(frozen=True)
class Scenario:
    """What is missing in training and test individuals.

    Attributes
    ----------
    pattern : str
        Of the training individuals, a key of :data:`PATTERNS`.
    training_missing : int
        Percent of the training individuals without any omics; 25 in the mixture, 0 in the other
        patterns.
    test_missing : int
        Percent of the test individuals without any omics: 0 or 100.

    Raises
    ------
    InputError
        If a value is not one of these.

    Examples
    --------
    >>> Scenario("whole individuals", 100, 100).nothing_observed
    True
    """

    pattern: str
    training_missing: int
    test_missing: int

    def __post_init__(self) -> None:
        """Check the values where they are written."""
        if self.pattern not in PATTERNS:
            raise InputError(f"unknown pattern {self.pattern!r}: choose of {', '.join(PATTERNS)}")
        if self.pattern == WHOLE and not 0 <= self.training_missing <= 100:
            raise InputError(f"training_missing must lie in 0..100, got {self.training_missing!r}")
        whole = {MIXTURE: _MIXED_WHOLE}.get(self.pattern, 0)
        if self.pattern != WHOLE and self.training_missing != whole:
            raise InputError(
                f"{self.pattern}: training_missing must be {whole}, got {self.training_missing!r}"
            )
        if self.test_missing not in (0, 100):
            raise InputError(f"test_missing must be 0 or 100, got {self.test_missing!r}")

    @property
    def nothing_observed(self) -> bool:
        """Whether no cell of the omics is left, so that every node is latent."""
        return self.training_missing == 100 and self.test_missing == 100


def scenarios(
    training_missing: Sequence[int] = TRAINING_MISSING,
    patterns: Sequence[str] = OTHERS,
) -> list[Scenario]:
    """The whole grid: training x test for whole individuals, then the other patterns.

    In the other patterns the omics of all test individuals are missing.

    Parameters
    ----------
    training_missing : sequence of int
        Percent of the training individuals without any omics, for whole individuals.
    patterns : sequence of str
        Of :data:`OTHERS`.

    Examples
    --------
    >>> [scenario.training_missing for scenario in scenarios([0, 100])]
    [0, 100, 0, 100, 0, 0, 0, 25]
    """
    shares = sorted(set(training_missing))
    whole = [Scenario(WHOLE, share, test) for test in (0, 100) for share in shares]
    share = {MIXTURE: _MIXED_WHOLE}
    return [*whole, *(Scenario(pattern, share.get(pattern, 0), 100) for pattern in patterns)]


def missing_cells(scenario: Scenario, test: np.ndarray, nodes: int, seed: int) -> np.ndarray:
    """Cells that are missing in a scenario.

    Parameters
    ----------
    scenario : Scenario
    test : (individual,) bool
        The test individuals; the others are the training set.
    nodes : int
        Number of omics.
    seed : int
        Each pattern has a random stream of its own. The same seed makes nested holes: who lacks
        omics at 10% lacks them at 25%, and the mixture has the holes of the single patterns.

    Returns
    -------
    (individual, node) bool

    Examples
    --------
    >>> import numpy as np
    >>> test = np.arange(10) >= 8
    >>> missing_cells(Scenario("whole individuals", 50, 100), test, nodes=3, seed=1).sum(axis=0)
    array([6, 6, 6])
    """
    whole, cells, blocks, rare = np.random.default_rng(seed).spawn(4)
    missing = np.zeros((len(test), nodes), dtype=bool)
    missing[test] = scenario.test_missing == 100
    training = np.flatnonzero(~test)
    count = len(training)
    holes = np.zeros((count, nodes), dtype=bool)
    holes[whole.permutation(count)[: round(count * scenario.training_missing / 100)]] = True
    if scenario.pattern in (CELLS, MIXTURE):
        holes.flat[cells.permutation(holes.size)[: holes.size // 2]] = True
    if scenario.pattern in (BLOCKS, MIXTURE):
        lacking = blocks.permutation(count)[: count // 2]
        holes[np.ix_(lacking, blocks.permutation(nodes)[: nodes // 2])] = True
    if scenario.pattern in (RARE, MIXTURE):
        for feature in rare.permutation(nodes)[: nodes // 2]:
            holes[rare.permutation(count)[: round(0.9 * count)], feature] = True
    missing[training] = holes
    return missing
