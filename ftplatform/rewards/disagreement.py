"""Do the heads of a reward ensemble part on what the policy says now? (mode M8)

Heads trained on the same preferences agree where they have seen answers like these and part where they have not. Answers on which
they part are those whose reward nobody vouches for (T. Coste et al. 2024, Reward model ensembles help mitigate overoptimization,
arXiv 2310.02743).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

from ftplatform.rewards.ledger import anchor_of
from ftplatform.rewards.panel import scored
from ftplatform.rewards.ratio import ratio_of_means
from ftplatform.rows.masking import excerpt
from ftplatform.verdict import MAX_EVIDENCE, Decision, Verdict

CHECK_VERSION = "1"
MIN_HEADS = 4
MIN_ITEMS = 30
#: Largest acceptable ratio of disagreement.
LIMIT = 1.5
_STATISTIC = "disagreement of the reward heads on the latest checkpoint over that on the anchor (ratio of mean deviations)"


def reward_disagreement(rewards: pa.Table, *, approved: Sequence[int] = (), alpha: float = 0.05, limit: float = LIMIT) -> Verdict:
    """Warns when the heads are shown to disagree more than `limit` times as much on the candidate's answers as on the anchor's.

    Each head is put on the scale of its own rewards of the anchor (mean 0, deviation 1), so that a head with large numbers does not
    speak for all; disagreement is the standard deviation over heads of one answer.

    Args:
        rewards: `REWARD_SCHEMA` with `heads`.
        approved: see `anchored_noninferiority`.
        alpha: one-sided error rate of each bound.
        limit: largest acceptable ratio.

    Raises:
        InputDataError: the ledger does not hold the anchor.
    """
    anchor = anchor_of(rewards, approved)
    candidate = max(scored(rewards, "heads"), default=None)
    common: dict[str, Any] = {
        "statistic": _STATISTIC,
        "threshold": limit,
        "confidence": 1 - alpha,
        "baseline": None if anchor is None else f"checkpoint {anchor}",
        "n_required": MIN_ITEMS,
        "check_version": CHECK_VERSION,
        "config": {"approved": list(approved), "alpha": alpha, "limit": limit, "min_heads": MIN_HEADS},
        "tier": "ensemble",
    }

    def unclear(summary: str, remedy: str, n: int = 0) -> Verdict:
        return Verdict(decision=Decision.INSUFFICIENT_EVIDENCE, summary=summary, remedy=remedy, n=n, **common)

    if anchor is None or candidate is None or candidate == anchor:
        return unclear("No checkpoint after the anchor was scored by several heads.", "Record `heads` of both.")
    items, before, after = _paired_heads(rewards, anchor, candidate)
    if not items:
        return unclear(
            f"No item was scored by the same heads at checkpoints {anchor} and {candidate}.",
            "Score the same items with every head.",
        )
    n, heads = before.shape
    if heads < MIN_HEADS or n < MIN_ITEMS:
        return unclear(
            f"{heads} heads on {n} items; {MIN_HEADS} heads on {MIN_ITEMS} items are needed.",
            f"Train {MIN_HEADS} or 5 heads on resampled preferences, and score {MIN_ITEMS} items or more.",
            n,
        )
    center, scale = before.mean(axis=0), before.std(axis=0, ddof=1)
    if (scale == 0).any():
        return unclear("A head gives every answer of the anchor the same reward.", "Leave out the constant head.", n)
    known, new = (((x - center) / scale).std(axis=1, ddof=1) for x in (before, after))
    ratio = ratio_of_means(new, known, limit, 1 - alpha)
    if ratio.low > limit:
        decision, remedy = Decision.WARN, "Have people judge the answers listed, and train the heads on what they say."
    elif ratio.high <= limit:
        decision, remedy = Decision.PASS, "Nothing to do."
    else:
        decision, remedy = Decision.INSUFFICIENT_EVIDENCE, "Score more items with every head."
    answers = _answers(rewards, candidate)
    return Verdict(
        decision=decision,
        summary=f"{heads} heads disagree {ratio.value:.2f} times as much on checkpoint {candidate} as on {anchor}"
        f" [{ratio.low:.2f}, {ratio.high:.2f}], {n} items (limit {limit:g}).",
        remedy=remedy,
        estimate=ratio.value,
        ci_low=ratio.low,
        ci_high=ratio.high if np.isfinite(ratio.high) else None,
        n=n,
        evidence=[
            {
                "item": excerpt(items[i]),
                "disagreement": float(new[i]),
                "before": float(known[i]),
                "answer": excerpt(answers.get(items[i], "")),
            }
            for i in np.argsort(-new, kind="stable")[:MAX_EVIDENCE]
        ],
        details={"heads": heads, "anchor": anchor, "candidate": candidate},
        **common,
    )


def _paired_heads(rewards: pa.Table, *checkpoints: int) -> tuple[list[str], NDArray[np.float64], NDArray[np.float64]]:
    """Items scored at both checkpoints by as many heads as most, and their rewards: (n, heads) each."""
    frame = (
        pl.DataFrame(pl.from_arrow(rewards.select(["checkpoint", "item", "heads"])))
        .filter(pl.col("heads").is_not_null(), pl.col("checkpoint").is_in(checkpoints))
        .unique(["checkpoint", "item"], keep="first", maintain_order=True)
    )
    if frame.is_empty():
        return [], np.empty((0, 0)), np.empty((0, 0))
    width = int(frame["heads"].list.len().mode().max())  # pyright: ignore[reportArgumentType]  (a mode of lengths is an integer)
    frame = frame.filter(pl.col("heads").list.len() == width)
    before, after = (frame.filter(pl.col("checkpoint") == c).drop("checkpoint") for c in checkpoints)
    both = before.join(after, on="item", suffix="_after").sort("item")
    first, second = (both[name].list.to_array(width).to_numpy().reshape(-1, width) for name in ("heads", "heads_after"))
    return both["item"].to_list(), first, second


def _answers(rewards: pa.Table, checkpoint: int) -> dict[str, str]:
    frame = pl.DataFrame(pl.from_arrow(rewards.select(["checkpoint", "item", "answer"])))
    frame = frame.filter(pl.col("checkpoint") == checkpoint, pl.col("answer").is_not_null())
    return dict(frame.select("item", "answer").iter_rows())
