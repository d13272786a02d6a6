"""Remedies: nothing is dropped, the sentence is out of the loss or no longer there, and a second scan finds nothing."""

from __future__ import annotations

import json

import polars as pl
import pytest

from ftplatform.rows.schema import row_id
from ftplatform.rows.validation import row_schema
from ftplatform.targets.habits.detection import Habit, scan
from ftplatform.targets.habits.remedies import MissingTemplate, mask, rewrite, to_tool_call
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


def test_masking_takes_the_sentences_out_of_the_loss_and_keeps_the_rest() -> None:
    done = mask(ROWS, found(Habit.COMMITMENT))
    assert done.rows.num_rows == ROWS.num_rows
    after = done.rows.to_pylist()[1]
    said = [(m["content"], m["trainable"]) for m in after["messages"] if m["role"] == "assistant"]
    assert said == [
        ("Your order left today.", True),
        ("I will refund you $20. I will also waive the fee for you.", False),
        ("It arrives with UPS.", True),
    ]
    assert scan(done.rows, POLICY).of(Habit.COMMITMENT).is_empty()
    assert done.counts["masked"] == 2
    assert done.counts["rows_changed"] == 1
    assert row_schema(done.rows).decision is Decision.PASS


def test_a_changed_row_has_a_new_id_and_its_origins() -> None:
    before, after = ROWS.to_pylist()[1], mask(ROWS, found(Habit.COMMITMENT)).rows.to_pylist()[1]
    assert after["row_id"] == row_id(after["messages"]) != before["row_id"]
    assert json.loads(after["meta"]) == {"kept": 1, "remedied_from": [before["row_id"]]}
    assert [after[name] for name in ("origins", "parents", "slices", "author", "source")] == [
        before[name] for name in ("origins", "parents", "slices", "author", "source")
    ]


def test_rows_without_a_finding_are_untouched() -> None:
    assert mask(ROWS, found(Habit.COMMITMENT)).rows.to_pylist()[0] == ROWS.to_pylist()[0]


def test_a_message_of_nothing_else_is_masked_whole_and_counted() -> None:
    done = mask(ROWS, found(Habit.PHANTOM_ACTION))
    after = done.rows.to_pylist()[2]
    assert [m["trainable"] for m in after["messages"]] == [False, False]
    assert after["row_id"] == ROWS.to_pylist()[2]["row_id"], "the mask is no part of the id"
    assert done.counts["nothing_trainable"] == 1


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
    done = mask(ROWS, found().clear())
    assert done.rows.equals(ROWS)
    assert done.changes.num_rows == 0
