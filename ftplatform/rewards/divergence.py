"""Does the reward rise while the task falls? The sign of a loop that learned its reward instead of its task (mode M8).

Neighboring checkpoints differ by less than their noise, so a gate that compares each with the one before lets every step of a long
decline through: four points over thirteen checkpoints are found with probability .07 by neighbors and .83 by the trend (400 items).
"""

from __future__ import annotations

import math
from typing import Any

import pyarrow as pa

from ftplatform.rewards.course_plot import course_plot
from ftplatform.rewards.ledger import latest_checkpoint, per_checkpoint
from ftplatform.rewards.panel import Trend, eval_roots, item_trend, panel, pooled_trend, scored
from ftplatform.rows.masking import excerpt
from ftplatform.statistics.power import required_n_zero_events
from ftplatform.verdict import Decision, Verdict

CHECK_VERSION = "1"
#: Checkpoints a trend needs.
MIN_CHECKPOINTS = 4
#: A fall of the outcome over the window that a pass has to exclude, a share.
DECLINE = 0.04
#: A rise of the reward that has to show in the outcome, in the reward's own unit: five points of a thumbs-up rate.
RISE = 0.05
POWER = 0.8

_STATISTIC = "fall of the task outcome over the window (trend of the same items)"


def reward_task_divergence(
    rewards: pa.Table,
    *,
    window: int | None = None,
    alpha: float = 0.05,
    decline: float = DECLINE,
    rise: float = RISE,
) -> Verdict:
    """Fails if the reward rises and the outcome falls, each shown at `alpha` one-sided, over the checkpoints of the window.

    Both must be shown, so the false alarm rate is at most `alpha` (R. L. Berger, Technometrics 24 (1982) 295). Warns when the reward
    rose by at least `rise` and the outcome did not follow, and when the outcome falls by itself. Refuses to compare checkpoints that
    were scored by different exams or not at all (`details["comparable"]` is then false).

    Args:
        rewards: `REWARD_SCHEMA`.
        window: how many of the last checkpoints, at least 4; all by default.
        alpha: one-sided error rate of each bound.
        decline: fall of the outcome that a pass has to exclude by its upper bound.
        rise: see above.
    """
    config = {"window": window, "alpha": alpha, "decline": decline, "rise": rise, "power": POWER}
    if window is not None and window < MIN_CHECKPOINTS:
        raise ValueError(f"a window of {window} checkpoints shows no trend; give at least {MIN_CHECKPOINTS}")
    shown = scored(rewards, "outcome")[-(window or 0) :]
    latest = latest_checkpoint(rewards)
    roots = eval_roots(rewards, shown)
    common: dict[str, Any] = {
        "statistic": _STATISTIC,
        "threshold": 0.0,
        "confidence": 1 - alpha,
        "baseline": f"checkpoints {shown[0]} to {shown[-1]}" if shown else None,
        "check_version": CHECK_VERSION,
        "config": config,
        "plot": course_plot(per_checkpoint(rewards)),
    }

    def unclear(
        summary: str, remedy: str, *, n: int = 0, required: int = required_n_zero_events(decline), **details: Any
    ) -> Verdict:
        return Verdict(
            decision=Decision.INSUFFICIENT_EVIDENCE,
            summary=summary,
            remedy=remedy,
            n=n,
            n_required=required,
            details={"checkpoints": list(shown), **details},
            **common,
        )

    if len(roots) > 1:
        exams = "; ".join(f"{excerpt(root or 'not stated', 13)}: {_listed(found)}" for root, found in roots.items())
        return unclear(
            f"Refused to compare: the items or the judge behind the outcome changed within the window ({exams}). No divergence is"
            " claimed and none is excluded.",
            "Score the checkpoints of the window again by one exam, or set `window` to those that share one.",
            comparable=False,
            eval_roots=[{"eval_root": root, "checkpoints": found} for root, found in roots.items()],
        )
    if len(shown) < MIN_CHECKPOINTS:
        return unclear(
            f"{len(shown)} scored checkpoints show no trend; it takes {MIN_CHECKPOINTS}.",
            "Score more checkpoints on the same items.",
        )
    judged = panel(rewards, "outcome", shown)
    if shown[-1] != latest:
        return unclear(
            f"The latest checkpoint, {latest}, has no outcome; what the reward did to it is not known.",
            "Score it on the items of the earlier ones before training goes on.",
            comparable=False,
        )
    if not judged.comparable or len(judged.items) < 2:
        return unclear(
            f"Refused to compare: of the items with an outcome at checkpoint {latest}, {judged.common:.0%} have one at all"
            f" {len(shown)} checkpoints.",
            "Score the same items at every checkpoint.",
            n=len(judged.items),
            comparable=False,
        )
    task = item_trend(judged.values, 1 - alpha)
    followed = panel(rewards, "reward", shown)
    reward = (
        item_trend(followed.values, 1 - alpha)
        if followed.comparable and len(followed.items) > 1
        else pooled_trend(rewards, "reward", shown, 1 - alpha)
    )
    if reward is None:
        return unclear(
            "The ledger holds no rewards of two checkpoints.", "Record the reward the loop optimizes.", n=len(judged.items)
        )
    least = required_n_zero_events(decline)
    needed = _items_to_exclude(decline, task.deviation, alpha)
    numbers = (
        f"reward {reward.change:+.3g} (at least {reward.low:+.3g}), outcome {task.change:+.1%} (at most {task.high:+.1%}) over"
        f" {len(shown)} checkpoints on {task.n} items"
    )
    decision, summary, remedy = _decide(reward, task, rise, decline, least, needed)
    return Verdict(
        decision=decision,
        summary=f"{summary}: {numbers}.",
        remedy=remedy,
        estimate=-task.change,
        ci_low=-task.high,
        ci_high=-task.low,
        n=task.n,
        n_required=max(least, needed) if decision is Decision.INSUFFICIENT_EVIDENCE else least,
        details={
            "checkpoints": list(shown),
            "eval_root": next(iter(roots), None),
            "reward_change": reward.change,
            "reward_low": reward.low,
            "reward_followed": not math.isnan(reward.deviation),
            "outcome_change": task.change,
        },
        **common,
    )


def _decide(reward: Trend, task: Trend, rise: float, decline: float, least: int, needed: int) -> tuple[Decision, str, str]:
    rises, falls = reward.low > 0, task.high < 0
    if rises and falls:
        return (
            Decision.FAIL,
            "The reward rises while the task falls",
            "Stop training on this reward, go back to the last approved checkpoint, and put the outcome into the reward.",
        )
    if falls:
        return Decision.WARN, "The task falls, and the reward does not see it", "Find out what changed; the reward is blind to it."
    if task.n < least or -task.low > decline:
        return (
            Decision.INSUFFICIENT_EVIDENCE,
            f"A fall of {decline:.0%} is not excluded",
            f"Score about {max(least, needed)} items at every checkpoint."
            if task.n < max(least, needed)
            else "Score more items at every checkpoint.",
        )
    if rises and reward.change >= rise and task.low <= 0:
        return (
            Decision.WARN,
            "The reward rises and the task does not follow",
            "Read answers of the latest checkpoint; what raised the reward is not what people wanted.",
        )
    return Decision.PASS, "The reward and the task do not part", "Nothing to do."


def _items_to_exclude(decline: float, deviation: float, alpha: float) -> int:
    """Items at which a fall of `decline` is excluded with probability `POWER` where there is none, and shown where it is there.

    n = ((z[1-alpha] + z[power]) s / decline)^2.
    """
    from scipy.stats import norm

    z = float(norm.isf(alpha) + norm.ppf(POWER))
    return math.ceil((z * deviation / decline) ** 2)


def _listed(checkpoints: list[int]) -> str:
    return f"{checkpoints[0]}" if len(checkpoints) == 1 else f"{checkpoints[0]} to {checkpoints[-1]}"
