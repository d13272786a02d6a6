"""Has a person read what near-deduplication removed?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import pyarrow as pa
import pyarrow.compute as pc

from ftplatform.dedup.review import (
    PER_SMALL_SLICE,
    SAMPLE,
    SMALL_SLICE,
    Judgment,
    SignOff,
    covers,
    diff_digest,
    review_sample,
    reviewable,
    slices_of,
)
from ftplatform.rows.masking import excerpt
from ftplatform.statistics.intervals import wilson
from ftplatform.verdict import MAX_EVIDENCE, Decision, Verdict

CHECK_VERSION = "dedup_reviewed/1"

#: A sign-off of the same threshold holds for a later diff only until this many times as many rows are removed.
MAX_GROWTH = 2.0

_REMEDY = "Read the pairs of the review sample beside the removal diff and sign them off."


def dedup_reviewed(
    removal_diff: pa.Table,
    signoffs: Sequence[SignOff],
    *,
    threshold: float,
    once_per: Literal["threshold", "diff"] = "threshold",
    size: int = SAMPLE,
    per_slice: int = PER_SMALL_SLICE,
    small_slice: int = SMALL_SLICE,
    max_wrong: float = 0.05,
    confidence: float = 0.95,
) -> Verdict:
    """Warn until somebody has signed off a stratified sample of the removal diff; then judge what they found.

    A sign-off of this very diff counts if it judged every pair of the sample. With `once_per` ``"threshold"`` one of an earlier
    diff of the same threshold counts as well, unless a slice has lost rows since that had lost none, or `MAX_GROWTH` times as many
    rows are gone. Of several the latest that counts decides.

    Args:
        removal_diff: table of `diff.REMOVAL_SCHEMA`.
        signoffs: all there are, for whatever diff.
        threshold: similarity threshold that made the diff.
        size, per_slice, small_slice: of `review.review_sample`.
        max_wrong: largest share of judged pairs that should have been kept.

    Returns:
        Verdict whose n is the number of judged pairs and whose estimate the share not judged "duplicate" (of the sample, in which
        small slices weigh more than in the diff). Fails if the Wilson lower bound of those judged "keep" is above `max_wrong`, warns
        if the estimate is. Insufficient evidence: the sign-off of this diff leaves out pairs of the sample. A diff without
        near-duplicates passes as one diff with nothing to read.
    """
    pairs = reviewable(removal_diff)
    sample = review_sample(removal_diff, size=size, per_slice=per_slice, small_slice=small_slice)
    digest = diff_digest(removal_diff)
    common: dict[str, Any] = {
        "statistic": "share of judged removals that should have been kept (n: judged pairs)",
        "n": 0,
        "n_required": sample.num_rows,
        "threshold": max_wrong,
        "confidence": confidence,
        "baseline": f"removal diff {digest[:16]}",
        "check_version": CHECK_VERSION,
        "config": {
            "similarity_threshold": threshold,
            "once_per": once_per,
            "size": size,
            "per_slice": per_slice,
            "small_slice": small_slice,
            "max_wrong": max_wrong,
            "max_growth": MAX_GROWTH,
            "confidence": confidence,
        },
        "remedy": _REMEDY,
        "tier": "people",
    }
    details: dict[str, Any] = {"diff_digest": digest, "removed": pairs.num_rows, "sample": sample.num_rows}
    if not pairs.num_rows:
        return Verdict(
            decision=Decision.PASS,
            summary="No near-duplicate was removed; there is nothing to read.",
            details=details,
            **{**common, "statistic": "removal diffs without anything to read", "n": 1, "n_required": 1, "threshold": None},
        )
    own = [s for s in signoffs if s.diff_digest == digest and s.threshold == threshold]
    complete = [s for s in own if covers(s, sample)]
    earlier = [
        s for s in signoffs if s.diff_digest != digest and s.threshold == threshold and len(s.judgments) >= min(size, s.removed)
    ]
    obstacle = ""
    if not complete and once_per == "threshold" and earlier:
        new = sorted(slices_of(removal_diff) - frozenset().union(*(s.slices for s in earlier)))
        grown = pairs.num_rows > MAX_GROWTH * max(s.removed for s in earlier)
        if new:
            obstacle = f"; since the last sign-off {len(new)} slices lost rows for the first time: {', '.join(new[:5])}"
        elif grown:
            obstacle = f"; since the last sign-off the removals grew to {pairs.num_rows:,}"
        else:
            complete = earlier
    if not complete and own:
        judged = max(len(s.judgments) for s in own)
        return Verdict(
            decision=Decision.INSUFFICIENT_EVIDENCE,
            summary=f"The sign-off of this diff judges {judged} pairs and leaves out some of the {sample.num_rows} to be read.",
            details=details,
            **{**common, "n": judged, "n_required": max(judged + 1, sample.num_rows)},
        )
    if not complete:
        unread = f"{sample.num_rows} of {pairs.num_rows:,} removals at threshold {threshold:g} wait to be read{obstacle}"
        return Verdict(decision=Decision.WARN, summary=f"{unread}.", evidence=_to_read(sample), details=details, **common)
    return _found(max(complete, key=lambda s: s.signed_at), removal_diff, max_wrong, confidence, details, common)


def _found(
    signed: SignOff, removal_diff: pa.Table, max_wrong: float, confidence: float, details: dict[str, Any], common: dict[str, Any]
) -> Verdict:
    n, keep, unsure = len(signed.judgments), signed.count(Judgment.KEEP), signed.count(Judgment.UNSURE)
    doubted = wilson(keep + unsure, n, confidence)
    common |= {
        "n": n,
        "n_required": min(n, common["n_required"]),
        "estimate": doubted.estimate,
        "ci_low": doubted.low,
        "ci_high": doubted.high,
        "details": details
        | {
            "reviewer": excerpt(signed.reviewer, 80),
            "signed_at": signed.signed_at.isoformat(),
            "signed_diff_digest": signed.diff_digest,
            "keep": keep,
            "unsure": unsure,
        },
    }
    said = f"{excerpt(signed.reviewer, 80)} read {n} removals on {signed.signed_at:%Y-%m-%d} and would have kept {keep} ({unsure} unsure)"
    evidence = _doubted(signed, removal_diff)
    if wilson(keep, n, confidence).low > max_wrong:
        decision = Decision.FAIL
    elif doubted.estimate > max_wrong:
        decision = Decision.WARN
    else:
        return Verdict(decision=Decision.PASS, summary=f"{said}.", evidence=evidence, **common)
    remedy = "Raise the similarity threshold, keep more rows per cluster, or use cluster weights, and have the new diff read."
    return Verdict(decision=decision, summary=f"{said}.", evidence=evidence, **{**common, "remedy": remedy})


def _to_read(sample: pa.Table) -> list[dict[str, Any]]:
    return _records(sample.slice(0, MAX_EVIDENCE))


def _doubted(signed: SignOff, removal_diff: pa.Table) -> list[dict[str, Any]]:
    doubted = {pair: value for pair, value in signed.judgments.items() if value is not Judgment.DUPLICATE}
    shown = sorted(doubted, key=lambda pair: (doubted[pair] is not Judgment.KEEP, pair))[:MAX_EVIDENCE]
    ids = pa.array([row_id for row_id, _ in shown], pa.string())
    # A pair of an earlier diff may be gone from this one; its ids still say which it was.
    texts = {(r["row_id"], r["kept_row_id"]): r for r in _records(removal_diff.filter(pc.is_in(removal_diff["row_id"], ids)))}
    return [{"row_id": pair[0], "kept_row_id": pair[1], "judgment": str(doubted[pair]), **texts.get(pair, {})} for pair in shown]


def _records(pairs: pa.Table) -> list[dict[str, Any]]:
    columns = ["row_id", "kept_row_id", "similarity", "reason", "removed_text", "kept_text"]
    return [
        {**r, "removed_text": excerpt(r["removed_text"], 240), "kept_text": excerpt(r["kept_text"], 240)}
        for r in pairs.select(columns).to_pylist()
    ]
