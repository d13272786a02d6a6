"""One value per label, as horizontal bars, so that long labels stay readable."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence

from ftplatform.plots.canvas import AXIS, BLUE, LIMIT, MUTED, VERMILION, WIDTH, Canvas, clean, no_data
from ftplatform.plots.scale import fit_scale, format_number

#: More bars than this are counted, not drawn.
MAX_ROWS = 40

_ROW = 24
_LEFT, _RIGHT = 226, 626


def bars(
    rows: Sequence[tuple[str, float]],
    threshold: float | None = None,
    *,
    title: str = "Values",
    x_label: str = "",
    threshold_label: str = "limit",
    highlight: Collection[str] = (),
) -> str:
    """Bar chart as an SVG document.

    Args:
        rows: `(label, value)`, drawn from top to bottom in the order given; negative values grow to the left of zero.
        threshold: value of a dashed limit line.
        title, x_label: plain text; name the unit in `x_label`.
        threshold_label: what the line means.
        highlight: labels to mark (orange, bold), for rows that failed.

    Returns:
        SVG text, the same for the same arguments. Without rows, a chart that says "No data".
    """
    if not rows:
        return no_data(title)
    shown = list(rows[:MAX_ROWS])
    hidden = len(rows) - len(shown)
    top = 68.0 if threshold is not None else 48.0
    bottom = top + _ROW * len(shown) + 4
    limit = "" if threshold is None else f"{clean(threshold_label, 40)} {format_number(threshold)}. "
    listed = "; ".join(f"{clean(label, 40)}: {format_number(value)}" for label, value in rows[:30])
    canvas = Canvas(title, f"{limit}{listed}", bottom + (50 if x_label else 32) + (18 if hidden else 0))
    canvas.text(20, 28, canvas.title, size=15, bold=True)

    include = (0.0,) if threshold is None else (0.0, threshold)
    scale = fit_scale((v for _, v in shown), _LEFT, _RIGHT, include=include, max_ticks=6)
    canvas.x_axis(scale, top, bottom, x_label)
    marked = set(highlight)
    for i, (label, value) in enumerate(shown):
        y = top + _ROW * (i + 0.5) + 2
        emphasized = label in marked
        canvas.text(_LEFT - 14, y + 4, label, anchor="end", bold=emphasized, room=_LEFT - 26)
        finite = math.isfinite(value)
        x1, x2 = sorted((scale(0), scale(value if finite else 0)))
        if finite:
            canvas.rect(x1, y - 7, max(x2 - x1, 1), 14, VERMILION if emphasized else BLUE, radius=2)
        canvas.text(_RIGHT + 16, y + 4, format_number(value), size=11, color=MUTED)
    canvas.line(scale(0), top, scale(0), bottom, AXIS)
    if threshold is not None and math.isfinite(threshold):
        canvas.line(scale(threshold), top - 6, scale(threshold), bottom, LIMIT, width=1.5, dash="5 3")
        text = f"{clean(threshold_label, 40)} {format_number(threshold)}"
        canvas.text(min(max(scale(threshold), 60), WIDTH - 90), top - 11, text, size=11, anchor="middle", color=LIMIT)
    if hidden:
        canvas.text(20, canvas.height - 12, f"and {hidden:,} more rows", size=11, color=MUTED)
    return canvas.render()
