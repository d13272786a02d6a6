"""`cold_start_observed`: what cold starts did the log record, after which idle gap, and has the provider become less patient?"""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa

from ftplatform.rows.masking import excerpt
from ftplatform.serving.charts import gap_plot
from ftplatform.serving.idle import Touches, touches
from ftplatform.serving.idle_threshold import Fit, Shrinkage, fit_threshold, shrinkage
from ftplatform.serving.traffic import poisson_bounds
from ftplatform.statistics import Interval
from ftplatform.verdict import MAX_EVIDENCE, Decision, Verdict

CHECK_VERSION = "cold_start_observed/1"

#: Recent threshold over the earlier one from which it counts as shrunk.
SHRUNK = 0.75

#: Gaps on each side of the threshold that it takes to say where it is.
MIN_SIDE = 20

#: Requests after which a log without any cold start may pass for warm.
_MIN_WARM = 1_000

_STATISTIC = "idle threshold in seconds, fitted on time to first token (n: gaps with a time to first token)"


def cold_start_observed(
    requests: pa.Table,
    *,
    budget: float = 1.0,
    shrunk: float = SHRUNK,
    recent_days: float = 7.0,
    alpha: float = 0.05,
    min_side: int = MIN_SIDE,
) -> Verdict:
    """Warn if the provider's idle threshold shrank by a quarter, or if more cold starts a day were seen than the budget allows.

    Only the time to the first token counts: a long answer is not a cold start. Requests are slow against warm ones of the same time, and
    a cold start is a slow one after a gap beyond the lower bound of the threshold; other slow requests are reported apart. The
    threshold shrank if the ratio of the last `recent_days` to the time before is at most `shrunk` and its upper bound is below 1. The
    count is above the budget if its lower Poisson bound is.

    Args:
        requests: table of `REQUEST_SCHEMA`, pings included: they tell of the threshold as well.
    """
    log = touches(requests)
    fit = fit_threshold(log, confidence=1 - alpha)
    common: dict[str, Any] = {
        "statistic": _STATISTIC,
        "n": fit.gaps,
        "n_required": 2 * min_side,
        "check_version": CHECK_VERSION,
        "config": {"budget": budget, "shrunk": shrunk, "recent_days": recent_days, "alpha": alpha, "min_side": min_side},
        "plot": gap_plot(log.idle, log.first_token, fit.slow, fit.threshold),
    }
    if fit.gaps < 2 * min_side:
        return Verdict(
            decision=Decision.INSUFFICIENT_EVIDENCE,
            summary=f"{fit.gaps} gaps with a time to first token are too few; {2 * min_side} are needed.",
            remedy="Log the time to the first token of every request (total latency cannot tell a cold start from a long answer).",
            **common,
        )
    if fit.threshold is None:
        return _none_seen(log, fit, budget, alpha, common)
    return _seen(log, fit, shrinkage(log, recent_days=recent_days, confidence=1 - alpha), budget, shrunk, alpha, min_side, common)


def _none_seen(log: Touches, fit: Fit, budget: float, alpha: float, common: dict[str, Any]) -> Verdict:
    slow = int(fit.slow.sum())
    high = float(poisson_bounds(np.array([0]), 1 - alpha)[1][0]) / max(log.days, 1e-9)
    enough = fit.gaps >= _MIN_WARM and high <= budget
    shown = f"No cold start in {log.days:.1f} days: {slow} slow first tokens, none of them tied to the gap before"
    return Verdict(
        decision=Decision.PASS if enough else Decision.INSUFFICIENT_EVIDENCE,
        summary=f"{shown}; the longest gap is {fit.longest:.0f} s, so the threshold lies beyond it"
        + (f" (at most {high:.2f} a day)." if enough else ", but the log is too short to rule them out."),
        remedy="Nothing to do." if enough else "Gather a longer log, or one with longer gaps.",
        details={"slow": slow, "longest_gap": fit.longest, "days": round(log.days, 2), "at_most_per_day": high},
        **common,
    )


def _seen(
    log: Touches,
    fit: Fit,
    change: Shrinkage | None,
    budget: float,
    shrunk: float,
    alpha: float,
    min_side: int,
    common: dict[str, Any],
) -> Verdict:
    threshold = fit.threshold
    assert threshold is not None
    cold = fit.slow & (log.idle > threshold.low) & log.user
    count, days = int(cold.sum()), max(log.days, 1e-9)
    low, high = (float(bound[0]) / days for bound in poisson_bounds(np.array([count]), 1 - alpha))
    per_day = Interval(count / days, low, high, 1 - alpha)
    has_shrunk = change is not None and change.ratio <= shrunk and change.high < 1 and _both_sides(change, min_side)
    thin = min(fit.shorter, fit.longer) < min_side
    seen = f"{per_day.estimate:.2f} cold starts a day [{low:.2f}, {high:.2f}]"
    alarms = [
        *([f"the threshold fell to {change.ratio:.2f} of what it was"] if change and has_shrunk else []),
        *([f"{seen} exceed the budget of {budget:g}"] if low > budget else []),
    ]
    if alarms:
        decision, why = Decision.WARN, "; ".join(alarms)
    elif thin:
        decision, why = (
            Decision.INSUFFICIENT_EVIDENCE,
            f"only {min(fit.shorter, fit.longer)} gaps on one side of it, {min_side} are needed",
        )
    elif high > budget:
        decision, why = Decision.WARN, f"{seen} leave open whether they are within the budget of {budget:g}"
    else:
        decision, why = Decision.PASS, f"{seen}, within the budget of {budget:g}"
    bounded = f"[{threshold.low:.0f}, {threshold.high:.0f}]"
    return Verdict(
        decision=decision,
        summary=f"Threshold {threshold.seconds:.0f} s {bounded}, {count} cold starts in {days:.1f} days; {why}.",
        remedy=_remedy(has_shrunk, decision),
        estimate=threshold.seconds,
        ci_low=threshold.low,
        ci_high=threshold.high,
        confidence=1 - alpha,
        threshold=None if change is None or change.earlier.threshold is None else shrunk * change.earlier.threshold.seconds,
        baseline=None if change is None else f"the log before its last {change.recent_days:.1f} days",
        evidence=_worst(log, cold),
        details={
            "cold_starts": count,
            "per_day": {"estimate": per_day.estimate, "low": low, "high": high},
            "slow_for_other_reasons": int(fit.slow.sum()) - int((fit.slow & (log.idle > threshold.low)).sum()),
            "slow_when_warm": fit.slow_when_warm,
            "slow_when_cold": fit.slow_when_cold,
            "gaps_shorter": fit.shorter,
            "gaps_longer": fit.longer,
            "softness": threshold.softness,
            "safe_ping_period": threshold.safe_gap,
            "shrinkage": None if change is None else {"ratio": change.ratio, "low": change.low, "high": change.high},
            "waited_seconds": _waited(log, cold),
        },
        **common,
    )


def _both_sides(change: Shrinkage, min_side: int) -> bool:
    """Whether both windows have gaps enough on both sides of their thresholds."""
    return all(min(fit.shorter, fit.longer) >= min_side for fit in (change.earlier, change.recent))


def _remedy(has_shrunk: bool, decision: Decision) -> str:
    if has_shrunk:
        return "The provider unloads sooner than before: shorten the ping period to the safe one, and ask what changed."
    if decision is Decision.INSUFFICIENT_EVIDENCE:
        return "Gather a longer log; the threshold given here is a first estimate."
    return "Nothing to do." if decision is Decision.PASS else "Keep the adapter warm in the hours cold_start_exposure names."


def _worst(log: Touches, cold: np.ndarray) -> list[dict[str, Any]]:
    at = np.flatnonzero(cold)
    worst = at[np.argsort(-log.first_token[at], kind="stable")][:MAX_EVIDENCE]
    times = pl.Series((log.start[worst] * 1e6).astype(np.int64)).cast(pl.Datetime("us", "UTC")).dt.strftime("%Y-%m-%dT%H:%M:%SZ")
    return [
        {
            "time": time,
            "adapter": excerpt(log.names[int(log.adapter[i])], 80),
            "idle_seconds": round(float(log.idle[i]), 1),
            "first_token_seconds": round(float(log.first_token[i]), 3),
        }
        for time, i in zip(times, worst.tolist(), strict=True)
    ]


def _waited(log: Touches, cold: np.ndarray) -> float:
    """Seconds that users waited beyond a warm first token, in all."""
    if not cold.any():
        return 0.0
    warm = np.nanmedian(log.first_token[~cold])
    return float((log.first_token[cold] - warm).sum())
