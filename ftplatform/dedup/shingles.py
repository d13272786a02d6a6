"""Word 3-gram sets of texts as sorted integer arrays, their exact Jaccard similarity, and MinHash signatures. NumPy throughout."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ftplatform.dedup.tokens import tokenize

#: Words per shingle.
WIDTH = 3
#: Shingles are 48-bit hashes, so that (text number, shingle) fits one 64-bit key and sorting a chunk is one integer sort. Two texts
#: of 100 shingles then show a false common shingle with probability 1e4 / 2**48 = 4e-11.
_BITS = 48
_MASK = np.uint64((1 << _BITS) - 1)
#: Texts (or pairs) per chunk: the text number needs the other 16 bits.
_CHUNK = 1 << (64 - _BITS)
_MULTIPLIERS = (0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9)  # odd 64-bit constants of splitmix64 and xxHash


@dataclass(frozen=True)
class ShingleSets:
    """Compressed rows: set i is `values[offsets[i]:offsets[i + 1]]`, sorted and without repeats.

    Attributes:
        values: uint64, (total,), 48 bits used.
        offsets: int64, (n + 1,).
    """

    values: NDArray[np.uint64]
    offsets: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def sizes(self) -> NDArray[np.int64]:
        """Number of shingles of each text."""
        return np.diff(self.offsets)

    def take(self, index: NDArray[np.int64]) -> ShingleSets:
        """The sets at these positions."""
        values, sizes = _gather(self, index)
        return ShingleSets(values, np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64))


def shingle_sets(texts: pl.Series) -> ShingleSets:
    r"""Sets of word 3-grams of each text (lower case, words are ``\w+``, Unicode).

    A text of one or two words is one shingle made of all of them; a text without words has the empty set.
    """
    values, sizes = [np.zeros(0, np.uint64)], [np.zeros(0, np.int64)]
    for start in range(0, len(texts), _CHUNK):
        part_values, part_sizes = _chunk_shingles(texts.slice(start, _CHUNK))
        values.append(part_values)
        sizes.append(part_sizes)
    offsets = np.concatenate([[0], np.cumsum(np.concatenate(sizes))]).astype(np.int64)
    return ShingleSets(np.concatenate(values), offsets)


def jaccard(a: ShingleSets, left: NDArray[np.int64], b: ShingleSets, right: NDArray[np.int64]) -> NDArray[np.float64]:
    """Exact Jaccard similarity of pairs ``a[left[k]]``, ``b[right[k]]``; 0 where both are empty. Shape (pairs,)."""
    found = np.zeros(len(left))
    for start in range(0, len(left), _CHUNK):
        i, j = left[start : start + _CHUNK], right[start : start + _CHUNK]
        values_a, sizes_a = _gather(a, i)
        values_b, sizes_b = _gather(b, j)
        pair = np.arange(len(i), dtype=np.uint64) << np.uint64(_BITS)
        keys = np.concatenate([values_a | np.repeat(pair, sizes_a), values_b | np.repeat(pair, sizes_b)])
        keys.sort()
        common = keys[1:][keys[1:] == keys[:-1]] >> np.uint64(_BITS)
        both = np.bincount(common.astype(np.int64), minlength=len(i))
        union = sizes_a + sizes_b - both
        found[start : start + _CHUNK] = np.divide(both, union, out=np.zeros(len(i)), where=union > 0)
    return found


def minhash(sets: ShingleSets, num_perm: int, seed: int = 1) -> NDArray[np.uint32]:
    """MinHash signatures (Broder 1997), shape (n, num_perm); the empty set has all ones.

    Permutations are affine maps modulo 2**32 of mixed shingles with the upper bits decisive for the minimum (multiply-add with an
    odd multiplier).
    """
    signatures = np.full((len(sets), num_perm), np.iinfo(np.uint32).max, np.uint32)
    generator = np.random.Generator(np.random.PCG64(seed))
    multipliers = generator.integers(0, 1 << 32, num_perm, dtype=np.uint32) | np.uint32(1)
    addends = generator.integers(0, 1 << 32, num_perm, dtype=np.uint32)
    occupied = np.flatnonzero(sets.sizes > 0)
    starts = sets.offsets[occupied]
    ends = sets.offsets[occupied + 1]
    # Blocks of about 2**15 shingles (128 KiB of uint32): the 128 passes over a block stay in the L2 cache.
    first = 0
    while first < len(occupied):
        last = int(np.searchsorted(ends, starts[first] + (1 << 15), side="right"))
        last = max(last, first + 1)
        mixed = _mix(sets.values[starts[first] : ends[last - 1]])
        cuts = starts[first:last] - starts[first]
        rows = occupied[first:last]
        block = np.empty((num_perm, len(rows)), np.uint32)
        for k in range(num_perm):
            np.minimum.reduceat(mixed * multipliers[k] + addends[k], cuts, out=block[k])
        signatures[rows] = block.T
        first = last
    return signatures


def _mix(values: NDArray[np.uint64]) -> NDArray[np.uint32]:
    # Finalizer of MurmurHash3 (public domain constants): 48-bit shingles to well spread 32 bits.
    mixed = values.copy()
    mixed ^= mixed >> np.uint64(33)
    mixed *= np.uint64(0xFF51AFD7ED558CCD)
    mixed ^= mixed >> np.uint64(33)
    mixed *= np.uint64(0xC4CEB9FE1A85EC53)
    return (mixed >> np.uint64(32)).astype(np.uint32)


def _chunk_shingles(texts: pl.Series) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    words = tokenize(texts)
    hashes, counts = words.hashes, words.counts
    n = len(counts)
    starts = np.concatenate([[0], np.cumsum(counts)[:-1]]).astype(np.int64) if n else np.zeros(0, np.int64)
    shingle_counts = np.where(counts >= WIDTH, counts - WIDTH + 1, np.minimum(counts, 1))
    total = int(shingle_counts.sum())
    owner = np.repeat(np.arange(n), shingle_counts)
    within = np.arange(total) - np.repeat(np.cumsum(shingle_counts) - shingle_counts, shingle_counts)
    at = starts[owner] + within
    combined = np.zeros(total, np.uint64)
    for offset, constant in enumerate(_MULTIPLIERS):
        # Words past the end of a short text count as zero.
        present = within + offset < counts[owner]
        position = np.minimum(at + offset, max(len(hashes) - 1, 0))
        word = np.where(present, hashes[position], np.uint64(0)) if total else combined
        combined = (combined ^ word) * np.uint64(constant)
        combined ^= combined >> np.uint64(29)
    keys = (owner.astype(np.uint64) << np.uint64(_BITS)) | (combined & _MASK)
    keys.sort()
    keys = keys[np.concatenate([[True], keys[1:] != keys[:-1]])] if total else keys
    return keys & _MASK, np.bincount((keys >> np.uint64(_BITS)).astype(np.int64), minlength=n).astype(np.int64)


def _gather(sets: ShingleSets, index: NDArray[np.int64]) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    sizes = sets.sizes[index]
    total = int(sizes.sum())
    within = np.arange(total) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    return sets.values[np.repeat(sets.offsets[index], sizes) + within], sizes
