"""Words of many texts at once: dictionary-encoded, so that Python sees each distinct word once and never each occurrence."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl
import pyarrow as pa
import xxhash
from numpy.typing import NDArray

_STEP = np.uint64(0x9E3779B97F4A7C15)  # odd, so that powers never vanish modulo 2**64


@dataclass(frozen=True)
class Tokens:
    """Words of n texts.

    Attributes:
        codes: position of every word in `vocabulary`, all texts one after another.
        counts: int64, (n,): number of words of each text.
        vocabulary: the distinct words.
        vocabulary_hashes: uint64, xxHash64 of each.
    """

    codes: NDArray[np.int64]
    counts: NDArray[np.int64]
    vocabulary: list[str]
    vocabulary_hashes: NDArray[np.uint64]

    @property
    def hashes(self) -> NDArray[np.uint64]:
        """xxHash64 of every word, in text order."""
        return self.vocabulary_hashes[self.codes]

    @property
    def owners(self) -> NDArray[np.int64]:
        """Number of the text each word belongs to."""
        return np.repeat(np.arange(len(self.counts)), self.counts)

    def sequence_hashes(self, vocabulary_hashes: NDArray[np.uint64] | None = None) -> NDArray[np.uint64]:
        """One 64-bit polynomial hash of each text's word *sequence* (other hashes per word may be given). Shape (n,)."""
        words = self.hashes if vocabulary_hashes is None else vocabulary_hashes[self.codes]
        starts = np.cumsum(self.counts) - self.counts
        within = np.arange(len(words)) - np.repeat(starts, self.counts)
        with np.errstate(over="ignore"):
            powers = np.cumprod(np.full(int(self.counts.max(initial=0)) + 1, _STEP, np.uint64))
            return self._sums(words * powers[within]) * _STEP + self.counts.astype(np.uint64)

    def bag_hashes(self, selected: NDArray[np.bool_]) -> NDArray[np.uint64]:
        """One 64-bit hash of each text's multiset of the words whose vocabulary entry is `selected`. Shape (n,)."""
        return self._sums(np.where(selected, self.vocabulary_hashes, np.uint64(0))[self.codes])

    def _sums(self, values: NDArray[np.uint64]) -> NDArray[np.uint64]:
        sums = np.zeros(len(self.counts), np.uint64)
        occupied = np.flatnonzero(self.counts)
        if len(occupied):
            starts = (np.cumsum(self.counts) - self.counts)[occupied]
            sums[occupied] = np.add.reduceat(values, starts)
        return sums


def tokenize(texts: pl.Series) -> Tokens:
    r"""Lower-case words (``\w+``, Unicode) of each text."""
    words = texts.str.to_lowercase().str.extract_all(r"\w+")
    flat = words.explode(empty_as_null=False).to_arrow()
    encoded = (flat.combine_chunks() if isinstance(flat, pa.ChunkedArray) else flat).dictionary_encode()
    vocabulary = encoded.dictionary.to_pylist()
    return Tokens(
        codes=encoded.indices.to_numpy(zero_copy_only=False).astype(np.int64),
        counts=words.list.len().to_numpy().astype(np.int64),
        vocabulary=vocabulary,
        vocabulary_hashes=np.fromiter((xxhash.xxh64_intdigest(word.encode()) for word in vocabulary), np.uint64, len(vocabulary)),
    )
