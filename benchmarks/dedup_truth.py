"""Which pairs of a benchmark corpus are near duplicates, and how good a removal is."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ftplatform.kernels.lsh import candidate_pairs
from ftplatform.kernels.minhash import minhash
from ftplatform.kernels.shingles import shingle_sets
from ftplatform.kernels.similarity import connected_components, jaccard, promising

#: The search for pairs nobody planted: 1 - (1 - .7**4)**64 leaves out fewer than one pair in 10**7 at similarity .7, and it has other
#: permutations than any contender.
_BANDS, _ROWS, _SEED = 64, 4, 20_261_122


def true_pairs(table: pa.Table, threshold: float) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Pairs of rows with exact Jaccard similarity >= threshold: all planted ones, and those found by a wide search."""
    sets = shingle_sets(table["text"])
    signatures = minhash(sets, _BANDS * _ROWS, _SEED)
    found = candidate_pairs(signatures, _BANDS, _ROWS)
    likely = promising(signatures[:, :128], found.left, signatures[:, :128], found.right, threshold)
    planted = _within_families(table["family"].to_numpy())
    keys = np.concatenate([found.left[likely] << 32 | found.right[likely], planted[0] << 32 | planted[1]])
    keys = np.unique(keys)
    left, right = keys >> 32, keys & 0xFFFFFFFF
    true = jaccard(sets, left, sets, right, threshold=threshold) >= threshold
    return left[true], right[true]


def quality(removed: NDArray[np.bool_], left: NDArray[np.int64], right: NDArray[np.int64]) -> dict[str, float]:
    """Of a removal: `recall`, the share of true pairs not left both alive; `precision`, the share of removed rows that have a true
    partner; `lost`, the clusters without a survivor."""
    partnered = np.zeros(len(removed), bool)
    partnered[left] = partnered[right] = True
    cluster = connected_components(len(removed), left, right)
    return {
        "recall": round(1 - float((~removed[left] & ~removed[right]).mean()), 5),
        "precision": round(float(partnered[removed].mean()), 5) if removed.any() else 1.0,
        "lost": len(np.unique(cluster)) - len(np.unique(cluster[~removed])),
    }


def _within_families(families: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    order = np.argsort(families, kind="stable")
    left, right = [], []
    for step in range(1, int(np.bincount(families).max())):
        same = np.flatnonzero(families[order][step:] == families[order][:-step])
        left.append(order[same])
        right.append(order[same + step])
    i, j = np.concatenate(left), np.concatenate(right)
    return np.minimum(i, j), np.maximum(i, j)
