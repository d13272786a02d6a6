"""Paired comparisons: the same items answered by two models.

Counts follow one convention everywhere: `b` items were right (refused, solved) before and are not any more, `c` the other way
round, `n` pairs in all, so that (b - c) / n is the *loss*, positive when the new model is worse.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import SupportsIndex, cast

import numpy as np
from numpy.typing import ArrayLike

from ftplatform.statistics.intervals import (
    Alternative,
    Interval,
    check_count,
    check_share,
    clustered_mean,
    finite_vector,
    wilson,
)
from ftplatform.statistics.power import DISCORDANT_SHARE, required_n_noninferiority


def paired_difference(
    b: SupportsIndex, c: SupportsIndex, n: SupportsIndex, confidence: float = 0.95, *, alternative: Alternative = "two-sided"
) -> Interval:
    """Tango's score interval of the paired difference of proportions (b - c) / n.

    Inverts the score test of `p_b - p_c = delta` with the constrained maximum-likelihood estimate of p_c. Never leaves [-1, 1],
    never has zero width (b = c = 0 gives the Wilson bound of 0 of n), and depends on the data through b, c and n only.

    Args:
        b, c: discordant pairs; b counts against, c in favor.
        n: all pairs, at least 1.
        confidence: coverage. alternative: "upper" bounds the loss from above (low is -1), "lower" from below (high is 1).

    Raises:
        ValueError: on n = 0, negative counts or b + c > n.

    Source: T. Tango, Stat Med 17 (1998) 891; R. G. Newcombe, Stat Med 17 (1998) 2635, recommends it beside his method 10.
    """
    from scipy.stats import norm

    lost, gained, pairs = _paired_counts(b, c, n)
    check_share(confidence, "confidence")
    z = float(norm.ppf((1 + confidence) / 2 if alternative == "two-sided" else confidence))
    # By symmetry the lower bound of the loss is minus the upper bound of the gain.
    low = -1.0 if alternative == "upper" else -_tango_upper(gained, lost, pairs, z)
    high = 1.0 if alternative == "lower" else _tango_upper(lost, gained, pairs, z)
    return Interval((lost - gained) / pairs, low, high, confidence)


def newcombe_paired_difference(
    both: SupportsIndex, b: SupportsIndex, c: SupportsIndex, neither: SupportsIndex, confidence: float = 0.95
) -> Interval:
    """Newcombe's method 10: the same difference (b - c) / n from Wilson intervals of the two margins, two-sided, closed form.

    Unlike Tango's interval it also uses how the concordant pairs divide into `both` (successes twice) and `neither`. As wide as
    Tango's in practice; given for reports that quote it.

    Raises:
        ValueError: on negative counts or no pairs at all.

    Source: R. G. Newcombe, Improved confidence intervals for the difference between binomial proportions based on paired data,
    Stat Med 17 (1998) 2635, method 10.
    """
    e, f, g, h = (check_count(v, name) for v, name in ((both, "both"), (b, "b"), (c, "c"), (neither, "neither")))
    n = e + f + g + h
    before = wilson(e + f, n, confidence)
    after = wilson(e + g, n, confidence)
    margins = (e + f) * (g + h) * (e + g) * (f + h)
    cross = e * h - f * g
    # Continuity correction of the correlation, applied to positive correlations only (method 10 against method 8).
    correlation = 0.0 if margins == 0 else (max(cross - n / 2, 0.0) if cross > 0 else float(cross)) / math.sqrt(margins)

    def reach(x: float, y: float) -> float:
        return math.sqrt(max(0.0, x * x - 2 * correlation * x * y + y * y))

    difference = (f - g) / n
    low = difference - reach(before.estimate - before.low, after.high - after.estimate)
    high = difference + reach(before.high - before.estimate, after.estimate - after.low)
    return Interval(difference, max(-1.0, low), min(1.0, high), confidence)


def mcnemar_exact(b: SupportsIndex, c: SupportsIndex) -> float:
    """Two-sided exact McNemar p-value of "losses and gains are equally likely"; 1.0 when no pair is discordant.

    A large p-value is not evidence of equality: use `noninferiority` to claim that nothing was lost.

    Source: Q. McNemar, Psychometrika 12 (1947) 153, conditional binomial form. By scipy.
    """
    from scipy.stats import binomtest

    lost, gained = check_count(b, "b"), check_count(c, "c")
    return 1.0 if lost + gained == 0 else float(binomtest(lost, lost + gained, 0.5).pvalue)


class Comparison(StrEnum):
    """What a non-inferiority comparison concluded."""

    NONINFERIOR = "noninferior"
    INFERIOR = "inferior"
    INCONCLUSIVE = "inconclusive"


@dataclass(frozen=True, slots=True)
class NonInferiority:
    """Outcome of `noninferiority`.

    Attributes:
        interval: the loss (b - c) / n; `low` and `high` are **each** a one-sided bound at `interval.confidence` (so together they
            are a two-sided interval of coverage 2 * confidence - 1).
        margin: largest acceptable loss, a share.
        decision: `NONINFERIOR` iff high <= margin, `INFERIOR` iff low > margin, else `INCONCLUSIVE`.
        p_noninferior: one-sided p-value of "the loss is at least the margin"; small means shown to be non-inferior. For Holm.
        p_inferior: one-sided p-value of "the loss is at most the margin"; small means shown to be inferior.
        n: pairs compared. n_required: pairs the design needs; below it the verdict is insufficient evidence, whatever the decision.
    """

    interval: Interval
    margin: float
    decision: Comparison
    p_noninferior: float
    p_inferior: float
    n: int
    n_required: int


def noninferiority(
    b: SupportsIndex,
    c: SupportsIndex,
    n: SupportsIndex,
    margin: float,
    confidence: float = 0.95,
    *,
    discordant_share: float = DISCORDANT_SHARE,
    power: float = 0.8,
) -> NonInferiority:
    """Is the paired loss (b - c) / n below `margin`? Decided on one-sided Tango bounds, never on the point estimate.

    Against the Wald bound (b - c) / n + z sqrt(b + c - (b - c)^2 / n) / n, Tango's is the more cautious where few pairs are
    discordant: n = 200, b = 16, c = 2 gives 10.9 % (Wald 10.4 %); b = 4, c = 2 gives 3.5 % (Wald 3.0 %); b = c = 0 gives 1.3 %
    (Wald claims 0 %).

    Args:
        b, c, n: as in `paired_difference`.
        margin: largest acceptable loss, a share (0.05 is five percentage points).
        confidence: one-sided, of each bound.
        discordant_share, power: with 1 - confidence they fix `n_required` (`required_n_noninferiority`).

    Raises:
        ValueError: on n = 0, impossible counts, or a share outside (0, 1).

    Source: T. Tango, Stat Med 17 (1998) 891, section 2 (test) and 3 (interval).
    """
    from scipy.stats import norm

    check_share(margin, "margin")
    lost, gained, pairs = _paired_counts(b, c, n)
    low = paired_difference(lost, gained, pairs, confidence, alternative="lower").low
    high = paired_difference(lost, gained, pairs, confidence, alternative="upper").high
    if high <= margin:
        decision = Comparison.NONINFERIOR
    elif low > margin:
        decision = Comparison.INFERIOR
    else:
        decision = Comparison.INCONCLUSIVE
    score = _tango_score(margin, lost, gained, pairs)
    return NonInferiority(
        interval=Interval((lost - gained) / pairs, low, high, confidence),
        margin=margin,
        decision=decision,
        p_noninferior=float(norm.cdf(score)),
        p_inferior=float(norm.sf(score)),
        n=pairs,
        n_required=required_n_noninferiority(margin, discordant_share, 1 - confidence, power),
    )


def paired_mean_difference(
    a: ArrayLike,
    b: ArrayLike,
    clusters: Sequence[Hashable] | None = None,
    confidence: float = 0.95,
    *,
    alternative: Alternative = "two-sided",
) -> Interval:
    """Mean of a - b over the same items, with errors clustered by item family or conversation when `clusters` is given.

    Without clusters it is the paired t interval.

    Args:
        a, b: shape (n,), finite scores of the same items in the same order.
        clusters: n cluster ids, or None.
        confidence, alternative: as in `clustered_mean`.

    Raises:
        ValueError: on unequal lengths, values that are not finite, fewer than two items or clusters.

    Source: see `clustered_mean`.
    """
    first, second = finite_vector(a, "a"), finite_vector(b, "b")
    if len(first) != len(second):
        raise ValueError(f"{len(first)} scores against {len(second)}; a paired comparison needs the same items on both sides")
    if len(first) < 2:
        raise ValueError(f"a paired comparison needs at least 2 items and there are {len(first)}")
    ids: Sequence[Hashable] = range(len(first)) if clusters is None else clusters
    return clustered_mean(np.subtract(first, second), ids, confidence, alternative=alternative)


def _paired_counts(b: SupportsIndex, c: SupportsIndex, n: SupportsIndex) -> tuple[int, int, int]:
    lost, gained, pairs = check_count(b, "b"), check_count(c, "c"), check_count(n, "n", least=1)
    if lost + gained > pairs:
        raise ValueError(f"{lost} + {gained} discordant pairs among {pairs}")
    return lost, gained, pairs


def _tango_variance(delta: float, b: int, c: int, n: int) -> float:
    """Variance of b - c under `p_b - p_c = delta`, at the constrained maximum-likelihood estimate of p_c (larger root)."""
    linear = (2 * n - b + c) * delta - b - c
    constant = -c * delta * (1 - delta)
    p_c = (math.sqrt(max(0.0, linear * linear - 8 * n * constant)) - linear) / (4 * n)
    return max(0.0, n * (2 * p_c + delta * (1 - delta)))


def _tango_score(delta: float, b: int, c: int, n: int) -> float:
    """Score statistic z(delta); it falls from +inf at delta = -1 to -inf at delta = 1."""
    distance = b - c - n * delta
    variance = _tango_variance(delta, b, c, n)
    if variance == 0:
        return 0.0 if distance == 0 else math.copysign(math.inf, distance)
    return distance / math.sqrt(variance)


def _tango_upper(b: int, c: int, n: int, z: float) -> float:
    """The delta above the estimate at which the score statistic falls to -z."""
    from scipy.optimize import brentq

    if b == n:
        return 1.0
    if b == 0 and c in (0, n):  # the variance vanishes at the estimate itself; the equation is linear and solved by hand
        return z * z / (n + z * z) if c == 0 else (z * z - n) / (n + z * z)

    # Squared, the equation has no pole at delta = 1, is negative at the estimate, positive at 1, and has one root between.
    def excess(delta: float) -> float:
        return (b - c - n * delta) ** 2 - z * z * _tango_variance(delta, b, c, n)

    # The stub's return type depends on full_output, which is off.
    root = cast(float, brentq(excess, (b - c) / n, 1.0, xtol=1e-12))
    return float(root)
