"""Pairs of similar sets by MinHash banding (Indyk and Motwani 1998), each verified by its exact Jaccard similarity."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ftplatform.dedup.shingles import ShingleSets, jaccard

#: Buckets up to this size are compared all against all (496 pairs); larger ones (boilerplate) by links, see `_bucket_pairs`.
FULL_BUCKET = 32
_LINKS = 12
#: Pairs per block when signatures are compared: 2 x 4 MiB at 128 permutations.
_BLOCK = 1 << 13


@dataclass(frozen=True)
class Pairs:
    """Verified pairs ``left[k] < right[k]``; `sampled` tells that some bucket was too large to be compared completely."""

    left: NDArray[np.int64]
    right: NDArray[np.int64]
    similarity: NDArray[np.float64]
    sampled: bool = False


def banding(threshold: float, num_perm: int, recall: float = 0.99) -> tuple[int, int]:
    """Bands and rows per band: the most rows with which a pair *at* the threshold still meets with probability `recall`.

    A pair of similarity s meets in at least one of b bands of r rows with probability 1 - (1 - s**r)**b.
    """
    for rows in range(num_perm, 1, -1):
        bands = num_perm // rows
        if 1 - (1 - threshold**rows) ** bands >= recall:
            return bands, rows
    return num_perm, 1


def similar_pairs(sets: ShingleSets, signatures: NDArray[np.uint32], threshold: float, *, recall: float = 0.99) -> Pairs:
    """Pairs of non-empty sets with exact Jaccard similarity >= threshold; precision is 1, recall is that of the banding."""
    seen: list[NDArray[np.uint64]] = []
    sampled = False
    sizes = sets.sizes
    occupied = np.flatnonzero(sizes > 0)
    for keys in _band_keys(signatures[occupied], *banding(threshold, signatures.shape[1], recall)):
        i, j, cut = _bucket_pairs(keys)
        sampled |= cut
        i, j = occupied[i], occupied[j]
        i, j = np.minimum(i, j), np.maximum(i, j)
        # |A and B| / |A or B| <= min / max: pairs of too different size need no look.
        plausible = np.minimum(sizes[i], sizes[j]) >= threshold * np.maximum(sizes[i], sizes[j])
        seen.append(np.unique((i[plausible].astype(np.uint64) << np.uint64(32)) | j[plausible].astype(np.uint64)))
    keys = np.unique(np.concatenate(seen)) if seen else np.zeros(0, np.uint64)
    left, right = (keys >> np.uint64(32)).astype(np.int64), (keys & np.uint64(0xFFFFFFFF)).astype(np.int64)
    likely = _estimate(signatures, left, signatures, right) >= _lowest_estimate(threshold, signatures.shape[1])
    left, right = left[likely], right[likely]
    similarity = jaccard(sets, left, sets, right)
    similar = similarity >= threshold
    return Pairs(left[similar], right[similar], similarity[similar], sampled)


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
    best = np.full(len(sets), -1, np.int64)
    best_similarity = np.zeros(len(sets))
    own, others = np.flatnonzero(sets.sizes > 0), np.flatnonzero(reference.sizes > 0)
    if not len(own) or not len(others):
        return best, best_similarity
    bands, rows = banding(threshold, signatures.shape[1], recall)
    for keys, reference_keys in zip(
        _band_keys(signatures[own], bands, rows), _band_keys(reference_signatures[others], bands, rows), strict=True
    ):
        order = np.argsort(reference_keys, kind="stable")
        low = np.searchsorted(reference_keys[order], keys, side="left")
        counts = np.minimum(np.searchsorted(reference_keys[order], keys, side="right") - low, FULL_BUCKET)
        within = np.arange(int(counts.sum())) - np.repeat(np.cumsum(counts) - counts, counts)
        i = np.repeat(own, counts)
        j = others[order[np.repeat(low, counts) + within]]
        likely = _estimate(signatures, i, reference_signatures, j) >= _lowest_estimate(threshold, signatures.shape[1])
        i, j = i[likely], j[likely]
        similarity = jaccard(sets, i, reference, j)
        better = np.flatnonzero((similarity >= threshold) & (similarity > best_similarity[i]))
        better = better[np.argsort(similarity[better], kind="stable")]  # of several, the last and most similar is written
        best[i[better]] = j[better]
        best_similarity[i[better]] = similarity[better]
    return best, best_similarity


def _lowest_estimate(threshold: float, num_perm: int) -> float:
    # Agreeing permutations are binomial; of pairs at the threshold 3 in 100,000 fall more than four standard deviations below it.
    return threshold - 4 * (threshold * (1 - threshold) / num_perm) ** 0.5


def _estimate(
    a: NDArray[np.uint32], left: NDArray[np.int64], b: NDArray[np.uint32], right: NDArray[np.int64]
) -> NDArray[np.float64]:
    shares = np.empty(len(left))
    for start in range(0, len(left), _BLOCK):
        part = slice(start, start + _BLOCK)
        shares[part] = (a[left[part]] == b[right[part]]).mean(axis=1)
    return shares


def _band_keys(signatures: NDArray[np.uint32], bands: int, rows: int) -> Iterator[NDArray[np.uint64]]:
    for band in range(bands):
        key = np.zeros(len(signatures), np.uint64)
        for column in range(band * rows, (band + 1) * rows):
            key = (key ^ signatures[:, column]) * np.uint64(0x9E3779B97F4A7C15)
            key ^= key >> np.uint64(32)
        yield key


def _bucket_pairs(keys: NDArray[np.uint64]) -> tuple[NDArray[np.int64], NDArray[np.int64], bool]:
    order = np.argsort(keys, kind="stable")
    ordered = keys[order]
    starts = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]])) if len(keys) else np.zeros(0, np.int64)
    sizes = np.diff(np.append(starts, len(keys)))
    left, right = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    for size in np.unique(sizes[(sizes > 1) & (sizes <= FULL_BUCKET)]):
        members = order[starts[sizes == size][:, None] + np.arange(size)]
        a, b = np.triu_indices(int(size), 1)
        left.append(members[:, a].ravel())
        right.append(members[:, b].ravel())
    large = np.flatnonzero(sizes > FULL_BUCKET)
    for at in large:
        # Every member is linked to the next 12: sets that belong together meet again in other bands and in the next round, when
        # the covered ones are gone.
        members = order[starts[at] : starts[at] + sizes[at]]
        for step in range(1, _LINKS + 1):
            left.append(members)
            right.append(np.roll(members, -step))
    return np.concatenate(left), np.concatenate(right), bool(len(large))
