"""Confidence intervals of a single quantity: proportions, means of clustered observations, the next replicate.

One-sided intervals (`alternative="upper"` or `"lower"`) put all of the error on one side and leave the other bound at the end of
the parameter's range. A check that says "at most x" wants `upper`; one that raises an alarm wants `lower`.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Literal, SupportsIndex

import numpy as np
from numpy.typing import ArrayLike, NDArray

Alternative = Literal["two-sided", "upper", "lower"]

# scipy names the alternative hypothesis: "less" bounds the parameter from above.
_SCIPY_ALTERNATIVE = {"two-sided": "two-sided", "upper": "less", "lower": "greater"}


@dataclass(frozen=True, slots=True)
class Interval:
    """A point estimate with its confidence bounds, all in the unit of the estimate.

    `confidence` is the coverage as a share (0.95). A bound that a one-sided interval leaves open is the end of the parameter's
    range: 0 or 1 for a proportion, -1 or 1 for a difference of proportions, an infinity for a mean.
    """

    estimate: float
    low: float
    high: float
    confidence: float


def wilson(
    successes: SupportsIndex, n: SupportsIndex, confidence: float = 0.95, *, alternative: Alternative = "two-sided"
) -> Interval:
    """Wilson score interval of a binomial proportion: mean coverage close to nominal, the default for rates.

    Args:
        successes: count of successes, 0 to `n`.
        n: independent trials, at least 1.
        confidence: coverage, between 0 and 1 (exclusive).
        alternative: "two-sided", or "upper" / "lower" for one bound at the full error rate.

    Raises:
        ValueError: on counts or a confidence out of range, `n` = 0 included (no data has no interval; it is insufficient evidence).

    Source: E. B. Wilson, JASA 22 (1927) 209; recommended by R. G. Newcombe, Stat Med 17 (1998) 857, method 3. By scipy.
    """
    return _binomial(successes, n, confidence, alternative, "wilson")


def exact(
    successes: SupportsIndex, n: SupportsIndex, confidence: float = 0.95, *, alternative: Alternative = "two-sided"
) -> Interval:
    """Clopper-Pearson interval of a binomial proportion: coverage never below nominal, wider than `wilson`.

    For promises ("at most 1 % defects"), where the guarantee matters more than the width. Arguments and errors as in `wilson`.

    Source: C. Clopper and E. S. Pearson, Biometrika 26 (1934) 404. By scipy.
    """
    return _binomial(successes, n, confidence, alternative, "exact")


def t_prediction_interval(values: ArrayLike, confidence: float = 0.95) -> Interval:
    """Interval that holds the next single observation, given k earlier ones: mean +- t(k-1) s sqrt(1 + 1/k).

    For "is this run like the k replays of it?". Assumes independent, normally distributed values; with k = 2 or 3 it is wide, as it
    must be.

    Args:
        values: shape (k,), k at least 2, finite, any unit.
        confidence: probability that the next value falls inside.

    Raises:
        ValueError: on fewer than two values or on a value that is not finite.

    Source: G. J. Hahn and W. Q. Meeker, Statistical Intervals (1991), section 4.7.
    """
    from scipy.stats import t

    check_share(confidence, "confidence")
    sample = finite_vector(values, "values")
    k = len(sample)
    if k < 2:
        raise ValueError(f"a prediction interval needs at least 2 values and there are {k}")
    mean = float(sample.mean())
    half = float(t.ppf((1 + confidence) / 2, k - 1)) * float(sample.std(ddof=1)) * math.sqrt(1 + 1 / k)
    return Interval(mean, mean - half, mean + half, confidence)


def clustered_mean(
    values: ArrayLike, clusters: Sequence[Hashable], confidence: float = 0.95, *, alternative: Alternative = "two-sided"
) -> Interval:
    """Mean of observations that are dependent inside clusters (turns of a conversation, paraphrases of an item).

    Cluster-robust (CR1) standard error and Student t with G - 1 degrees of freedom, G clusters. With clusters of one observation
    each this is the ordinary t interval. Assumes independent clusters; below about 10 of them coverage falls short of nominal.

    Args:
        values: shape (n,), finite, any unit.
        clusters: n cluster ids. None means "belongs to no cluster" and counts as a cluster of its own.
        confidence: coverage.
        alternative: as in `wilson`; the open bound is infinite.

    Raises:
        ValueError: on unequal lengths, values that are not finite, or fewer than two clusters.

    Source: A. C. Cameron and D. L. Miller, J. Human Resources 50 (2015) 317, equations 11 and 12; for model evaluations
    E. Miller, arXiv 2411.00640 (2024), section 2.2.
    """
    from scipy.stats import t

    check_share(confidence, "confidence")
    sample = finite_vector(values, "values")
    codes = cluster_codes(clusters)
    if len(codes) != len(sample):
        raise ValueError(f"{len(sample)} values and {len(codes)} cluster ids; give one id for each value")
    n_clusters = int(codes.max()) + 1 if len(codes) else 0
    if n_clusters < 2:
        raise ValueError(f"a clustered mean needs at least 2 clusters and there are {n_clusters}")
    n = len(sample)
    mean = float(sample.mean())
    sums = np.bincount(codes, weights=sample - mean, minlength=n_clusters)
    error = math.sqrt(n_clusters / (n_clusters - 1) * float(sums @ sums)) / n
    tail = (1 + confidence) / 2 if alternative == "two-sided" else confidence
    half = float(t.ppf(tail, n_clusters - 1)) * error
    return Interval(
        mean,
        -math.inf if alternative == "upper" else mean - half,
        math.inf if alternative == "lower" else mean + half,
        confidence,
    )


def cluster_codes(clusters: Sequence[Hashable]) -> NDArray[np.intp]:
    """Ids as integers 0 .. G-1 in order of first appearance, shape (n,); every None gets an integer of its own."""
    seen: dict[Hashable, int] = {}
    codes = np.empty(len(clusters), dtype=np.intp)
    for i, cluster in enumerate(clusters):
        # A tuple of a fresh object is equal to nothing else, so that a missing id never joins another.
        codes[i] = seen.setdefault((object(),) if cluster is None else cluster, len(seen))
    return codes


def check_share(value: float, name: str) -> None:
    """Raise ValueError unless 0 < value < 1."""
    if not 0 < value < 1:
        raise ValueError(f"{name} is {value}; it must lie between 0 and 1, both excluded")


def check_count(value: SupportsIndex, name: str, *, least: int = 0) -> int:
    """`value` as an int of at least `least`; ValueError otherwise."""
    count = operator.index(value)
    if count < least:
        raise ValueError(f"{name} is {count}; it must be at least {least}")
    return count


def finite_vector(values: ArrayLike, name: str) -> NDArray[np.float64]:
    """`values` as a float vector; ValueError on another shape or on NaN and infinities."""
    vector = np.asarray(values, dtype=np.float64)
    if vector.ndim != 1:
        raise ValueError(f"{name} has shape {vector.shape}; one dimension is needed")
    if not np.isfinite(vector).all():
        raise ValueError(f"{name}[{int(np.flatnonzero(~np.isfinite(vector))[0])}] is not a finite number")
    return vector


def _binomial(
    successes: SupportsIndex, n: SupportsIndex, confidence: float, alternative: Alternative, method: Literal["wilson", "exact"]
) -> Interval:
    from scipy.stats import binomtest

    check_share(confidence, "confidence")
    trials = check_count(n, "n", least=1)
    hits = check_count(successes, "successes")
    if hits > trials:
        raise ValueError(f"{hits} successes in {trials} trials")
    bounds = binomtest(hits, trials, alternative=_SCIPY_ALTERNATIVE[alternative]).proportion_ci(confidence, method)
    return Interval(hits / trials, float(bounds.low), float(bounds.high), confidence)
