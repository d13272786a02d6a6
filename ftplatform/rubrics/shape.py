"""`criterion_shape`: is the gain in what the answers say, or in what they mention?

Reinforcement on rubrics gains on criteria of presence and completeness and loses on accuracy, relevance and brevity (M. Mahmoud et al.,
arXiv 2605.12474). Answers that grow longer meet criteria of presence by themselves.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ftplatform.plots import bars
from ftplatform.rubrics.criteria import Criterion, Shape
from ftplatform.rubrics.paired import Gain, gains
from ftplatform.statistics.intervals import Interval, clustered_mean, finite_vector
from ftplatform.verdict import MAX_EVIDENCE, Decision, Scalar, Verdict

CHECK_VERSION = "criterion_shape/1"

#: Share of the gain that may be in presence criteria, and by how much answers may grow.
PRESENCE_SHARE = 0.80
GROWTH = 0.30
MIN_ITEMS = 30


def criterion_shape(
    criteria: Sequence[Criterion],
    scores: Mapping[str, Gain],
    base_words: ArrayLike,
    tuned_words: ArrayLike,
    clusters: Sequence[Hashable] | None = None,
    *,
    alpha: float = 0.05,
    presence_share: float = PRESENCE_SHARE,
    growth: float = GROWTH,
) -> Verdict:
    """Warn if surely more than `presence_share` of the gain is in criteria of presence, or answers are surely `growth` longer.

    Both are linear contrasts of the same items, so their bounds are those of a mean: presence gain minus .8 of the whole gain, and
    tuned length minus 1.3 of the base length. A rubric with criteria of presence only has all of its gain there.

    Args:
        criteria: of the rubric trained on. scores: criterion id to scores of the same items in the same order.
        base_words, tuned_words: shape (n,), length of the answers.
        clusters: family of each item, its own by default.

    Returns:
        Verdict whose estimate is the presence share of the gain, None without a gain. It passes if there is no real gain that could be
        concentrated, or both contrasts are surely below zero; what is open in between is insufficient evidence.

    Raises:
        ValueError: if criteria and scores differ, or not all hold the same items.
    """
    if {c.id for c in criteria} != scores.keys() or not scores:
        raise ValueError(f"scores are of {sorted(scores)}; give those of every criterion of the rubric")
    base, tuned = finite_vector(base_words, "base_words"), finite_vector(tuned_words, "tuned_words")
    by_criterion = {name: gains(gain) for name, gain in scores.items()}
    if {len(values) for values in by_criterion.values()} | {len(tuned)} != {len(base)}:
        raise ValueError("criteria and lengths are not of the same items")
    n = len(base)
    families: Sequence[Hashable] = range(n) if clusters is None else clusters
    common: dict[str, Any] = {
        "statistic": "share of the rubric's gain in presence criteria (n: items)",
        "threshold": presence_share,
        "n": n,
        "n_required": MIN_ITEMS,
        "baseline": "the base model on the same items",
        "check_version": CHECK_VERSION,
        "config": {"alpha": alpha, "presence_share": presence_share, "growth": growth, "min_items": MIN_ITEMS},
        "tier": "rules",
    }
    if len(set(families)) < MIN_ITEMS:
        return Verdict(
            decision=Decision.INSUFFICIENT_EVIDENCE,
            summary=f"{n} items were graded by criterion; {MIN_ITEMS} are needed.",
            remedy=f"Grade at least {MIN_ITEMS} items.",
            **common,
        )
    shapes = {c.id: c.shape for c in criteria}
    total = np.mean(list(by_criterion.values()), axis=0)
    presence = np.sum([v for name, v in by_criterion.items() if shapes[name] is Shape.PRESENCE], axis=0) / len(by_criterion)
    whole = clustered_mean(total, families, 1 - alpha)
    concentrated = _both_bounds(presence * np.ones(n) - presence_share * total, families, alpha)
    longer = _both_bounds(tuned - (1 + growth) * base, families, alpha)
    grown = float(tuned.mean() / base.mean() - 1) if base.mean() > 0 else None
    real = whole.low > 0
    share = float(np.mean(presence)) / whole.estimate if real else None
    reasons = []
    if real and concentrated.low > 0:
        reasons.append(f"{share:.0%} of the gain is in criteria of presence (limit {presence_share:.0%})")
    if longer.low > 0:
        reasons.append(f"answers are {grown:.0%} longer (limit {growth:.0%})" if grown is not None else "answers were empty before")
    open_ = (real and concentrated.high > 0) or longer.high > 0
    decision = Decision.WARN if reasons else Decision.INSUFFICIENT_EVIDENCE if open_ else Decision.PASS
    gained = f"The rubric's score gained {100 * whole.estimate:+.1f} points [{100 * whole.low:+.1f}, {100 * whole.high:+.1f}]"
    said = "; ".join(reasons) or (
        "whether presence or length carries it is open" if open_ else "neither presence nor length carries it"
    )
    rows = _rows(by_criterion, shapes, families, alpha)
    return Verdict(
        decision=decision,
        summary=f"{gained}; {said}.",
        estimate=share,
        evidence=rows[:MAX_EVIDENCE],
        remedy={
            Decision.PASS: "None needed.",
            Decision.WARN: "Add criteria of accuracy and brevity, and look at whether the answers became better.",
            Decision.INSUFFICIENT_EVIDENCE: "Grade more items.",
        }[decision],
        plot=bars(
            [(f"{row['criterion']} ({row['shape']})", float(row["gain"])) for row in rows],
            title="Gain by criterion",
            x_label="gain of the mean score, share of the scale",
            highlight=[f"{row['criterion']} ({row['shape']})" for row in rows if row["shape"] == Shape.PRESENCE],
        ),
        details={"length_growth": grown, "shapes": {name: str(shape) for name, shape in shapes.items()}},
        **common,
    )


def _both_bounds(values: Any, families: Sequence[Hashable], alpha: float) -> Interval:
    """The mean with one-sided bounds, each at 1 - alpha."""
    low = clustered_mean(values, families, 1 - alpha, alternative="lower")
    high = clustered_mean(values, families, 1 - alpha, alternative="upper")
    return Interval(low.estimate, low.low, high.high, 1 - alpha)


def _rows(
    gained: Mapping[str, Any], shapes: Mapping[str, Shape], families: Sequence[Hashable], alpha: float
) -> list[dict[str, Any]]:
    """Gain of each criterion with its interval, largest first."""
    rows: list[dict[str, Scalar]] = []
    for name, values in gained.items():
        interval = clustered_mean(values, families, 1 - alpha)
        rows.append(
            {
                "criterion": name,
                "shape": str(shapes[name]),
                "gain": round(interval.estimate, 4),
                "low": round(interval.low, 4),
                "high": round(interval.high, 4),
            }
        )
    return sorted(rows, key=lambda row: -float(row["gain"] or 0))
