"""Named readers: real data with counts from an independent count, and project-local readers."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ftplatform.errors import ProjectError
from ftplatform.rows.named_readers import load_reader, reader_names
from ftplatform.rows.reading import ReadSpec, read_table
from ftplatform.rows.records import Message
from ftplatform.rows.schema import Role
from ftplatform.rows.turn_merging import merge_turns
from ftplatform.rows.validation import validate_rows

Read = Callable[..., tuple[list[dict[str, Any]], list[dict[str, Any]], Any]]


def test_star_dialogues(shared_data: Path) -> None:
    # The independent count: three lines over the raw events.
    sent = {("User", "utter"): "user", ("Wizard", "utter"): "assistant", ("Wizard", "pick_suggestion"): "assistant"}
    with gzip.open(shared_data / "star/star_open.jsonl.gz") as file:
        dialogues = [json.loads(line) for line in file]
    turns = [[(sent[k], e["Text"]) for e in d["Events"] if (k := (e["Agent"], e["Action"])) in sent] for d in dialogues]
    answered = [index for index, conversation in enumerate(turns) if any(role == "assistant" for role, _ in conversation)]
    silent = sum(not conversation for conversation in turns)
    assert (len(dialogues), len(answered), silent) == (2_694, 2_428, 194)

    rows, quarantine, counts = read_table(
        ReadSpec(paths=["star/star_open.jsonl.gz"], source="star", reader="star", base_dir=shared_data)
    )
    assert (counts.read, counts.kept) == (2_694, 2_428)
    assert counts.by_reason == {"no_messages": 194, "no_target": 2_694 - 2_428 - 194}
    assert set(quarantine.column("position").to_pylist()) == set(range(1, 2_695)) - {index + 1 for index in answered}
    assert validate_rows(rows).num_rows == 0
    read = rows.to_pylist()
    for row, index in zip(read, answered, strict=True):
        said = [(message["role"], message["content"]) for message in row["messages"] if message["role"] != "tool"]
        assert said == turns[index]
        assert all(message["trainable"] == (message["role"] == "assistant") for message in row["messages"])
        assert row["group"] == str(dialogues[index]["DialogueID"])
        assert row["author"] == dialogues[index]["AnonymizedWizardWorkerID"]
    queries = sum(event["Action"] == "query" for index in answered for event in dialogues[index]["Events"])
    assert sum(message["role"] == "tool" for row in read for message in row["messages"]) == queries
    # What an agent typed but nobody received is kept apart from what was sent.
    drafts = Counter(e["Action"] for index in answered for e in dialogues[index]["Events"])["request_suggestions"]
    assert sum(len(json.loads(row["meta"])["drafts"]) for row in read) == drafts
    # data/README.md: one reply template misspells a word and was sent this often.
    labels = Counter(label for row in read for label in json.loads(row["meta"])["action_labels"])
    assert labels["restaurant_inform_unavailable"] == 278
    assert "domain:bank" in {tag for row in read for tag in row["slices"]}


def test_taskmaster_conversations(shared_data: Path) -> None:
    paths = sorted((shared_data / "taskmaster4").glob("data__*.json.gz"))
    conversations = [c for path in paths for c in json.loads(gzip.decompress(path.read_bytes()))]
    utterances = sum(len(c["utterances"]) for c in conversations)
    calls = sum(a["name"] == "api_call" for c in conversations for u in c["utterances"] for a in u["annotations"])
    assert (len(conversations), utterances, calls) == (3_710, 13_915, 15_395)

    spec = ReadSpec(paths=["taskmaster4/data__*.json.gz"], source="tm", reader="taskmaster", base_dir=shared_data)
    rows, _, counts = read_table(spec)
    assert (counts.read, counts.kept) == (3_710, 3_710)
    assert validate_rows(rows).num_rows == 0
    read = rows.to_pylist()
    roles = Counter(message["role"] for row in read for message in row["messages"])
    assert roles == {"user": 6_995, "assistant": 6_920, "tool": 15_395}
    assert [row["group"] for row in read] == [c["conversation_id"] for c in conversations]
    assert json.loads(read[0]["messages"][1]["content"])["request"] == {"query": "Chai Latte"}


def test_readers_count_single_objects_and_refuse_others(tmp_path: Path, read: Read) -> None:
    dialogue = {
        "DialogueID": 1,
        "Events": [{"Agent": "User", "Action": "utter", "Text": "hi"}, {"Agent": "Wizard", "Action": "utter", "Text": "hello"}],
    }
    (tmp_path / "one.json").write_text(json.dumps(dialogue, indent=1))
    assert read("one.json", reader="star")[2].kept == 1
    bad = [[1], {"DialogueID": 1}, {"Events": {}}, {"Events": [{"Agent": "User", "Action": "utter"}]}, {**dialogue, "Scenario": 3}]
    (tmp_path / "bad.jsonl").write_text("\n".join(json.dumps(value) for value in [*bad, dialogue]) + '\n{"Events": NaN}')
    _, quarantine, counts = read("bad.jsonl", reader="star")
    assert [line["reason"] for line in quarantine] == [
        "not_an_object",
        "missing_field",
        "wrong_type",
        "wrong_type",
        "wrong_type",
        "non_finite_number",
    ]
    assert counts.kept == 1
    other = [
        {},
        {"utterances": 1},
        {"utterances": [{"speaker": "user"}]},
        {"utterances": [{"speaker": "user", "text": "x", "annotations": 1}]},
    ]
    (tmp_path / "tm.jsonl").write_text("\n".join(json.dumps(value) for value in other))
    assert [line["reason"] for line in read("tm.jsonl", reader="taskmaster")[1]] == [
        "missing_field",
        "wrong_type",
        "wrong_type",
        "wrong_type",
    ]


PLUGIN = '''
import io
from ftplatform.rows.quarantine import Quarantined, Reason
from ftplatform.rows.records import Message, Record
from ftplatform.rows.schema import Role

def read(opened):
    """Blocks "Q: ... / A: ..." separated by blank lines."""
    text = io.TextIOWrapper(io.BufferedReader(opened.stream), encoding="utf-8").read()
    for number, block in enumerate(text.split("\\n\\n"), start=1):
        question, _, answer = block.partition("\\nA: ")
        if not answer:
            yield Quarantined(Reason.MISSING_FIELD, number, "no answer", block[:100])
        else:
            yield Record([Message(Role.USER, question[3:]), Message(Role.ASSISTANT, answer)], {"author": "plugin"}, number)

not_a_function = 3
'''


def test_project_local_reader(tmp_path: Path, read: Read) -> None:
    (tmp_path / "my_readers.py").write_text(PLUGIN)
    (tmp_path / "faq.txt.gz").write_bytes(gzip.compress(b"Q: one\nA: two\n\nQ: no answer\n\nQ: three\nA:  "))
    rows, quarantine, counts = read("faq.txt.gz", reader="my_readers:read")
    assert [[message["content"] for message in row["messages"]] for row in rows] == [["one", "two"]]
    assert rows[0]["author"] == "plugin"
    assert [(line["position"], line["reason"]) for line in quarantine] == [(2, "missing_field"), (3, "empty_content")]
    assert counts.read == 3


def test_a_bug_in_a_reader_is_not_a_data_failure(tmp_path: Path, read: Read) -> None:
    (tmp_path / "broken.py").write_text("def read(opened):\n    yield {}['missing']\n")
    (tmp_path / "a.jsonl").write_text("{}")
    with pytest.raises(KeyError):
        read("a.jsonl", reader="broken:read")


@pytest.mark.parametrize(
    "name", ["nope", "nope:read", "my_readers:nope", "my_readers:not_a_function", "../x:read", "os;x:y", "syntax:read"]
)
def test_unknown_readers(name: str, tmp_path: Path) -> None:
    (tmp_path / "my_readers.py").write_text(PLUGIN)
    (tmp_path / "syntax.py").write_text("def read(:")
    with pytest.raises(ProjectError):
        load_reader(name, tmp_path)


def test_installed_readers_are_found() -> None:
    assert {"star", "taskmaster"} <= set(reader_names())


def test_merging_of_turns() -> None:
    merged = merge_turns(
        [
            Message(Role.USER, "a"),
            Message(Role.USER, " "),
            Message(Role.USER, "b"),
            Message(Role.TOOL, "t"),
            Message(Role.TOOL, "t"),
            Message(Role.ASSISTANT, "c"),
            Message(Role.ASSISTANT, "masked", False),
            Message(Role.ASSISTANT, "d"),
            Message(Role.ASSISTANT, "e"),
        ]
    )
    assert [(str(message.role), message.content, message.trainable) for message in merged] == [
        ("user", "a\nb", None),
        ("tool", "t", None),
        ("tool", "t", None),
        ("assistant", "c", None),
        ("assistant", "masked", False),
        ("assistant", "d\ne", None),
    ]
