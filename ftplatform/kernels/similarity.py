"""Exact Jaccard similarity of pairs of sets, and connected components of pairs."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ftplatform.kernels.backend import map_blocks, use_numba
from ftplatform.kernels.shingles import ShingleSets, spans

#: Pairs per block of work.
_PAIRS = 1 << 14


def jaccard(
    a: ShingleSets,
    left: NDArray[np.int64],
    b: ShingleSets,
    right: NDArray[np.int64],
    *,
    threshold: float = 0.0,
    workers: int | None = None,
) -> NDArray[np.float64]:
    """Exact Jaccard similarity of pairs ``a[left[k]]``, ``b[right[k]]``; 0 where both are empty. Shape (pairs,).

    Similarities below `threshold` are given as 0, which spares most of the work on dissimilar pairs. Exact up to colliding shingle
    hashes (`hashing`).
    """
    sizes_a, sizes_b = a.sizes[left], b.sizes[right]
    # |A and B| >= least is the same as similarity >= threshold; the margin keeps rounding from losing a pair at the threshold.
    least = np.ceil((sizes_a + sizes_b) * (threshold / (1 + threshold)) - 1e-9).astype(np.int64)
    compiled = use_numba(4 * int(sizes_a.sum() + sizes_b.sum()))
    similarity = np.zeros(len(left))
    # |A and B| is at most the smaller size: pairs of too different size need no look.
    plausible = np.flatnonzero(np.minimum(sizes_a, sizes_b) >= np.maximum(least, 1))

    def fill(start: int) -> None:
        part = plausible[start : start + _PAIRS]
        common = _common(a, left[part], b, right[part], least[part], compiled)
        similarity[part] = common / (sizes_a[part] + sizes_b[part] - common)

    for _ in map_blocks(fill, range(0, len(plausible), _PAIRS), workers):
        pass
    return similarity


def promising(
    a: NDArray[Any],
    left: NDArray[np.int64],
    b: NDArray[Any],
    right: NDArray[np.int64],
    threshold: float,
    *,
    workers: int | None = None,
) -> NDArray[np.bool_]:
    """Pairs that may reach the threshold by the share of equal minima, given as signatures or as their low bytes. Shape (pairs,).

    Left out is what lies more than four standard deviations below the threshold: 3 in 100,000 pairs at it, fewer above.

    Args:
        a, b: uint32 or uint8, (n, k) and (m, k).

    Source for the low bytes: P. Li and A. Koenig 2010 (b-bit minwise hashing).
    """
    columns = a.shape[1]
    least = columns * threshold - 4 * (columns * threshold * (1 - threshold)) ** 0.5
    compiled = use_numba(2 * a.itemsize * columns * len(left))
    found = np.empty(len(left), bool)

    def fill(start: int) -> None:
        i, j = left[start : start + _PAIRS], right[start : start + _PAIRS]
        if compiled:
            from ftplatform.kernels.compiled import agreements

            equal = np.empty(len(i), np.int64)
            agreements(a, i, b, j, equal)
        else:
            equal = np.count_nonzero(a[i] == b[j], axis=1)
        found[start : start + _PAIRS] = equal >= least

    for _ in map_blocks(fill, range(0, len(left), _PAIRS), workers):
        pass
    return found


def connected_components(n: int, left: NDArray[np.int64], right: NDArray[np.int64]) -> NDArray[np.int64]:
    """Component of each of n nodes joined by the pairs, named by its smallest node. Shape (n,)."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components as components

    graph = coo_array((np.ones(len(left), bool), (left, right)), shape=(n, n))
    _, labels = components(graph, directed=False)
    _, first = np.unique(labels, return_index=True)
    return first[labels].astype(np.int64)


def _common(
    a: ShingleSets, left: NDArray[np.int64], b: ShingleSets, right: NDArray[np.int64], least: NDArray[np.int64], compiled: bool
) -> NDArray[np.int64]:
    """Sizes of the intersections; 0 for those below `least`."""
    if compiled:
        from ftplatform.kernels.compiled import intersections

        out = np.empty(len(left), np.int64)
        intersections(a.values, a.offsets, left, b.values, b.offsets, right, least, out)
        return out
    keys = np.concatenate([_pair_keys(a, left), _pair_keys(b, right)])
    keys.sort(kind="stable")  # two sorted runs: a stable sort merges them in one pass
    equal = keys[1:][keys[1:] == keys[:-1]] >> np.uint64(32)
    common = np.bincount(equal.astype(np.int64), minlength=len(left))
    return np.where(common >= least, common, 0)


def _pair_keys(sets: ShingleSets, index: NDArray[np.int64]) -> NDArray[np.uint64]:
    sizes = sets.sizes[index]
    values = sets.values[spans(sets.offsets[index], sizes)]
    return np.repeat(np.arange(len(index), dtype=np.uint64) << np.uint64(32), sizes) | values
