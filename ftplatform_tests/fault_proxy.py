"""An HTTP proxy that misbehaves on request, to stand between a client and a real S3 server on loopback.

    with FaultProxy(upstream="http://127.0.0.1:5000") as proxy:
        proxy.plan(Fault("lose_response", method="PUT", path="heads/"))
        ... use proxy.url as the endpoint ...

Faults are consumed in the order they were planned, each by the requests it matches. `chaos` adds a random one to a share of all
requests, reproducibly.
"""

from __future__ import annotations

import http.client
import random
import socket
import struct
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Literal, Self
from urllib.parse import urlsplit

Kind = Literal["status", "reset", "lose_response", "cut", "shorten", "flip", "delay"]


@dataclass(frozen=True, slots=True)
class Fault:
    """What goes wrong, for which requests, and how often.

    Attributes:
        kind: ``status`` answers `status` without asking the server; ``reset`` resets the connection instead; ``lose_response`` lets
            the server act and then resets the connection; ``cut`` sends half of the body and resets; ``shorten`` sends half of
            the body with a matching Content-Length; ``flip`` flips one bit of the body; ``delay`` answers `seconds` late.
        method: HTTP method, empty for any.
        path: part of the request path, empty for any.
        times: how many requests it hits; None means all.
        then: called when a response is lost, before the connection is reset: what others do meanwhile.
    """

    kind: Kind
    method: str = ""
    path: str = ""
    times: int | None = 1
    status: int = 503
    seconds: float = 0.0
    then: Callable[[], object] | None = None

    def matches(self, method: str, path: str) -> bool:
        """True if a request is to be hit."""
        return (not self.method or self.method == method) and self.path in path


class FaultProxy:
    """Forwards to `upstream` and misbehaves as planned. `log` lists (method, path, kind of fault or '') of every request.

    Request headers named in `without` (lower case) are not passed on: a server that ignores them.
    """

    def __init__(self, upstream: str, seed: int = 0, without: tuple[str, ...] = ()) -> None:
        self._upstream = urlsplit(upstream).netloc
        self.without = {"expect", "connection", *without}
        self._random = random.Random(seed)
        self._lock = threading.Lock()
        self._faults: list[Fault] = []
        self._chaos: tuple[float, tuple[Kind, ...]] = (0.0, ())
        self.log: list[tuple[str, str, str]] = []
        proxy = self

        class Handler(_Handler):
            owner = proxy

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)

    @property
    def url(self) -> str:
        """The endpoint to give to the client."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def plan(self, *faults: Fault) -> None:
        """Add faults."""
        with self._lock:
            self._faults.extend(faults)

    def chaos(self, share: float, *kinds: Kind) -> None:
        """Hit this share of all requests with one of `kinds`."""
        with self._lock:
            self._chaos = (share, kinds)

    def clear(self) -> None:
        """Behave from now on."""
        with self._lock:
            self._faults.clear()
            self._chaos = (0.0, ())

    def hits(self, kind: Kind) -> int:
        """How many requests were hit by this kind."""
        with self._lock:
            return sum(hit == kind for _, _, hit in self.log)

    def next_fault(self, method: str, path: str) -> Fault | None:
        """The fault for a request, taken off the plan."""
        with self._lock:
            found = next((fault for fault in self._faults if fault.matches(method, path)), None)
            if found is not None and found.times is not None:
                position = self._faults.index(found)
                left = found.times - 1
                self._faults[position : position + 1] = [replace(found, times=left)] if left else []
            share, kinds = self._chaos
            if found is None and kinds and self._random.random() < share:
                found = Fault(self._random.choice(kinds), seconds=0.01)
            self.log.append((method, path, found.kind if found else ""))
            return found

    def flip_bit(self, body: bytes) -> bytes:
        """`body` with one random bit flipped."""
        with self._lock:
            position = self._random.randrange(8 * len(body))
        damaged = bytearray(body)
        damaged[position // 8] ^= 1 << position % 8
        return bytes(damaged)

    def forward(self, method: str, path: str, headers: dict[str, str], body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
        """The server's answer."""
        connection = http.client.HTTPConnection(self._upstream, timeout=30)
        try:
            connection.request(method, path, body=body or None, headers=headers)
            response = connection.getresponse()
            return response.status, response.getheaders(), response.read()
        finally:
            connection.close()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # Head and body are two writes: with Nagle's algorithm the second would wait 40 ms for a delayed acknowledgment.
    disable_nagle_algorithm = True
    owner: FaultProxy

    def _handle(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length)
        fault = self.owner.next_fault(self.command, self.path)
        kind = fault.kind if fault else ""
        if kind == "reset":
            return self._reset()
        if fault and kind == "status":
            text = b"<Error><Code>ServiceUnavailable</Code><Message>planned</Message></Error>"
            return self._answer(fault.status, [("Content-Type", "application/xml")], text, len(text))
        if fault and kind == "delay":
            time.sleep(fault.seconds)
        headers = {name: value for name, value in self.headers.items() if name.lower() not in self.owner.without}
        status, response_headers, answer = self.owner.forward(self.command, self.path, headers, body)
        if fault and kind == "lose_response":
            if fault.then:
                fault.then()
            return self._reset()
        length = len(answer)
        if answer and kind == "flip":
            answer = self.owner.flip_bit(answer)
        if answer and kind in {"cut", "shorten"}:
            answer = answer[: length // 2]
            length = len(answer) if kind == "shorten" else length
        if self.command == "HEAD":
            length = int(next((value for name, value in response_headers if name.lower() == "content-length"), "0"))
        self._answer(status, response_headers, answer, length)
        if kind == "cut":
            self._reset()

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = _handle  # noqa: N815 - names the base class asks for

    def _answer(self, status: int, headers: list[tuple[str, str]], body: bytes, length: int) -> None:
        self.send_response_only(status)
        for name, value in headers:
            if name.lower() not in {"content-length", "transfer-encoding", "connection"}:
                self.send_header(name, value)
        self.send_header("Content-Length", str(length))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)
            self.wfile.flush()

    def _reset(self) -> None:
        self.close_connection = True
        # Linger zero: the kernel sends RST instead of FIN.
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.rfile.close()
        self.wfile.close()
        self.connection.close()

    def handle_one_request(self) -> None:
        try:
            super().handle_one_request()
        except (ValueError, OSError):  # the connection was reset, by us or by the client
            self.close_connection = True

    def log_message(self, format: str, *args: object) -> None:
        pass
