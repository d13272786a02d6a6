"""Exact deduplication agrees with a plain loop and loses no provenance."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from typing import Any

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from ftplatform.rows.exact import drop_exact_duplicates
from ftplatform.rows.schema import ROW_SCHEMA, row_id
from ftplatform.rows.validation import validate_rows


def _row(text: str, source: str, mask: bool, tags: list[str], seen: int | None) -> dict[str, Any]:
    messages = [{"role": "user", "content": text, "trainable": False}, {"role": "assistant", "content": "a", "trainable": mask}]
    return {
        "row_id": row_id(messages),
        "messages": messages,
        "source": source,
        "origins": [source],
        "parents": [f"p:{tag}" for tag in tags],
        "slices": tags,
        "author": source,
        "group": None,
        "surface": "curation",
        "created_at": None,
        "first_seen_at": None if seen is None else datetime.datetime.fromtimestamp(seen, datetime.UTC),
        "meta": "{}",
    }


rows = st.builds(
    _row,
    st.sampled_from(["x", "y", "z", "é"]),
    st.sampled_from(["s1", "s2", "s3"]),
    st.booleans(),
    st.lists(st.sampled_from(["t1", "t2", "t3"]), max_size=2, unique=True),
    st.none() | st.integers(0, 5),
)


def _by_loop(records: list[dict[str, Any]]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    kept: dict[str, dict[str, Any]] = {}
    removed = []
    for record in records:
        first = kept.get(record["row_id"])
        if first is None:
            kept[record["row_id"]] = {**record, "parents": sorted(set(record["parents"])), "slices": sorted(set(record["slices"]))}
            continue
        removed.append(record)
        for name in ("origins", "parents", "slices"):
            first[name] = sorted({*first[name], *record[name]})
        seen = [moment for moment in (first["first_seen_at"], record["first_seen_at"]) if moment is not None]
        first["first_seen_at"] = min(seen, default=None)
        first["messages"] = [
            {**one, "trainable": one["trainable"] and other["trainable"]}
            for one, other in zip(first["messages"], record["messages"], strict=True)
        ]
    return list(kept.values()), removed


@given(st.lists(rows, max_size=12), st.integers(0, 12))
def test_agrees_with_a_loop(records: list[dict[str, Any]], cut: int) -> None:
    whole = pa.Table.from_pylist(records, schema=ROW_SCHEMA)
    table = pa.concat_tables([whole.slice(0, cut), whole.slice(cut)])  # chunk borders anywhere
    kept, removed = drop_exact_duplicates(table)
    expected_kept, expected_removed = _by_loop(records)
    for result in (kept, removed):
        assert result.schema.equals(ROW_SCHEMA)
    singles = {row_id for row_id in table.column("row_id").to_pylist() if table.column("row_id").to_pylist().count(row_id) == 1}
    actual = [
        {**row, "parents": sorted(row["parents"]), "slices": sorted(row["slices"])} if row["row_id"] in singles else row
        for row in kept.to_pylist()
    ]
    assert actual == expected_kept
    assert removed.to_pylist() == expected_removed


def test_nothing_but_copies_and_nothing_at_all(table_of: Callable[..., pa.Table]) -> None:
    table = table_of([{"prompt": "q", "completion": "a"}] * 11)
    kept, removed = drop_exact_duplicates(table)
    assert (kept.num_rows, removed.num_rows) == (1, 10)
    assert validate_rows(kept).num_rows == 0
    empty = ROW_SCHEMA.empty_table()
    assert [part.num_rows for part in drop_exact_duplicates(empty)] == [0, 0]


def test_masked_span_stays_masked(table_of: Callable[..., pa.Table]) -> None:
    # ADV: keeping the first copy would train on a promise somebody masked in the second.
    free = table_of([{"prompt": "q", "completion": "I waived the fee"}], source="a")
    masked = table_of([{"prompt": "q", "completion": "I waived the fee", "trainable": False}], source="b")
    kept, _ = drop_exact_duplicates(pa.concat_tables([free, masked]))
    (row,) = kept.to_pylist()
    assert row["origins"] == ["a", "b"]
    assert [message["trainable"] for message in row["messages"]] == [False, False]
