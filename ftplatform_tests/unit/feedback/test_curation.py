"""Feedback events: what is refused when reading, what curation rejects, and the little that becomes a row."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pytest

from ftplatform.feedback.curation import Curated, corrections, curate
from ftplatform.feedback.decision_log import Adjudication, Ruling
from ftplatform.feedback.events import CorrectionKind, Intent, read_events
from ftplatform.rows.record_tables import RecordTable
from ftplatform.rows.schema import ROW_SCHEMA, row_id
from ftplatform.rows.sources import list_files

GOOD: dict[str, Any] = {
    "event_id": "e1",
    "conversation": "c1",
    "surface": "curation",
    "actor": "ann",
    "actor_role": "agent",
    "prompt": "Where is my refund?",
    "answer": "I do not know.",
    "intent_code": "wrong_fact",
    "correction_kind": "replacement",
    "correction": "It left our bank on Monday.",
    "reviewers": ["ben"],
    "created_at": "2024-05-01T10:00:00Z",
}


def events(tmp_path: Path, *changes: dict[str, Any] | bytes, **options: Any) -> RecordTable:
    lines = [change if isinstance(change, bytes) else orjson.dumps({**GOOD, **change}) for change in changes]
    (tmp_path / "events.jsonl").write_bytes(b"\n".join(lines))
    return read_events(list_files(["events.jsonl"], tmp_path), **options)


def curated(tmp_path: Path, *changes: dict[str, Any]) -> Curated:
    read = events(tmp_path, *changes)
    assert read.counts.quarantined == 0, read.quarantine.to_pylist()
    result = curate(read.table, source="feedback/thumbs")
    assert result.rows.num_rows + result.rejected.num_rows == read.table.num_rows
    return result


def test_a_reviewed_replacement_becomes_a_row(tmp_path: Path) -> None:
    rows = curated(tmp_path, {}).rows
    assert rows.schema == ROW_SCHEMA
    (kept,) = rows.to_pylist()
    assert [(m["role"], m["content"], m["trainable"]) for m in kept["messages"]] == [
        ("user", "Where is my refund?", False),
        ("assistant", "It left our bank on Monday.", True),
    ]
    assert kept["row_id"] == row_id(kept["messages"])
    assert (kept["surface"], kept["source"], kept["group"], kept["author"]) == ("curation", "feedback/thumbs", "c1", "ann")
    assert orjson.loads(kept["meta"]) == {"event": "e1", "intent": "wrong_fact", "reviewers": ["ben"]}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"surface": None}, "no_surface"),
        ({"surface": "debug"}, "debug_surface"),
        ({"surface": "qa"}, "debug_surface"),
        ({"intent_code": None}, "no_intent"),
        ({"intent_code": "ui_test"}, "not_about_the_answer"),
        ({"intent_code": "bug_report"}, "not_about_the_answer"),
        ({"correction_kind": "comment", "correction": "this is fine but I hate how it phrases it"}, "not_a_replacement"),
        ({"correction_kind": "instruction", "correction": "be shorter"}, "not_a_replacement"),
        ({"correction_kind": None}, "not_a_replacement"),
        ({"reviewers": None}, "not_reviewed"),
        ({"reviewers": []}, "not_reviewed"),
        ({"correction": " I do not know. "}, "same_as_answer"),
    ],
)
def test_everything_else_is_rejected_with_its_reason(tmp_path: Path, change: dict[str, Any], reason: str) -> None:
    result = curated(tmp_path, change)
    assert result.rows.num_rows == 0
    assert result.rejected["rejection"].to_pylist() == [reason]


def test_short_true_targets_are_kept(tmp_path: Path) -> None:
    assert curated(tmp_path, {"correction": "No."}, {"correction": "$42.10"}).rows.num_rows == 2


def decision(event_id: str = "e1", **columns: Any) -> Adjudication:
    given = {"by": "kim", "at": datetime(2026, 1, 5, tzinfo=UTC), "decision": Ruling.ACCEPT}
    return Adjudication(event_id=event_id, **{**given, **columns})


def adjudicated(tmp_path: Path, change: dict[str, Any], *decisions: Adjudication) -> Curated:
    return curate(events(tmp_path, change).table, source="feedback/thumbs", adjudications=decisions)


def test_an_adjudicator_says_what_an_event_does_not(tmp_path: Path) -> None:
    silent = {"intent_code": None, "correction_kind": None, "reviewers": None}
    assert adjudicated(tmp_path, silent, decision()).rejected["rejection"].to_pylist() == ["no_intent"]
    said = decision(intent_code=Intent.WRONG_FACT, correction_kind=CorrectionKind.REPLACEMENT)
    (row,) = adjudicated(tmp_path, silent, said).rows.to_pylist()
    assert orjson.loads(row["meta"]) == {"event": "e1", "intent": "wrong_fact", "reviewers": ["kim"], "adjudicated_by": "kim"}


@pytest.mark.parametrize(
    ("change", "decided", "reason"),
    [
        ({}, {"decision": Ruling.REJECT}, "adjudicated_out"),
        ({}, {"correction_kind": CorrectionKind.COMMENT}, "not_a_replacement"),
        ({}, {"intent_code": Intent.UI_TEST}, "not_about_the_answer"),
        ({"surface": "debug"}, {}, "debug_surface"),
        ({"surface": None}, {}, "no_surface"),
        ({"correction_kind": None, "correction": None}, {"correction_kind": CorrectionKind.REPLACEMENT}, "no_correction"),
    ],
)
def test_what_an_adjudicator_cannot_make_a_label(tmp_path: Path, change: dict[str, Any], decided: Any, reason: str) -> None:
    assert adjudicated(tmp_path, change, decision(**decided)).rejected["rejection"].to_pylist() == [reason]


def test_the_last_decision_holds_and_others_do_nothing(tmp_path: Path) -> None:
    out, in_again = decision(decision=Ruling.REJECT), decision()
    assert adjudicated(tmp_path, {}, out, in_again).rows.num_rows == 1
    assert adjudicated(tmp_path, {}, in_again, out).rows.num_rows == 0
    assert adjudicated(tmp_path, {}, decision("e7", decision=Ruling.REJECT)).rows.num_rows == 1


def test_a_decision_on_one_of_two_events_with_an_id_is_none(tmp_path: Path) -> None:
    both = events(tmp_path, {}, {"correction": "another"}).table
    assert curate(both, source="feedback/thumbs").rows.num_rows == 2
    assert (
        curate(both, source="feedback/thumbs", adjudications=[decision()]).rejected["rejection"].to_pylist()
        == ["ambiguous_decision"] * 2
    )


def test_what_the_check_of_corrections_reads(tmp_path: Path) -> None:
    table = events(tmp_path, {}, {"event_id": "e2", "answer": None}).table
    read = corrections(curate(table, source="feedback/thumbs", adjudications=[decision()]).rows, table)
    assert read.to_pylist() == [
        {
            "event_id": name,
            "prompt": "Where is my refund?",
            "answer": answer,
            "correction": "It left our bank on Monday.",
            "reviewed": reviewed,
        }
        for name, answer, reviewed in (("e1", "I do not know.", True), ("e2", None, False))
    ]


def test_malformed_events_are_quarantined(tmp_path: Path) -> None:
    read = events(
        tmp_path,
        {},
        {"event_id": None},
        {"surface": "debgu"},
        {"intent_code": "wrong"},
        {"correction": "  "},
        {"correction": None},
        {"prompt": " \n"},
        {"reviewers": [{"name": "ben"}]},
        {"created_at": "yesterday"},
        b'{"event_id": NaN}',
        b"[1, 2]",
        b'{"event_id": "\xff"}',
    )
    assert (read.counts.read, read.counts.kept, read.counts.quarantined) == (12, 1, 11)
    reasons = Counter(read.quarantine["reason"].to_pylist())
    assert reasons["wrong_type"] == 3
    assert reasons["missing_field"] == 3
    assert {"empty_content", "invalid_timestamp", "non_finite_number", "not_an_object", "invalid_utf8"} <= set(reasons)


def test_other_key_names(tmp_path: Path) -> None:
    line = orjson.dumps({**{k: v for k, v in GOOD.items() if k != "event_id"}, "id": 7})
    assert events(tmp_path, line, fields={"event_id": "id"}).table["event_id"].to_pylist() == ["7"]


def test_no_events_no_rows() -> None:
    from ftplatform.feedback.events import EVENT_SCHEMA

    result = curate(pa.Table.from_pylist([], schema=EVENT_SCHEMA), source="feedback/thumbs")
    assert result.rows.num_rows == result.rejected.num_rows == 0
