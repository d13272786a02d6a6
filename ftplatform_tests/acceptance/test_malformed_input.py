"""Malformed input: a clear error or quarantine with counts, memory under 512 MB, nothing lost."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

GOOD = {"prompt": "How do I reset my password?", "completion": "Open Settings and choose Reset."}
LIMIT_MIB = 512

# Reads in a process of its own and reports what happened and how much memory it took, decoding processes included.
# VmHWM and not ru_maxrss for the process itself: the latter is inherited from whoever started it.
_READ = """
import json, resource, sys
from pathlib import Path
from ftplatform.errors import InputDataError
from ftplatform.rows.reading import ReadSpec, read_rows
result = {}
with read_rows(ReadSpec(paths=[sys.argv[2]], source="src", base_dir=Path(sys.argv[1]))) as reader:
    try:
        for batch in reader:
            pass
    except InputDataError as error:
        result["error"], result["remedy"] = error.message, error.remedy
    counts = reader.counts
    result.update(read=counts.read, kept=counts.kept, quarantined=counts.quarantined, by_reason=dict(counts.by_reason))
    result["quarantine"] = reader.quarantine().to_pylist()
own = next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM:"))
result["peak_mib"] = (own + resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss) // 1024
print(json.dumps(result))
"""


def read(folder: Path, name: str) -> dict[str, Any]:
    process = subprocess.run([sys.executable, "-c", _READ, str(folder), name], capture_output=True, text=True, check=True)
    result = json.loads(process.stdout)
    assert result["peak_mib"] < LIMIT_MIB
    assert result["kept"] + result["quarantined"] == result["read"]
    assert sum(result["by_reason"].values()) == len(result["quarantine"]) == result["quarantined"]
    return result


def test_every_malformed_record_is_counted_and_every_good_one_kept(tmp_path: Path) -> None:
    good = orjson.dumps(GOOD)
    bad = {
        "invalid_utf8": b'{"prompt": "caf\xe9", "completion": "a"}',
        "non_finite_number": b'{"prompt": "q", "completion": "a", "score": NaN}',
        "duplicate_key": b'{"prompt": "q", "completion": "a", "completion": "b"}',
        "missing_field": b'{"completion": "a"}',
        "wrong_type": b'{"prompt": ["q"], "completion": {"text": "a"}}',
        "too_deep": b'{"prompt": ' + b"[" * 10_000 + b"]" * 10_000 + b"}",
        "number_out_of_range": b'{"prompt": "q", "completion": "a", "n": ' + b"1" * 5_000 + b"}",
        "lone_surrogate": b'{"prompt": "q", "completion": "\\ud800"}',
        "invalid_json": b'{"prompt": "q", "completion": "a"',
        "not_an_object": b'"prompt"',
        "empty_content": b'{"prompt": "q", "completion": " "}',
        "no_target": b'{"prompt": "q"}',
    }
    lines = [good]
    for number, line in enumerate(bad.values()):
        lines += [line, orjson.dumps({**GOOD, "n": number})]
    (tmp_path / "d.jsonl").write_bytes(b"\n".join(lines))
    result = read(tmp_path, "d.jsonl")
    assert "error" not in result
    assert result["kept"] == len(bad) + 1
    assert result["by_reason"] == dict.fromkeys(sorted(bad), 1)
    for line, (reason, raw) in zip(result["quarantine"], bad.items(), strict=True):
        assert line["reason"] == reason
        assert line["file"] == "d.jsonl"
        assert lines[line["position"] - 1] == raw
        assert line["message"]
        assert len(line["excerpt"]) <= 500


@pytest.mark.parametrize("compression", ["", ".gz"])
def test_a_line_of_100_megabytes_costs_one_record_and_little_memory(compression: str, tmp_path: Path) -> None:
    good = orjson.dumps(GOOD)
    path = tmp_path / f"d.jsonl{compression}"
    # Not compressible beyond the bomb limit: the line is long, the file no bomb.
    filler = bytes(33 + (i * i) % 89 for i in range(9_973))
    with gzip.open(path, "wb", 1) if compression else path.open("wb") as file:
        file.write(good + b'\n{"prompt": "')
        for _ in range(10_515):
            file.write(filler.replace(b'"', b"'").replace(b"\\", b"/"))
        file.write(b'", "completion": "a"}\n' + good + b"\n")
    result = read(tmp_path, path.name)
    assert result["kept"] == 2
    assert result["by_reason"] == {"line_too_long": 1}
    (line,) = result["quarantine"]
    assert line["position"] == 2
    assert line["excerpt"].startswith('{"prompt": "')
    assert "104,8" in line["message"]


def test_a_json_array_with_a_huge_element_streams(tmp_path: Path) -> None:
    with (tmp_path / "d.json").open("wb") as file:
        file.write(b"[" + orjson.dumps(GOOD) + b', {"prompt": "')
        for _ in range(100):
            file.write(b"x" * 1_000_000)
        file.write(b'"}, ' + orjson.dumps(GOOD) + b"]")
    result = read(tmp_path, "d.json")
    assert (result["kept"], result["by_reason"]) == (2, {"line_too_long": 1})


def test_gzip_bomb(tmp_path: Path) -> None:
    with gzip.open(tmp_path / "d.jsonl.gz", "wb", 9) as file:
        for _ in range(300):
            file.write(bytes(1 << 20))
    assert (tmp_path / "d.jsonl.gz").stat().st_size < 400_000
    result = read(tmp_path, "d.jsonl.gz")
    assert result["error"].startswith("d.jsonl.gz: decompression bomb")
    assert result["remedy"]


@pytest.mark.parametrize("store_schema", [True, False])
def test_parquet_bomb(store_schema: bool, tmp_path: Path) -> None:
    values = pa.DictionaryArray.from_arrays(pa.array([0] * 18_600, pa.int32()), ["x" * (1 << 20)])
    pq.write_table(
        pa.table({"prompt": values, "completion": values}), tmp_path / "d.parquet", compression="zstd", store_schema=store_schema
    )
    assert (tmp_path / "d.parquet").stat().st_size < 6_000
    result = read(tmp_path, "d.parquet")
    assert result["error"].startswith("d.parquet: decompression bomb")
    assert result["remedy"]


@pytest.mark.parametrize("name", ["d.jsonl", "d.json", "d.csv", "d.txt", "d.parquet", "d.jsonl.gz", "d.jsonl.zst"])
def test_empty_files(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"")
    result = read(tmp_path, name)
    assert name in result["error"]
    assert result["remedy"]


def test_a_hundred_thousand_bad_lines_stay_in_bounded_memory_and_are_all_there(tmp_path: Path) -> None:
    with (tmp_path / "d.jsonl").open("wb") as file:
        for _ in range(100):
            file.write(b'{"prompt": "question without an end\n' * 1_000)
    code = _READ.replace("reader.quarantine().to_pylist()", "sum(batch.num_rows for batch in reader.quarantine_batches())")
    process = subprocess.run([sys.executable, "-c", code, str(tmp_path), "d.jsonl"], capture_output=True, text=True, check=True)
    result = json.loads(process.stdout)
    assert result["quarantine"] == result["quarantined"] == result["read"] == 100_000
    assert result["peak_mib"] < LIMIT_MIB
