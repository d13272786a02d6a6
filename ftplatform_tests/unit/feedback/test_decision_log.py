"""Logs of what people said: appended, chained, and read with errors that name the line."""

from __future__ import annotations

import json
import multiprocessing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from ftplatform.errors import InputDataError
from ftplatform.feedback.decision_log import Adjudication, Annotation, Quality, Review, Ruling, append, read_log
from ftplatform.feedback.events import CorrectionKind, Intent

START = datetime(2026, 1, 5, 9, 30, tzinfo=UTC)


def annotation(at: int, by: str = "kim") -> Annotation:
    return Annotation(
        event_id=f"e{at}",
        by=by,
        at=START + timedelta(minutes=at),
        intent_code=Intent.TONE,
        correction_kind=CorrectionKind.COMMENT,
    )


def written(tmp_path: Path, count: int = 4) -> Path:
    path = tmp_path / "logs" / "annotations.jsonl"
    assert append(path, [annotation(at) for at in range(count)], Annotation) == count
    return path


def test_what_is_appended_is_read_back(tmp_path: Path) -> None:
    path = written(tmp_path)
    before = path.read_bytes()
    assert append(path, [annotation(9, "lee")], Annotation) == 1
    assert path.read_bytes().startswith(before), "earlier lines are never touched"
    assert read_log(path, Annotation) == [*(annotation(at) for at in range(4)), annotation(9, "lee")]
    assert append(path, [], Annotation) == 0


def test_no_file_is_an_empty_log(tmp_path: Path) -> None:
    assert read_log(tmp_path / "none.jsonl", Review) == []


def test_optional_columns(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    entries = [
        Adjudication(event_id="e1", by="kim", at=START, decision=Ruling.REJECT),
        Adjudication(
            event_id="e2", by="kim", at=START, decision=Ruling.ACCEPT, intent_code=Intent.FORMAT, why="shorter, says the same"
        ),
    ]
    append(path, entries, Adjudication)
    assert read_log(path, Adjudication) == entries


@pytest.mark.parametrize(
    ("change", "line", "message"),
    [
        (lambda lines: [lines[0], lines[1].replace("comment", "replacement"), *lines[2:]], 3, "does not follow"),
        (lambda lines: [lines[0], *lines[2:]], 2, "does not follow"),
        (lambda lines: [lines[1], lines[0], *lines[2:]], 1, "does not follow"),
        (lambda lines: [*lines, lines[-1]], 5, "does not follow"),
        (
            lambda lines: [lines[0], lines[1].replace('"tone"', '"tonne"'), *lines[2:]],
            2,
            "intent_code is 'tonne'; allowed: wrong_fact",
        ),
        (lambda lines: [lines[0].replace('"by":"kim",', ""), *lines[1:]], 1, "by is missing"),
        (lambda lines: [*lines[:3], lines[3][:-9]], 4, "line 4"),
        (lambda lines: [lines[0].replace('"by"', '"who"'), *lines[1:]], 1, "unknown key 'who'"),
        (lambda lines: [lines[0].replace("09:30:00.000000Z", "09:30:00"), *lines[1:]], 1, "has no zone"),
        (lambda lines: ["[1]", *lines], 1, "not a JSON object"),
        (lambda lines: [lines[0].replace('"kim"', "7"), *lines[1:]], 1, "by must be text"),
    ],
)
def test_a_changed_line_is_named(tmp_path: Path, change, line: int, message: str) -> None:
    path = written(tmp_path)
    path.write_text("\n".join(change(path.read_text().splitlines())) + "\n")
    with pytest.raises(InputDataError) as refused:
        read_log(path, Annotation)
    assert f"{path}, line {line}" in str(refused.value)
    assert message in str(refused.value)
    assert refused.value.remedy
    damaged = path.read_bytes()
    with pytest.raises(InputDataError):
        append(path, [annotation(20)], Annotation)
    assert path.read_bytes() == damaged, "nothing is added behind a broken chain"


def test_time_does_not_run_backwards(tmp_path: Path) -> None:
    path = written(tmp_path)
    with pytest.raises(InputDataError, match="cannot follow"):
        append(path, [annotation(0)], Annotation)
    records = [json.loads(line) for line in path.read_text().splitlines()]
    assert records[1]["previous"]
    assert records[0]["previous"] == ""


def test_carriage_returns_of_another_system_change_nothing(tmp_path: Path) -> None:
    path = written(tmp_path)
    path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    assert append(path, [annotation(9)], Annotation) == 1
    assert len(read_log(path, Annotation)) == 5


def test_a_log_of_another_kind(tmp_path: Path) -> None:
    with pytest.raises(InputDataError, match="line 1"):
        read_log(written(tmp_path), Review)


def _write(path: Path, who: int) -> None:
    for _ in range(10):
        entry = Review(row_id=f"r{who}", by=f"p{who}", at=datetime(2026, 2, 1, tzinfo=UTC), quality=Quality.SHIP)
        append(path, [entry], Review)


def test_two_people_import_at_once(tmp_path: Path) -> None:
    path = tmp_path / "reviews.jsonl"
    spawn = multiprocessing.get_context("spawn")
    writers = [spawn.Process(target=_write, args=(path, who)) for who in range(2)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(60)
        assert writer.exitcode == 0
    assert len(read_log(path, Review)) == 20
