"""The access ledger: who looked at which eval items, and what was decided on their results (modes M6, M12).

    access/<eval_set>/<sha256>.json    one act; created once, named by its hash

Every record names the newest records before it. Records are never deleted by the platform; one deleted by hand leaves a hole that
the next reader sees, unless nothing was recorded after it.

A ledger begins with a refresh: the record of the items that entered the set. Without any record nobody knows who looked.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Any, Literal

from ftplatform.errors import CorruptArtifact, StoreError
from ftplatform.store import records
from ftplatform.store.backend import Backend
from ftplatform.store.names import asset_name, digest_name

SCHEMA = "ftplatform.access/1"

#: Items of an act on the whole set.
ALL: Literal["all"] = "all"

_PREFIX = "access"
_MAX_CHARS = 2000
#: How many records a new one names: as many as may be written at the same time without one of them staying unnamed.
_NAMED = 8


class AccessLogError(StoreError):
    """An access cannot be recorded as asked, or a recorded one breaks the rules."""


class AccessKind(StrEnum):
    """What was done.

    VIEW: somebody read items or results of single items. EXPORT: items left the platform as a file. DECISION: a checkpoint was
    selected or released on aggregate results. REFRESH: items entered the set.
    """

    VIEW = "view"
    EXPORT = "export"
    DECISION = "decision"
    REFRESH = "refresh"


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessRecord:
    """One act.

    Attributes:
        id: SHA-256 of the record.
        eval_set: name of the eval set.
        kind: what was done.
        by, purpose: who and what for.
        at: when (UTC).
        items: row ids of the items seen (view, export) or entered (refresh), sorted; `ALL` for everything in the set at that
            time; empty for a decision.
        snapshot: digest of the snapshot of the eval set, if known.
        adapter: digest of the adapter whose results were looked at or decided on, if there was one.
        after: ids of the newest records before this one.
        token: makes equal acts different records.
    """

    id: str
    eval_set: str
    kind: AccessKind
    by: str
    at: datetime
    purpose: str
    items: tuple[str, ...] | Literal["all"]
    snapshot: str | None
    adapter: str | None
    after: tuple[str, ...]
    token: str

    @property
    def item_level(self) -> bool:
        """Whether single items were seen."""
        return self.kind in (AccessKind.VIEW, AccessKind.EXPORT)

    def to_record(self) -> dict[str, Any]:
        """The document whose SHA-256 is `id`; JSON-able."""
        return {
            "schema": SCHEMA,
            "eval_set": self.eval_set,
            "kind": str(self.kind),
            "by": self.by,
            "at": records.time_to_text(self.at),
            "purpose": self.purpose,
            "items": self.items if self.items == ALL else list(self.items),
            "snapshot": self.snapshot,
            "adapter": self.adapter,
            "after": list(self.after),
            "token": self.token,
        }


def record(
    backend: Backend,
    eval_set: str,
    kind: AccessKind | str,
    *,
    by: str,
    purpose: str,
    items: Iterable[str] | Literal["all"] = (),
    snapshot: str | None = None,
    adapter: str | None = None,
    now: datetime | None = None,
) -> AccessRecord:
    """Append one act to the ledger of an eval set.

    Args:
        items: see `AccessRecord`. A refresh names every item that entered, so that nobody can declare old items fresh wholesale.
        snapshot, adapter: SHA-256 digests.
        now: when it happened, the present by default.

    Raises:
        AccessLogError: if `by` or `purpose` is empty or too long, the kind is unknown, the time has no zone, or the items do not
            fit the kind.
        StoreError: if a name or digest is not valid, or the store does not take the record.
    """
    folder = _folder(eval_set)
    try:
        at, kind = records.utc(now), AccessKind(kind)
    except ValueError as error:
        kinds = ", ".join(AccessKind)
        remedy = f"Use one of {kinds}, and a time with its offset from UTC."
        raise AccessLogError(f"An access to {eval_set}: {error}.", remedy=remedy) from error
    entry = AccessRecord(
        id="",
        eval_set=eval_set,
        kind=kind,
        by=_words(by, "who it was (by)"),
        at=at,
        purpose=_words(purpose, "what it was for (purpose)"),
        items=ALL if items == ALL else _row_ids(items),
        snapshot=snapshot,
        adapter=adapter,
        after=_newest(backend, folder),
        token=uuid.uuid4().hex,
    )
    _require_valid(entry)
    return replace(entry, id=records.create(backend, folder, entry.to_record(), f"Access to {eval_set}"))


def of_set(backend: Backend, eval_set: str) -> list[AccessRecord]:
    """All records of an eval set, oldest first; empty if there is no ledger.

    Raises:
        CorruptArtifact: if a record is missing, damaged, misplaced or breaks the rules: then nobody knows who looked.
    """
    folder = _folder(eval_set)
    documents = records.read_folder(backend, folder)
    found = [_parsed(digest, document, eval_set, f"{backend.url}/{folder}/{digest}.json") for digest, document in documents.items()]
    missing = {before for entry in found for before in entry.after} - documents.keys()
    if missing:
        raise CorruptArtifact(
            f"{len(missing)} record(s) are missing from {backend.url}/{folder}, {min(missing)} among them.",
            remedy="Restore them from a backup; until then nobody knows who looked.",
        )
    return sorted(found, key=lambda entry: (entry.at, entry.id))


def _newest(backend: Backend, folder: str) -> tuple[str, ...]:
    """Digests of the records written last, by the clock of the place."""
    prefix = f"{folder}/"
    names = [
        (entry.modified, name)
        for entry in backend.list(prefix)
        if entry.key.endswith(".json") and "/" not in (name := entry.key[len(prefix) :].removesuffix(".json"))
    ]
    return tuple(sorted(name for _, name in sorted(names)[-_NAMED:]))


def _parsed(digest: str, document: Mapping[str, Any], eval_set: str, where: str) -> AccessRecord:
    if document.get("schema") != SCHEMA:
        raise StoreError(
            f"{where} has the schema {document.get('schema')!r}.", remedy="Use the version of ftplatform that wrote it."
        )
    if document.get("eval_set") != eval_set:
        raise CorruptArtifact(f"{where} is about another eval set.", remedy="Remove it; records are not moved.")
    fields = {key: value for key, value in document.items() if key != "schema"}
    try:
        items = fields["items"]
        fields |= {
            "kind": AccessKind(fields["kind"]),
            "by": _words(fields["by"], "who it was (by)"),
            "purpose": _words(fields["purpose"], "what it was for (purpose)"),
            "at": records.text_to_time(fields["at"]),
            "items": ALL if items == ALL else _row_ids(items),
            "after": tuple(digest_name(before) for before in fields["after"]),
        }
        entry = AccessRecord(**fields, id=digest)
        _require_valid(entry)
    except (KeyError, TypeError, ValueError, StoreError) as error:
        raise CorruptArtifact(f"{where} is no access record: {error}", remedy="Restore it from a backup.") from error
    return entry


def _require_valid(entry: AccessRecord) -> None:
    for digest in (entry.snapshot, entry.adapter):
        if digest is not None:
            digest_name(digest)
    if entry.item_level:
        fits, needed = bool(entry.items), f"the row ids that were seen, or {ALL!r}"
    elif entry.kind is AccessKind.REFRESH:
        fits, needed = bool(entry.items) and entry.items != ALL, "the row ids of all items that entered"
    else:
        fits, needed = not entry.items, "no items: what is decided on single items is a view"
    if not fits:
        raise AccessLogError(f"The items of a {entry.kind} of {entry.eval_set} do not fit it.", remedy=f"Give {needed}.")


def _row_ids(items: Iterable[str]) -> tuple[str, ...]:
    if isinstance(items, str):
        raise AccessLogError(f"{items!r} is not a list of items.", remedy=f"Give a list of row ids, or {ALL!r}.")
    return tuple(sorted({digest_name(item) for item in items}))


def _words(text: str, what: str) -> str:
    words = " ".join(text.split()) if isinstance(text, str) else ""
    if not words or len(words) > _MAX_CHARS:
        raise AccessLogError(
            f"A record of access needs {what}, at most {_MAX_CHARS:,} characters.", remedy="Write it in a sentence."
        )
    return words


def _folder(eval_set: str) -> str:
    return f"{_PREFIX}/{asset_name(eval_set)}"
