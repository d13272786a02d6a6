"""M4: no way into a dataset but through curation, and nobody teaches the model alone."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from ftplatform.feedback.actor_concentration import actor_concentration, gini
from ftplatform.feedback.curation import curate
from ftplatform.feedback.events import EVENT_SCHEMA
from ftplatform.feedback.feedback_lineage import FeedbackSet, SharedFile, feedback_lineage
from ftplatform.rows.redaction import Redaction
from ftplatform.rows.rewriting import REWRITES_SCHEMA, settled, with_texts
from ftplatform.rows.turns import turns
from ftplatform.verdict import Decision
from ftplatform_tests.tables import row, table

NAME = "feedback/thumbs"


def event(at: int, **changes: Any) -> dict[str, Any]:
    return {
        **dict.fromkeys(EVENT_SCHEMA.names),
        "event_id": f"e{at}",
        "surface": "curation",
        "prompt": f"question {at}",
        "answer": f"old answer {at}",
        "intent_code": "wrong_fact",
        "correction_kind": "replacement",
        "correction": f"new answer {at}",
        "reviewers": ["ben"],
        **changes,
    }


EVENTS = pa.Table.from_pylist(
    [event(at) for at in range(20)]
    + [event(20, surface="debug", correction="this is fine but I hate how it phrases it"), event(21, correction="old answer 21")],
    schema=EVENT_SCHEMA,
)
CURATED = curate(EVENTS, source=NAME)
FEEDBACK = {NAME: FeedbackSet(CURATED.rows, CURATED.rejected)}
TICKETS = [row(f"ticket {at}", f"reply {at}", source="raw/tickets") for at in range(50)]


def judged(*more: dict[str, Any], **options: Any):
    return feedback_lineage(table([*CURATED.rows.to_pylist(), *TICKETS, *more]), FEEDBACK, **options)


def violations(verdict: Any) -> dict[str, int]:
    return verdict.details["by_violation"]


def test_curated_feedback_and_other_sources_pass() -> None:
    verdict = judged()
    assert verdict.passed
    assert verdict.details["rows_of_feedback"] == 20
    assert verdict.n == 70


def test_an_edge_from_the_raw_events_fails_even_if_every_text_looks_clean() -> None:
    """ADV: the events file is read a second time as an ordinary source; no row of it has to be odd."""
    verdict = judged(shared_files=[SharedFile("raw/clean", NAME, "data/events.jsonl")])
    assert verdict.decision is Decision.FAIL
    assert violations(verdict) == {"event file read as rows": 1}
    assert verdict.evidence[0]["asset"] == "raw/clean"


def test_a_rejected_event_under_another_name_is_found() -> None:
    """ADV: by its source the row is a clean ticket; only the text says where it is from."""
    pasted = row("Question 20 ", "this is fine but I  hate how it phrases it", source="raw/tickets")
    verdict = judged(pasted)
    assert verdict.decision is Decision.FAIL
    assert violations(verdict) == {"rejected event": 1}
    assert verdict.evidence[0]["row_id"] == pasted["row_id"]
    assert pasted["source"] not in FEEDBACK, "a rule on source names passes it"


def test_what_only_resembles_feedback_passes() -> None:
    same_answer = row("another question", "this is fine but I hate how it phrases it", source="raw/tickets")
    what_the_model_said = row("question 21", "old answer 21", source="raw/tickets")
    assert judged(same_answer, what_the_model_said).passed


@pytest.mark.parametrize(
    ("smuggled", "violation"),
    [
        (row("q", "a", source=NAME), "not curated"),
        (row("q", "a", source="raw/tickets", origins=["raw/tickets", NAME]), "not curated"),
        (row("q", "a", surface="debug"), "debug surface"),
        (row("q", "a", surface=""), "missing surface"),
    ],
)
def test_each_way_around(smuggled: dict[str, Any], violation: str) -> None:
    verdict = judged(smuggled)
    assert verdict.decision is Decision.FAIL
    assert violations(verdict) == {violation: 1}


def test_a_curated_row_without_an_intent() -> None:
    silent = {**CURATED.rows.to_pylist()[0], "meta": '{"event": "e0"}'}
    sets = {NAME: FeedbackSet(table([silent]), CURATED.rejected)}
    verdict = feedback_lineage(table([silent]), sets)
    assert violations(verdict) == {"missing intent": 1}


def test_a_merged_copy_of_a_curated_row_passes() -> None:
    """A ticket with the very text of a curated row has both origins after exact deduplication, and its own meta."""
    curated = CURATED.rows.to_pylist()[0]
    merged = {**curated, "source": "raw/tickets", "origins": ["raw/tickets", NAME], "meta": "{}"}
    assert feedback_lineage(table([merged]), FEEDBACK).passed


def test_no_rows_and_no_feedback() -> None:
    assert feedback_lineage(table([]), FEEDBACK).decision is Decision.INSUFFICIENT_EVIDENCE
    assert feedback_lineage(table(TICKETS), {}).passed


# ---- rewritten rows --------------------------------------------------------------------------------------------------------


def reworded(rows: pa.Table, old: str, new: str) -> tuple[pa.Table, pa.Table]:
    """Rows with a word replaced in their answers as a step of the dataset does it, and the record of that step."""
    said = turns(rows)
    places = np.flatnonzero(pc.equal(said["role"], "assistant").to_numpy())
    after = with_texts(rows, places, pc.replace_substring(said["content"].take(places), old, new))
    pairs = zip(rows["row_id"].to_pylist(), after["row_id"].to_pylist(), strict=True)
    return settled(after, rows, [{a: b for a, b in pairs if a != b}])


def test_curated_rows_that_a_later_step_rewrites_pass() -> None:
    rows, record = reworded(CURATED.rows, "new answer", "new reply")
    verdict = feedback_lineage(rows, FEEDBACK, rewrites=record)
    assert verdict.passed, verdict.summary
    assert verdict.details["rewritten_rows_followed"] == 20
    assert violations(feedback_lineage(rows, FEEDBACK)) == {"not curated": 20}, "without the record nothing is known of them"


def claims(row_of_feedback: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """A row of another text that says of itself, in every way a row can, that it comes from a curated one."""
    curated = CURATED.rows["row_id"][0].as_py()
    said = {"origins": [NAME], "parents": [curated], "meta": f'{{"intent": "wrong_fact", "remedied_from": ["{curated}"]}}'}
    return {**row_of_feedback, **said, **changes}


def naive_followers(row: dict[str, Any]) -> bool:
    """Follows what rows say: an id, a parent, or the metadata."""
    curated = set(CURATED.rows["row_id"].to_pylist())
    return bool(curated & {row["row_id"], *row["parents"], *json.loads(row["meta"]).get("remedied_from", [])})


def test_a_row_that_only_claims_its_descent_fails() -> None:
    """ADV: origins, parents and metadata name a curated row, even its id; the text is none that any step made of it."""
    rows, record = reworded(CURATED.rows, "new answer", "new reply")
    for forged in (
        claims(row("question 0", "anything I like")),
        claims(row("question 0", "anything I like"), row_id=CURATED.rows["row_id"][0].as_py()),
        claims(row("question 0", "anything I like"), row_id=rows["row_id"][0].as_py()),
    ):
        assert naive_followers(forged) or forged["row_id"] in record["row_id"].to_pylist()
        verdict = feedback_lineage(table([*rows.to_pylist(), forged]), FEEDBACK, rewrites=record)
        assert verdict.decision is Decision.FAIL
        assert violations(verdict) == {"not curated": 1}
        assert "anything I like" in str(verdict.evidence[0]["text"])


def test_a_record_whose_texts_are_others_is_none() -> None:
    """ADV: a line that names a curated row as the source and holds another text would launder whatever it points at."""
    forged = claims(row("question 0", "anything I like"))
    line = {"row_id": forged["row_id"], "made_from": forged["parents"][0], "messages": forged["messages"]}
    record = pa.Table.from_pylist([line], schema=REWRITES_SCHEMA)
    assert violations(feedback_lineage(table([forged]), FEEDBACK, rewrites=record)) == {"not curated": 1}


def test_a_rewrite_of_a_row_that_was_never_curated_fails() -> None:
    smuggled = table([row("question 0", "anything I like", source=NAME)])
    rows, record = reworded(smuggled, "anything", "something")
    assert violations(feedback_lineage(rows, FEEDBACK, rewrites=record)) == {"not curated": 1}


def test_the_intent_is_that_of_the_row_it_was_made_from() -> None:
    silent = table([{**CURATED.rows.to_pylist()[0], "meta": '{"event": "e0"}'}])
    rows, record = reworded(silent, "new answer", "new reply")
    stated = table([{**line, "meta": CURATED.rows.to_pylist()[0]["meta"]} for line in rows.to_pylist()])
    sets = {NAME: FeedbackSet(silent, CURATED.rejected)}
    assert violations(feedback_lineage(stated, sets, rewrites=record)) == {"missing intent": 1}


def test_a_rejected_event_is_known_again_after_a_rewrite() -> None:
    """ADV: corrected spelling or masking between the pasted text and the dataset must not hide where it is from."""
    pasted = table([row("question 20", "this is fine but I hate how it phrases it", source="raw/tickets")])
    rows, record = reworded(pasted, "hate how", "dislike how")
    assert feedback_lineage(rows, FEEDBACK).passed, "by its present text it is nobody's"
    assert violations(feedback_lineage(rows, FEEDBACK, rewrites=record)) == {"rejected event": 1}


def test_a_rejected_event_is_known_again_behind_placeholders() -> None:
    said = {"prompt": "I am jo@example.org", "correction": "Write to al@example.org or +1 555 123 4567."}
    events = pa.Table.from_pylist([event(0, surface="debug", **said)], schema=EVENT_SCHEMA)
    sets = {NAME: FeedbackSet(curate(events, source=NAME).rows, curate(events, source=NAME).rejected)}
    typed = table([row(said["prompt"], said["correction"], group="c1"), row("my mail is bo@example.org", "Thanks.", group="c1")])
    masked = pa.Table.from_batches(Redaction().batches(typed.to_batches()))
    assert "example.org" not in repr(masked.to_pylist())
    assert violations(feedback_lineage(masked, sets)) == {"rejected event": 1}
    assert feedback_lineage(table([row("I am [EMAIL_1]", "Write to [EMAIL_1] and [PHONE_1].")]), sets).passed


# ---- actors ----------------------------------------------------------------------------------------------------------------


def by(authors: list[str | None], text: str = "answer") -> pa.Table:
    return table(row(f"q {at}", f"{text} {at}", author=author) for at, author in enumerate(authors))


def test_one_actor_with_more_than_a_tenth_warns() -> None:
    rows = table(
        row(
            f"q {at}", "kindly do the needful" if at < 13 else f"we sent it on day {at}", author="ann" if at < 13 else f"p{at % 20}"
        )
        for at in range(100)
    )
    verdict = actor_concentration(rows)
    assert verdict.decision is Decision.WARN
    assert verdict.estimate == pytest.approx(0.13)
    top = verdict.evidence[0]
    assert (top["actor"], top["rows"]) == ("ann", 13)
    assert "kindly" in str(top["typical_words"])
    assert float(str(top["shift_without_bits"])) > max(float(str(line["shift_without_bits"])) for line in verdict.evidence[1:])


def test_evenly_spread_feedback_passes() -> None:
    verdict = actor_concentration(by([f"p{at % 20}" for at in range(100)]))
    assert verdict.passed
    assert verdict.details["gini"] == pytest.approx(0.0)


def test_rows_without_an_actor_may_all_be_one_person_s() -> None:
    """ADV: leaving out unknown actors makes the shares look even."""
    authors = [None] * 40 + [f"p{at % 20}" for at in range(60)]
    naive = max(authors.count(f"p{at}") for at in range(20)) / 60
    assert naive <= 0.10
    verdict = actor_concentration(by(authors))
    assert verdict.decision is Decision.WARN
    assert verdict.evidence[0]["actor"] == "(unknown)"


def test_few_rows_say_nothing() -> None:
    assert actor_concentration(by(["a", "b"] * 14)).decision is Decision.INSUFFICIENT_EVIDENCE
    assert actor_concentration(by([])).decision is Decision.INSUFFICIENT_EVIDENCE
    assert actor_concentration(by(["ann"] * 50)).decision is Decision.WARN


def test_gini_of_known_amounts() -> None:
    assert gini(np.array([1, 1, 1, 1])) == 0
    assert gini(np.array([0, 0, 0, 10])) == pytest.approx(0.75)
    # Half of the mean absolute difference over the mean, counted out for 1, 2, 3: (8 / 9) / 2 / 2.
    assert gini(np.array([1, 2, 3])) == pytest.approx(2 / 9)


def test_evidence_shows_no_address() -> None:
    verdict = actor_concentration(by(["jo@example.org"] * 50))
    assert "jo@" not in repr(verdict.to_record())
