"""Parquet: bytes that depend on the rows only, streams that are never held whole, and damage that shows."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ftplatform.errors import CorruptArtifact, StoreError
from ftplatform.rows.schema import MESSAGE_TYPE
from ftplatform.store import SnapshotDraft, tables

SCHEMA = pa.schema(
    [
        pa.field("row_id", pa.string(), nullable=False),
        pa.field("messages", pa.list_(MESSAGE_TYPE), nullable=False),
        pa.field("author", pa.string()),
        pa.field("score", pa.float64()),
    ]
)


def rows(count: int) -> pa.Table:
    return pa.Table.from_pylist(
        [
            {
                "row_id": f"{i:064x}",
                "messages": [{"role": "user", "content": f"Frage {i} ✓ " * (i % 5), "trainable": False}] * (i % 4),
                "author": None if i % 3 else f"author-{i % 7}",
                "score": i / 7,
            }
            for i in range(count)
        ],
        SCHEMA,
    )


def write(folder: Path, data, schema=None, name: str = "t") -> bytes:
    path = folder / name
    tables.write_table(path, data, schema, "table")
    return path.read_bytes()


@settings(max_examples=25, deadline=None)
@given(cuts=st.lists(st.integers(0, 150), max_size=8), largest=st.sampled_from([1, 7, 33, 64, 200]))
def test_bytes_do_not_depend_on_how_rows_arrive(tmp_path_factory: pytest.TempPathFactory, cuts: list[int], largest: int) -> None:
    folder = tmp_path_factory.mktemp("t")
    table = rows(150)
    borders = sorted({0, *cuts, table.num_rows})
    slices = [table.slice(start, end - start) for start, end in itertools.pairwise(borders)]
    pieces = [batch for piece in slices for batch in piece.to_batches(max_chunksize=largest)]
    with pytest.MonkeyPatch.context() as small:
        small.setattr(tables, "ROW_GROUP_ROWS", 64)
        assert write(folder, iter(pieces), name="stream") == write(folder, table, name="table")


def big() -> pa.Table:
    """Two full row groups and a bit, columns of plain numbers."""
    count = 2 * tables.ROW_GROUP_ROWS + 100
    return pa.table({"i": pa.array(range(count)), "text": pa.array([f"row {i}" for i in range(count)])})


def test_row_groups_have_a_fixed_size(tmp_path: Path) -> None:
    write(tmp_path, big())
    metadata = pq.ParquetFile(tmp_path / "t").metadata
    assert [metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)] == [16_384, 16_384, 100]
    assert metadata.row_group(0).column(0).compression == "ZSTD"
    assert tables.read_table(tmp_path / "t", None, "table").equals(big())


def test_a_stream_is_written_while_it_is_produced(tmp_path: Path) -> None:
    path = tmp_path / "t"
    sizes = []

    def produce() -> Iterator[pa.RecordBatch]:
        batch = big().slice(0, tables.ROW_GROUP_ROWS).to_batches()[0]
        for _ in range(4):
            yield batch
            sizes.append(path.stat().st_size)

    assert tables.write_table(path, produce(), None, "table") == 4 * tables.ROW_GROUP_ROWS
    # Each row group is on disk before the next one is asked for.
    assert sizes == sorted(set(sizes))
    assert sizes[0] > 4


def test_empty_tables(tmp_path: Path) -> None:
    write(tmp_path, rows(0))
    assert tables.read_table(tmp_path / "t", None, "table").equals(rows(0))
    assert write(tmp_path, iter([]), SCHEMA, "u") == (tmp_path / "t").read_bytes()
    with pytest.raises(StoreError, match="empty stream without a schema"):
        write(tmp_path, iter([]))


def test_batches_of_another_schema_are_refused_by_position(tmp_path: Path) -> None:
    other = pa.RecordBatch.from_pydict({"row_id": [1]})
    with pytest.raises(StoreError, match="batch 1 has the columns row_id: int64, expected row_id: string"):
        write(tmp_path, iter([*rows(3).to_batches(), other]))


def test_columns(tmp_path: Path) -> None:
    write(tmp_path, rows(5))
    assert tables.read_table(tmp_path / "t", ["score"], "table").column_names == ["score"]
    with pytest.raises(StoreError, match="no column 'scores'"):
        tables.read_table(tmp_path / "t", ["scores"], "table")
    assert sum(batch.num_rows for batch in tables.iter_batches(tmp_path / "t", ["row_id"], 2, "table")) == 5
    assert tables.read_schema(tmp_path / "t", "table").equals(SCHEMA)


def test_other_files_are_no_tables(tmp_path: Path) -> None:
    (tmp_path / "t").write_bytes(b"not a table at all")
    with pytest.raises(StoreError, match="not a Parquet table"):
        tables.read_table(tmp_path / "t", None, "table")


def test_a_flipped_bit_in_a_page_is_caught_where_plain_parquet_returns_wrong_rows(tmp_path: Path) -> None:
    # The obvious implementation: uncompressed pages without checksums.
    numbers = pa.table({"x": list(range(100_000, 101_000))})
    pq.write_table(numbers, tmp_path / "naive", compression="none", use_dictionary=False)
    pq.write_table(numbers, tmp_path / "ours", compression="none", use_dictionary=False, write_page_checksum=True)
    needle = (100_500).to_bytes(8, "little")
    for name in ("naive", "ours"):
        data = bytearray((tmp_path / name).read_bytes())
        data[data.index(needle)] ^= 1
        (tmp_path / name).write_bytes(data)
    assert pq.read_table(tmp_path / "naive")["x"].to_pylist() != numbers["x"].to_pylist()
    with pytest.raises(CorruptArtifact, match="cannot be decoded"):
        tables.read_table(tmp_path / "ours", None, "table")
    with pytest.raises(CorruptArtifact, match="cannot be decoded"):
        list(tables.iter_batches(tmp_path / "ours", None, 100, "table"))


def test_what_a_draft_writes_carries_page_checksums(tmp_path: Path) -> None:
    with SnapshotDraft("raw/a", code_version="1", config_hash="c", environment="e", scratch_folder=tmp_path) as draft:
        entry = draft.add_table("rows.parquet", rows(3000))
        source = draft.files["rows.parquet"].source
        assert isinstance(source, Path)
        data = bytearray(source.read_bytes())
        assert hashlib.sha256(data).hexdigest() == entry.sha256
        column = pq.ParquetFile(source).metadata.row_group(0).column(5)  # score; what precedes the pages is their header
        survived, tried = [], 0
        end = (column.dictionary_page_offset or column.data_page_offset) + column.total_compressed_size
        for offset in range(column.data_page_offset + 200, end, 397):
            tried += 1
            damaged = bytearray(data)
            damaged[offset] ^= 4
            (tmp_path / "damaged").write_bytes(damaged)
            try:
                tables.read_table(tmp_path / "damaged", None, "table")
            except CorruptArtifact:
                continue
            survived.append(offset)
        assert tried > 10
        assert survived == []
    assert list(tmp_path.glob("*/*")) == []


def test_a_failing_producer_leaves_no_file(tmp_path: Path) -> None:
    def produce() -> Iterator[pa.RecordBatch]:
        yield from rows(10).to_batches()
        raise ZeroDivisionError

    draft = SnapshotDraft("raw/a", code_version="1", config_hash="c", environment="e", scratch_folder=tmp_path)
    with pytest.raises(ZeroDivisionError):
        draft.add_table("rows.parquet", produce())
    assert draft.files == {}
    assert [path.name for path in tmp_path.glob("*/*")] == [".owner"]
