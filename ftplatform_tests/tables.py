"""Small row tables for tests, without a file."""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Sequence
from typing import Any

import pyarrow as pa

from ftplatform.rows.schema import ROW_SCHEMA, Role, Surface, row_id

FIRST_SEEN = datetime.datetime(2024, 1, 1, tzinfo=datetime.UTC)


def row(*said: str | tuple[str, str], **columns: Any) -> dict[str, Any]:
    """One row of `ROW_SCHEMA`. Plain strings alternate user, assistant, user, ...; pairs name their role."""
    messages = []
    for position, text in enumerate(said):
        role, content = text if isinstance(text, tuple) else ((Role.USER, Role.ASSISTANT)[position % 2], text)
        messages.append({"role": str(role), "content": content, "trainable": role == Role.ASSISTANT})
    source = columns.pop("source", "src")
    return {
        "row_id": row_id(messages),
        "messages": messages,
        "source": source,
        "origins": [source],
        "parents": [],
        "slices": [],
        "author": None,
        "group": None,
        "surface": str(Surface.CURATION),
        "created_at": None,
        "first_seen_at": FIRST_SEEN,
        "meta": "{}",
        **columns,
    }


def table(rows: Iterable[dict[str, Any]]) -> pa.Table:
    """Table of `ROW_SCHEMA`."""
    return pa.Table.from_pylist(list(rows), schema=ROW_SCHEMA)


def asked(texts: Sequence[str], **columns: Any) -> pa.Table:
    """One row with a single user turn per text."""
    return table(row(text, **columns) for text in texts)
