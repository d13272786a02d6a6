"""Flat records that are not training rows (events, rewards, requests) as a typed table, with the same quarantine as rows."""

from __future__ import annotations

import datetime
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from ftplatform.rows.decoding import ByteBudget
from ftplatform.rows.file_kinds import open_file, raw_records
from ftplatform.rows.limits import ReadLimits
from ftplatform.rows.quarantine import Malformed, Quarantined, QuarantineLog, Reason
from ftplatform.rows.raw_records import RawRecord
from ftplatform.rows.reading import ReadCounts
from ftplatform.rows.sources import SourceFile

#: Turns the value of a record's key into what the column holds; raises `Malformed`.
Parse = Callable[[str, Any], Any]


@dataclass(frozen=True, slots=True)
class RecordTable:
    """Attributes:
    table: the kept records.
    quarantine: the refused ones (`QUARANTINE_SCHEMA`).
    counts: ``kept + quarantined == read``.
    """

    table: pa.Table
    quarantine: pa.Table
    counts: ReadCounts


def read_record_table(
    files: Sequence[SourceFile],
    schema: pa.Schema,
    columns: Mapping[str, Parse],
    *,
    source: str,
    fields: Mapping[str, str] | None = None,
    check: Callable[[dict[str, Any]], None] | None = None,
    limits: ReadLimits | None = None,
) -> RecordTable:
    """Read flat records.

    A column whose schema field is not nullable is required. Keys of the record that no column names are ignored.

    Args:
        columns: column name to parser, in the order of `schema`.
        source: name in quarantine entries.
        fields: column name to the file's key, where they differ.
        check: rules across columns; raises `Malformed`.

    Raises:
        InputDataError: a file as a whole is unusable.
    """
    limits = limits or ReadLimits()
    renamed = dict(fields or {})
    budget = ByteBudget(limits.total_bytes)
    log = QuarantineLog(source)
    kept: list[dict[str, Any]] = []
    read = 0
    for file in files:
        with open_file(file, limits, budget) as opened:
            for item in raw_records(opened, lambda _value: True):
                read += 1
                if isinstance(item, Quarantined):
                    log.add(file.uri, item)
                    continue
                try:
                    kept.append(_record(item, schema, columns, renamed, check))
                except Malformed as malformed:
                    log.add(file.uri, item.refuse(malformed, limits.excerpt_chars))
    by_reason = dict(sorted(log.by_reason.items()))
    quarantine = log.table()
    log.close()
    counts = ReadCounts(read, len(kept), sum(by_reason.values()), by_reason)
    return RecordTable(pa.Table.from_pylist(kept, schema=schema), quarantine, counts)


def _record(
    item: RawRecord,
    schema: pa.Schema,
    columns: Mapping[str, Parse],
    renamed: Mapping[str, str],
    check: Callable[[dict[str, Any]], None] | None,
) -> dict[str, Any]:
    if not isinstance(item.value, dict):
        raise Malformed(Reason.NOT_AN_OBJECT, f"a {type(item.value).__name__}, not an object")
    record: dict[str, Any] = {}
    for name, parse in columns.items():
        key = renamed.get(name, name)
        value = item.value.get(key)
        if value is None or value == "":
            if not schema.field(name).nullable:
                raise Malformed(Reason.MISSING_FIELD, f"{key} is missing")
            record[name] = None
        else:
            record[name] = parse(key, value)
    if check is not None:
        check(record)
    return record


def text(key: str, value: Any) -> str:
    """A string; numbers are taken as they are written."""
    if isinstance(value, str | int) and not isinstance(value, bool):
        return str(value)
    raise Malformed(Reason.WRONG_TYPE, f"{key} must be text, not {type(value).__name__}")


def number(key: str, value: Any) -> float:
    """A finite number; CSV files hold it as text."""
    try:
        parsed = float(value) if isinstance(value, str | int | float) and not isinstance(value, bool) else math.nan
    except ValueError:
        parsed = math.nan
    if not math.isfinite(parsed):
        raise Malformed(Reason.WRONG_TYPE, f"{key} must be a finite number, not {str(value)[:40]!r}")
    return parsed


def whole_number(key: str, value: Any) -> int:
    """A number without a fraction."""
    parsed = number(key, value)
    if parsed != int(parsed):
        raise Malformed(Reason.WRONG_TYPE, f"{key} must be a whole number, not {parsed}")
    return int(parsed)


def flag(key: str, value: Any) -> bool:
    """True or false; also 0/1 and their spellings."""
    known = {"true": True, "false": False, "1": True, "0": False, "yes": True, "no": False}
    found = known.get(str(value).lower())
    if found is None:
        raise Malformed(Reason.WRONG_TYPE, f"{key} must be true or false, not {str(value)[:40]!r}")
    return found


def texts(key: str, value: Any) -> list[str]:
    """A list of strings; a single string is a list of one."""
    items: Iterable[Any] = [value] if isinstance(value, str) else value
    if not isinstance(items, list):
        raise Malformed(Reason.WRONG_TYPE, f"{key} must be a list of texts")
    return [text(key, item) for item in items]


def moment(key: str, value: Any) -> datetime.datetime:
    """A point in time: ISO 8601, or seconds since 1970; without a zone it is UTC."""
    try:
        if isinstance(value, int | float) and not isinstance(value, bool):
            return datetime.datetime.fromtimestamp(value, datetime.UTC)
        # Some logs write seven digits of a second; Python reads six.
        whole, dot, rest = str(value).partition(".")
        digits = rest[: next((i for i, c in enumerate(rest) if not c.isdigit()), len(rest))]
        parsed = datetime.datetime.fromisoformat(f"{whole}{dot}{digits[:6]}{rest[len(digits) :]}")
    except (ValueError, OverflowError, OSError) as error:
        raise Malformed(Reason.INVALID_TIMESTAMP, f"{key} is not a time: {str(value)[:40]!r}") from error
    return parsed if parsed.tzinfo else parsed.replace(tzinfo=datetime.UTC)


def one_of(*allowed: str) -> Parse:
    """A parser that accepts only these words."""

    def parse(key: str, value: Any) -> str:
        if str(value) not in allowed:
            raise Malformed(Reason.WRONG_TYPE, f"{key} is {str(value)[:40]!r}; allowed: {', '.join(allowed)}")
        return str(value)

    return parse
