"""M9: teachers of all four kinds, the models real: one on this machine, one behind a server that speaks the protocol."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from ftplatform.errors import FtplatformError
from ftplatform.evaluation.generation import Decoding, Generator
from ftplatform.rows.validation import row_schema
from ftplatform.synthesis.remedies.resample import resample
from ftplatform.synthesis.surface import input_surface_match
from ftplatform.synthesis.teachers.endpoint import ChatEndpoint
from ftplatform.synthesis.teachers.grammar import Grammar, GrammarTeacher
from ftplatform.synthesis.teachers.interface import Teacher, TeacherError
from ftplatform.synthesis.teachers.prompting import PromptedTeacher, TeacherPrompt
from ftplatform.synthesis.teachers.transcripts import RecordedModel, TranscriptFile
from ftplatform.transport.errors import EndpointUnavailable
from ftplatform.transport.json_post import JsonPost
from ftplatform.verdict import Decision
from ftplatform_tests import real_data
from ftplatform_tests.integration.chat_server import ChatServer, chat_server, says
from ftplatform_tests.projects import BASE_MODEL

SECRET = "sk-do-not-print-me"


@pytest.fixture
def server() -> Iterator[ChatServer]:
    with chat_server() as running:
        running.reply = echo
        yield running


@pytest.fixture(scope="module")
def seeds(shared_data: Path) -> pa.Table:
    return real_data.banking77(shared_data, "train").slice(0, 1500)


def echo(number: int, request: dict[str, Any]) -> Any:
    """Writes its first example once more, with a word before it, or answers."""
    if request["messages"][0]["content"] == "Answer.":
        return says("We will look at it.")
    return says(f"also {json.loads(request['messages'][-1]['content'])[0]}")


def endpoint(server: ChatServer, **settings: Any) -> ChatEndpoint:
    post = JsonPost(url=f"{server.url}/chat/completions", secret=lambda: SECRET, attempts=2, first_wait=0.01, timeout=5)
    return ChatEndpoint(post=post, model="writer-2026-10-01", **settings)


def test_an_endpoint_writes_rows(server: ChatServer, seeds: pa.Table) -> None:
    model = endpoint(server, temperature=0.9)
    teacher: Teacher = PromptedTeacher(
        "acme/writer-2026-10-01", model, terms="LicenseRef-Acme", prompt=TeacherPrompt(answer="Answer."), settings=model.settings
    )
    rows = teacher.write(seeds, 24, seed=1)
    assert row_schema(rows).passed
    assert rows.num_rows == 24
    first = rows.to_pylist()[0]
    assert first["parents"][:2] == ["teacher:acme/writer-2026-10-01", "banking77"]
    assert set(first["parents"][2:]) <= set(seeds["row_id"].to_pylist())
    assert first["messages"][1] == {"role": "assistant", "content": "We will look at it.", "trainable": True}
    request = server.requests[0]
    assert (request["model"], request["temperature"]) == ("writer-2026-10-01", 0.9)
    assert len({r["seed"] for r in server.requests}) == len(server.requests), "every request samples by itself"
    assert server.headers[0]["Authorization"] == f"Bearer {SECRET}"
    assert SECRET not in str(rows.to_pylist())


def test_its_transcripts_replay_without_it(server: ChatServer, seeds: pa.Table, tmp_path: Path) -> None:
    model = endpoint(server)
    recorded = RecordedModel(model, model.settings, log=TranscriptFile(tmp_path / "said.jsonl"))
    written = PromptedTeacher("writer", recorded, settings=model.settings).write(seeds, 10, seed=1)
    server.requests.clear()
    replay = RecordedModel(None, model.settings, log=TranscriptFile(tmp_path / "said.jsonl"))
    assert PromptedTeacher("writer", replay, settings=model.settings).write(seeds, 10, seed=1).equals(written)
    assert server.requests == []
    assert SECRET not in (tmp_path / "said.jsonl").read_text()


def test_refusals_and_other_protocols(server: ChatServer, seeds: pa.Table) -> None:
    server.reply = lambda number, request: says(None) if number % 2 else echo(number, request)
    rows = PromptedTeacher("writer", endpoint(server)).write(seeds, 8, seed=1)
    assert 0 < rows.num_rows <= 8
    server.reply = lambda number, request: (200, {}, b'{"choices": []}')
    with pytest.raises(TeacherError, match="without choices"):
        PromptedTeacher("writer", endpoint(server)).write(seeds, 4, seed=1)


def test_an_outage_ends_the_run_and_keeps_what_was_said(server: ChatServer, seeds: pa.Table, tmp_path: Path) -> None:
    server.reply = lambda number, request: echo(number, request) if number <= 70 else (503, {}, b"down")
    model = endpoint(server, concurrency=2)
    teacher = PromptedTeacher("writer", RecordedModel(model, model.settings, log=TranscriptFile(tmp_path / "said.jsonl")))
    with pytest.raises(EndpointUnavailable) as raised:
        teacher.write(seeds, 200, seed=1)
    assert isinstance(raised.value, FtplatformError)
    assert SECRET not in str(raised.value)
    assert len(server.requests) < 100
    kept = {r["seed"] for r in server.requests[:64]}
    server.requests.clear()
    server.reply = echo
    again = PromptedTeacher("writer", RecordedModel(model, model.settings, log=TranscriptFile(tmp_path / "said.jsonl")))
    assert again.write(seeds, 200, seed=1).num_rows == 200
    assert not kept & {r["seed"] for r in server.requests}, "what was said is not paid for again"


@pytest.fixture(scope="module")
def generator() -> Generator:
    return Generator.load(BASE_MODEL, device="cpu", batch_size=8)


def test_a_model_on_this_machine_writes_rows(generator: Generator, shared_data: Path) -> None:
    decoding = Decoding(max_new_tokens=12, temperature=1.0)

    def complete(conversations: Sequence[Any], seeds: Sequence[int]) -> list[str]:
        return generator.generate(conversations, decoding, seeds=seeds)

    settings = {"weights": generator.model_digest(adapter=False), "decoding": decoding.key}
    prompt = TeacherPrompt(system="Write a message like these.", examples=1)
    teacher: Teacher = PromptedTeacher("tarnwell-base-1m", complete, terms="Apache-2.0", prompt=prompt, settings=settings)
    short = real_data.banking77(shared_data, "train").slice(0, 8)
    rows = teacher.write(short, 6, seed=3)
    assert row_schema(rows).passed
    assert rows.num_rows > 0
    assert rows.equals(teacher.write(short, 6, seed=3))
    assert rows.to_pylist()[0]["parents"][0] == "teacher:tarnwell-base-1m"
    assert json.loads(rows.to_pylist()[0]["meta"])["prompt"] == teacher.identity.prompt


def test_resampling_from_real_seeds_makes_the_auc_fall(seeds: pa.Table, shared_data: Path) -> None:
    reference = real_data.banking77(shared_data, "test")
    things = ["card", "transfer", "top up", "account", "payment"]
    imagined = Grammar(
        {"user": ["Could you please help me with my {thing}? Thank you.", "I would like to ask about my {thing}."], "thing": things}
    )
    seeded = Grammar({"user": [{"text": "{seed}", "weight": 3}, "{seed} My {thing} too."], "thing": things})
    match = partial(input_surface_match, permutations=60)
    before = match(GrammarTeacher("imagined", imagined).write(seeds, 1200, seed=1), reference)
    after = match(resample(GrammarTeacher("seeded", seeded), seeds, 1200, seed=1), reference)
    assert before.decision is Decision.FAIL
    assert after.ci_high is not None
    assert before.ci_low is not None
    assert after.ci_high < 0.7 < 0.97 < before.ci_low
