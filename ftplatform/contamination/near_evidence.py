"""Evidence of near matches for people: both texts cut to the place, masked, the common words between ‹ and ›."""

from __future__ import annotations

import re

from ftplatform.rows.masking import mask_text
from ftplatform.rows.normalize import normalize_text

_OPEN, _CLOSE = "‹", "›"
_TELLING = re.compile(r"[\d@]")
#: Words shown before the first common one.
_LEAD = 6


def marked(text: str, common: set[str], limit: int, begin: int = 0, end: int | None = None) -> str:
    """The masked text from a few words before token `begin`, of `limit` characters at most, common words in tokens ``begin:end`` marked.

    Args:
        text: as written.
        common: normalized tokens.
        begin, end: tokens of ``normalize_text(text)``, the whole by default.
    """
    words = text.split()
    first, last = _words_of(words, begin, end)
    shown = max(0, first - _LEAD)
    # Never begin inside what may be a number or an address: half of one would escape the mask.
    while shown and _TELLING.search(words[shown - 1]):
        shown -= 1
    # Masking comes before marking and cutting, since either could take a number apart; a window suffices for the limit.
    window = " ".join(words[shown:])[: 4 * limit + 256]
    masked = mask_text(window).split()
    if len(window) == 4 * limit + 256:
        masked = masked[: max(1, len(masked) * 3 // 4)]
    before = "… " if shown else ""
    written: list[str] = []
    for at, word in enumerate(masked, shown):
        tokens = normalize_text(word).split()
        hit = first <= at < last and bool(tokens) and common.issuperset(tokens)
        written.append(f"{_OPEN}{word}{_CLOSE}" if hit else word)
    text = before + " ".join(written).replace(f"{_CLOSE} {_OPEN}", " ")
    return text if len(text) <= limit else text[: limit - 1] + "…"


def _words_of(words: list[str], begin: int, end: int | None) -> tuple[int, int]:
    """Written words that hold the tokens ``begin:end``: (first, one past the last)."""
    count, first, last = 0, 0, len(words)
    for at, word in enumerate(words):
        if count <= begin:
            first = at
        # Word by word only an operator that stands alone between two numbers is missed: the marks shift by a word.
        count += len(normalize_text(word).split())
        if end is not None and count >= end:
            return first, at + 1
    return first, last
