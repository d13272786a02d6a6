"""Near-duplicate clusters: which rows represent them, and weights that leave every row in.

Works on arrays alone: a cluster number for each row and a function that says how similar two rows are, whatever they are compared
by (shingle sets, embeddings).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import polars as pl
from numpy.typing import ArrayLike, NDArray

#: Similarities, shape (pairs,), of the rows at two arrays of positions.
Similarity = Callable[[NDArray[np.int64], NDArray[np.int64]], NDArray[np.float64]]

#: In larger clusters the medoid is the row closest to this many of its members, evenly spaced by rank, instead of to all.
_REFERENCES = 64
#: Pairs compared at once; of embeddings of 384 numbers they take 200 MB.
_BLOCK = 1 << 16
#: Representatives per cluster found one by one; of a chain longer than that, every row not yet covered is kept.
_MAX_ROUNDS = 1024


class SimilarPairs(NamedTuple):
    """Pairs of positions ``left[k] < right[k]`` and their similarity, each of shape (pairs,)."""

    left: NDArray[np.int64]
    right: NDArray[np.int64]
    similarity: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Cover:
    """Who stands for whom.

    Attributes:
        keeper: int64, (n,): position of the row that stands for each row; its own for a kept row.
        similarity: float64, (n,): how similar they are; 1 for a kept row.
    """

    keeper: NDArray[np.int64]
    similarity: NDArray[np.float64]

    @property
    def kept(self) -> NDArray[np.bool_]:
        """Which rows stay, shape (n,)."""
        return self.keeper == np.arange(len(self.keeper))


@dataclass(frozen=True, slots=True)
class ClusterWeights:
    """Weights instead of deletion.

    Attributes:
        weights: float64, (n,), in (0, 1]: what each row counts in the loss.
        mean: their mean, the share of the data that is left; a learning rate or a step count chosen for n rows should know it.
        clusters: clusters of more than one row.
        raised: slices whose weights were raised to their floor.
    """

    weights: NDArray[np.float64]
    mean: float
    clusters: int
    raised: tuple[str, ...]


def cluster_ids(n: int, left: NDArray[np.int64], right: NDArray[np.int64]) -> NDArray[np.int64]:
    """Connected components of `n` rows under the given pairs, numbered in order of their first row. Shape (n,)."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    _, labels = connected_components(coo_array((np.ones(len(left), bool), (left, right)), shape=(n, n)), directed=False)
    return _numbered(labels)


def split_clusters(cluster: NDArray[np.int64], labels: ArrayLike) -> NDArray[np.int64]:
    """The clusters divided by a label of each row, so that no row stands for one of another label (intent, slice, final answer)."""
    _, codes = np.unique(np.asarray(labels), return_inverse=True)
    return _numbered(cluster * (int(codes.max(initial=0)) + 1) + codes)


def keep_k(sizes: ArrayLike, floor: int = 1) -> NDArray[np.int64]:
    """How many rows a cluster of each size keeps: ``max(floor, sqrt(size))`` rounded down, never more than it has."""
    size = np.asarray(sizes, np.int64)
    return np.minimum(size, np.maximum(floor, np.floor(np.sqrt(size)).astype(np.int64)))


def representatives(
    cluster: NDArray[np.int64],
    similarity: Similarity,
    keep: NDArray[np.int64],
    *,
    rank: NDArray[np.int64] | None = None,
    threshold: float | None = None,
) -> Cover:
    """Choose the rows that stand for each cluster: its medoid, then the rows farthest from what is chosen.

    Neither rule knows length or fluency, so neither favors the short and clean. All clusters are served in step: one call of
    `similarity` for each round, not for each cluster.

    Args:
        cluster: number of each row's cluster, 0 to C - 1, shape (n,).
        similarity: at most 1, symmetric.
        keep: rows each cluster keeps (`keep_k`), at least 1, shape (C,).
        rank: decides between equally good rows, lowest first; their position by default. Give the order of row ids to be
            independent of the order of rows.
        threshold: go on beyond `keep` until every row has a representative at least this similar, so that nothing is lost through
            a chain of others.

    Source: T. Gonzalez, Theor. Comput. Sci. 38 (1985) 293.
    """
    n = len(cluster)
    rank = np.arange(n) if rank is None else rank
    members = np.lexsort((rank, cluster))
    keeper, nearest = np.arange(n), np.full(n, -np.inf)
    if not n:
        return Cover(keeper, np.ones(0))
    pick = _medoids(cluster, members, similarity)
    count = np.zeros(len(keep), np.int64)
    active = members[np.bincount(cluster)[cluster[members]] > 1]
    nearest[pick] = np.inf  # chosen
    for _ in range(_MAX_ROUNDS):
        active = active[nearest[active] < np.inf]
        if not len(active):
            break
        chosen = pick[cluster[active]]
        close = _blockwise(similarity, active, chosen)
        better = close > nearest[active]
        nearest[active[better]], keeper[active[better]] = close[better], chosen[better]
        count[np.unique(cluster[active])] += 1
        starts = _starts(cluster[active])
        lengths = np.diff(np.append(starts, len(active)))
        farthest = np.minimum.reduceat(nearest[active], starts)
        here = cluster[active[starts]]
        wanted = count[here] < keep[here]
        if threshold is not None:
            wanted |= farthest < threshold
        is_farthest = np.flatnonzero((nearest[active] == np.repeat(farthest, lengths)) & np.repeat(wanted, lengths))
        is_farthest = is_farthest[_starts(cluster[active[is_farthest]])]
        new = active[is_farthest]
        pick[cluster[new]] = new
        keeper[new], nearest[new] = new, np.inf
        active = active[np.repeat(wanted, lengths)]
    if threshold is not None:
        uncovered = nearest < threshold
        keeper[uncovered] = np.flatnonzero(uncovered)
    kept = keeper == np.arange(n)
    return Cover(keeper, np.where(kept, 1.0, nearest))


def cluster_weights(
    cluster: NDArray[np.int64],
    floor: int = 1,
    *,
    membership: pl.DataFrame | None = None,
    limits: Mapping[str, int] | None = None,
) -> ClusterWeights:
    """Give the rows of a near-duplicate cluster equal shares of what `keep_k` rows weigh; a row without duplicates weighs 1.

    Weights edit the distribution just as deletion does, only more gently: a slice that lies in one cluster would weigh little more
    than one row. With `membership` and `limits` the rows of such a slice weigh at least ``min(size, floor of the slice)`` together.

    Args:
        cluster: number of each row's cluster, shape (n,). Better the position of its keeper (`Cover.keeper`): connected components
            chain rows together that have little in common, and weigh them down for it.
        floor: of `keep_k`.
        membership: frame with `row` and `slice` (`slices.slice_membership`).
        limits: survival floor of each slice (`slices.floors`).

    Source: N. He et al., SoftDedup, ACL 2024 (arXiv 2407.06654): lower sampling weight for common data instead of removal.
    """
    _, codes, sizes = np.unique(cluster, return_inverse=True, return_counts=True)
    weights = (keep_k(sizes, floor) / sizes)[codes] if len(cluster) else np.zeros(0)
    raised: list[str] = []
    if membership is not None and limits is not None:
        # Small slices first: what is raised for one counts for the larger ones it lies in.
        grouped = membership.group_by("slice").agg("row", size=pl.len()).sort("size", "slice")
        for name, rows, size in grouped.iter_rows():
            rows, need = np.array(rows, np.int64), min(size, limits.get(name, 0))
            if weights[rows].sum() < need - 1e-9:
                weights[rows] = _raised(weights[rows], need)
                raised.append(name)
    mean = float(weights.mean()) if len(weights) else 1.0
    return ClusterWeights(weights, mean, int((sizes > 1).sum()), tuple(raised))


def _raised(weights: NDArray[np.float64], total: float) -> NDArray[np.float64]:
    """The weights times one factor, none above 1, so that they sum to `total` (at most their number)."""
    low, high = 1.0, total / float(weights.min())
    for _ in range(60):  # halving: 60 steps reach the precision of a double
        middle = (low + high) / 2
        low, high = (middle, high) if np.minimum(1.0, weights * middle).sum() < total else (low, middle)
    return np.minimum(1.0, weights * high)


def _medoids(cluster: NDArray[np.int64], members: NDArray[np.int64], similarity: Similarity) -> NDArray[np.int64]:
    """The most central row of each cluster, shape (C,); `members` are all rows by cluster, then rank."""
    starts = _starts(cluster[members])
    sizes = np.diff(np.append(starts, len(members)))
    references = np.minimum(sizes, _REFERENCES)
    per_member = np.where(sizes > 2, references, 0).repeat(sizes)  # of two rows neither is more central
    first_of, size_of = starts.repeat(sizes), sizes.repeat(sizes)
    score = np.zeros(len(members))
    ends = np.cumsum(per_member)
    begin = 0
    while begin < len(members):
        before = ends[begin] - per_member[begin]
        end = max(begin + 1, int(np.searchsorted(ends, before + _BLOCK, side="right")))
        counts = per_member[begin:end]
        of = np.repeat(np.arange(begin, end), counts)
        j = np.arange(len(of)) - np.repeat(np.cumsum(counts) - counts, counts)
        others = first_of[of] + j * size_of[of] // np.maximum(1, per_member[of])
        different = others != of
        of, others = of[different], others[different]
        if len(of):
            close = similarity(members[of], members[others])
            sums = np.bincount(of - begin, close, minlength=end - begin)
            # A reference is compared with one row fewer than the others are. Rounded, so that equally central rows tie.
            score[begin:end] = np.round(sums / np.maximum(1, np.bincount(of - begin, minlength=end - begin)), 9)
        begin = end
    best = np.maximum.reduceat(score, starts)
    is_best = np.flatnonzero(score == best.repeat(sizes))
    return members[is_best[_starts(cluster[members[is_best]])]]


def _blockwise(similarity: Similarity, left: NDArray[np.int64], right: NDArray[np.int64]) -> NDArray[np.float64]:
    parts = [similarity(left[at : at + _BLOCK], right[at : at + _BLOCK]) for at in range(0, len(left), _BLOCK)]
    return np.concatenate(parts).astype(np.float64)


def _starts(ordered: NDArray[np.int64]) -> NDArray[np.int64]:
    """Where each run of equal values begins."""
    return np.flatnonzero(np.append(True, ordered[1:] != ordered[:-1])) if len(ordered) else np.zeros(0, np.int64)


def _numbered(labels: NDArray[np.integer]) -> NDArray[np.int64]:
    """Labels as 0 .. C-1 in order of first appearance."""
    _, first, codes = np.unique(labels, return_index=True, return_inverse=True)
    place = np.empty(len(first), np.int64)
    place[np.argsort(first)] = np.arange(len(first))
    return place[codes]
