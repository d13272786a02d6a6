"""Which keep-warm plan is the cheapest, and what it saves."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from ftplatform.serving.idle import Integers, touches
from ftplatform.serving.keep_warm import ALL_HOURS, Costs, Gaps, Plan, Replay, gaps_of, replay
from ftplatform.serving.traffic import HOURS, hours_of
from ftplatform.statistics import Interval

#: Stretches of time that the saving is averaged over; days where there are enough of them.
_MIN_BLOCKS = 6
_BLOCKS = 12

#: Pings whose hours are counted; a year of one a minute is half a million.
_MAX_PINGS = 20_000_000


@dataclass(frozen=True, slots=True)
class Recommendation:
    """The plan to follow and what it does.

    Attributes:
        replays: what every class of plan would have cost, by name; `none` is among them.
        chosen: name of the cheapest.
        saving_per_day: saving of the chosen plan against `none`, with its interval; an interval of nothing for `none` itself.
        costs: what the choice was made at.
    """

    replays: Mapping[str, Replay]
    chosen: str
    saving_per_day: Interval | None
    costs: Costs

    @property
    def plan(self) -> Plan:
        """The cheapest plan."""
        return self.replays[self.chosen].plan


def recommend(
    requests: pa.Table,
    threshold: float,
    period: float,
    costs: Costs,
    *,
    user_hours: Collection[int] | None = None,
    timezone: str = "UTC",
    confidence: float = 0.95,
) -> Recommendation:
    """Replay every class of plan and choose the cheapest: no pings, always, in the hours of users only, or in the hours that pay.

    A longer period sends fewer pings and saves the same until it reaches the threshold, so one period is enough: the longest safe one
    (`Threshold.safe_gap`). The hours that pay are chosen on the log they are judged on, which flatters them a little.

    Args:
        period: idle seconds between pings, at most `threshold`.
        user_hours: hours of the week in which users matter; by default those that have any request.
    """
    log = touches(requests, pings=False)
    users = frozenset(user_hours) if user_hours is not None else frozenset(np.unique(hours_of(log.start, timezone)).tolist())
    gaps = gaps_of(log).longer_than(min(period, threshold))
    plans = [
        Plan("none", period, frozenset()),
        Plan("always", period),
        Plan("user hours", period, users),
        Plan("paying hours", period, _paying_hours(gaps, threshold, period, costs, timezone)),
    ]
    replays = {plan.name: replay(gaps, plan, threshold, timezone=timezone) for plan in plans}
    # Of equally cheap plans (but for rounding) the simplest: they stand in that order.
    cost = {name: found.cost_per_day(costs) for name, found in replays.items()}
    chosen = next(name for name in replays if cost[name] <= min(cost.values()) * (1 + 1e-9))
    return Recommendation(replays, chosen, saving(replays["none"], replays[chosen], costs, confidence=confidence), costs)


def saving(without: Replay, plan: Replay, costs: Costs, *, confidence: float = 0.95) -> Interval | None:
    """Mean saving a day of a plan, with a t interval over days, or over equal parts of a shorter log; None if it is too short.

    Gaps are counted where they end. Parts shorter than a few gaps would not be independent: there are at most a third as many as gaps.
    """
    from ftplatform.statistics import clustered_mean

    gaps = without.gaps
    worth = (without.cold.astype(np.float64) - plan.cold) * costs.cold_start - (plan.pings - without.pings) * costs.ping
    days = int(gaps.days)
    blocks = days if days >= _MIN_BLOCKS else min(_BLOCKS, gaps.count // 3)
    if blocks < _MIN_BLOCKS:
        return None
    first, last = gaps.span
    block = np.minimum(((gaps.end - first) / max(last - first, 1e-9) * blocks).astype(np.int64), blocks - 1)
    per_day = np.bincount(block, worth, blocks) * blocks / gaps.days
    return clustered_mean(per_day, list(range(blocks)), confidence)


def _paying_hours(gaps: Gaps, threshold: float, period: float, costs: Costs, timezone: str) -> frozenset[int]:
    """Hours of the week in which pinging saves more than it costs: begun with all, each dropped while the log is cheaper without it.

    Hours are dropped from the most wasteful on, judged by the replay as a whole, since what is pinged in one hour warms the next.
    """

    def cost(hours: frozenset[int]) -> float:
        return replay(gaps, Plan("", period, hours), threshold, timezone=timezone).cost_per_day(costs)

    everywhere = replay(gaps, Plan("always", period), threshold).pings
    if everywhere.sum() > _MAX_PINGS:
        return ALL_HOURS  # a threshold of a fraction of a second over years: no plan anybody would follow
    nothing = replay(gaps, Plan("none", period, frozenset()), threshold).cold
    sent = np.repeat(gaps.begin, everywhere) + period * _counted(everywhere)
    spent = np.bincount(hours_of(sent, timezone), minlength=HOURS) * costs.ping
    saved = np.bincount(hours_of(gaps.end[nothing], timezone), minlength=HOURS) * costs.cold_start
    kept = set(np.flatnonzero(spent + saved > 0).tolist())
    best = cost(frozenset(kept))
    for hour in sorted(kept, key=lambda h: saved[h] - spent[h]):
        without = cost(frozenset(kept - {hour}))
        if without < best:
            best, kept = without, kept - {hour}
    return frozenset(kept)


def _counted(counts: Integers) -> Integers:
    """1 .. n for each n of `counts`, one after the other."""
    ends = np.cumsum(counts)
    return np.arange(1, ends[-1] + 1 if len(ends) else 1) - np.repeat(ends - counts, counts)
