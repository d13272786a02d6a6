"""Curation: the only door from feedback events to training rows.

A replacement that a reviewer accepted, on a surface meant for it, with a stated intent, becomes a row whose target is the
replacement. Everything else is rejected with a reason; kept + rejected = read.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import orjson
import pyarrow as pa

from ftplatform.feedback.events import EVENT_SCHEMA, CorrectionKind, EventSurface, Intent
from ftplatform.rows.schema import ROW_SCHEMA, Role, Surface, row_id


class Rejection(StrEnum):
    """Why an event is not a target. The first that applies is given."""

    NO_SURFACE = "no_surface"
    DEBUG_SURFACE = "debug_surface"
    NO_INTENT = "no_intent"
    NOT_ABOUT_THE_ANSWER = "not_about_the_answer"
    NOT_A_REPLACEMENT = "not_a_replacement"
    NOT_REVIEWED = "not_reviewed"
    SAME_AS_ANSWER = "same_as_answer"


#: Intents that say something about the product or a test of it, not about what the answer should have been.
_NOT_LABELS = frozenset({Intent.BUG_REPORT, Intent.UI_TEST})
_DEBUG = frozenset({EventSurface.DEBUG, EventSurface.QA})

REJECTED_SCHEMA = pa.schema([*EVENT_SCHEMA, pa.field("rejection", pa.string(), nullable=False)])


@dataclass(frozen=True, slots=True)
class Curated:
    """Attributes:
    rows: accepted targets (`ROW_SCHEMA`), surface `curation`, the event named in `meta`.
    rejected: the other events (`REJECTED_SCHEMA`).
    """

    rows: pa.Table
    rejected: pa.Table


def curate(events: pa.Table, *, source: str) -> Curated:
    """Split events into accepted rows and rejected events.

    Args:
        events: table of `EVENT_SCHEMA`.
        source: name that becomes `source` and `origins` of the rows.
    """
    rows: list[dict[str, Any]] = []
    rejected: list[dict[str, Any]] = []
    for event in events.to_pylist():
        reason = rejection(event)
        if reason is None:
            rows.append(_row(event, source))
        else:
            rejected.append({**event, "rejection": str(reason)})
    return Curated(pa.Table.from_pylist(rows, schema=ROW_SCHEMA), pa.Table.from_pylist(rejected, schema=REJECTED_SCHEMA))


def rejection(event: Mapping[str, Any]) -> Rejection | None:
    """Why an event cannot become a target; None if it can."""
    if event["surface"] is None:
        return Rejection.NO_SURFACE
    if event["surface"] in _DEBUG:
        return Rejection.DEBUG_SURFACE
    if event["intent_code"] is None:
        return Rejection.NO_INTENT
    if event["intent_code"] in _NOT_LABELS:
        return Rejection.NOT_ABOUT_THE_ANSWER
    if event["correction_kind"] != CorrectionKind.REPLACEMENT:
        return Rejection.NOT_A_REPLACEMENT
    if not event["reviewers"]:
        return Rejection.NOT_REVIEWED
    if event["answer"] is not None and event["correction"].strip() == event["answer"].strip():
        return Rejection.SAME_AS_ANSWER
    return None


def _row(event: Mapping[str, Any], source: str) -> dict[str, Any]:
    messages = [
        {"role": str(Role.USER), "content": event["prompt"], "trainable": False},
        {"role": str(Role.ASSISTANT), "content": event["correction"], "trainable": True},
    ]
    return {
        "row_id": row_id(messages),
        "messages": messages,
        "source": source,
        "origins": [source],
        # The event lies in the same snapshot under the same terms; `parents` is for rows and teachers with terms of their own.
        "parents": [],
        "slices": [],
        "author": event["actor"],
        "group": event["conversation"],
        "surface": str(Surface.CURATION),
        "created_at": event["created_at"],
        "first_seen_at": None,
        "meta": orjson.dumps(
            {"event": event["event_id"], "intent": event["intent_code"], "reviewers": event["reviewers"]}
        ).decode(),
    }
