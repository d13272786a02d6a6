"""Rehearsals that were held, kept beside the snapshots: a base that was tried and found wanting need not be tried again.

migrations/<adapter asset>/<sha256>.json
"""

from __future__ import annotations

import uuid
from datetime import datetime
from typing import Any

from ftplatform.errors import InputDataError
from ftplatform.migration.rehearsal import Migration
from ftplatform.store import records
from ftplatform.store.backend import Backend

SCHEMA = "ftplatform.migration/1"
_MAX_NAME = 200


def record_migration(backend: Backend, migration: Migration, *, by: str, now: datetime | None = None) -> str:
    """Keep what a rehearsal showed; returns the record's SHA-256.

    Args:
        by: who rehearsed. now: when, the present by default.

    Raises:
        InputDataError: `by` is empty or too long.
        StoreError: the store does not take the record.
    """
    name = by.strip()
    if not name or len(name) > _MAX_NAME:
        raise InputDataError("A rehearsal needs the name of who did it.", remedy="Give --by.")
    document = {
        "schema": SCHEMA,
        "by": name,
        "at": records.time_to_text(records.utc(now)),
        "token": uuid.uuid4().hex,
        **migration.to_record(),
    }
    return records.create(backend, _folder(migration.adapter), document, f"Migration of {migration.adapter}")


def migrations(backend: Backend, asset: str) -> list[dict[str, Any]]:
    """Recorded rehearsals of an adapter with their `id`, oldest first.

    Raises:
        CorruptArtifact: a record is damaged.
    """
    found = [{"id": digest, **document} for digest, document in records.read_folder(backend, _folder(asset)).items()]
    return sorted(found, key=lambda entry: (entry["at"], entry["id"]))


def _folder(asset: str) -> str:
    return f"migrations/{asset}"
