"""What a check is to the Dagster layer, and how one is judged, recorded and shown.

A `Check` says which asset it guards, what else it looks at, how hard it refuses, and which domain function decides. Judging writes
two records into the store: "running" before the domain function starts, the verdict after. A crash, even a kill -9, therefore
leaves a trace the gate can see; Dagster itself records nothing for a check that raised (notes: ten findings, 5).
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any, Literal

from ftplatform.canonical import digest
from ftplatform.errors import NotMaterialized
from ftplatform.store import Evaluation, Snapshot, Store
from ftplatform.verdict import Decision, Verdict

Severity = Literal["warn", "error"]

#: False-alarm rates (SPEC 2.5.4): full strength once, in the run that builds or releases; at night only strong evidence may wake people.
ALPHA_RUN = 0.05
ALPHA_NIGHTLY = 0.001


class Mode(StrEnum):
    """When a check runs. It decides the false-alarm rate of statistical checks, nothing else."""

    RUN = "run"
    NIGHTLY = "nightly"


@dataclass(frozen=True)
class Judging:
    """What a check's function gets.

    Attributes:
        store: where snapshots are.
        asset: the guarded asset.
        snapshot: its current snapshot.
        others: current snapshots of the other assets the check looks at, by asset name.
        alpha: false-alarm rate for statistical decisions.
        threshold: the project's override of the limit, or None.
    """

    store: Store
    asset: str
    snapshot: Snapshot
    others: Mapping[str, Snapshot]
    alpha: float
    threshold: float | None

    def limit(self, name: str) -> dict[str, Any]:
        """The project's override of the check's limit as the keyword the check knows it by; nothing without one."""
        return {} if self.threshold is None else {name: self.threshold}


@dataclass(frozen=True)
class Check:
    """One check on one asset.

    Attributes:
        name, asset: identity.
        judge: the decision, a function of what `Judging` holds.
        version: version of the decision's algorithm.
        description: one sentence for the UI.
        looks_at: other assets the decision depends on; a change of one makes an earlier evaluation stale.
        order_after: assets that should be refreshed first when they are in the same run; they do not decide.
        severity: what a failure means. "warn" lets it through, visibly.
        blocking: whether the gate and Dagster refuse downstream work on failure (only with severity "error").
        statistical: whether the decision has a false-alarm rate.
        deciding: every parameter known beforehand that decides (thresholds, policy hash, license terms); its digest is part of the
            evaluation, and an evaluation under other parameters counts as stale.
        required: whether missing evidence refuses (asset upstream of a release) or warns.
        threshold: override from the project file.
    """

    name: str
    asset: str
    judge: Callable[[Judging], Verdict]
    version: str
    description: str
    looks_at: tuple[str, ...] = ()
    order_after: tuple[str, ...] = ()
    severity: Severity = "error"
    blocking: bool = True
    statistical: bool = False
    deciding: Mapping[str, Any] = field(default_factory=dict)
    required: bool = True
    threshold: float | None = None
    pool: str | None = None

    @property
    def id(self) -> str:
        """``asset:check``, as Dagster prints it."""
        return f"{self.asset}:{self.name}"

    @property
    def binding(self) -> str:
        """Digest of everything known beforehand that decides; bound into each evaluation."""
        parts = {
            "check": self.name,
            "version": self.version,
            "severity": self.severity,
            "required": self.required,
            "threshold": self.threshold,
            "deciding": dict(self.deciding),
        }
        return digest(parts)[:16]

    def severity_of(self, verdict: Verdict) -> Severity:
        """How hard this verdict refuses. A decision "warn" warns; missing evidence refuses only where it is required."""
        if verdict.decision is Decision.WARN:
            return "warn"
        if verdict.decision is Decision.INSUFFICIENT_EVIDENCE and not self.required:
            return "warn"
        return self.severity


#: Name under which the nightly result of a statistical check is kept, beside the full-strength one it must not replace.
def lane(check: str, mode: Mode, statistical: bool) -> str:
    """Store name of a check's evaluations in a mode. Invariants have one lane; statistical checks keep the nightly one apart."""
    return f"nightly-{check}" if mode is Mode.NIGHTLY and statistical else check


def judged_now(check: Check, store: Store) -> dict[str, str]:
    """Current snapshot digest of everything the check looks at, by asset name.

    Raises:
        NotMaterialized: naming the first asset that has no snapshot.
    """
    judged: dict[str, str] = {}
    for asset in (check.asset, *check.looks_at):
        head = store.head(asset)
        if head is None:
            raise NotMaterialized(
                f"{check.id} looks at {asset}, which has never been built.", remedy=f"Run: ftplatform run {asset}"
            )
        judged[asset] = head.snapshot
    return judged


def evaluate(check: Check, store: Store, *, mode: Mode = Mode.RUN, run_id: str = "") -> Evaluation:
    """Judge `check` on the current snapshots and record the verdict in the store.

    Raises:
        NotMaterialized: if something it looks at has never been built.
        Exception: whatever the domain function raises; the evaluation then stays "running", which the gate reads as a crash.
    """
    name = lane(check.name, mode, check.statistical)
    judged = judged_now(check, store)
    store.begin_evaluation(check.asset, name, judged=judged, run_id=run_id)
    verdict = _judge(check, store, judged, ALPHA_RUN)
    if mode is Mode.NIGHTLY and check.statistical and verdict.decision is Decision.FAIL:
        verdict = _harm_only(_judge(check, store, judged, ALPHA_NIGHTLY))
    verdict = verdict.with_config({"binding": check.binding, "mode": str(mode)})
    return store.record_evaluation(
        check.asset,
        name,
        judged=judged,
        verdict=verdict,
        blocking=check.blocking,
        severity=check.severity_of(verdict),
        run_id=run_id,
        evaluated_at=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    )


def _judge(check: Check, store: Store, judged: Mapping[str, str], alpha: float) -> Verdict:
    snapshots = {asset: store.snapshot(snapshot) for asset, snapshot in judged.items()}
    own = snapshots.pop(check.asset)
    threshold = check.threshold
    return check.judge(Judging(store=store, asset=check.asset, snapshot=own, others=snapshots, alpha=alpha, threshold=threshold))


def _harm_only(verdict: Verdict) -> Verdict:
    """At night a failure must be harm shown at alpha .001: the bound nearer to safety is beyond the limit too. Else it warns."""
    shown = verdict.threshold is None or verdict.ci_low is None or verdict.ci_low > verdict.threshold
    if verdict.decision is not Decision.FAIL or shown:
        return verdict
    summary = f"Not shown at alpha {ALPHA_NIGHTLY}: {verdict.summary}"
    return replace(verdict, decision=Decision.WARN, summary=summary)
