"""What is found, and what the conversation says for it."""

from __future__ import annotations

import json

import polars as pl
import pytest

from ftplatform.targets.habits.detection import FINDINGS_SCHEMA, Habit, scan
from ftplatform_tests.tables import row, table
from ftplatform_tests.unit.targets.habits.policies import make_policy

CREDIT = {
    "authority": [{"action": "goodwill credit", "covers": ["credit", "money"], "max_amount": "20 USD", "tool": "issue_credit"}],
    "tools": {"issue_credit": {"does": ["payment"]}, "open_ticket": {"does": ["ticket", "escalation"]}},
    "queues": ["billing team"],
}


def call(tool: str, **arguments: object) -> tuple[str, str]:
    return "tool", json.dumps({"name": tool, "arguments": arguments})


def reasons(*turns: str | tuple[str, str], habit: Habit = Habit.COMMITMENT, **policy: object) -> list[str | None]:
    found = scan(table([row(*turns)]), make_policy(**(policy or CREDIT)), habits=[habit])
    return found.of(habit, unbacked=False)["reason"].to_list()


def test_a_credit_without_any_call_is_neither_authorized_nor_real() -> None:
    found = scan(table([row("hi", "I've issued a $20 credit to your account.")]), make_policy(**CREDIT))
    assert found.of(Habit.COMMITMENT)["reason"].to_list() == ["goodwill credit: issue_credit is not called"]
    assert found.of(Habit.PHANTOM_ACTION)["reason"].to_list() == ["no earlier tool call does a payment"]


def test_a_call_backs_promise_and_claim() -> None:
    found = scan(
        table([row("hi", call("issue_credit", amount=20), ("assistant", "I've issued a $20 credit to your account."))]),
        make_policy(**CREDIT),
    )
    assert found.findings["habit"].to_list() == [Habit.COMMITMENT, Habit.PHANTOM_ACTION]
    assert found.findings["reason"].to_list() == [None, None]


def test_a_mention_of_the_tool_is_no_call() -> None:
    assert reasons("hi", ("tool", "issue_credit exists"), ("assistant", "I've issued a $20 credit to your account.")) != [None]


def test_a_call_that_failed_is_no_evidence() -> None:
    made, said = ("assistant", call("issue_credit", amount=20)[1]), ("assistant", "I've issued a $20 credit to your account.")
    assert reasons("hi", made, ("tool", "Error: limit reached"), said) == ["goodwill credit: issue_credit is not called"]
    assert reasons("hi", made, ("tool", "added"), said) == [None]


def test_more_than_the_limit_is_beyond_authority() -> None:
    said = [
        reasons("hi", call("issue_credit"), ("assistant", f"I've issued a {sum_} credit to your account."))
        for sum_ in ("$20", "$21", "€20")
    ]
    assert said == [[None], ["goodwill credit: at most 20.0 USD"], ["goodwill credit: at most 20.0 USD"]]


def test_a_percentage_is_no_amount() -> None:
    assert reasons("hi", call("issue_credit"), ("assistant", "You get a 30% discount from us.")) == [
        "goodwill credit: at most 20.0 USD"
    ]


def test_a_promise_may_be_kept_a_turn_later() -> None:
    assert reasons("hi", "I will give you a $20 credit.", "thanks", call("issue_credit")) == [None]
    # A claim may not: it says that it is done.
    assert reasons("hi", "I've issued a $20 credit.", "thanks", call("issue_credit"), habit=Habit.PHANTOM_ACTION) != [None]


def test_conditions_are_met_by_earlier_results_only() -> None:
    policy = {**CREDIT, "authority": [{"action": "credit", "covers": ["credit", "money"], "requires": ['"tier": "gold"']}]}
    gold, said = ("tool", '{"tier": "gold"}'), ("assistant", "I will give you a $20 credit.")
    assert reasons("hi", gold, said, **policy) == [None]
    assert reasons("hi", said, gold, **policy) == ["credit: no earlier tool result meets its conditions"]
    assert reasons("I am gold", ("user", '{"tier": "gold"}'), said, **policy) == [
        "credit: no earlier tool result meets its conditions"
    ]


def test_a_queue_that_does_not_exist() -> None:
    done = call("open_ticket")
    assert reasons("hi", done, ("assistant", "I have escalated this to the billing team."), habit=Habit.PHANTOM_ACTION) == [None]
    assert reasons("hi", done, ("assistant", "I have escalated this to the tier two desk."), habit=Habit.PHANTOM_ACTION) == [
        "the policy lists no queue tier two desk"
    ]


def test_a_call_written_in_the_assistant_turn_counts() -> None:
    said = ("assistant", 'One moment.\n[{"function": {"arguments": "{}", "name": "open_ticket"}, "type": "function"}]')
    assert reasons("hi", said, ("tool", "T-1"), ("assistant", "I have opened a ticket for you."), habit=Habit.PHANTOM_ACTION) == [
        None
    ]


def test_only_what_is_trained_on_is_read() -> None:
    masked = row("hi", "I will refund you $500.")
    masked["messages"][1]["trainable"] = False
    assert scan(table([masked]), make_policy()).findings.is_empty()
    assert scan(table([row("I will refund you $500 if you lose", "Hello.")]), make_policy()).findings.is_empty()


def test_an_empty_corpus() -> None:
    found = scan(table([]), make_policy())
    assert (found.rows, found.turns, dict(found.findings.schema)) == (0, 0, FINDINGS_SCHEMA)


def test_forbidden_phrases() -> None:
    found = scan(table([row("hi", "No Worries, mate. All is well.")]), make_policy(voice={"forbidden": ["no worries"]}))
    assert found.of(Habit.FORBIDDEN_PHRASE)["sentence"].to_list() == ["No Worries, mate."]


@pytest.mark.parametrize(
    ("sentence", "kind"),
    [
        ("We will refund you in full.", "money"),
        ("I'll send you a voucher tomorrow.", "credit"),
        ("I will waive the late fee for you.", "waiver"),
        ("I promise that your parcel arrives by Friday.", "deadline"),
    ],
)
def test_kinds_of_promises(sentence: str, kind: str) -> None:
    assert scan(table([row("hi", sentence)]), make_policy()).of(Habit.COMMITMENT)["kind"].to_list() == [kind]


@pytest.mark.parametrize(
    ("sentence", "act"),
    [
        ("I have escalated this to our specialists.", "escalation"),
        ("My colleagues upstairs have it now.", "escalation"),
        ("A ticket has been raised for your case.", "ticket"),
        ("I have scheduled a callback for you.", "callback"),
        ("Your table has been booked.", "booking"),
        ("Your subscription has been cancelled.", "cancellation"),
    ],
)
def test_acts_that_are_claimed(sentence: str, act: str) -> None:
    found = scan(table([row("hi", sentence)]), make_policy()).of(Habit.PHANTOM_ACTION)
    assert found["kind"].to_list() == [act]


def test_batches_give_what_the_table_gives() -> None:
    rows = table([row(f"hi {i}", "Hello. I will refund you $5. Bye.", author=f"a{i % 3}") for i in range(50)])
    whole, parts = scan(rows, make_policy()), scan(rows.to_batches(max_chunksize=7), make_policy())
    assert whole.findings.equals(parts.findings)
    assert whole.findings["row"].to_list() == list(range(50))
    assert isinstance(whole.findings, pl.DataFrame)
