"""Two policies and no checkpoints between them: is what the proxy gained a gain? (mode M8)

Published comparisons give means, not items: a win rate before and after tuning on a reward, and the same win rate with the proxy's
known bias taken out (length control, say), or an outcome. What the proxy gained and the controlled score did not is *unconfirmed*.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from ftplatform.statistics.intervals import Interval
from ftplatform.verdict import Decision, Verdict

CHECK_VERSION = "1"


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyScore:
    """Means of one policy, all shares.

    Attributes:
        name: for people.
        proxy, proxy_error: score by what it was tuned on, and its standard error.
        outcome, outcome_error: score by what is wanted. Where the error is not known, that of the proxy is taken: a controlled score
            of the same comparisons varies less.
        n: items.
    """

    name: str
    proxy: float
    proxy_error: float
    outcome: float
    n: int
    outcome_error: float | None = None


def unconfirmed_gain(before: PolicyScore, after: PolicyScore, *, alpha: float = 0.05) -> Verdict:
    """Fails if the proxy gained, that gain exceeds the outcome's, each shown at `alpha` one-sided, and the outcome is not shown to gain.

    Warns if the outcome gained too, but less. The errors of the two scores of one policy are dependent in an unknown way, so that of
    their difference is taken at its largest, the sum of both; the two policies are taken as independent, which overstates the error
    where they answered the same items.

    Args:
        before, after: the policy before and after tuning on the proxy.
        alpha: one-sided error rate of each bound.

    Raises:
        ValueError: on a standard error that is not positive, or no items.
    """
    for score in (before, after):
        if score.n < 1 or score.proxy_error <= 0 or (score.outcome_error is not None and score.outcome_error <= 0):
            raise ValueError(f"{score.name}: {score.n} items and standard errors {score.proxy_error}, {score.outcome_error}")
    proxy_error = math.hypot(before.proxy_error, after.proxy_error)
    outcome_error = math.hypot(*(s.outcome_error or s.proxy_error for s in (before, after)))
    proxy = _interval(after.proxy - before.proxy, proxy_error, alpha)
    outcome = _interval(after.outcome - before.outcome, outcome_error, alpha)
    unconfirmed = _interval(proxy.estimate - outcome.estimate, proxy_error + outcome_error, alpha)
    shown = proxy.low > 0 and unconfirmed.low > 0
    if shown:
        decision = Decision.WARN if outcome.low > 0 else Decision.FAIL
        remedy = "Find what the proxy pays for besides the outcome, and control it."
    elif unconfirmed.high <= max(outcome.low, 0.0) or proxy.high <= 0:
        decision, remedy = Decision.PASS, "Nothing to do."
    else:
        decision, remedy = Decision.INSUFFICIENT_EVIDENCE, "Compare the policies item by item, on more items."
    numbers: dict[str, Any] = {
        name: {"gain": i.estimate, "low": i.low, "high": i.high} for name, i in (("proxy", proxy), ("outcome", outcome))
    }
    return Verdict(
        decision=decision,
        summary=f"From {before.name} to {after.name} the proxy gained {100 * proxy.estimate:+.1f} points (at least"
        f" {100 * proxy.low:+.1f}) and the outcome {100 * outcome.estimate:+.1f} (at least {100 * outcome.low:+.1f});"
        f" {100 * unconfirmed.estimate:.1f} points are unconfirmed (at least {100 * unconfirmed.low:.1f}).",
        statistic="gain of the proxy that the outcome does not confirm (difference of gains)",
        estimate=unconfirmed.estimate,
        ci_low=unconfirmed.low,
        ci_high=unconfirmed.high,
        confidence=1 - alpha,
        n=min(before.n, after.n),
        n_required=1,
        threshold=0.0,
        baseline=before.name,
        remedy=remedy,
        check_version=CHECK_VERSION,
        config={"alpha": alpha},
        tier="published means",
        details=numbers,
    )


def _interval(estimate: float, error: float, alpha: float) -> Interval:
    from scipy.stats import norm

    half = float(norm.isf(alpha)) * error
    return Interval(estimate, estimate - half, estimate + half, 1 - alpha)
