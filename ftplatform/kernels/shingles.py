"""Word shingles of texts as 32-bit hashes: in text order for sketching, as sorted sets for exact comparison."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from ftplatform.kernels.backend import map_blocks, use_numba
from ftplatform.kernels.blocks import Block, Texts, text_blocks, text_bytes
from ftplatform.kernels.hashing import CHUNK, FINISH, SEQUENCE, WORD, powers

#: Words per shingle.
WIDTH = 3


@dataclass(frozen=True)
class Shingles:
    """Shingles of each text in text order, repeats included: text i has `values[offsets[i]:offsets[i + 1]]`.

    Attributes:
        values: uint32, (total,): `hashing.shingle_hash` of each.
        offsets: int64, (n + 1,).
        sequence: uint64, (n,): `hashing.sequence_hash` of all words of the text; 0 where it has none.
    """

    values: NDArray[np.uint32]
    offsets: NDArray[np.int64]
    sequence: NDArray[np.uint64]


@dataclass(frozen=True)
class ShingleSets:
    """Compressed rows: set i is `values[offsets[i]:offsets[i + 1]]`, sorted and without repeats.

    Attributes:
        values: uint32, (total,).
        offsets: int64, (n + 1,).
    """

    values: NDArray[np.uint32]
    offsets: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def sizes(self) -> NDArray[np.int64]:
        """Number of shingles of each text."""
        return np.diff(self.offsets)

    def take(self, index: NDArray[np.int64]) -> ShingleSets:
        """The sets at these positions."""
        sizes = self.sizes[index]
        return ShingleSets(self.values[spans(self.offsets[index], sizes)], cumulated(sizes))


def shingle_sets(
    texts: Texts, width: int = WIDTH, *, rows: NDArray[np.int64] | None = None, workers: int | None = None
) -> ShingleSets:
    r"""Sets of word `width`-grams of each text (lower case, words are ``\w+``, Unicode), or of those at the ascending `rows`.

    A text with fewer words is one shingle made of all of them; a text without words (or a null) has the empty set.
    """
    compiled = use_numba(text_bytes(texts))
    parts = [*map_blocks(partial(_block_sets, width=width, compiled=compiled), text_blocks(texts, compiled, rows), workers)]
    values = np.concatenate([part.values for part in parts]) if parts else np.zeros(0, np.uint32)
    return ShingleSets(values, cumulated(np.concatenate([np.zeros(0, np.int64), *(part.sizes for part in parts)])))


def text_hashes(texts: Texts, *, workers: int | None = None) -> NDArray[np.uint64]:
    """64-bit hash of each text's word sequence (`hashing.sequence_hash`), 0 where it has no words. Shape (n,)."""
    compiled = use_numba(text_bytes(texts))
    parts = map_blocks(lambda block: block_shingles(block, 1, compiled).sequence, text_blocks(texts, compiled), workers)
    return np.concatenate([np.zeros(0, np.uint64), *parts])


def block_shingles(block: Block, width: int, compiled: bool) -> Shingles:
    """Shingles of the texts of one block."""
    return _compiled_shingles(block, width) if compiled else _numpy_shingles(block, width)


def as_sets(shingles: Shingles, compiled: bool) -> ShingleSets:
    """Sorted, without repeats."""
    n = len(shingles.offsets) - 1
    if compiled:
        from ftplatform.kernels.compiled import sort_unique

        out, ends, counts = np.empty_like(shingles.values), np.zeros(n + 1, np.int64), np.empty((1 << 16) + 1, np.int64)
        total = sort_unique(shingles.values, shingles.offsets, out, ends[1:], counts)
        return ShingleSets(out[:total], ends)
    keys = np.repeat(np.arange(n, dtype=np.uint64) << np.uint64(32), np.diff(shingles.offsets)) | shingles.values
    keys = sorted_distinct(keys)
    return ShingleSets(keys.astype(np.uint32), np.searchsorted(keys >> np.uint64(32), np.arange(n + 1)).astype(np.int64))


def sorted_distinct(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Ascending without repeats; sorts in place. (`numpy.unique` hashes integers first, which costs several times as much.)"""
    values.sort()
    return values[np.concatenate([[True], values[1:] != values[:-1]])] if len(values) else values


def spans(starts: NDArray[np.int64], sizes: NDArray[np.int64]) -> NDArray[np.int64]:
    """starts[0], starts[0] + 1, ... (sizes[0] numbers), then those from starts[1], and so on."""
    before = np.cumsum(sizes) - sizes
    return np.repeat(starts - before, sizes) + np.arange(int(sizes.sum()))


def cumulated(sizes: NDArray[np.int64]) -> NDArray[np.int64]:
    """Offsets of consecutive parts of these sizes. Shape (n + 1,)."""
    return np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)


def _block_sets(block: Block, width: int, compiled: bool) -> ShingleSets:
    return as_sets(block_shingles(block, width, compiled), compiled)


def _compiled_shingles(block: Block, width: int) -> Shingles:
    from ftplatform.kernels.compiled import shingle_texts

    n, longest = len(block), int(np.diff(block.offsets).max(initial=0))
    plain = np.zeros(longest + 32, np.uint8)
    out = np.empty(len(block.data) // 2 + n, np.uint32)  # a word and its separator take two bytes
    offsets, sequence = np.zeros(n + 1, np.int64), np.empty(n, np.uint64)
    edges, words = np.empty(longest + 2, np.uint32), np.empty(longest // 2 + width + 1, np.uint64)
    multipliers = np.array(powers(WORD, width), np.uint64)
    scratch = plain, _unaligned(plain), np.empty_like(plain), edges, words, np.empty_like(words)
    total = shingle_texts(block.data, block.offsets, multipliers, *scratch, out, offsets[1:], sequence)
    return Shingles(out[:total], offsets, sequence)


def _numpy_shingles(block: Block, width: int) -> Shingles:
    hashes, counts = _words(block)
    starts, n = cumulated(counts)[:-1], len(block)
    made = np.where(counts >= width, counts - width + 1, np.minimum(counts, 1))
    offsets = cumulated(made)
    padded = np.concatenate([hashes, np.zeros(width, np.uint64)])
    sums, multipliers = np.zeros(len(hashes), np.uint64), np.array(powers(WORD, width), np.uint64)
    for k, power in enumerate(multipliers):
        sums += padded[k : k + len(hashes)] * power
    for few in range(1, width):  # texts shorter than a shingle: without the words of the next text
        own = starts[counts == few]
        sums[own] = hashes[own[:, None] + np.arange(few)] @ multipliers[:few]
    values = _finish(sums[spans(starts, made)])
    within = np.arange(len(hashes), dtype=np.uint64) - np.repeat(starts, counts).astype(np.uint64)
    mixed = (hashes ^ (within * np.uint64(WORD))) * np.uint64(FINISH)
    mixed = (mixed ^ (mixed >> np.uint64(32))) * np.uint64(SEQUENCE)
    sequence, occupied = np.zeros(n, np.uint64), np.flatnonzero(counts)
    if len(occupied):
        sequence[occupied] = np.add.reduceat(mixed, starts[occupied])
    return Shingles((values >> np.uint64(32)).astype(np.uint32), offsets, sequence)


def _finish(sums: NDArray[np.uint64]) -> NDArray[np.uint64]:
    return (sums ^ (sums >> np.uint64(32))) * np.uint64(FINISH)


def _words(block: Block) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    """Hash of every word and number of words of each text."""
    data = block.data
    plain = np.zeros(len(data) + 16, np.uint8)
    letter = ((data | 32) - np.uint8(97)) < 26
    word = letter | ((data - np.uint8(48)) < 10) | (data == 95) | (data >= 128)
    np.bitwise_or(data, letter.view(np.uint8) << 5, out=plain[: len(data)])
    begins, ends = word.copy(), word.copy()
    begins[1:] &= ~word[:-1]
    ends[:-1] &= ~word[1:]
    inner = block.offsets[1:-1]  # a word ends with its text, whatever the next text begins with
    inner = inner[(inner > 0) & (inner < len(data))]
    begins[inner] = word[inner]
    ends[inner - 1] = word[inner - 1]
    start, end = np.flatnonzero(begins), np.flatnonzero(ends) + 1
    counts = np.diff(np.searchsorted(start, block.offsets))
    eight, sizes = _unaligned(plain), end - start
    masks = np.array([(1 << 8 * k) - 1 for k in range(9)], np.uint64)
    sums = (eight[start] & masks[np.minimum(sizes, 8)]) * np.uint64(CHUNK)
    rest, power = np.flatnonzero(sizes > 8), CHUNK
    for skipped in range(8, int(sizes.max(initial=0)), 8):
        rest = rest[sizes[rest] > skipped]
        power = power * CHUNK % (1 << 64)
        sums[rest] += (eight[start[rest] + skipped] & masks[np.minimum(sizes[rest] - skipped, 8)]) * np.uint64(power)
    return sums ^ (sums >> np.uint64(32)), counts


def _unaligned(data: NDArray[np.uint8]) -> NDArray[np.uint64]:
    """The 8-byte little-endian number at every position (strides of one byte); shape (len - 7,)."""
    return np.ndarray((len(data) - 7,), np.dtype("<u8"), buffer=data, strides=(1,))
