"""Semantic near-duplicates, as an option: rows whose embeddings point the same way, compared in blocks of bounded memory."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import polars as pl
from numpy.typing import ArrayLike, NDArray

from ftplatform.dedup.clusters import Cover, SimilarPairs, cluster_ids, keep_k, representatives
from ftplatform.errors import InputDataError

#: Texts to one embedding each: float32, (texts, dimensions). The caller chooses and owns the model.
Encoder = Callable[[list[str]], NDArray[np.float32]]

#: Rows per block: a block of similarities is 2048 x 2048 float32, 16 MiB.
BLOCK = 2048
#: More pairs than this (24 bytes each) mean a threshold that calls everything alike.
MAX_PAIRS = 50_000_000
_TEXTS = 8192


def embed(texts: pl.Series, encode: Encoder) -> NDArray[np.float32]:
    """Unit-length embeddings of all texts, shape (n, d); a text without words, or embedded as zero, has the zero vector.

    Raises:
        InputDataError: the encoder returned another shape or a value that is not finite; names the row.
    """
    parts: list[NDArray[np.float32]] = []
    for start in range(0, len(texts), _TEXTS):
        batch = texts.slice(start, _TEXTS).to_list()
        part = np.asarray(encode(batch), np.float32)
        if part.ndim != 2 or len(part) != len(batch) or (parts and part.shape[1] != parts[0].shape[1]):
            raise InputDataError(
                f"the encoder returned shape {part.shape} for {len(batch)} texts from row {start}.",
                remedy="It must return one vector of the same length for each text.",
            )
        parts.append(part)
    vectors = normalized(np.concatenate(parts)) if parts else np.zeros((0, 1), np.float32)
    vectors[~texts.str.contains(r"\w").to_numpy()] = 0
    return vectors


def normalized(embeddings: NDArray[np.float32]) -> NDArray[np.float32]:
    """Rows scaled to length 1; zero rows stay zero. Shape as given, float32.

    Raises:
        InputDataError: a value is not finite; names the row.
    """
    vectors = np.asarray(embeddings, np.float32)
    bad = np.flatnonzero(~np.isfinite(vectors).all(axis=1))
    if len(bad):
        raise InputDataError(
            f"the embedding of row {int(bad[0])} is not finite.", remedy="Check the encoder on the text of that row."
        )
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.divide(vectors, lengths, out=np.zeros_like(vectors), where=lengths > 0)


def semantic_pairs(embeddings: NDArray[np.float32], threshold: float, *, block: int = BLOCK) -> SimilarPairs:
    """All pairs of rows with cosine similarity >= threshold, found exactly, sorted by position.

    Time grows with the square of the rows (n * n * d / 2 multiplications: about a minute for 100,000 rows of 384 dimensions on a
    few cores); memory is one block and the pairs found.

    Args:
        embeddings: shape (n, d); need not be normalized. Zero rows are nobody's neighbor.
        threshold: in (0, 1].
        block: rows per side of a block.

    Raises:
        InputDataError: threshold out of range, values that are not finite, or more than `MAX_PAIRS` pairs.
    """
    if not 0 < threshold <= 1:
        raise InputDataError(f"similarity threshold {threshold} is not in (0, 1]", remedy="Use a value such as 0.9.")
    vectors = normalized(embeddings)
    found: list[SimilarPairs] = []
    total = 0
    # Rounding may leave the cosine of equal vectors a few units in the last place below 1.
    limit = np.float32(threshold - 1e-6)
    for top in range(0, len(vectors), block):
        for side in range(top, len(vectors), block):
            close = vectors[top : top + block] @ vectors[side : side + block].T
            left, right = np.nonzero(close >= limit)
            similarity = close[left, right].astype(np.float64)
            left, right = left + top, right + side
            upper = left < right
            total += int(upper.sum())
            if total > MAX_PAIRS:
                raise InputDataError(
                    f"more than {MAX_PAIRS:,} pairs are at least {threshold} similar.",
                    remedy="Raise the threshold, or deduplicate by shingles first.",
                )
            found.append(SimilarPairs(left[upper], right[upper], np.minimum(1.0, similarity[upper])))
    if not found:
        return SimilarPairs(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0))
    left, right, similarity = (np.concatenate(parts) for parts in zip(*found, strict=True))
    order = np.lexsort((right, left))
    return SimilarPairs(left[order], right[order], similarity[order])


def semantic_cover(
    embeddings: NDArray[np.float32],
    threshold: float,
    *,
    floor: int = 1,
    labels: ArrayLike | None = None,
    rank: NDArray[np.int64] | None = None,
) -> Cover:
    """Which rows stand for which by meaning: the same medoid and farthest-point rules as for shingles, `keep_k` rows per cluster.

    Args:
        embeddings: shape (n, d).
        threshold: cosine similarity every removed row has with its keeper at least.
        floor: of `keep_k`.
        labels: of the rows, shape (n,); rows of different labels (final answers, intents) are never merged. Embeddings hardly see
            a negation, so give them wherever there are any.
        rank: as in `clusters.representatives`.
    """
    vectors = normalized(embeddings)
    pairs = semantic_pairs(vectors, threshold)
    left, right = pairs.left, pairs.right
    if labels is not None:
        codes = np.unique(np.asarray(labels), return_inverse=True)[1]
        same = codes[left] == codes[right]
        left, right = left[same], right[same]
    cluster = cluster_ids(len(vectors), left, right)

    def cosine(one: NDArray[np.int64], other: NDArray[np.int64]) -> NDArray[np.float64]:
        return np.minimum(1.0, np.einsum("ij,ij->i", vectors[one], vectors[other]).astype(np.float64))

    keep = keep_k(np.bincount(cluster, minlength=1), floor)
    return representatives(cluster, cosine, keep, rank=rank, threshold=threshold - 1e-6)
