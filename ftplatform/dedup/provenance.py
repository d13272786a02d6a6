"""Does every kept row carry the origins of all rows it stands for? A license or a takedown must find it by any of them."""

from __future__ import annotations

from typing import Any

import polars as pl
import pyarrow as pa

from ftplatform.dedup.diff import EXACT_COPY, NEAR_TRAIN
from ftplatform.dedup.slices import exploded
from ftplatform.verdict import MAX_EVIDENCE, Decision, Verdict

CHECK_VERSION = "provenance_union/1"

#: Removals that merge a row into another. A row that gave away an eval row is dropped: nothing of it is trained on.
MERGING = (EXACT_COPY, NEAR_TRAIN)

_REMEDY = "Rebuild the split: kept rows must get the union of the origins of their duplicates (dedup.diff.merge_provenance)."


def provenance_union(
    before: pa.Table, after: pa.Table, removal_diff: pa.Table, *, moved: pa.Table | None = None, column: str = "origins"
) -> Verdict:
    """Fail unless every origin of every removed row, and of every copy of a kept row, is an origin of the row kept for it.

    Args:
        before, after: tables of `ROW_SCHEMA`, before and after deduplication.
        removal_diff: table of `diff.REMOVAL_SCHEMA` of everything that left.
        moved: rows reserved for evaluation: they too stand for their exact copies.
        column: list column that must be a union.

    Returns:
        Verdict whose n is the number of rows before and whose estimate the number of rows with a lost origin, or gone without a
        trace: not kept, not moved, and without a removal that leads to a kept row. An exact rule, so no interval.
    """
    standing = pa.concat_tables([after, moved]) if moved is not None else after
    diff = pl.DataFrame({name: removal_diff[name] for name in ("row_id", "kept_row_id", "reason")})
    owed = _owed(before, standing, diff)
    stranded = owed.filter(pl.col("kept_row_id").is_null()).select("row_id").unique()
    wanted = _values(before, column).join(owed.drop_nulls(), on="row_id")
    held = _values(standing, column).rename({"row_id": "kept_row_id"})
    lost = wanted.join(held, on=["kept_row_id", "value"], how="anti").unique()
    failing = lost.group_by("row_id", "kept_row_id").agg(missing=pl.col("value").sort()).sort("row_id", "kept_row_id")
    count = len(stranded) + failing["row_id"].n_unique()
    common: dict[str, Any] = {
        "statistic": f"rows whose {column} did not reach the row kept for them (n: rows before)",
        "estimate": float(count),
        "n": before.num_rows,
        "n_required": 1,
        "threshold": 0.0,
        "baseline": f"the {column} of the rows before",
        "check_version": CHECK_VERSION,
        "config": {"column": column, "merging": list(MERGING)},
        "remedy": _REMEDY,
        "details": {
            "merged_rows": diff.filter(pl.col("reason").is_in(MERGING)).height,
            "dropped_for_eval": diff.filter(~pl.col("reason").is_in(MERGING)).height,
            "rows_without_trace": len(stranded),
            "rows_with_lost_values": failing["row_id"].n_unique(),
        },
    }
    if not before.num_rows:
        return Verdict(
            decision=Decision.INSUFFICIENT_EVIDENCE,
            summary="There were no rows before deduplication.",
            **{**common, "remedy": "Materialize the rows first."},
        )
    if count:
        evidence = [
            {"row_id": row_id, "kept_row_id": kept, f"missing_{column}": ", ".join(missing[:5])}
            for row_id, kept, missing in failing.head(MAX_EVIDENCE).iter_rows()
        ]
        evidence += [
            {"row_id": row_id, "kept_row_id": None, f"missing_{column}": "all: no kept row stands for it"}
            for row_id in sorted(stranded["row_id"].to_list())[: MAX_EVIDENCE - len(evidence)]
        ]
        first = evidence[0]["row_id"]
        return Verdict(
            decision=Decision.FAIL,
            summary=f"{count:,} of {before.num_rows:,} rows lost {column} or left without a trace, such as {first}.",
            evidence=evidence,
            **common,
        )
    said = f"All {column} of {before.num_rows:,} rows are carried by the rows kept for them"
    return Verdict(decision=Decision.PASS, summary=f"{said}.", **common)


def _owed(before: pa.Table, standing: pa.Table, diff: pl.DataFrame) -> pl.DataFrame:
    """`row_id` of each distinct row before and the `kept_row_id` that must carry it; null where nothing does.

    Rows that left for the sake of an eval row, with all their copies, owe nothing.
    """
    ids = pl.DataFrame({"row_id": before["row_id"]}).unique(maintain_order=True)
    here = (
        pl.DataFrame({"row_id": standing["row_id"]}, schema={"row_id": pl.String})
        .unique()
        .with_columns(kept_row_id=pl.col("row_id"))
    )
    merged = diff.filter(pl.col("reason").is_in(MERGING)).select("row_id", "kept_row_id").unique()
    # A keeper that is not there keeps nothing.
    good = merged.join(here.select("row_id"), left_on="kept_row_id", right_on="row_id", how="semi")
    carriers = pl.concat([here, good]).unique()
    owed = ids.join(carriers, on="row_id", how="left", maintain_order="left")
    dropped = diff.filter(~pl.col("reason").is_in(MERGING))["row_id"].unique()
    return owed.filter(pl.col("kept_row_id").is_not_null() | ~pl.col("row_id").is_in(dropped.implode()))


def _values(rows: pa.Table, column: str) -> pl.DataFrame:
    """`row_id` and `value`, each pair once."""
    values = exploded(rows, column)
    ids = pl.Series(rows["row_id"], dtype=pl.String).gather(values["row"])
    return values.select(row_id=ids, value=pl.col("value").cast(pl.String)).unique()
