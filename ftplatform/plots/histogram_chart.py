"""Distributions on shared bins, as the share of each sample per bin, so that samples of unequal size compare."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from ftplatform.plots.canvas import DASHES, LIMIT, MUTED, SERIES, WIDTH, Canvas, clean, legend, legend_bottom, no_data
from ftplatform.plots.scale import LARGEST, fit_scale, format_number

#: More samples than this are counted, not drawn: their outlines would cover each other.
MAX_SAMPLES = 4

_MIN_BINS, _MAX_BINS = 8, 40
_LEFT, _RIGHT = 84, WIDTH - 30


def histogram(
    samples: Mapping[str, Sequence[float]],
    threshold: float | None = None,
    *,
    title: str = "Distribution",
    x_label: str = "",
    threshold_label: str = "limit",
) -> str:
    """Histogram of one or more samples as an SVG document; y is the share of the sample in the bin.

    Args:
        samples: name to values; values that are not finite are left out.
        threshold: x of a dashed limit line.
        title, x_label: plain text; name the unit in `x_label`.
        threshold_label: what the line means.

    Returns:
        SVG text, the same for the same arguments. Without a finite value, a chart that says "No data".

    Bin width after D. Freedman and P. Diaconis, Z. Wahrscheinlichkeitstheorie 57 (1981) 453, on all samples together; the values
    beyond the 0.5 % and 99.5 % quantiles of every sample are counted in the end bins, and the chart says so.
    """
    arrays = {name: np.asarray(values, dtype=np.float64) for name, values in samples.items()}
    drawn = {name: finite for name, values in arrays.items() if len(finite := values[np.isfinite(values)].clip(-LARGEST, LARGEST))}
    if not drawn:
        return no_data(title)
    shown = dict(list(drawn.items())[:MAX_SAMPLES])
    hidden = len(drawn) - len(shown)
    top = legend_bottom(len(shown), 52.0) + 22
    bottom = top + 230
    canvas = Canvas(title, _describe(shown, threshold, threshold_label), bottom + (68 if x_label else 50))
    canvas.text(20, 28, canvas.title, size=15, bold=True)
    legend(canvas, [f"{clean(name, 24)} (n = {len(values):,})" for name, values in shown.items()], 52)

    pooled = np.concatenate(list(shown.values()))
    edges = _edges(shown.values())
    first, last = float(edges[0]), float(edges[-1])
    outside = int(np.count_nonzero((pooled < first) | (pooled > last)))
    shares = {name: np.histogram(values.clip(first, last), bins=edges)[0] / len(values) for name, values in shown.items()}
    include = () if threshold is None else (threshold,)
    xs = fit_scale(edges.tolist(), _LEFT, _RIGHT, include=include, max_ticks=8)
    ys = fit_scale((float(s.max()) for s in shares.values()), bottom, top, include=(0.0,), max_ticks=6)
    canvas.y_axis(ys, _LEFT, _RIGHT, "share of sample")
    canvas.x_axis(xs, top, bottom, x_label)
    for i, share in enumerate(shares.values()):
        outline = [(xs(first), ys(0))]
        for k, height in enumerate(share.tolist()):
            outline += [(xs(float(edges[k])), ys(height)), (xs(float(edges[k + 1])), ys(height))]
        outline.append((xs(last), ys(0)))
        canvas.path(outline, SERIES[i], dash=DASHES[i], fill=SERIES[i], opacity=0.14)
    if threshold is not None and math.isfinite(threshold):
        x = xs(threshold)
        canvas.line(x, top - 4, x, bottom, LIMIT, width=1.5, dash="5 3")
        left_side = x > (_LEFT + _RIGHT) / 2
        text = f"{clean(threshold_label, 40)} {format_number(threshold)}"
        canvas.text(x + (-6 if left_side else 6), top + 8, text, size=11, anchor="end" if left_side else "start", color=LIMIT)
    notes = [f"{outside:,} values outside {format_number(first)} to {format_number(last)} are in the end bins"] if outside else []
    notes += [f"{hidden:,} more samples are not drawn"] if hidden else []
    if notes:
        canvas.text(20, canvas.height - 10, "; ".join(notes), size=11, color=MUTED)
    return canvas.render()


def _edges(samples: Iterable[NDArray[np.float64]]) -> NDArray[np.float64]:
    """Bin edges that hold 99 % of each sample; one outlier would flatten the rest into a single bar."""
    arrays = list(samples)
    values = np.concatenate(arrays)
    first, third = (float(q) for q in np.quantile(values, [0.25, 0.75]))
    low = min(float(np.quantile(a, 0.005)) for a in arrays)
    high = max(float(np.quantile(a, 0.995)) for a in arrays)
    if high <= low:
        low, high = float(values.min()), float(values.max())
    if high <= low:
        room = abs(low) * 0.1 or 0.5
        return np.linspace(low - room, high + room, _MIN_BINS + 2)  # an odd number of bins has one in the middle
    width = 2 * (third - first) / len(values) ** (1 / 3)
    bins = _MIN_BINS if width <= 0 else math.ceil(min(_MAX_BINS, max(_MIN_BINS, (high - low) / width)))
    return np.linspace(low, high, bins + 1)


def _describe(samples: Mapping[str, NDArray[np.float64]], threshold: float | None, threshold_label: str) -> str:
    limit = "" if threshold is None else f"{clean(threshold_label, 40)} {format_number(threshold)}. "
    parts: list[str] = []
    for name, values in samples.items():
        low, median, high = (format_number(float(q)) for q in np.quantile(values, [0.05, 0.5, 0.95]))
        parts.append(f"{clean(name, 60)}: n {len(values):,}, median {median}, 5 % to 95 % {low} to {high}")
    return limit + "; ".join(parts)
