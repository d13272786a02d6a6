"""How many rows of each slice survive at thresholds around the chosen one: a cliff means the result hangs on a hair."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

from ftplatform import plots
from ftplatform.dedup.clusters import SimilarPairs, cluster_ids, representatives
from ftplatform.dedup.identity import unique_positions
from ftplatform.dedup.slices import SliceSpec, slice_membership
from ftplatform.errors import InputDataError
from ftplatform.verdict import MAX_EVIDENCE, Decision, Verdict

CHECK_VERSION = "threshold_sensitivity/1"

#: Similarity threshold to which rows are kept there; boolean, (rows,).
KeptAt = Callable[[float], NDArray[np.bool_]]

#: Thresholds looked at, relative to the one in use.
OFFSETS = (-0.1, -0.05, 0.0, 0.05, 0.1)
#: The step a change is expressed for.
STEP = 0.05
#: Slices with fewer rows are shown and not judged: there one row more or less is a cliff.
MIN_ROWS = 20
ALL_ROWS = "(all rows)"

_REMEDY = "Read the removal diff of the named slices between the two thresholds, and move the threshold away from the cliff."


def threshold_sensitivity(
    before: pa.Table,
    kept_at: KeptAt,
    slices: Sequence[SliceSpec] = (),
    *,
    threshold: float = 0.8,
    offsets: Sequence[float] = OFFSETS,
    cliff: float = 0.3,
    min_rows: int = MIN_ROWS,
    discover: bool = True,
) -> Verdict:
    """Warn if a small step of the similarity threshold changes the survivors of a slice by much.

    Counted are exact-unique rows. Between neighboring thresholds the change is the difference of the survivors over the larger
    number of them, scaled to a step of .05. These are counts of the whole corpus, not of a sample, hence without interval.

    Args:
        before: table of `ROW_SCHEMA` before near-deduplication.
        kept_at: called once for each threshold; compare all pairs once, at the lowest (`kept_from_pairs`).
        slices: declared slices; tags of rows count as well if `discover`.
        threshold: the one in use. offsets: of the thresholds tried, ascending; those outside (0, 1] are left out.
        cliff: largest change of survivors per .05.
        min_rows: slices with fewer rows are not judged.

    Returns:
        Verdict whose estimate is the largest change in a judged slice (all rows are one) and whose n is the number of exact-unique
        rows; `details["survivors"]` has them per slice and threshold.

    Raises:
        InputDataError: a mask does not have one value for each row of `before`, or fewer than two thresholds lie in (0, 1].
    """
    thresholds = [round(threshold + offset, 6) for offset in offsets if 0 < threshold + offset <= 1 + 1e-9]
    if len(thresholds) < 2:
        raise InputDataError(
            f"around {threshold:g} there are no two thresholds in (0, 1].", remedy="Give offsets that lead to at least two."
        )
    at = unique_positions(before).to_numpy()
    common: dict[str, Any] = {
        "statistic": "largest change of a slice's survivors per .05 of the similarity threshold (n: exact-unique rows)",
        "n": len(at),
        "n_required": min_rows,
        "threshold": cliff,
        "baseline": "the neighboring threshold",
        "check_version": CHECK_VERSION,
        "config": {
            "threshold": threshold,
            "thresholds": thresholds,
            "cliff": cliff,
            "min_rows": min_rows,
            "discover": discover,
            "slices": [declared.record() for declared in slices],
        },
        "remedy": _REMEDY,
    }
    if len(at) < min_rows:
        return Verdict(
            decision=Decision.INSUFFICIENT_EVIDENCE,
            summary=f"{len(at)} rows are too few to speak of cliffs; {min_rows} are needed.",
            **{**common, "remedy": "Read the whole removal diff instead."},
        )
    membership = _with_all(slice_membership(before.take(pa.array(at)), slices, discover=discover), len(at))
    table = _survivors(before, kept_at, thresholds, membership)
    changes = _changes(table, thresholds).sort("change", "slice", descending=[True, False])
    judged = changes.filter(pl.col("size") >= min_rows)
    worst = judged.row(0, named=True)
    broken = judged.filter(pl.col("change") > cliff)
    common |= {
        "estimate": worst["change"],
        "details": {
            "survivors": table.to_dicts(),
            "slices_too_small_to_judge": table.filter(pl.col("size") < min_rows).height,
        },
        "plot": _plot(table, thresholds, judged["slice"].unique(maintain_order=True).to_list()),
    }
    said = f"between {worst['low']:g} and {worst['high']:g} slice {worst['slice']} changes by {worst['change']:.0%} per .05"
    if not len(broken):
        return Verdict(decision=Decision.PASS, summary=f"No cliff; at most, {said}.", **common)
    names = broken["slice"].unique(maintain_order=True).to_list()
    return Verdict(
        decision=Decision.WARN,
        summary=f"{len(names)} slices stand on a cliff: {said}.",
        evidence=broken.head(MAX_EVIDENCE).to_dicts(),
        **common,
    )


def kept_from_pairs(n: int, pairs: SimilarPairs) -> KeptAt:
    """Rows kept at any threshold above that of the given pairs: of each connected cluster medoids, until all rows are covered.

    Similarities of pairs that were not found count as 0.
    """
    keys = pairs.left * n + pairs.right
    order = np.argsort(keys)
    keys, values = keys[order], pairs.similarity[order]

    def similarity(left: NDArray[np.int64], right: NDArray[np.int64]) -> NDArray[np.float64]:
        wanted = np.minimum(left, right) * n + np.maximum(left, right)
        place = np.minimum(np.searchsorted(keys, wanted), max(0, len(keys) - 1))
        return np.where(keys[place] == wanted, values[place], 0.0) if len(keys) else np.zeros(len(left))

    def kept_at(threshold: float) -> NDArray[np.bool_]:
        close = pairs.similarity >= threshold
        cluster = cluster_ids(n, pairs.left[close], pairs.right[close])
        return representatives(cluster, similarity, np.ones(int(cluster.max(initial=-1)) + 1, np.int64), threshold=threshold).kept

    return kept_at


def _with_all(membership: pl.DataFrame, n: int) -> pl.DataFrame:
    everything = pl.DataFrame({"row": np.arange(n)}, schema={"row": pl.Int64}).with_columns(slice=pl.lit(ALL_ROWS))
    return pl.concat([membership.filter(pl.col("slice") != ALL_ROWS), everything])


def _survivors(before: pa.Table, kept_at: KeptAt, thresholds: list[float], membership: pl.DataFrame) -> pl.DataFrame:
    """One line per slice and threshold: slice, size, threshold, survivors."""
    ids = pl.DataFrame({"row_id": before["row_id"]})
    parts = []
    for threshold in thresholds:
        kept = np.asarray(kept_at(threshold), bool)
        if kept.shape != (before.num_rows,):
            raise InputDataError(
                f"the mask at threshold {threshold:g} has shape {kept.shape} for {before.num_rows} rows.",
                remedy="Return one value for each row.",
            )
        # A row is kept if one of its copies is; distinct rows in order of their first copy, as `membership` counts them.
        alive = ids.with_columns(kept=pl.Series(kept)).group_by("row_id", maintain_order=True).agg(pl.col("kept").any())["kept"]
        counted = membership.with_columns(kept=alive.gather(membership["row"])).group_by("slice")
        parts.append(counted.agg(size=pl.len(), threshold=pl.lit(threshold), survivors=pl.col("kept").sum()))
    columns = pl.col("size", "survivors").cast(pl.Int64)
    return pl.concat(parts).with_columns(columns).sort("slice", "threshold")


def _changes(table: pl.DataFrame, thresholds: list[float]) -> pl.DataFrame:
    """One line per slice and pair of neighboring thresholds."""
    parts = []
    for low, high in pairwise(thresholds):
        pair = table.filter(pl.col("threshold") == low).join(
            table.filter(pl.col("threshold") == high).select("slice", after=pl.col("survivors")), on="slice"
        )
        most = pl.max_horizontal("survivors", "after")
        change = pl.when(most > 0).then((pl.col("survivors") - pl.col("after")).abs() / most * STEP / (high - low)).otherwise(0.0)
        parts.append(
            pair.select(
                "slice",
                "size",
                low=pl.lit(low),
                high=pl.lit(high),
                survivors_low=pl.col("survivors"),
                survivors_high=pl.col("after"),
                change=change,
            )
        )
    return pl.concat(parts)


def _plot(table: pl.DataFrame, thresholds: list[float], worst_first: list[str]) -> str:
    shown = [ALL_ROWS, *(name for name in worst_first if name != ALL_ROWS)][:6]
    series = {}
    for name in shown:
        rows = table.filter(pl.col("slice") == name)
        series[name] = [(r["threshold"], r["survivors"] / r["size"]) for r in rows.iter_rows(named=True)]
    return plots.line(series, title="Survivors by similarity threshold", x_label="similarity threshold", y_label="share kept")
