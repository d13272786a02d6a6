"""Bringing back removed rows where near-deduplication thinned a slice too much."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ftplatform.kernels.shingles import ShingleSets
from ftplatform.kernels.similarity import jaccard
from ftplatform.statistics.hypergeometric import excess_removal_p
from ftplatform.statistics.multiple import benjamini_hochberg

_MAX_ROUNDS = 20
#: Up to this many rows are chosen one by one (each moves the others' distances), more by their distance at the start.
_ONE_BY_ONE = 256


def keep_floors(
    keeper: NDArray[np.int64],
    similarity: NDArray[np.float64],
    sets: ShingleSets,
    membership: pl.DataFrame,
    limits: Mapping[str, int],
) -> int:
    """Bring back rows, in place, until every slice has ``min(size, floor)`` rows left.

    The rows least like what the slice has left come first (farthest point, Gonzalez 1985).

    Args:
        keeper, similarity: for each row the position of the row that stands for it (its own: kept) and how similar it is.
        membership: slices of the rows.
        limits: floor of each slice.

    Returns:
        How many rows came back.
    """
    restored = 0
    # Small slices first: a row brought back for one counts for the larger ones it is in.
    for name, members in sorted(_members(membership).items(), key=lambda item: (len(item[1]), item[0])):
        kept = members[keeper[members] == members]
        missing = min(len(members), limits[name]) - len(kept)
        if missing > 0:
            gone = members[keeper[members] != members]
            # A row is as far as its nearest: the row that stands for it (perhaps outside the slice) or a survivor of the slice.
            restored += _bring_back(
                keeper, similarity, sets, gone, np.maximum(similarity[gone], _nearest(sets, gone, kept)), missing
            )
    return restored


def balance(
    keeper: NDArray[np.int64],
    similarity: NDArray[np.float64],
    sets: ShingleSets,
    membership: pl.DataFrame,
    lost: Mapping[str | None, int],
    q: float,
) -> int:
    """Bring back rows, in place, until no slice loses significantly more than the rows outside it.

    The test is that of `slice_survival` (one-sided hypergeometric, Benjamini-Hochberg at `q`); a rejected slice gets back just as
    many rows as its own p-value needs to rise above `q`.

    Args:
        lost: rows of each slice that are gone already and cannot come back; under None those of all rows.

    Returns:
        How many rows came back.
    """
    members, everything = _members(membership), np.arange(len(keeper))
    restored = 0
    for _ in range(_MAX_ROUNDS):
        total, gone_in_all = len(keeper) + lost[None], int((keeper != everything).sum()) + lost[None]
        counts = {}
        for name, rows in members.items():
            here = lost.get(name, 0)
            size, removed = len(rows) + here, int((keeper[rows] != rows).sum()) + here
            if size < total and removed > here:
                counts[name] = (size, removed, total - size, gone_in_all - removed)
        if not counts:
            return restored
        rejected, _adjusted = benjamini_hochberg([excess_removal_p(*count) for count in counts.values()], q)
        before = restored
        for name in (name for name, reject in zip(counts, rejected, strict=True) if reject):
            rows = members[name]
            gone = rows[keeper[rows] != rows]
            needed = rows_to_return(counts[name], len(gone), q)
            restored += _bring_back(keeper, similarity, sets, gone, similarity[gone].copy(), needed)
        if restored == before:
            return restored
    return restored


def rows_to_return(count: tuple[int, int, int, int], available: int, q: float) -> int:
    """The fewest removed rows of a slice to bring back so that p > q; all that are available if that is not enough.

    Args:
        count: rows and removed rows of the slice, rows and removed rows outside it (as for `excess_removal_p`).
    """
    size, removed, rest_size, rest_removed = count
    low, high = 0, available
    while low < high:
        middle = (low + high) // 2
        if excess_removal_p(size, removed - middle, rest_size, rest_removed) > q:
            high = middle
        else:
            low = middle + 1
    return low


def _bring_back(
    keeper: NDArray[np.int64],
    similarity: NDArray[np.float64],
    sets: ShingleSets,
    gone: NDArray[np.int64],
    nearest: NDArray[np.float64],
    count: int,
) -> int:
    count = min(count, len(gone))
    if count > _ONE_BY_ONE:
        back = gone[np.argsort(nearest, kind="stable")[:count]]
        keeper[back], similarity[back] = back, 1.0
        return count
    for _ in range(count):
        pick = int(np.argmin(nearest))
        back = gone[pick]
        keeper[back], similarity[back] = back, 1.0
        gone, nearest = np.delete(gone, pick), np.delete(nearest, pick)
        nearest = np.maximum(nearest, jaccard(sets, gone, sets, np.full(len(gone), back)))
    return count


def _members(membership: pl.DataFrame) -> dict[str, NDArray[np.int64]]:
    grouped = membership.group_by("slice").agg("row").sort("slice")
    return {name: np.array(sorted(row), np.int64) for name, row in grouped.iter_rows()}


def _nearest(sets: ShingleSets, left: NDArray[np.int64], right: NDArray[np.int64]) -> NDArray[np.float64]:
    if not len(left) or not len(right):
        return np.zeros(len(left))
    pairs = jaccard(sets, np.repeat(left, len(right)), sets, np.tile(right, len(left)))
    return pairs.reshape(len(left), len(right)).max(axis=1)
