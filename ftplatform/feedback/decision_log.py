"""What people said of feedback, kept line by line: annotations, adjudications and reviews.

A log is a JSON Lines file to which lines are only ever added. Each line names the SHA-256 of the line before it, so an edited, removed
or inserted line breaks the chain at a place that the error names. Lines missing at the end cannot be seen from the file alone.

    {"at": "2026-01-05T09:30:00.000000Z", "by": "kim", "event_id": "e17", ..., "previous": "9f86d0..."}
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any, TypeVar

from ftplatform.canonical import canonical_json, sha256_hex
from ftplatform.errors import InputDataError
from ftplatform.feedback.events import CorrectionKind, Intent
from ftplatform.rows.quarantine import Malformed
from ftplatform.rows.strict_json import parse_record

_MAX_DEPTH = 4


class Ruling(StrEnum):
    """What an adjudicator decided of an event."""

    ACCEPT = "accept"
    REJECT = "reject"


class Quality(StrEnum):
    """Would you ship this target?"""

    SHIP = "ship"
    DEFECT = "defect"


@dataclass(frozen=True, slots=True, kw_only=True)
class Annotation:
    """What one annotator, who saw nobody else's codes, calls an event.

    Attributes:
        event_id: which event.
        by, at: who said it, and when (UTC).
        intent_code: why somebody objected.
        correction_kind: what the correction field holds.
    """

    event_id: str
    by: str
    at: datetime
    intent_code: Intent
    correction_kind: CorrectionKind


@dataclass(frozen=True, slots=True, kw_only=True)
class Adjudication:
    """What holds of an event from now on; a later one replaces it.

    Attributes:
        event_id, by, at: as in `Annotation`.
        decision: whether its correction may become a target. To accept means that `by` has read it and stands for it.
        intent_code, correction_kind: what it is; None leaves what the event says.
        why: one sentence for the next reader.
    """

    event_id: str
    by: str
    at: datetime
    decision: Ruling
    intent_code: Intent | None = None
    correction_kind: CorrectionKind | None = None
    why: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Review:
    """What somebody who audits the curated rows says of one.

    Attributes:
        row_id: which row; another text is another row.
        by, at: as in `Annotation`.
        quality: whether it would be shipped as it is.
        why: what is wrong with it.
    """

    row_id: str
    by: str
    at: datetime
    quality: Quality
    why: str = ""


Entry = TypeVar("Entry", bound=Annotation | Adjudication | Review)

#: Columns of an entry to the codes they may hold; the others are text.
_CODES: dict[str, type[StrEnum]] = {
    "intent_code": Intent,
    "correction_kind": CorrectionKind,
    "decision": Ruling,
    "quality": Quality,
}
_OPTIONAL = {Annotation: (), Adjudication: ("intent_code", "correction_kind", "why"), Review: ("why",)}


def read_log(path: Path, kind: type[Entry]) -> list[Entry]:
    """All entries of a log, oldest first; none if there is no file yet.

    Raises:
        InputDataError: naming file and line of the first that is no entry, does not follow the one before, or is older than it.
    """
    return _read(path, kind)[0]


def append(path: Path, entries: Iterable[Entry], kind: type[Entry]) -> int:
    """Add entries to a log, made if there is none; returns how many were added.

    One process writes at a time (a lock file beside it), and a crash leaves the log with all of the entries or none of them.

    Raises:
        InputDataError: as `read_log`: nothing is added behind a broken chain. Also if an entry is older than the last line.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.with_name(f"{path.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        known, previous, content = _read(path, kind)
        last = known[-1].at if known else None
        lines = [content]
        for entry in entries:
            if last is not None and entry.at < last:
                raise InputDataError(
                    f"{path}: an entry of {_time(entry.at)} cannot follow one of {_time(last)}.", remedy="Correct the clock."
                )
            record = {name: _plain(value) for name, value in asdict(entry).items() if value is not None}
            lines.append(canonical_json({**record, "previous": previous}) + b"\n")
            previous, last = sha256_hex(lines[-1][:-1]), entry.at
        if len(lines) > 1:
            _replace(path, b"".join(lines))
    return len(lines) - 1


def latest(entries: Sequence[Entry], key: Callable[[Entry], Any]) -> dict[Any, Entry]:
    """The last entry of each key."""
    return {key(entry): entry for entry in entries}


def now() -> datetime:
    """The present, as entries hold it."""
    return datetime.now(UTC)


def _replace(path: Path, content: bytes) -> None:
    written = path.with_name(f"{path.name}.new")
    with written.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    written.replace(path)


def _read(path: Path, kind: type[Entry]) -> tuple[list[Entry], str, bytes]:
    """The entries, the digest of the last line, and the bytes, which end in a line feed."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return [], "", b""
    except OSError as error:
        raise InputDataError(f"{path} cannot be read: {error}.", remedy="Name a file this user may read.") from error
    entries: list[Entry] = []
    previous = ""
    for number, written in enumerate(content.split(b"\n"), 1):
        # A checkout on another system may have put carriage returns there.
        line = written.rstrip(b"\r")
        if not line:
            continue
        where = f"{path}, line {number}"
        try:
            record = parse_record(line, _MAX_DEPTH)
            entry = _entry(record, kind)
        except (Malformed, ValueError) as error:
            message = error.message if isinstance(error, Malformed) else str(error)
            raise InputDataError(f"{where}: {message}.", remedy=_remedy(kind)) from error
        if record.get("previous") != previous:
            raise InputDataError(
                f"{where} does not follow the line before it: one of the two was changed, or a line between them is gone.",
                remedy="Restore the file from version control; add decisions with `ftplatform feedback import`.",
            )
        if entries and entry.at < entries[-1].at:
            raise InputDataError(f"{where} is older than the line before it.", remedy="Lines are in the order they were added.")
        entries.append(entry)
        previous = sha256_hex(line)
    return entries, previous, content if not content or content.endswith(b"\n") else content + b"\n"


def _entry(record: Any, kind: type[Entry]) -> Entry:
    if not isinstance(record, dict):
        raise ValueError("not a JSON object")
    names = set(kind.__slots__)
    if unknown := sorted(set(record) - names - {"previous"}):
        raise ValueError(f"unknown key {unknown[0]!r}")
    values: dict[str, Any] = {}
    for name in kind.__slots__:
        given = record.get(name)
        if given is None or given == "":
            if name not in _OPTIONAL[kind]:
                raise ValueError(f"{name} is missing")
            continue
        if not isinstance(given, str):
            raise ValueError(f"{name} must be text, not {type(given).__name__}")
        values[name] = _parsed(name, given)
    return kind(**values)


def _parsed(name: str, given: str) -> Any:
    if name == "at":
        moment = datetime.fromisoformat(given)
        if moment.tzinfo is None:
            raise ValueError(f"the time {given} has no zone")
        return moment.astimezone(UTC)
    if name in _CODES:
        allowed = _CODES[name]
        if given not in set(allowed):
            raise ValueError(f"{name} is {given[:40]!r}; allowed: {', '.join(allowed)}")
        return allowed(given)
    return given


def _plain(value: Any) -> Any:
    return _time(value) if isinstance(value, datetime) else str(value)


def _time(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def _remedy(kind: type[Any]) -> str:
    return f"A line holds {', '.join(kind.__slots__)} and previous; write it with `ftplatform feedback import`."
