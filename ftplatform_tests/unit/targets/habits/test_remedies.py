"""Remedies: nothing is dropped, the sentence is out of the loss or no longer there, and a second scan finds nothing."""

from __future__ import annotations

import json

import polars as pl
import pytest

from ftplatform.rows.schema import MASKS_SCHEMA, row_id
from ftplatform.rows.validation import row_schema
from ftplatform.targets.habits.detection import Habit, scan
from ftplatform.targets.habits.remedies import MissingTemplate, masks, rewrite, to_tool_call
from ftplatform.verdict import Decision
from ftplatform_tests.tables import row, table
from ftplatform_tests.unit.targets.habits.policies import make_policy

POLICY = make_policy(
    tools={"open_ticket": {"does": ["ticket"]}, "book": {"does": ["booking"], "when": '"confirm":true'}},
    rewrites={"commitment": "Let me check what I can do for you.", "phantom_action": "I can open a ticket for you."},
)
LONG = "Your order left today. I will refund you $20. I will also waive the fee for you. It arrives with UPS."
ROWS = table(
    [
        row("a", "Nothing to see here.", source="raw/one"),
        row("b", LONG, source="raw/two", meta='{"kept": 1}', author="anna", slices=["refunds"]),
        row("c", "I have opened a ticket for you.", source="raw/three"),
        row("d", "I'm sorry. Your order is here."),
    ]
)


def found(*habits: Habit) -> pl.DataFrame:
    return scan(ROWS, POLICY, habits=habits or tuple(Habit)).findings.filter(pl.col("reason").is_not_null())


def test_masks_are_the_places_of_the_sentences() -> None:
    parts = masks(found(Habit.COMMITMENT))
    assert parts.schema == MASKS_SCHEMA
    texts = {row["row_id"]: row["messages"] for row in ROWS.to_pylist()}
    said = [texts[part["row_id"]][part["turn"]]["content"][part["start"] : part["end"]] for part in parts.to_pylist()]
    assert [text.strip() for text in said] == ["I will refund you $20.", "I will also waive the fee for you."]


def test_what_is_masked_is_found_no_more_and_the_rest_is() -> None:
    read = scan(ROWS, POLICY)
    left = read.unmasked(masks(read.of(Habit.COMMITMENT)))
    assert left.of(Habit.COMMITMENT).is_empty()
    assert left.of(Habit.PHANTOM_ACTION).equals(read.of(Habit.PHANTOM_ACTION))
    first = masks(read.of(Habit.COMMITMENT)).slice(0, 1)
    assert read.unmasked(first).of(Habit.COMMITMENT)["sentence"].to_list() == ["I will also waive the fee for you."]


def test_a_sentence_that_is_wrong_in_two_ways_is_masked_once() -> None:
    twice = pl.concat([found(Habit.COMMITMENT), found(Habit.COMMITMENT).with_columns(habit=pl.lit("apology"))])
    assert masks(twice).num_rows == 2


def test_a_changed_row_has_a_new_id_and_its_origins() -> None:
    before, after = ROWS.to_pylist()[1], rewrite(ROWS, found(Habit.COMMITMENT), POLICY).rows.to_pylist()[1]
    assert after["row_id"] == row_id(after["messages"]) != before["row_id"]
    assert after["parents"] == [before["row_id"]]
    kept = ("origins", "slices", "author", "source", "meta")
    assert [after[name] for name in kept] == [before[name] for name in kept]


def test_rows_without_a_finding_are_untouched() -> None:
    assert rewrite(ROWS, found(Habit.COMMITMENT), POLICY).rows.to_pylist()[0] == ROWS.to_pylist()[0]


def test_rewriting_by_the_policy() -> None:
    done = rewrite(ROWS, found(Habit.COMMITMENT, Habit.PHANTOM_ACTION), POLICY)
    texts = [r["messages"][-1]["content"] for r in done.rows.to_pylist()]
    assert texts[1] == "Your order left today. Let me check what I can do for you. It arrives with UPS."
    assert texts[2] == "I can open a ticket for you."
    assert scan(done.rows, POLICY, habits=[Habit.COMMITMENT, Habit.PHANTOM_ACTION]).findings.is_empty()
    changes = done.changes.to_pylist()
    assert [change["action"] for change in changes] == ["rewritten", "removed", "rewritten"]
    assert changes[0]["before"] == "I will refund you $20."


def test_an_apology_without_a_template_is_taken_out() -> None:
    done = rewrite(ROWS, found(Habit.APOLOGY), POLICY)
    assert done.rows.to_pylist()[3]["messages"][-1]["content"] == "Your order is here."


def test_no_template_is_an_error() -> None:
    with pytest.raises(MissingTemplate, match="rewrites"):
        rewrite(ROWS, found(Habit.COMMITMENT), make_policy())


def test_an_act_becomes_a_tool_call() -> None:
    done = to_tool_call(ROWS, found(), POLICY, lambda finding: {"about": finding["kind"]})
    messages = done.rows.to_pylist()[2]["messages"]
    assert [(m["role"], m["trainable"]) for m in messages] == [
        ("user", False),
        ("assistant", True),
        ("tool", False),
        ("assistant", True),
    ]
    assert json.loads(messages[1]["content"]) == {"name": "open_ticket", "arguments": {"about": "ticket"}}
    assert scan(done.rows, POLICY).of(Habit.PHANTOM_ACTION).is_empty()
    assert row_schema(done.rows).decision is Decision.PASS
    assert done.counts["tool_call"] == 1


def test_a_call_that_would_be_no_evidence_is_not_made_up() -> None:
    rows = table([row("x", "Your table has been booked.")])
    findings = scan(rows, POLICY).of(Habit.PHANTOM_ACTION)
    assert to_tool_call(rows, findings, POLICY).counts["no_tool"] == 1
    done = to_tool_call(rows, findings, POLICY, lambda _: {"confirm": True})
    assert done.counts["tool_call"] == 1
    assert scan(done.rows, POLICY).of(Habit.PHANTOM_ACTION).is_empty()


def test_nothing_to_do() -> None:
    assert masks(found().clear()).num_rows == 0
    done = rewrite(ROWS, found().clear(), POLICY)
    assert done.rows.equals(ROWS)
    assert done.changes.num_rows == 0
