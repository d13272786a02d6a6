"""A real S3 API on loopback, for every test that asks for it."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from ftplatform_tests.fault_proxy import FaultProxy

BUCKET = "store-tests"


@dataclass(frozen=True)
class S3Server:
    """An endpoint and a client that goes around everything under test."""

    url: str
    client: Any


@pytest.fixture(scope="session")
def s3_server() -> Iterator[S3Server]:
    """moto's S3 server in a thread, with one bucket. Credentials are in the environment while it runs."""
    import boto3
    from moto.server import ThreadedMotoServer

    environment = pytest.MonkeyPatch()
    environment.setenv("AWS_ACCESS_KEY_ID", "test")
    environment.setenv("AWS_SECRET_ACCESS_KEY", "test")
    environment.setenv("AWS_EC2_METADATA_DISABLED", "true")
    environment.setenv("NO_PROXY", "127.0.0.1,localhost")
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    url = f"http://{host}:{port}"
    client = boto3.client("s3", endpoint_url=url, region_name="us-east-1")
    client.create_bucket(Bucket=BUCKET)
    yield S3Server(url, client)
    server.stop()
    environment.undo()


@pytest.fixture
def prefix() -> str:
    """A prefix of the bucket nobody else uses."""
    return uuid.uuid4().hex


@pytest.fixture
def proxy(s3_server: S3Server) -> Iterator[FaultProxy]:
    """A fault proxy in front of the server."""
    with FaultProxy(s3_server.url) as proxy:
        yield proxy
