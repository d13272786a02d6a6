"""Request logs of an endpoint: reading them, and the two views every question about cold starts begins with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl
import pyarrow as pa

from ftplatform.errors import ProjectError
from ftplatform.rows.quarantine import Malformed, Reason
from ftplatform.rows.record_tables import RecordTable, flag, moment, number, read_record_table, text, whole_number
from ftplatform.rows.sources import SourceFile

#: One line per request. Times in seconds; `is_ping` marks keep-warm requests, which are no traffic.
REQUEST_SCHEMA = pa.schema(
    [
        pa.field("time", pa.timestamp("us", tz="UTC"), nullable=False),
        pa.field("adapter", pa.string()),
        pa.field("time_to_first_token", pa.float64()),
        pa.field("total", pa.float64()),
        pa.field("output_tokens", pa.int64()),
        pa.field("is_ping", pa.bool_()),
    ]
)
_COLUMNS = {
    "time": moment,
    "adapter": text,
    "time_to_first_token": number,
    "total": number,
    "output_tokens": whole_number,
    "is_ping": flag,
}
#: Keys of public traces, by our column.
KNOWN_LAYOUTS: Mapping[str, Mapping[str, str]] = {"azure": {"time": "TIMESTAMP", "output_tokens": "GeneratedTokens"}}


def read_requests(files: Sequence[SourceFile], *, source: str = "serving", fields: Mapping[str, str] | None = None) -> RecordTable:
    """Records of `REQUEST_SCHEMA`, in file order.

    Args:
        fields: column to the log's key; ``{"layout": "azure"}`` names one of `KNOWN_LAYOUTS` instead.

    Raises:
        ProjectError: unknown layout.
        InputDataError: a file as a whole is unusable.
    """
    mapping = dict(fields or {})
    if "layout" in mapping:
        layout = mapping.pop("layout")
        if layout not in KNOWN_LAYOUTS:
            raise ProjectError(
                f"unknown log layout {layout!r}.", remedy=f"Use one of {', '.join(KNOWN_LAYOUTS)}, or map the columns."
            )
        mapping = {**KNOWN_LAYOUTS[layout], **mapping}
    return read_record_table(files, REQUEST_SCHEMA, _COLUMNS, source=source, fields=mapping, check=_check)


def _check(request: dict[str, Any]) -> None:
    for name in ("time_to_first_token", "total", "output_tokens"):
        if request[name] is not None and request[name] < 0:
            raise Malformed(Reason.NUMBER_OUT_OF_RANGE, f"{name} is negative")


def hour_of_week(requests: pa.Table) -> pa.Table:
    """Traffic by hour of the week (0 is Monday 00:00 UTC, 167 Sunday 23:00): hour, requests, hours observed, requests per hour.

    Pings are left out. An hour is observed as often as it lies between those of the first and the last request; hours never
    observed have null rates rather than zero.
    """
    frame = _users(requests)
    if frame.is_empty():
        return pa.table(
            {"hour": list(range(168)), "requests": [0] * 168, "observed": [0] * 168, "rate": pa.nulls(168, pa.float64())}
        )
    observed = frame.select(
        time=pl.datetime_range(pl.col("time").min().dt.truncate("1h"), pl.col("time").max(), "1h", time_zone="UTC")
    )
    counted = _hours(frame).group_by("hour").agg(requests=pl.len().cast(pl.Int64))
    seen = _hours(observed).group_by("hour").agg(observed=pl.len().cast(pl.Int64))
    hours = pl.DataFrame({"hour": pl.int_range(168, eager=True)})
    joined = (
        hours.join(counted, on="hour", how="left")
        .join(seen, on="hour", how="left")
        .with_columns(pl.col("requests", "observed").fill_null(0))
    )
    rate = pl.when(pl.col("observed") > 0).then(pl.col("requests") / pl.col("observed"))
    return joined.with_columns(rate=rate).sort("hour").to_arrow()


def idle_gaps(requests: pa.Table) -> dict[str, float | int | None]:
    """Seconds between consecutive requests per adapter, pings left out: how many, median, 90th and 99th percentile, longest."""
    frame = _users(requests).sort("adapter", "time")
    gaps = frame.select(gap=(pl.col("time").diff().over("adapter").dt.total_microseconds() / 1e6))["gap"].drop_nulls()

    def at(share: float) -> float | None:
        value = gaps.quantile(share, interpolation="linear") if len(gaps) else None
        return None if value is None else round(float(value), 3)

    return {"gaps": len(gaps), "median": at(0.5), "p90": at(0.9), "p99": at(0.99), "longest": at(1.0)}


def _users(requests: pa.Table) -> pl.DataFrame:
    return pl.DataFrame(pl.from_arrow(requests)).filter(~pl.col("is_ping").fill_null(False))


def _hours(frame: pl.DataFrame) -> pl.DataFrame:
    return frame.select(hour=((pl.col("time").dt.weekday().cast(pl.Int64) - 1) * 24 + pl.col("time").dt.hour().cast(pl.Int64)))
