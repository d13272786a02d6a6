"""The fetcher: where it refuses to go, and that everything it does is bounded. Real sockets on loopback."""

from __future__ import annotations

import ipaddress
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import pytest

from ftplatform.licensing.watchers import addresses
from ftplatform.licensing.watchers.addresses import UnsafeAddress, check_url, parse_url, refusal, shown_url
from ftplatform.licensing.watchers.fetch import MAX_REDIRECTS, FetchFailed, HttpFetcher
from ftplatform_tests.unit.licensing.watchers.stub_server import Answer, StubServer, stub_server, write_certificate

REFUSED = [
    "127.0.0.1",
    "127.255.255.254",
    "10.1.2.3",
    "172.16.0.1",
    "192.168.1.1",
    "169.254.169.254",  # metadata service of clouds
    "100.64.0.1",
    "0.0.0.0",
    "224.0.0.251",
    "240.0.0.1",
    "255.255.255.255",
    "192.0.2.1",
    "192.88.99.1",
    "198.18.0.1",
    "::",
    "::1",
    "::7f00:1",
    "fe80::1",
    "fc00::1",
    "ff02::1",
    "2001:db8::1",
    "::ffff:127.0.0.1",
    "::ffff:10.0.0.1",
    "64:ff9b::7f00:1",  # NAT64 of 127.0.0.1
    "64:ff9b::a9fe:a9fe",
    "64:ff9b:1::1",
    "2002:7f00:1::",  # 6to4 of 127.0.0.1
    "2002:c0a8:101::",
    "2001:0:4136:e378:8000:63bf:3fff:fdd2",  # Teredo
]
ACCEPTED = ["8.8.8.8", "140.82.121.3", "2606:4700::1111", "64:ff9b::808:808", "2002:808:808::", "::ffff:8.8.8.8"]


@pytest.mark.parametrize("address", REFUSED)
def test_addresses_that_are_not_public_are_refused(address: str) -> None:
    assert refusal(ipaddress.ip_address(address)) is not None


@pytest.mark.parametrize("address", ACCEPTED)
def test_public_addresses_are_accepted(address: str) -> None:
    assert refusal(ipaddress.ip_address(address)) is None


def test_is_global_alone_lets_wrapped_and_multicast_addresses_through() -> None:
    """ADV: the one-line check that most code uses errs on some of these."""
    naive = [address for address in REFUSED if ipaddress.ip_address(address).is_global]
    assert {"64:ff9b::7f00:1", "2002:7f00:1::", "224.0.0.251"} <= set(naive)


@pytest.mark.parametrize(
    "url",
    [
        "ftp://example.com/",
        "file:///etc/passwd",
        "gopher://example.com/",
        "//example.com/",
        "example.com",
        "",
        "http://",
        "http://user@example.com/",
        "http://user:pass@example.com/",
        "http://example.com\\@127.0.0.1/",
        "http://127.0.0.1\t/",
        "http://exa mple.com/",
        "http://example.com/\r\nHost: evil",
        "http://ex\u00e4mple.com/",
        "http://example.com:8080/",
        "http://example.com:443/",
        "https://example.com:80/",
        "http://example.com:99999/",
        "http://[::1%25lo]/",
        "http://[::1/",
        "http://2130706433/",
        "http://0x7f000001/",
        "http://0x7f.1/",
        "http://017700000001/",
        "http://0177.0.0.1/",
        "http://127.1/",
        "http://127.0.1/",
        "http://foo.0x7f/",
        "http://1.2.3.4.5/",
        "http://256.1.1.1/",
        "http://-bad.com/",
        "http://a..b/",
        "http://127.0.0.1/",
        "http://127.0.0.1./",
        "http://[::ffff:127.0.0.1]/",
        "http://[64:ff9b::7f00:1]/",
        "http://[2002:7f00:1::]/",
        "http://169.254.169.254/latest/meta-data/",
        "http://example.com/" + "a" * 3000,
    ],
)
def test_hostile_urls_are_refused(url: str) -> None:
    with pytest.raises(UnsafeAddress):
        check_url(url)


def test_resolver_reads_spellings_that_look_like_names() -> None:
    """ADV: the resolver of this machine turns a decimal number into loopback; a filter on the text "127." never sees it."""
    assert socket.getaddrinfo("2130706433", 80, type=socket.SOCK_STREAM)[0][4][0] == "127.0.0.1"
    with pytest.raises(UnsafeAddress, match="unusual"):
        parse_url("http://2130706433/")


def test_name_with_one_private_address_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(addresses, "resolve", lambda *_: ["93.184.216.34", "10.0.0.7"])
    with pytest.raises(UnsafeAddress, match=r"10\.0\.0\.7"):
        check_url("https://example.com/")


def test_localhost_is_refused_unless_allowed(server: StubServer) -> None:
    server.always("/", Answer(200, b"hello"))
    port = server.netloc.rpartition(":")[2]
    with pytest.raises(UnsafeAddress):
        HttpFetcher(allow={f"127.0.0.1:{int(port) + 1}"}).fetch(server.url + "/")
    with pytest.raises(UnsafeAddress):
        check_url("http://localhost/")
    assert HttpFetcher(allow={f"localhost:{port}"}).fetch(f"http://localhost:{port}/").body == b"hello"
    assert server.fetcher().fetch(server.url + "/").body == b"hello"


def test_connection_goes_to_the_checked_address(server: StubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rebinding: the name answers a second time with another address. It is asked once per request, so nobody hears the second."""
    answers = [["127.0.0.1"], ["127.0.0.2"]]
    asked: list[str] = []

    def rebinding(host: str, port: int, timeout: float) -> list[str]:
        asked.append(host)
        return answers[min(len(asked), 2) - 1]

    monkeypatch.setattr(addresses, "resolve", rebinding)
    port = server.netloc.rpartition(":")[2]
    server.always("/", Answer(200, b"first"))
    assert HttpFetcher(allow={f"rebind.example:{port}"}).fetch(f"http://rebind.example:{port}/").body == b"first"
    assert asked == ["rebind.example"]
    assert server.requests[0][1]["host"] == f"rebind.example:{port}"


def test_redirect_into_the_private_network_is_refused(server: StubServer) -> None:
    with stub_server() as inside:
        inside.always("/secret", Answer(200, b"secret"))
        for number, location in enumerate(
            [f"{inside.url}/secret", "http://169.254.169.254/", "file:///etc/passwd", "http://[::1]/"]
        ):
            server.always(f"/{number}", Answer(302, b"", {"location": location}))
            with pytest.raises(UnsafeAddress):
                server.fetcher().fetch(f"{server.url}/{number}")
        assert inside.requests == []


def test_redirects_are_followed_to_a_limit(server: StubServer) -> None:
    for hop in range(MAX_REDIRECTS + 1):
        server.always(f"/{hop}", Answer(307, b"", {"location": f"/{hop + 1}"}))
    server.always(f"/{MAX_REDIRECTS + 1}", Answer(200, b"end"))
    with pytest.raises(FetchFailed, match="redirects more than"):
        server.fetcher().fetch(f"{server.url}/0")
    found = server.fetcher().fetch(f"{server.url}/1")
    assert (found.body, len(found.redirects), found.url) == (b"end", MAX_REDIRECTS, f"{server.url}/{MAX_REDIRECTS + 1}")


@pytest.fixture
def tls_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[StubServer]:
    """The stub behind TLS, with a certificate for "localhost" that this process trusts."""
    certificate, key = tmp_path / "certificate.pem", tmp_path / "key.pem"
    write_certificate("localhost", certificate, key)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    with stub_server() as running:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        running.wrap(context)
        yield running


def test_tls_is_verified_against_the_name_although_we_connect_to_an_address(
    tls_server: StubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    tls_server.always("/", Answer(200, b"secure"))
    port = tls_server.netloc.rpartition(":")[2]
    fetcher = HttpFetcher(allow={f"localhost:{port}", f"127.0.0.1:{port}"}, attempts=1)
    assert fetcher.fetch(f"https://localhost:{port}/").body == b"secure"
    with pytest.raises(FetchFailed, match="CERTIFICATE_VERIFY_FAILED"):
        fetcher.fetch(f"https://127.0.0.1:{port}/")
    monkeypatch.delenv("SSL_CERT_FILE")
    with pytest.raises(FetchFailed, match="CERTIFICATE_VERIFY_FAILED"):
        fetcher.fetch(f"https://localhost:{port}/")


def test_redirect_from_https_to_http_is_refused(tls_server: StubServer, server: StubServer) -> None:
    server.always("/", Answer(200, b"plain"))
    tls_server.always("/", Answer(301, b"", {"location": server.url + "/"}))
    port = tls_server.netloc.rpartition(":")[2]
    with pytest.raises(UnsafeAddress, match="from https"):
        HttpFetcher(allow={f"localhost:{port}", server.netloc}).fetch(f"https://localhost:{port}/")
    assert server.requests == []


def test_secrets_stay_with_their_origin(server: StubServer) -> None:
    with stub_server() as other:
        server.always("/a", Answer(307, b"", {"location": "/b"}))
        server.always("/b", Answer(307, b"", {"location": f"{other.url}/c"}))
        other.always("/c", Answer(200, b"ok"))
        fetcher = server.fetcher(allow={server.netloc, other.netloc})
        assert fetcher.fetch(f"{server.url}/a", headers={"Authorization": "Bearer s3cret"}).body == b"ok"
        assert [headers.get("authorization") for _, headers in server.requests] == ["Bearer s3cret"] * 2
        assert "authorization" not in other.requests[0][1]


def test_size_is_capped(server: StubServer) -> None:
    server.always("/", Answer(200, b"x" * 1001))
    with pytest.raises(FetchFailed, match="more than 1,000"):
        server.fetcher(max_bytes=1000).fetch(server.url + "/")
    assert len(server.fetcher(max_bytes=1001).fetch(server.url + "/").body) == 1001


def test_cut_answer_is_no_answer(server: StubServer) -> None:
    server.always("/", Answer(200, b"only half", cut=9))
    with pytest.raises(FetchFailed, match="9 of 18"):
        server.fetcher().fetch(server.url + "/")
    assert len(server.requests) == 2


def test_compressed_answer_is_refused(server: StubServer) -> None:
    server.always("/", Answer(200, b"\x1f\x8b", {"content-encoding": "gzip"}))
    with pytest.raises(FetchFailed, match="encoding"):
        server.fetcher().fetch(server.url + "/")
    assert server.requests[0][1]["accept-encoding"] == "identity"


def test_deadline_stops_a_server_that_drips(server: StubServer) -> None:
    server.always("/", Answer(200, b"x" * 200, drip=0.05))
    began = time.monotonic()
    with pytest.raises(FetchFailed):
        server.fetcher(deadline=0.5).fetch(server.url + "/")
    assert time.monotonic() - began < 3


def test_deadline_stops_headers_that_drip() -> None:
    """A timeout per read never fires here: every byte comes in time."""
    listener = socket.create_server(("127.0.0.1", 0))
    netloc = f"127.0.0.1:{listener.getsockname()[1]}"

    def drip() -> None:
        connection, _ = listener.accept()
        with connection:
            try:
                for byte in b"HTTP/1.1 200 OK\r\n" + b"x-a: b\r\n" * 50:
                    connection.send(bytes([byte]))
                    time.sleep(0.05)
            except OSError:
                pass

    threading.Thread(target=drip, daemon=True).start()
    began = time.monotonic()
    with listener, pytest.raises(FetchFailed):
        HttpFetcher(allow={netloc}, deadline=0.5, attempts=1).fetch(f"http://{netloc}/")
    assert time.monotonic() - began < 3


def test_deadline_stops_a_server_that_drips_behind_tls(tls_server: StubServer) -> None:
    """ADV: a TLS socket takes the connection over, so closing the socket it was made from closes nothing."""
    tls_server.always("/", Answer(200, b"x" * 200, drip=0.05))
    port = tls_server.netloc.rpartition(":")[2]
    began = time.monotonic()
    with pytest.raises(FetchFailed):
        HttpFetcher(allow={f"localhost:{port}"}, deadline=0.5, attempts=1).fetch(f"https://localhost:{port}/")
    assert time.monotonic() - began < 3


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_transient_statuses_are_retried(server: StubServer, status: int) -> None:
    server.always("/", Answer(200, b"ok"))
    server.plan("/", Answer(status))
    server.always("/always", Answer(status))
    assert server.fetcher().fetch(server.url + "/").status == 200
    assert server.fetcher(attempts=3).fetch(server.url + "/always").status == status
    assert [path for path, _ in server.requests] == ["/", "/", *["/always"] * 3]


@pytest.mark.parametrize("status", [200, 304, 400, 401, 403, 404, 410, 451])
def test_other_statuses_are_not(server: StubServer, status: int) -> None:
    server.always("/", Answer(status))
    assert server.fetcher().fetch(server.url + "/").status == status
    assert len(server.requests) == 1


def test_retry_after_is_honored_up_to_a_cap(server: StubServer) -> None:
    server.always("/", Answer(200, b"ok"))
    server.plan("/", Answer(503, b"", {"retry-after": "1"}))
    began = time.monotonic()
    assert server.fetcher().fetch(server.url + "/").status == 200
    assert time.monotonic() - began >= 1
    # Asked to wait longer than we may: we leave it alone instead of coming back too early.
    for number, value in enumerate(["3600", format_datetime(datetime.now(UTC) + timedelta(hours=1), usegmt=True)]):
        server.always(f"/{number}", Answer(429, b"", {"retry-after": value}))
        assert server.fetcher().fetch(f"{server.url}/{number}").status == 429
        assert [path for path, _ in server.requests].count(f"/{number}") == 1


def test_etag_saves_the_body(server: StubServer) -> None:
    server.always("/", Answer(200, b"terms", {"etag": '"v1"'}))
    first = server.fetcher().fetch(server.url + "/")
    again = server.fetcher().fetch(server.url + "/", etag=first.etag)
    assert (first.etag, again.status, again.body) == ('"v1"', 304, b"")


def test_closed_port_is_a_failure_not_a_crash() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        netloc = f"127.0.0.1:{listener.getsockname()[1]}"
    with pytest.raises(FetchFailed, match="no answer in 2 tries"):
        HttpFetcher(allow={netloc}, attempts=2, first_wait=0.01).fetch(f"http://{netloc}/")


def test_unknown_name_is_a_failure() -> None:
    with pytest.raises(FetchFailed, match="resolve"):
        HttpFetcher(attempts=1).fetch("https://does-not-exist.invalid/")


def test_messages_show_no_secrets() -> None:
    assert shown_url("https://user:pa55@example.com/a?token=s3cret#x") == "'https://example.com/a'"
    with pytest.raises(UnsafeAddress) as caught:
        check_url("http://user:pa55@example.com/?token=s3cret")
    assert "pa55" not in str(caught.value)
    assert "s3cret" not in str(caught.value)
