"""What was decided about a license when something was made: the answer to "what did you know when you trained this?"."""

from datetime import UTC, datetime

from ftplatform.defs.ledger import open_ledger
from ftplatform.defs.plan import Plan
from ftplatform.licensing.registry import LicenseDecision
from ftplatform.licensing.rights import Level, Use, all_of
from ftplatform.licensing.terms import assess
from ftplatform.store import Snapshot, Store


def record_decisions(plan: Plan, store: Store, made: Snapshot) -> None:
    """Record for every declared use of a snapshot that passed its gates how far it is permitted, under which policy, and by what was known.

    A snapshot that is confirmed again is not decided on again.
    """
    now = datetime.now(UTC)
    terms = plan.used_terms(made.asset)
    rights = all_of(assess(item, plan.policy).rights for item in terms)
    with open_ledger(plan.root, store) as ledger:
        if any(decision.snapshot == made.digest for decision in ledger.decisions(made.asset)):
            return
        ledger.append_many(
            LicenseDecision(
                asset=made.asset,
                snapshot=made.digest,
                use=Use(use),
                # The gates held, row by row; where a source as a whole permits less, other origins of its rows permit it.
                verdict=min(rights[use].level, Level.ALLOW_IF),
                policy_sha256=plan.policy.digest,
                as_of_valid=now,
                as_of_known=now,
                decided_at=now,
                reasons=tuple(sorted(f"{item.name}: {assess(item, plan.policy).license}" for item in terms)),
            )
            for use in plan.project.use
        )
