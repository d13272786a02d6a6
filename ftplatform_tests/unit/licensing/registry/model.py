"""The rules of the ledger once more, as plain Python over a list: slow, obvious, and written from the table alone."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from ftplatform.licensing.registry import LegalNotice, NoticeKind, TermsState
from ftplatform.licensing.states import State, TermsObservation

SEVERITY = ["withdrawn_rows", "prospective", "unknown", "relicensed", "disputed", "disabled", "deleted", "takedown"]


@dataclass(frozen=True)
class Seen:
    seq: int
    said: TermsObservation

    @property
    def order(self) -> tuple[datetime, datetime, int]:
        return self.said.valid_from, self.said.observed_at, self.seq


def of_rows(said: TermsObservation) -> bool:
    return bool(said.rows) or said.state == "withdrawn_rows"


def severity(said: TermsObservation) -> int:
    state = "withdrawn_rows" if of_rows(said) else str(said.state)
    return SEVERITY.index(state) + 1 if state in SEVERITY else 0


def lifts(one: Seen, hold: Seen) -> bool:
    """Whether `one` lifts `hold`."""
    if one.order <= hold.order:
        return False
    if one.said.notice is not None:
        if one.said.notice != hold.said.notice:
            return False
    elif one.said.observed_at < hold.said.observed_at:
        return False
    if one.said.state == "reinstated":
        return True
    if of_rows(hold.said):
        return False
    by_person = one.said.concluded is not None and one.said.concluded_by is not None
    if by_person and one.said.state in {"active", "gated", "prospective"}:
        return True
    seen_again = one.said.state in {"active", "gated", "relicensed", "prospective"}
    return hold.said.state in {"deleted", "disabled"} and seen_again and one.said.watcher == hold.said.watcher


def answered(hold: Seen, letters: list[LegalNotice]) -> bool:
    return any(
        letter.kind in {NoticeKind.RETRACTION, NoticeKind.COUNTER_NOTICE}
        and hold.said.notice is not None
        and letter.refers_to == hold.said.notice
        and letter.received_at >= hold.said.valid_from
        for letter in letters
    )


def state(records: list[Any], source: str, valid_at: datetime, known_at: datetime) -> dict[str, Any]:
    """What `comparable` gives for the ledger's answer; `records` in the order they were appended, numbered from 1."""
    numbered = [Seen(seq, r) for seq, r in enumerate(records, 1) if isinstance(r, TermsObservation) and r.source == source]
    seen = sorted((s for s in numbered if s.said.valid_from <= valid_at and s.said.observed_at <= known_at), key=lambda s: s.order)
    letters = [r for r in records if isinstance(r, LegalNotice) and r.received_at <= min(valid_at, known_at)]
    standing = [s for s in seen if severity(s.said) == 0 or not (any(lifts(one, s) for one in seen) or answered(s, letters))]
    deciding = max(standing, key=lambda s: (severity(s.said), s.order), default=None)

    def latest(name: str) -> Any:
        return next((getattr(s.said, name) for s in reversed(seen) if getattr(s.said, name) not in (None, ())), None)

    def rows(state: str) -> frozenset[str]:
        return frozenset(row for s in standing if s.said.state == state for row in s.said.rows)

    active = [s for s in seen if s.said.state == "active"]
    grant = min(active, key=lambda s: (s.said.observed_at, s.said.valid_from, s.seq), default=None)
    return {
        "state": State.UNKNOWN if deciding is None else State.WITHDRAWN_ROWS if deciding.said.rows else deciding.said.state,
        "valid_from": deciding and deciding.said.valid_from,
        "notice": deciding and deciding.said.notice,
        "watcher": deciding and deciding.said.watcher,
        "declared": latest("declared"),
        "concluded": latest("concluded"),
        "exhibits": latest("exhibits") or (),
        "withdrawn_rows": rows("withdrawn_rows"),
        "taken_down_rows": rows("takedown"),
        "grant": grant and (grant.said.declared, grant.said.concluded, grant.said.observed_at),
    }


def comparable(found: TermsState) -> dict[str, Any]:
    """The parts of an answer that do not depend on numbers."""
    names = ("state", "valid_from", "notice", "watcher", "declared", "concluded", "exhibits", "withdrawn_rows", "taken_down_rows")
    grant = found.grant and (found.grant.declared, found.grant.concluded, found.grant.observed_at)
    return {name: getattr(found, name) for name in names} | {"grant": grant}
