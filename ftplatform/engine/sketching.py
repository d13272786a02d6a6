"""Making the sketch of a part: read in batches, sketched by the kernels, written atomically."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from ftplatform.canonical import digest
from ftplatform.engine.files import atomic, sha256_of
from ftplatform.engine.sketches import LAYOUT, Sketch, band_columns
from ftplatform.errors import InputDataError
from ftplatform.kernels.backend import map_blocks, use_numba
from ftplatform.kernels.blocks import Block, text_blocks
from ftplatform.kernels.clusters import DIGEST
from ftplatform.kernels.header import SketchHeader, signature_table
from ftplatform.kernels.lsh import band_keys
from ftplatform.kernels.minhash import minima, permutations
from ftplatform.kernels.shingles import ShingleSets, as_sets, block_shingles, cumulated

#: Rows sketched and written together, a row group of the file: 8 MiB of signatures.
_ROWS = 1 << 14
_FORMATS = {".parquet": "parquet", ".arrow": "feather", ".feather": "feather", ".csv": "csv", ".jsonl": "json", ".json": "json"}


@dataclass(frozen=True)
class Columns:
    """Names of the columns with a row's id (strings or whole numbers) and its text."""

    row_id: str = "row_id"
    text: str = "text"


@dataclass(frozen=True)
class Request:
    """A part to be sketched into `folder`.

    Attributes:
        work: bytes of text the worker will see in all (`backend.use_numba`).
        threads: of the kernels.
    """

    file: Path
    folder: Path
    header: SketchHeader
    columns: Columns
    work: int
    threads: int | None

    def __str__(self) -> str:
        return f"sketch of {self.file}"


def sketch_part(request: Request) -> tuple[Sketch, bool]:
    """Sketch of a part, and whether it had to be made.

    The part is read a batch at a time. A crash leaves no half of a sketch: the table is written last and takes its name when complete.

    Raises:
        InputDataError: the part cannot be read, lacks a column, has a null id, or changed while it was read.
    """
    file, columns = request.file, request.columns
    try:
        before, content = _state(file), sha256_of(file)
        made_of = {"content": content, "format": file.suffix, "columns": asdict(columns), "header": asdict(request.header)}
        sketch = Sketch(request.folder, digest(made_of | {"layout": LAYOUT}), 0, str(file))
        if sketch.table.exists():
            with pq.ParquetFile(sketch.table) as table:
                return Sketch(sketch.folder, sketch.name, table.metadata.num_rows, sketch.source), False
        rows = _write(sketch, request, before)
    except (OSError, pa.ArrowException) as problem:
        raise InputDataError(
            f"{file} cannot be read or its sketch not be written: {problem}", remedy="Check file and space."
        ) from problem
    return Sketch(sketch.folder, sketch.name, rows, sketch.source), True


def _state(file: Path) -> tuple[int, int]:
    stat = file.stat()
    return stat.st_mtime_ns, stat.st_size


def _write(sketch: Sketch, request: Request, before: tuple[int, int]) -> int:
    compiled, rows = use_numba(request.work), 0
    with atomic(sketch.table) as table_draft, atomic(sketch.sets) as sets_draft:
        table, sets = None, None
        try:
            for ids, texts in _batches(request):
                columns, looked_up = _sketched(ids, texts, request, compiled)
                if table is None or sets is None:
                    options: dict[str, Any] = {"compression": "none", "use_dictionary": False, "write_statistics": False}
                    table = pq.ParquetWriter(table_draft, columns.schema, **options)
                    sets = pa.ipc.new_file(str(sets_draft), looked_up.schema)
                table.write_table(columns)
                sets.write_batch(looked_up)
                rows += len(ids)
        finally:
            for writer in (table, sets):
                if writer is not None:
                    writer.close()
        if _state(request.file) != before:
            raise InputDataError(f"{request.file} changed while it was read.", remedy="Run again when nobody writes to it.")
    return rows


def _batches(request: Request) -> Iterator[tuple[pa.Array, pa.Array]]:
    """Ids and texts, a batch at a time; one empty batch where there are none."""
    file, columns = request.file, request.columns
    if file.suffix not in _FORMATS:
        raise InputDataError(f"{file} is of no known format.", remedy=f"Known endings are {', '.join(_FORMATS)}.")
    dataset = ds.dataset(str(file), format=_FORMATS[file.suffix])
    missing = [name for name in (columns.row_id, columns.text) if name not in dataset.schema.names]
    if missing:
        raise InputDataError(f"{file} has no column {', '.join(missing)}.", remedy="Name the columns of row ids and texts.")
    scanner = dataset.scanner(
        [columns.row_id, columns.text], batch_size=_ROWS, batch_readahead=1, fragment_readahead=1, use_threads=False
    )
    nothing = True
    for batch in scanner.to_batches():
        if batch.num_rows:
            nothing = False
            yield _ids(batch.column(0), file), _texts(batch.column(1), file)
    if nothing:
        table = dataset.schema.empty_table()
        yield _ids(table[columns.row_id].combine_chunks(), file), _texts(table[columns.text].combine_chunks(), file)


def _ids(column: pa.Array, file: Path) -> pa.Array:
    if column.null_count:
        raise InputDataError(f"{file} has {column.null_count} rows without an id.", remedy="Give every row an id.")
    if pa.types.is_integer(column.type):
        return column.cast(pa.int64())
    return _strings(column, f"The row ids of {file}", "Name a column of strings or whole numbers.")


def _texts(column: pa.Array, file: Path) -> pa.Array:
    return _strings(column, f"The texts of {file}", "Name a column of strings.")


def _strings(column: pa.Array, what: str, remedy: str) -> pa.Array:
    kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    if not (pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind) or pa.types.is_null(kind)):
        raise InputDataError(f"{what} are of type {kind}.", remedy=remedy)
    return column.cast(pa.large_string())


def _sketched(ids: pa.Array, texts: pa.Array, request: Request, compiled: bool) -> tuple[pa.Table, pa.RecordBatch]:
    header, n = request.header, len(texts)
    permuted, width = permutations(header.num_perm, header.seed), min(header.num_perm, DIGEST)
    signatures, sequence = np.empty((n, header.num_perm), np.uint32), np.empty(n, np.uint64)

    def fill(block: Block) -> ShingleSets:
        at = slice(block.first, block.first + len(block))
        shingles = block_shingles(block, header.width, compiled)
        signatures[at] = minima(shingles.values, shingles.offsets, permuted, compiled)
        sequence[at] = shingles.sequence
        return as_sets(shingles, compiled)

    blocks = [*map_blocks(fill, text_blocks(texts, compiled), request.threads)]
    sizes = np.concatenate([np.zeros(0, np.int64), *(block.sizes for block in blocks)])
    values = np.concatenate([np.zeros(0, np.uint32), *(block.values for block in blocks)])
    keys = band_keys(signatures, header.bands, header.rows, compiled=compiled)
    table = signature_table(header, ids, signatures)
    more = {"sequence": pa.array(sequence), "shingles": pa.array(sizes.astype(np.uint32)), **band_columns(keys)}
    for name, column in more.items():
        table = table.append_column(name, column)
    digests = np.ascontiguousarray(signatures[:, :width].astype(np.uint8))
    looked_up = {
        "digest": pa.FixedSizeBinaryArray.from_buffers(pa.binary(width), n, [None, pa.py_buffer(digests)]),
        "set": pa.LargeListArray.from_arrays(pa.array(cumulated(sizes)), pa.array(values)),
    }
    return table, pa.record_batch(looked_up)
