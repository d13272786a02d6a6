"""Candidate pairs by MinHash banding (P. Indyk and R. Motwani 1998): one sort by radix per band, no hash table."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ftplatform.kernels.backend import map_blocks, use_numba
from ftplatform.kernels.minhash import EMPTY
from ftplatform.kernels.shingles import sorted_distinct, spans

#: Buckets up to this size are compared all against all (496 pairs). In a larger one each member meets the first member and its
#: `LINKS` successors, so that the work stays linear; its members are reported as crowded.
FULL_BUCKET = 32
LINKS = 12
#: Signatures whose keys are made at a time.
_ROWS = 4096
#: Pairs gathered before they are merged with the distinct ones.
_MERGE = 1 << 20


@dataclass(frozen=True)
class Candidates:
    """Distinct pairs ``left[k] < right[k]`` that share a bucket.

    Attributes:
        left, right: int64, (pairs,).
        crowded: int64, ascending: members of buckets too large to be compared completely; what resembles them may be missing.
    """

    left: NDArray[np.int64]
    right: NDArray[np.int64]
    crowded: NDArray[np.int64]


def banding(threshold: float, num_perm: int, recall: float = 0.99) -> tuple[int, int]:
    """Bands and rows per band: the most rows with which a pair *at* the threshold still meets with probability `recall`.

    A pair of similarity s meets in at least one of b bands of r rows with probability 1 - (1 - s**r)**b.
    """
    for rows in range(num_perm, 1, -1):
        bands = num_perm // rows
        if 1 - (1 - threshold**rows) ** bands >= recall:
            return bands, rows
    return num_perm, 1


def band_keys(signatures: NDArray[np.uint32], bands: int, rows: int, *, compiled: bool | None = None) -> NDArray[np.uint32]:
    """32-bit keys of the bands, shape (bands, n): band b is made of the columns b, b + bands, ..., b + (rows - 1) * bands.

    Two different bands get the same key with probability 2**-32.
    """
    compiled = use_numba(signatures.nbytes) if compiled is None else compiled
    keys = np.zeros((bands, len(signatures)), np.uint32)
    if compiled:
        from ftplatform.kernels import compiled as loops

        loops.band_keys(signatures, bands, rows, keys)
        return keys
    for start in range(0, len(signatures), _ROWS):
        part = keys[:, start : start + _ROWS]
        columns = signatures[start : start + _ROWS, : bands * rows].T.reshape(rows, bands, -1)
        for k in range(rows):
            part ^= columns[k]
            part *= np.uint32(0x9E3779B1)
            part ^= part >> np.uint32(15)
    return keys


def candidate_pairs(signatures: NDArray[np.uint32], bands: int, rows: int, *, workers: int | None = None) -> Candidates:
    """Pairs of signatures (uint32, (n, num_perm)) that agree in a band. Empty sets resemble nothing."""
    occupied = np.flatnonzero((signatures != EMPTY).any(axis=1))
    found = bucket_pairs(band_keys(signatures[occupied], bands, rows), workers=workers)
    return Candidates(occupied[found.left], occupied[found.right], occupied[found.crowded])


def bucket_pairs(keys: NDArray[np.uint32], columns: NDArray[np.int64] | None = None, *, workers: int | None = None) -> Candidates:
    """Pairs of columns of `keys` (bands, n), or of the chosen ones (by their position in `columns`), with an equal key in some band."""
    crowded = np.zeros(keys.shape[1] if columns is None else len(columns), bool)
    compiled = use_numba(keys.nbytes)

    scratch = threading.local()

    def band(key: NDArray[np.uint32]) -> NDArray[np.uint64]:
        if compiled and not hasattr(scratch, "arrays"):  # once per thread: fresh pages cost more than the sort
            scratch.arrays = np.empty((2, len(crowded)), np.uint64)
        ordered = sorted_keys(key if columns is None else key[columns], scratch.arrays if compiled else None)
        return _pairs_of_runs(ordered, crowded, compiled)

    pairs = _distinct(map_blocks(band, keys, workers))
    return Candidates(*unpacked(pairs), np.flatnonzero(crowded))


def stable_order(hashes: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Positions of 64-bit hashes in ascending order, equal ones in their own order."""
    scratch = np.empty((2, len(hashes)), np.uint64) if use_numba(hashes.nbytes) else None
    order = unpacked(sorted_keys(hashes.astype(np.uint32), scratch))[1]
    return order[unpacked(sorted_keys((hashes >> np.uint64(32)).astype(np.uint32)[order], scratch))[1]]


def unpacked(pairs: NDArray[np.uint64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Upper and lower halves."""
    return (pairs >> np.uint64(32)).astype(np.int64), (pairs & np.uint64(0xFFFFFFFF)).astype(np.int64)


def _distinct(parts: Iterable[NDArray[np.uint64]]) -> NDArray[np.uint64]:
    # Similar sets meet in many bands: merging as the bands come keeps at most twice the distinct pairs in memory.
    merged = np.zeros(0, np.uint64)
    waiting: list[NDArray[np.uint64]] = []
    for part in parts:
        waiting.append(part)
        if sum(map(len, waiting)) > max(len(merged), _MERGE):
            merged, waiting = sorted_distinct(np.concatenate([merged, *waiting])), []
    return sorted_distinct(np.concatenate([merged, *waiting]))


def sorted_keys(keys: NDArray[np.uint32], scratch: NDArray[np.uint64] | None = None) -> NDArray[np.uint64]:
    """key << 32 | position, ascending; by the compiled kernel where `scratch` (2, n) is given, which then holds the result."""
    if scratch is not None:
        from ftplatform.kernels.compiled import radix_order

        radix_order(keys, scratch[0], scratch[1])
        return scratch[1]
    order = np.argsort(keys.astype(np.uint16), kind="stable")  # NumPy sorts 16-bit numbers by radix
    order = order[np.argsort((keys >> np.uint32(16)).astype(np.uint16)[order], kind="stable")]
    return (keys[order].astype(np.uint64) << np.uint64(32)) | order.astype(np.uint64)


def _pairs_of_runs(ordered: NDArray[np.uint64], crowded: NDArray[np.bool_], compiled: bool) -> NDArray[np.uint64]:
    if not compiled:
        return _numpy_pairs(ordered, crowded)
    from ftplatform.kernels import compiled as loops

    out = np.empty(len(ordered), np.uint64)
    count = loops.bucket_pairs(ordered, FULL_BUCKET, LINKS, crowded, out)
    if count > len(out):
        out = np.empty(count, np.uint64)
        loops.bucket_pairs(ordered, FULL_BUCKET, LINKS, crowded, out)
    return out[:count]


def _numpy_pairs(ordered: NDArray[np.uint64], crowded: NDArray[np.bool_]) -> NDArray[np.uint64]:
    keys, members = unpacked(ordered)
    starts = np.flatnonzero(np.concatenate([[True], keys[1:] != keys[:-1]])) if len(keys) else np.zeros(0, np.int64)
    sizes = np.diff(np.append(starts, len(keys)))
    left, right = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    for size in np.unique(sizes[(sizes > 1) & (sizes <= FULL_BUCKET)]).tolist():
        bucket = members[starts[sizes == size][:, None] + np.arange(size)]
        a, b = np.triu_indices(size, 1)
        left.append(bucket[:, a].ravel())
        right.append(bucket[:, b].ravel())
    large = sizes > FULL_BUCKET
    inside = spans(starts[large], sizes[large])
    crowded[members[inside]] = True
    first, end = np.repeat(starts[large], sizes[large]), np.repeat(starts[large] + sizes[large], sizes[large])
    left.append(members[first[inside > first]])
    right.append(members[inside[inside > first]])
    for step in range(1, LINKS + 1):
        near = inside[inside + step < end]
        left.append(members[near])
        right.append(members[near + step])
    return (np.concatenate(left).astype(np.uint64) << np.uint64(32)) | np.concatenate(right).astype(np.uint64)
