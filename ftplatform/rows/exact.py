"""Exact deduplication: rows of the same `row_id` become one row that carries everything its copies carried."""

from __future__ import annotations

import numpy as np
import polars as pl
import pyarrow as pa

from ftplatform.rows.rewriting import message_column
from ftplatform.rows.schema import ROW_SCHEMA
from ftplatform.rows.turns import turns

_UNION_COLUMNS = ("origins", "parents", "slices")


def drop_exact_duplicates(table: pa.Table) -> tuple[pa.Table, pa.Table]:
    """Keeps the first row of every `row_id`.

    The kept row gets the union (sorted) of its copies' `origins`, `parents` and `slices`, their earliest `first_seen_at`, and a
    message is trainable only if it is in every copy: a span somebody masked stays masked. Its other columns are its own.

    Args:
        table: rows with `ROW_SCHEMA`.

    Returns:
        (kept, removed), both with `ROW_SCHEMA` and in the order of `table`; ``kept.num_rows + removed.num_rows == table.num_rows``.
        A removed row's representative is the kept row of the same `row_id`.
    """
    if table.num_rows == 0:
        return table, table
    # Position of the first row with the same id, for every row.
    first = (
        pl.DataFrame({"row_id": pl.Series(table.column("row_id")), "position": np.arange(table.num_rows)})
        .select(pl.col("position").min().over("row_id"))
        .to_series()
        .to_numpy()
    )
    is_first = first == np.arange(table.num_rows)
    kept_positions = np.flatnonzero(is_first)
    removed = table.take(pa.array(np.flatnonzero(~is_first)))
    kept = table.take(pa.array(kept_positions))
    if removed.num_rows == 0:
        return kept, removed
    # Only rows that have copies need merging; all others keep their Arrow columns untouched.
    has_copies = np.unique(first[~is_first])
    involved = np.flatnonzero(np.isin(first, has_copies))
    copies = table.take(pa.array(involved))
    group = np.searchsorted(has_copies, first[involved])
    place_in_kept = np.searchsorted(kept_positions, has_copies)
    merged = {name: _union(copies, name, group) for name in _UNION_COLUMNS}
    merged["first_seen_at"] = _earliest(copies, group)
    merged["messages"] = _masked_by_all(copies, group)
    source = np.arange(kept.num_rows)
    source[place_in_kept] = kept.num_rows + np.arange(len(has_copies))
    for name, values in merged.items():
        column = ROW_SCHEMA.field(name)
        both = pa.chunked_array([*kept.column(name).chunks, values], type=column.type)
        kept = kept.set_column(kept.schema.get_field_index(name), column, both.take(pa.array(source)))
    return kept, removed


def _union(copies: pa.Table, name: str, group: np.ndarray) -> pa.Array:
    """Sorted union of a list column within each group, as a list array in group order."""
    frame = pl.DataFrame({"group": group, "values": pl.Series(copies.column(name), dtype=pl.List(pl.String))})
    lists = (
        frame.group_by("group").agg(pl.col("values").explode(keep_nulls=False, empty_as_null=False).unique().sort()).sort("group")
    )
    return lists["values"].to_arrow().cast(ROW_SCHEMA.field(name).type)


def _earliest(copies: pa.Table, group: np.ndarray) -> pa.Array:
    frame = pl.DataFrame({"group": group, "seen": pl.Series(copies.column("first_seen_at"))})
    return (
        frame.group_by("group")
        .agg(pl.col("seen").min())
        .sort("group")["seen"]
        .to_arrow()
        .cast(ROW_SCHEMA.field("first_seen_at").type)
    )


def _masked_by_all(copies: pa.Table, group: np.ndarray) -> pa.Array:
    """Messages of each group; equal ids mean equal roles and texts, so only the masks are combined."""
    flat = turns(copies)
    frame = pl.DataFrame(
        {
            "group": group[flat.column("row").to_numpy()],
            "turn": pl.Series(flat.column("turn")),
            "role": pl.Series(flat.column("role")),
            "content": pl.Series(flat.column("content")),
            "trainable": pl.Series(flat.column("trainable")),
        }
    )
    merged = (
        frame.group_by("group", "turn")
        .agg(pl.col("role").first(), pl.col("content").first(), pl.col("trainable").all())
        .sort("group", "turn")
    )
    return message_column(merged.to_arrow(), merged.group_by("group").len().sort("group")["len"].to_numpy())
