"""The states a license goes through, and one look at it: what the watchers report and the ledger records.

A license is an ongoing claim by somebody else, so it has a state, and every fact about it has two times: since when it is so
(valid time) and since when we know (observed time). "What did you know when you trained this?" is answered by the second.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Self

from ftplatform.errors import InputDataError


class State(StrEnum):
    """State of the terms of one source, model or teacher."""

    ACTIVE = "active"
    """As concluded; nothing speaks against it."""
    RELICENSED = "relicensed"
    """The terms changed, also for what we hold; a person has to conclude anew."""
    PROSPECTIVE = "prospective"
    """The terms changed for what is acquired from `valid_from` on; a copy acquired before keeps its grant."""
    GATED = "gated"
    """Access now needs an agreement; the terms of the copy we hold did not change."""
    UNREACHABLE = "unreachable"
    """The place does not answer; says nothing about the terms."""
    DISABLED = "disabled"
    """The host switched it off."""
    DELETED = "deleted"
    """It is gone, confirmed more than once."""
    TAKEDOWN = "takedown"
    """Somebody claims a right against it: a legal notice, or HTTP 451."""
    DISPUTED = "disputed"
    """Sources of truth contradict each other; the most restrictive counts until a person concludes."""
    WITHDRAWN_ROWS = "withdrawn_rows"
    """Upstream withdrew some rows (opt-outs); the rest is as it was."""
    REINSTATED = "reinstated"
    """A claim was retracted or successfully countered; the terms before it count again."""
    UNKNOWN = "unknown"
    """Nobody has concluded anything."""


#: States in which nothing new may be trained on any of it.
REVOKED: frozenset[State] = frozenset({State.TAKEDOWN, State.DELETED, State.DISABLED})

#: States in which the terms that were concluded before still count.
STANDING: frozenset[State] = frozenset(
    {State.ACTIVE, State.REINSTATED, State.GATED, State.UNREACHABLE, State.PROSPECTIVE, State.WITHDRAWN_ROWS}
)


@dataclass(frozen=True, slots=True)
class Exhibit:
    """Something that was read: where, the hash of its bytes, and the hash of its words (None if it is no text)."""

    uri: str
    sha256: str
    text_digest: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TermsObservation:
    """One look at the terms of one thing.

    Attributes:
        source: name as rows carry it in `origins` and `parents`, e.g. ``raw/tickets`` or ``teacher:gpt``.
        state: the state seen.
        valid_from: since when it is so (UTC).
        observed_at: when we saw it (UTC).
        watcher: who looked, e.g. ``hub``, ``git``, ``declaration``, ``notice``.
        declared: what the host or README says, verbatim; a tuple if the host gives a list. None: this look says nothing about it.
        concluded: SPDX expression a person concluded; None: this look says nothing about it.
        concluded_by: that person.
        exhibits: what was read.
        revision: upstream revision that was looked at.
        notice: id of the notice it rests on.
        rows: ids of the rows it is about; empty if it is about all of them.
        detail: further JSON-able facts for people (HTTP status, new name after a rename, clause diff, ...).

    Raises:
        InputDataError: on a time without zone, or rows with a state other than `WITHDRAWN_ROWS` and `TAKEDOWN`.
    """

    source: str
    state: State
    valid_from: datetime
    observed_at: datetime
    watcher: str
    declared: str | tuple[str, ...] | None = None
    concluded: str | None = None
    concluded_by: str | None = None
    exhibits: tuple[Exhibit, ...] = ()
    revision: str | None = None
    notice: str | None = None
    rows: tuple[str, ...] = ()
    detail: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "state", State(self.state))
        for name in ("valid_from", "observed_at"):
            moment = getattr(self, name)
            if moment.tzinfo is None:
                raise InputDataError(
                    f"{name} of {self.source} has no time zone: {moment}", remedy="Give times with an offset or Z."
                )
            object.__setattr__(self, name, moment.astimezone(UTC))
        if self.rows and self.state not in {State.WITHDRAWN_ROWS, State.TAKEDOWN}:
            raise InputDataError(
                f"an observation of {self.source} lists rows and says {self.state}", remedy="Rows can be withdrawn or taken down."
            )

    def to_record(self) -> dict[str, Any]:
        """JSON-able form; times as RFC 3339 in UTC with microseconds."""
        return {
            "source": self.source,
            "state": str(self.state),
            "valid_from": to_text(self.valid_from),
            "observed_at": to_text(self.observed_at),
            "watcher": self.watcher,
            "declared": list(self.declared) if isinstance(self.declared, tuple) else self.declared,
            "concluded": self.concluded,
            "concluded_by": self.concluded_by,
            "exhibits": [{"uri": e.uri, "sha256": e.sha256, "text_digest": e.text_digest} for e in self.exhibits],
            "revision": self.revision,
            "notice": self.notice,
            "rows": list(self.rows),
            "detail": dict(self.detail),
        }

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Self:
        """The inverse of `to_record`."""
        declared = record["declared"]
        return cls(
            source=record["source"],
            state=State(record["state"]),
            valid_from=to_time(record["valid_from"]),
            observed_at=to_time(record["observed_at"]),
            watcher=record["watcher"],
            declared=tuple(declared) if isinstance(declared, list) else declared,
            concluded=record["concluded"],
            concluded_by=record["concluded_by"],
            exhibits=tuple(Exhibit(e["uri"], e["sha256"], e["text_digest"]) for e in record["exhibits"]),
            revision=record["revision"],
            notice=record["notice"],
            rows=tuple(record["rows"]),
            detail=dict(record["detail"]),
        )


def to_text(moment: datetime) -> str:
    """RFC 3339 in UTC, always with six digits of a second: texts order as the times do.

    Raises:
        InputDataError: for a time without zone.
    """
    if moment.tzinfo is None:
        raise InputDataError(f"a time has no zone: {moment}", remedy="Give times with an offset or Z.")
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f") + "Z"


def to_time(text: str) -> datetime:
    """The inverse of `to_text`; reads any RFC 3339 time with an offset, and a date as its midnight in UTC.

    Raises:
        InputDataError: if the text is no time, or has no offset.
    """
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise InputDataError(f"{text!r} is not a time", remedy="Write 2026-11-22 or 2026-11-22T08:30:00Z.") from error
    if moment.tzinfo is None:
        if len(text) > len("2026-11-22"):
            raise InputDataError(f"{text!r} has no time zone", remedy="Add an offset or Z.")
        moment = moment.replace(tzinfo=UTC)
    return moment.astimezone(UTC)
