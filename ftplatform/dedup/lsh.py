"""Pairs of similar sets by MinHash banding, each verified by its exact Jaccard similarity; within one table or between two."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ftplatform.kernels.crossing import band_index, cross_join
from ftplatform.kernels.lsh import banding, candidate_pairs
from ftplatform.kernels.shingles import ShingleSets
from ftplatform.kernels.similarity import jaccard, promising


@dataclass(frozen=True)
class Pairs:
    """Verified pairs ``left[k] < right[k]``; `sampled` tells that some bucket was too large to be compared completely."""

    left: NDArray[np.int64]
    right: NDArray[np.int64]
    similarity: NDArray[np.float64]
    sampled: bool = False


def similar_pairs(sets: ShingleSets, signatures: NDArray[np.uint32], threshold: float, *, recall: float = 0.99) -> Pairs:
    """Pairs of non-empty sets with exact Jaccard similarity >= threshold; precision is 1, recall is that of the banding."""
    found = candidate_pairs(signatures, *banding(threshold, signatures.shape[1], recall))
    likely = promising(signatures, found.left, signatures, found.right, threshold)
    left, right = found.left[likely], found.right[likely]
    similarity = jaccard(sets, left, sets, right, threshold=threshold)
    similar = similarity >= threshold
    return Pairs(left[similar], right[similar], similarity[similar], len(found.crowded) > 0)


def nearest_above(
    sets: ShingleSets,
    signatures: NDArray[np.uint32],
    reference: ShingleSets,
    reference_signatures: NDArray[np.uint32],
    threshold: float,
    *,
    recall: float = 0.99,
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """For each set, a reference set with Jaccard similarity >= threshold (the most similar one met), or -1 and 0.

    Returns:
        position in `reference` (int64, (n,)) and similarity (float64, (n,)).
    """
    best, best_similarity = np.full(len(sets), -1, np.int64), np.zeros(len(sets))
    index = band_index(reference_signatures, *banding(threshold, signatures.shape[1], recall))
    met, similarity = cross_join(sets, signatures, reference, reference_signatures, index, threshold)
    order = np.lexsort((-met.right, similarity))  # of several the last is written: the most similar, then the first of these
    best[met.left[order]] = met.right[order]
    best_similarity[met.left[order]] = similarity[order]
    return best, best_similarity
