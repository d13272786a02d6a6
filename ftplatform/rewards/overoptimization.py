"""How far from the reference does the task peak, and is the loop past it? (mode M8)

The farther a policy moves from where it began, the more of the reward it gains and the less of that is the task. With d the square
root of KL(policy || reference), the outcome gained is d (a - b ln d) under reinforcement learning and d (a - b d) under best-of-n;
the first peaks at d* = exp(a / b - 1), the second at a / 2b (L. Gao, J. Schulman, J. Hilton, Scaling laws for reward model
overoptimization, arXiv 2210.10760, section 3).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ftplatform.plots import line
from ftplatform.rewards.panel import eval_roots, panel, scored
from ftplatform.verdict import Decision, Verdict

CHECK_VERSION = "1"
MIN_CHECKPOINTS = 4
#: Items below which resampling them says little about the course of their mean.
MIN_ITEMS = 30
RESAMPLES = 1000

Method = Literal["reinforcement", "best_of_n"]
_STATISTIC = "how far the latest checkpoint lies beyond the peak of the outcome, in square-root nats"
_Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class _Form:
    bend: Callable[[_Array], _Array]  # what b is multiplied with
    peak: Callable[[_Array, _Array], _Array]  # of a and b


def _log_bend(d: _Array) -> _Array:
    # d ln d goes to 0 with d.
    return np.where(d > 0, d * np.log(np.where(d > 0, d, 1.0)), 0.0)


def _log_peak(a: _Array, b: _Array) -> _Array:
    with np.errstate(over="ignore"):
        return np.exp(np.minimum(a / b - 1, 700.0))


_FORMS: dict[Method, _Form] = {
    "reinforcement": _Form(_log_bend, _log_peak),
    "best_of_n": _Form(np.square, lambda a, b: np.maximum(a / (2 * b), 0.0)),
}


def overopt_curve(rewards: pa.Table, *, method: Method = "reinforcement", alpha: float = 0.05, seed: int = 0) -> Verdict:
    """Fails when the latest checkpoint lies beyond the upper bound of the peak, warns when it lies beyond the peak itself.

    Least squares on the mean outcome of each checkpoint, with the outcome of the reference as a third parameter. The bounds come from
    resampling items (percentile bootstrap), since what varies is which items were asked; KL is taken as given. A curve that bends
    upwards has no peak, and counts as one at infinity.

    Args:
        rewards: `REWARD_SCHEMA` with `kl` and `outcome`.
        method: which of the two laws.
        alpha: one-sided error rate of each bound.
        seed: of the resampling.
    """
    common: dict[str, Any] = {
        "statistic": _STATISTIC,
        "confidence": 1 - alpha,
        "check_version": CHECK_VERSION,
        "config": {"method": method, "alpha": alpha, "seed": seed, "resamples": RESAMPLES, "min_items": MIN_ITEMS},
        "tier": method,
    }

    def unclear(summary: str, remedy: str, n: int) -> Verdict:
        return Verdict(
            decision=Decision.INSUFFICIENT_EVIDENCE, summary=summary, remedy=remedy, n=n, n_required=MIN_CHECKPOINTS, **common
        )

    checkpoints = tuple(c for c in scored(rewards, "outcome") if c in set(scored(rewards, "kl")))
    if len(checkpoints) < MIN_CHECKPOINTS:
        return unclear(
            f"{len(checkpoints)} checkpoints have both an outcome and a KL; a curve takes {MIN_CHECKPOINTS}.",
            "Record kl(policy || reference) and the outcome of every checkpoint.",
            len(checkpoints),
        )
    if len(eval_roots(rewards, checkpoints)) > 1:
        return unclear("The checkpoints were scored by different exams.", "Score all of them by one exam.", 0)
    judged = panel(rewards, "outcome", checkpoints)
    if not judged.comparable or len(judged.items) < MIN_ITEMS:
        return unclear(
            f"{len(judged.items)} items have an outcome at all {len(checkpoints)} checkpoints; {MIN_ITEMS} are needed.",
            f"Score the same {MIN_ITEMS} items or more at every checkpoint.",
            0,
        )
    d = np.sqrt(_mean_kl(rewards, checkpoints))
    if len(np.unique(d)) < MIN_CHECKPOINTS:
        return unclear("Fewer than 4 distances from the reference differ.", "Record the KL of each checkpoint by itself.", 0)
    form = _FORMS[method]
    solve = np.linalg.pinv(np.column_stack([np.ones_like(d), d, -form.bend(d)]))
    means = judged.values.mean(axis=0)
    resampled = _resampled_means(judged.values, seed)
    fit = solve @ means
    peak = float(_peaks(fit[None, :], form)[0])
    # Both bounds are order statistics: between two resamples without a peak there is nothing to interpolate.
    low, high = np.quantile(_peaks(resampled @ solve.T, form), [alpha, 1 - alpha], method="nearest")
    now = float(d[-1])
    decision = Decision.FAIL if now > high else Decision.WARN if now > peak else Decision.PASS
    finite = math.isfinite(peak)
    where = f"at {peak:.2f} [{low:.2f}, {high:.2f}]" if finite else f"nowhere (not before {low:.2f})"
    return Verdict(
        decision=decision,
        summary=f"The outcome peaks {where} square-root nats from the reference; checkpoint {checkpoints[-1]} is at {now:.2f}.",
        remedy="Go back to a checkpoint before the peak, and hold the policy nearer to the reference."
        if decision is not Decision.PASS
        else "Nothing to do.",
        estimate=now - peak if finite else None,
        ci_low=now - float(high) if math.isfinite(high) else None,
        ci_high=now - float(low) if math.isfinite(low) else None,
        n=len(checkpoints),
        n_required=MIN_CHECKPOINTS,
        threshold=0.0,
        baseline="the reference policy",
        plot=_plot(d, means, fit, form),
        details={"items": len(judged.items), "distances": d.tolist(), "outcomes": means.tolist(), "intercept_a_b": fit.tolist()},
        **common,
    )


def _peaks(fits: _Array, form: _Form) -> _Array:
    """Peak of each fit, shape (m,); infinity where the curve does not bend down."""
    a, b = fits[:, 1], fits[:, 2]
    bends = b > 0
    return np.where(bends, form.peak(a, np.where(bends, b, 1.0)), np.inf)


def _resampled_means(values: _Array, seed: int) -> _Array:
    """Means of `RESAMPLES` samples of the items with replacement: shape (RESAMPLES, checkpoints)."""
    n = len(values)
    rng = np.random.default_rng(seed)
    return np.stack([rng.multinomial(n, np.full(n, 1 / n)) @ values for _ in range(RESAMPLES)]) / n


def _mean_kl(rewards: pa.Table, checkpoints: tuple[int, ...]) -> _Array:
    means = rewards.select(["checkpoint", "kl"]).group_by("checkpoint").aggregate([("kl", "mean")])
    by_checkpoint = dict(zip(means["checkpoint"].to_pylist(), means["kl_mean"].to_pylist(), strict=True))
    return np.array([by_checkpoint[c] for c in checkpoints])


def _plot(d: _Array, means: _Array, fit: _Array, form: _Form) -> str:
    at = np.linspace(0.0, 1.1 * d.max(), 80)
    curve = fit[0] + fit[1] * at - fit[2] * form.bend(at)
    return line(
        {"outcome": list(zip(d.tolist(), means.tolist(), strict=True)), "fit": list(zip(at.tolist(), curve.tolist(), strict=True))},
        title="Outcome by distance from the reference",
        x_label="square root of KL(policy || reference), nats",
        y_label="mean outcome",
    )
