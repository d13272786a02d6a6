"""Feedback events as they were clicked: who, where, why, and what kind of correction it is (SPEC M4).

An event is a fact about a click, not a label. Nothing here has the row schema, so nothing here can be trained on by mistake.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any

import pyarrow as pa

from ftplatform.rows.quarantine import Malformed, Reason
from ftplatform.rows.record_tables import RecordTable, moment, number, one_of, read_record_table, text, texts
from ftplatform.rows.sources import SourceFile


class Intent(StrEnum):
    """Why somebody objected."""

    WRONG_FACT = "wrong_fact"
    POLICY_VIOLATION = "policy_violation"
    INCOMPLETE = "incomplete"
    FORMAT = "format"
    TONE = "tone"
    TASTE = "taste"
    BUG_REPORT = "bug_report"
    UI_TEST = "ui_test"
    OTHER = "other"


class CorrectionKind(StrEnum):
    """What the correction field holds."""

    REPLACEMENT = "replacement"
    INSTRUCTION = "instruction"
    COMMENT = "comment"
    NONE = "none"


class EventSurface(StrEnum):
    """Where the click happened; `debug` and `qa` are for people who build the product, not for labels."""

    DEBUG = "debug"
    QA = "qa"
    USER = "user"
    PRODUCTION = "production"
    CURATION = "curation"


#: Surfaces for people who build the product: what is clicked there is no label.
DEBUG_SURFACES = (EventSurface.DEBUG, EventSurface.QA)

#: `correction` is what was typed as a better answer (whatever it turns out to be), `comment` what was said beside it, `rating` the
#: vote or score as it was given; a thumb is 1 or 0.
EVENT_SCHEMA = pa.schema(
    [
        pa.field("event_id", pa.string(), nullable=False),
        pa.field("conversation", pa.string()),
        pa.field("surface", pa.string()),
        pa.field("actor", pa.string()),
        pa.field("actor_role", pa.string()),
        pa.field("prompt", pa.string(), nullable=False),
        pa.field("answer", pa.string()),
        pa.field("intent_code", pa.string()),
        pa.field("correction_kind", pa.string()),
        pa.field("correction", pa.string()),
        pa.field("comment", pa.string()),
        pa.field("rating", pa.float64()),
        pa.field("reviewers", pa.list_(pa.string())),
        pa.field("created_at", pa.timestamp("us", tz="UTC")),
    ]
)

_COLUMNS = {
    "event_id": text,
    "conversation": text,
    "surface": one_of(*EventSurface),
    "actor": text,
    "actor_role": text,
    "prompt": text,
    "answer": text,
    "intent_code": one_of(*Intent),
    "correction_kind": one_of(*CorrectionKind),
    "correction": text,
    "comment": text,
    "rating": number,
    "reviewers": texts,
    "created_at": moment,
}


def read_events(files: Sequence[SourceFile], *, source: str = "feedback", fields: Mapping[str, str] | None = None) -> RecordTable:
    """Events of `EVENT_SCHEMA`. An unknown surface, intent or kind is refused: a misspelled code must not become "no code".

    A missing surface, intent or kind is kept as null; curation rejects it with a reason.
    """
    return read_record_table(files, EVENT_SCHEMA, _COLUMNS, source=source, fields=fields, check=check_event)


def check_event(event: Mapping[str, Any]) -> None:
    """Rules across the columns of an event; raises `Malformed`."""
    if not event["prompt"].strip():
        raise Malformed(Reason.EMPTY_CONTENT, "prompt is blank")
    if event["correction_kind"] == CorrectionKind.REPLACEMENT and not (event["correction"] or "").strip():
        raise Malformed(Reason.MISSING_FIELD, "correction is missing although correction_kind says replacement")
