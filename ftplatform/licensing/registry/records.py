"""What the ledger records besides observations of terms: heartbeats, legal notices and decisions."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Self, TypeAlias

from ftplatform.errors import InputDataError
from ftplatform.licensing.rights import Level, Use
from ftplatform.licensing.states import TermsObservation, to_text, to_time

_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """A watcher looked, saw the terms, and nothing had changed. Silence is not a heartbeat."""

    source: str
    watcher: str
    observed_at: datetime

    def to_record(self) -> dict[str, Any]:
        """JSON-able form."""
        return {"source": self.source, "watcher": self.watcher, "observed_at": to_text(self.observed_at)}

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Self:
        """The inverse of `to_record`."""
        return cls(record["source"], record["watcher"], to_time(record["observed_at"]))


class NoticeKind(StrEnum):
    """What a legal notice asks for."""

    TAKEDOWN = "takedown"
    RELICENSE = "relicense"
    WITHDRAWAL = "withdrawal"
    RETRACTION = "retraction"
    COUNTER_NOTICE = "counter_notice"


#: Notices that answer another one.
ANSWERS: frozenset[NoticeKind] = frozenset({NoticeKind.RETRACTION, NoticeKind.COUNTER_NOTICE})


@dataclass(frozen=True, slots=True, kw_only=True)
class Matcher:
    """What a notice is about, by name and by content: a mirror has another name and the same rows.

    Attributes:
        uris: places it names.
        row_ids: rows it names.
        text_sha256: SHA-256 (hex) of texts it names.
        near_duplicate_of: ids of rows whose near-duplicates are meant as well.
    """

    uris: tuple[str, ...] = ()
    row_ids: tuple[str, ...] = ()
    text_sha256: tuple[str, ...] = ()
    near_duplicate_of: tuple[str, ...] = ()

    def to_record(self) -> dict[str, Any]:
        """JSON-able form."""
        return {
            "uris": list(self.uris),
            "row_ids": list(self.row_ids),
            "text_sha256": list(self.text_sha256),
            "near_duplicate_of": list(self.near_duplicate_of),
        }

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Self:
        """The inverse of `to_record`."""
        return cls(**{name: tuple(record[name]) for name in ("uris", "row_ids", "text_sha256", "near_duplicate_of")})


@dataclass(frozen=True, slots=True, kw_only=True)
class LegalNotice:
    """A letter, form or feed entry that claims or withdraws a right. Appending the same id again replaces what it said.

    Attributes:
        id: name it is referred to by, in `refers_to` and in observations that rest on it.
        received_at: when we received it.
        deadline: until when to act.
        letter_sha256: SHA-256 (hex) of the letter.
        refers_to: id of the notice that this one retracts or counters.

    Raises:
        InputDataError: if a retraction or counter-notice refers to nothing, or a hash is none.
    """

    id: str
    kind: NoticeKind
    received_at: datetime
    matcher: Matcher
    deadline: datetime | None = None
    letter_sha256: str | None = None
    refers_to: str | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "kind", NoticeKind(self.kind))
        if self.kind in ANSWERS and self.refers_to is None:
            raise InputDataError(f"the {self.kind} {self.id!r} refers to no notice", remedy="Give the id of the notice it answers.")
        for value in (self.letter_sha256, *self.matcher.text_sha256):
            if value is not None:
                _check_sha256(value, f"notice {self.id!r}")

    def to_record(self) -> dict[str, Any]:
        """JSON-able form."""
        return {
            "id": self.id,
            "kind": str(self.kind),
            "received_at": to_text(self.received_at),
            "deadline": to_text(self.deadline) if self.deadline else None,
            "matcher": self.matcher.to_record(),
            "letter_sha256": self.letter_sha256,
            "refers_to": self.refers_to,
        }

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Self:
        """The inverse of `to_record`."""
        return cls(
            id=record["id"],
            kind=NoticeKind(record["kind"]),
            received_at=to_time(record["received_at"]),
            deadline=to_time(record["deadline"]) if record["deadline"] else None,
            matcher=Matcher.from_record(record["matcher"]),
            letter_sha256=record["letter_sha256"],
            refers_to=record["refers_to"],
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class LicenseDecision:
    """What was decided about one use of one snapshot, and on what: the answer to "what did you know when you trained this?".

    Attributes:
        verdict: how far the use was permitted.
        policy_sha256: digest of the policy that decided.
        as_of_valid, as_of_known: the two clocks the ledger was asked with.
        waiver: id of the waiver that decided, if one did.

    Raises:
        InputDataError: if `policy_sha256` is no SHA-256: no decision without its policy.
    """

    asset: str
    snapshot: str
    use: Use
    verdict: Level
    policy_sha256: str
    as_of_valid: datetime
    as_of_known: datetime
    decided_at: datetime
    reasons: tuple[str, ...] = ()
    waiver: str | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "use", Use(self.use))
        object.__setattr__(self, "verdict", Level(self.verdict))
        _check_sha256(self.policy_sha256, f"the policy that decided on {self.asset}")

    def to_record(self) -> dict[str, Any]:
        """JSON-able form."""
        return {
            "asset": self.asset,
            "snapshot": self.snapshot,
            "use": str(self.use),
            "verdict": self.verdict.name.lower(),
            "policy_sha256": self.policy_sha256,
            "as_of_valid": to_text(self.as_of_valid),
            "as_of_known": to_text(self.as_of_known),
            "decided_at": to_text(self.decided_at),
            "reasons": list(self.reasons),
            "waiver": self.waiver,
        }

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Self:
        """The inverse of `to_record`."""
        return cls(
            asset=record["asset"],
            snapshot=record["snapshot"],
            use=Use(record["use"]),
            verdict=Level[record["verdict"].upper()],
            policy_sha256=record["policy_sha256"],
            as_of_valid=to_time(record["as_of_valid"]),
            as_of_known=to_time(record["as_of_known"]),
            decided_at=to_time(record["decided_at"]),
            reasons=tuple(record["reasons"]),
            waiver=record["waiver"],
        )


Record: TypeAlias = TermsObservation | Heartbeat | LegalNotice | LicenseDecision

#: Kind of event to what its body holds.
KINDS: Mapping[str, type[Record]] = {
    "terms": TermsObservation,
    "heartbeat": Heartbeat,
    "notice": LegalNotice,
    "decision": LicenseDecision,
}


def kind_of(record: Record) -> str:
    """Kind of the event that holds `record`."""
    return next(kind for kind, type_ in KINDS.items() if isinstance(record, type_))


def _check_sha256(value: str, where: str) -> None:
    if not _SHA256.fullmatch(value):
        raise InputDataError(f"{where}: {value!r} is no SHA-256", remedy="Give 64 lower-case hexadecimal digits.")
