r"""A text column in blocks that fit the cache, every text reduced to bytes on which words are plain to see.

The word rule is Unicode's: lower case, words are ``\w+``. For ASCII that is one look at each byte. A text with any other byte is
rewritten first: lower case, and a space for what is neither ASCII nor part of a word. Every byte from 128 up that is left belongs to a
word, so that one byte rule serves both.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

Texts = pa.Array | pa.ChunkedArray | pl.Series
#: Rows looked at together.
_ROWS = 1 << 14
#: Bytes of a block. For the compiled kernels its bytes, shingles and signatures stay within the second-level cache; NumPy pays for every
#: call and wants more rows at once.
_COMPILED_BYTES = 1 << 19
_NUMPY_BYTES = 1 << 21


@dataclass(frozen=True)
class Block:
    """Consecutive (chosen) texts.

    Attributes:
        data: uint8, their bytes one after another.
        offsets: int64, (n + 1,): text i is ``data[offsets[i]:offsets[i + 1]]``.
        first: number of chosen texts before the block.
    """

    data: NDArray[np.uint8]
    offsets: NDArray[np.int64]
    first: int

    def __len__(self) -> int:
        return len(self.offsets) - 1


def text_blocks(texts: Texts, compiled: bool, rows: NDArray[np.int64] | None = None) -> Iterator[Block]:
    """The texts (or those at the ascending positions `rows`) in order. A null is an empty text; one text is never cut."""
    first, limit = 0, _COMPILED_BYTES if compiled else _NUMPY_BYTES
    for start in range(0, len(texts), _ROWS):
        part = texts.slice(start, _ROWS)
        if rows is not None:
            chosen = rows[np.searchsorted(rows, start) : np.searchsorted(rows, start + _ROWS)] - start
            if not len(chosen):
                continue
            part = part.gather(chosen) if isinstance(part, pl.Series) else part.take(pa.array(chosen))
        data, offsets = _bytes(_words_plain(_large_strings(part)))
        at, n = 0, len(offsets) - 1
        while at < n:
            end = max(at + 1, int(np.searchsorted(offsets, offsets[at] + limit, side="right")) - 1)
            yield Block(data[offsets[at] : offsets[end]], offsets[at : end + 1] - offsets[at], first + at)
            at = end
        first += n


def text_bytes(texts: Texts) -> int:
    """About how many bytes a column holds."""
    return int(texts.estimated_size()) if isinstance(texts, pl.Series) else texts.nbytes


def _large_strings(part: Texts) -> pa.LargeStringArray:
    array = part.to_arrow() if isinstance(part, pl.Series) else part
    if isinstance(array, pa.ChunkedArray):
        array = array.combine_chunks()
    array = array if pa.types.is_large_string(array.type) else array.cast(pa.large_string())
    return array.fill_null("") if array.null_count else array


def _words_plain(array: pa.LargeStringArray) -> pa.LargeStringArray:
    data, offsets = _bytes(array)
    occupied = np.flatnonzero(np.diff(offsets))
    rewritten = np.zeros(len(array), bool)
    if len(occupied):
        rewritten[occupied] = np.bitwise_or.reduceat(data, offsets[occupied]) >= 128
    if not rewritten.any():
        return array
    foreign = pl.Series(array.filter(pa.array(rewritten)))
    words = _large_strings(foreign.str.to_lowercase().str.replace_all(r"[^\w\x00-\x7F]+", " "))
    return pc.replace_with_mask(array, pa.array(rewritten), words)


def _bytes(array: pa.LargeStringArray) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    _, offsets, data = array.buffers()
    cuts = np.frombuffer(offsets, np.int64)[array.offset : array.offset + len(array) + 1] if len(array) else np.zeros(1, np.int64)
    bytes_ = np.frombuffer(b"" if data is None else data, np.uint8)
    return bytes_[cuts[0] : cuts[-1]], cuts - cuts[0]
