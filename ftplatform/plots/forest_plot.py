"""Estimates with their intervals, one row each: the picture of "decide on bounds"."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence

from ftplatform.plots.canvas import AXIS, BLUE, LIMIT, MUTED, VERMILION, WIDTH, Canvas, clean, no_data
from ftplatform.plots.scale import fit_scale, format_number

#: More rows than this are counted, not drawn.
MAX_ROWS = 40

_ROW = 24
_LEFT, _RIGHT = 226, 560


def forest(
    rows: Sequence[tuple[str, float, float | None, float | None]],
    threshold: float | None = None,
    *,
    title: str = "Estimates and confidence intervals",
    x_label: str = "",
    threshold_label: str = "limit",
    highlight: Collection[str] = (),
) -> str:
    """Forest plot as an SVG document.

    Args:
        rows: `(label, estimate, low, high)`, drawn from top to bottom; None or an infinity marks an open bound, drawn as an arrow.
        threshold: value of a dashed limit line, in the unit of the estimates.
        title, x_label: plain text; name the unit in `x_label`.
        threshold_label: what the line means.
        highlight: labels to mark (diamond, orange, bold), for rows that failed.

    Returns:
        SVG text, the same for the same arguments. Without rows, a chart that says "No data".
    """
    if not rows:
        return no_data(title)
    shown = list(rows[:MAX_ROWS])
    hidden = len(rows) - len(shown)
    top = 68.0
    bottom = top + _ROW * len(shown) + 4
    canvas = Canvas(title, _describe(rows, threshold, threshold_label), bottom + (50 if x_label else 32) + (18 if hidden else 0))
    canvas.text(20, 28, canvas.title, size=15, bold=True)

    bounds = [v for _, estimate, low, high in shown for v in (estimate, low, high) if v is not None]
    scale = fit_scale(bounds, _LEFT, _RIGHT, include=() if threshold is None else (threshold,), max_ticks=6)
    canvas.x_axis(scale, top, bottom, x_label)
    if scale.low < 0 < scale.high:
        canvas.line(scale(0), top, scale(0), bottom, AXIS)
    if threshold is not None and math.isfinite(threshold):
        canvas.line(scale(threshold), top - 6, scale(threshold), bottom, LIMIT, width=1.5, dash="5 3")
        text = f"{clean(threshold_label, 40)} {format_number(threshold)}"
        # Kept inside the frame when the limit lies at either end of the axis.
        canvas.text(min(max(scale(threshold), 60), WIDTH - 90), top - 11, text, size=11, anchor="middle", color=LIMIT)

    marked = set(highlight)
    for i, (label, estimate, low, high) in enumerate(shown):
        y = top + _ROW * (i + 0.5) + 2
        emphasized = label in marked
        color = VERMILION if emphasized else BLUE
        canvas.text(_LEFT - 14, y + 4, label, anchor="end", bold=emphasized, room=_LEFT - 26)
        canvas.text(_RIGHT + 16, y + 4, _numbers(estimate, low, high), size=11, color=MUTED)
        if not math.isfinite(estimate):
            continue
        open_low, open_high = low is None or not math.isfinite(low), high is None or not math.isfinite(high)
        x1 = scale.start if low is None or open_low else scale(low)
        x2 = scale.end if high is None or open_high else scale(high)
        canvas.line(x1, y, x2, y, color, width=2)
        for x, is_open, way in ((x1, open_low, 1), (x2, open_high, -1)):
            if is_open:
                canvas.polygon([(x, y), (x + way * 7, y - 4.5), (x + way * 7, y + 4.5)], color)
            else:
                canvas.line(x, y - 5, x, y + 5, color, width=2)
        (canvas.diamond if emphasized else canvas.circle)(scale(estimate), y, 6 if emphasized else 4.5, color)
    if hidden:
        canvas.text(20, canvas.height - 12, f"and {hidden:,} more rows", size=11, color=MUTED)
    return canvas.render()


def _numbers(estimate: float, low: float | None, high: float | None) -> str:
    def bound(value: float | None, otherwise: str) -> str:
        return format_number(value) if value is not None and math.isfinite(value) else otherwise

    return f"{format_number(estimate)} [{bound(low, '-∞')}, {bound(high, '∞')}]"


def _describe(rows: Sequence[tuple[str, float, float | None, float | None]], threshold: float | None, threshold_label: str) -> str:
    limit = "" if threshold is None else f"{clean(threshold_label, 40)} {format_number(threshold)}. "
    listed = "; ".join(f"{clean(label, 40)}: {_numbers(estimate, low, high)}" for label, estimate, low, high in rows[:20])
    return f"{limit}Estimate and interval per row. {listed}"
