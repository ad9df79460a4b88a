"""The single-step approach to intermediate omics, a baseline for networks.

Christensen, Börner, Varona & Legarra 2021, Genetics 219(2), iyab130: a phenotype is an intercept
and the value that the omics give it, ``y = X b + u + e``; the values u are in turn heritable,
``u = 1 m + a + r``. Individuals without omics join through a combined relationship matrix. All
variances are given, as in the comparison of Zhao, Zeng & Cheng 2022, iyac034, whose script this
follows (github.com/zhaotianjing/NN-MM); nothing is estimated but b, m, u and a.
"""

from dataclasses import dataclass

import numpy as np
import scipy.linalg

from nnmm_jax.errors import InputError

_RIDGE = 1e-4  # on the diagonal: centred omics are singular


@dataclass(frozen=True, eq=False)
class SingleStep:
    """What the approach predicts.

    Attributes
    ----------
    ebv : (individual,)
        Estimated breeding values a.
    omics_values : (individual,)
        Estimated values of the omics u.
    """

    ebv: np.ndarray
    omics_values: np.ndarray


def single_step(
    phenotype: np.ndarray,
    omics: np.ndarray,
    relationship: np.ndarray,
    *,
    h2_omics: float,
    share_omics: float,
) -> SingleStep:
    """Predict breeding values that go through the omics.

    1. ``V = h2 G + (1 - h2) I`` is the relationship that omics are expected to give, and ``K``,
       :func:`omics_relationship`, the one that they give where they are measured. ``H``, see
       :func:`combined_relationship`, is both. With all omics measured it is K.
    2. u is predicted from ``y = X b + u + e``, ``u ~ N(0, H s)``, ``e ~ N(0, I (1 - s))`` on the
       scale of the phenotypic variance, with s = ``share_omics``; X has one intercept for the
       individuals with omics and one for those without.
    3. a is predicted from ``u = 1 m + a + r``, ``a ~ N(0, G h2)``, ``r ~ N(0, I (1 - h2))``, the
       predicted u in place of u. As that is linear, it is the same as GBLUP of every omics trait
       followed by the omics' effects on y, where all are measured.

    Parameters
    ----------
    phenotype : (individual,)
        NaN for those to predict.
    omics : (individual, node)
        NaN throughout a row for individuals without; no other gaps.
    relationship : (individual, individual)
        Genomic, G.
    h2_omics : float
        Genetic share of the variance of omics, h2.
    share_omics : float
        Share of the phenotype's variance that omics explain.

    Returns
    -------
    SingleStep

    Raises
    ------
    InputError
        If an individual has a part of its omics only, or fewer than two have any.

    Examples
    --------
    >>> rng = np.random.default_rng(1)
    >>> omics = rng.normal(size=(20, 5))
    >>> phenotype = omics @ np.ones(5)
    >>> phenotype[15:], omics[:5] = np.nan, np.nan
    >>> single_step(phenotype, omics, np.eye(20), h2_omics=0.5, share_omics=0.9).ebv.shape
    (20,)
    """
    missing = np.isnan(omics)
    measured = ~missing.all(axis=1)
    if missing[measured].any() or measured.sum() < 2:
        raise InputError(
            "single step: expected all omics or none of every individual, and two with omics; "
            "mask whole individuals"
        )
    expected = h2_omics * relationship + (1.0 - h2_omics) * np.eye(len(phenotype))
    combined = combined_relationship(expected, omics_relationship(omics[measured]), measured)
    intercepts = np.stack([measured, ~measured], axis=1).astype(float)
    seen = np.isfinite(phenotype)
    intercepts = intercepts[:, intercepts[seen].any(axis=0)]
    covariance = share_omics * combined
    phenotypic = covariance[np.ix_(seen, seen)] + (1.0 - share_omics) * np.eye(seen.sum())
    weighted = _weighted_residual(phenotypic, intercepts[seen], phenotype[seen])
    omics_values = covariance[:, seen] @ weighted
    intercept = np.ones((len(phenotype), 1))
    ebv = h2_omics * relationship @ _weighted_residual(expected, intercept, omics_values)
    return SingleStep(ebv=ebv, omics_values=omics_values)


def omics_relationship(omics: np.ndarray) -> np.ndarray:
    """Relationship of measured individuals (m, m): mean product of standardised omics, + 1e-4 I.

    Parameters
    ----------
    omics : (m, node)
        Without gaps. A constant column is left out.

    Examples
    --------
    >>> omics_relationship(np.array([[1.0], [3.0]])).round(3)
    array([[ 0.5, -0.5],
           [-0.5,  0.5]])
    """
    varying = omics[:, np.ptp(omics, axis=0) > 0]
    standard = (varying - varying.mean(axis=0)) / varying.std(axis=0, ddof=1)
    return standard @ standard.T / max(varying.shape[1], 1) + _RIDGE * np.eye(len(omics))


def combined_relationship(
    expected: np.ndarray, observed: np.ndarray, measured: np.ndarray
) -> np.ndarray:
    """Relationships of everybody, where some are measured: the matrix H of single-step methods.

    The measured have ``observed`` in place of ``expected``; the others follow by regression on
    them, ``H_um = T K``, ``H_uu = V_uu + T (K - V_mm) T'`` with ``T = V_um inv(V_mm)``. Its inverse
    is that of ``expected`` with ``inv(K) - inv(V_mm)`` added for the measured.

    Parameters
    ----------
    expected : (individual, individual)
        V, positive definite.
    observed : (m, m)
        K, of the measured in their order.
    measured : (individual,) bool

    References
    ----------
    Legarra, Aguilar & Misztal 2009, J. Dairy Sci. 92:4656; Christensen & Lund 2010, Genet. Sel.
    Evol. 42:2.

    Examples
    --------
    >>> both = combined_relationship(
    ...     np.array([[1.0, 0.5], [0.5, 1.0]]), np.array([[2.0]]), np.array([False, True])
    ... )
    >>> both
    array([[1.25, 1.  ],
           [1.  , 2.  ]])
    """
    unmeasured = ~measured
    known = expected[np.ix_(measured, measured)]
    regression = scipy.linalg.solve(known, expected[np.ix_(measured, unmeasured)], assume_a="pos").T
    between = regression @ observed
    whole = np.empty_like(expected)
    whole[np.ix_(measured, measured)] = observed
    whole[np.ix_(unmeasured, measured)] = between
    whole[np.ix_(measured, unmeasured)] = between.T
    whole[np.ix_(unmeasured, unmeasured)] = (
        expected[np.ix_(unmeasured, unmeasured)] + regression @ (observed - known) @ regression.T
    )
    return whole


def _weighted_residual(
    covariance: np.ndarray, design: np.ndarray, response: np.ndarray
) -> np.ndarray:
    """``inv(V) (y - X b)``, b by generalised least squares."""
    factor = scipy.linalg.cho_factor(covariance)
    left = scipy.linalg.cho_solve(factor, design)
    fixed = np.linalg.solve(design.T @ left, left.T @ response)
    return np.asarray(scipy.linalg.cho_solve(factor, response - design @ fixed))
