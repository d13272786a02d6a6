"""MinHash signatures, equal to those of datasketch's "affine32" scheme."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ftplatform.kernels.backend import map_blocks, use_numba
from ftplatform.kernels.shingles import ShingleSets

SCHEME = "affine32"
#: Every minimum of the empty set.
EMPTY = np.uint32(0xFFFFFFFF)
#: Sets per block of work, and the columns NumPy reduces at a time: 512 columns of 100 shingles are 200 KiB.
_SETS = 4096
_COLUMNS = 512


def permutations(num_perm: int, seed: int = 1) -> tuple[NDArray[np.uint32], NDArray[np.uint32]]:
    """Odd multipliers and addends of the maps ``x -> a * x + b`` modulo 2**32, drawn as datasketch 2.0 draws them."""
    random = np.random.RandomState(seed)
    a = random.randint(0, 1 << 31, num_perm, dtype=np.uint32) * np.uint32(2) + np.uint32(1)
    return a, random.randint(0, 1 << 32, num_perm, dtype=np.uint32)


def minhash(sets: ShingleSets, num_perm: int = 128, seed: int = 1, *, workers: int | None = None) -> NDArray[np.uint32]:
    """Signatures, shape (n, num_perm); the empty set has all ones.

    Equal to ``datasketch.MinHash(num_perm, seed, scheme="affine32", hashfunc=hashing.shingle_hash)`` updated with the shingles.
    Sources: A. Broder 1997; the finalizer of MurmurHash3 mixes before the affine maps.
    """
    compiled = use_numba(8 * len(sets.values))
    chosen = permutations(num_perm, seed)
    signatures = np.empty((len(sets), num_perm), np.uint32)

    def fill(start: int) -> None:
        offsets = sets.offsets[start : start + _SETS + 1]
        values = sets.values[offsets[0] : offsets[-1]]
        signatures[start : start + _SETS] = minima(values, offsets - offsets[0], chosen, compiled)

    for _ in map_blocks(fill, range(0, len(sets), _SETS), workers):
        pass
    return signatures


def minima(
    values: NDArray[np.uint32], offsets: NDArray[np.int64], chosen: tuple[NDArray[np.uint32], NDArray[np.uint32]], compiled: bool
) -> NDArray[np.uint32]:
    """Signatures of the (multi)sets ``values[offsets[i]:offsets[i + 1]]``: neither order nor repeats matter. Shape (n, num_perm)."""
    n = len(offsets) - 1
    if compiled:
        from ftplatform.kernels import compiled as loops

        signatures = np.empty((n, len(chosen[0])), np.uint32)
        loops.minima(values, offsets, *chosen, np.empty(int(np.diff(offsets).max(initial=0)) + 8, np.uint32), signatures)
        return signatures
    signatures = np.full((n, len(chosen[0])), EMPTY)
    mixed, sizes = _mix(values), np.diff(offsets)
    # Sets of about the same size are the columns of one array, short ones repeating their last member: the minimum runs down rows.
    heights = -(-sizes // 16) * 16
    for height in np.unique(heights[heights > 0]).tolist():
        members = np.flatnonzero(heights == height)
        columns = max(1, min(_COLUMNS, _COLUMNS * 128 // height))
        for first in range(0, len(members), columns):
            group = members[first : first + columns]
            signatures[group] = _columns_minima(mixed, offsets[group], sizes[group], height, chosen)
    return signatures


def _columns_minima(
    mixed: NDArray[np.uint32],
    starts: NDArray[np.int64],
    sizes: NDArray[np.int64],
    height: int,
    chosen: tuple[NDArray[np.uint32], NDArray[np.uint32]],
) -> NDArray[np.uint32]:
    table = mixed[starts + np.minimum(np.arange(height)[:, None], sizes - 1)]
    mapped, lowest = np.empty_like(table), np.empty((len(chosen[0]), len(starts)), np.uint32)
    for k, (a, b) in enumerate(zip(*chosen, strict=True)):
        np.multiply(table, a, out=mapped)
        np.add(mapped, b, out=mapped)
        np.minimum.reduce(mapped, axis=0, out=lowest[k])
    return lowest.T


def _mix(values: NDArray[np.uint32]) -> NDArray[np.uint32]:
    h = values ^ (values >> np.uint32(16))
    h *= np.uint32(0x85EBCA6B)
    h ^= h >> np.uint32(13)
    h *= np.uint32(0xC2B2AE35)
    return h ^ (h >> np.uint32(16))
