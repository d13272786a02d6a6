"""One JSON request to one declared address, and nowhere else.

https anywhere, with the certificate checked; plain http on this machine's loopback only, where nobody can listen in. Redirects are
refused, proxies of the environment are not used, answers and waiting are bounded. Secrets go into one header and no message.
"""

from __future__ import annotations

import contextlib
import http.client
import ipaddress
import random
import socket
import ssl
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlsplit

import orjson

from ftplatform.transport.errors import EndpointUnavailable, TransportError

MAX_BYTES = 4 << 20
_RETRIED = frozenset({408, 429, 500, 502, 503, 504})
_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True, kw_only=True)
class JsonPost:
    """Posts JSON to one URL.

    Attributes:
        url: absolute; https, or http with a loopback host.
        secret: called for the bearer token of each request; None sends none.
        timeout: seconds for one try, from connecting to the last byte.
        attempts: tries, for 408, 429, 5xx and broken connections.
        first_wait: seconds before the second try; doubles, with jitter, unless the server asks for more (`Retry-After`).
        longest_wait: seconds waited at most; a server that asks for more is unavailable.

    Raises:
        TransportError: if the URL is not one of those.
    """

    url: str
    secret: Callable[[], str] | None = None
    timeout: float = 60.0
    attempts: int = 5
    first_wait: float = 0.5
    longest_wait: float = 30.0

    def __post_init__(self) -> None:
        require_safe_url(self.url)

    def __call__(self, payload: Mapping[str, Any], stop: threading.Event | None = None) -> dict[str, Any]:
        """The JSON object answered to `payload`.

        Args:
            stop: once set, no further try is made.

        Raises:
            EndpointUnavailable: no usable answer within the tries.
            TransportError: the server refuses (another 4xx), redirects, or does not answer JSON.
        """
        headers = {"Content-Type": "application/json", "Accept": "application/json", "Connection": "close"}
        secret = self.secret() if self.secret is not None else None
        if secret is not None:
            headers["Authorization"] = f"Bearer {secret}"
        body = orjson.dumps(payload)
        tried, problem = 0, "not tried"
        while True:
            tried += 1
            asked_wait = 0.0
            try:
                status, retry_after, data = self._ask(body, headers)
            except (OSError, http.client.HTTPException) as error:
                problem = f"{type(error).__name__}: {error}"[:200]
            else:
                if status == 200:
                    return self._parsed(data)
                if status not in _RETRIED:
                    raise self._refused(status, data, secret)
                problem, asked_wait = f"status {status}", _seconds(retry_after)
            backoff = self.first_wait * 2 ** (tried - 1) * random.uniform(0.75, 1.25)
            wait = max(asked_wait, min(backoff, self.longest_wait))
            if tried >= self.attempts or wait > self.longest_wait or (stop is not None and stop.is_set()):
                break
            time.sleep(wait)
        raise EndpointUnavailable(
            f"{self.url} gave no answer in {tried} tries ({problem}).",
            remedy="See that the server runs and can be reached, then run again; what was answered is recorded and not asked again.",
        )

    def _ask(self, body: bytes, headers: Mapping[str, str]) -> tuple[int, str | None, bytes]:
        parts = urlsplit(self.url)
        host, port = str(parts.hostname), parts.port or _PORTS[parts.scheme]
        sock = socket.create_connection((host, port), timeout=self.timeout)
        # A socket's timeout bounds the wait for one more byte; a server that drips bytes is stopped by closing the connection.
        held = [sock]
        guard = threading.Timer(self.timeout, _shut, [held])
        guard.daemon = True
        guard.start()
        try:
            if parts.scheme == "https":
                # Wrapping empties the plain socket, so the guard has to be given the new one.
                sock = ssl.create_default_context().wrap_socket(sock, server_hostname=host)
                held[:] = [sock]
            elif not ipaddress.ip_address(sock.getpeername()[0]).is_loopback:
                raise TransportError(f"{self.url} does not lead to this machine.", remedy="Use https://.")
            connection = http.client.HTTPConnection(host, port)
            connection.sock = sock
            connection.request("POST", parts.path or "/", body=body, headers=dict(headers))
            answer = connection.getresponse()
            data = answer.read(MAX_BYTES + 1)
            if len(data) > MAX_BYTES:
                raise TransportError(f"{self.url} answers more than {MAX_BYTES:,} bytes.", remedy="Lower max_tokens.")
            if answer.length:  # cut off by the guard, or by a server that promised more
                raise ConnectionError("the answer broke off")
        finally:
            guard.cancel()
            sock.close()
        return answer.status, answer.getheader("retry-after"), data

    def _parsed(self, data: bytes) -> dict[str, Any]:
        try:
            value = orjson.loads(data)
        except orjson.JSONDecodeError:
            value = None
        if not isinstance(value, dict):
            raise TransportError(f"{self.url} does not answer a JSON object.", remedy="Check the URL.")
        return value

    def _refused(self, status: int, data: bytes, secret: str | None) -> TransportError:
        if 300 <= status < 400:
            return TransportError(f"{self.url} redirects; that is not followed.", remedy="Give the final address.")
        said = " ".join(data[:2000].decode(errors="replace").split())
        if secret:  # some servers repeat the key they refuse
            said = said.replace(secret, "***")
        return TransportError(
            f"{self.url} refuses with status {status}: {said[:200]}",
            remedy="Check model name, key and settings (a judge asks for JSON; `json_mode: false` for servers that do not know it).",
        )


def require_safe_url(url: str) -> None:
    """Raises TransportError for any address but a plain https one, or http to this machine."""
    shown = repr(url.partition("?")[0].rpartition("@")[2][:200])
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname or "", parts.port
    except ValueError as error:
        raise TransportError(f"The URL {shown} is not valid ({error}).", remedy="Correct it.") from None
    if not url.isascii() or not url.isprintable() or " " in url or not host or parts.query or parts.fragment or "@" in parts.netloc:
        raise TransportError(
            f"The URL {shown} is not plain: scheme, host, port and path are allowed.",
            remedy="Leave out user names, queries and fragments; the key belongs into an environment variable.",
        )
    if parts.scheme == "https" or (parts.scheme == "http" and _is_loopback(host)):
        return
    raise TransportError(
        f"The URL {shown} is refused: anybody on the way could read what is sent, and the key.", remedy="Use https://."
    )


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _seconds(retry_after: str | None) -> float:
    """RFC 9110 section 10.2.3: seconds or a date; 0 without a readable one."""
    if retry_after is None:
        return 0.0
    if retry_after.strip().isdecimal():
        return float(retry_after.strip()[:9])
    try:
        return max(0.0, parsedate_to_datetime(retry_after).timestamp() - time.time())
    except ValueError:
        return 0.0


def _shut(held: list[socket.socket]) -> None:
    with contextlib.suppress(OSError):  # closed already
        held[0].shutdown(socket.SHUT_RDWR)
