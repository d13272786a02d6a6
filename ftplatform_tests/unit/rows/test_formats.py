"""Layouts: every convention in use becomes the same messages, and what cannot says why."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import orjson
import pytest

from ftplatform.errors import ProjectError

Read = Callable[..., tuple[list[dict[str, Any]], list[dict[str, Any]], Any]]


def said(row: dict[str, Any]) -> list[tuple[str, str, bool]]:
    return [(message["role"], message["content"], message["trainable"]) for message in row["messages"]]


PAIR = [("user", "Q", False), ("assistant", "A", True)]
WITH_SYSTEM = [("system", "S", False), *PAIR]

LAYOUTS = [
    (
        "messages",
        {"messages": [{"role": "system", "content": "S"}, {"role": "user", "content": "Q"}, {"role": "assistant", "content": "A"}]},
        WITH_SYSTEM,
    ),
    (
        "messages",
        {
            "messages": [
                {"role": "developer", "content": "S"},
                {"role": "user", "content": "Q"},
                {"role": "assistant", "content": "A"},
            ]
        },
        WITH_SYSTEM,
    ),
    (
        "messages",
        {"system": "S", "messages": [{"role": "user", "content": "Q"}, {"role": "assistant", "content": "A"}]},
        WITH_SYSTEM,
    ),
    (
        "messages",
        {
            "messages": [
                {"role": "system", "content": ""},
                {"role": "user", "content": [{"type": "text", "text": "Q"}]},
                {"role": "assistant", "content": "A"},
            ]
        },
        PAIR,
    ),
    (
        "sharegpt",
        {"conversations": [{"from": "system", "value": "S"}, {"from": "human", "value": "Q"}, {"from": "gpt", "value": "A"}]},
        WITH_SYSTEM,
    ),
    (
        "sharegpt",
        {"system": "S", "conversation": [{"role": "user", "content": "Q"}, {"role": "assistant", "content": "A"}]},
        WITH_SYSTEM,
    ),
    ("instruction", {"instruction": "Q", "input": "", "output": "A"}, PAIR),
    ("instruction", {"instruction": "Q", "input": "more", "output": "A"}, [("user", "Q\n\nmore", False), ("assistant", "A", True)]),
    ("instruction", {"instruction": "Q", "context": "", "response": "A"}, PAIR),
    (
        "instruction",
        {"instruction": "Q", "output": "A", "history": [["q0", "a0"]]},
        [("user", "q0", False), ("assistant", "a0", True), *PAIR],
    ),
    ("prompt_completion", {"prompt": "Q", "completion": "A"}, PAIR),
    ("prompt_completion", {"question": "Q", "answer": "A"}, PAIR),
    ("prompt_completion", {"system": "S", "user": "Q", "assistant": "A"}, WITH_SYSTEM),
    (
        "prompt_completion",
        {"prompt": [{"role": "user", "content": "Q"}], "completion": [{"role": "assistant", "content": "A"}]},
        PAIR,
    ),
    ("preference", {"prompt": "Q", "chosen": "A", "rejected": "bad"}, PAIR),
    (
        "preference",
        {
            "chosen": [{"role": "user", "content": "Q"}, {"role": "assistant", "content": "A"}],
            "rejected": [{"role": "user", "content": "Q"}, {"role": "assistant", "content": "bad"}],
        },
        PAIR,
    ),
    (
        "preference",
        {"prompt": "Q", "chosen": [{"role": "user", "content": "Q"}, {"role": "assistant", "content": "A"}], "rejected": []},
        PAIR,
    ),
    (
        "preference",
        {
            "prompt": [{"role": "user", "content": "Q"}],
            "chosen": [{"role": "assistant", "content": "A"}],
            "rejected": [{"role": "assistant", "content": "bad"}],
        },
        PAIR,
    ),
    ("text", {"text": "A"}, [("assistant", "A", True)]),
]


@pytest.mark.parametrize(("layout", "record", "messages"), LAYOUTS, ids=range(len(LAYOUTS)))
def test_layouts_named_and_recognized(layout: str, record: dict[str, Any], messages: list[Any], read_records: Read) -> None:
    for format_name in (layout, "auto"):
        rows, quarantine, _ = read_records([record], format=format_name)
        assert quarantine == []
        assert said(rows[0]) == messages


def test_same_conversation_has_the_same_id_in_every_layout(read_records: Read) -> None:
    ids = {read_records([record])[0][0]["row_id"] for _, record, messages in LAYOUTS if messages == PAIR}
    assert len(ids) == 1


def test_rejected_answer_is_kept_beside_the_row(read_records: Read) -> None:
    rows, _, _ = read_records([{"prompt": "Q", "chosen": "A", "rejected": "bad", "score": 3}])
    assert orjson.loads(rows[0]["meta"]) == {"rejected": "bad", "score": 3}


def test_only_assistant_turns_are_trained_and_masks_are_honored(read_records: Read) -> None:
    turns = [
        {"role": "user", "content": "q1"},
        {"role": "assistant", "content": "a1", "weight": 0},
        {"role": "tool", "content": "t"},
        {"role": "assistant", "content": "a2", "trainable": False},
        {"role": "assistant", "content": "a3", "weight": 1},
        {"role": "assistant", "content": "a4"},
    ]
    rows, quarantine, _ = read_records([{"messages": turns}, {"messages": [{"role": "user", "content": "u", "trainable": True}]}])
    assert [mask for _, _, mask in said(rows[0])] == [False, False, False, False, True, True]
    assert [line["reason"] for line in quarantine] == ["trainable_role"]
    rows, _, _ = read_records(
        [{"prompt": "q", "completion": "a", "trainable": False}, {"prompt": "q", "completion": "a", "weight": 0.5}]
    )
    assert [said(row)[1][2] for row in rows] == [False, True]
    assert orjson.loads(rows[1]["meta"]) == {"weight": 0.5}  # a sampling weight is no mask


def test_tool_calls_stay_readable_and_out_of_the_loss(read_records: Read) -> None:
    call = {"id": "1", "type": "function", "function": {"name": "refund", "arguments": "{}"}}
    turns = [
        {"role": "user", "content": "q"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "content": "done", "tool_call_id": "1"},
        {"role": "assistant", "content": "a"},
    ]
    rows, _, _ = read_records([{"messages": turns}])
    assert [(role, mask) for role, _, mask in said(rows[0])] == [
        ("user", False),
        ("assistant", False),
        ("tool", False),
        ("assistant", True),
    ]
    assert "refund" in said(rows[0])[1][1]


def test_field_mapping(read_records: Read) -> None:
    record = {
        "q": "Q",
        "a": "A",
        "sys": "S",
        "agent": 7,
        "conv": "c1",
        "at": "2024-05-01T10:00:00+02:00",
        "kind": "x",
        "tags": ["t2", "t1"],
        "prompt": "unrelated",
    }
    fields = {
        "user": "q",
        "assistant": "a",
        "system": "sys",
        "author": "agent",
        "group": "conv",
        "created_at": "at",
        "category": "kind",
        "slices": "tags",
    }
    rows, quarantine, _ = read_records([record, {"q": "Q"}], fields=fields)
    row = rows[0]
    assert said(row) == WITH_SYSTEM
    assert (row["author"], row["group"], row["created_at"].isoformat(), row["slices"]) == (
        "7",
        "c1",
        "2024-05-01T08:00:00+00:00",
        ["t1", "t2"],
    )
    assert orjson.loads(row["meta"]) == {"category": "x", "source_prompt": "unrelated"}
    assert quarantine[0]["reason"] == "missing_field"
    assert "'a'" in quarantine[0]["message"]


def test_a_key_with_one_of_our_names_is_neither_mistaken_nor_lost(read_records: Read) -> None:
    rows, _, _ = read_records([{"prompt": "Q", "completion": "A", "author": "host", "writer": "jo"}], fields={"author": "writer"})
    assert rows[0]["author"] == "jo"
    assert orjson.loads(rows[0]["meta"]) == {"source_author": "host"}


BAD = [
    ({"messages": "not json"}, "invalid_json"),
    ({"messages": {}}, "wrong_type"),
    ({"messages": []}, "no_messages"),
    ({"messages": ["x"]}, "wrong_type"),
    ({"messages": [{"content": "x"}]}, "missing_field"),
    ({"messages": [{"role": "user"}]}, "missing_field"),
    ({"messages": [{"role": 3, "content": "x"}]}, "wrong_type"),
    ({"messages": [{"role": "narrator", "content": "x"}]}, "unknown_role"),
    ({"messages": [{"role": "user", "content": 3}]}, "wrong_type"),
    ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "unsupported_content"),
    ({"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": " \n"}]}, "empty_content"),
    ({"messages": [{"role": "user", "content": "q"}]}, "no_target"),
    ({"messages": [{"role": "system", "content": "s"}]}, "no_messages"),
    ({"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a", "weight": 2}]}, "wrong_type"),
    ({"prompt": 5, "completion": "a"}, "wrong_type"),
    ({"prompt": "q", "completion": 5}, "wrong_type"),
    ({"prompt": "q"}, "no_target"),
    ({"prompt": "q", "completion": ""}, "empty_content"),
    ({"instruction": ["q"], "output": "a"}, "wrong_type"),
    ({"instruction": "q", "output": "a", "history": [["only one"]]}, "wrong_type"),
    ({"chosen": "a", "rejected": "b"}, "missing_field"),
    ({"text": {}}, "wrong_type"),
    ({"body": "q"}, "unknown_layout"),
    ({}, "unknown_layout"),
    ([1, 2], "not_an_object"),
    ("text", "not_an_object"),
    (None, "not_an_object"),
    ({"prompt": "q", "completion": "a", "created_at": "yesterday"}, "invalid_timestamp"),
    ({"prompt": "q", "completion": "a", "created_at": []}, "invalid_timestamp"),
    ({"prompt": "q", "completion": "a", "surface": "moon"}, "invalid_surface"),
    ({"prompt": "q", "completion": "a", "author": {}}, "wrong_type"),
    ({"prompt": "q", "completion": "a", "parents": [{}]}, "wrong_type"),
]


@pytest.mark.parametrize(("record", "reason"), BAD, ids=range(len(BAD)))
def test_malformed_records_are_quarantined_with_their_reason(record: Any, reason: str, read_records: Read) -> None:
    rows, quarantine, counts = read_records([record])
    assert rows == []
    assert [line["reason"] for line in quarantine] == [reason]
    assert (quarantine[0]["file"], quarantine[0]["position"]) == ("records.jsonl", 1)
    assert orjson.loads(quarantine[0]["excerpt"]) == record
    assert counts.by_reason == {reason: 1}


def test_a_record_of_another_layout_names_where_the_layout_came_from(read_records: Read) -> None:
    _, quarantine, _ = read_records([{"oops": 1}, {"prompt": "q", "completion": "a"}, {"instruction": "q", "output": "a"}])
    assert [line["reason"] for line in quarantine] == ["unknown_layout", "missing_field"]
    assert "recognized from record 2" in quarantine[1]["message"]


def test_unknown_format_is_a_project_error(read_records: Read) -> None:
    with pytest.raises(ProjectError, match="alpaca"):
        read_records([{}], format="alpaca")
