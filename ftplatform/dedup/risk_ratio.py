"""How many times likelier one group is to be removed than another, with a bound that few or no events do not break."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import cast

import numpy as np
from numpy.typing import NDArray

from ftplatform.statistics.intervals import Interval


def risk_ratio(events: float, n: float, other_events: float, other_n: float, confidence: float = 0.95) -> Interval:
    """Koopman's score interval of ``(events / n) / (other_events / other_n)``, two-sided.

    Defined down to no events in either group: bounds are then 0 or infinity. Counts may be fractions (effective counts). The
    estimate is infinite, or 0 / 0 taken as 1, where the other group has no events.

    Raises:
        ValueError: groups without observations, or counts out of range.

    Source: P. A. R. Koopman, Biometrics 40 (1984) 513; recommended by M. W. Fagerland et al., Stat. Methods Med. Res. 24 (2015) 224.
    """
    from scipy.stats import norm

    for count, size in ((events, n), (other_events, other_n)):
        if not 0 < size < math.inf or not 0 <= count <= size:
            raise ValueError(f"{count} events among {size}")
    share, other_share = events / n, other_events / other_n
    estimate = share / other_share if other_share else (math.inf if share else 1.0)
    limit = float(norm.ppf((1 + confidence) / 2)) ** 2

    def excess(log_ratio: float) -> float:
        return _score(math.exp(log_ratio), events, n, other_events, other_n) - limit

    at = math.log(estimate) if 0 < estimate < math.inf else 0.0
    low = 0.0 if not events else _bound(excess, at, -1, start_inside=0 < estimate < math.inf)
    high = math.inf if not other_events else _bound(excess, at, 1, start_inside=0 < estimate < math.inf)
    return Interval(estimate, min(low, estimate), max(high, estimate), confidence)


def clustered_share(events: NDArray[np.bool_], clusters: NDArray[np.int64]) -> tuple[float, float]:
    """Events and observations as if independent: both divided by the design effect of the clusters (never below 1).

    Rows of one conversation are removed together or not at all; counted as independent they would narrow the interval. Where all
    or none are events, and no variance can be seen, each cluster counts once.

    Source: J. N. K. Rao and A. J. Scott, Biometrics 48 (1992) 577.
    """
    n, share = len(events), float(events.mean())
    _, codes = np.unique(clusters, return_inverse=True)
    groups = int(codes.max()) + 1
    if groups < 2 or share in (0.0, 1.0):
        effect = n / groups
    else:
        sums = np.bincount(codes, events - share)
        effect = max(1.0, groups / (groups - 1) * float(sums @ sums) / (n * share * (1 - share)))
    return float(events.sum()) / effect, n / effect


def rows_needed(share: float, fraction: float, ratio: float, *, power: float = 0.8, confidence: float = 0.95) -> int:
    """Rows with which a true risk ratio is found (lower bound above 1) with probability `power`.

    Args:
        share: events among all rows, in (0, 1).
        fraction: rows in the first group, in (0, 1).
        ratio: to be found; lowered where more events than rows would be needed.

    The lower bound of Koopman's interval is above 1 just when the score test of equal shares rejects; this is that test's size.

    Source: J. L. Fleiss, Statistical Methods for Rates and Proportions (2003), section 4.3, for groups of unequal size.
    """
    from scipy.stats import norm

    other = share / (1 - fraction + ratio * fraction)
    first = min(ratio * other, 1.0)
    other = (share - fraction * first) / (1 - fraction)
    equal = share * (1 - share) / (fraction * (1 - fraction))
    unequal = first * (1 - first) / fraction + other * (1 - other) / (1 - fraction)
    distance = float(norm.ppf((1 + confidence) / 2)) * math.sqrt(equal) + float(norm.ppf(power)) * math.sqrt(unequal)
    return math.ceil((distance / (first - other)) ** 2)


def _score(ratio: float, x: float, n: float, y: float, m: float) -> float:
    """Koopman's chi-square of the hypothesis that the ratio of shares x/n and y/m is `ratio`."""
    linear = ratio * (n + y) + x + m
    root = math.sqrt(max(0.0, linear * linear - 4 * ratio * (n + m) * (x + y)))
    # Constrained maximum-likelihood share of the first group; the stable form of the smaller root of its quadratic.
    share = min(1.0, 2 * ratio * (x + y) / (linear + root))
    return _pearson(x, n, share) + _pearson(y, m, min(1.0, share / ratio))


def _pearson(x: float, n: float, share: float) -> float:
    distance, variance = x - n * share, n * share * (1 - share)
    if variance <= 0:
        return 0.0 if abs(distance) < 1e-9 * n else math.inf
    return distance * distance / variance


def _bound(excess: Callable[[float], float], at: float, direction: int, *, start_inside: bool) -> float:
    """Where the score crosses its limit, walking from the estimate (or, where it is 0 or infinite, from far outside)."""
    from scipy.optimize import brentq

    step = 0.05
    inside = at if start_inside else -direction * 60.0
    outside = inside
    while excess(outside) <= 0 and abs(outside) < 700:
        inside, outside = outside, outside + direction * step
        step *= 1.5
    if excess(outside) <= 0:
        return math.inf if direction > 0 else 0.0
    if excess(inside) > 0:
        return math.exp(inside)
    return math.exp(cast(float, brentq(excess, inside, outside)))
