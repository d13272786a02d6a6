"""Slices by tag, field and regular expression."""

from __future__ import annotations

from collections.abc import Callable

import pyarrow as pa
import pytest

from ftplatform.errors import ProjectError
from ftplatform.rows.schema import ROW_SCHEMA, Role
from ftplatform.rows.slices import SliceRule, assign_slices

RECORDS = [
    {"prompt": "Refund please", "completion": "Sure", "slices": ["vip"], "priority": 1, "note": 'has "kind" inside'},
    {"prompt": "hello", "completion": "a refund?", "author": "jo", "kind": "chat", "flag": True},
    {"prompt": "REFUND", "completion": "no", "kind": None, "priority": "1"},
    {"prompt": "x", "completion": "y", "nested": {"kind": "chat"}},
]

RULES = {
    "money": SliceRule(regex="(?i)refund"),
    "money_answers": SliceRule(regex="refund", role=Role.ASSISTANT),
    "important": SliceRule(tag="vip"),
    "first_priority": SliceRule(field="priority", equals="1"),
    "chats": SliceRule(field="kind", equals="chat"),
    "flagged": SliceRule(field="flag", equals="true"),
    "by_jo": SliceRule(field="author", equals="jo"),
}


def test_every_kind_of_rule(table_of: Callable[..., pa.Table]) -> None:
    table = table_of(RECORDS)
    expected = [
        ["first_priority", "important", "money", "vip"],
        ["by_jo", "chats", "flagged", "money_answers"],
        ["first_priority", "money"],
        [],
    ]
    for chunks in (table, pa.concat_tables([table.slice(0, 1), table.slice(1)])):
        result = assign_slices(chunks, RULES)
        assert result.schema.equals(ROW_SCHEMA)
        assert result.column("slices").to_pylist() == expected
        assert result.drop(["slices"]).equals(table.drop(["slices"]))
    assert assign_slices(result, RULES).column("slices").to_pylist() == expected  # a second time changes nothing


def test_no_rules_no_rows(table_of: Callable[..., pa.Table]) -> None:
    table = table_of(RECORDS)
    assert assign_slices(table, {}) is table
    assert assign_slices(ROW_SCHEMA.empty_table(), RULES).num_rows == 0


@pytest.mark.parametrize("regex", [r"(?=a)b", r"(a)\1", r"(unclosed", r"a{1001}{1001}"])
def test_unsupported_expressions_are_named(regex: str, table_of: Callable[..., pa.Table]) -> None:
    with pytest.raises(ProjectError, match="slice 'odd'"):
        assign_slices(table_of(RECORDS), {"odd": SliceRule(regex=regex)})


def test_expressions_that_backtrack_elsewhere_are_linear_here(table_of: Callable[..., pa.Table]) -> None:
    # ADV: Python's own engine needs 2**40 steps for this one.
    table = table_of([{"prompt": "a" * 40 + "!", "completion": "x"}])
    assert assign_slices(table, {"evil": SliceRule(regex=r"^(a+)+$")}).column("slices").to_pylist() == [[]]


@pytest.mark.parametrize("fields", [{}, {"tag": "a", "regex": "b"}, {"field": "a"}, {"equals": "a"}, {"tag": "a", "equals": "b"}])
def test_rules_have_one_condition(fields: dict[str, str]) -> None:
    with pytest.raises(ProjectError):
        SliceRule(**fields)  # type: ignore[arg-type]
