"""Records of CSV and TSV files (RFC 4180, strict): one dict of strings per row, empty cells left out."""

from __future__ import annotations

import csv
import threading
from collections.abc import Iterator

from ftplatform.errors import InputDataError
from ftplatform.rows.decoding import DecodedStream
from ftplatform.rows.quarantine import Quarantined, Reason, raw_excerpt
from ftplatform.rows.raw_records import RawItems, RawRecord, TooLong, lines

# The csv module keeps one process-wide field limit, 128 KiB by default; it is only ever raised.
_FIELD_LIMIT_LOCK = threading.Lock()


class _SkippedLine(Exception):
    def __init__(self, line: TooLong) -> None:
        self.line = line


class _LineFeeder:
    """Feeds decoded lines to the csv module and remembers which lines the current record took.

    An iterator class and not a generator: the csv reader can go on after an exception raised here.
    """

    def __init__(self, source: Iterator[bytes | TooLong]) -> None:
        self._source = source
        self.number = 0
        self.current: list[str] = []

    def __iter__(self) -> _LineFeeder:
        return self

    def __next__(self) -> str:
        line = next(self._source)
        self.number += 1
        if isinstance(line, TooLong):
            raise _SkippedLine(line)
        # Undecodable bytes travel as surrogates, so that the row keeps its shape and is refused as a whole.
        text = line.decode("utf-8", "surrogateescape") + "\n"
        self.current.append(text)
        return text

    def begin(self) -> None:
        self.current = []


def csv_records(stream: DecodedStream, delimiter: str) -> RawItems:
    """Rows of a delimited file with a header line.

    Raises:
        InputDataError: the header is unreadable or names a column twice.
    """
    with _FIELD_LIMIT_LOCK:
        csv.field_size_limit(max(csv.field_size_limit(), stream.limits.line_bytes))
    feeder = _LineFeeder(lines(stream))
    reader = csv.reader(feeder, delimiter=delimiter, strict=True)
    header = _header(reader, feeder, stream)
    if header is None:
        return
    limit = stream.limits.excerpt_chars
    while True:
        feeder.begin()
        first = feeder.number + 1
        try:
            row = next(reader, None)
        except _SkippedLine as skipped:
            if feeder.current:
                text = "".join(feeder.current)
                yield Quarantined(
                    Reason.MALFORMED_CSV, first, "a quoted field runs into a line that is too long", raw_excerpt(text, limit)
                )
            yield skipped.line.refuse(feeder.number, stream)
            continue
        except csv.Error as error:
            last = feeder.number
            where = f"lines {first} to {last}: " if last > first else ""
            yield Quarantined(Reason.MALFORMED_CSV, first, f"{where}{error}", raw_excerpt("".join(feeder.current), limit))
            continue
        if row is None:
            return
        if not row or (len(row) == 1 and not row[0].strip()):
            continue
        text = "".join(feeder.current)
        if any("\ud800" <= character <= "\udfff" for character in text):
            yield Quarantined(Reason.INVALID_UTF8, first, "the row holds bytes that are not valid UTF-8", raw_excerpt(text, limit))
        elif len(row) != len(header):
            yield Quarantined(
                Reason.COLUMN_COUNT, first, f"{len(row)} fields under {len(header)} column names", raw_excerpt(text, limit)
            )
        else:
            yield RawRecord(first, {name: cell for name, cell in zip(header, row, strict=True) if cell != ""}, text.encode())


def _header(reader: Iterator[list[str]], feeder: _LineFeeder, stream: DecodedStream) -> list[str] | None:
    try:
        row = next(reader, None)
        while row is not None and not any(cell.strip() for cell in row):
            row = next(reader, None)
    except (csv.Error, _SkippedLine) as error:
        raise InputDataError(
            f"{stream.name}, line {feeder.number}: the header is not readable.", remedy="Correct the first line."
        ) from error
    if row is None:
        return None
    # pandas writes its index under an empty name.
    names = [cell.strip() or f"column_{position}" for position, cell in enumerate(row, start=1)]
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise InputDataError(f"{stream.name}: column {repeated[0]!r} occurs more than once.", remedy="Rename one of them.")
    if any("\ud800" <= character <= "\udfff" for name in names for character in name):
        raise InputDataError(f"{stream.name}: the header is not valid UTF-8.", remedy="Convert the file to UTF-8.")
    return names
