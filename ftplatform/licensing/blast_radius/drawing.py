"""The way from a source to what it reached, as a drawing: one line of boxes per path, the source on the left."""

from __future__ import annotations

from collections.abc import Sequence

from ftplatform.licensing.blast_radius.lineage import Influence
from ftplatform.licensing.blast_radius.radius import Step
from ftplatform.plots.canvas import AXIS, BACKGROUND, BLUE, GRID, INK, LIMIT, MUTED, VERMILION, WIDTH, Canvas, clean, no_data

#: Paths that are drawn; more are counted.
MAX_PATHS = 12
#: Boxes in a line; the middle of a longer path is counted.
_BOXES = 5

_COLORS = {Influence.CONTENT: LIMIT, Influence.BEHAVIOR: VERMILION, Influence.SELECTION: BLUE, Influence.CLAIM: MUTED}
_LEFT, _TOP, _ROW, _BOX = 20.0, 78.0, 62.0, 96.0
_GAP = (WIDTH - 2 * _LEFT - _BOXES * _BOX) / (_BOXES - 1)


def path_svg(paths: Sequence[Sequence[Step]], *, title: str = "From the source to what is live") -> str:
    """Paths as an SVG document in the style of `ftplatform.plots`.

    Args:
        paths: each from the source to one version, e.g. ``[a.path for a in radius.live()]``.
        title: plain text, as every label: it is escaped.

    Returns:
        SVG text, the same for the same arguments. A box is framed in the color of the influence on it, an arrow carries its role. Without
        paths, a drawing that says "No data".
    """
    drawn = [path for path in paths if path][:MAX_PATHS]
    if not drawn:
        return no_data(title)
    hidden = sum(1 for path in paths if path) - len(drawn)
    told = "; ".join(" to ".join(clean(step.asset, 40) for step in path) for path in drawn)
    canvas = Canvas(title, told, _TOP + _ROW * len(drawn) + (26 if hidden else 8))
    canvas.text(_LEFT, 28, canvas.title, size=15, bold=True)
    for i, influence in enumerate(Influence):
        canvas.rect(_LEFT + 110 * i, 43, 12, 12, _COLORS[influence], radius=2)
        canvas.text(_LEFT + 110 * i + 18, 53, influence.label, size=11, color=MUTED)
    for i, path in enumerate(drawn):
        _draw(canvas, path, _TOP + _ROW * i)
    if hidden:
        canvas.text(_LEFT, canvas.height - 10, f"and {hidden:,} more paths", size=11, color=MUTED)
    return canvas.render()


def _draw(canvas: Canvas, path: Sequence[Step], top: float) -> None:
    shown: list[Step | int] = list(path)
    if len(path) > _BOXES:
        # The ends matter: where it came from, and what is live.
        shown = [*path[:2], len(path) - _BOXES + 1, *path[-(_BOXES - 3) :]]
    middle = top + 18
    for i, step in enumerate(shown):
        x = _LEFT + i * (_BOX + _GAP)
        if i:
            canvas.line(x - _GAP + 3, middle, x - 7, middle, AXIS, width=1.5)
            canvas.polygon([(x - 2, middle), (x - 9, middle - 4), (x - 9, middle + 4)], AXIS)
        if isinstance(step, int):
            canvas.text(x + _BOX / 2, middle + 4, f"{step:,} more", size=11, anchor="middle", color=MUTED)
            continue
        if i and step.role is not None:
            canvas.text(
                x - _GAP / 2 - 2, middle - 7, step.role.replace("_", " "), size=8, anchor="middle", color=MUTED, room=_GAP - 4
            )
        canvas.rect(x, top, _BOX, 36, _COLORS[step.influence], radius=5)
        canvas.rect(x + 1.5, top + 1.5, _BOX - 3, 33, GRID if i == 0 else BACKGROUND, radius=4)
        family, _, name = step.asset.partition("/")
        canvas.text(x + _BOX / 2, top + 15, family, size=9, anchor="middle", color=MUTED, room=_BOX - 10)
        canvas.text(x + _BOX / 2, top + 29, name or family, size=11, anchor="middle", color=INK, room=_BOX - 10)
