"""How customers type on a phone: lower case, few commas, shorthand, and the neighbor key.

What matters for training is not typos sprinkled on clean text but the joint habit: a message without capitals also tends to
have no full stop, "u" for "you", and two questions run together.
"""

from __future__ import annotations

import random
import re

_SHORTHAND: dict[str, str] = {
    "you": "u", "your": "ur", "are": "r", "please": "pls", "thanks": "thx", "because": "cuz", "and": "n", "to": "2", "for": "4",
    "something": "smth", "message": "msg", "minutes": "min", "about": "abt", "with": "w", "without": "w/o", "really": "rly",
    "tomorrow": "tmrw", "okay": "ok", "question": "q", "information": "info", "going to": "gonna", "want to": "wanna",
}  # fmt: skip
_ROWS = ("qwertyuiop", "asdfghjkl", "zxcvbnm")
_NEIGHBORS: dict[str, str] = {
    c: "".join(row[j] for j in (i - 1, i + 1) if 0 <= j < len(row)) for row in _ROWS for i, c in enumerate(row)
}
_WORD = re.compile(r"[A-Za-z']+")


def _typo(word: str, rng: random.Random) -> str:
    """One slip of the thumb: swap, drop, double or hit the neighbor key. The first letter stays, as it mostly does."""
    i = rng.randrange(1, len(word) - 1)
    slip = rng.random()
    if slip < 0.3:
        return word[:i] + word[i + 1] + word[i] + word[i + 2 :]
    if slip < 0.6:
        return word[:i] + word[i + 1 :]
    if slip < 0.75:
        return word[:i] + word[i] + word[i:]
    return word[:i] + rng.choice(_NEIGHBORS.get(word[i].lower(), word[i])) + word[i + 1 :]


def phone(text: str, rng: random.Random, *, keep: frozenset[str] = frozenset()) -> str:
    """`text` as one customer would have typed it. Each call draws one typist (hasty to careful).

    Args:
        keep: lower-case words that are never misspelled (identifiers such as order numbers need no entry: they hold digits).
    """
    haste = rng.betavariate(2.0, 1.3)  # 0: careful, 1: very hasty; mean .61
    lower = rng.random() < 0.35 + 0.6 * haste
    if lower:
        text = text.lower()
    if rng.random() < 0.3 + 0.6 * haste:
        text = text.replace("'", "")
    if rng.random() < haste:
        text = re.sub(r",", "", text)
    if rng.random() < 0.3 + 0.6 * haste:
        text = text.rstrip(".?! ")
        if rng.random() < 0.5:
            text = re.sub(r"[.?](?= )", "", text)
        if rng.random() < 0.08:
            text += rng.choice(("??", "!!", "...", "???"))
    shorthand, slips = 0.45 * haste, 0.05 * haste

    def retype(match: re.Match[str]) -> str:
        word = match.group(0)
        short = _SHORTHAND.get(word.lower())
        if short is not None and rng.random() < shorthand:
            return short
        if len(word) > 3 and word.lower() not in keep and rng.random() < slips:
            return _typo(word, rng)
        return word

    return _WORD.sub(retype, text)
