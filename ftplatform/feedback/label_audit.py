"""Would somebody who knows the product ship these targets? Acceptance sampling of the curated rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import polars as pl
import pyarrow as pa

from ftplatform.feedback.decision_log import Quality, Review, latest
from ftplatform.feedback.sampling import draw
from ftplatform.plots import forest
from ftplatform.rows.masking import excerpt
from ftplatform.statistics.intervals import exact
from ftplatform.statistics.power import acceptance_plan
from ftplatform.verdict import MAX_EVIDENCE, Decision, Verdict

CHECK_VERSION = "label_audit/1"

#: Share of defects to be excluded, and defects that are tolerated in the sample: with none, good lots fail half of the time.
LIMIT, MAX_DEFECTS = 0.05, 3

_STATISTIC = "share of audited rows that would not be shipped (n: rows of the sample that were read)"


def audit_sample(rows: pa.Table, *, limit: float = LIMIT, max_defects: int = MAX_DEFECTS, confidence: float = 0.95) -> pa.Table:
    """The rows to be read: a simple random sample of the size the plan asks for (153 for 5 %, 773 for 1 %), or all if there are fewer.

    Args:
        rows: table of `ROW_SCHEMA`; a text that occurs twice counts once.
        limit, max_defects, confidence: of `statistics.power.acceptance_plan`.
    """
    first = pl.Series("row_id", rows["row_id"]).to_frame().with_row_index("at").unique("row_id", keep="first", maintain_order=True)
    chosen = draw(first["row_id"].to_list(), acceptance_plan(limit, max_defects, confidence), purpose="label_audit")
    return rows.take(first["at"].gather(chosen).to_arrow())


def label_audit(
    rows: pa.Table,
    reviews: Sequence[Review],
    *,
    limit: float = LIMIT,
    max_defects: int = MAX_DEFECTS,
    confidence: float = 0.95,
) -> Verdict:
    """Accept the curated rows if at most `max_defects` of the sample are defects. Reviews of rows outside of the sample do not count.

    Args:
        rows: the curated rows, table of `ROW_SCHEMA`.
        reviews: all there are, oldest first; of several on a row the last counts.
        limit, max_defects, confidence: the plan. A set with fewer rows than it asks for is read whole, and then the defects may be at
            most `limit` of it: nothing is left to chance.

    Returns:
        Verdict with the exact upper bound of the defect rate. Fails as soon as the defects exceed what is tolerated, however few rows
        were read; insufficient while rows of the sample are unread.
    """
    sample = audit_sample(rows, limit=limit, max_defects=max_defects, confidence=confidence)
    plan = acceptance_plan(limit, max_defects, confidence)
    whole = sample.num_rows < plan
    allowed = int(limit * sample.num_rows) if whole else max_defects
    last = latest(reviews, lambda review: review.row_id)
    judged = {row_id: last[row_id] for row_id in sample["row_id"].to_pylist() if row_id in last}
    defects = [review for review in judged.values() if review.quality is Quality.DEFECT]
    common: dict[str, Any] = {
        "statistic": _STATISTIC,
        "n": len(judged),
        "n_required": max(1, sample.num_rows),
        "threshold": limit,
        "confidence": confidence,
        "baseline": f"plan (n = {sample.num_rows}, c = {allowed})" + (", the whole set" if whole else ""),
        "check_version": CHECK_VERSION,
        "tier": "people",
        "config": {"limit": limit, "max_defects": max_defects, "confidence": confidence},
        "remedy": "Correct or reject what was found, look for its like in the rest, and have the new sample read.",
        "details": {
            "sample": sample.num_rows,
            "read": len(judged),
            "defects": len(defects),
            "allowed": allowed,
            "whole_set": whole,
        },
    }
    if judged:
        rate = exact(len(defects), len(judged), confidence, alternative="upper")
        common |= {"estimate": rate.estimate, "ci_low": 0.0, "ci_high": rate.high}
        common["plot"] = forest(
            [("defects", rate.estimate, None, rate.high)],
            threshold=limit,
            title="Defects in the audited rows",
            x_label="share of rows",
        )
        common["evidence"] = _evidence(sample, defects)
    found = (
        f"{len(defects)} of {len(judged)} rows read would not be shipped (at most {allowed} allowed, sample of {sample.num_rows})"
    )
    if len(defects) > allowed:
        return Verdict(decision=Decision.FAIL, summary=f"{found}.", **common)
    if len(judged) < max(1, sample.num_rows):
        unread = f"{len(judged)} of the {sample.num_rows} rows of the sample were read, {len(defects)} of them are defects"
        remedy = "Read the sample: `ftplatform feedback sample NAME --for review`."
        return Verdict(decision=Decision.INSUFFICIENT_EVIDENCE, summary=f"{unread}.", **{**common, "remedy": remedy})
    return Verdict(decision=Decision.PASS, summary=f"{found}: accepted.", **common)


def _evidence(sample: pa.Table, defects: Sequence[Review]) -> list[dict[str, Any]]:
    texts = dict(zip(sample["row_id"].to_pylist(), sample["messages"].to_pylist(), strict=True))
    return [
        {
            "row_id": review.row_id,
            "target": excerpt(texts[review.row_id][-1]["content"], 200),
            "by": excerpt(review.by, 80),
            "why": excerpt(review.why, 160),
        }
        for review in defects[:MAX_EVIDENCE]
    ]
