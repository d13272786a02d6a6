"""Curation: the only door from feedback events to training rows.

A replacement that a reviewer accepted, on a surface meant for it, with a stated intent, becomes a row whose target is the
replacement. Everything else is rejected with a reason; kept + rejected = read. What an adjudicator decided of an event replaces what
the event says of itself. No decision makes a label of a click on a debug surface, and one on an id that two events share is none.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import orjson
import polars as pl
import pyarrow as pa

from ftplatform.feedback.decision_log import Adjudication, Ruling, latest
from ftplatform.feedback.events import DEBUG_SURFACES, EVENT_SCHEMA, CorrectionKind, Intent
from ftplatform.rows.schema import ROW_SCHEMA, Role, Surface, row_id


class Rejection(StrEnum):
    """Why an event is not a target. The first that applies is given."""

    AMBIGUOUS_DECISION = "ambiguous_decision"
    NO_SURFACE = "no_surface"
    DEBUG_SURFACE = "debug_surface"
    ADJUDICATED_OUT = "adjudicated_out"
    NO_INTENT = "no_intent"
    NOT_ABOUT_THE_ANSWER = "not_about_the_answer"
    NOT_A_REPLACEMENT = "not_a_replacement"
    NOT_REVIEWED = "not_reviewed"
    NO_CORRECTION = "no_correction"
    SAME_AS_ANSWER = "same_as_answer"


#: Intents that say something about the product or a test of it, not about what the answer should have been.
_NOT_LABELS = (Intent.BUG_REPORT, Intent.UI_TEST)

REJECTED_SCHEMA = pa.schema([*EVENT_SCHEMA, pa.field("rejection", pa.string(), nullable=False)])


@dataclass(frozen=True, slots=True)
class Curated:
    """Attributes:
    rows: accepted targets (`ROW_SCHEMA`), surface `curation`; `meta` names event, intent, reviewers and, if there was one, the
        adjudicator.
    rejected: the other events (`REJECTED_SCHEMA`), as adjudicated.
    """

    rows: pa.Table
    rejected: pa.Table


def curate(events: pa.Table, *, source: str, adjudications: Sequence[Adjudication] = ()) -> Curated:
    """Split events into accepted rows and rejected events.

    Args:
        events: table of `EVENT_SCHEMA`.
        source: name that becomes `source` and `origins` of the rows.
        adjudications: oldest first; the last one of an event holds. Those of other events do nothing.
    """
    judged = _adjudicated(events, adjudications).with_columns(rejection=_rejection())
    accepted = judged.filter(pl.col("rejection").is_null())
    rows = [_row(event, source) for event in accepted.iter_rows(named=True)]
    rejected = judged.filter(pl.col("rejection").is_not_null()).select(REJECTED_SCHEMA.names)
    return Curated(pa.Table.from_pylist(rows, schema=ROW_SCHEMA), rejected.to_arrow().cast(REJECTED_SCHEMA))


def _adjudicated(events: pa.Table, adjudications: Sequence[Adjudication]) -> pl.DataFrame:
    """The events with `ruling` and `adjudicator`, intent and kind as decided, and who accepted one among its reviewers."""
    last = latest(adjudications, lambda a: a.event_id).values()
    decided = pl.DataFrame(
        {
            "event_id": [a.event_id for a in last],
            "ruling": [str(a.decision) for a in last],
            "adjudicator": [a.by for a in last],
            "intent": [None if a.intent_code is None else str(a.intent_code) for a in last],
            "kind": [None if a.correction_kind is None else str(a.correction_kind) for a in last],
        },
        schema=dict.fromkeys(("event_id", "ruling", "adjudicator", "intent", "kind"), pl.String),
    )
    frame = pl.DataFrame(pl.from_arrow(events)).join(decided, on="event_id", how="left", maintain_order="left")
    stands_for_it = pl.col("ruling") == str(Ruling.ACCEPT)
    reviewers = pl.col("reviewers").fill_null([])
    return frame.with_columns(
        intent_code=pl.coalesce("intent", "intent_code"),
        correction_kind=pl.coalesce("kind", "correction_kind"),
        reviewers=pl.when(stands_for_it).then(reviewers.list.set_union(pl.concat_list("adjudicator"))).otherwise("reviewers"),
    )


def _rejection() -> pl.Expr:
    correction, answer = pl.col("correction").str.strip_chars(), pl.col("answer").str.strip_chars()
    rules = (
        (pl.col("ruling").is_not_null() & pl.col("event_id").is_duplicated(), Rejection.AMBIGUOUS_DECISION),
        (pl.col("surface").is_null(), Rejection.NO_SURFACE),
        (pl.col("surface").is_in([str(s) for s in DEBUG_SURFACES]), Rejection.DEBUG_SURFACE),
        (pl.col("ruling") == str(Ruling.REJECT), Rejection.ADJUDICATED_OUT),
        (pl.col("intent_code").is_null(), Rejection.NO_INTENT),
        (pl.col("intent_code").is_in([str(i) for i in _NOT_LABELS]), Rejection.NOT_ABOUT_THE_ANSWER),
        (pl.col("correction_kind").ne_missing(str(CorrectionKind.REPLACEMENT)), Rejection.NOT_A_REPLACEMENT),
        (pl.col("reviewers").list.len().fill_null(0) == 0, Rejection.NOT_REVIEWED),
        (correction.fill_null("") == "", Rejection.NO_CORRECTION),
        (correction == answer, Rejection.SAME_AS_ANSWER),
    )
    return pl.coalesce(pl.when(applies).then(pl.lit(str(reason))) for applies, reason in rules)


def _row(event: Mapping[str, Any], source: str) -> dict[str, Any]:
    messages = [
        {"role": str(Role.USER), "content": event["prompt"], "trainable": False},
        {"role": str(Role.ASSISTANT), "content": event["correction"], "trainable": True},
    ]
    meta = {"event": event["event_id"], "intent": event["intent_code"], "reviewers": event["reviewers"]}
    if event["ruling"] is not None:
        meta["adjudicated_by"] = event["adjudicator"]
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
        "meta": orjson.dumps(meta).decode(),
    }


def corrections(rows: pa.Table, events: pa.Table) -> pa.Table:
    """What `correction_is_target` reads of curated rows: `event_id`, `prompt`, `answer`, `correction`, `reviewed`.

    Args:
        rows: curated rows, as `curate` made them.
        events: the events they were made from.
    """
    content = pl.col("messages").list
    curated = pl.DataFrame({"meta": rows["meta"], "messages": rows["messages"]}).select(
        event_id=pl.col("meta").str.json_path_match("$.event"),
        prompt=content.first().struct.field("content"),
        correction=content.last().struct.field("content"),
        reviewed=pl.col("meta").str.json_path_match("$.adjudicated_by").is_not_null(),
    )
    answers = pl.DataFrame({name: events[name] for name in ("event_id", "answer")}).unique("event_id", keep="first")
    joined = curated.join(answers, on="event_id", how="left", maintain_order="left")
    return joined.select("event_id", "prompt", "answer", "correction", "reviewed").to_arrow()
