from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ftplatform.project.uris import STORE_SCHEMES, SourceUri, UnsafeUri, parse_source_uri, parse_store_uri

ACCEPTED = {
    "data/x.jsonl": ("file", "", "data/x.jsonl"),
    "../shared/data/x.jsonl.gz": ("file", "", "../shared/data/x.jsonl.gz"),
    "/var/data/x y.csv": ("file", "", "/var/data/x y.csv"),
    "data/**/*.parquet": ("file", "", "data/**/*.parquet"),
    "données/été 100%.jsonl": ("file", "", "données/été 100%.jsonl"),
    "file:///var/data/x.csv": ("file", "", "/var/data/x.csv"),
    "s3://my-bucket/a/b.jsonl": ("s3", "my-bucket", "a/b.jsonl"),
    "s3://my.bucket/a/*.parquet": ("s3", "my.bucket", "a/*.parquet"),
    "hf://datasets/org/name@0123abc/data/train.parquet": ("hf", "", "datasets/org/name@0123abc/data/train.parquet"),
    "hf://datasets/org/name/train-*.jsonl": ("hf", "", "datasets/org/name/train-*.jsonl"),
    "https://example.com/a/b.jsonl": ("https", "example.com", "a/b.jsonl"),
    "https://example.com:8443/a%20b.jsonl?download=true": ("https", "example.com:8443", "a%20b.jsonl"),
    "https://[2001:db8::1]/x.csv": ("https", "[2001:db8::1]", "x.csv"),
    "http://127.0.0.1:9000/x.csv": ("http", "127.0.0.1:9000", "x.csv"),
    "http://localhost/x.csv": ("http", "localhost", "x.csv"),
}

#: One of each shape that got past a path filter somewhere: MLflow CVE-2023-1177, -2780, -6831, -6909, -6977, CVE-2024-1483, -1560,
#: -1593, -3848, -8859, CVE-2026-0596, dagu CVE-2026-31886, and the classics.
HOSTILE = {
    "fragment hides dot segments": "http:///#/../../../../etc/passwd",
    "fragment on s3": "s3://bucket/a#/../../etc/passwd",
    "fragment on a local path": "data/x.jsonl#/../../../etc/passwd",
    "fragment on https": "https://example.com/a#b",
    "backslashes": "\\..\\..\\..\\etc\\passwd",
    "file url with backslashes": "file:///\\..\\..\\etc\\passwd",
    "mixed slashes": "data/..\\..\\etc",
    "double slash": "//proc/self/root/etc/passwd",
    "file url with a double slash": "file:////proc/self/root",
    "file url with a host": "file://attacker/etc/passwd",
    "file url without slashes": "file:etc/passwd",
    "file url with one slash": "file:/etc/passwd",
    "file url with dot segments": "file:///data/../../etc/passwd",
    "file url encoded": "file:///%65tc/passwd",
    "file url with a query": "file:///etc/passwd?x",
    "file url with an empty query": "file:///etc/passwd?",
    "encoded dots": "https://example.com/%2e%2e/%2e%2e/etc/passwd",
    "encoded dots, upper case": "s3://bucket/%2E%2E/secret",
    "encoded slash": "https://example.com/..%2f..%2fetc",
    "encoded dots locally": "data/%2e%2e/%2e%2e/etc/passwd",
    "twice encoded": "https://example.com/%252e%252e/etc/passwd",
    "encoded backslash": "https://example.com/..%5c..%5cetc",
    "encoded NUL": "https://example.com/a%00.jsonl",
    "encoded line feed": "https://example.com/a%0d%0aHost:%20evil",
    "encoded at": "https://example.com%40evil.org/x",
    "encoded question mark": "https://example.com/a%3f../b",
    "encoded fragment": "https://example.com/a%23b",
    "broken escape": "https://example.com/%zz",
    "escape cut short": "https://example.com/a%2",
    "parameters": "https://example.com/a;/../../etc/passwd",
    "parameters on s3": "s3://bucket/a;b",
    "dot segments on s3": "s3://bucket/../other/x",
    "dot segment at the end": "s3://bucket/a/..",
    "single dot": "s3://bucket/./a",
    "dot segments behind a question mark": "s3://bucket/a?/../../b",
    "dot segments on https": "https://example.com/a/../b",
    "dot segments on hf": "hf://datasets/org/name/../../other/x",
    "empty segment": "https://example.com//etc/passwd",
    "empty segment inside": "s3://bucket/a//b",
    "full-width dots": "https://example.com/．．/x",
    "full-width slash": "s3://bucket/a／..／b",
    "two dot leader": "s3://bucket/‥/b",
    "full-width host": "https://ｅxample。com/x",
    "NUL": "data/x\x00.jsonl",
    "line feed": "data/x\n.jsonl",
    "carriage return": "https://example.com/x\r\nHost: evil",
    "tab": "ht\ttps://example.com/x",
    "delete": "data/x\x7f",
    "right-to-left override": "data/\u202elnosj.x",
    "zero width space": "data/\u200bx",
    "byte order mark": "\ufeffdata/x",
    "line separator": "data/x\u2028y",
    "lone surrogate": "data/\ud800",
    "leading space": " data/x",
    "trailing space": "data/x ",
    "only spaces": "   ",
    "empty": "",
    "user": "https://user@example.com/x",
    "user and password": "https://user:pw@example.com/x",
    "host confusion": "https://example.com@evil.org/x",
    "host confusion with a backslash": "https://example.com\\@evil.org/x",
    "empty user": "https://@example.com/x",
    "user on s3": "s3://key:secret@bucket/x",
    "signed": "https://example.com/x?X-Amz-Signature=abcdef",
    "plain http": "http://example.com/x",
    "loopback look-alike": "http://127.0.0.1.evil.org/x",
    "localhost look-alike": "http://localhost.evil.org/x",
    "decimal loopback": "http://2130706433/x",
    "port missing": "https://example.com:/x",
    "port not a number": "https://example.com:http/x",
    "port too large": "https://example.com:99999/x",
    "no host": "https:///x",
    "host with a space": "https://exa mple.com/x",
    "host with a bar": "https://exa|mple.com/x",
    "broken IPv6": "https://[::1/x",
    "IPv6 zone": "https://[fe80::1%eth0]/x",
    "not IPv6": "https://[v1.abc]/x",
    "dbfs": "dbfs:/x",
    "unknown scheme": "gopher://example.com/x",
    "scheme in capitals": "S3://bucket/x",
    "file in capitals": "FILE:///etc/passwd",
    "javascript": "javascript:alert(1)",
    "data": "data:text/plain,abc",
    "command": "ext::sh -c id",
    "chained": "simplecache::s3://bucket/x",
    "archive": "zip://x.csv::https://example.com/a.zip",
    "shell": "models:/x$(id)",
    "drive letter": "C:/Windows/x",
    "drive letter, backslash": "c:\\x",
    "drive letter, bar": "C|/x",
    "UNC": "\\\\server\\share",
    "home": "~/x",
    "other home": "~root/x",
    "variable": "$HOME/x",
    "braced variable": "a/${HOME}/x",
    "bucket in capitals": "s3://Bucket/x",
    "bucket too short": "s3://ab/x",
    "bucket with dots": "s3://a..b/x",
    "bucket as address": "s3://192.168.0.1/x",
    "no bucket": "s3:///x",
    "hub without a file": "hf://datasets/org/name",
    "hub name with dots": "hf://datasets/.org/name/x",
    "hub revision": "hf://datasets/org/name@-x/f",
    "very long": "a" * 3000,
}


@pytest.mark.parametrize(("text", "parts"), ACCEPTED.items(), ids=ACCEPTED)
def test_accepted(text: str, parts: tuple[str, str, str]) -> None:
    uri = parse_source_uri(text)
    assert (uri.scheme, uri.host, uri.path) == parts
    assert uri.text == text


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_hostile_shapes_are_refused(text: str) -> None:
    with pytest.raises(UnsafeUri) as caught:
        parse_source_uri(text)
    assert caught.value.remedy
    assert str(caught.value).isprintable()


def test_a_naive_filter_lets_hostile_shapes_pass() -> None:
    # The usual filter looks for '..' in the path that one parser sees.
    from urllib.parse import urlsplit

    passed = [text for text in HOSTILE.values() if "[" not in text and ".." not in urlsplit(text).path]
    assert "http:///#/../../../../etc/passwd" in passed
    assert "https://example.com/%252e%252e/etc/passwd" in passed
    assert len(passed) > 30


def test_local_and_remote() -> None:
    root = Path("/project")
    assert parse_source_uri("data/x").resolved(root) == "/project/data/x"
    assert parse_source_uri("/x").resolved(root) == "/x"
    assert parse_source_uri("file:///x").resolved(root) == "/x"
    assert parse_source_uri("s3://bucket/x").resolved(root) == "s3://bucket/x"
    with pytest.raises(ValueError, match="not a local path"):
        parse_source_uri("s3://bucket/x").local(root)


@pytest.mark.parametrize(
    ("text", "glob"),
    [("a/*.x", True), ("a/?.x", True), ("a/[ab].x", True), ("s3://bucket/*", True), ("https://h/*", False), ("a", False)],
)
def test_patterns(text: str, glob: bool) -> None:
    assert parse_source_uri(text).is_glob is glob


def test_strangers_stay_inside_the_given_folders(tmp_path: Path) -> None:
    inside, outside = tmp_path / "inside", tmp_path / "outside"
    inside.mkdir()
    outside.mkdir()
    (outside / "secret").write_text("x")
    (inside / "link").symlink_to(outside)
    (inside / "loop").symlink_to(inside / "loop")
    (inside / "file").write_text("x")
    assert parse_source_uri("file", within=[inside], root=inside).path == "file"
    assert parse_source_uri("sub/../file", within=[inside], root=inside).is_local
    assert parse_source_uri("s3://bucket/x", within=[inside], root=inside).host == "bucket"
    for text in ("../outside/secret", "link/secret", "/etc/passwd", f"file://{outside}/secret", "sub/../../outside/secret"):
        with pytest.raises(UnsafeUri, match="outside the accepted folders"):
            parse_source_uri(text, within=[inside], root=inside)


def test_stores() -> None:
    assert parse_store_uri("s3://bucket").path == ""
    assert parse_store_uri(".ftplatform/store").is_local
    assert STORE_SCHEMES == ("file", "s3")
    for text in ("https://example.com/x", "hf://datasets/o/n/f", "store/*", "s3://bucket/*", "memory://x", ""):
        with pytest.raises(UnsafeUri):
            parse_store_uri(text)


_PIECES = (
    *("http", "https", "s3", "hf", "file", ":", "//", "/", "..", ".", "%2e", "%", "#", ";", "\\", "@", "?", "[", "]", "::1"),
    *(
        "bucket",
        "a",
        "datasets",
        "C:",
        "~",
        "$",
        "\x00",
        "\u202e",
        "．",
        "127.0.0.1",
        ":80",
        " ",
        "*",
        "-",
        "é",
        "\ud800",
        "localhost",
    ),
)


@settings(max_examples=2000)
@given(st.lists(st.sampled_from(_PIECES), max_size=9).map("".join) | st.text(max_size=60))
def test_any_text_is_either_refused_or_means_one_thing(text: str) -> None:
    try:
        uri = parse_source_uri(text)
    except UnsafeUri:
        return
    assert isinstance(uri, SourceUri)
    assert uri.text == text
    assert not set("\\#;\x00").intersection(text)
    if not uri.is_local:
        assert ".." not in uri.path.split("/")
        assert "@" not in uri.host
    # Whoever parses it again gets the same.
    assert parse_source_uri(uri.text) == uri
