"""Parquet: real types, and bombs that no footer admits to."""

from __future__ import annotations

import datetime
import decimal
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ftplatform.errors import InputDataError
from ftplatform.rows.parquet_records import decoded_bytes

Read = Callable[..., tuple[list[dict[str, Any]], list[dict[str, Any]], Any]]
MEBI = 1 << 20


def test_nested_messages_and_rich_types(tmp_path: Path, read: Read) -> None:
    messages = [
        [{"role": "user", "content": f"q{i}", "weight": None}, {"role": "assistant", "content": f"a{i}", "weight": i % 2}]
        for i in range(3_000)
    ]
    table = pa.table(
        {
            "messages": messages,
            "created_at": pa.array([datetime.datetime(2024, 1, 1, tzinfo=datetime.UTC)] * 3_000, pa.timestamp("ns", "UTC")),
            "price": pa.array([decimal.Decimal("1.50")] * 3_000),
            "score": [float("nan") if i == 0 else 0.5 for i in range(3_000)],
            "raw": [b"bytes"] * 3_000,
            "day": pa.array([datetime.date(2024, 1, 2)] * 3_000),
            "none": pa.array([None] * 3_000, pa.string()),
        }
    )
    pq.write_table(table, tmp_path / "d.parquet", row_group_size=700)
    rows, quarantine, counts = read("d.parquet")
    assert (counts.kept, quarantine) == (3_000, [])
    assert rows[2_999]["messages"][0]["content"] == "q2999"
    assert [row["messages"][1]["trainable"] for row in rows[:4]] == [False, True, False, True]
    assert rows[5]["created_at"] == datetime.datetime(2024, 1, 1, tzinfo=datetime.UTC)
    assert json.loads(rows[1]["meta"]) == {"price": "1.50", "score": 0.5, "raw": "bytes", "day": "2024-01-02"}
    assert "score" not in json.loads(rows[0]["meta"])


def test_bad_rows_are_quarantined_one_by_one(tmp_path: Path, read: Read) -> None:
    good = ["q"] * 2_000
    binary = pa.array([text.encode() for text in good]).to_pylist()
    binary[1_234] = b"\xff\xfe"
    prompts = pa.Array.from_buffers(pa.string(), 2_000, pa.array(binary, pa.binary()).buffers())
    completions = ["a"] * 2_000
    completions[77] = "x" * (MEBI + 1)
    completions[78] = None
    scores = [1.0] * 2_000
    scores[79] = float("inf")
    pq.write_table(pa.table({"prompt": prompts, "completion": completions, "score": scores}), tmp_path / "d.parquet")
    _, quarantine, counts = read("d.parquet")
    assert [(line["position"], line["reason"]) for line in quarantine] == [
        (78, "line_too_long"),
        (79, "no_target"),
        (80, "non_finite_number"),
        (1_235, "invalid_utf8"),
    ]
    assert counts.kept == 1_996


@pytest.mark.parametrize("content", [b"", b"PAR1", b"not parquet at all" * 100, b"PAR1" + bytes(1000) + b"PAR1"])
def test_unreadable_files_are_errors(content: bytes, tmp_path: Path, read: Read) -> None:
    (tmp_path / "d.parquet").write_bytes(content)
    with pytest.raises(InputDataError, match=r"d\.parquet"):
        read("d.parquet")


def test_every_truncation_is_an_error(tmp_path: Path, read: Read) -> None:
    pq.write_table(pa.table({"prompt": ["q"] * 100, "completion": ["a"] * 100}), tmp_path / "whole.parquet")
    whole = (tmp_path / "whole.parquet").read_bytes()
    for cut in (1, 4, 11, len(whole) // 2, len(whole) - 9, len(whole) - 1):
        (tmp_path / "d.parquet").write_bytes(whole[:cut])
        with pytest.raises(InputDataError):
            read("d.parquet")


def test_damaged_pages_are_never_read_as_something_else(tmp_path: Path, read: Read) -> None:
    table = pa.table({"prompt": [f"q{i}" for i in range(500)], "completion": ["a"] * 500})
    pq.write_table(table, tmp_path / "whole.parquet", compression="none", write_page_checksum=True)
    whole = (tmp_path / "whole.parquet").read_bytes()
    expected = [row["row_id"] for row in read("whole.parquet")[0]]
    footer = int.from_bytes(whole[-8:-4], "little") + 8
    refused = 0
    for place in range(10, len(whole) - footer, (len(whole) - footer) // 8):
        damaged = bytearray(whole)
        damaged[place] ^= 0x02
        (tmp_path / "d.parquet").write_bytes(damaged)
        try:
            rows, _, _ = read("d.parquet")
        except InputDataError:
            refused += 1
        else:
            assert [row["row_id"] for row in rows] == expected
    assert refused >= 6


# --- bombs ------------------------------------------------------------------------------------------------------------------
def _dictionary_bomb() -> pa.Table:
    # One value of 1 MiB, referred to 18,600 times: half a kilobyte that decodes to 18 GiB.
    big = pa.DictionaryArray.from_arrays(pa.array([0] * 18_600, pa.int32()), ["x" * MEBI])
    return pa.table({"prompt": big, "completion": big})


def _nested_bomb() -> pa.Table:
    contents = pa.DictionaryArray.from_arrays(pa.array([0] * 20_000, pa.int32()), ["x" * MEBI])
    turns = pa.StructArray.from_arrays([pa.array(["user"] * 20_000), contents], names=["role", "content"])
    return pa.table({"messages": pa.ListArray.from_arrays(pa.array([0, 20_000], pa.int32()), turns)})


def _mixed_nested_bomb() -> pa.Table:
    # The dictionary overflows into plain pages, as in every large chat corpus, and one row refers 300 times to a big value.
    small = [f"unique text number {i} " * 20 for i in range(4_000)]
    indices = pa.array([*[0] * 300, *range(1, 4_001)], pa.int32())
    contents = pa.DictionaryArray.from_arrays(indices, ["x" * MEBI, *small])
    turns = pa.StructArray.from_arrays([pa.array(["user"] * 4_300), contents], names=["role", "content"])
    return pa.table({"messages": pa.ListArray.from_arrays(pa.array([0, *range(300, 4_301)], pa.int32()), turns)})


BOMBS: dict[str, tuple[Callable[[], pa.Table], dict[str, Any]]] = {
    "dictionary": (_dictionary_bomb, {"compression": "zstd"}),
    "dictionary, plain types": (_dictionary_bomb, {"compression": "zstd", "store_schema": False}),
    "one nested row": (_nested_bomb, {"compression": "zstd"}),
    "one nested row, plain types": (_nested_bomb, {"compression": "zstd", "store_schema": False}),
    "one huge page": (
        lambda: pa.table({"prompt": ["x" * (150 * MEBI)]}),
        {"compression": "zstd", "use_dictionary": False, "write_statistics": False},
    ),
    "prefixes": (
        lambda: pa.table({"prompt": ["x" * MEBI + str(i) for i in range(300)], "completion": ["x" * MEBI] * 300}),
        {"compression": "zstd", "use_dictionary": False, "column_encoding": "DELTA_BYTE_ARRAY"},
    ),
    "nulls": (lambda: pa.table({"prompt": pa.nulls(20_000_000)}), {"compression": "zstd"}),
    "nested rows, mixed encodings": (
        _mixed_nested_bomb,
        {"compression": "zstd", "dictionary_pagesize_limit": 3 * MEBI // 2, "store_schema": False},
    ),
}

_READ_IT = """
import resource, sys
from pathlib import Path
from ftplatform.errors import InputDataError
from ftplatform.rows.reading import ReadSpec, read_rows
with read_rows(ReadSpec(paths=["bomb.parquet"], source="s", base_dir=Path(sys.argv[1]))) as reader:
    try:
        for batch in reader:
            pass
        outcome = f"{reader.counts.kept} kept, {reader.counts.quarantined} quarantined"
    except InputDataError as error:
        outcome = f"refused: {error}"
print(outcome)
# A process inherits ru_maxrss from the one that started it, which built the bomb; VmHWM starts anew.
own = next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM:"))
print(own // 1024, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024)
"""


@pytest.mark.parametrize("name", BOMBS)
def test_bombs_are_refused_in_bounded_memory(name: str, tmp_path: Path) -> None:
    build, options = BOMBS[name]
    pq.write_table(build(), tmp_path / "bomb.parquet", **options)
    assert (tmp_path / "bomb.parquet").stat().st_size < 2 * MEBI
    result = subprocess.run([sys.executable, "-c", _READ_IT, str(tmp_path)], capture_output=True, text=True, check=True)
    outcome, peak = result.stdout.strip().rsplit("\n", 1)
    # The reader and its decoding process together.
    assert sum(map(int, peak.split())) < 512, peak
    # What is refused row by row instead is accounted for.
    assert outcome.startswith("refused: bomb.parquet") or outcome in ("0 kept, 300 quarantined", "4000 kept, 1 quarantined"), (
        outcome
    )


def test_the_footer_does_not_admit_to_the_bomb(tmp_path: Path) -> None:
    # ADV: the obvious guard reads sizes from the metadata; here they say 2 MiB, and reading a thousand rows takes 2 GiB.
    pq.write_table(_dictionary_bomb(), tmp_path / "bomb.parquet", compression="zstd")
    metadata = pq.ParquetFile(tmp_path / "bomb.parquet").metadata
    naive_estimate = sum(
        metadata.row_group(group).column(column).total_uncompressed_size
        for group in range(metadata.num_row_groups)
        for column in range(metadata.num_columns)
    )
    assert naive_estimate < 3 * MEBI
    dictionaries = pq.ParquetFile(tmp_path / "bomb.parquet", read_dictionary=["prompt", "completion"])
    batch = next(dictionaries.iter_batches(batch_size=1_000))
    assert sum(decoded_bytes(column) for column in batch.columns) == 2_000 * MEBI


def test_repeated_prompts_are_no_bomb(tmp_path: Path, read: Read) -> None:
    # ADV: a dictionary makes a genuine corpus with one long system prompt look like a bomb.
    table = pa.table(
        {"system": ["long prompt " * 400] * 10_000, "prompt": [f"q{i}" for i in range(10_000)], "completion": ["a"] * 10_000}
    )
    pq.write_table(table, tmp_path / "d.parquet", compression="zstd")
    assert 10_000 * 4_800 / (tmp_path / "d.parquet").stat().st_size > 500
    assert read("d.parquet")[2].kept == 10_000
