"""Records of a JSON document (one array or object), split without loading the document.

A scanner follows strings and brackets only, cuts out the bytes of each element, and leaves the judgement of every element to
the strict parser. So one bad record costs one record, and a document of any size costs the memory of one record.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import chain

import orjson

from ftplatform.rows.decoding import DecodedStream
from ftplatform.rows.quarantine import Malformed, Quarantined, Reason, raw_excerpt
from ftplatform.rows.raw_records import Capped, IsRecord, RawItems, RawRecord, TooLong, jsonl_records, parse_json
from ftplatform.rows.strict_json import parse_record

# What lies between two bytes that matter: anything without structure, and whole strings without escapes. Possessive, so linear.
_PLAIN = re.compile(rb'(?:[^"\[\]{},]++|"[^"\\]*+")*+')
_PLAIN_INSIDE = re.compile(rb'(?:[^"\[\]{}]++|"[^"\\]*+")*+')
_STRING_END = re.compile(rb'["\\]')
_BLANK = b" \t\r\n"
# Lists with these names are part of one record, never a list of records.
_RECORD_LISTS = {"messages", "conversations", "conversation", "chosen", "rejected", "prompt", "completion", "history"}


def json_document_records(stream: DecodedStream, is_record: IsRecord) -> RawItems:
    """Records of a `.json` file.

    Accepted shapes: an array of records; an object whose values are records (its keys become `source_id`); an object holding
    arrays of records among other members, which are ignored; a single record, told by `is_record`; JSON Lines under this suffix.
    """
    chunks = stream.text_chunks()
    # Enough to see a whole line or a whole small document; no more than one record may weigh.
    head = b""
    for chunk in chunks:
        head += chunk
        if len(head) > stream.limits.line_bytes:
            break
    whole = len(head) <= stream.limits.line_bytes
    body = head.lstrip(_BLANK)
    rest = chain([head], chunks)
    if body.startswith(b"{"):
        first_line, _, remainder = body.partition(b"\n")
        if remainder.strip(_BLANK) and _parses(first_line):
            return jsonl_records(stream, rest)
        if whole:
            return _small_object(body.rstrip(_BLANK), rest, stream, is_record)
        return _members(rest, stream)
    if body.startswith(b"["):
        return _elements(rest, stream)
    return iter([parse_json(body[: stream.limits.line_bytes].rstrip(_BLANK), 1, stream)] if body else [])


def _parses(raw: bytes) -> bool:
    try:
        return isinstance(orjson.loads(raw), dict)
    except orjson.JSONDecodeError:
        return False


def _small_object(body: bytes, rest: Iterator[bytes], stream: DecodedStream, is_record: IsRecord) -> RawItems:
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError:
        return _members(rest, stream)
    if not is_record(value):
        return _members(rest, stream)
    return iter([parse_json(body, 1, stream)])


class _Scanner:
    """Cuts a document into the elements at `depth` of nesting, one level at a time."""

    def __init__(self, chunks: Iterator[bytes], limit: int) -> None:
        self._chunks = chunks
        self._limit = limit
        self.chunk = b""
        self.position = 0

    def _more(self) -> bool:
        while True:
            chunk = next(self._chunks, None)
            if chunk is None:
                return False
            if chunk:
                self.chunk, self.position = chunk, 0
                return True

    def peek(self) -> bytes:
        """The next byte that is not blank, not consumed; empty at the end."""
        while True:
            while self.position < len(self.chunk):
                byte = self.chunk[self.position : self.position + 1]
                if byte not in (b" ", b"\t", b"\r", b"\n"):
                    return byte
                self.position += 1
            if not self._more():
                return b""

    def element(self, stop_at_list: bool = False) -> tuple[bytes | TooLong, bytes]:
        """Everything up to the next comma or closing bracket of this level, and that byte, consumed; no byte at the end of input.

        With `stop_at_list`, an opening ``[`` on this level also ends the element: the caller wants to walk through that list.
        """
        collected = Capped(self._limit)
        depth, in_string, escaped = 0, False, False
        start = self.position
        while True:
            if self.position >= len(self.chunk):
                collected.add(self.chunk[start:])
                if not self._more():
                    self.chunk, self.position = b"", 0
                    return collected.take(), b""
                start = 0
            if escaped:
                escaped = False
                self.position += 1
                continue
            if in_string:
                found = _STRING_END.search(self.chunk, self.position)
                self.position = found.end() if found is not None else len(self.chunk)
                if found is not None:
                    escaped = in_string = found.group() == b"\\"
                continue
            found = (_PLAIN_INSIDE if depth else _PLAIN).match(self.chunk, self.position)
            place = found.end() if found is not None else self.position
            byte = self.chunk[place : place + 1]
            self.position = place + 1
            if not byte:
                self.position = place
            elif byte == b'"':
                in_string = True
            elif depth == 0 and (byte in b"]}," or (byte == b"[" and stop_at_list)):
                collected.add(self.chunk[start:place])
                return collected.take(), byte
            elif byte in b"[{":
                depth += 1
            elif byte in b"]}":
                depth -= 1

    def drain(self) -> bytes:
        """Consumes the rest of the input and returns its beginning."""
        rest = Capped(0)
        rest.add(self.chunk[self.position :])
        while self._more():
            rest.add(self.chunk)
        self.chunk, self.position = b"", 0
        taken = rest.take()
        return taken.head if isinstance(taken, TooLong) else taken


def _judge(raw: bytes | TooLong, number: int, stream: DecodedStream) -> RawRecord | Quarantined:
    return raw.refuse(number, stream) if isinstance(raw, TooLong) else parse_json(raw.strip(_BLANK), number, stream)


def _cut_off(raw: bytes | TooLong, number: int, stream: DecodedStream) -> Quarantined:
    head = raw.head if isinstance(raw, TooLong) else raw
    return Quarantined(
        Reason.TRUNCATED,
        number,
        "the document ends inside this record",
        raw_excerpt(head.strip(_BLANK), stream.limits.excerpt_chars),
    )


def _is_blank(raw: bytes | TooLong) -> bool:
    return isinstance(raw, bytes) and not raw.strip(_BLANK)


def _list_items(scanner: _Scanner, stream: DecodedStream, number: int) -> Iterator[RawRecord | Quarantined]:
    """The elements of the list whose ``[`` was just consumed; positions follow `number`."""
    first = True
    while True:
        raw, end = scanner.element()
        if end == b"":
            yield _cut_off(raw, number + 1, stream)
            return
        if not (_is_blank(raw) and end == b"]" and first):
            number += 1
            yield _judge(raw, number, stream)
        first = False
        if end != b",":
            return


def _elements(chunks: Iterator[bytes], stream: DecodedStream) -> RawItems:
    scanner = _Scanner(chunks, stream.limits.line_bytes)
    scanner.peek()
    scanner.position += 1
    number = 0
    for item in _list_items(scanner, stream, 0):
        number = item.position
        yield item
    yield from _trailing(scanner, number, stream)


def _trailing(scanner: _Scanner, number: int, stream: DecodedStream) -> RawItems:
    if scanner.peek():
        excerpt = raw_excerpt(scanner.drain(), stream.limits.excerpt_chars)
        yield Quarantined(Reason.TRAILING_DATA, number + 1, "text after the end of the document", excerpt)


def _members(chunks: Iterator[bytes], stream: DecodedStream) -> RawItems:
    """Records among the members of a top-level object."""
    scanner = _Scanner(chunks, stream.limits.line_bytes)
    scanner.peek()
    scanner.position += 1
    number = 0
    while True:
        raw, end = scanner.element(stop_at_list=True)
        if end == b"[":
            key = _key(raw)
            if scanner.peek() == b"{" and key not in _RECORD_LISTS:
                for item in _list_items(scanner, stream, number):
                    number = item.position
                    yield item
            else:
                # A list of plain values beside the records, or part of one huge record.
                skipped = _skip_list(scanner)
                if key in _RECORD_LISTS:
                    number += 1
                    message = f"one record with a list {key!r} of {skipped:,} bytes; the limit is {stream.limits.line_bytes:,}"
                    excerpt = raw_excerpt(raw if isinstance(raw, bytes) else raw.head, stream.limits.excerpt_chars)
                    yield Quarantined(Reason.LINE_TOO_LONG, number, message, excerpt)
            _, end = scanner.element()
            if end == b",":
                continue
            if end == b"":
                yield _cut_off(b"", number + 1, stream)
                return
            break
        if end == b"":
            yield _cut_off(raw, number + 1, stream)
            return
        if isinstance(raw, TooLong):
            number += 1
            yield raw.refuse(number, stream)
        elif not _is_blank(raw):
            item = _member(raw, number + 1, stream)
            if item is not None:
                number += 1
                yield item
        if end != b",":
            break
    yield from _trailing(scanner, number, stream)


def _key(raw: bytes | TooLong) -> str:
    try:
        return str(orjson.loads((raw if isinstance(raw, bytes) else raw.head).strip(_BLANK).removesuffix(b":").strip(_BLANK)))
    except orjson.JSONDecodeError:
        return ""


def _skip_list(scanner: _Scanner) -> int:
    length = 0
    while True:
        raw, end = scanner.element()
        length += len(raw) if isinstance(raw, bytes) else raw.length
        if end != b",":
            return length


def _member(raw: bytes, number: int, stream: DecodedStream) -> RawRecord | Quarantined | None:
    """The record of ``"key": {...}``; None for a member that is no object."""
    try:
        parsed = parse_record(b"{" + raw + b"}", stream.limits.depth + 1)
    except Malformed as malformed:
        return Quarantined(malformed.reason, number, malformed.message, raw_excerpt(raw.strip(_BLANK), stream.limits.excerpt_chars))
    key, value = next(iter(parsed.items()), ("", None))
    if not isinstance(value, dict):
        return None
    return RawRecord(number, {"source_id": key, **value}, raw.strip(_BLANK))
