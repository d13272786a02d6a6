"""`safety_risk_rows`: harmless rows that would erode refusals most, found before they are trained on (mode M5).

He et al. (2024) chose a hundred harmless rows by how near they lie to harmful requests and how far from safe ones in the base
model's representation; tuning on those made models comply with most harmful requests, on a hundred random rows hardly any. So a
row's risk is its mean cosine with the nearest harmful anchors minus that with the nearest safe ones, and what counts is whether the
most risky rows of a split are riskier than harmless text is: more than half of them beyond the 99.9th percentile of a reference.
"""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

from ftplatform.evaluation.representations import Represent
from ftplatform.plots import histogram
from ftplatform.rows.masking import excerpt
from ftplatform.rows.schema import Role
from ftplatform.rows.turns import turns
from ftplatform.statistics.intervals import wilson
from ftplatform.verdict import MAX_EVIDENCE, Decision, Verdict

CHECK_VERSION = "1"

#: How many of the riskiest rows are looked at: so many sufficed to break the models of He et al. (2024).
TOP_ROWS = 100

#: Anchors of each kind that a row is compared with: enough that no single odd one decides, few enough that a kind of harm that only
#: some anchors are about is seen.
NEAREST = 5

#: Share of the reference that lies beyond the limit.
REFERENCE_TAIL = 0.001

#: Rows of a large split exceed the limit by size alone; of the rows looked at, at most a quarter are to be expected beyond it.
_ROOM = 4

#: Cosines held at a time (rows x anchors); 32 MiB.
_BLOCK = 1 << 22

MIN_ANCHORS = 30
MIN_REFERENCE = 500

_STATISTIC = (
    "share of the riskiest rows beyond the 99.9th percentile of the reference (risk: cosine with harmful minus safe anchors)"
)
_EXCERPT = 160


def safety_risk_rows(
    rows: pa.Table,
    harmful: pa.Table,
    safe: pa.Table,
    reference: pa.Table,
    represent: Represent,
    *,
    tier: str,
    top_rows: int = TOP_ROWS,
    max_share: float = 0.5,
    min_anchors: int = MIN_ANCHORS,
    min_reference: int = MIN_REFERENCE,
    baseline: str | None = None,
) -> Verdict:
    """Are the rows nearest to harmful requests nearer than harmless text is?

    User turns are read; what a row answers is not.

    Args:
        rows: the training rows, table of `ROW_SCHEMA`.
        harmful, safe: anchors, e.g. the refusal and over-refusal probes, tables of `ROW_SCHEMA`.
        reference: harmless user turns, e.g. a sample of production inputs, table of `ROW_SCHEMA`.
        represent: texts to vectors (`representations`); `tier` names it.
        top_rows: riskiest rows looked at; of a split above 25,000 rows, 0.4 % of it.
        max_share: warn above this share of them beyond the reference.
        min_anchors: texts of each kind of anchor below which nothing is decided. min_reference: the same of the reference.

    Returns:
        Warns or passes; insufficient with too few rows, anchors or reference texts. Evidence: the riskiest rows, masked.

    Source: L. He, M. Xia, P. Henderson, arXiv 2404.01099 (2024), bidirectional anchoring with representations.
    """
    asked, names, tags = _questions(rows)
    anchors = {"harmful": user_texts(harmful), "safe": user_texts(safe)}
    usual = user_texts(reference)
    config = {
        "tier": tier,
        "top_rows": top_rows,
        "nearest": NEAREST,
        "max_share": max_share,
        "reference_tail": REFERENCE_TAIL,
        "min_anchors": min_anchors,
        "min_reference": min_reference,
    }

    def verdict(decision: Decision, summary: str, remedy: str, **more: Any) -> Verdict:
        return Verdict(
            decision=decision,
            summary=summary,
            statistic=_STATISTIC,
            n=len(asked),
            n_required=top_rows,
            threshold=max_share,
            baseline=baseline or f"{len(usual):,} reference texts",
            remedy=remedy,
            check_version=CHECK_VERSION,
            config=config,
            tier=tier,
            **more,
        )

    sizes = [(f"{kind} anchors", len(texts), min_anchors) for kind, texts in anchors.items()]
    sizes += [("reference texts", len(usual), min_reference), ("rows with a user turn", len(asked), top_rows)]
    if short := [(what, found, needed) for what, found, needed in sizes if found < needed]:
        what, found, needed = short[0]
        return verdict(
            Decision.INSUFFICIENT_EVIDENCE,
            f"There are {found:,} {what} where {needed:,} are needed.",
            "Give the project refusal and over-refusal probes, and the dataset a sample of production inputs.",
        )
    sides = [represent(anchors[kind]) for kind in ("harmful", "safe")]
    risk, usual_risk = (_risk(represent(texts), *sides) for texts in (asked, usual))
    # Of fewer than a thousand texts the limit is the largest: no tail is invented that was not seen.
    limit = float(np.quantile(usual_risk, 1 - REFERENCE_TAIL, method="higher"))
    count = min(len(risk), max(top_rows, math.ceil(_ROOM * REFERENCE_TAIL * len(risk))))
    top = np.argsort(-risk, kind="stable")[:count]
    beyond = int((risk[top] > limit).sum())
    interval = wilson(beyond, count)
    concentrated = Counter(tag for i in top.tolist() for tag in tags[i])
    numbers = f"{beyond:,} of the {count:,} riskiest of {len(risk):,} rows lie beyond the 99.9th percentile of the reference"
    risky = interval.estimate > max_share
    return verdict(
        Decision.WARN if risky else Decision.PASS,
        f"{numbers} (limit {max_share:.0%}).",
        "Read the rows shown; drop or rewrite them, or raise the share of the safety mix." if risky else "None needed.",
        estimate=interval.estimate,
        ci_low=interval.low,
        ci_high=interval.high,
        confidence=interval.confidence,
        evidence=[
            {
                "row_id": names[i],
                "risk": round(float(risk[i]), 4),
                "slices": ", ".join(tags[i]),
                "user": excerpt(asked[i], _EXCERPT),
            }
            for i in top[:MAX_EVIDENCE].tolist()
        ],
        plot=histogram(
            {"rows": risk.tolist(), "reference": usual_risk.tolist()},
            threshold=limit,
            title="Risk of the rows and of the reference",
            x_label="cosine with harmful minus safe anchors",
            threshold_label="99.9 %",
        ),
        details={
            "limit": limit,
            "rows_beyond": int((risk > limit).sum()),
            "expected_beyond": REFERENCE_TAIL * len(risk),
            "top_rows": count,
            "mean_risk_of_top": float(risk[top].mean()),
            "slices_of_top": dict(concentrated.most_common(20)),
            "riskiest_row_ids": [names[i] for i in top[:1000].tolist()],
        },
    )


def _questions(rows: pa.Table) -> tuple[list[str], list[str], list[list[str]]]:
    """User text, id and slices of every row that has a user turn."""
    said = _joined(rows)
    at = said["row"].to_arrow()
    return said["text"].to_list(), rows["row_id"].take(at).to_pylist(), [tags or [] for tags in rows["slices"].take(at).to_pylist()]


def user_texts(rows: pa.Table) -> list[str]:
    """Different user texts, in order."""
    return _joined(rows)["text"].unique(maintain_order=True).to_list()


def _joined(rows: pa.Table) -> pl.DataFrame:
    said = pl.DataFrame(pl.from_arrow(turns(rows, Role.USER)))
    return said.group_by("row", maintain_order=True).agg(text=pl.col("content").str.join("\n"))


def _risk(vectors: Any, harmful: Any, safe: Any) -> NDArray[np.float64]:
    """Mean cosine with the nearest harmful anchors minus that with the nearest safe ones; all vectors have length one."""
    return _nearest(vectors, harmful) - _nearest(vectors, safe)


def _nearest(vectors: Any, anchors: Any) -> NDArray[np.float64]:
    size, parts = max(1, _BLOCK // anchors.shape[0]), []
    for start in range(0, vectors.shape[0], size):
        cosines = vectors[start : start + size] @ anchors.T
        dense = np.asarray(cosines.todense() if hasattr(cosines, "todense") else cosines)
        parts.append(np.partition(dense, -NEAREST, axis=1)[:, -NEAREST:].mean(axis=1, dtype=np.float64))
    return np.concatenate(parts)
