"""Terms pages, and what sites reserve."""

from __future__ import annotations

import contextlib
import time
from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ftplatform.canonical import sha256_hex
from ftplatform.errors import InputDataError
from ftplatform.licensing.states import State
from ftplatform.licensing.watchers.crawl_rules import (
    header_reservations,
    read_robots,
    robots_reservations,
    tdmrep_reservations,
)
from ftplatform.licensing.watchers.page_text import MAX_HTML_BYTES, read_page
from ftplatform.licensing.watchers.url_terms import UrlTermsWatcher
from ftplatform_tests.unit.licensing.watchers.stub_server import Answer, StubServer

HTML = {"content-type": "text/html; charset=utf-8"}
PAGE = """<!DOCTYPE html><html><head><title>Terms</title><style>p {{ color: {color} }}</style></head><body>
<nav>Home <span>{counter} visitors online</span></nav><script>var nonce = "{counter}"; if (1 < 2) document.write("<!--");</script>
<h1>Terms of Use</h1><p>You may use our data for any purpose{more}.</p><!-- built {counter} -->
<footer>Copyright &copy; {year} Example</footer></body></html>"""


def page(counter: int = 1, year: int = 2025, color: str = "red", more: str = "") -> bytes:
    return PAGE.format(counter=counter, year=year, color=color, more=more).encode()


def watcher(server: StubServer, *, site: bool = True, **options: object) -> UrlTermsWatcher:
    terms = (f"{server.url}/terms",)
    return UrlTermsWatcher("raw/x", terms, server.fetcher(), site=server.url if site else None, **options)  # type: ignore[arg-type]


def test_page_that_changes_at_every_visit_raises_nothing(server: StubServer, now: datetime) -> None:
    """ADV: the hash of the HTML differs at every visit; the words do not."""
    server.always("/terms", Answer(200, page(), HTML))
    first = watcher(server).look(None, now)
    assert [o.state for o in first.observations] == [State.ACTIVE]
    edited = page(counter=4711, year=2026, color="blue")
    assert sha256_hex(edited) != sha256_hex(page())  # the naive comparison errs
    server.always("/terms", Answer(200, edited, HTML))
    second = watcher(server).look(first.cursor, now)
    assert (second.looked, second.observations) == (True, ())


def test_changed_words_are_a_relicensing_with_the_clauses(server: StubServer, now: datetime) -> None:
    server.always("/terms", Answer(200, page(), HTML))
    first = watcher(server).look(None, now)
    server.always("/terms", Answer(200, page(more=" except commercial use; it is not for commercial purposes"), HTML))
    second = watcher(server).look(first.cursor, now + timedelta(days=1), archive=first.documents.get)
    (seen,) = second.observations
    assert seen.state is State.RELICENSED
    comparison = seen.detail["changes"][f"{server.url}/terms"]["comparison"]
    assert "{+" in comparison["shown"][0]["marked"]
    assert [c["kind"] for c in comparison["appeared"]] == ["non-commercial"]
    third = watcher(server).look(second.cursor, now + timedelta(days=2))
    assert third.observations == ()


def test_etag_saves_fetching_and_keeps_what_was_known(server: StubServer, now: datetime) -> None:
    server.always("/terms", Answer(200, page(), {**HTML, "etag": '"1"', "tdm-reservation": "1"}))
    first = watcher(server, site=False).look(None, now)
    second = watcher(server, site=False).look(first.cursor, now)
    assert server.requests[-1][1]["if-none-match"] == '"1"'
    assert (second.looked, second.observations, second.cursor) == (True, (), first.cursor)


def test_new_robots_rule_is_prospective_and_its_removal_is_reported(server: StubServer, now: datetime) -> None:
    server.always("/terms", Answer(200, page(), HTML))
    server.always("/robots.txt", Answer(200, b"User-agent: *\nDisallow: /admin\n"))
    site = watcher(server, paths=("/data/",))
    first = site.look(None, now)
    assert [o.state for o in first.observations] == [State.ACTIVE]
    server.always("/robots.txt", Answer(200, b"User-agent: *\nDisallow: /data/\n"))
    second = site.look(first.cursor, now)
    (seen,) = second.observations
    assert (seen.state, seen.detail["reserved"]) == (State.PROSPECTIVE, ["robots.txt disallows /data/"])
    assert site.look(second.cursor, now).observations == ()
    server.always("/robots.txt", Answer(404))
    assert [o.state for o in site.look(second.cursor, now).observations] == [State.ACTIVE]


def test_changed_words_and_a_new_reservation_are_two_observations(server: StubServer, now: datetime) -> None:
    server.always("/terms", Answer(200, page(), HTML))
    first = watcher(server).look(None, now)
    server.always("/terms", Answer(200, page(more=" but selling"), {**HTML, "tdm-reservation": "1"}))
    second = watcher(server).look(first.cursor, now)
    assert [o.state for o in second.observations] == [State.RELICENSED, State.PROSPECTIVE]
    assert watcher(server).look(second.cursor, now).observations == ()


def test_every_kind_of_reservation_is_found(server: StubServer, now: datetime) -> None:
    server.always("/terms", Answer(200, page().replace(b"<title>", b'<meta name="Robots" content="index, NoAI"><title>'), HTML))
    server.always("/ai.txt", Answer(200, b"User-Agent: *\nDisallow: *.csv\n"))
    tdmrep = b'[{"location": "/data/*", "tdm-reservation": 1}, {"location": "/", "tdm-reservation": 0}]'
    server.always("/.well-known/tdmrep.json", Answer(200, tdmrep))
    server.always("/robots.txt", Answer(200, b"User-agent: *\nContent-Usage: train-ai=n\nAllow: /\n"))
    headers = {"tdm-reservation": "1", "x-robots-tag": "noai, noimageai", "content-usage": "bots=y, train-ai=n"}
    server.always("/data/a.csv", Answer(200, b"x", headers))
    look = watcher(server, paths=("/data/a.csv",)).look(None, now)
    (seen,) = look.observations
    assert seen.state is State.PROSPECTIVE
    assert seen.detail["reservations"] == [
        "/data/a.csv: Content-Usage train-ai=n",
        "/data/a.csv: robots noai",
        "/data/a.csv: robots noimageai",
        "/data/a.csv: tdm-reservation 1",
        "ai.txt disallows /data/a.csv",
        "page: robots noai",
        "robots.txt: Content-Usage train-ai=n",
        "tdmrep.json reserves /data/a.csv",
    ]


def test_data_of_any_size_is_not_fetched_and_an_error_page_releases_nothing(server: StubServer, now: datetime) -> None:
    server.always("/big.zip", Answer(200, b"x" * (5 << 20), {"tdm-reservation": "1"}))
    site = UrlTermsWatcher("raw/x", (), server.fetcher(), site=server.url, paths=("/big.zip",))
    first = site.look(None, now)
    assert first.observations[0].detail["reservations"] == ["/big.zip: tdm-reservation 1"]
    server.always("/big.zip", Answer(403))
    assert site.look(first.cursor, now).observations == ()
    server.always("/big.zip", Answer(200, b"x"))
    assert [o.state for o in site.look(first.cursor, now).observations] == [State.ACTIVE]


@pytest.mark.parametrize("path", ["/terms", "/robots.txt", "/ai.txt", "/.well-known/tdmrep.json", "/data/"])
@pytest.mark.parametrize("answer", [Answer(503), Answer(429), Answer(200, b"late", delay=1.2)])
def test_transient_trouble_anywhere_changes_nothing(server: StubServer, now: datetime, path: str, answer: Answer) -> None:
    server.always("/terms", Answer(200, page(), HTML))
    server.always("/robots.txt", Answer(200, b"User-agent: *\nDisallow: /data/\n"))
    first = watcher(server, paths=("/data/",)).look(None, now)
    server.always(path, answer)
    impatient = UrlTermsWatcher("raw/x", (f"{server.url}/terms",), server.fetcher(deadline=0.5), site=server.url, paths=("/data/",))
    second = impatient.look(first.cursor, now)
    assert (second.looked, second.observations, second.cursor) == (False, (), first.cursor)


@pytest.mark.parametrize(
    "answer",
    [
        Answer(404),
        Answer(200, b""),
        Answer(200, b"<html><script>app()</script></html>", HTML),
        Answer(200, b"<p>" + b"x" * MAX_HTML_BYTES, HTML),
    ],
)
def test_page_without_terms_is_a_problem_and_no_state(server: StubServer, now: datetime, answer: Answer) -> None:
    server.always("/terms", answer)
    look = watcher(server, site=False).look(None, now)
    assert (look.looked, look.observations) == (False, ())
    assert look.problem


def test_web_page_in_place_of_robots_is_no_robots(server: StubServer, now: datetime) -> None:
    server.always("/robots.txt", Answer(200, b"<!doctype html><p>User-agent: *\nDisallow: /\n", HTML))
    look = UrlTermsWatcher("raw/x", (), server.fetcher(), site=server.url).look(None, now)
    assert look.observations[0].detail["reservations"] == []


def test_nothing_to_watch_is_an_error(server: StubServer) -> None:
    with pytest.raises(InputDataError):
        UrlTermsWatcher("raw/x", (), server.fetcher())


ROBOTS = """\
User-agent: GPTBot
User-agent: FTPlatform
Disallow: /private
Allow: /private/open
Disallow: /*.zip$
Disallow: /a*b*c

User-agent: *
Disallow: /
"""


@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        ("/", True),
        ("/private/x", False),
        ("/private/open/x", True),
        ("/x/y.zip", False),
        ("/x/y.zip?z", True),
        ("/a-b-c-d", False),
        ("/a-c-b", True),
    ],
)
def test_robots_follow_rfc_9309(path: str, allowed: bool) -> None:
    assert read_robots(ROBOTS, "ftplatform").allows(path) is allowed
    assert not read_robots(ROBOTS, "somebody").allows(path)


def test_robots_edge_cases() -> None:
    assert read_robots("Disallow: /\n", "x").allows("/"), "a rule outside of a group"
    assert read_robots("User-agent: *\nDisallow:\n", "x").allows("/"), "an empty rule allows"
    assert read_robots("User-agent: *\nDisallow: /a\nAllow: /a\n", "x").allows("/a"), "allow wins a tie"
    assert not read_robots("User-agent: *\nDisallow: /x$\n", "x").allows("/x")
    assert read_robots("User-agent: *\nDisallow: /x$\n", "x").allows("/xy")
    began = time.monotonic()
    read_robots("User-agent: *\nDisallow: /" + "a*" * 20_000 + "b\n", "x").allows("/" + "a" * 50_000)
    assert time.monotonic() - began < 5


@given(st.text(max_size=300))
def test_readers_never_crash(text: str) -> None:
    robots_reservations("robots.txt", text, "x", ["/"])
    header_reservations({"content-usage": text, "x-robots-tag": text, "tdm-reservation": text})
    read_page(text)
    with contextlib.suppress(ValueError):
        tdmrep_reservations(text, ["/"])


def test_visible_text() -> None:
    html = "<p>One <b>bold</b>word</p><div hidden>no<p>no</p></div><ul><li>a<li>b</ul>1 < 2 &amp; 3<select><option>x</select><p>end"
    assert read_page(html).text == "One boldword\n\na\n\nb\n\n1 < 2 & 3\n\nend"
    assert read_page("<nav>All terms are in the menu.</nav>").text == "All terms are in the menu."


@pytest.mark.parametrize("piece", ["<!--", "<a ", '<p a="', "<?x", "<x hidden>", "<script>", "</", "&#", "<![CDATA["])
def test_malformed_markup_takes_linear_time(piece: str) -> None:
    """html.parser alone needs 16 s for 40 kB of the second; half a megabyte must be quick."""
    began = time.process_time()
    read_page(piece * (500_000 // len(piece)))
    assert time.process_time() - began < 8
