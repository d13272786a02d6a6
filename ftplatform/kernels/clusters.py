"""Near-duplicate clusters of a text column: sketch, candidates, exact verification, components, medoids."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ftplatform.errors import InputDataError
from ftplatform.kernels.backend import map_blocks, use_numba
from ftplatform.kernels.blocks import Block, Texts, text_blocks, text_bytes
from ftplatform.kernels.lsh import Candidates, band_keys, banding, bucket_pairs, stable_order
from ftplatform.kernels.minhash import minima, permutations
from ftplatform.kernels.shingles import WIDTH, ShingleSets, block_shingles, shingle_sets
from ftplatform.kernels.similarity import connected_components, jaccard, promising

#: Each further look at a crowd tells its members apart by so many more minima per band, up to so many permutations in all.
_MORE_ROWS = 3
_MOST_PERMUTATIONS = 4096
#: Sets sketched at a time in a further look.
_SETS = 1024
#: Minima of which a byte is kept to sort out candidates by.
DIGEST = 64


@dataclass(frozen=True)
class Pairs:
    """Verified pairs of rows ``left[k] < right[k]`` with their exact Jaccard similarity; each shape (pairs,)."""

    left: NDArray[np.int64]
    right: NDArray[np.int64]
    similarity: NDArray[np.float64]


@dataclass(frozen=True)
class Clusters:
    """Clusters of n rows.

    Attributes:
        cluster: int64, (n,): its smallest row names a cluster.
        representative: int64, (n,): the medoid of the row's cluster, the first of its exact copies.
        similarity: float64, (n,): Jaccard similarity to the representative. It may lie below the threshold where a chain of similar
            rows joins dissimilar ones; who wants none of that keeps such rows.
        pairs: what joins the clusters, between the first of each set of exact copies.
        sampled: some bucket stayed too large to be compared completely; single pairs in it may be missing.
    """

    cluster: NDArray[np.int64]
    representative: NDArray[np.int64]
    similarity: NDArray[np.float64]
    pairs: Pairs
    sampled: bool


def near_duplicate_clusters(
    texts: Texts,
    threshold: float = 0.8,
    *,
    recall: float = 0.98,
    width: int = WIDTH,
    num_perm: int = 128,
    seed: int = 1,
    workers: int | None = None,
) -> Clusters:
    """Rows joined by exact Jaccard similarity >= `threshold` of their word `width`-gram sets.

    Texts of the same words in the same order are copies and count once. Every pair is verified, so that precision is 1; `recall` is
    the probability that a pair *at* the threshold is found (pairs above it more often, and clusters through any of their pairs).
    Rows without words are nobody's duplicate. Signatures are not kept: at 128 permutations they would be the largest thing in memory.

    Raises:
        InputDataError: `threshold` or `recall` is out of range.

    Sources: A. Broder 1997 (MinHash); P. Indyk and R. Motwani 1998 (banding).
    """
    if not 0 < threshold <= 1 or not 0 < recall < 1:
        raise InputDataError(
            f"threshold {threshold} is not in (0, 1] or recall {recall} not in (0, 1)", remedy="Use values such as 0.8 and 0.98."
        )
    bands, rows = banding(threshold, num_perm, recall)
    corpus = _TextColumn(texts, _sketch(texts, bands, rows, num_perm, width, seed, workers), width, workers)
    return clusters_of(corpus, threshold, recall=recall, rows=rows, seed=seed)


class Sets(Protocol):
    """Shingle sets of chosen rows, wherever they lie."""

    def __len__(self) -> int: ...

    def similarity(self, left: NDArray[np.int64], right: NDArray[np.int64], threshold: float = 0.0) -> NDArray[np.float64]:
        """`similarity.jaccard` of pairs of sets, given by position."""
        ...

    def bucket_pairs(self, index: NDArray[np.int64], bands: int, rows: int, seed: int) -> Candidates:
        """Pairs of positions in `index` whose sets share one of `bands` bands of `rows` further minima (`set_keys`)."""
        ...


class Corpus(Protocol):
    """What clustering asks about n sketched rows, in memory or in files on many machines. Rows are given by position, ascending."""

    @property
    def sequence(self) -> NDArray[np.uint64]:
        """Hash of each row's words in order. Shape (n,)."""
        ...

    @property
    def wordy(self) -> NDArray[np.bool_]:
        """Whether each row has words. Shape (n,)."""
        ...

    def bucket_pairs(self, rows: NDArray[np.int64]) -> Candidates:
        """Pairs of positions in `rows` whose sketches share a band key."""
        ...

    def promising(self, left: NDArray[np.int64], right: NDArray[np.int64], threshold: float) -> NDArray[np.bool_]:
        """`similarity.promising` of pairs of rows, by `DIGEST` low bytes of their minima."""
        ...

    def sets(self, rows: NDArray[np.int64]) -> Sets:
        """Shingle sets of these rows. Asked last: sketches may be let go."""
        ...


def clusters_of(corpus: Corpus, threshold: float, *, recall: float, rows: int, seed: int) -> Clusters:
    """Clusters of sketched rows (`near_duplicate_clusters`), of which each band has `rows` minima."""
    nodes, node_of, weights = _exact_copies(corpus.sequence, corpus.wordy)
    # Rows without words all have the key of the empty set, and are nobody's duplicate.
    worded = np.flatnonzero(corpus.wordy[nodes])
    found = corpus.bucket_pairs(nodes[worded])
    left, right, crowd = worded[found.left], worded[found.right], worded[found.crowded]
    likely = corpus.promising(nodes[left], nodes[right], threshold)
    left, right = left[likely], right[likely]
    met = np.zeros(len(nodes), bool)
    met[left] = met[right] = met[crowd] = True
    involved = np.flatnonzero(met)
    sets = corpus.sets(nodes[involved])
    position = np.zeros(len(nodes), np.int64)
    position[involved] = np.arange(len(involved))
    pairs = _verified(sets, position[left], position[right], threshold)
    crowd, weights = position[crowd], weights[involved]
    while len(crowd):
        # A crowded bucket says that its members agree in too few minima to be told apart: those that still stand for themselves
        # meet again in bands of more rows, as many bands as keep the recall.
        rows += _MORE_ROWS
        bands = math.ceil(math.log(1 - recall) / math.log1p(-(threshold**rows))) if threshold < 1 else 1
        _, representative = _medoids(len(sets), pairs, weights)
        crowd = crowd[representative[crowd] == crowd]
        if len(crowd) < 2 or bands * rows > _MOST_PERMUTATIONS:
            break
        again = sets.bucket_pairs(crowd, bands, rows, seed)
        more = _verified(sets, crowd[again.left], crowd[again.right], threshold)
        pairs, crowd = _united(pairs, more), crowd[again.crowded]
    component, representative = _medoids(len(sets), pairs, weights)
    similarity = np.ones(len(nodes))
    similarity[involved] = sets.similarity(np.arange(len(sets)), representative)
    cluster_of, medoid_of = np.arange(len(nodes)), np.arange(len(nodes))
    cluster_of[involved], medoid_of[involved] = involved[component], involved[representative]
    return Clusters(
        nodes[cluster_of][node_of],
        nodes[medoid_of][node_of],
        similarity[node_of],
        Pairs(nodes[involved[pairs.left]], nodes[involved[pairs.right]], pairs.similarity),
        sampled=len(crowd) > 1,
    )


def set_keys(
    sets: ShingleSets, index: NDArray[np.int64], bands: int, rows: int, seed: int, workers: int | None
) -> NDArray[np.uint32]:
    """Band keys of the chosen sets, (bands, len(index)), with permutations of their own."""
    chosen = permutations(-(-bands * rows // 64) * 64, seed + bands * rows)  # whole vectors of permutations cost least
    keys, compiled = np.empty((bands, len(index)), np.uint32), use_numba(4 * bands * rows * len(index))

    def fill(start: int) -> None:
        part = sets.take(index[start : start + _SETS])
        keys[:, start : start + _SETS] = band_keys(
            minima(part.values, part.offsets, chosen, compiled), bands, rows, compiled=compiled
        )

    for _ in map_blocks(fill, range(0, len(index), _SETS), workers):
        pass
    return keys


class _TextColumn:
    """A column in memory."""

    def __init__(self, texts: Texts, sketch: _Sketch, width: int, workers: int | None) -> None:
        self._texts, self._width, self._workers = texts, width, workers
        self._sketch: _Sketch | None = sketch

    @property
    def _sketched(self) -> _Sketch:
        assert self._sketch is not None, "sets are asked for last"
        return self._sketch

    @property
    def sequence(self) -> NDArray[np.uint64]:
        return self._sketched.sequence

    @property
    def wordy(self) -> NDArray[np.bool_]:
        return self._sketched.wordy

    def bucket_pairs(self, rows: NDArray[np.int64]) -> Candidates:
        return bucket_pairs(self._sketched.keys, rows, workers=self._workers)

    def promising(self, left: NDArray[np.int64], right: NDArray[np.int64], threshold: float) -> NDArray[np.bool_]:
        digests = self._sketched.digests
        return promising(digests, left, digests, right, threshold, workers=self._workers)

    def sets(self, rows: NDArray[np.int64]) -> Sets:
        self._sketch = None  # keys and digests are the largest things in memory, and the sets come next
        return _SetsInMemory(shingle_sets(self._texts, self._width, rows=rows, workers=self._workers), self._workers)


@dataclass(frozen=True)
class _SetsInMemory:
    values: ShingleSets
    workers: int | None

    def __len__(self) -> int:
        return len(self.values)

    def similarity(self, left: NDArray[np.int64], right: NDArray[np.int64], threshold: float = 0.0) -> NDArray[np.float64]:
        return jaccard(self.values, left, self.values, right, threshold=threshold, workers=self.workers)

    def bucket_pairs(self, index: NDArray[np.int64], bands: int, rows: int, seed: int) -> Candidates:
        return bucket_pairs(set_keys(self.values, index, bands, rows, seed, self.workers), workers=self.workers)


@dataclass(frozen=True)
class _Sketch:
    """Band keys, uint32 (bands, n); low bytes of minima, uint8 (n, at most `DIGEST`); word-sequence hashes, uint64 (n,); whether a
    row has words, (n,)."""

    keys: NDArray[np.uint32]
    digests: NDArray[np.uint8]
    sequence: NDArray[np.uint64]
    wordy: NDArray[np.bool_]


def _sketch(texts: Texts, bands: int, rows: int, num_perm: int, width: int, seed: int, workers: int | None) -> _Sketch:
    n, compiled, chosen = len(texts), use_numba(text_bytes(texts)), permutations(num_perm, seed)
    digest = min(num_perm, DIGEST)
    sketch = _Sketch(np.empty((bands, n), np.uint32), np.empty((n, digest), np.uint8), np.empty(n, np.uint64), np.empty(n, bool))

    def fill(block: Block) -> None:
        at = slice(block.first, block.first + len(block))
        shingles = block_shingles(block, width, compiled)
        signatures = minima(shingles.values, shingles.offsets, chosen, compiled)
        sketch.keys[:, at] = band_keys(signatures, bands, rows, compiled=compiled)
        sketch.digests[at] = signatures[:, :digest]
        sketch.sequence[at] = shingles.sequence
        sketch.wordy[at] = np.diff(shingles.offsets) > 0

    for _ in map_blocks(fill, text_blocks(texts, compiled), workers):
        pass
    return sketch


def _exact_copies(
    sequence: NDArray[np.uint64], wordy: NDArray[np.bool_]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """Rows that are the first of their words (every row without words is), position there of each row, and how often it occurs."""
    order = stable_order(sequence)
    ordered = sequence[order]
    new = np.concatenate([[True], ordered[1:] != ordered[:-1]]) | ~wordy[order] if len(order) else np.zeros(0, bool)
    first = order[new][np.cumsum(new) - 1]
    first_of = np.empty(len(order), np.int64)
    first_of[order] = first
    nodes = np.flatnonzero(first_of == np.arange(len(order)))
    position = np.empty(len(order), np.int64)
    position[nodes] = np.arange(len(nodes))
    node_of = position[first_of]
    return nodes, node_of, np.bincount(node_of, minlength=len(nodes)).astype(float)


def _verified(sets: Sets, left: NDArray[np.int64], right: NDArray[np.int64], threshold: float) -> Pairs:
    similarity = sets.similarity(left, right, threshold)
    similar = similarity >= threshold
    return Pairs(left[similar], right[similar], similarity[similar])


def _united(a: Pairs, b: Pairs) -> Pairs:
    left, right = np.concatenate([a.left, b.left]), np.concatenate([a.right, b.right])
    _, once = np.unique((left << 32) | right, return_index=True)
    return Pairs(left[once], right[once], np.concatenate([a.similarity, b.similarity])[once])


def _medoids(n: int, pairs: Pairs, weights: NDArray[np.float64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Component of each node and its medoid: the node most similar to its neighbors in sum, of equals the first."""
    component = connected_components(n, pairs.left, pairs.right)
    score = np.bincount(pairs.left, pairs.similarity * weights[pairs.right], minlength=n)
    score += np.bincount(pairs.right, pairs.similarity * weights[pairs.left], minlength=n)
    best_first = np.lexsort((np.arange(n), -score, component))
    _, at = np.unique(component[best_first], return_index=True)
    medoid = np.empty(n, np.int64)
    medoid[component[best_first[at]]] = best_first[at]
    return component, medoid[component]
