"""HTTP for watchers: one bounded request to a checked address.

The name is resolved once and the connection goes to the address that was checked, so a second DNS answer cannot redirect it; every
redirect is checked like the first URL. Everything is bounded: redirects, bytes, seconds, retries.
"""

from __future__ import annotations

import contextlib
import http.client
import random
import socket
import ssl
import threading
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Protocol
from urllib.parse import urljoin

from ftplatform.errors import InputDataError
from ftplatform.licensing.watchers.addresses import Target, UnsafeAddress, check_url, parse_url, shown_url

MAX_BYTES = 4 * 1024 * 1024
MAX_REDIRECTS = 5
_CHUNK = 64 * 1024
_RETRIED = frozenset({429, 500, 502, 503, 504})
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
#: Headers that are secrets of the origin they were meant for.
_BOUND_TO_ORIGIN = frozenset({"authorization", "cookie"})


class FetchFailed(InputDataError):
    """The server did not give a usable answer within the limits; says nothing about the terms."""


@dataclass(frozen=True, slots=True)
class Response:
    """An answer.

    Attributes:
        url: where it came from in the end.
        status: HTTP status.
        headers: names in lower case; repeated ones joined with ", ".
        body: at most the fetcher's `max_bytes`.
        redirects: the URLs that were left behind, first one first.
    """

    url: str
    status: int
    headers: Mapping[str, str]
    body: bytes
    redirects: tuple[str, ...] = ()

    @property
    def etag(self) -> str | None:
        """Entity tag to be sent with the next request."""
        return self.headers.get("etag")


class Fetcher(Protocol):
    """What watchers need from HTTP."""

    def fetch(
        self, url: str, *, headers: Mapping[str, str] | None = None, etag: str | None = None, headers_only: bool = False
    ) -> Response:
        """GET a URL; see `HttpFetcher.fetch`."""
        ...


class HttpFetcher:
    """The fetcher for the open internet, and for mirrors named in `allow`.

    Args:
        allow: ``host:port`` pairs that may be private or have unusual ports, e.g. ``{"127.0.0.1:8080"}``.
        max_bytes: largest body accepted.
        deadline: seconds for everything: names, redirects, retries, waiting.
        attempts: tries per URL, for 429, 5xx and broken connections.
        longest_wait: seconds waited before a try; a server that asks for more is left alone until the next look.
        first_wait: seconds before the second try; doubles, with jitter.
        user_agent: sent with each request.
    """

    def __init__(
        self,
        *,
        allow: Collection[str] = (),
        max_bytes: int = MAX_BYTES,
        deadline: float = 60.0,
        attempts: int = 4,
        longest_wait: float = 20.0,
        first_wait: float = 0.5,
        user_agent: str = "ftplatform-license-watcher",
    ) -> None:
        self.allow = frozenset(allow)
        self.max_bytes = max_bytes
        self.deadline = deadline
        self.attempts = attempts
        self.longest_wait = longest_wait
        self.first_wait = first_wait
        self.user_agent = user_agent

    def fetch(
        self, url: str, *, headers: Mapping[str, str] | None = None, etag: str | None = None, headers_only: bool = False
    ) -> Response:
        """GET a URL.

        Args:
            url: absolute http or https URL.
            headers: further request headers; `Authorization` and `Cookie` are dropped when a redirect leaves the origin.
            etag: of the copy at hand; the answer may then be 304 with an empty body.
            headers_only: ask for the headers alone (HEAD); the body may be of any size then.

        Returns:
            The answer, whatever its status; 429 and 5xx after the last try.

        Raises:
            UnsafeAddress: if the URL or a redirect leads where it must not.
            FetchFailed: no answer in time, broken connection, too many redirects, too large.
        """
        end = time.monotonic() + self.deadline
        sent = {"user-agent": self.user_agent, "accept-encoding": "identity", "connection": "close"}
        sent |= {name.lower(): value for name, value in (headers or {}).items()}
        if etag is not None:
            sent["if-none-match"] = etag
        left: list[str] = []
        while True:
            target = parse_url(url, allow=self.allow)
            response = self._with_retries("HEAD" if headers_only else "GET", url, sent, end)
            location = response.headers.get("location")
            if response.status not in _REDIRECTS or location is None:
                return replace(response, redirects=tuple(left))
            left.append(url)
            if len(left) > MAX_REDIRECTS:
                raise FetchFailed(
                    f"{shown_url(left[0])} redirects more than {MAX_REDIRECTS} times.", remedy="Give its final address."
                )
            try:
                url = urljoin(url, location)
            except ValueError as error:
                raise UnsafeAddress(f"{shown_url(url)} redirects to no URL.", remedy="Give its final address.") from error
            following = parse_url(url, allow=self.allow)
            if target.scheme == "https" and following.scheme != "https":
                raise UnsafeAddress(
                    f"{shown_url(left[-1])} redirects from https to {shown_url(url)}.", remedy="Give an https address."
                )
            if following.origin != target.origin:
                sent = {name: value for name, value in sent.items() if name not in _BOUND_TO_ORIGIN}

    def _with_retries(self, method: str, url: str, headers: Mapping[str, str], end: float) -> Response:
        attempt = 0
        while True:
            attempt += 1
            response, failure, asked = None, None, 0.0
            try:
                response = self._ask(method, url, headers, end)
                if response.status not in _RETRIED:
                    return response
                asked = _retry_after(response.headers.get("retry-after"))
            except (OSError, http.client.HTTPException) as error:
                failure = error
            backoff = self.first_wait * 2 ** (attempt - 1) * random.uniform(0.75, 1.25)
            wait = max(asked, min(backoff, self.longest_wait))
            if attempt < self.attempts and wait <= self.longest_wait and time.monotonic() + wait < end:
                time.sleep(wait)
                continue
            if response is not None:
                return response
            reason = " ".join(f"{type(failure).__name__}: {failure}".split())[:200]
            raise FetchFailed(
                f"{shown_url(url)} gave no answer in {attempt} tries ({reason}).", remedy="Check the connection and try again."
            ) from failure

    def _ask(self, method: str, url: str, headers: Mapping[str, str], end: float) -> Response:
        target = check_url(url, allow=self.allow, timeout=_remaining(end))
        sock = _connect(target, end)
        # Timeouts of sockets bound the wait for one more byte; a server that drips bytes is stopped by closing its connection.
        held = [sock]
        guard = threading.Timer(_remaining(end), _shut, [held])
        guard.daemon = True
        guard.start()
        try:
            if target.scheme == "https":
                # Wrapping empties the plain socket, so the guard is given the new one. (The handshake as a whole has its timeout.)
                sock = ssl.create_default_context().wrap_socket(sock, server_hostname=target.host)
                held[:] = [sock]
            connection = http.client.HTTPConnection(target.host, target.port)
            connection.sock = sock
            connection.request(method, target.path, headers={"host": target.netloc, **headers})
            answer = connection.getresponse()
            body = self._read(url, answer)
        finally:
            guard.cancel()
            sock.close()
        found: dict[str, str] = {}
        for name, value in answer.getheaders():
            key = name.lower()
            found[key] = f"{found[key]}, {value}" if key in found else value
        return Response(url, answer.status, found, body)

    def _read(self, url: str, answer: http.client.HTTPResponse) -> bytes:
        if (encoding := (answer.getheader("content-encoding") or "identity").lower()) != "identity":
            raise FetchFailed(
                f"{shown_url(url)} answers in the encoding {encoding[:40]!r}, which was not asked for.",
                remedy="Look at it yourself.",
            )
        expected = answer.length
        body = bytearray()
        while chunk := answer.read1(_CHUNK):
            body += chunk
            if len(body) > self.max_bytes:
                raise FetchFailed(f"{shown_url(url)} has more than {self.max_bytes:,} bytes.", remedy="Give the terms themselves.")
        if expected is not None and len(body) != expected:
            raise ConnectionError(f"the answer ends after {len(body):,} of {expected:,} bytes")
        return bytes(body)


def _remaining(end: float) -> float:
    """Seconds left.

    Raises:
        TimeoutError: if there are none.
    """
    left = end - time.monotonic()
    if left <= 0:
        raise TimeoutError("the deadline passed")
    return left


def _connect(target: Target, end: float) -> socket.socket:
    failure: OSError = ConnectionError("no address")
    for address in target.addresses:
        try:
            return socket.create_connection((address, target.port), timeout=min(10.0, _remaining(end)))
        except OSError as error:
            failure = error
    raise failure


def _shut(held: list[socket.socket]) -> None:
    with contextlib.suppress(OSError):  # closed already
        held[0].shutdown(socket.SHUT_RDWR)


def _retry_after(value: str | None) -> float:
    """Seconds from a Retry-After header (RFC 9110 section 10.2.3: seconds or a date); 0 without a readable one."""
    if value is None:
        return 0.0
    if value.strip().isdecimal():
        return float(value.strip()[:9])
    try:
        moment = parsedate_to_datetime(value)
    except ValueError:
        return 0.0
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return max(0.0, (moment - datetime.now(UTC)).total_seconds())
