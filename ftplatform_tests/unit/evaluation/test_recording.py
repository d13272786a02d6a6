"""Tables that only grow: pieces, damage, and what is never lost."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pyarrow as pa
import pytest

from ftplatform.errors import StoreError
from ftplatform.evaluation.recording import Recording
from ftplatform.store import Store

SCHEMA = pa.schema([pa.field("key", pa.string(), nullable=False)])


def rows(*keys: str) -> pa.Table:
    return pa.table([list(keys)], schema=SCHEMA)


def test_pieces_add_up_and_equal_pieces_are_one(tmp_path: Path) -> None:
    backend = Store.open(str(tmp_path)).backend
    recording = Recording(backend, "answers/m", SCHEMA)
    assert recording.read().num_rows == 0
    recording.append(rows("a", "b"))
    recording.append(rows("c"))
    recording.append(rows("c"))
    recording.append(rows())
    assert sorted(Recording(backend, "answers/m", SCHEMA).read()["key"].to_pylist()) == ["a", "b", "c"]
    assert Recording(backend, "answers/other", SCHEMA).read().num_rows == 0


def test_a_damaged_piece_is_passed_over(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    recording = Recording(Store.open(str(tmp_path)).backend, "answers/m", SCHEMA)
    recording.append(rows("a"))
    recording.append(rows("b"))
    victim = min((tmp_path / "answers" / "m").glob("*.parquet"))
    data = bytearray(victim.read_bytes())
    data[len(data) // 2] ^= 1
    victim.chmod(0o600)
    victim.write_bytes(bytes(data))
    assert recording.read().num_rows == 1
    assert "damaged" in caplog.text
    foreign = Recording(Store.open(str(tmp_path)).backend, "answers/m", pa.schema([pa.field("other", pa.int64())]))
    assert foreign.read().num_rows == 0


def test_garbage_collection_leaves_pieces_alone(tmp_path: Path) -> None:
    store = Store.open(str(tmp_path))
    recording = Recording(store.backend, "answers/m", SCHEMA)
    recording.append(rows("a"))
    store.collect_garbage(timedelta(0))
    assert recording.read().num_rows == 1


def test_a_folder_is_a_name(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="not a valid"):
        Recording(Store.open(str(tmp_path)).backend, "../heads", SCHEMA)
