"""Values over a running quantity: loss over steps, reward and task over checkpoints."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from ftplatform.plots.canvas import DASHES, LIMIT, MUTED, SERIES, WIDTH, Canvas, clean, legend, legend_bottom, no_data
from ftplatform.plots.scale import fit_scale, format_number

#: More series than this are counted, not drawn: the eye follows no more.
MAX_SERIES = len(SERIES)

# Points drawn in all; longer series are thinned, keeping the extremes of each stretch. About 13 bytes each.
_POINT_BUDGET = 1200
_LEFT, _RIGHT = 84, WIDTH - 30


def line(
    series: Mapping[str, Sequence[tuple[float, float]]],
    threshold: float | None = None,
    *,
    title: str = "Course",
    x_label: str = "",
    y_label: str = "",
    threshold_label: str = "limit",
) -> str:
    """Line chart as an SVG document.

    Args:
        series: name to points `(x, y)`, drawn in order of x; points that are not finite are left out.
        threshold: height of a dashed limit line.
        title, x_label, y_label: plain text; name the units.
        threshold_label: what the line means.

    Returns:
        SVG text, the same for the same arguments. Without a finite point, a chart that says "No data".
    """
    finite = {
        name: sorted((float(x), float(y)) for x, y in points if math.isfinite(x) and math.isfinite(y))
        for name, points in series.items()
    }
    drawn = {name: points for name, points in finite.items() if points}
    if not drawn:
        return no_data(title)
    shown = dict(list(drawn.items())[:MAX_SERIES])
    hidden = len(drawn) - len(shown)
    with_legend = len(shown) > 1 or hidden > 0
    top = legend_bottom(len(shown), 52.0) + 22 if with_legend else 50.0
    bottom = top + 230
    canvas = Canvas(title, _describe(shown, threshold, threshold_label), bottom + (50 if x_label else 32) + (18 if hidden else 0))
    canvas.text(20, 28, canvas.title, size=15, bold=True)
    if with_legend:
        legend(canvas, list(shown), 52)

    xs = fit_scale((x for points in shown.values() for x, _ in points), _LEFT, _RIGHT, max_ticks=8)
    include = () if threshold is None else (threshold,)
    ys = fit_scale((y for points in shown.values() for _, y in points), bottom, top, include=include, max_ticks=6)
    canvas.y_axis(ys, _LEFT, _RIGHT, y_label)
    canvas.x_axis(xs, top, bottom, x_label)
    if threshold is not None and math.isfinite(threshold):
        canvas.line(_LEFT, ys(threshold), _RIGHT, ys(threshold), LIMIT, width=1.5, dash="5 3")
        text = f"{clean(threshold_label, 40)} {format_number(threshold)}"
        # Above the line, or below it where the line runs along the top.
        canvas.text(_RIGHT - 4, ys(threshold) + (14 if ys(threshold) < top + 14 else -5), text, size=11, anchor="end", color=LIMIT)
    for i, points in enumerate(shown.values()):
        color = SERIES[i]
        pixels = [(xs(x), ys(y)) for x, y in _thin(points, _POINT_BUDGET // len(shown))]
        if len(pixels) > 1:
            canvas.path(pixels, color, dash=DASHES[i])
        if len(pixels) <= 25:
            for x, y in pixels:
                canvas.circle(x, y, 3.2, color)
    if hidden:
        canvas.text(20, canvas.height - 12, f"and {hidden:,} more series", size=11, color=MUTED)
    return canvas.render()


def _thin(points: list[tuple[float, float]], budget: int) -> list[tuple[float, float]]:
    """At most `budget` of the points: the lowest and the highest of each equal stretch, in order, so that no spike is lost."""
    if len(points) <= budget:
        return points
    stretches = budget // 2
    kept: list[tuple[float, float]] = []
    for i in range(stretches):
        stretch = points[i * len(points) // stretches : (i + 1) * len(points) // stretches]
        low, high = min(stretch, key=lambda p: p[1]), max(stretch, key=lambda p: p[1])
        kept.extend(sorted({low, high}))
    return kept


def _describe(series: Mapping[str, list[tuple[float, float]]], threshold: float | None, threshold_label: str) -> str:
    limit = "" if threshold is None else f"{clean(threshold_label, 40)} {format_number(threshold)}. "
    return limit + "; ".join(
        f"{clean(name, 60)}: {len(points):,} points from ({format_number(points[0][0])}, {format_number(points[0][1])})"
        f" to ({format_number(points[-1][0])}, {format_number(points[-1][1])})"
        for name, points in series.items()
    )
