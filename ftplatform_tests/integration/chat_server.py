"""A chat-completions server on loopback: it speaks the protocol, grades by a rule, counts what it is asked and can misbehave."""

from __future__ import annotations

import contextlib
import json
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

#: What a request is answered with: status, headers, body.
Reply = tuple[int, dict[str, str], bytes]


def says(text: str | None, model: str = "judge-2026-10-01") -> Reply:
    """A regular answer."""
    value = {
        "model": model,
        "choices": [{"message": {"role": "assistant", "content": text}}],
        "usage": {"prompt_tokens": 11, "completion_tokens": 7},
    }
    return 200, {}, json.dumps(value).encode()


def grade(request: dict[str, Any]) -> Reply:
    """Criterion `correct`: the answer holds the word "right"."""
    material = json.loads(request["messages"][-1]["content"])
    met = int("right" in material["answer"])
    return says(json.dumps({"criteria": {"correct": met}, "reason": f"looked at {material['answer']}"}))


@dataclass
class ChatServer:
    """The running server.

    Attributes:
        url: base address to give to a judge.
        reply: called with the number and payload of each request; what it returns is sent.
        requests, headers: what was received. most_at_once: the most that were under way together.
        hold: seconds before an answer begins. drip: seconds between two of its bytes.
    """

    url: str = ""
    reply: Callable[[int, dict[str, Any]], Reply] = field(default=lambda number, request: grade(request))
    requests: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    most_at_once: int = 0
    hold: float = 0.0
    drip: float = 0.0


@contextmanager
def chat_server(tls: ssl.SSLContext | None = None) -> Iterator[ChatServer]:
    """A server that lives as long as the block."""
    state, lock, under_way = ChatServer(), threading.Lock(), [0]

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            with lock:
                state.headers.append(dict(self.headers.items()))
            self.send_error(405)

        def do_POST(self) -> None:
            payload = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            with lock:
                state.requests.append(payload)
                state.headers.append(dict(self.headers.items()))
                number = len(state.requests)
                under_way[0] += 1
                state.most_at_once = max(state.most_at_once, under_way[0])
            try:
                time.sleep(state.hold)
                status, headers, body = state.reply(number, payload) if self.path == "/v1/chat/completions" else (404, {}, b"{}")
                self.send_response(status)
                for name, value in ({"Content-Length": str(len(body))} | headers).items():
                    self.send_header(name, value)
                self.end_headers()
                for start in range(0, len(body), 1 if state.drip else len(body) or 1):
                    time.sleep(state.drip)
                    self.wfile.write(body[start : start + 1] if state.drip else body)
            except OSError:  # the other side has left
                self.close_connection = True
            finally:
                with lock:
                    under_way[0] -= 1

        def finish(self) -> None:
            with contextlib.suppress(OSError):
                super().finish()

        def log_message(self, format: str, *args: Any) -> None:
            pass

    class Server(ThreadingHTTPServer):
        def handle_error(self, request: Any, client_address: Any) -> None:
            pass  # connections that break are what the tests are about

    server = Server(("127.0.0.1", 0), Handler)
    if tls is not None:
        # The handshake belongs to the thread of the connection, where its failure disturbs nobody.
        server.socket = tls.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    state.url = f"https://localhost:{server.server_port}/v1" if tls else f"http://127.0.0.1:{server.server_port}/v1"
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def self_signed(host: str, folder: Path) -> tuple[Path, Path]:
    """Files with a certificate for `host`, signed by itself, and its key."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, host)])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    paths = folder / "certificate.pem", folder / "key.pem"
    paths[0].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    paths[1].write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return paths
