"""Validation names column, rule and row; the check never passes on nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ftplatform.rows.schema import ROW_SCHEMA
from ftplatform.rows.validation import row_schema, validate_rows
from ftplatform.verdict import Decision

GOOD = [{"prompt": f"q{i}", "completion": "a"} for i in range(5)]


def _break(table: pa.Table, position: int, change: Callable[[dict[str, Any]], Any]) -> pa.Table:
    rows = table.to_pylist()
    change(rows[position])
    nullable = pa.schema([field.with_nullable(True) for field in ROW_SCHEMA])
    return pa.Table.from_pylist(rows, schema=nullable)


BROKEN: list[tuple[str, str, int | None, Callable[[dict[str, Any]], Any]]] = [
    ("row_id", "hash_of_messages", None, lambda row: row.update(row_id="0" * 64)),
    ("row_id", "sha256_hex", None, lambda row: row.update(row_id="xyz")),
    ("messages", "at_least_one", None, lambda row: row.update(messages=[])),
    ("messages.role", "known_role", 0, lambda row: row["messages"][0].update(role="robot")),
    ("messages.content", "not_blank", 1, lambda row: row["messages"][1].update(content=" \n")),
    ("messages.trainable", "only_assistant", 0, lambda row: row["messages"][0].update(trainable=True)),
    ("messages.trainable", "surface_allows_training", 1, lambda row: row.update(surface="debug")),
    ("surface", "known_surface", None, lambda row: row.update(surface="moon")),
    ("source", "among_origins", None, lambda row: row.update(origins=["other"])),
    ("source", "not_blank", None, lambda row: row.update(source="", origins=[""])),
    ("parents", "no_null_items", None, lambda row: row.update(parents=[None])),
    ("slices", "not_nullable", None, lambda row: row.update(slices=None)),
    ("source", "not_nullable", None, lambda row: row.update(source=None)),
    ("meta", "json_object", None, lambda row: row.update(meta="[1]")),
    ("meta", "json_object", None, lambda row: row.update(meta="{")),
]


@pytest.mark.parametrize(("column", "rule", "turn", "change"), BROKEN, ids=[f"{column}-{rule}" for column, rule, _, _ in BROKEN])
def test_each_rule_names_its_row(
    column: str, rule: str, turn: int | None, change: Callable[[dict[str, Any]], Any], table_of: Callable[..., pa.Table]
) -> None:
    table = _break(table_of(GOOD), 3, change)
    failures = validate_rows(table).to_pylist()
    assert {line["position"] for line in failures} == {3}
    (found,) = [line for line in failures if (line["column"], line["rule"]) == (column, rule)]
    assert found["turn"] == turn
    assert found["row_id"] == table.column("row_id")[3].as_py()
    verdict = row_schema(table)
    assert verdict.decision is Decision.FAIL
    assert (verdict.estimate, verdict.n) == (1.0, 5)
    assert any(line["rule"] == rule for line in verdict.evidence)


def test_valid_rows_also_after_a_round_trip(table_of: Callable[..., pa.Table], tmp_path: Any) -> None:
    table = table_of(GOOD)
    pq.write_table(table, tmp_path / "rows.parquet")
    for version in (table, pq.read_table(tmp_path / "rows.parquet"), table.slice(2), pa.concat_tables([table, table])):
        assert validate_rows(version).num_rows == 0
        assert row_schema(version).decision is Decision.PASS


def test_foreign_tables_fail_by_column() -> None:
    failures = {(line["column"], line["rule"]) for line in validate_rows(pa.table({"row_id": [1], "x": [2]})).to_pylist()}
    assert {("row_id", "type is string"), ("messages", "column_exists"), ("x", "column_is_known")} <= failures
    verdict = row_schema(pa.table({"row_id": ["a"]}))
    assert verdict.decision is Decision.FAIL
    assert "columns" in verdict.summary


def test_an_empty_table_is_never_a_pass() -> None:
    verdict = row_schema(ROW_SCHEMA.empty_table())
    assert verdict.decision is Decision.INSUFFICIENT_EVIDENCE
    assert verdict.remedy


def test_evidence_is_bounded_and_masked(table_of: Callable[..., pa.Table]) -> None:
    rows = table_of([{"prompt": f"q{i}", "completion": "a"} for i in range(60)]).to_pylist()
    for row in rows:
        row["surface"] = "mail somebody@example.org"
    verdict = row_schema(pa.Table.from_pylist(rows, schema=ROW_SCHEMA))
    assert len(verdict.evidence) == 20
    assert "somebody" not in str(verdict.to_record())
    assert verdict.details["failures_by_rule"] == {"surface: known_surface": 60}
    assert verdict.to_record()["config_hash"]
