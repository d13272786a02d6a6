"""New texts against stored ones: band keys of the stored signatures stay sorted, and only the new texts are sketched."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ftplatform.kernels.backend import use_numba
from ftplatform.kernels.lsh import FULL_BUCKET, band_keys, sorted_keys, unpacked
from ftplatform.kernels.minhash import EMPTY
from ftplatform.kernels.shingles import ShingleSets, sorted_distinct
from ftplatform.kernels.similarity import jaccard, promising


@dataclass(frozen=True)
class BandIndex:
    """Sorted band keys of n stored signatures.

    Attributes:
        ordered: uint64, (bands, occupied): key << 32 | position, ascending. Empty sets are left out.
        rows: rows per band.
    """

    ordered: NDArray[np.uint64]
    rows: int


@dataclass(frozen=True)
class Crossing:
    """Pairs of a new text ``left[k]`` and a stored one ``right[k]``.

    Attributes:
        left, right: int64, (pairs,).
        crowded: int64, ascending: new texts that met a bucket of more than `FULL_BUCKET` stored ones, of which only as many, spread
            evenly, were paired.
    """

    left: NDArray[np.int64]
    right: NDArray[np.int64]
    crowded: NDArray[np.int64]


def band_index(signatures: NDArray[np.uint32], bands: int, rows: int) -> BandIndex:
    """Index of stored signatures (uint32, (n, num_perm))."""
    occupied = _occupied(signatures)
    keys = band_keys(signatures[occupied], bands, rows)
    ordered = np.empty((bands, len(occupied)), np.uint64)
    scratch = np.empty((2, len(occupied)), np.uint64) if use_numba(keys.nbytes) else None
    for band, key in enumerate(keys):
        upper, position = unpacked(sorted_keys(key, scratch))
        ordered[band] = (upper.astype(np.uint64) << np.uint64(32)) | occupied[position].astype(np.uint64)
    return BandIndex(ordered, rows)


def cross_candidates(index: BandIndex, signatures: NDArray[np.uint32]) -> Crossing:
    """Distinct pairs of new and stored signatures that agree in a band."""
    new = _occupied(signatures)
    keys = band_keys(signatures[new], len(index.ordered), index.rows).astype(np.uint64) << np.uint64(32)
    crowded, parts = np.zeros(len(signatures), bool), [np.zeros(0, np.uint64)]
    for ordered, key in zip(index.ordered, keys, strict=True):
        low = np.searchsorted(ordered, key)
        sizes = np.searchsorted(ordered, key | np.uint64(0xFFFFFFFF), side="right") - low
        crowded[new[sizes > FULL_BUCKET]] = True
        met = np.minimum(sizes, FULL_BUCKET)
        left = np.repeat(np.arange(len(new)), met)
        within = np.arange(len(left)) - np.repeat(np.cumsum(met) - met, met)
        stored = ordered[low[left] + within * sizes[left] // met[left]] & np.uint64(0xFFFFFFFF)
        parts.append((new[left].astype(np.uint64) << np.uint64(32)) | stored)
    return Crossing(*unpacked(sorted_distinct(np.concatenate(parts))), np.flatnonzero(crowded))


def cross_join(
    sets: ShingleSets,
    signatures: NDArray[np.uint32],
    stored: ShingleSets,
    stored_signatures: NDArray[np.uint32],
    index: BandIndex,
    threshold: float,
    *,
    workers: int | None = None,
) -> tuple[Crossing, NDArray[np.float64]]:
    """Pairs of new and stored sets with exact Jaccard similarity >= threshold, and the similarity of each, (pairs,)."""
    found = cross_candidates(index, signatures)
    likely = promising(signatures, found.left, stored_signatures, found.right, threshold, workers=workers)
    left, right = found.left[likely], found.right[likely]
    similarity = jaccard(sets, left, stored, right, threshold=threshold, workers=workers)
    similar = similarity >= threshold
    return Crossing(left[similar], right[similar], found.crowded), similarity[similar]


def _occupied(signatures: NDArray[np.uint32]) -> NDArray[np.int64]:
    return np.flatnonzero((signatures != EMPTY).any(axis=1))
