"""The work on sketches that is spread over workers: functions of a module's top level, on plain data and files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from ftplatform.engine.files import atomic
from ftplatform.engine.sketches import Sketch, band_column, band_columns, chosen_digests, chosen_sets
from ftplatform.kernels.clusters import set_keys
from ftplatform.kernels.lsh import bucket_pairs
from ftplatform.kernels.shingles import ShingleSets
from ftplatform.kernels.similarity import jaccard, promising


@dataclass(frozen=True)
class KeyFile:
    """A Parquet file with band columns, and its number of rows."""

    path: Path
    rows: int


@dataclass(frozen=True)
class Buckets:
    """The buckets of a band whose keys fall into one of `ranges` equal ranges.

    Attributes:
        members: .npy file with the ascending positions of the rows that take part, counted through all files; None for all.
    """

    files: tuple[KeyFile, ...]
    band: int
    key_range: int
    ranges: int
    members: Path | None
    threads: int | None

    def __str__(self) -> str:
        return f"buckets of band {self.band}, key range {self.key_range + 1} of {self.ranges}"


@dataclass(frozen=True)
class PairBlock:
    """Pairs of rows, counted through all sketches."""

    sketches: tuple[Sketch, ...]
    left: NDArray[np.int64]
    right: NDArray[np.int64]
    threshold: float
    threads: int | None

    def __str__(self) -> str:
        return f"{len(self.left)} pairs of rows from {self.left.min()} on"


@dataclass(frozen=True)
class KeyBlock:
    """Rows whose sets get further band keys (`clusters.set_keys`), written to `target`."""

    sketches: tuple[Sketch, ...]
    rows: NDArray[np.int64]
    bands: int
    minima: int
    seed: int
    target: Path
    threads: int | None

    def __str__(self) -> str:
        return f"keys of {len(self.rows)} rows from {self.rows[0]} on"


def pairs_in_buckets(buckets: Buckets) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    """Pairs of members (left << 32 | right, by their position among the members) that share a bucket, and members of crowded ones."""
    members = None if buckets.members is None else np.load(buckets.members, mmap_mode="r", allow_pickle=False)
    positions, keys, start, column = [np.zeros(0, np.int64)], [np.zeros(0, np.uint32)], 0, band_column(buckets.band)
    for file in buckets.files:
        key = pq.read_table(file.path, columns=[column])[column].to_numpy()
        first = start
        if members is not None:
            first, end = np.searchsorted(members, [start, start + file.rows]).tolist()
            key = key[members[first:end] - start]
        inside = np.flatnonzero((key.astype(np.uint64) * np.uint64(buckets.ranges)) >> np.uint64(32) == buckets.key_range)
        positions.append(inside + first)
        keys.append(key[inside])
        start += file.rows
    position = np.concatenate(positions)
    found = bucket_pairs(np.concatenate(keys)[None, :], workers=buckets.threads)
    left, right = position[found.left].astype(np.uint64), position[found.right].astype(np.uint64)
    return (left << np.uint64(32)) | right, position[found.crowded]


def promising_pairs(block: PairBlock) -> NDArray[np.bool_]:
    """Whether each pair may reach the threshold, by the digests of its rows."""
    rows, left, right = _rows(block)
    digests = chosen_digests(block.sketches, rows)
    return promising(digests, left, digests, right, block.threshold, workers=block.threads)


def similarities(block: PairBlock) -> NDArray[np.float64]:
    """Exact Jaccard similarity of each pair; 0 below the threshold."""
    rows, left, right = _rows(block)
    sets = chosen_sets(block.sketches, rows)
    return jaccard(sets, left, sets, right, threshold=block.threshold, workers=block.threads)


def write_keys(block: KeyBlock) -> KeyFile:
    """File with the band columns of the block."""
    sets: ShingleSets = chosen_sets(block.sketches, block.rows)
    keys = set_keys(sets, np.arange(len(sets)), block.bands, block.minima, block.seed, block.threads)
    with atomic(block.target) as draft:
        pq.write_table(pa.table(band_columns(keys)), draft, compression="none", use_dictionary=False, write_statistics=False)
    return KeyFile(block.target, len(block.rows))


def _rows(block: PairBlock) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    rows, position = np.unique(np.concatenate([block.left, block.right]), return_inverse=True)
    return rows, position[: len(block.left)], position[len(block.left) :]
