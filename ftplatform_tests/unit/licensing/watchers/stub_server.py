"""A real HTTP server on loopback that answers as it is told, for watchers to be tested against."""

from __future__ import annotations

import ssl
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import orjson

from ftplatform.licensing.watchers.fetch import HttpFetcher


@dataclass(frozen=True)
class Answer:
    """One answer. `delay` is waited before it, `drip` between its bytes (seconds); `cut` bytes are promised but not sent."""

    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    delay: float = 0.0
    drip: float = 0.0
    cut: int = 0


def card(repository: str = "org/data", license: object = "mit", **more: object) -> Answer:
    """The Hub's description of a repository; `license` None leaves it out."""
    tags = [f"license:{name}" for name in (license if isinstance(license, list) else [license]) if name is not None]
    metadata = {} if license is None else {"license": license}
    document = {"id": repository, "sha": "a" * 40, "gated": False, "disabled": False, "cardData": metadata, "tags": tags, **more}
    return Answer(200, orjson.dumps(document), {"content-type": "application/json"})


class StubServer:
    """Answers by path: `plan` queues answers that are used once, `always` sets the one used otherwise; unknown paths are 404.

    `requests` lists (path, headers in lower case) of everything asked.
    """

    def __init__(self) -> None:
        self.requests: list[tuple[str, dict[str, str]]] = []
        self._once: dict[str, deque[Answer]] = {}
        self._always: dict[str, Answer] = {}
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer._answer(self)

            do_HEAD = do_GET  # noqa: N815

            def log_message(self, format: str, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.netloc = f"127.0.0.1:{self._server.server_port}"
        self.url = f"http://{self.netloc}"
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def plan(self, path: str, *answers: Answer) -> None:
        self._once.setdefault(path, deque()).extend(answers)

    def always(self, path: str, answer: Answer) -> None:
        self._once.pop(path, None)
        self._always[path] = answer

    def wrap(self, context: ssl.SSLContext) -> None:
        """Speak TLS from now on."""
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def fetcher(self, **options: object) -> HttpFetcher:
        """A fetcher that may reach this server, with short waits."""
        settings: dict[str, object] = {
            "first_wait": 0.01,
            "longest_wait": 1.5,
            "deadline": 5.0,
            "attempts": 2,
            "allow": {self.netloc},
        }
        return HttpFetcher(**(settings | options))  # type: ignore[arg-type]

    def _answer(self, handler: BaseHTTPRequestHandler) -> None:
        path = handler.path
        self.requests.append((path, {name.lower(): value for name, value in handler.headers.items()}))
        queue = self._once.get(path)
        answer = queue.popleft() if queue else self._always.get(path, Answer(404))
        etag = answer.headers.get("etag")
        if etag is not None and handler.headers.get("If-None-Match") == etag:
            answer = Answer(304, b"", {"etag": etag})
        time.sleep(answer.delay)
        try:
            handler.send_response(answer.status)
            for name, value in answer.headers.items():
                handler.send_header(name, value)
            if answer.status != 304:
                handler.send_header("Content-Length", str(len(answer.body) + answer.cut))
            handler.end_headers()
            if not answer.drip and handler.command == "GET":
                handler.wfile.write(answer.body)
            for byte in answer.body if answer.drip else b"":
                handler.wfile.write(bytes([byte]))
                handler.wfile.flush()
                time.sleep(answer.drip)
        except OSError:
            pass  # the client went away
        handler.close_connection = True


@contextmanager
def stub_server() -> Iterator[StubServer]:
    server = StubServer()
    try:
        yield server
    finally:
        server.close()


def write_certificate(host: str, certificate: Path, key: Path) -> None:
    """A self-signed certificate for a host name and its key, both PEM."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    secret = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, host)])
    now = datetime.now(UTC)
    signed = (
        x509.CertificateBuilder(name, name, secret.public_key(), 1, now - timedelta(hours=1), now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), critical=False)
        .sign(secret, hashes.SHA256())
    )
    certificate.write_bytes(signed.public_bytes(serialization.Encoding.PEM))
    pem, encryption = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    key.write_bytes(secret.private_bytes(serialization.Encoding.PEM, pem, encryption))
