"""The two pictures of M3: which hours are cold, and after which gap the first token is slow."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from ftplatform.plots.canvas import AXIS, BLUE, GRID, INK, LIMIT, MUTED, VERMILION, WIDTH, Canvas, no_data
from ftplatform.plots.scale import Scale, format_number
from ftplatform.serving.idle import Bools, Floats, Touches
from ftplatform.serving.idle_threshold import Threshold
from ftplatform.serving.traffic import hour_ranges

DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")

#: From sure to be warm to sure to be cold; the cell says the number as well.
_SCALE = ("#f3f6f9", "#fbe3d6", "#f5b895", "#e88450", "#d55e00", "#8f3f00")
_NONE = "#e3e6ea"
_MAX_POINTS = 900


def shade(share: float) -> int:
    """Step of the color scale for a probability: 0 below 1 %, then 5, 20, 50 and 80 %."""
    return sum(share >= limit for limit in (0.01, 0.05, 0.2, 0.5, 0.8))


def heat_map(hours: pa.Table, *, title: str = "Probability that a request is cold, by hour of the week") -> str:
    """SVG of seven days by 24 hours; numbers are percent.

    Args:
        hours: `ColdStarts.hours`.
    """
    rows = hours.to_pylist()
    if not any(row["requests"] for row in rows):
        return no_data(title)
    red = [row["hour"] for row in rows if (row["p_low"] or 0) > 0.05]
    canvas = Canvas(title, f"Lower bound above 5 %: {hour_ranges(red) or 'no hour'}.", 284)
    canvas.text(20, 28, canvas.title, size=15, bold=True)
    left, top, width, height = 62.0, 56.0, 26.4, 26.0
    for hour in range(0, 24, 2):
        canvas.text(left + (hour + 0.5) * width, top - 6, f"{hour:02d}", size=11, anchor="middle", color=MUTED)
    for day, name in enumerate(DAYS):
        canvas.text(left - 10, top + (day + 0.65) * height, name, size=11, anchor="end", color=MUTED)
    for row in rows:
        x, y = left + row["hour"] % 24 * width, top + row["hour"] // 24 * height
        share = row["p_cold"]
        step = None if share is None else shade(share)
        canvas.rect(x, y, width - 1.5, height - 1.5, _NONE if step is None else _SCALE[step], radius=2)
        label = "" if share is None else "<1" if 0.0005 < share < 0.01 else f"{100 * share:.0f}"
        light = step is not None and step >= 5
        canvas.text(
            x + width / 2 - 0.75, y + height / 2 + 3, label, size=9, anchor="middle", color="#ffffff" if light else INK, room=width
        )
    y = top + 7 * height + 16
    for i, label in enumerate(("below 1 %", "1 to 5", "5 to 20", "20 to 50", "50 to 80", "80 and more", "no request")):
        x = left + i * 92
        canvas.rect(x, y, 12, 12, _SCALE[i] if i < len(_SCALE) else _NONE, radius=2)
        canvas.text(x + 17, y + 10, label, size=10, color=MUTED, room=74)
    return canvas.render()


def gap_plot(
    idle: Floats,
    first_token: Floats,
    slow: Bools,
    threshold: Threshold | None,
    *,
    title: str = "Time to first token after an idle gap",
) -> str:
    """SVG of time to first token over the gap before it, both logarithmic, with the threshold and its bounds.

    All slow requests are drawn, up to a third of the points; of the others the longest gaps and an even sample.

    Args:
        idle, first_token: seconds, shape (n,); pairs that are not known are left out.
        slow: which requests count as slow.
    """
    known = np.isfinite(idle) & np.isfinite(first_token) & (idle > 0) & (first_token > 0)
    if not known.any():
        return no_data(title)
    warm = np.flatnonzero(known & ~slow)
    warm = warm[np.argsort(idle[warm], kind="stable")]
    third = _MAX_POINTS // 3
    shown = np.concatenate([_thin(warm[:-third], third), warm[-third:], _thin(np.flatnonzero(known & slow), third)])
    said = "No threshold." if threshold is None else f"Threshold {format_number(threshold.seconds)} s."
    canvas = Canvas(title, f"{int(known.sum()):,} requests, {int((known & slow).sum()):,} slow. {said}", 366)
    canvas.text(20, 28, canvas.title, size=15, bold=True)
    left, right, top, bottom = 84.0, WIDTH - 30.0, 54.0, 304.0
    xs = _log_scale(idle[shown], left, right)
    ys = _log_scale(first_token[shown], bottom, top)
    for tick in ys.ticks:
        canvas.line(left, ys(tick), right, ys(tick), GRID)
        canvas.text(left - 8, ys(tick) + 4, format_number(10**tick), size=11, anchor="end", color=MUTED)
    for tick in xs.ticks:
        canvas.line(xs(tick), top, xs(tick), bottom, GRID)
        canvas.text(xs(tick), bottom + 17, format_number(10**tick), size=11, anchor="middle", color=MUTED)
    canvas.line(left, bottom, right, bottom, AXIS)
    canvas.text((left + right) / 2, bottom + 36, "idle seconds before the request", anchor="middle", color=MUTED)
    canvas.text(18, (top + bottom) / 2, "seconds to first token", anchor="middle", color=MUTED, turned=True, room=bottom - top)
    if threshold is not None:
        low, middle, high = (xs(math.log10(value)) for value in (threshold.low, threshold.seconds, threshold.high))
        if high > low:
            canvas.path([(low, bottom), (low, top), (high, top), (high, bottom)], LIMIT, width=0.5, fill=LIMIT, opacity=0.1)
        canvas.line(middle, top - 4, middle, bottom, LIMIT, width=1.5, dash="5 3")
        text = f"{'fitted' if threshold.fitted else 'declared'} threshold {format_number(threshold.seconds)} s"
        canvas.text(middle - 6, top + 8, text, size=11, anchor="end", color=LIMIT)
    for i in shown.tolist():
        x, y = xs(math.log10(idle[i])), ys(math.log10(first_token[i]))
        if slow[i]:
            canvas.diamond(x, y, 3.5, VERMILION)
        else:
            canvas.circle(x, y, 1.6, BLUE)
    canvas.text(left, 352, "diamonds: slow to the first token", size=11, color=MUTED)
    return canvas.render()


def _thin(at: np.ndarray, limit: int) -> np.ndarray:
    return at if len(at) <= limit else at[np.linspace(0, len(at) - 1, limit).astype(np.int64)]


def _log_scale(values: Floats, start: float, end: float) -> Scale:
    """Powers of ten around the values."""
    low, high = math.floor(math.log10(values.min())), math.ceil(math.log10(values.max()) + 1e-9)
    high = max(high, low + 1)
    step = max(1, (high - low) // 8)
    return Scale(float(low), float(high), start, end, tuple(float(t) for t in range(low, high + 1, step)))


def cold_by_day(hours: pa.Table) -> list[list[float | None]]:
    """Probability of a cold start by day and hour of the day; `hours` as in `heat_map`."""
    shares = hours["p_cold"].to_pylist()
    return [shares[day * 24 : day * 24 + 24] for day in range(7)]


@dataclass(frozen=True, slots=True)
class GapClass:
    """Requests after idle gaps from `low` to `high` seconds: all, those whose time to first token is known, the slow ones, and the
    median time to the first token in seconds."""

    low: float
    high: float
    requests: int
    known: int
    slow: int
    median: float | None


def slow_by_gap(log: Touches, slow: Bools) -> list[GapClass]:
    """The gaps of a log in classes of half a power of ten, from one second on; empty ones at the ends are left out."""
    gaps = log.idle[~np.isnan(log.idle)]
    if not len(gaps):
        return []
    top = max(1, math.ceil(2 * math.log10(max(float(gaps.max()), 1.0)) + 1e-9))
    edges = [0.0, *(float(f"{10 ** (i / 2):.2g}") for i in range(top + 1))]
    found: list[GapClass] = []
    for low, high in itertools.pairwise(edges):
        inside = (log.idle >= low) & (log.idle < high)
        first = log.first_token[inside]
        known = first[~np.isnan(first)]
        median = float(np.median(known)) if len(known) else None
        found.append(GapClass(low, high, int(inside.sum()), len(known), int(slow[inside].sum()), median))
    return found
