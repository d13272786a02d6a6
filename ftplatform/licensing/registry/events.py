"""One event of the log: its canonical bytes, its hash, and the hash of the event before it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import orjson
import rfc8785

from ftplatform.canonical import canonical_json, sha256_hex
from ftplatform.errors import CorruptArtifact, FtplatformError, InputDataError
from ftplatform.licensing.states import to_text, to_time
from ftplatform.store.documents import plain

SCHEMA = "ftplatform.license-event/1"
PREFIX = "events/"

#: What the first event gives as the hash of the event before it.
GENESIS = "0" * 64

_KIND = re.compile(r"[a-z][a-z_]{0,63}")
_KEY = re.compile(rf"{PREFIX}(\d{{12}})\.json")
_TYPES: Mapping[str, type] = {
    "schema": str,
    "seq": int,
    "last": int,
    "previous": str,
    "kind": str,
    "recorded_at": str,
    "body": dict,
    "token": str,
}


class ChainError(CorruptArtifact):
    """The event log was changed or lost an event. `seq` is the number of the event at fault."""

    def __init__(self, seq: int, message: str) -> None:
        self.seq = seq
        super().__init__(message, remedy=f"Restore {event_key(seq)} from a backup, and find out who could write there.")


@dataclass(frozen=True, slots=True)
class Event:
    """One event.

    Attributes:
        seq: its number, from 1 without gaps.
        last: number of the last event that was appended together with it.
        previous: SHA-256 of the bytes of event ``seq - 1``.
        kind: what `body` holds, e.g. ``terms``.
        recorded_at: when it was appended, by the writer's clock.
        token: of the append; makes its bytes unlike those of any other writer.
        data: RFC 8785 bytes, as stored.
        sha256: of `data`.
    """

    seq: int
    last: int
    previous: str
    kind: str
    recorded_at: datetime
    body: Mapping[str, Any]
    token: str
    data: bytes = field(repr=False)
    sha256: str


def event_key(seq: int) -> str:
    """Key of the event with this number."""
    return f"{PREFIX}{seq:012d}.json"


def event_number(key: str) -> int | None:
    """The number of the event under a key; None if the key is none of an event."""
    match = _KEY.fullmatch(key)
    return int(match[1]) if match else None


def check_body(kind: str, body: Mapping[str, Any]) -> dict[str, Any]:
    """`body` in plain JSON types.

    Raises:
        StoreError: naming the key that has no portable JSON form.
        InputDataError: if `kind` is not lower-case letters and '_'.
    """
    if not _KIND.fullmatch(kind):
        raise InputDataError(f"{kind!r} is not a kind of event.", remedy="Use lower-case letters and '_'.")
    return plain(body, f"event of kind {kind}")


def make_event(seq: int, last: int, previous: str, kind: str, recorded_at: datetime, body: Mapping[str, Any], token: str) -> Event:
    """An event with its bytes and hash; `body` as `check_body` returns it."""
    document = {
        "schema": SCHEMA,
        "seq": seq,
        "last": last,
        "previous": previous,
        "kind": kind,
        "recorded_at": to_text(recorded_at),
        "body": body,
        "token": token,
    }
    data = canonical_json(document)
    return Event(seq, last, previous, kind, recorded_at, body, token, data, sha256_hex(data))


def parse_event(data: bytes, seq: int, where: str) -> Event:
    """The event stored as number `seq`.

    Raises:
        ChainError: if the bytes are not the canonical bytes of an event with that number.
    """
    try:
        document = orjson.loads(data)
        if not isinstance(document, dict) or canonical_json(document) != data:
            raise ValueError("these are not canonical bytes")
        if document.keys() != _TYPES.keys() or any(type(document[name]) is not kind for name, kind in _TYPES.items()):
            raise ValueError("these are not the fields of an event")
        if document["schema"] != SCHEMA:
            raise ValueError(f"the schema is {document['schema']!r}, this version reads {SCHEMA!r}")
        if document["seq"] != seq or document["last"] < seq:
            raise ValueError(f"it says it is event {document['seq']} of a group up to {document['last']}")
        recorded_at = to_time(document["recorded_at"])
    except (ValueError, RecursionError, rfc8785.CanonicalizationError, FtplatformError) as error:
        raise ChainError(seq, f"{where}: event {seq} was changed: {error}.") from error
    return Event(
        seq,
        document["last"],
        document["previous"],
        document["kind"],
        recorded_at,
        document["body"],
        document["token"],
        data,
        sha256_hex(data),
    )
