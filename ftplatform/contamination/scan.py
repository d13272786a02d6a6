"""Which n-grams of eval items stand in which texts, item named: one pass over any number of texts, an index of the items in memory.

Polynomial hashes of tokens (Karp and Rabin 1987), a blocked Bloom filter (Putze, Sanders and Singler 2007) before an exact
look-up of the 64-bit hash. With 10**8 n-grams against 10**6 indexed ones a false hit has probability below 1e-5. An item of fewer
tokens than an n-gram has is found where it is the whole of a text.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ftplatform.contamination.scan_compiled import WHOLE_STEP, scan_texts
from ftplatform.contamination.scan_tokens import TOKEN_INVERSE, TOKEN_STEP, TextBlock, TokenHashes, hash_tokens, powers, text_blocks
from ftplatform.kernels.backend import use_numba

#: Bytes after which compiled code has earned the time to load it (.7 s, against some 7 ns a byte saved).
_EARNED = 100 << 20
#: Tokens of an anchor, at most. Of fewer words in a row too many are common; of more, fewer n-grams share one.
_ANCHOR = 7
_NO_HITS = np.zeros(0, np.int64)


@dataclass(frozen=True)
class Bloom:
    """Blocked Bloom filter of 64-bit hashes, 16 bits a key or more: a word by the upper bits of the hash, three bits in it by the lower.

    Attributes:
        words: uint64.
        shift: right shift that makes a hash a position in `words`.
    """

    words: NDArray[np.uint64]
    shift: np.uint64

    @classmethod
    def of(cls, keys: NDArray[np.uint64]) -> Bloom:
        """The filter of these keys."""
        size = _power_of_two(max(2, len(keys) // 4))
        words, shift = np.zeros(size, np.uint64), np.uint64(65 - size.bit_length())
        np.bitwise_or.at(words, (keys >> shift).astype(np.int64), _bloom_bits(keys))
        return cls(words, shift)

    def may_hold(self, keys: NDArray[np.uint64]) -> NDArray[np.bool_]:
        """False for no key that the filter was made of."""
        bits = _bloom_bits(keys)
        return self.words[(keys >> self.shift).astype(np.int64)] & bits == bits


@dataclass(frozen=True)
class NgramIndex:
    """The n-grams of a list of items.

    Attributes:
        width: tokens per n-gram.
        tokens: the items' tokens.
        keys: uint64, sorted, distinct: hashes of the n-grams, and of the whole item where it is shorter. A gram is a position in it.
        bounds, items, positions: the occurrences of gram g are `items[bounds[g]:bounds[g + 1]]` at token `positions[...]` of each.
    """

    width: int
    tokens: TokenHashes
    keys: NDArray[np.uint64]
    bounds: NDArray[np.int64]
    items: NDArray[np.int64]
    positions: NDArray[np.int64]

    @classmethod
    def of(cls, items: pa.Array | pa.ChunkedArray, width: int = 13) -> NgramIndex:
        """Index the items, strings as they were written.

        Raises:
            ValueError: on a width below 1.
        """
        if width < 1:
            raise ValueError(f"an n-gram has at least one token, not {width}")
        tokens = all_tokens(items)
        keys, texts, positions, _ = _grams(tokens, width)
        unique, gram = np.unique(keys, return_inverse=True)
        order = np.argsort(gram, kind="stable")
        bounds = np.concatenate([[0], np.cumsum(np.bincount(gram, minlength=len(unique)))]).astype(np.int64)
        return cls(width, tokens, unique, bounds, texts[order], positions[order])

    def without(self, grams: NDArray[np.int64]) -> NgramIndex:
        """The index without these grams."""
        keep = np.ones(len(self.keys), bool)
        keep[grams] = False
        counts = np.diff(self.bounds)
        occurrences = np.repeat(keep, counts)
        bounds = np.concatenate([[0], np.cumsum(counts[keep])]).astype(np.int64)
        return NgramIndex(self.width, self.tokens, self.keys[keep], bounds, self.items[occurrences], self.positions[occurrences])

    @cached_property
    def bloom(self) -> Bloom:
        """Knows the keys."""
        return Bloom.of(self.keys)

    @property
    def anchor(self) -> int:
        """Tokens of an anchor, of which `width - anchor + 1` in a row every n-gram holds one."""
        return min(self.width, _ANCHOR)

    @cached_property
    def anchors(self) -> Bloom:
        """Knows every run of `anchor` tokens of the items."""
        return Bloom.of(_grams(self.tokens, self.anchor)[0]) if self.anchor < self.width else self.bloom

    @cached_property
    def slots(self) -> tuple[NDArray[np.uint64], NDArray[np.int32]]:
        """Open-addressing table (keys, grams; gram -1 is empty) for the compiled loop, at most half full."""
        size = _power_of_two(2 * len(self.keys) + 2)
        keys, grams = np.zeros(size, np.uint64), np.full(size, -1, np.int32)
        waiting = np.arange(len(self.keys))
        slots = ((self.keys >> np.uint64(20)) & np.uint64(size - 1)).astype(np.int64)
        while len(waiting):
            # Of those that want one free slot the first gets it; the others move on, as a look-up will.
            free = np.flatnonzero(grams[slots] < 0)
            _, first = np.unique(slots[free], return_index=True)
            placed = free[first]
            keys[slots[placed]], grams[slots[placed]] = self.keys[waiting[placed]], waiting[placed]
            waiting, slots = np.delete(waiting, placed), (np.delete(slots, placed) + 1) % size
        return keys, grams


@dataclass(frozen=True)
class Hits:
    """Where n-grams were found.

    Attributes:
        owners: int64: the owner of the text (its number, if no owners were given).
        positions: int64: token of the owner's stream at which the n-gram begins.
        grams: int64: position in the index's `keys`.
    """

    owners: NDArray[np.int64]
    positions: NDArray[np.int64]
    grams: NDArray[np.int64]

    def expand(self, index: NgramIndex) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """One entry for every item that has the n-gram: (hit, item, position in the item)."""
        counts = np.diff(index.bounds)[self.grams]
        hit = np.repeat(np.arange(len(self.grams)), counts)
        at = np.repeat(index.bounds[self.grams], counts) + np.arange(len(hit)) - np.repeat(np.cumsum(counts) - counts, counts)
        return hit, index.items[at], index.positions[at]


class Scanner:
    """Scans blocks of texts with one index.

    NumPy does the work until the texts are so many that compiled code pays for its loading; the hits do not depend on it.

    Raises:
        KernelUnavailable: if the environment asks for kernels that are not there.
    """

    def __init__(self, index: NgramIndex) -> None:
        self.index = index
        self._seen = 0
        use_numba(0)  # says at once what cannot be had

    def scan(self, texts: pa.Array | pa.ChunkedArray, owners: NDArray[np.int64] | None = None) -> Hits:
        """Hits in these texts, in their order; `owners` as in `scan_tokens.text_blocks`."""
        parts = [self._scan_block(block) for block in text_blocks(texts, owners)] if len(self.index.keys) else []
        if not parts:
            return Hits(_NO_HITS, _NO_HITS, _NO_HITS)
        owner, position, gram = (np.concatenate(columns) for columns in zip(*parts, strict=True))
        return Hits(owner, position, gram)

    def _scan_block(self, block: TextBlock) -> tuple[NDArray[np.int64], ...]:
        self._seen += len(block.data)
        text, position, gram = (_scan_compiled if use_numba(self._seen, _EARNED) else _scan_numpy)(block, self.index)
        return block.owners[text], position.astype(np.int64), gram.astype(np.int64)


def scan(blocks: Iterable[pa.Array | pa.ChunkedArray], index: NgramIndex) -> Iterator[Hits]:
    """Hits of each block of texts; owners count on from block to block, so that a hit names the text among all of them."""
    scanner = Scanner(index)
    before = 0
    for block in blocks:
        yield scanner.scan(block, np.arange(before, before + len(block), dtype=np.int64))
        before += len(block)


def all_tokens(texts: pa.Array | pa.ChunkedArray) -> TokenHashes:
    """Token hashes of all texts."""
    parts = [hash_tokens(block) for block in text_blocks(texts)]
    counts = [np.diff(part.bounds) for part in parts]
    hashes = np.concatenate([part.hashes for part in parts]) if parts else np.zeros(0, np.uint64)
    bounds = np.concatenate([[0], np.cumsum(np.concatenate(counts))]) if parts else np.zeros(1)
    return TokenHashes(hashes, bounds.astype(np.int64), np.arange(len(texts), dtype=np.int64))


def _scan_compiled(block: TextBlock, index: NgramIndex) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.int32]]:
    texts, longest = len(block.owners), int(np.diff(block.offsets).max(initial=0))
    plain = np.zeros(longest + 16, np.uint8)
    eight = np.ndarray((longest + 9,), np.dtype("<u8"), buffer=plain, strides=(1,))
    classes, sides, changes = (np.empty(longest + 2, np.uint8) for _ in range(3))
    edges, words = np.empty(longest + 2, np.uint32), np.empty(longest + index.width, np.uint64)
    # A text has no more n-grams than bytes, and it is a hit as a whole once.
    text, position, gram = (np.empty(len(block.data) + texts, np.int32) for _ in range(3))
    found = scan_texts(
        *(block.data, block.offsets, block.owners, block.prepared),
        *(index.anchors.words, index.anchors.shift, *index.slots, index.width, index.anchor),
        *(plain, eight, classes, sides, changes, edges, words),
        *(text, position, gram),
    )
    return text[:found], position[:found], gram[:found]


def _scan_numpy(block: TextBlock, index: NgramIndex) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    keys, text, position, order = _grams(hash_tokens(block), index.width)
    likely = np.flatnonzero(index.bloom.may_hold(keys))
    gram = np.minimum(np.searchsorted(index.keys, keys[likely]), len(index.keys) - 1)
    exact = index.keys[gram] == keys[likely]
    found, gram = likely[exact], gram[exact]
    by_end = np.argsort(order[found])
    return text[found[by_end]], position[found[by_end]], gram[by_end]


def _grams(tokens: TokenHashes, width: int) -> tuple[NDArray[np.uint64], NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Hash, text, position and rank of every n-gram and of every whole text of fewer tokens.

    The rank is the order in which the compiled loop meets them: by last token, the whole text after the n-gram.
    """
    total = len(tokens.hashes)
    # With S[k] the sum of token j times TOKEN_STEP**j over j < k, an n-gram's hash is (S[k + n] - S[k]) / TOKEN_STEP**k.
    sums = np.concatenate([np.zeros(1, np.uint64), np.cumsum(tokens.hashes * powers(TOKEN_STEP, total)[:total], dtype=np.uint64)])
    shrink = powers(TOKEN_INVERSE, total + 1)
    text, owner_start = tokens.texts(), tokens.owner_starts()
    last = np.flatnonzero(np.arange(total) - owner_start[text] >= width - 1)
    first = last - (width - 1)
    keys = (sums[last + 1] - sums[first]) * shrink[first]
    counts = np.diff(tokens.bounds)
    short = np.flatnonzero((counts > 0) & (counts < width))
    begin, end = tokens.bounds[short], tokens.bounds[short + 1]
    whole = (sums[end] - sums[begin]) * shrink[begin] + counts[short].astype(np.uint64) * WHOLE_STEP
    texts, starts = np.concatenate([text[last], short]), np.concatenate([first, begin])
    rank = np.concatenate([2 * last, 2 * end - 1])
    return np.concatenate([keys, whole]), texts, starts - owner_start[texts], rank


def _bloom_bits(keys: NDArray[np.uint64]) -> NDArray[np.uint64]:
    one, mask = np.uint64(1), np.uint64(63)
    return (one << (keys & mask)) | (one << ((keys >> np.uint64(6)) & mask)) | (one << ((keys >> np.uint64(12)) & mask))


def _power_of_two(least: int) -> int:
    return 1 << (least - 1).bit_length()
