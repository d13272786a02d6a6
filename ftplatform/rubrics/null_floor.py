"""`null_model_floor`: a rubric that rewards answers without content measures nothing worth training for."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ftplatform.plots import forest
from ftplatform.rubrics.paired import shares
from ftplatform.statistics.intervals import Interval, wilson
from ftplatform.statistics.paired import paired_mean_difference
from ftplatform.verdict import Decision, Scalar, Verdict

CHECK_VERSION = "null_model_floor/1"

#: Most that an answer without content may score, and by how much it must stay below real answers; shares of the scale.
CEILING = 0.30
DISTANCE = 0.20
MIN_ITEMS = 30


@dataclass(frozen=True, slots=True)
class _Floor:
    """A null model against both limits: its score, and the distance of real answers from it."""

    model: str
    score: Interval
    distance: Interval | None
    decision: Decision
    why: str


def null_model_floor(
    nulls: Mapping[str, ArrayLike],
    base: ArrayLike | None,
    *,
    clusters: Sequence[Hashable] | None = None,
    alpha: float = 0.05,
    ceiling: float = CEILING,
    distance: float = DISTANCE,
    min_items: int = MIN_ITEMS,
    baseline: str = "the base model's answers",
) -> Verdict:
    """No null model may score above `ceiling`, or within `distance` of real answers, by the rubric's own judge.

    A null model fails if it is surely above the ceiling or surely too close (one-sided bounds, at alpha over the number of null
    models); the rubric passes if all of them are surely below and far enough (at alpha each: all must hold, so none needs a share).

    Args:
        nulls: null model to scores in [0, 1], shape (n,), of the same items in the same order.
        base: scores of real answers to these items; None if there are none yet, and then nothing passes.
        clusters: family of each item, its own by default.
        baseline: what the real answers are, for the reader.

    Returns:
        Verdict whose estimate is the score of the worst null model. Insufficient without null models or below `min_items` items.

    Raises:
        ValueError: on unequal lengths or scores outside [0, 1].
    """
    scores = {name: shares(values, name) for name, values in nulls.items()}
    real = None if base is None else shares(base, "base")
    sizes = {len(values) for values in [*scores.values(), *([] if real is None else [real])]}
    if len(sizes) > 1:
        raise ValueError(f"the null models and the base answer different numbers of items: {sorted(sizes)}")
    n = sizes.pop() if scores else 0
    families: Sequence[Hashable] = range(n) if clusters is None else clusters
    common: dict[str, Any] = {
        "statistic": "score of the best null model (n: items)",
        # The lower of both limits, as a score.
        "threshold": ceiling if real is None or not n else min(ceiling, float(real.mean()) - distance),
        "n": n,
        "n_required": max(1, min_items),
        "baseline": baseline if real is not None else None,
        "check_version": CHECK_VERSION,
        "config": {"alpha": alpha, "ceiling": ceiling, "distance": distance, "min_items": min_items},
    }
    if n < max(1, min_items) or len(set(families)) < 2:
        return Verdict(
            decision=Decision.INSUFFICIENT_EVIDENCE,
            summary=f"Null models were graded on {n} items; {min_items} are needed.",
            remedy=f"Use the rubric on an eval set of at least {min_items} items.",
            **common,
        )
    floors = [_floor(name, values, real, families, alpha, len(scores), ceiling, distance) for name, values in scores.items()]
    worst = max(floors, key=lambda floor: (_SEVERITY.index(floor.decision), floor.score.estimate))
    listed = [floor for floor in floors if floor.decision is worst.decision]
    return Verdict(
        decision=worst.decision,
        summary="; ".join(f"{floor.model}: {floor.why}" for floor in listed) + ".",
        estimate=worst.score.estimate,
        ci_low=worst.score.low,
        ci_high=worst.score.high,
        confidence=1 - alpha,
        evidence=[_row(floor) for floor in sorted(floors, key=lambda floor: -floor.score.estimate)],
        remedy={
            Decision.PASS: "None needed.",
            Decision.FAIL: "Replace criteria that only look for words by ones that need the right answer, or use a stronger judge.",
            Decision.INSUFFICIENT_EVIDENCE: "Grade more items; evaluate an adapter, so that its base has answers to compare with.",
        }[worst.decision],
        plot=forest(
            [(floor.model, floor.score.estimate, floor.score.low, floor.score.high) for floor in floors],
            threshold=common["threshold"],
            title="What the rubric gives answers without content",
            x_label="score, share of the scale",
            highlight=[floor.model for floor in floors if floor.decision is Decision.FAIL],
        ),
        details={"base_score": None if real is None else float(real.mean())},
        **common,
    )


_SEVERITY = [Decision.PASS, Decision.INSUFFICIENT_EVIDENCE, Decision.FAIL]


def _floor(
    model: str,
    values: NDArray[np.float64],
    real: NDArray[np.float64] | None,
    families: Sequence[Hashable],
    alpha: float,
    models: int,
    ceiling: float,
    distance: float,
) -> _Floor:
    strict = _score(values, families, 1 - alpha / models)
    score = _score(values, families, 1 - alpha)
    if strict.low > ceiling:
        return _Floor(model, score, None, Decision.FAIL, f"scores {_points(score)}, above {ceiling:.0%}")
    if real is None:
        return _Floor(
            model, score, None, Decision.INSUFFICIENT_EVIDENCE, f"scores {_points(score)}, and no real answers were graded yet"
        )
    gap = _gap(real, values, families, 1 - alpha)
    if _gap(real, values, families, 1 - alpha / models).high < distance:
        return _Floor(model, score, gap, Decision.FAIL, f"is {_points(gap)} below real answers, less than {distance:.0%}")
    passes = score.high <= ceiling and gap.low >= distance
    why = f"scores {_points(score)} and is {_points(gap)} below real answers"
    return _Floor(model, score, gap, Decision.PASS if passes else Decision.INSUFFICIENT_EVIDENCE, why)


def _score(values: NDArray[np.float64], families: Sequence[Hashable], confidence: float) -> Interval:
    """Mean score with one-sided Wilson bounds, each at `confidence`, on as many trials as there are families.

    A score in [0, 1] varies at most as much as a coin of the same mean, so the bounds hold, also where every item scores the same.
    """
    count, mean = len(set(families)), float(values.mean())
    low = wilson(math.floor(mean * count + 1e-9), count, confidence, alternative="lower").low
    high = wilson(math.ceil(mean * count - 1e-9), count, confidence, alternative="upper").high
    return Interval(mean, min(low, mean), max(high, mean), confidence)


def _gap(real: NDArray[np.float64], values: NDArray[np.float64], families: Sequence[Hashable], confidence: float) -> Interval:
    """How far real answers are above, with one-sided bounds each at `confidence`."""
    low = paired_mean_difference(real, values, families, confidence, alternative="lower")
    high = paired_mean_difference(real, values, families, confidence, alternative="upper")
    return Interval(low.estimate, low.low, high.high, confidence)


def _row(floor: _Floor) -> dict[str, Scalar]:
    gap = floor.distance
    return {
        "null_model": floor.model,
        "score": round(floor.score.estimate, 4),
        "low": round(floor.score.low, 4),
        "high": round(floor.score.high, 4),
        "below_real_answers": None if gap is None else round(gap.estimate, 4),
        "decision": str(floor.decision),
    }


def _points(interval: Interval) -> str:
    return f"{interval.estimate:.1%} [{interval.low:.1%}, {interval.high:.1%}]"
