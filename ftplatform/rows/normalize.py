"""Text normalization for comparing texts: which differences do not make two texts different.

NFKC and case folding (Unicode UAX 15, UAX 21), invisible characters dropped, punctuation and white space collapsed to single
spaces. What carries meaning stays: letters, marks, digits, mathematical and currency symbols (each its own token) and an
operator between two digits, so that "5 - 3" and "5 + 3", or "$5" and "5 €", remain different questions.
"""

from __future__ import annotations

import re
import unicodedata

import pyarrow as pa

#: Bump when the result changes for any text: stored hashes depend on it.
NORMALIZER_VERSION = "1"

# Stand-ins for operators between digits while other punctuation is removed; the first translation removes them from the input.
_KEPT_OPERATORS = {"-": "\x01", "*": "\x02", "/": "\x03", "^": "\x04"}
_SEPARATOR = "\n"


class _Cleaning(dict[int, str | None]):
    """First translation: drops what cannot be seen; white space, controls and dashes become plain ones. Filled lazily."""

    def __missing__(self, code: int) -> str | None:
        character = chr(code)
        category = unicodedata.category(character)
        replacement: str | None = character
        if character == _SEPARATOR:
            replacement = character
        elif category in ("Cf", "Cs") or 0xFE00 <= code <= 0xFE0F or 0xE0100 <= code <= 0xE01EF:
            replacement = None
        elif category == "Pd":
            replacement = "-"
        elif character.isspace() or category[0] in "CZ":
            replacement = " "
        self[code] = replacement
        return replacement


class _Reduction(dict[int, str]):
    """Second translation: punctuation and pictures become spaces, symbols stand alone."""

    def __missing__(self, code: int) -> str:
        character = chr(code)
        category = unicodedata.category(character)
        if character == _SEPARATOR or category[0] in "LMN":
            replacement = character
        elif category in ("Sm", "Sc"):
            # ASCII symbols keep the translation one-to-one (CPython's fast path); `_SYMBOL` spaces them afterwards.
            replacement = character if code < 128 else f" {character} "
        else:
            replacement = " "
        self[code] = replacement
        return replacement


_CLEANING = _Cleaning()
_REDUCTION = _Reduction({ord(stand_in): stand_in for stand_in in _KEPT_OPERATORS.values()})
# A digit, an operator, and a digit that may begin the next such triple. Starting with a character set keeps the scan fast.
_OPERATOR = re.compile(r"(\d) *([-*/^]) *(?=\d)")
_ASCII_SYMBOLS = "+<=>|~$" + "".join(_KEPT_OPERATORS.values())
_RESTORE = {ord(stand_in): operator for operator, stand_in in _KEPT_OPERATORS.items()}


def _fold(text: str) -> str:
    if text.isascii():
        return text.lower()
    # NFKC_Casefold (Unicode 3.13, D146) needs the second pass: folding can expose new compatibility forms.
    for _ in range(2):
        text = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text.translate(_CLEANING)).casefold())
    return text


def _normalize_block(block: str) -> str:
    """Normalizes texts joined by newlines; every step leaves newlines alone, so the block still splits into as many texts.

    Runs of spaces remain; the callers split on them.
    """
    block = _fold(block).translate(_CLEANING)
    block = _OPERATOR.sub(lambda found: found.group(1) + _KEPT_OPERATORS[found.group(2)], block).translate(_REDUCTION)
    for symbol in _ASCII_SYMBOLS:
        block = block.replace(symbol, f" {symbol} ")
    return block.translate(_RESTORE)


def normalize_text(text: str) -> str:
    """The normalized form of one text: tokens separated by single spaces, possibly empty. Idempotent."""
    return " ".join(_normalize_block(text.replace(_SEPARATOR, " ")).split())


def normalize(texts: pa.Array | pa.ChunkedArray) -> pa.Array:
    """`normalize_text` of every text, nulls kept.

    Many texts go through each pass together. Texts in ASCII, the usual case, are kept apart from the others, because
    CPython translates a pure ASCII string many times faster.

    Args:
        texts: string (or large_string) array.

    Returns:
        A `string` array of the same length (`large_string` where the input is).
    """
    values: list[str | None] = texts.to_pylist()
    ascii_block, other_block = _Block(values), _Block(values)
    for position, text in enumerate(values):
        if text:
            (ascii_block if text.isascii() else other_block).add(position, text)
    ascii_block.flush()
    other_block.flush()
    return pa.array(values, type=pa.large_string() if pa.types.is_large_string(texts.type) else pa.string())


class _Block:
    """Texts that are normalized together and put back into `values` in place."""

    # A quarter million characters: enough to amortize the passes, few enough to stay in the cache.
    LIMIT = 1 << 18

    def __init__(self, values: list[str | None]) -> None:
        self.values = values
        self.positions: list[int] = []
        self.texts: list[str] = []
        self.size = 0

    def add(self, position: int, text: str) -> None:
        self.positions.append(position)
        self.texts.append(text.replace(_SEPARATOR, " "))
        self.size += len(text)
        if self.size >= self.LIMIT:
            self.flush()

    def flush(self) -> None:
        if self.texts:
            pieces = _normalize_block(_SEPARATOR.join(self.texts)).split(_SEPARATOR)
            for position, piece in zip(self.positions, pieces, strict=True):
                self.values[position] = " ".join(piece.split())
        self.positions, self.texts, self.size = [], [], 0
