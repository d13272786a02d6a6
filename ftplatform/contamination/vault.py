"""`vault_exposure`: how much of a vault has been seen, and how many decisions were made on it since it was refreshed.

Each selection on a held-out set tells a little about it; after enough of them the set is part of the training loop. The budget is
the number of decisions after which the vault must be refreshed (C. Dwork et al., The reusable holdout, Science 349 (2015) 636;
A. Blum and M. Hardt, The Ladder, ICML 2015, for why the number counts).
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, cast

import polars as pl
import pyarrow as pa

from ftplatform import plots
from ftplatform.contamination.exposures import Demotion, demoted, entered, families, seen_families
from ftplatform.rows.masking import excerpt
from ftplatform.store.access_log import AccessKind, AccessRecord
from ftplatform.verdict import MAX_EVIDENCE, Decision, Scalar, Verdict

CHECK_VERSION = "vault_exposure/1"

#: Decisions a vault bears between two refreshes.
BUDGET = 10

_DAY_S = 86_400


def vault_exposure(
    items: pa.Table, access: Sequence[AccessRecord] | None, *, retired: pa.Table | None = None, budget: int = BUDGET
) -> Verdict:
    """Nobody may have seen an item of the vault, and no more than `budget` decisions may rest on it.

    A family of which an item was seen must have left the vault. Decisions count since the oldest item now in the vault entered it;
    replacing a few items is no refresh. Over the budget warns, over twice the budget fails.

    Args:
        items: table of `ROW_SCHEMA`, the items now in the vault.
        access: its ledger (`store.access_log.of_set`); None or empty means there is none.
        retired: items that have left the vault; without them a sibling of a seen item that was taken out alone goes unnoticed.
        budget: decisions allowed, at least 1.

    Returns:
        Verdict whose estimate is the number of decisions since the refresh (threshold: the budget) and n the number of records.
        Evidence says who looked at which family when, then who decided. Insufficient without items or without ledger: nobody knows
        who looked then. (A ledger begins with the record of the items that entered.)

    Raises:
        ValueError: if the budget is below 1.
    """
    if budget < 1:
        raise ValueError(f"budget is {budget}; it must be at least 1")
    records = list(access or ())
    common: dict[str, Any] = {
        "statistic": "decisions on the vault since it was refreshed",
        "threshold": float(budget),
        "n": len(records),
        "n_required": 1,
        "check_version": CHECK_VERSION,
        "config": {"budget": budget, "fails_above": 2 * budget},
        "tier": "rules",
    }
    if not records or not items.num_rows:
        missing = "The vault has no access ledger" if not records else "The vault has no items"
        return Verdict(
            decision=Decision.INSUFFICIENT_EVIDENCE,
            summary=f"{missing}; who has seen it is not known.",
            remedy="Record a refresh that names every item of the vault, and every view and decision from then on.",
            **common,
        )
    seen, leaving = seen_families(items, records, retired), demoted(items, records, retired)
    times = entered(families(items), records)["entered"]
    since = None if times.null_count() else cast(datetime, times.min())
    decisions = [r for r in records if r.kind is AccessKind.DECISION and (since is None or r.at >= since)]
    common |= {
        "estimate": float(len(decisions)),
        "baseline": None if since is None else f"refresh of {since:%Y-%m-%d %H:%M} UTC",
        "evidence": _evidence(seen, decisions),
        "plot": _plot(decisions, budget),
        "details": {
            "items": items.num_rows,
            "families": families(items)["family"].n_unique(),
            "seen_families": len(leaving.families),
            "leaving_row_ids": list(leaving.row_ids),
            "replacement_families_needed": leaving.replacements,
            "items_no_refresh_names": times.null_count(),
            "retired_items": 0 if retired is None else retired.num_rows,
            "records": {str(kind): sum(r.kind is kind for r in records) for kind in AccessKind},
        },
    }
    refreshed = "since the ledger begins" if since is None else f"since the refresh of {since:%Y-%m-%d}"
    decided = f"{len(decisions)} decision(s) {refreshed}, budget {budget}"
    decision, summary, remedy = _judge(leaving, seen, len(decisions), budget, decided)
    return Verdict(decision=decision, summary=summary, remedy=remedy, **common)


def _judge(leaving: Demotion, seen: pl.DataFrame, decisions: int, budget: int, decided: str) -> tuple[Decision, str, str]:
    refresh = f"Refresh the vault: replace all of its items from the reserve, then decide on it again at most {budget} times."
    if leaving.families:
        people = ", ".join(excerpt(person, 60) for person in seen["by"].unique().sort().head(5))
        return (
            Decision.FAIL,
            f"{len(leaving.families):,} famil{'y' if len(leaving.families) == 1 else 'ies'} of the vault"
            f" ({len(leaving.row_ids):,} items) were seen, by {people}; {decided}.",
            f"Move the families to the working set (`demoted` lists their items) and replace them by {leaving.replacements:,} from"
            " the reserve; author remedies from the class of failure, never from the item.",
        )
    if decisions > 2 * budget:
        return Decision.FAIL, f"The vault is used up: {decided}.", refresh
    if decisions > budget:
        return Decision.WARN, f"The vault is over its budget: {decided}.", refresh
    return Decision.PASS, f"No item of the vault was seen; {decided}.", "None needed."


def _evidence(seen: pl.DataFrame, decisions: Sequence[AccessRecord]) -> list[dict[str, Scalar]]:
    """The latest view of each family seen, then the latest decisions."""
    views = seen.group_by("family", maintain_order=True).last().sort("at", "family", descending=[True, False])
    rows: list[dict[str, Scalar]] = [
        {
            "kind": view["kind"],
            "by": excerpt(view["by"], 120),
            "at": _text(view["at"]),
            "family": view["family"],
            "row_id": view["row_id"],
            "adapter": None,
            "purpose": excerpt(view["purpose"], 160),
        }
        for view in views.head(MAX_EVIDENCE).iter_rows(named=True)
    ]
    rows += [
        {
            "kind": str(made.kind),
            "by": excerpt(made.by, 120),
            "at": _text(made.at),
            "family": None,
            "row_id": None,
            "adapter": made.adapter,
            "purpose": excerpt(made.purpose, 160),
        }
        for made in sorted(decisions, key=lambda made: made.at, reverse=True)
    ]
    return rows[:MAX_EVIDENCE]


def _plot(decisions: Sequence[AccessRecord], budget: int) -> str:
    times = sorted(made.at for made in decisions)
    days = [(time - times[0]).total_seconds() / _DAY_S for time in times]
    return plots.line(
        {"decisions": [(day, float(count)) for count, day in enumerate(days, 1)]},
        threshold=float(budget),
        title="Decisions on the vault since its refresh",
        x_label="days since the first of them",
        y_label="decisions",
        threshold_label="budget",
    )


def _text(moment: datetime) -> str:
    return moment.isoformat(timespec="seconds").replace("+00:00", "Z")
