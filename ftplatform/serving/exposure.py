"""`cold_start_exposure`: how many cold starts a day does this traffic lead to, and in which hours do users meet them?"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import polars as pl
import pyarrow as pa

from ftplatform.serving.charts import heat_map
from ftplatform.serving.cold_start import ColdStarts, expected_cold_starts, naive_mean_rate
from ftplatform.serving.idle import touches
from ftplatform.serving.idle_threshold import Threshold
from ftplatform.serving.traffic import HOURS, hour_name, hour_ranges
from ftplatform.verdict import MAX_EVIDENCE, Decision, Verdict

CHECK_VERSION = "cold_start_exposure/1"

#: Expected cold starts a day that are accepted.
BUDGET = 1.0

#: Probability of a cold start that a user's hour may have; its lower bound decides.
MAX_P_COLD = 0.05

#: Days of log without which nothing passes, and without which nothing is worse than a warning: every hour of the week twice, four times.
MIN_DAYS, FIRM_DAYS = 14, 28

_STATISTIC = "expected cold starts a day (n: days of log)"


def cold_start_exposure(
    requests: pa.Table,
    threshold: Threshold | None,
    *,
    budget: float = BUDGET,
    max_p_cold: float = MAX_P_COLD,
    user_hours: Collection[int] | None = None,
    replicas: int = 1,
    timezone: str = "UTC",
    alpha: float = 0.05,
    min_days: int = MIN_DAYS,
    firm_days: int = FIRM_DAYS,
) -> Verdict:
    """Fail if the lower bound of the expected cold starts a day is above the budget, or that of P(cold) in a user's hour above the limit.

    It looks at hours, never at a daily percentile: a handful of cold starts among 200,000 requests move no p99. Pass needs the
    upper bound of the day within the budget and every user's hour below the limit. With less than `firm_days` a failure is a warning.

    Args:
        requests: table of `REQUEST_SCHEMA`; pings that were sent keep warm.
        threshold: the provider's idle threshold; None if nobody knows it.
        user_hours: hours of the week in which users matter; by default those that have any request.
        replicas: copies of the adapter that share the traffic.
        alpha: error of both decisions; the hours are judged together (Bonferroni).
    """
    config = {
        "budget": budget,
        "max_p_cold": max_p_cold,
        "user_hours": None if user_hours is None else sorted(user_hours),
        "replicas": replicas,
        "timezone": timezone,
        "alpha": alpha,
        "min_days": min_days,
        "firm_days": firm_days,
        "threshold": None if threshold is None else {"seconds": threshold.seconds, "fitted": threshold.fitted},
    }
    days = touches(requests).days
    common: dict[str, Any] = {
        "statistic": _STATISTIC,
        "n": int(days),
        "n_required": min_days,
        "threshold": budget,
        "baseline": "hour-of-week traffic and idle gaps of the log itself",
        "check_version": CHECK_VERSION,
        "config": config,
    }
    if threshold is None:
        return Verdict(
            decision=Decision.INSUFFICIENT_EVIDENCE,
            summary="Nobody knows after how many idle seconds the adapter is unloaded.",
            remedy="State idle_threshold, or log the time to the first token so that it can be fitted.",
            **common,
        )
    found = expected_cold_starts(
        requests, threshold, replicas=replicas, timezone=timezone, confidence=1 - alpha, hour_confidence=1 - alpha / HOURS
    )
    if found is None:
        return Verdict(
            decision=Decision.INSUFFICIENT_EVIDENCE,
            summary=f"{requests.num_rows} requests are no traffic to learn from.",
            remedy="Point the endpoint at a log of two weeks or more.",
            **common,
        )
    hours = pl.DataFrame(pl.from_arrow(found.hours)).filter(pl.col("requests") > 0)
    watched = hours if user_hours is None else hours.filter(pl.col("hour").is_in(list(user_hours)))
    cold = watched.filter(pl.col("p_low") > max_p_cold).sort("expected_per_week", descending=True)
    decision, why = _decide(found, cold.height, budget, days, min_days, firm_days)
    named = hour_ranges(cold["hour"].to_list())
    where = f"; {cold.height} hours of the week are cold more often than {max_p_cold:.0%}: {named}" if cold.height else ""
    day = found.per_day
    return Verdict(
        decision=decision,
        summary=f"{day.estimate:.2f} cold starts a day expected [{day.low:.2f}, {day.high:.2f}], budget {budget:g}{where}.{why}",
        remedy=_remedy(decision, named),
        estimate=day.estimate,
        ci_low=day.low,
        ci_high=day.high,
        confidence=day.confidence,
        evidence=[
            {
                "hour": hour_name(row["hour"]),
                "requests": row["requests"],
                "per_hour": row["rate"],
                "p_cold": row["p_cold"],
                "p_low": row["p_low"],
                "by": row["tier"],
                "expected_per_week": row["expected_per_week"],
            }
            for row in cold.head(MAX_EVIDENCE).iter_rows(named=True)
        ],
        plot=heat_map(found.hours),
        details=_details(requests, found, cold["hour"].to_list()),
        **common,
    )


def _decide(found: ColdStarts, cold_hours: int, budget: float, days: float, min_days: int, firm_days: int) -> tuple[Decision, str]:
    if found.per_day.low > budget or cold_hours:
        if days < firm_days:
            return Decision.WARN, f" A warning: {days:.1f} days of log, {firm_days} make it firm."
        return Decision.FAIL, ""
    if days < min_days:
        return Decision.INSUFFICIENT_EVIDENCE, f" {days:.1f} days of log are too few to pass; {min_days} are needed."
    if found.per_day.high > budget:
        return Decision.WARN, " The interval leaves open whether that is within the budget."
    return Decision.PASS, ""


def _remedy(decision: Decision, hours: str) -> str:
    if decision is Decision.PASS:
        return "Nothing to do."
    if hours:
        return f"Keep the adapter warm in these hours ({hours}), merge it into the base, or serve it on a base that others use."
    if decision is Decision.INSUFFICIENT_EVIDENCE:
        return "Gather a longer log."
    return "Keep the adapter warm in its quiet hours; ftplatform serving analyze shows what that costs."


def _details(requests: pa.Table, found: ColdStarts, cold_hours: list[int]) -> dict[str, Any]:
    threshold = found.threshold
    without = expected_cold_starts(requests, threshold, replicas=found.replicas, confidence=found.per_day.confidence, pings=False)
    return {
        "days": round(found.days, 2),
        "requests": found.requests,
        "cold_starts_by_the_gaps": found.seen,
        "share_of_requests": {"estimate": found.share.estimate, "low": found.share.low, "high": found.share.high},
        "cold_hours": cold_hours,
        "without_pings_per_day": None if without is None else without.per_day.estimate,
        "daily_mean_rate_would_say": naive_mean_rate(requests, threshold.seconds),
        "idle_threshold": {"seconds": threshold.seconds, "low": threshold.low, "high": threshold.high, "fitted": threshold.fitted},
        "replicas": found.replicas,
    }
