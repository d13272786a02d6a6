"""closure_equivalent: does the adapter behave like other adapters of its own recipe? (SPEC M1)

One more training run with another seed gives other weights and other scores, so a single re-run neither proves nor disproves
anything. k replicates say how far scores of this recipe scatter, and the adapter must be one of them: every metric inside the interval
that would hold the next replicate, and no slice worse than what the replicates do on the same items.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa

from ftplatform.statistics.intervals import Interval, t_prediction_interval
from ftplatform.statistics.paired import paired_difference, paired_mean_difference
from ftplatform.statistics.power import required_n_noninferiority
from ftplatform.verdict import MAX_EVIDENCE, Decision, Verdict

CHECK_VERSION = "1"

#: Largest acceptable loss of a slice, as a share.
MARGIN = 0.03
#: Share of items whose outcome a replicate flips, for the number of items a slice needs (344 for 3 points).
FLIPPED = 0.05
#: Fewest replicates: with two the interval is 15 standard deviations to either side and holds anything.
LEAST_REPLICATES = 3
# A score is a mean of items; sums in another order differ in the last digits.
_ROUNDING = 1e-9

#: One row per metric and item. `score` is 0 to 1, larger is better; `family` ties items together that are not independent.
SCORES_SCHEMA = pa.schema(
    [
        pa.field("metric", pa.string(), nullable=False),
        pa.field("item_id", pa.string(), nullable=False),
        pa.field("family", pa.string(), nullable=False),
        pa.field("slices", pa.list_(pa.string()), nullable=False),
        pa.field("score", pa.float64(), nullable=False),
    ]
)


@dataclass(frozen=True, slots=True)
class _Line:
    """One comparison: a metric against the replicates' scatter, or a slice item by item."""

    name: str
    interval: Interval
    n: int
    decision: Decision
    limit: float | None

    def to_row(self) -> dict[str, Any]:
        i = self.interval
        return {
            "what": self.name,
            "decision": str(self.decision),
            "estimate": _finite(i.estimate),
            "low": _finite(i.low),
            "high": _finite(i.high),
            "n": self.n,
        }


def closure_equivalent(
    adapter: pa.Table, replicates: Sequence[pa.Table], *, margin: float = MARGIN, alpha: float = 0.05, required: int = 5
) -> Verdict:
    """Is the adapter one of its own replicates?

    Args:
        adapter: its scores, table of `SCORES_SCHEMA`.
        replicates: scores of the same items by adapters of the same closure under other seeds.
        margin: largest acceptable loss of a slice, as a share.
        alpha: error rate of every interval; the prediction interval is two-sided, the bound of a slice one-sided.
        required: replicates that were asked for.

    Returns:
        Pass: enough replicates, every metric inside, every slice shown non-inferior. Fail: a metric outside; a slice with enough items
        (families, where items belong together) whose loss may exceed the margin; a smaller one whose loss is shown to. Otherwise the
        evidence is insufficient.

    Raises:
        ValueError: a replicate was not asked the same items.

    Source: prediction interval G. J. Hahn and W. Q. Meeker, Statistical Intervals (1991), 4.7; paired bounds T. Tango, Stat Med 17 (1998)
    891, and clustered means.
    """
    needed = max(required, LEAST_REPLICATES)
    config = {"margin": margin, "alpha": alpha, "required": required, "flipped": FLIPPED}
    common: dict[str, Any] = {"check_version": CHECK_VERSION, "config": config, "tier": "replicates", "n_required": needed}
    statistic = "replicates with other seeds"
    if not replicates or not adapter.num_rows:
        summary = f"There is no replicate of this closure with scores; {needed} are needed."
        remedy = f"Run: ftplatform closure reproduce ADAPTER --seeds {needed}"
        insufficient = Decision.INSUFFICIENT_EVIDENCE
        return Verdict(decision=insufficient, summary=summary, remedy=remedy, statistic=statistic, n=0, **common)
    own, others = _joined(adapter, replicates)
    lines = [*_metrics(own, others, alpha), *_slices(own, others, margin, alpha)]
    # Against one or two replicates a loss is the distance between two seeds, which nobody can call large or small.
    failed = [line for line in lines if line.decision is Decision.FAIL] if len(replicates) >= LEAST_REPLICATES else []
    small = [line for line in lines if line.decision is Decision.INSUFFICIENT_EVIDENCE]
    worst = max((line for line in lines if line.limit is not None), key=lambda line: line.interval.high, default=None)
    shown: dict[str, Any] = {
        "statistic": statistic if worst is None else f"paired loss on {worst.name}, share of items",
        "n": len(replicates),
        "evidence": [line.to_row() for line in (failed + small)[:MAX_EVIDENCE]],
        "baseline": f"{len(replicates)} replicates with other seeds",
        "plot": _plot(lines, margin, failed),
        "details": {"comparisons": [line.to_row() for line in lines]},
    }
    if worst is not None:
        low, high = (_finite(bound) for bound in (worst.interval.low, worst.interval.high))
        shown |= {
            "estimate": worst.interval.estimate,
            "ci_low": low,
            "ci_high": high,
            "confidence": 1 - alpha,
            "threshold": margin,
        }
    if failed:
        named = ", ".join(_said(line, margin) for line in failed[:3])
        remedy = (
            "Compare the closures field by field (`ftplatform closure diff`), then find what the replicates know that it does not."
        )
        return Verdict(decision=Decision.FAIL, summary=f"Not one of its replicates: {named}.", remedy=remedy, **common, **shown)
    if len(replicates) < needed or small:
        few = f"{len(replicates)} of {needed} replicates" if len(replicates) < needed else ""
        least = required_n_noninferiority(margin, FLIPPED, alpha)
        slices = [line.name for line in small if line.limit is not None]
        thin = f"{len(slices)} slice(s) with fewer than {least} items: {', '.join(slices[:3])}" if slices else ""
        remedy = "Replay with more seeds, enlarge the eval sets of these slices, or widen the margin where that is acceptable."
        return Verdict(
            decision=Decision.INSUFFICIENT_EVIDENCE,
            summary=f"Too little evidence: {'; '.join(part for part in (few, thin) if part)}.",
            remedy=remedy,
            **common,
            **shown,
        )
    metrics = sum(line.limit is None for line in lines)
    summary = f"All {metrics} metrics are inside the interval of {len(replicates)} replicates; no slice is worse by {margin:.0%}."
    return Verdict(decision=Decision.PASS, summary=summary, remedy="Nothing to do.", **common, **shown)


def _joined(adapter: pa.Table, replicates: Sequence[pa.Table]) -> tuple[pl.DataFrame, list[str]]:
    """The adapter's rows with the score of every replicate beside its own; returns the frame and the names of these columns."""
    frame = pl.DataFrame(pl.from_arrow(adapter))
    names = [f"replicate {position}" for position in range(1, len(replicates) + 1)]
    for name, replicate in zip(names, replicates, strict=True):
        scores = pl.DataFrame(pl.from_arrow(replicate)).select("metric", "item_id", pl.col("score").alias(name))
        if scores.height != frame.height:
            raise ValueError(f"{name} has {scores.height} scores and the adapter {frame.height}; all must answer the same items")
        frame = frame.join(scores, on=["metric", "item_id"], how="left", maintain_order="left")
        if frame[name].null_count():
            raise ValueError(f"{name} was not asked {frame.filter(pl.col(name).is_null())['item_id'][0]}, which the adapter was")
    return frame.with_columns(expected=pl.mean_horizontal(names)), names


def _metrics(frame: pl.DataFrame, names: Sequence[str], alpha: float) -> list[_Line]:
    lines = []
    for (metric,), part in frame.group_by("metric", maintain_order=True):
        value = float(part["score"].mean())  # pyright: ignore[reportArgumentType]  (of floats, and there is at least one)
        scattered = [float(part[name].mean()) for name in names]  # pyright: ignore[reportArgumentType]
        if len(names) < LEAST_REPLICATES:
            lines.append(_Line(f"{metric}, mean", Interval(value, -math.inf, math.inf, 1 - alpha), len(part), _FEW, None))
            continue
        expected = t_prediction_interval(scattered, 1 - alpha)
        inside = expected.low - _ROUNDING <= value <= expected.high + _ROUNDING
        decision = Decision.PASS if inside else Decision.FAIL
        lines.append(_Line(f"{metric}, mean", Interval(value, expected.low, expected.high, 1 - alpha), len(part), decision, None))
    return lines


def _slices(frame: pl.DataFrame, names: Sequence[str], margin: float, alpha: float) -> list[_Line]:
    """Every metric as a whole, and every slice of it."""
    whole = frame.with_columns(slice=pl.lit("all items"))
    parts = frame.explode("slices", keep_nulls=False, empty_as_null=False).rename({"slices": "slice"})
    columns = ["metric", "slice", "family", "score", "expected"]
    least = required_n_noninferiority(margin, FLIPPED, alpha)
    lines = []
    for (metric, name), part in pl.concat([whole.select(columns), parts.select(columns)]).group_by(
        "metric", "slice", maintain_order=True
    ):
        loss = _loss(part, alpha)
        families = part["family"].n_unique()
        worse = loss.low > margin or (families >= least and loss.high > margin)
        decision = Decision.FAIL if worse else Decision.PASS if families >= least else _FEW
        lines.append(_Line(f"{metric}, {name}", loss, families, decision, margin))
    return lines


def _loss(part: pl.DataFrame, alpha: float) -> Interval:
    """One-sided bounds, each at 1 - alpha, of what the replicates score and the adapter does not, over the same items.

    The bound of a mean has no width where no item differs; there, and wherever it is narrower, the score interval of as many families
    without a discordant pair stands in.
    """
    families = part["family"].to_list()
    expected, score = part["expected"].to_numpy(), part["score"].to_numpy()
    estimate = float(np.mean(expected - score))
    if (n := len(set(families))) < 2:
        return Interval(estimate, -1.0, 1.0, 1 - alpha)
    floor = paired_difference(0, 0, n, 1 - alpha, alternative="upper").high
    above = paired_mean_difference(expected, score, families, 1 - alpha, alternative="upper").high
    below = paired_mean_difference(expected, score, families, 1 - alpha, alternative="lower").low
    return Interval(estimate, max(-1.0, min(below, estimate - floor)), min(1.0, max(above, estimate + floor)), 1 - alpha)


_FEW = Decision.INSUFFICIENT_EVIDENCE


def _said(line: _Line, margin: float) -> str:
    i = line.interval
    if line.limit is None:
        return f"{line.name} {i.estimate:.3f} outside [{i.low:.3f}, {i.high:.3f}]"
    return f"{line.name} loses {i.estimate:.1%} (up to {i.high:.1%}, limit {margin:.0%}, n = {line.n:,})"


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _plot(lines: Sequence[_Line], margin: float, failed: Sequence[_Line]) -> str:
    from ftplatform.plots import forest

    rows = [(x.name, x.interval.estimate, x.interval.low, x.interval.high) for x in lines if x.limit is not None]
    return forest(
        rows,
        margin,
        title="Loss against the replicates, with 95 % bounds",
        x_label="share of items",
        highlight=[x.name for x in failed],
    )
