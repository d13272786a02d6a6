"""What waits for a person: events to be annotated, decided, or read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import polars as pl
import pyarrow as pa

from ftplatform.feedback.correction_check import NEEDED
from ftplatform.feedback.correction_signals import correction_signals
from ftplatform.feedback.curation import corrections
from ftplatform.feedback.decision_log import Adjudication, Annotation, Review
from ftplatform.feedback.events import DEBUG_SURFACES
from ftplatform.feedback.label_agreement import FIELDS
from ftplatform.feedback.label_audit import audit_sample
from ftplatform.feedback.sampling import annotation_sample, blind_sheet


def to_annotate(events: pa.Table, annotations: Sequence[Annotation], annotator: str, size: int) -> list[dict[str, Any]]:
    """What one annotator has not coded yet of the random sample, in an order of their own; nothing of what others said."""
    done = {a.event_id for a in annotations if a.by == annotator}
    return blind_sheet(events, [each for each in annotation_sample(events, size) if each not in done], annotator).to_pylist()


def to_adjudicate(
    events: pa.Table,
    rows: pa.Table,
    annotations: Sequence[Annotation],
    adjudications: Sequence[Adjudication],
    size: int | None = None,
) -> list[dict[str, Any]]:
    """Events that nobody has decided: annotators disagree, the curated correction looks like a comment, or nothing says what it is.

    Args:
        size: at most this many of the events without an intent or kind, of which an export has nothing else; all by default.

    Returns:
        Mappings with `event_id`, `prompt`, `answer`, `correction` and `said`: what each annotator called it, and why it is here.
    """
    decided = {a.event_id for a in adjudications}
    last = {(a.event_id, a.by): a for a in annotations}
    said: dict[str, list[Annotation]] = {}
    for annotation in last.values():
        said.setdefault(annotation.event_id, []).append(annotation)
    why = {
        event: "; ".join(f"{a.by}: {a.intent_code}, {a.correction_kind}" for a in sorted(given, key=lambda a: a.by))
        for event, given in said.items()
        if any(len({getattr(a, field) for a in given}) > 1 for field in FIELDS)
    }
    for event in suspects(rows, events):
        why[event] = "; ".join(filter(None, (why.get(event), "looks like a comment")))
    for event in [each for each in _unstated(events) if each not in decided and each not in why][:size]:
        why[event] = "; ".join(["no intent or kind is stated", *(f"{a.by}: {a.intent_code}" for a in said.get(event, ()))])
    waiting = pa.array([event for event in why if event not in decided], pa.string())
    shown = pl.DataFrame({name: events[name] for name in ("event_id", "prompt", "answer", "correction")})
    chosen = shown.filter(pl.col("event_id").is_in(pl.Series(waiting))).unique("event_id", keep="first", maintain_order=True)
    return [{**event, "said": why[event["event_id"]]} for event in chosen.iter_rows(named=True)]


def to_review(rows: pa.Table, reviews: Sequence[Review], limit: float) -> list[dict[str, Any]]:
    """Rows of the audit sample that nobody has read: `row_id`, `prompt`, `target`."""
    read = {review.row_id for review in reviews}
    return [
        {"row_id": row["row_id"], "prompt": row["messages"][0]["content"], "target": row["messages"][-1]["content"]}
        for row in audit_sample(rows, limit=limit).select(["row_id", "messages"]).to_pylist()
        if row["row_id"] not in read
    ]


def _unstated(events: pa.Table) -> list[str]:
    """Ids of the events with a correction that could be a target if somebody said why it was given, and what it is."""
    columns = ("event_id", "surface", "correction", "intent_code", "correction_kind")
    frame = pl.DataFrame({name: events[name] for name in columns}).filter(
        ~pl.col("surface").is_in([str(s) for s in DEBUG_SURFACES]).fill_null(True),
        pl.col("correction").str.strip_chars().fill_null("") != "",
        pl.col("intent_code").is_null() | pl.col("correction_kind").is_null(),
    )
    return frame["event_id"].to_list()


def suspects(rows: pa.Table, events: pa.Table) -> list[str]:
    """Ids of the events whose curated correction looks like a comment and was decided by nobody, by the tier without a model."""
    read = corrections(rows, events)
    found = pl.DataFrame(pl.from_arrow(read)).with_columns(correction_signals(read)["signals"])
    return found.filter((pl.col("signals") >= NEEDED) & ~pl.col("reviewed"))["event_id"].to_list()
