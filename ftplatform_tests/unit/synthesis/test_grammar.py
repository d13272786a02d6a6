"""The template grammar as teacher."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pytest

from ftplatform.rows.schema import ROW_SCHEMA
from ftplatform.rows.validation import row_schema
from ftplatform.synthesis.teachers.grammar import Grammar, GrammarTeacher
from ftplatform.synthesis.teachers.interface import TeacherError
from ftplatform_tests.tables import asked, row, table

NO_SEEDS = table([])
RULES = {
    "user": [{"text": "{opener:0.4} where is my {item}", "weight": 3}, "i want to return the {item}"],
    "answer": ["Your {item} is on its way."],
    "opener": ["hi,", "hey"],
    "item": ["parcel", "refund"],
}
TEACHER = GrammarTeacher("shop-1", Grammar(RULES, shared=["item"]), terms="CC0-1.0", assistant="answer")


def said(rows: pa.Table) -> list[tuple[str, ...]]:
    return [tuple(m["content"] for m in r["messages"]) for r in rows.to_pylist()]


def test_weights_probabilities_and_shared_symbols() -> None:
    rows = TEACHER.write(NO_SEEDS, 4000, seed=1)
    texts = said(rows)
    assert len(texts) == 4000
    where = [user for user, _ in texts if "where" in user]
    assert len(where) / 4000 == pytest.approx(0.75, abs=0.03)
    assert sum(user.startswith(("hi", "hey")) for user in where) / len(where) == pytest.approx(0.4, abs=0.04)
    assert all(("parcel" in user) == ("parcel" in answer) for user, answer in texts)
    assert not any("  " in user or user != user.strip() for user, _ in texts)


def test_rows_are_valid_reproducible_and_say_who_wrote_them() -> None:
    rows = TEACHER.write(NO_SEEDS, 50, seed=2)
    assert rows.schema == ROW_SCHEMA
    assert row_schema(rows).passed
    assert rows.equals(TEACHER.write(NO_SEEDS, 50, seed=2))
    assert not rows.equals(TEACHER.write(NO_SEEDS, 50, seed=3))
    first = rows.to_pylist()[0]
    assert first["parents"] == ["teacher:shop-1"]
    meta = json.loads(first["meta"])
    assert (meta["teacher"], meta["terms"], meta["kind"], meta["seed"]) == ("shop-1", "CC0-1.0", "grammar", 2)
    assert meta["prompt"] == TEACHER.identity.prompt
    other = GrammarTeacher("shop-1", Grammar({**RULES, "opener": ["yo"]}, shared=["item"]), assistant="answer")
    assert other.identity.prompt != TEACHER.identity.prompt
    assert TEACHER.write(NO_SEEDS, 0, seed=1).num_rows == 0


def test_seeds_are_parents_only_where_they_were_used() -> None:
    seeds = table([row("where r my {item} things", source="raw/app"), row("pls help {{x}}", source="raw/app")])
    teacher = GrammarTeacher("t", Grammar({"user": ["hey {seed}"]}))
    for written in teacher.write(seeds, 20, seed=1).to_pylist():
        text = written["messages"][0]["content"]
        # Braces in a seed are text.
        assert text in {"hey where r my {item} things", "hey pls help {{x}}"}
        place = 0 if "where" in text else 1
        assert written["parents"] == ["teacher:t", "raw/app", seeds["row_id"][place].as_py()]
    assert TEACHER.write(seeds, 3, seed=1).to_pylist()[0]["parents"] == ["teacher:shop-1"]
    with pytest.raises(TeacherError, match="got no seed rows"):
        teacher.write(NO_SEEDS, 1, seed=1)


def test_braces_are_written_twice() -> None:
    teacher = GrammarTeacher("t", Grammar({"user": ["a {{b}} c"]}))
    assert said(teacher.write(NO_SEEDS, 1, seed=0)) == [("a {b} c",)]


def test_nothing_is_executed() -> None:
    for text in ("{__import__('os')}", "{user.__class__}", "{0}", "{item!r}", "{item:>9}"):
        with pytest.raises(TeacherError):
            Grammar({"user": [text], "item": ["x"]})


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        ({"user": ["{other}"]}, "has no rule"),
        ({"user": ["{a}"], "a": ["{b}"], "b": ["x {a}"]}, "goes round"),
        ({"user": ["open { brace"]}, "does not match"),
        ({"user": []}, "no productions"),
        ({"user": ["{seed}"], "seed": ["x"]}, "Rename the symbol"),
        ({"user": [{"text": "x", "weight": 0}]}, "weight above 0"),
        ({"user": [{"text": "x", "weight": True}]}, "weight above 0"),
        ({"user": [{"text": "x", "wieght": 1}]}, "unknown key 'wieght'"),
        ({"user": ["{a:1.5}"], "a": ["x"]}, "between 0 and 1"),
        ({"user": ["{a:1.2.3}"], "a": ["x"]}, "between 0 and 1"),
        ({f"s{i}": [f"{{s{i + 1}}}{{s{i + 1}}}"] for i in range(30)} | {"s30": ["x"], "user": ["{s0}"]}, "parts"),
        ({f"s{i}": [f"{{s{i + 1}}}"] for i in range(80)} | {"s80": ["x"], "user": ["{s0}"]}, "deeper than"),
    ],
)
def test_a_wrong_grammar_is_refused_before_anything_is_written(rules, message: str) -> None:
    with pytest.raises(TeacherError, match=message):
        Grammar(rules)


def test_cost_grows_with_the_grammar_not_with_python_per_row() -> None:
    grammar = Grammar(RULES, shared=["item"])
    texts = grammar.expand("user", 300_000, np.random.default_rng(0), {})
    assert len(texts) == 300_000
    assert texts.n_unique() == 8


def test_asked_for_an_unknown_symbol() -> None:
    with pytest.raises(TeacherError, match="no symbol 'question'"):
        GrammarTeacher("t", Grammar(RULES), user="question").write(asked([]), 1, seed=0)
