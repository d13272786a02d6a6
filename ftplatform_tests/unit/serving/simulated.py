"""Simulated request logs of an endpoint whose adapter is unloaded after a known idle time."""

from __future__ import annotations

import datetime

import numpy as np
import pyarrow as pa

from ftplatform.serving.request_log import REQUEST_SCHEMA

MONDAY = datetime.datetime(2024, 1, 1, tzinfo=datetime.UTC)

#: Requests per minute by hour of the day: 228,000 a day, four quiet hours, and two in which five idle minutes are rare.
QUIET_HOURS = (2, 3, 4, 5)
PER_MINUTE = np.array([1.28 if h in (1, 6) else 0.05 if h in QUIET_HOURS else 211.0 for h in range(24)])


def arrivals(rng: np.random.Generator, days: int = 1, per_minute: np.ndarray = PER_MINUTE) -> np.ndarray:
    """Poisson arrivals in seconds from Monday, with the rate of their hour of the day."""
    counts = rng.poisson(np.tile(per_minute * 60, days))
    hours = np.repeat(np.arange(24 * days), counts)
    return np.sort(hours * 3600.0 + rng.random(len(hours)) * 3600)


def served(
    rng: np.random.Generator,
    at: np.ndarray,
    threshold: float | np.ndarray = 300.0,
    *,
    jitter: float = 0.0,
    spikes: float = 0.0,
    pings: np.ndarray | None = None,
    warm: float = 0.42,
    cold: float = 3.6,
) -> pa.Table:
    """Requests of `REQUEST_SCHEMA` at these seconds.

    Args:
        threshold: idle seconds after which a request is cold; an array gives one per request.
        jitter: standard deviation of the log of the threshold.
        spikes: share of requests that are slow for another reason.
        pings: which requests are pings; none by default.
    """
    gaps = np.diff(at, prepend=at[0] - 1)
    limit = np.asarray(threshold) * np.exp(rng.normal(0, jitter, len(at)) if jitter else 0.0)
    first = rng.lognormal(np.log(warm), 0.27, len(at))
    first += np.where(gaps > limit, rng.lognormal(np.log(cold), 0.1, len(at)), 0.0)
    first += np.where(rng.random(len(at)) < spikes, rng.exponential(4.0, len(at)), 0.0)
    return table(at, first_token=first, pings=pings)


def table(
    at: np.ndarray,
    *,
    first_token: np.ndarray | None = None,
    total: np.ndarray | None = None,
    pings: np.ndarray | None = None,
    adapter: str = "support",
) -> pa.Table:
    """Requests at these seconds from Monday."""
    n = len(at)
    micros = int(MONDAY.timestamp()) * 1_000_000 + np.round(at * 1e6).astype(np.int64)
    columns = {
        "time": pa.array(micros, pa.timestamp("us")).cast(pa.timestamp("us", tz="UTC")),
        "adapter": pa.array([adapter] * n, pa.string()),
        "time_to_first_token": pa.nulls(n, pa.float64()) if first_token is None else pa.array(first_token),
        "total": pa.nulls(n, pa.float64()) if total is None else pa.array(total),
        "output_tokens": pa.nulls(n, pa.int64()),
        "is_ping": pa.array(np.zeros(n, bool) if pings is None else pings),
        "request_id": pa.array([f"r{i}" for i in range(n)], pa.string()),
        "prompt": pa.nulls(n, pa.string()),
    }
    return pa.table(columns, schema=REQUEST_SCHEMA)
