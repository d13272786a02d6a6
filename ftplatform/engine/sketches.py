"""Sketches of parts in files: what deduplication needs to know of a text, so that no text is read twice.

A part (a file of rows) has two: `<name>.parquet` with one row per text, in order,

    id, signature                as `kernels.header.signature_table` makes them, with their SketchHeader
    sequence, shingles           hash of the words in order (uint64), number of distinct shingles (uint32)
    band_000, band_001, ...      band keys (uint32); a band of all parts is one column to read from each

and `<name>.sets` (an Arrow file, memory-mapped, for single rows are looked up in it) with

    digest                       the low bytes of the first minima (fixed-size binary)
    set                          the distinct shingles, sorted (list of uint32)

The name is a digest of the part's bytes and of all that the sketch depends on: a sketch that exists is the right one.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from ftplatform.engine.errors import IndexDamaged
from ftplatform.kernels.clusters import DIGEST
from ftplatform.kernels.header import SketchHeader, read_signatures
from ftplatform.kernels.shingles import ShingleSets, cumulated

#: Version of the files' layout.
LAYOUT = 1


@dataclass(frozen=True)
class Sketch:
    """Files of a sketched part.

    Attributes:
        name: of the files, without ending.
        rows: number of rows.
        source: the part it was made of, for people.
    """

    folder: Path
    name: str
    rows: int
    source: str

    @property
    def table(self) -> Path:
        return self.folder / f"{self.name}.parquet"

    @property
    def sets(self) -> Path:
        return self.folder / f"{self.name}.sets"

    def column(self, name: str) -> NDArray[Any]:
        """A column of numbers. Shape (rows,)."""
        return pq.read_table(self.table, columns=[name])[name].to_numpy()

    def ids(self) -> pa.ChunkedArray:
        """Row ids: large strings or int64."""
        return pq.read_table(self.table, columns=["id"])["id"]

    def require(self, header: SketchHeader) -> None:
        """Raise unless the files are there and were made as `header` says.

        Raises:
            IndexDamaged: a file is missing, cut off or of another length.
            SketchMismatch: naming what differs.
        """
        try:
            with pq.ParquetFile(self.table) as file, pa.memory_map(str(self.sets)) as source:
                rows, empty = file.metadata.num_rows, file.schema_arrow.empty_table()
                pa.ipc.open_file(source)
        except (OSError, pa.ArrowException) as problem:
            raise IndexDamaged(
                f"The sketch {self.name} of {self.source} cannot be read.", remedy="Remove the index and build it again."
            ) from problem
        if rows != self.rows:
            raise IndexDamaged(
                f"{self.table} has {rows} rows instead of {self.rows}.", remedy="Remove the index and build it again."
            )
        read_signatures(empty, header, str(self.table))


def band_column(band: int) -> str:
    """Name of a band's column."""
    return f"band_{band:03d}"


def band_columns(keys: NDArray[np.uint32]) -> dict[str, pa.Array]:
    """Band keys, (bands, n), as columns."""
    return {band_column(band): pa.array(key) for band, key in enumerate(keys)}


def chosen(sketches: tuple[Sketch, ...], rows: NDArray[np.int64], column: str) -> Iterator[pa.Array]:
    """`digest` or `set` of these rows (ascending, counted through all sketches), in order."""
    start = 0
    for sketch in sketches:
        if np.searchsorted(rows, start) < np.searchsorted(rows, start + sketch.rows):
            with pa.memory_map(str(sketch.sets)) as source:
                reader, at = pa.ipc.open_file(source), start
                for number in range(reader.num_record_batches):
                    batch = reader.get_batch(number)
                    own = rows[np.searchsorted(rows, at) : np.searchsorted(rows, at + batch.num_rows)] - at
                    at += batch.num_rows
                    if len(own):
                        yield batch.column(column).take(pa.array(own))
        start += sketch.rows


def chosen_sets(sketches: tuple[Sketch, ...], rows: NDArray[np.int64]) -> ShingleSets:
    """Shingle sets of these rows."""
    parts = [*chosen(sketches, rows, "set")]
    values = [part.flatten().to_numpy() for part in parts]
    sizes = [np.diff(part.offsets.to_numpy()) for part in parts]
    return ShingleSets(
        np.concatenate([np.zeros(0, np.uint32), *values]), cumulated(np.concatenate([np.zeros(0, np.int64), *sizes]))
    )


def chosen_digests(sketches: tuple[Sketch, ...], rows: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Digests of these rows. Shape (len(rows), at most `DIGEST`)."""
    parts = [_bytes(part) for part in chosen(sketches, rows, "digest")]
    return np.concatenate(parts) if parts else np.zeros((0, DIGEST), np.uint8)


def _bytes(part: pa.FixedSizeBinaryArray) -> NDArray[np.uint8]:
    width = part.type.byte_width
    return np.frombuffer(part.buffers()[1], np.uint8).reshape(-1, width)[part.offset : part.offset + len(part)]
