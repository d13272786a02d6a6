"""A judge behind a real HTTP server on loopback: the protocol, replay, retries, limits, secrets, and where it may not go."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ftplatform.errors import EvaluationError, FtplatformError
from ftplatform.evaluation.judges.endpoint import EndpointChat
from ftplatform.evaluation.judges.interface import JudgeItem
from ftplatform.evaluation.judges.model_judge import ModelJudge
from ftplatform.evaluation.judges.prompting import JudgePrompt
from ftplatform.evaluation.judges.transcripts import TRANSCRIPT_SCHEMA, Transcripts
from ftplatform.store import Store
from ftplatform.transport.errors import EndpointUnavailable, TransportError
from ftplatform_tests.integration.chat_server import ChatServer, chat_server, grade, says

SECRET = "sk-do-not-print-me"
PROMPT = JudgePrompt({"correct": "The answer is right."})


@pytest.fixture
def server() -> Iterator[ChatServer]:
    with chat_server() as running:
        yield running


def judge(server: ChatServer, transcripts: Transcripts | None = None, prompt: JudgePrompt = PROMPT, **settings: Any) -> ModelJudge:
    limits: dict[str, Any] = {"first_wait": 0.01, "attempts": 3, "timeout": 5.0}
    chat = EndpointChat(server.url, "judge", **(limits | settings))
    return ModelJudge(id="exam", family="acme", version="1", prompt=prompt, chat=chat, transcripts=transcripts or Transcripts())


def items(n: int) -> list[JudgeItem]:
    return [JudgeItem(f"i{k}", [{"role": "user", "content": "?"}], f"{'right' if k % 3 else 'wrong'} {k}") for k in range(n)]


def test_every_item_gets_its_verdict_and_the_exchange_is_recorded(server: ChatServer) -> None:
    judged = judge(server, concurrency=4).judge(items(40))
    assert [v.item_id for v in judged.verdicts] == [f"i{k}" for k in range(40)]
    assert [v.score for v in judged.verdicts] == [float(k % 3 > 0) for k in range(40)]
    assert judged.verdicts[0].reason == "looked at wrong 0"
    assert (judged.calls, len(server.requests), judged.quarantined) == (40, 40, [])
    request = server.requests[0]
    assert (request["model"], request["temperature"], request["seed"]) == ("judge", 0, 0)
    assert request["response_format"] == {"type": "json_object"}
    assert "Authorization" not in server.headers[0]
    table = judged.transcripts
    assert table.schema == TRANSCRIPT_SCHEMA
    rows = {row["request"]: row for row in table.to_pylist()}
    assert len(rows) == 40
    row = rows[str(judged.verdicts[1].request)]
    assert (row["judge"], row["model"]) == ("exam", "judge-2026-10-01"), "the name the server gave, not the alias that was asked"
    assert (row["prompt_tokens"], row["completion_tokens"]) == (11, 7)
    assert "right 1" in row["prompt"]
    assert row["seconds"] > 0


def test_a_rerun_replays_and_calls_nobody(server: ChatServer, tmp_path: Path) -> None:
    store = str(tmp_path / "store")
    first = judge(server, Transcripts(Store.open(store).backend)).judge(items(10))
    server.requests.clear()
    again = judge(server, Transcripts(Store.open(store).backend)).judge(items(10))
    assert (again.calls, len(server.requests)) == (0, 0)
    assert again.verdicts == first.verdicts
    assert again.transcripts.equals(first.transcripts), "times and tokens are those of the exchange that took place"
    from_snapshot = judge(server, Transcripts(recorded=first.transcripts, online=False)).judge(items(10))
    assert (from_snapshot.calls, len(server.requests)) == (0, 0)
    assert from_snapshot.verdicts == first.verdicts
    more = judge(server, Transcripts(Store.open(store).backend)).judge(items(12))
    assert (more.calls, len(server.requests)) == (2, 2)


def test_replay_only_asks_nobody_about_what_is_new(server: ChatServer) -> None:
    recorded = judge(server).judge(items(3)).transcripts
    server.requests.clear()
    with pytest.raises(EvaluationError, match="2 of 5 items without a recorded transcript"):
        judge(server, Transcripts(recorded=recorded, online=False)).judge(items(5))
    stricter = JudgePrompt({"correct": "The answer is exactly right."})
    with pytest.raises(EvaluationError, match="3 of 3 items"):
        judge(server, Transcripts(recorded=recorded, online=False), stricter).judge(items(3))
    with pytest.raises(EvaluationError, match="3 of 3 items"):
        judge(server, Transcripts(recorded=recorded, online=False), max_tokens=9).judge(items(3))
    assert server.requests == []


def test_the_same_question_is_asked_once(server: ChatServer) -> None:
    twins = [JudgeItem(name, [{"role": "user", "content": "?"}], "right") for name in ("a", "b")]
    judged = judge(server).judge(twins)
    assert [(v.item_id, v.score) for v in judged.verdicts] == [("a", 1.0), ("b", 1.0)]
    assert (judged.calls, judged.transcripts.num_rows) == (1, 1)


def test_an_unreadable_answer_is_quarantined_not_scored(server: ChatServer) -> None:
    """ADV: a reader that takes what it cannot parse for 0 (or 1) moves the mean; here it is missing, and counted."""
    server.reply = lambda number, request: (
        says("I think it is fine! 10/10") if "wrong" in request["messages"][-1]["content"] else grade(request)
    )
    judged = judge(server).judge(items(6))
    assert [v.score for v in judged.verdicts] == [None, 1.0, 1.0, None, 1.0, 1.0]
    assert {v.item_id for v in judged.quarantined} == {"i0", "i3"}
    assert all("not JSON" in str(v.problem) for v in judged.quarantined)
    assert judged.transcripts.num_rows == 6, "what was said is kept, to be read again by a better reader"
    server.reply = lambda number, request: says(None)
    assert judge(server).judge(items(1)).verdicts[0].score is None


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_busy_server_is_asked_again(server: ChatServer, status: int) -> None:
    server.reply = lambda number, request: (status, {}, b"busy") if number <= 2 else grade(request)
    judged = judge(server).judge(items(1))
    assert (judged.verdicts[0].score, len(server.requests)) == (0.0, 3)


def test_retry_after_is_honored_and_bounded(server: ChatServer) -> None:
    server.reply = lambda number, request: (429, {"Retry-After": "1"}, b"") if number == 1 else grade(request)
    began = time.monotonic()
    assert judge(server).judge(items(1)).calls == 1
    assert time.monotonic() - began >= 1.0
    server.requests.clear()
    server.reply = lambda number, request: (429, {"Retry-After": "86400"}, b"")
    began = time.monotonic()
    with pytest.raises(EndpointUnavailable, match="status 429"):
        judge(server).judge(items(1))
    assert time.monotonic() - began < 5
    assert len(server.requests) == 1


def test_an_outage_keeps_what_was_answered(server: ChatServer, tmp_path: Path) -> None:
    store = str(tmp_path / "store")
    server.reply = lambda number, request: grade(request) if number <= 20 else (503, {}, b"down")
    with pytest.raises(EndpointUnavailable, match="gave no answer in"):
        judge(server, Transcripts(Store.open(store).backend), concurrency=2).judge(items(60))
    asked = len(server.requests)
    assert asked < 60, "after a failure for good no further item is begun"
    server.requests.clear()
    server.reply = lambda number, request: grade(request)
    judged = judge(server, Transcripts(Store.open(store).backend), concurrency=2).judge(items(60))
    assert (judged.calls, len(server.requests)) == (40, 40)
    assert len(judged.verdicts) == 60


def test_concurrency_is_limited_and_used(server: ChatServer) -> None:
    server.hold = 0.05
    judge(server, concurrency=3).judge(items(12))
    assert server.most_at_once == 3


def test_a_server_that_hangs_or_drips_is_left(server: ChatServer) -> None:
    server.hold = 2.0
    began = time.monotonic()
    with pytest.raises(EndpointUnavailable):
        judge(server, timeout=0.3, attempts=2).judge(items(1))
    assert time.monotonic() - began < 1.9
    server.hold = 0.0
    # More is promised than sent: the connection stays open and silent until the guard closes it.
    server.reply = lambda number, request: (200, {"Content-Length": "100000"}, b"{}")
    with pytest.raises(EndpointUnavailable):
        judge(server, timeout=0.5, attempts=1).judge(items(1))


def test_a_server_that_is_not_there() -> None:
    with chat_server() as gone:
        pass
    with pytest.raises(EndpointUnavailable, match="gave no answer in 2 tries"):
        judge(gone, attempts=2).judge(items(1))


@pytest.mark.parametrize(
    ("body", "message"),
    [(b"<html>", "does not answer a JSON object"), (b"{}", "without choices"), (b'{"choices": []}', "without choices")],
)
def test_another_protocol_is_named(server: ChatServer, body: bytes, message: str) -> None:
    server.reply = lambda number, request: (200, {}, body)
    with pytest.raises(FtplatformError, match=message):
        judge(server).judge(items(1))


def test_the_key_comes_from_the_environment_and_shows_nowhere(
    server: ChatServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    monkeypatch.setenv("JUDGE_KEY", SECRET)
    keyed = judge(server, api_key_env="JUDGE_KEY")
    judged = keyed.judge(items(2))
    assert server.headers[0]["Authorization"] == f"Bearer {SECRET}"
    assert SECRET not in repr(keyed) + str(judged.transcripts.to_pylist()) + str(dict(keyed.chat.identity)) + caplog.text
    # Servers like to repeat a key they refuse.
    server.reply = lambda number, request: (401, {}, f"bad key {SECRET}".encode())
    with pytest.raises(TransportError, match=r"status 401: bad key \*\*\*") as refused:
        judge(server, api_key_env="JUDGE_KEY").judge(items(1))
    assert SECRET not in str(refused.value) + caplog.text
    monkeypatch.setenv("JUDGE_KEY", f"{SECRET}\r\nX-Injected: 1")
    with pytest.raises(TransportError, match="JUDGE_KEY is not usable") as broken:
        judge(server, api_key_env="JUDGE_KEY").judge(items(1))
    assert SECRET not in str(broken.value)
    monkeypatch.delenv("JUDGE_KEY")
    with pytest.raises(TransportError, match="JUDGE_KEY is not set"):
        judge(server, api_key_env="JUDGE_KEY").judge(items(1))
