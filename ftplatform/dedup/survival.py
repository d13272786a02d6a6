"""Did every slice survive the filter? `slice_survival` for near-deduplication, `row_filter_guard` for any step that drops rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa

from ftplatform import plots
from ftplatform.dedup.identity import exact_unique, present
from ftplatform.dedup.slices import FLOOR, MUST_KEEP_FLOOR, SliceSpec, floors, slice_membership
from ftplatform.dedup.texts import excerpts
from ftplatform.statistics.hypergeometric import excess_removal_p
from ftplatform.statistics.intervals import wilson
from ftplatform.statistics.multiple import benjamini_hochberg
from ftplatform.verdict import MAX_EVIDENCE, Decision, Verdict

CHECK_VERSION = "slice_survival/1"

_REMEDY = (
    "Read the removal diff of the named slices, then keep more rows per slice, raise the similarity threshold, or down-weight"
    " clusters instead of deleting them."
)
_FILTER_REMEDY = (
    "Look at what the step removed from the named slices; narrow its rule, or repair or replace the rows it drops there."
)


def slice_survival(
    before: pa.Table,
    after: pa.Table,
    slices: Sequence[SliceSpec] = (),
    *,
    moved: pa.Table | None = None,
    floor: int = FLOOR,
    must_keep_floor: int = MUST_KEEP_FLOOR,
    q: float = 0.05,
    discover: bool = True,
    found: pl.DataFrame | None = None,
) -> Verdict:
    """Fail when a slice falls below its floor or loses significantly more than the rows outside it.

    Both rules are counted on *exact-unique* rows (distinct `row_id`): byte-identical copies carry no coverage, and in a corpus full
    of them the removal rate of raw rows hides the loss of a slice that has none. Both are needed: when a threshold collapses
    everything no slice stands out and only the floor fires; a slice of 500 that loses half stays above any floor and only the
    test fires.

    Args:
        before, after: tables of `ROW_SCHEMA`, before and after the step.
        slices: declared slices; the tags of the rows are added as discovered ones if `discover`.
        moved: rows reserved for evaluation; they left `before` but were not removed.
        floor, must_keep_floor: a slice of m rows must keep min(m, floor).
        found: slices discovered otherwise, by row id (`discovery.discover_slices`).
        q: false discovery rate of the excess test over all slices (Benjamini-Hochberg 1995).

    Returns:
        Verdict whose estimate is the number of failing slices (threshold 0) and whose n is the number of exact-unique rows before;
        `details["slices"]` holds size, survivors, floor, removed share with its Wilson interval, p and adjusted p of each slice.
        The excess test is the one-sided hypergeometric tail of (removed inside, removed outside), i.e. Fisher's exact test.

        Insufficient evidence: no rows before, a `must_keep` slice matches no row, or rows were removed and there is no slice to
        protect. A declared slice without rows warns.
    """
    return _survival(
        before,
        after,
        slices,
        moved,
        floor,
        must_keep_floor,
        q,
        discover,
        found,
        check_version=CHECK_VERSION,
        remedy=_REMEDY,
        step="near-deduplication",
    )


def row_filter_guard(
    before: pa.Table,
    after: pa.Table,
    slices: Sequence[SliceSpec] = (),
    *,
    step: str,
    moved: pa.Table | None = None,
    floor: int = FLOOR,
    must_keep_floor: int = MUST_KEEP_FLOOR,
    q: float = 0.05,
    discover: bool = True,
    found: pl.DataFrame | None = None,
) -> Verdict:
    """`slice_survival` for any other row-dropping step (license filter, PII scrub, quality filter, takedown), named by `step`."""
    return _survival(
        before,
        after,
        slices,
        moved,
        floor,
        must_keep_floor,
        q,
        discover,
        found,
        check_version="row_filter_guard/1",
        remedy=_FILTER_REMEDY,
        step=step,
    )


def survival_table(
    before: pa.Table,
    after: pa.Table,
    slices: Sequence[SliceSpec] = (),
    *,
    moved: pa.Table | None = None,
    floor: int = FLOOR,
    must_keep_floor: int = MUST_KEEP_FLOOR,
    q: float = 0.05,
    discover: bool = True,
    found: pl.DataFrame | None = None,
) -> pl.DataFrame:
    """One row per slice that has rows.

    Columns: slice, size, survivors, floor, removed_share, low, high (Wilson, 95 %), p, p_adjusted, below_floor, excess. All counts
    are of exact-unique rows. `p` is null when nothing lies outside the slice.
    """
    unique = exact_unique(before, moved)
    membership = slice_membership(unique, slices, discover=discover, found=found)
    survived = present(pl.Series(unique["row_id"]), after)
    total, total_removed = len(survived), int((~survived).sum())
    per_slice = (
        membership.with_columns(survived=survived.gather(membership["row"]))
        .group_by("slice")
        .agg(size=pl.len().cast(pl.Int64), survivors=pl.col("survived").sum().cast(pl.Int64))
        .sort("slice")
    )
    limits = floors(membership, slices, floor, must_keep_floor)
    records: list[dict[str, Any]] = []
    for name, size, survivors in per_slice.iter_rows():
        removed = size - survivors
        rest = total - size
        interval = wilson(removed, size)
        records.append(
            {
                "slice": name,
                "size": size,
                "survivors": survivors,
                "floor": min(size, limits[name]),
                "removed_share": removed / size,
                "low": interval.low,
                "high": interval.high,
                "p": float(excess_removal_p(size, removed, rest, total_removed - removed)) if rest else None,
            }
        )
    table = pl.DataFrame(
        records,
        schema={
            "slice": pl.String,
            "size": pl.Int64,
            "survivors": pl.Int64,
            "floor": pl.Int64,
            "removed_share": pl.Float64,
            "low": pl.Float64,
            "high": pl.Float64,
            "p": pl.Float64,
        },
    )
    tested = table.filter(pl.col("p").is_not_null())
    rejected, adjusted = benjamini_hochberg(tested["p"].to_numpy(), q) if len(tested) else (np.zeros(0, bool), np.zeros(0))
    excess = pl.DataFrame(
        {"slice": tested["slice"], "p_adjusted": adjusted, "excess": rejected},
        schema_overrides={"p_adjusted": pl.Float64, "excess": pl.Boolean},
    )
    return table.join(excess, on="slice", how="left").with_columns(
        pl.col("excess").fill_null(False), below_floor=pl.col("survivors") < pl.col("floor")
    )


def _survival(
    before: pa.Table,
    after: pa.Table,
    slices: Sequence[SliceSpec],
    moved: pa.Table | None,
    floor: int,
    must_keep_floor: int,
    q: float,
    discover: bool,
    found: pl.DataFrame | None,
    *,
    check_version: str,
    remedy: str,
    step: str,
) -> Verdict:
    unique = exact_unique(before, moved)
    n = unique.num_rows
    survived = present(pl.Series(unique["row_id"]), after)
    removed = n - int(survived.sum())
    config: Mapping[str, Any] = {
        "floor": floor,
        "must_keep_floor": must_keep_floor,
        "q": q,
        "discover": discover,
        "step": step,
        "slices": [declared.record() for declared in slices],
        **({} if found is None else {"found": sorted(found["slice"].unique().to_list())}),
    }
    common: dict[str, Any] = {
        "statistic": "slices below their survival floor or with excess removal (exact-unique rows)",
        "n": n,
        "n_required": 1,
        "threshold": 0.0,
        "confidence": 1 - q,
        "baseline": "the rows outside each slice",
        "check_version": check_version,
        "config": config,
        "remedy": remedy,
    }
    if n == 0:
        return Verdict(
            decision=Decision.INSUFFICIENT_EVIDENCE,
            summary=f"There were no rows before {step}.",
            **{**common, "remedy": "Materialize the rows first."},
        )
    table = survival_table(
        before, after, slices, moved=moved, floor=floor, must_keep_floor=must_keep_floor, q=q, discover=discover, found=found
    )
    failing = table.filter(pl.col("below_floor") | pl.col("excess")).sort(
        "below_floor", "p", descending=[True, False], nulls_last=True
    )
    populated = set(table["slice"].to_list())
    empty = [s for s in slices if s.name not in populated]
    unknown = int((~present(pl.Series(after["row_id"]), before)).sum())
    details = {
        "slices": table.to_dicts(),
        "rows_before": before.num_rows,
        "exact_unique_before": n,
        "exact_unique_removed": removed,
        "removed_share": removed / n,
        "declared_slices_without_rows": [s.name for s in empty],
        "rows_after_that_were_not_before": unknown,
    }
    common |= {"estimate": float(len(failing)), "details": details, "plot": _plot(table, removed / n, step)}
    share = f"{removed:,} of {n:,} exact-unique rows removed ({removed / n:.1%})"

    if len(failing) or removed == n:
        names = ", ".join(failing["slice"].head(5).to_list()) or "all rows"
        names += ", ..." if len(failing) > 5 else ""
        return Verdict(
            decision=Decision.FAIL,
            summary=f"{share}; {len(failing)} of {len(table)} slices did not survive {step}: {names}.",
            evidence=_evidence(failing, unique, survived, slices, discover, found),
            **common,
        )
    if any(s.must_keep for s in empty):
        names = ", ".join(s.name for s in empty if s.must_keep)
        return Verdict(
            decision=Decision.INSUFFICIENT_EVIDENCE,
            summary=f"The must-keep slice(s) {names} match no row before {step}, so nothing can be said about their survival.",
            **{**common, "remedy": "Correct the rule of the slice, or add the rows it is meant to protect."},
        )
    if len(table) == 0 and removed:
        return Verdict(
            decision=Decision.INSUFFICIENT_EVIDENCE,
            summary=f"{share}, and no slice is declared or tagged: what was lost cannot be judged.",
            **{**common, "remedy": "Declare 'slices' for the dataset, or tag the rows."},
        )
    if empty:
        return Verdict(
            decision=Decision.WARN,
            summary=f"{share}; all {len(table)} slices with rows survive, but {', '.join(s.name for s in empty)} match no row.",
            **{**common, "remedy": "Correct the rule of the slice, or remove it."},
        )
    said = f"all {len(table)} slices keep their floor and none loses more than the rest" if len(table) else "nothing was removed"
    return Verdict(decision=Decision.PASS, summary=f"{share}; {said}.", **common)


def _evidence(
    failing: pl.DataFrame,
    unique: pa.Table,
    survived: pl.Series,
    slices: Sequence[SliceSpec],
    discover: bool,
    found: pl.DataFrame | None,
) -> list[dict[str, Any]]:
    membership = slice_membership(unique, slices, discover=discover, found=found)
    lost = membership.filter(pl.col("slice").is_in(failing["slice"].to_list()) & ~survived.gather(membership["row"]))
    example = dict(lost.group_by("slice").agg(pl.col("row").min()).iter_rows())
    rows = []
    for record in failing.head(MAX_EVIDENCE).iter_rows(named=True):
        at = example.get(record["slice"])
        rows.append(
            {
                "slice": record["slice"],
                "rows": record["size"],
                "survivors": record["survivors"],
                "floor": record["floor"],
                "removed_share": round(record["removed_share"], 4),
                "p": record["p"],
                "p_adjusted": record["p_adjusted"],
                "rule": " and ".join(["below floor"] * record["below_floor"] + ["excess removal"] * record["excess"]),
                "removed_row": None if at is None else unique.column("row_id")[at].as_py(),
                "removed_text": None if at is None else excerpts(unique.slice(at, 1))[0],
            }
        )
    return rows


def _plot(table: pl.DataFrame, overall: float, step: str) -> str | None:
    if not len(table):
        return None
    # The 30 worst: a picture with every one of 150 intents is not read.
    worst = table.sort("below_floor", "removed_share", descending=True).head(30)
    rows = [
        (f"{r['slice']} ({r['survivors']}/{r['size']})", r["removed_share"], r["low"], r["high"])
        for r in worst.iter_rows(named=True)
    ]
    return plots.forest(
        rows, threshold=overall, title=f"Share removed by {step}, per slice", x_label="share removed (line: all rows)"
    )
