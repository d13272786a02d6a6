"""What the people of the invented company said of its feedback: two annotators who see nobody's codes, and an audit of the targets."""

from __future__ import annotations

import random
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from ftplatform.feedback.curation import curate
from ftplatform.feedback.decision_log import Annotation, Quality, Review, append
from ftplatform.feedback.events import CorrectionKind, Intent, read_events
from ftplatform.feedback.label_audit import audit_sample
from ftplatform.feedback.sampling import annotation_sample
from ftplatform.rows.sources import list_files

ANNOTATED = 220
#: How often an annotator takes another code than the author of the event.
SLIP = 0.06
_START = datetime(2026, 9, 20, 9, tzinfo=UTC)


def write_logs(data: Path, rng: random.Random) -> None:
    """`feedback_annotations.jsonl` and `feedback_reviews.jsonl` beside the events, as `ftplatform feedback import` writes them."""
    events = read_events(list_files(["feedback_events.jsonl"], data)).table
    codes = {event["event_id"]: event for event in events.to_pylist()}
    now = _START
    annotations = []
    for annotator in ("annotator-0", "annotator-1"):
        for event in annotation_sample(events, ANNOTATED):
            now += timedelta(seconds=20)
            said = Annotation(
                event_id=event,
                by=annotator,
                at=now,
                intent_code=Intent(codes[event]["intent_code"] or "other"),
                correction_kind=CorrectionKind(codes[event]["correction_kind"] or "none"),
            )
            if rng.random() < SLIP:
                said = replace(said, intent_code=rng.choice((Intent.WRONG_FACT, Intent.INCOMPLETE, Intent.TONE)))
            annotations.append(said)
    rows = curate(events, source="feedback/corrections").rows
    audited = audit_sample(rows, limit=0.05)["row_id"].to_pylist()
    reviews = [
        Review(row_id=row, by="reviewer-3", at=now + timedelta(seconds=15 * place), quality=Quality.SHIP)
        for place, row in enumerate(audited, start=1)
    ]
    for name, entries, kind in (("annotations", annotations, Annotation), ("reviews", reviews, Review)):
        log = data / f"feedback_{name}.jsonl"
        log.unlink(missing_ok=True)
        append(log, entries, kind)
        log.with_name(f"{log.name}.lock").unlink()
