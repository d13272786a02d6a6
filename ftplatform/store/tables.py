"""Tables as Parquet with page checksums, written so that the same rows give the same bytes however they arrive.

Page checksums are not polish: an uncompressed page with a flipped bit decodes to wrong rows without them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from ftplatform.errors import CorruptArtifact, StoreError

if TYPE_CHECKING:
    import pyarrow.parquet as pq

#: Rows per row group: a unit of reading that at 10 kB a row stays near 160 MB.
ROW_GROUP_ROWS = 16_384
COMPRESSION = "zstd"
COMPRESSION_LEVEL = 3


def write_table(path: Path, data: pa.Table | Iterable[pa.RecordBatch], schema: pa.Schema | None, what: str) -> int:
    """Write a table, or a stream of batches without ever holding all of it, and return the number of rows.

    Args:
        path: local file to create.
        data: a table, a reader, or any iterable of record batches (sizes do not matter: rows are cut anew).
        schema: needed for an iterable that may be empty; otherwise taken from the data.
        what: names the table in errors.

    Raises:
        StoreError: if an iterable without schema yields nothing, or a batch does not fit the schema.
    """
    import pyarrow.parquet as pq

    source: Any = data  # Arrow's classes are untyped
    if isinstance(source, (pa.Table, pa.RecordBatchReader)):
        schema = schema or source.schema
    batches: Iterator[pa.RecordBatch] = iter(source.to_batches() if isinstance(source, pa.Table) else source)
    first = next(batches, None)
    if schema is None:
        if first is None:
            raise StoreError(
                f"{what} is an empty stream without a schema.", remedy="Give the schema: add_table(path, batches, schema=...)."
            )
        schema = first.schema
    rows = 0
    with pq.ParquetWriter(
        path,
        schema,
        compression=COMPRESSION,
        compression_level=COMPRESSION_LEVEL,
        write_page_checksum=True,
        version="2.6",
        data_page_version="1.0",
    ) as writer:
        for group in _row_groups(() if first is None else _prepend(first, batches), schema, what):
            writer.write_table(group, row_group_size=ROW_GROUP_ROWS)
            rows += group.num_rows
    return rows


def read_table(path: Path, columns: Sequence[str] | None, what: str) -> pa.Table:
    """The table in a verified Parquet file, page checksums verified once more.

    Raises:
        StoreError: if the file is not Parquet or lacks a column.
        CorruptArtifact: if a page does not match its checksum.
    """
    with _open(path, what) as file:
        _check_columns(file.schema_arrow, columns, what)
        try:
            return file.read(columns=list(columns) if columns is not None else None, use_threads=True)
        except (pa.ArrowInvalid, OSError) as error:
            raise CorruptArtifact(f"{what} cannot be decoded: {error}.", remedy="Materialize the asset again.") from error


def iter_batches(path: Path, columns: Sequence[str] | None, batch_rows: int, what: str) -> Iterator[pa.RecordBatch]:
    """The table as record batches of at most `batch_rows` rows; memory stays near one row group. Errors as `read_table`."""
    with _open(path, what) as file:
        _check_columns(file.schema_arrow, columns, what)
        try:
            yield from file.iter_batches(batch_size=batch_rows, columns=list(columns) if columns is not None else None)
        except (pa.ArrowInvalid, OSError) as error:
            raise CorruptArtifact(f"{what} cannot be decoded: {error}.", remedy="Materialize the asset again.") from error


def read_schema(path: Path, what: str) -> pa.Schema:
    """Arrow schema of a verified Parquet file."""
    with _open(path, what) as file:
        return file.schema_arrow


def _open(path: Path, what: str) -> pq.ParquetFile:
    import pyarrow.parquet as pq

    try:
        return pq.ParquetFile(path, page_checksum_verification=True)
    except pa.ArrowInvalid as error:
        raise StoreError(f"{what} is not a Parquet table: {error}.", remedy="Read it with read_bytes or read_json.") from error
    except OSError as error:
        raise CorruptArtifact(f"{what} cannot be decoded: {error}.", remedy="Materialize the asset again.") from error


def _check_columns(schema: pa.Schema, columns: Sequence[str] | None, what: str) -> None:
    # Arrow skips unknown columns silently.
    if missing := [name for name in columns or () if name.split(".")[0] not in schema.names]:
        raise StoreError(f"{what} has no column {missing[0]!r}.", remedy=f"Its columns are {', '.join(schema.names)}.")


def _row_groups(batches: Iterable[pa.RecordBatch], schema: pa.Schema, what: str) -> Iterator[pa.Table]:
    """Tables of exactly `ROW_GROUP_ROWS` rows (the last one fewer), each in one chunk: chunk borders would move page borders."""
    pending: list[pa.RecordBatch] = []
    held = 0
    for position, batch in enumerate(batches):
        if not batch.schema.equals(schema):
            raise StoreError(
                f"{what}: batch {position} has the columns {_describe(batch.schema)}, expected {_describe(schema)}.",
                remedy="Cast every batch to one schema.",
            )
        while held + batch.num_rows >= ROW_GROUP_ROWS:
            needed = ROW_GROUP_ROWS - held
            yield pa.Table.from_batches([*pending, batch.slice(0, needed)], schema).combine_chunks()
            pending, held = [], 0
            batch = batch.slice(needed)
        if batch.num_rows:
            pending.append(batch)
            held += batch.num_rows
    if held:
        yield pa.Table.from_batches(pending, schema).combine_chunks()


def _prepend(first: pa.RecordBatch, rest: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    yield first
    yield from rest


def _describe(schema: pa.Schema) -> str:
    return ", ".join(f"{field.name}: {field.type}" for field in schema)
