"""Idle time before each request: the one quantity a cold start depends on.

A provider unloads an adapter that nobody has asked for a while. The clock starts when the last answer ends, so a long answer is no idle
time. Adapters are unloaded one by one, so each has its own clock; keep-warm requests reset it like any other.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Integers = NDArray[np.int64]

MICRO = 1_000_000


@dataclass(frozen=True, slots=True)
class Touches:
    """Requests that touch an adapter, sorted by adapter and time; arrays of one length.

    Attributes:
        adapter: number of the adapter.
        start: arrival, seconds since 1970.
        free: when all requests of the adapter so far have ended; the idle clock starts here.
        idle: seconds from `free` of the one before until `start`, at least 0; NaN for the first request of an adapter.
        is_ping: whether it is a keep-warm request.
        first_token: seconds to the first token; NaN where the log does not say.
        names: of the adapters, by number.
    """

    adapter: Integers
    start: Floats
    free: Floats
    idle: Floats
    is_ping: Bools
    first_token: Floats
    names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.start)

    @property
    def user(self) -> Bools:
        """Requests of users whose idle gap is known."""
        return ~self.is_ping & ~np.isnan(self.idle)

    @property
    def days(self) -> float:
        """Time between the first and the last request, in days."""
        return float(self.start.max() - self.start.min()) / 86_400 if len(self) else 0.0


def touches(requests: pa.Table, *, pings: bool = True) -> Touches:
    """Idle times of a request log, whatever its order.

    Args:
        requests: table of `REQUEST_SCHEMA`. Requests of which nobody knows whether they are pings count as users'.
        pings: whether keep-warm requests keep warm; without them the log is as if none had been sent.
    """
    columns = ["time", "adapter", "time_to_first_token", "total", "is_ping"]
    frame = pl.DataFrame(pl.from_arrow(requests.select(columns))).with_columns(pl.col("is_ping").fill_null(False))
    if not pings:
        frame = frame.filter(~pl.col("is_ping"))
    timed = frame.with_columns(pl.col("adapter").fill_null(""), start=pl.col("time").dt.timestamp("us") / MICRO)
    names = timed["adapter"].unique().sort()
    in_order = len(names) <= 1 and timed["start"].is_sorted()
    ordered = timed if in_order else timed.sort("adapter", "start", maintain_order=True)
    adapter = (
        ordered["adapter"].rank("dense").cast(pl.Int64).to_numpy() - 1 if len(names) > 1 else np.zeros(ordered.height, np.int64)
    )
    start = ordered["start"].to_numpy()
    ended = start + ordered["total"].fill_null(0.0).to_numpy()
    # Answers overlap: the clock starts when the last of them has ended, whichever began first. A stretch of its own per adapter makes
    # one running maximum of them all.
    origin = float(start.min()) if len(start) else 0.0
    stretch = adapter * (float(ended.max(initial=origin)) - origin + 1.0)
    free = np.asarray(np.maximum.accumulate(ended - origin + stretch) - stretch + origin, dtype=np.float64)
    first = np.append(True, adapter[1:] != adapter[:-1])[: len(start)]
    idle = np.where(first, np.nan, np.maximum(start - np.roll(free, 1), 0.0))
    first_token = ordered["time_to_first_token"].fill_null(float("nan")).to_numpy()
    return Touches(adapter, start, free, idle, ordered["is_ping"].to_numpy(), first_token, tuple(names.to_list()))


def recent_touches(log: Touches, threshold: float) -> Integers:
    """Per request, how many earlier requests of its adapter ended less than `threshold` seconds before it: 0 means cold.

    With one replica this says no more than `idle > threshold`; with several, each request went to one of them only.
    """
    # One sorted axis for all adapters: each gets a stretch of its own, further apart than any threshold looks back.
    span = (float(log.free.max() - log.start.min()) if len(log) else 0.0) + threshold + 1.0
    free, start = log.free + log.adapter * span, log.start + log.adapter * span
    return np.arange(len(log)) - np.searchsorted(free, start - threshold, side="left")


def idle_gaps(requests: pa.Table) -> dict[str, float | int | None]:
    """Idle seconds before requests of users, as if no pings were sent: how many, median, 90th and 99th percentile, longest."""
    log = touches(requests, pings=False)
    gaps = log.idle[log.user]

    def at(share: float) -> float | None:
        return round(float(np.quantile(gaps, share)), 3) if len(gaps) else None

    return {"gaps": len(gaps), "median": at(0.5), "p90": at(0.9), "p99": at(0.99), "longest": at(1.0)}
