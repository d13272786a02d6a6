"""Tokens of many texts as 64-bit hashes, straight from Arrow's bytes: the tokens of `rows.normalize`, without making its strings.

A text in ASCII is tokenized from its bytes by a table, for there `rows.normalize` is local: letters and digits form words, each
symbol stands alone, an operator counts between two digits, the rest separates. Other texts are normalized first ("prepared") and
then only need splitting. Either way the tokens are exactly those of ``normalize_text(text).split()``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from ftplatform.rows.normalize import normalize

#: Kinds of bytes. Bytes of 128 and more occur in prepared texts only, inside words.
SEPARATOR, WORD, SYMBOL, OPERATOR, BLANK = range(5)

#: Bytes per block: its arrays stay in the cache. What is not ASCII is looked for and rewritten in more of them together: each call costs.
BLOCK_BYTES = 1 << 20
_PREPARED_BYTES = 1 << 24

#: Odd multipliers of the polynomial hashes (8-byte pieces of a word, words of an n-gram) and of the mixing step; from splitmix64 and
#: xxHash. A word of up to eight bytes is its own piece: such words never collide.
PIECE_STEP, TOKEN_STEP, MIX = (np.uint64(c) for c in (0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0xBF58476D1CE4E5B9))
TOKEN_INVERSE = np.uint64(pow(int(TOKEN_STEP), -1, 1 << 64))
_32, _29 = np.uint64(32), np.uint64(29)


def _byte_kinds() -> NDArray[np.uint8]:
    kinds = np.full(256, SEPARATOR, np.uint8)
    kinds[128:] = WORD
    for byte in range(128):
        character = chr(byte)
        if character.isalnum():
            kinds[byte] = WORD
        elif character in "+<=>|~$":
            kinds[byte] = SYMBOL
        elif character in "-*/^":
            kinds[byte] = OPERATOR
        elif byte <= 32 or byte == 127:
            kinds[byte] = BLANK
    return kinds


#: The typographic characters that make most texts non-ASCII (as RE2 classes), each with ASCII that normalizes to the same tokens in any
#: context: a text left in ASCII by these replacements needs no pass of Unicode normalization, which costs fifty times more.
_EQUIVALENTS = {
    "[‘’‚“”„«»•·]": "'",
    "[‐‑‒–—―]": "-",
    "…": "...",
    r"[\x{A0}\x{202F}]": " ",  # no-break spaces
    r"[\x{200B}\x{AD}\x{FEFF}]": "",  # zero-width space, soft hyphen, byte order mark
}

KINDS = _byte_kinds()
#: Bytes in lower case.
FOLDED = np.frombuffer(bytes(range(256)).lower(), np.uint8)
IS_DIGIT = np.array([chr(byte).isdigit() and byte < 128 for byte in range(256)])


@dataclass(frozen=True)
class TextBlock:
    """n texts as bytes.

    Attributes:
        data: uint8, the UTF-8 of all texts one after another.
        offsets: int64, (n + 1,).
        owners: int64, (n,), not decreasing: consecutive texts of one owner (the turns of a row) are one stream of tokens.
        prepared: bool, (n,): the text is normalized and must only be split.
    """

    data: NDArray[np.uint8]
    offsets: NDArray[np.int64]
    owners: NDArray[np.int64]
    prepared: NDArray[np.bool_]


def text_blocks(texts: pa.Array | pa.ChunkedArray, owners: NDArray[np.int64] | None = None) -> Iterator[TextBlock]:
    """Blocks of about `BLOCK_BYTES`; an owner is never cut in two.

    Args:
        texts: string or large_string; null is a text without tokens.
        owners: int64, (n,), not decreasing; by default each text is its own.
    """
    if isinstance(texts, pa.ChunkedArray):
        # Together the chunks may exceed the 2 GiB that the offsets of a string array can count.
        texts = texts.cast(pa.large_string()).combine_chunks()
    texts = texts.cast(pa.large_string())
    if texts.null_count:
        texts = texts.fill_null("")
    if owners is None:
        owners = np.arange(len(texts), dtype=np.int64)
    bounds = (
        np.frombuffer(texts.buffers()[1], np.int64)[texts.offset : texts.offset + len(texts) + 1]
        if len(texts)
        else np.zeros(1, np.int64)
    )
    for start, stop in _cuts(bounds, owners, _PREPARED_BYTES):
        data, offsets, prepared = _prepared(texts.slice(start, stop - start))
        own = owners[start:stop]
        for first, last in _cuts(offsets, own, BLOCK_BYTES):
            at = offsets[first : last + 1]
            yield TextBlock(data[at[0] : at[-1]], at - at[0], own[first:last], prepared[first:last])


def _cuts(bounds: NDArray[np.int64], owners: NDArray[np.int64], limit: int) -> Iterator[tuple[int, int]]:
    """Ranges of texts of `limit` bytes or less, unless one owner has more."""
    ends = np.flatnonzero(np.append(owners[1:] != owners[:-1], True)) + 1 if len(owners) else np.zeros(0, np.int64)
    reach, start = bounds[ends], 0
    while start < len(owners):
        fitting = int(np.searchsorted(reach, bounds[start] + limit, side="right"))
        first_end = int(np.searchsorted(ends, start, side="right"))
        stop = int(ends[max(fitting - 1, first_end)])
        yield start, stop
        start = stop


def _prepared(texts: pa.Array) -> tuple[NDArray[np.uint8], NDArray[np.int64], NDArray[np.bool_]]:
    """Bytes and offsets of the texts, those beyond ASCII normalized, and which these are."""
    prepared = np.zeros(len(texts), bool)
    foreign = ~_is_ascii(texts)
    if foreign.any():
        plain = texts.filter(pa.array(foreign))
        for characters, equivalent in _EQUIVALENTS.items():
            plain = pc.replace_substring_regex(plain, characters, equivalent)
        still = ~_is_ascii(plain)
        plain = pc.replace_with_mask(plain, pa.array(still), normalize(plain.filter(pa.array(still))))
        prepared[foreign] = still
        texts = pc.replace_with_mask(texts, pa.array(foreign), plain)
    return (*_bytes(texts), prepared)


def _is_ascii(texts: pa.Array) -> NDArray[np.bool_]:
    # By the buffer: `to_numpy` would import pandas, half a second.
    return np.frombuffer(pc.string_is_ascii(texts).cast(pa.uint8()).buffers()[1], np.uint8)[: len(texts)] != 0


def _bytes(texts: pa.Array) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    _, offset_buffer, data_buffer = texts.buffers()
    offsets = np.frombuffer(offset_buffer, np.int64)[texts.offset : texts.offset + len(texts) + 1]
    data = np.frombuffer(data_buffer, np.uint8) if data_buffer is not None else np.zeros(0, np.uint8)
    return data[offsets[0] : offsets[-1]], offsets - offsets[0]


@dataclass(frozen=True)
class TokenHashes:
    """Tokens of n texts: those of text i are `hashes[bounds[i]:bounds[i + 1]]`.

    Attributes:
        hashes: uint64, (tokens,).
        bounds: int64, (n + 1,).
        owners: as in `TextBlock`.
    """

    hashes: NDArray[np.uint64]
    bounds: NDArray[np.int64]
    owners: NDArray[np.int64]

    def owner_starts(self) -> NDArray[np.int64]:
        """First token of the owner of each text, int64, (n,)."""
        first = np.append(True, self.owners[1:] != self.owners[:-1]) if len(self.owners) else np.zeros(0, bool)
        return self.bounds[:-1][np.maximum.accumulate(np.where(first, np.arange(len(first)), 0))]

    def of_owners(self, owners: NDArray[np.int64]) -> TokenHashes:
        """The same tokens as one text per owner; owners: int64, (n,), not decreasing."""
        streams, first = np.unique(owners, return_index=True)
        return TokenHashes(self.hashes, self.bounds[np.append(first, len(owners))], streams)

    def texts(self) -> NDArray[np.int64]:
        """Number of the text each token belongs to, int64, (tokens,)."""
        return np.repeat(np.arange(len(self.bounds) - 1), np.diff(self.bounds))


def hash_tokens(block: TextBlock) -> TokenHashes:
    """Hash every token of a block with NumPy (the compiled kernel computes the same numbers)."""
    data, offsets = block.data, block.offsets
    kinds = KINDS[data]
    _settle_operators(kinds, block)
    used = np.flatnonzero((kinds == WORD) | (kinds == SYMBOL))
    used_kinds = kinds[used]
    starts_text = np.zeros(len(data) + 1, bool)
    starts_text[offsets[:-1]] = True
    # A token begins at a symbol, at the first byte of a text, and at a word byte that does not continue a word.
    begins = (used_kinds == SYMBOL) | starts_text[used]
    if len(used):
        begins |= np.append(True, (used[1:] != used[:-1] + 1) | (used_kinds[:-1] == SYMBOL))
    first = np.flatnonzero(begins)
    if not len(first):
        return TokenHashes(np.zeros(0, np.uint64), np.zeros(len(offsets), np.int64), block.owners)
    lengths = np.diff(np.append(first, len(used)))
    within = np.arange(len(used)) - np.repeat(first, lengths)
    pieces = FOLDED[data[used]].astype(np.uint64) << (8 * (within & 7)).astype(np.uint64)
    hashes = np.add.reduceat(pieces * powers(PIECE_STEP, int(lengths.max()) // 8 + 1)[within >> 3], first)
    hashes = (hashes ^ (hashes >> _32)) * MIX
    hashes ^= hashes >> _29
    return TokenHashes(hashes, np.searchsorted(used[first], offsets).astype(np.int64), block.owners)


def _settle_operators(kinds: NDArray[np.uint8], block: TextBlock) -> None:
    """Operators become symbols or separators: they count between two digits with nothing but blanks around them."""
    at = np.flatnonzero(kinds == OPERATOR)
    if not len(at):
        return
    text = np.searchsorted(block.offsets, at, side="right") - 1
    visible = np.flatnonzero(kinds != BLANK)
    order = np.searchsorted(visible, at)
    before, after = visible[np.maximum(order - 1, 0)], visible[np.minimum(order + 1, len(visible) - 1)]
    digit = IS_DIGIT[block.data]
    counts = (before >= block.offsets[text]) & (before < at) & digit[before]
    counts &= (after < block.offsets[text + 1]) & (after > at) & digit[after]
    kinds[at] = np.where(counts | block.prepared[text], SYMBOL, SEPARATOR)


def powers(step: np.uint64, count: int) -> NDArray[np.uint64]:
    """``step ** 0 ... step ** (count - 1)`` modulo 2**64."""
    result = np.full(max(count, 1), step, np.uint64)
    result[0] = 1
    return np.cumprod(result, dtype=np.uint64)
