"""What waits for a person, and what does not any more."""

from __future__ import annotations

from datetime import UTC, datetime

import pyarrow as pa

from ftplatform.feedback.agenda import to_adjudicate, to_review
from ftplatform.feedback.curation import curate
from ftplatform.feedback.decision_log import Adjudication, Annotation, Quality, Review, Ruling
from ftplatform.feedback.events import EVENT_SCHEMA, CorrectionKind, Intent
from ftplatform_tests.unit.feedback.comments import ARTICLE

NOW = datetime(2026, 1, 5, tzinfo=UTC)


def event(name: str, **changes: object) -> dict[str, object]:
    return {
        **dict.fromkeys(EVENT_SCHEMA.names),
        "event_id": name,
        "surface": "user",
        "prompt": "where is my refund",
        "answer": "I do not know where your refund is.",
        "intent_code": "wrong_fact",
        "correction_kind": "replacement",
        "correction": f"Your refund {name} left our bank on Monday.",
        "reviewers": ["ben"],
        **changes,
    }


EVENTS = pa.Table.from_pylist(
    [
        event("fine"),
        event("comment", correction=ARTICLE),
        event("disputed"),
        event("unstated", intent_code=None),
        event("unstated too", correction_kind=None),
        event("debug", surface="debug", intent_code=None),
        event("empty", correction=" ", intent_code=None, correction_kind=None),
        event("nowhere", surface=None, intent_code=None),
    ],
    schema=EVENT_SCHEMA,
)
ROWS = curate(EVENTS, source="feedback/thumbs").rows


def annotation(name: str, by: str, intent: Intent) -> Annotation:
    return Annotation(event_id=name, by=by, at=NOW, intent_code=intent, correction_kind=CorrectionKind.REPLACEMENT)


GIVEN = [
    annotation("disputed", "ann", Intent.TONE),
    annotation("disputed", "ben", Intent.FORMAT),
    annotation("fine", "ann", Intent.TONE),
    annotation("fine", "ben", Intent.TONE),
    annotation("unstated", "ann", Intent.TASTE),
]


def test_what_waits_for_a_decision_and_why() -> None:
    said = {line["event_id"]: line["said"] for line in to_adjudicate(EVENTS, ROWS, GIVEN, [])}
    assert said == {
        "comment": "looks like a comment",
        "disputed": "ann: tone, replacement; ben: format, replacement",
        "unstated": "no intent or kind is stated; ann: taste",
        "unstated too": "no intent or kind is stated",
    }


def test_what_was_decided_does_not_wait() -> None:
    decided = [Adjudication(event_id=name, by="kim", at=NOW, decision=Ruling.REJECT) for name in ("comment", "unstated")]
    assert {line["event_id"] for line in to_adjudicate(EVENTS, ROWS, GIVEN, decided)} == {"disputed", "unstated too"}
    assert {line["event_id"] for line in to_adjudicate(EVENTS, ROWS, GIVEN, decided, 0)} == {"disputed"}


def test_the_audit_asks_for_what_nobody_has_read() -> None:
    lines = to_review(ROWS, [], 0.05)
    assert len(lines) == ROWS.num_rows
    assert lines[0]["prompt"] == "where is my refund"
    read = Review(row_id=lines[0]["row_id"], by="kim", at=NOW, quality=Quality.SHIP)
    assert [line["row_id"] for line in to_review(ROWS, [read], 0.05)] == [line["row_id"] for line in lines[1:]]
