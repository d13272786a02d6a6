"""Expected cold starts of an endpoint, by hour of the week: how often is a request the first after the adapter was unloaded?

A daily mean says never: it spreads the night's few requests over the day. So the probability is that of each hour. With enough gaps it
is their share beyond the threshold, which needs no assumption about bursts; with few it is exp(-rate * threshold), the chance that a
Poisson stream pauses that long. Gap histograms per function as the
better policy than one rate or one time-out: M. Shahrad et al., Serverless in the Wild, USENIX ATC 2020.

Several replicas are colder than one: with R of them behind a balancer that picks at random, each sees a share 1/R of the traffic. The
probability that a request finds the one it is sent to unloaded is then (1 - 1/R)^N, N being the requests within the threshold.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl
import pyarrow as pa

from ftplatform.serving.idle import Bools, Floats, Integers, Touches, recent_touches, touches
from ftplatform.serving.idle_threshold import Threshold
from ftplatform.serving.traffic import HOURS, hour_of_week, hours_of, poisson_bounds
from ftplatform.statistics import Interval

#: Gaps in an hour from which their own distribution is used.
MIN_GAPS = 50

#: Full days from which the day-to-day variation can be estimated.
_MIN_DAYS = 7


@dataclass(frozen=True, slots=True)
class ColdStarts:
    """Cold starts that a log leads to expect.

    Attributes:
        hours: one row per hour of the week: the columns of `traffic.hour_of_week`, and p_cold (a user's request is cold) with bounds
            p_low and p_high, tier ("gaps" or "rate"), and expected cold starts per week. Null where the hour has no user's request.
        per_day: expected cold starts a day.
        share: expected share of users' requests that are cold.
        seen: cold starts that the gaps of the log itself make, in all.
        days: length of the log.
        requests: users' requests with a known gap.
        threshold: the idle threshold used.
        replicas: copies of the adapter behind the endpoint.
    """

    hours: pa.Table
    per_day: Interval
    share: Interval
    seen: float
    days: float
    requests: int
    threshold: Threshold
    replicas: int


def expected_cold_starts(
    requests: pa.Table,
    threshold: Threshold,
    *,
    replicas: int = 1,
    timezone: str = "UTC",
    confidence: float = 0.95,
    hour_confidence: float | None = None,
    pings: bool = True,
) -> ColdStarts | None:
    """Expected cold starts a day and by hour of the week; None without two requests of one adapter.

    The interval of the day covers the counting error, the variation between days where there are seven or more of them, and the
    interval of the threshold. It is a Poisson interval: cold starts are counts that lie at least a threshold apart.

    Args:
        requests: table of `REQUEST_SCHEMA`.
        replicas: copies of the adapter that requests are spread over at random.
        timezone: IANA name; hours of the week are local.
        confidence: of the day's interval.
        hour_confidence: of each hour's bounds, `confidence` by default; raise it where many hours are judged together.
        pings: whether the pings of the log keep warm, as they did; False gives what would be without them.
    """
    log = touches(requests, pings=pings)
    if not log.user.any() or log.days <= 0:
        return None
    profile = pl.DataFrame(pl.from_arrow(hour_of_week(requests, timezone=timezone, confidence=confidence)))
    hour = hours_of(log.start, timezone)
    exposure = profile["exposure"].to_numpy()
    estimates = [_by_hour(log, hour, exposure, seconds, replicas) for seconds in (threshold.seconds, threshold.high, threshold.low)]
    middle, fewest, most = estimates
    bound = _hour_bounds(fewest, most, exposure, replicas, hour_confidence or confidence)
    colds = np.where(exposure > 0, middle.colds / np.maximum(exposure, 1e-9), 0.0)
    table = profile.with_columns(
        p_cold=_shown(middle.share, middle.requests),
        p_low=_shown(bound[0], middle.requests),
        p_high=_shown(bound[1], middle.requests),
        tier=pl.Series(np.where(middle.by_gaps, "gaps", "rate")),
        expected_per_week=pl.Series(colds),
    )
    cold = _cold(log, threshold.seconds, replicas)
    spread = _dispersion(log, colds, cold, timezone)
    per_day = _per_day([float(e.colds.sum()) for e in estimates], log.days, confidence, spread)
    daily = int(log.user.sum()) / log.days
    share = Interval(per_day.estimate / daily, min(1.0, per_day.low / daily), min(1.0, per_day.high / daily), confidence)
    seen = float(cold[log.user].sum())
    return ColdStarts(table.to_arrow(), per_day, share, seen, log.days, int(log.user.sum()), threshold, replicas)


def naive_mean_rate(requests: pa.Table, threshold: float) -> float:
    """Cold starts a day as one mean rate for the whole log has them; shown beside the real ones, since dashboards compute it."""
    log = touches(requests, pings=False)
    if log.days <= 0:
        return 0.0
    per_second = len(log) / (log.days * 86_400)
    return per_second * 86_400 * float(np.exp(-per_second * threshold))


def _cold(log: Touches, threshold: float, replicas: int) -> Floats:
    """Probability of each request to be cold, given the requests before it: 0 or 1 with one replica."""
    if replicas == 1:
        return (log.idle > threshold).astype(np.float64)
    return (1 - 1 / replicas) ** recent_touches(log, threshold).astype(np.float64)


@dataclass(frozen=True, slots=True)
class _Hourly:
    """Cold starts by hour of the week at one threshold.

    Attributes:
        requests, colds, share: by hour: users' requests, cold ones among them as expected, and their share.
        by_gaps: by hour: whether the gaps themselves were counted, not the rate.
        cell_hour, counts: by adapter and hour, where there is any request: the hour, and users' requests.
        window: seconds that a stream has to pause for a cold start.
    """

    requests: Floats
    colds: Floats
    share: Floats
    by_gaps: Bools
    cell_hour: Integers
    counts: Floats
    window: float


def _by_hour(log: Touches, hour: Integers, exposure: Floats, threshold: float, replicas: int) -> _Hourly:
    user = log.user
    requests = np.bincount(hour[user], minlength=HOURS).astype(np.float64)
    cold = np.bincount(hour[user], _cold(log, threshold, replicas)[user], HOURS)
    pinged = np.bincount(hour[log.is_ping], minlength=HOURS) > 0
    # Pings come at fixed times: where they are sent, only the gaps themselves tell.
    by_gaps = (requests >= MIN_GAPS) | pinged
    # The pause has to outlast the answer before it as well.
    window = threshold + float(np.mean((log.free - log.start).clip(min=0.0)))
    # Only cells with requests: a log may name as many adapters as it has lines.
    cells, counted = np.unique((log.adapter * HOURS + hour)[user], return_counts=True)
    cell_hour, counts = cells % HOURS, counted.astype(np.float64)
    rate = counts / np.maximum(exposure[cell_hour], 1e-9) / 3600 / replicas
    by_rate = np.bincount(cell_hour, counts * np.exp(-rate * window), HOURS)
    colds = np.where(by_gaps, cold, by_rate)
    return _Hourly(requests, colds, colds / np.maximum(requests, 1), by_gaps, cell_hour, counts, window)


def _hour_bounds(fewest: _Hourly, most: _Hourly, exposure: Floats, replicas: int, confidence: float) -> tuple[Floats, Floats]:
    """Bounds of the probability by hour: Wilson's on the gaps, or those of the rate, weighted by adapter."""
    gap_low, _ = wilson_bounds(fewest.share, fewest.requests, confidence)
    _, gap_high = wilson_bounds(most.share, most.requests, confidence)
    at, counts = most.cell_hour, most.counts
    rate_low, rate_high = poisson_bounds(counts, confidence)
    seconds = np.maximum(exposure[at], 1e-9) * 3600 * replicas
    low = np.bincount(at, counts * np.exp(-rate_high / seconds * fewest.window), HOURS) / np.maximum(most.requests, 1)
    high = np.bincount(at, counts * np.exp(-rate_low / seconds * most.window), HOURS) / np.maximum(most.requests, 1)
    return np.where(fewest.by_gaps, gap_low, low), np.where(most.by_gaps, gap_high, high)


def wilson_bounds(share: Floats, n: Floats, confidence: float) -> tuple[Floats, Floats]:
    """Wilson's score bounds of many shares at once; `statistics.wilson` is the same for one whole count."""
    from scipy.stats import norm

    z = float(norm.ppf((1 + confidence) / 2))
    size = np.maximum(n, 1.0)
    center = (share + z * z / (2 * size)) / (1 + z * z / size)
    half = z / (1 + z * z / size) * np.sqrt(share * (1 - share) / size + z * z / (4 * size * size))
    return (center - half).clip(0, 1), (center + half).clip(0, 1)


def _dispersion(log: Touches, per_hour: Floats, cold: Floats, timezone: str) -> float:
    """How much more than Poisson counts the cold starts of the days differ from what their hours lead to expect; at least 1."""
    days = int(log.days)
    if days < _MIN_DAYS:
        return 1.0
    origin = float(log.start.min())
    day = ((log.start - origin) // 86_400).astype(np.int64)
    seen = np.bincount(day[log.user], cold[log.user], days + 1)[:days]
    # What each day should have: its hours, whatever weekday and hour it begins with.
    clock = hours_of(origin + 3600.0 * np.arange(24 * days, dtype=np.float64), timezone)
    expected = per_hour[clock].reshape(days, 24).sum(axis=1)
    usable = expected > 0
    if usable.sum() < _MIN_DAYS:
        return 1.0
    return max(1.0, float(((seen - expected)[usable] ** 2 / expected[usable]).sum() / (usable.sum() - 1)))


def _per_day(totals: list[float], days: float, confidence: float, dispersion: float) -> Interval:
    middle, fewest, most = totals
    low, _ = poisson_bounds(np.array([fewest]), confidence, dispersion)
    _, high = poisson_bounds(np.array([most]), confidence, dispersion)
    return Interval(middle / days, float(low[0]) / days, float(high[0]) / days, confidence)


def _shown(values: Floats, requests: Floats) -> pl.Series:
    return pl.Series(np.where(requests > 0, values, np.nan)).fill_nan(None)
