"""Everything a request log says about cold starts, at once: for the command line and the page."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from ftplatform import pages
from ftplatform.serving.charts import gap_plot, heat_map
from ftplatform.serving.cold_start import ColdStarts, expected_cold_starts, naive_mean_rate
from ftplatform.serving.effective import keepwarm_effective
from ftplatform.serving.exposure import cold_start_exposure
from ftplatform.serving.idle import Touches, idle_gaps, touches
from ftplatform.serving.idle_threshold import Fit, Threshold, declared, fit_threshold
from ftplatform.serving.keep_warm import Costs
from ftplatform.serving.observed import cold_start_observed
from ftplatform.serving.planning import keep_warm_facts
from ftplatform.verdict import Verdict


@dataclass(frozen=True, slots=True)
class Analysis:
    """What a log says.

    Attributes:
        log: its touches.
        fit: what it shows of the idle threshold.
        threshold: the one that was used: given, or fitted.
        expected: cold starts to expect; None without a threshold or without traffic.
        verdicts: of the three checks on an endpoint, by name.
        record: all of it as JSON-able values.
    """

    log: Touches
    fit: Fit
    threshold: Threshold | None
    expected: ColdStarts | None
    verdicts: dict[str, Verdict]
    record: dict[str, Any]


def analyze(
    requests: pa.Table,
    *,
    idle_threshold: float | None = None,
    costs: Costs | None = None,
    replicas: int = 1,
    user_hours: Collection[int] | None = None,
    timezone: str = "UTC",
) -> Analysis:
    """Analyze a request log.

    Args:
        requests: table of `REQUEST_SCHEMA`.
        idle_threshold: seconds to use instead of what the log shows: a what-if.
        costs: of pings and cold starts; without them there is no plan.
    """
    log = touches(requests)
    fit = fit_threshold(log)
    threshold = fit.threshold if idle_threshold is None else declared(idle_threshold)
    options: dict[str, Any] = {"user_hours": user_hours, "timezone": timezone}
    expected = None if threshold is None else expected_cold_starts(requests, threshold, replicas=replicas, timezone=timezone)
    verdicts = {
        "cold_start_exposure": cold_start_exposure(requests, threshold, replicas=replicas, **options),
        "cold_start_observed": cold_start_observed(requests),
        "keepwarm_effective": keepwarm_effective(requests, threshold, costs, **options),
    }
    prices = None if costs is None else (costs.ping, costs.cold_start)
    known = log.first_token[~np.isnan(log.first_token)]
    record = {
        "requests": len(log),
        "pings": int(log.is_ping.sum()),
        "days": round(log.days, 3),
        "adapters": len(log.names),
        "p99_first_token": float(np.quantile(known, 0.99)) if len(known) else None,
        "idle_gaps": idle_gaps(requests),
        "fitted_threshold": None if fit.threshold is None else [fit.threshold.seconds, fit.threshold.low, fit.threshold.high],
        **keep_warm_facts(requests, threshold, prices, replicas=replicas, **options),
        "daily_mean_rate_would_say": None if threshold is None else naive_mean_rate(requests, threshold.seconds),
        "hours": None if expected is None else expected.hours.to_pylist(),
        "checks": {name: {"decision": str(v.decision), "summary": v.summary, "remedy": v.remedy} for name, v in verdicts.items()},
    }
    return Analysis(log, fit, threshold, expected, verdicts, record)


def analysis_page(found: Analysis, title: str) -> str:
    """The analysis as a page of its own: verdicts, both plots, and the plans."""
    rows = [(name, pages.Marked(v.decision), v.summary, v.remedy) for name, v in found.verdicts.items()]
    parts = [
        f"<h1>Cold starts: {pages.plain(title)}</h1>",
        pages.section("Checks", "checks", pages.table(("check", "decision", "finding", "remedy"), rows)),
    ]
    if found.expected is not None:
        parts.append(pages.section("Hours of the week", "hours", heat_map(found.expected.hours)))
    plot = gap_plot(found.log.idle, found.log.first_token, found.fit.slow, found.threshold)
    parts.append(pages.section("Idle gaps", "gaps", plot))
    plan = found.record["keep_warm_plan"]
    if plan is not None:
        lines = [
            (name, f"{c['pings_per_day']:.1f}", f"{c['cold_starts_per_day']:.2f}", f"{c['cost_per_day']:.4g}", c["hours"])
            for name, c in plan["classes"].items()
        ]
        heads = ("plan", "pings a day", "cold starts a day", "cost a day", "hours")
        said = f"<p>Cheapest: {pages.plain(plan['class'])}, a ping after {plan['period_seconds']:.0f} idle seconds.</p>"
        parts.append(pages.section("Keeping warm", "plan", said + pages.table(heads, lines, numbers=(1, 2, 3))))
    note = f"{len(found.log):,} requests in {found.log.days:.1f} days. Plans are exact replays of this log."
    parts.append(f'<footer><p class="note">{pages.plain(note)}</p></footer>')
    return pages.page(f"Cold starts: {title}", "\n".join(parts))
