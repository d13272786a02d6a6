"""Is the latest checkpoint still as good as the one that was approved first? (mode M8)

Compared with the *anchor*, never with the neighbor: a loop that loses a little at every step is at each step as good as the step
before.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from ftplatform.rewards.ledger import anchor_of, latest_checkpoint
from ftplatform.rewards.panel import Panel, eval_roots, panel
from ftplatform.rows.masking import excerpt
from ftplatform.statistics.intervals import Interval
from ftplatform.statistics.paired import noninferiority, paired_mean_difference
from ftplatform.statistics.power import required_n_noninferiority
from ftplatform.verdict import MAX_EVIDENCE, Decision, Verdict

CHECK_VERSION = "1"
#: Largest acceptable loss of the outcome, a share.
MARGIN = 0.02
#: Share of items whose outcome flips, below which the sample size is not computed: nobody knows it better from a few hundred items.
MIN_DISCORDANT = 0.03
_STATISTIC = "paired loss of the outcome against the anchor (anchor minus candidate, same items)"


def anchored_noninferiority(
    rewards: pa.Table, *, approved: Sequence[int] = (), alpha: float = 0.05, margin: float = MARGIN
) -> Verdict:
    """Passes if the upper bound of the loss is at most `margin`; fails if a loss is shown that is not shown to lie within it.

    Between the two there is insufficient evidence, as there is on too few items, and without a common exam
    (`details["comparable"]` is then false).

    Args:
        rewards: `REWARD_SCHEMA`.
        approved: checkpoints that people approved, in order; the first is the anchor. Without any it is the first of the ledger.
        alpha: one-sided error rate of each bound.
        margin: largest acceptable loss, a share.

    Raises:
        InputDataError: the ledger does not hold the anchor.
    """
    anchor = anchor_of(rewards, approved)
    candidate = latest_checkpoint(rewards)
    common: dict[str, Any] = {
        "statistic": _STATISTIC,
        "threshold": margin,
        "confidence": 1 - alpha,
        "baseline": None if anchor is None else f"checkpoint {anchor}",
        "check_version": CHECK_VERSION,
        "config": {"approved": list(approved), "alpha": alpha, "margin": margin, "min_discordant": MIN_DISCORDANT},
    }
    if anchor is None or candidate is None or candidate == anchor:
        return _unclear("There is no checkpoint after the anchor.", "Score a later checkpoint on the same items.", margin, common)
    sides = (anchor, candidate)
    roots = eval_roots(rewards, sides)
    if not roots:
        return _unclear(
            f"Neither checkpoint {anchor} nor {candidate} has an outcome.", "Score both on the same items.", margin, common
        )
    if len(roots) > 1:
        return _unclear(
            f"Refused to compare: checkpoint {candidate} was scored by another exam than the anchor, checkpoint {anchor}.",
            "Score both by one exam.",
            margin,
            common,
            comparable=False,
        )
    both = panel(rewards, "outcome", sides)
    if not both.comparable or len(both.items) < 2:
        return _unclear(
            f"Refused to compare: checkpoints {anchor} and {candidate} share {len(both.items)} items with an outcome.",
            "Score both on the same items.",
            margin,
            common,
            comparable=False,
        )
    return _compared(both, margin, alpha, common)


def _compared(both: Panel, margin: float, alpha: float, common: dict[str, Any]) -> Verdict:
    before, after = both.values.T
    loss = before - after
    interval = _loss(before, after, margin, 1 - alpha)
    # The mean square of the losses is, of outcomes that are 0 or 1, the share that flips.
    required = required_n_noninferiority(margin, max(MIN_DISCORDANT, min(0.99, float(np.mean(loss**2)))), alpha)
    anchor, candidate = both.checkpoints
    if interval.low > 0 and interval.high > margin:
        decision, remedy = Decision.FAIL, f"Serve checkpoint {anchor} again, and train from it on a reward that holds the outcome."
    elif interval.high <= margin and len(loss) >= required:
        decision, remedy = Decision.PASS, "Nothing to do."
    else:
        how_many = f"about {required}" if len(loss) < required else "more"
        decision, remedy = Decision.INSUFFICIENT_EVIDENCE, f"Score {how_many} items at both checkpoints."
    return Verdict(
        decision=decision,
        summary=f"Outcome {before.mean():.1%} at checkpoint {anchor}, {after.mean():.1%} at {candidate} on {len(loss)} items; the loss"
        f" lies between {interval.low:.1%} and {interval.high:.1%} (limit {margin:.0%}).",
        remedy=remedy,
        estimate=interval.estimate,
        ci_low=interval.low,
        ci_high=interval.high,
        n=len(loss),
        n_required=required,
        evidence=[
            {"item": excerpt(both.items[i]), "outcome_anchor": float(before[i]), "outcome_candidate": float(after[i])}
            for i in np.argsort(-loss, kind="stable")[:MAX_EVIDENCE]
            if loss[i] > 0
        ],
        details={"anchor": anchor, "candidate": candidate},
        **common,
    )


def _loss(before: np.ndarray, after: np.ndarray, margin: float, confidence: float) -> Interval:
    """Tango's bounds for outcomes that are 0 or 1, else paired t bounds."""
    if np.isin(np.concatenate([before, after]), (0.0, 1.0)).all():
        lost, gained = int(((before == 1) & (after == 0)).sum()), int(((before == 0) & (after == 1)).sum())
        return noninferiority(lost, gained, len(before), margin, confidence).interval
    low = paired_mean_difference(before, after, confidence=confidence, alternative="lower")
    high = paired_mean_difference(before, after, confidence=confidence, alternative="upper")
    return Interval(low.estimate, low.low, high.high, confidence)


def _unclear(summary: str, remedy: str, margin: float, common: dict[str, Any], **details: Any) -> Verdict:
    return Verdict(
        decision=Decision.INSUFFICIENT_EVIDENCE,
        summary=summary,
        remedy=remedy,
        n=0,
        n_required=required_n_noninferiority(margin, MIN_DISCORDANT),
        details=details,
        **common,
    )
