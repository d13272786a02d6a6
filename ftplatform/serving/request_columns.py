"""From parsed log records to typed columns, a batch at a time.

Log lines come by the million, so what has its usual form is converted by column; only values of another form are parsed one by one,
and refused with a reason if they have none.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import polars as pl
import pyarrow as pa

from ftplatform.rows.quarantine import Malformed, Reason
from ftplatform.rows.record_tables import Parse, flag, moment, number, text, whole_number

#: One line per request. Times in seconds. `is_ping` marks keep-warm requests, which are no traffic; `prompt` is kept of those only.
REQUEST_SCHEMA = pa.schema(
    [
        pa.field("time", pa.timestamp("us", tz="UTC"), nullable=False),
        pa.field("adapter", pa.string()),
        pa.field("time_to_first_token", pa.float64()),
        pa.field("total", pa.float64()),
        pa.field("output_tokens", pa.int64()),
        pa.field("is_ping", pa.bool_()),
        pa.field("request_id", pa.string()),
        pa.field("prompt", pa.string()),
    ]
)
#: None of these can be less than nothing.
_AMOUNTS = ("time_to_first_token", "total", "output_tokens")
#: Longest time a request may take, in seconds: a unit mistaken for seconds would stretch it over the gaps after it.
_MAX_SECONDS = 7 * 24 * 3600.0
_PROMPT_CHARS = 2_000
_MAX_EPOCH = 9e12
#: When requests can have been: a clock that was never set says 1970, and one line of the year 9999 would make the log eight millennia long.
_FIRST, _LAST = datetime.datetime(2000, 1, 1, tzinfo=datetime.UTC), datetime.datetime(2100, 1, 1, tzinfo=datetime.UTC)
_MOMENT = r"^(\d{4}-\d\d-\d\d)[T ](\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?(?:(Z)|([+-]\d\d):?(\d\d))?$"


def to_requests(records: Sequence[Any], fields: Mapping[str, str]) -> tuple[pa.Table, dict[int, Malformed]]:
    """The readable ones of `records` as a table of `REQUEST_SCHEMA`, and why the others are not, by position.

    Args:
        records: parsed log records; what is no object is refused.
        fields: column to the record's key, where they differ.
    """
    refused: dict[int, Malformed] = {
        at: Malformed(Reason.NOT_AN_OBJECT, f"a {type(record).__name__}, not an object")
        for at, record in enumerate(records)
        if not isinstance(record, dict)
    }
    objects = [record if isinstance(record, dict) else {} for record in records]
    columns: dict[str, pl.Series] = {}
    for name, (parse, fast, dtype) in _COLUMNS.items():
        key = fields.get(name, name)
        values = [None if (value := record.get(key)) == "" else value for record in objects]
        columns[name], problems = _column(key, values, parse, fast, dtype)
        for at, problem in problems.items():
            refused.setdefault(at, problem)
    frame = pl.DataFrame(columns)
    for at in frame["time"].is_null().arg_true():
        refused.setdefault(at, Malformed(Reason.MISSING_FIELD, f"{fields.get('time', 'time')} is missing"))
    for at in (~frame["time"].is_between(_FIRST, _LAST)).fill_null(False).arg_true():
        refused.setdefault(at, Malformed(Reason.INVALID_TIMESTAMP, "no request was made before 2000 or after 2100"))
    for name in _AMOUNTS:
        for at in (frame[name] < 0).fill_null(False).arg_true():
            refused.setdefault(at, Malformed(Reason.NUMBER_OUT_OF_RANGE, f"{name} is negative"))
    for name in ("time_to_first_token", "total"):
        for at in (frame[name] > _MAX_SECONDS).fill_null(False).arg_true():
            message = f"{name} is longer than a week; it is given in seconds"
            refused.setdefault(at, Malformed(Reason.NUMBER_OUT_OF_RANGE, message))
    kept = frame.with_row_index("at").filter(~pl.col("at").is_in(list(refused))).drop("at") if refused else frame
    return kept.with_columns(pl.col("prompt").str.slice(0, _PROMPT_CHARS)).to_arrow().cast(REQUEST_SCHEMA), refused


def _column(
    key: str, values: list[Any], parse: Parse, fast: Callable[[list[Any]], pl.Series], dtype: Any
) -> tuple[pl.Series, dict[int, Malformed]]:
    given = [value is not None for value in values]
    if not any(given):
        return pl.Series(key, [None] * len(values), dtype=dtype), {}
    try:
        column = fast(values)
    except (pa.ArrowInvalid, pa.ArrowTypeError, pl.exceptions.PolarsError, TypeError, OverflowError):
        column = pl.Series(key, [None] * len(values), dtype=dtype)  # mixed kinds of values: one by one
    problems: dict[int, Malformed] = {}
    open_ = (column.is_null() & pl.Series(given)).arg_true().to_list()
    if open_:
        patched = column.to_list()
        for at in open_:
            try:
                patched[at] = parse(key, values[at])
            except Malformed as malformed:
                problems[at] = malformed
        column = pl.Series(key, patched, dtype=dtype)
    return column, problems


def _moments(values: list[Any]) -> pl.Series:
    """ISO 8601 with up to nine digits of a second (UTC without a zone), or seconds since 1970. Null where the text has another form."""
    if not any(isinstance(value, str) for value in values):
        seconds = pl.Series("time", pa.array(_only(values, int, float), pa.float64()))
        # Beyond what a moment of 64 bits can hold; the parser of one value says why.
        known = seconds.set((seconds.abs() > _MAX_EPOCH).fill_null(False), None)
        return (known * 1e6).round().cast(pl.Int64).cast(pl.Datetime("us", "UTC"))
    written = pl.Series("t", pa.array(values, pa.string()))
    parts = pl.DataFrame({"t": written}).select(pl.col("t").str.extract_groups(_MOMENT).alias("g")).unnest("g")
    day, clock, fraction, _, hours, minutes = (pl.col(name) for name in parts.columns)
    whole = pl.concat_str(day, pl.lit("T"), clock).str.to_datetime("%Y-%m-%dT%H:%M:%S", time_unit="us", strict=False)
    micros = fraction.str.slice(0, 6).str.pad_end(6, "0").cast(pl.Int64).fill_null(0)
    sign = pl.when(hours.str.starts_with("-")).then(-1).otherwise(1)
    offset = (hours.cast(pl.Int64) * 3600 + sign * minutes.cast(pl.Int64) * 60).fill_null(0)
    moved = whole + pl.duration(microseconds=micros) - pl.duration(seconds=offset)
    return parts.select(moved.dt.replace_time_zone("UTC").alias("time"))["time"]


def _only(values: list[Any], *kinds: type) -> list[Any]:
    """`values` if they are of these very kinds; Arrow would take true for 1 and cut 1.5 to 1.

    Raises:
        TypeError: one is not.
    """
    if not {type(value) for value in values} <= {*kinds, type(None)}:
        raise TypeError("mixed kinds of values")
    return values


def _numbers(values: list[Any]) -> pl.Series:
    if any(isinstance(value, str) for value in values):
        column = pl.Series("n", pa.array(values, pa.string())).cast(pl.Float64, strict=False)
    else:
        column = pl.Series("n", pa.array(_only(values, int, float), pa.float64()))
    return column.set(~column.is_finite().fill_null(True), None)


def _whole_numbers(values: list[Any]) -> pl.Series:
    if any(isinstance(value, str) for value in values):
        return pl.Series("n", pa.array(values, pa.string())).cast(pl.Int64, strict=False)
    return pl.Series("n", pa.array(_only(values, int), pa.int64()))


def _flags(values: list[Any]) -> pl.Series:
    return pl.Series("f", pa.array(values, pa.bool_()))


def _texts(values: list[Any]) -> pl.Series:
    return pl.Series("s", pa.array(values, pa.string()))


_COLUMNS: Mapping[str, tuple[Parse, Callable[[list[Any]], pl.Series], Any]] = {
    "time": (moment, _moments, pl.Datetime("us", "UTC")),
    "adapter": (text, _texts, pl.String),
    "time_to_first_token": (number, _numbers, pl.Float64),
    "total": (number, _numbers, pl.Float64),
    "output_tokens": (whole_number, _whole_numbers, pl.Int64),
    "is_ping": (flag, _flags, pl.Boolean),
    "request_id": (text, _texts, pl.String),
    "prompt": (text, _texts, pl.String),
}
