"""A set written by a teacher: its name, its parents, and what was said that is no row."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from ftplatform.rows.quarantine import QUARANTINE_SCHEMA
from ftplatform.rows.validation import row_schema
from ftplatform.synthesis.generation import generate
from ftplatform.synthesis.teachers.grammar import Grammar, GrammarTeacher
from ftplatform.synthesis.teachers.interface import Teacher, TeacherError
from ftplatform.synthesis.teachers.prompting import PromptedTeacher, TeacherPrompt
from ftplatform_tests.tables import row, table

SEEDS = table([row(("user", f"where is my item {i}"), ("assistant", "a"), source="raw/app") for i in range(12)])


def says(write: Any) -> Any:
    def complete(conversations: Sequence[Any], seeds: Sequence[int]) -> list[str]:
        return [write(messages, seed) for messages, seed in zip(conversations, seeds, strict=True)]

    return complete


def test_rows_bear_the_name_of_the_set() -> None:
    made = generate(PromptedTeacher("m-1", says(lambda messages, seed: f"new {seed}")), SEEDS, 7, 1, asset="synthetic/made")
    assert row_schema(made.rows).passed
    assert set(made.rows["source"].to_pylist()) == {"synthetic/made"}
    assert made.rows["origins"].to_pylist() == [["synthetic/made"]] * 7
    ids = set(SEEDS["row_id"].to_pylist())
    for parents in made.rows["parents"].to_pylist():
        assert parents[:2] == ["teacher:m-1", "raw/app"]
        assert set(parents[2:]) <= ids
    assert made.counts == {"read": 7, "kept": 7, "quarantined": 0, "by_reason": {}, "wanted": 7}
    assert made.quarantine.schema == QUARANTINE_SCHEMA


def test_what_is_no_row_is_kept_with_its_reason() -> None:
    def write(messages: Any, seed: int) -> str:
        if messages[0]["content"] == "Answer.":
            return "" if messages[-1]["content"].endswith("7") else "fine"
        return ["", "where is my ITEM 3", "the same", "x" * 9000, f"new {seed}7", f"new {seed}"][seed % 6]

    made = generate(PromptedTeacher("m", says(write), prompt=TeacherPrompt(answer="Answer.")), SEEDS, 60, 2, asset="synthetic/made")
    reasons = {"empty_content", "copied_example", "repeated", "too_long", "no_target"}
    assert made.counts["by_reason"].keys() == reasons
    assert made.counts["read"] == made.rows.num_rows + made.quarantine.num_rows
    assert made.counts["quarantined"] == sum(made.counts["by_reason"].values()) == made.quarantine.num_rows
    records = made.quarantine.to_pylist()
    assert [r["position"] for r in records] == list(range(1, len(records) + 1))
    assert {r["excerpt"] for r in records if r["reason"] == "copied_example"} == {"where is my ITEM 3"}
    assert max(len(r["excerpt"]) for r in records) <= 2000


def test_a_grammar_that_may_say_nothing() -> None:
    rules = {"user": ["{hi:0.5}"], "hi": ["hi"], "assistant": ["{yes:0.5}"], "yes": ["yes"]}
    made = generate(GrammarTeacher("g", Grammar(rules), assistant="assistant"), SEEDS, 400, 1, asset="synthetic/made")
    assert 60 < made.rows.num_rows < 140
    assert made.counts["by_reason"].keys() == {"empty_content", "no_target"}
    assert made.counts["read"] == 400


@pytest.mark.parametrize(
    "teacher",
    [
        GrammarTeacher("g", Grammar({"user": ["{hi:0}"], "hi": ["hi"]})),
        PromptedTeacher("m", says(lambda messages, seed: "")),
    ],
)
def test_a_set_without_a_row_is_an_error(teacher: Teacher) -> None:
    with pytest.raises(TeacherError, match="wrote no"):
        generate(teacher, SEEDS, 5, 1, asset="synthetic/made")
