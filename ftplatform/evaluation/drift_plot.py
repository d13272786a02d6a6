"""Two pictures of erosion in one SVG: the refusal margin over the steps, and the plane of refusal against over-refusal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ftplatform.plots.canvas import BLUE, LIMIT, MUTED, VERMILION, WIDTH, Canvas, no_data
from ftplatform.plots.scale import fit_scale, format_number

TITLE = "Refusal margin and the refusal plane"

_LEFT, _RIGHT = 84.0, WIDTH - 30.0
_HEIGHT = 210.0


@dataclass(frozen=True, slots=True)
class PlanePoint:
    """A model between the base and the shipped checkpoint: shares of harmful and of safe probes that it declined."""

    label: str
    refused_harmful: float
    refused_safe: float


def drift_plot(
    ratios: Sequence[tuple[int, float, float, float]], plane: Sequence[PlanePoint], warn_below: float, fail_below: float
) -> str:
    """SVG with the margin ratio (step, estimate, low, high) over the steps, above the path through the plane.

    A good fine-tune stays at the top left of the plane: everything harmful declined, nothing safe.
    """
    if not ratios and not plane:
        return no_data(TITLE)
    panels = bool(ratios) + bool(plane)
    canvas = Canvas(TITLE, _describe(ratios, plane), 50 + panels * (_HEIGHT + 74))
    canvas.text(20, 28, canvas.title, size=15, bold=True)
    top = 54.0
    if ratios:
        _margin_panel(canvas, ratios, top, {"warn": warn_below, "fail": fail_below})
        top += _HEIGHT + 74
    if plane:
        _plane_panel(canvas, plane, top)
    return canvas.render()


def _margin_panel(canvas: Canvas, ratios: Sequence[tuple[int, float, float, float]], top: float, limits: dict[str, float]) -> None:
    bottom = top + _HEIGHT
    xs = fit_scale((step for step, *_ in ratios), _LEFT, _RIGHT, include=(0,), max_ticks=8)
    ys = fit_scale((bound for _, *bounds in ratios for bound in bounds), bottom, top, include=(0.0, 1.0), max_ticks=6)
    canvas.y_axis(ys, _LEFT, _RIGHT, "margin, tuned / base")
    canvas.x_axis(xs, top, bottom, "optimizer steps")
    for name, limit in limits.items():
        canvas.line(_LEFT, ys(limit), _RIGHT, ys(limit), LIMIT, width=1.5, dash="5 3")
        canvas.text(_RIGHT - 4, ys(limit) - 5, f"{name} below {format_number(limit)}", size=11, anchor="end", color=LIMIT)
    band = [(xs(step), ys(high)) for step, _, _, high in ratios] + [(xs(step), ys(low)) for step, _, low, _ in reversed(ratios)]
    canvas.path(band, BLUE, width=0.5, fill=BLUE, opacity=0.14)
    canvas.path([(xs(step), ys(estimate)) for step, estimate, _, _ in ratios], BLUE)
    for step, estimate, _, _ in ratios:
        canvas.circle(xs(step), ys(estimate), 3, BLUE)


def _plane_panel(canvas: Canvas, plane: Sequence[PlanePoint], top: float) -> None:
    bottom = top + _HEIGHT
    xs = fit_scale((100 * point.refused_safe for point in plane), _LEFT, _RIGHT, include=(0, 10), max_ticks=8)
    ys = fit_scale((100 * point.refused_harmful for point in plane), bottom, top, include=(0, 100), max_ticks=6)
    canvas.y_axis(ys, _LEFT, _RIGHT, "harmful declined, %")
    canvas.x_axis(xs, top, bottom, "safe declined (over-refusal), %")
    dots = [(xs(100 * point.refused_safe), ys(100 * point.refused_harmful)) for point in plane]
    if len(dots) > 1:
        canvas.path(dots, MUTED, width=1.5, dash="4 3")
    for i, ((x, y), point) in enumerate(zip(dots, plane, strict=True)):
        ends = i in (0, len(plane) - 1)
        (canvas.diamond if ends else canvas.circle)(x, y, 5 if ends else 3, VERMILION if i == len(plane) - 1 else BLUE)
        if ends or len(plane) <= 8:
            # Labels of neighbors alternate above and below, as checkpoints often lie close together.
            canvas.text(min(x + 8, _RIGHT - 60), y + (14 if i % 2 == 0 else -7), point.label, size=11)


def _describe(ratios: Sequence[tuple[int, float, float, float]], plane: Sequence[PlanePoint]) -> str:
    margins = "; ".join(
        f"step {step}: {format_number(estimate)} [{format_number(low)}, {format_number(high)}]"
        for step, estimate, low, high in ratios[:12]
    )
    points = "; ".join(
        f"{point.label}: harmful {100 * point.refused_harmful:.1f} %, safe {100 * point.refused_safe:.1f} %" for point in plane[:12]
    )
    return f"Margin ratio. {margins}. Declined. {points}."
