"""`keepwarm_effective`: do the pings cost less than the cold starts they remove, and if none are sent, should there be any?"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import pyarrow as pa

from ftplatform.plots import bars
from ftplatform.serving.idle import touches
from ftplatform.serving.idle_threshold import Threshold
from ftplatform.serving.keep_warm import Costs, Plan, as_sent, replay
from ftplatform.serving.plan_choice import Recommendation, recommend, saving
from ftplatform.serving.traffic import hour_ranges
from ftplatform.statistics import Interval
from ftplatform.verdict import Decision, Verdict

CHECK_VERSION = "keepwarm_effective/1"

#: Days without which a saving is not shown: every day of the week once.
MIN_DAYS = 7


def keepwarm_effective(
    requests: pa.Table,
    threshold: Threshold | None,
    costs: Costs | None,
    *,
    user_hours: Collection[int] | None = None,
    timezone: str = "UTC",
    alpha: float = 0.05,
    min_days: int = MIN_DAYS,
) -> Verdict:
    """Warn if the pings of the log cost more than they save, or if none are sent and a plan would pay.

    Both are replays of the log itself: without its pings, and under each class of plan. With pings, pass needs the lower bound of the
    saving above zero. Without, it needs that no plan is cheaper than none; a plan whose lower bound is above zero warns.

    Args:
        requests: table of `REQUEST_SCHEMA`.
        threshold: the provider's idle threshold; None if nobody knows it.
        costs: None if the project does not say what pings and cold starts cost.
    """
    days = touches(requests).days
    common: dict[str, Any] = {
        "statistic": "saving a day by keep-warm requests (n: days of log)",
        "n": int(days),
        "n_required": min_days,
        "threshold": 0.0,
        "check_version": CHECK_VERSION,
        "config": {
            "costs": None if costs is None else {"ping": costs.ping, "cold_start": costs.cold_start},
            "threshold": None if threshold is None else threshold.seconds,
            "user_hours": None if user_hours is None else sorted(user_hours),
            "timezone": timezone,
            "alpha": alpha,
            "min_days": min_days,
        },
    }
    if threshold is None or costs is None or not touches(requests, pings=False).user.any():
        unknown = "the idle threshold" if threshold is None else "a request with another before it"
        missing = unknown if costs is not None else "the costs of a ping and of a cold start"
        return Verdict(
            decision=Decision.INSUFFICIENT_EVIDENCE,
            summary=f"Whether pings pay cannot be said without {missing}.",
            remedy="State costs and idle_threshold of the endpoint, and point it at its request log.",
            **common,
        )
    best = recommend(
        requests, threshold.seconds, threshold.safe_gap, costs, user_hours=user_hours, timezone=timezone, confidence=1 - alpha
    )
    without = replay(requests, Plan("none", threshold.safe_gap, frozenset()), threshold.seconds)
    sent = as_sent(requests, threshold.seconds)
    in_use = int(sent.pings.sum()) > 0
    judged = saving(without, sent, costs, confidence=1 - alpha) if in_use else best.saving_per_day
    decision, summary = (_of_pings if in_use else _of_plan)(judged, best, int(days), min_days)
    removed = without.cold_starts_per_day - sent.cold_starts_per_day
    used = f" {sent.pings_per_day:.1f} pings a day remove {removed:.2f} cold starts." if in_use else ""
    shown = {**({"as sent": sent} if in_use else {}), **best.replays}
    return Verdict(
        decision=decision,
        summary=summary + used,
        estimate=None if judged is None else judged.estimate,
        ci_low=None if judged is None else judged.low,
        ci_high=None if judged is None else judged.high,
        confidence=None if judged is None else judged.confidence,
        baseline="the same log without pings",
        evidence=[
            {
                "plan": name,
                "pings_per_day": found.pings_per_day,
                "cold_starts_per_day": found.cold_starts_per_day,
                "cost_per_day": found.cost_per_day(costs),
                "hours": hour_ranges(found.plan.hours),
            }
            for name, found in shown.items()
        ],
        plot=bars([(name, found.cost_per_day(costs)) for name, found in shown.items()], title="Cost a day", x_label="cost a day"),
        remedy=_remedy(decision, best, in_use),
        details={
            "recommended": best.chosen,
            "period_seconds": round(threshold.safe_gap, 1),
            "hours": sorted(best.plan.hours),
            "loads_by_pings": int(sent.loads.sum()),
            "idle_threshold": {"seconds": threshold.seconds, "low": threshold.low, "high": threshold.high},
        },
        **common,
    )


def _of_pings(judged: Interval | None, best: Recommendation, days: int, min_days: int) -> tuple[Decision, str]:
    if judged is None:
        return Decision.INSUFFICIENT_EVIDENCE, "The log is too short to say what its pings save."
    said = f"The pings save {judged.estimate:.3g} a day [{judged.low:.3g}, {judged.high:.3g}]"
    if judged.high < 0:
        return Decision.WARN, f"{said}: they cost more than the cold starts they remove."
    if days < min_days:
        return Decision.INSUFFICIENT_EVIDENCE, f"{said}, but {days} days of log are too few; {min_days} are needed."
    if judged.low <= 0:
        return Decision.INSUFFICIENT_EVIDENCE, f"{said}: the sign is not shown."
    return Decision.PASS, f"{said}; the cheapest plan is {best.chosen!r}."


def _of_plan(judged: Interval | None, best: Recommendation, days: int, min_days: int) -> tuple[Decision, str]:
    if best.chosen == "none":
        if days < min_days:
            return Decision.INSUFFICIENT_EVIDENCE, f"No plan would pay, by {days} days of log; {min_days} are needed."
        return Decision.PASS, "No pings are sent, and no plan would pay."
    if judged is None:
        return Decision.INSUFFICIENT_EVIDENCE, f"No pings are sent; {best.chosen!r} looks cheapest, but the log is too short."
    said = f"No pings are sent; {best.chosen!r} would save {judged.estimate:.3g} a day [{judged.low:.3g}, {judged.high:.3g}]"
    if judged.low <= 0:
        return Decision.INSUFFICIENT_EVIDENCE, f"{said}: the sign is not shown."
    return Decision.WARN, f"{said}."


def _remedy(decision: Decision, best: Recommendation, in_use: bool) -> str:
    if decision is Decision.PASS:
        return "Nothing to do."
    if best.chosen == "none":
        return "Stop the pings: no plan pays at these costs." if in_use else "Gather a longer log."
    where = "at all hours" if best.chosen == "always" else f"in {hour_ranges(best.plan.hours)}"
    return f"Ping after {best.plan.period:.0f} idle seconds {where}."
