"""A language model as teacher, with programs in place of the model: prompts, what is kept, transcripts."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from ftplatform.rows.validation import row_schema
from ftplatform.synthesis.teachers.interface import TeacherError
from ftplatform.synthesis.teachers.prompting import PromptedTeacher, TeacherPrompt
from ftplatform.synthesis.teachers.transcripts import RecordedModel, TranscriptFile, recorded_settings
from ftplatform_tests.tables import row, table

SEEDS = table([row(("user", f"where is my item {i}"), ("assistant", "a"), source="raw/app") for i in range(12)])
PROMPT = TeacherPrompt(answer="Answer.", examples=3)


class Counting:
    """Writes a new message for each seed of the sampler and remembers what it was asked."""

    def __init__(self, write=lambda messages, seed: f"new message {seed}") -> None:
        self.asked: list[tuple[Sequence[Any], int]] = []
        self._write = write

    def __call__(self, conversations: Sequence[Any], seeds: Sequence[int]) -> list[str]:
        self.asked += list(zip(conversations, seeds, strict=True))
        return [self._write(messages, seed) for messages, seed in zip(conversations, seeds, strict=True)]


def test_examples_are_data_and_rows_name_their_seeds() -> None:
    model = Counting()
    teacher = PromptedTeacher("m-1", model, terms="MIT", prompt=PROMPT)
    rows = teacher.write(SEEDS, 5, seed=1)
    assert row_schema(rows).passed
    assert rows.num_rows == 5
    messages, _ = model.asked[0]
    shown = json.loads(messages[1]["content"])
    assert len(shown) == 3
    first = rows.to_pylist()[0]
    assert first["parents"][:2] == ["teacher:m-1", "raw/app"]
    contents = {r["row_id"]: r["messages"][0]["content"] for r in SEEDS.to_pylist()}
    assert sorted(contents[p] for p in first["parents"][2:]) == sorted(shown)
    assert json.loads(first["meta"])["terms"] == "MIT"
    assert [m["role"] for m in first["messages"]] == ["user", "assistant"]


def test_personal_data_that_was_not_scrubbed_does_not_leave() -> None:
    model = Counting()
    PromptedTeacher("m", model).write(table([row("mail me at jo@example.org about it")]), 1, seed=0)
    assert "example.org" not in str(model.asked)


def test_equal_arguments_ask_equally() -> None:
    one, other = Counting(), Counting()
    PromptedTeacher("m", one).write(SEEDS, 8, seed=4)
    PromptedTeacher("m", other).write(SEEDS, 8, seed=4)
    assert one.asked == other.asked
    third = Counting()
    PromptedTeacher("m", third).write(SEEDS, 8, seed=5)
    assert third.asked != one.asked


def test_copies_of_examples_empties_and_repetitions_are_not_kept() -> None:
    """ADV: a model that repeats its examples looks perfectly real and adds nothing but leaks."""

    def lazy(messages: Sequence[Any], seed: int) -> str:
        examples = json.loads(messages[1]["content"])
        return [examples[0].upper(), "", '"same"', f"new {seed}", "x" * 9000][seed % 5]

    rows = PromptedTeacher("m", Counting(lazy)).write(SEEDS, 40, seed=1)
    texts = [r["messages"][0]["content"] for r in rows.to_pylist()]
    assert texts.count("same") == 1
    assert all(text == "same" or text.startswith("new ") for text in texts)
    with pytest.raises(TeacherError, match="wrote nothing new"):
        PromptedTeacher("m", Counting(lambda messages, seed: json.loads(messages[1]["content"])[0])).write(SEEDS, 4, seed=1)


def test_what_is_missing_is_asked_again_and_no_more() -> None:
    model = Counting(lambda messages, seed: f"new {seed}" if seed % 2 else "")
    rows = PromptedTeacher("m", model).write(SEEDS, 64, seed=2)
    assert 48 <= rows.num_rows <= 64
    assert 64 < len(model.asked) < 64 * 2.5


def test_an_unanswered_input_is_no_training_row() -> None:
    model = Counting(lambda messages, seed: ("" if seed % 2 else "fine") if messages[0]["content"] == "Answer." else f"new {seed}")
    rows = PromptedTeacher("m", model, prompt=PROMPT).write(SEEDS, 10, seed=3)
    assert all(r["messages"][1]["content"] == "fine" for r in rows.to_pylist())


def test_identity_covers_prompt_and_settings() -> None:
    plain = PromptedTeacher("m", Counting()).identity
    assert plain.parent == "teacher:m"
    assert PromptedTeacher("m", Counting(), prompt=PROMPT).identity.prompt != plain.prompt
    assert PromptedTeacher("m", Counting(), settings={"temperature": 1}).identity.prompt != plain.prompt


def test_without_seeds() -> None:
    with pytest.raises(TeacherError, match="needs examples"):
        PromptedTeacher("m", Counting()).write(table([]), 1, seed=0)


def test_recorded_transcripts_replay_without_the_model(tmp_path: Path) -> None:
    path, model = tmp_path / "said.jsonl", Counting()
    written = PromptedTeacher("m", RecordedModel(model, {"t": 1}, log=TranscriptFile(path)), prompt=PROMPT).write(SEEDS, 6, seed=1)
    assert len(model.asked) == 12
    again = PromptedTeacher("m", RecordedModel(None, {"t": 1}, log=TranscriptFile(path)), prompt=PROMPT).write(SEEDS, 6, seed=1)
    assert again.equals(written)
    # Only what is new is asked of the model.
    PromptedTeacher("m", RecordedModel(model, {"t": 1}, log=TranscriptFile(path)), prompt=PROMPT).write(SEEDS, 6, seed=1)
    assert len(model.asked) == 12
    for settings, seed in (({"t": 2}, 1), ({"t": 1}, 2)):
        with pytest.raises(TeacherError, match="6 of 6 requests are not among the transcripts"):
            PromptedTeacher("m", RecordedModel(None, settings, log=TranscriptFile(path)), prompt=PROMPT).write(SEEDS, 6, seed=seed)


def test_what_was_said_before_a_failure_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "said.jsonl"
    breaking = Counting(lambda messages, seed: f"new {seed}")

    def model(conversations: Sequence[Any], seeds: Sequence[int]) -> list[str]:
        if len(breaking.asked) >= 64:
            raise TeacherError("gone", remedy="")
        return breaking(conversations, seeds)

    with pytest.raises(TeacherError, match="gone"):
        PromptedTeacher("m", RecordedModel(model, {}, log=TranscriptFile(path))).write(SEEDS, 100, seed=1)
    # A crash while writing leaves half a line.
    with path.open("ab") as file:
        file.write(b'{"request": "abc", "te')
    rest = Counting()
    rows = PromptedTeacher("m", RecordedModel(rest, {}, log=TranscriptFile(path))).write(SEEDS, 100, seed=1)
    assert (len(breaking.asked), len(rest.asked), rows.num_rows) == (64, 36, 100)
    replayed = PromptedTeacher("m", RecordedModel(None, {}, log=TranscriptFile(path))).write(SEEDS, 100, seed=1)
    assert replayed.equals(rows)


def test_another_file_is_no_transcript(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"prompt": "x"}\n')
    with pytest.raises(TeacherError, match=r"Line 1 of rows\.jsonl"):
        RecordedModel(None, {}, log=TranscriptFile(path))


def test_a_changed_transcript_is_none(tmp_path: Path) -> None:
    """ADV: a file that is looked up by its keys alone would serve whatever somebody wrote under them."""
    path = tmp_path / "said.jsonl"
    PromptedTeacher("m", RecordedModel(Counting(), {"t": 1}, log=TranscriptFile(path))).write(SEEDS, 2, seed=1)
    lines = path.read_text().splitlines()
    path.write_text("\n".join([lines[0], lines[1].replace("where is my item", "tell me about")]) + "\n")
    with pytest.raises(TeacherError, match=r"Line 2 of said\.jsonl is no transcript"):
        TranscriptFile(path).read()


def test_transcripts_name_the_settings_they_were_made_with(tmp_path: Path) -> None:
    log = TranscriptFile(tmp_path / "said.jsonl")
    written = PromptedTeacher("m", RecordedModel(Counting(), {"t": 1}, log=log), settings={"t": 1}).write(SEEDS, 4, seed=1)
    settings = recorded_settings(log.read(), "said.jsonl")
    assert settings == {"t": 1}
    replay = RecordedModel(None, settings, recorded=log.read())
    assert PromptedTeacher("m", replay, settings=settings).write(SEEDS, 4, seed=1).equals(written)
    assert replay.used.sort_by("request").equals(log.read().sort_by("request"))
    PromptedTeacher("m", RecordedModel(Counting(), {"t": 2}, log=log)).write(SEEDS, 1, seed=1)
    with pytest.raises(TeacherError, match="2 models or settings"):
        recorded_settings(log.read(), "said.jsonl")


def test_the_snapshot_goes_before_the_log(tmp_path: Path) -> None:
    """Two runs may have asked the same at once: what the rows were made of counts."""
    ours, theirs = TranscriptFile(tmp_path / "ours.jsonl"), TranscriptFile(tmp_path / "theirs.jsonl")
    written = PromptedTeacher("m", RecordedModel(Counting(), {}, log=ours)).write(SEEDS, 3, seed=1)
    PromptedTeacher("m", RecordedModel(Counting(lambda messages, seed: f"a {seed}"), {}, log=theirs)).write(SEEDS, 3, seed=1)
    again = RecordedModel(None, {}, log=theirs, recorded=ours.read())
    assert PromptedTeacher("m", again).write(SEEDS, 3, seed=1).equals(written)
