"""Rows by identity: distinct rows, and whether a row is among others."""

from __future__ import annotations

import polars as pl
import pyarrow as pa


def unique_positions(rows: pa.Table, moved: pa.Table | None = None) -> pl.Series:
    """Positions of the first row of every `row_id`, without those that are among `moved`. UInt32, ascending."""
    frame = pl.DataFrame({"row_id": rows["row_id"]}).with_row_index("at").unique("row_id", keep="first", maintain_order=True)
    if moved is not None:
        frame = frame.filter(~present(frame["row_id"], moved))
    return frame["at"]


def exact_unique(rows: pa.Table, moved: pa.Table | None = None) -> pa.Table:
    """The first row of every `row_id`, without those that are among `moved` (reserved for evaluation, not removed)."""
    return rows.take(unique_positions(rows, moved).to_arrow())


def present(ids: pl.Series, rows: pa.Table) -> pl.Series:
    """Which ids are row ids of `rows`. Boolean."""
    return ids.is_in(pl.Series(rows["row_id"]).unique().implode())
