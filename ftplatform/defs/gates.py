"""The gate across runs: expensive or irreversible work re-reads what its upstream checks concluded, in whichever run they ran.

Dagster's own blocking stops the run in which a check fails and nothing later; a check that crashed or was never run stops nothing
at all. Here, anything but "passed, on exactly the snapshots that are current, under the parameters that are in force" is unmet. The
evidence is read from the store, which cannot lose an event; the Dagster event log is a view of it.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import dagster as dg

from ftplatform.defs.checks import Check, Mode, lane
from ftplatform.store import Evaluation, Snapshot, Store
from ftplatform.verdict import Decision


@dataclass(frozen=True)
class Unmet:
    """One reason not to go on."""

    asset: str
    check: str
    snapshot: str
    reason: str

    def __str__(self) -> str:
        """``check on asset@snapshot: reason``."""
        return f"{self.check} on {self.asset}@{self.snapshot[:12] or 'no snapshot'}: {self.reason}"


def unmet(checks: Iterable[Check], store: Store) -> list[Unmet]:
    """Every blocking check that does not hold right now, with the reason.

    Args:
        checks: the checks upstream of the work (see `upstream_gates`).
        store: where snapshots and evaluations are.
    """
    found = []
    for check in checks:
        head = store.head(check.asset)
        reason = _reason(check, store) if head else "the asset has never been built"
        if reason:
            found.append(Unmet(check.asset, check.name, head.snapshot if head else "", reason))
    return found


def require_gates(asset: str, checks: Iterable[Check], store: Store, inputs: Mapping[str, Snapshot]) -> None:
    """Refuse to go on unless every gate of `asset` holds, and holds for the very snapshots that are about to be used.

    Args:
        asset: what is about to be built.
        checks: blocking checks upstream of it.
        inputs: the snapshots it was given, by asset name.

    Raises:
        dg.Failure: naming each unmet check, its snapshot and the reason; not to be retried, a repetition would refuse again.
    """
    from ftplatform.defs.metadata import unmet_table

    reasons = unmet(checks, store)
    for name, snapshot in inputs.items():
        head = store.head(name)
        if head is None or head.snapshot != snapshot.digest:
            reasons.append(Unmet(name, "(input)", snapshot.digest, "was replaced while this step was starting"))
    if reasons:
        shown = "; ".join(map(str, reasons))
        description = (
            f"Refused to build {asset}: {len(reasons)} unmet. {shown}. Remedy: mend what failed, then run the upstream assets with"
            " their checks."
        )
        raise dg.Failure(description=description, metadata={"unmet": unmet_table(reasons)}, allow_retries=False)


def _reason(check: Check, store: Store) -> str | None:
    evaluation = store.latest_evaluation(check.asset, check.name)
    if evaluation is None:
        return "never run"
    if (reason := _not_current(check, evaluation, store)) or (reason := _not_passed(evaluation)):
        return reason
    if check.statistical:
        # Harm shown at night on this very snapshot closes the gate too, though the run-time evaluation once passed.
        nightly = store.latest_evaluation(check.asset, lane(check.name, Mode.NIGHTLY, True))
        if nightly is not None and nightly.verdict is not None and not _not_current(check, nightly, store):
            reason = _not_passed(nightly)
            return f"nightly re-validation {reason}" if reason else None
    return None


def _not_current(check: Check, evaluation: Evaluation, store: Store) -> str | None:
    for asset, judged in evaluation.judged.items():
        head = store.head(asset)
        if head is None or head.snapshot != judged:
            return f"judged an older snapshot of {asset} ({judged[:12]}, now {head.snapshot[:12] if head else 'none'})"
    missing = {check.asset, *check.looks_at} - evaluation.judged.keys()
    if missing:
        return f"did not look at {', '.join(sorted(missing))}"
    if evaluation.verdict is not None and evaluation.verdict.config.get("binding") != check.binding:
        return "judged under other thresholds, policy or license terms than those in force"
    return None


def _not_passed(evaluation: Evaluation) -> str | None:
    if evaluation.verdict is None:
        return f"started (run {evaluation.run_id[:8] or 'unknown'}) and never finished: crashed, killed or still running"
    if evaluation.verdict.decision is Decision.PASS or evaluation.severity == "warn":
        return None
    return f"{evaluation.verdict.decision}: {evaluation.verdict.summary}"
