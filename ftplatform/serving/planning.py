"""What a request log leads to, as plain facts: threshold, expected cold starts, and the plan that keeps the adapter warm."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import pyarrow as pa

from ftplatform.serving.cold_start import expected_cold_starts
from ftplatform.serving.idle_threshold import Threshold
from ftplatform.serving.keep_warm import Costs
from ftplatform.serving.plan_choice import recommend
from ftplatform.serving.traffic import hour_ranges
from ftplatform.statistics import Interval


def keep_warm_facts(
    requests: pa.Table,
    threshold: Threshold | None,
    costs: tuple[float, float] | None,
    *,
    replicas: int = 1,
    user_hours: Collection[int] | None = None,
    timezone: str = "UTC",
) -> dict[str, Any]:
    """JSON-able facts of a request log.

    Args:
        requests: table of `REQUEST_SCHEMA`.
        threshold: the idle threshold, if it is known.
        costs: of a ping and of a cold start; without them there is no plan.

    Returns:
        `idle_threshold`, `cold_starts` and `keep_warm_plan`, each None where the log does not say.
    """
    if threshold is None:
        return {"idle_threshold": None, "cold_starts": None, "keep_warm_plan": None}
    expected = expected_cold_starts(requests, threshold, replicas=replicas, timezone=timezone)
    facts: dict[str, Any] = {
        "idle_threshold": {
            "seconds": threshold.seconds,
            "low": threshold.low,
            "high": threshold.high,
            "fitted": threshold.fitted,
            "safe_ping_period": threshold.safe_gap,
        },
        "cold_starts": None if expected is None else {"per_day": bounds(expected.per_day), "share": bounds(expected.share)},
        "keep_warm_plan": None,
    }
    if costs is None or expected is None:
        return facts
    priced = Costs(ping=costs[0], cold_start=costs[1])
    best = recommend(requests, threshold.seconds, threshold.safe_gap, priced, user_hours=user_hours, timezone=timezone)
    facts["keep_warm_plan"] = {
        "class": best.chosen,
        "period_seconds": best.plan.period,
        "hours": hour_ranges(best.plan.hours),
        "saving_per_day": None if best.saving_per_day is None else bounds(best.saving_per_day),
        "pings_per_day": best.replays[best.chosen].pings_per_day,
        "classes": {
            name: {
                "pings_per_day": found.pings_per_day,
                "cold_starts_per_day": found.cold_starts_per_day,
                "cost_per_day": found.cost_per_day(priced),
                "hours": hour_ranges(found.plan.hours),
            }
            for name, found in best.replays.items()
        },
    }
    return facts


def bounds(interval: Interval) -> dict[str, float]:
    """An interval as a JSON object."""
    return {"estimate": interval.estimate, "low": interval.low, "high": interval.high}
