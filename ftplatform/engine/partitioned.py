"""A corpus in sketched parts, as `kernels.clusters.clusters_of` wants it: every answer is made by an executor from the parts' files."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from ftplatform.engine.executors import Executor
from ftplatform.engine.sketches import Sketch
from ftplatform.engine.tasks import (
    Buckets,
    KeyBlock,
    KeyFile,
    PairBlock,
    pairs_in_buckets,
    promising_pairs,
    similarities,
    write_keys,
)
from ftplatform.kernels.lsh import Candidates, unpacked
from ftplatform.kernels.shingles import sorted_distinct
from ftplatform.progress import advance

P = TypeVar("P")
R = TypeVar("R")

#: Rows whose keys of a band are sorted by one task (some 50 bytes each); where there are more, a task takes a range of keys.
ROWS = 1 << 24
#: Pairs of which one task compares the digests, and shingles that one task loads to compare sets (64 MiB).
PAIRS = 1 << 18
SHINGLES = 1 << 24
#: Candidates gathered before they are merged with the distinct ones.
_MERGE = 1 << 20


def mapped(executor: Executor, stage: str, function: Callable[[P], R], parts: Sequence[P]) -> Iterator[R]:
    """`executor.map_parts` that tells how far it is."""
    for done, result in enumerate(executor.map_parts(function, parts), 1):
        advance(stage, done, len(parts))
        yield result


class PartitionedCorpus:
    """Rows of all sketches, one sketch after the other (`clusters.Corpus`).

    In the driver's memory are per row its hash and size (13 bytes) and what `clusters_of` makes of them, and the distinct candidates.

    Args:
        bands: of the sketches.
        scratch: folder for what the stages hand on, reachable by all workers.
    """

    def __init__(self, sketches: tuple[Sketch, ...], bands: int, executor: Executor, scratch: Path) -> None:
        self.sketches, self.bands, self.executor, self.scratch = sketches, bands, executor, scratch
        self.sequence = _concatenated((sketch.column("sequence") for sketch in sketches), np.uint64)
        self.sizes = _concatenated((sketch.column("shingles") for sketch in sketches), np.uint32)

    @property
    def wordy(self) -> NDArray[np.bool_]:
        return self.sizes > 0

    def bucket_pairs(self, rows: NDArray[np.int64]) -> Candidates:
        members = self.scratch / "members.npy"
        np.save(members, rows)
        files = tuple(KeyFile(sketch.table, sketch.rows) for sketch in self.sketches)
        return self.buckets("candidates", files, self.bands, len(rows), members)

    def promising(self, left: NDArray[np.int64], right: NDArray[np.int64], threshold: float) -> NDArray[np.bool_]:
        blocks = [
            PairBlock(self.sketches, left[start : start + PAIRS], right[start : start + PAIRS], threshold, self.executor.threads)
            for start in range(0, len(left), PAIRS)
        ]
        return _concatenated(mapped(self.executor, "compare digests", promising_pairs, blocks), np.bool_)

    def sets(self, rows: NDArray[np.int64]) -> PartitionedSets:
        return PartitionedSets(self, rows)

    def buckets(self, stage: str, files: tuple[KeyFile, ...], bands: int, count: int, members: Path | None) -> Candidates:
        """Pairs of the `count` members that share a key in a band of the files (`tasks.Buckets`)."""
        ranges = math.ceil(count / ROWS)
        tasks = [
            Buckets(files, band, part, ranges, members, self.executor.threads) for band in range(bands) for part in range(ranges)
        ]
        crowded, merged, waiting = np.zeros(count, bool), np.zeros(0, np.uint64), []
        for pairs, crowd in mapped(self.executor, stage, pairs_in_buckets, tasks):
            crowded[crowd] = True
            waiting.append(pairs)
            if sum(map(len, waiting)) > max(len(merged), _MERGE):
                merged, waiting = sorted_distinct(np.concatenate([merged, *waiting])), []
        return Candidates(*unpacked(sorted_distinct(np.concatenate([merged, *waiting]))), np.flatnonzero(crowded))


class PartitionedSets:
    """Shingle sets of chosen rows of a corpus, looked up block by block (`clusters.Sets`)."""

    def __init__(self, corpus: PartitionedCorpus, rows: NDArray[np.int64]) -> None:
        self._corpus, self._rows, self._sizes = corpus, rows, corpus.sizes[rows].astype(np.int64)

    def __len__(self) -> int:
        return len(self._rows)

    def similarity(self, left: NDArray[np.int64], right: NDArray[np.int64], threshold: float = 0.0) -> NDArray[np.float64]:
        corpus = self._corpus
        blocks = [
            PairBlock(corpus.sketches, self._rows[left[block]], self._rows[right[block]], threshold, corpus.executor.threads)
            for block in self._blocks(self._sizes[left] + self._sizes[right])
        ]
        return _concatenated(mapped(corpus.executor, "compare sets", similarities, blocks), np.float64)

    def bucket_pairs(self, index: NDArray[np.int64], bands: int, rows: int, seed: int) -> Candidates:
        corpus = self._corpus
        blocks = [
            KeyBlock(
                corpus.sketches,
                self._rows[index[block]],
                bands,
                rows,
                seed,
                corpus.scratch / f"keys-{rows}-{number}.parquet",
                corpus.executor.threads,
            )
            for number, block in enumerate(self._blocks(self._sizes[index] + rows * bands))
        ]
        files = tuple(mapped(corpus.executor, "tell crowds apart", write_keys, blocks))
        found = corpus.buckets("candidates among crowds", files, bands, len(index), None)
        for file in files:
            file.path.unlink()
        return found

    def _blocks(self, costs: NDArray[np.int64]) -> list[slice]:
        """Consecutive items of about `SHINGLES` in sum, or less where that keeps all workers busy."""
        total = np.cumsum(costs)
        if not len(total):
            return []
        count = max(math.ceil(int(total[-1]) / SHINGLES), min(4 * self._corpus.executor.workers, len(costs) // 1024))
        edges = np.unique(np.searchsorted(total, np.linspace(0, int(total[-1]), max(1, count) + 1)[1:-1]))
        cuts = [0, *(edge for edge in edges.tolist() if 0 < edge < len(costs)), len(costs)]
        return [slice(start, end) for start, end in pairwise(cuts)]


def _concatenated(parts: Iterable[NDArray[Any]], dtype: Any) -> NDArray[Any]:
    return np.concatenate([np.zeros(0, dtype), *parts])
