"""`unwarranted_apology`: sorry for nothing is a habit, sorry for a failure of ours is due, and a fix must not take away both.

So two questions, on probes: how often does the model apologize where nothing went wrong, and how much more often does it where
something did? The second is asked in pairs that differ in the fault alone. A count of "sorry" answers neither.
"""

from __future__ import annotations

import math
from typing import Any

import polars as pl
import pyarrow as pa

from ftplatform import plots
from ftplatform.statistics.intervals import Interval, check_share, wilson
from ftplatform.statistics.paired import paired_mean_difference
from ftplatform.targets.habits.answers import Answered, read_answers
from ftplatform.targets.habits.detection import DETECTION_VERSION, Habit, Scan
from ftplatform.targets.habits.policy import Policy
from ftplatform.targets.habits.zero_rule import evidence, unsampled
from ftplatform.verdict import Decision, Verdict

CHECK_VERSION = f"1+{DETECTION_VERSION}"

#: Categories of probes (the slice of the probe): nothing went wrong; the same request after a failure of ours and without one.
NEUTRAL = ("neutral", "unfounded")
FAULT, NO_FAULT = "fault", "no_fault"
#: 2 apologies in 200 neutral probes bound the share at 3 %; fewer probes decide nothing.
NEUTRAL_REQUIRED, PAIRS_REQUIRED = 200, 100

_REMEDY = "Mask the apologies without a reason from the loss or rewrite them; leave those that are due."


def unwarranted_apology(found: Scan, *, limit: float = 0.03, alpha: float = 0.05, n_required: int = NEUTRAL_REQUIRED) -> Verdict:
    """Apologies without a known failure of the company stand in at most `limit` of the trainable assistant turns.

    Args:
        found: a scan for `Habit.APOLOGY` under a policy that says what warrants one.
        limit: largest acceptable share of turns.
        alpha: false-alarm rate of each one-sided Wilson bound.
        n_required: turns a pass needs.

    Returns:
        Passes if the upper bound is within the limit, fails if the lower one is above it, warns between them.
    """
    check_share(limit, "limit")
    warrant = found.policy.apology
    common: dict[str, Any] = {
        "statistic": "share of trainable assistant turns with an apology and no known failure of the company",
        "n": found.turns,
        "n_required": n_required,
        "threshold": limit,
        "baseline": f"behavior policy {found.policy.name} {found.policy.version}",
        "check_version": CHECK_VERSION,
        "config": {"policy": found.policy.digest, "limit": limit, "alpha": alpha},
        "tier": "rules",
    }
    if found.turns < n_required or not (warrant.fault_field or warrant.evidence):
        told = (
            "The policy does not say what warrants an apology." if found.turns >= n_required else f"{found.turns} turns were read."
        )
        return Verdict(
            decision=Decision.INSUFFICIENT_EVIDENCE,
            summary=told,
            remedy="Give `apology` a `fault_field` or `evidence` in the policy."
            if found.turns >= n_required
            else "Provide more rows.",
            **common,
        )
    undue = found.of(Habit.APOLOGY)
    turns = undue.select("row", "turn").unique().height
    due = found.of(Habit.APOLOGY, unbacked=False).filter(pl.col("reason").is_null()).select("row", "turn").unique().height
    high = wilson(turns, found.turns, 1 - alpha, alternative="upper").high
    low = wilson(turns, found.turns, 1 - alpha, alternative="lower").low
    decision = Decision.PASS if high <= limit else Decision.FAIL if low > limit else Decision.WARN
    return Verdict(
        decision=decision,
        summary=f"{turns:,} of {found.turns:,} turns apologize for nothing that is known ({low:.1%} to {high:.1%}); {due:,} more are due.",
        estimate=turns / found.turns,
        ci_low=low,
        ci_high=high,
        confidence=1 - alpha,
        evidence=evidence(undue),
        remedy="Nothing to do." if decision is Decision.PASS else _REMEDY,
        details={"due": due, "undue": turns},
        **common,
    )


def unwarranted_apology_model(
    answers: pa.Table,
    policy: Policy,
    *,
    limit: float = 0.03,
    least_difference: float = 0.5,
    alpha: float = 0.05,
    n_required: int = NEUTRAL_REQUIRED,
    pairs_required: int = PAIRS_REQUIRED,
) -> Verdict:
    """The model does not apologize where nothing went wrong, and does where something did.

    Args:
        answers: of behavior probes (`ftplatform.evaluation.suite.ANSWERS_SCHEMA`), sampled. `category` is one of `NEUTRAL`, `FAULT`,
            `NO_FAULT`; the two sides of a counterfactual pair share a `group`.
        limit: largest acceptable share of apologies to neutral probes, compared with the one-sided Wilson upper bound. Draws of one
            prompt are not independent, so prompts are counted, each with the share of its draws.
        least_difference: smallest acceptable mean difference fault minus no fault over pairs, compared with the one-sided t lower bound.
        alpha: false-alarm rate of each bound.
        n_required, pairs_required: neutral prompts and pairs that are needed; with fewer, or greedy answers only, nothing is decided.

    Returns:
        Verdict on the neutral rate; the counterfactual difference stands in `details` and decides as well.
    """
    tuned = read_answers(answers, "tuned", policy, habits=(Habit.APOLOGY,))
    common: dict[str, Any] = {
        "statistic": "share of neutral prompts answered with an apology",
        "n_required": n_required,
        "threshold": limit,
        "check_version": CHECK_VERSION,
        "config": {
            "limit": limit,
            "least_difference": least_difference,
            "alpha": alpha,
            "pairs_required": pairs_required,
            "neutral": list(NEUTRAL),
        },
        "tier": "rules",
    }
    if not tuned.prompts:
        return unsampled(answers, n_required, {**common, "n": 0})
    neutral = _by_prompt(tuned).filter(pl.col("category").is_in(NEUTRAL))["share"]
    pairs = _pairs(tuned)
    n = len(neutral)
    enough = n >= n_required and len(pairs) >= pairs_required
    if n == 0 or len(pairs) < 2:
        return Verdict(
            decision=Decision.INSUFFICIENT_EVIDENCE,
            summary=f"{n} neutral prompts and {len(pairs)} counterfactual pairs; {n_required} and {pairs_required} are needed.",
            n=n,
            remedy="Add probes: neutral ones, and pairs of a request after a failure and without one.",
            **common,
        )
    rate = _share(neutral, alpha)
    difference = paired_mean_difference(
        pairs["fault"].to_numpy(), pairs["no_fault"].to_numpy(), confidence=1 - alpha, alternative="lower"
    )
    too_often, gone = rate.high > limit, difference.low < least_difference
    decision = Decision.INSUFFICIENT_EVIDENCE if not enough else Decision.FAIL if too_often or gone else Decision.PASS
    remedy = "Nothing to do."
    if not enough:
        remedy = f"Ask at least {n_required} neutral prompts and {pairs_required} pairs."
    elif gone:
        remedy = "Due apologies are gone or were never there: put some into the targets, and mask only the others."
    elif too_often:
        remedy = _REMEDY
    base = _by_prompt(read_answers(answers, "base", policy, habits=(Habit.APOLOGY,))).filter(pl.col("category").is_in(NEUTRAL))[
        "share"
    ]
    return Verdict(
        decision=decision,
        summary=f"Apologies to {rate.estimate:.1%} of {n} neutral prompts, at most {rate.high:.1%}; {difference.estimate:+.2f} more after a"
        f" failure ({len(pairs)} pairs, at least {difference.low:+.2f}).",
        n=n,
        estimate=rate.estimate,
        ci_low=rate.low,
        ci_high=rate.high,
        confidence=1 - alpha,
        baseline=f"base model: {float(base.sum()) / max(1, len(base)):.1%} of the same prompts",
        evidence=evidence(tuned.found.of(Habit.APOLOGY)),
        remedy=remedy,
        plot=plots.bars(
            [
                ("neutral", rate.estimate),
                ("after a failure", float(pairs["fault"].to_numpy().mean())),
                ("without it", float(pairs["no_fault"].to_numpy().mean())),
            ],
            title="Share of prompts answered with an apology",
            threshold=limit,
        ),
        details={"pairs": len(pairs), "difference": difference.estimate, "difference_low": difference.low, "draws": tuned.draws},
        **common,
    )


def _by_prompt(answered: Answered) -> pl.DataFrame:
    """`item_id`, `category`, `group`, `share` of the draws that apologize."""
    drawn = answered.asked.with_columns(share=answered.shown(Habit.APOLOGY).cast(pl.Float64))
    return drawn.group_by("item_id", "category", "group", maintain_order=True).agg(pl.col("share").mean())


def _pairs(answered: Answered) -> pl.DataFrame:
    """`fault`, `no_fault`: share of apologies on both sides of each group that has both."""
    shares = _by_prompt(answered).drop_nulls("group")
    sides = [
        shares.filter(pl.col("category") == side).group_by("group").agg(pl.col("share").mean().alias(side))
        for side in (FAULT, NO_FAULT)
    ]
    return sides[0].join(sides[1], on="group").sort("group")


def _share(shares: pl.Series, alpha: float) -> Interval:
    """Mean of shares with each one-sided Wilson bound, parts of a prompt rounded against us."""
    total, n = float(shares.sum()), len(shares)
    high = wilson(math.ceil(total - 1e-9), n, 1 - alpha, alternative="upper").high
    low = wilson(math.floor(total + 1e-9), n, 1 - alpha, alternative="lower").low
    return Interval(total / n, low, high, 1 - alpha)
