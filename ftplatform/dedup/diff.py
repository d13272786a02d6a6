"""The removal diff: every removed row beside the row that was kept instead, for people to browse; and the pairs kept apart."""

from __future__ import annotations

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

from ftplatform.dedup.slices import exploded, slice_membership
from ftplatform.dedup.texts import contrasts

#: Why a row left the training set.
EXACT_COPY = "exact_copy"
NEAR_TRAIN = "near_duplicate_of_train"
NEAR_EVAL = "near_duplicate_of_eval"
EXACT_EVAL = "exact_match_of_eval"

#: Why a row that stayed counts for less.
REPEATED = "counts_for_less"

#: The first so many rows of a diff carry excerpts.
MAX_TEXTS = 10_000

REMOVAL_SCHEMA = pa.schema(
    [
        pa.field("row_id", pa.string(), nullable=False),
        pa.field("kept_row_id", pa.string(), nullable=False),
        pa.field("similarity", pa.float64(), nullable=False),
        pa.field("reason", pa.string(), nullable=False),
        pa.field("slices", pa.list_(pa.string()), nullable=False),
        pa.field("source", pa.string(), nullable=False),
        pa.field("removed_text", pa.string(), nullable=False),
        pa.field("kept_text", pa.string(), nullable=False),
    ]
)

CONFLICT_SCHEMA = pa.schema(
    [
        pa.field("row_id", pa.string(), nullable=False),
        pa.field("other_row_id", pa.string(), nullable=False),
        pa.field("similarity", pa.float64(), nullable=False),
        pa.field("text", pa.string(), nullable=False),
        pa.field("other_text", pa.string(), nullable=False),
    ]
)


def removals(
    rows: pa.Table,
    removed: NDArray[np.int64],
    standing: pa.Table,
    keeper: NDArray[np.int64],
    similarity: NDArray[np.float64],
    reason: str,
    membership: pl.DataFrame,
) -> pa.Table:
    """Removal diff of the rows at positions `removed`.

    Args:
        rows, removed: the rows and which of them left, shape (k,).
        standing, keeper: the table holding the kept rows, and the position there of each one's keeper, shape (k,).
        similarity: shape (k,).
        reason: one of the constants above.
        membership: slices of `rows` (`slices.slice_membership`).

    Returns:
        Table of `REMOVAL_SCHEMA`, most similar last (the doubtful removals come first), texts masked.
    """
    order = np.lexsort((removed, similarity))
    removed, keeper, similarity = removed[order], keeper[order], similarity[order]
    gone, kept = rows.take(pa.array(removed)), standing.take(pa.array(keeper))
    named = membership.group_by("row").agg(pl.col("slice").sort())
    index = pl.DataFrame({"row": removed}, schema={"row": pl.Int64})
    lists = index.join(named, on="row", how="left", maintain_order="left")["slice"]
    removed_text, kept_text = _contrasts(gone, kept)
    return pa.table(
        {
            "row_id": gone["row_id"],
            "kept_row_id": kept["row_id"],
            "similarity": pa.array(similarity, pa.float64()),
            "reason": pa.array([reason] * len(removed), pa.string()),
            "slices": pa.array([value or [] for value in lists.to_list()], pa.list_(pa.string())),
            "source": gone["source"],
            "removed_text": removed_text,
            "kept_text": kept_text,
        }
    ).cast(REMOVAL_SCHEMA)


def copies(removed: pa.Table, kept: pa.Table) -> pa.Table:
    """Removal diff of exact copies, whose keeper has the same `row_id`."""
    at = pl.DataFrame({"row_id": kept["row_id"]}).with_row_index("at")
    keeper = pl.DataFrame({"row_id": removed["row_id"]}).join(at, on="row_id", how="left", maintain_order="left")["at"]
    everything = np.arange(removed.num_rows)
    ones = np.ones(removed.num_rows)
    return removals(removed, everything, kept, keeper.to_numpy().astype(np.int64), ones, EXACT_COPY, slice_membership(removed))


def conflicts(rows: pa.Table, left: NDArray[np.int64], right: NDArray[np.int64], similarity: NDArray[np.float64]) -> pa.Table:
    """Table of `CONFLICT_SCHEMA` of pairs of positions in `rows`, most similar first, each row's closest only; texts masked."""
    order = np.argsort(-similarity, kind="stable")
    _, first = np.unique(left[order], return_index=True)
    order = order[np.sort(first)]
    one, other = rows.take(pa.array(left[order])), rows.take(pa.array(right[order]))
    text, other_text = _contrasts(one, other)
    return pa.table(
        {
            "row_id": one["row_id"],
            "other_row_id": other["row_id"],
            "similarity": pa.array(similarity[order], pa.float64()),
            "text": text,
            "other_text": other_text,
        }
    ).cast(CONFLICT_SCHEMA)


def _contrasts(rows: pa.Table, others: pa.Table) -> tuple[pa.Array, pa.Array]:
    # Masking costs some 0.2 ms a text; beyond this many rows nobody reads, and the ids still lead to the texts.
    left, right = contrasts(rows.slice(0, MAX_TEXTS), others.slice(0, MAX_TEXTS))
    rest = [""] * (rows.num_rows - len(left))
    return pa.array(left + rest, pa.string()), pa.array(right + rest, pa.string())


def merge_provenance(rows: pa.Table, keeper: NDArray[np.int64], columns: tuple[str, ...] = ("origins",)) -> pa.Table:
    """The kept rows (``keeper[i] == i``), each with the sorted union of the list `columns` over the rows it stands for.

    `first_seen_at` becomes the earliest. A license must be cleared, and a takedown must find the row, for every origin of any copy.
    """
    kept = np.flatnonzero(keeper == np.arange(len(keeper)))
    merged = rows.take(pa.array(kept))
    index = pl.DataFrame({"keeper": kept}, schema={"keeper": pl.Int64})
    for column in columns:
        at, field = rows.schema.get_field_index(column), rows.schema.field(column)
        values = exploded(rows, column).with_columns(keeper=pl.lit(pl.Series(keeper)).gather(pl.col("row")))
        union = values.group_by("keeper").agg(pl.col("value").unique().sort())
        lists = index.join(union, on="keeper", how="left", maintain_order="left")["value"].to_list()
        merged = merged.set_column(at, field, pa.array([value or [] for value in lists], field.type))
    at, field = rows.schema.get_field_index("first_seen_at"), rows.schema.field("first_seen_at")
    times = pl.DataFrame({"keeper": keeper, "time": pl.from_arrow(rows["first_seen_at"])}, schema_overrides={"keeper": pl.Int64})
    earliest = index.join(times.group_by("keeper").agg(pl.col("time").min()), on="keeper", how="left", maintain_order="left")
    return merged.set_column(at, field, earliest["time"].to_arrow().cast(field.type))
