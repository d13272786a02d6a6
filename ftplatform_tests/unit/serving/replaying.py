"""A pinger that is followed event by event: slow, obvious, and what the vectorized replay has to equal."""

from __future__ import annotations

import datetime
import zoneinfo
from collections.abc import Sequence

from ftplatform.serving.keep_warm import Plan


def exhaustive(times: Sequence[float], plan: Plan, threshold: float, *, timezone: str = "UTC") -> tuple[int, int]:
    """Pings sent and cold requests of one adapter under a plan.

    Args:
        times: requests, seconds since 1970, ascending; the log ends with the last.
    """
    zone = zoneinfo.ZoneInfo(timezone)

    def planned(at: float) -> bool:
        local = datetime.datetime.fromtimestamp(at, zone)
        return local.weekday() * 24 + local.hour in plan.hours

    pings = colds = 0
    last = times[0]
    for request in times[1:]:
        due = last + plan.period
        while due < request:
            if planned(due):
                pings += 1
                last = due
                due = last + plan.period
            else:
                # The timer has run out: the ping is sent when the next planned hour begins.
                due = (due // 900 + 1) * 900
        colds += request - last > threshold
        last = request
    return pings, colds
