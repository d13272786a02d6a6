"""Sources: hostile paths, globs and links, S3 and HTTP against real servers on the loopback."""

from __future__ import annotations

import gzip
import hashlib
import os
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import orjson
import pytest

from ftplatform.errors import InputDataError
from ftplatform.rows.reading import ReadSpec, read_table
from ftplatform.rows.sources import SourceFile, content_digest, list_files

ROW = b'{"prompt": "p", "completion": "c"}\n'

HOSTILE = [
    "",
    "a\x00b.jsonl",
    "a\nb.jsonl",
    "a\x1b[31m.jsonl",
    "a\u202eb.jsonl",
    "x" * 5_000,
    "file:///etc/passwd",
    "ftp://host/a.jsonl",
    "gs://bucket/a.jsonl",
    "simplecache::https://host/a.jsonl",
    "github://org:repo@main/a.jsonl",
    "zip://a.jsonl::s3://bucket/a.zip",
    "s3://bucket/a::b.jsonl",
    "s3://bucket/../other/a.jsonl",
    "s3://bucket/./a.jsonl",
    "s3://bucket//a.jsonl",
    "s3:///a.jsonl",
    "s3://bucket/%2e%2e/a.jsonl",
    "s3://bucket/%252e/a.jsonl",
    "s3://bucket/a\\b.jsonl",
    "s3://key:secret@bucket/a.jsonl",
    "https://host/a.jsonl#/../../b",
    "https://host/a;b.jsonl",
    "https://host/%2F..%2Fa.jsonl",
    "https://host/a%00.jsonl",
    "https://user:pw@host/a.jsonl",
    "https://host/*.jsonl",
    "http://example.org/a.jsonl",
    "http://localhost.example.org/a.jsonl",
    "http://0x7f000001/a.jsonl",
    "http://2130706433/a.jsonl",
    "no-such-file.jsonl",
    "no-such-*.jsonl",
    "folder",
    "sub*/../../secret.jsonl",
]


@pytest.mark.parametrize("uri", HOSTILE, ids=range(len(HOSTILE)))
def test_refuses_hostile_and_unusable_paths(uri: str, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(InputDataError) as caught:
        list_files([uri], tmp_path)
    assert caught.value.remedy
    assert "pw@" not in str(caught.value)
    assert "secret@" not in str(caught.value)


def test_devices_and_pipes_are_refused_without_blocking(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jsonl")
    for path in ("pipe.jsonl", "*.jsonl", "/dev/zero"):
        with pytest.raises(InputDataError, match=r"not a regular file|matches no file"):
            list_files([path], tmp_path)


def test_globs_are_sorted_skip_hidden_and_read_each_file_once(tmp_path: Path) -> None:
    for name in (
        "b/2.jsonl",
        "b/10.jsonl",
        "a/1.jsonl",
        "a/deep/er/3.jsonl",
        ".hidden/4.jsonl",
        "a/.5.jsonl",
        "a/x.csv",
        "[odd].jsonl",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(ROW)
    assert [file.uri for file in list_files(["*/*.jsonl"], tmp_path)] == ["a/1.jsonl", "b/10.jsonl", "b/2.jsonl"]
    everything = [file.uri for file in list_files(["**/*.jsonl"], tmp_path)]
    assert everything == ["[odd].jsonl", "a/1.jsonl", "a/deep/er/3.jsonl", "b/10.jsonl", "b/2.jsonl"]
    assert [file.uri for file in list_files(["**/er/*.jsonl"], tmp_path)] == ["a/deep/er/3.jsonl"]
    # A name that exists is that file, whatever characters it holds; explicit files keep their order; nothing is read twice.
    ordered = list_files(["[odd].jsonl", "b/2.jsonl", "./b/*.jsonl", str(tmp_path / "b/2.jsonl")], tmp_path)
    assert [file.uri for file in ordered] == ["[odd].jsonl", "b/2.jsonl", "b/10.jsonl"]
    assert [file.uri for file in list_files(["../b/2.jsonl"], tmp_path / "a")] == ["../b/2.jsonl"]
    assert [file.uri for file in list_files(["../b/*.jsonl"], tmp_path / "a")] == ["../b/10.jsonl", "../b/2.jsonl"]


def test_links_out_of_a_glob_are_refused_but_may_be_named(tmp_path: Path) -> None:
    outside, project = tmp_path / "outside", tmp_path / "project"
    outside.mkdir()
    (project / "data").mkdir(parents=True)
    (outside / "secret.jsonl").write_bytes(ROW)
    (project / "data/own.jsonl").write_bytes(ROW)
    (project / "data/inner.jsonl").symlink_to(project / "data/own.jsonl")
    assert len(list_files(["data/*.jsonl"], project)) == 1  # the link and its target are one file
    (project / "data/link.jsonl").symlink_to(outside / "secret.jsonl")
    with pytest.raises(InputDataError, match="link to a place outside"):
        list_files(["data/*.jsonl"], project)
    assert list_files(["data/link.jsonl"], project)[0].uri == "data/link.jsonl"
    (project / "data/link.jsonl").unlink()
    (project / "data/folder").symlink_to(outside)
    with pytest.raises(InputDataError, match="link to a place outside"):
        list_files(["data/*/*.jsonl"], project)
    # `**` does not descend into linked folders, so a loop ends.
    (project / "data/folder").unlink()
    (project / "data/loop").symlink_to(project)
    assert [file.uri for file in list_files(["data/**/*.jsonl"], project)] == ["data/inner.jsonl"]


def test_digest_follows_content_not_time(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(ROW * 100_000)
    (file,) = list_files(["a.jsonl"], tmp_path)
    before = content_digest(file)
    assert before == hashlib.sha256(ROW * 100_000).hexdigest()
    os.utime(path, (1, 1))
    assert content_digest(file) == before
    path.write_bytes(ROW * 100_000 + b" ")
    assert content_digest(file) != before


def test_credentials_in_options_are_not_shown() -> None:
    file = SourceFile("s3://b/a", "s3", "s3://b/a", {"secret": "hush"})
    assert "hush" not in repr(file)


# --- S3 ---------------------------------------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def s3() -> Iterator[dict[str, Any]]:
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield {"endpoint_url": f"http://{host}:{port}", "key": "test", "secret": "test", "client_kwargs": {"region_name": "us-east-1"}}
    server.stop()


def test_reads_s3(s3: dict[str, Any], tmp_path: Path) -> None:
    import boto3
    import pyarrow as pa
    import pyarrow.parquet as pq

    client = boto3.client(
        "s3", endpoint_url=s3["endpoint_url"], aws_access_key_id="test", aws_secret_access_key="test", region_name="us-east-1"
    )
    client.create_bucket(Bucket="corpus")
    big = b"".join(orjson.dumps({"prompt": f"q{i} " + "x" * 200, "completion": f"a{i}"}) + b"\n" for i in range(30_000))
    client.put_object(Bucket="corpus", Key="part/1.jsonl", Body=big)
    client.put_object(Bucket="corpus", Key="part/2.jsonl.gz", Body=gzip.compress(ROW))
    pq.write_table(pa.table({"prompt": ["p"], "completion": ["parquet"]}), tmp_path / "3.parquet")
    client.put_object(Bucket="corpus", Key="part/3.parquet", Body=(tmp_path / "3.parquet").read_bytes())
    client.put_object(Bucket="corpus", Key="other/4.jsonl", Body=ROW)

    files = list_files(["s3://corpus/part/*"], tmp_path, s3)
    assert [file.uri for file in files] == ["s3://corpus/part/1.jsonl", "s3://corpus/part/2.jsonl.gz", "s3://corpus/part/3.parquet"]
    rows, _, counts = read_table(ReadSpec(paths=["s3://corpus/part/*"], source="src", base_dir=tmp_path, options=s3))
    assert (counts.read, counts.kept) == (30_002, 30_002)
    assert rows.column("messages").to_pylist()[29_999][1]["content"] == "a29999"
    assert content_digest(files[0]) == hashlib.sha256(big).hexdigest()
    for missing in ("s3://corpus/part/9.jsonl", "s3://corpus/none/*.jsonl", "s3://no-such-bucket/1.jsonl"):
        with pytest.raises(InputDataError):
            list_files([missing], tmp_path, s3)
    with pytest.raises(InputDataError, match="folder"):
        list_files(["s3://corpus/part"], tmp_path, s3)


def test_unreachable_hub_is_an_input_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(InputDataError, match="hf://datasets/somebody/something"):
        list_files(["hf://datasets/somebody/something/train.jsonl"], tmp_path)


def test_unreachable_s3_is_an_input_error(tmp_path: Path) -> None:
    options = {
        "endpoint_url": "http://127.0.0.1:9",
        "key": "k",
        "secret": "s",
        "config_kwargs": {"connect_timeout": 1, "retries": {"max_attempts": 1}},
    }
    with pytest.raises(InputDataError):
        list_files(["s3://corpus/a.jsonl"], tmp_path, options)


# --- HTTP -------------------------------------------------------------------------------------------------------------------
class _Handler(BaseHTTPRequestHandler):
    """A small static server with a few bad habits."""

    small = gzip.compress(ROW)
    big = b"".join(orjson.dumps({"prompt": f"q{i}", "completion": "x" * 300}) + b"\n" for i in range(20_000))

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def _answer(self, body: bool) -> None:
        if self.path.startswith("/redirect-out"):
            self.send_response(302)
            self.send_header("Location", "http://example.org/stolen.jsonl")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        if self.path.startswith("/redirect-in"):
            self.send_response(302)
            self.send_header("Location", "/big.jsonl")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        contents = {"/big.jsonl": self.big, "/a.jsonl.gz": self.small, "/cut.jsonl": self.big}
        content = contents.get(self.path.partition("?")[0])
        if content is None:
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        if self.path.startswith("/a.jsonl.gz"):
            # Some servers announce the stored compression; the bytes must stay as stored.
            self.send_header("Content-Encoding", "gzip")
        self.end_headers()
        if body:
            self.wfile.write(content[: len(content) // 2] if self.path == "/cut.jsonl" else content)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture(scope="module")
def http() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize(("path", "read"), [("/big.jsonl", 20_000), ("/a.jsonl.gz?download=true", 1)])
def test_reads_http_on_the_loopback(http: str, path: str, read: int, tmp_path: Path) -> None:
    _, _, counts = read_table(ReadSpec(paths=[http + path], source="src", base_dir=tmp_path))
    assert (counts.read, counts.kept) == (read, read)


def test_http_digest_is_of_the_stored_bytes(http: str, tmp_path: Path) -> None:
    (file,) = list_files([f"{http}/a.jsonl.gz"], tmp_path)
    assert content_digest(file) == hashlib.sha256(_Handler.small).hexdigest()
    (big,) = list_files([f"{http}/big.jsonl"], tmp_path)
    assert content_digest(big) == hashlib.sha256(_Handler.big).hexdigest()


def test_redirects_are_followed_only_to_allowed_places(http: str, tmp_path: Path) -> None:
    _, _, counts = read_table(ReadSpec(paths=[f"{http}/redirect-in/x.jsonl"], source="src", base_dir=tmp_path))
    assert counts.kept == 20_000
    with pytest.raises(InputDataError, match=r"example\.org.*refused"):
        read_table(ReadSpec(paths=[f"{http}/redirect-out/x.jsonl"], source="src", base_dir=tmp_path))


@pytest.mark.parametrize("path", ["/cut.jsonl", "/missing.jsonl"])
def test_a_failed_download_is_an_error_not_a_short_corpus(http: str, path: str, tmp_path: Path) -> None:
    with pytest.raises(InputDataError) as caught:
        read_table(ReadSpec(paths=[http + path], source="src", base_dir=tmp_path))
    assert path in str(caught.value)
