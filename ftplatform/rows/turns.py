"""Flattened views of the messages column, computed by Arrow kernels (no Python loop per message)."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ftplatform.rows.schema import Role

_TURNS_SCHEMA = pa.schema(
    [
        ("row", pa.int64()),
        ("row_id", pa.string()),
        ("turn", pa.int64()),
        ("role", pa.string()),
        ("content", pa.string()),
        ("trainable", pa.bool_()),
    ]
)


def turns(rows: pa.Table, role: Role | None = None, *, trainable_only: bool = False) -> pa.Table:
    """One row per message.

    Args:
        rows: table with at least `row_id` and `messages` (see `ROW_SCHEMA`).
        role: keep only this role; None keeps all.
        trainable_only: keep only messages whose loss is taken.

    Returns:
        Table with `row` (int64 position in `rows`), `row_id`, `turn` (0-based position in the conversation), `role`, `content`,
        `trainable`, in row order then turn order.
    """
    parts: list[pa.Table] = []
    before = 0
    # Chunk by chunk: the texts of a large table do not fit the 2 GiB of one string array.
    for batch in rows.select(["row_id", "messages"]).to_batches():
        parts.append(_flatten(batch, before, role, trainable_only))
        before += batch.num_rows
    return pa.concat_tables(parts) if parts else _TURNS_SCHEMA.empty_table()


def _flatten(batch: pa.RecordBatch, before: int, role: Role | None, trainable_only: bool) -> pa.Table:
    messages = batch.column("messages")
    flat = messages.flatten()
    lengths = pc.fill_null(pc.list_value_length(messages), 0).to_numpy().astype(np.int64)
    parent = np.repeat(np.arange(len(messages)), lengths)
    # Position within the conversation = global position minus the position of the row's first message.
    turn = np.arange(len(flat)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    keep = np.ones(len(flat), dtype=bool)
    if role is not None:
        keep &= pc.equal(pc.struct_field(flat, "role"), str(role)).to_numpy(zero_copy_only=False)
    if trainable_only:
        keep &= pc.struct_field(flat, "trainable").to_numpy(zero_copy_only=False)
    kept = np.flatnonzero(keep)
    flat = flat.take(pa.array(kept)) if len(kept) < len(flat) else flat
    columns = [
        pa.array(parent[kept] + before, pa.int64()),
        pc.take(batch.column("row_id"), pa.array(parent[kept])),
        pa.array(turn[kept], pa.int64()),
        *(pc.struct_field(flat, name) for name in ("role", "content", "trainable")),
    ]
    return pa.table(columns, schema=_TURNS_SCHEMA)
