"""Raw records: what every file kind yields before anyone asks what a record means."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

from ftplatform.rows.decoding import DecodedStream
from ftplatform.rows.quarantine import Malformed, Quarantined, Reason, raw_excerpt
from ftplatform.rows.strict_json import parse_record


@dataclass(frozen=True, slots=True)
class RawRecord:
    """One parsed record.

    Attributes:
        position: 1-based line number, or record number in JSON documents and Parquet.
        value: what was parsed; an object (dict) unless the file is odd.
        raw: its bytes, where the format has them; only used to show an excerpt.
    """

    position: int
    value: Any
    raw: bytes | None = field(default=None, repr=False)

    def refuse(self, malformed: Malformed, excerpt_chars: int) -> Quarantined:
        """The quarantine entry of this record."""
        raw = self.raw if self.raw is not None else orjson.dumps(self.value, default=str)
        return Quarantined(malformed.reason, self.position, malformed.message, raw_excerpt(raw, excerpt_chars))


RawItems = Iterator[RawRecord | Quarantined]


@dataclass(frozen=True, slots=True)
class TooLong:
    """A line over the cap, already skipped: its beginning and its length in bytes."""

    head: bytes
    length: int

    def refuse(self, position: int, stream: DecodedStream) -> Quarantined:
        """The quarantine entry of this line."""
        return Quarantined(
            Reason.LINE_TOO_LONG,
            position,
            f"{self.length:,} bytes; the limit is {stream.limits.line_bytes:,}",
            raw_excerpt(self.head, stream.limits.excerpt_chars),
        )


class Capped:
    """Collects the pieces of one record; beyond the cap it only counts."""

    __slots__ = ("_head", "_limit", "_pieces", "length")
    _HEAD = 4_096

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._pieces: list[bytes] = []
        self._head = b""
        self.length = 0

    def add(self, piece: bytes) -> None:
        self.length += len(piece)
        if self.length <= self._limit:
            self._pieces.append(piece)
        elif self._pieces or not self._head:
            self._head = b"".join([*self._pieces, piece[: self._HEAD]])[: self._HEAD]
            self._pieces = []

    def take(self) -> bytes | TooLong:
        """The record, and an empty collector again."""
        result: bytes | TooLong = b"".join(self._pieces) if self.length <= self._limit else TooLong(self._head, self.length)
        self._pieces, self._head, self.length = [], b"", 0
        return result


def lines(stream: DecodedStream, chunks: Iterator[bytes] | None = None) -> Iterator[bytes | TooLong]:
    """Lines without their line feed (a carriage return stays), in memory bounded by the line cap."""
    pending = Capped(stream.limits.line_bytes)
    for chunk in chunks if chunks is not None else stream.text_chunks():
        first, *rest = chunk.split(b"\n")
        pending.add(first)
        if rest:
            yield pending.take()
            *middle, last = rest
            for line in middle:
                if len(line) > stream.limits.line_bytes:
                    pending.add(line)
                    yield pending.take()
                else:
                    yield line
            pending.add(last)
    if pending.length:
        yield pending.take()


def parse_json(raw: bytes, position: int, stream: DecodedStream) -> RawRecord | Quarantined:
    """One strict JSON record, or why not."""
    try:
        return RawRecord(position, parse_record(raw, stream.limits.depth), raw)
    except Malformed as malformed:
        return Quarantined(malformed.reason, position, malformed.message, raw_excerpt(raw, stream.limits.excerpt_chars))


def jsonl_records(stream: DecodedStream, chunks: Iterator[bytes] | None = None) -> RawItems:
    """One JSON record a line; blank lines are no records."""
    for number, line in enumerate(lines(stream, chunks), start=1):
        if isinstance(line, TooLong):
            yield line.refuse(number, stream)
        elif stripped := line.strip(b" \t\r"):
            yield parse_json(stripped, number, stream)


def text_records(stream: DecodedStream) -> RawItems:
    """One document a line as ``{"text": ...}``; blank lines are no records."""
    for number, line in enumerate(lines(stream), start=1):
        if isinstance(line, TooLong):
            yield line.refuse(number, stream)
            continue
        stripped = line.strip(b" \t\r")
        if not stripped:
            continue
        try:
            yield RawRecord(number, {"text": stripped.decode("utf-8")}, stripped)
        except UnicodeDecodeError as error:
            message = f"byte 0x{stripped[error.start]:02x} at offset {error.start} is not valid UTF-8"
            yield Quarantined(Reason.INVALID_UTF8, number, message, raw_excerpt(stripped, stream.limits.excerpt_chars))


#: Says whether a JSON document that is one object is itself a record (and not a container of records).
IsRecord = Callable[[Mapping[str, Any]], bool]
