"""One JSON request to a real server on loopback: where it may go, what it carries, how long it waits, and what it says when it fails."""

from __future__ import annotations

import json
import ssl
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ftplatform.errors import FtplatformError
from ftplatform.transport.errors import EndpointUnavailable, TransportError
from ftplatform.transport.json_post import MAX_BYTES, JsonPost
from ftplatform.transport.secrets import environment_secret
from ftplatform_tests.integration.chat_server import ChatServer, chat_server, self_signed

SECRET = "sk-do-not-print-me"
#: A request that the server grades as wrong.
EMPTY = {"messages": [{"role": "user", "content": '{"answer": ""}'}]}


@pytest.fixture
def server() -> Iterator[ChatServer]:
    with chat_server() as running:
        yield running


def post(server: ChatServer, **limits: Any) -> JsonPost:
    return JsonPost(url=f"{server.url}/chat/completions", **({"first_wait": 0.01, "attempts": 3, "timeout": 5.0} | limits))


def test_its_errors_belong_to_no_caller() -> None:
    assert TransportError.__bases__ == (FtplatformError,)
    assert issubclass(EndpointUnavailable, TransportError)


def test_an_answer_larger_than_the_cap_is_refused(server: ChatServer) -> None:
    server.reply = lambda number, request: (200, {}, b'"' + b"x" * MAX_BYTES + b'"')
    with pytest.raises(TransportError, match="answers more than"):
        post(server)(EMPTY)
    assert len(server.requests) == 1


def test_no_further_try_once_somebody_has_failed_for_good(server: ChatServer) -> None:
    server.reply = lambda number, request: (503, {}, b"down")
    stop = threading.Event()
    stop.set()
    with pytest.raises(EndpointUnavailable, match="in 1 tries"):
        post(server)(EMPTY, stop)


def test_a_refusal_does_not_repeat_the_key(server: ChatServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODEL_KEY", SECRET)
    server.reply = lambda number, request: (401, {}, f"bad key {SECRET}".encode())
    keyed = post(server, secret=environment_secret("MODEL_KEY"))
    with pytest.raises(TransportError, match=r"status 401: bad key \*\*\*") as refused:
        keyed(EMPTY)
    assert SECRET not in str(refused.value) + repr(keyed)
    monkeypatch.delenv("MODEL_KEY")
    with pytest.raises(TransportError, match="MODEL_KEY is not set"):
        keyed(EMPTY)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirects_are_not_followed(server: ChatServer, monkeypatch: pytest.MonkeyPatch, status: int) -> None:
    """ADV: urllib follows a redirect and carries the key along."""
    monkeypatch.setenv("MODEL_KEY", SECRET)
    with chat_server() as elsewhere:
        server.reply = lambda number, request: (status, {"Location": f"{elsewhere.url}/chat/completions"}, b"")
        with pytest.raises(TransportError, match="redirects; that is not followed"):
            post(server, secret=environment_secret("MODEL_KEY"))(EMPTY)
        assert (elsewhere.requests, elsewhere.headers) == ([], [])
        assert len(server.requests) == 1
        if status == 302:
            headers = {"Authorization": f"Bearer {SECRET}"}
            naive = urllib.request.Request(f"{server.url}/chat/completions", json.dumps(EMPTY).encode(), headers)
            with pytest.raises(urllib.error.HTTPError):
                urllib.request.urlopen(naive)
            assert elsewhere.headers[0]["Authorization"] == f"Bearer {SECRET}"


@pytest.mark.parametrize(
    "url",
    [
        "http://judge.example.com/v1",
        "http://169.254.169.254/latest",
        "http://10.0.0.1/v1",
        "http://127.0.0.1.example.com/v1",
        "http://user:pass@127.0.0.1/v1",
        "https://key@judge.example.com/v1",
        "https://judge.example.com/v1?key=1",
        "https://judge.example.com/v1#x",
        "file:///etc/passwd",
        "ftp://127.0.0.1/v1",
        "https:///v1",
        "https://judge.example.com:port/v1",
        "https://judge.example.com/v1 x",
        "https://judge.example.com/\r\nX: 1",
    ],
)
def test_only_https_or_loopback(url: str) -> None:
    with pytest.raises(TransportError, match="The URL") as refused:
        JsonPost(url=url)
    assert "pass" not in str(refused.value) or "etc/passwd" in str(refused.value)


def test_the_certificate_of_the_server_is_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    certificate, key = self_signed("localhost", tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with chat_server(context) as server:
        with pytest.raises(EndpointUnavailable, match="CERTIFICATE_VERIFY_FAILED"):
            post(server, attempts=1)(EMPTY)
        assert server.requests == []
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        assert "choices" in post(server)(EMPTY)
        # The time limit holds inside TLS as well: more is promised than sent.
        server.reply = lambda number, request: (200, {"Content-Length": "100000"}, b"{}")
        began = time.monotonic()
        with pytest.raises(EndpointUnavailable):
            post(server, timeout=0.5, attempts=1)(EMPTY)
        assert time.monotonic() - began < 3


def test_a_server_that_drips_is_stopped_by_the_clock(server: ChatServer) -> None:
    """ADV: a socket's timeout starts again with every byte."""
    server.drip = 0.02
    began = time.monotonic()
    request = urllib.request.Request(f"{server.url}/chat/completions", json.dumps(EMPTY).encode())
    with urllib.request.urlopen(request, timeout=0.6) as naive:
        assert naive.read()
    assert time.monotonic() - began > 1.2, "twice the time it was given"
    began = time.monotonic()
    with pytest.raises(EndpointUnavailable):
        post(server, timeout=0.6, attempts=1)(EMPTY)
    assert time.monotonic() - began < 3


def test_a_proxy_of_the_environment_sees_nothing(server: ChatServer, monkeypatch: pytest.MonkeyPatch) -> None:
    with chat_server() as proxy:
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, proxy.url)
        assert "choices" in post(server)(EMPTY)
        assert proxy.requests == []
