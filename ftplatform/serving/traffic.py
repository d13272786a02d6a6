"""Traffic by hour of the week, with intervals: the profile that cold starts follow."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

HOURS = 168
_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")


def hour_of_week(requests: pa.Table, *, timezone: str = "UTC", confidence: float = 0.95) -> pa.Table:
    """Traffic of users by hour of the week, 0 being Monday 00:00 to 00:59.

    Returns:
        168 rows: hour; requests; observed (how often the hour was seen); exposure (hours of it between the first and the last request,
        as the first and the last hour are seen in part); rate (requests per hour) with the bounds low and high of its Gamma interval.
        An hour that was never seen has null rates, not zero.

    Source of the interval: F. Garwood, Biometrika 28 (1936) 437 (exact for Poisson counts, by the Gamma distribution).
    """
    frame = pl.DataFrame(pl.from_arrow(requests.select(["time", "is_ping"]))).filter(~pl.col("is_ping").fill_null(False))
    hours = pl.DataFrame({"hour": pl.int_range(HOURS, eager=True)})
    if frame.is_empty():
        nothing = [pl.lit(None, pl.Float64).alias(name) for name in ("rate", "low", "high")]
        zero = [pl.lit(0, pl.Int64).alias("requests"), pl.lit(0, pl.Int64).alias("observed"), pl.lit(0.0).alias("exposure")]
        return hours.with_columns(*zero, *nothing).to_arrow()
    clock = pl.datetime_range(pl.col("time").min().dt.truncate("1h"), pl.col("time").max(), "1h", time_zone="UTC")
    # Parts of an hour that lie before the first or after the last request were not observed.
    begun = pl.max_horizontal(pl.col("from"), pl.lit(frame["time"].min()))
    ended = pl.min_horizontal(pl.col("from") + pl.duration(hours=1), pl.lit(frame["time"].max()))
    seen = frame.select(clock.alias("from")).with_columns(exposure=(ended - begun).dt.total_microseconds() / 3.6e9)
    counted = frame.group_by(_hour("time", timezone)).agg(requests=pl.len().cast(pl.Int64))
    spans = seen.group_by(_hour("from", timezone)).agg(observed=pl.len().cast(pl.Int64), exposure=pl.col("exposure").sum())
    joined = hours.join(counted, on="hour", how="left").join(spans, on="hour", how="left").sort("hour")
    profile = joined.with_columns(pl.col("requests", "observed").fill_null(0), pl.col("exposure").fill_null(0.0))
    profile = profile.select("hour", "requests", "observed", "exposure")
    low, high = poisson_bounds(profile["requests"].to_numpy(), confidence)
    exposure = pl.when(pl.col("exposure") > 0).then("exposure")
    bounds = profile.with_columns(low=pl.Series(low), high=pl.Series(high))
    return bounds.select(
        *profile.columns,
        rate=pl.col("requests") / exposure,
        low=pl.col("low") / exposure,
        high=pl.col("high") / exposure,
    ).to_arrow()


def poisson_bounds(
    counts: NDArray[np.float64] | NDArray[np.int64], confidence: float, dispersion: float = 1.0
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Exact bounds of the mean of Poisson counts; with `dispersion` > 1, of counts that vary that much more than Poisson ones.

    An expected count is no whole number; it is rounded down for the lower bound, so that less than one may be none.
    """
    from scipy.special import gammaincinv

    tail = (1 - confidence) / 2
    scaled = np.asarray(counts, dtype=np.float64) / dispersion
    whole = np.floor(scaled + 1e-9)
    low = np.where(whole > 0, gammaincinv(np.maximum(whole, 1.0), tail), 0.0)
    return low * dispersion, gammaincinv(scaled + 1, 1 - tail) * dispersion


def hours_of(seconds: NDArray[np.float64], timezone: str = "UTC") -> NDArray[np.int64]:
    """Hour of the week of moments given in seconds since 1970."""
    moments = pl.Series("time", (seconds * 1e6).astype(np.int64)).cast(pl.Datetime("us", "UTC"))
    return pl.DataFrame({"time": moments}).select(_hour("time", timezone))["hour"].to_numpy()


def hour_name(hour: int) -> str:
    """``Mon 03:00`` for 3."""
    return f"{_DAYS[hour // 24]} {hour % 24:02d}:00"


def hour_ranges(hours: Iterable[int]) -> str:
    """Hours of the week as people write them: ``Mon 02-06, Tue 02-06``; days with the same hours are put together."""
    by_day: dict[int, list[int]] = {}
    for hour in sorted(set(hours)):
        by_day.setdefault(hour // 24, []).append(hour % 24)
    same: dict[str, list[int]] = {}
    for day, clock in by_day.items():
        same.setdefault(", ".join(f"{first:02d}-{last + 1:02d}" for first, last in _runs(clock)), []).append(day)
    parts = []
    for text, days in same.items():
        named = ["-".join(dict.fromkeys((_DAYS[first], _DAYS[last]))) for first, last in _runs(days)]
        parts.append(f"{'/'.join(named)} {text}")
    return "; ".join(parts)


def _runs(numbers: list[int]) -> list[tuple[int, int]]:
    found: list[tuple[int, int]] = []
    for number in numbers:
        if found and number == found[-1][1] + 1:
            found[-1] = (found[-1][0], number)
        else:
            found.append((number, number))
    return found


def _hour(column: str, timezone: str) -> pl.Expr:
    local = pl.col(column).dt.convert_time_zone(timezone)
    return ((local.dt.weekday().cast(pl.Int64) - 1) * 24 + local.dt.hour().cast(pl.Int64)).alias("hour")
