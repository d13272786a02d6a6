"""One look of a watcher: what it saw, what it must remember, and whether it really looked.

A watcher keeps nothing itself. What it must remember is a cursor: a JSON-able mapping that goes into a look and comes out of it, so a
sensor can store it anywhere. A look that changes nothing reports no observation; a look that failed leaves the terms as they were.

What answers again is reported as `ACTIVE`, never as `REINSTATED`: a page that is back retracts no claim, only a person or a notice does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ftplatform.licensing.evidence import Evidence
from ftplatform.licensing.states import Exhibit, TermsObservation

Cursor = Mapping[str, Any]

#: Gives the bytes read at an earlier look by their SHA-256, or None; whoever stores `Look.documents` can answer.
Archive = Callable[[str], bytes | None]


def no_archive(_sha256: str) -> bytes | None:
    """The archive of a caller that keeps no documents; changes are found, but cannot be shown word by word."""
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """Result of one look.

    Attributes:
        source: what was looked at.
        cursor: to be passed to the next look.
        looked: True if the terms were seen, changed or not; only then the dead-man's clock of the source starts anew.
        observations: for the ledger; empty if nothing changed.
        problem: for people, if the look failed or saw less than it should; one clause.
        documents: bytes that were read, by SHA-256; keep them, they are the evidence.
    """

    source: str
    cursor: Cursor
    looked: bool
    observations: tuple[TermsObservation, ...] = ()
    problem: str | None = None
    documents: Mapping[str, bytes] = field(default_factory=dict)


def exhibit(evidence: Evidence) -> Exhibit:
    """An exhibit from evidence."""
    return Exhibit(evidence.path, evidence.sha256, evidence.text_digest)
