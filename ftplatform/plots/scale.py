"""Axes: round ticks, the map from data to pixels, and how numbers are written."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

#: Larger magnitudes are drawn as this: the round number above them might not be finite.
LARGEST = 1e300


@dataclass(frozen=True, slots=True)
class Scale:
    """Linear map from `[low, high]` in data units to `[start, end]` in pixels, with ticks at round numbers inside."""

    low: float
    high: float
    start: float
    end: float
    ticks: tuple[float, ...]

    def __call__(self, value: float) -> float:
        """Pixel of `value`, which is first moved to the nearest end of the axis if it lies outside."""
        inside = min(max(value, self.low), self.high)
        return self.start + (inside - self.low) / (self.high - self.low) * (self.end - self.start)

    def tick_labels(self) -> list[str]:
        """Labels of the ticks, all with the decimals that their spacing needs."""
        step = (self.high - self.low) / (len(self.ticks) - 1)
        largest = max(abs(t) for t in self.ticks)
        if largest >= 1e7 or (largest < 1e-4 and largest > 0):
            # As many digits as tell the ticks apart; `fit_scale` rounds them to twelve.
            labels: list[str] = []
            for digits in range(3, 13):
                labels = [format_number(tick, digits) for tick in self.ticks]
                if len(set(labels)) == len(labels):
                    break
            return labels
        decimals = max(0, -math.floor(math.log10(step) + 1e-9))
        return [_no_negative_zero(f"{t:,.{decimals}f}") for t in self.ticks]


def fit_scale(values: Iterable[float], start: float, end: float, *, include: Iterable[float] = (), max_ticks: int = 7) -> Scale:
    """Axis over the finite ones of `values` and `include`, widened to round numbers. Without any it is 0 to 1."""
    finite = [min(max(v, -LARGEST), LARGEST) for v in (*values, *include) if math.isfinite(v)]
    low, high = (min(finite), max(finite)) if finite else (0.0, 1.0)
    span = high - low
    if span <= max(abs(low), abs(high)) * 1e-9:  # one value (or rounding noise around one): give it room
        room = abs(high) * 0.1 or 0.5
        low, high = low - room, high + room
        span = high - low
    step = _round_step(span / max(1, max_ticks - 1))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    ticks = tuple(float(f"{i * step:.12g}") for i in range(first, last + 1))
    return Scale(ticks[0], ticks[-1], start, end, ticks)


def format_number(value: float | None, digits: int = 3) -> str:
    """Significant digits without trailing zeros, thousands separated; powers of ten only for the very large and small."""
    if value is None or not math.isfinite(value):
        return "n/a"
    if value == 0:
        return "0"
    size = abs(value)
    if size >= 1e7 or size < 1e-4:
        mantissa, exponent = f"{value:.{digits - 1}e}".split("e")
        return f"{mantissa.rstrip('0').rstrip('.')}e{int(exponent)}"
    decimals = max(0, digits - 1 - math.floor(math.log10(size)))
    text = f"{value:,.{decimals}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def _round_step(raw: float) -> float:
    """The smallest of 1, 2, 5, 10 times a power of ten that is at least `raw`."""
    power = 10.0 ** math.floor(math.log10(raw))
    return next(m * power for m in (1.0, 2.0, 5.0, 10.0) if m * power >= raw * (1 - 1e-9))


def _no_negative_zero(text: str) -> str:
    return text[1:] if text.startswith("-") and not text.strip("-0.,") else text
