"""Near-duplicates over parts that are files: the result of `kernels.clusters.near_duplicate_clusters`, without its memory."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ftplatform.engine.executors import Executor
from ftplatform.engine.files import UNFINISHED, atomic
from ftplatform.engine.index import opened
from ftplatform.engine.partitioned import PartitionedCorpus, mapped
from ftplatform.engine.sketches import Sketch
from ftplatform.engine.sketching import Columns, Request, sketch_part
from ftplatform.errors import InputDataError
from ftplatform.kernels.clusters import Clusters, clusters_of
from ftplatform.kernels.header import SketchHeader
from ftplatform.kernels.lsh import banding
from ftplatform.kernels.shingles import WIDTH

#: A position takes 32 bits.
_MOST_ROWS = 1 << 32


@dataclass(frozen=True)
class Settings:
    """As of `near_duplicate_clusters`.

    Raises:
        InputDataError: `threshold` or `recall` is out of range.
    """

    threshold: float = 0.8
    recall: float = 0.98
    width: int = WIDTH
    num_perm: int = 128
    seed: int = 1

    def __post_init__(self) -> None:
        if not 0 < self.threshold <= 1 or not 0 < self.recall < 1:
            raise InputDataError(
                f"threshold {self.threshold} is not in (0, 1] or recall {self.recall} not in (0, 1)",
                remedy="Use values such as 0.8 and 0.98.",
            )

    @property
    def header(self) -> SketchHeader:
        """What sketches for these settings are made with."""
        bands, rows = banding(self.threshold, self.num_perm, self.recall)
        return SketchHeader(self.num_perm, self.seed, bands, rows, self.width)


@dataclass(frozen=True)
class Summary:
    """What a run came to.

    Attributes:
        rows, parts: that the result covers, with those of the index.
        sketched: parts that had to be read; the sketches of the others were there.
        clusters: clusters, single rows included.
        redundant: rows that another one represents.
        sampled: as of `Clusters`.
    """

    rows: int
    parts: int
    sketched: int
    clusters: int
    redundant: int
    sampled: bool


def near_duplicates(
    parts: Sequence[Path],
    out: Path,
    executor: Executor,
    settings: Settings | None = None,
    *,
    columns: Columns | None = None,
    index: Path | None = None,
) -> Summary:
    """Write the cluster of every row to `out`, a Parquet file with the rows in the order of parts and of rows in them.

    Columns of `out`: `row_id`; `cluster`, the id of the first row of the row's cluster; `representative`, the id of its medoid;
    `similarity` (double), the Jaccard similarity to it. They are what `near_duplicate_clusters` gives for the texts of all parts in
    one column, whatever the executor. Ids are passed on as they are: where rows share one, a reference to it is to any of them.

    With `index`, sketches are kept there: a part whose sketch exists is not read again, parts added before take part (they come first),
    and parts of the same bytes count once. Without, sketches live beside `out` until the run ends, and a part given twice counts twice.

    Parts are Parquet, Arrow (Feather), CSV or JSON Lines files. With a cluster, parts, `out` and `index` must be reachable under the
    same path on all machines.

    Raises:
        PartFailed, WorkerDied: of the executor; what was sketched into an index stays.
        IndexBusy, IndexDamaged, SketchMismatch: of the index.
        InputDataError: ids of parts differ in type, or there are more than 2**32 rows.
    """
    settings, columns = settings or Settings(), columns or Columns()
    with _sketched(parts, out, executor, settings.header, columns, index) as (sketches, made, scratch):
        corpus = PartitionedCorpus(sketches, settings.header.bands, executor, scratch)
        found = clusters_of(corpus, settings.threshold, recall=settings.recall, rows=settings.header.rows, seed=settings.seed)
        _write(out, sketches, found)
    own = np.arange(len(found.cluster))
    return Summary(
        rows=len(own),
        parts=len(sketches),
        sketched=made,
        clusters=int(np.count_nonzero(found.cluster == own)),
        redundant=int(np.count_nonzero(found.representative != own)),
        sampled=found.sampled,
    )


def files_of(paths: Sequence[Path]) -> list[Path]:
    """The paths themselves, for a folder the Parquet files in it by name.

    Raises:
        InputDataError: a path does not exist, or a folder holds no Parquet file.
    """
    files: list[Path] = []
    for path in paths:
        own = sorted(path.glob("*.parquet")) if path.is_dir() else [path]
        if not own or not own[0].exists():
            raise InputDataError(f"{path} is no file and no folder of Parquet files.", remedy="Name the parts to read.")
        files += own
    return files


@contextmanager
def _sketched(
    parts: Sequence[Path], out: Path, executor: Executor, header: SketchHeader, columns: Columns, index: Path | None
) -> Iterator[tuple[tuple[Sketch, ...], int, Path]]:
    """Sketches of all parts, how many were made, and a folder for the stages to come."""
    out.absolute().parent.mkdir(parents=True, exist_ok=True)
    if index is None:
        with _scratch(out.absolute().parent) as scratch:
            results = _sketch(parts, Path(scratch), executor, header, columns)
            yield _checked(tuple(sketch for sketch, _ in results), header), sum(made for _, made in results), Path(scratch)
    else:
        with opened(index.absolute(), header) as stored, _scratch(stored.folder) as scratch:
            results = _sketch(parts, stored.folder, executor, header, columns)
            stored.replace(_checked(stored.with_new([sketch for sketch, _ in results]), header))
            yield stored.sketches, sum(made for _, made in results), Path(scratch)


def _scratch(folder: Path) -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix=UNFINISHED, dir=folder)


def _sketch(
    parts: Sequence[Path], folder: Path, executor: Executor, header: SketchHeader, columns: Columns
) -> list[tuple[Sketch, bool]]:
    files = [part.absolute() for part in files_of(parts)]
    work = sum(file.stat().st_size for file in files) // executor.workers
    requests = [Request(file, folder, header, columns, work, executor.threads) for file in files]
    return [*mapped(executor, "sketch", sketch_part, requests)]


def _checked(sketches: tuple[Sketch, ...], header: SketchHeader) -> tuple[Sketch, ...]:
    rows = sum(sketch.rows for sketch in sketches)
    if rows > _MOST_ROWS:
        raise InputDataError(f"There are {rows} rows, and at most {_MOST_ROWS} can be told apart.", remedy="Split the corpus.")
    for sketch in sketches:
        sketch.require(header)
    kinds = {str(_id_type(sketch)): sketch.source for sketch in sketches}
    if len(kinds) > 1:
        told = ", ".join(f"{kind} in {source}" for kind, source in sorted(kinds.items()))
        raise InputDataError(f"Row ids are of different types: {told}.", remedy="Give all parts ids of one type.")
    return sketches


def _id_type(sketch: Sketch) -> pa.DataType:
    return pq.read_schema(sketch.table).field("id").type


def _write(out: Path, sketches: tuple[Sketch, ...], found: Clusters) -> None:
    """The result, a part at a time: ids of rows elsewhere are looked up for those clusters only that span several rows."""
    own = np.arange(len(found.cluster))
    moved = (found.cluster != own) | (found.representative != own)
    named = np.unique(np.concatenate([found.cluster[moved], found.representative[moved]]))
    kind = _id_type(sketches[0]) if sketches else pa.large_string()
    names, start = [pa.array([], kind)], 0
    for sketch in sketches:
        inside = named[np.searchsorted(named, start) : np.searchsorted(named, start + sketch.rows)]
        if len(inside):
            names += sketch.ids().take(pa.array(inside - start)).chunks
        start += sketch.rows
    looked_up = pa.chunked_array(names, kind).combine_chunks()
    schema = pa.schema({"row_id": kind, "cluster": kind, "representative": kind, "similarity": pa.float64()})
    start = 0
    with atomic(out) as draft, pq.ParquetWriter(draft, schema, compression="zstd") as writer:
        for sketch in sketches:
            at, ids = slice(start, start + sketch.rows), pa.concat_arrays([pa.array([], kind), *sketch.ids().chunks])
            columns = [ids]
            for rows in (found.cluster[at], found.representative[at]):
                elsewhere = looked_up.take(pa.array(np.searchsorted(named, rows[moved[at]])))
                columns.append(pc.replace_with_mask(ids, pa.array(moved[at]), elsewhere))
            writer.write_table(pa.table([*columns, pa.array(found.similarity[at])], schema=schema))
            start += sketch.rows
