"""False discovery rates from posterior probabilities."""

import numpy as np


def q_values(probability: np.ndarray) -> np.ndarray:
    """Expected share of false discoveries when everything at least as probable is taken.

    The mean of 1 - probability among all that are at least as probable (Newton et al. 2004,
    Biostatistics 5:155; the q-value of Käll et al. 2008, Bioinformatics 24:i42). It needs no
    correction for multiple tests: the prior has made it. Each set of hypotheses that is judged by
    itself keeps its rate, and so do all of them together.

    Parameters
    ----------
    probability : (hypothesis,) array
        Posterior probability that the hypothesis is true; NaN is not judged.

    Returns
    -------
    (hypothesis,) array
        NaN where the probability is.

    Examples
    --------
    >>> q_values(np.array([0.5, 1.0, 0.9])).round(3)
    array([0.2 , 0.  , 0.05])
    """
    found = np.full(len(probability), np.nan)
    judged = np.flatnonzero(~np.isnan(probability))
    falling = np.sort(-probability[judged])
    running = np.cumsum(1.0 + falling) / np.arange(1, len(judged) + 1)
    # Equals are taken together.
    last = np.searchsorted(falling, -probability[judged], side="right") - 1
    found[judged] = running[last]
    return found
