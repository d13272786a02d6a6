"""The adapter as it is against the same recipe on another base: the same task items, paired, by slice.

A slice is *worse* or *better* if the change is beyond chance (Holm over the slices) and not also shown to lie within the margin; it is
the *same* if both one-sided 95 % bounds lie within the margin (two one-sided tests, Schuirmann 1987). Anything else is too little
data: that no difference is significant never counts as the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa

from ftplatform.errors import EvaluationError
from ftplatform.statistics import holm, mcnemar_exact, paired_difference, paired_mean_difference, wilson
from ftplatform.statistics.intervals import Interval

#: Largest change of a mean score that counts as none, a share; one-sided confidence of each bound; family-wise error rate.
MARGIN, CONFIDENCE, ALPHA = 0.03, 0.95, 0.05

#: With fewer independent families the t bound of a mean is not to be trusted: only a sign test decides, and never for "the same".
MIN_FAMILIES = 30

_ITEM = ["eval_set", "item_id", "condition", "sample"]


class Change(StrEnum):
    """What became of a part of the task."""

    BETTER = "better"
    SAME = "same"
    WORSE = "worse"
    INSUFFICIENT_EVIDENCE = "insufficient_evidence"


@dataclass(frozen=True, slots=True, kw_only=True)
class PartChange:
    """Change new - old on n items, in units of the score.

    Attributes:
        part: the slice or eval set, or ``"overall"``.
        n, families: items, and independent families among them.
        old, new: mean scores. better, worse: items whose score rose, fell.
        gain: new - old; low, high: one-sided bounds of it at `CONFIDENCE` each.
        p: two-sided p-value of "nothing changed"; p_adjusted: the same after Holm.
        change: the decision.
    """

    part: str
    n: int
    families: int
    old: float
    new: float
    better: int
    worse: int
    gain: float
    low: float
    high: float
    p: float
    p_adjusted: float
    change: Change

    def to_record(self) -> dict[str, Any]:
        """JSON-able form."""
        return {**asdict(self), "change": str(self.change)}


def paired_scores(old: pa.Table, new: Sequence[pa.Table]) -> pa.Table:
    """Task scores of both adapters on the same items; the new one's is the mean over its replicates.

    Args:
        old, new: answers of an evaluation of each (`eval_set`, `kind`, `item_id`, `condition`, `sample`, `slices`, `group`,
            `tuned_score`); at least one for the new.

    Returns:
        Table with `eval_set`, `item_id`, `slices`, `group`, `old_score`, `new_score`; one row per task item.

    Raises:
        EvaluationError: an item was asked of one side only.
    """
    paired = _task(old).rename({"tuned_score": "old_score"})
    names = []
    for number, answers in enumerate(new):
        names.append(f"new_{number}")
        side = _task(answers).select(*_ITEM, pl.col("tuned_score").alias(names[-1]))
        paired = paired.join(side, on=_ITEM, how="full", coalesce=True, nulls_equal=True, maintain_order="left")
    alone = paired.filter(pl.any_horizontal(pl.col("old_score", *names).is_null()))
    if len(alone):
        raise EvaluationError(
            f"Item {alone['item_id'][0]} of {alone['eval_set'][0]} has no score of one of the adapters; the comparison is paired.",
            remedy="Ask both adapters the same eval sets, each item once.",
        )
    scored = paired.with_columns(new_score=pl.mean_horizontal(names))
    return scored.select("eval_set", "item_id", "slices", "group", "old_score", "new_score").to_arrow()


def compare(scores: pa.Table, *, margin: float = MARGIN, alpha: float = ALPHA) -> list[PartChange]:
    """The whole first, then eval sets and slices, those that lost most first; empty without items.

    The whole is a question of its own; Holm's correction is over the parts of it.

    Args:
        scores: table of `paired_scores`.
        margin: largest change of the mean score that counts as none, a share.
        alpha: probability of any wrong "better" or "worse" among the parts.
    """
    frame = pl.DataFrame(pl.from_arrow(scores)).with_columns(
        family=pl.coalesce(pl.format("group:{}", "group"), pl.format("item:{}", "item_id"))
    )
    if frame.is_empty():
        return []
    several = frame["eval_set"].n_unique() > 1
    sliced = (
        frame.explode("slices", empty_as_null=True)
        .drop_nulls("slices")
        .unique(["eval_set", "item_id", "slices"], maintain_order=True)
    )
    named = sliced.with_columns(part=pl.format("{}: {}", "eval_set", "slices") if several else pl.col("slices"))
    members = [named, frame.with_columns(part=pl.col("eval_set"))] if several else [named]
    measured = [
        measure(str(name), rows["old_score"].to_numpy(), rows["new_score"].to_numpy(), rows["family"].to_list())
        for rows_of in members
        for (name,), rows in rows_of.group_by("part", maintain_order=True)
    ]
    overall = measure("overall", frame["old_score"].to_numpy(), frame["new_score"].to_numpy(), frame["family"].to_list())
    adjusted = holm([part.p for part in measured], alpha)[1].tolist() if measured else []
    parts = [decided(part, p, margin=margin, alpha=alpha) for part, p in zip(measured, adjusted, strict=True)]
    order = [Change.WORSE, Change.INSUFFICIENT_EVIDENCE, Change.SAME, Change.BETTER]
    ranked = sorted(parts, key=lambda part: (order.index(part.change), part.gain, part.part))
    return [decided(overall, overall.p, margin=margin, alpha=alpha), *ranked]


def measure(name: str, old: np.ndarray, new: np.ndarray, families: Sequence[str]) -> PartChange:
    """The change on one part, not yet decided.

    Scores of 0 and 1 get Tango's bounds and the exact McNemar test. Graded scores, and items in families, get the cluster-robust t
    bounds, which may only widen the former.

    Args:
        old, new: shape (n,), n at least 1, in [0, 1]. families: n ids.

    Sources: T. Tango, Stat Med 17 (1998) 891; E. Miller, arXiv 2411.00640 (2024), section 2.2.
    """
    from scipy.stats import t

    n, count = len(old), len(set(families))
    difference = new - old
    gain = float(difference.mean())
    better, worse = int((difference > 0).sum()), int((difference < 0).sum())
    bounds: list[Interval] = []
    probabilities: list[float] = []
    both_sides = 2 * CONFIDENCE - 1
    binary = bool(np.isin(old, (0.0, 1.0)).all() and np.isin(new, (0.0, 1.0)).all())
    if binary:
        bounds.append(paired_difference(better, worse, n, both_sides))
        probabilities.append(mcnemar_exact(better, worse))
    if count < 2:  # everything hangs on one family: no error can be estimated
        bounds.append(Interval(gain, -1.0, 1.0, both_sides))
        probabilities.append(1.0)
    elif not binary or count < n:
        robust = paired_mean_difference(new, old, families, both_sides)
        error = (robust.high - gain) / float(t.ppf(CONFIDENCE, count - 1))
        if error > 0:
            probabilities.append(2 * float(t.sf(abs(gain) / error, count - 1)))
        else:  # no spread at all: as much as so many families without an exception show
            unseen = wilson(0, count, CONFIDENCE, alternative="upper").high
            robust = Interval(gain, gain - unseen, gain + unseen, both_sides)
        bounds.append(robust)
        if error <= 0 or count < MIN_FAMILIES:
            probabilities.append(_sign_test(difference, families))
    return PartChange(
        part=name,
        n=n,
        families=count,
        old=float(old.mean()),
        new=float(new.mean()),
        better=better,
        worse=worse,
        gain=gain,
        low=max(-1.0, min(b.low for b in bounds)),
        high=min(1.0, max(b.high for b in bounds)),
        p=min(1.0, max(probabilities)),
        p_adjusted=1.0,
        change=Change.INSUFFICIENT_EVIDENCE,
    )


def decided(part: PartChange, p_adjusted: float, *, margin: float, alpha: float = ALPHA) -> PartChange:
    """The part with its decision."""
    within = part.low >= -margin and part.high <= margin
    change = Change.INSUFFICIENT_EVIDENCE
    if within and part.families >= MIN_FAMILIES:
        change = Change.SAME
    elif p_adjusted <= alpha and not within:
        change = Change.BETTER if part.gain > 0 else Change.WORSE
    return replace(part, p_adjusted=p_adjusted, change=change)


def _task(answers: pa.Table) -> pl.DataFrame:
    frame = pl.DataFrame(pl.from_arrow(answers)).filter(pl.col("kind") == "task")
    return frame.select(*_ITEM, "slices", "group", "tuned_score")


def _sign_test(difference: np.ndarray, families: Sequence[str]) -> float:
    """Exact two-sided sign test over families."""
    means = pl.DataFrame({"family": families, "difference": difference}).group_by("family").agg(pl.col("difference").mean())
    signs = means["difference"].sign()
    return mcnemar_exact(int((signs > 0).sum()), int((signs < 0).sum()))
