"""Shares of the genetic value's parts in the trait's variance, and in the genetic variance."""

import numpy as np

from nnmm_jax.posterior.result import FitResult


def variance_shares(result: FitResult) -> dict[str, np.ndarray]:
    """Draws of the shares that the parts of the genetic value have.

    Parameters
    ----------
    result : FitResult
        A fit of one trait.

    Returns
    -------
    dict of str to (chain, draw) array
        ``h2_mediated``, ``h2_direct``, ``h2_polygenic``: shares of the trait's variance, as in
        h2_trait; parts that the model does not have are absent. ``share_mediated``,
        ``share_direct``, ``share_polygenic``, where there are several: shares of the sum of their
        variances. All are 0 in draws without genetic variance.
    """
    draws = result.posterior.squeeze("trait").transpose("chain", "draw", ...)
    has = {
        "mediated": "h2_node" in draws,
        "direct": "ebv_direct" in draws,
        "polygenic": "ebv_polygenic" in draws,
    }
    parts = {
        name: draws[f"var_{name}"].values.astype(float) for name, there in has.items() if there
    }
    genetic, h2 = (draws[name].values.astype(float) for name in ("var_genetic_trait", "h2_trait"))
    # Of a draw without genetic variance every part is 0.
    inverse = np.divide(h2, genetic, out=np.zeros_like(h2), where=genetic > 0)
    found = {f"h2_{name}": part * inverse for name, part in parts.items()}
    if len(parts) > 1:
        total = sum(parts.values(), start=np.zeros_like(h2))
        for name, part in parts.items():
            share = np.divide(part, total, out=np.zeros_like(total), where=total > 0)
            found[f"share_{name}"] = share
    return found
