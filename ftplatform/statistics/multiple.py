"""Adjusting p-values when one check asks many questions."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ftplatform.statistics.intervals import check_share, finite_vector


def holm(pvalues: ArrayLike, alpha: float = 0.05) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    """Holm's step-down procedure: the probability of any false rejection stays at or below `alpha`, whatever the dependence.

    Args:
        pvalues: shape (m,), m at least 1, each in [0, 1].
        alpha: family-wise error rate.

    Returns:
        `(reject, adjusted)`, both shape (m,) in the order given; `reject` is ``adjusted <= alpha``.

    Raises:
        ValueError: on no p-values (nothing was tested, so nothing may pass), NaN, or values outside [0, 1].

    Source: S. Holm, Scand. J. Statist. 6 (1979) 65. Not by statsmodels, whose `multipletests` runs a full garbage collection for
    this method, which takes a second in a process that holds a model.
    """
    check_share(alpha, "alpha")
    p = _pvalues(pvalues)
    order = np.argsort(p, kind="stable")
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)))
    return adjusted <= alpha, adjusted


def benjamini_hochberg(pvalues: ArrayLike, q: float = 0.05) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    """Benjamini-Hochberg step-up procedure: the expected share of false rejections among all stays at or below `q`.

    Valid under independence or positive dependence. Arguments, return value and errors as in `holm`.

    Source: Y. Benjamini and Y. Hochberg, J. R. Statist. Soc. B 57 (1995) 289. By scipy.
    """
    from scipy.stats import false_discovery_control

    check_share(q, "q")
    adjusted = np.asarray(false_discovery_control(_pvalues(pvalues)), dtype=np.float64)
    return adjusted <= q, adjusted


def _pvalues(values: ArrayLike) -> NDArray[np.float64]:
    p = finite_vector(values, "pvalues")
    if len(p) == 0:
        raise ValueError("no p-values: nothing was tested")
    if p.min() < 0 or p.max() > 1:
        raise ValueError(f"p-values must lie in [0, 1]; found {p.min()} to {p.max()}")
    return p
