"""Whether to move: what a rehearsal found, as one verdict."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ftplatform.migration.bases import BaseDifferences
from ftplatform.migration.comparison import ALPHA, CONFIDENCE, MIN_FAMILIES, Change, PartChange
from ftplatform.migration.sensitivity import RateOutcome, better_rates
from ftplatform.verdict import Decision, Verdict

CHECK_VERSION = "1"


def decide(
    differences: BaseDifferences,
    parts: Sequence[PartChange],
    alignment: Mapping[str, Verdict],
    rates: Sequence[RateOutcome],
    *,
    bases: tuple[str, str],
    margin: float,
) -> Verdict:
    """Move if nothing is missing, the whole task is shown not to be worse, no part is shown to be, and alignment is shown to be kept."""
    missing = [item for item in differences.missing if item.blocks]
    worse = [part for part in parts if part.change is Change.WORSE]
    eroded = [side for side, verdict in alignment.items() if verdict.decision is Decision.FAIL]
    against = [
        *([f"the new base lacks what the closure names ({', '.join(item.field for item in missing)})"] if missing else []),
        *([f"the task is worse in {_listed(worse)}"] if worse else []),
        *([f"against its own base the tuned model lost {', '.join(eroded)}"] if eroded else []),
    ]
    undecided = [side for side, verdict in alignment.items() if not verdict.passed and side not in eroded]
    unknown = [f"not shown to be kept: {', '.join(undecided)}"] if undecided else []
    if not alignment:
        unknown.append("alignment was not examined")
    whole = parts[0] if parts else None
    if whole is None:
        unknown.append("no task item was asked")
    elif whole not in worse and (whole.low < -margin or whole.families < MIN_FAMILIES):
        unknown.append(f"the task may have lost {-whole.low:.1%} (limit {margin:.0%})")
    numbers = "" if whole is None else f" Task: {whole.old:.1%} before, {whole.new:.1%} after on {whole.n} items."
    better = better_rates(rates)
    hint = f" At {better[0].multiple:g} times the learning rate it does better." if better else ""
    if against:
        head, remedy = (
            f"Do not move from {bases[0]} to {bases[1]}: {'; '.join(against)}.",
            "Repair what is named and rehearse again.",
        )
        decision = Decision.FAIL
    elif unknown:
        head, remedy = f"Too little shows whether to move from {bases[0]} to {bases[1]}: {'; '.join(unknown)}.", "Use more items."
        decision = Decision.INSUFFICIENT_EVIDENCE
    else:
        head, remedy, decision = f"The adapter can move from {bases[0]} to {bases[1]}.", "None needed.", Decision.PASS
    return conclusion(decision, head + numbers + hint, remedy, margin, whole)


def conclusion(decision: Decision, summary: str, remedy: str, margin: float, whole: PartChange | None = None) -> Verdict:
    """The verdict of a rehearsal; `whole` is the task as a whole, if it was compared."""
    return Verdict(
        decision=decision,
        summary=summary,
        statistic="paired gain of the mean task score (new adapter minus the one in use, same items)",
        confidence=CONFIDENCE,
        n=0 if whole is None else whole.n,
        estimate=None if whole is None else whole.gain,
        ci_low=None if whole is None else whole.low,
        ci_high=None if whole is None else whole.high,
        n_required=MIN_FAMILIES,
        threshold=-margin,
        remedy=remedy,
        check_version=CHECK_VERSION,
        config={"alpha": ALPHA, "confidence": CONFIDENCE, "margin": margin, "min_families": MIN_FAMILIES},
    )


def _listed(parts: Sequence[PartChange]) -> str:
    return ", ".join(f"{part.part} ({part.old:.1%} to {part.new:.1%}, n {part.n})" for part in parts[:5])
