"""Exports of tools: every opinion becomes an event or is quarantined, and nothing about intent is made up."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from ftplatform.feedback.curation import curate
from ftplatform.feedback.events import EVENT_SCHEMA, EventSurface
from ftplatform.feedback.exports import Declared, ExportTable, read_export
from ftplatform.rows.sources import list_files

PRODUCTION = Declared(surface=EventSurface.PRODUCTION)


def read(tmp_path: Path, export: str, *documents: Any, declared: Declared | None = PRODUCTION) -> ExportTable:
    """Every document in a file of its own."""
    for at, document in enumerate(documents):
        (tmp_path / f"{at}.json").write_text(json.dumps(document))
    found = read_export(list_files(["*.json"], tmp_path), export, declared=declared)
    assert found.counts.kept == found.table.num_rows
    assert found.counts.quarantined == found.quarantine.num_rows
    assert found.counts.read == found.counts.kept + found.counts.quarantined
    assert found.table.schema == EVENT_SCHEMA
    return found


def trace(**changes: Any) -> dict[str, Any]:
    """A trace as Langfuse's API returns it."""
    return {
        "id": "t1",
        "timestamp": "2026-01-05T09:30:00.000Z",
        "name": "chat",
        "input": {"messages": [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Where is my refund?"}]},
        "output": {"role": "assistant", "content": "I do not know."},
        "sessionId": "s1",
        "userId": "u1",
        "environment": "production",
        "tags": ["web"],
        "metadata": {},
        "scores": [score()],
        **changes,
    }


def score(**changes: Any) -> dict[str, Any]:
    return {
        "id": "sc1",
        "traceId": "t1",
        "name": "user-feedback",
        "value": 0,
        "dataType": "NUMERIC",
        "source": "API",
        "comment": "this is fine but I hate how it phrases it",
        "timestamp": "2026-01-05T09:31:00.000Z",
        "authorUserId": None,
        **changes,
    }


def run(**changes: Any) -> dict[str, Any]:
    """A run as LangSmith exports it."""
    return {
        "id": "r1",
        "trace_id": "r1",
        "session_id": "project-1",
        "run_type": "chain",
        "inputs": {"question": "Where is my refund?"},
        "outputs": {"output": "I do not know."},
        "start_time": "2026-01-05T09:30:00.000000",
        "extra": {"metadata": {"thread_id": "th1", "environment": "staging"}},
        **changes,
    }


def feedback(**changes: Any) -> dict[str, Any]:
    return {
        "id": "f1",
        "run_id": "r1",
        "key": "user_score",
        "score": 1.0,
        "value": None,
        "comment": None,
        "correction": None,
        "created_at": "2026-01-05T09:31:00.000000",
        "feedback_source": {"type": "app", "metadata": None, "user_id": "u7"},
        **changes,
    }


def test_langfuse_traces_with_scores(tmp_path: Path) -> None:
    found = read(tmp_path, "langfuse", [trace(), trace(id="t2", scores=[])])
    (event,) = found.table.to_pylist()
    assert (event["event_id"], event["conversation"], event["actor"], event["actor_role"]) == ("sc1", "s1", "u1", "API")
    assert (event["prompt"], event["answer"], event["rating"]) == ("Where is my refund?", "I do not know.", 0.0)
    assert (event["comment"], event["correction"], event["correction_kind"]) == (score()["comment"], None, "comment")
    assert (event["surface"], event["intent_code"], event["reviewers"]) == ("production", None, None)
    assert str(event["created_at"]) == "2026-01-05 09:31:00+00:00"
    assert found.without_feedback == 1


def test_langfuse_scores_apart_from_traces_in_any_order(tmp_path: Path) -> None:
    scores = {"data": [score(), score(id="sc2", value=1, comment=None, authorUserId="kim")], "meta": {"page": 1}}
    found = read(tmp_path, "langfuse", scores["data"], [trace(scores=["sc1", "sc2"])])
    assert [(e["event_id"], e["actor"], e["rating"]) for e in found.table.to_pylist()] == [("sc1", "u1", 0.0), ("sc2", "kim", 1.0)]


def test_langfuse_categories_and_corrections(tmp_path: Path) -> None:
    scores = [
        score(dataType="CATEGORICAL", value=None, stringValue="bad tone", comment="really"),
        score(id="sc2", dataType="CORRECTION", value=0, stringValue="It left on Monday.", comment=None),
        score(id="sc3", dataType="BOOLEAN", value=1, comment=None),
    ]
    first, second, third = read(tmp_path, "langfuse", [trace(scores=scores)]).table.to_pylist()
    assert (first["comment"], first["rating"], first["intent_code"]) == ("bad tone; really", None, None)
    assert (second["correction"], second["correction_kind"], second["comment"]) == ("It left on Monday.", None, None)
    assert (third["rating"], third["correction_kind"]) == (1.0, None)


def test_langsmith_runs_with_and_without_feedback_inside(tmp_path: Path) -> None:
    inside = run(id="r2", inputs={"messages": [[_langchain("HumanMessage", "Hi")]]}, feedback=[feedback(id="f2", run_id="r2")])
    apart = feedback(score=0, value="wrong", comment="no", correction={"answer": "It left on Monday."})
    found = read(
        tmp_path, "langsmith", [apart], [run(), inside, run(id="r3")], declared=Declared(surfaces={"staging": EventSurface.QA})
    )
    first, second = found.table.to_pylist()
    assert (first["correction"], first["correction_kind"], first["comment"], first["rating"]) == (
        "It left on Monday.",
        None,
        "wrong; no",
        0.0,
    )
    assert (first["conversation"], first["actor"], first["actor_role"], first["surface"]) == ("th1", "u7", "app", "qa")
    assert (second["event_id"], second["prompt"]) == ("f2", "Hi")
    assert found.without_feedback == 1


def _langchain(name: str, content: str) -> dict[str, Any]:
    return {"lc": 1, "type": "constructor", "id": ["langchain", "schema", "messages", name], "kwargs": {"content": content}}


def test_nothing_of_an_export_is_a_label_before_somebody_says_so(tmp_path: Path) -> None:
    exported = read(tmp_path, "langsmith", [run(feedback=[feedback(), feedback(id="f2", correction={"text": "On Monday."})])])
    curated = curate(exported.table, source="feedback/smith")
    assert curated.rows.num_rows == 0
    assert curated.rejected["rejection"].to_pylist() == ["no_intent", "no_intent"]
    unsaid = read(tmp_path, "langsmith", [run(feedback=[feedback()])], declared=None)
    assert curate(unsaid.table, source="feedback/smith").rejected["rejection"].to_pylist() == ["no_surface"]


def test_malformed_feedback_is_quarantined_and_the_rest_is_kept(tmp_path: Path) -> None:
    traces = [
        trace(),
        trace(id="t2", input={"image": {"url": "x"}}),
        trace(id="t3", input=" "),
        trace(id="t4", scores=[score(id=None), score(id="ok", traceId="t4"), "sc9", 7]),
        trace(id="t5", scores={"a": 1}),
        trace(id="t6", scores=[score(id="x6", timestamp="yesterday")]),
        trace(id="t7", scores=[score(id="x7", value="maybe")]),
        {"no": "id"},
        [1, 2],
    ]
    found = read(tmp_path, "langfuse", traces, [score(id="orphan", traceId="gone")])
    assert found.table["event_id"].to_pylist() == ["sc1", "ok"]
    assert Counter(found.quarantine["reason"].to_pylist()) == {
        "unsupported_content": 1,
        "empty_content": 1,
        "missing_field": 3,
        "not_an_object": 2,
        "wrong_type": 2,
        "invalid_timestamp": 1,
    }
    messages = " ".join(found.quarantine["message"].to_pylist())
    assert "'gone'" in messages


@pytest.mark.parametrize(
    ("written", "rating"),
    [("up", 1.0), ("thumbs_down", 0.0), ("\U0001f44e", 0.0), (True, 1.0), ("4.5", 4.5), (-1, -1.0), ("", None)],
)
def test_thumbs(tmp_path: Path, written: Any, rating: float | None) -> None:
    vote = {"id": 7, "question": "Hi", "response": "Hello.", "thumb": written, "user": "u1", "timestamp": "2026-01-05T09:30:00Z"}
    (event,) = read(tmp_path, "thumbs", [vote]).table.to_pylist()
    assert (event["event_id"], event["prompt"], event["answer"], event["rating"]) == ("7", "Hi", "Hello.", rating)


def test_flat_csv_with_codes_of_our_own(tmp_path: Path) -> None:
    (tmp_path / "votes.csv").write_text(
        "event_id,prompt,answer,rating,comment,intent_code,correction_kind,surface\n"
        "e1,Hi,Hello.,down,too long,tone,comment,user\n"
        "e2,Hi,Hello.,down,,bogus,,user\n"
        "e3,Hi,Hello.,sideways,,,,user\n"
        "e4,,Hello.,up,,,,user\n"
        "e5,Hi,Hello.,up\n"
    )
    found = read_export(list_files(["votes.csv"], tmp_path), "thumbs")
    (event,) = found.table.to_pylist()
    assert (event["intent_code"], event["correction_kind"], event["surface"], event["rating"]) == ("tone", "comment", "user", 0.0)
    assert Counter(found.quarantine["reason"].to_pylist()) == {"wrong_type": 2, "missing_field": 1, "column_count": 1}
    assert found.counts.read == 5


def test_no_feedback_at_all(tmp_path: Path) -> None:
    found = read(tmp_path, "langfuse", [trace(scores=[])])
    assert (found.counts.read, found.without_feedback) == (0, 1)


def test_an_unknown_tool(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="phoenix"):
        read_export([], "phoenix")


def test_two_votes_with_one_id_keep_their_own_questions(tmp_path: Path) -> None:
    votes = [{"id": "v1", "prompt": prompt, "answer": "a", "thumb": "up"} for prompt in ("first", "second")]
    assert read(tmp_path, "thumbs", votes).table["prompt"].to_pylist() == ["first", "second"]
