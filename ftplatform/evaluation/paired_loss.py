"""What a tuned model lost against its base on the same items: estimate, bounds, and the probability of so much by chance.

Two questions that one number must not answer at once. *Is retention shown?* needs an upper bound of the loss within the margin.
*Is harm shown?* needs the loss to be beyond chance. Neither shown means that the data do not decide.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ftplatform.statistics.paired import newcombe_paired_difference, paired_difference, paired_mean_difference


@dataclass(frozen=True, slots=True)
class PairedLoss:
    """Loss base - tuned on n items, in units of the score.

    Attributes:
        name: which part of the data.
        n, clusters: items, and independent families among them.
        base, tuned: mean score before and after.
        worse, better: items whose score fell, rose.
        loss: base - tuned.
        low, high: one-sided bounds of the loss: `low` at confidence 1 - alpha (harm), `high` at the confidence of retention.
        p_harm: one-sided p-value of "nothing was lost".
        margin: largest acceptable loss.
        newcombe: Newcombe's interval of the loss, its bounds at the same confidences; None for scores other than 0 and 1.
        n_to_decide: items with which, at these shares, the bounds would decide.
    """

    name: str
    n: int
    clusters: int
    base: float
    tuned: float
    worse: int
    better: int
    loss: float
    low: float
    high: float
    p_harm: float
    margin: float
    n_to_decide: int
    newcombe: tuple[float, float] | None = None

    @property
    def retained(self) -> bool:
        """The upper bound lies within the margin."""
        return self.high <= self.margin

    @property
    def conclusion(self) -> Literal["retained", "eroded", "inconclusive"]:
        """What the interval says about the margin: all of it within, all of it beyond, or neither."""
        return "retained" if self.retained else "eroded" if self.low > self.margin else "inconclusive"

    def row(self) -> dict[str, float | int | str | bool | list[float] | None]:
        """Flat facts for `Verdict.details`."""
        return {
            "part": self.name,
            "n": self.n,
            "clusters": self.clusters,
            "base": round(self.base, 4),
            "tuned": round(self.tuned, 4),
            "worse": self.worse,
            "better": self.better,
            "loss": round(self.loss, 4),
            "low": round(self.low, 4),
            "high": round(self.high, 4),
            "p_harm": self.p_harm,
            "margin": self.margin,
            "retained": self.retained,
            "conclusion": self.conclusion,
            "newcombe": None if self.newcombe is None else [round(bound, 4) for bound in self.newcombe],
            "n_to_decide": self.n_to_decide,
        }


def paired_loss(
    name: str,
    base: NDArray[np.float64],
    tuned: NDArray[np.float64],
    clusters: Sequence[Hashable] | None,
    *,
    margin: float,
    confidence: float,
    alpha: float,
) -> PairedLoss:
    """Paired loss of `tuned` against `base` on the same items.

    Outcomes of 0 and 1 get Newcombe's paired interval, Tango's score bound and the exact McNemar test, and the more cautious bound
    decides: Newcombe's also uses how the pairs that agree divide, and is narrow where both models nearly always agree on both sides;
    Tango's does not. When items come in families (paraphrases, turns of a conversation) the cluster-robust t bound is computed too
    and may only widen the interval, because the others count paraphrases as independent and the t bound has no width when nothing
    changed. Other scores get the t bound.

    Args:
        base, tuned: shape (n,), n >= 1, scores of the same items in the same order.
        clusters: n family ids, None for an item of its own; or None.
        margin: largest acceptable loss, a share. confidence: of the upper bound. alpha: 1 - confidence of the lower bound.

    Sources: R. G. Newcombe, Stat Med 17 (1998) 2635, method 10; T. Tango, Stat Med 17 (1998) 891, section 3;
    E. Miller, arXiv 2411.00640 (2024), section 2.2.
    """
    from scipy.stats import binom, norm, t

    n = len(base)
    difference = base - tuned
    loss = float(difference.mean())
    worse, better = int((difference > 0).sum()), int((difference < 0).sum())
    binary = bool(np.isin(base, (0.0, 1.0)).all() and np.isin(tuned, (0.0, 1.0)).all())
    families = _count(clusters, n)
    sign_p = 1.0 if worse + better == 0 else float(binom.sf(worse - 1, worse + better, 0.5))

    lows, highs, harms = [], [], []
    newcombe = None
    if binary:
        kept_by_both = int((base * tuned).sum())
        counts = (kept_by_both, worse, better, n - kept_by_both - worse - better)
        # A bound at one-sided confidence c is one end of the two-sided interval at 2c - 1.
        newcombe = (
            newcombe_paired_difference(*counts, 1 - 2 * alpha).low,
            newcombe_paired_difference(*counts, 2 * confidence - 1).high,
        )
        lows += [newcombe[0], paired_difference(worse, better, n, 1 - alpha, alternative="lower").low]
        highs += [newcombe[1], paired_difference(worse, better, n, confidence, alternative="upper").high]
        harms.append(sign_p)
    if families < 2:  # everything hangs on one family: no error can be estimated
        lows.append(-1.0)
        highs.append(1.0)
        harms.append(1.0)
    elif not binary or families < n:
        bound = paired_mean_difference(base, tuned, clusters, confidence, alternative="upper")
        highs.append(bound.high)
        error = (bound.high - loss) / float(t.ppf(confidence, families - 1))
        lows.append(loss - error * float(t.isf(alpha, families - 1)))
        harms.append(float(t.sf(loss / error, families - 1)) if error > 0 else sign_p)
    low, high = min(lows), max(highs)

    # Half-width shrinks with sqrt(n): to show retention it must fit between the loss and the margin, to show harm below the loss.
    z = float(norm.ppf(confidence))
    half = max(high - loss, z * math.sqrt(max(float(difference.var()), 1e-12) / n))
    room = max(margin - loss, loss, 1e-3)
    return PairedLoss(
        name=name,
        n=n,
        clusters=families,
        base=float(base.mean()),
        tuned=float(tuned.mean()),
        worse=worse,
        better=better,
        loss=loss,
        low=max(low, -1.0),
        high=min(high, 1.0),
        p_harm=max(harms),
        margin=margin,
        newcombe=newcombe,
        n_to_decide=math.ceil(n * (half / room) ** 2),
    )


def _count(clusters: Sequence[Hashable] | None, n: int) -> int:
    if clusters is None:
        return n
    named = {cluster for cluster in clusters if cluster is not None}
    return len(named) + sum(cluster is None for cluster in clusters)
