"""The course of a loop as one chart: reward and outcome with their intervals, and the distance from the reference beneath."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pyarrow as pa

from ftplatform.plots.canvas import DASHES, SERIES, WIDTH, Canvas, legend, no_data
from ftplatform.plots.scale import Scale, fit_scale, format_number

_TITLE = "Reward and outcome per checkpoint"
_LEFT, _RIGHT = 84, WIDTH - 64
_TOP, _HEIGHT, _GAP, _LOW_HEIGHT = 84.0, 220.0, 34.0, 90.0
_MAX_POINTS = 400

_Point = tuple[float, float, float, float]


def course_plot(course: pa.Table) -> str:
    """SVG of a `per_checkpoint` table.

    Both lines share one axis where the rewards are shares like the outcome; otherwise the reward has an axis of its own to the right.
    """
    rows = course.slice(max(0, course.num_rows - _MAX_POINTS)).to_pylist()
    reward, outcome = (_points(rows, name) for name in ("reward", "outcome"))
    if not reward and not outcome:
        return no_data(_TITLE)
    kl = [(float(r["checkpoint"]), float(r["kl"])) for r in rows if r["kl"] is not None and math.isfinite(r["kl"])]
    bottom = _TOP + _HEIGHT
    end = bottom + (_GAP + _LOW_HEIGHT if kl else 0)
    canvas = Canvas(_TITLE, _describe(reward, outcome, kl), end + 50)
    canvas.text(20, 28, canvas.title, size=15, bold=True)
    shared = all(0 <= p[1] <= 1 for p in reward)
    names = {"reward (the proxy)": reward, "outcome (what people found)": outcome}
    legend(canvas, list(names), 52)
    xs = fit_scale((float(r["checkpoint"]) for r in rows), _LEFT, _RIGHT, max_ticks=8)
    left = fit_scale(_heights([*outcome, *(reward if shared or not outcome else [])]), bottom, _TOP, max_ticks=6)
    right = left if shared or not outcome else fit_scale(_heights(reward), bottom, _TOP, max_ticks=6)
    canvas.x_axis(xs, _TOP, end, "checkpoint")
    canvas.y_axis(left, _LEFT, _RIGHT, "share" if shared else "outcome" if outcome else "reward")
    if right is not left:
        for tick, text in zip(right.ticks, right.tick_labels(), strict=True):
            canvas.text(_RIGHT + 8, right(tick) + 4, text, size=11, color=SERIES[0])
    for i, (points, ys) in enumerate(((reward, right), (outcome, left))):
        _ribbon(canvas, points, xs, ys, i)
    if kl:
        below = fit_scale([0.0, *(v for _, v in kl)], end, bottom + _GAP, max_ticks=3)
        canvas.y_axis(below, _LEFT, _RIGHT, "KL, nats")
        _line(canvas, [(xs(x), below(y)) for x, y in kl], SERIES[2])
    return canvas.render()


def _points(rows: Sequence[dict[str, float | None]], name: str) -> list[_Point]:
    """(checkpoint, mean, low, high); without an interval the mean is its own."""
    found: list[_Point] = []
    for row in rows:
        at, mean, low, high = row["checkpoint"], row[name], row[f"{name}_low"], row[f"{name}_high"]
        if at is not None and mean is not None:
            found.append((float(at), mean, mean if low is None else low, mean if high is None else high))
    return found


def _heights(points: Sequence[_Point]) -> list[float]:
    return [v for point in points for v in point[1:]]


def _ribbon(canvas: Canvas, points: Sequence[_Point], xs: Scale, ys: Scale, series: int) -> None:
    if len(points) > 1:
        edge = [(xs(x), ys(high)) for x, _, _, high in points] + [(xs(x), ys(low)) for x, _, low, _ in reversed(points)]
        canvas.path(edge, "none", width=0, fill=SERIES[series], opacity=0.15)
    _line(canvas, [(xs(x), ys(mean)) for x, mean, _, _ in points], SERIES[series], DASHES[series])


def _line(canvas: Canvas, pixels: Sequence[tuple[float, float]], color: str, dash: str = "") -> None:
    if len(pixels) > 1:
        canvas.path(pixels, color, dash=dash)
    if len(pixels) <= 40:
        for x, y in pixels:
            canvas.circle(x, y, 3, color)


def _describe(reward: Sequence[_Point], outcome: Sequence[_Point], kl: Sequence[tuple[float, float]]) -> str:
    ends = {"reward": [p[1] for p in reward], "outcome": [p[1] for p in outcome], "KL in nats": [v for _, v in kl]}
    return "; ".join(
        f"{name} from {format_number(v[0])} to {format_number(v[-1])} over {len(v)} checkpoints" for name, v in ends.items() if v
    )
