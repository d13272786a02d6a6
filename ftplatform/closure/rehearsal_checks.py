"""closure_replay and bus_factor: what the records of replays say about an adapter (SPEC M1)."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from ftplatform.closure.outcome import LOSS_TOLERANCE, Outcome
from ftplatform.closure.rehearsal import PLATFORM, Rehearsal
from ftplatform.rows.masking import excerpt
from ftplatform.verdict import MAX_EVIDENCE, Decision, Verdict

CHECK_VERSION = "1"

#: How long a successful replay shows that its person could do it again.
REHEARSED_WITHIN = timedelta(days=180)


def closure_replay(rehearsal: Rehearsal | None, *, waiting: str = "Nobody has replayed it yet.") -> Verdict:
    """What the latest replay of this very closure showed.

    Identical passes. Other bits warn: inside the tolerance because another hardware class rounds otherwise, beyond it because only
    `closure_equivalent` can say whether the behavior is the same. A replay that cannot start fails. A machine without the hardware
    that the closure needs has shown nothing.

    Args:
        rehearsal: the latest one of this closure, None without any.
        waiting: why there is none.
    """
    common: dict[str, Any] = {
        "statistic": "largest difference of the loss in the first steps, nats per trained token",
        "n_required": 1,
        "threshold": LOSS_TOLERANCE,
        "check_version": CHECK_VERSION,
        "config": {"tolerance": LOSS_TOLERANCE},
        "tier": "replay",
    }
    if rehearsal is None:
        remedy = "Run: ftplatform closure reproduce, or wait for the night."
        return Verdict(decision=Decision.INSUFFICIENT_EVIDENCE, summary=waiting, n=0, remedy=remedy, **common)
    shown: dict[str, Any] = {
        "n": rehearsal.steps,
        "estimate": rehearsal.max_loss_difference,
        "baseline": f"the training of closure {rehearsal.closure[:12]}",
        "evidence": [{"difference": excerpt(line, 200)} for line in rehearsal.differences[:MAX_EVIDENCE]],
        "plot": _plot(rehearsal),
        "details": {
            "outcome": str(rehearsal.outcome),
            "machine": rehearsal.machine,
            "same_class": rehearsal.same_class,
            "whole": rehearsal.whole,
            "by": rehearsal.by,
            "record": rehearsal.id,
        },
    }
    if rehearsal.outcome is Outcome.NOT_TRIED:
        decision = Decision.FAIL if rehearsal.failed else Decision.INSUFFICIENT_EVIDENCE
        summary = f"The replay could not start: {excerpt(rehearsal.reason, 400)}"
        remedy = "Run: ftplatform closure verify, and restore what it names."
        return Verdict(decision=decision, summary=summary, remedy=remedy, **common, **shown)
    where = "the same hardware class" if rehearsal.same_class else f"another hardware class ({rehearsal.machine})"
    summary = f"{str(rehearsal.outcome).capitalize()} on {where}: {rehearsal.reason}"
    if rehearsal.outcome is Outcome.IDENTICAL:
        return Verdict(decision=Decision.PASS, summary=summary, remedy="Nothing to do.", **common, **shown)
    remedy = "Look at the differences; `ftplatform closure reproduce --seeds 5` says whether the behavior is the same."
    return Verdict(decision=Decision.WARN, summary=summary, remedy=remedy, **common, **shown)


def bus_factor(rehearsed: Sequence[Rehearsal], *, author: str | None, now: datetime, required: int = 1) -> Verdict:
    """Distinct people besides the author who replayed the adapter, in any version, to the end and successfully, lately.

    The platform's own nightly replays are nobody's: they show that the closure runs, not that a second person can run it.

    Args:
        rehearsed: all rehearsals of the adapter.
        author: who would do it anyway. Without a known author the first person counts as the author.
        now: end of the time that counts (`REHEARSED_WITHIN`).
        required: people besides the author.
    """
    recent = [r for r in rehearsed if r.succeeded and now - REHEARSED_WITHIN <= r.at <= now and _person(r.by) != _person(PLATFORM)]
    people: dict[str, Rehearsal] = {}
    for rehearsal in recent:
        people[_person(rehearsal.by)] = rehearsal
    others = {who: r for who, r in people.items() if who != (_person(author) if author else next(iter(people)))}
    days = REHEARSED_WITHIN.days
    common: dict[str, Any] = {
        "statistic": f"people besides the author with a successful whole replay in {days} days",
        "estimate": float(len(others)),
        "n": len(others),
        "n_required": required,
        "threshold": float(required),
        "check_version": CHECK_VERSION,
        "config": {"days": days, "required": required, "author_known": author is not None},
        "tier": "records",
        "evidence": [
            {"by": excerpt(r.by, 100), "at": r.at.isoformat()[:10], "outcome": str(r.outcome), "machine": r.machine}
            for r in list(people.values())[:MAX_EVIDENCE]
        ],
    }
    if len(others) >= required:
        summary = f"{len(others)} besides the author replayed it in {days} days."
        return Verdict(decision=Decision.PASS, summary=summary, remedy="Nothing to do.", **common)
    summary = f"{len(others) or 'Nobody'} besides the author replayed it in {days} days; {required} would have to."
    remedy = "Let somebody else run: ftplatform closure reproduce ADAPTER --by NAME"
    return Verdict(decision=Decision.WARN, summary=summary, remedy=remedy, **common)


def _person(name: str) -> str:
    return " ".join(name.casefold().split())


def _plot(rehearsal: Rehearsal) -> str:
    from ftplatform.plots import line

    curves = {"recorded": list(enumerate(rehearsal.recorded, 1)), "replayed": list(enumerate(rehearsal.losses, 1))}
    return line(curves, title="Loss of the first steps, then and now", x_label="step", y_label="nats per trained token")
