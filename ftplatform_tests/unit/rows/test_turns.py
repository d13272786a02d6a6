"""The flattened view agrees with a plain loop."""

from __future__ import annotations

from collections.abc import Callable

import pyarrow as pa

from ftplatform.rows.schema import ROW_SCHEMA, Role
from ftplatform.rows.turns import turns


def _by_loop(table: pa.Table, role: str | None, trainable_only: bool) -> list[tuple[int, str, int, str, str, bool]]:
    return [
        (position, row["row_id"], turn, message["role"], message["content"], message["trainable"])
        for position, row in enumerate(table.to_pylist())
        for turn, message in enumerate(row["messages"])
        if (role is None or message["role"] == role) and (message["trainable"] or not trainable_only)
    ]


def test_agrees_with_a_loop_on_slices_and_chunks(table_of: Callable[..., pa.Table]) -> None:
    records = [
        {"messages": [{"role": role, "content": f"{role} {i} {j}"} for j in range(i % 4 + 1) for role in ("user", "assistant")]}
        for i in range(20)
    ]
    whole = table_of(records)
    for table in (whole, whole.slice(3, 9), pa.concat_tables([whole.slice(5, 2), whole.slice(0, 0), whole.slice(11)])):
        for role in (None, *Role):
            for trainable_only in (False, True):
                flat = turns(table, role, trainable_only=trainable_only)
                assert [tuple(line.values()) for line in flat.to_pylist()] == _by_loop(table, role, trainable_only)


def test_empty_table() -> None:
    flat = turns(ROW_SCHEMA.empty_table())
    assert flat.num_rows == 0
    assert flat.schema.names == ["row", "row_id", "turn", "role", "content", "trainable"]
