"""The governor of a reward loop: run, hold or roll back, by what the checks of its ledger conclude right now (mode M8).

A loop that optimizes a proxy is an open loop unless something measures what the proxy stands for and may stop it. The governor's state is
derived at every look, as the gate's is, from evaluations and waivers in the store; nothing can forget to update it. What is recorded is
its course: a snapshot beside the ledger whenever the state or its reasons change.

Who obeys: the step that trains (its gate holds the same checks), and the sensors that ask for training.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

import dagster as dg

from ftplatform.canonical import digest
from ftplatform.defs.asset_checks.reward_checks import AGAINST_ANCHOR
from ftplatform.defs.assets.rewards import REWARDS_FILE
from ftplatform.defs.changes import Request
from ftplatform.defs.checks import Check
from ftplatform.defs.gates import WaiverRefused, gate_state, waive
from ftplatform.defs.keys import Family, asset_name, family_of, to_key
from ftplatform.defs.metadata import Metadata, records_table
from ftplatform.defs.plan import Plan
from ftplatform.store import InputRef, Snapshot, SnapshotDraft, Store
from ftplatform.store.waivers import Waiver
from ftplatform.verdict import Decision

CODE_VERSION = "1"
RECORD_FILE = "governor.json"


class State(StrEnum):
    """What the loop may do."""

    RUN = "run"
    HOLD = "hold"
    ROLL_BACK = "roll back"


@dataclass(frozen=True)
class Governor:
    """The state of one reward loop.

    Attributes:
        ledger: the reward ledger's asset. adapter: name of the adapter it governs, or None.
        state: `HOLD` while a blocking check of the ledger is unmet, `ROLL_BACK` if besides the candidate is shown to be worse than
            the anchor.
        reasons: why it is not `RUN`. warnings: failures that do not hold it, and what only goes on because somebody signed.
        roll_back_to: the last approved checkpoint; None unless the state is `ROLL_BACK`.
        judged: snapshot of the ledger, empty if it was never built.
    """

    ledger: str
    adapter: str | None
    state: State
    reasons: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    roll_back_to: int | None = None
    judged: str = ""

    @property
    def releases(self) -> str:
        """What would let the loop run."""
        name = self.ledger.split("/", 1)[1]
        if self.state is State.RUN:
            return "Nothing holds the loop."
        back = "" if self.roll_back_to is None else f"Serve checkpoint {self.roll_back_to} again and train on from it. "
        return (
            f"{back}The loop runs again when the blocking checks of {self.ledger} pass on a ledger that is scored by the anchor"
            f" (ftplatform run {self.ledger}), or for a time when somebody signs for it: ftplatform reward release {name} --by YOU"
            " --why REASON --days N."
        )

    def to_record(self) -> dict[str, Any]:
        """JSON-able."""
        return {
            "ledger": self.ledger,
            "adapter": self.adapter,
            "state": str(self.state),
            "reasons": list(self.reasons),
            "warnings": list(self.warnings),
            "roll_back_to": self.roll_back_to,
            "releases": self.releases,
            "judged": self.judged,
        }


def governor(plan: Plan, name: str, store: Store, now: datetime | None = None) -> Governor:
    """State of the loop of the reward ledger `name`.

    Args:
        now: the time waivers are judged at, the present by default.
    """
    asset = asset_name(Family.REWARD_LEDGERS, name)
    reward = plan.project.rewards[name]
    checks = plan.checks_of([asset])
    gates = gate_state(_holding(checks), store, now)
    head = store.head(asset)
    if head is None:
        reason = f"{asset} has never been built, so nobody knows what its checkpoints are worth"
        return Governor(asset, reward.adapter, State.HOLD, (reason,))
    worse = any(u.check == AGAINST_ANCHOR for u in gates.unmet) and _failed(store, asset, head.snapshot)
    state = State.ROLL_BACK if worse else State.HOLD if gates.unmet else State.RUN
    return Governor(
        asset,
        reward.adapter,
        state,
        tuple(f"{u.check}: {u.reason}" for u in gates.unmet),
        (
            *(f"{w.evaluation.check} is waived by {w.waiver.by}: {w.waiver.why}" for w in gates.waived),
            *_not_holding(checks, store, asset),
        ),
        _approved(store.snapshot(head.snapshot), reward.approved) if worse else None,
        head.snapshot,
    )


def governors_of(plan: Plan, adapter: str, store: Store) -> list[Governor]:
    """Of every reward ledger that names the adapter (a name, not an asset)."""
    return [governor(plan, name, store) for name, reward in plan.project.rewards.items() if reward.adapter == adapter]


def governor_metadata(governors: Sequence[Governor]) -> Metadata:
    """For the page of an adapter: what its governors say and what would release it."""
    if not governors:
        return {}
    return {
        "governor": dg.MetadataValue.text(", ".join(f"{g.ledger}: {g.state}" for g in governors)),
        "governor_reasons": records_table(
            [{"ledger": g.ledger, "state": str(g.state), "reason": reason} for g in governors for reason in g.reasons or ("none",)]
        ),
        "governor_release": dg.MetadataValue.text(" ".join(g.releases for g in governors)),
    }


def release(plan: Plan, name: str, store: Store, *, by: str, why: str, lifetime: timedelta) -> list[Waiver]:
    """Sign for everything that holds the loop, one waiver for each refusal; the checks stay failed.

    Raises:
        WaiverRefused: nothing holds it, or what does has no conclusion to sign for (never run, crashed, another ledger).
        WaiverError: without signer or reason, or with a lifetime out of range.
    """
    checks = _holding(plan.checks_of([asset_name(Family.REWARD_LEDGERS, name)]))
    signed: list[Waiver] = []
    # Twice: a check can refuse at full strength and at night, and each refusal is signed for by itself.
    for _ in range(2):
        held = {u.check for u in gate_state(checks, store).unmet}
        signed += [waive(c, store, by=by, why=why, lifetime=lifetime) for c in checks if c.name in held]
    if not signed:
        raise WaiverRefused(f"nothing holds the loop of {Family.REWARD_LEDGERS}/{name}.", remedy="Nothing to do.")
    return signed


# ---- its course ----------------------------------------------------------------------------------------------------------


def record_asset(ledger: str) -> str:
    """Name in the store under which a governor's course is kept."""
    return f"{ledger}/governor"


def record(store: Store, found: Governor) -> Snapshot | None:
    """Keep a state if it differs from the last one kept; returns the new snapshot, None if nothing changed."""
    asset, document = record_asset(found.ledger), found.to_record()
    head = store.head(asset)
    if head is not None and store.snapshot(head.snapshot).read_json(RECORD_FILE) == document:
        return None
    inputs = [InputRef(role="ledger", asset=found.ledger, snapshot=found.judged)] if found.judged else []
    with SnapshotDraft(
        asset, code_version=CODE_VERSION, config_hash=digest(document), environment=digest(CODE_VERSION), inputs=inputs
    ) as draft:
        draft.add_json(RECORD_FILE, document)
        draft.facts = {"state": str(found.state), "previous": None if head is None else head.snapshot}
        snapshot = store.write(draft)
    store.publish(snapshot)
    return snapshot


def course(store: Store, ledger: str) -> Iterator[Mapping[str, Any]]:
    """The states that were recorded, newest first."""
    head = store.head(record_asset(ledger))
    at = None if head is None else head.snapshot
    while at is not None:
        snapshot = store.snapshot(at)
        yield snapshot.read_json(RECORD_FILE)
        at = snapshot.facts["previous"]


def announce(plan: Plan, known: Mapping[str, str]) -> tuple[dict[str, str], list[dg.AssetObservation]]:
    """Record every governor's state, and tell of those that changed on the pages of their ledger and adapter.

    Args:
        known: digest of the state by ledger, as last told.

    Returns:
        The digests now, and the observations.
    """
    if not plan.project.rewards:
        return {}, []
    store = plan.open_store()
    told: dict[str, str] = {}
    events: list[dg.AssetObservation] = []
    for name in plan.project.rewards:
        found = governor(plan, name, store)
        if not found.judged:
            continue  # before the first ledger there is no loop to speak of
        record(store, found)
        told[found.ledger] = digest(found.to_record())
        if told[found.ledger] != known.get(found.ledger):
            pages = [found.ledger, *([asset_name(Family.ADAPTERS, found.adapter)] if found.adapter else [])]
            events += [dg.AssetObservation(to_key(page), metadata=governor_metadata([found])) for page in pages]
    return told, events


# ---- who obeys -----------------------------------------------------------------------------------------------------------


def obeying(plan: Plan, request: Request, held_before: Sequence[str] = ()) -> tuple[Request, tuple[str, ...]]:
    """A request without the training that governors hold, and with what they held before and hold no longer.

    Returns:
        What may be asked for, and the assets that wait: held adapters and what is made from them.
    """
    waiting = [a for a in held_before if a in plan.lineage.parents and a not in request.assets]
    wanted = set(request.assets) | set(waiting)
    governed = [a for a in wanted if family_of(a) is Family.ADAPTERS and plan.lineage.governing(a)]
    if not governed and not waiting:
        return request, ()
    # Where the ledger itself is about to be read anew, training waits for what its checks will say.
    stopped = [a for a in governed if wanted.intersection(plan.lineage.governing(a))]
    stopped += _stopped(plan, [a for a in governed if a not in stopped])
    held = wanted & set(plan.lineage.descendants(stopped))
    checks = dict.fromkeys([*request.checks, *((c.asset, c.name) for c in plan.checks_looking_at(waiting))])
    allowed = Request(
        tuple(a for a in plan.lineage.assets if a in wanted - held),
        tuple(key for key in checks if key[0] not in held),
    )
    return allowed if allowed.assets else Request((), ()), tuple(a for a in plan.lineage.assets if a in held)


def _stopped(plan: Plan, adapters: Sequence[str]) -> list[str]:
    if not adapters:
        return []
    store = plan.open_store()
    return [a for a in adapters if any(g.state is not State.RUN for g in governors_of(plan, a.split("/", 1)[1], store))]


def _holding(checks: Sequence[Check]) -> list[Check]:
    return [check for check in checks if check.blocking and check.severity == "error"]


def _failed(store: Store, asset: str, snapshot: str) -> bool:
    """Whether the comparison with the anchor failed on this very ledger."""
    evaluation = store.latest_evaluation(asset, AGAINST_ANCHOR)
    if evaluation is None or evaluation.verdict is None or evaluation.judged.get(asset) != snapshot:
        return False
    return evaluation.verdict.decision is Decision.FAIL


def _not_holding(checks: Sequence[Check], store: Store, asset: str) -> Iterator[str]:
    """What other checks found, and what the blocking ones only warned of."""
    head = store.head(asset)
    for check in checks:
        evaluation = store.latest_evaluation(asset, check.name)
        if evaluation is None or evaluation.verdict is None or head is None or evaluation.judged.get(asset) != head.snapshot:
            continue
        decision = evaluation.verdict.decision
        if decision is not Decision.PASS and not (check.blocking and evaluation.severity == "error"):
            yield f"{check.name}: {decision}: {evaluation.verdict.summary}"


def _approved(ledger: Snapshot, approved: Sequence[int]) -> int | None:
    from ftplatform.rewards.ledger import last_approved

    return last_approved(ledger.read_table(REWARDS_FILE, ["checkpoint"]), approved)
