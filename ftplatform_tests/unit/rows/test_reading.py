"""Reading: everything accounted for, whatever comes in; provenance and surfaces as the row contract says."""

from __future__ import annotations

import datetime
import hashlib
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ftplatform.errors import InputDataError, ProjectError
from ftplatform.rows.quarantine import QUARANTINE_SCHEMA, Quarantined, QuarantineLog, Reason
from ftplatform.rows.reading import ReadCounts, ReadLimits, ReadSpec, read_rows, read_table
from ftplatform.rows.schema import ROW_SCHEMA, row_id
from ftplatform.rows.validation import validate_rows

Read = Callable[..., tuple[list[dict[str, Any]], list[dict[str, Any]], ReadCounts]]
GOOD = orjson.dumps({"prompt": "q", "completion": "a"})


# --- nothing is lost --------------------------------------------------------------------------------------------------------
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
    lambda children: st.lists(children, max_size=3) | st.dictionaries(st.text(max_size=5), children, max_size=3),
    max_leaves=6,
)
turns = st.fixed_dictionaries(
    {},
    optional={
        "role": st.sampled_from(["user", "assistant", "system", "tool", "robot", None, 3]),
        "content": st.none() | st.text(max_size=5) | st.integers(),
        "trainable": st.booleans() | st.none(),
        "weight": st.sampled_from([0, 1, 0.5, None]),
        "tool_calls": st.none() | st.lists(json_values, max_size=1),
    },
)
records = st.fixed_dictionaries(
    {},
    optional={
        "messages": st.lists(turns, max_size=3) | json_values,
        "conversations": st.lists(turns, max_size=3),
        "prompt": json_values,
        "completion": json_values,
        "instruction": json_values,
        "output": json_values,
        "chosen": json_values,
        "rejected": json_values,
        "text": json_values,
        "author": json_values,
        "group": json_values,
        "surface": st.sampled_from(["curation", "debug", "eval", "moon"]),
        "created_at": json_values,
        "slices": json_values,
        "parents": json_values,
    },
)


def _json(value: Any) -> bytes:
    import json

    return json.dumps(value).encode()  # NaN, Infinity and lone surrogates included


lines = st.one_of(records.map(_json), json_values.map(_json), st.binary(max_size=30), st.just(GOOD), st.just(GOOD + b"\r"))


@settings(max_examples=200)
@given(
    st.lists(lines, max_size=8),
    st.sampled_from(["jsonl", "txt", "json", "csv", "tsv"]),
    st.sampled_from(["curation", "eval", "production", "debug"]),
)
def test_kept_plus_quarantined_is_read_whatever_comes_in(parts: list[bytes], suffix: str, surface: str) -> None:
    body = b"\n".join(parts)
    if suffix == "json":
        body = b"[" + b",".join(parts) + b"]"
    elif suffix in ("csv", "tsv"):
        body = b"prompt,completion\n".replace(b",", b"," if suffix == "csv" else b"\t") + body
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, f"d.{suffix}").write_bytes(body)
        spec = ReadSpec(
            paths=[f"d.{suffix}"],
            source="src",
            base_dir=Path(folder),
            surface=surface,
            limits=ReadLimits(line_bytes=60),
            slice_field="author",
        )
        try:
            rows, quarantine, counts = read_table(spec)
        except InputDataError:
            return  # the file as a whole: empty, or not UTF-8 at its very beginning
    assert counts.kept == rows.num_rows
    assert counts.quarantined == quarantine.num_rows
    assert counts.read == rows.num_rows + quarantine.num_rows > 0
    assert rows.schema.equals(ROW_SCHEMA)
    assert quarantine.schema.equals(QUARANTINE_SCHEMA)
    # What is kept obeys every rule of rows.
    assert validate_rows(rows).num_rows == 0
    if suffix in ("jsonl", "txt"):
        # One record per line that is not blank.
        whole = body.removeprefix(b"\xef\xbb\xbf")
        assert counts.read == sum(1 for line in whole.split(b"\n") if line.strip(b" \t\r"))
        positions = quarantine.column("position").to_pylist()
        assert len(set(positions)) == len(positions)


def test_counts_that_do_not_add_up_are_a_bug() -> None:
    for counts in ((3, 1, 1, {"x": 1}), (2, 1, 1, {}), (2, 1, 1, {"x": 2})):
        with pytest.raises(ValueError, match="do not add up"):
            ReadCounts(*counts)


def test_batches_stream_and_counts_are_live(tmp_path: Path) -> None:
    (tmp_path / "d.jsonl").write_bytes(b"\n".join([GOOD, b"bad"] * 20_000))
    with read_rows(ReadSpec(paths=["d.jsonl"], source="src", base_dir=tmp_path)) as reader:
        first = next(iter(reader))
        assert first.num_rows < 20_000
        assert 0 < reader.counts.read < 40_000
        total = first.num_rows + sum(batch.num_rows for batch in reader)
        assert (total, reader.counts) == (20_000, ReadCounts(40_000, 20_000, 20_000, {"invalid_json": 20_000}))
        # The quarantine spilled to disk in between; order and content are whole.
        assert reader.quarantine().column("position").to_pylist() == list(range(2, 40_001, 2))
        assert sum(batch.num_rows for batch in reader.quarantine_batches()) == 20_000
        assert reader.digests == {"d.jsonl": hashlib.sha256((tmp_path / "d.jsonl").read_bytes()).hexdigest()}


def test_a_reader_can_be_left_early(tmp_path: Path) -> None:
    (tmp_path / "d.jsonl").write_bytes(b"\n".join([GOOD] * 10_000))
    with read_rows(ReadSpec(paths=["d.jsonl"], source="src", base_dir=tmp_path)) as reader:
        next(iter(reader))
    assert list(reader) == []


def test_quarantine_log_keeps_everything() -> None:
    with QuarantineLog("src") as log:
        assert log.table().num_rows == 0
        for number in range(1, 5_002):
            log.add("f", Quarantined(Reason.INVALID_JSON, number, "message", "é" * 10))
        assert log.table().column("position").to_pylist() == list(range(1, 5_002))
        log.add("g", Quarantined(Reason.TOO_DEEP, 1, "m", "e"))
        assert log.table().num_rows == 5_002
        assert log.by_reason == {"invalid_json": 5_001, "too_deep": 1}


# --- whole files ------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("d.jsonl", b""),
        ("d.jsonl", b"\n \n"),
        ("d.json", b" "),
        ("d.json", b"[]"),
        ("d.json", b"{}"),
        ("d.csv", b"a,b\n"),
        ("d.txt", b"\xef\xbb\xbf"),
    ],
)
def test_files_without_records_are_errors(name: str, content: bytes, tmp_path: Path, read: Read) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputDataError, match="holds no records"):
        read(name)


def test_an_empty_file_among_others_is_named(tmp_path: Path, read: Read) -> None:
    (tmp_path / "a.jsonl").write_bytes(GOOD)
    (tmp_path / "b.jsonl").write_bytes(b"")
    with pytest.raises(InputDataError, match=r"b\.jsonl"):
        read("*.jsonl")


def test_record_limit(tmp_path: Path, read: Read) -> None:
    (tmp_path / "a.jsonl").write_bytes(b"\n".join([GOOD] * 11))
    with pytest.raises(InputDataError, match="after 10 records"):
        read("a.jsonl", limits=ReadLimits(records=10))
    with pytest.raises(ValueError, match="positive"):
        ReadLimits(records=0)


def test_byte_order_mark_and_line_ends(tmp_path: Path, read: Read) -> None:
    (tmp_path / "a.jsonl").write_bytes(b"\xef\xbb\xbf" + GOOD + b"\r\n\r\n" + GOOD + b"\n\xef\xbb\xbf" + GOOD)
    _, quarantine, counts = read("a.jsonl")
    assert counts.kept == 2
    assert [(line["position"], line["reason"]) for line in quarantine] == [(4, "invalid_json")]


# --- provenance and surfaces ------------------------------------------------------------------------------------------------
def test_columns_of_a_row(read_records: Read) -> None:
    seen = datetime.datetime(2025, 1, 2, 3, 4, 5)
    record = {
        "prompt": "q",
        "completion": "a",
        "author": 12,
        "group": "g",
        "created_at": 1_700_000_000,
        "slices": "s",
        "parents": ["row:1"],
        "topic": "billing",
        "extra": {"b": 1, "a": [None]},
    }
    rows, _, _ = read_records([record], first_seen_at=seen, parents=("teacher:t",), slice_field="topic")
    expected = {
        "row_id": row_id([{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]),
        "messages": [
            {"role": "user", "content": "q", "trainable": False},
            {"role": "assistant", "content": "a", "trainable": True},
        ],
        "source": "src",
        "origins": ["src"],
        "parents": ["row:1", "teacher:t"],
        "slices": ["billing", "s"],
        "author": "12",
        "group": "g",
        "surface": "curation",
        "created_at": datetime.datetime(2023, 11, 14, 22, 13, 20, tzinfo=datetime.UTC),
        "first_seen_at": seen.replace(tzinfo=datetime.UTC),
        "meta": '{"extra":{"a":[null],"b":1},"topic":"billing"}',
    }
    assert rows == [expected]


@pytest.mark.parametrize(
    "value",
    [
        1_700_000_000,
        1_700_000_000_000,
        "1700000000",
        1_700_000_000.0,
        "2023-11-14T22:13:20",
        "2023-11-14 23:13:20+01:00",
        "2023-11-14T22:13:20Z",
    ],
)
def test_times(value: Any, read_records: Read) -> None:
    rows, _, _ = read_records([{"prompt": "q", "completion": "a", "created_at": value}])
    assert rows[0]["created_at"] == datetime.datetime(2023, 11, 14, 22, 13, 20, tzinfo=datetime.UTC)


def test_slice_field_sees_mapped_and_used_keys(read_records: Read) -> None:
    rows, _, _ = read_records(
        [{"q": "q", "a": "yes", "kind": "k"}], fields={"user": "q", "assistant": "a", "category": "kind"}, slice_field="kind"
    )
    assert rows[0]["slices"] == ["k"]
    rows, _, _ = read_records([{"prompt": "q", "answer": "yes"}], slice_field="answer")
    assert rows[0]["slices"] == ["yes"]


EVAL_RECORDS = [
    {"question": "q", "answer": "a"},
    {"messages": [{"role": "user", "content": "q"}], "reference": "a"},
    {"messages": [{"role": "user", "content": "q"}], "ideal": ["a", "also a"]},
    {"prompt": "q", "target": "a"},
    {"q": "q", "gold": "a"},
]


@pytest.mark.parametrize("record", EVAL_RECORDS, ids=range(len(EVAL_RECORDS)))
def test_eval_questions_end_in_a_reference_that_is_never_trained(record: dict[str, Any], read_records: Read) -> None:
    fields = {"user": "q", "reference": "gold"} if "gold" in record else {}
    rows, quarantine, _ = read_records([record], surface="eval", fields=fields)
    assert quarantine == []
    assert [list(message.values()) for message in rows[0]["messages"]] == [["user", "q", False], ["assistant", "a", False]]
    if "ideal" in record:
        assert orjson.loads(rows[0]["meta"]) == {"references": ["a", "also a"]}


def test_probes_have_no_reference(read_records: Read) -> None:
    probe = {"prompt": "how do I ...", "category": "fraud"}
    rows, _, _ = read_records([probe], surface="eval", slice_field="category")
    assert [message["role"] for message in rows[0]["messages"]] == ["user"]
    assert rows[0]["slices"] == ["fraud"]
    assert read_records([probe], surface="curation")[2].by_reason == {"no_target": 1}
    assert read_records([probe], surface="curation", require_target=False)[2].kept == 1
    assert read_records([probe], surface="eval", require_target=True)[2].by_reason == {"no_target": 1}


def test_debug_rows_are_never_trainable_whoever_says_so(read_records: Read) -> None:
    record = {"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a", "trainable": True}]}
    for rows in (read_records([record], surface="debug")[0], read_records([{**record, "surface": "debug"}])[0]):
        assert (rows[0]["surface"], rows[0]["messages"][1]["trainable"]) == ("debug", False)


def test_unknown_reader_and_format_fail_before_reading(tmp_path: Path, read: Read) -> None:
    (tmp_path / "a.jsonl").write_bytes(GOOD)
    with pytest.raises(ProjectError, match="star"):
        read("a.jsonl", reader="stars")
    with pytest.raises(ProjectError, match="format"):
        read_rows(ReadSpec(paths=["a.jsonl"], source="s", base_dir=tmp_path, format="chatml"))
