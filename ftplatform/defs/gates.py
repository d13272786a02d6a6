"""The gate across runs: expensive or irreversible work re-reads what its upstream checks concluded, in whichever run they ran.

Dagster's own blocking stops the run in which a check fails and nothing later; a check that crashed or was never run stops nothing
at all. Here, anything but "passed, on exactly the snapshots that are current, under the parameters that are in force" is unmet. The
evidence is read from the store, which cannot lose an event; the Dagster event log is a view of it.

A waiver lets one such conclusion through without making it a pass: for the signer's reason, on the snapshots and under the
parameters it was signed for, until it expires. Nothing has to happen for the gate to close again; time is read at every look.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import dagster as dg

from ftplatform.defs.checks import Check, Mode, lane
from ftplatform.defs.keys import Family
from ftplatform.errors import FtplatformError
from ftplatform.store import Evaluation, Snapshot, Store
from ftplatform.store.waivers import Standing, Waiver
from ftplatform.verdict import Decision

#: Checks that nobody can waive, and why.
UNWAIVABLE: Mapping[str, str] = {
    "influence_removed": "the removal is owed to whoever claimed the rows, and only they could forgo it",
    "closure_complete": "an adapter whose closure cannot be verified has no identity a waiver could be bound to",
    "row_schema": "rows that break the schema are not the rows the other checks believe they judged",
}


class WaiverRefused(FtplatformError):
    """The check cannot be waived, or there is nothing to waive."""


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


@dataclass(frozen=True)
class Waived:
    """A failed evaluation that a waiver lets through. It stays failed."""

    waiver: Waiver
    evaluation: Evaluation


@dataclass(frozen=True)
class GateState:
    """What the checks say about going on: reasons not to, and what only goes on because somebody signed for it."""

    unmet: list[Unmet]
    waived: list[Waived]


@dataclass(frozen=True)
class _Refusal:
    """Why a check does not hold. `evaluation` is the current, finished one that says so; None where there is none to waive."""

    reason: str
    evaluation: Evaluation | None = None


def gate_state(checks: Iterable[Check], store: Store, now: datetime | None = None) -> GateState:
    """Every blocking check that does not hold right now, waived or not.

    Args:
        checks: the checks upstream of the work (see `Plan.gates_of`).
        store: where snapshots, evaluations and waivers are.
        now: the time waivers are judged at, the present by default.
    """
    now = now or datetime.now(UTC)
    state = GateState([], [])
    for check in checks:
        head = store.head(check.asset)
        if head is None:
            state.unmet.append(Unmet(check.asset, check.name, "", "the asset has never been built"))
            continue
        reason = None
        for refusal in _refusals(check, store):
            waivers = _matching(check, refusal, store)
            waiver = next((w for w in waivers if w.standing(now) is Standing.IN_FORCE), None)
            if waiver is None or refusal.evaluation is None:
                reason = reason or refusal.reason + _ended(waivers, now)
            else:
                state.waived.append(Waived(waiver, refusal.evaluation))
        if reason:
            state.unmet.append(Unmet(check.asset, check.name, head.snapshot, reason))
    return state


def unmet(checks: Iterable[Check], store: Store, now: datetime | None = None) -> list[Unmet]:
    """The reasons not to go on; see `gate_state`."""
    return gate_state(checks, store, now).unmet


def require_gates(asset: str, checks: Iterable[Check], store: Store, inputs: Mapping[str, Snapshot]) -> list[Waived]:
    """Refuse to go on unless every gate of `asset` holds or is waived, for the very snapshots that are about to be used.

    Args:
        asset: what is about to be built.
        checks: blocking checks upstream of it.
        inputs: the snapshots it was given, by asset name.

    Returns:
        The waivers it goes on under, with the failures they let through.

    Raises:
        dg.Failure: naming each unmet check, its snapshot and the reason; not to be retried, a repetition would refuse again.
    """
    from ftplatform.defs.metadata import unmet_table

    state = gate_state(checks, store)
    reasons = list(state.unmet)
    for name, snapshot in inputs.items():
        head = store.head(name)
        if head is None or head.snapshot != snapshot.digest:
            reasons.append(Unmet(name, "(input)", snapshot.digest, "was replaced while this step was starting"))
    if reasons:
        shown = "; ".join(map(str, reasons))
        description = (
            f"Refused to build {asset}: {len(reasons)} unmet. {shown}. Remedy: mend what failed, then run the upstream assets with"
            f" their checks.{_governed_by(reasons)}"
        )
        raise dg.Failure(description=description, metadata={"unmet": unmet_table(reasons)}, allow_retries=False)
    return state.waived


def _governed_by(reasons: Iterable[Unmet]) -> str:
    """What releases a reward loop that is held, by ledger."""
    ledgers = dict.fromkeys(r.asset for r in reasons if r.asset.startswith(f"{Family.REWARD_LEDGERS}/"))
    return "".join(
        f" The governor of {ledger} holds the loop until its checkpoints, scored by the anchor, pass (ftplatform run {ledger}), or"
        f" somebody signs for it: ftplatform reward release {ledger.split('/', 1)[1]} --by YOU --why REASON --days N."
        for ledger in ledgers
    )


def waive(check: Check, store: Store, *, by: str, why: str, lifetime: timedelta, now: datetime | None = None) -> Waiver:
    """Sign for what `check` concludes about what is current.

    A statistical check can refuse twice, at full strength and at night; what no waiver covers yet is signed for first.

    Raises:
        WaiverRefused: for a check that cannot be waived, does not block, passed, crashed, never ran, or judged something else.
        WaiverError: without signer or reason, or with a lifetime out of range.
    """
    now = now or datetime.now(UTC)
    if reason := UNWAIVABLE.get(check.name):
        raise WaiverRefused(f"{check.id} cannot be waived: {reason}.", remedy="Mend what failed and run the check again.")
    if not check.blocking or check.severity != "error":
        raise WaiverRefused(f"{check.id} refuses nothing; there is nothing to waive.", remedy="Nothing to do.")
    refusals = _refusals(check, store)
    if not refusals:
        raise WaiverRefused(f"{check.id} lets everything through; there is nothing to waive.", remedy="Nothing to do.")
    open_ = [r for r in refusals if not any(w.standing(now) is Standing.IN_FORCE for w in _matching(check, r, store))]
    refusal = (open_ or refusals)[0]
    if refusal.evaluation is None:
        raise WaiverRefused(
            f"{check.id} has no conclusion about what is current, so there is nothing to waive: {refusal.reason}.",
            remedy=f"Run: ftplatform check {check.asset}",
        )
    return store.issue_waiver(
        refusal.evaluation,
        check=check.name,
        check_version=check.version,
        binding=check.binding,
        by=by,
        why=why,
        lifetime=lifetime,
        now=now,
    )


def lapsed(waivers: Iterable[Waiver], store: Store, now: datetime | None = None) -> list[Waiver]:
    """Those of `waivers` that cover nothing any more: over, not renewed, and their check has not passed on the same snapshots since."""
    now = now or datetime.now(UTC)
    return [waiver for waiver in waivers if not _still_covered(waiver, store, now)]


def _still_covered(waiver: Waiver, store: Store, now: datetime) -> bool:
    issued = store.waivers(waiver.asset, waiver.check)
    if any(w.standing(now) is Standing.IN_FORCE and w.same_finding(waiver) for w in issued):
        return True
    latest = [store.latest_evaluation(waiver.asset, name) for name in (waiver.check, lane(waiver.check, Mode.NIGHTLY, True))]
    same = [e for e in latest if e is not None and dict(e.judged) == dict(waiver.judged)]
    return latest[0] in same and not any(map(_not_passed, same))


def _matching(check: Check, refusal: _Refusal, store: Store) -> list[Waiver]:
    """Waivers signed for this very conclusion, newest first, in force or not."""
    evaluation = refusal.evaluation
    if evaluation is None or evaluation.verdict is None or check.name in UNWAIVABLE:
        return []
    return [
        waiver
        for waiver in store.waivers(check.asset, check.name)
        if waiver.check_version == check.version
        and waiver.binding == check.binding
        and dict(waiver.judged) == dict(evaluation.judged)
        and waiver.decision is evaluation.verdict.decision
    ]


def _ended(waivers: list[Waiver], now: datetime) -> str:
    """What became of the newest waiver that would have let the check through."""
    for waiver in waivers[:1]:
        signed = f"; the waiver {waiver.id[:12]} signed by {waiver.by}"
        if waiver.revocation is not None:
            return f"{signed} was revoked by {waiver.revocation.by}: {waiver.revocation.why}"
        if waiver.standing(now) is Standing.EXPIRED:
            return f"{signed} expired on {waiver.expires_at:%Y-%m-%d %H:%M} UTC"
        return f"{signed} begins on {waiver.issued_at:%Y-%m-%d %H:%M} UTC"
    return ""


def _refusals(check: Check, store: Store) -> list[_Refusal]:
    """Why the check does not hold right now; empty if it does."""
    evaluation = store.latest_evaluation(check.asset, check.name)
    if evaluation is None:
        return [_Refusal("never run")]
    if reason := _not_current(check, evaluation, store):
        return [_Refusal(reason)]
    refusals = []
    if reason := _not_passed(evaluation):
        refusals.append(_Refusal(reason, evaluation if evaluation.verdict is not None else None))
    # Harm shown at night on this very snapshot closes the gate too, though the run-time evaluation once passed.
    nightly = store.latest_evaluation(check.asset, lane(check.name, Mode.NIGHTLY, True)) if check.statistical else None
    harm = _not_passed(nightly) if nightly and nightly.verdict and not _not_current(check, nightly, store) else None
    if harm:
        refusals.append(_Refusal(f"nightly re-validation {harm}", nightly))
    return refusals


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
