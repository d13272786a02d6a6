"""Did any registered metric get worse? Not only those that the fine-tune was for.

"Three metrics up, five quietly down": a mean over metrics hides the five, and a team looks at the three it worked on. So every metric
is tested on its own, on the same items before and after, and no single number is made of them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

from ftplatform.plots import forest
from ftplatform.rows.masking import excerpt
from ftplatform.statistics.intervals import check_share, cluster_codes, clustered_mean
from ftplatform.statistics.multiple import holm
from ftplatform.verdict import MAX_EVIDENCE, Decision, Verdict

CHECK_VERSION = "metric_breadth/1"

#: Loss that every metric must be able to show, as a share of its range, and the chance to show it.
DETECTABLE, POWER = 0.10, 0.8

#: Items below which the t distribution of a mean is not to be trusted.
MIN_ITEMS = 30

#: Variance of the paired difference that is allowed for where the items show less: five in a hundred change.
_LEAST_VARIANCE = 0.05

_COLUMNS = ("metric", "item_id", "base", "tuned")


@dataclass(frozen=True, slots=True)
class MetricChange:
    """One metric before and after.

    Attributes:
        metric: its name. n: items. base, tuned: means of the score.
        loss: base minus tuned, with one-sided bounds `low` and `high`, each at the level asked for.
        p_worse, p_better: one-sided p-values. n_required: items that would show a loss of `DETECTABLE`.
    """

    metric: str
    n: int
    base: float
    tuned: float
    loss: float
    low: float
    high: float
    p_worse: float
    p_better: float
    n_required: int


def metric_breadth(
    scores: pa.Table,
    registered: Sequence[str] = (),
    *,
    alpha: float = 0.05,
    detectable: float = DETECTABLE,
    min_items: int = MIN_ITEMS,
    baseline: str | None = None,
) -> Verdict:
    """Fail if any metric is significantly worse, Holm-adjusted over all of them.

    Args:
        scores: one row per metric and item: `metric`, `item_id`, `base`, `tuned` (higher is better, on a scale from 0 to 1). Optional:
            `group` (conversation or item family; errors are clustered by it).
        registered: names of the metrics there have to be, all that there are by default. One of them without scores or with too few
            is insufficient evidence, not a pass; others only count if they got worse.
        alpha: family-wise error rate.
        detectable: loss that each metric's items must be able to show with probability `POWER`, or rule out, else it counts as too small.
        min_items: least items of any metric.
        baseline: what the base scores came from.

    Returns:
        Verdict about the worst metric (largest lower bound of the loss); all of them are among the details. A regression is found
        however few items the others have; a pass needs every metric to have enough.

    Raises:
        ValueError: on missing columns or scores that are not finite numbers in [0, 1].
    """
    absent = [name for name in _COLUMNS if name not in scores.column_names]
    if absent:
        raise ValueError(f"the score table lacks {', '.join(absent)}; it needs {', '.join(_COLUMNS)}")
    check_share(detectable, "detectable")
    columns = [*_COLUMNS, *(["group"] if "group" in scores.column_names else [])]
    frame = pl.DataFrame({name: scores[name] for name in columns})
    parts = {str(key[0]): part for key, part in frame.partition_by("metric", as_dict=True, maintain_order=True).items()}
    silent = [name for name in registered if name not in parts]
    changes = [_change(name, part, alpha, detectable, min_items) for name, part in sorted(parts.items()) if part.height > 1]
    silent += [name for name, part in parts.items() if part.height <= 1 and (not registered or name in registered)]
    common: dict[str, Any] = {
        "statistic": "paired loss of the worst metric (base minus tuned, same items)",
        "threshold": 0.0,
        "confidence": 1 - alpha,
        "baseline": baseline or "the base model on the same items",
        "check_version": CHECK_VERSION,
        "config": {
            "alpha": alpha,
            "detectable": detectable,
            "power": POWER,
            "min_items": min_items,
            "registered": sorted(registered),
        },
    }
    if not changes:
        return Verdict(
            decision=Decision.INSUFFICIENT_EVIDENCE,
            summary="No registered metric has paired scores.",
            n=0,
            n_required=min_items,
            remedy="Give the adapter eval sets.",
            **common,
        )
    significant, adjusted = holm([c.p_worse for c in changes], alpha)
    gained, _ = holm([c.p_better for c in changes], alpha)
    worse = [c for c, hit in zip(changes, significant, strict=True) if hit]
    better = [c for c, hit in zip(changes, gained, strict=True) if hit]
    expected = set(registered) or {c.metric for c in changes}
    small = [c for c in changes if c.metric in expected and c not in worse and not _shown(c, detectable, min_items)]
    deciding = max(worse or small or changes, key=lambda c: c.low)
    moved = f"{len(changes)} metrics: {sum(c.loss < 0 for c in changes)} up ({len(better)} significantly)"
    moved += f", {sum(c.loss > 0 for c in changes)} down ({len(worse)} significantly)"
    if worse:
        decision = Decision.FAIL
        named = ", ".join(f"{c.metric} ({c.base:.1%} to {c.tuned:.1%}, n {c.n})" for c in sorted(worse, key=lambda c: -c.low)[:5])
        summary, remedy = f"{moved}. Worse: {named}.", "Find the rows that teach the regression, or ship an earlier checkpoint."
    elif small or silent:
        decision = Decision.INSUFFICIENT_EVIDENCE
        named = ", ".join(
            [f"{c.metric} ({c.n} of {c.n_required} items)" for c in small[:5]] + [f"{n} (no scores)" for n in silent[:5]]
        )
        summary = f"{moved}. Too few items to show a loss of {detectable:.0%}: {named}."
        remedy = "Add items to the eval sets named."
    else:
        decision, summary, remedy = Decision.PASS, f"{moved}. None is significantly worse.", "None needed."
    required = {c.metric: (float(q), c in worse) for c, q in zip(changes, adjusted, strict=True)}
    return Verdict(
        decision=decision,
        summary=summary,
        remedy=remedy,
        estimate=deciding.loss,
        ci_low=deciding.low,
        ci_high=deciding.high,
        n=deciding.n,
        n_required=_n_required(decision, deciding, min_items),
        evidence=[_line(c, *required[c.metric]) for c in sorted(changes, key=lambda c: -c.low)[:MAX_EVIDENCE]],
        plot=forest(
            [(f"{c.metric} ({c.n})", 100 * c.loss, 100 * c.low, 100 * c.high) for c in sorted(changes, key=lambda c: -c.low)],
            threshold=0.0,
            title="Loss by metric (base minus tuned)",
            x_label="percentage points, one-sided bounds",
            threshold_label="no change",
            highlight=[f"{c.metric} ({c.n})" for c in worse],
        ),
        details={
            "metrics": [_line(c, *required[c.metric]) for c in changes],
            "up": sum(c.loss < 0 for c in changes),
            "down": sum(c.loss > 0 for c in changes),
            "without_scores": silent,
        },
        **common,
    )


def _shown(change: MetricChange, detectable: float, min_items: int) -> bool:
    """Whether a loss of `detectable` would have been seen, or is ruled out by what was."""
    return change.n >= change.n_required or (change.n >= min_items and change.high <= detectable)


def _n_required(decision: Decision, deciding: MetricChange, min_items: int) -> int:
    if decision is Decision.INSUFFICIENT_EVIDENCE:
        return max(deciding.n_required, deciding.n + 1) if deciding.n < deciding.n_required else deciding.n + 1
    return min(min_items, deciding.n)


def _change(metric: str, part: pl.DataFrame, alpha: float, detectable: float, min_items: int) -> MetricChange:
    from scipy.stats import norm, t

    base, tuned = (_scores(part, metric, name) for name in ("base", "tuned"))
    clusters = _clusters(part)
    if len(set(clusters)) < 2:
        clusters = list(range(part.height))
    loss = base - tuned
    interval = clustered_mean(loss, clusters, 1 - 2 * alpha)
    n_clusters = int(cluster_codes(clusters).max()) + 1
    quantile = float(t.ppf(1 - alpha, n_clusters - 1))
    error = (interval.high - interval.estimate) / quantile
    p_worse = float(t.sf(interval.estimate / error, n_clusters - 1)) if error > 0 else _certain(interval.estimate)
    # What clustering costs is in the error already: per item, the variance that the interval shows.
    variance = max(_LEAST_VARIANCE, part.height * error**2)
    z = float(norm.isf(alpha)) + float(norm.ppf(POWER))
    return MetricChange(
        metric=metric,
        n=part.height,
        base=float(base.mean()),
        tuned=float(tuned.mean()),
        loss=interval.estimate,
        low=interval.low,
        high=interval.high,
        p_worse=p_worse,
        p_better=1 - p_worse if error > 0 else _certain(-interval.estimate),
        n_required=max(min_items, math.ceil(z * z * variance / detectable**2)),
    )


def _certain(difference: float) -> float:
    """All items changed by the same amount: a constant loss is a loss, no change is none."""
    return 0.0 if difference > 0 else 1.0


def _scores(part: pl.DataFrame, metric: str, column: str) -> NDArray[np.float64]:
    values = part[column].cast(pl.Float64).to_numpy()
    if not np.isfinite(values).all() or values.min() < 0 or values.max() > 1:
        raise ValueError(f"{column} of metric {metric!r} must be finite and in [0, 1]")
    return values


def _clusters(part: pl.DataFrame) -> list[object]:
    items: list[object] = [f"item:{item}" for item in part["item_id"].to_list()]
    if "group" not in part.columns:
        return items
    return [item if group is None else f"group:{group}" for group, item in zip(part["group"].to_list(), items, strict=True)]


def _line(change: MetricChange, adjusted: float, worse: bool) -> dict[str, Any]:
    return {
        "metric": excerpt(change.metric, 80),
        "n": change.n,
        "n_required": change.n_required,
        **{
            name: round(value, 4)
            for name, value in {
                "base": change.base,
                "tuned": change.tuned,
                "loss": change.loss,
                "loss_low": change.low,
                "loss_high": change.high,
                "p_adjusted": adjusted,
            }.items()
        },
        "worse": worse,
    }
