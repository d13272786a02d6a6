"""The provider's idle threshold, as the log shows it: after how many idle seconds is the first token slow?

Providers state no threshold or change it without notice. It is fitted on the time to the *first* token: total latency grows with the
answer, so a long answer would look like a cold start. Slow is what stands out from requests that certainly were warm; the probability
of being slow is then a step over the idle gap, possibly a soft one, between two levels:

    P(slow | gap) = p0 + (p1 - p0) * sigmoid((log gap - log T) / s),   s = 0 being a hard step.

T is profiled over the gaps themselves, p0 and p1 by expectation maximization, s over a short list. A provider with jitter gets a wider
interval by itself; that of a hard step alone covers too rarely there. Unrelated slow requests raise p0 and move nothing.

Source: profile likelihood, e.g. S. A. Murphy and A. W. van der Vaart, JASA 95 (2000) 449; bounds at the chi-squared quantile, outward to
the neighboring gaps. Coverage and false alarms are simulated in the tests.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import polars as pl

from ftplatform.serving.idle import Bools, Touches
from ftplatform.serving.step_likelihood import binned, profile_step, refined

#: A request is slow above this many times the warm median, and at least this many seconds above it.
SLOW_FACTOR = 3.0
SLOW_EXTRA = 1.0

#: Twice the log-likelihood ratio against "slowness does not depend on the gap" that shows a threshold. Without one the largest of 600
#: simulated logs was 15.8; ten cold starts reach more than 50.
DETECTED = 20.0

#: Requests whose median is the warm level of a moment; they are taken from the quarter with the shortest gaps.
_WARM_WINDOW = 201
_MIN_REQUESTS = 20


@dataclass(frozen=True, slots=True)
class Threshold:
    """Idle seconds after which an adapter is unloaded; the bounds are equal for one that was declared.

    Attributes:
        seconds: the gap at which half of the cold starts to be have set in.
        low, high: bounds in seconds.
        fitted: whether it comes from the log.
        softness: of the step, in log gap; 0 is a hard step.
    """

    seconds: float
    low: float
    high: float
    fitted: bool = True
    softness: float = 0.0

    @property
    def safe_gap(self) -> float:
        """Idle seconds that are warm with a margin: .8 of where, at the lower bound, a tenth of the cold starts would have set in."""
        return 0.8 * self.low * math.exp(-math.log(9) * self.softness)


@dataclass(frozen=True, slots=True)
class Fit:
    """What the log says of the threshold.

    Attributes:
        threshold: None if slowness does not depend on the gap.
        evidence: twice the log-likelihood ratio against no threshold.
        slow_when_warm, slow_when_cold: shares of slow requests on both sides, p0 and p1.
        shorter, longer: gaps on each side of the threshold.
        gaps: requests with a known gap and time to first token.
        longest: the longest gap, seconds.
        slow: per touch of the log, whether it was slow; False where the log does not say.
    """

    threshold: Threshold | None
    evidence: float
    slow_when_warm: float
    slow_when_cold: float
    shorter: int
    longer: int
    gaps: int
    longest: float
    slow: Bools


def declared(seconds: float) -> Threshold:
    """A threshold that the provider or the operator states."""
    return Threshold(seconds, seconds, seconds, fitted=False)


def known_threshold(log: Touches, stated: float | None, *, confidence: float = 0.95, min_side: int = 20) -> Threshold | None:
    """The threshold to plan with: the one the log shows, if enough gaps lie on both sides of it, else the stated one, else a first fit."""
    fit = fit_threshold(log, confidence=confidence)
    if fit.threshold is not None and (stated is None or min(fit.shorter, fit.longer) >= min_side):
        return fit.threshold
    return None if stated is None else declared(stated)


def slow_requests(log: Touches) -> Bools:
    """Requests whose first token took far longer than that of warm requests around that time; total latency is not looked at."""
    known = ~np.isnan(log.first_token) & ~np.isnan(log.idle)
    slow = np.zeros(len(log), dtype=bool)
    if known.sum() < _MIN_REQUESTS:
        return slow
    shortest = np.quantile(log.idle[known], 0.25)
    warm = np.flatnonzero(known & (log.idle <= shortest))
    warm = warm[np.argsort(log.start[warm], kind="stable")]
    level = pl.Series(log.first_token[warm]).rolling_median(_WARM_WINDOW, min_samples=1, center=True).to_numpy()
    nearest = np.searchsorted(log.start[warm], log.start).clip(0, len(warm) - 1)
    usual = level[nearest]
    slow[known] = (log.first_token > np.maximum(SLOW_FACTOR * usual, usual + SLOW_EXTRA))[known]
    return slow


def fit_threshold(log: Touches, *, confidence: float = 0.95, among: Bools | None = None) -> Fit:
    """Fit the idle threshold.

    Args:
        log: requests of users and pings; both tell.
        confidence: coverage of the bounds.
        among: mask of the requests to use, e.g. those of a window of time; all by default.
    """
    from scipy.stats import chi2

    slow = slow_requests(log)
    usable = ~np.isnan(log.first_token) & (log.idle > 0) & (among if among is not None else True)
    order = np.argsort(log.idle[usable], kind="stable")
    gaps, hits = log.idle[usable][order], slow[usable][order]
    longest = float(gaps[-1]) if len(gaps) else 0.0

    def fit(threshold: Threshold | None, evidence: float, levels: tuple[float, float]) -> Fit:
        shorter = len(gaps) if threshold is None else int((gaps <= threshold.seconds).sum())
        return Fit(threshold, evidence, *levels, shorter, len(gaps) - shorter, len(gaps), longest, slow)

    rate = float(hits.mean()) if len(gaps) else 0.0
    if len(gaps) < _MIN_REQUESTS or not hits.any() or hits.all() or gaps[0] == longest:
        return fit(None, 0.0, (rate, rate))
    first = profile_step(*binned(gaps, hits))
    profile = profile_step(*refined(gaps, hits, float(first.gap[first.best])))
    null = len(gaps) * (_xlogy(rate, rate) + _xlogy(1 - rate, 1 - rate))
    evidence = 2 * (float(profile.likelihood[profile.best]) - null)
    cold, warm = profile.cold[profile.best], profile.warm[profile.best]
    if evidence < DETECTED or cold - warm < 0.2:
        return fit(None, evidence, (rate, rate))
    inside = np.flatnonzero(2 * (profile.likelihood[profile.best] - profile.likelihood) <= chi2.ppf(confidence, 1))
    threshold = Threshold(
        float(profile.gap[profile.best]),
        float(profile.edges[inside.min()]),
        float(profile.edges[inside.max() + 1]),
        softness=float(profile.softness[profile.best]),
    )
    return fit(threshold, evidence, (float(warm), float(cold)))


def _xlogy(x: float, y: float) -> float:
    return x * math.log(y) if x else 0.0


@dataclass(frozen=True, slots=True)
class Shrinkage:
    """How the threshold of a recent window compares with that of the time before.

    `ratio` is recent over earlier with bounds `low` and `high`; an adapter is unloaded sooner if it is below 1.
    """

    earlier: Fit
    recent: Fit
    ratio: float
    low: float
    high: float
    recent_days: float


def shrinkage(log: Touches, *, recent_days: float = 7.0, confidence: float = 0.95) -> Shrinkage | None:
    """Compare the last `recent_days` (or the later half of a shorter log) with the time before; None if either shows no threshold.

    Bounds of the ratio from those of both fits, on the log scale (G. Y. Zou and A. Donner, Stat Med 27 (2008) 1693).
    """
    days = min(recent_days, log.days / 2)
    since = log.start.max() - 86_400 * days if len(log) else 0.0
    recent = fit_threshold(log, confidence=confidence, among=log.start > since)
    earlier = fit_threshold(log, confidence=confidence, among=log.start <= since)
    new, old = recent.threshold, earlier.threshold
    if new is None or old is None:
        return None
    d = math.log(new.seconds / old.seconds)
    low = d - math.hypot(math.log(new.seconds / new.low), math.log(old.high / old.seconds))
    high = d + math.hypot(math.log(new.high / new.seconds), math.log(old.seconds / old.low))
    return Shrinkage(earlier, recent, math.exp(d), math.exp(low), math.exp(high), days)
