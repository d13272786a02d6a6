"""The SVG document: escaping, colors, and the few shapes the charts are made of.

Everything that reaches the document passes through here. Text is escaped and cleaned of what XML forbids; numbers are formatted, so
no caller's string ends up in an attribute.
"""

from __future__ import annotations

import re
import unicodedata
import zlib
from collections.abc import Iterable, Sequence
from html import escape

from ftplatform.plots.scale import Scale

WIDTH = 720

# Okabe and Ito's palette: distinguishable with the common color-vision deficiencies, and each at least 3:1 on white.
BLUE = "#0072b2"
VERMILION = "#d55e00"
SERIES = (BLUE, VERMILION, "#007a5a", "#9b4f8b", "#7a6400", "#4d4d4d")
#: Dashes tell series apart where color does not.
DASHES = ("", "7 4", "2 3", "9 3 2 3", "4 4", "12 4")
INK = "#1f2328"
MUTED = "#57606a"
GRID = "#e3e6ea"
AXIS = "#8c959f"
BACKGROUND = "#ffffff"
FRAME = "#d0d7de"

#: Line and text that mark a limit.
LIMIT = "#a40e26"

# What XML 1.0 cannot hold, lone surrogates, and the marks that reverse the direction of what follows them.
_FORBIDDEN = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x84\x86-\x9f\ud800-\udfff\ufffe\uffff\u202a-\u202e\u2066-\u2069]")


def clean(text: object, limit: int | None = None) -> str:
    """`text` on one line, without characters that XML forbids, cut to `limit` characters with an ellipsis."""
    line = re.sub(r"\s+", " ", _FORBIDDEN.sub("\ufffd", str(text))).strip()
    return line if limit is None or len(line) <= limit else line[: limit - 1].rstrip() + "…"


def fit_text(text: str, room: float, size: float) -> str:
    """`text`, cut with an ellipsis to about `room` pixels at a font size of `size`.

    The reader's font is unknown, so widths are those of DejaVu Sans, one of the wider ones.
    """
    used = 0.0
    cut = 0  # how much fits beside an ellipsis
    for i, character in enumerate(text):
        if used + size <= room:
            cut = i
        used += size * _em(character)
        if used > room:
            return text[:cut].rstrip() + "…"
    return text


def number(value: float) -> str:
    """A coordinate: at most two decimals, no exponent."""
    text = f"{value:.2f}".rstrip("0").rstrip(".")
    return "0" if text == "-0" else text


class Canvas:
    """An SVG document under construction; coordinates are pixels, x to the right, y down."""

    def __init__(self, title: str, description: str, height: float) -> None:
        self.title = clean(title, 200)
        self.description = clean(description, 2000)
        self.height = height
        self._parts: list[str] = []

    def text(
        self,
        x: float,
        y: float,
        content: object,
        *,
        size: int = 12,
        anchor: str = "start",
        color: str = INK,
        bold: bool = False,
        room: float = WIDTH - 40,
        turned: bool = False,
    ) -> None:
        """Text with its baseline at (x, y), cut to `room` pixels; `turned` runs it upwards."""
        style = ' font-weight="600"' if bold else ""
        turn = f' transform="rotate(-90 {number(x)} {number(y)})"' if turned else ""
        self._parts.append(
            f'<text x="{number(x)}" y="{number(y)}" font-size="{size}" text-anchor="{anchor}" fill="{color}"{style}{turn}>'
            f"{escape(fit_text(clean(content), room, size * 1.08 if bold else size))}</text>"
        )

    def line(self, x1: float, y1: float, x2: float, y2: float, color: str, *, width: float = 1, dash: str = "") -> None:
        """A straight line."""
        self._parts.append(
            f'<line x1="{number(x1)}" y1="{number(y1)}" x2="{number(x2)}" y2="{number(y2)}" stroke="{color}"'
            f' stroke-width="{number(width)}"{_dash(dash)}/>'
        )

    def path(
        self,
        points: Sequence[tuple[float, float]],
        color: str,
        *,
        width: float = 2,
        dash: str = "",
        fill: str = "none",
        opacity: float = 1,
    ) -> None:
        """A polyline through `points`; with `fill` the area under it is closed and filled at `opacity`."""
        shape = "M" + "L".join(f"{number(x)} {number(y)}" for x, y in points)
        filled = "" if fill == "none" else f' fill-opacity="{number(opacity)}"'
        self._parts.append(
            f'<path d="{shape}" fill="{fill}"{filled}'
            f' stroke="{color}" stroke-width="{number(width)}" stroke-linejoin="round"{_dash(dash)}/>'
        )

    def rect(self, x: float, y: float, width: float, height: float, color: str, *, radius: float = 0) -> None:
        """A filled rectangle."""
        corner = f' rx="{number(radius)}"' if radius else ""
        self._parts.append(
            f'<rect x="{number(x)}" y="{number(y)}" width="{number(width)}" height="{number(height)}"{corner} fill="{color}"/>'
        )

    def circle(self, x: float, y: float, radius: float, color: str) -> None:
        """A filled dot."""
        self._parts.append(f'<circle cx="{number(x)}" cy="{number(y)}" r="{number(radius)}" fill="{color}"/>')

    def diamond(self, x: float, y: float, radius: float, color: str) -> None:
        """A filled diamond, for the dots that matter."""
        self.polygon([(x, y - radius), (x + radius, y), (x, y + radius), (x - radius, y)], color)

    def polygon(self, points: Iterable[tuple[float, float]], color: str) -> None:
        """A filled polygon."""
        self._parts.append(f'<polygon points="{" ".join(f"{number(x)},{number(y)}" for x, y in points)}" fill="{color}"/>')

    def x_axis(self, scale: Scale, top: float, bottom: float, label: str) -> None:
        """Grid lines, tick labels and axis title of a horizontal scale."""
        for tick, text in zip(scale.ticks, scale.tick_labels(), strict=True):
            self.line(scale(tick), top, scale(tick), bottom, GRID)
            self.text(scale(tick), bottom + 17, text, size=11, anchor="middle", color=MUTED)
        self.line(scale.start, bottom, scale.end, bottom, AXIS)
        if label:
            self.text((scale.start + scale.end) / 2, bottom + 36, label, anchor="middle", color=MUTED)

    def y_axis(self, scale: Scale, left: float, right: float, label: str) -> None:
        """Grid lines, tick labels and axis title of a vertical scale (`scale.start` is the bottom)."""
        for tick, text in zip(scale.ticks, scale.tick_labels(), strict=True):
            self.line(left, scale(tick), right, scale(tick), GRID)
            self.text(left - 8, scale(tick) + 4, text, size=11, anchor="end", color=MUTED)
        self.line(left, scale.start, left, scale.end, AXIS)
        if label:
            self.text(
                18, (scale.start + scale.end) / 2, label, anchor="middle", color=MUTED, turned=True, room=scale.start - scale.end
            )

    def render(self) -> str:
        """The document. Ids come from its content: equal charts are equal bytes, different ones can share a page."""
        body = "".join(self._parts)
        mark = f"{zlib.crc32((self.title + self.description + body).encode('utf-8')):08x}"
        box = f"{WIDTH} {number(self.height)}"
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {box}" width="{WIDTH}" height="{number(self.height)}" role="img"'
            f' aria-labelledby="t{mark} d{mark}" font-family="system-ui, -apple-system, Segoe UI, Helvetica, Arial, sans-serif">'
            f'<title id="t{mark}">{escape(self.title)}</title><desc id="d{mark}">{escape(self.description)}</desc>'
            f'<rect x="0.5" y="0.5" width="{WIDTH - 1}" height="{number(self.height - 1)}" rx="6" fill="{BACKGROUND}"'
            f' stroke="{FRAME}"/>'
            f"{body}</svg>"
        )


def no_data(title: str) -> str:
    """A chart that says that there is nothing to show."""
    canvas = Canvas(title, "No data.", 110)
    canvas.text(20, 30, canvas.title, size=15, bold=True)
    canvas.text(WIDTH / 2, 72, "No data", size=13, anchor="middle", color=MUTED)
    return canvas.render()


def legend(canvas: Canvas, names: Sequence[str], y: float) -> None:
    """Entries, three to a line, each a sample of its stroke and its name; `y` is the first line."""
    columns = min(len(names), 3)
    room = (WIDTH - 40) / columns
    for i, name in enumerate(names):
        x, line_y = 20 + i % columns * room, legend_bottom(i + 1, y)
        canvas.line(x, line_y - 4, x + 26, line_y - 4, SERIES[i % len(SERIES)], width=2.5, dash=DASHES[i % len(DASHES)])
        canvas.text(x + 33, line_y, name, room=room - 42)


def legend_bottom(entries: int, y: float) -> float:
    """The y of the last of the lines that a legend of so many entries takes."""
    return y + 18 * ((entries - 1) // 3)


def _em(character: str) -> float:
    """Width of a character as a share of the font size."""
    if unicodedata.east_asian_width(character) in "WF":
        return 1.0
    if character in "ijlI.,:;|!'()[]frt -":
        return 0.39
    return 0.95 if character in "mwMW@%" else 0.72 if character.isupper() else 0.62


def _dash(pattern: str) -> str:
    return f' stroke-dasharray="{pattern}"' if pattern else ""
