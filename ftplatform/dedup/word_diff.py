"""What two texts say differently, word by word."""

from __future__ import annotations

import re
from difflib import SequenceMatcher
from html import escape

_WORDS = re.compile(r"\s+|[^\W_]+|[\W_]")
#: Beyond so many words and marks two texts are shown side by side and not compared: difflib's time is quadratic.
_MAX_WORDS = 2000


def marked_difference(removed: str, kept: str) -> tuple[str, str]:
    """Both texts as HTML, escaped, with what only the one has in ``<del>`` and what only the other has in ``<ins>``."""
    left, right = _WORDS.findall(removed), _WORDS.findall(kept)
    if max(len(left), len(right)) > _MAX_WORDS:
        return escape(removed), escape(kept)
    first: list[str] = []
    second: list[str] = []
    for kind, a, b, c, d in SequenceMatcher(None, left, right, autojunk=False).get_opcodes():
        one, other = escape("".join(left[a:b])), escape("".join(right[c:d]))
        if kind == "equal":
            first.append(one)
            second.append(other)
        else:
            first.append(f"<del>{one}</del>" if one else "")
            second.append(f"<ins>{other}</ins>" if other else "")
    return "".join(first), "".join(second)
