"""Keeping an adapter warm: what a plan of pings costs and saves, by replaying the log as if it had been followed.

The pinger of a plan is a timer: during the plan's hours, when an adapter has been idle for `period` seconds, it sends a ping, and so on
until the next request. What it would have sent and which requests would still have been cold follows from the log exactly, gap by gap;
nothing is simulated. We control traffic, not the provider: pings are all there is to plan.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from ftplatform.serving.idle import Bools, Floats, Integers, Touches, touches
from ftplatform.serving.traffic import HOURS, hours_of

ALL_HOURS = frozenset(range(HOURS))


@dataclass(frozen=True, slots=True, kw_only=True)
class Costs:
    """What a ping and a cold start cost, in one currency; a cold start at what a user's wait is worth to whoever decides."""

    ping: float
    cold_start: float


@dataclass(frozen=True, slots=True)
class Plan:
    """When to ping.

    Attributes:
        name: the class of the plan: `none`, `always`, `user hours`, `paying hours`.
        period: idle seconds after which a ping is sent.
        hours: hours of the week in which pings are sent.
    """

    name: str
    period: float
    hours: frozenset[int] = ALL_HOURS


@dataclass(frozen=True, slots=True)
class Gaps:
    """Stretches in which adapters were idle; arrays of one length, seconds since 1970.

    Attributes:
        begin, end: when an adapter fell idle, and until when.
        asked: whether a request ended the gap; the last gap of an adapter ends with the log.
        days: length of the log.
        count: gaps that a request ended, those left out included.
        span: the first and the last moment of the log.
    """

    begin: Floats
    end: Floats
    asked: Bools
    days: float
    count: int
    span: tuple[float, float]

    def longer_than(self, seconds: float) -> Gaps:
        """Only the gaps longer than that: what is shorter than period and threshold has neither pings nor cold starts."""
        kept = self.end - self.begin > seconds
        return Gaps(self.begin[kept], self.end[kept], self.asked[kept], self.days, self.count, self.span)


def gaps_of(log: Touches) -> Gaps:
    """The gaps of a log between its requests, whosever they are."""
    known = ~np.isnan(log.idle)
    start = log.start[known]
    final = np.append(log.adapter[1:] != log.adapter[:-1], True) if len(log) else np.zeros(0, dtype=bool)
    span = (float(log.start.min()), float(log.start.max())) if len(log) else (0.0, 0.0)
    begin = np.concatenate([start - log.idle[known], np.minimum(log.free[final], span[1])])
    end = np.concatenate([start, np.full(int(final.sum()), span[1])])
    return Gaps(begin, end, np.arange(len(end)) < len(start), max(log.days, 1e-9), len(start), span)


@dataclass(frozen=True, slots=True)
class Replay:
    """What a log would have been under a plan; arrays have one entry per gap.

    Attributes:
        plan: the plan.
        gaps: the gaps between requests of users.
        pings: pings sent in each gap.
        loads: pings among them that found the adapter unloaded: they load it while nobody waits.
        cold: whether the request that ends the gap is cold; False at the end of the log.
    """

    plan: Plan
    gaps: Gaps
    pings: Integers
    loads: Integers
    cold: Bools

    @property
    def cold_starts_per_day(self) -> float:
        return float(self.cold.sum()) / self.gaps.days

    @property
    def pings_per_day(self) -> float:
        return float(self.pings.sum()) / self.gaps.days

    def cost_per_day(self, costs: Costs) -> float:
        """Pings and users' cold starts a day at their costs."""
        return self.pings_per_day * costs.ping + self.cold_starts_per_day * costs.cold_start


def replay(requests: pa.Table | Gaps, plan: Plan, threshold: float, *, timezone: str = "UTC") -> Replay:
    """Replay a log under a plan; pings that are in the log are taken out first.

    Args:
        requests: table of `REQUEST_SCHEMA`, or the gaps between its users' requests.
        threshold: idle seconds after which the adapter is unloaded.
        timezone: in which the plan's hours are meant.
    """
    gaps = requests if isinstance(requests, Gaps) else gaps_of(touches(requests, pings=False))
    begin, end = gaps.begin, gaps.end
    opens, closes = windows(plan.hours, *gaps.span, timezone)
    pings = np.zeros(len(begin), dtype=np.int64)
    loads = np.zeros(len(begin), dtype=np.int64)
    last = begin.copy()
    window = np.searchsorted(closes, begin, side="right")
    active = np.flatnonzero((window < len(opens)) & (end - begin > plan.period))
    # A gap may run through several windows: each round does the next one of every gap at once.
    while len(active):
        w = window[active]
        first = np.maximum(opens[w], last[active] + plan.period)
        until = np.minimum(end[active], closes[w])
        count = np.maximum(np.ceil((until - first) / plan.period), 0).astype(np.int64)
        sent = active[count > 0]
        first, count = first[count > 0], count[count > 0]
        pings[sent] += count
        # Later ones of a run follow each other by a period, the first one by whatever the closed hours left.
        loads[sent] += (first - last[sent] > threshold) + (count - 1) * (plan.period > threshold)
        last[sent] = first + (count - 1) * plan.period
        window[active] += 1
        active = active[window[active] < len(opens)]
        active = active[opens[window[active]] < end[active]]
    return Replay(plan, gaps, pings, loads, (end - last > threshold) & gaps.asked)


def as_sent(requests: pa.Table, threshold: float) -> Replay:
    """The log as it was, its own pings included, in the form of a replay: gaps are those between requests of users.

    Pings that no request of their adapter follows are counted at the end of the log.
    """
    users, log = touches(requests, pings=False), touches(requests)
    gaps = gaps_of(users)
    known = ~np.isnan(users.idle)
    # Both are sorted by adapter and time, so the requests of users stand in the same order in either.
    cold = np.append((log.idle[~log.is_ping] > threshold)[known], np.zeros(int((~gaps.asked).sum()), dtype=bool))
    following = np.cumsum(~log.is_ping)[log.is_ping]
    adapter = np.array(log.names)[log.adapter[log.is_ping]]
    asked = np.append(np.array(users.names, dtype=adapter.dtype)[users.adapter], "\0")
    gap = np.where(asked[following] == adapter, np.append(np.cumsum(known) - known, 0)[following], len(cold) - 1)
    inside = gap >= 0
    pings = np.bincount(gap[inside], minlength=len(cold))
    loads = np.bincount(gap[inside], (log.idle > threshold)[log.is_ping][inside], minlength=len(cold)).astype(np.int64)
    return Replay(Plan("as sent", float("nan")), gaps, pings, loads, cold)


def windows(hours: Collection[int], begin: float, end: float, timezone: str = "UTC") -> tuple[Floats, Floats]:
    """Stretches of time that the plan's hours make between two moments: when they open and close, seconds since 1970."""
    if not hours or not begin <= end:
        return np.zeros(0), np.zeros(0)
    if len(set(hours)) == HOURS:
        return np.array([-np.inf]), np.array([np.inf])
    # Quarters of an hour: some time zones are shifted by half or three quarters of one.
    quarters = np.arange(np.floor(begin / 900), np.floor(end / 900) + 1) * 900.0
    planned = np.isin(hours_of(quarters, timezone), list(hours))
    edges = np.diff(np.concatenate([[False], planned, [False]]).astype(np.int8))
    limits = np.append(quarters, quarters[-1] + 900.0)
    return limits[edges == 1], limits[edges == -1]
