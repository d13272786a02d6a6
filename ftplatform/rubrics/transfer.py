"""`gain_transfer`: did the model become better, or better at the rubric it was trained on?

Both gains come from the same items: T by the training rubric, H by the held-out one. A ratio H / T below one half is the naive rule; it
blocks about a fifth of honest small gains, because the ratio of two noisy numbers near zero can be anything. The rule here is Fieller's:
the shortfall T / 2 - H has an ordinary confidence bound, whatever the denominator.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ftplatform.plots import forest
from ftplatform.rubrics.paired import Gain, gains, scored
from ftplatform.statistics.intervals import Interval, cluster_codes, clustered_mean
from ftplatform.verdict import MAX_EVIDENCE, Decision, Verdict

CHECK_VERSION = "gain_transfer/1"

#: Share of the training-rubric gain that the held-out gain must reach.
SHARE = 0.5
#: Clusters of items below which the t bounds are not to be trusted.
MIN_ITEMS = 30
#: The ratio is reported only if the training gain is this many standard errors; below, its interval is no interval.
RATIO_FROM = 2.0

_STATISTIC = "half of the training-rubric gain minus the held-out gain, same items (n: items)"


def gain_transfer(
    training: Gain, held_out: Gain, clusters: Sequence[Hashable] | None = None, *, alpha: float = 0.05, share: float = SHARE
) -> Verdict:
    """Block only if the gain on the training rubric is real and the held-out gain surely falls short of half of it.

    Args:
        training: base and tuned scores of the items by the rubric the model was trained on; held_out: of the same items in the same
            order by a rubric it was not.
        clusters: family of each item (prompt, conversation); each is its own by default.
        alpha: error rate. "Real" is the lower bound of the two-sided 1 - alpha interval above 0; "falls short" the one-sided 1 - alpha
            lower bound of the shortfall above 0.
        share: what part of the training gain must show up.

    Returns:
        Verdict whose estimate and bounds (each one-sided) are of the shortfall, a share of the scale. It passes if surely
        nothing falls short, or if there surely is no training gain that would have to transfer; in between it warns: nothing is
        shown either way, which is no reason to block. Insufficient below `MIN_ITEMS` clusters.

    Raises:
        ValueError: if both sides do not hold the same items, or a score is outside [0, 1].

    Source: E. C. Fieller, J. R. Stat. Soc. B 16 (1954) 175.
    """
    t, h = gains(training), gains(held_out)
    if list(training.items) != list(held_out.items):
        raise ValueError("the training and the held-out rubric grade other items; both must grade the same, in the same order")
    families: Sequence[Hashable] = range(len(t)) if clusters is None else clusters
    count = len(set(cluster_codes(families).tolist()))
    common: dict[str, Any] = {
        "statistic": _STATISTIC,
        "threshold": 0.0,
        "n": len(t),
        "n_required": MIN_ITEMS,
        "baseline": "the base model on the same items",
        "check_version": CHECK_VERSION,
        "config": {"alpha": alpha, "share": share, "min_items": MIN_ITEMS},
    }
    if count < MIN_ITEMS:
        return Verdict(
            decision=Decision.INSUFFICIENT_EVIDENCE,
            summary=f"{count} independent items are too few to say whether a gain transfers; {MIN_ITEMS} are needed.",
            remedy=f"Grade at least {MIN_ITEMS} items by both rubrics; about 200 show a transfer of one quarter.",
            **common,
        )
    shortfall = share * t - h
    trained = clustered_mean(t, families, 1 - alpha)
    held = clustered_mean(h, families, 1 - alpha)
    low = clustered_mean(shortfall, families, 1 - alpha, alternative="lower").low
    short = clustered_mean(shortfall, families, 1 - alpha, alternative="upper")
    decision, said, remedy = _decide(trained, low, short.high)
    ratio = transfer_ratio(t, h, families, 1 - alpha)
    told = "" if ratio is None else f" About {ratio.estimate:.0%} of it transfers [{ratio.low:.0%}, {ratio.high:.0%}]."
    return Verdict(
        decision=decision,
        summary=f"{_points('By the training rubric', trained)}, {_points('by the held-out one', held)}. {said}{told}",
        estimate=short.estimate,
        ci_low=low,
        ci_high=short.high,
        confidence=1 - alpha,
        evidence=_evidence(training, held_out, shortfall) if decision is Decision.FAIL else (),
        remedy=remedy,
        plot=forest(
            [
                ("training rubric", trained.estimate, trained.low, trained.high),
                ("held-out rubric", held.estimate, held.low, held.high),
                ("shortfall", short.estimate, low, short.high),
            ],
            threshold=0.0,
            title="Gain by the rubric trained on and by another",
            x_label="gain of the mean score, share of the scale",
            highlight=["shortfall"] if decision is Decision.FAIL else [],
        ),
        details={
            "training_gain": [trained.estimate, trained.low, trained.high],
            "held_out_gain": [held.estimate, held.low, held.high],
            "transfer_ratio": None if ratio is None else [ratio.estimate, ratio.low, ratio.high],
            "clusters": count,
        },
        **common,
    )


def transfer_ratio(
    training_gain: ArrayLike, held_out_gain: ArrayLike, clusters: Sequence[Hashable], confidence: float = 0.95
) -> Interval | None:
    """H / T of the mean gains with Fieller's interval; None where the training gain is below `RATIO_FROM` standard errors, or the set
    of ratios that the data allow is not an interval.

    Args:
        training_gain, held_out_gain: shape (n,), of the same items. clusters: family of each item, at least two.

    Source: E. C. Fieller, J. R. Stat. Soc. B 16 (1954) 175, with the cluster-robust (CR1) covariance of both means.
    """
    from scipy.stats import t as student

    both = np.column_stack([np.asarray(training_gain, dtype=np.float64), np.asarray(held_out_gain, dtype=np.float64)])
    mean = both.mean(axis=0)
    covariance, groups = _covariance(both - mean, clusters)
    if mean[0] < RATIO_FROM * math.sqrt(covariance[0, 0]) or mean[0] <= 0:
        return None
    q = float(student.ppf((1 + confidence) / 2, groups - 1)) ** 2
    # (H - r T)^2 <= q Var(H - r T) as a quadratic a r^2 - 2 b r + c <= 0.
    a = mean[0] ** 2 - q * covariance[0, 0]
    b = mean[0] * mean[1] - q * covariance[0, 1]
    c = mean[1] ** 2 - q * covariance[1, 1]
    discriminant = b * b - a * c
    if a <= 0 or discriminant < 0:
        return None
    root = math.sqrt(discriminant)
    return Interval(float(mean[1] / mean[0]), (b - root) / a, (b + root) / a, confidence)


def _covariance(residuals: NDArray[np.float64], clusters: Sequence[Hashable]) -> tuple[NDArray[np.float64], int]:
    """CR1 covariance of the two means, and the number of clusters; as `statistics.intervals.clustered_mean` for one."""
    codes = cluster_codes(clusters)
    groups = int(codes.max()) + 1
    sums = np.column_stack([np.bincount(codes, weights=column, minlength=groups) for column in residuals.T])
    return groups / (groups - 1) * (sums.T @ sums) / len(residuals) ** 2, groups


def _decide(trained: Interval, low: float, high: float) -> tuple[Decision, str, str]:
    if trained.low > 0 and low > 0:
        said = "The gain on the training rubric is real and less than half of it shows elsewhere."
        return (
            Decision.FAIL,
            said,
            "Stop training on this rubric, strengthen it or its judge, and go back to an earlier checkpoint.",
        )
    if high <= 0:
        return Decision.PASS, "At least half of the training gain shows elsewhere.", "None needed."
    if trained.high <= 0:
        return Decision.PASS, "There is no gain on the training rubric that would have to show elsewhere.", "None needed."
    return (
        Decision.WARN,
        "Whether half of the training gain shows elsewhere is open.",
        "Grade more items by both rubrics before relying on the gain.",
    )


def _points(what: str, interval: Interval) -> str:
    return f"{what} the model gained {100 * interval.estimate:+.1f} points [{100 * interval.low:+.1f}, {100 * interval.high:+.1f}]"


def _evidence(training: Gain, held_out: Gain, shortfall: NDArray[np.float64]) -> list[dict[str, Any]]:
    """The items on which both rubrics differ most; by id and score, since an exam's texts are not shown."""
    return [
        {
            "item_id": training.items[i],
            "training_base": scored(training.base, i),
            "training_tuned": scored(training.tuned, i),
            "held_out_base": scored(held_out.base, i),
            "held_out_tuned": scored(held_out.tuned, i),
        }
        for i in np.argsort(-shortfall, kind="stable")[:MAX_EVIDENCE]
    ]
