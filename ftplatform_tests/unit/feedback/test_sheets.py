"""Sheets for people: blind, random, the same for all, safe to open, and read back with errors that name the line."""

from __future__ import annotations

import csv
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from ftplatform.errors import InputDataError
from ftplatform.feedback.agenda import to_annotate
from ftplatform.feedback.decision_log import Annotation
from ftplatform.feedback.events import EVENT_SCHEMA, CorrectionKind, Intent
from ftplatform.feedback.sampling import annotation_sample, blind_sheet, draw
from ftplatform.feedback.sheets import Purpose, read_sheet, write_sheet

NOW = datetime(2026, 1, 5, tzinfo=UTC)


def events(count: int) -> pa.Table:
    rows = [
        {
            **dict.fromkeys(EVENT_SCHEMA.names),
            "event_id": f"e{at}",
            "prompt": f"question {at}",
            "answer": "an answer",
            "correction": "=cmd()" if at == 0 else "mail jo@example.org",
            "intent_code": "tone",
            "reviewers": ["ben"],
            "surface": "qa" if at % 10 == 0 else None if at % 10 == 1 else "user",
        }
        for at in range(count)
    ]
    return pa.Table.from_pylist(rows, schema=EVENT_SCHEMA)


def test_the_sample_is_random_and_stays_when_events_are_added() -> None:
    ids = [f"e{at}" for at in range(4000)]
    first = draw(ids[:2000], 250, purpose="a")
    assert len(set(first.tolist())) == 250
    assert 800 < first.mean() < 1200, "drawn from all over"
    assert set(first.tolist()) != set(draw(ids[:2000], 250, purpose="b").tolist())
    shuffled = np.random.default_rng(0).permutation(2000)
    again = {int(shuffled[at]) for at in draw([ids[at] for at in shuffled], 250, purpose="a")}
    assert again == set(first.tolist()), "the order of the events does not decide"
    grown = set(draw(ids, 250, purpose="a").tolist())
    assert 90 < len(grown & set(first.tolist())) < 160, "half of the sample stays when the events double"


def test_debug_surfaces_are_not_annotated() -> None:
    sample = annotation_sample(events(100), 200)
    assert len(sample) == 90
    assert "e0" not in sample
    assert "e1" in sample, "an event without a surface may still get one"


def test_annotators_get_the_same_events_in_another_order_and_nobody_s_codes() -> None:
    table = events(100)
    kim, lee = (blind_sheet(table, annotation_sample(table, 30), who) for who in ("kim", "lee"))
    assert set(kim["event_id"].to_pylist()) == set(lee["event_id"].to_pylist())
    assert kim["event_id"].to_pylist() != lee["event_id"].to_pylist()
    assert kim.column_names == ["event_id", "prompt", "answer", "correction"]


def test_what_was_coded_is_not_handed_out_again() -> None:
    table = events(100)
    first = to_annotate(table, [], "kim", 30)
    done = [
        Annotation(event_id=line["event_id"], by="kim", at=NOW, intent_code=Intent.TONE, correction_kind=CorrectionKind.NONE)
        for line in first[:10]
    ]
    assert {e["event_id"] for e in to_annotate(table, done, "kim", 30)} == {e["event_id"] for e in first[10:]}
    assert len(to_annotate(table, done, "lee", 30)) == 30


@pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
def test_round_trip(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"sheet{suffix}"
    lines = events(12).to_pylist()
    write_sheet(path, Purpose.ANNOTATION, [{**line, "event_id": f"+{line['event_id']}"} for line in lines])
    text = path.read_text()
    assert "jo@" not in text
    assert "[EMAIL]" in text
    known = [f"+e{at}" for at in range(12)]
    assert read_sheet(path, Purpose.ANNOTATION, known, by="kim", at=NOW) == ([], 12)
    if suffix == ".csv":
        rows = list(csv.DictReader(path.read_text().splitlines()))
        assert rows[0]["correction"] == "'=cmd()"
        text = text.replace("'+e3,question 3,an answer,mail [EMAIL],,", "'+e3,question 3,an answer,mail [EMAIL], Tone ,comment")
    else:
        line = next(line for line in text.splitlines() if '"+e3"' in line)
        text = text.replace(line, line.replace('"intent_code":""', '"intent_code":"tone"').replace('kind":""', 'kind":"comment"'))
    path.write_text(text)
    (entry,), empty = read_sheet(path, Purpose.ANNOTATION, known, by="kim", at=NOW)
    assert entry == Annotation(event_id="+e3", by="kim", at=NOW, intent_code=Intent.TONE, correction_kind=CorrectionKind.COMMENT)
    assert empty == 11


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["e9,tone,comment"], "line 2: there is no event_id 'e9'"),
        (["e1,tone,comment", "e1,tone,comment"], "line 3: 'e1' comes a second time"),
        (["e1,tone,"], "line 2: correction_kind is empty"),
        (["e1,,", "e2,angry,comment"], "line 3: intent_code says 'angry'"),
        (["e1"], "line 2"),
    ],
)
def test_a_bad_line_is_named_and_nothing_is_taken(tmp_path: Path, lines: list[str], message: str) -> None:
    path = tmp_path / "sheet.csv"
    path.write_text("\n".join(["event_id,intent_code,correction_kind", *lines]) + "\n")
    if lines == ["e1"]:
        assert read_sheet(path, Purpose.ANNOTATION, {"e1", "e2"}, by="kim", at=NOW) == ([], 1)
        return
    with pytest.raises(InputDataError) as refused:
        read_sheet(path, Purpose.ANNOTATION, {"e1", "e2"}, by="kim", at=NOW)
    assert message in str(refused.value)
    assert refused.value.remedy


def test_files_that_are_no_sheets(tmp_path: Path) -> None:
    with pytest.raises(InputDataError, match="no sheet"):
        write_sheet(tmp_path / "sheet.xlsx", Purpose.REVIEW, [])
    with pytest.raises(InputDataError, match="cannot be read"):
        read_sheet(tmp_path / "none.csv", Purpose.REVIEW, [], by="kim", at=NOW)
    (tmp_path / "bad.jsonl").write_text('{"row_id": "r1"}\n[1]\n')
    with pytest.raises(InputDataError, match="line 2"):
        read_sheet(tmp_path / "bad.jsonl", Purpose.REVIEW, ["r1"], by="kim", at=NOW)
