"""Fixtures of the rows tests."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pytest
from hypothesis import settings

from ftplatform.rows.reading import ReadCounts, ReadSpec, read_table

# No deadline: the machine may be busy. No database: tests leave nothing behind.
settings.register_profile("rows", deadline=None, database=None)
settings.load_profile("rows")


@pytest.fixture
def read(tmp_path: Path) -> Callable[..., tuple[list[dict[str, Any]], list[dict[str, Any]], ReadCounts]]:
    """Reads files of the temporary folder: rows and quarantine as dicts, counts."""

    def run(*paths: str, **options: Any) -> tuple[list[dict[str, Any]], list[dict[str, Any]], ReadCounts]:
        rows, quarantine, counts = read_table(ReadSpec(paths=paths, source="src", base_dir=tmp_path, **options))
        return rows.to_pylist(), quarantine.to_pylist(), counts

    return run


@pytest.fixture
def read_records(
    tmp_path: Path, read: Callable[..., tuple[list[dict[str, Any]], list[dict[str, Any]], ReadCounts]]
) -> Callable[..., tuple[list[dict[str, Any]], list[dict[str, Any]], ReadCounts]]:
    """Writes records as JSON Lines and reads them."""

    def run(records: Sequence[Any], **options: Any) -> tuple[list[dict[str, Any]], list[dict[str, Any]], ReadCounts]:
        (tmp_path / "records.jsonl").write_bytes(b"\n".join(orjson.dumps(record) for record in records))
        return read("records.jsonl", **options)

    return run


@pytest.fixture
def table_of(tmp_path: Path) -> Callable[..., pa.Table]:
    """Rows table of records given as dicts."""

    def run(records: Sequence[Any], **options: Any) -> pa.Table:
        (tmp_path / "table.jsonl").write_bytes(b"\n".join(orjson.dumps(record) for record in records))
        return read_table(ReadSpec(paths=["table.jsonl"], source=options.pop("source", "src"), base_dir=tmp_path, **options))[0]

    return run
