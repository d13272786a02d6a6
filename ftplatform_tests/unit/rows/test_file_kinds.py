"""File kinds: the same rows whatever container and compression they come in; documents of every JSON shape."""

from __future__ import annotations

import csv
import gzip
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from ftplatform.errors import InputDataError
from ftplatform.rows.file_kinds import open_file, raw_records
from ftplatform.rows.limits import ReadLimits
from ftplatform.rows.quarantine import Quarantined
from ftplatform.rows.raw_records import RawRecord
from ftplatform.rows.sources import list_files

Read = Callable[..., tuple[list[dict[str, Any]], list[dict[str, Any]], Any]]

RECORDS = [
    {
        "prompt": f'Question {i}, with "quotes", commas\nand a line break — é',
        "completion": f"Answer {i}\ttab",
        "author": f"agent{i % 3}",
        "note": "x" * (i % 5),
    }
    for i in range(50)
]


def _delimited(delimiter: str) -> bytes:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(RECORDS[0]), delimiter=delimiter)
    writer.writeheader()
    writer.writerows(RECORDS)
    return text.getvalue().encode()


def _parquet() -> bytes:
    file = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(RECORDS), file)
    return file.getvalue()


CONTAINERS: dict[str, Callable[[], bytes]] = {
    "jsonl": lambda: "\n".join(json.dumps(record) for record in RECORDS).encode(),
    "ndjson": lambda: "\r\n".join(json.dumps(record, ensure_ascii=False) for record in RECORDS).encode() + b"\r\n\r\n",
    "json": lambda: json.dumps(RECORDS, indent=2).encode(),
    "csv": lambda: _delimited(","),
    "tsv": lambda: _delimited("\t"),
    "parquet": _parquet,
}
COMPRESSIONS: dict[str, Callable[[bytes], bytes]] = {
    "": bytes,
    ".gz": gzip.compress,
    ".zst": lambda data: zstandard.ZstdCompressor().compress(data),
}


@pytest.mark.parametrize("compression", COMPRESSIONS)
@pytest.mark.parametrize("suffix", CONTAINERS)
def test_same_rows_from_every_container(suffix: str, compression: str, tmp_path: Path, read: Read) -> None:
    (tmp_path / f"data.{suffix}{compression}").write_bytes(COMPRESSIONS[compression](CONTAINERS[suffix]()))
    rows, quarantine, counts = read(f"data.{suffix}{compression}")
    assert (counts.read, counts.kept, quarantine) == (50, 50, [])
    for row, record in zip(rows, RECORDS, strict=True):
        assert [message["content"] for message in row["messages"]] == [record["prompt"], record["completion"]]
        assert row["author"] == record["author"]
        assert json.loads(row["meta"]).get("note", "") == record["note"]


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_plain_text_is_one_document_a_line(compression: str, tmp_path: Path, read: Read) -> None:
    (tmp_path / f"d.TXT{compression}").write_bytes(COMPRESSIONS[compression]("\ufeffone\r\n\ntwo é\n".encode()))
    rows, _, _ = read(f"d.TXT{compression}")
    assert [row["messages"] for row in rows] == [
        [{"role": "assistant", "content": "one", "trainable": True}],
        [{"role": "assistant", "content": "two é", "trainable": True}],
    ]
    rows, _, _ = read(f"d.TXT{compression}", surface="production")
    assert [row["messages"][0]["role"] for row in rows] == ["user", "user"]


@pytest.mark.parametrize("name", ["data", "data.xlsx", "data.gz", "data.jsonl.bz2", ".jsonl"])
def test_unknown_suffixes_are_errors(name: str, tmp_path: Path, read: Read) -> None:
    (tmp_path / name).write_bytes(b"{}")
    with pytest.raises(InputDataError, match="suffix"):
        read(name)


# --- JSON documents ---------------------------------------------------------------------------------------------------------
PAIR = {"prompt": "q", "completion": "a"}
DOCUMENTS = [
    ("array", [PAIR, PAIR], 2),
    ("object of records", {"id1": PAIR, "id2": PAIR}, 2),
    ("array under a key", {"version": "1.0", "tags": ["a", "b"], "nested": [[1]], "data": [PAIR, PAIR, PAIR]}, 3),
    ("two splits", {"train": [PAIR], "test": [PAIR, PAIR]}, 3),
    ("one record", PAIR, 1),
    ("one conversation", {"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]}, 1),
    ("conversations as bare lists", [[{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]], 1),
]


@pytest.mark.parametrize(
    ("document", "count"), [(document, count) for _, document, count in DOCUMENTS], ids=[name for name, _, _ in DOCUMENTS]
)
@pytest.mark.parametrize("indent", [None, 2])
def test_document_shapes(document: Any, count: int, indent: int | None, tmp_path: Path, read: Read) -> None:
    (tmp_path / "d.json").write_text(json.dumps(document, indent=indent))
    rows, quarantine, _ = read("d.json")
    assert quarantine == []
    assert len(rows) == count
    assert all([message["content"] for message in row["messages"]] == ["q", "a"] for row in rows)


def test_keys_of_an_object_of_records_are_kept(tmp_path: Path, read: Read) -> None:
    (tmp_path / "d.json").write_text(json.dumps({"id1": PAIR, "id2": {**PAIR, "source_id": "own"}}))
    rows, _, _ = read("d.json")
    assert [json.loads(row["meta"]) for row in rows] == [{"source_id": "id1"}, {"source_id": "own"}]


def test_json_lines_under_json_suffix(tmp_path: Path, read: Read) -> None:
    (tmp_path / "d.json").write_text("\n".join(json.dumps(PAIR) for _ in range(5)))
    assert read("d.json")[2].kept == 5


def test_one_bad_element_costs_one_record(tmp_path: Path, read: Read) -> None:
    good = json.dumps(PAIR)
    body = f'[{good}, {{"prompt": NaN}}, {good}, {{"prompt": "q", "prompt": "r"}}, , 7, {{"a": 1]}}, {good}]'
    (tmp_path / "d.json").write_text(body)
    rows, quarantine, counts = read("d.json")
    assert len(rows) >= 2
    assert [line["reason"] for line in quarantine][:4] == ["non_finite_number", "duplicate_key", "invalid_json", "not_an_object"]
    assert counts.read == len(rows) + len(quarantine)


@pytest.mark.parametrize("tail", ["", ", ", ', {"prompt": "q"', ', {"prompt": "unfinished string', ', "half'])
def test_truncated_documents_keep_what_is_whole(tail: str, tmp_path: Path, read: Read) -> None:
    (tmp_path / "d.json").write_text(f"[{json.dumps(PAIR)}, {json.dumps(PAIR)}{tail}")
    rows, quarantine, _ = read("d.json")
    # Without the comma nobody can tell whether the last element was whole: it is kept out, with its text.
    assert len(rows) == (1 if tail == "" else 2)
    assert [line["reason"] for line in quarantine] == ["truncated"]


def test_text_after_the_document_is_reported(tmp_path: Path, read: Read) -> None:
    (tmp_path / "d.json").write_text(json.dumps([PAIR], indent=1) + "\n" + json.dumps([PAIR]))
    _, quarantine, counts = read("d.json")
    assert counts.kept == 1
    assert [line["reason"] for line in quarantine] == ["trailing_data"]


def test_documents_larger_than_one_record_stream(tmp_path: Path, read: Read) -> None:
    limits = ReadLimits(line_bytes=2_000)
    records = [{"prompt": f'q{i} {{["\\" ,', "completion": "a" * (i % 300)} for i in range(1, 2_000) if i % 300]
    huge = {"prompt": "q", "completion": "x" * 5_000}
    for shape in ([*records, huge, *records], {"info": {"a": [1]}, "n": 3, "data": [*records, huge, *records]}):
        (tmp_path / "d.json").write_text(json.dumps(shape))
        rows, quarantine, _ = read("d.json", limits=limits)
        # A small object beside the data is indistinguishable from a record, and refused as one.
        assert [line["reason"] for line in quarantine] == (
            ["line_too_long"] if isinstance(shape, list) else ["unknown_layout", "line_too_long"]
        )
        assert [row["messages"][0]["content"] for row in rows] == [record["prompt"] for record in [*records, *records]]
    (tmp_path / "d.json").write_text(json.dumps({"messages": [{"role": "user", "content": "q" * 3_000}] * 2}))
    _, quarantine, _ = read("d.json", limits=limits)
    assert [line["reason"] for line in quarantine] == ["line_too_long"]


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-1000, 1000) | st.text(st.characters(exclude_categories=["Cs"]), max_size=8),
    lambda children: (
        st.lists(children, max_size=3)
        | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"]), max_size=3), children, max_size=3)
    ),
    max_leaves=8,
)


@given(st.lists(json_values, min_size=1, max_size=6), st.sampled_from([None, 1]), st.booleans(), st.integers(1, 40))
def test_array_splitter_agrees_with_the_standard_parser(
    values: list[Any], indent: int | None, ascii_only: bool, chunk_size: int
) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "d.json").write_text(json.dumps(values, indent=indent, ensure_ascii=ascii_only), encoding="utf-8")
        (file,) = list_files(["d.json"], Path(folder))
        with open_file(file, ReadLimits()) as opened:
            # Chunks of any size, so that every boundary falls somewhere awkward.
            pieces = list(opened.stream.chunks())
            whole = b"".join(pieces)
            opened.stream._chunks = (whole[start : start + chunk_size] for start in range(0, len(whole), chunk_size))
            items = list(raw_records(opened))
    assert [item.value for item in items if isinstance(item, RawRecord)] == values
    assert not any(isinstance(item, Quarantined) for item in items)


# --- CSV --------------------------------------------------------------------------------------------------------------------
def test_csv_rows_that_do_not_fit_are_quarantined(tmp_path: Path, read: Read) -> None:
    body = b'prompt,completion\nq1,a1\nq2\nq3,a3,extra\n"q4"x,a4\nq5,\xff\n"q6\nstill q6",a6\n\nq7,a7\n"open quote,a8\nq9,a9\n'
    (tmp_path / "d.csv").write_bytes(body)
    rows, quarantine, counts = read("d.csv")
    assert [row["messages"][0]["content"] for row in rows] == ["q1", "q6\nstill q6", "q7"]
    assert [(line["reason"], line["position"]) for line in quarantine] == [
        ("column_count", 3),
        ("column_count", 4),
        ("malformed_csv", 5),
        ("invalid_utf8", 6),
        ("malformed_csv", 11),
    ]
    # The quote that never closes swallows the last rows; all their text is in the excerpt.
    assert "q9,a9" in quarantine[-1]["excerpt"]
    assert "\\xff" in quarantine[3]["excerpt"]
    assert counts.read == counts.kept + counts.quarantined == 8


def test_csv_long_lines_and_fields(tmp_path: Path, read: Read) -> None:
    limits = ReadLimits(line_bytes=200_000)
    body = "prompt,completion\nq1," + "a" * 150_000 + "\nq2," + "b" * 250_000 + "\nq3,a3\n" + '"q4\n' + "c" * 300_000 + "\nq5,a5\n"
    (tmp_path / "d.csv").write_text(body)
    rows, quarantine, _ = read("d.csv", limits=limits)
    assert [row["messages"][0]["content"] for row in rows] == ["q1", "q3", "q5"]
    assert [line["reason"] for line in quarantine] == ["line_too_long", "malformed_csv", "line_too_long"]


@pytest.mark.parametrize("header", ["prompt,prompt\nq,a\n", '"prompt\nq,a\n', "pr\udcffompt,completion\nq,a\n"])
def test_unusable_csv_headers_are_errors(header: str, tmp_path: Path, read: Read) -> None:
    (tmp_path / "d.csv").write_bytes(header.encode("utf-8", "surrogateescape"))
    with pytest.raises(InputDataError, match=r"d\.csv"):
        read("d.csv")


def test_csv_conversations_as_json_text(tmp_path: Path, read: Read) -> None:
    turns = json.dumps([{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}])
    with (tmp_path / "d.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["messages", "slices"], [turns, "one"], [turns, '["x", "y"]'], ["[{]", ""]])
    rows, quarantine, _ = read("d.csv")
    assert [row["slices"] for row in rows] == [["one"], ["x", "y"]]
    assert [line["reason"] for line in quarantine] == ["invalid_json"]
