"""Small builders for ledger tests."""

from __future__ import annotations

import contextlib
import logging
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from ftplatform.licensing.registry import LegalNotice, Matcher, NoticeKind
from ftplatform.licensing.states import Exhibit, State, TermsObservation
from ftplatform.store.s3 import open_s3

START = datetime(2023, 1, 1, tzinfo=UTC)
BUCKET = "ledger-tests"


def day(number: float) -> datetime:
    """`number` days after the start."""
    return START + timedelta(days=number)


def saw(state: State | str, valid: float, observed: float | None = None, *, source: str = "s", **more: Any) -> TermsObservation:
    """An observation with days for times; by default observed when it became valid, by the hub watcher."""
    return TermsObservation(
        source=source,
        state=State(state),
        valid_from=day(valid),
        observed_at=day(valid if observed is None else observed),
        **{"watcher": "hub", **more},
    )


def concluded(license: str, valid: float, observed: float | None = None, *, state: str = "active", **more: Any) -> TermsObservation:
    """A person's conclusion."""
    return saw(state, valid, observed, **{"concluded": license, "concluded_by": "counsel", "watcher": "review", **more})


def exhibit(words: str, *, layout: str = "") -> Exhibit:
    """An exhibit whose text digest is that of its words and whose bytes depend on the layout as well."""
    from ftplatform.canonical import sha256_hex

    return Exhibit("LICENSE", sha256_hex((words + layout).encode()), sha256_hex(words.encode()))


def notice(id: str, kind: NoticeKind | str, received: float, **more: Any) -> LegalNotice:
    """A legal notice about one place."""
    return LegalNotice(
        id=id, kind=NoticeKind(kind), received_at=day(received), matcher=Matcher(uris=("https://example.org/d",)), **more
    )


@contextlib.contextmanager
def s3_server() -> Iterator[str]:
    """moto's S3 server with one bucket; gives its URL. Credentials are in the environment while it runs."""
    import boto3
    from moto.server import ThreadedMotoServer

    environment = pytest.MonkeyPatch()
    for name, value in {
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_EC2_METADATA_DISABLED": "true",
        "NO_PROXY": "127.0.0.1,localhost",
    }.items():
        environment.setenv(name, value)
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    url = f"http://{host}:{port}"
    boto3.client("s3", endpoint_url=url, region_name="us-east-1").create_bucket(Bucket=BUCKET)
    try:
        yield url
    finally:
        server.stop()
        environment.undo()


def s3_backend(url: str, prefix: str | None = None) -> Any:
    """A backend in the bucket of `s3_server`, below a prefix nobody else uses."""
    options = {"endpoint_url": url, "region": "us-east-1", "read_timeout": "10"}
    return open_s3(f"s3://{BUCKET}/{prefix or uuid.uuid4().hex}", options)
