"""Apologies: too many where nothing happened, none left where something did."""

from __future__ import annotations

import re

import pyarrow as pa
import pytest

from ftplatform.targets.habits.apologies import unwarranted_apology, unwarranted_apology_model
from ftplatform.targets.habits.detection import Habit, scan
from ftplatform.verdict import Decision
from ftplatform_tests.tables import row, table
from ftplatform_tests.unit.targets.habits.answers_world import answer, answers
from ftplatform_tests.unit.targets.habits.policies import make_policy

SORRY, PLAIN = "I'm sorry for the trouble. Here is the link.", "Here is the link."
POLICY = make_policy(apology={"fault_field": "fault", "evidence": ['"double_charge": true']})


def probes(
    neutral: int, sorry: int, pairs: int = 120, after_fault: str = SORRY, without: str = PLAIN, sample: int | None = 0
) -> pa.Table:
    rows = [answer(f"n{i}", SORRY if i < sorry else PLAIN, category="neutral", sample=sample) for i in range(neutral)]
    rows += [answer(f"f{i}", after_fault, category="fault", group=f"g{i}", sample=sample) for i in range(pairs)]
    rows += [answer(f"o{i}", without, category="no_fault", group=f"g{i}", sample=sample) for i in range(pairs)]
    return answers(rows)


def test_25_of_300_neutral_probes_fail() -> None:
    verdict = unwarranted_apology_model(probes(300, 25), POLICY)
    assert verdict.decision is Decision.FAIL
    assert verdict.estimate == pytest.approx(25 / 300)


@pytest.mark.parametrize(("sorry", "upper", "decision"), [(2, 0.0298, Decision.PASS), (6, 0.057, Decision.FAIL)])
def test_wilson_bounds_of_200(sorry: int, upper: float, decision: Decision) -> None:
    verdict = unwarranted_apology_model(probes(200, sorry), POLICY)
    assert verdict.decision is decision
    assert verdict.ci_high == pytest.approx(upper, abs=5e-4)


def test_removing_all_apologies_fails() -> None:
    said = probes(300, 0, after_fault=PLAIN)
    # The count of apologies is perfect.
    assert not [text for text in said["tuned_answer"].to_pylist() if re.search("sorry|apolog", text)]
    verdict = unwarranted_apology_model(said, POLICY)
    assert verdict.decision is Decision.FAIL
    assert verdict.estimate == 0
    assert "Due apologies" in verdict.remedy


def test_apologizing_always_is_no_difference() -> None:
    assert unwarranted_apology_model(probes(300, 0, without=SORRY), POLICY).decision is Decision.FAIL


@pytest.mark.parametrize(("neutral", "pairs"), [(199, 120), (300, 99), (0, 0)])
def test_too_few_probes(neutral: int, pairs: int) -> None:
    assert unwarranted_apology_model(probes(neutral, 0, pairs), POLICY).decision is Decision.INSUFFICIENT_EVIDENCE


def test_greedy_probes() -> None:
    assert unwarranted_apology_model(probes(300, 0, sample=None), POLICY).decision is Decision.INSUFFICIENT_EVIDENCE


def test_a_due_apology_passes() -> None:
    due = [
        row(
            "I was charged twice",
            "Sorry for the double charge, I can see it on your account.",
            meta='{"fault": true}',
            group=str(i),
        )
        for i in range(150)
    ]
    shown = [
        row("I was charged twice", ("tool", '{"double_charge": true}'), ("assistant", "Sorry for the double charge."), group=str(i))
        for i in range(150)
    ]
    rows = table([*due, *shown, *[row("hi", PLAIN)] * 100])
    # A keyword counter refuses three of four.
    replies = [m["content"] for r in rows.to_pylist() for m in r["messages"] if m["role"] == "assistant"]
    assert sum("sorry" in reply.lower() for reply in replies) / len(replies) == 0.75
    verdict = unwarranted_apology(scan(rows, POLICY))
    assert verdict.decision is Decision.PASS
    assert verdict.details == {"due": 300, "undue": 0}


def test_the_same_apologies_without_a_fault_fail() -> None:
    rows = table([row("hi", SORRY if i % 10 == 0 else PLAIN, group=str(i)) for i in range(500)])
    verdict = unwarranted_apology(scan(rows, POLICY))
    assert verdict.decision is Decision.FAIL
    assert verdict.estimate == pytest.approx(0.1)
    assert verdict.evidence


def test_a_fault_found_after_the_apology_does_not_warrant_it() -> None:
    rows = table([row("hi", "Sorry for the double charge.", "what?", ("tool", '{"double_charge": true}'))])
    assert scan(rows, POLICY).of(Habit.APOLOGY)["reason"].to_list() == ["no failure of the company is known"]


def test_sympathy_admits_nothing() -> None:
    assert scan(table([row("hi", "I'm sorry to hear that your dog is ill.")]), POLICY).of(Habit.APOLOGY).is_empty()


def test_between_the_bounds_it_warns() -> None:
    rows = table([row("hi", SORRY if i < 9 else PLAIN, group=str(i)) for i in range(300)])
    assert unwarranted_apology(scan(rows, POLICY)).decision is Decision.WARN


@pytest.mark.parametrize("count", [0, 199])
def test_too_few_turns(count: int) -> None:
    assert unwarranted_apology(scan(table([row("hi", PLAIN)] * count), POLICY)).decision is Decision.INSUFFICIENT_EVIDENCE


def test_a_policy_without_a_warrant_decides_nothing() -> None:
    verdict = unwarranted_apology(scan(table([row("hi", PLAIN)] * 300), make_policy()))
    assert verdict.decision is Decision.INSUFFICIENT_EVIDENCE
    assert "fault_field" in verdict.remedy
