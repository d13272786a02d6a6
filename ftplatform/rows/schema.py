"""The row: Arrow schema, identity, and the constants other packages share (SPEC 2.6)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import StrEnum

import orjson
import pyarrow as pa

from ftplatform.canonical import sha256_hex


class Role(StrEnum):
    """Who speaks. Every text check declares which of these it reads."""

    SYSTEM = "system"
    USER = "user"
    ASSISTANT = "assistant"
    TOOL = "tool"


class Surface(StrEnum):
    """Where a row came into being. `DEBUG` rows are never trainable (mode M4)."""

    CURATION = "curation"
    PRODUCTION = "production"
    DEBUG = "debug"
    SYNTHETIC = "synthetic"
    EVAL = "eval"


MESSAGE_TYPE = pa.struct(
    [
        pa.field("role", pa.string(), nullable=False),
        pa.field("content", pa.string(), nullable=False),
        pa.field("trainable", pa.bool_(), nullable=False),
    ]
)

#: Parts of messages that are read and not learned: position of the message in its row, and characters of its content.
MASKED_TYPE = pa.struct(
    [
        pa.field("turn", pa.int64(), nullable=False),
        pa.field("start", pa.int64(), nullable=False),
        pa.field("end", pa.int64(), nullable=False),
    ]
)

#: Such parts by row, beside a table of rows. A mask decides how a text is used, not which text it is: ids stay as they are.
MASKS_SCHEMA = pa.schema([pa.field("row_id", pa.string(), nullable=False), *MASKED_TYPE])

_TIMESTAMP = pa.timestamp("us", tz="UTC")

#: One row per training example. Lists are never null, only empty. `meta` is a JSON object as text.
ROW_SCHEMA = pa.schema(
    [
        pa.field("row_id", pa.string(), nullable=False),
        pa.field("messages", pa.list_(MESSAGE_TYPE), nullable=False),
        pa.field("source", pa.string(), nullable=False),
        pa.field("origins", pa.list_(pa.string()), nullable=False),
        pa.field("parents", pa.list_(pa.string()), nullable=False),
        pa.field("slices", pa.list_(pa.string()), nullable=False),
        pa.field("author", pa.string()),
        pa.field("group", pa.string()),
        pa.field("surface", pa.string(), nullable=False),
        pa.field("created_at", _TIMESTAMP),
        pa.field("first_seen_at", _TIMESTAMP),
        pa.field("meta", pa.string(), nullable=False),
    ]
)


def row_id(messages: Iterable[Mapping[str, object]]) -> str:
    """Identity of a row: SHA-256 (hex) of the RFC 8785 form of its ``[{"content", "role"}, ...]``.

    The `trainable` mask is left out on purpose: masking a span decides how a text is used, not which text it is, and a
    takedown must find the text whatever its mask. Snapshots hash all columns, so a changed mask still changes the closure.

    Raises:
        ValueError: if a text holds a lone surrogate (it has no UTF-8 form).
    """
    # For objects of strings with sorted keys, orjson's output *is* the RFC 8785 form (tested against rfc8785) at 20x the speed.
    try:
        return sha256_hex(orjson.dumps([{"content": m["content"], "role": str(m["role"])} for m in messages]))
    except orjson.JSONEncodeError as error:
        raise ValueError(f"text is not valid Unicode: {error}") from error
