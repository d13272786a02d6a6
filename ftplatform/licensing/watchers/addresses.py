"""Which addresses a watcher may connect to: public ones, and those the operator named.

A URL in a project file, a redirect or a DNS answer can point back into our own network. `ipaddress.is_global` alone lets three kinds
through: multicast, NAT64 (RFC 6052) and 6to4 (RFC 3056) addresses that wrap a private IPv4 address.
"""

from __future__ import annotations

import ipaddress
import re
import socket
import threading
from collections.abc import Collection
from dataclasses import dataclass, replace
from urllib.parse import urlsplit

from ftplatform.errors import InputDataError

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address

MAX_URL = 2048
_PORTS = {"http": 80, "https": 443}
_HOST = re.compile(
    r"(?=.{1,253}$)(?:[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9])?\.)*[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
)
# A name whose last label is a number is an IPv4 address for most resolvers: 127.1, 0x7f.1, 2130706433, 0177.0.0.1.
_NUMERIC = re.compile(r"(?:.*\.)?(?:\d+|0[xX][0-9A-Fa-f]*)")
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_NAT64_LOCAL = ipaddress.IPv6Network("64:ff9b:1::/48")
_COMPATIBLE = ipaddress.IPv6Network("::/96")
_6TO4_RELAYS = ipaddress.IPv4Network("192.88.99.0/24")


class UnsafeAddress(InputDataError):
    """A URL or address that a watcher must not contact."""


@dataclass(frozen=True, slots=True)
class Target:
    """A checked URL, and the addresses of its host that may be connected to (never resolve the name again)."""

    scheme: str
    host: str
    port: int
    path: str
    addresses: tuple[str, ...]

    @property
    def origin(self) -> tuple[str, str, int]:
        """Scheme, host and port: what credentials are bound to."""
        return self.scheme, self.host, self.port

    @property
    def host_and_port(self) -> str:
        """As in `allow`; an IPv6 address stands in brackets."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def netloc(self) -> str:
        """Value of the Host header."""
        return self.host_and_port.removesuffix(f":{_PORTS[self.scheme]}")


def shown_url(url: str) -> str:
    """A URL for messages: without user and query, where secrets are, and cut to 200 characters."""
    scheme, separator, rest = url.partition("://")
    authority, slash, path = rest.partition("/")
    bare = f"{scheme}{separator}{authority.rpartition('@')[2]}{slash}{path}"
    return repr(re.split(r"[?#]", bare, maxsplit=1)[0][:200])


def check_url(url: str, *, allow: Collection[str] = (), timeout: float = 10.0) -> Target:
    """Validate a URL, resolve its host and check every address.

    Args:
        url: absolute http or https URL.
        allow: ``host:port`` pairs that are trusted: their addresses and ports are not checked.
        timeout: seconds the resolver may take.

    Raises:
        UnsafeAddress: if the URL is not plain, its port is unusual, or any of its addresses is not public.
        ConnectionError: if the name does not resolve in time.
    """
    target = parse_url(url, allow=allow)
    addresses = target.addresses or tuple(resolve(target.host, target.port, timeout))
    if target.host_and_port not in allow:
        for address in addresses:
            if reason := refusal(ipaddress.ip_address(address.partition("%")[0])):
                raise UnsafeAddress(
                    f"{shown_url(url)} leads to {address}, which is {reason}.",
                    remedy=f"Allow '{target.host_and_port}' if you run that server.",
                )
    return replace(target, addresses=addresses)


def parse_url(url: str, *, allow: Collection[str] = ()) -> Target:
    """The part of `check_url` that asks nobody; `addresses` holds the host's if it is written as one.

    Raises:
        UnsafeAddress: if the URL is not plain, or its port is unusual.
    """
    shown = shown_url(url)
    if len(url) > MAX_URL or not url.isascii() or not url.isprintable() or " " in url or "\\" in url:
        raise UnsafeAddress(
            f"{shown} holds characters a URL may not hold, or more than {MAX_URL}.", remedy="Write it percent-encoded."
        )
    try:
        parts = urlsplit(url)
        host, port = (parts.hostname or "").rstrip("."), parts.port
    except ValueError as error:
        raise UnsafeAddress(f"{shown} is not a URL ({error}).", remedy="Correct it.") from None
    if parts.scheme not in _PORTS:
        raise UnsafeAddress(f"{shown}: only http and https are fetched.", remedy="Give an https address.")
    if "@" in parts.netloc:
        raise UnsafeAddress(f"{shown} holds a user name.", remedy="Credentials belong into the environment.")
    literal = _literal(host, shown)
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    target = Target(
        parts.scheme, host, _PORTS[parts.scheme] if port is None else port, path, (str(literal),) if literal is not None else ()
    )
    if target.port != _PORTS[target.scheme] and target.host_and_port not in allow:
        raise UnsafeAddress(
            f"{shown}: port {target.port} is not the usual one.", remedy=f"Allow '{target.host_and_port}' if it is your mirror."
        )
    return target


def refusal(address: IPAddress) -> str | None:
    """Why an address must not be contacted, or None if it is public. Wrapped IPv4 addresses are judged by what they wrap."""
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return refusal(address.ipv4_mapped)
        if address.sixtofour is not None:
            return refusal(address.sixtofour)
        if address in _NAT64:
            return refusal(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF))
        if address in _NAT64_LOCAL or address.teredo is not None or address in _COMPATIBLE:
            return "loopback" if address.is_loopback else "a tunnel or translator"
    elif address in _6TO4_RELAYS:
        return "a tunnel or translator"
    for name in ("loopback", "link_local", "multicast", "unspecified", "reserved", "private"):
        if getattr(address, f"is_{name}"):
            return name.replace("_", "-")
    return None if address.is_global else "not public"


def resolve(host: str, port: int, timeout: float) -> list[str]:
    """All addresses of a name, each once, in the resolver's order.

    Raises:
        ConnectionError: if there is no answer within `timeout` seconds, or none.
    """
    found: list[str] = []
    problem: list[OSError] = []

    def ask() -> None:
        try:
            found.extend(str(info[4][0]) for info in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
        except (OSError, UnicodeError) as error:
            problem.append(error if isinstance(error, OSError) else OSError(str(error)))

    # getaddrinfo takes no deadline; a thread that is left behind ends with the resolver's own.
    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    asking.join(timeout)
    if asking.is_alive():
        raise ConnectionError(f"the name {host!r} did not resolve within {timeout:.0f} s")
    if problem or not found:
        raise ConnectionError(f"the name {host!r} does not resolve")
    return list(dict.fromkeys(found))


def _literal(host: str, shown: str) -> IPAddress | None:
    """The address if the host is written as one; None if it is a name."""
    if "%" in host:
        raise UnsafeAddress(f"{shown} holds an address with a zone.", remedy="Give a public host name.")
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        pass
    if _NUMERIC.fullmatch(host):
        raise UnsafeAddress(
            f"{shown} spells an address in an unusual way.", remedy="Write four decimal numbers without zeros in front."
        )
    if not _HOST.fullmatch(host):
        raise UnsafeAddress(f"{shown}: {host[:80]!r} is not a host name.", remedy="Correct it.")
    return None
