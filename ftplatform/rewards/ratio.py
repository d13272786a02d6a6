"""Ratio of two means on the same items, with Fieller's bounds."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

#: Added to the baseline as so many events in all, so that a baseline of none has a ratio.
HALF_AN_EVENT = 0.5


@dataclass(frozen=True, slots=True)
class Ratio:
    """`value`, `low`, `high`: of the means, each bound one-sided; `p_above`: one-sided p-value of "the ratio is at most the limit"."""

    value: float
    low: float
    high: float
    p_above: float


def ratio_of_means(values: NDArray[np.float64], baseline: NDArray[np.float64], limit: float, confidence: float) -> Ratio:
    """mean(values) / mean(baseline), paired.

    The bounds are the ratios r at which a paired t test of mean(values - r baseline) = 0 is just not significant. They stay right
    where the baseline is small and the delta method fails; where the baseline is not shown to be above zero, `high` is infinite.

    Args:
        values, baseline: float64, shape (n,), not negative, the same items in the same order; n at least 2. Half an event is spread
            over the baseline.
        limit: for `p_above`.
        confidence: of each one-sided bound.

    Source: E. C. Fieller, J. R. Statist. Soc. B 16 (1954) 175.
    """
    from scipy.stats import t

    n = len(values)
    base = baseline + HALF_AN_EVENT / n
    x, y = float(values.mean()), float(base.mean())
    (v11, v12), (_, v22) = np.cov(values, base) / n
    z2 = float(t.ppf(confidence, n - 1)) ** 2
    a, b, c = y * y - z2 * v22, x * y - z2 * v12, x * x - z2 * v11
    root = math.sqrt(max(0.0, b * b - a * c))
    if a > 0:
        low, high = (b - root) / a, (b + root) / a
    else:
        # Everything but the stretch between the roots is left open; its upper end bounds the ratio from below.
        low, high = (max((b + root) / a, (b - root) / a) if a and c > 0 else 0.0), math.inf
    error = math.sqrt(max(0.0, v11 - 2 * limit * v12 + limit * limit * v22))
    distance = x - limit * y
    p = float(t.sf(distance / error, n - 1)) if error else float(distance <= 0)
    return Ratio(x / y, max(0.0, low), high, p)
