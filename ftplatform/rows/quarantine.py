"""Quarantine: what happens to a record that cannot become a row. It is kept with its reason and counted, never dropped."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from types import TracebackType
from typing import Self

import pyarrow as pa


class Reason(StrEnum):
    """Why a record was refused. The codes are stable: dashboards and waivers count by them."""

    INVALID_UTF8 = "invalid_utf8"
    INVALID_JSON = "invalid_json"
    NOT_AN_OBJECT = "not_an_object"
    NON_FINITE_NUMBER = "non_finite_number"
    NUMBER_OUT_OF_RANGE = "number_out_of_range"
    DUPLICATE_KEY = "duplicate_key"
    TOO_DEEP = "too_deep"
    LONE_SURROGATE = "lone_surrogate"
    LINE_TOO_LONG = "line_too_long"
    TRUNCATED = "truncated"
    TRAILING_DATA = "trailing_data"
    MALFORMED_CSV = "malformed_csv"
    COLUMN_COUNT = "column_count"
    UNKNOWN_LAYOUT = "unknown_layout"
    MISSING_FIELD = "missing_field"
    WRONG_TYPE = "wrong_type"
    EMPTY_CONTENT = "empty_content"
    NO_MESSAGES = "no_messages"
    NO_TARGET = "no_target"
    UNKNOWN_ROLE = "unknown_role"
    UNSUPPORTED_CONTENT = "unsupported_content"
    TRAINABLE_ROLE = "trainable_role"
    INVALID_TIMESTAMP = "invalid_timestamp"
    INVALID_SURFACE = "invalid_surface"


class Malformed(Exception):
    """Raised while one record is being converted; the reading loop turns it into a `Quarantined`."""

    def __init__(self, reason: Reason, message: str) -> None:
        self.reason = reason
        self.message = message
        super().__init__(f"{reason}: {message}")


@dataclass(frozen=True, slots=True)
class Quarantined:
    """A refused record.

    Attributes:
        reason: the code.
        position: 1-based line number (line formats) or record number (JSON documents, Parquet) in the file.
        message: one sentence for people; names the key or the value at fault.
        excerpt: the beginning of the raw record as text, undecodable bytes as ``\\xNN``. Data like the source: mask before showing.
    """

    reason: Reason
    position: int
    message: str
    excerpt: str


QUARANTINE_SCHEMA = pa.schema(
    [
        pa.field("source", pa.string(), nullable=False),
        pa.field("file", pa.string(), nullable=False),
        pa.field("position", pa.int64(), nullable=False),
        pa.field("reason", pa.string(), nullable=False),
        pa.field("message", pa.string(), nullable=False),
        pa.field("excerpt", pa.string(), nullable=False),
    ]
)


def raw_excerpt(raw: bytes | str, limit: int) -> str:
    """The beginning of a raw record as storable text of at most `limit` characters.

    Text may hold undecodable bytes in the `surrogateescape` form; they come out as ``\\xNN``.
    """
    if isinstance(raw, str):
        try:
            raw = raw[:limit].encode("utf-8", "surrogateescape")
        except UnicodeEncodeError:
            raw = raw[:limit].encode("utf-8", "backslashreplace")
    return raw[: 4 * limit].decode("utf-8", "backslashreplace")[:limit]


class QuarantineLog:
    """Collects refused records in bounded memory: full batches go, compressed, to an unnamed temporary file."""

    _BATCH = 2_000

    def __init__(self, source: str) -> None:
        self._source = source
        self._pending: list[tuple[str, Quarantined]] = []
        self._spill = tempfile.TemporaryFile(prefix="ftplatform-quarantine-")  # noqa: SIM115 - closed by close()
        self._spilled: list[tuple[int, int]] = []  # stored and decoded size of each batch
        self.by_reason: Counter[str] = Counter()

    def add(self, file: str, refused: Quarantined) -> None:
        """Keeps one record."""
        self.by_reason[str(refused.reason)] += 1
        self._pending.append((file, refused))
        if len(self._pending) >= self._BATCH:
            plain = self._to_batch().serialize()
            stored = pa.compress(plain, codec="zstd", asbytes=True)
            self._spill.seek(0, 2)
            self._spill.write(stored)
            self._spilled.append((len(stored), plain.size))
            self._pending = []

    def _to_batch(self) -> pa.RecordBatch:
        columns = [
            [self._source] * len(self._pending),
            [file for file, _ in self._pending],
            [refused.position for _, refused in self._pending],
            [str(refused.reason) for _, refused in self._pending],
            [refused.message for _, refused in self._pending],
            [refused.excerpt for _, refused in self._pending],
        ]
        arrays = [pa.array(values, type=field.type) for values, field in zip(columns, QUARANTINE_SCHEMA, strict=True)]
        return pa.RecordBatch.from_arrays(arrays, schema=QUARANTINE_SCHEMA)

    def batches(self) -> Iterator[pa.RecordBatch]:
        """All records in the order they were refused."""
        position = 0
        for stored_size, plain_size in self._spilled:
            self._spill.seek(position)
            plain = pa.decompress(self._spill.read(stored_size), plain_size, codec="zstd")
            yield pa.ipc.read_record_batch(plain, QUARANTINE_SCHEMA)
            position += stored_size
        if self._pending:
            yield self._to_batch()

    def table(self) -> pa.Table:
        """All records as one table with `QUARANTINE_SCHEMA`."""
        return pa.Table.from_batches(list(self.batches()), schema=QUARANTINE_SCHEMA)

    def close(self) -> None:
        """Frees the temporary file."""
        self._spill.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()
