"""The watch on the watchers: a license nobody looked at is not valid, it is unobserved."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta

from ftplatform.errors import InputDataError
from ftplatform.licensing.states import to_text
from ftplatform.verdict import MAX_EVIDENCE, Decision, Scalar, Verdict

CHECK_VERSION = "1"
#: Terms of scraped sources change without notice; a file beside a corpus hardly does.
SCRAPED_TTL = timedelta(days=7)
STATIC_TTL = timedelta(days=30)
#: Past its time to live a source warns; past this multiple of it, it fails.
FAIL_AT = 3.0
#: Clocks of two machines differ; a look further in the future than this proves nothing.
CLOCK_SKEW = timedelta(minutes=5)


def license_fresh(
    last_looked: Mapping[str, datetime],
    ttl: Mapping[str, timedelta],
    now: datetime,
    *,
    contract_end: Mapping[str, datetime] | None = None,
) -> Verdict:
    """Whether the terms of every source were observed within their time to live.

    Args:
        last_looked: source to the time of the last successful look (`Look.looked`).
        ttl: source to its time to live; a source that is only in `last_looked` has `STATIC_TTL`. A source without a look was never
            looked at.
        now: time of the judgment.
        contract_end: end of paid terms; after it the source fails however recently somebody looked.

    Returns:
        `WARN` past the time to live, `FAIL` past `FAIL_AT` times, never looked at, or a look in the future; without sources,
        insufficient evidence. The estimate is the largest age over time to live (left out if a source was never looked at).

    Raises:
        InputDataError: for a time without zone, or a time to live that is not positive.
    """
    ends = contract_end or {}
    sources = sorted({*last_looked, *ttl, *ends})
    lives = {source: ttl.get(source, STATIC_TTL) for source in sources}
    for source, life in lives.items():
        if life <= timedelta(0):
            raise InputDataError(f"the time to live of {source} is {life}.", remedy="Give a positive duration.")
    moments = {"now": now, **last_looked, **ends}
    for name, moment in moments.items():
        if moment.tzinfo is None:
            raise InputDataError(f"the time of {name} has no zone: {moment}.", remedy="Give times with an offset or Z.")

    judged = [_judge(source, last_looked.get(source), lives[source], ends.get(source), now) for source in sources]
    judged.sort(key=lambda row: (-_ORDER[Decision(str(row["decision"]))], -float(row["age_over_ttl"] or 0.0), str(row["source"])))
    worst = Decision(str(judged[0]["decision"])) if judged else Decision.INSUFFICIENT_EVIDENCE
    stale = [row for row in judged if row["decision"] != Decision.PASS]
    ratios = [row["age_over_ttl"] for row in judged]
    if not judged:
        summary = "No source is watched."
    elif stale:
        summary = (
            f"{len(stale)} of {len(judged)} sources are not freshly observed; worst: {stale[0]['source']}, {stale[0]['reason']}."
        )
    else:
        summary = f"All {len(judged)} sources were observed within their time to live."
    return Verdict(
        decision=worst,
        summary=summary,
        statistic="largest age of an observation over its time to live",
        estimate=max((float(r) for r in ratios if r is not None), default=None) if None not in ratios else None,
        threshold=1.0,
        n=len(judged),
        n_required=1,
        evidence=(stale or judged)[:MAX_EVIDENCE],
        config={
            "warn_at": 1.0,
            "fail_at": FAIL_AT,
            "ttl_hours": {source: life.total_seconds() / 3600 for source, life in lives.items()},
            "contract_end": {source: to_text(end) for source, end in sorted(ends.items())},
        },
        remedy="Start the watcher of each source listed, or look at its terms yourself and record what you saw.",
        check_version=CHECK_VERSION,
        tier="exact",
    )


_ORDER = {Decision.PASS: 0, Decision.WARN: 1, Decision.FAIL: 2}


def _judge(source: str, looked: datetime | None, life: timedelta, end: datetime | None, now: datetime) -> dict[str, Scalar]:
    age = None if looked is None else now - looked
    ratio = None if age is None else max(0.0, age / life)
    if end is not None and now >= end:
        decision, reason = Decision.FAIL, f"the contract ended {to_text(end)}"
    elif age is None or ratio is None:
        decision, reason = Decision.FAIL, "never looked at"
    elif age < -CLOCK_SKEW:
        decision, reason = Decision.FAIL, "looked at in the future"
    elif ratio > FAIL_AT:
        decision, reason = Decision.FAIL, f"silent for {ratio:.1f} times its time to live"
    elif ratio > 1:
        decision, reason = Decision.WARN, f"silent for {ratio:.1f} times its time to live"
    else:
        decision, reason = Decision.PASS, "fresh"
    return {
        "source": source,
        "decision": str(decision),
        "reason": reason,
        "last_looked": None if looked is None else to_text(looked),
        "age_hours": None if age is None else round(age.total_seconds() / 3600, 2),
        "ttl_hours": round(life.total_seconds() / 3600, 2),
        "age_over_ttl": None if ratio is None else round(ratio, 4),
    }
