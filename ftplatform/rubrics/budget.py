"""`eval_budget`: how often a vault may choose between checkpoints before it has been learned by choosing.

Every selection on a held-out set tells whoever selects a little about it; after enough of them the best score is the best fit to that
set. How many it bears depends on its size and on what is done with the answers; ten is the platform's default, and a refresh starts
the count again.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any

from ftplatform.plots import line
from ftplatform.rows.masking import excerpt
from ftplatform.store.access_log import AccessKind, AccessRecord
from ftplatform.verdict import MAX_EVIDENCE, Decision, Verdict

CHECK_VERSION = "eval_budget/1"

#: Selections a vault bears between two refreshes.
BUDGET = 10
_DAY_S = 86_400


def eval_budget(items: Collection[str], access: Sequence[AccessRecord], *, budget: int = BUDGET) -> Verdict:
    """At most `budget` selections on the vault since it was refreshed; above it warns, above twice as many it fails.

    A refresh counts once every item now in the vault has entered: replacing some of them takes nothing back.

    Args:
        items: row ids now in the vault. access: its ledger, any order.
        budget: selections allowed, at least 1.

    Returns:
        Verdict whose estimate is the number of selections, n the number of records. Insufficient without items, or without a refresh
        that names them: then nobody knows since when to count.

    Raises:
        ValueError: if the budget is below 1.
    """
    if budget < 1:
        raise ValueError(f"budget is {budget}; it must be at least 1")
    since = refreshed(items, access)
    common: dict[str, Any] = {
        "statistic": "selections on the vault since its refresh (n: records of its ledger)",
        "threshold": float(budget),
        "n": len(access),
        "n_required": 1,
        "check_version": CHECK_VERSION,
        "config": {"budget": budget, "fails_above": 2 * budget},
        "tier": "rules",
    }
    if since is None:
        return Verdict(
            decision=Decision.INSUFFICIENT_EVIDENCE,
            summary="The vault is empty, or its ledger does not say when its items entered it.",
            remedy="Build the eval set, so that its ledger begins; record decisions from then on.",
            **common,
        )
    selections = sorted((r for r in access if r.kind is AccessKind.DECISION and r.at >= since), key=lambda record: record.at)
    count = len(selections)
    decision = Decision.FAIL if count > 2 * budget else Decision.WARN if count > budget else Decision.PASS
    said = {
        Decision.FAIL: "The vault is used up",
        Decision.WARN: "The vault is over its budget",
        Decision.PASS: "The vault is within its budget",
    }[decision]
    return Verdict(
        decision=decision,
        summary=f"{said}: {count} selection(s) since {since:%Y-%m-%d}, budget {budget}.",
        estimate=float(count),
        baseline=f"refresh of {since:%Y-%m-%d %H:%M} UTC",
        evidence=[
            {
                "at": record.at.isoformat(),
                "by": excerpt(record.by, 80),
                "purpose": excerpt(record.purpose, 160),
                "adapter": None if record.adapter is None else record.adapter[:12],
            }
            for record in selections[: -MAX_EVIDENCE - 1 : -1]
        ],
        remedy="None needed." if decision is Decision.PASS else "Replace every item of the vault; report by the Ladder until then.",
        plot=line(
            {"selections": [((r.at - since).total_seconds() / _DAY_S, float(i)) for i, r in enumerate(selections, 1)]},
            threshold=float(budget),
            title="Selections on the vault since its refresh",
            x_label="days since the refresh",
            y_label="selections",
        ),
        **common,
    )


def refreshed(items: Collection[str], access: Sequence[AccessRecord]) -> datetime | None:
    """When the item that is longest in the vault entered it; None without items, or if no record names one of them."""
    first: dict[str, datetime] = {}
    for record in access:
        if record.kind is AccessKind.REFRESH:
            for item in record.items:
                first[item] = min(first.get(item, record.at), record.at)
    entered = [first.get(item) for item in items]
    known = [at for at in entered if at is not None]
    return min(known) if known and len(known) == len(entered) else None
