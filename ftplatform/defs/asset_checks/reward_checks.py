"""M8 on the graph: what the proxy gained, did people gain it too?"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from ftplatform.defs.assets.rewards import REWARDS_FILE
from ftplatform.defs.checks import Check, Judging, Severity
from ftplatform.defs.keys import Family, asset_name
from ftplatform.defs.plan import Plan
from ftplatform.project.rewards import Reward
from ftplatform.rewards import creep, disagreement, divergence, noninferiority, overoptimization, targeting
from ftplatform.verdict import Verdict

#: The check that says how much worse the candidate is than what was approved; its failure asks for a roll back.
AGAINST_ANCHOR = "anchored_noninferiority"


@dataclass(frozen=True)
class AnchoredCheck(Check):
    """A check that holds the loop when its anchor is gone: too little data only warns, an exam that was swapped refuses."""

    def severity_of(self, verdict: Verdict) -> Severity:
        """As of any check, but that checkpoints which cannot be compared are as bad as a failure."""
        return self.severity if verdict.details.get("comparable") is False else super().severity_of(verdict)


def reward_checks(plan: Plan) -> Iterator[Check]:
    """Six checks on every reward ledger; the two that block govern the training of the adapter the ledger names."""
    for name, reward in plan.project.rewards.items():
        yield from _ledger_checks(asset_name(Family.REWARD_LEDGERS, name), reward)


def _ledger_checks(asset: str, reward: Reward) -> Iterator[Check]:
    approved = {"approved": list(reward.approved)}

    def check(
        name: str,
        version: str,
        description: str,
        judge: Callable[[pa.Table, Judging], Verdict],
        deciding: dict[str, Any],
        *,
        kind: type[Check] = Check,
        **options: Any,
    ) -> Check:
        return kind(
            name=name,
            asset=asset,
            judge=lambda judging: judge(judging.snapshot.read_table(REWARDS_FILE), judging),
            version=version,
            description=description,
            statistical=True,
            deciding=deciding,
            **options,
        )

    yield check(
        "reward_task_divergence",
        divergence.CHECK_VERSION,
        "The reward does not rise while the task falls, over the last checkpoints on the same items.",
        lambda rewards, judging: divergence.reward_task_divergence(rewards, window=reward.window, alpha=judging.alpha),
        {"window": reward.window},
        kind=AnchoredCheck,
    )
    yield check(
        AGAINST_ANCHOR,
        noninferiority.CHECK_VERSION,
        "The latest checkpoint is as good as the first approved one.",
        lambda rewards, judging: noninferiority.anchored_noninferiority(
            rewards, approved=reward.approved, alpha=judging.alpha, **judging.limit("margin")
        ),
        approved,
        kind=AnchoredCheck,
    )
    yield check(
        "overopt_curve",
        overoptimization.CHECK_VERSION,
        "The policy has not moved beyond the distance from its reference at which the task peaks.",
        lambda rewards, judging: overoptimization.overopt_curve(rewards, method=reward.moved_by, alpha=judging.alpha),
        {"method": reward.moved_by},
        blocking=False,
    )
    yield check(
        "reward_disagreement",
        disagreement.CHECK_VERSION,
        "The heads of the reward agree on what the policy says now as they did on what it said before.",
        lambda rewards, judging: disagreement.reward_disagreement(
            rewards, approved=reward.approved, alpha=judging.alpha, **judging.limit("limit")
        ),
        approved,
        severity="warn",
        blocking=False,
    )
    yield check(
        "style_creep",
        creep.CHECK_VERSION,
        "Answers have not become longer, sorrier, vaguer or more agreeable than those of the anchor.",
        lambda rewards, judging: creep.style_creep(
            rewards, approved=reward.approved, alpha=judging.alpha, **judging.limit("limit")
        ),
        approved,
        blocking=False,
    )
    yield check(
        "feedback_targeting",
        targeting.CHECK_VERSION,
        "The reward's gain does not come from a few raters.",
        lambda rewards, judging: targeting.feedback_targeting(
            rewards, approved=reward.approved, alpha=judging.alpha, **judging.limit("limit")
        ),
        approved,
        severity="warn",
        blocking=False,
    )
